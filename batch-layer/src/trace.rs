//! The trace of a job: a span for the job, and below it one for each phase and each table.

use futures::future::BoxFuture;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::error::BatchError;
use crate::plan::Plan;

/// The span of a job.
pub(crate) fn job_span(name: &str) -> Span {
    adlake_telemetry::span!(
        "batch job",
        otel.name = name,
        adlake.job = name,
        adlake.plan = Empty,
        adlake.run = Empty,
        adlake.rows = Empty,
    )
}

/// Does a job in a span of its own.
pub(crate) async fn job<T>(name: &str, work: BoxFuture<'_, Result<T, BatchError>>) -> Result<T, BatchError> {
    within(job_span(name), work).await
}

/// Does a phase of a job.
pub(crate) async fn phase<T>(name: &str, work: BoxFuture<'_, Result<T, BatchError>>) -> Result<T, BatchError> {
    within(adlake_telemetry::span!("batch phase", otel.name = name), work).await
}

/// Does what is to be done with a table.
pub(crate) async fn table<T>(name: &str, work: BoxFuture<'_, Result<T, BatchError>>) -> Result<T, BatchError> {
    let span = adlake_telemetry::span!(
        "batch table",
        otel.name = format_args!("write {name}"),
        adlake.table = name,
        adlake.table.version = Empty,
        adlake.rows = Empty,
        adlake.files = Empty,
    );
    within(span, work).await
}

/// The table of the current span is written.
pub(crate) fn written(version: u64, rows: u64, files: usize) {
    let span = Span::current();
    span.record("adlake.table.version", version);
    span.record("adlake.rows", rows);
    span.record("adlake.files", files as u64);
}

/// What the job of the current span does is known.
pub(crate) fn planned(plan: &Plan) {
    let name = match plan {
        Plan::Nothing { .. } => "nothing",
        Plan::Incremental { .. } => "incremental",
        Plan::Full { .. } => "full",
        Plan::Backfill { .. } => "backfill",
    };
    Span::current().record("adlake.plan", name);
}

/// The job of the current span has published a run.
pub(crate) fn published(run: i64, rows: u64) {
    let span = Span::current();
    span.record("adlake.run", run);
    span.record("adlake.rows", rows);
}

/// Tells how the work of a span has ended.
pub(crate) fn ended<T>(span: &Span, done: &Result<T, BatchError>) {
    if let Err(error) = done {
        adlake_telemetry::fail(span, error);
    }
}

// The futures are boxed: the compiler cannot show that futures with those of any type in them are
// `Send`.
async fn within<T>(span: Span, work: BoxFuture<'_, Result<T, BatchError>>) -> Result<T, BatchError> {
    let done = work.instrument(span.clone()).await;
    ended(&span, &done);
    done
}
