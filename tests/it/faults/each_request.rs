//! Fails every request that an operation makes of the store, in turn and in every way that the
//! proxy knows. The operation must still succeed, and the content of the lake must be exact: rows,
//! positions, and the manifest. A harmed commit must be in once, at the version at which it is
//! without a fault.
//!
//! The operations make every kind of commit:
//!
//! | commit | operation |
//! |---|---|
//! | a table is created | `Creation`, `Reference` |
//! | rows are appended | `Creation`, `Start`, `Replay` |
//! | dead letters are appended | `Creation`, `Start`, `Commits`, `Checkpoints` |
//! | files are exchanged to mark dead letters | `Replay` |
//! | a table gets new columns | `Column` |
//! | a batch table is replaced | `Batch` |
//! | a batch run is published | `Batch` |
//! | reference data is loaded | `Reference` |
//! | a checkpoint is written, and the hint to it | `Checkpoints` |
//!
//! The operations run in this process, over an S3 server behind a proxy. Each run has its own lake,
//! a copy of one that is prepared once. The first run counts the requests. Then the operation runs
//! again and again, each time with one fault of one request. First, each kind of commit fails in
//! every way. After that, requests and faults come in an order drawn from the seed, for as long as
//! `ADLAKE_TEST_SWEEP_SECONDS` says (`make soak`: five minutes). The client's own retries are off,
//! because they would hide most faults from adlake; so each fault looks like a longer outage. In
//! every fourth run after the commits they are on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::{Lake, LogSettings, StorageSettings};
use adlake_tests::proxy::{Fault, Faults, Proxy, Seen};
use adlake_tests::s3::S3Server;
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{DEADLINE, knob, seed};
use crate::raw::Raw;

mod commits;
mod operation;

use commits::{CommitKind, Logs};
use operation::{Operation, RunLake};

/// How many runs go on at the same time.
const AT_ONCE: usize = 4;
/// The name of the prepared lake.
const PREPARED: &str = "prepared";
/// The name of the lake of the run without a fault.
const UNHARMED: &str = "unharmed";
/// If an operation makes fewer requests than this, it has not done what the test is about.
const REQUESTS_MIN: usize = 10;

/// A request and the fault applied to it.
#[derive(Debug, Clone)]
struct Harm {
    /// The number of the request, counted from 1.
    nth: u64,
    /// The method and target of the request in the run without a fault.
    line: String,
    fault: Fault,
    /// The kind of commit that the request makes.
    commit: Option<CommitKind>,
    client_retries: bool,
}

/// What a run of an operation has done.
struct Outcome {
    /// Its requests, if it had no fault.
    requests: Vec<Seen>,
    logs: Logs,
    /// Whether one of its requests was harmed. Not every run makes as many requests as the first.
    is_harmed: bool,
}

impl Outcome {
    fn commit(&self, request: &Seen) -> Option<CommitKind> {
        self.logs.kind(&request.line)
    }

    /// Every fault of every request. The first ones are, for each kind of commit, one commit with
    /// each fault; the rest are in an order drawn from the seed. Returns how many are first.
    fn harms(&self, seed: u64) -> (Vec<Harm>, usize) {
        let mut harms: Vec<Harm> = (1..)
            .zip(&self.requests)
            .flat_map(|(nth, request)| {
                let commit = self.commit(request);
                let suiting = Fault::ALL.into_iter().filter(|fault| fault.suits(request));
                suiting.map(move |fault| Harm { nth, line: request.line.clone(), fault, commit, client_retries: false })
            })
            .collect();
        harms.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut met = Vec::new();
        let (mut first, mut rest): (Vec<Harm>, Vec<Harm>) = harms.into_iter().partition(|harm| {
            let is_new = harm.commit.is_some() && !met.contains(&(harm.commit, harm.fault));
            met.push((harm.commit, harm.fault));
            is_new
        });
        rest.iter_mut().skip(3).step_by(4).for_each(|harm| harm.client_retries = true);
        let count = first.len();
        first.append(&mut rest);
        (first, count)
    }
}

/// The S3 server of a sweep, and the files that ingest reads.
struct Sweep {
    server: S3Server,
    operation: Operation,
    input: tempfile::TempDir,
}

impl Sweep {
    /// Starts the server, and prepares the lake of which each run gets a copy.
    async fn prepare(operation: Operation) -> Result<Sweep> {
        let sweep = Sweep { server: S3Server::start()?, operation, input: tempfile::tempdir()? };
        operation::write_input(sweep.input.path())?;
        let prepared = sweep.direct(PREPARED, operation.log()).await?;
        operation.prepare(&prepared.lake, sweep.input.path()).await.context("cannot prepare the lake")?;
        Ok(sweep)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.server.bucket_folder().join(name)
    }

    /// The lake of this name, read from the server's files.
    async fn direct(&self, name: &str, log: LogSettings) -> Result<Raw> {
        let uri = self.folder(name).display().to_string();
        let lake = Lake::open(&StorageSettings { uri, log, ..StorageSettings::default() }).await?;
        Ok(Raw { folder: tempfile::tempdir()?, lake })
    }

