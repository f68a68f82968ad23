//! What an appender reads of a checkpoint: the positions of the streams, however many files the
//! table has.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use deltalake::logstore::LogStoreRef;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{LastCheckpoint, checkpoint_paths, failed, has_entry, last_checkpoint, listed_checkpoint};
use crate::error::LakeError;

/// Rows of a checkpoint that are read at a time.
const CHECKPOINT_ROWS: usize = 64 << 10;

/// What a checkpoint says of a table at one version.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) version: u64,
    /// The version of the last checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// The positions of all streams.
    pub(crate) positions: HashMap<String, i64>,
    /// Whether not all positions could be read. Those that are missing must be looked up.
    pub(crate) partial: bool,
}

/// The positions in a table's last checkpoint. The entries after its version have still to be read.
/// `None`: the table is not there.
pub(crate) async fn base(log_store: &LogStoreRef, table: &str) -> Result<Option<Base>, LakeError> {
    let store = log_store.object_store(None);
    let hint = last_checkpoint(store.as_ref(), table).await?;
    if let Some(hint) = &hint
        && let Some(base) = checkpointed(&store, table, hint).await?
    {
        return Ok(Some(base));
    }
    if has_entry(store.as_ref(), table, 0).await? {
        return Ok(Some(Base::default()));
    }
    match listed_checkpoint(store.as_ref(), table).await? {
        Some(found) => match checkpointed(&store, table, &found).await? {
            Some(base) => Ok(Some(base)),
            None => Err(LakeError::Corrupt(format!(
                "{table}: the checkpoint of version {} was listed, but it cannot be found",
                found.version
            ))),
        },
        None if hint.is_some() => Err(LakeError::Corrupt(format!(
            "{table}: the log has neither the checkpoint that _last_checkpoint names nor its first entry"
        ))),
        None => Ok(None),
    }
}

/// The positions in a checkpoint. `None`: its files are not there.
async fn checkpointed(
    store: &Arc<dyn ObjectStore>,
    table: &str,
    hint: &LastCheckpoint,
) -> Result<Option<Base>, LakeError> {
    let version = hint.version;
    let mut base = Base { version, checkpoint: Some(version), ..Base::default() };
    if hint.is_v2() {
        // Another writer's checkpoint. Its files have random names; deltalake knows how to read
        // them.
        base.partial = true;
        return Ok(Some(base));
    }
    for path in checkpoint_paths(version, hint.parts) {
        let size = match store.head(&path).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(table, error)),
        };
        let wrong = |error: parquet::errors::ParquetError| match error {
            parquet::errors::ParquetError::External(error) => {
                LakeError::Unavailable { subject: format!("{table}: {path}"), source: error }
            }
            error => LakeError::Corrupt(format!("{table}: {path}: {error}")),
        };
        let reader = StoredFile { store: store.clone(), path: path.clone(), size };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(wrong)?;
        let projection = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
        let mut rows = builder.with_projection(projection).with_batch_size(CHECKPOINT_ROWS).build().map_err(wrong)?;
        while let Some(batch) = rows.try_next().await.map_err(wrong)? {
            take_positions(&batch, &mut base.positions).ok_or_else(|| {
                LakeError::Corrupt(format!("{table}: {path}: column txn has other types than Delta's protocol says"))
            })?;
        }
    }
    Ok(Some(base))
}

fn take_positions(batch: &RecordBatch, positions: &mut HashMap<String, i64>) -> Option<()> {
    let Some(transactions) = batch.column_by_name("txn") else { return Some(()) };
    if transactions.null_count() == transactions.len() {
        return Some(());
    }
    let transactions = transactions.as_struct_opt()?;
    let applications = arrow::compute::cast(transactions.column_by_name("appId")?, &DataType::Utf8).ok()?;
    let applications = applications.as_string_opt::<i32>()?;
    let versions = transactions.column_by_name("version")?.as_primitive_opt::<Int64Type>()?;
    for row in (0..transactions.len()).filter(|&row| transactions.is_valid(row)) {
        if applications.is_valid(row) && versions.is_valid(row) {
            positions.insert(applications.value(row).to_string(), versions.value(row));
        }
    }
    Some(())
}

/// A Parquet file in the store.
pub(crate) struct StoredFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) size: u64,
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            reader.load_and_finish(&mut *self, size).await.map(Arc::new)
        }
        .boxed()
    }
}
