//! The AWS SDK's credentials for `object_store`: kept while they are valid, and renewed in time.
//!
//! - A renewal begins [`RENEWED_BEFORE`] before the credentials expire.
//! - While one request renews credentials that are still valid, the other requests use them.
//! - A renewal that fails does no harm before the credentials expire. It is repeated after
//!   [`RENEWAL_PAUSE`].
//! - If no credentials are found at the first load, that is a refusal. Once credentials have been
//!   obtained, a failure is an outage of the service that hands them out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use crate::error;

/// Credentials are renewed when they are valid for less than this.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// The pause after a failed renewal of credentials that are still valid.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// How long one load may take, with all its requests and their repetitions.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Credentials of a provider of the AWS SDK.
#[derive(Debug)]
pub(super) struct SdkCredentials {
    provider: SharedCredentialsProvider,
    load_timeout: Duration,
    /// The credentials that were loaded last.
    held: Mutex<Option<Held>>,
    /// Held by the request that loads credentials.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Held {
    credential: Arc<AwsCredential>,
    /// `None`: they do not expire.
    expiry: Option<SystemTime>,
    renewed_from: Option<SystemTime>,
}

impl Held {
    fn is_due(&self) -> bool {
        self.renewed_from.is_some_and(|from| from <= SystemTime::now())
    }

    fn is_valid(&self) -> bool {
        self.expiry.is_none_or(|expiry| SystemTime::now() < expiry)
    }
}

impl SdkCredentials {
    pub(super) fn new(provider: SharedCredentialsProvider) -> SdkCredentials {
        let (held, renewal) = (Mutex::default(), tokio::sync::Mutex::default());
        SdkCredentials { provider, load_timeout: LOAD_TIMEOUT, held, renewal }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    async fn load(&self) -> Result<Held, CredentialsError> {
        let loading = tokio::time::timeout(self.load_timeout, self.provider.provide_credentials());
        let loaded = loading.await.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(self.load_timeout)))?;
        let credential = Arc::new(AwsCredential {
            key_id: loaded.access_key_id().to_owned(),
            secret_key: loaded.secret_access_key().to_owned(),
            token: loaded.session_token().map(str::to_owned),
        });
        let expiry = loaded.expiry();
        let renewed_from = expiry.map(|expiry| expiry.checked_sub(RENEWED_BEFORE).unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(Held { credential, expiry, renewed_from })
    }
}

#[async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let _renewal = match self.held() {
            Some(held) if !held.is_due() => return Ok(held.credential),
            Some(held) if held.is_valid() => match self.renewal.try_lock() {
                Ok(renewal) => renewal,
                Err(_) => return Ok(held.credential),
            },
            _ => self.renewal.lock().await,
        };
        // Another request may have loaded new ones while this one waited.
        let held = match self.held() {
            Some(held) if !held.is_due() => return Ok(held.credential),
            held => held,
        };
        match (self.load().await, held) {
            (Ok(loaded), _) => {
                self.hold(loaded.clone());
                Ok(loaded.credential)
            }
            (Err(error), Some(held)) if held.is_valid() => {
                let error = error::chain(&error);
                tracing::warn!(error, "the AWS credentials could not be renewed; the current ones are still valid");
                let renewed_from = Some(SystemTime::now() + RENEWAL_PAUSE);
                self.hold(Held { renewed_from, ..held.clone() });
                Ok(held.credential)
            }
            (Err(error), held) => Err(no_credentials(error, held.is_none())),
        }
    }
}

