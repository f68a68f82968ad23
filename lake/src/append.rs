//! Exactly-once append: rows and how far their streams have come land in one Delta commit.
//!
//! What holds, whoever else writes and whatever breaks:
//!
//! - A commit is made against one version of the table, `v`, and is the PUT-if-absent of version
//!   `v + 1`. The stored position of every stream it advances is compared on `v` itself: on what
//!   this appender knows of all commits up to `v`. If anybody else commits first, the PUT fails,
//!   their commit is read, and everything is compared again.
//! - An answer that does not say whether the PUT succeeded is resolved by reading version `v + 1`
//!   ([`mod@crate::commit`]). A commit is never submitted at another version before it is known not
//!   to be in at this one.
//! - A writer that was held up for long (a process that was stopped, a machine that slept) does not
//!   commit into a gap that clean-up has left: before a commit, and after one that took long, it
//!   looks whether the log is still where it was.
//! - Positions only grow, and a commit that does not advance from exactly the stored position is
//!   refused ([`Appended::Superseded`]): the caller reads the table's position and continues from
//!   there.
//!
//! Why this is exactly once is argued in `docs/exactly-once.md`.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use adlake_domain::catalogue::{self, Table};
use arrow::datatypes::Field;
use bytes::Bytes;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Transaction};
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use rand::Rng;
use serde_json::Value;
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, Put};
use crate::error::LakeError;
use crate::evolve::{self, Opened};
use crate::log::{self, Upkeep};
use crate::shape::{Described, Fit};
use crate::storage::Lake;
use crate::write::{DataFile, TableWriter, WriterSettings};

/// How many log entries are read at the same time, where there are many.
const ENTRIES_AT_ONCE: u64 = 32;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

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
    /// When it was last seen to be the newest version, or a newer one was.
    seen: Moment,
    /// What the log says of the table: every change of it is looked at before anything is committed
    /// after it.
    described: Described,
    /// The version up to which that is taken into account.
    described_at: u64,
    /// Positions in the last checkpoint or seen in commits since; `None`: looked up, and not
    /// stored.
    positions: HashMap<String, Option<i64>>,
    /// Positions that are not among these have to be looked up.
    partial: bool,
    upkeep: Option<Upkeep>,
    /// How often another's commit stood where one of ours was to be.
    conflicts: u64,
}

