//! Retries of operations on the lake when its store fails for a moment.
//!
//! Every operation that opens, reads, creates or loads something goes through [`Lake::retry`].
//! If it fails in a way that may pass, it is retried with pauses, for as long as `lake.retry_for`
//! says. Then the caller gets the error. A command reports it and ends. Ingest, once it has begun,
//! retries for as long as the outage lasts.
//!
//! [`crate::error`] tells by an error's type whether it may pass. If a request to the store failed
//! during the operation, no other error is trusted either: see [`Lake::watch`].

use std::time::{Duration, Instant};

use rand::Rng;

use crate::error::{LakeError, chain};
use crate::storage::Lake;

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An error that may come from the store.
pub trait Retryable: std::error::Error + Sized + 'static {
    /// Whether a retry after a wait may succeed.
    fn is_retryable(&self) -> bool;

    /// The same error, for the case that a request to the store failed during the operation.
    fn into_outage(self) -> Self;
}

impl Retryable for LakeError {
    fn is_retryable(&self) -> bool {
        LakeError::is_retryable(self)
    }

    fn into_outage(self) -> Self {
        match self {
            // These are certain, whatever the state of the store.
            LakeError::Configuration(_)
            | LakeError::Unavailable { .. }
            | LakeError::Refused { .. }
            | LakeError::Superseded(_) => self,
            error => LakeError::Unavailable { subject: "the lake".to_string(), source: Box::new(error) },
        }
    }
}

impl Lake {
    /// Runs an operation on the store once. If it fails, and a request to the store failed
    /// meanwhile, the error counts as an outage, whatever it says. The reason: libraries draw wrong
    /// conclusions from a failed request. They report a listing that was cut as a version that is
    /// not there.
    pub async fn watch<T, E: Retryable>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let before = self.failures().count();
        match work.await {
            Err(error) if self.failures().count() != before => Err(error.into_outage()),
            result => result,
        }
    }

    /// Runs an operation that may be repeated, and retries it while the store fails.
    pub async fn retry<T, E: Retryable, F>(&self, mut work: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut budget = self.retry_budget();
        loop {
            match self.watch(work()).await {
                Err(error) => budget.wait(error).await?,
                result => return result,
            }
        }
    }

    /// A retry budget for callers that write their own retry loop.
    pub fn retry_budget(&self) -> RetryBudget {
        RetryBudget { limit: self.retry_for(), failing_since: None, attempt: 0 }
    }
}

/// How long an operation has been failing, and how long it may go on failing.
#[derive(Debug)]
pub struct RetryBudget {
    limit: Duration,
    failing_since: Option<Instant>,
    attempt: u32,
}

impl RetryBudget {
    /// Waits before the next attempt. Returns the error if waiting does not help, or if the
    /// operation has been failing for too long.
    pub async fn wait<E: Retryable>(&mut self, error: E) -> Result<(), E> {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        if !error.is_retryable() || failing_since.elapsed() >= self.limit {
            return Err(error);
        }
        tracing::warn!(error = chain(&error), "the lake does not answer; retrying");
        self.attempt += 1;
        pause(self.attempt).await;
        Ok(())
    }

    /// An attempt has succeeded: the next failure begins a new outage.
    pub fn succeeded(&mut self) {
        (self.failing_since, self.attempt) = (None, 0);
    }
}

/// Sleeps before attempt `attempt`: a random time up to a bound that doubles from 10 ms (full
/// jitter).
pub(crate) async fn pause(attempt: u32) {
    let most = Duration::from_millis(10).saturating_mul(1 << attempt.min(12)).min(PAUSE_MAX);
    let share = rand::rng().random_range(0.0..1.0);
    tokio::time::sleep(most.mul_f64(share)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageSettings;

    fn out() -> LakeError {
        LakeError::Unavailable { subject: "it".to_string(), source: "503".into() }
    }

    async fn lake(retry_for: Duration) -> Lake {
        Lake::open(&StorageSettings { uri: "memory:///".to_string(), retry_for, ..Default::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn a_moment_is_waited_out_and_a_refusal_is_not() {
        let lake = lake(Duration::from_secs(60)).await;
        let mut calls = 0;
        let opened = lake.retry(|| {
            calls += 1;
            let result = if calls < 3 { Err(out()) } else { Ok(calls) };
            async move { result }
        });
        assert_eq!(opened.await.unwrap(), 3);
        let mut calls = 0;
        let refused = lake.retry(|| {
            calls += 1;
            async { Err::<(), _>(LakeError::NotFound("no".to_string())) }
        });
        assert!(refused.await.is_err());
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn an_outage_is_told_after_the_time_that_is_configured() {
        let lake = lake(Duration::ZERO).await;
        let mut calls = 0;
        let told = lake.retry(|| {
            calls += 1;
            async { Err::<(), _>(out()) }
        });
        assert!(matches!(told.await, Err(LakeError::Unavailable { .. })));
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn what_comes_out_while_the_store_fails_is_not_believed() {
        let lake = lake(Duration::from_secs(60)).await;
        let wrong = || LakeError::Corrupt("Invalid table version: 0".to_string());
        let mut calls = 0;
        let opened = lake.retry(|| {
            calls += 1;
            let (call, failures) = (calls, lake.failures().clone());
            async move {
                if call > 1 {
                    return Ok(call);
                }
                failures.fail();
                Err(wrong())
            }
        });
        assert_eq!(opened.await.unwrap(), 2);
        let mut calls = 0;
        let opened = lake.retry(|| {
            calls += 1;
            async { Err::<(), _>(wrong()) }
        });
        assert!(matches!(opened.await, Err(LakeError::Corrupt(_))), "no request has failed since");
        assert_eq!(calls, 1);
    }
}
