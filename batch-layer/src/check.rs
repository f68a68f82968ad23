//! Checks a lake: that it is whole ([`adlake_lake::verify`]), and that the published batch tables
//! are what the raw tables give.
//!
//! Each table is compared with what its sources give, for some days or for all:
//!
//! 1. The events of a day with the raw rows, at the versions that the run covers. For that, the
//!    keys of all raw rows are read: an event of the day may have copies on other days.
//! 2. The attributions with the published events, once these are known to be right on the day and
//!    on all days before it that can matter.
//! 3. Sums and sketches with the published events and attributions of the day, likewise; and the
//!    sums by campaign with the published sums.
//! 4. What users did with the published events and attributions, if all days are compared. Their
//!    segments are not compared: the run may have had other rules.
//!
//! A table is not compared if one of its sources is wrong: it would differ for the same reason. So
//! nothing is listed twice. Nothing is written, and no lease is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::CAMPAIGNS;
use adlake_domain::event::EventKind;
use adlake_domain::segments::Segments;
use adlake_domain::settings::Report as Hours;
use adlake_domain::time;
use adlake_lake::Lake;
use adlake_lake::manifest::Manifest;
use adlake_lake::verify::{Checked, Finding, RunState, Skipped, Verification, VerifyOptions};
use adlake_lake::views::plans::BatchTable;
use adlake_lake::views::{Day, Plans};
use datafusion::common::DataFusionError;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::report::{Compared, Report, certain, date};
use crate::compare::{Differences, RowStream, compare};
use crate::engine::{Engine, plan_name};
use crate::error::BatchError;
use crate::observer::BatchObserver;
use crate::settings::BatchSettings;
use crate::slices::slices;

mod report;

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// Whether every column of every data file is decoded.
    pub deep: bool,
    /// What is recomputed.
    pub recompute: Recompute,
    /// How many runs before the last one are looked at.
    pub runs_max: usize,
}

/// The days that are recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// None.
    Nothing,
    /// So many of the newest days that have rows.
    Newest(usize),
    /// All days.
    All,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Whether nothing is wrong.
    pub is_sound: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
    /// How much was recomputed and compared.
    pub recomputed: Recomputed,
    /// The published runs that were looked at, the last one first.
    pub runs: Vec<RunState>,
    /// What was not looked at, and why.
    pub skipped: Vec<Skipped>,
    /// The time that it took.
    pub elapsed: Duration,
}

/// How much was recomputed and compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recomputed {
    /// The run.
    pub run: Option<i64>,
    /// The UTC dates whose sums were compared.
    pub dates: Vec<String>,
    /// The rows of each table.
    pub rows: BTreeMap<String, u64>,
}

/// Checks a lake. If there is none, the error is [`adlake_lake::LakeError::NotFound`]. The observer
/// is told the names of tables that are looked at, and how many rows were compared.
pub async fn check(
    lake: &Lake,
    settings: &BatchSettings,
    options: &CheckOptions,
    observer: Arc<dyn BatchObserver>,
    cancel: &CancellationToken,
) -> Result<CheckReport, BatchError> {
    settings.check()?;
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(BatchError::Stopped),
        done = Box::pin(check_now(lake, settings, options, observer, cancel)) => done,
    }
}

async fn check_now(
    lake: &Lake,
    settings: &BatchSettings,
    options: &CheckOptions,
    observer: Arc<dyn BatchObserver>,
    cancel: &CancellationToken,
) -> Result<CheckReport, BatchError> {
    let began = Instant::now();
    let context = settings.session.context()?;
    let verify = VerifyOptions {
        deep: options.deep,
        workers: settings.workers(),
        retention: settings.vacuum_retention,
        runs_max: options.runs_max,
    };
    let verified = lake.verify(&context, &verify, &|table| observer.begin(table)).await?;
    let mut report = Report { verified, recomputed: Recomputed::default(), wrong: BTreeSet::new() };
    if options.recompute != Recompute::Nothing
        && let Some(manifest) = report.verified.manifest.clone()
    {
        if manifest.is_current() {
            if report.is_damaged(CAMPAIGNS) {
                report.skip("recomputation", "ref/campaigns is damaged");
            } else {
                let reference = lake.retry(|| lake.campaigns(&context, &manifest.versions)).await?;
                let engine = Engine {
                    lake: lake.clone(),
                    plans: Plans::new(context, &manifest.meaning, reference.advertisers()),
                    meaning: manifest.meaning.clone(),
                    settings: settings.clone(),
                    observer,
                    cancel: cancel.clone(),
                };
                recompute(&engine, &manifest, options.recompute, &mut report).await?;
            }
        } else {
            report.skip("recomputation", "another version of adlake has computed the published run, by other rules");
        }
    }
    let Report { verified, recomputed, .. } = report;
    let Verification { findings, checked, runs, skipped, .. } = verified;
    let is_sound = findings.is_empty();
    Ok(CheckReport { is_sound, findings, checked, recomputed, runs, skipped, elapsed: began.elapsed() })
}

