//! Runs the PySpark scripts of the setup with Delta: a reader of tables, and the peers of
//! benchmarks.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::setup;

/// What a script does not set itself.
const CONFIGURATION: [(&str, &str); 7] = [
    ("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"),
    ("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"),
    ("spark.databricks.delta.snapshotPartitions", "2"),
    ("spark.sql.shuffle.partitions", "2"),
    ("spark.sql.parquet.compression.codec", "zstd"),
    ("spark.sql.session.timeZone", "UTC"),
    ("spark.ui.enabled", "false"),
];

/// A command that runs `tests/setup/spark/<script>` with two threads and `memory` of heap (`4g`).
/// It runs in `folder`, where Spark also keeps its temporary files. The caller adds the arguments
/// of the script.
pub fn submit(script: &str, memory: &str, folder: &Path) -> Result<Command> {
    let home = setup::spark()?;
    let mut command = Command::new(home.join("venv/bin/spark-submit"));
    command
        .args(["--master", "local[2]", "--driver-memory", memory, "--jars"])
        .arg(jars(&home.join("jars"))?)
        .args(CONFIGURATION.iter().flat_map(|(key, value)| ["--conf".to_owned(), format!("{key}={value}")]))
        .arg(setup::scripts().join("spark").join(script))
        .env("PYSPARK_PYTHON", home.join("venv/bin/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .env("SPARK_LOCAL_DIRS", folder)
        .current_dir(folder)
        .stdin(Stdio::null());
    Ok(command)
}

/// The jars in a folder, as `--jars` expects them.
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
