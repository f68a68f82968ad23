//! The trace of a request: a span from its arrival until its answer begins, below that of its
//! caller (`traceparent`), with one for what is read from the lake. It is linked to the span that
//! made the state from which it is answered.

use std::future::Future;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::Server;
use crate::state::State;

/// The header with the caller's span.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Routes that machines ask all the time.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Traces a request.
pub async fn request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    if route.as_deref().is_some_and(|route| UNTRACED.contains(&route)) {
        return next.run(request).await;
    }
    let method = method(request.method());
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let span = adlake_telemetry::span!(
        "http request",
        otel.name = name(method, route.as_deref()),
        otel.kind = "server",
        trace.parent = parent,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.path = request.uri().path(),
        error.type = Empty,
        adlake.snapshot = Empty,
    );
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        adlake_telemetry::fail(&span, &status);
    }
    response
}

/// A method that is not known is not told: a client could send any.
fn method(method: &Method) -> &'static str {
    let known = [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let names = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.iter().zip(names).find(|(known, _)| *known == method).map_or("_OTHER", |(_, name)| name)
}

fn name(method: &str, route: Option<&str>) -> String {
    let method = if method == "_OTHER" { "HTTP" } else { method };
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

/// The request of the current span is answered from this state.
pub fn answered_from(state: &State) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    span.record("adlake.snapshot", tracing::field::display(&state.id));
    if let Some(made) = &state.trace {
        adlake_telemetry::link(&span, made);
    }
}

impl Server {
    /// Does what reads the lake, when its turn comes.
    pub async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        // What is asked by a request that is not traced is not traced either.
        let span = match adlake_telemetry::current() {
            Some(_) => adlake_telemetry::span!("query lake", adlake.waited_ms = Empty),
            None => Span::none(),
        };
        let began = std::time::Instant::now();
        async {
            let _turn = self.lake_queries.acquire().await;
            Span::current().record("adlake.waited_ms", began.elapsed().as_millis() as u64);
            work.await
        }
        .instrument(span)
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_spans_are_few() {
        assert_eq!(name(method(&Method::GET), Some("/v1/campaigns/{id}")), "GET /v1/campaigns/{id}");
        assert_eq!(name(method(&Method::POST), None), "POST");
        assert_eq!(name(method(&Method::from_bytes(b"BREW").unwrap()), Some("/")), "HTTP /");
    }
}
