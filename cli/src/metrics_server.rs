//! Serves the metrics of ingest over HTTP, for Prometheus.
//!
//! `/metrics` answers with the OpenMetrics text. `/healthz` answers 200 as long as the process
//! runs.

use adlake_speed_layer::metrics::Metrics;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    _stop: DropGuard,
}

impl MetricsServer {
    /// Starts a server on `address` (`host:port`). `None` if the address is empty.
    pub async fn start(address: &str, metrics: &Metrics) -> Result<Option<MetricsServer>> {
        if address.is_empty() {
            return Ok(None);
        }
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address} for metrics: is the port in use? See ingest.metrics_listen")
        })?;
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, metrics.clone(), stop.clone()));
        Ok(Some(MetricsServer { _stop: stop.drop_guard() }))
    }
}

async fn serve(listener: TcpListener, metrics: Metrics, stop: CancellationToken) {
    let routes =
        Router::new().route("/metrics", get(answer)).route("/healthz", get(async || "ok\n")).with_state(metrics);
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::warn!(%error, "the metrics server ended; ingest goes on without it");
    }
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
