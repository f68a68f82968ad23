//! Listeners with authentication: SASL over TLS (PLAIN, SCRAM-SHA-256 and -512, OAUTHBEARER),
//! mutual TLS, and tokens as those of Amazon MSK with IAM.
//!
//! openssl makes new certificates for each broker: one of an authority, the broker's for 127.0.0.1,
//! and a client's. Tokens are unsecured JWTs, which Kafka's built-in validator accepts.
//! Those of IAM are checked by `MskIamValidator.java`, which computes their signatures again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::setup;

/// The user that every mechanism knows.
pub const USER: &str = "adlake";
/// The user's password. It must not appear anywhere.
pub const PASSWORD: &str = "correct-horse-battery";

/// The access key, the secret key and the session token that the listener for IAM knows, and its
/// region.
pub const IAM_KEY: [&str; 4] = ["ASIAEXAMPLE", "secret/of+the=tests", "token//of+the==tests", "eu-central-1"];
/// How long a connection by IAM lasts without a new token.
pub const IAM_SESSION_SECONDS: u64 = 5;

pub(super) const PROTOCOLS: &str = ",SECURED:SASL_SSL,MUTUAL:SSL,IAM:SASL_SSL";

/// The secured listeners of a broker, and what clients need to use them.
#[derive(Debug)]
pub struct Secured {
    sasl_port: u16,
    mutual_port: u16,
    iam_port: u16,
    certificates: TempDir,
}

impl Secured {
    pub(super) fn new() -> Result<Secured> {
        let certificates = tempfile::Builder::new().prefix("adlake-certificates-").tempdir()?;
        certificate(certificates.path(), "authority", None)?;
        certificate(certificates.path(), "stranger", None)?;
        certificate(certificates.path(), "broker", Some("subjectAltName=IP:127.0.0.1"))?;
        certificate(certificates.path(), "client", Some("extendedKeyUsage=clientAuth"))?;
        let mut ports = Vec::new();
        while ports.len() < 3 {
            let port = setup::free_port()?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        let [sasl_port, mutual_port, iam_port] = ports[..] else { bail!("three ports are needed") };
        Ok(Secured { sasl_port, mutual_port, iam_port, certificates })
    }

    /// The address for clients that log in.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// The address for clients that show a certificate.
    pub fn mutual(&self) -> String {
        format!("127.0.0.1:{}", self.mutual_port)
    }

    /// The address for clients that log in with [`IAM_KEY`].
    pub fn iam(&self) -> String {
        format!("127.0.0.1:{}", self.iam_port)
    }

    /// A file of `authority`, `broker`, `client` or `stranger` (an authority that nobody trusts),
    /// ending in `.pem` or `.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.certificates.path().join(name)
    }

    /// librdkafka's properties for logging in with a password.
    pub fn login(&self, mechanism: &str, password: &str) -> BTreeMap<String, String> {
        let mut properties = self.trusting("authority.pem", "SASL_SSL");
        properties.extend(
            [("sasl.mechanisms", mechanism), ("sasl.username", USER), ("sasl.password", password)]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        properties
    }

    /// librdkafka's properties for a protocol and an authority.
    pub fn trusting(&self, authority: &str, protocol: &str) -> BTreeMap<String, String> {
        let authority = self.file(authority).display().to_string();
        [("security.protocol", protocol), ("ssl.ca.location", &authority)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    pub(super) fn listeners(&self) -> String {
        format!(",SECURED://{},MUTUAL://{},IAM://{}", self.sasl(), self.mutual(), self.iam())
    }

    pub(super) fn format_arguments(&self) -> Vec<String> {
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .into_iter()
            .flat_map(|mechanism| {
                ["--add-scram".to_owned(), format!("{mechanism}=[name={USER},iterations=4096,password={PASSWORD}]")]
            })
            .collect()
    }

    pub(super) fn properties(&self) -> String {
        let login = "org.apache.kafka.common.security";
        let [access_key, secret_key, session_token, region] = IAM_KEY;
        format!(
            "ssl.keystore.type=PEM
ssl.keystore.location={broker}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mutual.ssl.client.auth=required
listener.name.secured.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secured.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.secured.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.secured.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.secured.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub=\"broker\";
listener.name.iam.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.iam.oauthbearer.sasl.server.callback.handler.class=MskIamValidator
listener.name.iam.oauthbearer.connections.max.reauth.ms={IAM_SESSION_SECONDS}000
listener.name.iam.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub=\"broker\" accessKey=\"{access_key}\" secretKey=\"{secret_key}\" \
sessionToken=\"{session_token}\" region=\"{region}\";
",
            broker = self.file("broker.both").display(),
            authority = self.file("authority.pem").display(),
        )
    }
}

/// Compiles the validator of tokens of IAM into a folder.
pub(super) fn compile_validator(classes: &Path) -> Result<()> {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kafka/MskIamValidator.java"));
    let mut javac = Command::new("javac");
    javac.arg("-cp").arg(setup::kafka_class_path()?).arg("-d").arg(classes).arg(source).stdin(Stdio::null());
    let made = javac.output().context("cannot run javac: apt-get install openjdk-17-jdk-headless")?;
    ensure!(made.status.success(), "javac: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Makes `name.key`, `name.pem`, and `name.both`, which holds both. The certificate is signed by
/// the authority, with this extension, or by itself.
fn certificate(directory: &Path, name: &str, extension: Option<&str>) -> Result<()> {
    let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    let new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key];
    match extension {
        None => openssl(directory, &[&new[..], &["-x509", "-days", "2", "-out", &pem]].concat())?,
        Some(extension) => {
            openssl(directory, &[&new[..], &["-out", &request]].concat())?;
            fs::write(directory.join("extensions"), extension)?;
            openssl(
                directory,
                &[
                    "x509",
                    "-req",
                    "-days",
                    "2",
                    "-in",
                    &request,
                    "-CA",
                    "authority.pem",
                    "-CAkey",
                    "authority.key",
                    "-CAcreateserial",
                    "-extfile",
                    "extensions",
                    "-out",
                    &pem,
                ],
            )?;
        }
    }
    let both = [fs::read(directory.join(&key))?, fs::read(directory.join(&pem))?].concat();
    Ok(fs::write(directory.join(format!("{name}.both")), both)?)
}

fn openssl(directory: &Path, arguments: &[&str]) -> Result<()> {
    let made = Command::new("openssl").args(arguments).current_dir(directory).stdin(Stdio::null()).output();
    let made = made.context("cannot run openssl, which makes the tests' certificates")?;
    ensure!(made.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
