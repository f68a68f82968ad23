//! The S3 store of a lake: how it is reached, and with whose credentials.
//!
//! Options have the names of `object_store`'s S3 options, in any case, with or without `aws_`, and
//! those of [`Own`]. An unknown name is refused. What the options do not say is taken from the
//! environment's `AWS_*`, where other names are ignored. The region and the endpoint are also taken
//! from the profile of the AWS configuration files.
//!
//! Options that belong together come from one source. If the options hold a key, neither secret nor
//! token of the environment is used with it. If they hold a region, no region of the environment
//! counts.
//!
//! Credentials come from the options or the environment where they are given there. Else the AWS
//! SDK's chain finds them (profiles, roles, web identity, containers, instances), and they are
//! renewed before they expire.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use self::credentials::SdkCredentials;
use super::StoreOptions;
use crate::error::LakeError;

mod credentials;
#[cfg(test)]
mod tests;

/// The session name of roles, unless an option gives another.
const SESSION_NAME: &str = "adlake";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The key, its secret and its token belong together.
const STATIC_KEYS: [AmazonS3ConfigKey; 3] =
    [AmazonS3ConfigKey::AccessKeyId, AmazonS3ConfigKey::SecretAccessKey, AmazonS3ConfigKey::Token];
const INCOMPLETE_KEY: &str = "access_key_id and secret_access_key belong together: give both in lake.options, or both \
                              in the environment";
const REGIONS: [AmazonS3ConfigKey; 2] = [AmazonS3ConfigKey::Region, AmazonS3ConfigKey::DefaultRegion];
const WEB_IDENTITY: [AmazonS3ConfigKey; 2] = [AmazonS3ConfigKey::WebIdentityTokenFile, AmazonS3ConfigKey::RoleArn];

/// Options of ours that `object_store` does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Own {
    MaxRetries,
    RetryTimeout,
    /// A role to assume with the credentials that are found.
    RoleArn,
    RoleSessionName,
}

impl Own {
    /// Takes a name in lower case without `aws_`.
    fn of(name: &str) -> Option<Own> {
        Some(match name {
            "max_retries" => Own::MaxRetries,
            "retry_timeout" => Own::RetryTimeout,
            "iam_role_arn" => Own::RoleArn,
            "iam_role_session_name" => Own::RoleSessionName,
            _ => return None,
        })
    }
}

/// The options of one source.
#[derive(Clone, Default)]
struct Source {
    known: HashMap<AmazonS3ConfigKey, String>,
    own: HashMap<Own, String>,
}

impl Source {
    /// Sets an option. `false`: there is no option of this name.
    fn set(&mut self, name: &str, value: String) -> bool {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("aws_").unwrap_or(&name);
        if let Some(own) = Own::of(name) {
            self.own.entry(own).or_insert(value);
            return true;
        }
        // `object_store` knows some names with the prefix only.
        let Ok(key) = AmazonS3ConfigKey::from_str(&format!("aws_{name}")) else { return false };
        self.known.entry(key).or_insert(value);
        true
    }

    /// The endpoint of S3 alone takes the place of the endpoint of all services.
    fn with_one_endpoint(mut self) -> Source {
        if let Some(endpoint) = self.known.remove(&AmazonS3ConfigKey::S3Endpoint) {
            self.known.insert(AmazonS3ConfigKey::Endpoint, endpoint);
        }
        self
    }

    fn has_one_of(&self, keys: &[AmazonS3ConfigKey]) -> bool {
        keys.iter().any(|key| self.known.contains_key(key))
    }

    fn remove(&mut self, keys: &[AmazonS3ConfigKey]) {
        self.known.retain(|key, _| !keys.contains(key));
    }

    /// These options, and those of another source that these do not have.
    fn or(self, mut other: Source) -> Source {
        other.known.extend(self.known);
        other.own.extend(self.own);
        other
    }

    fn get(&self, key: AmazonS3ConfigKey) -> Option<&str> {
        self.known.get(&key).map(String::as_str)
    }

    /// A switch, which is off unless it is given.
    fn is_on(&self, key: AmazonS3ConfigKey) -> Result<bool, String> {
        let Some(text) = self.get(key) else { return Ok(false) };
        // The words that `object_store` takes.
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" | "y" => Ok(true),
            "0" | "false" | "off" | "no" | "n" => Ok(false),
            _ => Err(format!("{} must be true or false", key.as_ref())),
        }
    }
}

/// Where credentials come from, before a role is assumed with them.
#[derive(Debug, Clone)]
enum Origin {
    /// Nowhere: requests are not signed.
    Unsigned,
    /// They are given as text.
    Given(Credentials),
    /// The options name a role and the file with the token of a web identity.
    WebIdentity(StaticConfiguration),
    /// The AWS SDK finds them.
    Chain,
}

/// The options of an S3 store: those of the configuration, then the environment's.
#[derive(Clone)]
pub struct S3Options {
    options: Source,
    origin: Origin,
    is_virtual_hosted: bool,
}

