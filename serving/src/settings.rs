//! The `[serve]` section.

use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::secret::Secret;
use adlake_lake::LakeError;
use adlake_lake::session::SessionSettings;
use serde::{Deserialize, Serialize};

/// The `[serve]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Where HTTP is served, like `127.0.0.1:8080`.
    pub listen: String,
    /// A file with the keys of those who may ask. Empty: none are needed, and the server only
    /// listens on its own machine.
    pub keys_file: PathBuf,
    /// How often the lake is looked at for commits.
    #[serde(with = "humantime_serde")]
    pub refresh_interval: Duration,
    /// The most bytes that the sums and sketches of a published run may take in memory.
    pub state_bytes_max: usize,
    /// Events that are late by less than this are ordinary: later hours are shown as provisional.
    #[serde(with = "humantime_serde")]
    pub settle_time: Duration,
    /// How many snapshots are kept for the next pages of answers.
    pub snapshots_kept: usize,
    /// The most rows of an answer.
    pub rows_max: usize,
    /// The most bytes of a question.
    pub body_bytes_max: usize,
    /// The longest time for an answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The most answers that are made from the lake at the same time. Others wait.
    pub lake_queries_max: usize,
    /// The most bytes of answers that are kept to be given again.
    pub cache_bytes_max: usize,
    /// The most clients that events are sent to at the same time.
    pub subscribers_max: usize,
    /// The most requests of one key in a second. 0: no limit.
    pub requests_per_second: u32,
    /// What cursors are signed with. Servers behind one balancer need the same. `None`: a new one
    /// at each start.
    pub cursor_secret: Option<Secret>,
    /// The resources of one snapshot, and of each answer that is made from the lake.
    pub session: SessionSettings,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            listen: "127.0.0.1:8080".to_string(),
            keys_file: PathBuf::new(),
            refresh_interval: Duration::from_millis(500),
            state_bytes_max: 1 << 30,
            settle_time: Duration::from_secs(60 * 60),
            snapshots_kept: 4,
            rows_max: 10_000,
            body_bytes_max: 256 << 10,
            timeout: Duration::from_secs(30),
            lake_queries_max: 2,
            cache_bytes_max: 64 << 20,
            subscribers_max: 1_000,
            requests_per_second: 0,
            cursor_secret: None,
            session: SessionSettings::default(),
        }
    }
}

impl ServeSettings {
    /// Refuses impossible settings. The error names the key.
    pub fn check(&self) -> Result<(), LakeError> {
        let wrong = |key: &str, message: &str| Err(LakeError::Configuration(format!("serve.{key}: {message}")));
        if self.refresh_interval < Duration::from_millis(10) {
            return wrong("refresh_interval", "must be at least 10ms");
        }
        if self.rows_max == 0 {
            return wrong("rows_max", "must be at least 1");
        }
        if self.body_bytes_max < 1024 {
            return wrong("body_bytes_max", "must be at least 1024");
        }
        if self.timeout < Duration::from_millis(100) {
            return wrong("timeout", "must be at least 100ms");
        }
        if self.lake_queries_max == 0 {
            return wrong("lake_queries_max", "must be at least 1");
        }
        if self.snapshots_kept == 0 {
            return wrong("snapshots_kept", "must be at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        ServeSettings::default().check().unwrap();
        let check = |change: fn(&mut ServeSettings), key: &str| {
            let mut settings = ServeSettings::default();
            change(&mut settings);
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        check(|s| s.refresh_interval = Duration::ZERO, "serve.refresh_interval");
        check(|s| s.rows_max = 0, "serve.rows_max");
        check(|s| s.body_bytes_max = 0, "serve.body_bytes_max");
        check(|s| s.timeout = Duration::ZERO, "serve.timeout");
        check(|s| s.lake_queries_max = 0, "serve.lake_queries_max");
        check(|s| s.snapshots_kept = 0, "serve.snapshots_kept");
    }
}
