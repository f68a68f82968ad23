//! Exactly-once append: rows and how far their streams have come land in one Delta commit.
//!
//! What holds, whoever else writes and whatever breaks:
//!
//! - A commit is made against one version of the table, `v`, and is the PUT-if-absent of version `v + 1`. The stored position
//!   of every stream it advances is compared on `v` itself: on what this appender knows of all commits up to `v`. If
//!   anybody else commits first, the PUT fails, their commit is read, and everything is compared again.
//! - An answer that does not say whether the PUT succeeded (a time-out, a connection cut, a 412 for our own retried PUT)
//!   is resolved by reading version `v + 1`: every commit carries an id of its own. It is never resubmitted at
//!   another version before it is known not to be in at this one.
//! - Positions only grow, and a commit that does not advance from exactly the stored position is refused
//!   ([`Appended::Superseded`]): the caller reads the table's position and continues from there.
//!
//! Why this is exactly once is argued in `docs/exactly-once.md`.

use std::collections::HashMap;
use std::time::Duration;

use adlake_domain::catalogue::{self, Table};
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Transaction};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use deltalake::protocol::{DeltaOperation, SaveMode};
use rand::Rng;
use serde_json::Value;
use uuid::Uuid;

use crate::error::LakeError;
use crate::failpoint;
use crate::patience::patiently;
use crate::storage::Lake;
use crate::tables::CHECKPOINT_INTERVAL;
use crate::write::{DataFile, TableWriter, WriterSettings};

/// How often a PUT whose fate is unknown is tried at its version before the outage is reported.
const UNKNOWN_ATTEMPTS_MAX: u32 = 8;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The key under which a commit's own id stands in its `commitInfo`.
const COMMIT_ID: &str = "adlakeCommit";

/// How far one stream of records (a Kafka partition, a file) comes with a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The stream: the Delta application id.
    pub application: String,
    /// The position that must be stored now; `None`: the stream was never seen.
    pub from: Option<i64>,
    /// The position after this commit.
    pub to: i64,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is in, exactly once.
    Committed {
        /// The version that holds it.
        version: u64,
    },
    /// Nothing of it is in: another writer has moved at least one of the streams.
    Superseded {
        /// The stored positions of the streams that were to be advanced.
        stored: Vec<(String, Option<i64>)>,
    },
}

/// Appends to one table.
pub struct Appender {
    lake: Lake,
    table: Table,
    log_store: LogStoreRef,
    /// The version that all of the following is known at.
    version: u64,
    /// Positions looked up or seen in commits so far; `None`: looked up, and not stored.
    positions: HashMap<String, Option<i64>>,
    checkpoint: Option<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").field("table", &self.table.name).field("version", &self.version).finish()
    }
}

impl Lake {
    /// An appender to a table of the catalogue, which is created if need be.
    pub async fn appender(&self, table: &str) -> Result<Appender, LakeError> {
        patiently(|| self.open_appender(table)).await
    }

    async fn open_appender(&self, table: &str) -> Result<Appender, LakeError> {
        let table =
            catalogue::table(table).ok_or_else(|| LakeError::NotFound(format!("no table is called {table:?}")))?;
        self.create_table(&table).await?;
        let log_store = self.log_store(table.name)?;
        let version = log_store.get_latest_version(0).await.map_err(|error| LakeError::table(table.name, error))?;
        let positions = HashMap::new();
        Ok(Appender { lake: self.clone(), table, log_store, version, positions, checkpoint: None })
    }
}