/// The UTC days of each table that are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Scope {
    /// Of sums and sketches.
    cubes: BTreeSet<Day>,
    /// Of attributions and bid requests: all days with events in the hours and days of `cubes`.
    events: BTreeSet<Day>,
    /// Of impressions and interactions: `events`, and what can affect the attributions there.
    context: BTreeSet<Day>,
}

/// Decides which days are compared. `there` are the days that have rows in some table. The sums and
/// sketches of a day are of events on the days that `touched` tells. Attributions depend on
/// events up to `before` days earlier.
fn scope(there: &BTreeSet<Day>, wanted: Recompute, touched: impl Fn(Day) -> RangeInclusive<Day>, before: i32) -> Scope {
    let newest = match wanted {
        Recompute::Nothing => 0,
        Recompute::Newest(count) => count,
        Recompute::All => {
            // An hour that began on the day before may hold events of this day.
            let earlier = there.iter().filter(|day| touched(Day(day.0 - 1)).contains(day)).map(|day| Day(day.0 - 1));
            let cubes = there.iter().copied().chain(earlier).collect();
            return Scope { cubes, events: there.clone(), context: there.clone() };
        }
    };
    let cubes: BTreeSet<Day> = there.iter().rev().take(newest).copied().collect();
    let events: BTreeSet<Day> = cubes.iter().flat_map(|day| there.range(touched(*day))).copied().collect();
    let is_context = |day: &&Day| events.range(**day..=Day(day.0.saturating_add(before))).next().is_some();
    let context = there.iter().filter(is_context).copied().collect();
    Scope { cubes, events, context }
}

/// The time of the sums that a day of `campaign_hourly` or `campaign_reach` has.
fn time_of(table: BatchTable, day: Day, hours: &Hours) -> Range<i64> {
    let zone = hours.time_zone;
    match table {
        BatchTable::Reach => time::first_day_of(day.0, zone)..time::first_day_of(day.0 + 1, zone),
        _ => time::first_hour_of(day.0, zone)..time::first_hour_of(day.0 + 1, zone),
    }
}

/// The days of the events that the sums and sketches of a day are of.
fn touched(day: Day, hours: &Hours) -> RangeInclusive<Day> {
    let ends = [BatchTable::Hourly, BatchTable::Reach].map(|table| time_of(table, day, hours).end - 1);
    day..=Day(time::event_date(ends[0].max(ends[1]))).max(day)
}

async fn recompute(
    engine: &Engine,
    manifest: &Manifest,
    wanted: Recompute,
    report: &mut Report,
) -> Result<(), BatchError> {
    let tables = EventKind::ALL.map(EventKind::raw_table).into_iter().chain(BatchTable::ALL.map(BatchTable::name));
    let mut there = BTreeSet::new();
    for table in tables {
        if let (Some(version), false) = (manifest.version(table), report.is_damaged(table)) {
            let files = engine.lake.files_at(table, version).await?;
            there.extend(files.iter().filter(|file| file.rows != Some(0)).filter_map(|file| file.day()).map(Day));
        }
    }
    for table in BatchTable::ALL {
        if let (Some(version), false) = (manifest.version(table.name()), report.is_damaged(table.name())) {
            engine.plans.register(plan_name(table), engine.lake.known_columns(table.name(), version).await?)?;
        }
    }
    // Refunds look back much further than other interactions. If the table of interactions is not
    // there, attributions are not compared.
    let interactions = BatchTable::Events(EventKind::Interaction);
    let has_refunds = || async { Ok::<_, BatchError>(engine.plans.has_refunds(plan_name(interactions)).await?) };
    let with_refunds = manifest.version(interactions.name()).is_some()
        && !report.is_damaged(interactions.name())
        && certain(engine.lake.retry(has_refunds).await)?.unwrap_or(true);
    let hours = &engine.meaning.report;
    let scope = scope(&there, wanted, |day| touched(day, hours), engine.plans.context_days(with_refunds));
    report.recomputed.run = Some(manifest.run);
    report.recomputed.dates = scope.cubes.iter().map(|day| date(*day).to_string()).collect();
    for kind in EventKind::ALL {
        let days = if kind == EventKind::BidRequest { &scope.events } else { &scope.context };
        events(engine, manifest, kind, days, report).await?;
    }
    attributions(engine, manifest, &scope, wanted, with_refunds, report).await?;
    cubes(engine, manifest, BatchTable::Hourly, &scope, report).await?;
    cubes(engine, manifest, BatchTable::Rollup, &scope, report).await?;
    cubes(engine, manifest, BatchTable::Reach, &scope, report).await?;
    // Each of its rows is of all days.
    if wanted == Recompute::All {
        users(engine, manifest, report).await?;
    }
    Ok(())
}

