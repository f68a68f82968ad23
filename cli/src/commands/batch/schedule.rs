//! `adlake batch schedule`: jobs at set times, and `/healthz`.

use adlake_batch_layer::Gate;
use adlake_batch_layer::schedule::{Health, schedule};
use adlake_batch_layer::timetable::Job;
use adlake_lake::Lake;
use adlake_lake::job_notes::Outcome;
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::commands::catalog;
use crate::config::{CatalogSettings, Settings};
use crate::failure::{self, batch_error};
use crate::http_server::HttpServer;
use crate::shutdown;

/// Does the jobs at their times until a signal comes.
pub async fn run(lake: &Lake, settings: &Settings) -> Result<()> {
    let cancel = shutdown::on_signal()?;
    let (health, told) = watch::channel(Health::default());
    let routes = Router::new().route("/healthz", get(healthz)).with_state(told);
    let _server = HttpServer::start(&settings.batch.schedule.listen, "batch.schedule.listen", routes).await?;
    let gate = Gate::new(&settings.quality, &settings.display()).map_err(batch_error)?;
    let runs = health.subscribe();
    let meaning = settings.meaning();
    tokio::select! {
        done = schedule(lake, &meaning, &settings.batch, &gate, &health, &cancel) => done.map_err(batch_error),
        () = tell_catalog(lake, &settings.catalog, runs) => Ok(()),
    }
}

/// Tells the catalogue of the tables after each batch run. Returns when there will be no more runs.
async fn tell_catalog(lake: &Lake, settings: &CatalogSettings, mut runs: watch::Receiver<Health>) {
    let mut told = None;
    while runs.changed().await.is_ok() {
        let ended = match runs.borrow_and_update().last.get(Job::Run.name()) {
            Some(note) if note.outcome == Outcome::Done => Some(note.ended),
            _ => None,
        };
        if ended.is_none() || ended == told {
            continue;
        }
        told = ended;
        if let Err(error) = catalog::keep(lake, settings).await {
            tracing::error!(error = failure::line(&error), "the catalogue was not told of the tables");
        }
    }
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
