//! Bearer tokens of an OpenID Connect issuer: JWTs, checked against the issuer's keys.
//!
//! What is accepted is fixed by the configuration, never by the token: the algorithms RS256 and
//! ES256, one issuer, one audience, and a time that is not over. A token chooses its key by `kid`,
//! and the kind of the key decides how its signature is checked. So a token cannot ask for `none`,
//! nor for a public key to be taken as the secret of an HMAC.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use adlake_lake::LakeError;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::settings::{Algorithm, OidcSettings};
use super::{Principal, Role, scope};

/// The most bytes of a token.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The most bytes of the issuer's keys.
const KEYS_BYTES_MAX: usize = 1 << 20;
/// The longest time for the issuer to send its keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often tokens with unknown keys may make the server ask the issuer.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// By how much the clocks of the issuer and of this server may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not a token of the issuer for this server, or its time is over. The text is for the
    /// log: the client is not told which.
    Invalid(String),
    /// It is valid, and gives no right here. The text is for the log.
    NoRight(String),
}

fn invalid(detail: impl Into<String>) -> Refused {
    Refused::Invalid(detail.into())
}

/// A public key of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Key::Rsa { .. } => Algorithm::RS256,
            Key::P256(_) => Algorithm::ES256,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Key::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// The issuer's keys, with their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Keys(Vec<(Option<String>, Key)>);

impl Keys {
    /// Reads a JWK set (RFC 7517). Keys that cannot sign such tokens are passed over.
    fn parse(text: &[u8]) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| format!("is no JWK set: {error}"))?;
        let keys: Vec<_> = set.keys.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err("has no key for RS256 or ES256".into());
        }
        Ok(Keys(keys))
    }

    /// The key of an id. Without an id, the only key of the algorithm.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self
            .0
            .iter()
            .filter(|(known, key)| key.algorithm() == algorithm && id.is_none_or(|id| known.as_deref() == Some(id)));
        let (_, first) = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }
}

fn key(jwk: &Value) -> Option<(Option<String>, Key)> {
    let text = |name: &str| jwk[name].as_str();
    let bytes = |name: &str| BASE64.decode(text(name)?).ok();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let (key, algorithm) = match text("kty")? {
        "RSA" => (Key::Rsa { n: bytes("n")?, e: bytes("e")? }, "RS256"),
        "EC" if text("crv") == Some("P-256") => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            ((x.len(), y.len()) == (32, 32)).then_some(())?;
            (Key::P256([&[4], x.as_slice(), &y].concat()), "ES256")
        }
        _ => return None,
    };
    let is_fitting = text("alg").is_none_or(|named| named == algorithm);
    is_fitting.then(|| (text("kid").map(String::from), key))
}

/// Where the keys come from.
#[derive(Debug)]
enum Origin {
    Url(reqwest::Client, String),
    File(PathBuf),
}

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    settings: OidcSettings,
    origin: Origin,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were last asked for.
    asked: Mutex<Option<Instant>>,
}

