//! The settings of the ways in.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use adlake_domain::secret::Secret;
use adlake_lake::LakeError;
use serde::{Deserialize, Serialize};

use super::Role;

/// All ways in.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    /// A file with keys, if it is not empty.
    pub keys_file: &'a Path,
    /// A file with users, if it is not empty.
    pub users_file: &'a Path,
    /// The `[serve.login]` section.
    pub login: &'a LoginSettings,
    /// The `[serve.oidc]` section.
    pub oidc: &'a OidcSettings,
}

impl Ways<'_> {
    /// Whether there is none, so that everybody may ask for everything.
    pub fn is_open(&self) -> bool {
        self.keys_file.as_os_str().is_empty() && self.users_file.as_os_str().is_empty() && self.oidc.issuer.is_empty()
    }
}

/// The `[serve.login]` section: sessions of browsers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginSettings {
    /// How long a session lasts.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// What sessions are signed with. Servers behind one balancer need the same. `None`: a new one
    /// at each start.
    pub secret: Option<Secret>,
    /// Whether browsers may send the session by HTTPS only. With TLS that is always so.
    pub secure_cookies: bool,
    /// How many attempts may fail in a minute: from one address, and for one name. 0: no limit.
    pub attempts_per_minute: u32,
}

impl Default for LoginSettings {
    fn default() -> Self {
        LoginSettings {
            lifetime: Duration::from_secs(12 * 60 * 60),
            secret: None,
            secure_cookies: false,
            attempts_per_minute: 20,
        }
    }
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA with SHA-256.
    RS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
}

/// The `[serve.oidc]` section: an issuer of tokens (OpenID Connect).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcSettings {
    /// The issuer, as its tokens name it. Empty: no tokens are accepted.
    pub issuer: String,
    /// The audience that tokens must name.
    pub audience: String,
    /// Where the issuer's keys are: a URL, or a file.
    pub jwks: String,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How often the keys are read again.
    #[serde(with = "humantime_serde")]
    pub refresh_interval: Duration,
    /// The claim with the name.
    pub name_claim: String,
    /// The claim with the roles.
    pub role_claim: String,
    /// What the values of that claim stand for.
    pub roles: BTreeMap<String, Role>,
    /// The claim with the advertisers that an advertiser may see.
    pub advertisers_claim: String,
    /// The claim with the campaigns that an advertiser may see.
    pub campaigns_claim: String,
}

impl Default for OidcSettings {
    fn default() -> Self {
        OidcSettings {
            issuer: String::new(),
            audience: String::new(),
            jwks: String::new(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            refresh_interval: Duration::from_secs(60 * 60),
            name_claim: "sub".into(),
            role_claim: "roles".into(),
            roles: BTreeMap::new(),
            advertisers_claim: "adlake_advertisers".into(),
            campaigns_claim: "adlake_campaigns".into(),
        }
    }
}

impl OidcSettings {
    /// Refuses impossible settings. The error names the key.
    pub fn check(&self) -> Result<(), LakeError> {
        let wrong = |key: &str, message: &str| Err(LakeError::Configuration(format!("serve.oidc.{key}: {message}")));
        if self.issuer.is_empty() {
            return match self.audience.is_empty() && self.jwks.is_empty() {
                true => Ok(()),
                false => wrong("issuer", "name the issuer whose tokens are accepted"),
            };
        }
        if self.audience.is_empty() {
            return wrong("audience", "name the audience that tokens for this server have");
        }
        if self.jwks.is_empty() {
            return wrong("jwks", "name the URL or the file of the issuer's keys");
        }
        // Whoever could change the keys on their way could be anybody.
        let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|start| {
            let rest = self.jwks.strip_prefix(start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        if self.jwks.contains("://") && !self.jwks.starts_with("https://") && !is_local {
            return wrong("jwks", "must be an https URL, a file, or an http URL of this machine");
        }
        if self.algorithms.is_empty() {
            return wrong("algorithms", "name RS256, ES256, or both");
        }
        if self.roles.is_empty() {
            return wrong("roles", "say which values of the role's claim stand for which role");
        }
        if self.refresh_interval < Duration::from_secs(1) {
            return wrong("refresh_interval", "must be at least 1s");
        }
        Ok(())
    }
}
