//! Commits one entry of a table's log: the PUT-if-absent of a version, and its result. All writers
//! of the lake commit through here: appends, manifests, creations, exchanges, replacements, added
//! columns.
//!
//! - An answer may not say whether the PUT succeeded: a time-out, a cut connection, or a 412 for
//!   our own retried PUT. Then the version is read. Every entry carries an id of its own, which
//!   tells whether the entry there is ours.
//! - A PUT is retried only at the same version and with the same bytes, so that the entry is in
//!   once or not at all.
//! - A writer may be held up for long: its process was stopped, or its machine slept. Clean-up may
//!   have removed log entries meanwhile, and an entry must not go into such a gap. So a writer that
//!   has not seen the log for long looks whether the log has moved on, before the PUT and after it.
//!
//! [`decide`] says what follows from what was observed. [`put`] observes and acts.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use deltalake::kernel::transaction::TransactionError;
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use uuid::Uuid;

use crate::error::LakeError;
use crate::failpoint;
use crate::log;
use crate::retry::pause;
use crate::storage::Lake;

mod entry;
#[cfg(test)]
mod tests;

pub(crate) use entry::Entry;

/// The most attempts to put, or to read, an entry whose fate is unknown. Then the outage is
/// reported.
const ATTEMPTS_MAX: u32 = 8;
/// The key of an entry's own id in its `commitInfo`.
pub(crate) const COMMIT_ID: &str = "adlakeCommit";
/// The key of the `traceparent` of the span that made the commit, in its `commitInfo`. It is there
/// only if the writer exports traces. Readers of Delta pass over keys that they do not know.
pub(crate) const TRACE: &str = "adlakeTraceparent";

/// The result of a PUT.
#[derive(Debug)]
pub(crate) enum Put {
    /// Our entry is at the version.
    Ours,
    /// Another writer's entry is at the version. Ours is nowhere.
    Theirs(Entry),
    /// The log has a checkpoint at the version or after it. Our entry was counted by it, or it
    /// lies in a gap of the log where no reader sees it, or it was not put. The caller reads the
    /// table as it is now.
    MovedOn,
}

/// The moment at which a writer last knew the newest version of a log, by two clocks. The steady
/// clock may stop while the machine sleeps. The wall clock may be set back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastLook {
    steady: Instant,
    wall: SystemTime,
    retention: Duration,
}

impl LastLook {
    pub fn now(lake: &Lake) -> LastLook {
        LastLook { steady: Instant::now(), wall: SystemTime::now(), retention: lake.log_settings().retention }
    }

    /// Whether clean-up may have removed entries that were put since: half of the log's retention
    /// has passed. The other half allows for clocks that differ. Where the two clocks of this
    /// machine differ, the longer time counts.
    pub fn is_old(&self) -> bool {
        let elapsed = self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default());
        !self.retention.is_zero() && elapsed >= self.retention / 2
    }

    /// The same look, earlier.
    #[cfg(test)]
    pub fn earlier(self, by: Duration) -> LastLook {
        LastLook { wall: self.wall - by, ..self }
    }
}

/// What a writer knows while it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observed {
    answer: Answer,
    found: Found,
    log: Log,
    /// How often the entry was put.
    attempts: u32,
}

/// The store's answer to the last PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nothing was put yet.
    None,
    /// The entry is in.
    Success,
    /// There is an entry at the version.
    Conflict,
    /// The answer does not say it. A retry may succeed.
    Unclear,
    /// The answer does not say it. A retry would fail again.
    Refused,
}

/// The entry that was read at the version after the PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It was not read.
    Unread,
    Nothing,
    Ours,
    Theirs,
}

/// The log, as far as clean-up is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// It was looked at so recently that clean-up cannot have removed entries since.
    Recent,
    /// It was not looked at for long.
    Old,
    /// Its last checkpoint is before the version.
    Current,
    /// Its last checkpoint is at the version or after it.
    MovedOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Put the entry.
    Put,
    /// Read the version.
    Read,
    /// Look at the log's last checkpoint.
    LookAtLog,
    /// The entry is in.
    Commit,
    /// Another writer's entry is in.
    Lose,
    /// The entry cannot be in at this version any more, or it may be in a gap.
    MoveOn,
    /// Report the failure.
    GiveUp,
}

