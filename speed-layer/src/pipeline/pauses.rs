//! Pauses between attempts at what does not answer.

use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Pauses that double, each taken by a random share, so that not everybody comes back at once.
pub struct Pauses {
    due: Option<Duration>,
    next: Duration,
    max: Duration,
}

impl Pauses {
    /// With `pause_first` the first attempt waits as well.
    pub fn new(max: Duration, pause_first: bool) -> Pauses {
        let mut pauses = Pauses { due: None, next: PAUSE_MIN.min(max), max };
        if pause_first {
            pauses.failed();
        }
        pauses
    }

    /// Waits for the pause that is due, if one is, or until the run is stopped.
    pub async fn pass(&mut self, stopping: &CancellationToken) {
        if let Some(pause) = self.due.take() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// An attempt has failed: a pause is due.
    pub fn failed(&mut self) {
        self.due = Some(self.next.mul_f64(rand::rng().random_range(0.5..1.0)));
        self.next = (self.next * 2).min(self.max);
    }
}
