//! View `freshness`: how far each raw table has come, and how far the published run covers it. It
//! is made from the table's log, without a scan.
//!
//! The statistics in the log give the rows of each file, and its newest times to about a
//! millisecond (Delta's readers compare times by milliseconds). The exact times are in the footers
//! of the files. Two kinds of footers are read: of files that may hold the newest time, and of
//! files whose statistics are incomplete. If a footer does not have the time either, or if deletion
//! vectors delete rows, that table is scanned.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::prelude::{SessionContext, col, lit};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::basic::{LogicalType, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use serde::Deserialize;

use crate::error::LakeError;
use crate::log::StoredFile;
use crate::snapshot::Snapshot;
use crate::storage::Lake;

/// The columns whose newest value is shown.
const TIMES: [&str; 2] = ["event_time", "ingested_at"];
/// The most that a time in the statistics may differ from the exact one, in microseconds. Some
/// writers cut it, others round it up.
const UNSURE: i64 = 1_000;
/// The most footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 32;
/// Bytes that are read first from a file's end. Mostly they hold the whole footer.
const FOOTER_BYTES: usize = 64 << 10;

/// How far a raw table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct TableFreshness {
    rows: i64,
    /// In the order of [`TIMES`].
    newest: [Option<i64>; 2],
}

/// What the log tells of a file. `None`: it does not tell.
#[derive(Debug, Clone, Copy, Default)]
struct Logged {
    rows: Option<i64>,
    /// In the order of [`TIMES`], to about a millisecond.
    newest: [Option<i64>; 2],
}

/// The rows of the view.
pub(super) fn rows<'a>(
    context: &'a SessionContext,
    snapshot: &'a Snapshot,
) -> BoxFuture<'a, Result<RecordBatch, LakeError>> {
    Box::pin(read_rows(context, snapshot))
}

async fn read_rows(context: &SessionContext, snapshot: &Snapshot) -> Result<RecordBatch, LakeError> {
    let [first, second, third] = EventKind::ALL.map(EventKind::raw_table);
    let of = |table| freshness_of(context, snapshot, table);
    let (first, second, third) = futures::try_join!(of(first), of(second), of(third))?;
    let progress = [first, second, third];
    let tables = EventKind::ALL.map(EventKind::raw_table);
    let number = |version: Option<u64>| version.map(|version| version as i64);
    let published_at = snapshot.manifest.as_ref().map(|manifest| manifest.published_at);
    let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let times =
        |values: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef;
    let columns = [
        ("table", Arc::new(StringArray::from_iter_values(tables)) as ArrayRef),
        ("version", numbers(tables.map(|table| number(snapshot.newest.get(table).copied())).to_vec())),
        ("published_version", numbers(tables.map(|table| number(snapshot.published(table))).to_vec())),
        ("published_at", times(vec![published_at; tables.len()])),
        ("raw_rows", numbers(progress.iter().map(|progress| Some(progress.rows)).collect())),
        ("newest_event_time", times(progress.iter().map(|progress| progress.newest[0]).collect())),
        ("newest_ingested_at", times(progress.iter().map(|progress| progress.newest[1]).collect())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| LakeError::rows("freshness", error))
}

async fn freshness_of(
    context: &SessionContext,
    snapshot: &Snapshot,
    table: &'static str,
) -> Result<TableFreshness, LakeError> {
    match snapshot.newest.get(table) {
        Some(version) => read_freshness(context, &snapshot.lake, table, *version).await,
        None => Ok(TableFreshness::default()),
    }
}

async fn read_freshness(
    context: &SessionContext,
    lake: &Lake,
    table: &'static str,
    version: u64,
) -> Result<TableFreshness, LakeError> {
    let wrong = |error| LakeError::table(table, error);
    let mut loaded = lake.delta_table(table)?;
    loaded.load_version(version).await.map_err(wrong)?;
    let store = loaded.log_store().object_store(None);
    let (mut paths, mut logged): (Vec<(Path, u64)>, Vec<Logged>) = (Vec::new(), Vec::new());
    for file in loaded.snapshot().map_err(wrong)?.log_data().iter() {
        if file.deletion_vector_descriptor().is_some() {
            return scan(context, lake, table, version).await;
        }
        paths.push((file.object_store_path(), file.size().max(0) as u64));
        logged.push(file.stats().map(|stats| parse(&stats)).unwrap_or_default());
    }
    let unsure = unsure(&logged);
    let mut reading: Vec<BoxFuture<'static, Result<ParquetMetaData, LakeError>>> = Vec::new();
    for &place in &unsure {
        let (path, size) = paths[place].clone();
        reading.push(Box::pin(read_footer(table, StoredFile { store: store.clone(), path, size })));
    }
    let footers: Vec<ParquetMetaData> = futures::stream::iter(reading).buffered(FOOTERS_AT_ONCE).try_collect().await?;
    let mut progress = TableFreshness::default();
    for (place, footer) in unsure.iter().zip(&footers) {
        logged[*place].rows = Some(footer.file_metadata().num_rows());
        if footer.file_metadata().num_rows() == 0 {
            continue;
        }
        for (newest, name) in progress.newest.iter_mut().zip(TIMES) {
            let Some(time) = newest_in(footer, name) else { return scan(context, lake, table, version).await };
            *newest = (*newest).max(Some(time));
        }
    }
    progress.rows = logged.iter().filter_map(|file| file.rows).sum();
    Ok(progress)
}

async fn read_footer(table: &'static str, mut file: StoredFile) -> Result<ParquetMetaData, LakeError> {
    let (subject, size) = (format!("{table}: {}", file.path), file.size);
    let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
    reader.load_and_finish(&mut file, size).await.map_err(|error| match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(error) => LakeError::store(subject, *error),
            Err(source) => LakeError::Unavailable { subject, source },
        },
        error => LakeError::Corrupt(format!("{subject}: {error}")),
    })
}

