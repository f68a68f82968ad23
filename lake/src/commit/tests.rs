//! The decision as a table, and the executor against tables in a folder.

use std::sync::Arc;

use adlake_domain::catalogue::DEAD_LETTERS;
use deltalake::DeltaResult;
use deltalake::logstore::{LogStore, LogStoreConfig};
use object_store::ObjectStore;
use serde_json::json;

use super::*;
use crate::{LogSettings, StorageSettings};

const ANSWERS: [Answer; 5] = [Answer::None, Answer::Success, Answer::Conflict, Answer::Unclear, Answer::Refused];
const FINDS: [Found; 4] = [Found::Unread, Found::Nothing, Found::Ours, Found::Theirs];
const KNOWN: [Log; 2] = [Log::Recent, Log::Current];

#[test]
fn every_observation_has_its_decision() {
    let check = |answer: Answer, found: Found, attempts: u32, expected: [Decision; 3]| {
        let decision = |log: Log| decide(Observed { answer, found, log, attempts });
        for log in KNOWN {
            assert_eq!(decision(log), expected[0], "{answer:?} {found:?} {log:?} {attempts}");
        }
        assert_eq!(decision(Log::Old), expected[1], "{answer:?} {found:?} old {attempts}");
        assert_eq!(decision(Log::MovedOn), expected[2], "{answer:?} {found:?} moved on {attempts}");
    };
    let guarded = |decision: Decision| [decision, Decision::LookAtLog, Decision::MoveOn];
    let always = |decision: Decision| [decision; 3];
    let last = ATTEMPTS_MAX;
    for found in FINDS {
        check(Answer::None, found, 0, guarded(Decision::Put));
        // Plain success needs no read.
        check(Answer::Success, found, 1, guarded(Decision::Commit));
    }
    for answer in [Answer::Conflict, Answer::Unclear, Answer::Refused] {
        for attempts in [1, last - 1, last, last + 1] {
            check(answer, Found::Unread, attempts, always(Decision::Read));
            check(answer, Found::Ours, attempts, guarded(Decision::Commit));
            check(answer, Found::Theirs, attempts, always(Decision::Lose));
        }
    }
    for answer in [Answer::Conflict, Answer::Unclear] {
        check(answer, Found::Nothing, 1, guarded(Decision::Put));
        check(answer, Found::Nothing, last - 1, guarded(Decision::Put));
        check(answer, Found::Nothing, last, guarded(Decision::GiveUp));
    }
    check(Answer::Refused, Found::Nothing, 1, always(Decision::GiveUp));
}

#[test]
fn no_entry_is_put_again_once_it_is_in_and_none_is_reported_in_that_may_be_in_a_gap() {
    for answer in ANSWERS {
        for found in FINDS {
            for log in [Log::Recent, Log::Old, Log::Current, Log::MovedOn] {
                let attempts = if answer == Answer::None { 0..=0 } else { 1..=ATTEMPTS_MAX + 1 };
                for attempts in attempts {
                    let observed = Observed { answer, found, log, attempts };
                    let decision = decide(observed);
                    let is_in = answer == Answer::Success || found == Found::Ours && answer != Answer::None;
                    if decision == Decision::Put {
                        assert!(!is_in && KNOWN.contains(&log) && attempts < ATTEMPTS_MAX, "{observed:?}");
                    }
                    if decision == Decision::Commit {
                        assert!(is_in && KNOWN.contains(&log), "{observed:?}");
                    }
                }
            }
        }
    }
}

fn entry(id: &str) -> Bytes {
    json!({"commitInfo": {COMMIT_ID: id}}).to_string().into_bytes().into()
}

/// A lake whose log entries are kept for an hour.
async fn lake() -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().join("lake").to_string_lossy().into_owned();
    let log = LogSettings { retention: Duration::from_secs(3600), ..LogSettings::default() };
    let lake = Lake::open(&StorageSettings { uri, log, ..StorageSettings::default() }).await.unwrap();
    lake.create_tables().await.unwrap();
    (folder, lake)
}

#[test]
fn a_look_is_old_if_either_clock_says_so() {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let check = |steady_ago: Duration, wall: SystemTime, retention: Duration, expected: bool| {
        let look = LastLook { steady: Instant::now() - steady_ago, wall, retention };
        assert_eq!(look.is_old(), expected, "{look:?}");
    };
    let now = SystemTime::now();
    check(Duration::ZERO, now, hour, false);
    // The machine slept.
    check(Duration::ZERO, now - hour, hour, true);
    // The wall clock was set back.
    check(second, now + hour, 2 * second, true);
    check(second, now + hour, hour, false);
    // Clean-up is switched off.
    check(second, now - hour, Duration::ZERO, false);
}

