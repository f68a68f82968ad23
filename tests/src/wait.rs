//! Waits until something becomes true. Waits poll, have a deadline and a name, so that a failure
//! says what did not happen.
//!
//! Every wait of the tests goes through here. None sleeps for a fixed time in place of a condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_LAST: Duration = Duration::from_millis(200);

/// Polls `condition` until it is true. After `deadline`, returns an error that names `what`.
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    value(deadline, what, || Ok(condition().then_some(())))
}

/// Polls `attempt` until it returns a value, and returns that. An error of the attempt ends the
/// wait at once. After `deadline`, returns an error that names `what`.
pub fn value<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    let mut pause = POLL_FIRST;
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        let Some(left) = deadline.checked_sub(started.elapsed()) else {
            bail!("waited {deadline:?} in vain for: {what}");
        };
        sleep(pause.min(left));
        pause = (pause * 2).min(POLL_LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut polls = 0;
        until(Duration::from_secs(10), "the third poll", || {
            polls += 1;
            polls == 3
        })
        .unwrap();
        assert_eq!(polls, 3);
    }

    #[test]
    fn a_deadline_names_what_never_came() {
        let error = until(Duration::from_millis(20), "a blue moon", || false).unwrap_err();
        assert!(error.to_string().contains("a blue moon"), "{error}");
    }
}
