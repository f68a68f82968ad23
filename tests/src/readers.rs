//! What other Delta readers see in a table: Python deltalake (with Arrow), DuckDB and Polars, each
//! independently. Spark is asked for many tables at once, because it starts slowly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::{setup, spark};

const READ_DEADLINE: Duration = Duration::from_secs(120);
const SPARK_DEADLINE: Duration = Duration::from_secs(900);

/// The key of the number of rows among the sums.
pub const COUNT: &str = "count(*)";

/// The figures of a table: the number of rows ([`COUNT`]) and one entry for each column. The entry
/// of a number is the sum, as exact decimal text without trailing zeros. The entry of a text column
/// says how many texts there are, of how many bytes, how many of them differ, and a hash of each
/// text with its count.
pub type Figures = BTreeMap<String, String>;

/// What the readers see in the table in a directory.
#[derive(Debug)]
pub struct Seen {
    pub table: PathBuf,
    pub figures: Figures,
}

/// Computes the figures with each reader but Spark, for the given columns (integers, decimals or
/// texts) of the table in the directory `table`. A column inside a struct is named by its path
/// (`enriched.cost_micros`). NULLs add nothing, and a sum over nothing is 0.
pub fn sums(table: &Path, columns: &[&str]) -> Result<BTreeMap<String, Figures>> {
    let logs = tempfile::tempdir()?;
    let mut command = Command::new(setup::python()?);
    command.args(["-I", "-B"]).arg(setup::scripts().join("readers.py")).arg(table).args(columns).stdin(Stdio::null());
    let mut readers = Process::start("readers", command, logs.path())?;
    let status = readers.wait_exit(READ_DEADLINE)?;
    ensure!(status.success(), "the readers failed on {}: {status}\n{}", table.display(), readers.logs());
    let text = readers.stdout()?;
    serde_json::from_str(&text).with_context(|| format!("the readers printed {text}"))
}

/// Computes the same figures with Spark, for tables and columns of them. Spark starts once.
pub fn sums_with_spark(tables: &[(&Path, Vec<&str>)]) -> Result<Vec<Figures>> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("tables.json");
    fs::write(&input, serde_json::to_vec(tables)?)?;
    let mut command = spark::submit("read.py", "1g", folder.path())?;
    command.arg(&input);
    let mut reader = Process::start("spark", command, folder.path())?;
    let status = reader.wait_exit(SPARK_DEADLINE)?;
    ensure!(status.success(), "Spark failed: {status}\n{}", reader.logs());
    let text = reader.stdout()?;
    serde_json::from_str(&text).with_context(|| format!("Spark printed {text}"))
}

/// Fails the test unless all readers but Spark see the same in `table`. Returns what they see.
pub fn assert_agree(table: &Path, columns: &[&str]) -> Figures {
    let sums = sums(table, columns).unwrap_or_else(|error| panic!("{error:#}"));
    let mut distinct: Vec<_> = sums.values().cloned().collect();
    distinct.dedup();
    assert_eq!(distinct.len(), 1, "the readers of {} disagree: {sums:#?}", table.display());
    distinct.remove(0)
}

/// Fails the test unless Spark sees what the other readers see.
pub fn assert_spark_agrees(seen: &[Seen]) {
    let mut tables: Vec<(&Path, Vec<&str>)> = Vec::new();
    for Seen { table, figures } in seen {
        tables.push((table.as_path(), figures.keys().map(String::as_str).filter(|name| *name != COUNT).collect()));
    }
    let found = sums_with_spark(&tables).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(found.len(), seen.len(), "Spark has left out tables");
    for (seen, found) in seen.iter().zip(&found) {
        assert_eq!(found, &seen.figures, "Spark and the other readers of {} disagree", seen.table.display());
    }
}
