//! The gate before a batch run's manifest, and the check without a run.
//!
//! What would be published is read through the manifest as it would be committed: the views are
//! those that readers would see, and no reader sees them yet. A failed expectation stops the run.
//! Then the tables get back the rows of the published run, so that nobody who reads a table's
//! newest version sees what was refused.

use std::collections::BTreeMap;
use std::time::Instant;

use adlake_domain::settings::{Display, Meaning};
use adlake_lake::Lake;
use adlake_lake::manifest::Manifest;
use adlake_lake::snapshot::Snapshot;
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::evaluate::Evaluation;
use super::expectation::Expectation;
use super::parse;
use super::results;
use super::settings::{InRuns, QualitySettings};
use crate::error::BatchError;
use crate::quality_report::{Decision, QualityReport, Severity, Status};
use crate::settings::BatchSettings;
use crate::trace;

/// The expectations, and what is done if one fails.
#[derive(Debug, Clone)]
pub struct Gate {
    expectations: Vec<Expectation>,
    in_runs: InRuns,
    examples_max: usize,
    display: Display,
    publish_anyway: Option<String>,
}

impl Gate {
    /// Reads the expectations.
    pub fn new(settings: &QualitySettings, display: &Display) -> Result<Gate, BatchError> {
        Ok(Gate {
            expectations: parse::read(&settings.expectations)?,
            in_runs: settings.in_runs,
            examples_max: settings.examples_max,
            display: display.clone(),
            publish_anyway: None,
        })
    }

    /// A gate that stops nothing, because `who` wants it so.
    #[must_use]
    pub fn open_for(mut self, who: String) -> Gate {
        self.publish_anyway = Some(who);
        self
    }

    /// Only the expectations whose names a filter accepts.
    #[must_use]
    pub fn only(mut self, is_wanted: impl Fn(&str) -> bool) -> Gate {
        self.expectations.retain(|expectation| is_wanted(&expectation.name));
        self
    }

    /// The expectations.
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Evaluates the expectations of a batch run over what its manifest would publish, and appends
    /// the results. `None`: there are none.
    pub(crate) async fn before(
        &self,
        candidate: &Snapshot,
        manifest: &Manifest,
        settings: &BatchSettings,
    ) -> Result<Option<QualityReport>, BatchError> {
        let is_checked = |expectation: &&Expectation| match self.in_runs {
            InRuns::All => true,
            InRuns::Fail => expectation.severity == Severity::Fail,
            InRuns::None => false,
        };
        let expectations: Vec<Expectation> = self.expectations.iter().filter(is_checked).cloned().collect();
        if expectations.is_empty() {
            return Ok(None);
        }
        let mut report = self.evaluate(candidate, &expectations, settings).await?;
        report.run = Some(manifest.run);
        report.decision = match (report.stopping().is_empty(), &self.publish_anyway) {
            (true, _) => Decision::Publish,
            (false, None) => Decision::Refuse,
            (false, Some(who)) => {
                report.decided_by = Some(who.clone());
                Decision::PublishAnyway
            }
        };
        results::append(&candidate.lake, &report).await?;
        Ok(Some(report))
    }

    async fn evaluate(
        &self,
        snapshot: &Snapshot,
        expectations: &[Expectation],
        settings: &BatchSettings,
    ) -> Result<QualityReport, BatchError> {
        let (began, now) = (Instant::now(), Utc::now());
        let lake = &snapshot.lake;
        let outcomes = lake
            .retry(|| async {
                // A session of its own: names that a retry registers are not there yet.
                let context = settings.session.context()?;
                let past = results::past(lake, &context, expectations).await?;
                let evaluation = Evaluation {
                    context: &context,
                    snapshot,
                    display: &self.display,
                    examples_max: self.examples_max,
                    now,
                    past: &past,
                };
                evaluation.outcomes(expectations).await
            })
            .await?;
        for outcome in outcomes.iter().filter(|outcome| outcome.status != Status::Pass) {
            tracing::warn!(
                expectation = outcome.expectation,
                status = outcome.status.name(),
                violating_rows = outcome.violating_rows,
                "an expectation is not met"
            );
        }
        Ok(QualityReport {
            check_id: uuid::Uuid::new_v4().to_string(),
            checked_at: now,
            run: snapshot.manifest.as_ref().map(|manifest| manifest.run),
            decision: Decision::Check,
            decided_by: None,
            outcomes,
            elapsed: began.elapsed(),
        })
    }
}

/// Evaluates the expectations over the lake as it is now, the newest rows included. With `record`
/// the results are appended to `batch/quality`.
pub async fn check(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    gate: &Gate,
    record: bool,
    cancel: &CancellationToken,
) -> Result<QualityReport, BatchError> {
    settings.check()?;
    let work = async {
        let context = settings.session.context()?;
        let snapshot = Snapshot::take(lake, &context, meaning).await?;
        let report = gate.evaluate(&snapshot, &gate.expectations, settings).await?;
        if record {
            results::append(lake, &report).await?;
            results::tidy(lake, &context).await?;
        }
        Ok(report)
    };
    let work = async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(BatchError::Stopped),
            done = work => done,
        }
    };
    trace::job("batch check", Box::pin(work)).await
}

/// Gives tables back the rows of the published run, after a run was refused that has written them.
/// The files of the refused run are in no version that is read, and a vacuum removes them.
pub(crate) async fn withdraw(
    lake: &Lake,
    written: &BTreeMap<String, u64>,
    published: Option<&Manifest>,
) -> Result<(), BatchError> {
    // Tables of another revision may have other columns. Readers keep to the manifest's version.
    if published.is_some_and(|published| !published.is_current()) {
        return Ok(());
    }
    for table in written.keys() {
        let version = published.and_then(|published| published.version(table));
        lake.retry(|| async {
            match version {
                Some(version) => {
                    let replacer = lake.replacer_from(table, version).await?;
                    let kept = replacer.base().to_vec();
                    replacer.commit_keeping(&kept, Vec::new()).await
                }
                None => lake.replacer(table).await?.commit(Vec::new()).await,
            }
        })
        .await?;
    }
    Ok(())
}
