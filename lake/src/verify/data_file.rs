//! Whether a data file is what the log says: there, of that size, with that many rows, of that
//! date. If it is decoded: whether it can be read, and its rows are in order.
//!
//! A file is read as a stream, a row group at a time. The first thing that is wrong ends the look.

use adlake_domain::catalogue::Table;
use adlake_domain::time::event_date;
use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::basic::{LogicalType, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use super::finding::{Finding, FindingKind};
use crate::error::LakeError;
use crate::live::LiveFile;
use crate::log::StoredFile;
use crate::storage::Lake;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8 << 10;

/// The result for one file.
#[derive(Debug, Default)]
pub(super) struct FileCheck {
    pub finding: Option<Finding>,
    /// The rows that were decoded.
    pub rows: u64,
}

/// Why a Parquet file cannot be read.
pub(super) enum Unreadable {
    /// It is not there any more.
    Gone,
    /// It is damaged.
    Damaged(String),
    /// The store does not answer, or refuses.
    Store(LakeError),
}

/// Whether a failed read is the file's fault or the store's.
pub(super) fn unreadable(subject: &str, error: ParquetError) -> Unreadable {
    match error {
        ParquetError::External(cause) => match cause.downcast::<object_store::Error>() {
            Ok(error) if matches!(*error, object_store::Error::NotFound { .. }) => Unreadable::Gone,
            Ok(error) => Unreadable::Store(LakeError::store(subject, *error)),
            Err(cause) => Unreadable::Damaged(cause.to_string()),
        },
        error => Unreadable::Damaged(error.to_string()),
    }
}

/// Whether a file is there, with the size that the log says. `Some`: it is not.
pub(super) async fn find(
    lake: &Lake,
    table: &str,
    version: u64,
    file: &LiveFile,
) -> Result<Option<Finding>, LakeError> {
    let store = lake.log_store(table)?.object_store(None);
    let wrong = |kind, detail| Ok(Some(Finding::of_file(kind, table, &file.path, version, detail)));
    match store.head(file.object()).await {
        Ok(meta) if meta.size == file.bytes => Ok(None),
        Ok(meta) => {
            let detail = format!("the file has {} bytes, but the log says {}", meta.size, file.bytes);
            wrong(FindingKind::FileSize, detail)
        }
        Err(object_store::Error::NotFound { .. }) => {
            wrong(FindingKind::FileMissing, "the file is not there".to_string())
        }
        Err(error) => Err(LakeError::store(format!("{table}/{}", file.path), error)),
    }
}

/// Looks at a file. If `deep`, all its columns are decoded.
pub(super) async fn check(
    lake: &Lake,
    table: &Table,
    version: u64,
    file: &LiveFile,
    deep: bool,
) -> Result<FileCheck, LakeError> {
    let found = |finding| Ok(FileCheck { finding, rows: 0 });
    if let Some(finding) = find(lake, table.name, version, file).await? {
        return found(Some(finding));
    }
    let mut rows = 0;
    let wrong = match look(lake, table, file, deep, &mut rows).await {
        Ok(None) => return Ok(FileCheck { finding: None, rows }),
        Ok(Some((kind, detail))) => Finding::of_file(kind, table.name, &file.path, version, detail),
        Err(Unreadable::Damaged(detail)) => Finding::unreadable_file(table.name, &file.path, version, &detail),
        Err(Unreadable::Gone) => {
            let kind = FindingKind::FileMissing;
            Finding::of_file(kind, table.name, &file.path, version, "the file is not there".to_string())
        }
        Err(Unreadable::Store(error)) => return Err(error),
    };
    found(Some(wrong))
}

async fn look(
    lake: &Lake,
    table: &Table,
    file: &LiveFile,
    deep: bool,
    rows: &mut u64,
) -> Result<Option<(FindingKind, String)>, Unreadable> {
    let subject = format!("{}/{}", table.name, file.path);
    let read = |error| unreadable(&subject, error);
    let store = lake.log_store(table.name).map_err(Unreadable::Store)?.object_store(None);
    let reader = StoredFile { store, path: file.object().clone(), size: file.bytes };
    let opened = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(read)?;
    let metadata = opened.metadata().clone();
    let count = metadata.file_metadata().num_rows().max(0) as u64;
    if file.rows.is_some_and(|expected| expected != count) {
        let expected = file.rows.unwrap_or_default();
        return Ok(Some((FindingKind::FileRows, format!("the file has {count} rows, but the log says {expected}"))));
    }
    if let Some(detail) = other_date(table, file, &metadata) {
        return Ok(Some((FindingKind::FilePartition, detail)));
    }
    if !deep {
        return Ok(None);
    }
    let mut order = Order::new(table);
    let mut batches = opened.with_batch_size(BATCH_ROWS).build().map_err(read)?;
    while let Some(batch) = batches.try_next().await.map_err(read)? {
        let columns: Vec<Option<ArrayRef>> =
            table.clustered_by.iter().map(|name| batch.column_by_name(name).cloned()).collect();
        let row = order.first_wrong(columns).map_err(|error| Unreadable::Damaged(error.to_string()))?;
        if let Some(row) = row {
            let (row, columns) = (*rows + row as u64 + 1, table.clustered_by.join(", "));
            let detail = format!("row {row} comes before the row above it in the order of {columns}");
            return Ok(Some((FindingKind::FileOrder, detail)));
        }
        *rows += batch.num_rows() as u64;
    }
    if *rows != count {
        let detail = format!("{rows} rows can be decoded, but the footer says {count}");
        return Ok(Some((FindingKind::FileRows, detail)));
    }
    Ok(None)
}

/// What is wrong with the partition of a file: it has none, or rows have another date. The dates
/// come from the statistics in the footer.
fn other_date(table: &Table, file: &LiveFile, metadata: &ParquetMetaData) -> Option<String> {
    let partition = table.partition_columns.first()?;
    let Some(day) = file.day() else { return Some(format!("the log names no {partition} for the file")) };
    let time = time_column(table)?;
    for group in metadata.row_groups() {
        let column = group.columns().iter().find(|column| column.column_path().parts() == [time])?;
        let is_micros = match column.column_descr().logical_type_ref() {
            Some(LogicalType::Timestamp(time)) => time.unit == TimeUnit::MICROS,
            _ => false,
        };
        let Some(Statistics::Int64(values)) = column.statistics().filter(|_| is_micros) else { continue };
        for micros in values.min_opt().into_iter().chain(values.max_opt()) {
            if event_date(*micros) != day {
                let dates = [day, event_date(*micros)].map(|day| chrono::NaiveDate::default() + days(day));
                return Some(format!(
                    "the file is in {partition}={}, but has a row with {time} on {}",
                    dates[0], dates[1]
                ));
            }
        }
    }
    None
}

fn days(count: i32) -> chrono::TimeDelta {
    chrono::TimeDelta::days(i64::from(count))
}

/// The column whose date is the partition.
fn time_column(table: &Table) -> Option<&'static str> {
    let names: &[&'static str] = match table.partition_columns.first().copied()? {
        "event_date" => &["event_time", "interaction_time", "hour", "day", "at"],
        "ingest_date" => &["ingested_at"],
        _ => return None,
    };
    names.iter().find(|name| table.schema.field_with_name(name).is_ok()).copied()
}

