//! The batch layer's jobs on a store that fails one request in ten. A job succeeds, or ends with
//! exit code 1 and says why. No answer changes, and in the end all views equal those of a clean
//! lake.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::proxy::{Faults, Proxy};
use anyhow::{Context, Result, ensure};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::batch_events::State;
use super::batch_site::{BatchSite, FAILURE, is_leased, until_leased};
use super::site::Place;
use super::{knob, seed};

/// The least share of the jobs that succeed. An outage of a moment is waited out.
const SUCCESSES_MIN: f64 = 0.75;
const JOBS: [&str; 6] = ["run", "run", "run --full", "compact", "vacuum", "rollback"];

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_a_store_that_fails_one_request_in_ten_change_no_answer() -> Result<()> {
    let seed = seed()? + 22;
    let seconds = knob("ADLAKE_TEST_FAULT_SECONDS", 12)?.min(120);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = BatchSite::new(Place::S3, random.random()).await?;
    let server = site.s3.as_ref().context("the lake is not on S3")?;
    let upstream = server.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(&upstream, random.random(), Faults::one_in_ten())?;
    let clean = site.program("clean", Duration::ZERO)?;
    let harmed = site.program("harmed", Duration::ZERO)?.env("AWS_ENDPOINT_URL", proxy.endpoint());

    let (mut done, mut failed) = (BTreeMap::<&str, usize>::new(), BTreeMap::<String, usize>::new());
    let (mut jobs, mut queries) = (0, 0);
    let mut rounds = 1;
    site.ingest_round(&clean)?;
    let started = Instant::now();
    while jobs < 2 * JOBS.len() || started.elapsed() < Duration::from_secs(seconds) {
        if random.random_bool(0.6) {
            site.ingest_round(&clean)?;
            rounds += 1;
        }
        // Each job is done once, and then whichever.
        let chosen = *JOBS.get(jobs).or_else(|| JOBS.choose(&mut random)).context("no job")?;
        // A vacuum without retention has forgotten all earlier runs.
        let back = last_run(&clean)?.to_string();
        let mut line = vec!["batch"];
        line.extend(chosen.split(' '));
        if chosen == "rollback" {
            line.extend(["--to", &back]);
        }
        let output = until_leased(&harmed, &line)?;
        jobs += 1;
        let told = output.stderr.lines().last().unwrap_or_default().to_owned();
        match output.status.code() {
            Some(0) => *done.entry(chosen).or_default() += 1,
            Some(FAILURE) => {
                ensure!(told.starts_with("error: ") && !output.stderr.contains("panicked"), "{line:?}: {output:?}");
                println!("{line:?} failed: {told}");
                *failed.entry(chosen.to_owned()).or_default() += 1;
            }
            _ => anyhow::bail!("{line:?}: {output:?}"),
        }
        // Nothing is being ingested, so there is one right answer.
        let state = site.ask(&clean).with_context(|| format!("after {line:?}: {output:?}"))?;
        ensure!(state == State::of(rounds), "after {line:?}: {state:?} of {rounds} rounds");
        queries += 1;
    }
    let (requests, faults) = proxy.counts();
    let last = until_leased(&clean, &["batch", "run"])?;
    ensure!(last.status.success() && !is_leased(&last), "the last run: {}", last.stderr);
    // The first removes old runs from the manifest, the second their files.
    for _ in 0..2 {
        clean.ok(["batch", "vacuum", "--quiet"]);
    }
    let files = site.no_orphans().await?;
    ensure!(site.ask(&clean)? == State::of(rounds), "the last run has changed answers");
    let rows = site.equals_a_clean_lake()?;
    println!(
        "batch jobs on a failing store: seed {seed}, {requests} requests, {faults} faults, done {done:?}, failed \
         {failed:?}, {rounds} rounds, {queries} answers compared, {rows} rows of views equal, {files} files, \
         no orphan, {:.0?}",
        started.elapsed()
    );
    let share = done.values().sum::<usize>() as f64 / jobs as f64;
    ensure!(share >= SUCCESSES_MIN, "only {done:?} of {jobs} jobs succeeded");
    ensure!(faults * 30 > requests, "only {faults} of {requests} requests were harmed");
    Ok(())
}

/// The number of the last published run; 1 if there is none.
fn last_run(adlake: &Adlake) -> Result<i64> {
    let plan: Value = serde_json::from_str(&adlake.ok(["batch", "plan", "--format", "json"]))?;
    Ok(plan["plan"]["run"].as_i64().unwrap_or(1))
}
