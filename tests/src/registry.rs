//! A real schema registry (Apicurio, with Confluent's API) over HTTP and HTTPS. It is killed when
//! the test process ends, or earlier.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{setup, wait};

const API: &str = "/apis/ccompat/v7";
const START_DEADLINE: Duration = Duration::from_secs(120);
const TOOL_DEADLINE: Duration = Duration::from_secs(60);
const STORE_PASSWORD: &str = "not a secret";

/// A registry. Its data is in a directory of its own.
#[derive(Debug)]
pub struct SchemaRegistry {
    port: u16,
    tls_port: u16,
    process: Mutex<Option<Process>>,
    directory: TempDir,
}

impl SchemaRegistry {
    /// Prepares a registry that does not run yet. Its addresses are already known.
    pub fn prepare() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("adlake-registry-").tempdir()?;
        let port = setup::free_port()?;
        let tls_port = loop {
            let other = setup::free_port()?;
            if other != port {
                break other;
            }
        };
        let registry = Self { port, tls_port, process: Mutex::new(None), directory };
        registry.make_certificate()?;
        Ok(registry)
    }

    /// Starts a registry. Returns when it answers.
    pub fn start() -> Result<Self> {
        let registry = Self::prepare()?;
        registry.restart()?;
        Ok(registry)
    }

    /// The address of the API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// The host and the port of the API without TLS.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the API over TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The address of the API over TLS. Only [`SchemaRegistry::ca_file`] vouches for the
    /// certificate.
    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}{API}", self.tls_port)
    }

    /// The file of the certificate, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Registers a version of a subject and returns its id. `references` are versions of other
    /// subjects (type name, subject, version number).
    pub fn register(&self, subject: &str, schema: &str, references: &[(&str, &str, u32)]) -> Result<u32> {
        let references: Vec<Value> = references
            .iter()
            .map(|(name, subject, version)| json!({"name": name, "subject": subject, "version": version}))
            .collect();
        let body = json!({"schema": schema, "references": references}).to_string();
        let answer = self.ask("POST", &format!("/subjects/{subject}/versions"), &body)?;
        let id = answer["id"].as_u64().with_context(|| format!("no id for {subject}: {answer}"))?;
        Ok(u32::try_from(id)?)
    }

    /// Kills the registry (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        self.process()?.take().context("the registry is not running")?.kill9()
    }

    /// Freezes the registry: it accepts connections, but answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.process()?.as_mut().context("the registry is not running")?.signal(libc::SIGSTOP)
    }

    /// Resumes a frozen registry.
    pub fn thaw(&self) -> Result<()> {
        self.process()?.as_mut().context("the registry is not running")?.signal(libc::SIGCONT)
    }

    /// Starts the registry, for the first time or again, on the same ports and with the same data.
    pub fn restart(&self) -> Result<()> {
        let mut process = self.process()?;
        ensure!(process.is_none(), "the registry is running");
        let running = process.insert(self.run()?);
        let waited = wait::value(START_DEADLINE, &format!("the schema registry at {}", self.url()), || {
            if let Some(status) = running.exited()? {
                bail!("the schema registry ended: {status}");
            }
            Ok(self.ask("GET", "/subjects", "").ok().map(|_| ()))
        });
        waited.with_context(|| running.logs())
    }

    fn process(&self) -> Result<MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a test panicked while it held the registry"))
    }

    fn make_certificate(&self) -> Result<()> {
        let keytool = |arguments: &[&str]| -> Result<()> {
            let mut command = Command::new("keytool");
            command.args(arguments).args(["-keystore", "keys.p12", "-storepass", STORE_PASSWORD]);
            command.current_dir(self.directory.path()).stdin(Stdio::null());
            let mut process = Process::start("keytool", command, self.directory.path())?;
            let status = process.wait_exit(TOOL_DEADLINE)?;
            ensure!(status.success(), "keytool failed: {status}\n{}", process.logs());
            Ok(())
        };
        let name = ["-alias", "registry", "-dname", "CN=registry", "-ext", "san=ip:127.0.0.1", "-validity", "2"];
        keytool(
            &[&["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-storetype", "PKCS12"], &name[..]].concat(),
        )?;
        keytool(&["-exportcert", "-rfc", "-alias", "registry", "-file", "ca.pem"])
    }

    fn run(&self) -> Result<Process> {
        let jar = fs::read_dir(setup::registry_app()?)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with("-runner.jar"))
            .context("the schema registry has no program: run tests/setup/setup.sh registry")?;
        let folder: &Path = self.directory.path();
        let mut command = Command::new("java");
        command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).stdin(Stdio::null());
        for (key, value) in [
            ("quarkus.http.host", "127.0.0.1".to_owned()),
            ("quarkus.http.port", self.port.to_string()),
            ("quarkus.http.ssl-port", self.tls_port.to_string()),
            ("quarkus.http.ssl.certificate.key-store-file", folder.join("keys.p12").display().to_string()),
            ("quarkus.http.ssl.certificate.key-store-password", STORE_PASSWORD.to_owned()),
            ("apicurio.storage.kind", "sql".to_owned()),
            ("apicurio.storage.sql.kind", "h2".to_owned()),
            ("apicurio.datasource.url", format!("jdbc:h2:file:{}", folder.join("store").display())),
        ] {
            command.arg(format!("-D{key}={value}"));
        }
        command.arg("-jar").arg(jar);
        Process::start("registry", command, folder)
    }

    /// Sends one request. Anything but a JSON answer with status 200 is an error.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {API}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: \
             application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer}"))?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {head}\n{body}");
        serde_json::from_str(body).with_context(|| format!("{method} {path}: {body}"))
    }
}
