//! Tests which options count, what they are refused for, and what becomes of them.

use aws_credential_types::provider::ProvideCredentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn read(given: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<S3Options, String> {
    let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    S3Options::from_both(given.iter().copied(), environment.iter().map(owned))
}

fn options(given: &[(&str, &str)], environment: &[(&str, &str)]) -> S3Options {
    read(given, environment).unwrap()
}

fn refused(given: &[(&str, &str)], environment: &[(&str, &str)], part: &str) {
    let error = read(given, environment).unwrap_err();
    assert!(error.contains(part) && !error.contains("hush"), "{given:?} {environment:?}: {error}");
}

#[test]
fn options_win_over_the_environment() {
    let both = options(
        &[("Endpoint", "http://127.0.0.1:9"), ("timeout", "")],
        &[("AWS_ENDPOINT_URL", "http://127.0.0.1:8"), ("AWS_ALLOW_HTTP", "true"), ("AWS_TIMEOUT", "9s")],
    );
    assert_eq!(both.options.get(AmazonS3ConfigKey::Endpoint), Some("http://127.0.0.1:9"));
    assert_eq!(both.options.get("allow_http".parse().unwrap()), Some("true"));
    assert_eq!(both.options.get("timeout".parse().unwrap()), Some("9s"));
}

#[test]
fn nothing_secret_is_printed() {
    let keys = [("aws_access_key_id", "hush"), ("aws_secret_access_key", "hush"), ("iam_role_arn", "hush")];
    let text = format!("{:?}", options(&keys, &[]));
    assert!(!text.contains("hush") && text.contains("SecretAccessKey") && text.contains("RoleArn"), "{text}");
}

#[tokio::test]
async fn regions_come_from_one_source() {
    let check = async |given: &[(&str, &str)], environment: &[(&str, &str)], expected: &str| {
        let region = options(given, environment).region().await;
        assert_eq!(region.as_ref(), expected, "{given:?} {environment:?}");
    };
    let environment = [("AWS_REGION", "us-west-2"), ("AWS_DEFAULT_REGION", "us-west-1")];
    check(&[], &environment, "us-west-2").await;
    check(&[("region", "eu-west-1")], &environment, "eu-west-1").await;
    check(&[("default_region", "eu-west-1")], &environment, "eu-west-1").await;
    check(&[("default_region", "eu-west-1"), ("region", "eu-west-2")], &environment, "eu-west-2").await;
}

#[test]
fn keys_come_from_one_source() {
    let check = |given: &[(&str, &str)], environment: &[(&str, &str)], expected: (&str, Option<&str>)| {
        let Origin::Given(found) = options(given, environment).origin else { panic!("{given:?} {environment:?}") };
        assert_eq!((found.access_key_id(), found.session_token()), expected, "{given:?} {environment:?}");
    };
    let environment =
        [("AWS_ACCESS_KEY_ID", "its-key"), ("AWS_SECRET_ACCESS_KEY", "hush"), ("AWS_SESSION_TOKEN", "its-token")];
    let given = [("access_key_id", "our-key"), ("secret_access_key", "hush")];
    check(&[], &environment, ("its-key", Some("its-token")));
    check(&[("region", "eu-west-1")], &environment, ("its-key", Some("its-token")));
    check(&given, &environment, ("our-key", None));
    check(&[&given[..], &[("token", "our-token")]].concat(), &environment, ("our-key", Some("our-token")));
    check(&[], &[&environment[..2], &[("AWS_SESSION_TOKEN", "")]].concat(), ("its-key", None));

    for incomplete in [&given[..1], &given[1..], &[("token", "our-token")]] {
        refused(incomplete, &environment, "secret_access_key");
    }
    refused(&[], &environment[..1], "secret_access_key");
}

#[test]
fn the_endpoint_of_s3_counts_before_that_of_all_services() {
    let check = |given: &[(&str, &str)], environment: &[(&str, &str)], expected: &str| {
        let read = options(given, environment);
        assert_eq!(read.options.get(AmazonS3ConfigKey::Endpoint), Some(expected), "{given:?} {environment:?}");
        assert_eq!(read.options.get(AmazonS3ConfigKey::S3Endpoint), None);
    };
    let environment = [("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_S3", "http://s3")];
    check(&[], &environment, "http://s3");
    check(&[("aws_endpoint_url", "http://ours")], &environment, "http://ours");
    check(&[("aws_endpoint_url", "http://ours"), ("endpoint_url_s3", "http://our-s3")], &environment, "http://our-s3");
    check(&[("AWS_ENDPOINT_URL_S3", "http://our-s3")], &environment[..1], "http://our-s3");
}

#[test]
fn the_chain_finds_what_only_the_environment_names() {
    let web_identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "their-role")];
    let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2"), ("AWS_METADATA_ENDPOINT", "http://x")];
    for environment in [&[][..], &web_identity, &container, &[("AWS_SKIP_SIGNATURE", "false")]] {
        let origin = options(&[], environment).origin;
        assert!(matches!(origin, Origin::Chain), "{environment:?}: {origin:?}");
    }
    for yes in ["true", "1", "ON", "yes", "y"] {
        let origin = options(&[("skip_signature", yes)], &web_identity).origin;
        assert!(matches!(origin, Origin::Unsigned), "{yes}: {origin:?}");
    }
}

