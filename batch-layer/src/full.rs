//! A full run: everything is computed from the raw tables.
//!
//! 1. For each kind of event, the identities with several rows are found by their keys alone, and
//!    their winners are decided.
//! 2. Each day of events is read once. Its rows that win are resolved, ordered and written. A day
//!    needs nothing of other days but the winners of step 1.
//! 3. Attributions are computed from the written events, by user.
//! 4. Sums and sketches are computed from the written events, slice by slice, and from the sums
//!    those by campaign alone.
//! 5. What each user did, from the written events.
//!
//! Days and slices are independent of each other, so several are worked on at a time.
//!
//! A backfill does the same for some days, from the raw rows that the published run covers. The
//! files of the other days stay.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use adlake_domain::event::EventKind;
use adlake_domain::time;
use adlake_lake::views::Day;
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{LakeError, LiveFile, failpoint};

use crate::engine::{Engine, Tables, Written, plan_name};
use crate::error::BatchError;
use crate::slices::slices;
use crate::trace;

/// Which days are computed.
#[derive(Debug, Clone)]
pub(crate) enum Scope {
    /// All.
    All,
    /// These. All else is as in the published tables, whose versions are given.
    Days { days: RangeInclusive<i32>, published: BTreeMap<String, u64> },
}

impl Scope {
    fn has(&self, day: Day) -> bool {
        match self {
            Scope::All => true,
            Scope::Days { days, .. } => days.contains(&day.0),
        }
    }

    /// The same with the day before: hours and days of the report's zone may begin on it.
    fn with_eve(&self) -> Scope {
        match self {
            Scope::All => Scope::All,
            Scope::Days { days, published } => {
                Scope::Days { days: days.start() - 1..=*days.end(), published: published.clone() }
            }
        }
    }

    fn predicate(&self) -> String {
        match self {
            Scope::All => String::new(),
            Scope::Days { days, .. } => {
                let (from, to) = (Day(*days.start()).literal(), Day(*days.end()).literal());
                format!("WHERE event_date BETWEEN {from} AND {to} ")
            }
        }
    }
}

/// Writes the days of all batch tables. `raw` are the versions of the raw tables.
pub(crate) async fn full(engine: &Engine, raw: &BTreeMap<String, u64>, scope: &Scope) -> Result<Tables, BatchError> {
    let mut tables = Tables::default();
    let mut days: BTreeSet<Day> = BTreeSet::new();
    for kind in EventKind::ALL {
        let version = raw.get(kind.raw_table()).copied().ok_or_else(|| {
            LakeError::NotFound(format!("table {} was deleted while the batch run began", kind.raw_table()))
        })?;
        let name = BatchTable::Events(kind).name();
        days.extend(trace::table(name, Box::pin(events(engine, kind, version, scope, &mut tables))).await?);
    }
    trace::table(BatchTable::Attributions.name(), Box::pin(attributions(engine, scope, &mut tables))).await?;
    let scope = &scope.with_eve();
    trace::table(BatchTable::Hourly.name(), Box::pin(hourly(engine, &days, scope, &mut tables))).await?;
    trace::table(BatchTable::Rollup.name(), Box::pin(rollup(engine, &days, scope, &mut tables))).await?;
    trace::table(BatchTable::Reach.name(), Box::pin(reach(engine, &days, scope, &mut tables))).await?;
    trace::table(BatchTable::Users.name(), Box::pin(users(engine, &mut tables))).await?;
    Ok(tables)
}

/// Writes the events of a kind. Returns the days of all its events, also those out of the scope.
async fn events(
    engine: &Engine,
    kind: EventKind,
    version: u64,
    scope: &Scope,
    tables: &mut Tables,
) -> Result<BTreeSet<Day>, BatchError> {
    let table = BatchTable::Events(kind);
    let days = days_of(engine, kind.raw_table(), version).await?;
    let raw = format!("raw_{}", kind.table());
    engine.plans.register(&raw, engine.lake.known_columns(kind.raw_table(), version).await?)?;
    engine.observer.begin(table.name());
    let _copies = engine.lake.retry(|| async { Ok::<_, BatchError>(engine.plans.prepare_events(kind).await?) }).await?;
    let written = engine
        .each(days.iter().copied().filter(|day| scope.has(*day)).collect(), move |engine, day| async move {
            let replacer = engine.lake.replacer(table.name()).await?;
            let frame = engine.plans.events_of(kind, day).await?;
            engine.write(&replacer, table, frame).await
        })
        .await?;
    commit(engine, table, scope, written, tables).await?;
    Ok(days)
}

/// The days of a table's files.
async fn days_of(engine: &Engine, table: &str, version: u64) -> Result<BTreeSet<Day>, BatchError> {
    let files = engine.lake.files_at(table, version).await?;
    Ok(files.iter().filter_map(|file| file.day()).map(Day).collect())
}

async fn attributions(engine: &Engine, scope: &Scope, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Attributions;
    engine.observer.begin(table.name());
    let write = || async {
        let frame = engine.plans.attributions("impressions", "interactions").await?;
        engine.plans.register("attributed", frame.into_view())?;
        let sql = format!("SELECT * FROM attributed {}ORDER BY {}", scope.predicate(), table.order());
        let frame = engine.plans.sql(&sql).await?;
        let replacer = engine.lake.replacer(table.name()).await?;
        engine.write(&replacer, table, frame).await
    };
    let written = engine.lake.retry(write).await?;
    commit(engine, table, scope, vec![written], tables).await
}

