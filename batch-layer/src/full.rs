//! A full run: everything is computed from the raw tables.
//!
//! 1. For each kind of event, the identities with several rows are found by their keys alone, and
//!    their events are made.
//! 2. Each day of events is read once, resolved, ordered and written. A day needs no rows of other
//!    days but the events of step 1.
//! 3. Attributions are computed from the written events, by user.
//! 4. Sums and sketches are computed from the written events, slice by slice.
//!
//! Days and slices are independent of each other, so several are worked on at a time.

use std::collections::{BTreeMap, BTreeSet};

use adlake_domain::event::EventKind;
use adlake_domain::time;
use adlake_lake::views::Day;
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{LakeError, failpoint};

use crate::engine::{Engine, Tables, Written, plan_name};
use crate::error::BatchError;
use crate::slices::slices;

/// Writes all batch tables. `raw` are the versions of the raw tables.
pub(crate) async fn full(engine: &Engine, raw: &BTreeMap<String, u64>) -> Result<Tables, BatchError> {
    let mut tables = Tables::default();
    let mut days: BTreeSet<Day> = BTreeSet::new();
    for kind in EventKind::ALL {
        let version = raw.get(kind.raw_table()).copied().ok_or_else(|| {
            LakeError::NotFound(format!("table {} was deleted while the batch run began", kind.raw_table()))
        })?;
        days.extend(events(engine, kind, version, &mut tables).await?);
    }
    attributions(engine, &mut tables).await?;
    hourly(engine, &days, &mut tables).await?;
    reach(engine, &days, &mut tables).await?;
    Ok(tables)
}

/// Writes the events of a kind. Returns their days.
async fn events(
    engine: &Engine,
    kind: EventKind,
    version: u64,
    tables: &mut Tables,
) -> Result<BTreeSet<Day>, BatchError> {
    let table = BatchTable::Events(kind);
    let days = days_of(engine, kind.raw_table(), version).await?;
    let raw = format!("raw_{}", kind.table());
    engine.plans.register(&raw, engine.lake.known_columns(kind.raw_table(), version).await?)?;
    engine.observer.begin(table.name());
    let _copies = engine.lake.retry(|| async { Ok::<_, BatchError>(engine.plans.prepare_events(kind).await?) }).await?;
    let written = engine
        .each(days.iter().copied().collect(), move |engine, day| async move {
            let replacer = engine.lake.replacer(table.name()).await?;
            let frame = engine.plans.events_of(kind, day).await?;
            engine.write(&replacer, table, frame).await
        })
        .await?;
    commit(engine, table, written, tables).await?;
    Ok(days)
}

/// The days of a table's files.
async fn days_of(engine: &Engine, table: &str, version: u64) -> Result<BTreeSet<Day>, BatchError> {
    let files = engine.lake.files_at(table, version).await?;
    Ok(files.iter().filter_map(|file| file.day()).map(Day).collect())
}

async fn attributions(engine: &Engine, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Attributions;
    engine.observer.begin(table.name());
    let write = || async {
        let frame = engine.plans.attributions("impressions", "interactions").await?;
        engine.plans.register("attributed", frame.into_view())?;
        let frame = engine.plans.sql(&format!("SELECT * FROM attributed ORDER BY {}", table.order())).await?;
        let replacer = engine.lake.replacer(table.name()).await?;
        engine.write(&replacer, table, frame).await
    };
    let written = engine.lake.retry(write).await?;
    commit(engine, table, vec![written], tables).await
}

async fn hourly(engine: &Engine, days: &BTreeSet<Day>, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Hourly;
    engine.observer.begin(table.name());
    let zone = engine.meaning.report.time_zone;
    // An hour that began on the day before may hold events of this day.
    let dates: BTreeSet<Day> = days.iter().flat_map(|day| [Day(day.0 - 1), *day]).collect();
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
    commit(engine, table, written, tables).await
}

async fn reach(engine: &Engine, days: &BTreeSet<Day>, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Reach;
    engine.observer.begin(table.name());
    let zone = engine.meaning.report.time_zone;
    // A day that began on the date before may hold events of this date.
    let dates: BTreeSet<Day> = days.iter().flat_map(|day| [Day(day.0 - 1), *day]).collect();
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
    commit(engine, table, written, tables).await
}

/// Commits the files as the table's whole content, and registers it for the steps that follow.
async fn commit(
    engine: &Engine,
    table: BatchTable,
    written: Vec<Written>,
    tables: &mut Tables,
) -> Result<(), BatchError> {
    let mut all = Written::default();
    written.into_iter().for_each(|part| all.add(part));
    let commit = || async { engine.lake.replacer(table.name()).await?.commit(all.files.clone()).await };
    let version = engine.lake.retry(commit).await?;
    failpoint::hit(failpoint::BATCH_TABLE_WRITTEN);
    engine.plans.register(plan_name(table), engine.lake.known_columns(table.name(), version).await?)?;
    engine.observer.end(table.name(), all.rows);
    tracing::info!(table = table.name(), rows = all.rows, version, "the batch table was written");
    tables.versions.insert(table.name().to_string(), version);
    tables.rows.insert(table.name().to_string(), all.rows);
    Ok(())
}
