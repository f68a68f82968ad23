//! Fails every request that an operation makes of the store, in turn and in every way that the
//! proxy knows. The operation must still succeed, and the content of the lake must be exact.
//!
//! The operations run in this process, over an S3 server behind a proxy. Each run has its own lake,
//! a copy of one that is prepared once. The first run counts the requests. Then the operation runs
//! once for every request and every fault, in an order drawn from the seed. Each operation has as
//! much time for this as `ADLAKE_TEST_SWEEP_SECONDS` says (`make soak`: five minutes). The client's
//! own retries are off, because they would hide most faults from adlake; so each fault looks like a
//! longer outage. In every fourth run they are on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_batch_layer::BatchSettings;
use adlake_domain::catalogue::{CREATIVES, FILES};
use adlake_domain::schema::dead_letters_schema;
use adlake_lake::{Advance, Appended, Lake, LoadMode, LogSettings, ReferenceKind, StorageSettings, WriterSettings};
use adlake_serving::{QueryEngine, QuerySettings};
use adlake_speed_layer::replay::{ReplayOptions, replay};
use adlake_speed_layer::run::{FilesRun, run_files};
use adlake_speed_layer::settings::SpeedSettings;
use adlake_tests::proxy::{Fault, Faults, Proxy, Seen};
use adlake_tests::s3::S3Server;
use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field};
use futures::{StreamExt, TryStreamExt};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::site::{DEAD_LETTERS, IMPRESSIONS};
use super::{DEADLINE, knob, seed};
use crate::raw::Raw;

/// How many runs go on at the same time.
const AT_ONCE: usize = 4;
/// If an operation makes fewer requests than this, it has not done what the test is about.
const REQUESTS_MIN: usize = 10;

/// The operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// Ingest begins in an empty place and creates every table.
    Creation,
    /// Ingest begins on an existing lake, and commits rows and dead letters.
    Start,
    /// Commits, with commits of another writer in between, which have to be read.
    Commits,
    /// Commits with checkpoints, and a log that is cleaned up.
    Checkpoints,
    /// A table gets a new column.
    Column,
    /// Dead letters become rows.
    Replay,
    /// Reference data is loaded and read.
    Reference,
    /// A batch run is published.
    Batch,
    /// A query is answered.
    Query,
}

/// A lake for one run.
struct Site {
    /// The lake, seen through the proxy.
    lake: Lake,
    /// The server's files, read without faults.
    direct: Raw,
    input: PathBuf,
}

fn impression(user: &str, website: bool) -> String {
    let website = if website { "\"website\":\"example.com\"," } else { "" };
    format!("{{\"ad_creative_id\":\"c1\",\"user_id\":\"{user}\",{website}\"timestamp\":\"2026-03-01T10:00:00Z\"}}\n")
}

fn settings() -> SpeedSettings {
    let mut settings = SpeedSettings::default();
    settings.ingest.retry_pause_max = Duration::from_millis(20);
    settings
}

async fn ingest(lake: &Lake, file: PathBuf) -> Result<()> {
    let wanted = FilesRun { paths: vec![file.display().to_string()], ..FilesRun::default() };
    run_files(lake, &settings(), wanted, &(), CancellationToken::new()).await?;
    Ok(())
}

/// One row that names its writer.
fn row(writer: &str, step: i64) -> Result<RecordBatch> {
    let schema = dead_letters_schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "reason" => Arc::new(StringArray::from(vec![format!("{writer}-{step}")])) as ArrayRef,
        "ingest_date" => Arc::new(Date32Array::from(vec![0])),
        _ => new_null_array(field.data_type(), 1),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}

/// Commits rows one by one, as a stream of its own. In an outage it waits, as ingest does; then the
/// position says which rows are committed.
async fn commit(lake: &Lake, writer: &str, steps: std::ops::Range<i64>) -> Result<()> {
    let mut appender = lake.appender(DEAD_LETTERS).await?;
    for step in steps {
        let advance = Advance { application: writer.to_owned(), from: (step > 0).then_some(step), to: step + 1 };
        let started = Instant::now();
        loop {
            let once = async {
                let mut file = appender.writer(&WriterSettings::default());
                file.write(&row(writer, step).map_err(|error| adlake_lake::LakeError::Corrupt(error.to_string()))?)?;
                let files = file.finish().await?;
                appender.refresh().await?;
                appender.commit(files, vec![advance.clone()]).await
            };
            match once.await {
                Ok(Appended::Committed { .. }) => break,
                Ok(Appended::Superseded { stored }) if stored[0].1 == Some(step + 1) => break,
                Err(error) if error.is_retryable() && started.elapsed() < DEADLINE => {}
                other => bail!("{writer} {step}: {other:?}"),
            }
        }
    }
    appender.close().await;
    Ok(())
}

fn creatives(ids: &[&str]) -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
    Ok(RecordBatch::try_from_iter([("ad_creative_id", ids)])?)
}

