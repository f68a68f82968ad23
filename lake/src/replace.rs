//! Replaces the content of a table in one commit. Readers see the old rows or the new ones.
//!
//! What a table is to hold is given as a set of files: some that it held at an earlier version, the
//! *base*, and new ones. The commit removes and adds what the newest version has too much or lacks.
//! So a table that a dead run has written to, or that was rolled back, needs no repair of its own.
//!
//! A batch table that an earlier adlake has written may have other columns. None of its rows stay,
//! so the same commit gives it the columns of today. A reader of an older version sees the older
//! columns.
//!
//! A table of reference data gets the columns that it lacks. If one of its columns has another
//! type, the load is refused: the user loaded its rows, and they may stay.

use std::collections::{BTreeMap, HashMap};

use adlake_domain::catalogue::{self, Table};
use deltalake::kernel::Action;
use deltalake::kernel::transaction::CommitData;
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::{DeltaOperation, SaveMode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, LastLook, Put};
use crate::error::LakeError;
use crate::live::{LiveFile, OpenFile, files_of};
use crate::shape::{Described, Fit};
use crate::storage::Lake;
use crate::write::{DataFile, TableWriter, WriterSettings};

/// Replaces the content of one table.
pub struct Replacer {
    lake: Lake,
    table: Table,
    log_store: LogStoreRef,
    /// The version whose files are replaced.
    version: u64,
    /// When `version` was the newest.
    looked: LastLook,
    /// The files of that version, by their paths.
    newest: BTreeMap<String, LiveFile>,
    /// The files of the base, of which some may stay.
    base: Vec<LiveFile>,
    /// The table's new `metaData`, if its columns change.
    metadata: Option<Value>,
}

impl std::fmt::Debug for Replacer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacer").field("table", &self.table.name).field("version", &self.version).finish()
    }
}

impl Lake {
    /// A replacer of a table of the catalogue. Creates the table if it is not there.
    pub async fn replacer(&self, table: &str) -> Result<Replacer, LakeError> {
        let table =
            catalogue::table(table).ok_or_else(|| LakeError::NotFound(format!("adlake has no table {table:?}")))?;
        self.create_table(&table).await?;
        self.retry(|| self.replacer_of(table.clone(), None)).await
    }

    /// A replacer of a table of the catalogue, of whose files at version `base` some may stay.
    pub async fn replacer_from(&self, table: &str, base: u64) -> Result<Replacer, LakeError> {
        let table =
            catalogue::table(table).ok_or_else(|| LakeError::NotFound(format!("adlake has no table {table:?}")))?;
        self.retry(|| self.replacer_of(table.clone(), Some(base))).await
    }

    async fn replacer_of(&self, table: Table, base: Option<u64>) -> Result<Replacer, LakeError> {
        let wrong = |error| LakeError::table(table.name, error);
        let looked = LastLook::now(self);
        let mut loaded = self.delta_table(table.name)?;
        loaded.load().await.map_err(wrong)?;
        let snapshot = loaded.snapshot().map_err(wrong)?;
        let version = snapshot.version();
        let described = Described::new(table.name, snapshot.metadata(), snapshot.protocol())?;
        let metadata = if table.name.starts_with("batch/") {
            described.renewed(&table)
        } else {
            described.fit(&table).map(|fit| match fit {
                Fit::Fits => None,
                Fit::Lacks { metadata, .. } => Some(metadata),
            })
        };
        let metadata = metadata.map_err(|detail| LakeError::schema(table.name, version, detail))?;
        let newest: BTreeMap<String, LiveFile> =
            files_of(snapshot).into_iter().map(|file| (file.path.clone(), file)).collect();
        let base = match base {
            None => Vec::new(),
            Some(base) if base == version => files_of(snapshot),
            Some(base) => {
                let mut earlier = self.delta_table(table.name)?;
                earlier.load_version(base).await.map_err(wrong)?;
                files_of(earlier.snapshot().map_err(wrong)?)
            }
        };
        let log_store = loaded.log_store();
        Ok(Replacer { lake: self.clone(), log_store, table, version, looked, newest, base, metadata })
    }
}

impl Replacer {
    /// A writer of files for this table.
    pub fn writer(&self, settings: &WriterSettings) -> TableWriter {
        TableWriter::new(&self.table, &self.log_store, settings)
    }

    /// The table's definition.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The files of the base, by date and path.
    pub fn base(&self) -> &[LiveFile] {
        &self.base
    }

