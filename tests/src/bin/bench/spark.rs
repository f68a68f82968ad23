//! Measures Spark Structured Streaming with Delta, the usual way to do the same, on the same topic
//! in the same run.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use adlake_tests::kafka::Broker;
use adlake_tests::spark;
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
        let spark = stream(&broker, &topic, events)?;
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

fn stream(broker: &Broker, topic: &Topic, events: usize) -> Result<Cost> {
    let folder = tempdir()?;
    let mut command = spark::submit("stream.py", "3g", folder.path())?;
    command
        .args([broker.bootstrap(), &topic.name])
        .args([folder.path().join("table"), folder.path().join("checkpoint")]);
    let (cost, rows) = measure_script(command, folder.path())?;
    ensure!(
        rows.trim() == format!("{events} 0"),
        "of {events} events Spark has as rows, and without time or user: {rows}"
    );
    Ok(cost)
}

/// Runs a script of Spark to its end. Returns its cost and its output. The output is kept in
/// `folder`.
pub fn measure_script(mut command: Command, folder: &Path) -> Result<(Cost, String)> {
    let (stdout, stderr) = (folder.join("spark-stdout"), folder.join("spark-stderr"));
    command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    // An error of the script is in the standard output, as spark-submit puts both together.
    let cost = measure(command).with_context(|| format!("spark-submit: {}{}", end(&stderr), end(&stdout)))?;
    Ok((cost, fs::read_to_string(&stdout)?))
}

/// The last 2,000 characters of a file.
fn end(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let from = text.char_indices().rev().nth(2_000).map_or(0, |(place, _)| place);
    text[from..].to_owned()
}
