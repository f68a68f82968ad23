//! Exactly-once append: one Delta commit stores the rows and the positions of their streams.
//!
//! These rules hold whatever other writers do and whatever fails:
//!
//! - A commit is the PUT-if-absent of version `v + 1`, where `v` is a version that this appender
//!   knows. It knows all commits up to `v`, and compares the position of every stream that it
//!   advances with the position stored at `v`. If another writer commits `v + 1` first, the PUT
//!   fails. The appender then reads that commit and compares everything again.
//! - If the answer does not say whether the PUT succeeded, the appender reads version `v + 1`
//!   ([`mod@crate::commit`]). It never submits a commit at another version before it knows that the
//!   commit is not in at this one.
//! - If the log has moved on while the appender was held up, it continues from the last checkpoint.
//! - Positions never go back. A commit must advance from exactly the stored position, or it is
//!   refused ([`Appended::Superseded`]). The caller then reads the table's position and continues
//!   from there.
//!
//! `docs/exactly-once.md` argues why this is exactly once.

use std::collections::HashMap;

use adlake_domain::catalogue::{self, Table};
use arrow::datatypes::Field;
use bytes::Bytes;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Transaction};
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, Entry, LastLook, Put, TRACE};
use crate::error::LakeError;
use crate::evolve::{self, Opened};
use crate::log;
use crate::retry::pause;
use crate::shape::{Described, Fit};
use crate::storage::Lake;
use crate::upkeep::Upkeep;
use crate::write::{DataFile, TableWriter, WriterSettings};

/// The most log entries that are read at the same time.
const ENTRIES_AT_ONCE: u64 = 32;

/// How far one commit advances one stream of records (a Kafka partition, a file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The stream: the Delta application id.
    pub application: String,
    /// The position that must be stored now. `None`: no position of this stream is stored.
    pub from: Option<i64>,
    /// The position after this commit.
    pub to: i64,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The commit is in, exactly once.
    Committed {
        /// The version of the table that holds it.
        version: u64,
    },
    /// Nothing of the commit is in: another writer has moved at least one of the streams.
    Superseded {
        /// The stored positions of the streams that the commit was to advance.
        stored: Vec<(String, Option<i64>)>,
    },
}

/// Appends to one table.
pub struct Appender {
    lake: Lake,
    table: Table,
    log_store: LogStoreRef,
    /// The version that this appender knows. The fields below describe the table at this version.
    version: u64,
    /// When `version` was last the newest version in the log, or when a newer one was last read.
    looked: LastLook,
    /// The table's metadata and protocol in the log. The appender checks every change of them
    /// before it commits anything after the change.
    described: Described,
    /// The version up to which `described` includes all changes.
    described_at: u64,
    /// Positions from the last checkpoint and from the commits read since. `None`: the position was
    /// looked up, and none is stored.
    positions: HashMap<String, Option<i64>>,
    /// Whether a position that `positions` lacks must be looked up in the table.
    partial: bool,
    upkeep: Option<Upkeep>,
    /// How often another writer's commit took the version that one of ours was for.
    conflicts: u64,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").field("table", &self.table.name).field("version", &self.version).finish()
    }
}

impl Lake {
    /// An appender to a table of the catalogue. Creates the table if it is not there.
    pub async fn appender(&self, table: &str) -> Result<Appender, LakeError> {
        self.appender_with(table, &[]).await
    }

    /// An appender to a table of the catalogue with more `columns` than the catalogue gives it.
    /// Columns that the table lacks are added to it.
    pub async fn appender_with(&self, table: &str, columns: &[Field]) -> Result<Appender, LakeError> {
        let table =
            catalogue::table(table).ok_or_else(|| LakeError::NotFound(format!("adlake has no table {table:?}")))?;
        let table = table.with_columns(columns);
        self.retry(|| self.appender_to(table.clone())).await
    }

    async fn appender_to(&self, table: Table) -> Result<Appender, LakeError> {
        let Opened { log_store, version: described_at, described } = self.open_table(&table).await?;
        let base = log::base(&log_store, table.name).await?;
        let base = base.ok_or_else(|| {
            LakeError::NotFound(format!("table {} was deleted while it was being opened", table.name))
        })?;
        let upkeep = Some(Upkeep::new(self, table.name, base.checkpoint));
        let mut appender = Appender {
            lake: self.clone(),
            table,
            log_store,
            version: 0,
            looked: LastLook::now(self),
            described,
            described_at,
            positions: HashMap::new(),
            partial: false,
            conflicts: 0,
            upkeep,
        };
        appender.begin_at(base);
        appender.refresh().await?;
        Ok(appender)
    }
}

