//! Waits until something becomes true. Waits poll, have a deadline and a name, so that a failure
//! says what did not happen.
//!
//! Every wait of the tests goes through here. None sleeps for a fixed time in place of a condition.
//! Tests sleep only where time itself is the input: a random moment before a kill, the rate at
//! which records are sent, a file that is written slowly.

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

/// Like [`until`], for a condition that is asynchronous or can fail.
pub async fn until_async(
    deadline: Duration,
    what: impl AsRef<str>,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    value_async(deadline, what, async || Ok(condition().await?.then_some(()))).await
}

/// Like [`value`], for an asynchronous attempt.
pub async fn value_async<T>(
    deadline: Duration,
    what: impl AsRef<str>,
    mut attempt: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = POLL_FIRST;
    loop {
        if let Some(value) = attempt().await? {
            return Ok(value);
        }
        let Some(left) = deadline.checked_sub(started.elapsed()) else {
            bail!("waited {deadline:?} in vain for: {}", what.as_ref());
        };
        tokio::time::sleep(pause.min(left)).await;
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

    #[tokio::test]
    async fn an_asynchronous_condition_is_awaited_and_its_error_ends_the_wait() {
        let mut polls = 0;
        let third = value_async(Duration::from_secs(10), "the third poll", async || {
            polls += 1;
            Ok((polls == 3).then_some("third"))
        });
        assert_eq!(third.await.unwrap(), "third");
        let error = until_async(Duration::from_secs(10), "it", async || bail!("broken")).await.unwrap_err();
        assert_eq!(error.to_string(), "broken");
        let error = until_async(Duration::from_millis(20), "a blue moon", async || Ok(false)).await.unwrap_err();
        assert!(error.to_string().contains("a blue moon"), "{error}");
    }

    #[test]
    fn a_deadline_names_what_never_came() {
        let error = until(Duration::from_millis(20), "a blue moon", || false).unwrap_err();
        assert!(error.to_string().contains("a blue moon"), "{error}");
    }
}
