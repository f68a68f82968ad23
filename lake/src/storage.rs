//! Where the lake is: a folder or an S3 prefix, and how to reach it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::execution::SessionState;
use deltalake::logstore::LogStoreRef;
use deltalake::{DeltaTable, DeltaTableBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::LakeError;
use crate::log::LogSettings;
use crate::session::SessionSettings;

/// The `[lake]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `file:///folder`, `s3://bucket/prefix`, or a plain path of a folder.
    pub uri: String,
    /// Options of the object store, e.g. `AWS_ENDPOINT_URL`, `AWS_REGION`; the environment's `AWS_*` stand behind them.
    pub options: BTreeMap<String, String>,
    /// How the tables' logs are kept short.
    pub log: LogSettings,
}

impl Default for StorageSettings {
    fn default() -> Self {
        StorageSettings { uri: "./lake".to_string(), options: BTreeMap::new(), log: LogSettings::default() }
    }
}

/// A handle to a lake; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

struct Inner {
    /// Ends in a slash.
    root: Url,
    options: HashMap<String, String>,
    log: LogSettings,
    /// How tables are scanned: the types that the functions of the views take, filters pushed into Parquet.
    scan_session: Arc<SessionState>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

impl Lake {
    /// Checks the settings; reads and creates nothing.
    pub async fn open(settings: &StorageSettings) -> Result<Lake, LakeError> {
        let root = root_url(&settings.uri)?;
        let options = settings.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let scan_session = Arc::new(SessionSettings::default().context()?.state());
        let log = settings.log.clone();
        Ok(Lake { inner: Arc::new(Inner { root, options, log, scan_session }) })
    }

    /// The lake's URI, ending in a slash.
    pub fn root(&self) -> &Url {
        &self.inner.root
    }

    /// How its object store is reached: the settings' options.
    pub fn storage_options(&self) -> &HashMap<String, String> {
        &self.inner.options
    }

    /// How the tables' logs are kept short.
    pub(crate) fn log_settings(&self) -> &LogSettings {
        &self.inner.log
    }

    /// The URI of a table, ending in a slash.
    pub fn table_url(&self, table: &str) -> Result<Url, LakeError> {
        let joined = self.inner.root.join(&format!("{table}/"));
        joined.map_err(|error| LakeError::Configuration(format!("lake URI {}: {error}", self.inner.root)))
    }

    /// How tables are scanned.
    pub(crate) fn scan_session(&self) -> Arc<SessionState> {
        self.inner.scan_session.clone()
    }

    /// The table as Delta sees it, nothing loaded.
    pub(crate) fn delta_table(&self, table: &str) -> Result<DeltaTable, LakeError> {
        let builder = DeltaTableBuilder::from_url(self.table_url(table)?)
            .map_err(|error| LakeError::table(table, error))?
            .with_storage_options(self.inner.options.clone());
        builder.build().map_err(|error| LakeError::table(table, error))
    }

    /// The log and the files of a table.
    pub(crate) fn log_store(&self, table: &str) -> Result<LogStoreRef, LakeError> {
        Ok(self.delta_table(table)?.log_store())
    }
}

fn root_url(uri: &str) -> Result<Url, LakeError> {
    let wrong = |detail: String| LakeError::Configuration(format!("lake URI {uri:?}: {detail}"));
    if uri.trim().is_empty() {
        return Err(wrong("is empty; give a folder or s3://bucket/prefix".to_string()));
    }
    let mut url = match Url::parse(uri) {
        Ok(url) if url.scheme().len() > 1 => url,
        _ => {
            let path = std::path::absolute(uri).map_err(|error| wrong(error.to_string()))?;
            Url::from_directory_path(&path).map_err(|()| wrong("is not a path".to_string()))?
        }
    };
    match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| wrong("is not a local path".to_string()))?;
            // With a slash at its end a file is not found.
            let path: std::path::PathBuf = path.components().collect();
            if path.exists() && !path.is_dir() {
                return Err(wrong("is a file, not a folder".to_string()));
            }
        }
        "s3" | "s3a" => {
            if url.host_str().is_none_or(str::is_empty) {
                return Err(wrong("names no bucket: s3://bucket/prefix".to_string()));
            }
        }
        "memory" => {}
        other => return Err(wrong(format!("scheme {other:?} is not supported; use file:// or s3://"))),
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        assert_eq!(root_url("s3://bucket/a").unwrap().as_str(), "s3://bucket/a/");
        assert_eq!(root_url("s3://bucket").unwrap().as_str(), "s3://bucket/");
        assert_eq!(root_url("file:///nowhere/lake").unwrap().as_str(), "file:///nowhere/lake/");
        assert!(root_url("lake").unwrap().as_str().ends_with("/lake/"));
        for (uri, part) in [("", "empty"), ("gopher://x/", "gopher"), ("s3:///x", "bucket")] {
            let error = root_url(uri).unwrap_err().to_string();
            assert!(error.contains(part), "{uri}: {error}");
        }
    }
}