fn decide(observed: Observed) -> Decision {
    let unless_moved_on = |decision: Decision| match observed.log {
        Log::Recent | Log::Current => decision,
        Log::Old => Decision::LookAtLog,
        Log::MovedOn => Decision::MoveOn,
    };
    match (observed.answer, observed.found) {
        (Answer::None, _) => unless_moved_on(Decision::Put),
        (Answer::Success, _) | (_, Found::Ours) => unless_moved_on(Decision::Commit),
        (_, Found::Theirs) => Decision::Lose,
        (_, Found::Unread) => Decision::Read,
        (Answer::Refused, Found::Nothing) => Decision::GiveUp,
        (_, Found::Nothing) if observed.attempts >= ATTEMPTS_MAX => unless_moved_on(Decision::GiveUp),
        (_, Found::Nothing) => unless_moved_on(Decision::Put),
    }
}

/// Puts an entry at a version, unless there is one. `bytes` carry `id` as their [`COMMIT_ID`].
/// `looked` is the moment at which the version before was last seen to be the newest.
///
/// After a retryable error the entry may be in at this version, but at no other. A caller that
/// builds the entry anew must read the version first.
pub(crate) async fn put(
    log_store: &LogStoreRef,
    table: &str,
    version: u64,
    id: &str,
    bytes: &Bytes,
    looked: LastLook,
) -> Result<Put, LakeError> {
    let (mut answer, mut found, mut log) = (Answer::None, Found::Unread, None);
    let (mut failure, mut entry, mut attempts) = (None, None, 0);
    loop {
        let as_of_now = if looked.is_old() { Log::Old } else { Log::Recent };
        match decide(Observed { answer, found, log: log.unwrap_or(as_of_now), attempts }) {
            Decision::Put => {
                if attempts > 0 {
                    pause(attempts).await;
                }
                attempts += 1;
                (answer, failure) = put_once(log_store, table, version, bytes).await;
                (found, log) = (Found::Unread, None);
            }
            Decision::Read => {
                entry = read_entry(log_store, table, version).await?;
                found = match &entry {
                    None => Found::Nothing,
                    Some(entry) if entry.commit_id.as_deref() == Some(id) => Found::Ours,
                    Some(_) => Found::Theirs,
                };
            }
            Decision::LookAtLog => {
                let last = log::last_checkpoint(log_store.object_store(None).as_ref(), table).await?;
                let is_past = last.is_some_and(|last| last.version >= version);
                log = Some(if is_past { Log::MovedOn } else { Log::Current });
            }
            Decision::Commit => return Ok(Put::Ours),
            Decision::MoveOn => return Ok(Put::MovedOn),
            Decision::Lose => match entry.take() {
                Some(entry) => return Ok(Put::Theirs(entry)),
                None => found = Found::Unread,
            },
            Decision::GiveUp => return Err(failure.unwrap_or_else(|| inconsistent(table, version))),
        }
    }
}

/// One attempt. Returns the answer, and the error if it is not [`Answer::Success`].
async fn put_once(log_store: &LogStoreRef, table: &str, version: u64, bytes: &Bytes) -> (Answer, Option<LakeError>) {
    failpoint::hit(failpoint::BEFORE_PUT);
    let entry = CommitOrBytes::LogBytes(bytes.clone());
    let written = log_store.write_commit_entry(version, entry, Uuid::new_v4()).await;
    failpoint::hit(failpoint::AFTER_PUT);
    match written {
        Ok(()) => (Answer::Success, None),
        Err(TransactionError::VersionAlreadyExists(_)) => (Answer::Conflict, Some(inconsistent(table, version))),
        Err(error) => {
            let error = LakeError::table(table, error.into());
            (if error.is_retryable() { Answer::Unclear } else { Answer::Refused }, Some(error))
        }
    }
}

/// The store answered that the version exists, but the entry is not there: the store is
/// inconsistent for now.
fn inconsistent(table: &str, version: u64) -> LakeError {
    LakeError::Unavailable {
        subject: format!("table {table}"),
        source: format!(
            "the store answers that log version {version} exists, but a read does not find it: the store is \
             inconsistent"
        )
        .into(),
    }
}

/// Reads the entry at a version. `None`: there is none yet. Outages are retried for a while.
pub(crate) async fn read_entry(log_store: &LogStoreRef, table: &str, version: u64) -> Result<Option<Entry>, LakeError> {
    let mut attempt = 0;
    loop {
        match log_store.read_commit_entry(version).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => return Entry::parse(table, version, &bytes).map(Some),
            Err(error) => {
                let error = LakeError::table(table, error);
                attempt += 1;
                if !error.is_retryable() || attempt >= ATTEMPTS_MAX {
                    return Err(error);
                }
                pause(attempt).await;
            }
        }
    }
}
