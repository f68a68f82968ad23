//! A batch run: what the plan says, then the manifest.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use adlake_domain::settings::{Meaning, REVISION};
use adlake_lake::lease::{Lease, LeaseState};
use adlake_lake::manifest::Manifest;
use adlake_lake::snapshot::{Amount, Snapshot};
use adlake_lake::views::Plans;
use adlake_lake::{Lake, LakeError};
use chrono::NaiveDate;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::changes;
use crate::engine::Engine;
use crate::error::BatchError;
use crate::full::{self, Scope};
use crate::observer::BatchObserver;
use crate::plan::{self, Facts, Plan, Published};
use crate::publish::{Publication, publish};
use crate::quality::gate::{self, Gate};
use crate::quality_report::{Decision, QualityReport};
use crate::settings::BatchSettings;
use crate::trace;

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The run's number.
    pub run: i64,
    /// Whether it was published. It is not if nothing had changed.
    pub published: bool,
    /// What was done, and why.
    pub plan: Plan,
    /// The rows that were written to each table.
    pub rows: BTreeMap<String, u64>,
    /// The versions that it covers and wrote.
    pub versions: BTreeMap<String, u64>,
    /// The results of the expectations that were checked before it was published.
    pub quality: Option<QualityReport>,
    /// The time that it took.
    pub elapsed: Duration,
}

/// Computes what has changed since the last published run, or everything, and publishes the result.
///
/// Everything is computed if `full`, or if the plan says so ([`plan::Why`]).
pub fn run<'a>(
    lake: &'a Lake,
    meaning: &'a Meaning,
    settings: &'a BatchSettings,
    full: bool,
    observer: Arc<dyn BatchObserver>,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Result<RunReport, BatchError>> {
    // The boxed future is compiled in this crate, and not again in every program that awaits it.
    let work = async move |engine, lease: &Lease| run_leased(engine, full, None, lease).await;
    Box::pin(leased("batch run", lake, meaning, settings, observer, cancel, work))
}

/// The same, but publishes only what meets the expectations of a gate.
pub fn run_checked<'a>(
    lake: &'a Lake,
    meaning: &'a Meaning,
    settings: &'a BatchSettings,
    full: bool,
    gate: &'a Gate,
    observer: Arc<dyn BatchObserver>,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Result<RunReport, BatchError>> {
    let work = async move |engine, lease: &Lease| run_leased(engine, full, Some(gate), lease).await;
    Box::pin(leased("batch run", lake, meaning, settings, observer, cancel, work))
}

/// What a run would do, why, and how much it would read.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// What it would do.
    pub plan: Plan,
    /// How much of each raw table it would read.
    pub reads: BTreeMap<String, Amount>,
    /// The lease that a process holds.
    pub lease: Option<LeaseState>,
}

/// Tells what [`run`] would do now.
pub async fn planned(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    full: bool,
) -> Result<PlanReport, BatchError> {
    settings.check()?;
    let context = settings.session.context()?;
    let snapshot = Snapshot::take(lake, &context, meaning).await?;
    let plan = plan::plan(&facts(lake, &context, &snapshot, meaning, full).await?);
    let mut reads = BTreeMap::new();
    if !matches!(plan, Plan::Nothing { .. }) {
        for kind in EventKind::ALL {
            let amount = snapshot.amount(kind, matches!(plan, Plan::Full { .. })).await?;
            if amount.files > 0 {
                reads.insert(kind.raw_table().to_string(), amount);
            }
        }
    }
    let lease = lake.lease_state().await?.filter(|lease| !lease.released);
    Ok(PlanReport { plan, reads, lease })
}

