//! Who may ask: keys, roles, and what each may see.
//!
//! A key is 256 random bits. Only its SHA-256 is stored, under an id that is part of the key, so
//! that a request costs one hash. What a [`Principal`] may see is its [`Scope`]: a condition that
//! each answer is made with.
//!
//! [`entrance`] is where requests come in: with a key or a token, or with a session that began with
//! a key or a password.

pub mod entrance;
mod rates;
mod register;
mod sessions;
pub mod settings;
mod tokens;
pub mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adlake_lake::LakeError;
use adlake_lake::error::chain;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::rates::Rates;
use crate::question::{Condition, Dimension};

/// What every key begins with, so that it is known for one where it should not be.
const PREFIX: &str = "adlk_";

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, dead letters and the state of the server included.
    Admin,
    /// All campaigns, and what is in the tables of events.
    Analyst,
    /// The campaigns of its scope.
    Advertiser,
}

/// What somebody may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything, unknown campaigns included.
    All,
    /// The campaigns of these advertisers, and these campaigns.
    Some {
        /// By `ref/campaigns`.
        advertisers: Vec<String>,
        /// By their ids.
        campaigns: Vec<String>,
    },
}

impl Scope {
    /// The condition that its events fulfil.
    pub fn condition(&self) -> Condition {
        match self {
            Scope::All => Condition::All(Vec::new()),
            Scope::Some { advertisers, campaigns } => {
                let known = |values: &[String]| values.iter().cloned().map(Some).collect();
                Condition::Any(vec![
                    Condition::In(Dimension::Advertiser, known(advertisers)),
                    Condition::In(Dimension::Campaign, known(campaigns)),
                ])
            }
        }
    }

    /// Whether it includes a campaign of an advertiser.
    pub fn includes(&self, campaign: &str, advertiser: Option<&str>) -> bool {
        match self {
            Scope::All => true,
            Scope::Some { advertisers, campaigns } => {
                campaigns.iter().any(|own| own == campaign)
                    || advertiser.is_some_and(|advertiser| advertisers.iter().any(|own| own == advertiser))
            }
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// The id of the key; of others a prefix and their name, like `user:ana`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it may see.
    pub scope: Scope,
}

impl Principal {
    /// Who asks if there are no keys: the server is only reached from its own machine.
    pub fn local() -> Principal {
        Principal { name: "local".into(), role: Role::Admin, scope: Scope::All }
    }
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// SHA-256 of the whole key, in hex.
    pub sha256: String,
    /// What it may do.
    pub role: Role,
    /// Advertisers whose campaigns it may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertisers: Vec<String>,
    /// Campaigns that it may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub campaigns: Vec<String>,
}

/// The keys of a server, by id. Without any, everybody who reaches the server is an admin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, StoredKey>);

/// Why keys or users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file does not hold what it should.
    #[error("{0} cannot be used: {1}")]
    Wrong(PathBuf, String),
}

impl Keys {
    /// Reads keys from a file: TOML, a table for each id.
    pub fn read(file: &Path) -> Result<Keys, KeysError> {
        let text = std::fs::read_to_string(file).map_err(|error| KeysError::Read(file.to_owned(), error))?;
        Keys::parse(&text).map_err(|detail| KeysError::Wrong(file.to_owned(), detail))
    }

