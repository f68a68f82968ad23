//! Writes Parquet files of a table, with statistics. Each file has one value of the partition
//! column. Nothing is visible until a commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::catalogue::Table;
use arrow::array::{Array, Date32Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use uuid::Uuid;

mod file;
mod encoding;
mod encoder;
mod fast;
mod pieces;
#[cfg(test)]
mod tests;

use self::file::FileWriter;
use crate::error::LakeError;
use crate::failpoint;
use crate::statistics;

/// How files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// The level of zstd.
    pub compression_level: i32,
    /// The most rows of a row group.
    pub row_group_rows: usize,
    /// A file with this many encoded bytes is closed, and a new one begun.
    pub file_bytes_max: usize,
    /// Whether the rows come ordered by partition. If so, a file is closed when the next partition
    /// begins.
    pub ordered: bool,
    /// What encodes the rows.
    pub encoder: Encoder,
}

/// What encodes the rows of a file. Readers see no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoder {
    /// The Parquet library.
    #[default]
    Library,
    /// The Parquet library, except for texts and wide numbers with dictionaries, which adlake
    /// encodes itself in less time. It is for ingest and for the batch layer, where encoding is a
    /// third of the work.
    Fast,
}

impl Default for WriterSettings {
    fn default() -> Self {
        WriterSettings {
            compression_level: 1,
            row_group_rows: 1 << 20,
            file_bytes_max: 256 << 20,
            ordered: false,
            encoder: Encoder::default(),
        }
    }
}

/// A file that is written but not committed yet.
#[derive(Debug, Clone)]
pub struct DataFile {
    pub(crate) add: Add,
    rows: usize,
}

impl DataFile {
    /// Its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.add.size.max(0) as u64
    }

    /// Its path relative to the table.
    pub fn path(&self) -> &str {
        &self.add.path
    }
}

/// Writes rows of one table into new files.
#[derive(Debug)]
pub struct TableWriter {
    table: &'static str,
    /// The text columns whose statistics are kept.
    bounded: Vec<&'static str>,
    store: Arc<dyn ObjectStore>,
    partition_column: Option<&'static str>,
    schema: SchemaRef,
    file_schema: SchemaRef,
    settings: WriterSettings,
    open: BTreeMap<Option<i32>, FileWriter>,
    closed: Vec<Closed>,
    rows: usize,
}

#[derive(Debug)]
struct Closed {
    partition: Option<i32>,
    pieces: Vec<Bytes>,
    metadata: parquet::file::metadata::ParquetMetaData,
}

