//! Asking the lake where streams are, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use adlake_domain::event::EventKind;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::record::Stream;
use crate::write::{Committer, Stored};

/// The first pause after the store did not answer.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// What the lake has stored of streams; while the store does not answer, it is asked again, unless ingest is being stopped.
pub async fn stored(
    committer: &mut Committer,
    streams: &[Arc<Stream>],
    kind: EventKind,
    mut pauses: Pauses,
    stopping: &CancellationToken,
) -> Result<Vec<Stored>, SpeedError> {
    loop {
        if let Some(pause) = pauses.due.take() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => {}
            }
        }
        match committer.stored(streams).await {
            Ok(stored) => return Ok(stored),
            Err(error) if error.is_retryable() && !stopping.is_cancelled() => {
                let error = chain(&error);
                tracing::warn!(table = kind.raw_table(), error, "the lake cannot be read; waiting for it");
                pauses.failed();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Pauses that double, each taken by a random share, so that not everybody comes back at once.
pub struct Pauses {
    due: Option<Duration>,
    next: Duration,
    max: Duration,
}

impl Pauses {
    /// At most so long; `pause_first` where something has failed already.
    pub fn new(max: Duration, pause_first: bool) -> Pauses {
        let mut pauses = Pauses { due: None, next: PAUSE_MIN.min(max), max };
        if pause_first {
            pauses.failed();
        }
        pauses
    }

    fn failed(&mut self) {
        self.due = Some(self.next.mul_f64(rand::rng().random_range(0.5..1.0)));
        self.next = (self.next * 2).min(self.max);
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
