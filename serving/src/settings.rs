//! The `[serve]` section.

use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::secret::Secret;
use adlake_lake::LakeError;
use adlake_lake::session::SessionSettings;
use axum::http::uri::Authority;
use serde::{Deserialize, Serialize};

use crate::access::settings::{LoginSettings, OidcSettings, Ways};

/// The `[serve]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Where HTTP is served, like `127.0.0.1:8080`.
    pub listen: String,
    /// Names of this machine, beside localhost, under which a server without keys may be called.
    pub allowed_hosts: Vec<String>,
    /// A file with the keys of those who may ask. Empty: none are needed, and the server only
    /// listens on its own machine.
    pub keys_file: PathBuf,
    /// A file with users and the hashes of their passwords. Empty: nobody has a password.
    pub users_file: PathBuf,
    /// A file that gets a line for each request. Empty: none.
    pub audit_file: PathBuf,
    /// How one signs in to the dashboard.
    pub login: LoginSettings,
    /// Whose tokens are accepted.
    pub oidc: OidcSettings,
    /// The certificate for HTTPS.
    pub tls: TlsSettings,
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
    /// About how many bytes the groups of an answer may take, before it is cut into pages.
    pub answer_bytes_max: usize,
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
    /// The most connections at the same time. More wait until one ends.
    pub connections_max: usize,
    /// How long a connection may be without a whole head of a request.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a client may leave what is sent to it unread.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// The most requests of one key in a second. 0: no limit.
    pub requests_per_second: u32,
    /// What cursors are signed with. Servers behind one balancer need the same. `None`: a new one
    /// at each start.
    pub cursor_secret: Option<Secret>,
    /// The resources of one snapshot, and of each answer that is made from the lake.
    pub session: SessionSettings,
}

/// The `[serve.tls]` section: PEM files. Both are empty for plain HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            listen: "127.0.0.1:8080".to_string(),
            allowed_hosts: Vec::new(),
            keys_file: PathBuf::new(),
            users_file: PathBuf::new(),
            audit_file: PathBuf::new(),
            login: LoginSettings::default(),
            oidc: OidcSettings::default(),
            tls: TlsSettings::default(),
            refresh_interval: Duration::from_millis(250),
            state_bytes_max: 1 << 30,
            settle_time: Duration::from_secs(60 * 60),
            snapshots_kept: 4,
            rows_max: 10_000,
            answer_bytes_max: 256 << 20,
            body_bytes_max: 256 << 10,
            timeout: Duration::from_secs(30),
            lake_queries_max: 2,
            cache_bytes_max: 64 << 20,
            subscribers_max: 1_000,
            connections_max: 4_000,
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            requests_per_second: 0,
            cursor_secret: None,
            session: SessionSettings::default(),
        }
    }
}

impl ServeSettings {
    /// Whether everybody who reaches the server may ask for everything.
    pub fn is_open(&self) -> bool {
        self.ways().is_open()
    }

    /// The ways in.
    pub fn ways(&self) -> Ways<'_> {
        let ServeSettings { keys_file, users_file, login, oidc, .. } = self;
        Ways { keys_file, users_file, login, oidc }
    }

    /// How addresses of the server begin.
    pub fn scheme(&self) -> &'static str {
        if self.tls.certificate.as_os_str().is_empty() { "http" } else { "https" }
    }

    /// Refuses impossible settings. The error names the key.
    pub fn check(&self) -> Result<(), LakeError> {
        let wrong = |key: &str, message: &str| Err(LakeError::Configuration(format!("serve.{key}: {message}")));
        if self.refresh_interval < Duration::from_millis(10) {
            return wrong("refresh_interval", "must be at least 10ms");
        }
        if self.rows_max == 0 {
            return wrong("rows_max", "must be at least 1");
        }
        if self.answer_bytes_max < 1 << 20 {
            return wrong("answer_bytes_max", "must be at least 1048576");
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
        if self.connections_max == 0 {
            return wrong("connections_max", "must be at least 1");
        }
        for (key, value) in [("idle_timeout", self.idle_timeout), ("stall_timeout", self.stall_timeout)] {
            if value < Duration::from_millis(100) {
                return wrong(key, "must be at least 100ms");
            }
        }
        if self.login.lifetime < Duration::from_secs(60) {
            return wrong("login.lifetime", "must be at least 1m");
        }
        if let Some(host) = self.allowed_hosts.iter().find(|host| !is_host(host)) {
            return wrong("allowed_hosts", &format!("{host:?} is no name of a host (without scheme and port)"));
        }
        self.oidc.check()?;
        match (self.tls.certificate.as_os_str().is_empty(), self.tls.key.as_os_str().is_empty()) {
            (false, true) => return wrong("tls.key", "the certificate needs its private key"),
            (true, false) => return wrong("tls.certificate", "the private key needs its certificate"),
            _ => {}
        }
        Ok(())
    }
}

/// Whether a text names a host, without a port.
fn is_host(text: &str) -> bool {
    !text.contains('@') && text.parse::<Authority>().is_ok_and(|authority| authority.host() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

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
        check(|s| s.answer_bytes_max = 0, "serve.answer_bytes_max");
        check(|s| s.body_bytes_max = 0, "serve.body_bytes_max");
        check(|s| s.timeout = Duration::ZERO, "serve.timeout");
        check(|s| s.lake_queries_max = 0, "serve.lake_queries_max");
        check(|s| s.snapshots_kept = 0, "serve.snapshots_kept");
        check(|s| s.connections_max = 0, "serve.connections_max");
        check(|s| s.idle_timeout = Duration::ZERO, "serve.idle_timeout");
        check(|s| s.stall_timeout = Duration::ZERO, "serve.stall_timeout");
        check(|s| s.allowed_hosts = vec!["a:80".into()], "serve.allowed_hosts");
        check(|s| s.tls.certificate = "a".into(), "serve.tls.key");
        check(|s| s.tls.key = "a".into(), "serve.tls.certificate");
        check(|s| s.login.lifetime = Duration::ZERO, "serve.login.lifetime");
        check(|s| s.oidc.jwks = "a".into(), "serve.oidc.issuer");
        check(|s| s.oidc.issuer = "a".into(), "serve.oidc.audience");
        fn oidc(s: &mut ServeSettings) {
            s.oidc.issuer = "https://id".into();
            s.oidc.audience = "adlake".into();
            s.oidc.jwks = "https://id/keys".into();
            s.oidc.roles.insert("a".into(), Role::Admin);
        }
        let mut whole = ServeSettings::default();
        oidc(&mut whole);
        whole.check().unwrap();
        check(|s| (oidc(s), s.oidc.jwks = "".into()).1, "serve.oidc.jwks");
        check(|s| (oidc(s), s.oidc.jwks = "http://id/keys".into()).1, "serve.oidc.jwks");
        check(|s| (oidc(s), s.oidc.jwks = "http://127.0.0.1.id/keys".into()).1, "serve.oidc.jwks");
        check(|s| (oidc(s), s.oidc.algorithms = vec![]).1, "serve.oidc.algorithms");
        check(|s| (oidc(s), s.oidc.roles.clear()).1, "serve.oidc.roles");
        check(|s| (oidc(s), s.oidc.refresh_interval = Duration::ZERO).1, "serve.oidc.refresh_interval");
    }

    #[test]
    fn a_host_has_no_port_and_no_scheme() {
        for (text, expected) in [
            ("lake.internal", true),
            ("10.0.0.1", true),
            ("[::7]", true),
            ("lake.internal:80", false),
            ("http://lake.internal", false),
            ("lake.internal/", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }
}
