//! The operations of the sweep: what each of them does to a lake, and what the lake must hold
//! afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_batch_layer::{BatchSettings, RunReport, Silent};
use adlake_domain::catalogue::{CREATIVES, FILES};
use adlake_domain::schema::dead_letters_schema;
use adlake_lake::manifest::Manifest;
use adlake_lake::{Advance, Appended, Lake, LoadMode, LogSettings, ReferenceKind, WriterSettings};
use adlake_serving::{QueryEngine, QuerySettings};
use adlake_speed_layer::replay::{ReplayOptions, replay};
use adlake_speed_layer::run::{FilesRun, run_files};
use adlake_speed_layer::settings::SpeedSettings;
use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::super::DEADLINE;
use super::super::site::{DEAD_LETTERS, IMPRESSIONS};
use super::commits::{CommitKind, Logs};
use crate::raw::Raw;

/// The files that ingest reads: three good impressions, one that lacks its website, and one that is
/// no JSON; then two good impressions and one that is no JSON.
const FIRST: &str = "first-impressions.ndjson";
const SECOND: &str = "second-impressions.ndjson";

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
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
    /// A second batch run replaces what the first has written, and is published.
    Batch,
    /// A query is answered.
    Query,
}

/// The lake of one run of an operation.
pub struct RunLake {
    /// The lake, seen through the proxy.
    pub proxied: Lake,
    /// The server's files, read without faults.
    pub direct: Raw,
    /// The folder of the files that ingest reads.
    pub input: PathBuf,
}

