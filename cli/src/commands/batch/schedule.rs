//! `adlake batch schedule`: jobs at set times, and `/healthz`.

use adlake_batch_layer::Gate;
use adlake_batch_layer::schedule::{Health, schedule};
use adlake_lake::Lake;
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::config::Settings;
use crate::failure::batch_error;
use crate::http_server::HttpServer;
use crate::shutdown;

/// Does the jobs at their times until a signal comes.
pub async fn run(lake: &Lake, settings: &Settings) -> Result<()> {
    let cancel = shutdown::on_signal()?;
    let (health, told) = watch::channel(Health::default());
    let routes = Router::new().route("/healthz", get(healthz)).with_state(told);
    let _server = HttpServer::start(&settings.batch.schedule.listen, "batch.schedule.listen", routes).await?;
    let gate = Gate::new(&settings.quality, &settings.display()).map_err(batch_error)?;
    schedule(lake, &settings.meaning(), &settings.batch, &gate, &health, &cancel).await.map_err(batch_error)
}

/// 200 as long as no job has failed when it was done last, else 503. The body is the same.
async fn healthz(State(health): State<watch::Receiver<Health>>) -> Response {
    let health = health.borrow().clone();
    let code = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string_pretty(&health) {
        Ok(text) => (code, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
