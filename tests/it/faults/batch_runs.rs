//! Two batch runs at the same time. Exactly one of them is published. The other fails and says so,
//! and the lake is as if only the first had run.
//!
//! A run is held just before one of its commits, and does not renew its lease. Another run is
//! refused until the lease has expired. Then it goes from its beginning to its end. Then the first
//! goes on.

use std::fs;
use std::path::Path;

use adlake_lake::failpoint;
use adlake_lake::manifest::Manifest;
use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::DEADLINE;
use crate::raw::Raw;

/// The exit code of a failure that is none of the configuration.
const FAILURE: i32 = 1;
/// How long a run waits before its commit. In this time the test has to stop it.
const HOLD_MS: u32 = 5_000;
/// The commits before which a run is held: the table, the number of the commit in the run, and the
/// error of the run. The tables are written in the order of the plan, and the manifest is the last.
const HELD: [(&str, u32, &str); 3] = [
    ("batch/impressions", 1, "error: another process has written batch/impressions first, as version "),
    ("batch/campaign_hourly", 5, "error: another process has written batch/campaign_hourly first, as version "),
    ("batch/manifest", 7, "error: another batch run was published first; nothing of this run is visible"),
];

fn impressions(users: std::ops::Range<usize>) -> String {
    users
        .map(|user| {
            format!(
                "{{\"ad_creative_id\":\"c1\",\"user_id\":\"u{user}\",\"website\":\"example.com\",\
                 \"campaign_id\":\"k1\",\"timestamp\":\"2026-03-01T10:00:00Z\"}}\n"
            )
        })
        .collect()
}

/// The number of data files under a folder.
fn data_files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count += data_files(&entry.path())?;
        } else {
            count += usize::from(entry.path().extension().is_some_and(|extension| extension == "parquet"));
        }
    }
    Ok(count)
}

/// The program on the lake of `raw`, with a folder of its own for its logs.
fn program(raw: &Raw, name: &str) -> Result<Adlake> {
    let folder = raw.path().join(name);
    fs::create_dir_all(&folder)?;
    let uri = raw.path().join("lake");
    let config = format!("[lake]\nuri = \"{}\"\n[batch]\nlease_time = \"2s\"\n", uri.display());
    Ok(Adlake::in_dir(&folder).config(&config))
}

/// Checks that the newest published run has this number and covers these impressions.
async fn published(raw: &Raw, adlake: &Adlake, run: i64, impressions: usize) -> Result<()> {
    let runs = raw.query("batch/manifest", "select run from t order by 1").await?;
    let expected: Vec<String> = (1..=run).map(|run| run.to_string()).collect();
    ensure!(runs == expected, "the published runs are {runs:?}, not {expected:?}");
    let context = SessionContext::new();
    let manifest = Manifest::latest(&raw.lake, &context).await?.context("no batch run is published")?;
    ensure!(manifest.run == run, "the newest manifest is of run {}, not {run}", manifest.run);
    for (table, sql) in [
        ("batch/impressions", "select count(*) from published"),
        ("batch/campaign_hourly", "select sum(impressions) from published"),
    ] {
        let version = manifest.version(table).with_context(|| format!("the manifest does not name {table}"))?;
        let context = SessionContext::new();
        context.register_table("published", raw.lake.provider(table, version).await?)?;
        let rows = context.sql(sql).await?.collect().await?;
        let text = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
        ensure!(text.contains(&format!("| {impressions} ")), "{table} at version {version}, not {impressions}: {text}");
    }
    let rows = adlake.query_json("SELECT sum(impressions) AS impressions FROM campaign_hourly");
    let found = rows.first().map(|row| row["impressions"].to_string()).unwrap_or_default();
    ensure!(found.trim_matches('"') == impressions.to_string(), "the views tell of {found}, not of {impressions}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_batch_runs_one_is_published() -> Result<()> {
    let raw = Raw::new().await?;
    let adlake = program(&raw, "second")?;
    let input = raw.path().join("events");
    fs::create_dir_all(&input)?;
    let mut users = 3;
    fs::write(input.join("first-impressions.ndjson"), impressions(0..users))?;
    adlake.ok(["ingest", "files", &input.display().to_string()]);
    adlake.ok(["batch", "run"]);
    let mut run = 1;
    published(&raw, &adlake, run, users).await?;
    for (table, commit, error) in HELD {
        fs::write(input.join(format!("{commit}-impressions.ndjson")), impressions(users..users + 2))?;
        users += 2;
        adlake.ok(["ingest", "files", &input.display().to_string()]);

        let folder = raw.path().join("lake").join(table);
        let before = data_files(&folder)?;
        let hold = format!("{}=sleep:{HOLD_MS}@{commit}", failpoint::BEFORE_PUT);
        let held = program(&raw, &format!("held-{commit}"))?.env(failpoint::VARIABLE, hold);
        let mut held = held.spawn(["batch", "run", "--full"]);
        // The file is uploaded just before the commit.
        let uploaded = wait::value(DEADLINE, &format!("a new data file of {table}"), || {
            Ok((data_files(&folder)? > before).then_some(()))
        });
        uploaded.with_context(|| held.logs())?;
        held.signal(libc::SIGSTOP)?;

        let refused = adlake.run(["batch", "run"]);
        ensure!(refused.status.code() == Some(FAILURE), "a run beside the one held before {table}: {refused:?}");
        let told = refused.stderr.clone();
        ensure!(told.contains("`batch run` (process ") && told.contains("holds the batch lease"), "{told}");
        let report = wait::value(DEADLINE, "the lease to expire", || {
            let run = adlake.run(["batch", "run", "--format", "json"]);
            Ok(run.status.success().then(|| run.stdout.clone()))
        })?;
        let report: Value = serde_json::from_str(&report)?;
        run += 1;
        ensure!(report["published"] == true && report["run"] == run, "held before {table}: {report}");

        held.signal(libc::SIGCONT)?;
        let status = held.wait_exit(DEADLINE)?;
        let (stdout, stderr) = (held.stdout()?, held.stderr()?);
        ensure!(status.code() == Some(FAILURE), "the run held before {table} ended with {status}: {stdout}{stderr}");
        let told = stderr.lines().last().unwrap_or_default();
        // The run finds either that its commit was not the first, or that its lease is gone.
        let is_told = (told.starts_with(error) || told.contains("has taken the batch lease"))
            && told.ends_with(". Running it again is safe");
        ensure!(is_told, "the run held before {table} does not say {error:?}: {stderr}");
        published(&raw, &adlake, run, users).await.with_context(|| format!("held before {table}"))?;
        println!("held before {table}: {status}: {told}");

        adlake.ok(["batch", "run", "--full"]);
        run += 1;
        published(&raw, &adlake, run, users).await.with_context(|| format!("the run after, {table}"))?;
    }
    Ok(())
}
