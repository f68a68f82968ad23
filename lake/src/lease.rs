//! The lease of the batch layer: of all processes one at a time writes batch tables.
//!
//! A lease is a file in `batch/manifest/_lease`, whose name is a number. Whoever creates the next
//! number holds the lease: to take it, to renew it and to release it is the same conditional PUT,
//! so the store decides, and every holder has its number as its fence. A lease that is not renewed
//! in time may be taken.
//!
//! The evaluator of alarms has a lease of its own, in `batch/alarms/_lease`.
//!
//! The lease saves work that would be lost: without it, results would be right too, because each
//! commit and the manifest are conditional. A holder that was frozen and wakes finds that the next
//! number is there, and ends ([`LakeError::Superseded`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adlake_domain::catalogue::{ALARMS, MANIFEST};
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::error::LakeError;
use crate::failpoint;
use crate::storage::Lake;

const FOLDER: &str = "_lease";

/// What a lease's file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// Who holds it: a random id.
    pub holder: String,
    /// What the holder does.
    pub job: String,
    /// Its machine and process, for people.
    pub process: String,
    /// When it was taken or renewed, by the holder's clock.
    pub at: DateTime<Utc>,
    /// For how many seconds it holds.
    pub seconds: u64,
    /// Whether it was given back.
    pub released: bool,
}

/// A lease that this process holds. It is renewed in the background until it is released or
/// dropped.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    lost: watch::Receiver<bool>,
    renewal: JoinHandle<()>,
}

#[derive(Debug)]
struct Held {
    lake: Lake,
    /// The table in whose folder the lease is.
    table: &'static str,
    store: Arc<dyn ObjectStore>,
    /// The number of the file that this process has created last.
    number: AtomicU64,
    state: LeaseState,
}

impl Lake {
    /// Takes the lease for a job. If another process holds it, the error is
    /// [`LakeError::Superseded`] and says who.
    pub async fn lease(&self, job: &str, time: Duration) -> Result<Lease, LakeError> {
        self.lease_of(MANIFEST, job, time).await
    }

    /// Takes the lease of the evaluator of alarms, in the same way.
    pub async fn alarms_lease(&self, time: Duration) -> Result<Lease, LakeError> {
        self.lease_of(ALARMS, "alarms", time).await
    }

    async fn lease_of(&self, table: &'static str, job: &str, time: Duration) -> Result<Lease, LakeError> {
        let store = self.log_store(table)?.object_store(None);
        let state = LeaseState {
            holder: Uuid::new_v4().to_string(),
            job: job.to_string(),
            process: process(),
            at: Utc::now(),
            seconds: time.as_secs().max(1),
            released: false,
        };
        let held = Arc::new(Held { lake: self.clone(), table, store, number: AtomicU64::new(0), state });
        let newest = self.retry(|| newest(table, held.store.as_ref())).await?;
        if let Some(found) = &newest
            && !found.is_free(Utc::now())
        {
            return Err(taken(table, &found.state));
        }
        held.put(newest.map_or(1, |found| found.number + 1), false).await?;
        failpoint::hit(failpoint::LEASE_TAKEN);
        let (tell, lost) = watch::channel(false);
        let renewed = held.clone();
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(time / 3).await;
                let next = renewed.number.load(Ordering::SeqCst) + 1;
                match renewed.put(next, false).await {
                    Ok(()) => renewed.forget(next).await,
                    Err(LakeError::Superseded(_)) => {
                        let _ = tell.send(true);
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "a lease was not renewed"),
                }
            }
        });
        Ok(Lease { held, lost, renewal })
    }

    /// The lease's newest file. `None`: no process ever took it.
    pub async fn lease_state(&self) -> Result<Option<LeaseState>, LakeError> {
        let store = self.log_store(MANIFEST)?.object_store(None);
        Ok(self.retry(|| newest(MANIFEST, store.as_ref())).await?.map(|found| found.state))
    }
}