    fn parse(text: &str) -> Result<Keys, String> {
        // The message of the parser shows the line, which holds no key but at most its hash.
        let keys: BTreeMap<String, StoredKey> = toml::from_str(text).map_err(|error| error.to_string())?;
        for (id, key) in &keys {
            if !is_id(id) {
                return Err(format!("{id:?}: an id has letters, digits and hyphens"));
            }
            if key.sha256.len() != 64 || !key.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!("{id}: sha256 is not 64 hex digits; `adlake keys create` prints them"));
            }
            scope(key.role, &key.advertisers, &key.campaigns).map_err(|detail| format!("{id}: {detail}"))?;
        }
        Ok(Keys(keys))
    }

    /// Whether there is a key with an id.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has a key.
    pub fn principal(&self, key: &str) -> Option<Principal> {
        let (id, _) = key.strip_prefix(PREFIX)?.split_once('_')?;
        // An unknown id is compared as well, so that it takes as long.
        let none = StoredKey {
            sha256: "0".repeat(64),
            role: Role::Advertiser,
            advertisers: Vec::new(),
            campaigns: Vec::new(),
        };
        let stored = self.0.get(id).unwrap_or(&none);
        if !is_same(&hash(key), &stored.sha256) {
            return None;
        }
        self.find(id).map(|(principal, _)| principal)
    }

    /// Who has the key of an id, and the revision of the key.
    pub fn find(&self, id: &str) -> Option<(Principal, String)> {
        let stored = self.0.get(id)?;
        let scope = scope(stored.role, &stored.advertisers, &stored.campaigns).ok()?;
        Some((Principal { name: id.to_owned(), role: stored.role, scope }, revision(&stored.sha256)))
    }
}

/// What a role with these advertisers and campaigns may see.
fn scope(role: Role, advertisers: &[String], campaigns: &[String]) -> Result<Scope, String> {
    let is_limited = !(advertisers.is_empty() && campaigns.is_empty());
    match role {
        Role::Admin | Role::Analyst if !is_limited => Ok(Scope::All),
        Role::Advertiser if is_limited => {
            Ok(Scope::Some { advertisers: advertisers.to_vec(), campaigns: campaigns.to_vec() })
        }
        _ => Err("the role advertiser needs advertisers or campaigns, and only this role".into()),
    }
}

/// What changes when a stored hash changes, and does not tell it.
fn revision(stored: &str) -> String {
    hash(&format!("revision\n{stored}")).chars().take(16).collect()
}

/// The id that a key has. It is no secret. Empty: it is no key.
pub fn key_id(key: &str) -> &str {
    key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map_or("", |(id, _)| id)
}

fn keys_error(error: KeysError) -> LakeError {
    LakeError::Configuration(chain(&error))
}

/// Whether a text can be the id of a key.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A new key with an id, and its hash.
pub fn create(id: &str) -> (String, String) {
    let secret: [u8; 32] = rand::random();
    let key = format!("{PREFIX}{id}_{}", hex(&secret));
    let hash = hash(&key);
    (key, hash)
}

fn hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares texts in a time that does not depend on where they differ.
pub fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b.to_ascii_lowercase()));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash() {
        let (key, hash) = create("dash");
        let keys = Keys::parse(&format!("[dash]\nsha256 = \"{hash}\"\nrole = \"analyst\"\n")).unwrap();
        assert_eq!(keys.principal(&key).unwrap().role, Role::Analyst);
        let (other, _) = create("dash");
        let changed = key.replace("dash", "dosh");
        for wrong in ["", "adlk_", "adlk_dash", "adlk_dash_", other.as_str(), changed.as_str(), &key[..key.len() - 1]] {
            assert_eq!(keys.principal(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        let hash = "0".repeat(64);
        let check = |text: &str, part: &str| {
            let error = Keys::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("[a_b]\nsha256 = \"12\"\nrole = \"admin\"\n", "hyphens");
        check("[a]\nsha256 = \"12\"\nrole = \"admin\"\n", "64 hex digits");
        check(&format!("[a]\nsha256 = \"{hash}\"\nrole = \"advertiser\"\n"), "needs advertisers");
        check(&format!("[a]\nsha256 = \"{hash}\"\nrole = \"admin\"\ncampaigns = [\"c\"]\n"), "only this role");
        check(&format!("[a]\nsha256 = \"{hash}\"\nrole = \"king\"\n"), "king");
    }

    #[test]
    fn a_scope_includes_its_campaigns_and_those_of_its_advertisers() {
        let scope = Scope::Some { advertisers: vec!["x".into()], campaigns: vec!["c".into()] };
        assert!(scope.includes("c", None) && scope.includes("d", Some("x")));
        assert!(!scope.includes("d", Some("y")) && !scope.includes("d", None));
    }
}