async fn answer(lake: &Lake, sql: &str) -> Result<String> {
    let (settings, meaning) = (QuerySettings::default(), Default::default());
    let display = Default::default();
    let engine = QueryEngine::open(lake, &settings, &meaning, &display).await?;
    let batches: Vec<RecordBatch> = engine.query(sql).await?.try_collect().await?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Creation,
        Operation::Start,
        Operation::Commits,
        Operation::Checkpoints,
        Operation::Column,
        Operation::Replay,
        Operation::Reference,
        Operation::Batch,
        Operation::Query,
    ];

    /// Prepares the lake for the operation.
    async fn prepare(self, lake: &Lake, input: &Path) -> Result<()> {
        match self {
            Operation::Creation | Operation::Reference => Ok(()),
            Operation::Start | Operation::Replay | Operation::Batch | Operation::Column => {
                ingest(lake, input.join("first-impressions.ndjson")).await
            }
            Operation::Commits | Operation::Checkpoints => commit(lake, "before", 0..2).await,
            Operation::Query => {
                ingest(lake, input.join("first-impressions.ndjson")).await?;
                let settings = BatchSettings::default();
                let (silent, cancel) = (adlake_batch_layer::Silent, CancellationToken::new());
                adlake_batch_layer::run(lake, &Default::default(), &settings, false, &silent, &cancel).await?;
                ingest(lake, input.join("second-impressions.ndjson")).await
            }
        }
    }

    fn log(self) -> LogSettings {
        match self {
            Operation::Checkpoints => LogSettings {
                checkpoint_interval: 2,
                checkpoint_percent_max: 100,
                retention: Duration::from_millis(50),
            },
            _ => LogSettings::default(),
        }
    }

    async fn run(self, site: &Site) -> Result<()> {
        let lake = &site.lake;
        match self {
            Operation::Creation => ingest(lake, site.input.join("first-impressions.ndjson")).await,
            Operation::Start => ingest(lake, site.input.join("second-impressions.ndjson")).await,
            Operation::Commits => {
                commit(lake, "ours", 0..1).await?;
                commit(&site.direct.lake, "theirs", 0..3).await?;
                commit(lake, "ours", 1..3).await
            }
            Operation::Checkpoints => {
                commit(lake, "ours", 0..6).await?;
                lake.keep_log(DEAD_LETTERS).await?.context("no table")?;
                Ok(())
            }
            Operation::Column => {
                let column = Field::new("tier", DataType::Utf8, true);
                lake.appender_with(IMPRESSIONS, &[column]).await?.close().await;
                Ok(())
            }
            Operation::Replay => {
                let mut settings = settings();
                settings.sources.impressions.defaults.insert("website".to_owned(), "example.com".to_owned());
                replay(lake, &settings, ReplayOptions::default(), &|_| {}, CancellationToken::new()).await?;
                Ok(())
            }
            Operation::Reference => {
                let load = |ids| lake.load_reference(ReferenceKind::Creatives, ids, LoadMode::Upsert);
                load(vec![creatives(&["a", "b"])?]).await?;
                load(vec![creatives(&["b", "c"])?]).await?;
                let known = lake.reference().await?.creatives.len();
                ensure!(known == 3, "{known} creatives are known");
                Ok(())
            }
            Operation::Batch => {
                let settings = BatchSettings::default();
                let (silent, cancel) = (adlake_batch_layer::Silent, CancellationToken::new());
                let report =
                    adlake_batch_layer::run(lake, &Default::default(), &settings, false, &silent, &cancel).await?;
                ensure!(report.published && report.run == 1, "{report:?}");
                Ok(())
            }
            Operation::Query => {
                let rows = answer(lake, "SELECT count(*) AS n FROM impressions").await?;
                ensure!(rows.contains("| 5 |"), "{rows}");
                Ok(())
            }
        }
    }

    /// Checks that the lake holds exactly what it should.
    async fn check(self, raw: &Raw) -> Result<()> {
        let expect = async |table: &str, sql: &str, expected: &[&str]| -> Result<()> {
            let found = raw.query(table, sql).await?;
            ensure!(found == expected, "{table}: {sql}: {found:?}, not {expected:?}");
            Ok(())
        };
        let users = "select count(*), count(distinct user_id) from t";
        let count = "select count(*) from t";
        let files = "select count(distinct path) from t where status = 'ingested'";
        match self {
            Operation::Creation => {
                expect(IMPRESSIONS, users, &["3 3"]).await?;
                expect(FILES, files, &["1"]).await?;
                expect(DEAD_LETTERS, count, &["2"]).await
            }
            Operation::Start => {
                expect(IMPRESSIONS, users, &["5 5"]).await?;
                expect(FILES, files, &["2"]).await?;
                expect(DEAD_LETTERS, count, &["3"]).await
            }
            Operation::Commits => {
                expect(DEAD_LETTERS, "select count(*), count(distinct reason) from t", &["8 8"]).await
            }
            Operation::Checkpoints => {
                expect(DEAD_LETTERS, "select count(*), count(distinct reason) from t", &["8 8"]).await?;
                let mut appender = raw.lake.appender(DEAD_LETTERS).await?;
                let stored = appender.stored_all(&["before", "ours"].map(String::from)).await?;
                ensure!(stored == [Some(2), Some(6)], "{stored:?}");
                Ok(())
            }
            Operation::Column => expect(IMPRESSIONS, "select count(*), count(tier) from t", &["3 0"]).await,
            Operation::Replay => {
                expect(IMPRESSIONS, users, &["4 4"]).await?;
                let by_outcome = "select count(*), replay_outcome from t group by 2 order by 2";
                expect(DEAD_LETTERS, by_outcome, &["1 invalid_json", "1 replayed"]).await
            }
            Operation::Reference => {
                expect(CREATIVES, "select ad_creative_id from t order by 1", &["a", "b", "c"]).await
            }
            Operation::Batch => {
                expect("batch/manifest", "select run from t", &["1"]).await?;
                let rows = answer(&raw.lake, "SELECT count(*) AS n FROM impressions").await?;
                ensure!(rows.contains("| 3 |"), "{rows}");
                Ok(())
            }
            Operation::Query => Ok(()),
        }
    }
}

