//! Lines of the log that come again and again, like those of a client without a broker.
//!
//! Of each sort of line, one is admitted in a while. It says how many others were left out since
//! the line before it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after a line another one of its sort is left out.
const INTERVAL: Duration = Duration::from_secs(5);

/// The lines so far, by their sorts. There are few sorts: they are names in librdkafka.
#[derive(Debug, Default)]
pub struct Repeats {
    lines: Mutex<HashMap<String, Line>>,
}

#[derive(Debug)]
struct Line {
    admitted: Instant,
    left_out: u64,
}

/// A line that is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// How many others of its sort were left out before it, if any were.
    pub left_out: Option<u64>,
}

impl Repeats {
    /// Whether a line of this sort is to be logged at this time.
    pub fn admit(&self, sort: &str, now: Instant) -> Option<Admitted> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get_mut(sort) else {
            lines.insert(sort.to_owned(), Line { admitted: now, left_out: 0 });
            return Some(Admitted { left_out: None });
        };
        if now.saturating_duration_since(line.admitted) < INTERVAL {
            line.left_out += 1;
            return None;
        }
        line.admitted = now;
        let left_out = std::mem::take(&mut line.left_out);
        Some(Admitted { left_out: (left_out > 0).then_some(left_out) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_sort_one_line_is_admitted_in_a_while_with_the_number_of_others() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let check = |sort: &str, seconds: f64, expected: Option<Option<u64>>| {
            let admitted = repeats.admit(sort, start + Duration::from_secs_f64(seconds));
            assert_eq!(admitted.map(|line| line.left_out), expected, "{sort} after {seconds} s");
        };
        check("FAIL", 0.0, Some(None));
        check("FAIL", 0.1, None);
        check("SASL", 0.1, Some(None));
        check("FAIL", 4.9, None);
        check("FAIL", 5.0, Some(Some(2)));
        check("FAIL", 9.9, None);
        check("SASL", 9.9, Some(None));
        check("FAIL", 60.0, Some(Some(1)));
    }
}
