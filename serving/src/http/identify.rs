//! Finds out who asks, and how often.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hashbrown::HashMap;

use super::Server;
use super::problem::Problem;
use crate::access::Principal;

/// Adds the principal to a request, or refuses it. What was asked by whom is logged.
pub async fn identify(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let principal = match principal(&server, request.headers()) {
        Ok(principal) => principal,
        Err(problem) => {
            tracing::info!(target: "audit", %method, path, "refused: no key, or an unknown one");
            return problem.into_response();
        }
    };
    let is_allowed = server.rates.lock().is_ok_and(|mut rates| rates.allows(&principal.name, Instant::now()));
    if !is_allowed {
        return Problem::too_many().into_response();
    }
    let name = principal.name.clone();
    request.extensions_mut().insert(Arc::new(principal));
    let response = next.run(request).await;
    tracing::debug!(target: "audit", key = name, %method, path, status = response.status().as_u16(), "asked");
    response
}

fn principal(server: &Server, headers: &HeaderMap) -> Result<Principal, Problem> {
    if server.keys.is_empty() {
        return Ok(Principal::local());
    }
    let refuse = |code, detail: &str| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = value.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    let key = key.ok_or_else(|| refuse("no_key", "a key is needed: Authorization: Bearer KEY"))?;
    server.keys.principal(key.trim()).ok_or_else(|| refuse("unknown_key", "this key is not known"))
}

/// How often each key may ask: a bucket of as many requests as it has in a second.
#[derive(Debug)]
pub struct Rates {
    per_second: u32,
    buckets: HashMap<String, (f64, Instant)>,
}

impl Rates {
    /// So many requests in a second. 0: no limit.
    pub fn new(per_second: u32) -> Rates {
        Rates { per_second, buckets: HashMap::new() }
    }

    /// Whether a key may ask now.
    pub fn allows(&mut self, key: &str, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let full = f64::from(self.per_second);
        let (left, at) = self.buckets.entry(key.to_owned()).or_insert((full, now));
        *left = (*left + now.saturating_duration_since(*at).as_secs_f64() * full).min(full);
        *at = now;
        let is_allowed = *left >= 1.0;
        if is_allowed {
            *left -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_may_ask_so_often_and_no_more() {
        let mut rates = Rates::new(3);
        let now = Instant::now();
        let allowed = |rates: &mut Rates, at| (0..5).filter(|_| rates.allows("a", at)).count();
        assert_eq!(allowed(&mut rates, now), 3);
        assert_eq!(allowed(&mut rates, now + Duration::from_millis(400)), 1);
        assert!(rates.allows("b", now));
        assert_eq!(allowed(&mut rates, now + Duration::from_secs(60)), 3);
        assert!((0..100).all(|_| Rates::new(0).allows("a", now)));
    }
}