    /// Runs the operation on a copy of the prepared lake, and checks the content of the lake.
    async fn run(&self, name: &str, harm: Option<&Harm>) -> Result<Outcome> {
        let operation = self.operation;
        copy(&self.folder(PREPARED), &self.folder(name))?;
        let upstream = self.server.endpoint().trim_start_matches("http://").to_owned();
        let proxy = Proxy::start(&upstream, 0, Faults::none())?;
        let mut options = self.server.storage_options();
        options.insert("AWS_ENDPOINT_URL".to_owned(), proxy.endpoint());
        if harm.is_none_or(|harm| !harm.client_retries) {
            options.insert("max_retries".to_owned(), "0".to_owned());
        }
        let (uri, log) = (self.server.uri(name), operation.log());
        let storage =
            StorageSettings { uri, options: options.into_iter().collect(), log, ..StorageSettings::default() };
        let proxied = Lake::open(&storage).await?;
        let direct = self.direct(name, operation.log()).await?;
        let run = RunLake { proxied, direct, input: self.input.path().to_owned() };
        match harm {
            // The order of requests is not the same in each run, but the target of a commit is.
            Some(harm) if harm.commit.is_some() => {
                let line = harm.line.replace(&format!("/{UNHARMED}/"), &format!("/{name}/"));
                proxy.harm_first(line, harm.fault);
            }
            Some(harm) => proxy.harm(harm.nth, harm.fault),
            None => proxy.watch(),
        }
        let ran = tokio::time::timeout(DEADLINE, operation.run(&run)).await;
        ran.with_context(|| format!("the operation has not ended after {DEADLINE:?}"))?
            .context("the operation failed")?;
        let is_harmed = proxy.counts().1 > 0;
        let is_commit = harm.is_some_and(|harm| harm.commit.is_some());
        ensure!(!is_commit || is_harmed, "the request of the commit has not arrived");
        let logs = Logs::read(&self.folder(name))?;
        operation.check(&run.direct, &logs).await.context("the content of the lake is not exact")?;
        fs::remove_dir_all(self.folder(name))?;
        Ok(Outcome { requests: proxy.seen(), logs, is_harmed })
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn sweep(operation: Operation) -> Result<()> {
    let seed = seed()?;
    let time = Duration::from_secs(knob("ADLAKE_TEST_SWEEP_SECONDS", 6)?);
    let sweep = Arc::new(Sweep::prepare(operation).await?);
    let unharmed = Arc::new(sweep.run(UNHARMED, None).await.context("without a fault")?);
    let requests = unharmed.requests.len();
    ensure!(requests >= REQUESTS_MIN, "{operation:?} makes only {requests} requests");
    let commits: BTreeSet<CommitKind> =
        unharmed.requests.iter().filter_map(|request| unharmed.commit(request)).collect();
    ensure!(commits.iter().eq(operation.commits()), "{operation:?} makes commits of the kinds {commits:?}");

    let (harms, first) = unharmed.harms(seed);
    let (all, started) = (harms.len(), Instant::now());
    let harms = harms.into_iter().enumerate();
    let mut rest_began = None;
    let mut has_time = |number: usize| number < first || rest_began.get_or_insert_with(Instant::now).elapsed() < time;
    let runs = harms.take_while(|(number, _)| has_time(*number)).map(|(number, harm)| {
        let (sweep, unharmed) = (sweep.clone(), unharmed.clone());
        let run = tokio::spawn(async move {
            let what = || format!("seed {seed}: {operation:?}, one of {requests} requests: {harm:?}");
            let run = sweep.run(&format!("run-{number}"), Some(&harm)).await.with_context(what)?;
            // After another fault a step may be repeated, and its commit with it.
            if harm.commit.is_some() {
                run.logs.ensure_same(&unharmed.logs).context("the commits are not the same").with_context(what)?;
            }
            Ok(run.is_harmed)
        });
        async move { run.await? }
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let (mut done, mut harmed) = (0, 0);
    while let Some(run) = runs.next().await {
        let is_harmed: Result<bool> = run;
        harmed += usize::from(is_harmed?);
        done += 1;
    }
    ensure!(harmed > 0, "{operation:?}: no request of {done} runs was harmed");
    println!(
        "{operation:?}: seed {seed}, {requests} requests, commits of the kinds {commits:?}, {done} of {all} ways to \
         fail one request ({first} of each kind of commit), {harmed} of them harmed one, {:.1?}",
        started.elapsed()
    );
    Ok(())
}

/// Defines a test for each operation, in which each of its requests fails.
macro_rules! sweeps {
    ($($name:ident: $operation:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                sweep(Operation::$operation).await
            }
        )*

        #[test]
        fn every_operation_is_swept() {
            assert_eq!(Operation::ALL, [$(Operation::$operation),*]);
        }
    };
}

sweeps! {
    each_request_of_a_creation_may_fail: Creation,
    each_request_of_a_start_may_fail: Start,
    each_request_of_a_commit_and_a_refresh_may_fail: Commits,
    each_request_of_a_checkpoint_and_a_clean_up_may_fail: Checkpoints,
    each_request_of_a_new_column_may_fail: Column,
    each_request_of_a_replay_may_fail: Replay,
    each_request_of_loading_reference_data_may_fail: Reference,
    each_request_of_a_batch_run_may_fail: Batch,
    each_request_of_a_query_may_fail: Query,
}

#[test]
fn every_kind_of_commit_is_made_by_an_operation() {
    let made: BTreeSet<CommitKind> = Operation::ALL.iter().flat_map(|operation| operation.commits()).copied().collect();
    assert_eq!(made, BTreeSet::from(CommitKind::ALL));
}
