//! Does the jobs at their times, one at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::settings::Meaning;
use adlake_lake::job_notes::{JobNote, Outcome};
use adlake_lake::{Lake, LakeError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::BatchError;
use crate::jobs;
use crate::observer::Silent;
use crate::quality::{Gate, check};
use crate::run::run_checked;
use crate::settings::BatchSettings;
use crate::timetable::{Job, Timetable};

/// How the jobs are doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The job that is being done, since when.
    pub now: Option<(Job, DateTime<Utc>)>,
    /// By job: how it ended last.
    pub last: BTreeMap<&'static str, JobNote>,
    /// By job: when it is done next.
    pub next: BTreeMap<&'static str, DateTime<Utc>>,
}

impl Health {
    /// Whether no job has failed when it was done last.
    pub fn is_well(&self) -> bool {
        self.last.values().all(|note| note.outcome != Outcome::Failed)
    }
}

/// Notes in the lake when a job was done, and how it ended.
pub async fn noted<T>(
    lake: &Lake,
    job: Job,
    work: impl Future<Output = Result<T, BatchError>>,
) -> Result<T, BatchError> {
    let began = Utc::now();
    let done = work.await;
    if let Some(note) = note(job, began, done.as_ref().err()) {
        lake.note_job(&note).await;
    }
    done
}

/// `None`: another process is at work, and makes its own note; or the configuration is wrong, so
/// that nothing was done, maybe not even in the right lake.
fn note(job: Job, began: DateTime<Utc>, error: Option<&BatchError>) -> Option<JobNote> {
    let (outcome, error) = match error {
        None => (Outcome::Done, None),
        Some(BatchError::Stopped) => (Outcome::Stopped, None),
        Some(BatchError::Lake(LakeError::Superseded(_) | LakeError::Configuration(_))) => return None,
        Some(error) => (Outcome::Failed, Some(error.to_string())),
    };
    Some(JobNote { job: job.name().to_string(), began, ended: Utc::now(), outcome, error })
}

/// Does the jobs at their times until it is cancelled. A job that fails is done again at its next
/// time. `health` is told of every change.
pub async fn schedule(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    gate: &Gate,
    health: &watch::Sender<Health>,
    cancel: &CancellationToken,
) -> Result<(), BatchError> {
    settings.check()?;
    let times = settings.schedule.times()?;
    if times.is_empty() {
        let detail = "batch.schedule: no job has times, so there is nothing to wait for";
        return Err(LakeError::Configuration(detail.to_string()).into());
    }
    let notes = lake.job_notes().await?;
    let last = |job: Job| notes.iter().find(|note| note.job == job.name()).map(|note| note.began);
    let jitter = || settings.schedule.jitter.mul_f64(rand::random::<f64>());
    let mut table = Timetable::new(times, settings.schedule.catch_up, Utc::now(), last, jitter);
    loop {
        health.send_modify(|health| {
            health.now = None;
            health.next = table.all().filter_map(|(job, at)| Some((job.name(), at?))).collect();
        });
        let Some((job, at)) = table.next() else {
            let detail = "batch.schedule: no job has a time in the future";
            return Err(LakeError::Configuration(detail.to_string()).into());
        };
        tracing::info!(job = job.name(), at = %at.format("%Y-%m-%dT%H:%M:%SZ"), "the next job");
        if !sleep_until(at, cancel).await {
            return Ok(());
        }
        let began = Utc::now();
        health.send_modify(|health| health.now = Some((job, began)));
        tracing::info!(job = job.name(), "the job begins");
        let done = noted(lake, job, work(lake, meaning, settings, gate, job, cancel)).await;
        let now = Utc::now();
        let seconds = (now - began).as_seconds_f64();
        match &done {
            Ok(()) => tracing::info!(job = job.name(), seconds, "the job is done"),
            Err(BatchError::Stopped) => return Ok(()),
            Err(error) => tracing::error!(job = job.name(), seconds, %error, "the job is not done"),
        }
        if let Some(note) = note(job, began, done.as_ref().err()) {
            health.send_modify(|health| {
                health.last.insert(job.name(), note);
            });
        }
        match done {
            Err(BatchError::Lake(LakeError::Superseded(_))) => table.postponed(job, now, settings.lease_time),
            _ => table.ended(job, now, jitter()),
        }
        if cancel.is_cancelled() {
            return Ok(());
        }
    }
}

async fn work(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    gate: &Gate,
    job: Job,
    cancel: &CancellationToken,
) -> Result<(), BatchError> {
    match job {
        Job::Run => run_checked(lake, meaning, settings, false, gate, Arc::new(Silent), cancel).await.map(|_| ()),
        Job::Check => {
            let report = check(lake, meaning, settings, gate, true, cancel).await?;
            let stopping = report.stopping();
            let names = stopping.iter().map(ToString::to_string).collect();
            if stopping.is_empty() { Ok(()) } else { Err(BatchError::NotMet(names)) }
        }
        Job::Compact => jobs::compact(lake, settings, false, cancel).await.map(|_| ()),
        Job::Vacuum => jobs::vacuum(lake, settings, false, cancel).await.map(|_| ()),
        Job::Checkpoint => tokio::select! {
            done = jobs::checkpoint(lake) => done.map(|_| ()),
            () = cancel.cancelled() => Err(BatchError::Stopped),
        },
    }
}

/// The clock is looked at every few seconds: it may be set, and machines sleep. Returns whether the
/// time has come.
async fn sleep_until(at: DateTime<Utc>, cancel: &CancellationToken) -> bool {
    loop {
        let Ok(left) = (at - Utc::now()).to_std() else { return !cancel.is_cancelled() };
        tokio::select! {
            () = cancel.cancelled() => return false,
            () = tokio::time::sleep(left.min(Duration::from_secs(5))) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_the_job_is_done() {
        let mut health = Health::default();
        assert!(health.is_well());
        let mut end = |error: Option<BatchError>| {
            let note = note(Job::Run, Utc::now(), error.as_ref());
            note.into_iter().for_each(|note| {
                health.last.insert("run", note);
            });
            health.is_well()
        };
        assert!(!end(Some(LakeError::NotFound("no lake".to_string()).into())));
        // Another process was at work. It is not known how this one would end.
        assert!(!end(Some(LakeError::Superseded("taken".to_string()).into())));
        assert!(end(None));
        assert!(end(Some(BatchError::Stopped)));
    }
}
