//! Serves the metrics of ingest over HTTP, for Prometheus.
//!
//! `/metrics` answers with the OpenMetrics text. `/healthz` answers 200 as long as the process
//! runs.

use adlake_speed_layer::metrics::Metrics;
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http_server::HttpServer;

/// Starts a server on `address` (`host:port`). `None` if the address is empty.
pub async fn start(address: &str, metrics: &Metrics) -> Result<Option<HttpServer>> {
    let routes = Router::new().route("/metrics", get(answer)).route("/healthz", get(async || "ok\n"));
    HttpServer::start(address, "ingest.metrics_listen", routes.with_state(metrics.clone())).await
}

async fn answer(State(metrics): State<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