impl Tokens {
    /// `None`: the settings name no issuer.
    pub fn open(settings: &OidcSettings) -> Result<Option<Tokens>, LakeError> {
        if settings.issuer.is_empty() {
            return Ok(None);
        }
        let origin = match settings.jwks.contains("://") {
            false => Origin::File(PathBuf::from(&settings.jwks)),
            true => {
                let client = reqwest::Client::builder()
                    .timeout(FETCH_TIMEOUT)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| LakeError::Configuration(format!("serve.oidc.jwks: {error}")))?;
                Origin::Url(client, settings.jwks.clone())
            }
        };
        let tokens = Tokens { settings: settings.clone(), origin, keys: RwLock::default(), asked: Mutex::default() };
        Ok(Some(tokens))
    }

    /// Asks for the keys now and then. While the issuer does not answer, the keys before stay.
    pub async fn follow(&self, cancel: CancellationToken) {
        loop {
            self.refresh(Duration::ZERO).await;
            // Without any keys nobody can be known, so that is tried more often.
            let has_none = self.keys().0.is_empty();
            let pause = if has_none { REFRESH_MIN } else { self.settings.refresh_interval };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Who a token is for.
    pub async fn principal(&self, token: &str, now: f64) -> Result<Principal, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let token = Token::parse(token)?;
        if !self.settings.algorithms.contains(&token.algorithm) {
            return Err(invalid("the algorithm is not allowed"));
        }
        let key = match self.key(&token) {
            Some(key) => key,
            None => {
                self.refresh(REFRESH_MIN).await;
                self.key(&token).ok_or_else(|| invalid("the key is not one of the issuer's"))?
            }
        };
        if !key.has_signed(token.message, &token.signature) {
            return Err(invalid("the signature is wrong"));
        }
        self.check(&token.claims, now)?;
        self.granted(&token.claims)
    }

    fn keys(&self) -> Arc<Keys> {
        match self.keys.read() {
            Ok(keys) => keys.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn key(&self, token: &Token<'_>) -> Option<Key> {
        self.keys().find(token.key.as_deref(), token.algorithm).cloned()
    }

    /// Asks for the keys, unless that was done just now. One caller asks, the others wait for it.
    async fn refresh(&self, pause: Duration) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        *asked = Some(Instant::now());
        match self.read().await.and_then(|text| Keys::parse(&text)) {
            Ok(next) => {
                if let Ok(mut keys) = self.keys.write() {
                    *keys = Arc::new(next);
                }
            }
            Err(problem) => {
                tracing::warn!(from = self.settings.jwks, problem, "the keys of the issuer cannot be read");
            }
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        match &self.origin {
            Origin::File(file) => tokio::fs::read(file).await.map_err(|error| error.to_string()),
            Origin::Url(client, url) => {
                let failed = |error: reqwest::Error| adlake_lake::error::chain(&error);
                let mut response = client.get(url).send().await.map_err(failed)?;
                if !response.status().is_success() {
                    return Err(format!("the answer is {}", response.status()));
                }
                let mut text = Vec::new();
                while let Some(piece) = response.chunk().await.map_err(failed)? {
                    text.extend_from_slice(&piece);
                    if text.len() > KEYS_BYTES_MAX {
                        return Err(format!("the answer has more than {KEYS_BYTES_MAX} bytes"));
                    }
                }
                Ok(text)
            }
        }
    }

    /// Whether the claims are of this issuer, for this server, and of this time.
    fn check(&self, claims: &Value, now: f64) -> Result<(), Refused> {
        if claims["iss"].as_str() != Some(&self.settings.issuer) {
            return Err(invalid("another issuer"));
        }
        let wanted = self.settings.audience.as_str();
        let is_ours = match &claims["aud"] {
            Value::String(audience) => audience == wanted,
            Value::Array(audiences) => audiences.iter().any(|audience| audience == wanted),
            _ => false,
        };
        if !is_ours {
            return Err(invalid("another audience"));
        }
        match claims["exp"].as_f64() {
            Some(expires) if expires + LEEWAY > now => {}
            Some(_) => return Err(invalid("expired")),
            None => return Err(invalid("exp is missing, or no number")),
        }
        match &claims["nbf"] {
            Value::Null => Ok(()),
            begins if begins.as_f64().is_some_and(|begins| begins - LEEWAY <= now) => Ok(()),
            _ => Err(invalid("nbf is later than now, or no number")),
        }
    }

    /// The rights that the claims give.
    fn granted(&self, claims: &Value) -> Result<Principal, Refused> {
        let settings = &self.settings;
        let no_right = |detail: &str| Refused::NoRight(detail.to_owned());
        let [name] = texts(claims, &settings.name_claim)[..] else {
            return Err(no_right("the claim of the name is missing, or no text"));
        };
        let held = texts(claims, &settings.role_claim);
        let rank = |role: &Role| match role {
            Role::Admin => 2,
            Role::Analyst => 1,
            Role::Advertiser => 0,
        };
        // Of several roles the one with the most rights counts.
        let role = held.iter().filter_map(|value| settings.roles.get(*value)).max_by_key(|role| rank(role));
        let role = *role.ok_or_else(|| no_right("no value of the role's claim is in serve.oidc.roles"))?;
        let own = |claim: &str| -> Vec<String> {
            if role == Role::Advertiser { texts(claims, claim).into_iter().map(String::from).collect() } else { vec![] }
        };
        let scope = scope(role, &own(&settings.advertisers_claim), &own(&settings.campaigns_claim))
            .map_err(|detail| no_right(&detail))?;
        Ok(Principal { name: format!("oidc:{name}"), role, scope })
    }
}

/// A token that was taken apart, and is not checked yet.
struct Token<'a> {
    algorithm: Algorithm,
    key: Option<String>,
    claims: Value,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl Token<'_> {
    fn parse(token: &str) -> Result<Token<'_>, Refused> {
        let (message, signature) = token.rsplit_once('.').ok_or_else(|| invalid("no JWT"))?;
        let (header, claims) = message.split_once('.').ok_or_else(|| invalid("no JWT"))?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| invalid("no JWT"));
        let object = |text: &str| -> Result<Value, Refused> {
            let value = serde_json::from_slice(&decode(text)?).map_err(|_| invalid("no JWT"))?;
            if matches!(value, Value::Object(_)) { Ok(value) } else { Err(invalid("no JWT")) }
        };
        let header = object(header)?;
        let algorithm =
            serde_json::from_value(header["alg"].clone()).map_err(|_| invalid("the algorithm is unknown"))?;
        // Extensions that a reader must know: this one knows none.
        if !header["crit"].is_null() {
            return Err(invalid("crit is not supported"));
        }
        let key = match &header["kid"] {
            Value::Null => None,
            Value::String(id) => Some(id.clone()),
            _ => return Err(invalid("kid is no text")),
        };
        Ok(Token {
            algorithm,
            key,
            claims: object(claims)?,
            message: message.as_bytes(),
            signature: decode(signature)?,
        })
    }
}

/// The texts of a claim: one, or those of a list. The name is a claim, or a path of claims with
/// dots between.
fn texts<'a>(claims: &'a Value, name: &str) -> Vec<&'a str> {
    if name.is_empty() {
        return Vec::new();
    }
    let whole = claims.get(name);
    let value = whole.or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)));
    match value {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