#[test]
fn a_web_identity_can_be_an_option() {
    let environment = [
        ("AWS_ACCESS_KEY_ID", "its-key"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
    ];
    let given = [("role_arn", "our-role")];
    let Origin::WebIdentity(found) = options(&given, &environment).origin else { panic!("no web identity") };
    assert_eq!((found.web_identity_token_file.to_str(), found.role_arn.as_str()), (Some("/token"), "our-role"));
    assert_eq!(found.session_name, SESSION_NAME);
    refused(&given, &environment[..2], "iam_role_arn");
    refused(&[("role_arn", "our-role"), ("endpoint_url_sts", "http://x")], &environment, "AWS_ENDPOINT_URL_STS");
}

#[test]
fn options_that_have_no_effect_are_refused() {
    let advice = [
        ("AWS_SECRT_ACCESS_KEY", "not an option"),
        ("aws_profile", "environment"),
        ("AWS_ASSUME_ROLE_ARN", "iam_role_arn"),
        ("AWS_S3_ADDRESSING_STYLE", "virtual_hosted_style_request"),
        ("AWS_S3_LOCKING_PROVIDER", "lock"),
        ("backoff_config.init_backoff", "retry_timeout"),
        ("aws_container_credentials_full_uri", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ("metadata_endpoint", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        ("aws_imdsv1_fallback", "IMDSv2"),
    ];
    for (name, part) in advice {
        refused(&[(name, "hush")], &[], name);
        refused(&[(name, "hush")], &[], part);
        refused(&[(name, "")], &[], part);
        // Variables of the environment are for other programs too.
        options(&[], &[(name, "hush")]);
    }
}

#[tokio::test]
async fn requests_name_the_bucket_in_the_path_at_an_endpoint_of_ones_own() {
    let check = async |given: &[(&str, &str)], expected: bool| {
        let options = options(given, &[]);
        assert_eq!(options.is_path_style(&options.sdk_config().await), expected, "{given:?}");
    };
    let endpoint = ("endpoint_url", "http://127.0.0.1:9");
    check(&[], false).await;
    check(&[endpoint], true).await;
    check(&[("endpoint_url_s3", "http://127.0.0.1:9")], true).await;
    for (text, is_virtual) in [("true", true), ("1", true), ("On", true), ("y", true), ("0", false), ("no", false)] {
        check(&[endpoint, ("virtual_hosted_style_request", text)], !is_virtual).await;
    }
    refused(&[("virtual_hosted_style_request", "hush")], &[], "virtual_hosted_style_request");
}

#[test]
fn the_endpoint_of_a_profile_counts() {
    let profile = SdkConfig::builder().endpoint_url("http://profile").build();
    let options = options(&[], &[]);
    assert!(options.is_path_style(&profile));
    let url = Url::parse("s3://bucket/lake/").unwrap();
    let endpoint = options.builder(&url, &profile).get_config_value(&AmazonS3ConfigKey::Endpoint);
    assert_eq!(endpoint.as_deref(), Some("http://profile"));
}

#[tokio::test]
async fn requests_of_the_sdk_do_not_wait_for_ever() {
    let loaded = options(&[], &[]).sdk_config().await;
    let timeouts = loaded.timeout_config().unwrap();
    assert_eq!(timeouts.connect_timeout(), Some(CONNECT_TIMEOUT));
    assert_eq!(timeouts.read_timeout(), Some(READ_TIMEOUT));
}

#[tokio::test]
async fn wrong_retries_are_an_error() {
    let url = Url::parse("s3://bucket/lake/").unwrap();
    let error = options(&[("max_retries", "some")], &[]).store(&url).await.unwrap_err().to_string();
    assert!(error.contains("lake.options") && error.contains("max_retries") && error.contains("\"some\""), "{error}");
    let error = options(&[("retry_timeout", "7 parsecs")], &[]).store(&url).await.unwrap_err().to_string();
    assert!(error.contains("retry_timeout"), "{error}");
    for prefix in ["", "aws_", "AWS_"] {
        let [max, timeout] = ["max_retries", "retry_timeout"].map(|name| format!("{prefix}{name}"));
        let retries = options(&[(&max, "3"), (&timeout, "2min")], &[]).retries().unwrap();
        assert_eq!((retries.max_retries, retries.retry_timeout), (3, Duration::from_secs(120)));
    }
}

/// Answers one request as STS answers a request for a role, and returns the request.
async fn hand_out_a_role(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !String::from_utf8_lossy(&request).contains("RoleSessionName=") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "{}", String::from_utf8_lossy(&request));
    }
    let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                <Credentials><AccessKeyId>role-key</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>\
                <SessionToken>role-token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                </AssumeRoleResult></AssumeRoleResponse>";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    String::from_utf8_lossy(&request).into_owned()
}

#[tokio::test]
async fn a_role_is_assumed_with_the_credentials_that_are_given() {
    for name in ["iam_role_arn", "AWS_IAM_ROLE_ARN"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let sts = tokio::spawn(hand_out_a_role(listener));
        let given = [
            (name, "arn:aws:iam::1:role/lake"),
            ("access_key_id", "our-key"),
            ("secret_access_key", "hush"),
            ("endpoint_url_sts", &endpoint),
        ];
        let provider = options(&given, &[]).sdk_config().await.credentials_provider().unwrap();
        let found = provider.provide_credentials().await.unwrap();
        assert_eq!((found.access_key_id(), found.session_token()), ("role-key", Some("role-token")), "{name}");
        let request = sts.await.unwrap();
        assert!(request.contains("Credential=our-key/") && request.contains("role%2Flake"), "{request}");
    }
}
