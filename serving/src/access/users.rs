//! Users with passwords: who they are, and what each may see.
//!
//! Only argon2id hashes are stored. Checking a password takes some 20 MiB and 20 ms on purpose, so
//! callers check few at the same time. An unknown name takes as long as a wrong password.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use serde::{Deserialize, Serialize};

use super::{KeysError, Principal, Role, Scope, revision, scope};

/// The fewest characters of a new password.
pub const PASSWORD_MIN: usize = 12;
/// The most bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// The most memory, in KiB, that checking one password may take.
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 200;

/// What an unknown name is checked against.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody").unwrap_or_default());

/// A user as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredUser {
    /// The argon2id hash of the password, as a PHC string.
    pub password: String,
    /// What the user may do.
    pub role: Role,
    /// Advertisers whose campaigns the user may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertisers: Vec<String>,
    /// Campaigns that the user may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub campaigns: Vec<String>,
}

/// The users of a server, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, StoredUser>);

impl Users {
    /// Reads users from a file: TOML, a table for each name.
    pub fn read(file: &Path) -> Result<Users, KeysError> {
        let text = std::fs::read_to_string(file).map_err(|error| KeysError::Read(file.to_owned(), error))?;
        Users::parse(&text).map_err(|detail| KeysError::Wrong(file.to_owned(), detail))
    }

    fn parse(text: &str) -> Result<Users, String> {
        // The message of the parser shows the line, which holds no password but at most its hash.
        let users: BTreeMap<String, StoredUser> = toml::from_str(text).map_err(|error| error.to_string())?;
        for (name, user) in &users {
            if !is_name(name) {
                return Err(format!("{name:?}: a name has 1 to {NAME_BYTES_MAX} bytes and no control characters"));
            }
            check(&user.password).map_err(|detail| format!("{name}: password: {detail}"))?;
            scope(user.role, &user.advertisers, &user.campaigns).map_err(|detail| format!("{name}: {detail}"))?;
        }
        Ok(Users(users))
    }

    /// Whether there is a user of a name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a user has a password. It takes long: not for the threads that answer requests.
    pub fn is_password(&self, name: &str, password: &str) -> bool {
        let stored = self.0.get(name).map_or(NOBODY.as_str(), |user| user.password.as_str());
        let is_right = Argon2::default().verify_password(password.as_bytes(), stored).is_ok();
        is_right && self.0.contains_key(name) && password.len() <= PASSWORD_BYTES_MAX
    }

    /// Who a user is, and the revision of the password.
    pub fn find(&self, name: &str) -> Option<(Principal, String)> {
        let user = self.0.get(name)?;
        let scope: Scope = scope(user.role, &user.advertisers, &user.campaigns).ok()?;
        Some((Principal { name: format!("user:{name}"), role: user.role, scope }, revision(&user.password)))
    }
}

/// Whether a text can be the name of a user.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The hash of a new password.
pub fn hash(password: &str) -> Result<String, String> {
    let salt: [u8; 16] = rand::random();
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| format!("the password cannot be hashed: {error}"))?;
    Ok(hash.to_string())
}

/// Refuses hashes of other kinds, and such that take too much to check.
fn check(text: &str) -> Result<(), String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("is no argon2id hash ({error}); `adlake users create` makes it");
    let hash = PasswordHash::new(text).map_err(|error| wrong(&error))?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err(wrong(&hash.algorithm.as_str()));
    }
    let params = Params::try_from(&hash).map_err(|error| wrong(&error))?;
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > 20 {
        return Err(format!("takes more than {MEMORY_KIB_MAX} KiB or 20 rounds to check"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_password() {
        let hash = hash("correct horse battery").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let text =
            format!("[\"ana@example.com\"]\npassword = \"{hash}\"\nrole = \"advertiser\"\ncampaigns = [\"c\"]\n");
        let users = Users::parse(&text).unwrap();
        assert!(users.is_password("ana@example.com", "correct horse battery"));
        for (name, password) in
            [("ana@example.com", "correct horse"), ("ana", "correct horse battery"), ("ana", "nobody")]
        {
            assert!(!users.is_password(name, password), "{name} {password}");
        }
        let (principal, _) = users.find("ana@example.com").unwrap();
        assert_eq!((principal.name.as_str(), principal.role), ("user:ana@example.com", Role::Advertiser));
        assert!(users.find("ana").is_none());
    }

    #[test]
    fn users_that_cannot_be_are_refused() {
        let good = hash("correct horse battery").unwrap();
        let check = |password: &str, more: &str, part: &str| {
            let error = Users::parse(&format!("[a]\npassword = \"{password}\"\n{more}")).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("secret", "role = \"admin\"\n", "argon2id");
        check(&good.replace("argon2id", "argon2i"), "role = \"admin\"\n", "argon2id");
        check(&good.replace("m=19456", "m=999999999"), "role = \"admin\"\n", "password");
        check(&good, "role = \"advertiser\"\n", "needs advertisers");
        check(&good, "role = \"king\"\n", "king");
        check(&good, "role = \"admin\"\nmore = 1\n", "more");
    }
}
