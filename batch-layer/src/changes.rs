//! An incremental run: what the new rows change is computed, and applied to the published tables.
//!
//! The changes are those of the merge (`adlake_lake::views::merge`), which queries use too. Here
//! they are written:
//!
//! - New events are written to new files. A file that holds a replaced event is written anew
//!   without it.
//! - Attributions likewise.
//! - The signed changes of the sums are put into the files that they meet (see [`crate::fold`]).
//!   The sums by campaign of a day with changes are written anew.
//! - The sketches of a day with changes are written anew.
//! - What users did is written anew as a whole: a row for each user, from the published rows and
//!   the signed changes.
//!
//! A table without changes keeps its version.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::time;
use adlake_lake::replace::Replacer;
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::Day;
use adlake_lake::views::merge::{Merge, Part};
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{LiveFile, failpoint};
use arrow::array::{AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Date32Type;
use datafusion::common::{DataFusionError, internal_datafusion_err};

use crate::engine::{Engine, Tables, Written};
use crate::error::BatchError;
use crate::fold::{Changes, Piece};
use crate::slices::slices;
use crate::trace;

/// The most bytes of one materialized plan that stay in memory.
const MATERIALIZED_BYTES_MAX: usize = 256 << 20;

/// Writes what has changed since the published run of the snapshot.
pub(crate) async fn apply(engine: &Engine, snapshot: &Snapshot) -> Result<Tables, BatchError> {
    let parts: BTreeSet<Part> = EventKind::ALL
        .map(Part::Events)
        .into_iter()
        .chain([Part::Attributions, Part::Hourly, Part::Rollup, Part::Reach, Part::Users])
        .collect();
    let merge = || async { Merge::new(&engine.plans, snapshot, MATERIALIZED_BYTES_MAX).prepare(&parts).await };
    let merged = trace::phase("merge changes", Box::pin(async { Ok(engine.lake.retry(merge).await?) })).await?;
    let mut tables = Tables::default();
    for table in BatchTable::ALL {
        if let Some(version) = snapshot.published(table.name()) {
            tables.versions.insert(table.name().to_string(), version);
        }
    }
    for kind in EventKind::ALL {
        let name = kind.table();
        let change = Change {
            table: BatchTable::Events(kind),
            key: "event_key",
            gone: merged
                .has_rows(&format!("replaced_{name}"))
                .then(|| format!("SELECT event_key, event_date FROM replaced_{name}")),
            new: merged
                .has_rows(&format!("new_{name}"))
                .then(|| format!("SELECT * FROM new_{name} ORDER BY {}", BatchTable::Events(kind).order())),
        };
        rows(engine, snapshot, change, &mut tables).await?;
    }
    let change = Change {
        table: BatchTable::Attributions,
        key: "interaction_key",
        gone: merged
            .has_rows("attributions_before")
            .then(|| "SELECT interaction_key, event_date FROM attributions_before".to_string()),
        new: merged
            .has_rows("attributions_after")
            .then(|| format!("SELECT * FROM attributions_after ORDER BY {}", BatchTable::Attributions.order())),
    };
    rows(engine, snapshot, change, &mut tables).await?;
    if merged.has_rows("hourly_changes") {
        let changed = trace::table(BatchTable::Hourly.name(), Box::pin(hourly(engine, snapshot, &mut tables))).await?;
        trace::table(BatchTable::Rollup.name(), Box::pin(rollup(engine, snapshot, changed, &mut tables))).await?;
    }
    let mut days = Vec::new();
    for table in ["new_reach", "changed_reach"] {
        if merged.has_rows(table) {
            days.push(format!("SELECT CAST(day AS DATE) AS event_date FROM {table}"));
        }
    }
    if !days.is_empty() {
        let days = days.join(" UNION ALL ");
        trace::table(BatchTable::Reach.name(), Box::pin(reach(engine, snapshot, &days, &mut tables))).await?;
    }
    if merged.has_rows("user_changes") || snapshot.published(BatchTable::Users.name()).is_none() {
        trace::table(BatchTable::Users.name(), Box::pin(users(engine, snapshot, &mut tables))).await?;
    }
    Ok(tables)
}

/// A change of a table whose rows have keys.
struct Change {
    table: BatchTable,
    key: &'static str,
    /// SQL: the keys and dates of the rows that go.
    gone: Option<String>,
    /// SQL: the rows that come, in the order of the table.
    new: Option<String>,
}

async fn rows(engine: &Engine, snapshot: &Snapshot, change: Change, tables: &mut Tables) -> Result<(), BatchError> {
    if change.gone.is_none() && change.new.is_none() {
        return Ok(());
    }
    trace::table(change.table.name(), Box::pin(exchange(engine, snapshot, change, tables))).await
}

async fn exchange(engine: &Engine, snapshot: &Snapshot, change: Change, tables: &mut Tables) -> Result<(), BatchError> {
    let table = change.table;
    engine.observer.begin(table.name());
    let (keys, days) = match &change.gone {
        Some(sql) => gone(engine, sql).await?,
        None => Default::default(),
    };
    let replacer = Arc::new(base(engine, snapshot, table).await?);
    let (touched, mut kept): (Vec<LiveFile>, Vec<LiveFile>) =
        replacer.base().iter().cloned().partition(|file| file.day().is_none_or(|day| days.contains(&Day(day))));
    let (shared, keys, key) = (replacer.clone(), Arc::new(keys), change.key);
    let exchanged = engine
        .each(touched.clone(), move |engine, file| {
            let (replacer, keys) = (shared.clone(), keys.clone());
            async move { without(&engine, &replacer, &file, key, &keys).await }
        })
        .await?;
    let mut all = Written::default();
    for (file, written) in touched.into_iter().zip(exchanged) {
        match written {
            Some(written) => all.add(written),
            None => kept.push(file),
        }
    }
    if let Some(sql) = &change.new {
        let write = || async { engine.write(&replacer, table, engine.plans.sql(sql).await?).await };
        all.add(engine.lake.retry(write).await?);
    }
    commit(engine, snapshot, table, kept, all, tables).await
}

/// The keys and the days of the rows that go.
async fn gone(engine: &Engine, sql: &str) -> Result<(HashSet<Vec<u8>>, BTreeSet<Day>), BatchError> {
    let (mut keys, mut days) = (HashSet::new(), BTreeSet::new());
    for batch in engine.plans.sql(sql).await?.collect().await? {
        if let (Some(found), Some(dates)) =
            (batch.column(0).as_binary_opt::<i32>(), batch.column(1).as_primitive_opt::<Date32Type>())
        {
            keys.extend(found.iter().flatten().map(<[u8]>::to_vec));
            days.extend(dates.iter().flatten().map(Day));
        }
    }
    Ok((keys, days))
}

/// Writes a file anew without the rows whose keys are in `keys`. `None`: it has no such row.
async fn without(
    engine: &Engine,
    replacer: &Replacer,
    file: &LiveFile,
    key: &str,
    keys: &HashSet<Vec<u8>>,
) -> Result<Option<Written>, BatchError> {
    let mut output = engine.output(replacer);
    output.reserve(file.bytes as usize);
    let opened = replacer.open(file).await?;
    let goes = |key: Option<&[u8]>| key.is_some_and(|key| keys.contains(key));
    let mut is_hit = false;
    for batch in opened.column(key)? {
        is_hit |= binaries(&batch?, key)?.iter().any(goes);
    }
    if !is_hit {
        return Ok(None);
    }
    for batch in opened.rows()? {
        let batch = batch?;
        let stays: BooleanArray = binaries(&batch, key)?.iter().map(|key| Some(!goes(key))).collect();
        output.write(&filter_record_batch(&batch, &stays).map_err(DataFusionError::from)?).await?;
    }
    Ok(Some(output.finish().await?))
}

fn binaries<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a BinaryArray, BatchError> {
    let found = batch.column_by_name(column).and_then(|column| column.as_binary_opt::<i32>());
    Ok(found.ok_or_else(|| internal_datafusion_err!("{column} is no column of bytes"))?)
}

/// Returns the days that have changed.
async fn hourly(engine: &Engine, snapshot: &Snapshot, tables: &mut Tables) -> Result<BTreeSet<Day>, BatchError> {
    let table = BatchTable::Hourly;
    engine.observer.begin(table.name());
    let changed = dates(engine, "SELECT DISTINCT event_date FROM hourly_changes").await?;
    let replacer = Arc::new(base(engine, snapshot, table).await?);
    let mut kept = of_other_days(&replacer, &changed);
    let (mut all, mut others) = (Written::default(), BTreeSet::new());
    // The changes of so many days are in memory at a time.
    let days: Vec<Day> = changed.iter().copied().collect();
    for days in days.chunks(engine.settings.workers()) {
        for (day, folded) in folded(engine, &replacer, days).await? {
            match folded {
                Some((written, stay)) => {
                    all.add(written);
                    kept.extend(stay);
                }
                None => drop(others.insert(day)),
            }
        }
    }
    all.add(made_anew(engine, &replacer, others).await?);
    commit(engine, snapshot, table, kept, all, tables).await?;
    Ok(changed)
}

/// What was written for a day, and its files that stay.
type Folded = (Written, Vec<LiveFile>);

/// Puts the changes of days into their files. `None` for a day: its files are not in order, or it
/// has none, or there is no memory for its changes.
async fn folded(
    engine: &Engine,
    replacer: &Arc<Replacer>,
    days: &[Day],
) -> Result<BTreeMap<Day, Option<Folded>>, BatchError> {
    let (mut met, mut folded) = (Vec::new(), BTreeMap::new());
    for day in days {
        let files: Vec<LiveFile> = replacer.base().iter().filter(|file| file.day() == Some(day.0)).cloned().collect();
        let pieces = match Changes::of(engine, *day).await? {
            Some(changes) => changes.pieces(replacer, files).await?.map(|pieces| (Arc::new(changes), pieces)),
            None => None,
        };
        let Some((changes, pieces)) = pieces.filter(|(_, pieces)| !pieces.is_empty()) else {
            folded.insert(*day, None);
            continue;
        };
        let (own, stay): (Vec<Piece>, Vec<Piece>) = pieces.into_iter().partition(Piece::is_met);
        met.extend(own.into_iter().map(|piece| (*day, changes.clone(), piece)));
        let stay = stay.into_iter().map(|piece| piece.file).collect();
        folded.insert(*day, Some((Written::default(), stay)));
    }
    let replacer = replacer.clone();
    let written = engine
        .each(met, move |engine, (day, changes, piece): (Day, Arc<Changes>, Piece)| {
            let replacer = replacer.clone();
            async move { Ok((day, changes.fold(&piece, &replacer, engine.output(&replacer)).await?)) }
        })
        .await?;
    for (day, written) in written {
        let Some(of_day) = folded.get_mut(&day) else { continue };
        match (of_day.as_mut(), written) {
            (Some((all, _)), Some(written)) => all.add(written),
            _ => *of_day = None,
        }
    }
    Ok(folded)
}

/// Writes the sums of whole days: those that are published and their changes are sorted and added.
async fn made_anew(engine: &Engine, replacer: &Arc<Replacer>, days: BTreeSet<Day>) -> Result<Written, BatchError> {
    let (table, zone, replacer) = (BatchTable::Hourly, engine.meaning.report.time_zone, replacer.clone());
    let events_max = engine.settings.slice_events;
    let cut = engine
        .each(days.into_iter().collect(), move |engine, day| async move {
            let range = time::first_hour_of(day.0, zone)..time::first_hour_of(day.0 + 1, zone);
            let volumes = engine.plans.hourly_volumes(range.clone()).await?;
            Ok(slices(&range, &volumes, events_max, true))
        })
        .await?;
    let written = engine
        .each(cut.into_iter().flatten().collect(), move |engine, slice| {
            let replacer = replacer.clone();
            async move { engine.write(&replacer, table, engine.plans.changed_hourly(&slice).await?).await }
        })
        .await?;
    Ok(written.into_iter().collect())
}

/// Writes the sums by campaign of the changed days anew, from those that are published and the
/// changes of the cube.
async fn rollup(
    engine: &Engine,
    snapshot: &Snapshot,
    changed: BTreeSet<Day>,
    tables: &mut Tables,
) -> Result<(), BatchError> {
    let table = BatchTable::Rollup;
    engine.observer.begin(table.name());
    let replacer = Arc::new(base(engine, snapshot, table).await?);
    let kept = of_other_days(&replacer, &changed);
    let written = engine
        .each(changed.into_iter().collect(), move |engine, day| {
            let replacer = replacer.clone();
            async move { engine.write(&replacer, table, engine.plans.changed_rollup(day).await?).await }
        })
        .await?;
    let all: Written = written.into_iter().collect();
    commit(engine, snapshot, table, kept, all, tables).await
}

async fn reach(engine: &Engine, snapshot: &Snapshot, days: &str, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Reach;
    engine.observer.begin(table.name());
    let changed = dates(engine, &format!("SELECT DISTINCT event_date FROM ({days})")).await?;
    let replacer = base(engine, snapshot, table).await?;
    let kept = of_other_days(&replacer, &changed);
    let list: Vec<String> = changed.iter().map(|day| day.literal()).collect();
    let sql = format!(
        "SELECT day, campaign_id, reach_union(reach_sketch) AS reach_sketch, event_date FROM merged_reach \
         WHERE event_date IN ({}) GROUP BY day, campaign_id, event_date \
         ORDER BY {}",
        list.join(", "),
        table.order()
    );
    let write = || async { engine.write(&replacer, table, engine.plans.sql(&sql).await?).await };
    let all = engine.lake.retry(write).await?;
    commit(engine, snapshot, table, kept, all, tables).await
}

/// Writes all users anew: the newest event of all moves, and with it how long ago that of each was.
async fn users(engine: &Engine, snapshot: &Snapshot, tables: &mut Tables) -> Result<(), BatchError> {
    let table = BatchTable::Users;
    engine.observer.begin(table.name());
    let replacer = base(engine, snapshot, table).await?;
    let write = || async {
        let (frame, _kept) = engine.plans.merged_user_segments(&engine.settings.segments).await?;
        engine.write(&replacer, table, frame).await
    };
    let all = engine.lake.retry(write).await?;
    commit(engine, snapshot, table, Vec::new(), all, tables).await
}

async fn dates(engine: &Engine, sql: &str) -> Result<BTreeSet<Day>, BatchError> {
    let mut days = BTreeSet::new();
    for batch in engine.plans.sql(sql).await?.collect().await? {
        if let Some(dates) = batch.column(0).as_primitive_opt::<Date32Type>() {
            days.extend(dates.iter().flatten().map(Day));
        }
    }
    Ok(days)
}

/// The files of the base that are not of these days.
fn of_other_days(replacer: &Replacer, days: &BTreeSet<Day>) -> Vec<LiveFile> {
    let is_of = |file: &LiveFile| file.day().is_some_and(|day| days.contains(&Day(day)));
    replacer.base().iter().filter(|file| !is_of(file)).cloned().collect()
}

/// A replacer of a table that starts from what the published run has written.
async fn base(engine: &Engine, snapshot: &Snapshot, table: BatchTable) -> Result<Replacer, BatchError> {
    match snapshot.published(table.name()) {
        Some(version) => Ok(engine.lake.replacer_from(table.name(), version).await?),
        None => Ok(engine.lake.replacer(table.name()).await?),
    }
}

async fn commit(
    engine: &Engine,
    snapshot: &Snapshot,
    table: BatchTable,
    kept: Vec<LiveFile>,
    all: Written,
    tables: &mut Tables,
) -> Result<(), BatchError> {
    let commit = || async {
        Ok::<_, BatchError>(base(engine, snapshot, table).await?.commit_keeping(&kept, all.files.clone()).await?)
    };
    let version = engine.lake.retry(commit).await?;
    failpoint::hit(failpoint::BATCH_TABLE_WRITTEN);
    engine.observer.end(table.name(), all.rows);
    trace::written(version, all.rows, all.files.len());
    tracing::info!(table = table.name(), rows = all.rows, version, "the batch table was changed");
    tables.versions.insert(table.name().to_string(), version);
    tables.rows.insert(table.name().to_string(), all.rows);
    Ok(())
}
