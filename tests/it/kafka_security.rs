//! A broker with authentication: passwords, certificates and tokens. When the broker refuses, the
//! tests check what the error says and what it must not say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use adlake_domain::secret::SecretList;
use adlake_speed_layer::settings::SpeedSettings;
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::secured::{IAM_KEY, IAM_SESSION_SECONDS, PASSWORD, Secured, USER};
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use axum::Json;
use axum::routing::get;
use serde_json::json;

use crate::ingest_kafka::{DEADLINE, IMPRESSIONS, arrived, configuration, impressions, settings, until_end};
use crate::raw::Raw;

type Properties = BTreeMap<String, String>;

fn with(mut properties: Properties, more: &[(&str, &str)]) -> Properties {
    properties.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    properties
}

fn mutual(secured: &Secured) -> Properties {
    let (certificate, key) = (secured.file("client.pem"), secured.file("client.key"));
    let files = [
        ("ssl.certificate.location", certificate.display().to_string()),
        ("ssl.key.location", key.display().to_string()),
    ];
    with(secured.trusting("authority.pem", "SSL"), &files.each_ref().map(|(key, value)| (*key, value.as_str())))
}

/// A program that prints an unsecured token for a user, valid for one minute.
fn token_command(user: &str) -> SecretList {
    let script = format!(
        r#"now=$(date +%s)
        encode() {{ printf '%s' "$1" | base64 | tr -d '=\n' | tr '/+' '_-'; }}
        printf '%s.%s.' "$(encode '{{"alg":"none"}}')" \
            "$(encode "{{\"sub\":\"{user}\",\"iat\":$now,\"exp\":$((now + 60))}}")""#
    );
    ["sh", "-c", &script].into_iter().collect()
}

/// This is one test, because such a broker takes a while to start.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_leads_in_and_every_other_is_refused() -> Result<()> {
    let (broker, secured) = Broker::start_secured()?;
    let topic = unique("secured");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 50))?;
    let base = settings(&broker, &topic);
    let to = |brokers: String, properties: Properties| {
        let mut settings: SpeedSettings = base.clone();
        settings.kafka.brokers = brokers;
        settings.kafka.properties = properties.into_iter().collect();
        settings
    };
    let tokens = with(secured.trusting("authority.pem", "SASL_SSL"), &[("sasl.mechanisms", "OAUTHBEARER")]);

    let mut ways = vec![("mutual TLS", to(secured.mutual(), mutual(&secured)))];
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        ways.push((mechanism, to(secured.sasl(), secured.login(mechanism, PASSWORD))));
    }
    let mut token = to(secured.sasl(), tokens.clone());
    token.kafka.oauth_token_command = token_command(USER);
    ways.push(("OAUTHBEARER", token));
    for (way, settings) in &ways {
        let raw = Raw::new().await?;
        let report = until_end(&raw.lake, settings).await.map_err(|error| anyhow::anyhow!("{way}: {error:?}"))?;
        assert_eq!(report.records_read, 50, "{way}");
        assert_eq!(raw.count(IMPRESSIONS).await?, 50, "{way}");
    }

    let mut no_token = to(secured.sasl(), tokens.clone());
    no_token.kafka.start_timeout = Duration::from_secs(3);
    let mut failing_token = no_token.clone();
    failing_token.kafka.oauth_token_command = ["sh", "-c", "echo no such account >&2; exit 7"].into_iter().collect();
    let mut plain = to(secured.sasl(), Properties::new());
    plain.kafka.start_timeout = Duration::from_secs(2);
    let refusals = [
        (
            "PLAIN, wrong password",
            to(secured.sasl(), secured.login("PLAIN", "wrong")),
            "does not accept these credentials",
        ),
        (
            "SCRAM, wrong password",
            to(secured.sasl(), secured.login("SCRAM-SHA-512", "wrong")),
            "does not accept these credentials",
        ),
        (
            "an authority that did not sign",
            to(
                secured.sasl(),
                with(
                    secured.login("PLAIN", PASSWORD),
                    &[("ssl.ca.location", &secured.file("stranger.pem").display().to_string())],
                ),
            ),
            "cannot be connected to securely",
        ),
        (
            "no certificate",
            to(secured.mutual(), secured.trusting("authority.pem", "SSL")),
            "cannot be connected to securely",
        ),
        ("no token command", no_token, "set kafka.oauth_token_command"),
        ("a failing token command", failing_token, "no such account"),
        ("no TLS", plain, "no answer from"),
    ];
    for (way, settings, expected) in refusals {
        let raw = Raw::new().await?;
        let started = Instant::now();
        let error = format!("{:?}", anyhow::Error::new(until_end(&raw.lake, &settings).await.unwrap_err()));
        ensure!(error.contains(expected), "{way}: {expected:?} is not in: {error}");
        ensure!(error.contains(&settings.kafka.brokers) || error.contains("token"), "{way}: {error}");
        ensure!(!error.contains("wrong\"") && !error.contains(PASSWORD), "{way}: {error}");
        ensure!(started.elapsed() < Duration::from_secs(20), "{way} took {:?}", started.elapsed());
    }
    program_tells_no_secrets(&broker, &secured, &topic).await?;
    a_role_leads_in(&broker, &secured, &topic).await
}