impl Appender {
    /// The table's name.
    pub fn table(&self) -> &'static str {
        self.table.name
    }

    /// The version of the table that this appender knows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How often another writer's commit took the version that one of ours was for, since the last
    /// call.
    pub fn take_conflicts(&mut self) -> u64 {
        std::mem::take(&mut self.conflicts)
    }

    /// The stored position of a stream in the newest version of the table.
    pub async fn stored(&mut self, application: &str) -> Result<Option<i64>, LakeError> {
        let positions = self.stored_all(&[application.to_string()]).await?;
        Ok(positions.into_iter().next().flatten())
    }

    /// The stored positions of several streams, all in one version of the table: the newest.
    pub async fn stored_all(&mut self, applications: &[String]) -> Result<Vec<Option<i64>>, LakeError> {
        let lake = self.lake.clone();
        lake.watch(self.look_up(applications)).await
    }

    async fn look_up(&mut self, applications: &[String]) -> Result<Vec<Option<i64>>, LakeError> {
        self.refresh_entries().await?;
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

    /// Commits files and positions, all or nothing. `files` may be empty: the positions advance
    /// anyway.
    ///
    /// After a retryable error it is not known whether the commit is in. The caller may repeat the
    /// call with the same arguments. If the commit was in after all, the call answers
    /// [`Appended::Superseded`] with the positions that the commit stored.
    ///
    /// Only the positions make a commit exactly once. A commit without advances may be in twice: if
    /// the call is repeated, or if this writer was held up and the log has moved on meanwhile. Its
    /// rows must mean the same when they are there twice.
    pub async fn commit(&mut self, files: Vec<DataFile>, advances: Vec<Advance>) -> Result<Appended, LakeError> {
        for (index, advance) in advances.iter().enumerate() {
            if advances[..index].iter().any(|other| other.application == advance.application) {
                return Err(LakeError::rows(
                    self.table.name,
                    format!("one commit advances stream {} twice", advance.application),
                ));
            }
            if advance.from.is_some_and(|from| advance.to < from) {
                return Err(LakeError::rows(
                    self.table.name,
                    format!("stream {} would go back from {:?} to {}", advance.application, advance.from, advance.to),
                ));
            }
        }
        let commit_id = Uuid::new_v4().to_string();
        let bytes = self.commit_bytes(files, &advances, &commit_id)?;
        let lake = self.lake.clone();
        lake.watch(self.commit_entry(commit_id, bytes, advances)).await
    }

    async fn commit_entry(
        &mut self,
        commit_id: String,
        bytes: Bytes,
        advances: Vec<Advance>,
    ) -> Result<Appended, LakeError> {
        loop {
            if self.looked.is_old() {
                self.refresh_entries().await?;
            }
            let mut stored = Vec::with_capacity(advances.len());
            for advance in &advances {
                stored.push((advance.application.clone(), self.position(&advance.application).await?));
            }
            if advances.iter().zip(&stored).any(|(advance, (_, position))| advance.from != *position) {
                return Ok(Appended::Superseded { stored });
            }
            let next = self.version + 1;
            match commit::put(&self.log_store, self.table.name, next, &commit_id, &bytes, self.looked).await? {
                // The entry may have gone into a gap of the log. If it has not, the checkpoint has
                // its positions, and the next comparison answers `Superseded`. Without advances
                // there is nothing to compare, and the entry is put again.
                Put::MovedOn => {
                    self.catch_up().await?;
                    self.refresh_entries().await?;
                }
                Put::Ours => {
                    self.advance_to(next, &advances).await;
                    return Ok(Appended::Committed { version: next });
                }
                Put::Theirs(entry) => {
                    self.conflicts += 1;
                    self.apply(next, entry)?;
                    self.refresh_entries().await?;
                    pause(0).await;
                }
            }
        }
    }

    /// Waits for a checkpoint that is being written in the background.
    pub async fn close(mut self) {
        if let Some(upkeep) = self.upkeep.take() {
            upkeep.close().await;
        }
    }

    fn commit_bytes(&self, files: Vec<DataFile>, advances: &[Advance], commit_id: &str) -> Result<Bytes, LakeError> {
        let partition_by = self.table.partition_columns.iter().map(ToString::to_string).collect();
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: Some(partition_by), predicate: None };
        // Without `lastUpdated`: Delta may expire a position that has it.
        let transactions = advances
            .iter()
            .map(|advance| Transaction { app_id: advance.application.clone(), version: advance.to, last_updated: None })
            .collect();
        let actions = files.into_iter().map(|file| Action::Add(file.add)).collect();
        let mut metadata = HashMap::from([(COMMIT_ID.to_string(), Value::String(commit_id.to_string()))]);
        if let Some(trace) = adlake_telemetry::current().filter(|trace| trace.is_sampled) {
            metadata.insert(TRACE.to_string(), Value::String(trace.to_string()));
        }
        CommitData::new(actions, operation, metadata, transactions)
            .get_bytes()
            .map_err(|error| LakeError::rows(self.table.name, error))
    }

    async fn advance_to(&mut self, version: u64, advances: &[Advance]) {
        self.version = version;
        self.looked = LastLook::now(&self.lake);
        for advance in advances {
            self.positions.insert(advance.application.clone(), Some(advance.to));
        }
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.committed(version).await;
        }
    }

    fn begin_at(&mut self, base: log::Base) {
        self.version = base.version;
        self.positions =
            base.positions.into_iter().map(|(application, position)| (application, Some(position))).collect();
        self.partial = base.partial;
    }

    /// The position of a stream at `self.version`. Looks it up in the table if `positions` lacks
    /// it.
    async fn position(&mut self, application: &str) -> Result<Option<i64>, LakeError> {
        if let Some(position) = self.positions.get(application) {
            return Ok(*position);
        }
        if !self.partial {
            return Ok(None);
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

    /// Reads the commits that other writers have made since.
    ///
    /// A caller that does this just before [`Appender::commit`] seldom loses the race for the
    /// version.
    pub async fn refresh(&mut self) -> Result<(), LakeError> {
        let lake = self.lake.clone();
        lake.watch(self.refresh_entries()).await
    }

    async fn refresh_entries(&mut self) -> Result<(), LakeError> {
        let held_up = self.looked.is_old();
        // Mostly there are no new entries. The number read at the same time doubles while there are
        // more.
        let mut at_once = 1;
        loop {
            let from = self.version + 1;
            let entries: Vec<_> = futures::stream::iter(from..from + at_once)
                .map(|version| commit::read_entry(&self.log_store, self.table.name, version))
                .buffered(ENTRIES_AT_ONCE as usize)
                .try_collect()
                .await?;
            for entry in entries {
                let Some(entry) = entry else {
                    if held_up && self.catch_up().await? {
                        break;
                    }
                    self.looked = LastLook::now(&self.lake);
                    return Ok(());
                };
                self.apply(self.version + 1, entry)?;
            }
            at_once = (at_once * 2).min(ENTRIES_AT_ONCE);
        }
    }

    /// Continues from the last checkpoint if that is newer than `self.version`. Returns whether it
    /// is.
    async fn catch_up(&mut self) -> Result<bool, LakeError> {
        let store = self.log_store.object_store(None);
        let last = log::last_checkpoint(store.as_ref(), self.table.name).await?;
        if last.is_none_or(|last| last.version <= self.version) {
            return Ok(false);
        }
        let base = log::base(&self.log_store, self.table.name).await?;
        let base = base.ok_or_else(|| {
            LakeError::NotFound(format!("table {} was deleted while it was being written", self.table.name))
        })?;
        tracing::info!(
            table = self.table.name,
            from = self.version,
            to = base.version,
            "the log was cleaned up meanwhile; going on from its last checkpoint"
        );
        // The entries in between are not read one by one, so the table's description is read anew.
        self.described = evolve::described(&self.log_store, self.table.name, base.version).await?;
        self.described_at = base.version;
        self.check(base.version)?;
        self.begin_at(base);
        Ok(true)
    }

    fn apply(&mut self, version: u64, entry: Entry) -> Result<(), LakeError> {
        if entry.is_change() && version > self.described_at {
            self.described.take(entry.metadata, entry.protocol);
            // Check before the version counts as known, so that the next call is refused as well.
            self.check(version)?;
            self.described_at = version;
        }
        self.version = version;
        self.looked = LastLook::now(&self.lake);
        for (application, position) in entry.positions {
            self.positions.insert(application, Some(position));
        }
        Ok(())
    }

    /// Checks whether this appender can still write the table as other writers have left it.
    fn check(&self, version: u64) -> Result<(), LakeError> {
        let detail = match self.described.fit(&self.table) {
            Ok(Fit::Fits) => {
                tracing::info!(
                    table = self.table.name,
                    version,
                    "another writer has changed the table; rows are written without its new columns"
                );
                return Ok(());
            }
            Ok(Fit::Lacks { columns, .. }) => format!("column {} was dropped or renamed", columns.join(", ")),
            Err(detail) => detail,
        };
        Err(LakeError::schema(self.table.name, version, detail))
    }
}

#[cfg(test)]
pub(crate) mod tests;
