//! A table's log: its newest version and the positions in it, found without reading which files the
//! table has.
//!
//! A table that has been written every second for a month has millions of versions and files. An
//! appender has to know only the newest version and the positions of the streams. Both are found in
//! a time that does not grow with the table:
//!
//! - `_last_checkpoint` names a version near the newest, and versions are consecutive, so the
//!   newest is found from there. The log is never listed from its beginning, unless that file is
//!   lost.
//! - Of the checkpoint only the column of the transactions is read. It is empty in all rows that
//!   describe files.
//!
//! [`mod@crate::upkeep`] keeps the log short.

use std::collections::HashMap;

use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::storage::Lake;

mod checkpoint;

pub(crate) use checkpoint::{Base, StoredFile, base};

/// The folder of the log under a table.
pub(crate) const FOLDER: &str = "_delta_log";

/// How long a table's log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogState {
    /// The newest version.
    pub version: u64,
    /// The version of the last checkpoint. `None`: there is none yet.
    pub checkpoint: Option<u64>,
    /// The number of files in the log: entries, checkpoints and `_last_checkpoint`.
    pub files: u64,
}

impl Lake {
    /// The newest version of a table. `None`: there is no such table.
    pub async fn newest_version(&self, table: &str) -> Result<Option<u64>, LakeError> {
        self.retry(|| async { newest_version(&self.log_store(table)?, table).await }).await
    }

    /// Whether a table's log still has the entry of a version.
    pub async fn has_entry(&self, table: &str, version: u64) -> Result<bool, LakeError> {
        let log_store = self.log_store(table)?;
        self.retry(|| async { has_entry(log_store.object_store(None).as_ref(), table, version).await }).await
    }

    /// How long a table's log is. `None`: there is no such table.
    pub async fn log_state(&self, table: &str) -> Result<Option<LogState>, LakeError> {
        self.retry(|| self.read_log_state(table)).await
    }

    async fn read_log_state(&self, table: &str) -> Result<Option<LogState>, LakeError> {
        let log_store = self.log_store(table)?;
        let Some(version) = newest_version(&log_store, table).await? else { return Ok(None) };
        let store = log_store.object_store(None);
        let checkpoint = last_checkpoint(store.as_ref(), table).await?.map(|hint| hint.version);
        let listed = store.list(Some(&Path::from(FOLDER)));
        let files = listed.try_fold(0, async |count, _| Ok(count + 1)).await.map_err(|error| failed(table, error))?;
        Ok(Some(LogState { version, checkpoint, files }))
    }
}

/// The contents of `_last_checkpoint`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastCheckpoint {
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) parts: Option<u64>,
    #[serde(default)]
    v2_checkpoint: Option<serde::de::IgnoredAny>,
}

impl LastCheckpoint {
    /// Whether another writer has written it in the newer form, whose files have random names.
    pub(crate) fn is_v2(&self) -> bool {
        self.v2_checkpoint.is_some()
    }
}

pub(crate) fn failed(table: &str, error: object_store::Error) -> LakeError {
    LakeError::store(format!("the log of {table}"), error)
}

/// The path of a version's entry.
pub(crate) fn entry_path(version: u64) -> Path {
    Path::from(format!("{FOLDER}/{version:020}.json"))
}

/// The version that a file of the log belongs to, and the rest of the file's name.
pub(crate) fn parse_name(path: &Path) -> Option<(u64, &str)> {
    let name = path.filename()?;
    let (version, rest) = name.split_once('.')?;
    if version.len() != 20 {
        return None;
    }
    Some((version.parse().ok()?, rest))
}

/// Reads `_last_checkpoint`. `None`: it is not there, or it cannot be parsed.
pub(crate) async fn last_checkpoint(store: &dyn ObjectStore, table: &str) -> Result<Option<LastCheckpoint>, LakeError> {
    let got = match store.get(&Path::from(format!("{FOLDER}/_last_checkpoint"))).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(table, error)),
    };
    let bytes = got.bytes().await.map_err(|error| failed(table, error))?;
    match serde_json::from_slice(&bytes) {
        Ok(hint) => Ok(Some(hint)),
        Err(error) => {
            tracing::warn!(table, %error, "_last_checkpoint cannot be parsed; the log is listed instead");
            Ok(None)
        }
    }
}

