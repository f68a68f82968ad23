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

use adlake_domain::catalogue::Table;
use arrow::array::RecordBatch;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::DeltaOperation;
use serde_json::Value;
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, LastLook, Put};
use crate::error::LakeError;
use crate::evolve::Opened;
use crate::live::{LiveFile, files_of};
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
    files: Vec<LiveFile>,
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
        let files = files_of(snapshot);
        if let Some(file) = files.iter().find(|file| file.has_deletions()) {
            let detail = format!("rows of {} are deleted by a deletion vector", file.path);
            return Err(LakeError::schema(table.name, version, detail));
        }
        let schema = snapshot.snapshot().arrow_schema();
        let table = Table { schema, ..table.clone() };
        Ok(Rewriter { lake: self.clone(), log_store: loaded.log_store(), table, version, looked, files })
    }
}

impl Rewriter {
    /// The files at the rewriter's version.
    pub fn files(&self) -> &[LiveFile] {
        &self.files
    }

    /// A writer of new files.
    pub fn writer(&self, settings: &WriterSettings) -> TableWriter {
        TableWriter::new(&self.table, &self.log_store, settings)
    }

    /// The rows of a file in their order, with all columns of the table.
    pub async fn read(
        &self,
        file: &LiveFile,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, LakeError>> + use<>, LakeError> {
        file.open(&self.lake, &self.log_store, &self.table).await?.rows()
    }

    /// The table, with its own columns.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Exchanges files for new ones in one commit. `data_change`: whether the rows differ.
    pub async fn exchange(
        self,
        old: &[LiveFile],
        new: Vec<DataFile>,
        data_change: bool,
    ) -> Result<Exchanged, LakeError> {
        let name = self.table.name;
        let operation = match data_change {
            true => DeltaOperation::Update { predicate: None },
            false => DeltaOperation::Optimize { predicate: None, target_size: 0 },
        };
        let removes = old.iter().map(|file| Action::Remove(file.remove(data_change)));
        let actions = removes.chain(new.into_iter().map(|file| Action::Add(Add { data_change, ..file.add }))).collect();
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