impl TableWriter {
    pub(crate) fn new(table: &Table, log_store: &LogStoreRef, settings: &WriterSettings) -> TableWriter {
        let partition_column = table.partition_columns.first().copied();
        let fields: Vec<_> = table
            .schema
            .fields()
            .iter()
            .filter(|field| Some(field.name().as_str()) != partition_column)
            .cloned()
            .collect();
        let file_schema = Arc::new(Schema::new(fields));
        TableWriter {
            table: table.name,
            bounded: encoding::bounded(table),
            store: log_store.object_store(None),
            partition_column,
            schema: table.schema.clone(),
            file_schema,
            settings: settings.clone(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            rows: 0,
        }
    }

    /// Encodes rows. They must have the table's schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows();
        for (partition, rows) in self.split(batch)? {
            if self.settings.ordered {
                for before in self.open.keys().copied().filter(|open| *open != partition).collect::<Vec<_>>() {
                    self.close(before)?;
                }
            }
            let table = self.table;
            let wrong = |error: parquet::errors::ParquetError| LakeError::rows(table, error);
            let writer = match self.open.entry(partition) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let file = FileWriter::new(&self.file_schema, &self.bounded, &self.settings);
                    entry.insert(file.map_err(wrong)?)
                }
            };
            writer.write(&rows).map_err(wrong)?;
            if writer.encoded_bytes() >= self.settings.file_bytes_max {
                self.close(partition)?;
            }
        }
        Ok(())
    }

    /// Rows written so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes held in memory, approximately.
    pub fn buffered_bytes(&self) -> usize {
        let open: usize = self.open.values().map(FileWriter::memory_bytes).sum();
        open + self.closed.iter().flat_map(|closed| &closed.pieces).map(Bytes::len).sum::<usize>()
    }

    /// Uploads the files that are full already, and frees their bytes.
    pub async fn upload_closed(&mut self, files: &mut Vec<DataFile>) -> Result<(), LakeError> {
        for closed in std::mem::take(&mut self.closed) {
            files.push(upload(self.table, &self.store, self.partition_column, closed).await?);
        }
        Ok(())
    }

    /// Finishes and uploads all files. Nothing is visible until they are committed.
    pub async fn finish(mut self) -> Result<Vec<DataFile>, LakeError> {
        for partition in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(partition)?;
        }
        let mut files = Vec::new();
        self.upload_closed(&mut files).await?;
        Ok(files)
    }

    fn close(&mut self, partition: Option<i32>) -> Result<(), LakeError> {
        let Some(writer) = self.open.remove(&partition) else { return Ok(()) };
        let wrong = |error: parquet::errors::ParquetError| LakeError::rows(self.table, error);
        let (pieces, metadata) = writer.finish().map_err(wrong)?;
        self.closed.push(Closed { partition, pieces, metadata });
        Ok(())
    }

    /// Splits rows by partition, without the partition column. The rows keep their order.
    fn split(&self, batch: &RecordBatch) -> Result<Vec<(Option<i32>, RecordBatch)>, LakeError> {
        if batch.schema().fields() != self.schema.fields() {
            return Err(LakeError::rows(self.table, difference(&self.schema, &batch.schema())));
        }
        let Some(column) = self.partition_column else { return Ok(vec![(None, batch.clone())]) };
        let wrong = |error: arrow::error::ArrowError| LakeError::rows(self.table, error);
        let place = self.schema.index_of(column).map_err(wrong)?;
        let dates = batch.column(place).as_any().downcast_ref::<Date32Array>();
        let Some(dates) = dates else {
            return Err(LakeError::rows(self.table, format!("partition column {column} does not hold dates")));
        };
        let kept: Vec<usize> = (0..batch.num_columns()).filter(|&column| column != place).collect();
        let rest = batch.project(&kept).map_err(wrong)?;
        let rest = RecordBatch::try_new(self.file_schema.clone(), rest.columns().to_vec()).map_err(wrong)?;
        let date = |row: usize| dates.is_valid(row).then(|| dates.value(row));
        let first = date(0);
        if (1..dates.len()).all(|row| date(row) == first) {
            return Ok(vec![(first, rest)]);
        }
        let mut places: BTreeMap<Option<i32>, Vec<u32>> = BTreeMap::new();
        for row in 0..dates.len() {
            places.entry(date(row)).or_default().push(row as u32);
        }
        places
            .into_iter()
            .map(|(partition, rows)| {
                let rows = take_record_batch(&rest, &UInt32Array::from(rows)).map_err(wrong)?;
                Ok((partition, rows))
            })
            .collect()
    }
}

async fn upload(
    table: &str,
    store: &Arc<dyn ObjectStore>,
    partition_column: Option<&str>,
    closed: Closed,
) -> Result<DataFile, LakeError> {
    let Closed { partition, pieces, metadata } = closed;
    let file = format!("part-00000-{}-c000.zstd.parquet", Uuid::new_v4());
    let value = partition.map(date_text);
    let path = match (partition_column, &value) {
        (Some(column), Some(value)) => format!("{column}={value}/{file}"),
        (Some(column), None) => format!("{column}=__HIVE_DEFAULT_PARTITION__/{file}"),
        (None, _) => file,
    };
    let size = pieces.iter().map(Bytes::len).sum::<usize>() as i64;
    let rows = metadata.file_metadata().num_rows().max(0) as usize;
    let stats = statistics::delta_statistics(&metadata);
    store
        .put(&Path::from(path.as_str()), pieces.into_iter().collect())
        .await
        .map_err(|error| LakeError::store(format!("{}/{path}", table), error))?;
    failpoint::hit(failpoint::FILE_UPLOADED);
    let add = Add {
        path,
        size,
        partition_values: partition_column.map(|column| (column.to_string(), value)).into_iter().collect(),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    };
    Ok(DataFile { add, rows })
}

fn difference(expected: &Schema, found: &Schema) -> String {
    let missing = expected.fields().iter().find(|field| !found.fields().iter().any(|other| other == *field));
    match missing {
        Some(field) => format!(
            "column {} should be {:?}, found {:?}",
            field.name(),
            field.data_type(),
            found.field_with_name(field.name()).map(|field| field.data_type().clone()).ok()
        ),
        None => {
            format!("columns should be {:?}", expected.fields().iter().map(|field| field.name()).collect::<Vec<_>>())
        }
    }
}

/// Days since the epoch as `YYYY-MM-DD`.
fn date_text(days: i32) -> String {
    let date = chrono::DateTime::UNIX_EPOCH + chrono::Duration::days(i64::from(days));
    date.format("%Y-%m-%d").to_string()
}
