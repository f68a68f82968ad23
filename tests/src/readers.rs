//! What other people's Delta readers see in a table: Python deltalake (with Arrow), DuckDB and Polars, each on its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::setup;

const READ_DEADLINE: Duration = Duration::from_secs(120);

/// The name under which the number of rows stands among the sums.
pub const COUNT: &str = "count(*)";

/// Per reader, the number of rows ([`COUNT`]) and the sum of each column, as exact decimal text without trailing zeros, or what a column of
/// texts holds: how many, of how many bytes, how many of them different, and a hash of which stands how often.
pub type Sums = BTreeMap<String, BTreeMap<String, String>>;

/// Sums the given columns, integers, decimals or texts, of the table in the directory `table`, with each reader. A column inside a struct is
/// named by its path (`enriched.cost_micros`). NULLs add nothing, and a sum over nothing is 0.
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

/// Fails the test unless all readers see the same in `table`; gives what they see.
pub fn assert_agree(table: &Path, columns: &[&str]) -> BTreeMap<String, String> {
    let sums = sums(table, columns).unwrap_or_else(|error| panic!("{error:#}"));
    let mut distinct: Vec<_> = sums.values().cloned().collect();
    distinct.dedup();
    assert_eq!(distinct.len(), 1, "the readers of {} disagree: {sums:#?}", table.display());
    distinct.remove(0)
}
