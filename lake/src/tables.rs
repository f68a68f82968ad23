//! Creating the tables of the catalogue, with descriptions; several creators at once are tolerated.

use std::collections::HashMap;
use std::sync::Arc;

use adlake_domain::catalogue::{self, Table};
use arrow::datatypes::{Field, Schema};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;

use crate::error::LakeError;
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
        if self.table_exists(table.name).await? {
            return Ok(());
        }
        self.ensure_folder(table.name)?;
        let wrong = |error: &dyn std::fmt::Display| LakeError::rows(table.name, error);
        let schema: StructType = with_comments(table).as_ref().try_into_kernel().map_err(|error| wrong(&error))?;
        let interval = self.log_settings().checkpoint_interval.max(1);
        let created = CreateBuilder::new()
            .with_log_store(self.log_store(table.name)?)
            .with_table_name(table.name.replace('/', "_"))
            .with_comment(table.description)
            .with_columns(schema.fields().cloned())
            .with_partition_columns(table.partition_columns.iter().copied())
            .with_configuration([("delta.checkpointInterval", Some(interval.to_string()))])
            .with_save_mode(SaveMode::ErrorIfExists)
            .await;
        match created {
            Ok(_) => Ok(()),
            // Somebody else was first: what they made is what we would have made.
            Err(_) if self.table_exists(table.name).await? => Ok(()),
            Err(error) => Err(LakeError::table(table.name, error)),
        }
    }

    /// A local table's folder has to be there before its log is.
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

/// The table's schema with the meaning of its columns.
pub(crate) fn with_comments(table: &Table) -> Arc<Schema> {
    let fields: Vec<Field> = table
        .schema
        .fields()
        .iter()
        .map(|field| {
            let field = field.as_ref().clone();
            match catalogue::column_description(field.name()) {
                Some(text) => field.with_metadata(HashMap::from([("comment".to_string(), text.to_string())])),
                None => field,
            }
        })
        .collect();
    Arc::new(Schema::new(fields))
}
