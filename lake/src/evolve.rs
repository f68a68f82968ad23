//! Opening a table for writing: it is created, or checked, or given the columns that it lacks.

use std::collections::HashMap;

use adlake_domain::catalogue::Table;
use deltalake::kernel::Snapshot;
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use serde_json::json;
use uuid::Uuid;

use crate::append::pause;
use crate::error::LakeError;
use crate::log;
use crate::shape::{Described, Fit};
use crate::storage::Lake;

/// How often columns are added anew where others commit meanwhile, or the store does not answer clearly.
const ATTEMPTS_MAX: u32 = 20;

/// A table that can be written.
pub(crate) struct Opened {
    pub log_store: LogStoreRef,
    /// The version at which this is known.
    pub version: u64,
    pub described: Described,
}

/// What the log says of a table at a version.
pub(crate) async fn described(log_store: &LogStoreRef, table: &str, version: u64) -> Result<Described, LakeError> {
    let snapshot = Snapshot::try_new(log_store.as_ref(), Some(version)).await;
    let snapshot = snapshot.map_err(|error| LakeError::table(table, error))?;
    Described::new(table, snapshot.metadata(), snapshot.protocol())
}

impl Lake {
    /// Creates a table of the catalogue unless it is there, adds what it lacks, and refuses one that cannot be written by us.
    pub(crate) async fn open_table(&self, table: &Table) -> Result<Opened, LakeError> {
        self.create_table(table).await?;
        let log_store = self.log_store(table.name)?;
        let mut attempt = 0;
        loop {
            let wrong = |error| LakeError::table(table.name, error);
            let version = log::newest_version(&log_store, table.name).await?;
            let version = version.ok_or_else(|| LakeError::NotFound(format!("{} is gone again", table.name)))?;
            let described = described(&log_store, table.name, version).await?;
            let fit = described.fit(table).map_err(|detail| LakeError::schema(table.name, version, detail))?;
            let (columns, metadata) = match fit {
                Fit::Fits => return Ok(Opened { log_store, version, described }),
                Fit::Lacks { columns, metadata } => (columns, metadata),
            };
            let info = json!({"commitInfo": {
                "timestamp": chrono::Utc::now().timestamp_millis(),
                "operation": "ADD COLUMNS",
                "operationParameters": HashMap::from([("columns", columns.join(", "))]),
                "engineInfo": concat!("adlake:", env!("CARGO_PKG_VERSION")),
            }});
            let bytes = format!("{info}\n{}", json!({"metaData": metadata})).into_bytes();
            let entry = CommitOrBytes::LogBytes(bytes.into());
            match log_store.write_commit_entry(version + 1, entry, Uuid::new_v4()).await {
                Ok(()) => tracing::info!(table = table.name, version = version + 1, ?columns, "columns were added"),
                // Whoever's entry is there, or if none is: what the table lacks now is looked at again.
                Err(error) if attempt >= ATTEMPTS_MAX => return Err(wrong(error.into())),
                Err(_) => {
                    attempt += 1;
                    pause(attempt).await;
                }
            }
        }
    }
}
