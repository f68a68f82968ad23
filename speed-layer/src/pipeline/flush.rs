//! Decides when a table's rows are committed: by number of rows, by bytes, or by age. It is pure:
//! the time is an argument.

use std::time::{Duration, Instant};

use crate::settings::IngestSettings;

/// The limits that make a commit due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushPolicy {
    rows: usize,
    bytes: usize,
    interval: Duration,
}

/// What is in memory and not committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The number of rows and dead letters.
    pub rows: usize,
    /// Their memory in bytes.
    pub bytes: usize,
    /// When the first of them came. `None` if nothing is held.
    pub since: Option<Instant>,
    /// How much earlier than usual they are committed. Two workers whose commits have collided
    /// would otherwise collide each time.
    pub early: Duration,
}

/// When a commit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not at all: nothing is held.
    Never,
    /// Not before that time.
    At(Instant),
    /// Now, because of its age.
    Now,
    /// Now, and no more records may be taken before it is done.
    Full,
}

impl FlushPolicy {
    /// A policy with the configured limits.
    pub fn new(settings: &IngestSettings) -> FlushPolicy {
        FlushPolicy { rows: settings.flush_rows, bytes: settings.flush_bytes, interval: settings.flush_interval }
    }

    /// How much earlier the next commit is, after one that collided with another worker's. `share`
    /// is random, between 0 and 1.
    pub fn early(&self, share: f64) -> Duration {
        self.interval.mul_f64(share / 2.0)
    }

    /// Decides whether what is held is due to be committed.
    pub fn due(&self, held: &Held, now: Instant) -> Due {
        let Some(since) = held.since else { return Due::Never };
        if held.rows >= self.rows || held.bytes >= self.bytes {
            return Due::Full;
        }
        match since.checked_add(self.interval.saturating_sub(held.early)) {
            Some(at) if at > now => Due::At(at),
            _ => Due::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_rows_bytes_and_age() {
        let interval = Duration::from_secs(10);
        let policy = FlushPolicy { rows: 100, bytes: 1000, interval };
        let start = Instant::now();
        let check = |rows: usize, bytes: usize, age_s: u64, expected: Due| {
            let held = Held { rows, bytes, since: Some(start), early: Duration::ZERO };
            assert_eq!(policy.due(&held, start + Duration::from_secs(age_s)), expected, "{rows} {bytes} {age_s}");
        };
        check(1, 1, 0, Due::At(start + interval));
        check(99, 999, 9, Due::At(start + interval));
        check(0, 0, 10, Due::Now);
        check(99, 999, 11, Due::Now);
        check(100, 1, 0, Due::Full);
        check(1, 1000, 20, Due::Full);
        let early = Held { rows: 1, since: Some(start), early: policy.early(0.5), ..Held::default() };
        assert_eq!(policy.due(&early, start), Due::At(start + interval * 3 / 4));
        assert_eq!(policy.due(&Held::default(), start + interval), Due::Never);
    }
}