impl fmt::Debug for S3Options {
    /// Names without values, as some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.options.known.keys()).entries(self.options.own.keys()).finish()
    }
}

impl S3Options {
    /// The options of the configuration and the environment's `AWS_*`. An error says what is wrong
    /// with `lake.options`, without values that may be secret.
    pub fn new(options: &StoreOptions) -> Result<S3Options, String> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            name.to_ascii_lowercase().starts_with("aws_").then_some((name, value))
        });
        S3Options::from_both(options.expose(), environment)
    }

    fn from_both<'a>(
        given: impl Iterator<Item = (&'a str, &'a str)>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<S3Options, String> {
        let mut options = Source::default();
        for (name, value) in given {
            if let Some(advice) = not_supported(name) {
                return Err(format!("{name} is not supported: {advice}"));
            }
            // An empty value stands for none, but its name is checked.
            if value.is_empty() && Source::default().set(name, String::new()) {
                continue;
            }
            if !options.set(name, value.to_owned()) {
                return Err(format!(
                    "{name} is not an option of an S3 store (settings of the AWS tools, as AWS_PROFILE, are read from \
                     the environment)"
                ));
            }
        }
        let options = options.with_one_endpoint();
        if options.has_one_of(&STATIC_KEYS) && !STATIC_KEYS[..2].iter().all(|key| options.known.contains_key(key)) {
            return Err(INCOMPLETE_KEY.to_owned());
        }
        let mut others = Source::default();
        for (name, value) in environment.filter(|(_, value)| !value.is_empty()) {
            others.set(&name, value);
        }
        let mut others = others.with_one_endpoint();

        if options.has_one_of(&STATIC_KEYS) || options.has_one_of(&WEB_IDENTITY) {
            others.remove(&STATIC_KEYS);
        }
        if options.has_one_of(&REGIONS) {
            others.remove(&REGIONS);
        }
        let has_web_identity = options.has_one_of(&WEB_IDENTITY);
        let has_sts = options.has_one_of(&[AmazonS3ConfigKey::StsEndpoint]);
        let options = options.or(others);
        let origin = origin(&options, has_web_identity)?;
        if has_sts && matches!(origin, Origin::WebIdentity(_)) {
            return Err("with a web identity, give endpoint_url_sts in the environment, as AWS_ENDPOINT_URL_STS".into());
        }
        let is_virtual_hosted = options.is_on(AmazonS3ConfigKey::VirtualHostedStyleRequest)?;
        Ok(S3Options { options, origin, is_virtual_hosted })
    }

    /// Requests name the bucket in the path, and not in the host name. `loaded` is the result of
    /// [`S3Options::sdk_config`].
    pub fn is_path_style(&self, loaded: &SdkConfig) -> bool {
        // A custom endpoint seldom has a host name for each bucket.
        loaded.endpoint_url().is_some() && !self.is_virtual_hosted
    }

    /// The region: from the options, the environment, the profile; else `us-east-1`.
    async fn region(&self) -> Region {
        if let Some(region) = REGIONS.into_iter().find_map(|key| self.options.get(key)) {
            return Region::new(region.to_owned());
        }
        let profile = ProfileFileRegionProvider::new();
        let found = aws_config::meta::region::ProvideRegion::region(&profile).await;
        found.unwrap_or(Region::from_static("us-east-1"))
    }

    /// The credentials of the origin, or of the role that is assumed with them. `None`: requests
    /// are not signed.
    async fn credentials(&self, region: &Region) -> Option<SharedCredentialsProvider> {
        let config = ProviderConfig::default().with_region(Some(region.clone())).with_timeout_config(timeouts());
        let found = match &self.origin {
            Origin::Unsigned => return None,
            Origin::Given(given) => SharedCredentialsProvider::new(given.clone()),
            Origin::WebIdentity(identity) => {
                let builder = WebIdentityTokenCredentialsProvider::builder().configure(&config);
                SharedCredentialsProvider::new(builder.static_configuration(identity.clone()).build())
            }
            Origin::Chain => {
                let chain = DefaultCredentialsChain::builder().configure(config).region(region.clone());
                SharedCredentialsProvider::new(chain.build().await)
            }
        };
        let Some(role) = self.options.own.get(&Own::RoleArn) else { return Some(found) };
        let mut sts = aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).timeout_config(timeouts());
        if let Some(endpoint) = self.options.get(AmazonS3ConfigKey::StsEndpoint) {
            sts = sts.endpoint_url(endpoint);
        }
        let sts = sts.credentials_provider(found).load().await;
        let session = self.options.own.get(&Own::RoleSessionName).map_or(SESSION_NAME, String::as_str);
        let role = AssumeRoleProvider::builder(role).session_name(session).configure(&sts).build().await;
        Some(SharedCredentialsProvider::new(role))
    }

    /// The configuration for clients of the AWS SDK that read from the same place as the lake.
    pub async fn sdk_config(&self) -> SdkConfig {
        let region = self.region().await;
        let credentials = self.credentials(&region).await;
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region).timeout_config(timeouts());
        if let Some(endpoint) = self.options.get(AmazonS3ConfigKey::Endpoint) {
            loader = loader.endpoint_url(endpoint);
        }
        let loader = match credentials {
            Some(credentials) => loader.credentials_provider(credentials),
            None => loader.no_credentials(),
        };
        loader.load().await
    }

    /// The store at the root of the URL's bucket.
    pub(super) async fn store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, LakeError> {
        let retries = self.retries().map_err(|detail| LakeError::Configuration(format!("lake.options: {detail}")))?;
        let builder = self.builder(url, &self.sdk_config().await).with_retry(retries);
        let store = builder.build().map_err(|error| LakeError::Configuration(format!("lake {url}: {error}")))?;
        Ok(Arc::new(store))
    }

    fn builder(&self, url: &Url, loaded: &SdkConfig) -> AmazonS3Builder {
        let mut builder = AmazonS3Builder::new().with_url(url.as_str());
        for (key, value) in &self.options.known {
            builder = builder.with_config(*key, value);
        }
        if let Some(region) = loaded.region() {
            builder = builder.with_region(region.to_string());
        }
        if let Some(endpoint) = loaded.endpoint_url() {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(provider) = loaded.credentials_provider() {
            builder = builder.with_credentials(Arc::new(SdkCredentials::new(provider)));
        }
        builder
    }

    /// How failed requests are repeated within one request of ours.
    fn retries(&self) -> Result<RetryConfig, String> {
        let mut retries = RetryConfig::default();
        if let Some(text) = self.options.own.get(&Own::MaxRetries) {
            retries.max_retries = text.parse().map_err(|_| format!("max_retries: {text:?} is no whole number"))?;
        }
        if let Some(text) = self.options.own.get(&Own::RetryTimeout) {
            retries.retry_timeout =
                parse_duration(text).ok_or_else(|| format!("retry_timeout: {text:?} is no duration such as 30s"))?;
        }
        Ok(retries)
    }
}

