//! Materializes the rows of a plan: in memory while they are few, else in a temporary file. The
//! memory is taken from the session's pool, so that it counts with what sorts and joins take. These
//! need room too: a merge keeps the rows of many plans, so rows go to a file as soon as half of the
//! pool is taken.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

/// The rows of a plan. They can be read any number of times.
#[derive(Debug)]
pub(super) struct Materialized {
    pub table: Arc<dyn TableProvider>,
    /// How many rows there are.
    pub count: usize,
    /// What the rows occupy, until they are dropped.
    pub kept: Kept,
}

/// What materialized rows occupy. Dropping it frees it.
#[derive(Debug)]
pub struct Kept {
    /// The folder with the rows, if they are not in memory.
    folder: Option<TempDir>,
    _memory: MemoryReservation,
}

impl Kept {
    /// Whether the rows are in a file.
    pub fn is_spilled(&self) -> bool {
        self.folder.is_some()
    }
}

/// Runs a stream to its end and keeps its rows in the columns of `schema`: in memory up to
/// `memory_bytes_max` while the pool has room, in a file beyond. Values are cast if their types
/// differ.
pub(super) async fn materialize(
    context: &SessionContext,
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    memory_bytes_max: usize,
) -> Result<Materialized> {
    let pool = &context.runtime_env().memory_pool;
    let memory = MemoryConsumer::new("materialized rows").register(pool);
    let mut count = 0;
    let mut bytes = 0;
    let mut batches = Vec::new();
    let mut file: Option<(TempDir, ArrowWriter<std::fs::File>)> = None;
    while let Some(batch) = stream.next().await.transpose()? {
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = conform(&batch, &schema)?;
        count += batch.num_rows();
        // A slice counts with the whole buffers that it keeps in memory.
        let size = batch.get_array_memory_size();
        bytes += size;
        batches.push(batch);
        if bytes < memory_bytes_max && has_room(pool.as_ref()) && memory.try_grow(size).is_ok() {
            continue;
        }
        if file.is_none() {
            let folder = TempDir::new()?;
            let opened = std::fs::File::create(folder.path().join("rows.parquet"))?;
            file = Some((folder, ArrowWriter::try_new(opened, schema.clone(), None)?));
        }
        if let Some((_, writer)) = &mut file {
            for batch in batches.drain(..) {
                writer.write(&batch)?;
            }
            bytes = 0;
            memory.free();
        }
    }
    let Some((folder, mut writer)) = file else {
        let table = Arc::new(MemTable::try_new(schema, vec![batches])?);
        return Ok(Materialized { table, count, kept: Kept { folder: None, _memory: memory } });
    };
    for batch in batches {
        writer.write(&batch)?;
    }
    writer.close()?;
    memory.free();
    let table = Arc::new(file_table(context, &folder.path().join("rows.parquet"), schema)?);
    Ok(Materialized { table, count, kept: Kept { folder: Some(folder), _memory: memory } })
}

/// Whether at least half of a pool is free.
fn has_room(pool: &dyn MemoryPool) -> bool {
    match pool.memory_limit() {
        MemoryLimit::Finite(limit) => pool.reserved() <= limit / 2,
        _ => true,
    }
}

/// The rows of a file as a table. It is no view over a frame: a view's columns are pruned together
/// with those of the plan around it, and a union of two views then has other columns on each side.
fn file_table(context: &SessionContext, file: &Path, schema: SchemaRef) -> Result<ListingTable> {
    let format = ParquetFormat::default().with_options(context.copied_table_options().parquet);
    let options = ListingOptions::new(Arc::new(format));
    let url = ListingTableUrl::parse(file.to_string_lossy())?;
    ListingTable::try_new(ListingTableConfig::new(url).with_listing_options(options).with_schema(schema))
}

/// The batch with the columns of `schema`, matched by position. A value that does not fit the
/// column's type is an error, not NULL.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(column.clone())
        } else {
            cast_with_options(column, field.data_type(), &exact)
        }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(DataFusionError::from)
}