/// Compares the events of some days with the raw rows.
async fn events(
    engine: &Engine,
    manifest: &Manifest,
    kind: EventKind,
    days: &BTreeSet<Day>,
    report: &mut Report,
) -> Result<(), BatchError> {
    let table = BatchTable::Events(kind);
    if !report.can_compare(table, manifest, &[kind.raw_table()]) {
        return Ok(());
    }
    let Some(version) = manifest.version(kind.raw_table()) else { return Ok(()) };
    engine.observer.begin(table.name());
    engine
        .plans
        .register(&format!("raw_{}", kind.table()), engine.lake.known_columns(kind.raw_table(), version).await?)?;
    let prepare = || async { Ok::<_, BatchError>(engine.plans.prepare_events(kind).await?) };
    let _copies = match engine.lake.retry(prepare).await {
        Ok(copies) => copies,
        Err(error) => {
            let failed = certain(Err(error))?;
            report.take(table, manifest, None, failed);
            return Ok(());
        }
    };
    let compared = engine
        .each(days.iter().copied().collect(), move |engine, day| async move {
            let schema = Plans::schema_of(table);
            let compared = async {
                let frame = engine.plans.events_of(kind, day).await?;
                let recomputed = engine.plans.stream(frame, schema).await?;
                let published = published(&engine, table, &format!("event_date = {}", day.literal())).await?;
                Ok(compare(table, recomputed.boxed(), published).await?)
            };
            finish(&engine, table, day, engine.lake.watch(compared).await)
        })
        .await?;
    for (day, compared) in compared {
        report.take(table, manifest, Some(day), compared);
    }
    Ok(())
}

/// Compares the attributions of some days, or all, with those of the published events.
async fn attributions(
    engine: &Engine,
    manifest: &Manifest,
    scope: &Scope,
    wanted: Recompute,
    with_refunds: bool,
    report: &mut Report,
) -> Result<(), BatchError> {
    let table = BatchTable::Attributions;
    let sources = [EventKind::Impression, EventKind::Interaction].map(EventKind::batch_table);
    if !report.can_compare(table, manifest, &sources) || scope.events.is_empty() {
        return Ok(());
    }
    engine.observer.begin(table.name());
    let compared = || async {
        let (frame, condition) = match wanted {
            Recompute::All => (engine.plans.attributions("impressions", "interactions").await?, "true".to_string()),
            _ => {
                let days: Vec<String> = scope.events.iter().map(|day| day.literal()).collect();
                let frame = engine.plans.attributions_of(&scope.events, with_refunds).await?;
                (frame, format!("event_date IN ({})", days.join(", ")))
            }
        };
        engine.plans.register("attributed", frame.into_view())?;
        let frame = engine.plans.sql(&format!("SELECT * FROM attributed ORDER BY {}", table.order())).await?;
        let recomputed = engine.plans.stream(frame, Plans::schema_of(table)).await?;
        let published = published(engine, table, &condition).await?;
        Ok::<_, BatchError>(compare(table, recomputed.boxed(), published).await?)
    };
    let compared = certain(engine.lake.retry(compared).await)?;
    report.take(table, manifest, None, compared);
    Ok(())
}

/// Compares sums or sketches of some days with those of the published events and attributions.
async fn cubes(
    engine: &Engine,
    manifest: &Manifest,
    table: BatchTable,
    scope: &Scope,
    report: &mut Report,
) -> Result<(), BatchError> {
    let all = BatchTable::ALL.map(BatchTable::name);
    let sources = match table {
        BatchTable::Hourly => &all[..4],
        BatchTable::Rollup => &all[4..5],
        _ => &all[..1],
    };
    if !report.can_compare(table, manifest, sources) {
        return Ok(());
    }
    engine.observer.begin(table.name());
    let compared = engine
        .each(scope.cubes.iter().copied().collect(), move |engine, day| async move {
            let compared = async {
                let rows = recomputed(&engine, table, day).await?;
                let published = published(&engine, table, &format!("event_date = {}", day.literal())).await?;
                Ok(compare(table, rows, published).await?)
            };
            finish(&engine, table, day, engine.lake.watch(compared).await)
        })
        .await?;
    for (day, compared) in compared {
        report.take(table, manifest, Some(day), compared);
    }
    Ok(())
}