async fn program_tells_no_secrets(broker: &Broker, secured: &Secured, topic: &str) -> Result<()> {
    static SECRET: LazyLock<String> = LazyLock::new(|| unique("hush"));
    let raw = Raw::new().await?;
    let config = |password: &str, name: &str| {
        let login = secured.login("SCRAM-SHA-256", password);
        let mut lines: Vec<String> = login
            .into_iter()
            .filter(|(key, _)| key != "sasl.password")
            .map(|(key, value)| format!("\"{key}\" = \"{value}\""))
            .collect();
        lines.push(format!("\"{name}\" = \"{password}\""));
        configuration(broker, topic, &unique("group"), &raw.path().join("lake"), "")
            .replace(broker.bootstrap(), &secured.sasl())
            .replace("[kafka.properties]", &format!("[kafka.properties]\n{}", lines.join("\n")))
    };
    let run = |text: &str, args: &[&str]| {
        let adlake = Adlake::in_dir(raw.path()).config(text).env("RUST_LOG", "debug");
        let output = adlake.run(args);
        (output.status.code(), format!("{}{}", output.stdout, output.stderr))
    };
    let ingest = ["-vv", "ingest", "kafka", "--until-end"];
    for (password, name, expected, part) in [
        (PASSWORD, "sasl.password", 0, "50 rows"),
        (SECRET.as_str(), "sasl.password", 2, "does not accept these credentials"),
        (SECRET.as_str(), "sasl.pasword", 2, "sasl.pasword"),
    ] {
        let text = config(password, name);
        let (code, said) = run(&text, &ingest);
        ensure!(code == Some(expected) && said.contains(part), "{name}: {code:?}: {said}");
        ensure!(!said.contains(password), "{name}: the password is told: {said}");
    }
    let (code, said) = run(&config(SECRET.as_str(), "sasl.password"), &["config", "show"]);
    ensure!(code == Some(0) && said.contains("sasl.password") && said.contains("[secret]"), "{said}");
    ensure!(!said.contains(SECRET.as_str()), "the password is told: {said}");
    Ok(())
}

/// The service that hands the credentials of its role to a task, and how often it was asked.
async fn credentials_service() -> Result<(String, Arc<AtomicUsize>)> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move || {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            let [access_key, secret_key, session_token, _] = IAM_KEY;
            let expiration = chrono::Utc::now() + chrono::TimeDelta::seconds(10);
            Json(json!({
                "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": session_token,
                "Expiration": expiration.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                "RoleArn": "arn:aws:iam::1:role/speed",
            }))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/role", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/role", get(answer))).await });
    Ok((url, asked))
}

/// By IAM, with the credentials of a task's role, which last for ten seconds. The broker ends
/// sessions without a new token earlier than that.
async fn a_role_leads_in(broker: &Broker, secured: &Secured, topic: &str) -> Result<()> {
    let raw = Raw::new().await?;
    let (url, asked) = credentials_service().await?;
    let text = configuration(broker, topic, &unique("group"), &raw.path().join("lake"), "")
        .replace(broker.bootstrap(), &secured.iam())
        .replace("[kafka]", &format!("[kafka]\nauth = \"msk_iam\"\nregion = \"{}\"", IAM_KEY[3]))
        .replace(
            "[kafka.properties]",
            &format!("[kafka.properties]\n\"ssl.ca.location\" = \"{}\"", secured.file("authority.pem").display()),
        );
    let configured = |text: &str, environment: &[(&'static str, &str)]| {
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Adlake::in_dir(raw.path()).config(text).env("AWS_EC2_METADATA_DISABLED", "true").envs(environment)
    };
    let adlake = |environment: &[(&'static str, &str)]| configured(&text, environment);
    let mut process = adlake(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())]).spawn(["ingest", "kafka"]);
    arrived(&raw, 50).await.with_context(|| process.logs())?;
    // Several sessions and two sets of credentials later, records come as before.
    let (began, at_first) = (Instant::now(), asked.load(Ordering::SeqCst));
    let renewed = async || Ok(asked.load(Ordering::SeqCst) >= at_first + 2);
    wait::until_async(DEADLINE, "new credentials", renewed).await.with_context(|| process.logs())?;
    ensure!(began.elapsed() > Duration::from_secs(2 * IAM_SESSION_SECONDS), "{:?}", began.elapsed());
    broker.produce(topic, None, impressions(50, 80))?;
    arrived(&raw, 80).await.with_context(|| process.logs())?;
    process.sigterm()?;
    let ended = process.wait_exit(Duration::from_secs(30))?;
    ensure!(ended.success(), "{ended}: {}", process.logs());
    let logs = process.logs();
    ensure!(!logs.contains(IAM_KEY[1]) && !logs.contains(IAM_KEY[2]), "the credentials are told: {logs}");

    let [access_key, _, session_token, _] = IAM_KEY;
    let given = |secret: &'static str| {
        [("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", session_token)]
    };
    let fails = |adlake: Adlake, expected: i32, part: &str| -> Result<()> {
        let output = adlake.run(["ingest", "kafka", "--until-end"]);
        let (code, said) = (output.status.code(), output.stderr);
        let is_told = said.contains(part) && !said.contains("another-secret");
        ensure!(code == Some(expected) && is_told, "{part}: {code:?}: {said}");
        Ok(())
    };
    fails(adlake(&given("another-secret")), 2, "does not accept these credentials")?;
    // The source of the credentials may be out of reach for a moment: the configuration is not to
    // blame.
    let impatient = text.replace("[kafka]", "[kafka]\nstart_timeout = \"3s\"");
    fails(configured(&impatient, &[]), 1, "no AWS credentials")?;
    let output = adlake(&given(IAM_KEY[1])).run(["doctor", "--part", "speed"]);
    ensure!(output.status.success() && output.stdout.contains("may be read"), "{}{}", output.stdout, output.stderr);
    Ok(())
}
