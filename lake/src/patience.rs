//! A store that fails for a moment while something is opened: not a reason to end a program that has just begun.
//!
//! Only for opening. Whoever is at work waits for as long as an outage takes, in ways of its own; and who opens a lake at a place that
//! never answers is to be told so soon.

use std::time::{Duration, Instant};

use crate::append::pause;
use crate::error::LakeError;

/// After so long a failure is no longer taken for a moment's.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// Opens, again where the store failed a moment ago.
pub async fn patiently<T, F>(mut open: impl FnMut() -> F) -> Result<T, LakeError>
where
    F: Future<Output = Result<T, LakeError>>,
{
    let started = Instant::now();
    let mut attempt = 0;
    loop {
        match open().await {
            Err(error) if error.is_retryable() && started.elapsed() < OPENING_MAX => {
                tracing::warn!(%error, "the lake does not answer; trying again");
                attempt += 1;
                pause(attempt).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out() -> LakeError {
        LakeError::Unavailable { subject: "it".to_string(), source: "503".into() }
    }

    #[tokio::test]
    async fn a_moment_is_waited_out_and_a_refusal_is_not() {
        let mut calls = 0;
        let opened = patiently(|| {
            calls += 1;
            let result = if calls < 3 { Err(out()) } else { Ok(calls) };
            async move { result }
        });
        assert_eq!(opened.await.unwrap(), 3);
        let mut calls = 0;
        let refused = patiently(|| {
            calls += 1;
            async { Err::<(), _>(LakeError::NotFound("no".to_string())) }
        });
        assert!(refused.await.is_err());
        assert_eq!(calls, 1);
    }
}
