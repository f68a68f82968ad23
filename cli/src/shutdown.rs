//! Stopping. The first SIGINT or SIGTERM asks the work to drain and commit; the second ends the
//! program at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit code after a second signal. The next run reads again what was not committed.
const INTERRUPTED: i32 = 130;

/// A token that the first signal cancels.
pub fn on_signal() -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = next(&mut interrupt, &mut terminate).await;
        info!(signal = name, "stopping: what was read is committed first; a second signal ends at once");
        cancelled.cancel();
        let name = next(&mut interrupt, &mut terminate).await;
        warn!(signal = name, "ended at once; the next run reads again what was not committed");
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
