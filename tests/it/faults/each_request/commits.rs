//! What the logs of a lake say about each commit. It tells the kinds of commit apart, and shows
//! that a harmed commit is in once, with the same rows and positions as an unharmed one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use adlake_domain::catalogue::{self, DEAD_LETTERS, MANIFEST};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const LOG: &str = "_delta_log";
const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// What a commit changes. Each kind has its own code that builds the log entry and takes the result
/// of its PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommitKind {
    /// A table is created.
    Creation,
    /// Rows of ingest are appended, with the positions of their streams.
    Rows,
    /// Dead letters are appended, with the positions of their streams.
    DeadLetters,
    /// Files are exchanged, to mark dead letters.
    Marks,
    /// A table gets new columns.
    Columns,
    /// The content of a batch table is replaced.
    BatchTable,
    /// A batch run is published.
    Manifest,
    /// Reference data is loaded.
    Reference,
    /// A checkpoint is written. This is no commit, but it decides which commits a reader sees.
    Checkpoint,
    /// The hint to the last checkpoint is written (`_last_checkpoint`). This is no commit either.
    LastCheckpoint,
}

impl CommitKind {
    /// All of them.
    pub const ALL: [CommitKind; 10] = [
        CommitKind::Creation,
        CommitKind::Rows,
        CommitKind::DeadLetters,
        CommitKind::Marks,
        CommitKind::Columns,
        CommitKind::BatchTable,
        CommitKind::Manifest,
        CommitKind::Reference,
        CommitKind::Checkpoint,
        CommitKind::LastCheckpoint,
    ];

    fn of(table: &str, operation: &str) -> CommitKind {
        match operation {
            "CREATE TABLE" => CommitKind::Creation,
            "ADD COLUMNS" => CommitKind::Columns,
            "UPDATE" => CommitKind::Marks,
            _ if table == MANIFEST => CommitKind::Manifest,
            _ if table == DEAD_LETTERS => CommitKind::DeadLetters,
            _ if table.starts_with("batch/") => CommitKind::BatchTable,
            _ if table.starts_with("ref/") => CommitKind::Reference,
            _ => CommitKind::Rows,
        }
    }
}

/// One log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: CommitKind,
    /// The rows of the files that it adds.
    rows_added: i64,
    files_removed: usize,
    /// The positions that it stores, by stream.
    positions: BTreeMap<String, i64>,
}

/// The logs of all tables of a lake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// The entries of each table, by version.
    entries: BTreeMap<&'static str, BTreeMap<u64, Entry>>,
    /// The versions of which each table has a checkpoint.
    checkpoints: BTreeMap<&'static str, BTreeSet<u64>>,
}

impl Logs {
    /// Reads the logs of the lake in this folder. Fails if an entry is missing between two others.
    pub fn read(lake: &Path) -> Result<Logs> {
        let mut logs = Logs::default();
        for table in catalogue::tables() {
            let folder = lake.join(table.name).join(LOG);
            if folder.exists() {
                logs.entries.insert(table.name, entries(table.name, &folder)?);
                logs.checkpoints.insert(table.name, checkpoints(&folder)?);
            }
        }
        Ok(logs)
    }

    /// The last position of each stream of a table, from the smallest to the largest.
    pub fn positions(&self, table: &str) -> Vec<i64> {
        let mut last = BTreeMap::new();
        for entry in self.entries.get(table).into_iter().flat_map(BTreeMap::values) {
            last.extend(&entry.positions);
        }
        let mut positions: Vec<i64> = last.into_values().copied().collect();
        positions.sort_unstable();
        positions
    }

    /// The newest version of a table.
    pub fn newest_version(&self, table: &str) -> Option<u64> {
        self.entries.get(table)?.keys().next_back().copied()
    }

    /// Whether there is a checkpoint of a table.
    pub fn has_checkpoint(&self, table: &str) -> bool {
        self.checkpoints.get(table).is_some_and(|versions| !versions.is_empty())
    }