#[tokio::test]
async fn an_entry_is_ours_theirs_or_behind_the_log() {
    let (_folder, lake) = lake().await;
    let log_store = lake.log_store(DEAD_LETTERS).unwrap();
    let recent = LastLook::now(&lake);
    let old = recent.earlier(Duration::from_secs(1800));
    assert!(old.is_old() && !recent.is_old());

    let first = put(&log_store, DEAD_LETTERS, 1, "a", &entry("a"), recent).await.unwrap();
    assert!(matches!(first, Put::Ours), "{first:?}");
    // The answer to the PUT was lost, and the writer puts the entry again.
    let again = put(&log_store, DEAD_LETTERS, 1, "a", &entry("a"), old).await.unwrap();
    assert!(matches!(again, Put::Ours), "{again:?}");
    let lost = put(&log_store, DEAD_LETTERS, 1, "b", &entry("b"), old).await.unwrap();
    assert!(matches!(&lost, Put::Theirs(entry) if entry.commit_id.as_deref() == Some("a")), "{lost:?}");

    // A checkpoint of version 1, and the log is cleaned up to there.
    lake.keep_log(DEAD_LETTERS).await.unwrap();
    let path = lake.table_url(DEAD_LETTERS).unwrap().to_file_path().unwrap().join("_delta_log");
    let first = path.join("00000000000000000001.json");
    std::fs::remove_file(&first).unwrap();
    let late = put(&log_store, DEAD_LETTERS, 1, "b", &entry("b"), old).await.unwrap();
    assert!(matches!(late, Put::MovedOn), "{late:?}");
    assert!(!first.exists(), "an entry was put into the gap");
    let next = put(&log_store, DEAD_LETTERS, 2, "b", &entry("b"), old).await.unwrap();
    assert!(matches!(next, Put::Ours), "{next:?}");
}

/// A log store after whose PUTs the log moves on: a checkpoint of the new version is written before
/// the writer gets its answer.
struct MovesOn {
    inner: LogStoreRef,
    lake: Lake,
}

#[async_trait::async_trait]
impl LogStore for MovesOn {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn read_commit_entry(&self, version: u64) -> DeltaResult<Option<Bytes>> {
        self.inner.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: u64,
        entry: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        let written = self.inner.write_commit_entry(version, entry, operation).await;
        self.lake.keep_log(DEAD_LETTERS).await.unwrap();
        written
    }

    async fn abort_commit_entry(
        &self,
        version: u64,
        entry: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        self.inner.abort_commit_entry(version, entry, operation).await
    }

    async fn get_latest_version(&self, from: u64) -> DeltaResult<u64> {
        self.inner.get_latest_version(from).await
    }

    fn object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.object_store(operation)
    }

    fn root_object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.root_object_store(operation)
    }

    fn config(&self) -> &LogStoreConfig {
        self.inner.config()
    }
}

#[tokio::test]
async fn a_writer_that_is_held_up_during_its_put_looks_at_the_log_before_it_reports_the_entry_in() {
    let (_folder, lake) = lake().await;
    let inner = lake.log_store(DEAD_LETTERS).unwrap();
    let log_store: LogStoreRef = Arc::new(MovesOn { inner: inner.clone(), lake: lake.clone() });
    let recent = LastLook::now(&lake);
    let old = recent.earlier(Duration::from_secs(1800));
    // Before this PUT the log has no checkpoint. After it, the log has one of the same version.
    let unsure = put(&log_store, DEAD_LETTERS, 1, "a", &entry("a"), old).await.unwrap();
    assert!(matches!(unsure, Put::MovedOn), "{unsure:?}");
    let there = read_entry(&inner, DEAD_LETTERS, 1).await.unwrap().and_then(|entry| entry.commit_id);
    assert_eq!(there.as_deref(), Some("a"), "nothing was put");
    // A writer that was not held up need not look: clean-up cannot have removed an entry meanwhile.
    let sure = put(&log_store, DEAD_LETTERS, 2, "b", &entry("b"), recent).await.unwrap();
    assert!(matches!(sure, Put::Ours), "{sure:?}");
}
