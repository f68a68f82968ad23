//! Tokens for Amazon MSK with IAM, by which a client logs in over SASL OAUTHBEARER.
//!
//! Such a token is a presigned request (Signature Version 4) for the action
//! `kafka-cluster:Connect`, as AWS's own signers for Java, Go and Python make it: the whole URL in
//! base64url without padding. Nobody sends the request. The broker checks its signature and asks
//! IAM.
//!
//! The credentials come from the AWS SDK's chain (environment, profile, web identity, the role of a
//! task or an instance), anew for each token, so that a role's credentials are always in force.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adlake_lake::error::chain;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::default_provider::region::DefaultRegionChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use tokio::runtime::Handle;
use url::Url;

/// How long a token is valid: the longest that MSK accepts.
const VALID: Duration = Duration::from_secs(900);
const SERVICE: &str = "kafka-cluster";
const USER_AGENT: &str = concat!("adlake/", env!("CARGO_PKG_VERSION"));

/// Makes tokens.
#[derive(Debug, Clone)]
pub struct MskIam {
    /// The region of the cluster. `None`: that of the AWS SDK's chain.
    pub region: Option<String>,
    /// Where the requests for credentials run.
    pub runtime: Handle,
}

impl MskIam {
    /// A token of the credentials that are in force. Blocks for at most `timeout`. Must not be
    /// called from a task.
    pub fn token(&self, timeout: Duration) -> Result<OAuthToken, String> {
        let made = async { tokio::time::timeout(timeout, self.make()).await };
        let made = self.runtime.block_on(made);
        made.unwrap_or_else(|_| Err(format!("kafka.auth: no AWS credentials within {timeout:?}")))
    }

    async fn make(&self) -> Result<OAuthToken, String> {
        let region = match &self.region {
            Some(region) => region.clone(),
            None => {
                let found = DefaultRegionChain::builder().build().region().await;
                found.ok_or("kafka.region: no region is known: set it here, or AWS_REGION")?.to_string()
            }
        };
        let region_of_chain = aws_config::Region::new(region.clone());
        let provider = DefaultCredentialsChain::builder().region(region_of_chain).build().await;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| format!("kafka.auth: no AWS credentials: {}", chain(&error)))?;
        signed(&credentials, &region, SystemTime::now())
    }
}

/// The token of these credentials at this time.
fn signed(credentials: &Credentials, region: &str, now: SystemTime) -> Result<OAuthToken, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("kafka.auth: the token cannot be signed: {error}");
    let mut url = Url::parse(&format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect"))
        .map_err(|error| format!("kafka.region: {region:?} is no region: {error}"))?;
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(VALID);
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| wrong(&error))?
        .into();
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]));
    let signing = sign(request.map_err(|error| wrong(&error))?, &parameters).map_err(|error| wrong(&error))?;
    let (instructions, _) = signing.into_parts();
    for (name, value) in instructions.params() {
        url.query_pairs_mut().append_pair(name, value);
    }
    // It is not signed: brokers write it to their logs.
    url.query_pairs_mut().append_pair("User-Agent", USER_AGENT);
    // A token of credentials that end earlier would end with them.
    let end = credentials.expiry().map_or(now + VALID, |expiry| expiry.min(now + VALID));
    if end <= now {
        return Err("kafka.auth: the AWS credentials have expired".to_owned());
    }
    let lifetime_ms = end.duration_since(UNIX_EPOCH).map_err(|error| wrong(&error))?.as_millis() as i64;
    let principal_name = credentials.access_key_id().to_owned();
    Ok(OAuthToken { token: URL_SAFE_NO_PAD.encode(url.as_str()), principal_name, lifetime_ms })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};

    use super::*;

    const KEY: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    /// 2026-11-28 09:00:00 UTC.
    const NOW: u64 = 1_795_856_400;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn decoded(token: &OAuthToken) -> Url {
        Url::parse(std::str::from_utf8(&URL_SAFE_NO_PAD.decode(&token.token).unwrap()).unwrap()).unwrap()
    }

    fn hex(bytes: impl AsRef<[u8]>) -> String {
        bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn keyed(key: &[u8], text: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// Percent-encoding as Signature Version 4 wants it.
    fn encoded(text: &str) -> String {
        let one = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect()
    }

    /// The signature by AWS's published steps: canonical request, text to sign, derived key.
    fn signature(url: &Url, region: &str) -> String {
        let parameters: BTreeMap<String, String> = url
            .query_pairs()
            .filter(|(name, _)| name != "X-Amz-Signature" && name != "User-Agent")
            .map(|(name, value)| (encoded(&name), encoded(&value)))
            .collect();
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let host = url.host_str().unwrap();
        let request = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{}", query.join("&"), hex(Sha256::digest("")));
        let time = &parameters["X-Amz-Date"];
        let scope = format!("{}/{region}/kafka-cluster/aws4_request", &time[..8]);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(Sha256::digest(request)));
        let steps = [region, "kafka-cluster", "aws4_request"];
        let key = keyed(format!("AWS4{SECRET}").as_bytes(), &time[..8]);
        hex(keyed(&steps.iter().fold(key, |key, step| keyed(&key, step)), &text))
    }

    fn check(session_token: Option<&str>, region: &str) -> OAuthToken {
        let credentials = Credentials::new(KEY, SECRET, session_token.map(str::to_owned), None, "test");
        let token = signed(&credentials, region, now()).unwrap();
        let url = decoded(&token);
        let parameters: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let scope = format!("{KEY}/20261128/{region}/kafka-cluster/aws4_request");
        let mut expected = BTreeMap::from([
            ("Action", "kafka-cluster:Connect"),
            ("User-Agent", USER_AGENT),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &scope),
            ("X-Amz-Date", "20261128T090000Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        expected.extend(session_token.map(|session_token| ("X-Amz-Security-Token", session_token)));
        let signature = signature(&url, region);
        expected.insert("X-Amz-Signature", &signature);
        let found: BTreeMap<&str, &str> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, expected);
        assert_eq!(url.as_str().split('?').next().unwrap(), format!("https://kafka.{region}.amazonaws.com/"));
        token
    }

    #[test]
    fn a_token_is_a_presigned_request_whose_signature_is_right() {
        let token = check(None, "eu-central-1");
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), (KEY, (NOW as i64 + 900) * 1_000));
        assert!(!token.token.contains(['=', '+', '/']), "{}", token.token);
        check(Some("IQoJb3JpZ2luX2VjEJr//+token=="), "us-east-1");
    }

    #[test]
    fn a_token_does_not_outlive_its_credentials() {
        let token = |seconds: i64| {
            let expiry = UNIX_EPOCH + Duration::from_secs((NOW as i64 + seconds) as u64);
            signed(&Credentials::new(KEY, SECRET, None, Some(expiry), "test"), "eu-central-1", now())
        };
        assert_eq!(token(300).unwrap().lifetime_ms, (NOW as i64 + 300) * 1_000);
        assert_eq!(token(3_600).unwrap().lifetime_ms, (NOW as i64 + 900) * 1_000);
        assert!(token(0).err().unwrap().contains("have expired"));
        let wrong = signed(&Credentials::new(KEY, SECRET, None, None, "test"), "eu central", now());
        assert!(wrong.err().unwrap().contains("kafka.region"));
    }
}
