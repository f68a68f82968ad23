//! Where everybody comes in: a request's credentials become a principal here, and nowhere else.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use adlake_domain::secret::Secret;
use adlake_lake::LakeError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Principal;
use super::rates::Rates;
use super::register::Register;
use super::sessions::{Method, Session, Sessions};
use super::settings::Ways;
use super::tokens::{Refused, Tokens};
use super::users::PASSWORD_BYTES_MAX;
use super::{PREFIX, key_id, keys_error};

/// How many passwords are checked at the same time.
const PASSWORDS_AT_ONCE: usize = 2;
/// How long one waits for its turn.
const PASSWORD_WAIT: Duration = Duration::from_secs(5);

/// What somebody signs in with.
#[derive(Debug)]
pub enum Credentials {
    /// An API key.
    Key(Secret),
    /// A name and its password.
    Password(String, Secret),
}

/// Why somebody does not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The key, the password, the token or the session is not known. Callers are not told which.
    Unknown,
    /// The token is valid, and gives no right.
    NoRight,
    /// Too many attempts: again after so many seconds.
    TooMany(u32),
    /// Too many passwords are being checked.
    Busy,
}

/// The ways in.
#[derive(Debug)]
pub struct Entrance {
    is_open: bool,
    register: Register,
    sessions: Sessions,
    tokens: Option<Tokens>,
    attempts: Mutex<Rates>,
    passwords: Semaphore,
    methods: Vec<&'static str>,
}

impl Entrance {
    /// Reads what the settings name. An error names the key or the file.
    pub fn open(ways: Ways<'_>) -> Result<Entrance, LakeError> {
        let register = Register::open(ways).map_err(keys_error)?;
        let known = register.known();
        let tokens = Tokens::open(ways.oidc)?;
        if !ways.is_open() && tokens.is_none() && known.keys.is_empty() && known.users.is_empty() {
            let detail = "serve.keys_file and serve.users_file have nobody who may ask: `adlake keys create` and \
                          `adlake users create` add somebody";
            return Err(LakeError::Configuration(detail.into()));
        }
        let mut methods = Vec::new();
        if !ways.users_file.as_os_str().is_empty() {
            methods.push("password");
        }
        if !ways.keys_file.as_os_str().is_empty() {
            methods.push("key");
        }
        Ok(Entrance {
            is_open: ways.is_open(),
            register,
            sessions: Sessions::new(ways.login.secret.as_ref().map(|secret| secret.expose()), ways.login.lifetime),
            tokens,
            attempts: Mutex::new(Rates::per_minute(ways.login.attempts_per_minute)),
            passwords: Semaphore::new(PASSWORDS_AT_ONCE),
            methods,
        })
    }

    /// Whether everybody may ask.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// With what one can sign in.
    pub fn methods(&self) -> &[&'static str] {
        &self.methods
    }

    /// How long a session lasts.
    pub fn lifetime(&self) -> Duration {
        self.sessions.lifetime()
    }

    /// Keeps the files and the issuer's keys current, until it is cancelled.
    pub async fn follow(&self, cancel: CancellationToken) {
        let tokens = async {
            if let Some(tokens) = &self.tokens {
                tokens.follow(cancel.clone()).await;
            }
        };
        tokio::join!(self.register.follow(cancel.clone()), tokens);
    }

    /// Who has a key or a token.
    pub async fn bearer(&self, text: &str) -> Result<Principal, Denied> {
        match &self.tokens {
            Some(tokens) if !text.starts_with(PREFIX) => {
                tokens.principal(text, seconds() as f64).await.map_err(|refused| match refused {
                    Refused::Invalid(reason) => {
                        tracing::debug!(target: "audit", reason, "a token was refused");
                        Denied::Unknown
                    }
                    Refused::NoRight(reason) => {
                        tracing::info!(target: "audit", reason, "a token gives no right");
                        Denied::NoRight
                    }
                })
            }
            _ => self.register.known().keys.principal(text).ok_or(Denied::Unknown),
        }
    }

    /// The session of a cookie, and whose it is.
    pub fn session(&self, cookie: &str) -> Option<(Principal, Session)> {
        let session = self.sessions.read(cookie, seconds())?;
        Some((self.register.known().owner(&session)?, session))
    }

    /// Signs in: a new session's cookie, and whose it is. Attempts from one address and for one
    /// name are limited; only those that fail count.
    pub async fn sign_in(&self, from: IpAddr, credentials: Credentials) -> Result<(String, Principal), Denied> {
        let name = match &credentials {
            Credentials::Key(key) => key_id(key.expose()),
            Credentials::Password(name, _) => name,
        };
        let counted = [format!("address {from}"), format!("name {name}")];
        let now = Instant::now();
        let taken = self.attempts.lock().map_err(|_| Denied::Busy)?.take_all(&counted, now);
        taken.map_err(Denied::TooMany)?;
        let found = self.check(credentials).await;
        if found.is_ok()
            && let Ok(mut attempts) = self.attempts.lock()
        {
            attempts.give_back(&counted);
        }
        found
    }

    async fn check(&self, credentials: Credentials) -> Result<(String, Principal), Denied> {
        let known = self.register.known();
        let (method, name) = match credentials {
            Credentials::Key(key) => (Method::Key, known.keys.principal(key.expose()).ok_or(Denied::Unknown)?.name),
            Credentials::Password(name, password) => {
                if password.expose().len() > PASSWORD_BYTES_MAX {
                    return Err(Denied::Unknown);
                }
                let turn = tokio::time::timeout(PASSWORD_WAIT, self.passwords.acquire()).await;
                let turn = turn.map_err(|_| Denied::Busy)?.map_err(|_| Denied::Busy)?;
                let (users, asked) = (known.clone(), name.clone());
                let checked =
                    tokio::task::spawn_blocking(move || users.users.is_password(&asked, password.expose())).await;
                drop(turn);
                if !checked.is_ok_and(|is_right| is_right) {
                    return Err(Denied::Unknown);
                }
                (Method::Password, name)
            }
        };
        let found = match method {
            Method::Key => known.keys.find(&name),
            Method::Password => known.users.find(&name),
        };
        let (principal, revision) = found.ok_or(Denied::Unknown)?;
        Ok((self.sessions.create(method, &name, &revision, seconds()), principal))
    }

    /// Ends the session of a cookie, if it is one.
    pub fn sign_out(&self, cookie: &str) {
        if let Some(session) = self.sessions.read(cookie, seconds()) {
            self.sessions.sign_out(&session, seconds());
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
