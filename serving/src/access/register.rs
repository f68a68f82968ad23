//! Who is known: the keys and the users of the files, read again when the files change.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use adlake_lake::error::chain;
use tokio_util::sync::CancellationToken;

use super::sessions::{Method, Session};
use super::settings::Ways;
use super::users::Users;
use super::{Keys, KeysError, Principal};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The keys and the users at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// By id.
    pub keys: Keys,
    /// By name.
    pub users: Users,
}

impl Known {
    /// Whose a session is, as long as the key or the password is the one that it was made with.
    pub fn owner(&self, session: &Session) -> Option<Principal> {
        let (principal, revision) = match session.method {
            Method::Key => self.keys.find(&session.name)?,
            Method::Password => self.users.find(&session.name)?,
        };
        (revision == session.revision).then_some(principal)
    }
}

/// The files, and what they held when they were last read.
#[derive(Debug)]
pub struct Register {
    keys_file: PathBuf,
    users_file: PathBuf,
    known: RwLock<Arc<Known>>,
}

impl Register {
    /// Reads the files that the settings name.
    pub fn open(ways: Ways<'_>) -> Result<Register, KeysError> {
        let register = Register {
            keys_file: ways.keys_file.to_owned(),
            users_file: ways.users_file.to_owned(),
            known: RwLock::default(),
        };
        register.replace(register.read()?);
        Ok(register)
    }

    /// Everybody who is known now.
    pub fn known(&self) -> Arc<Known> {
        match self.known.read() {
            Ok(known) => known.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn replace(&self, next: Known) {
        match self.known.write() {
            Ok(mut known) => *known = Arc::new(next),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(next),
        }
    }

    fn read(&self) -> Result<Known, KeysError> {
        let keys = match self.keys_file.as_os_str().is_empty() {
            true => Keys::default(),
            false => Keys::read(&self.keys_file)?,
        };
        let users = match self.users_file.as_os_str().is_empty() {
            true => Users::default(),
            false => Users::read(&self.users_file)?,
        };
        Ok(Known { keys, users })
    }

    /// Reads the files again now and then. While they cannot be used, those who were known before
    /// are known.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut reported: Option<String> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            match self.read() {
                Ok(next) => {
                    reported = None;
                    if *self.known() != next {
                        self.replace(next);
                        tracing::info!("the keys and users have changed, and are in force");
                    }
                }
                Err(error) => {
                    let problem = chain(&error);
                    if reported.as_ref() != Some(&problem) {
                        tracing::warn!(problem, "the keys and users before stay in force");
                        reported = Some(problem);
                    }
                }
            }
        }
    }
}