async fn run_leased(engine: Engine, full: bool, gate: Option<&Gate>, lease: &Lease) -> Result<RunReport, BatchError> {
    let Engine { lake, meaning, .. } = &engine;
    let context = engine.plans.context().clone();
    let snapshot = Snapshot::take(lake, &context, meaning).await?;
    let facts = facts(lake, &context, &snapshot, meaning, full).await?;
    let plan = plan::plan(&facts);
    engine.observer.planned(&plan);
    trace::planned(&plan);
    let covered = snapshot.latest.as_ref().map(|latest| latest.versions.clone()).unwrap_or_default();
    let raw: BTreeMap<String, u64> = facts.newest.clone().into_iter().filter(|(table, _)| is_raw(table)).collect();
    lake.link_commits(&covered, &raw).await;
    let previous = snapshot.latest.clone();
    if let (Plan::Nothing { run }, Some(previous)) = (&plan, &previous) {
        return Ok(RunReport {
            run: *run,
            published: false,
            plan,
            rows: BTreeMap::new(),
            versions: previous.versions.clone(),
            quality: None,
            elapsed: Duration::ZERO,
        });
    }
    let reference = lake.retry(|| lake.campaigns(&context, &facts.newest)).await?;
    let plans = Plans::new(context, meaning, reference.advertisers());
    let engine = Engine { plans, ..engine.clone() };
    let work = async {
        match &plan {
            Plan::Full { .. } => full::full(&engine, &facts.newest, &Scope::All).await,
            _ => changes::apply(&engine, &snapshot).await,
        }
    };
    let tables = engine.until_cancelled(work).await?;
    let mut versions = facts.newest;
    versions.extend(tables.versions.clone());
    let publication = Publication { versions: versions.clone(), meaning: meaning.clone(), revision: REVISION };
    let number = previous.as_ref().map(|previous| previous.run);
    let manifest = publication.manifest(number);
    let candidate = Snapshot { reference: Arc::new(reference), meaning: meaning.clone(), ..snapshot };
    let quality = check(&engine, gate, candidate, &manifest, &tables.versions, lease).await?;
    let run = trace::phase("publish", Box::pin(publish(lake, lease, number, manifest))).await?;
    trace::published(run, tables.rows.values().sum());
    Ok(RunReport { run, published: true, plan, rows: tables.rows, versions, quality, elapsed: Duration::ZERO })
}

/// Checks what a manifest would publish. If it is refused, the written tables get back the rows of
/// the published run, which is the latest of the snapshot.
async fn check(
    engine: &Engine,
    gate: Option<&Gate>,
    snapshot: Snapshot,
    manifest: &Manifest,
    written: &BTreeMap<String, u64>,
    lease: &Lease,
) -> Result<Option<QualityReport>, BatchError> {
    let Some(gate) = gate else { return Ok(None) };
    let previous = snapshot.latest.clone();
    let candidate = Snapshot { latest: Some(manifest.clone()), manifest: Some(manifest.clone()), ..snapshot };
    let checks = engine.until_cancelled(gate.before(&candidate, manifest, &engine.settings));
    let quality = trace::phase("check expectations", Box::pin(checks)).await?;
    match quality {
        Some(report) if report.decision == Decision::Refuse => {
            // Another process may have written the tables since this one lost its lease.
            lease.check().await?;
            gate::withdraw(&engine.lake, written, previous.as_ref()).await?;
            Err(BatchError::Refused(Box::new(report)))
        }
        quality => Ok(quality),
    }
}

/// Computes days anew from the raw rows that the published run covers, and publishes the result if
/// it meets the expectations of a gate. The tables are then what they were, if they were right.
pub fn backfill<'a>(
    lake: &'a Lake,
    meaning: &'a Meaning,
    settings: &'a BatchSettings,
    days: RangeInclusive<NaiveDate>,
    gate: &'a Gate,
    observer: Arc<dyn BatchObserver>,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Result<RunReport, BatchError>> {
    // The boxed future is compiled in this crate, and not again in every program that awaits it.
    let work = async move |engine, lease: &Lease| backfill_leased(engine, days, gate, lease).await;
    Box::pin(leased("batch backfill", lake, meaning, settings, observer, cancel, work))
}

async fn backfill_leased(
    engine: Engine,
    days: RangeInclusive<NaiveDate>,
    gate: &Gate,
    lease: &Lease,
) -> Result<RunReport, BatchError> {
    let Engine { lake, meaning, .. } = &engine;
    let context = engine.plans.context().clone();
    let snapshot = Snapshot::take(lake, &context, meaning).await?;
    let facts = facts(lake, &context, &snapshot, meaning, false).await?;
    let all = |detail: &str| BatchError::Lake(LakeError::Configuration(format!("{detail}: run `adlake batch run`")));
    let (Some(manifest), Some(published)) = (&snapshot.latest, &facts.published) else {
        return Err(all("no batch run was published yet, so there are no days to compute anew"));
    };
    // The tail is merged with tables that follow one set of rules, so all days must.
    if !published.is_current || !published.is_same_meaning || !published.is_same_advertisers {
        return Err(all("the published run was computed by other rules, and all days must follow the same"));
    }
    let plan = Plan::Backfill { run: manifest.run, from: *days.start(), to: *days.end() };
    engine.observer.planned(&plan);
    trace::planned(&plan);
    let day = |date: &NaiveDate| (*date - NaiveDate::default()).num_days() as i32;
    let scope = Scope::Days { days: day(days.start())..=day(days.end()), published: manifest.versions.clone() };
    let plans = Plans::new(context, meaning, snapshot.reference.advertisers());
    let engine = Engine { plans, ..engine.clone() };
    let tables = engine.until_cancelled(full::full(&engine, &manifest.versions, &scope)).await?;
    let mut versions = manifest.versions.clone();
    versions.extend(tables.versions.clone());
    let publication = Publication { versions: versions.clone(), meaning: meaning.clone(), revision: REVISION };
    let (number, next) = (manifest.run, publication.manifest(Some(manifest.run)));
    let quality = check(&engine, Some(gate), snapshot, &next, &tables.versions, lease).await?;
    let run = trace::phase("publish", Box::pin(publish(lake, lease, Some(number), next))).await?;
    trace::published(run, tables.rows.values().sum());
    let (rows, elapsed) = (tables.rows, Duration::ZERO);
    Ok(RunReport { run, published: true, plan, rows, versions, quality, elapsed })
}

