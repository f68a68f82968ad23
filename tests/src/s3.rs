//! An S3 API server with atomic conditional PUT (versitygw over a directory). It is killed when the
//! test process ends, or earlier.

use std::collections::HashMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use rand::Rng;
use rand::distr::Alphanumeric;
use tempfile::TempDir;

use crate::process::Process;
use crate::{setup, wait};

const REGION: &str = "us-east-1";
const BUCKET: &str = "lake";
const START_ATTEMPTS: usize = 3;
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A server with one bucket and random credentials.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    access_key: String,
    secret_key: String,
    process: Mutex<Option<Process>>,
    directory: TempDir,
}

impl S3Server {
    /// Starts a server. Returns when it accepts connections.
    pub fn start() -> Result<Self> {
        let mut last = anyhow!("not tried");
        // A port that was free may be taken by the time the server binds it.
        for _ in 0..START_ATTEMPTS {
            match Self::try_start() {
                Ok(server) => return Ok(server),
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The address of the API: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket that exists from the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The URI of `path` in the bucket.
    pub fn uri(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }

    /// The folder in which the server keeps the bucket's objects as files. It serves to write many
    /// of them at once.
    pub fn bucket_folder(&self) -> PathBuf {
        self.root().join(BUCKET)
    }

    /// Creates another bucket.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        // The server treats the directories under its root as buckets.
        fs::create_dir(self.root().join(name)).with_context(|| format!("cannot create the bucket {name}"))
    }

    /// The environment that points a program at this server: endpoint, credentials, region, plain
    /// HTTP.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// The same as [`S3Server::environment`], as storage options of the Delta library.
    pub fn storage_options(&self) -> HashMap<String, String> {
        self.environment().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// A client for the bucket.
    pub fn store(&self) -> Result<AmazonS3> {
        AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_bucket_name(BUCKET)
            .with_region(REGION)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_allow_http(true)
            .build()
            .context("cannot make a client of the S3 server")
    }

    /// Kills the server (SIGKILL), which is an outage of the store. Its objects stay.
    pub fn kill9(&self) -> Result<()> {
        let mut process = self.process()?.take().context("the S3 server is not running")?;
        process.kill9()
    }

    /// Starts the server again after [`S3Server::kill9`], with the same port and objects.
    pub fn restart(&self) -> Result<()> {
        let mut process = self.process()?;
        if process.is_some() {
            bail!("the S3 server is running");
        }
        *process = Some(self.run()?);
        Ok(())
    }

    fn try_start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("adlake-s3-").tempdir()?;
        let server = Self {
            port: setup::free_port()?,
            access_key: random_key(20),
            secret_key: random_key(40),
            process: Mutex::new(None),
            directory,
        };
        fs::create_dir(server.root())?;
        server.create_bucket(BUCKET)?;
        let process = server.run()?;
        *server.process()? = Some(process);
        Ok(server)
    }

    fn run(&self) -> Result<Process> {
        let mut command = Command::new(setup::versitygw()?);
        command
            .env("ROOT_ACCESS_KEY", &self.access_key)
            .env("ROOT_SECRET_KEY", &self.secret_key)
            .args([
                "--port",
                &format!("127.0.0.1:{}", self.port),
                "--region",
                REGION,
                "--keep-alive",
                "--quiet",
                "posix",
            ])
            .arg(self.root())
            .stdin(Stdio::null());
        let mut process = Process::start("versitygw", command, self.directory.path())?;
        let waited = wait::value(START_DEADLINE, "the S3 server", || {
            if let Some(status) = process.exited()? {
                bail!("the S3 server ended: {status}");
            }
            Ok(TcpStream::connect(("127.0.0.1", self.port)).is_ok().then_some(()))
        });
        waited.with_context(|| process.logs())?;
        Ok(process)
    }

    fn root(&self) -> PathBuf {
        Path::join(self.directory.path(), "buckets")
    }

    fn process(&self) -> Result<MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a test panicked while it held the S3 server"))
    }
}

fn random_key(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}