    /// Reads a file of the base.
    pub async fn open(&self, file: &LiveFile) -> Result<OpenFile, LakeError> {
        file.open(&self.lake, &self.log_store, &self.table).await
    }

    /// Commits: afterwards the table holds `files` and nothing else. Returns the new version.
    pub async fn commit(self, files: Vec<DataFile>) -> Result<u64, LakeError> {
        self.commit_keeping(&[], files).await
    }

    /// Commits: afterwards the table holds the `kept` files of the base and `files`, and nothing
    /// else. Returns the new version.
    ///
    /// A batch table has one writer at a time. If another has committed since this replacer was
    /// made, nothing is changed, and the error says so. If others have committed so much meanwhile
    /// that the log has moved on, it is not known whether this commit was in before theirs. The
    /// error says that.
    pub async fn commit_keeping(mut self, kept: &[LiveFile], files: Vec<DataFile>) -> Result<u64, LakeError> {
        let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
        // What the table holds already is neither added nor removed.
        let kept = kept.iter().map(|file| file.add(true));
        let mut actions: Vec<Action> = files
            .into_iter()
            .map(|file| file.add)
            .chain(kept)
            .filter(|add| self.newest.remove(&add.path).is_none())
            .map(Action::Add)
            .collect();
        actions.extend(self.newest.into_values().map(|file| Action::Remove(file.remove(true))));
        let (name, next) = (self.table.name, self.version + 1);
        let commit_id = Uuid::new_v4().to_string();
        let info = HashMap::from([(COMMIT_ID.to_string(), Value::String(commit_id.clone()))]);
        let bytes = CommitData::new(actions, operation, info, Vec::new())
            .get_bytes()
            .map_err(|error| LakeError::rows(name, error))?;
        let bytes = match &self.metadata {
            Some(metadata) => [&bytes[..], b"\n", json!({"metaData": metadata}).to_string().as_bytes()].concat().into(),
            None => bytes,
        };
        match self.lake.watch(commit::put(&self.log_store, name, next, &commit_id, &bytes, self.looked)).await? {
            Put::Ours => {}
            Put::Theirs(_) => {
                let detail = format!("another process has written {name} first, as version {next}");
                return Err(LakeError::Superseded(format!("{detail}; the rows of this one are not in it")));
            }
            // The commit of this process may be the one that the others have built on. The files of
            // the newest version do not tell: another writer may have replaced them already.
            Put::MovedOn => {
                let detail = format!(
                    "this process was held up, and {name} has been written since (version {next} and later): the rows \
                     of this process may or may not be among what was written"
                );
                return Err(LakeError::Superseded(detail));
            }
        }
        // The rows are committed. If this checkpoint fails, a later commit writes one.
        if let Err(error) = self.lake.checkpoint_if_due(self.table.name, next).await {
            tracing::warn!(table = self.table.name, version = next, %error, "the checkpoint was not written");
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::catalogue::CREATIVES;

    use std::time::Duration;

    use super::*;
    use crate::{LogSettings, StorageSettings};

    #[tokio::test]
    async fn a_replacer_that_was_held_up_does_not_say_that_its_rows_are_not_in() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let log = LogSettings { retention: Duration::from_secs(3600), ..LogSettings::default() };
        let lake = Lake::open(&StorageSettings { uri, log, ..StorageSettings::default() }).await.unwrap();
        let (first, mut late) = (lake.replacer(CREATIVES).await.unwrap(), lake.replacer(CREATIVES).await.unwrap());
        first.commit(Vec::new()).await.unwrap();
        lake.keep_log(CREATIVES).await.unwrap();
        late.looked = late.looked.earlier(Duration::from_secs(1800));
        let lost = late.commit(Vec::new()).await.unwrap_err();
        assert!(matches!(lost, LakeError::Superseded(_)) && !lost.is_retryable(), "{lost:?}");
        assert!(lost.to_string().contains("may or may not be among what was written"), "{lost}");
    }

    #[tokio::test]
    async fn of_two_replacements_of_one_version_one_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        let (first, second) = (lake.replacer(CREATIVES).await.unwrap(), lake.replacer(CREATIVES).await.unwrap());
        assert_eq!(first.commit(Vec::new()).await.unwrap(), 1);
        let lost = second.commit(Vec::new()).await.unwrap_err();
        assert!(matches!(lost, LakeError::Superseded(_)) && !lost.is_retryable(), "{lost:?}");
        assert!(lost.to_string().contains("has written ref/creatives first, as version 1"), "{lost}");
    }
}