/// Does work with a session of its own, while this process holds the lease.
async fn leased(
    job: &str,
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    observer: Arc<dyn BatchObserver>,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(Engine, &Lease) -> Result<RunReport, BatchError>,
) -> Result<RunReport, BatchError> {
    let began = Instant::now();
    settings.check()?;
    lake.create_tables().await?;
    let context = settings.session.context()?;
    let engine = Engine {
        lake: lake.clone(),
        plans: Plans::new(context, meaning, Arc::default()),
        meaning: meaning.clone(),
        settings: settings.clone(),
        observer,
        cancel: cancel.clone(),
    };
    let lease = lake.lease(job, settings.lease_time).await?;
    let ran = async {
        tokio::select! {
            ran = work(engine, &lease) => ran,
            () = lease.lost() => Err(BatchError::lost()),
        }
    };
    let span = trace::job_span(job);
    let ran = ran.instrument(span.clone()).await;
    trace::ended(&span, &ran);
    lease.release().await;
    let mut report = ran?;
    report.elapsed = began.elapsed();
    Ok(report)
}

fn is_raw(table: &str) -> bool {
    EventKind::ALL.iter().any(|kind| kind.raw_table() == table)
}

/// What the lake tells about a run.
async fn facts(
    lake: &Lake,
    context: &SessionContext,
    snapshot: &Snapshot,
    meaning: &Meaning,
    is_full_wanted: bool,
) -> Result<Facts, BatchError> {
    let covered = plan::covered();
    let newest: BTreeMap<String, u64> = snapshot
        .newest
        .iter()
        .filter(|(table, _)| covered.contains(&table.as_str()))
        .map(|(table, version)| (table.clone(), *version))
        .collect();
    let published = match &snapshot.latest {
        None => None,
        Some(manifest) => {
            let campaigns = adlake_domain::catalogue::CAMPAIGNS;
            let is_same_advertisers = manifest.version(campaigns) == newest.get(campaigns).copied() || {
                let newer = lake.retry(|| lake.campaigns(context, &newest)).await?;
                newer.advertisers() == snapshot.reference.advertisers()
            };
            let mut is_log_complete = true;
            for kind in EventKind::ALL {
                let table = kind.raw_table();
                if let (Some(after), Some(to)) = (manifest.version(table), newest.get(table)) {
                    is_log_complete &= after >= *to || lake.has_entry(table, after + 1).await?;
                }
            }
            Some(Published {
                run: manifest.run,
                versions: manifest.versions.clone(),
                is_current: manifest.is_current(),
                is_same_meaning: manifest.meaning == *meaning,
                is_same_advertisers,
                is_log_complete,
            })
        }
    };
    let (mut new, mut all_rows) = (BTreeMap::new(), 0);
    if let Some(published) = published.as_ref().filter(|published| published.is_current && published.is_log_complete) {
        for kind in EventKind::ALL {
            let table = kind.raw_table();
            if published.versions.get(table) != newest.get(table) {
                let amount = snapshot.amount(kind, false).await?;
                if amount.files > 0 {
                    new.insert(table.to_string(), amount.rows);
                }
            }
        }
        if !new.is_empty() {
            for kind in EventKind::ALL {
                all_rows += snapshot.amount(kind, true).await?.rows;
            }
        }
    }
    Ok(Facts { newest, published, is_full_wanted, new, all_rows })
}