/// Compares what each user did with the published events and attributions.
async fn users(engine: &Engine, manifest: &Manifest, report: &mut Report) -> Result<(), BatchError> {
    let table = BatchTable::Users;
    let all = BatchTable::ALL.map(BatchTable::name);
    if !report.can_compare(table, manifest, &[all[0], all[1], all[3]]) {
        return Ok(());
    }
    engine.observer.begin(table.name());
    // The rules of the segments are not those of the events: the run may have had others.
    let columns: Vec<String> = Plans::schema_of(table)
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "segment" => "CAST(NULL AS VARCHAR) AS segment".to_owned(),
            name => name.to_owned(),
        })
        .collect();
    let compared = || async {
        let (frame, _kept) = engine.plans.user_segments(&Segments { rule: Vec::new() }).await?;
        engine.plans.register("recomputed_users", frame.into_view())?;
        let rows = async |name: &str| {
            let sql = format!("SELECT {} FROM {name} ORDER BY {}", columns.join(", "), table.order());
            engine.plans.stream(engine.plans.sql(&sql).await?, Plans::schema_of(table)).await
        };
        let (recomputed, published) = (rows("recomputed_users").await?, rows(plan_name(table)).await?);
        Ok::<_, BatchError>(compare(table, recomputed.boxed(), published.boxed()).await?)
    };
    let compared = certain(engine.lake.retry(compared).await)?;
    report.take(table, manifest, None, compared);
    Ok(())
}

/// The sums or sketches of a day, in the table's order.
async fn recomputed(engine: &Engine, table: BatchTable, day: Day) -> Result<RowStream<'_>, BatchError> {
    let (plans, is_hourly) = (&engine.plans, table == BatchTable::Hourly);
    if table == BatchTable::Rollup {
        let frame = plans.rollup(plan_name(BatchTable::Hourly), day).await?;
        return Ok(plans.stream(frame, Plans::schema_of(table)).await?.boxed());
    }
    let range = time_of(table, day, &engine.meaning.report);
    let cut = match range.is_empty() {
        true => Vec::new(),
        false => slices(&range, &plans.volumes(range.clone()).await?, engine.settings.slice_events, is_hourly),
    };
    // Slices are in the order of the table.
    let rows = stream::iter(cut).then(move |slice| async move {
        let frame = if is_hourly { plans.hourly(&slice).await? } else { plans.reach(&slice).await? };
        plans.stream(frame, Plans::schema_of(table)).await
    });
    Ok(rows.try_flatten().boxed())
}

/// The result of a day. The observer is told of its rows.
fn finish(
    engine: &Engine,
    table: BatchTable,
    day: Day,
    compared: Result<Differences, BatchError>,
) -> Result<(Day, Compared), BatchError> {
    let compared = certain(compared)?;
    if let Ok(found) = &compared {
        engine.observer.rows(table.name(), found.rows);
    }
    Ok((day, compared))
}

/// The published rows of a table for which a condition holds, in the table's order.
async fn published(engine: &Engine, table: BatchTable, condition: &str) -> Result<RowStream<'static>, DataFusionError> {
    let (name, order) = (plan_name(table), table.order());
    let frame = engine.plans.sql(&format!("SELECT * FROM {name} WHERE {condition} ORDER BY {order}")).await?;
    Ok(engine.plans.stream(frame, Plans::schema_of(table)).await?.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: &[i32]) -> BTreeSet<Day> {
        days.iter().copied().map(Day).collect()
    }

    #[test]
    fn the_newest_days_are_compared_with_all_that_they_depend_on() {
        let there = days(&[1, 2, 5, 6, 7, 9, 10]);
        let check = |wanted, spill: i32, expected: [&[i32]; 3]| {
            let scope = scope(&there, wanted, |day| day..=Day(day.0 + spill), 3);
            let [cubes, events, context] = expected.map(days);
            assert_eq!(scope, Scope { cubes, events, context }, "{wanted:?} {spill}");
        };
        check(Recompute::Newest(2), 0, [&[9, 10], &[9, 10], &[6, 7, 9, 10]]);
        check(Recompute::Newest(3), 1, [&[7, 9, 10], &[7, 9, 10], &[5, 6, 7, 9, 10]]);
        check(Recompute::Newest(1), 0, [&[10], &[10], &[7, 9, 10]]);
        check(Recompute::Newest(99), 0, [&[1, 2, 5, 6, 7, 9, 10]; 3]);
        check(Recompute::Nothing, 0, [&[], &[], &[]]);
        let all: &[i32] = &[1, 2, 5, 6, 7, 9, 10];
        check(Recompute::All, 0, [all, all, all]);
        check(Recompute::All, 1, [&[0, 1, 2, 4, 5, 6, 7, 8, 9, 10], all, all]);
    }

    #[test]
    fn a_day_of_sums_has_the_events_of_its_hours_and_of_its_day() {
        let check = |zone: &str, expected: i32| {
            let hours = Hours { time_zone: zone.parse().unwrap() };
            assert_eq!(touched(Day(20_000), &hours), Day(20_000)..=Day(expected), "{zone}");
        };
        check("UTC", 20_000);
        check("Europe/Berlin", 20_001);
        check("Asia/Kolkata", 20_001);
        check("America/Los_Angeles", 20_001);
    }
}