impl Appender {
    /// The table's name.
    pub fn table(&self) -> &'static str {
        self.table.name
    }

    /// The table's version as known here.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The stored position of a stream, on the newest version of the table.
    pub async fn stored(&mut self, application: &str) -> Result<Option<i64>, LakeError> {
        self.refresh().await?;
        self.position(application).await
    }

    /// The stored positions of several streams, on one version of the table, the newest.
    pub async fn stored_all(&mut self, applications: &[String]) -> Result<Vec<Option<i64>>, LakeError> {
        self.refresh().await?;
        let mut positions = Vec::with_capacity(applications.len());
        for application in applications {
            positions.push(self.position(application).await?);
        }
        Ok(positions)
    }

    /// A writer of files for this table.
    pub fn writer(&self, settings: &WriterSettings) -> TableWriter {
        TableWriter::new(&self.table, &self.log_store, settings)
    }

    /// Commits files and positions, all or nothing. `files` may be empty: positions advance all the same.
    ///
    /// On a retryable error nothing is known to be in, and the same call may be made again with the same arguments: if
    /// the commit had gone in after all, it answers [`Appended::Superseded`] with the positions it stored.
    pub async fn commit(&mut self, files: Vec<DataFile>, advances: Vec<Advance>) -> Result<Appended, LakeError> {
        for advance in &advances {
            if advance.from.is_some_and(|from| advance.to < from) {
                return Err(LakeError::rows(self.table.name, format!("{} would go backwards", advance.application)));
            }
        }
        let commit_id = Uuid::new_v4().to_string();
        let bytes = self.commit_bytes(files, &advances, &commit_id)?;
        let mut unknown = 0;
        loop {
            let mut stored = Vec::with_capacity(advances.len());
            for advance in &advances {
                stored.push((advance.application.clone(), self.position(&advance.application).await?));
            }
            if advances.iter().zip(&stored).any(|(advance, (_, position))| advance.from != *position) {
                return Ok(Appended::Superseded { stored });
            }
            let next = self.version + 1;
            failpoint::hit(failpoint::BEFORE_PUT);
            let written =
                self.log_store.write_commit_entry(next, CommitOrBytes::LogBytes(bytes.clone()), Uuid::new_v4()).await;
            failpoint::hit(failpoint::AFTER_PUT);
            let failure = match written {
                Ok(()) => {
                    self.advance_to(next, &advances);
                    return Ok(Appended::Committed { version: next });
                }
                Err(TransactionError::VersionAlreadyExists(_)) => None,
                Err(error) => Some(DeltaTableError::from(error)),
            };
            // Somebody's commit is at `next`, or the fate of ours is unknown: what stands there decides.
            match self.read_entry(next).await? {
                Some(entry) if entry.commit_id.as_deref() == Some(commit_id.as_str()) => {
                    self.advance_to(next, &advances);
                    return Ok(Appended::Committed { version: next });
                }
                Some(entry) => {
                    self.apply(next, entry).await?;
                    self.refresh().await?;
                    pause(0).await;
                }
                None => {
                    unknown += 1;
                    let error = match failure {
                        Some(error) => LakeError::table(self.table.name, error),
                        None => self.says_that_it_exists(next),
                    };
                    // What the store refuses it will refuse again.
                    if unknown >= UNKNOWN_ATTEMPTS_MAX || !error.is_retryable() {
                        return Err(error);
                    }
                    pause(unknown).await;
                }
            }
        }
    }

    /// A store that does not take an entry because it has one, and has none: not for long, one hopes.
    fn says_that_it_exists(&self, version: u64) -> LakeError {
        LakeError::Unavailable {
            subject: format!("table {}", self.table.name),
            source: format!("the store says that log version {version} exists, and that it does not").into(),
        }
    }

    /// Waits for a checkpoint that is being written in the background.
    pub async fn close(mut self) {
        if let Some(checkpoint) = self.checkpoint.take() {
            let _ = checkpoint.await;
        }
    }

    fn commit_bytes(
        &self,
        files: Vec<DataFile>,
        advances: &[Advance],
        commit_id: &str,
    ) -> Result<bytes::Bytes, LakeError> {
        let partition_by = self.table.partition_columns.iter().map(ToString::to_string).collect();
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: Some(partition_by), predicate: None };
        // No `lastUpdated`: with it a position may expire.
        let transactions = advances
            .iter()
            .map(|advance| Transaction { app_id: advance.application.clone(), version: advance.to, last_updated: None })
            .collect();
        let actions = files.into_iter().map(|file| Action::Add(file.add)).collect();
        let metadata = HashMap::from([(COMMIT_ID.to_string(), Value::String(commit_id.to_string()))]);
        CommitData::new(actions, operation, metadata, transactions)
            .get_bytes()
            .map_err(|error| LakeError::rows(self.table.name, error))
    }

    fn advance_to(&mut self, version: u64, advances: &[Advance]) {
        self.version = version;
        for advance in advances {
            self.positions.insert(advance.application.clone(), Some(advance.to));
        }
        self.checkpoint_if_due();
    }

    /// The position of a stream at `self.version`.
    async fn position(&mut self, application: &str) -> Result<Option<i64>, LakeError> {
        if let Some(position) = self.positions.get(application) {
            return Ok(*position);
        }
        let table = self.table.name;
        let mut loaded = self.lake.delta_table(table)?;
        loaded.load_version(self.version).await.map_err(|error| LakeError::table(table, error))?;
        let snapshot = loaded.snapshot().map_err(|error| LakeError::table(table, error))?;
        let position = snapshot
            .transaction_version(loaded.log_store().as_ref(), application)
            .await
            .map_err(|error| LakeError::table(table, error))?;
        self.positions.insert(application.to_string(), position);
        Ok(position)
    }

    /// Reads the commits that others have made since.
    async fn refresh(&mut self) -> Result<(), LakeError> {
        while let Some(entry) = self.read_entry(self.version + 1).await? {
            self.apply(self.version + 1, entry).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, version: u64, entry: Entry) -> Result<(), LakeError> {
        self.version = version;
        for (application, position) in entry.positions {
            self.positions.insert(application, Some(position));
        }
        Ok(())
    }

    /// What stands at a version; `None`: nothing yet. Outages are waited out for a while.
    async fn read_entry(&self, version: u64) -> Result<Option<Entry>, LakeError> {
        let mut attempt = 0;
        loop {
            match self.log_store.read_commit_entry(version).await {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => return Entry::parse(self.table.name, version, &bytes).map(Some),
                Err(error) => {
                    let error = LakeError::table(self.table.name, error);
                    attempt += 1;
                    if !error.is_retryable() || attempt >= UNKNOWN_ATTEMPTS_MAX {
                        return Err(error);
                    }
                    pause(attempt).await;
                }
            }
        }
    }

    /// Checkpoints are written beside the commits, never in their way.
    fn checkpoint_if_due(&mut self) {
        let idle = self.checkpoint.as_ref().is_none_or(tokio::task::JoinHandle::is_finished);
        if !idle || !self.version.is_multiple_of(CHECKPOINT_INTERVAL) {
            return;
        }
        let (lake, table, version) = (self.lake.clone(), self.table.name, self.version);
        self.checkpoint = Some(tokio::spawn(async move {
            failpoint::hit(failpoint::CHECKPOINT);
            if let Err(error) = write_checkpoint(&lake, table, version).await {
                tracing::warn!(table, version, error = %error, "checkpoint was not written");
            }
        }));
    }
}

