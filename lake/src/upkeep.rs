//! Keeps the tables' logs short: checkpoints and clean-up, which run beside the commits and never
//! delay them.
//!
//! A checkpoint is written as a stream, from the one before and the entries since. So its memory
//! does not grow with the number of files. Normally one process writes: a process that finds that
//! another has just written a checkpoint writes none. If two write at once, they write the same.

use std::time::{Duration, Instant};

use delta_kernel::Snapshot;
use deltalake::logstore::LogStoreRef;
use tokio::task::JoinHandle;

use crate::error::{LakeError, chain};
use crate::failpoint;
use crate::log::last_checkpoint;
use crate::storage::Lake;

mod cleanup;

/// The longest interval between two clean-ups.
const CLEANUP_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Keeps one table's log short.
#[derive(Debug)]
pub(crate) struct Upkeep {
    lake: Lake,
    table: &'static str,
    /// The version of the last checkpoint that this process knows.
    checkpoint: u64,
    /// No checkpoint is begun before this moment.
    not_before: Option<Instant>,
    cleaned: Option<Instant>,
    under_way: Option<JoinHandle<RoundResult>>,
}

/// The result of a round.
#[derive(Debug)]
struct RoundResult {
    checkpoint: Option<u64>,
    took: Duration,
}

impl Upkeep {
    /// `checkpoint`: the version of the table's last checkpoint.
    pub(crate) fn new(lake: &Lake, table: &'static str, checkpoint: Option<u64>) -> Upkeep {
        let checkpoint = checkpoint.unwrap_or(0);
        Upkeep { lake: lake.clone(), table, checkpoint, not_before: None, cleaned: None, under_way: None }
    }

    /// To be called after each commit. Starts a round in the background if one is due.
    pub(crate) async fn committed(&mut self, version: u64) {
        if self.under_way.as_ref().is_some_and(|round| !round.is_finished()) {
            return;
        }
        if let Some(round) = self.under_way.take() {
            self.finish_round(round).await;
        }
        let settings = self.lake.log_settings();
        let is_early = self.not_before.is_some_and(|not_before| Instant::now() < not_before);
        if settings.checkpoint_interval == 0 || version < self.checkpoint + settings.checkpoint_interval || is_early {
            return;
        }
        let between = CLEANUP_INTERVAL_MAX.min(settings.retention / 10);
        let cleans = self.cleaned.is_none_or(|at| at.elapsed() >= between);
        if cleans {
            self.cleaned = Some(Instant::now());
        }
        let (lake, table) = (self.lake.clone(), self.table);
        self.under_way = Some(tokio::spawn(async move { round(&lake, table, version, cleans).await }));
    }

    /// Waits for the round in the background.
    pub(crate) async fn close(mut self) {
        if let Some(round) = self.under_way.take() {
            self.finish_round(round).await;
        }
    }

    async fn finish_round(&mut self, round: JoinHandle<RoundResult>) {
        let Ok(done) = round.await else { return };
        self.checkpoint = self.checkpoint.max(done.checkpoint.unwrap_or(0));
        let percent = self.lake.log_settings().checkpoint_percent_max.clamp(1, 100);
        self.not_before = Instant::now().checked_add(done.took * (100 - percent) / percent);
    }
}

impl Lake {
    /// Writes a checkpoint of a table's newest version unless there is one, and removes the files
    /// that are older than the retention. Returns how many files were removed. `None`: the table is
    /// not there.
    pub async fn keep_log(&self, table: &str) -> Result<Option<u64>, LakeError> {
        let Some(version) = self.newest_version(table).await? else { return Ok(None) };
        self.retry(|| async { write_checkpoint(&self.log_store(table)?, table, version).await }).await?;
        self.retry(|| cleanup::clean(self, table)).await.map(Some)
    }

    /// Writes a checkpoint if one is due. To be called after a commit that no appender made.
    pub(crate) async fn checkpoint_if_due(&self, table: &str, version: u64) -> Result<(), LakeError> {
        let interval = self.log_settings().checkpoint_interval;
        if interval > 0 && version.is_multiple_of(interval) {
            write_checkpoint(&self.log_store(table)?, table, version).await?;
            cleanup::clean(self, table).await?;
        }
        Ok(())
    }
}

async fn round(lake: &Lake, table: &'static str, version: u64, cleans: bool) -> RoundResult {
    let started = Instant::now();
    let checkpoint = match checkpoint_unless_recent(lake, table, version).await {
        Ok(checkpoint) => {
            if checkpoint == version {
                tracing::debug!(
                    table,
                    version,
                    took_ms = started.elapsed().as_millis() as u64,
                    "the checkpoint was written"
                );
            }
            Some(checkpoint)
        }
        Err(error) => {
            tracing::warn!(table, version, error = %chain(&error), "the checkpoint was not written");
            None
        }
    };
    let took = started.elapsed();
    if cleans && checkpoint.is_some() {
        match cleanup::clean(lake, table).await {
            Ok(0) => {}
            Ok(files) => tracing::debug!(table, files, "old files of the log were removed"),
            Err(error) => {
                tracing::warn!(table, error = %chain(&error), "old files of the log were not removed")
            }
        }
    }
    RoundResult { checkpoint, took }
}

/// Writes a checkpoint unless another process has just written one. Returns the last one's version.
async fn checkpoint_unless_recent(lake: &Lake, table: &str, version: u64) -> Result<u64, LakeError> {
    let log_store = lake.log_store(table)?;
    let last = last_checkpoint(log_store.object_store(None).as_ref(), table).await?;
    let last = last.map_or(0, |hint| hint.version);
    if version < last + lake.log_settings().checkpoint_interval {
        return Ok(last);
    }
    failpoint::hit(failpoint::CHECKPOINT);
    write_checkpoint(&log_store, table, version).await?;
    Ok(version)
}

async fn write_checkpoint(log_store: &LogStoreRef, table: &str, version: u64) -> Result<(), LakeError> {
    let root = log_store.root_url().to_string();
    let engine = log_store.engine(None);
    let written = tokio::task::spawn_blocking(move || {
        let snapshot = Snapshot::builder_for(root).at_version(version).build(engine.as_ref())?;
        snapshot.checkpoint(engine.as_ref(), None).map(|_| ())
    });
    let written = written
        .await
        .map_err(|error| LakeError::Corrupt(format!("{table}: the writer of the checkpoint failed: {error}")))?;
    written.map_err(|error| LakeError::table(table, error.into()))
}