/// The newest version. `None`: the table is not there.
pub(crate) async fn newest_version(log_store: &LogStoreRef, table: &str) -> Result<Option<u64>, LakeError> {
    let store = log_store.object_store(None);
    let mut from = match last_checkpoint(store.as_ref(), table).await? {
        Some(hint) => hint.version,
        None if has_entry(store.as_ref(), table, 0).await? => 0,
        None => match listed_checkpoint(store.as_ref(), table).await? {
            Some(found) => found.version,
            None => return Ok(None),
        },
    };
    loop {
        let newest = newest_from(log_store, table, from).await?;
        if newest != from {
            return Ok(Some(newest));
        }
        // There is nothing after the checkpoint. Either it is the newest version, or the entries
        // after it were removed while we looked.
        match last_checkpoint(store.as_ref(), table).await? {
            Some(hint) if hint.version > from => from = hint.version,
            _ => return Ok(Some(newest)),
        }
    }
}

/// The newest version at or after `from`. The entry of `from` is there or was there, and none after
/// it has been removed.
async fn newest_from(log_store: &LogStoreRef, table: &str, from: u64) -> Result<u64, LakeError> {
    let store = log_store.object_store(None);
    if log_store.root_url().scheme() != "file" {
        // One request lists a thousand entries from an offset on.
        let names = store.list_with_offset(Some(&Path::from(FOLDER)), &entry_path(from));
        let versions = names.try_filter_map(async |meta| {
            Ok(parse_name(&meta.location).filter(|(_, rest)| *rest == "json").map(|(version, _)| version))
        });
        let newest = versions.try_fold(from, async |newest, version| Ok(newest.max(version)));
        return newest.await.map_err(|error| failed(table, error));
    }
    // A folder can only be listed as a whole, but a check whether a file exists costs next to
    // nothing.
    let mut step = 1;
    let mut there = from;
    while has_entry(store.as_ref(), table, there + step).await? {
        there += step;
        step *= 2;
    }
    // The entry of `there` exists, that of `there + step` does not.
    while step > 1 {
        step /= 2;
        if has_entry(store.as_ref(), table, there + step).await? {
            there += step;
        }
    }
    Ok(there)
}

/// Whether a version's entry is there.
pub(crate) async fn has_entry(store: &dyn ObjectStore, table: &str, version: u64) -> Result<bool, LakeError> {
    match store.head(&entry_path(version)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(failed(table, error)),
    }
}

/// The newest whole checkpoint, found by listing the log. Used when `_last_checkpoint` is lost.
async fn listed_checkpoint(store: &dyn ObjectStore, table: &str) -> Result<Option<LastCheckpoint>, LakeError> {
    let mut listed = store.list(Some(&Path::from(FOLDER)));
    let mut parts: HashMap<(u64, Option<u64>), u64> = HashMap::new();
    while let Some(meta) = listed.try_next().await.map_err(|error| failed(table, error))? {
        let Some((version, rest)) = parse_name(&meta.location) else { continue };
        if let Some(of) = parse_part(rest) {
            *parts.entry((version, of)).or_default() += 1;
        }
    }
    let whole = parts.into_iter().filter(|((_, of), count)| of.is_none_or(|of| of == *count));
    let newest = whole.map(|(key, _)| key).max();
    Ok(newest.map(|(version, parts)| LastCheckpoint { version, parts, v2_checkpoint: None }))
}

/// Of how many parts a file of a checkpoint is one. `Some(None)`: it is a whole checkpoint. `None`:
/// it is another file.
pub(crate) fn parse_part(rest: &str) -> Option<Option<u64>> {
    match rest.split('.').collect::<Vec<_>>()[..] {
        ["checkpoint", "parquet"] => Some(None),
        ["checkpoint", _, of, "parquet"] => of.parse().ok().map(Some),
        _ => None,
    }
}

/// The paths of the files of a checkpoint in one file, or in so many parts.
pub(crate) fn checkpoint_paths(version: u64, parts: Option<u64>) -> Vec<Path> {
    let names: Vec<String> = match parts {
        None => vec![format!("{FOLDER}/{version:020}.checkpoint.parquet")],
        Some(of) => {
            (1..=of).map(|part| format!("{FOLDER}/{version:020}.checkpoint.{part:010}.{of:010}.parquet")).collect()
        }
    };
    names.into_iter().map(Path::from).collect()
}

#[cfg(test)]
mod tests;