async fn write_checkpoint(lake: &Lake, table: &str, version: u64) -> Result<(), LakeError> {
    let mut loaded = lake.delta_table(table)?;
    loaded.load_version(version).await.map_err(|error| LakeError::table(table, error))?;
    deltalake::checkpoints::create_checkpoint(&loaded, None).await.map_err(|error| LakeError::table(table, error))
}

/// What matters of a commit that somebody made.
struct Entry {
    commit_id: Option<String>,
    positions: Vec<(String, i64)>,
}

impl Entry {
    fn parse(table: &str, version: u64, bytes: &[u8]) -> Result<Entry, LakeError> {
        let wrong =
            |detail: &dyn std::fmt::Display| LakeError::Corrupt(format!("{table}: log version {version}: {detail}"));
        let mut entry = Entry { commit_id: None, positions: Vec::new() };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Adds are by far the most and the longest: they need no parsing here.
            if line.starts_with(b"{\"add\"") {
                continue;
            }
            let action: Value = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
            if let Some(info) = action.get("commitInfo") {
                entry.commit_id = info.get(COMMIT_ID).and_then(Value::as_str).map(String::from);
            } else if let Some(transaction) = action.get("txn") {
                let application = transaction.get("appId").and_then(Value::as_str);
                let position = transaction.get("version").and_then(Value::as_i64);
                match (application, position) {
                    (Some(application), Some(position)) => entry.positions.push((application.to_string(), position)),
                    _ => return Err(wrong(&"a txn action without appId or version")),
                }
            }
        }
        Ok(entry)
    }
}

/// Full jitter, doubling from 10 ms.
pub(crate) async fn pause(attempt: u32) {
    let most = Duration::from_millis(10).saturating_mul(1 << attempt.min(12)).min(PAUSE_MAX);
    let share = rand::rng().random_range(0.0..1.0);
    tokio::time::sleep(most.mul_f64(share)).await;
}

#[cfg(test)]
mod tests;
