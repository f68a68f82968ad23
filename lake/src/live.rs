//! The files that a table holds at a version, and their rows.

use std::sync::Arc;

use adlake_domain::catalogue::Table;
use arrow::array::{ArrayRef, Date32Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use deltalake::kernel::{Add, LogicalFileView, Remove};
use deltalake::logstore::LogStoreRef;
use deltalake::table::state::DeltaTableState;
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::LakeError;
use crate::storage::Lake;

/// A file that a table holds at some version.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// Its path as the log names it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows, if the log tells.
    pub rows: Option<u64>,
    /// The value of the partition column, which is a date.
    pub date: Option<String>,
    /// Its statistics as in the log.
    pub(crate) stats: Option<String>,
    object: Path,
    has_deletions: bool,
    add: Add,
}

impl LiveFile {
    fn of(file: &LogicalFileView) -> LiveFile {
        LiveFile {
            path: file.path().to_string(),
            bytes: file.size().max(0) as u64,
            rows: file.num_records().map(|rows| rows as u64),
            date: file.partition_values_map().into_values().flatten().next(),
            stats: file.stats(),
            object: file.object_store_path(),
            has_deletions: file.deletion_vector_descriptor().is_some(),
            add: Add {
                path: file.path().to_string(),
                partition_values: file.partition_values_map(),
                size: file.size(),
                modification_time: file.modification_time(),
                data_change: true,
                stats: file.stats(),
                tags: None,
                deletion_vector: file.deletion_vector_descriptor(),
                base_row_id: None,
                default_row_commit_version: None,
                clustering_provider: None,
            },
        }
    }

    /// The value of the partition column, in days since the epoch.
    pub fn day(&self) -> Option<i32> {
        self.date.as_deref().and_then(|date| days(date).ok())
    }

    pub(crate) fn object(&self) -> &Path {
        &self.object
    }

    /// Whether a deletion vector deletes some of its rows.
    pub fn has_deletions(&self) -> bool {
        self.has_deletions
    }

    /// The action that adds the file to the table.
    pub(crate) fn add(&self, data_change: bool) -> Add {
        Add { data_change, ..self.add.clone() }
    }

    /// The action that removes the file from the table.
    pub(crate) fn remove(&self, data_change: bool) -> Remove {
        Remove {
            path: self.path.clone(),
            data_change,
            deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            tags: None,
            deletion_vector: self.add.deletion_vector.clone(),
            base_row_id: None,
            default_row_commit_version: None,
        }
    }

    /// Reads it.
    pub(crate) async fn open(&self, lake: &Lake, store: &LogStoreRef, table: &Table) -> Result<OpenFile, LakeError> {
        let subject = format!("{}/{}", table.name, self.path);
        let store = store.object_store(None);
        let get = || async {
            let read = async { store.get(&self.object).await?.bytes().await };
            read.await.map_err(|error| LakeError::store(subject.clone(), error))
        };
        let bytes = lake.retry(get).await?;
        let date = self.date.as_deref().map(days).transpose();
        let date = date.map_err(|error| LakeError::Corrupt(format!("{subject}: {error}")))?;
        Ok(OpenFile { subject, bytes, date, table: table.clone() })
    }
}

/// A file of a table in memory.
#[derive(Debug)]
pub struct OpenFile {
    subject: String,
    bytes: Bytes,
    date: Option<i32>,
    table: Table,
}

impl OpenFile {
    /// Its rows in their order, with all columns of the table. Columns that the file lacks are
    /// NULL.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<RecordBatch, LakeError>> + use<>, LakeError> {
        self.read(self.reader()?)
    }

    /// Its first row and its last. `None`: it has no rows.
    pub fn ends(&self) -> Result<Option<[RecordBatch; 2]>, LakeError> {
        let rows = self.reader()?.metadata().file_metadata().num_rows() as usize;
        let row = |place: usize| self.read(self.reader()?.with_offset(place).with_limit(1))?.next().transpose();
        let Some(last) = rows.checked_sub(1) else { return Ok(None) };
        Ok(row(0)?.zip(row(last)?).map(<[RecordBatch; 2]>::from))
    }

    fn read(
        &self,
        reader: ParquetRecordBatchReaderBuilder<Bytes>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, LakeError>> + use<>, LakeError> {
        let reader = reader.build().map_err(|error| self.wrong(&error))?;
        let (schema, partition) = (self.table.schema.clone(), self.table.partition_columns.first().copied());
        let (subject, date) = (self.subject.clone(), self.date);
        Ok(reader.map(move |batch| {
            let adapted = batch.and_then(|batch| adapt(&batch, &schema, partition, date));
            adapted.map_err(|error| LakeError::Corrupt(format!("{subject}: {error}")))
        }))
    }

    /// One of its columns.
    pub fn column(
        &self,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, LakeError>> + use<>, LakeError> {
        let reader = self.reader()?;
        let columns = ProjectionMask::columns(reader.parquet_schema(), [name]);
        let reader = reader.with_projection(columns).build().map_err(|error| self.wrong(&error))?;
        let subject = self.subject.clone();
        Ok(reader.map(move |batch| batch.map_err(|error| LakeError::Corrupt(format!("{subject}: {error}")))))
    }

    fn reader(&self) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, LakeError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(self.bytes.clone());
        Ok(reader.map_err(|error| self.wrong(&error))?.with_batch_size(BATCH_ROWS))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> LakeError {
        LakeError::Corrupt(format!("{}: {error}", self.subject))
    }
}

/// The rows that are read at once.
const BATCH_ROWS: usize = 8 << 10;

impl Lake {
    /// The files of a table at a version, by date and path.
    pub async fn files_at(&self, table: &str, version: u64) -> Result<Vec<LiveFile>, LakeError> {
        self.retry(|| async {
            let wrong = |error| LakeError::table(table, error);
            let mut loaded = self.delta_table(table)?;
            loaded.load_version(version).await.map_err(wrong)?;
            Ok(files_of(loaded.snapshot().map_err(wrong)?))
        })
        .await
    }
}

/// The files of a snapshot, by date and path: in an order that is the same for every process.
pub(crate) fn files_of(snapshot: &DeltaTableState) -> Vec<LiveFile> {
    let mut files: Vec<LiveFile> = snapshot.log_data().iter().map(|file| LiveFile::of(&file)).collect();
    files.sort_by(|a, b| (&a.date, &a.path).cmp(&(&b.date, &b.path)));
    files
}

/// A file's rows with the columns of the table, matched by name. Columns that the file lacks are
/// NULL.
fn adapt(
    batch: &RecordBatch,
    schema: &SchemaRef,
    partition: Option<&str>,
    date: Option<i32>,
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let columns = schema.fields().iter().map(|field| {
        if Some(field.name().as_str()) == partition {
            return Ok(Arc::new(Date32Array::from(vec![date; rows])) as ArrayRef);
        }
        match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows)),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// `YYYY-MM-DD` as days since the epoch.
fn days(text: &str) -> Result<i32, chrono::ParseError> {
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")?;
    Ok((date - chrono::NaiveDate::default()).num_days() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, expected) in [("1970-01-01", 0), ("1969-12-31", -1), ("2026-03-01", 20_513)] {
            assert_eq!(days(text).unwrap(), expected, "{text}");
        }
        assert!(days("soon").is_err());
    }
}
