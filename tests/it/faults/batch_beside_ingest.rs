//! Ingest at full rate, with the batch layer's jobs in a loop beside it. No commit fails on either
//! side, no reader misses a file, and in the end all rows are there.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::batch_site::Loop;
use super::{knob, seed};
use crate::check_lake::copy_folder;
use crate::whole_way::{assert_truth, number};

/// How long files are kept for readers.
const RETENTION: Duration = Duration::from_secs(10);
/// Ingest goes on until each of the jobs is done, and so many answers have come.
const ANSWERS_MIN: usize = 3;
const DEADLINE: Duration = Duration::from_secs(600);
const JOBS: [&[&str]; 4] = [&["batch", "run"], &["batch", "compact"], &["batch", "run"], &["batch", "vacuum"]];
/// Views that count the same events, asked at once.
const QUESTION: &str = "SELECT * FROM (SELECT count(*) AS events, sum(cost) AS cost FROM impressions), \
    (SELECT sum(impressions) AS kpi_events, sum(spend) AS kpi_cost FROM campaign_kpis)";

fn program(folder: &std::path::Path, name: &str) -> Result<Adlake> {
    let own = folder.join(name);
    fs::create_dir_all(&own)?;
    Ok(Adlake::in_dir(&own).config(&format!(
        "[lake]\nuri = \"{}\"\n[ingest]\nflush_interval = \"100ms\"\n[batch]\nlease_time = \"10s\"\n\
         vacuum_retention = \"{}s\"\n",
        folder.join("lake").display(),
        RETENTION.as_secs()
    )))
}

#[test]
fn jobs_beside_ingest_at_full_rate_disturb_nobody() -> Result<()> {
    let events = knob("ADLAKE_TEST_BESIDE_EVENTS", 100_000)?;
    let seed = seed()? + 23;
    let folder = tempfile::tempdir()?;
    let ingest = program(folder.path(), "ingest")?;
    let (seed_text, events_text) = (seed.to_string(), events.to_string());
    ingest.ok([
        "generate",
        "--to-files",
        "sent",
        "--quiet",
        "--seed",
        &seed_text,
        "--events",
        &events_text,
        "--days",
        "3",
        "--records-per-file",
        "5000",
        "--malformed",
        "0",
    ]);
    for kind in ["creatives", "campaigns"] {
        ingest.ok(["ref", "load", kind, &format!("sent/{kind}.csv"), "--quiet"]);
    }
    let jobs = program(folder.path(), "jobs")?;
    let reader = program(folder.path(), "reader")?;
    let started = Instant::now();
    // How many jobs and answers there were so far.
    let (jobs_done, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (job_is_done, is_answered) = (jobs_done.clone(), answers.clone());

    let jobs = Loop::start(move |done: &mut Vec<&'static str>| {
        let line = JOBS[done.len() % JOBS.len()];
        let output = jobs.run(line);
        ensure!(output.status.success(), "{line:?}: {}: {}", output.status, output.stderr);
        done.push(line[1]);
        job_is_done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let reading = Loop::start(move |(queries, last, late): &mut (usize, i128, usize)| {
        let began = Instant::now();
        let output = reader.run(["query", QUESTION, "--format", "json", "--quiet"]);
        if !output.status.success() && began.elapsed() > RETENTION {
            *late += 1;
            return Ok(());
        }
        ensure!(output.status.success(), "a query failed: {}: {}", output.status, output.stderr);
        let rows: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())?;
        let cell = |name: &str| if rows[0][name].is_null() { 0 } else { number(&rows[0][name]) };
        ensure!(cell("events") == cell("kpi_events") && cell("cost") == cell("kpi_cost"), "views differ: {rows:?}");
        ensure!(cell("events") >= *last, "fewer events than {last}: {rows:?}");
        (*queries, *last) = (*queries + 1, cell("events"));
        is_answered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let sent = folder.path().join("ingest/sent");
    let (mut rounds, mut commits) = (0, 0);
    let is_enough = || jobs_done.load(Ordering::SeqCst) >= JOBS.len() && answers.load(Ordering::SeqCst) >= ANSWERS_MIN;
    while rounds < 2 || !is_enough() && !jobs.has_ended() && !reading.has_ended() {
        ensure!(started.elapsed() < DEADLINE, "after {rounds} rounds only {jobs_done:?} jobs and {answers:?} answers");
        // Copies of the same events change no answer.
        let again = folder.path().join(format!("ingest/round-{rounds}"));
        copy_folder(&sent.join("events"), &again)?;
        let output = ingest.run(["ingest", "files", &again.display().to_string(), "--format", "json"]);
        ensure!(output.status.success(), "ingest: {}: {}", output.status, output.stderr);
        ensure!(!output.stderr.contains("another worker has committed"), "ingest was superseded: {}", output.stderr);
        let report: Value = serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())?;
        commits += report["commits"].as_u64().context("no commits are reported")?;
        fs::remove_dir_all(&again)?;
        rounds += 1;
    }
    let took = started.elapsed();
    let (jobs, (queries, _, late)) = (jobs.stop()?, reading.stop()?);

    let last = program(folder.path(), "last")?;
    last.ok(["batch", "run", "--quiet"]);
    let truth: Value = serde_json::from_str(&fs::read_to_string(sent.join("truth.json"))?)?;
    assert_truth(&last, &truth, "after jobs beside ingest");
    let count = |name: &str| jobs.iter().filter(|job| **job == name).count();
    println!(
        "jobs beside ingest: seed {seed}, {rounds} times {events} records in {took:.1?}, {commits} commits, {} runs, \
         {} compactions, {} vacuums, {queries} answers ({late} late)",
        count("run"),
        count("compact"),
        count("vacuum")
    );
    ensure!(jobs.len() >= JOBS.len() && queries >= ANSWERS_MIN, "too little: {jobs:?}, {queries} answers");
    Ok(())
}
