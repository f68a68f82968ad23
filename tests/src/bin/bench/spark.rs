//! Measures Spark Structured Streaming with Delta, the usual way to do the same, on the same topic
//! in the same run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adlake_tests::kafka::Broker;
use adlake_tests::setup;
use anyhow::{Context, Result, ensure};
use tempfile::tempdir;

use crate::ceiling::Format;
use crate::ingest::Topic;
use crate::program::{Cost, measure, median};

/// Writes JSON impressions of four partitions into a Delta table, by adlake and by Spark in turn.
pub fn beside_structured_streaming(events: usize, runs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let topic = Topic::fill(&broker, Format::Json, events, 4, "0")?;
    println!("spark: {events} JSON impressions, 4 partitions, {runs} runs; Spark's start is part of its time");
    let mut ratios = Vec::new();
    for run in 0..runs {
        let (rate, cost) = topic.ingest()?;
        let spark = spark(&broker, &topic, events)?;
        let spark_rate = events as f64 / spark.cpu.as_secs_f64();
        ratios.push(rate / spark_rate);
        println!(
            "  run {run}: adlake {rate:.0} events per CPU-second ({:.1} s, {} MB), Spark {spark_rate:.0} ({:.1} s, {} \
             MB), ratio {:.1}",
            cost.elapsed.as_secs_f64(),
            cost.resident_bytes_max >> 20,
            spark.elapsed.as_secs_f64(),
            spark.resident_bytes_max >> 20,
            rate / spark_rate,
        );
    }
    println!("spark: adlake makes a median of {:.1} times the events of Spark per CPU-second", median(ratios));
    broker.stop()
}

fn spark(broker: &Broker, topic: &Topic, events: usize) -> Result<Cost> {
    let home = setup::spark()?;
    let folder = tempdir()?;
    let output = folder.path().join("stdout");
    let mut command = Command::new(home.join("venv/bin/spark-submit"));
    command
        .args(["--master", "local[2]", "--driver-memory", "3g", "--jars"])
        .arg(jars(&home.join("jars"))?)
        .args(CONFIGURATION.iter().flat_map(|(key, value)| ["--conf".to_owned(), format!("{key}={value}")]))
        .arg(setup::scripts().join("spark/stream.py"))
        .args([broker.bootstrap(), &topic.name])
        .args([folder.path().join("table"), folder.path().join("checkpoint")])
        .env("PYSPARK_PYTHON", home.join("venv/bin/python"))
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(folder.path().join("stderr"))?);
    let cost = measure(command).with_context(|| {
        let said = fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        let from = said.char_indices().rev().nth(2_000).map_or(0, |(place, _)| place);
        format!("spark-submit: {}", &said[from..])
    })?;
    let rows = fs::read_to_string(&output)?;
    ensure!(
        rows.trim() == format!("{events} 0"),
        "of {events} events Spark has as rows, and without time or user: {rows}"
    );
    Ok(cost)
}

const CONFIGURATION: [(&str, &str); 7] = [
    ("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"),
    ("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"),
    ("spark.databricks.delta.snapshotPartitions", "2"),
    ("spark.sql.shuffle.partitions", "2"),
    ("spark.sql.parquet.compression.codec", "zstd"),
    ("spark.sql.session.timeZone", "UTC"),
    ("spark.ui.enabled", "false"),
];

fn jars(folder: &Path) -> Result<OsString> {
    let mut jars: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    jars.sort();
    let mut list = OsString::new();
    for jar in jars {
        if !list.is_empty() {
            list.push(",");
        }
        list.push(jar);
    }
    Ok(list)
}