/// Follows the order of the rows of a file.
struct Order {
    converter: Option<RowConverter>,
    last: Option<OwnedRow>,
}

impl Order {
    fn new(table: &Table) -> Order {
        let fields = table.clustered_by.iter().map(|name| {
            let field = table.schema.field_with_name(name)?;
            Ok(SortField::new(field.data_type().clone()))
        });
        let fields: Result<Vec<SortField>, ArrowError> = fields.collect();
        let converter = fields.and_then(RowConverter::new).ok().filter(|_| !table.clustered_by.is_empty());
        Order { converter, last: None }
    }

    /// The first row of the next batch that is smaller than the one before it, NULL first. A file
    /// that lacks one of the columns has no order.
    fn first_wrong(&mut self, columns: Vec<Option<ArrayRef>>) -> Result<Option<usize>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let Some(columns) = columns.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let rows = converter.convert_columns(&columns)?;
        let mut wrong = None;
        let mut before = self.last.as_ref().map(OwnedRow::row);
        for (place, row) in rows.iter().enumerate() {
            if before.is_some_and(|before| row < before) {
                wrong = Some(place);
                break;
            }
            before = Some(row);
        }
        let last = rows.iter().next_back().map(|row| row.owned());
        self.last = last.or(self.last.take());
        Ok(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adlake_domain::catalogue::{self, CAMPAIGN_HOURLY};
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn rows_out_of_order_are_found_also_between_batches() {
        let table = catalogue::table(CAMPAIGN_HOURLY).unwrap();
        assert_eq!(table.clustered_by, ["campaign_id"]);
        let check = |batches: &[&[Option<&str>]], expected: Option<(usize, usize)>| {
            let mut order = Order::new(&table);
            let found = batches.iter().enumerate().find_map(|(number, values)| {
                let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
                order.first_wrong(vec![Some(column)]).unwrap().map(|row| (number, row))
            });
            assert_eq!(found, expected, "{batches:?}");
        };
        check(&[&[None, Some("a"), Some("a")], &[Some("b")]], None);
        check(&[&[Some("a"), None]], Some((0, 1)));
        check(&[&[Some("b")], &[], &[Some("a")]], Some((2, 0)));
        check(&[&[Some("b"), Some("c")], &[Some("c"), Some("b")]], Some((1, 1)));
    }

    #[test]
    fn the_date_of_a_partition_has_its_column() {
        for table in catalogue::tables() {
            assert_eq!(time_column(&table).is_some(), !table.partition_columns.is_empty(), "{}", table.name);
        }
    }
}