/// The S3 server of a sweep, and the places on it.
struct Ground {
    server: S3Server,
    input: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Result<Ground> {
        let folder = tempfile::tempdir()?;
        let input = folder.path().to_owned();
        let first = [impression("u1", true), impression("u2", true), impression("u3", true)].concat();
        fs::write(input.join("first-impressions.ndjson"), first + &impression("u4", false) + "{\"cut\n")?;
        let second = [impression("u5", true), impression("u6", true)].concat();
        fs::write(input.join("second-impressions.ndjson"), second + "{\"cut\n")?;
        Ok(Ground { server: S3Server::start()?, input, _folder: folder })
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

    /// Runs the operation on a copy of the lake prepared for it. If no request is harmed, returns
    /// the requests that the operation made.
    async fn run(&self, operation: Operation, name: &str, harm: Option<Harm>) -> Result<Vec<Seen>> {
        copy(&self.folder(&format!("{operation:?}")), &self.folder(name))?;
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
        let lake = Lake::open(&storage).await?;
        let direct = self.direct(name, operation.log()).await?;
        let site = Site { lake, direct, input: self.input.clone() };
        match harm {
            Some(harm) => proxy.harm(harm.nth, harm.fault),
            None => proxy.watch(),
        }
        tokio::time::timeout(DEADLINE, operation.run(&site)).await.context("it does not end")??;
        operation.check(&site.direct).await.context("what is in the lake is not exact")?;
        fs::remove_dir_all(self.folder(name))?;
        Ok(proxy.seen())
    }
}

/// A request and the fault applied to it.
#[derive(Debug, Clone, Copy)]
struct Harm {
    /// Counted from 1.
    nth: u64,
    fault: Fault,
    client_retries: bool,
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
    let ground = Arc::new(Ground::new()?);
    let prepared = ground.direct(&format!("{operation:?}"), operation.log()).await?;
    operation.prepare(&prepared.lake, &ground.input).await.context("preparing")?;
    let requests = ground.run(operation, "counted", None).await.context("nothing was harmed")?;
    ensure!(requests.len() >= REQUESTS_MIN, "{operation:?} makes {} requests", requests.len());

    let mut harms: Vec<Harm> = (1..)
        .zip(&requests)
        .flat_map(|(nth, request)| {
            let suiting = Fault::ALL.into_iter().filter(|fault| fault.suits(request));
            suiting.map(move |fault| Harm { nth, fault, client_retries: false })
        })
        .collect();
    harms.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    (3..harms.len()).step_by(4).for_each(|place| harms[place].client_retries = true);
    let (all, started) = (harms.len(), Instant::now());
    let requests = Arc::new(requests);
    let runs = harms.into_iter().enumerate().take_while(|_| started.elapsed() < time).map(|(number, harm)| {
        let (ground, requests) = (ground.clone(), requests.clone());
        let run = tokio::spawn(async move {
            let line = &requests[harm.nth as usize - 1].line;
            let what =
                || format!("seed {seed}: {operation:?}, request {} of {}, {line}: {harm:?}", harm.nth, requests.len());
            ground.run(operation, &format!("run-{number}"), Some(harm)).await.with_context(what)
        });
        async move { run.await? }
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let mut done = 0;
    while let Some(run) = runs.next().await {
        run?;
        done += 1;
    }
    println!(
        "{operation:?}: seed {seed}, {} requests, {done} of {all} ways to fail one of them, {:.1?}",
        requests.len(),
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
