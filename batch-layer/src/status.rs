//! How the batch layer is doing: the published runs, what is new since, the last jobs.

use adlake_domain::settings::Meaning;
use adlake_lake::Lake;
use adlake_lake::job_notes::JobNote;
use adlake_lake::manifest::Manifest;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::BatchError;
use crate::run::{PlanReport, planned};
use crate::settings::BatchSettings;

/// How the batch layer is doing.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// The runs that the manifest table has, the newest first. Their tables can be published again
    /// as long as their files are there.
    pub runs: Vec<PublishedRun>,
    /// What a run would do now, and who holds the lease.
    #[serde(flatten)]
    pub next: PlanReport,
    /// How the last job of each kind has ended.
    pub jobs: Vec<JobNote>,
}

/// A published run.
#[derive(Debug, Clone, Serialize)]
pub struct PublishedRun {
    /// Its number.
    pub run: i64,
    /// Its id.
    pub run_id: String,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Whether this program computes by the same rules.
    pub is_current: bool,
}

/// Tells how the batch layer is doing.
pub async fn status(lake: &Lake, meaning: &Meaning, settings: &BatchSettings) -> Result<StatusReport, BatchError> {
    let next = planned(lake, meaning, settings, false).await?;
    let context = settings.session.context()?;
    let runs = Manifest::all(lake, &context).await?.into_iter().rev().map(|manifest| PublishedRun {
        is_current: manifest.is_current(),
        run: manifest.run,
        run_id: manifest.run_id,
        published_at: DateTime::from_timestamp_micros(manifest.published_at).unwrap_or_default(),
    });
    Ok(StatusReport { runs: runs.collect(), next, jobs: lake.job_notes().await? })
}
