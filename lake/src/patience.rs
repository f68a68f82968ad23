//! The store fails for a moment: not a reason to end what has been asked for.
//!
//! Everything that opens, reads, creates or loads goes through [`Lake::patiently`]. Once it has
//! failed in a way that may pass, it is done again, with pauses, for the time that `lake.retry_for`
//! gives; then the caller is told. Commands are told so in the end; ingest, once it has begun, goes
//! on asking for as long as it takes.
//!
//! What may pass is told by type, in [`crate::error`]. Where a request to the store has failed
//! meanwhile, no other error is believed either: see [`Lake::watch`].

use std::time::{Duration, Instant};

use crate::append::pause;
use crate::error::{LakeError, chain};
use crate::storage::Lake;

/// An error that may come from the store.
pub trait MayPass: std::error::Error + Sized + 'static {
    /// Whether waiting and trying again may help.
    fn may_pass(&self) -> bool;

    /// The same where requests to the store failed meanwhile.
    fn doubted(self) -> Self;
}

impl MayPass for LakeError {
    fn may_pass(&self) -> bool {
        self.is_retryable()
    }

    fn doubted(self) -> Self {
        match self {
            // These are known, however the store is.
            LakeError::Configuration(_) | LakeError::Unavailable { .. } | LakeError::Refused { .. } => self,
            error => LakeError::Unavailable { subject: "the lake".to_string(), source: Box::new(error) },
        }
    }
}

impl Lake {
    /// Does something that reads or writes the store, once. An error that comes out while a request
    /// to the store failed is an outage, whatever it says: libraries report a listing that was cut
    /// as a version that is not there.
    pub async fn watch<T, E: MayPass>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let before = self.failures().count();
        match work.await {
            Err(error) if self.failures().count() != before => Err(error.doubted()),
            result => result,
        }
    }

    /// Does something that may be done twice, again where the store failed a moment ago.
    pub async fn patiently<T, E: MayPass, F>(&self, mut work: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut patience = self.patience();
        loop {
            match self.watch(work()).await {
                Err(error) => patience.wait(error).await?,
                result => return result,
            }
        }
    }

    /// For who is to be patient in a way of its own.
    pub fn patience(&self) -> Patience {
        Patience { limit: self.retry_for(), failing_since: None, attempt: 0 }
    }
}

/// How long something has been failing, and how long it may.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    failing_since: Option<Instant>,
    attempt: u32,
}

impl Patience {
    /// Waits before the next attempt. Gives the error back where it will not pass by itself, or has
    /// been met for too long.
    pub async fn wait<E: MayPass>(&mut self, error: E) -> Result<(), E> {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        if !error.may_pass() || failing_since.elapsed() >= self.limit {
            return Err(error);
        }
        tracing::warn!(error = chain(&error), "the lake does not answer; trying again");
        self.attempt += 1;
        pause(self.attempt).await;
        Ok(())
    }

    /// An attempt has succeeded: the next failure is the first of another outage.
    pub fn succeeded(&mut self) {
        (self.failing_since, self.attempt) = (None, 0);
    }
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
        let opened = lake.patiently(|| {
            calls += 1;
            let result = if calls < 3 { Err(out()) } else { Ok(calls) };
            async move { result }
        });
        assert_eq!(opened.await.unwrap(), 3);
        let mut calls = 0;
        let refused = lake.patiently(|| {
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
        let told = lake.patiently(|| {
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
        let opened = lake.patiently(|| {
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
        let opened = lake.patiently(|| {
            calls += 1;
            async { Err::<(), _>(wrong()) }
        });
        assert!(matches!(opened.await, Err(LakeError::Corrupt(_))), "no request has failed since");
        assert_eq!(calls, 1);
    }
}
