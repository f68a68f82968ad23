//! Changes rows of a table. Whole files are read and written anew. One commit exchanges the old
//! files for the new ones.
//!
//! The commit is the PUT-if-absent of the version after the one that the files were read at. If
//! other writers have committed meanwhile, their entries are read:
//!
//! - An append does not conflict. The exchange is retried at the next version.
//! - If an entry removes any file or changes the table, the exchange fails ([`Exchanged::Stale`]),
//!   and the caller reads the files again. It does not matter which file, because writers spell
//!   paths differently.
//!
//! [`mod@crate::commit`] resolves an unclear answer to the PUT.
//!
//! All columns are kept, also those that others have added. Files with deletion vectors and
//! append-only tables are refused.

use std::collections::HashMap;
use std::sync::Arc;

use adlake_domain::catalogue::Table;
use arrow::array::{ArrayRef, Date32Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Remove};
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::DeltaOperation;
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, LastLook, Put};
use crate::error::LakeError;
use crate::evolve::Opened;
use crate::storage::Lake;
use crate::write::{DataFile, TableWriter, WriterSettings};

/// Exchanges files of one table as it is at one version.
pub(crate) struct Rewriter {
    lake: Lake,
    /// With the table's own columns, which may be more than the catalogue's.
    table: Table,
    log_store: LogStoreRef,
    version: u64,
    /// When `version` was the newest.
    looked: LastLook,
    files: Vec<OldFile>,
}

/// A file that is in the table at the rewriter's version.
#[derive(Debug, Clone)]
pub(crate) struct OldFile {
    pub path: String,
    pub bytes: u64,
    /// The value of the partition column, which is a date.
    pub date: Option<String>,
    /// Its statistics as in the log.
    pub stats: Option<String>,
    object: Path,
    remove: Remove,
}

/// The result of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exchanged {
    /// The exchange is in.
    Committed { version: u64 },
    /// Nothing of it is in: the table has changed meanwhile.
    Stale,
}

impl std::fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rewriter").field("table", &self.table.name).field("version", &self.version).finish()
    }
}

impl Lake {
    /// A rewriter of a table of the catalogue at its newest version.
    pub(crate) async fn rewriter(&self, table: &Table) -> Result<Rewriter, LakeError> {
        let Opened { described, .. } = self.open_table(table).await?;
        self.retry(|| self.rewriter_of(table, described.is_append_only())).await
    }

    async fn rewriter_of(&self, table: &Table, is_append_only: bool) -> Result<Rewriter, LakeError> {
        let wrong = |error| LakeError::table(table.name, error);
        let looked = LastLook::now(self);
        let mut loaded = self.delta_table(table.name)?;
        loaded.load().await.map_err(wrong)?;
        let snapshot = loaded.snapshot().map_err(wrong)?;
        let version = snapshot.version();
        if is_append_only {
            let detail = "its rows must not be changed (delta.appendOnly)".to_string();
            return Err(LakeError::schema(table.name, version, detail));
        }
        let mut files = Vec::new();
        for file in snapshot.log_data().iter() {
            if file.deletion_vector_descriptor().is_some() {
                let detail = format!("rows of {} are deleted by a deletion vector", file.path());
                return Err(LakeError::schema(table.name, version, detail));
            }
            let mut remove = file.remove_action(true);
            remove.deletion_timestamp = Some(chrono::Utc::now().timestamp_millis());
            files.push(OldFile {
                path: file.path().to_string(),
                bytes: file.size().max(0) as u64,
                date: file.partition_values_map().into_values().flatten().next(),
                stats: file.stats(),
                object: file.object_store_path(),
                remove,
            });
        }
        // The oldest first, in an order that is the same for every process.
        files.sort_by(|a, b| (&a.date, &a.path).cmp(&(&b.date, &b.path)));
        let schema = snapshot.snapshot().arrow_schema();
        let table = Table { schema, ..table.clone() };
        Ok(Rewriter { lake: self.clone(), log_store: loaded.log_store(), table, version, looked, files })
    }
}

impl Rewriter {
    /// The files at the rewriter's version.
    pub fn files(&self) -> &[OldFile] {
        &self.files
    }

    /// A writer of new files.
    pub fn writer(&self, settings: &WriterSettings) -> TableWriter {
        TableWriter::new(&self.table, &self.log_store, settings)
    }

    /// The rows of a file in their order, with all columns of the table.
    pub async fn read(
        &self,
        file: &OldFile,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, LakeError>> + use<>, LakeError> {
        let name = self.table.name;
        let subject = || format!("{name}/{}", file.path);
        let store = self.log_store.object_store(None);
        let get = || async {
            let read = async { store.get(&file.object).await?.bytes().await };
            read.await.map_err(|error| LakeError::store(subject(), error))
        };
        let bytes = self.lake.retry(get).await?;
        let wrong = |error: &dyn std::fmt::Display| LakeError::Corrupt(format!("{}: {error}", subject()));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| wrong(&error))?;
        let reader = reader.build().map_err(|error| wrong(&error))?;
        let date = match file.date.as_deref().map(days).transpose() {
            Ok(date) => date,
            Err(error) => return Err(wrong(&error)),
        };
        let (schema, partition) = (self.table.schema.clone(), self.table.partition_columns.first().copied());
        let subject = subject();
        Ok(reader.map(move |batch| {
            let adapted = batch.and_then(|batch| adapt(&batch, &schema, partition, date));
            adapted.map_err(|error| LakeError::Corrupt(format!("{subject}: {error}")))
        }))
    }

    /// Exchanges files for new ones in one commit.
    pub async fn exchange(self, old: &[OldFile], new: Vec<DataFile>) -> Result<Exchanged, LakeError> {
        let name = self.table.name;
        let operation = DeltaOperation::Update { predicate: None };
        let removes = old.iter().map(|file| Action::Remove(file.remove.clone()));
        let actions = removes.chain(new.into_iter().map(|file| Action::Add(file.add))).collect();
        let commit_id = Uuid::new_v4().to_string();
        let metadata = HashMap::from([(COMMIT_ID.to_string(), Value::String(commit_id.clone()))]);
        let bytes = CommitData::new(actions, operation, metadata, Vec::new())
            .get_bytes()
            .map_err(|error| LakeError::rows(name, error))?;
        let (mut next, mut looked) = (self.version + 1, self.looked);
        loop {
            match commit::put(&self.log_store, name, next, &commit_id, &bytes, looked).await? {
                Put::Ours => return self.committed(next).await,
                Put::Theirs(entry) if entry.is_change() || entry.removes => return Ok(Exchanged::Stale),
                Put::Theirs(_) => (next, looked) = (next + 1, LastLook::now(&self.lake)),
                // If the exchange is in after all, the caller finds what it has done.
                Put::MovedOn => return Ok(Exchanged::Stale),
            }
        }
    }

    async fn committed(&self, version: u64) -> Result<Exchanged, LakeError> {
        if let Err(error) = self.lake.checkpoint_if_due(self.table.name, version).await {
            tracing::warn!(table = self.table.name, version, %error, "the checkpoint was not written");
        }
        Ok(Exchanged::Committed { version })
    }
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
