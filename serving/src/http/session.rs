//! Signing in and out: `/v1/session`.
//!
//! The session is in a cookie that scripts cannot read and that other sites cannot make the browser
//! send (`HttpOnly`, `SameSite=Strict`). What changes something is also checked for where it comes
//! from ([`check_origin`]).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Server;
use super::audit::Entry;
use super::problem::Problem;
use crate::access::entrance::{Credentials, Denied};
use crate::access::{Principal, Scope, key_id};

/// The most bytes of what somebody signs in with.
const BODY_BYTES_MAX: usize = 8 << 10;

/// What is sent to sign in.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum SignIn {
    Key { key: String },
    Password { name: String, password: String },
}

/// Says that a request came with a session.
#[derive(Debug, Clone, Copy)]
pub struct HasSession(pub bool);

/// `GET /v1/whoami`.
pub async fn whoami(
    Extension(principal): Extension<Arc<Principal>>,
    Extension(HasSession(has_session)): Extension<HasSession>,
) -> axum::Json<Value> {
    axum::Json(described(&principal, has_session))
}

/// A principal, as it is told to itself.
fn described(principal: &Principal, has_session: bool) -> Value {
    let scope = match &principal.scope {
        Scope::All => json!({"all": true, "campaigns": null, "advertisers": null}),
        Scope::Some { advertisers, campaigns } => {
            json!({"all": false, "campaigns": campaigns, "advertisers": advertisers})
        }
    };
    json!({"name": principal.name, "role": principal.role, "scope": scope, "has_session": has_session})
}

/// `GET /v1/session`: how to sign in.
pub async fn methods(Shared(server): Shared<Arc<Server>>) -> Response {
    let body = json!({"is_needed": !server.entrance.is_open(), "methods": server.entrance.methods()});
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

/// `POST /v1/session`: signs in.
pub async fn create(
    Shared(server): Shared<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    if server.entrance.is_open() {
        return Err(Problem::not_found());
    }
    check_origin(&headers, false)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "what one signs in with is sent as application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    // The message of the parser could hold a part of what was sent.
    let malformed = || {
        let detail = "send {\"key\": ...} or {\"name\": ..., \"password\": ...}";
        Problem::new(StatusCode::BAD_REQUEST, "malformed_body", detail)
    };
    let body = tokio::time::timeout(server.settings.timeout, Bytes::from_request(request, &())).await;
    let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "it took too long to come");
    let body = body.map_err(slow)?.ok().filter(|body| body.len() <= BODY_BYTES_MAX).ok_or_else(malformed)?;
    let members: Map<String, Value> = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let credentials = match serde_json::from_value(Value::Object(members)).map_err(|_| malformed())? {
        SignIn::Key { key } => Credentials::Key(key.trim().into()),
        SignIn::Password { name, password } => Credentials::Password(name, password.into()),
    };
    let tried = match &credentials {
        // The id of a key is no secret.
        Credentials::Key(key) => key_id(key.expose()).to_owned(),
        Credentials::Password(name, _) => format!("user:{name}"),
    };
    let signed_in = server.entrance.sign_in(peer.ip(), credentials).await;
    let status = if signed_in.is_ok() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    server.audit.note(Entry::new("sign_in", tried, peer, status)).await;
    let (cookie, principal) = signed_in.map_err(denied)?;
    let seconds = server.entrance.lifetime().as_secs();
    let cookie = server.cookie(&cookie, seconds);
    Ok((
        [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        axum::Json(described(&principal, true)),
    )
        .into_response())
}

/// `DELETE /v1/session`: signs out.
pub async fn delete(
    Shared(server): Shared<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_origin(&headers, false)?;
    if let Some(cookie) = server.session_text(&headers) {
        if let Some((principal, _)) = server.entrance.session(cookie) {
            server.audit.note(Entry::new("sign_out", principal.name, peer, StatusCode::NO_CONTENT)).await;
        }
        server.entrance.sign_out(cookie);
    }
    let cookie = server.cookie("", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Why somebody does not come in, as an answer.
pub fn denied(denied: Denied) -> Problem {
    match denied {
        Denied::Unknown => {
            let detail = "this key, token or password is not known, or its time is over";
            Problem::new(StatusCode::UNAUTHORIZED, "unknown_key", detail)
        }
        Denied::NoRight => Problem::forbidden(),
        Denied::TooMany(seconds) => Problem::too_many("too many attempts to sign in have failed", seconds),
        Denied::Busy => Problem::later("overloaded", "too many passwords are being checked", 5),
    }
}

/// Refuses what another site has made a browser send. Browsers say where a request comes from.
/// `is_needed`: a request that does not say it is refused too, because it has a session, and only
/// browsers have sessions.
pub fn check_origin(headers: &HeaderMap, is_needed: bool) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_own = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = text("host").unwrap_or_default();
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
        (None, None) => !is_needed,
    };
    let foreign = || {
        let detail = "a browser may send this from the server's own page only";
        Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail)
    };
    if is_own { Ok(()) } else { Err(foreign()) }
}

impl Server {
    /// With TLS, the name makes browsers refuse the cookie from anybody but this very host.
    fn cookie_name(&self) -> &'static str {
        if self.has_secure_cookies() { "__Host-adlake" } else { "adlake_session" }
    }

    fn has_secure_cookies(&self) -> bool {
        self.settings.login.secure_cookies || self.settings.scheme() == "https"
    }

    fn cookie(&self, text: &str, seconds: u64) -> HeaderValue {
        let secure = if self.has_secure_cookies() { "; Secure" } else { "" };
        let name = self.cookie_name();
        let cookie = format!("{name}={text}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
    }

    /// The session's text among the cookies of a request.
    pub fn session_text<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie_name()).map(|(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_page_may_use_a_session() {
        let check = |pairs: &[(&'static str, &'static str)], is_needed: bool, expected: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(check_origin(&headers, is_needed).is_ok(), expected, "{pairs:?}");
        };
        let host = ("host", "lake.example.com:8080");
        check(&[host, ("origin", "https://lake.example.com:8080")], true, true);
        check(&[host, ("origin", "https://LAKE.example.com:8080")], true, true);
        check(&[host, ("origin", "https://lake.example.com")], true, false);
        check(&[host, ("origin", "https://evil.example.com")], true, false);
        check(&[host, ("origin", "null")], true, false);
        check(&[host, ("sec-fetch-site", "same-origin"), ("origin", "null")], true, true);
        check(&[host, ("sec-fetch-site", "same-site"), ("origin", "https://lake.example.com:8080")], true, false);
        check(&[host, ("sec-fetch-site", "cross-site")], false, false);
        check(&[host], true, false);
        check(&[host], false, true);
    }
}