/// Writes the files that ingest reads.
pub fn write_input(folder: &Path) -> Result<()> {
    let first = [impression("u1", true), impression("u2", true), impression("u3", true)].concat();
    fs::write(folder.join(FIRST), first + &impression("u4", false) + "{\"cut\n")?;
    let second = [impression("u5", true), impression("u6", true)].concat();
    fs::write(folder.join(SECOND), second + "{\"cut\n")?;
    Ok(())
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

async fn batch_run(lake: &Lake) -> Result<RunReport> {
    let (settings, cancel) = (BatchSettings::default(), CancellationToken::new());
    Ok(adlake_batch_layer::run(lake, &Default::default(), &settings, false, Arc::new(Silent), &cancel).await?)
}

async fn answer(lake: &Lake, sql: &str) -> Result<String> {
    let (settings, meaning) = (QuerySettings::default(), Default::default());
    let display = Default::default();
    let engine = QueryEngine::open(lake, &settings, &meaning, &display).await?;
    let batches: Vec<RecordBatch> = engine.query(sql).await?.try_collect().await?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
}

impl Operation {
    pub const ALL: [Operation; 9] = [
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

    /// The kinds of commit that the operation makes through the proxy, in order.
    pub fn commits(self) -> &'static [CommitKind] {
        use CommitKind::{
            BatchTable, Checkpoint, Columns, Creation, DeadLetters, LastCheckpoint, Manifest, Marks, Reference, Rows,
        };
        match self {
            Operation::Creation => &[Creation, Rows, DeadLetters],
            Operation::Start => &[Rows, DeadLetters],
            Operation::Commits => &[DeadLetters],
            Operation::Checkpoints => &[DeadLetters, Checkpoint, LastCheckpoint],
            Operation::Column => &[Columns],
            Operation::Replay => &[Rows, Marks],
            Operation::Reference => &[Creation, Reference],
            Operation::Batch => &[BatchTable, Manifest],
            Operation::Query => &[],
        }
    }

    /// Prepares the lake for the operation.
    pub async fn prepare(self, lake: &Lake, input: &Path) -> Result<()> {
        match self {
            Operation::Creation | Operation::Reference => Ok(()),
            Operation::Start | Operation::Replay | Operation::Column => ingest(lake, input.join(FIRST)).await,
            Operation::Commits | Operation::Checkpoints => commit(lake, "before", 0..2).await,
            Operation::Batch | Operation::Query => {
                ingest(lake, input.join(FIRST)).await?;
                batch_run(lake).await?;
                ingest(lake, input.join(SECOND)).await
            }
        }
    }

    pub fn log(self) -> LogSettings {
        match self {
            Operation::Checkpoints => LogSettings {
                checkpoint_interval: 2,
                checkpoint_percent_max: 100,
                retention: Duration::from_millis(50),
            },
            _ => LogSettings::default(),
        }
    }

    pub async fn run(self, run: &RunLake) -> Result<()> {
        let lake = &run.proxied;
        match self {
            Operation::Creation => ingest(lake, run.input.join(FIRST)).await,
            Operation::Start => ingest(lake, run.input.join(SECOND)).await,
            Operation::Commits => {
                commit(lake, "ours", 0..1).await?;
                commit(&run.direct.lake, "theirs", 0..3).await?;
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
                let report = batch_run(lake).await?;
                ensure!(report.published && report.run == 2, "run 2 is not published: {report:?}");
                Ok(())
            }
            Operation::Query => {
                let rows = answer(lake, "SELECT count(*) AS n FROM impressions").await?;
                ensure!(rows.contains("| 5 |"), "the answer is not 5 impressions: {rows}");
                Ok(())
            }
        }
    }

    /// Checks that the lake holds exactly what it should: rows, positions, and the manifest.
    pub async fn check(self, raw: &Raw, logs: &Logs) -> Result<()> {
        let expect = async |table: &str, sql: &str, expected: &[&str]| -> Result<()> {
            let found = raw.query(table, sql).await?;
            ensure!(found == expected, "{table}: {sql}: {found:?}, not {expected:?}");
            Ok(())
        };
        let positions = |table: &str, expected: &[i64]| -> Result<()> {
            let found = logs.positions(table);
            ensure!(found == expected, "{table}: the positions are {found:?}, not {expected:?}");
            Ok(())
        };
        let users = "select count(*), count(distinct user_id) from t";
        let count = "select count(*) from t";
        let files = "select count(distinct path) from t where status = 'ingested'";
        match self {
            Operation::Creation => {
                expect(IMPRESSIONS, users, &["3 3"]).await?;
                expect(FILES, files, &["1"]).await?;
                expect(DEAD_LETTERS, count, &["2"]).await?;
                positions(IMPRESSIONS, &[5])?;
                positions(DEAD_LETTERS, &[5])
            }
            Operation::Start => {
                expect(IMPRESSIONS, users, &["5 5"]).await?;
                expect(FILES, files, &["2"]).await?;
                expect(DEAD_LETTERS, count, &["3"]).await?;
                positions(IMPRESSIONS, &[3, 5])?;
                positions(DEAD_LETTERS, &[3, 5])
            }
            Operation::Commits => {
                expect(DEAD_LETTERS, "select count(*), count(distinct reason) from t", &["8 8"]).await?;
                positions(DEAD_LETTERS, &[2, 3, 3])
            }
            Operation::Checkpoints => {
                expect(DEAD_LETTERS, "select count(*), count(distinct reason) from t", &["8 8"]).await?;
                let mut appender = raw.lake.appender(DEAD_LETTERS).await?;
                let stored = appender.stored_all(&["before", "ours"].map(String::from)).await?;
                ensure!(stored == [Some(2), Some(6)], "the positions are {stored:?}");
                ensure!(logs.has_checkpoint(DEAD_LETTERS), "there is no checkpoint");
                Ok(())
            }
            Operation::Column => {
                expect(IMPRESSIONS, "select count(*), count(tier) from t", &["3 0"]).await?;
                positions(IMPRESSIONS, &[5])
            }
            Operation::Replay => {
                expect(IMPRESSIONS, users, &["4 4"]).await?;
                let by_outcome = "select count(*), replay_outcome from t group by 2 order by 2";
                expect(DEAD_LETTERS, by_outcome, &["1 invalid_json", "1 replayed"]).await?;
                // The stream of the file, and the claim.
                positions(IMPRESSIONS, &[1, 5])
            }
            Operation::Reference => {
                expect(CREATIVES, "select ad_creative_id from t order by 1", &["a", "b", "c"]).await
            }
            Operation::Batch => {
                expect("batch/manifest", "select run from t order by 1", &["1", "2"]).await?;
                positions("batch/manifest", &[2])?;
                expect("batch/impressions", users, &["5 5"]).await?;
                expect("batch/campaign_hourly", "select sum(impressions) from t", &["5"]).await?;
                expect("batch/campaign_rollup", "select sum(impressions) from t", &["5"]).await?;
                let manifest = Manifest::latest(&raw.lake, &SessionContext::new()).await?;
                let manifest = manifest.context("no batch run is published")?;
                for (table, version) in &manifest.versions {
                    let newest = logs.newest_version(table);
                    ensure!(newest == Some(*version), "the manifest names {table} at {version}, not at {newest:?}");
                }
                let rows = answer(&raw.lake, "SELECT count(*) AS n FROM impressions").await?;
                ensure!(rows.contains("| 5 |"), "the answer is not 5 impressions: {rows}");
                Ok(())
            }
            Operation::Query => Ok(()),
        }
    }
}