/// The files whose footers must be read: those that may hold a newest time, and those with
/// incomplete statistics.
fn unsure(files: &[Logged]) -> Vec<usize> {
    let max: [Option<i64>; 2] = std::array::from_fn(|time| files.iter().filter_map(|file| file.newest[time]).max());
    let may_hold = |file: &Logged| {
        file.rows.is_none()
            || file.newest.iter().zip(max).any(|(newest, max)| match (newest, max) {
                (Some(newest), Some(max)) => newest.saturating_add(2 * UNSURE) >= max,
                _ => true,
            })
    };
    (0..files.len()).filter(|&place| may_hold(&files[place])).collect()
}

/// The statistics of a file in the log, as far as they are used here.
fn parse(statistics: &str) -> Logged {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Known {
        num_records: Option<i64>,
        #[serde(default)]
        max_values: Newest,
    }
    #[derive(Deserialize, Default)]
    struct Newest {
        event_time: Option<String>,
        ingested_at: Option<String>,
    }
    // Statistics that cannot be parsed count as missing. The footer is read instead.
    let Ok(known) = serde_json::from_str::<Known>(statistics) else { return Logged::default() };
    let time =
        |text: Option<String>| chrono::DateTime::parse_from_rfc3339(&text?).ok().map(|time| time.timestamp_micros());
    Logged { rows: known.num_records, newest: [time(known.max_values.event_time), time(known.max_values.ingested_at)] }
}

/// The newest time in a column of a file. `None`: the footer does not have it.
fn newest_in(footer: &ParquetMetaData, name: &str) -> Option<i64> {
    let schema = footer.file_metadata().schema_descr();
    let place = (0..schema.num_columns()).find(|&place| schema.column(place).path().parts() == [name.to_string()])?;
    let in_micros = |kind: &LogicalType| matches!(kind, LogicalType::Timestamp(time) if time.unit == TimeUnit::MICROS);
    if !schema.column(place).logical_type_ref().is_some_and(in_micros) {
        return None;
    }
    let mut newest = None;
    for group in footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
        match group.column(place).statistics()? {
            Statistics::Int64(values) => newest = newest.max(Some(*values.max_opt()?)),
            _ => return None,
        }
    }
    newest
}

/// The same, from a scan of the rows.
async fn scan(
    context: &SessionContext,
    lake: &Lake,
    table: &'static str,
    version: u64,
) -> Result<TableFreshness, LakeError> {
    let wrong = || LakeError::Corrupt(format!("{table}: event_time or ingested_at is no time in microseconds"));
    let rows = context.read_table(lake.provider(table, version).await?)?;
    let sums =
        vec![count(lit(1)).alias("rows"), max(col(TIMES[0])).alias(TIMES[0]), max(col(TIMES[1])).alias(TIMES[1])];
    let batches = rows.aggregate(Vec::new(), sums)?.collect().await?;
    let row = batches.iter().find(|batch| batch.num_rows() > 0).ok_or_else(wrong)?;
    let time = |place: usize| {
        let times = row.column(place).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        Ok::<_, LakeError>(times.is_valid(0).then(|| times.value(0)))
    };
    let count = row.column(0).as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.value(0);
    Ok(TableFreshness { rows: count, newest: [time(1)?, time(2)?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_may_hold_a_newest_time_are_looked_into() {
        let file = |rows, event_time, ingested_at| Logged { rows, newest: [event_time, ingested_at] };
        let check = |files: &[Logged], expected: &[usize]| assert_eq!(unsure(files), expected, "{files:?}");
        check(&[], &[]);
        let (old, late) = (file(Some(1), Some(5_000), Some(90_000)), file(Some(1), Some(4_000), Some(99_000)));
        let new = file(Some(1), Some(50_000), Some(80_000));
        check(&[old, late, new], &[1, 2]);
        // The order of two times within two milliseconds is not certain.
        check(&[file(Some(1), Some(48_000), Some(97_000)), late, new], &[0, 1, 2]);
        check(&[file(Some(1), Some(47_999), Some(96_999)), late, new], &[1, 2]);
        // Files whose rows or times are not known.
        check(&[file(None, Some(0), Some(0)), file(Some(1), None, Some(0)), late, new], &[0, 1, 2, 3]);
    }

    #[test]
    fn statistics_are_read_as_the_log_has_them() {
        let check = |text: &str, rows: Option<i64>, event_time: Option<i64>, ingested_at: Option<i64>| {
            let logged = parse(text);
            assert_eq!((logged.rows, logged.newest), (rows, [event_time, ingested_at]), "{text}");
        };
        check(
            concat!(
                r#"{"numRecords":7,"maxValues":{"event_time":"1970-01-01T00:00:00.002Z","#,
                r#""ingested_at":"1970-01-01T00:00:01Z","x":[1]}}"#
            ),
            Some(7),
            Some(2_000),
            Some(1_000_000),
        );
        check(r#"{"numRecords":7,"minValues":{"event_time":"1970-01-01T00:00:00.002Z"}}"#, Some(7), None, None);
        check(r#"{"maxValues":{"event_time":"yesterday"}}"#, None, None, None);
        check(r#"{"numRecords":"#, None, None, None);
    }
}
