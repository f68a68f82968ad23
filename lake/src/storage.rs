//! Where the lake is (a folder or an S3 prefix), and how to reach it.

use std::sync::Arc;
use std::time::Duration;

use adlake_domain::secret::{PublicNames, SecretOptions};
use datafusion::execution::SessionState;
use deltalake::logstore::{
    LogStoreFactory, LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
};
use deltalake::{DeltaResult, DeltaTable, DeltaTableBuilder, DeltaTableError};
use object_store::ObjectStore;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use crate::error::LakeError;
use crate::session::SessionSettings;

mod s3;
mod watched;

pub use s3::S3Options;
pub(crate) use watched::Failures;
use watched::Watched;

/// The `[lake]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `file:///folder`, `s3://bucket/prefix`, or a plain path of a folder. It holds no user and no
    /// password.
    #[serde(deserialize_with = "uri_without_user")]
    pub uri: String,
    /// Options of the object store, e.g. `AWS_ENDPOINT_URL`, `AWS_REGION`. An option that is not
    /// given here is taken from the environment's `AWS_*`. See [`S3Options`].
    pub options: StoreOptions,
    /// How long requests to a failing store are retried, from the first failure on, before the
    /// command reports the failure. Ingest, once it has begun, retries for as long as the outage
    /// lasts.
    #[serde(with = "humantime_serde")]
    pub retry_for: Duration,
    /// How the tables' logs are kept short.
    pub log: LogSettings,
}

impl Default for StorageSettings {
    fn default() -> Self {
        StorageSettings {
            uri: "./lake".to_string(),
            options: StoreOptions::default(),
            retry_for: Duration::from_secs(60),
            log: LogSettings::default(),
        }
    }
}

/// `[lake.log]`: how the tables' logs are kept short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A checkpoint is written after this many commits. 0: never.
    pub checkpoint_interval: u64,
    /// The largest share of a writer's time, in percent, that checkpoints may take. So larger
    /// checkpoints are written more rarely.
    pub checkpoint_percent_max: u32,
    /// Entries of this age are removed, unless the published batch run or the newest version needs
    /// them. 0: never.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            checkpoint_interval: 100,
            checkpoint_percent_max: 5,
            retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The options of an object store. Keys and tokens among them are not printed.
pub type StoreOptions = SecretOptions<StoreOptionNames>;

/// The options whose values are printed. All others are taken for secrets.
#[derive(Debug)]
pub enum StoreOptionNames {}

impl PublicNames for StoreOptionNames {
    fn is_public(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        matches!(
            name.strip_prefix("aws_").unwrap_or(&name),
            "allow_http"
                | "bucket"
                | "bucket_name"
                | "conditional_put"
                | "connect_timeout"
                | "default_region"
                | "endpoint"
                | "endpoint_url"
                | "endpoint_url_s3"
                | "endpoint_url_sts"
                | "iam_role_arn"
                | "iam_role_session_name"
                | "max_retries"
                | "retry_timeout"
                | "region"
                | "s3_express"
                | "skip_signature"
                | "timeout"
                | "unsigned_payload"
                | "virtual_hosted_style_request"
        )
    }
}

/// Refuses a URI with a user in it. The message does not show the URI, which may hold a password.
fn uri_without_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let uri = String::deserialize(deserializer)?;
    if has_user(&uri) { Err(de::Error::custom(USER_IN_URI)) } else { Ok(uri) }
}

const USER_IN_URI: &str = "the lake's URI holds a user or a password: remove them, and give keys in lake.options or in \
                           the AWS_* variables of the environment";

/// Whether a URI of a file system or a bucket holds a user or a password, even one that is not
/// escaped as it should be.
pub fn has_user(uri: &str) -> bool {
    // Parsers of URLs drop these characters too.
    let uri: String = uri.trim().chars().filter(|c| !c.is_control()).collect();
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let is_scheme = scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme {
        return false;
    }
    // A path of the file system may begin after any number of slashes, a bucket's name may not.
    let rest = match scheme.eq_ignore_ascii_case("file") {
        true => rest.strip_prefix("//").unwrap_or("/"),
        false => rest.trim_start_matches(['/', '\\']),
    };
    let authority = rest.split(['/', '\\']).next().unwrap_or(rest);
    // A password may contain a slash. No name of a bucket contains a colon.
    authority.contains('@') || (authority.contains(':') && rest.contains('@'))
}

/// A handle to a lake; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

struct Inner {
    /// The lake's URI, which ends in a slash.
    root: Url,
    /// The root of the lake's file system or bucket. All tables share it, and its connections.
    store: Arc<dyn ObjectStore>,
    options: StoreOptions,
    retry_for: Duration,
    failures: Failures,
    log: LogSettings,
    /// The session that scans tables. It yields the types that the views' functions take, and
    /// pushes filters into Parquet.
    scan_session: Arc<SessionState>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

impl Lake {
    /// Checks the settings. Reads and creates nothing of the lake.
    pub async fn open(settings: &StorageSettings) -> Result<Lake, LakeError> {
        let root = root_url(&settings.uri)?;
        let options = settings.options.clone();
        let failures = Failures::default();
        let store = Arc::new(Watched::new(root_store(&root, &options).await?, failures.clone()));
        let scan_session = Arc::new(SessionSettings::default().context()?.state());
        let (retry_for, log) = (settings.retry_for, settings.log.clone());
        Ok(Lake { inner: Arc::new(Inner { root, store, options, retry_for, failures, log, scan_session }) })
    }