/// Decides where credentials come from. `has_web_identity`: the options ask for a web identity. If
/// the environment does, the SDK's chain finds it, in its own order.
fn origin(options: &Source, has_web_identity: bool) -> Result<Origin, String> {
    if options.is_on(AmazonS3ConfigKey::SkipSignature)? {
        return Ok(Origin::Unsigned);
    }
    let [key, secret, token] = STATIC_KEYS.map(|key| options.get(key).map(str::to_owned));
    match (key, secret) {
        (Some(key), Some(secret)) => {
            return Ok(Origin::Given(Credentials::new(key, secret, token, None, "lake.options")));
        }
        (Some(_), None) => return Err(INCOMPLETE_KEY.to_owned()),
        // The chain also looks for keys in the environment, and says what it has not found.
        (None, _) => {}
    }
    if !has_web_identity {
        return Ok(Origin::Chain);
    }
    let [Some(file), Some(role)] = WEB_IDENTITY.map(|key| options.get(key)) else {
        return Err("a web identity takes both web_identity_token_file and role_arn. For a role that is assumed with \
                    other credentials, give iam_role_arn"
            .to_owned());
    };
    let session_name = options.get(AmazonS3ConfigKey::RoleSessionName).unwrap_or(SESSION_NAME).to_owned();
    Ok(Origin::WebIdentity(StaticConfiguration {
        web_identity_token_file: file.into(),
        role_arn: role.to_owned(),
        session_name,
    }))
}

/// What to do instead of giving an option that other programs, or `object_store`, know.
fn not_supported(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    Some(match name.strip_prefix("aws_").unwrap_or(&name) {
        "assume_role_arn" | "s3_assume_role_arn" => "give iam_role_arn",
        "assume_role_session_name" | "s3_role_session_name" => "give iam_role_session_name",
        "s3_addressing_style" => "give virtual_hosted_style_request, which is true or false",
        "locking_provider" | "s3_locking_provider" | "s3_allow_unsafe_rename" => "commits take no lock, remove it",
        name if name.starts_with("backoff_config") => "give max_retries and retry_timeout",
        "container_credentials_relative_uri" => "give it in the environment, as AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "container_credentials_full_uri" => "give it in the environment, as AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "container_authorization_token_file" => "give it in the environment, as AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "metadata_endpoint" => "give it in the environment, as AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "imdsv1_fallback" => "credentials of instances are read by IMDSv2, remove it",
        _ => return None,
    })
}

/// For requests of the AWS SDK, also those for credentials. Without them a request may wait for
/// ever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()
}

/// A duration as the configuration file has them, such as `30s` or `2min`.
fn parse_duration(text: &str) -> Option<Duration> {
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    humantime_serde::deserialize(deserializer).ok()
}