    /// The kind of commit that a request makes. `None`: it makes none.
    pub fn kind(&self, request: &str) -> Option<CommitKind> {
        let (method, target) = request.split_once(' ')?;
        let path = target.split('?').next()?;
        let (folder, file) = path.split_once(&format!("/{LOG}/"))?;
        if method != "PUT" {
            return None;
        }
        let (table, entries) = self.entries.iter().find(|(table, _)| folder.ends_with(*table))?;
        if file == LAST_CHECKPOINT {
            return Some(CommitKind::LastCheckpoint);
        }
        let Some(version) = file.strip_suffix(".json") else { return Some(CommitKind::Checkpoint) };
        // Clean-up may have removed the entry. It removes none of a table that was just created.
        let entry = version.parse().ok().and_then(|version: u64| entries.get(&version));
        Some(entry.map_or_else(|| CommitKind::of(table, ""), |entry| entry.kind))
    }

    /// Fails unless both lakes have the same commits. Entries that clean-up has removed from one of
    /// them are left out, but the newest versions must be equal.
    pub fn ensure_same(&self, expected: &Logs) -> Result<()> {
        let tables_of = |logs: &Logs| logs.entries.keys().copied().collect::<Vec<_>>();
        let (tables, expected_tables) = (tables_of(self), tables_of(expected));
        ensure!(tables == expected_tables, "there are the tables {tables:?}, not {expected_tables:?}");
        for (table, entries) in &self.entries {
            let (newest, expected_newest) = (self.newest_version(table), expected.newest_version(table));
            ensure!(newest == expected_newest, "{table}: the newest version is {newest:?}, not {expected_newest:?}");
            for (version, entry) in entries {
                if let Some(expected) = expected.entries[table].get(version) {
                    ensure!(entry == expected, "{table} version {version} holds {entry:?}, not {expected:?}");
                }
            }
        }
        Ok(())
    }
}

fn entries(table: &str, folder: &Path) -> Result<BTreeMap<u64, Entry>> {
    let mut entries = BTreeMap::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(version) = name.strip_suffix(".json").and_then(|version| version.parse().ok()) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        entries.insert(version, entry(table, &text).with_context(|| format!("{table} version {version}"))?);
    }
    if let (Some(first), Some(last)) = (entries.keys().next(), entries.keys().next_back()) {
        ensure!(
            last - first + 1 == entries.len() as u64,
            "{table}: an entry is missing between version {first} and version {last}: {:?}",
            entries.keys()
        );
    }
    Ok(entries)
}

/// The versions of the checkpoints in the folder of a log.
fn checkpoints(folder: &Path) -> Result<BTreeSet<u64>> {
    let mut versions = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if let Some((version, rest)) = name.split_once(".checkpoint.") {
            ensure!(rest == "parquet", "{name} is no whole checkpoint");
            versions.insert(version.parse().with_context(|| format!("{name} has no version"))?);
        }
    }
    Ok(versions)
}

fn entry(table: &str, text: &str) -> Result<Entry> {
    let mut operation = String::new();
    let (mut rows_added, mut files_removed, mut positions) = (0, 0, BTreeMap::new());
    for line in text.lines() {
        let action: Value = serde_json::from_str(line)?;
        if let Some(info) = action.get("commitInfo") {
            operation = info["operation"].as_str().unwrap_or_default().to_owned();
        }
        if let Some(file) = action.get("add") {
            let stats: Value = serde_json::from_str(file["stats"].as_str().context("a file without statistics")?)?;
            rows_added += stats["numRecords"].as_i64().context("statistics without a number of rows")?;
        }
        files_removed += usize::from(action.get("remove").is_some());
        if let Some(transaction) = action.get("txn") {
            let application = transaction["appId"].as_str().context("a txn without appId")?;
            // Each replay draws the id of its claim.
            let application = match application.strip_prefix("adlake:replay:") {
                Some(_) => "adlake:replay:*",
                None => application,
            };
            let position = transaction["version"].as_i64().context("a txn without version")?;
            positions.insert(application.to_owned(), position);
        }
    }
    Ok(Entry { kind: CommitKind::of(table, &operation), rows_added, files_removed, positions })
}