    /// The lake's URI, which ends in a slash.
    pub fn root(&self) -> &Url {
        &self.inner.root
    }

    /// The options of the lake's object store, from the settings.
    pub fn storage_options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// How long requests to a failing store are retried.
    pub(crate) fn retry_for(&self) -> Duration {
        self.inner.retry_for
    }

    /// Counts the failures of the lake's store.
    pub(crate) fn failures(&self) -> &Failures {
        &self.inner.failures
    }

    /// How the tables' logs are kept short.
    pub(crate) fn log_settings(&self) -> &LogSettings {
        &self.inner.log
    }

    /// The URI of a table, which ends in a slash.
    pub fn table_url(&self, table: &str) -> Result<Url, LakeError> {
        let joined = self.inner.root.join(&format!("{table}/"));
        joined.map_err(|error| LakeError::Configuration(format!("lake URI {}: {error}", self.inner.root)))
    }

    /// The session that scans tables.
    pub(crate) fn scan_session(&self) -> Arc<SessionState> {
        self.inner.scan_session.clone()
    }

    /// A handle to the table. Nothing of the table is loaded.
    pub(crate) fn delta_table(&self, table: &str) -> Result<DeltaTable, LakeError> {
        self.watched_table(self.table_url(table)?).map_err(|error| LakeError::table(table, error))
    }

    /// A handle to a table whose store counts its failures.
    fn watched_table(&self, url: Url) -> Result<DeltaTable, DeltaTableError> {
        DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(self.inner.store.clone(), url).build()
    }

    /// The log store of a table, which also reaches the table's files.
    pub(crate) fn log_store(&self, table: &str) -> Result<LogStoreRef, LakeError> {
        Ok(self.delta_table(table)?.log_store())
    }
}

/// The store at the root of the file system or bucket that the lake is in.
async fn root_store(root: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, LakeError> {
    if matches!(root.scheme(), "s3" | "s3a") {
        if let Ok(scheme) = Url::parse(&format!("{}://", root.scheme())) {
            logstore_factories().entry(scheme).or_insert_with(|| Arc::new(PlainLogStore));
        }
        let options = S3Options::new(options);
        let options = options.map_err(|detail| LakeError::Configuration(format!("lake.options: {detail}")))?;
        return options.store(root).await;
    }
    let none: [(&str, &str); 0] = [];
    let (store, _) = object_store::parse_url_opts(root, none)
        .map_err(|error| LakeError::Configuration(format!("lake {root}: {error}")))?;
    Ok(Arc::from(store))
}

/// deltalake's log store over a store that can put an object only if it is not there yet.
struct PlainLogStore;

impl LogStoreFactory for PlainLogStore {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<LogStoreRef> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

fn root_url(uri: &str) -> Result<Url, LakeError> {
    if has_user(uri) {
        return Err(LakeError::Configuration(USER_IN_URI.to_owned()));
    }
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
            // A check of a file's path that ends in a slash would not find the file.
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

    #[test]
    fn no_secret_is_printed() {
        let options = [
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("aws_sesion_token", "hush"),
            ("s3_addressing_style", "hush"),
            ("AWS_REGION", "eu-west-1"),
        ];
        let settings = StorageSettings { options: options.into_iter().collect(), ..StorageSettings::default() };
        for text in [format!("{settings:?}"), serde_json::to_string(&settings).unwrap()] {
            assert!(!text.contains("hush") && text.contains("eu-west-1"), "{text}");
        }
        let error = root_url("s3://key:hush@bucket/lake").unwrap_err().to_string();
        assert!(error.contains("lake.options") && !error.contains("hush"), "{error}");
        let error =
            serde_json::from_str::<StorageSettings>(r#"{"uri": "s3://key:hush@bucket"}"#).unwrap_err().to_string();
        assert!(error.contains("lake.options") && !error.contains("hush"), "{error}");
        assert!(root_url("s3://bucket/a@b").is_ok());
    }

    #[test]
    fn a_user_in_a_uri_is_found_however_it_is_written() {
        let refused = [
            "s3://ada:hush@bucket/lake",
            "s3://ada@bucket",
            "s3://ada:hu/sh@bucket",
            "s3:/ada:hush@bucket",
            "s3:ada:hush@bucket",
            "s3:///ada:hush@bucket",
            "S3A://ada:hu/s/h@bucket/lake",
            " s3:\t//ada:hu?sh@bucket",
            "s3:\\\\ada:hush@bucket",
            "file://ada:hush@host/lake",
        ];
        for uri in refused {
            let error = root_url(uri).unwrap_err().to_string();
            assert!(error.contains("user or a password") && !error.contains("hu"), "{uri}: {error}");
        }
        let taken = [
            "s3://bucket",
            "s3://bucket/a@b",
            "s3://bucket/day:1/a@b",
            "file:///home/a@b/lake",
            "file:/home/a@b/lake",
            "./a@b/lake",
            "/data/x:y@z/lake",
            "lake:1/x",
        ];
        for uri in taken {
            assert!(!has_user(uri), "{uri}");
        }
    }
}