async fn hourly(engine: &Engine, days: &BTreeSet<Day>, scope: &Scope, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Hourly;
    engine.observer.begin(table.name());
    let zone = engine.meaning.report.time_zone;
    let dates = dates(days, scope);
    let events_max = engine.settings.slice_events;
    let cut = engine
        .each(dates.into_iter().collect(), move |engine, day| async move {
            let range = time::first_hour_of(day.0, zone)..time::first_hour_of(day.0 + 1, zone);
            let volumes = engine.plans.volumes(range.clone()).await?;
            Ok(slices(&range, &volumes, events_max, true))
        })
        .await?;
    let written = engine
        .each(cut.into_iter().flatten().collect(), move |engine, slice| async move {
            let replacer = engine.lake.replacer(table.name()).await?;
            let frame = engine.plans.hourly(&slice).await?;
            engine.write(&replacer, table, frame).await
        })
        .await?;
    commit(engine, table, scope, written, tables).await
}

/// Writes the sums by campaign, from the hourly cube.
async fn rollup(engine: &Engine, days: &BTreeSet<Day>, scope: &Scope, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Rollup;
    engine.observer.begin(table.name());
    let written = engine
        .each(dates(days, scope).into_iter().collect(), move |engine, day| async move {
            let replacer = engine.lake.replacer(table.name()).await?;
            let frame = engine.plans.rollup(plan_name(BatchTable::Hourly), day).await?;
            engine.write(&replacer, table, frame).await
        })
        .await?;
    commit(engine, table, scope, written, tables).await
}

async fn reach(engine: &Engine, days: &BTreeSet<Day>, scope: &Scope, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Reach;
    engine.observer.begin(table.name());
    let zone = engine.meaning.report.time_zone;
    let dates = dates(days, scope);
    let events_max = engine.settings.slice_events;
    let written = engine
        .each(dates.into_iter().collect(), move |engine, day| async move {
            let range = time::first_day_of(day.0, zone)..time::first_day_of(day.0 + 1, zone);
            if range.is_empty() {
                return Ok(Written::default());
            }
            let volumes = engine.plans.volumes(range.clone()).await?;
            let replacer = engine.lake.replacer(table.name()).await?;
            let mut output = engine.output(&replacer);
            for slice in slices(&range, &volumes, events_max, false) {
                let frame = engine.plans.reach(&slice).await?;
                let schema = adlake_lake::views::Plans::schema_of(table);
                output.write_all(&mut engine.plans.stream(frame, schema).await?).await?;
            }
            output.finish().await
        })
        .await?;
    commit(engine, table, scope, written, tables).await
}

/// Writes what each user did. A user's row is of all days, whatever the scope.
async fn users(engine: &Engine, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Users;
    engine.observer.begin(table.name());
    let write = || async {
        let replacer = engine.lake.replacer(table.name()).await?;
        let (frame, _kept) = engine.plans.user_segments(&engine.settings.segments).await?;
        engine.write(&replacer, table, frame).await
    };
    let written = engine.lake.retry(write).await?;
    commit(engine, table, &Scope::All, vec![written], tables).await
}

/// The dates of the scope whose hours or days of the report's zone may have events of `days`: an
/// hour or a day that began on the date before may hold events of this one.
fn dates(days: &BTreeSet<Day>, scope: &Scope) -> BTreeSet<Day> {
    days.iter().flat_map(|day| [Day(day.0 - 1), *day]).filter(|day| scope.has(*day)).collect()
}

/// Commits the files as the content of the scope's days, and registers the table for the steps that
/// follow.
async fn commit(
    engine: &Engine,
    table: BatchTable,
    scope: &Scope,
    written: Vec<Written>,
    tables: &mut Tables,
) -> Result<(), BatchError> {
    let all: Written = written.into_iter().collect();
    let commit = || async {
        let Scope::Days { published, .. } = scope else {
            return engine.lake.replacer(table.name()).await?.commit(all.files.clone()).await;
        };
        let missing = || LakeError::NotFound(format!("the published run names no version of {}", table.name()));
        let base = published.get(table.name()).copied().ok_or_else(missing)?;
        let replacer = engine.lake.replacer_from(table.name(), base).await?;
        let stays = |file: &&LiveFile| file.day().is_some_and(|day| !scope.has(Day(day)));
        let kept: Vec<LiveFile> = replacer.base().iter().filter(stays).cloned().collect();
        replacer.commit_keeping(&kept, all.files.clone()).await
    };
    let version = engine.lake.retry(commit).await?;
    failpoint::hit(failpoint::BATCH_TABLE_WRITTEN);
    engine.plans.register(plan_name(table), engine.lake.known_columns(table.name(), version).await?)?;
    engine.observer.end(table.name(), all.rows);
    trace::written(version, all.rows, all.files.len());
    tracing::info!(table = table.name(), rows = all.rows, version, "the batch table was written");
    tables.versions.insert(table.name().to_string(), version);
    tables.rows.insert(table.name().to_string(), all.rows);
    Ok(())
}
