//! What other Delta readers see in a table: Python deltalake (with Arrow), DuckDB and Polars, each
//! independently.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::setup;

const READ_DEADLINE: Duration = Duration::from_secs(120);

/// The key of the number of rows among the sums.
pub const COUNT: &str = "count(*)";

/// Per reader: the number of rows ([`COUNT`]) and one entry for each column. The entry of a number
/// is the sum, as exact decimal text without trailing zeros. The entry of a text column says how
/// many texts there are, of how many bytes, how many of them differ, and a hash of each text with
/// its count.
pub type Sums = BTreeMap<String, BTreeMap<String, String>>;

/// Computes these figures with each reader, for the given columns (integers, decimals or texts) of
/// the table in the directory `table`. A column inside a struct is named by its path
/// (`enriched.cost_micros`). NULLs add nothing, and a sum over nothing is 0.
pub fn sums(table: &Path, columns: &[&str]) -> Result<Sums> {
    let logs = tempfile::tempdir()?;
    let mut command = Command::new(setup::python()?);
    command.arg("-I").arg(setup::scripts().join("readers.py")).arg(table).args(columns).stdin(Stdio::null());
    let mut readers = Process::start("readers", command, logs.path())?;
    let status = readers.wait_exit(READ_DEADLINE)?;
    ensure!(status.success(), "the readers failed on {}: {status}\n{}", table.display(), readers.logs());
    let text = readers.stdout()?;
    serde_json::from_str(&text).with_context(|| format!("the readers printed {text}"))
}

/// Fails the test unless all readers see the same in `table`. Returns what they see.
pub fn assert_agree(table: &Path, columns: &[&str]) -> BTreeMap<String, String> {
    let sums = sums(table, columns).unwrap_or_else(|error| panic!("{error:#}"));
    let mut distinct: Vec<_> = sums.values().cloned().collect();
    distinct.dedup();
    assert_eq!(distinct.len(), 1, "the readers of {} disagree: {sums:#?}", table.display());
    distinct.remove(0)
}
