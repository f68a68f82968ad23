//! Runs the built `adlake` program as its users do: with a configuration file, arguments and an
//! environment. It never calls adlake's libraries.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Deserializer, Map, Value};

use crate::process::Process;

const RUN_DEADLINE: Duration = Duration::from_secs(300);

/// How often the program was started: two in one folder have logs of their own.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// The program, with the directory it runs in, its configuration and its environment.
#[derive(Debug)]
pub struct Adlake {
    program: PathBuf,
    directory: PathBuf,
    config: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    deadline: Duration,
}

/// The result of a finished run.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Adlake {
    /// The program, run in `directory`, which holds its configuration and logs. Panics if the
    /// program has not been built.
    pub fn in_dir(directory: &Path) -> Self {
        Self {
            program: program().unwrap_or_else(|error| panic!("{error:#}")),
            directory: directory.to_owned(),
            config: None,
            environment: BTreeMap::new(),
            deadline: RUN_DEADLINE,
        }
    }

    /// Writes `adlake.toml`. Every later run gets it (`--config`).
    pub fn config(mut self, text: &str) -> Self {
        let path = self.directory.join("adlake.toml");
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self.config = Some(path);
        self
    }

    /// Sets an environment variable for every later run.
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.environment.insert(key.to_owned(), value.into());
        self
    }

    /// Sets several variables, for example those of [`crate::s3::S3Server::environment`].
    pub fn envs<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.environment.extend(variables.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self
    }

    /// Sets how long a run may take before it fails the test.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs to the end with any exit status. Panics if the run does not end.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.finish(args).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs to the end, which has to be a success. Returns the standard output.
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<A> = args.into_iter().collect();
        let output = self.run(&args);
        assert!(
            output.status.success(),
            "adlake {:?} failed: {}\n--- stdout:\n{}\n--- stderr:\n{}",
            args.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            output.status,
            output.stdout,
            output.stderr
        );
        output.stdout
    }

    /// Starts the program and leaves it running, to be killed, stopped or waited for. Dropping it
    /// kills it.
    pub fn spawn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        self.start(args).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The rows of `adlake query SQL --format json`.
    pub fn query_json(&self, sql: &str) -> Vec<Map<String, Value>> {
        let text = self.ok(["query", sql, "--format", "json"]);
        rows(&text).unwrap_or_else(|error| panic!("{error:#}: {text}"))
    }

    fn finish<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        let mut process = self.start(args)?;
        let status = process.wait_exit(self.deadline)?;
        Ok(Output { status, stdout: process.stdout()?, stderr: process.stderr()? })
    }

    fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Process> {
        let mut command = Command::new(&self.program);
        // Variables of the test environment must not configure the program.
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if ["ADLAKE_", "AWS_", "OTEL_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&key);
            }
        }
        command.envs(&self.environment).current_dir(&self.directory).stdin(Stdio::null());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(args);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Process::start(&format!("adlake-{run}"), command, &self.directory)
    }
}

/// Parses the rows in `text`: one JSON array of objects, or one object a line.
fn rows(text: &str) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for value in Deserializer::from_str(text).into_iter::<Value>() {
        match value.context("not JSON")? {
            Value::Object(row) => rows.push(row),
            Value::Array(values) => {
                for value in values {
                    let Value::Object(row) = value else { bail!("a row is not an object: {value}") };
                    rows.push(row);
                }
            }
            other => bail!("a row is not an object: {other}"),
        }
    }
    Ok(rows)
}

/// The program: `ADLAKE_BIN`, else the release build in `CARGO_TARGET_DIR`, else the program beside
/// the running test.
pub fn program() -> Result<PathBuf> {
    if let Some(program) = env::var_os("ADLAKE_BIN") {
        let program = PathBuf::from(program);
        ensure!(program.is_file(), "ADLAKE_BIN is {}, which is not a file", program.display());
        return Ok(program);
    }
    let built = env::var_os("CARGO_TARGET_DIR").map(|target| Path::new(&target).join("release"));
    let test = env::current_exe().context("cannot tell where this test is")?;
    // target/release/deps/it-0123456789abcdef
    let beside = test.ancestors().skip(1).take(2).map(Path::to_owned);
    let candidates = built.into_iter().chain(beside).map(|directory| directory.join("adlake"));
    candidates.into_iter().find(|program| program.is_file()).with_context(|| {
        format!("the adlake program is not built beside {}: run make test, or set ADLAKE_BIN", test.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_environment_and_directory_and_is_captured() {
        let directory = tempfile::tempdir().unwrap();
        let adlake = Adlake {
            program: "sh".into(),
            directory: directory.path().to_owned(),
            config: None,
            environment: BTreeMap::new(),
            deadline: RUN_DEADLINE,
        };
        let adlake = adlake.env("ADLAKE_LAKE_URI", "memory").envs([("AWS_REGION", "here".to_owned())]);
        let output = adlake.run(["-c", "echo $ADLAKE_LAKE_URI $AWS_REGION; pwd >&2; exit 3"]);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(3), "memory here\n"));
        assert_eq!(Path::new(output.stderr.trim()), directory.path().canonicalize().unwrap());
        assert_eq!(adlake.ok(["-c", "echo fine"]), "fine\n");

        let mut running = adlake.spawn(["-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"]);
        crate::wait::until(RUN_DEADLINE, "the trap", || running.stdout().unwrap().contains("ready")).unwrap();
        running.sigterm().unwrap();
        assert_eq!(running.wait_exit(RUN_DEADLINE).unwrap().code(), Some(5));
    }

    #[test]
    fn rows_are_an_array_or_lines() {
        for (text, count) in
            [("", 0), ("[]", 0), ("[{\"a\":1},{\"a\":2}]\n", 2), ("{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n", 3)]
        {
            assert_eq!(rows(text).unwrap().len(), count, "{text}");
        }
        for text in ["[1]", "7", "{\"a\":", "error: no such table"] {
            assert!(rows(text).is_err(), "{text}");
        }
    }
}
