//! Pauses between attempts when something does not answer.

use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Pauses that double. Each is shortened by a random share, so that not all workers retry at once.
pub struct Pauses {
    due: Option<Duration>,
    next: Duration,
    max: Duration,
}

impl Pauses {
    /// With `pause_first`, there is a pause before the first attempt, too.
    pub fn new(max: Duration, pause_first: bool) -> Pauses {
        let mut pauses = Pauses { due: None, next: PAUSE_MIN.min(max), max };
        if pause_first {
            pauses.failed();
        }
        pauses
    }

    /// Waits for the pause that is due, if one is. Returns early when the run is stopped.
    pub async fn pass(&mut self, stopping: &CancellationToken) {
        if let Some(pause) = self.due.take() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// An attempt has failed, so a pause is due.
    pub fn failed(&mut self) {
        self.due = Some(self.next.mul_f64(rand::rng().random_range(0.5..1.0)));
        self.next = (self.next * 2).min(self.max);
    }
}
