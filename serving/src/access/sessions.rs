//! Sessions: who has signed in with a key or a password, for a limited time.
//!
//! A session is a signed text in a cookie of the browser. It holds whose it is and when it ends,
//! and no right: what its owner may see is looked up at each request. So a session ends when its
//! key is removed, when its password changes, when it is signed out, and when its time is over.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hashbrown::HashMap;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::hex;

/// The most sessions that are remembered as signed out. Those that end first are forgotten first.
const SIGNED_OUT_MAX: usize = 100_000;

/// With what somebody has signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// An API key.
    Key,
    /// A name and a password.
    Password,
}

/// What a session holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// With what its owner has signed in.
    pub method: Method,
    /// The id of the key, or the name of the user.
    pub name: String,
    /// The revision of the key or the password.
    pub revision: String,
    /// When it ends, in seconds since 1970.
    pub ends: u64,
    /// Its own number, for signing out.
    pub id: String,
}

/// Makes and reads sessions.
pub struct Sessions {
    secret: Vec<u8>,
    lifetime: Duration,
    /// Those that were signed out, and when they would have ended.
    signed_out: Mutex<HashMap<String, u64>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// With a secret, or with a new one.
    pub fn new(secret: Option<&str>, lifetime: Duration) -> Sessions {
        let secret = match secret {
            Some(secret) => secret.as_bytes().to_vec(),
            None => rand::random::<[u8; 32]>().to_vec(),
        };
        Sessions { secret, lifetime, signed_out: Mutex::default() }
    }

    /// How long a session lasts.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A new session, as the text of its cookie.
    pub fn create(&self, method: Method, name: &str, revision: &str, now: u64) -> String {
        let session = Session {
            method,
            name: name.to_owned(),
            revision: revision.to_owned(),
            ends: now.saturating_add(self.lifetime.as_secs()),
            id: hex(&rand::random::<[u8; 16]>()),
        };
        // A struct of texts and numbers can always be written.
        let body = BASE64.encode(serde_json::to_vec(&session).unwrap_or_default());
        let signature = self.mac(&body).map(|mac| BASE64.encode(mac.finalize().into_bytes())).unwrap_or_default();
        format!("{body}.{signature}")
    }

    /// Reads the text of a cookie. `None`: it is no session of this server, or it is over.
    pub fn read(&self, text: &str, now: u64) -> Option<Session> {
        let (body, signature) = text.split_once('.')?;
        // This comparison takes the same time wherever they differ.
        self.mac(body)?.verify_slice(&BASE64.decode(signature).ok()?).ok()?;
        let session: Session = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
        let is_out = self.signed_out.lock().is_ok_and(|signed_out| signed_out.contains_key(&session.id));
        (session.ends > now && !is_out).then_some(session)
    }

    /// Ends a session before its time.
    pub fn sign_out(&self, session: &Session, now: u64) {
        let Ok(mut signed_out) = self.signed_out.lock() else { return };
        if signed_out.len() >= SIGNED_OUT_MAX {
            signed_out.retain(|_, ends| *ends > now);
        }
        if signed_out.len() >= SIGNED_OUT_MAX
            && let Some(first) = signed_out.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| id.clone())
        {
            signed_out.remove(&first);
        }
        signed_out.insert(session.id.clone(), session.ends);
    }

    /// The secret signs other texts elsewhere, so what is signed says what it is.
    fn mac(&self, body: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(b"session\n");
        mac.update(body.as_bytes());
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_by_its_maker_until_it_ends() {
        let sessions = Sessions::new(Some("s"), Duration::from_secs(100));
        let text = sessions.create(Method::Password, "ana", "r1", 1_000);
        let session = sessions.read(&text, 1_099).unwrap();
        assert_eq!((session.method, session.name.as_str(), session.ends), (Method::Password, "ana", 1_100));
        assert_eq!(sessions.read(&text, 1_100), None);
        // Another server with the same secret reads it; one with another does not.
        assert!(Sessions::new(Some("s"), Duration::ZERO).read(&text, 1_050).is_some());
        assert!(Sessions::new(Some("t"), Duration::ZERO).read(&text, 1_050).is_none());
        assert!(Sessions::new(None, Duration::ZERO).read(&text, 1_050).is_none());
        sessions.sign_out(&session, 1_050);
        assert_eq!(sessions.read(&text, 1_050), None);
    }

    #[test]
    fn a_session_that_was_changed_is_none() {
        let sessions = Sessions::new(Some("s"), Duration::from_secs(100));
        let text = sessions.create(Method::Key, "ana", "r1", 1_000);
        let (body, signature) = text.split_once('.').unwrap();
        let decoded = String::from_utf8(BASE64.decode(body).unwrap()).unwrap();
        let forged = BASE64.encode(decoded.replace("ana", "bob"));
        for wrong in ["", ".", body, &format!("{body}."), &format!("{forged}.{signature}"), &format!("{text}A")] {
            assert_eq!(sessions.read(wrong, 1_000), None, "{wrong}");
        }
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(sessions.read(&changed, 1_000), None, "{changed}");
        }
    }
}
