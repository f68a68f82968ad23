//! Creates the tables of the catalogue, with descriptions.
//!
//! A table is created by the PUT-if-absent of its version 0, like every later version. If several
//! processes create it at once, one is first, and the others use its table. A process that got no
//! clear answer to its PUT reads the version.

use std::collections::HashMap;

use adlake_domain::catalogue::{self, Table};
use bytes::Bytes;
use deltalake::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, MetadataExt, Protocol, StructType, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, LastLook, Put};
use crate::error::LakeError;
use crate::log;
use crate::shape::with_comments;
use crate::storage::Lake;

impl Lake {
    /// Creates every table of the catalogue that is not there yet.
    pub async fn create_tables(&self) -> Result<(), LakeError> {
        let creating = catalogue::tables().into_iter().map(|table| {
            let lake = self.clone();
            async move { lake.create_table(&table).await }
        });
        futures::future::try_join_all(creating).await?;
        Ok(())
    }

    /// Whether a table is there.
    pub async fn table_exists(&self, table: &str) -> Result<bool, LakeError> {
        Ok(self.newest_version(table).await?.is_some())
    }

    /// Creates one table unless it is there.
    pub(crate) async fn create_table(&self, table: &Table) -> Result<(), LakeError> {
        self.retry(|| self.create_unless_there(table)).await
    }

    async fn create_unless_there(&self, table: &Table) -> Result<(), LakeError> {
        let log_store = self.log_store(table.name)?;
        let looked = LastLook::now(self);
        if log::newest_version(&log_store, table.name).await?.is_some() {
            return Ok(());
        }
        self.ensure_folder(table.name)?;
        let commit_id = Uuid::new_v4().to_string();
        let bytes = self.first_entry(table, &commit_id).map_err(|error| LakeError::table(table.name, error))?;
        match commit::put(&log_store, table.name, 0, &commit_id, &bytes, looked).await? {
            Put::Ours => tracing::debug!(table = table.name, "the table was created"),
            // The other table is what we would have created. Whoever opens the table checks that.
            Put::Theirs(_) | Put::MovedOn => {
                tracing::debug!(table = table.name, "the table was created by another process");
            }
        }
        Ok(())
    }

    /// The entry of version 0.
    fn first_entry(&self, table: &Table, commit_id: &str) -> Result<Bytes, DeltaTableError> {
        let schema: StructType = with_comments(table).as_ref().try_into_kernel()?;
        let interval = self.log_settings().checkpoint_interval.max(1);
        let metadata = new_metadata(
            &schema,
            table.partition_columns.iter().copied(),
            [("delta.checkpointInterval", interval.to_string())],
        )?
        .with_name(table.name.replace('/', "_"))?
        .with_description(table.description.to_string())?;
        // The protocol that every reader and writer of Delta supports.
        let protocol: Protocol = serde_json::from_value(json!({"minReaderVersion": 1, "minWriterVersion": 2}))?;
        let operation = DeltaOperation::Create {
            mode: SaveMode::ErrorIfExists,
            location: self.table_url(table.name).map_err(DeltaTableError::generic)?,
            protocol: protocol.clone(),
            metadata: metadata.clone(),
        };
        let info = HashMap::from([(COMMIT_ID.to_string(), Value::String(commit_id.to_string()))]);
        let actions = vec![Action::Protocol(protocol), Action::Metadata(metadata)];
        Ok(CommitData::new(actions, operation, info, Vec::new()).get_bytes()?)
    }

    /// The folder of a local table must exist before its log does.
    fn ensure_folder(&self, table: &str) -> Result<(), LakeError> {
        let url = self.table_url(table)?;
        if url.scheme() != "file" {
            return Ok(());
        }
        let path = url.to_file_path().map_err(|()| LakeError::Configuration(format!("{url} is not a local path")))?;
        std::fs::create_dir_all(&path).map_err(|error| LakeError::Refused {
            subject: format!("folder {}", path.display()),
            source: Box::new(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::catalogue::{DEAD_LETTERS, tables};
    use deltalake::operations::create::CreateBuilder;

    use super::*;
    use crate::StorageSettings;

    async fn lake(folder: &std::path::Path) -> Lake {
        let uri = folder.to_string_lossy().into_owned();
        Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap()
    }

    /// The actions of version 0, without the parts that differ between two creations.
    fn first_actions(lake: &Lake, table: &str) -> Vec<Value> {
        let path = lake.table_url(table).unwrap().to_file_path().unwrap().join("_delta_log/00000000000000000000.json");
        let text = std::fs::read_to_string(path).unwrap();
        let actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut actions: Vec<Value> = actions.filter(|action| action.get("commitInfo").is_none()).collect();
        for metadata in actions.iter_mut().filter_map(|action| action.get_mut("metaData")) {
            metadata["id"] = Value::Null;
            metadata["createdTime"] = Value::Null;
        }
        actions.sort_by_key(ToString::to_string);
        actions
    }

    #[tokio::test]
    async fn a_table_is_created_as_the_library_creates_it() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (ours, theirs) = (lake(folders[0].path()).await, lake(folders[1].path()).await);
        for table in tables() {
            ours.create_table(&table).await.unwrap();
            theirs.ensure_folder(table.name).unwrap();
            let schema: StructType = with_comments(&table).as_ref().try_into_kernel().unwrap();
            CreateBuilder::new()
                .with_log_store(theirs.log_store(table.name).unwrap())
                .with_table_name(table.name.replace('/', "_"))
                .with_comment(table.description)
                .with_columns(schema.fields().cloned())
                .with_partition_columns(table.partition_columns.iter().copied())
                .with_configuration([("delta.checkpointInterval", Some("100"))])
                .await
                .unwrap();
            assert_eq!(first_actions(&ours, table.name), first_actions(&theirs, table.name), "{}", table.name);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_creators_make_one_table() {
        let folder = tempfile::tempdir().unwrap();
        let creating = (0..16).map(|_| async {
            let lake = lake(folder.path()).await;
            tokio::spawn(async move { lake.create_tables().await }).await.unwrap()
        });
        futures::future::try_join_all(creating).await.unwrap();
        assert_eq!(lake(folder.path()).await.newest_version(DEAD_LETTERS).await.unwrap(), Some(0));
    }
}