/// A moment, by two clocks: one of them does not count while the machine sleeps, the other may be
/// turned back.
#[derive(Debug, Clone, Copy)]
struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Moment {
        Moment { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago it was, rather too long than too short.
    fn elapsed(&self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").field("table", &self.table.name).field("version", &self.version).finish()
    }
}

impl Lake {
    /// An appender to a table of the catalogue, which is created if need be.
    pub async fn appender(&self, table: &str) -> Result<Appender, LakeError> {
        self.appender_with(table, &[]).await
    }

    /// An appender to a table of the catalogue that has more columns than there; those that it
    /// lacks are added to it.
    pub async fn appender_with(&self, table: &str, columns: &[Field]) -> Result<Appender, LakeError> {
        let table =
            catalogue::table(table).ok_or_else(|| LakeError::NotFound(format!("no table is called {table:?}")))?;
        let table = table.with_columns(columns);
        self.patiently(|| self.appender_to(table.clone())).await
    }

    async fn appender_to(&self, table: Table) -> Result<Appender, LakeError> {
        let Opened { log_store, version: described_at, described } = self.open_table(&table).await?;
        let base = log::base(&log_store, table.name).await?;
        let base = base.ok_or_else(|| LakeError::NotFound(format!("{} is gone again", table.name)))?;
        let upkeep = Some(Upkeep::new(self, table.name, base.checkpoint));
        let mut appender = Appender {
            lake: self.clone(),
            table,
            log_store,
            version: 0,
            seen: Moment::now(),
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

    /// The table's version as known here.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How often another's commit stood where one of ours was to be, since this was last asked.
    pub fn take_conflicts(&mut self) -> u64 {
        std::mem::take(&mut self.conflicts)
    }

    /// The stored position of a stream, on the newest version of the table.
    pub async fn stored(&mut self, application: &str) -> Result<Option<i64>, LakeError> {
        let positions = self.stored_all(&[application.to_string()]).await?;
        Ok(positions.into_iter().next().flatten())
    }

    /// The stored positions of several streams, on one version of the table, the newest.
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

    /// Commits files and positions, all or nothing. `files` may be empty: positions advance all the
    /// same.
    ///
    /// On a retryable error nothing is known to be in, and the same call may be made again with the
    /// same arguments: if the commit had gone in after all, it answers [`Appended::Superseded`]
    /// with the positions it stored.
    pub async fn commit(&mut self, files: Vec<DataFile>, advances: Vec<Advance>) -> Result<Appended, LakeError> {
        for (index, advance) in advances.iter().enumerate() {
            if advances[..index].iter().any(|other| other.application == advance.application) {
                return Err(LakeError::rows(self.table.name, format!("{} would be moved twice", advance.application)));
            }
            if advance.from.is_some_and(|from| advance.to < from) {
                return Err(LakeError::rows(self.table.name, format!("{} would go backwards", advance.application)));
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
            if self.may_be_left_behind() {
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
            match commit::put(&self.log_store, self.table.name, next, &commit_id, &bytes).await? {
                // It may have gone into a gap. Where it has not, it is in what is compared now, and
                // answered as superseded.
                Put::Ours if self.may_be_left_behind() && self.catch_up().await? => self.refresh_entries().await?,
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

    async fn advance_to(&mut self, version: u64, advances: &[Advance]) {
        self.version = version;
        self.seen = Moment::now();
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

    /// The position of a stream at `self.version`.
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

    /// Reads the commits that others have made since.
    ///
    /// Who calls this just before [`Appender::commit`] seldom finds another's commit in its way.
    pub async fn refresh(&mut self) -> Result<(), LakeError> {
        let lake = self.lake.clone();
        lake.watch(self.refresh_entries()).await
    }

    async fn refresh_entries(&mut self) -> Result<(), LakeError> {
        let held_up = self.may_be_left_behind();
        // Mostly there are none; where there are many they are read side by side.
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
                    self.seen = Moment::now();
                    return Ok(());
                };
                self.apply(self.version + 1, entry)?;
            }
            at_once = (at_once * 2).min(ENTRIES_AT_ONCE);
        }
    }

    /// Whether so much time has passed that clean-up may have removed what comes after this
    /// version. Half of it is left for clocks that differ.
    fn may_be_left_behind(&self) -> bool {
        let retention = self.lake.log_settings().retention;
        !retention.is_zero() && self.seen.elapsed() >= retention / 2
    }

    /// Goes on from the last checkpoint where that is of a later version; says whether it is.
    async fn catch_up(&mut self) -> Result<bool, LakeError> {
        let store = self.log_store.object_store(None);
        let last = log::last_checkpoint(store.as_ref(), self.table.name).await?;
        if last.is_none_or(|last| last.version <= self.version) {
            return Ok(false);
        }
        let base = log::base(&self.log_store, self.table.name).await?;
        let base = base.ok_or_else(|| LakeError::NotFound(format!("{} is gone", self.table.name)))?;
        tracing::info!(table = self.table.name, from = self.version, to = base.version, "catching up with the log");
        // What changed in between is not read entry by entry.
        self.described = evolve::described(&self.log_store, self.table.name, base.version).await?;
        self.described_at = base.version;
        self.check(base.version)?;
        self.begin_at(base);
        Ok(true)
    }

    fn apply(&mut self, version: u64, entry: Entry) -> Result<(), LakeError> {
        if entry.is_change() && version > self.described_at {
            self.described.take(entry.metadata, entry.protocol);
            // Before the version is taken for known: whoever asks again is refused again.
            self.check(version)?;
            self.described_at = version;
        }
        self.version = version;
        self.seen = Moment::now();
        for (application, position) in entry.positions {
            self.positions.insert(application, Some(position));
        }
        Ok(())
    }

    /// Whether the table, as others have left it, can still be written by us.
    fn check(&self, version: u64) -> Result<(), LakeError> {
        let detail = match self.described.fit(&self.table) {
            Ok(Fit::Fits) => {
                tracing::info!(
                    table = self.table.name,
                    version,
                    "the table was changed, its new columns are left NULL"
                );
                return Ok(());
            }
            Ok(Fit::Lacks { columns, .. }) => format!("column {} was dropped or renamed", columns.join(", ")),
            Err(detail) => detail,
        };
        Err(LakeError::schema(self.table.name, version, detail))
    }
}

/// What matters of a commit that somebody made.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) commit_id: Option<String>,
    positions: Vec<(String, i64)>,
    /// The table's description, where the commit changes it.
    metadata: Option<Value>,
    protocol: Option<Value>,
    /// Whether it removes files.
    pub(crate) removes: bool,
}

impl Entry {
    /// Whether it changes what the table is.
    pub(crate) fn is_change(&self) -> bool {
        self.metadata.is_some() || self.protocol.is_some()
    }

    pub(crate) fn parse(table: &str, version: u64, bytes: &[u8]) -> Result<Entry, LakeError> {
        let wrong =
            |detail: &dyn std::fmt::Display| LakeError::Corrupt(format!("{table}: log version {version}: {detail}"));
        let mut entry = Entry::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Adds are by far the most and the longest: they need no parsing here.
            if line.starts_with(b"{\"add\"") {
                continue;
            }
            let mut action: Value = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
            if let Some(metadata) = action.get_mut("metaData") {
                entry.metadata = Some(metadata.take());
            } else if let Some(protocol) = action.get_mut("protocol") {
                entry.protocol = Some(protocol.take());
            } else if action.get("remove").is_some() {
                entry.removes = true;
            } else if let Some(info) = action.get("commitInfo") {
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
pub(crate) mod tests;
