//! Finds out who asks, and how often.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Server;
use super::audit::Slip;
use super::problem::Problem;
use super::session::{HasSession, check_origin, denied};
use crate::access::Principal;
use crate::access::entrance::Denied;

/// Adds the principal to a request, or refuses it. What was asked by whom is logged.
pub async fn identify(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (principal, has_session) = match principal(&server, &method, request.headers()).await {
        Ok(found) => found,
        Err(problem) => {
            tracing::info!(target: "audit", %method, path, "refused: no key, or an unknown one");
            return problem.into_response();
        }
    };
    if let Some(slip) = request.extensions().get::<Slip>() {
        slip.note_who(&principal.name);
    }
    let taken = server.rates.lock().map_or(Ok(()), |mut rates| rates.take(&principal.name, Instant::now()));
    if let Err(seconds) = taken {
        let detail = "this key asks more often than serve.requests_per_second allows";
        return Problem::too_many(detail, seconds).into_response();
    }
    let name = principal.name.clone();
    request.extensions_mut().insert(Arc::new(principal));
    request.extensions_mut().insert(HasSession(has_session));
    let response = next.run(request).await;
    tracing::debug!(target: "audit", key = name, %method, path, status = response.status().as_u16(), "asked");
    response
}

/// Who asks, and whether by a session.
async fn principal(server: &Server, method: &Method, headers: &HeaderMap) -> Result<(Principal, bool), Problem> {
    let entrance = &server.entrance;
    if entrance.is_open() {
        // A page of another site could make the browser of this machine send it.
        if !method.is_safe() {
            check_origin(headers, false)?;
        }
        return Ok((Principal::local(), false));
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let key = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, key) = key.ok_or_else(no_key)?;
        return Ok((entrance.bearer(key.trim()).await.map_err(denied)?, false));
    }
    let cookie = server.session_text(headers).ok_or_else(no_key)?;
    let (principal, _) = entrance.session(cookie).ok_or_else(|| denied(Denied::Unknown))?;
    if !method.is_safe() {
        check_origin(headers, true)?;
    }
    Ok((principal, true))
}

fn no_key() -> Problem {
    let detail = "a key or a token is needed (Authorization: Bearer KEY), or a session";
    Problem::new(StatusCode::UNAUTHORIZED, "no_key", detail)
}
