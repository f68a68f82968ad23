//! Commits one entry of a table's log: the PUT-if-absent of a version, and its result.
//!
//! An answer may not say whether the PUT succeeded: a time-out, a cut connection, or a 412 for our
//! own retried PUT. Then the version is read. Every entry carries an id of its own, which tells
//! whether the entry there is ours. A PUT is retried only at the same version and with the same
//! bytes, so that the entry is in once or not at all. All writers of the lake commit through here:
//! appends, creations, exchanges, replacements, added columns.

use bytes::Bytes;
use deltalake::kernel::transaction::TransactionError;
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use uuid::Uuid;

use crate::error::LakeError;
use crate::failpoint;
use crate::retry::pause;

mod entry;

pub(crate) use entry::Entry;

/// The most attempts to put, or to read, an entry whose fate is unknown. Then the outage is
/// reported.
const ATTEMPTS_MAX: u32 = 8;
/// The key of an entry's own id in its `commitInfo`.
pub(crate) const COMMIT_ID: &str = "adlakeCommit";

/// The result of a PUT.
#[derive(Debug)]
pub(crate) enum Put {
    /// Our entry is at the version.
    Ours,
    /// Another writer's entry is at the version. Ours is nowhere.
    Theirs(Entry),
}

/// What is known after a PUT whose answer was not success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observed {
    found: Found,
    /// Whether a retry of the PUT may succeed.
    may_pass: bool,
    /// How often it was put.
    attempts: u32,
}

/// The entry that was read at the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Theirs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Committed,
    Lost,
    PutAgain,
    GiveUp,
}

fn decide(observed: Observed) -> Decision {
    match observed.found {
        Found::Ours => Decision::Committed,
        Found::Theirs => Decision::Lost,
        // A PUT that the store refuses would be refused again.
        Found::Nothing if !observed.may_pass || observed.attempts >= ATTEMPTS_MAX => Decision::GiveUp,
        Found::Nothing => Decision::PutAgain,
    }
}

/// Puts an entry at a version, unless there is one. `bytes` carry `id` as their [`COMMIT_ID`].
///
/// After a retryable error the entry may be in at this version, but at no other. A caller that
/// builds the entry anew must read the version first.
pub(crate) async fn put(
    log_store: &LogStoreRef,
    table: &str,
    version: u64,
    id: &str,
    bytes: &Bytes,
) -> Result<Put, LakeError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        failpoint::hit(failpoint::BEFORE_PUT);
        let entry = CommitOrBytes::LogBytes(bytes.clone());
        let written = log_store.write_commit_entry(version, entry, Uuid::new_v4()).await;
        failpoint::hit(failpoint::AFTER_PUT);
        let error = match written {
            Ok(()) => return Ok(Put::Ours),
            Err(TransactionError::VersionAlreadyExists(_)) => inconsistent(table, version),
            Err(error) => LakeError::table(table, error.into()),
        };
        let entry = read_entry(log_store, table, version).await?;
        let found = match &entry {
            None => Found::Nothing,
            Some(entry) if entry.commit_id.as_deref() == Some(id) => Found::Ours,
            Some(_) => Found::Theirs,
        };
        match (decide(Observed { found, may_pass: error.is_retryable(), attempts }), entry) {
            (Decision::Committed, _) => return Ok(Put::Ours),
            (Decision::Lost, Some(entry)) => return Ok(Put::Theirs(entry)),
            (Decision::PutAgain, _) => pause(attempts).await,
            (Decision::Lost | Decision::GiveUp, _) => return Err(error),
        }
    }
}

/// The store answered that the version exists, but the entry is not there: the store is
/// inconsistent for now.
fn inconsistent(table: &str, version: u64) -> LakeError {
    LakeError::Unavailable {
        subject: format!("table {table}"),
        source: format!("the store says that log version {version} exists, and that it does not").into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_the_version_decides() {
        let check = |found: Found, may_pass: bool, attempts: u32, expected: Decision| {
            assert_eq!(decide(Observed { found, may_pass, attempts }), expected, "{found:?} {may_pass} {attempts}");
        };
        for may_pass in [true, false] {
            for attempts in [1, ATTEMPTS_MAX, ATTEMPTS_MAX + 1] {
                check(Found::Ours, may_pass, attempts, Decision::Committed);
                check(Found::Theirs, may_pass, attempts, Decision::Lost);
            }
        }
        check(Found::Nothing, true, 1, Decision::PutAgain);
        check(Found::Nothing, true, ATTEMPTS_MAX - 1, Decision::PutAgain);
        check(Found::Nothing, true, ATTEMPTS_MAX, Decision::GiveUp);
        check(Found::Nothing, false, 1, Decision::GiveUp);
    }
}
