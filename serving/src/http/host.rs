//! Which names a server without keys answers to.
//!
//! Such a server trusts whoever reaches it, because only its own machine can. But a page of another
//! site could let the name of that site lead to 127.0.0.1 once it is loaded (DNS rebinding). The
//! browser would then take answers of this server for those of the site, and give them to the page.
//! What the browser cannot change is the `Host` header: it holds the name of the site. So a server
//! without keys answers only if that is a name of its own machine, or one of
//! `serve.allowed_hosts`. Where keys are needed, the page has none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Server;
use super::problem::Problem;

/// Refuses a request to a server without keys that does not name it.
pub async fn check(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if server.entrance.is_open() && !names_server(request.uri(), request.headers(), &server.settings.allowed_hosts) {
        let detail = "the Host header names neither this machine (like localhost) nor a name of serve.allowed_hosts";
        return Problem::new(StatusCode::FORBIDDEN, "foreign_host", detail).into_response();
    }
    next.run(request).await
}

/// Whether a request names the server, wherever it names one.
fn names_server(uri: &Uri, headers: &HeaderMap, allowed: &[String]) -> bool {
    // An absolute address in the first line of a request overrides the header.
    let line = uri.authority().map(Authority::as_str);
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut named = line.into_iter().chain(hosts).peekable();
    named.peek().is_some() && named.all(|name| is_own(name, allowed))
}

/// Whether a name with or without a port is one of the server's.
fn is_own(name: &str, allowed: &[String]) -> bool {
    let Ok(authority) = name.parse::<Authority>() else { return false };
    let host = authority.host();
    if name.contains('@') || host.is_empty() {
        return false;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if allowed.iter().any(|own| own.eq_ignore_ascii_case(&host)) {
        return true;
    }
    // An address as such is no name that somebody could lead elsewhere.
    let address: Option<IpAddr> = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    match address {
        Some(address) => address.to_canonical().is_loopback(),
        // Browsers do not ask others for names that end in localhost (RFC 6761).
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_and_those_that_are_allowed_are_its_own() {
        let allowed = ["Lake.internal".to_owned(), "[::7]".to_owned()];
        for (name, expected) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("localhost.:8080", true),
            ("lake.localhost", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]", true),
            ("lake.internal:8080", true),
            ("[::7]:1", true),
            ("", false),
            (":8080", false),
            ("evil.example.com", false),
            ("evil.example.com:8080", false),
            ("localhost.evil.example.com", false),
            ("127.0.0.1.evil.example.com", false),
            ("notlocalhost", false),
            ("evil@localhost", false),
            ("localhost@evil.example.com", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("[::2]", false),
            ("other.internal", false),
        ] {
            assert_eq!(is_own(name, &allowed), expected, "{name}");
        }
    }

    #[test]
    fn every_name_in_a_request_counts() {
        let check = |uri: &'static str, hosts: &[&'static str], expected: bool| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            assert_eq!(names_server(&Uri::from_static(uri), &headers, &[]), expected, "{uri} {hosts:?}");
        };
        check("/v1/query", &["localhost"], true);
        check("/v1/query", &[], false);
        check("/v1/query", &["localhost", "evil.example.com"], false);
        check("http://localhost/v1/query", &["localhost"], true);
        check("http://evil.example.com/v1/query", &["localhost"], false);
        check("http://localhost/v1/query", &["evil.example.com"], false);
    }
}
