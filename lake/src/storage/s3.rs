//! The S3 store of a lake: how it is reached, and with whose credentials.
//!
//! Options have the names of `object_store`'s S3 options, in any case, with or without `aws_`. What
//! the options do not say is taken from the environment's `AWS_*`, and the region also from the
//! profile of the AWS configuration files.
//!
//! Credentials come from the options or the environment where they are given there. Else the AWS
//! SDK's chain finds them (profiles, roles, web identity, containers, instances), and they are
//! renewed before they expire.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::{CredentialProvider, ObjectStore, RetryConfig};
use tokio::sync::Mutex;
use url::Url;

use super::StoreOptions;
use crate::error::LakeError;

/// Credentials are renewed when they are valid for less than this.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// Options of ours that `object_store` does not know.
const MAX_RETRIES: &str = "max_retries";
const RETRY_TIMEOUT: &str = "retry_timeout";
const ROLE_ARN: &str = "aws_iam_role_arn";
const ROLE_SESSION_NAME: &str = "aws_iam_role_session_name";

/// With one of these, `object_store` finds the credentials itself, or sends none.
const CREDENTIALS: [AmazonS3ConfigKey; 5] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SkipSignature,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
];

/// The options of an S3 store: those of the configuration, then the environment's.
#[derive(Clone, Default)]
pub struct S3Options {
    known: HashMap<AmazonS3ConfigKey, String>,
    /// Options that `object_store` does not know, with names in lower case.
    others: HashMap<String, String>,
}

impl fmt::Debug for S3Options {
    /// Names without values, as some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).entries(self.others.keys()).finish()
    }
}

impl S3Options {
    /// The options of the configuration and the environment's `AWS_*`.
    pub fn new(options: &StoreOptions) -> S3Options {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            name.to_ascii_lowercase().starts_with("aws_").then_some((name, value))
        });
        S3Options::from_both(options.expose(), environment)
    }

    fn from_both<'a>(
        given: impl Iterator<Item = (&'a str, &'a str)>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> S3Options {
        let mut options = S3Options::default();
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in given.chain(environment).filter(|(_, value)| !value.is_empty()) {
            let name = name.to_ascii_lowercase();
            match AmazonS3ConfigKey::from_str(&name) {
                Ok(key) => drop(options.known.entry(key).or_insert(value)),
                Err(_) => drop(options.others.entry(name).or_insert(value)),
            }
        }
        options
    }

    fn get(&self, key: AmazonS3ConfigKey) -> Option<&str> {
        self.known.get(&key).map(String::as_str)
    }

    /// Requests name the bucket in the path, and not in the host name.
    pub fn is_path_style(&self) -> bool {
        let virtual_hosted = self.get(AmazonS3ConfigKey::VirtualHostedStyleRequest);
        // A custom endpoint seldom has a host name for each bucket.
        self.get(AmazonS3ConfigKey::Endpoint).is_some()
            && !virtual_hosted.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The region: from the options, the environment, the profile; else `us-east-1`.
    async fn region(&self) -> Region {
        let given = self.get(AmazonS3ConfigKey::Region).or_else(|| self.get(AmazonS3ConfigKey::DefaultRegion));
        if let Some(region) = given {
            return Region::new(region.to_owned());
        }
        let profile = ProfileFileRegionProvider::new();
        let found = aws_config::meta::region::ProvideRegion::region(&profile).await;
        found.unwrap_or(Region::from_static("us-east-1"))
    }

    /// Credentials that are given as text.
    fn given_credentials(&self) -> Option<Credentials> {
        let key = self.get(AmazonS3ConfigKey::AccessKeyId)?;
        let secret = self.get(AmazonS3ConfigKey::SecretAccessKey)?;
        let token = self.get(AmazonS3ConfigKey::Token).map(str::to_owned);
        Some(Credentials::new(key, secret, token, None, "lake.options"))
    }

    /// Where credentials come from: a role to assume, the given ones, the AWS SDK's chain.
    async fn credentials(&self, region: &Region) -> SharedCredentialsProvider {
        if let Some(role) = self.others.get(ROLE_ARN) {
            let session = self.others.get(ROLE_SESSION_NAME).map_or("adlake", String::as_str);
            let role = AssumeRoleProvider::builder(role).session_name(session).region(region.clone());
            return SharedCredentialsProvider::new(match self.given_credentials() {
                Some(given) => role.build_from_provider(given).await,
                None => role.build().await,
            });
        }
        match self.given_credentials() {
            Some(given) => SharedCredentialsProvider::new(given),
            None => {
                SharedCredentialsProvider::new(DefaultCredentialsChain::builder().region(region.clone()).build().await)
            }
        }
    }

    /// The configuration for clients of the AWS SDK that read from the same place as the lake.
    pub async fn sdk_config(&self) -> SdkConfig {
        let region = self.region().await;
        let credentials = self.credentials(&region).await;
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
        if let Some(endpoint) = self.get(AmazonS3ConfigKey::Endpoint) {
            loader = loader.endpoint_url(endpoint);
        }
        loader.credentials_provider(credentials).load().await
    }

    /// The store at the root of the URL's bucket.
    pub(super) async fn store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, LakeError> {
        let wrong = |detail: String| LakeError::Configuration(format!("lake {url}: {detail}"));
        let region = self.region().await;
        let mut builder = AmazonS3Builder::new().with_url(url.as_str()).with_retry(self.retries().map_err(wrong)?);
        for (key, value) in &self.known {
            builder = builder.with_config(*key, value);
        }
        builder = builder.with_region(region.to_string());
        let is_role = self.others.contains_key(ROLE_ARN);
        if is_role || !CREDENTIALS.iter().any(|key| self.known.contains_key(key)) {
            builder = builder.with_credentials(Arc::new(SdkCredentials {
                provider: self.credentials(&region).await,
                current: Mutex::new(None),
            }));
        }
        Ok(Arc::new(builder.build().map_err(|error| wrong(error.to_string()))?))
    }

    /// How failed requests are repeated within one request of ours.
    fn retries(&self) -> Result<RetryConfig, String> {
        let mut retries = RetryConfig::default();
        if let Some(text) = self.others.get(MAX_RETRIES) {
            retries.max_retries =
                text.parse().map_err(|_| format!("lake.options.{MAX_RETRIES}: {text:?} is no whole number"))?;
        }
        if let Some(text) = self.others.get(RETRY_TIMEOUT) {
            retries.retry_timeout = parse_duration(text)
                .ok_or_else(|| format!("lake.options.{RETRY_TIMEOUT}: {text:?} is no duration such as 30s"))?;
        }
        Ok(retries)
    }
}