impl Lease {
    /// Ends when another process has taken the lease.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost).await.is_err() {
            // The renewal ended without a loss.
            std::future::pending::<()>().await;
        }
    }

    /// Fails if another process has taken the lease. To be called before a commit.
    pub async fn check(&self) -> Result<(), LakeError> {
        let found = self.held.lake.retry(|| newest(self.held.table, self.held.store.as_ref())).await?;
        match found {
            Some(found) if found.state.holder != self.held.state.holder => Err(taken(self.held.table, &found.state)),
            _ => Ok(()),
        }
    }

    /// Gives the lease back.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.give_back().await {
            tracing::warn!(%error, "a lease was not given back; it expires");
        }
    }

    /// Nothing is given back if another process has taken the lease.
    async fn give_back(&self) -> Result<(), LakeError> {
        // The renewal may have created a number that this process does not know yet.
        let found = self.held.lake.retry(|| newest(self.held.table, self.held.store.as_ref())).await?;
        let Some(found) = found.filter(|found| found.state.holder == self.held.state.holder) else { return Ok(()) };
        match self.held.put(found.number + 1, true).await {
            Ok(()) => {
                self.held.forget(found.number + 1).await;
                Ok(())
            }
            Err(LakeError::Superseded(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Held {
    /// Creates a number. If another process has created it, the error is
    /// [`LakeError::Superseded`].
    async fn put(&self, number: u64, released: bool) -> Result<(), LakeError> {
        let state = LeaseState { at: Utc::now(), released, ..self.state.clone() };
        let table = self.table;
        let bytes = serde_json::to_vec(&state).map_err(|error| LakeError::rows(table, error))?;
        let path = path(number);
        let create = || async {
            let options = PutOptions::from(PutMode::Create);
            match self.store.put_opts(&path, bytes.clone().into(), options).await {
                Ok(_) => Ok(()),
                // It may be ours: an earlier answer may have been lost.
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    let found = read(table, self.store.as_ref(), number).await?;
                    match found {
                        Some(found) if found.holder == self.state.holder && found.released == released => Ok(()),
                        Some(found) => Err(taken(table, &found)),
                        None => Err(self.why_refused(number).await?),
                    }
                }
                Err(error) => Err(LakeError::store(format!("{table}/{path}"), error)),
            }
        };
        self.lake.retry(create).await?;
        self.number.store(number, Ordering::SeqCst);
        // A number whose file was removed can be created again. So only the newest number counts.
        match self.lake.retry(|| newest(self.table, self.store.as_ref())).await? {
            Some(found) if found.number > number => Err(taken(table, &found.state)),
            _ => Ok(()),
        }
    }

    /// Why a number is refused that has no file: its file was removed, because there are newer
    /// ones; or the answer of the store is wrong, and the number is free.
    async fn why_refused(&self, number: u64) -> Result<LakeError, LakeError> {
        Ok(match newest(self.table, self.store.as_ref()).await? {
            Some(found) if found.number > number => taken(self.table, &found.state),
            _ => refused_without_reason(self.table, number),
        })
    }

    /// Removes the files before a number.
    async fn forget(&self, number: u64) {
        let Ok(numbers) = numbers(self.table, self.store.as_ref()).await else { return };
        for (old, _) in numbers.into_iter().filter(|(old, _)| *old < number) {
            let _ = self.store.delete(&path(old)).await;
        }
    }
}

struct Found {
    number: u64,
    modified: DateTime<Utc>,
    state: LeaseState,
}

impl Found {
    fn is_free(&self, now: DateTime<Utc>) -> bool {
        let seconds = i64::try_from(self.state.seconds).unwrap_or(i64::MAX);
        let time = TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX);
        self.state.released || now.signed_duration_since(self.modified) > time
    }
}

fn path(number: u64) -> Path {
    Path::from(format!("{FOLDER}/{number:020}.json"))
}

/// The numbers that are there, and when they were created.
async fn numbers(table: &str, store: &dyn ObjectStore) -> Result<Vec<(u64, DateTime<Utc>)>, LakeError> {
    let folder = Path::from(FOLDER);
    let files = store.list(Some(&folder)).try_collect::<Vec<_>>().await;
    let files = files.map_err(|error| LakeError::store(format!("{table}/{FOLDER}"), error))?;
    let number = |file: &object_store::ObjectMeta| file.location.filename()?.strip_suffix(".json")?.parse().ok();
    Ok(files.iter().filter_map(|file| Some((number(file)?, file.last_modified))).collect())
}

async fn newest(table: &str, store: &dyn ObjectStore) -> Result<Option<Found>, LakeError> {
    loop {
        let Some((number, modified)) = numbers(table, store).await?.into_iter().max() else { return Ok(None) };
        // A file that was removed meanwhile has a successor.
        if let Some(state) = read(table, store, number).await? {
            return Ok(Some(Found { number, modified, state }));
        }
    }
}

async fn read(table: &str, store: &dyn ObjectStore, number: u64) -> Result<Option<LeaseState>, LakeError> {
    let path = path(number);
    let read = async { store.get(&path).await?.bytes().await };
    match read.await {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| LakeError::Corrupt(format!("{table}/{path}: {error}"))),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(LakeError::store(format!("{table}/{path}"), error)),
    }
}

fn taken(table: &str, state: &LeaseState) -> LakeError {
    let lease = if table == MANIFEST { "batch lease" } else { "lease of the alarms" };
    LakeError::Superseded(format!(
        "`{}` ({}) holds the {lease} since {}; it expires {} s after it was last renewed",
        state.job,
        state.process,
        state.at.format("%Y-%m-%d %H:%M:%S UTC"),
        state.seconds
    ))
}

fn refused_without_reason(table: &str, number: u64) -> LakeError {
    LakeError::Unavailable {
        subject: format!("{table}/{}", path(number)),
        source: "the store refuses to create the file, as if it were there, but it is not".into(),
    }
}

fn process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}", std::process::id(), if host.trim().is_empty() { "this machine" } else { host.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageSettings;

    async fn lake(folder: &tempfile::TempDir) -> Lake {
        let uri = folder.path().to_string_lossy().into_owned();
        Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn one_process_at_a_time_holds_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let first = lake.lease("run", Duration::from_secs(60)).await.unwrap();
        let refused = lake.lease("compact", Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(refused, LakeError::Superseded(_)) && refused.to_string().contains("`run`"), "{refused}");
        first.check().await.unwrap();
        first.release().await;
        let second = lake.lease("compact", Duration::from_secs(60)).await.unwrap();
        assert_eq!(lake.lease_state().await.unwrap().unwrap().job, "compact");
        second.release().await;
        assert_eq!(
            numbers(MANIFEST, lake.log_store(MANIFEST).unwrap().object_store(None).as_ref()).await.unwrap().len(),
            1
        );
    }

    #[tokio::test]
    async fn a_lease_is_renewed_and_one_that_is_not_may_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let first = lake.lease("run", Duration::from_secs(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(lake.lease("compact", Duration::from_secs(1)).await.is_err(), "a lease that is renewed was taken");
        // The process is frozen.
        first.renewal.abort();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let second = lake.lease("compact", Duration::from_secs(60)).await.unwrap();
        // It wakes.
        assert!(matches!(first.check().await, Err(LakeError::Superseded(_))));
        second.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_number_that_was_removed_gives_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let frozen = lake.lease("run", Duration::from_secs(1)).await.unwrap();
        frozen.renewal.abort();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let second = lake.lease("compact", Duration::from_secs(60)).await.unwrap();
        // The second renews, and removes the number that the first would create next.
        second.held.put(3, false).await.unwrap();
        second.held.forget(3).await;
        let renewed = frozen.held.put(2, false).await;
        assert!(matches!(renewed, Err(LakeError::Superseded(_))), "{renewed:?}");
        frozen.release().await;
        assert_eq!(lake.lease_state().await.unwrap().unwrap().job, "compact");
        second.check().await.unwrap();
    }

    #[tokio::test]
    async fn what_the_renewal_has_just_created_is_given_back_too() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let lease = lake.lease("run", Duration::from_secs(60)).await.unwrap();
        lease.held.put(2, false).await.unwrap();
        // The renewal was stopped before it noted its number.
        lease.held.number.store(1, Ordering::SeqCst);
        lease.release().await;
        lake.lease("compact", Duration::from_secs(60)).await.unwrap();
    }

    #[tokio::test]
    async fn a_number_that_is_refused_without_reason_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let first = lake.lease("run", Duration::from_secs(60)).await.unwrap();
        // As if the store had refused the number 2.
        let refused = first.held.why_refused(2).await.unwrap();
        assert!(refused.is_retryable() && refused.to_string().contains("00000002.json"), "{refused}");
        // As if it had refused a number that was removed since.
        first.held.put(2, false).await.unwrap();
        first.held.forget(2).await;
        assert!(matches!(first.held.why_refused(1).await.unwrap(), LakeError::Superseded(_)));
    }

    #[tokio::test]
    async fn of_many_processes_one_gets_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(&folder).await;
        let wanted = (0..8).map(|_| lake.lease("run", Duration::from_secs(60)));
        let got = futures::future::join_all(wanted).await;
        assert_eq!(got.iter().filter(|lease| lease.is_ok()).count(), 1);
    }
}
