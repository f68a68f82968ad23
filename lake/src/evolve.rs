//! Opens a table for writing: creates it, checks it, or adds the columns that it lacks.

use std::collections::HashMap;

use adlake_domain::catalogue::Table;
use deltalake::kernel::Snapshot;
use deltalake::logstore::LogStoreRef;
use serde_json::json;
use uuid::Uuid;

use crate::commit::{self, COMMIT_ID, LastLook, Put};
use crate::error::LakeError;
use crate::log;
use crate::retry::pause;
use crate::shape::{Described, Fit};
use crate::storage::Lake;

/// The most attempts to add columns while other writers commit.
const ATTEMPTS_MAX: u32 = 20;

/// A table that this program can write.
pub(crate) struct Opened {
    pub log_store: LogStoreRef,
    /// The version that `described` is of.
    pub version: u64,
    pub described: Described,
}

/// The metadata and the protocol of a table at a version.
pub(crate) async fn described(log_store: &LogStoreRef, table: &str, version: u64) -> Result<Described, LakeError> {
    let snapshot = Snapshot::try_new(log_store.as_ref(), Some(version)).await;
    let snapshot = snapshot.map_err(|error| LakeError::table(table, error))?;
    Described::new(table, snapshot.metadata(), snapshot.protocol())
}

impl Lake {
    /// Creates a table of the catalogue unless it exists, and adds the columns that it lacks. A
    /// table that adlake cannot write is an error.
    pub(crate) async fn open_table(&self, table: &Table) -> Result<Opened, LakeError> {
        self.create_table(table).await?;
        self.retry(|| self.open_there(table)).await
    }

    async fn open_there(&self, table: &Table) -> Result<Opened, LakeError> {
        let log_store = self.log_store(table.name)?;
        let mut attempt = 0;
        loop {
            let looked = LastLook::now(self);
            let version = log::newest_version(&log_store, table.name).await?;
            let version = version.ok_or_else(|| {
                LakeError::NotFound(format!("table {} was deleted while it was being opened", table.name))
            })?;
            let described = described(&log_store, table.name, version).await?;
            let fit = described.fit(table).map_err(|detail| LakeError::schema(table.name, version, detail))?;
            let (columns, metadata) = match fit {
                Fit::Fits => return Ok(Opened { log_store, version, described }),
                Fit::Lacks { columns, metadata } => (columns, metadata),
            };
            let commit_id = Uuid::new_v4().to_string();
            let info = json!({"commitInfo": {
                "timestamp": chrono::Utc::now().timestamp_millis(),
                "operation": "ADD COLUMNS",
                "operationParameters": HashMap::from([("columns", columns.join(", "))]),
                "engineInfo": concat!("adlake:", env!("CARGO_PKG_VERSION")),
                COMMIT_ID: commit_id,
            }});
            let bytes = format!("{info}\n{}", json!({"metaData": metadata})).into_bytes().into();
            match commit::put(&log_store, table.name, version + 1, &commit_id, &bytes, looked).await? {
                Put::Ours => tracing::info!(table = table.name, version = version + 1, ?columns, "columns were added"),
                Put::Theirs(_) | Put::MovedOn if attempt >= ATTEMPTS_MAX => {
                    let source =
                        format!("columns were not added, because other writers have committed first {attempt} times")
                            .into();
                    return Err(LakeError::Unavailable { subject: format!("table {}", table.name), source });
                }
                // Other writers have committed. Check again which columns the table lacks.
                Put::Theirs(_) | Put::MovedOn => {
                    attempt += 1;
                    pause(attempt).await;
                }
            }
        }
    }
}