/// A duration as the configuration file has them, such as `30s` or `2min`.
fn parse_duration(text: &str) -> Option<Duration> {
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    humantime_serde::deserialize(deserializer).ok()
}

/// The AWS SDK's credentials for `object_store`, kept until shortly before they expire.
#[derive(Debug)]
struct SdkCredentials {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some((credential, expiry)) = current.as_ref()
            && expiry.is_none_or(|expiry| SystemTime::now() + RENEWED_BEFORE < expiry)
        {
            return Ok(credential.clone());
        }
        let found = self.provider.provide_credentials().await;
        let found = found.map_err(no_credentials)?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *current = Some((credential.clone(), found.expiry()));
        Ok(credential)
    }
}

/// Credentials that nobody has given, or that are written wrongly, are for the user to mend. A
/// service that does not hand them out may do so later.
fn no_credentials(error: CredentialsError) -> object_store::Error {
    let path = "the AWS credentials".to_owned();
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            object_store::Error::Unauthenticated { path, source: Box::new(error) }
        }
        _ => object_store::Error::Generic { store: "S3", source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    fn options(given: &[(&str, &str)], environment: &[(&str, &str)]) -> S3Options {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        S3Options::from_both(given.iter().copied(), environment.iter().map(owned))
    }

    #[test]
    fn options_win_over_the_environment() {
        let both = options(
            &[("AWS_REGION", "eu-west-1"), ("endpoint", "http://127.0.0.1:9")],
            &[("AWS_REGION", "us-west-2"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SESSION_TOKEN", "")],
        );
        assert_eq!(both.get(AmazonS3ConfigKey::Region), Some("eu-west-1"));
        assert_eq!(both.get(AmazonS3ConfigKey::AccessKeyId), Some("key"));
        assert_eq!(both.get(AmazonS3ConfigKey::Token), None);
        assert!(both.is_path_style());
        assert!(
            !options(&[("aws_virtual_hosted_style_request", "true"), ("aws_endpoint_url", "x")], &[]).is_path_style()
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let text = format!("{:?}", options(&[("aws_secret_access_key", "hush")], &[("AWS_SESSION_TOKEN", "hush")]));
        assert!(!text.contains("hush") && text.contains("SecretAccessKey"), "{text}");
    }

    #[tokio::test]
    async fn wrong_retries_are_an_error() {
        let url = Url::parse("s3://bucket/lake/").unwrap();
        let error = options(&[("max_retries", "some")], &[]).store(&url).await.unwrap_err().to_string();
        assert!(error.contains("max_retries") && error.contains("\"some\""), "{error}");
        let error = options(&[("retry_timeout", "7 parsecs")], &[]).store(&url).await.unwrap_err().to_string();
        assert!(error.contains("retry_timeout"), "{error}");
        let retries = options(&[("MAX_RETRIES", "3"), ("retry_timeout", "2min")], &[]).retries().unwrap();
        assert_eq!((retries.max_retries, retries.retry_timeout), (3, Duration::from_secs(120)));
    }

    /// Gives a new key with each call, valid for a given time.
    #[derive(Debug)]
    struct Counted(AtomicU32, Duration);

    impl ProvideCredentials for Counted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let key = format!("key{}", self.0.fetch_add(1, Ordering::Relaxed));
            let expiry = SystemTime::now() + self.1;
            future::ProvideCredentials::ready(Ok(Credentials::new(key, "secret", None, Some(expiry), "test")))
        }
    }

    #[tokio::test]
    async fn credentials_are_kept_until_shortly_before_they_expire() {
        for (valid_seconds, second) in [(3600, "key0"), (60, "key1")] {
            let counted = Counted(AtomicU32::new(0), Duration::from_secs(valid_seconds));
            let credentials =
                SdkCredentials { provider: SharedCredentialsProvider::new(counted), current: Mutex::new(None) };
            assert_eq!(credentials.get_credential().await.unwrap().key_id, "key0");
            assert_eq!(credentials.get_credential().await.unwrap().key_id, second, "valid {valid_seconds} s");
        }
    }

    #[test]
    fn credentials_that_nobody_gave_are_no_outage() {
        let missing = LakeError::store("it", no_credentials(CredentialsError::not_loaded("nothing")));
        assert!(matches!(missing, LakeError::Refused { .. }), "{missing:?}");
        let late = CredentialsError::provider_timed_out(Duration::from_secs(5));
        assert!(LakeError::store("it", no_credentials(late)).is_retryable());
    }
}
