//! Serves a few pages over HTTP beside the work of a command.

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    _stop: DropGuard,
}

impl HttpServer {
    /// Starts a server on `address` (`host:port`), which comes from the setting `key`. `None` if
    /// the address is empty.
    pub async fn start(address: &str, key: &str, routes: Router) -> Result<Option<HttpServer>> {
        if address.is_empty() {
            return Ok(None);
        }
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: is the port in use? See {key}"))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let key = key.to_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
                tracing::warn!(%error, key, "the HTTP server ended; the work goes on without it");
            }
        });
        Ok(Some(HttpServer { _stop: stop.drop_guard() }))
    }
}