/// Credentials that nobody has given, or that are written wrongly, are for the user to mend. A
/// service that does not hand them out may do so later. So may one that did so before, whatever it
/// answers now: an instance's metadata service that is out looks like one that is not there.
fn no_credentials(error: CredentialsError, is_first: bool) -> object_store::Error {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) if is_first => {
            let path = "the AWS credentials".to_owned();
            object_store::Error::Unauthenticated { path, source: Box::new(error) }
        }
        _ => object_store::Error::Generic { store: "S3", source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::future;

    use super::*;
    use crate::error::LakeError;

    /// What a provider answers to one call.
    #[derive(Debug)]
    enum Answer {
        /// A key that is valid for a number of seconds. It may be negative.
        Key(&'static str, i64),
        /// No provider of the chain has credentials.
        NotLoaded,
        /// The service failed.
        Failure,
        /// The service never answers.
        Silence,
    }
    use Answer::{Failure, Key, NotLoaded, Silence};

    /// Answers one call after the other as it is told.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<Answer>>);

    impl ProvideCredentials for Scripted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let answer = self.0.lock().unwrap().pop_front().expect("one call more than answers");
            future::ProvideCredentials::new(async move {
                match answer {
                    Key(key, seconds) => {
                        let valid = Duration::from_secs(seconds.unsigned_abs());
                        let now = SystemTime::now();
                        let expiry = if seconds < 0 { now - valid } else { now + valid };
                        Ok(Credentials::new(key, "secret", None, Some(expiry), "test"))
                    }
                    NotLoaded => Err(CredentialsError::not_loaded("nothing")),
                    Failure => Err(CredentialsError::provider_error("503")),
                    Silence => std::future::pending().await,
                }
            })
        }
    }

    fn scripted(answers: impl IntoIterator<Item = Answer>) -> SdkCredentials {
        let provider = Scripted(Mutex::new(answers.into_iter().collect()));
        SdkCredentials::new(SharedCredentialsProvider::new(provider))
    }

    async fn key(credentials: &SdkCredentials) -> String {
        credentials.get_credential().await.unwrap().key_id.clone()
    }

    async fn failure(credentials: &SdkCredentials) -> LakeError {
        LakeError::store("it", credentials.get_credential().await.unwrap_err())
    }

    #[tokio::test]
    async fn credentials_are_kept_until_shortly_before_they_expire() {
        for (valid_seconds, second) in [(3600, "first"), (60, "second")] {
            let credentials = scripted([Key("first", valid_seconds), Key("second", 3600)]);
            assert_eq!(key(&credentials).await, "first");
            assert_eq!(key(&credentials).await, second, "valid {valid_seconds} s");
        }
    }

    #[tokio::test]
    async fn a_failed_renewal_leaves_valid_credentials_and_is_repeated_later() {
        for renewal in [NotLoaded, Failure, Silence] {
            let mut credentials = scripted([Key("first", 60), renewal, Key("second", 3600)]);
            credentials.load_timeout = Duration::from_millis(20);
            assert_eq!(key(&credentials).await, "first");
            assert_eq!(key(&credentials).await, "first");
            // In the pause the provider is not asked again: it would give the second key.
            assert_eq!(key(&credentials).await, "first");
            let held = credentials.held().unwrap();
            credentials.hold(Held { renewed_from: Some(SystemTime::now()), ..held });
            assert_eq!(key(&credentials).await, "second");
        }
    }

    #[tokio::test]
    async fn requests_use_valid_credentials_while_one_renews_them() {
        let credentials = scripted([Key("first", 60), Silence]);
        assert_eq!(key(&credentials).await, "first");
        let renewing = key(&credentials);
        let other = async {
            // Lets the renewal begin.
            tokio::task::yield_now().await;
            key(&credentials).await
        };
        tokio::select! {
            biased;
            renewed = renewing => panic!("{renewed}: the service has not answered"),
            used = other => assert_eq!(used, "first"),
        }
    }

    #[tokio::test]
    async fn credentials_that_were_never_there_are_a_refusal_and_lost_ones_are_an_outage() {
        let error = failure(&scripted([NotLoaded])).await;
        assert!(matches!(error, LakeError::Refused { .. }), "{error:?}");
        assert!(failure(&scripted([Failure])).await.is_retryable());

        let credentials = scripted([Key("first", -1), NotLoaded, Key("second", 3600)]);
        assert_eq!(key(&credentials).await, "first");
        let error = failure(&credentials).await;
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(key(&credentials).await, "second");
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_an_outage() {
        let mut credentials = scripted([Silence]);
        credentials.load_timeout = Duration::from_millis(20);
        assert!(failure(&credentials).await.is_retryable());
    }
}
