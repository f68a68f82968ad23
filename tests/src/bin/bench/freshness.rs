//! Measures how long it takes from producing a record until `adlake query` returns it.
//!
//! Queries run one after another while records come in. Afterwards the table's log tells in which
//! commit a record is. The number of rows that an answer counts tells which commits the answer
//! includes. So every record is measured, not a sample.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::program::{median, quantile};

const RATE: usize = 20_000;
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(60);
/// Counts the rows of the raw table.
const SQL: &str = "SELECT raw_rows FROM freshness WHERE \"table\" = 'raw/impressions'";

/// Measures the time from produce to query, at a steady rate with a flush every second.
pub fn from_produce_to_query(events: usize, runs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let seconds = (events / RATE).max(1);
    println!("freshness: {RATE} events/s for {seconds} s, a flush every second, {runs} runs");
    let mut high = Vec::new();
    for run in 0..runs {
        let (delays, queries) = one(&broker, seconds)?;
        let at = |share| quantile(delays.clone(), share);
        high.push(at(0.99));
        println!(
            "  run {run}: {} events, from produce to answer: median {:.2} s, p99 {:.2} s, max {:.2} s; {queries} \
             queries, {:.2} s each",
            delays.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            seconds as f64 / queries as f64,
        );
    }
    println!("freshness: median p99 {:.2} s", median(high));
    broker.stop()
}

/// Returns the delays in seconds, and the number of queries.
fn one(broker: &Broker, seconds: usize) -> Result<(Vec<f64>, usize)> {
    let folder = tempfile::tempdir()?;
    let topic = unique("freshness");
    broker.create_topic(&topic, PARTITIONS)?;
    let adlake = Adlake::in_dir(folder.path()).config(&format!(
        "[lake]\nuri = \"lake\"\n[kafka]\nbrokers = \"{}\"\n[ingest]\nflush_interval = \
         \"1s\"\n[sources.impressions]\ntopic = \"{topic}\"\n\
         [sources.interactions]\ntopic = \"\"\n[sources.bid_requests]\ntopic = \"\"\n",
        broker.bootstrap()
    ));
    // This run creates the lake, so that queries have something to ask from the beginning.
    adlake.ok(["ingest", "kafka", "--until-end", "--quiet"]);
    let mut ingest = adlake.spawn(["ingest", "kafka", "--quiet"]);
    let (rate, duration, events) = (RATE.to_string(), format!("{seconds}s"), (RATE * seconds) as u64);
    let clean =
        ["--malformed", "0", "--kinds", "impressions", "--start", "now", "--rate", &rate, "--duration", &duration];
    let mut generator = adlake.spawn(["generate", "--quiet", "--to-kafka", broker.bootstrap()].iter().chain(&clean));
    let mut answers: Vec<(f64, u64)> = Vec::new();
    let started = Instant::now();
    loop {
        let shown = adlake.query_json(SQL).first().and_then(|row| row["raw_rows"].as_u64()).context("no raw_rows")?;
        answers.push((now()?, shown));
        if shown >= events {
            break;
        }
        let late = started.elapsed() > Duration::from_secs(seconds as u64) + DEADLINE;
        ensure!(!late, "{shown} of {events} events are visible\n{}", ingest.logs());
    }
    let status = generator.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{}", generator.logs());
    ingest.sigterm()?;
    ensure!(ingest.wait_exit(DEADLINE)?.success(), "{}", ingest.logs());
    let commits = commits(&folder.path().join("lake/raw/impressions/_delta_log"))?;
    let mut delays = Vec::new();
    for (partition, times) in broker.produced_at(&topic)? {
        let suffix = format!(":{topic}:{partition}");
        let mut commits =
            commits.iter().filter_map(|commit| Some((commit.positions.get(&suffix)?, commit.rows))).peekable();
        for (offset, produced) in times.into_iter().enumerate() {
            while commits.peek().is_some_and(|(end, _)| **end <= offset as i64) {
                commits.next();
            }
            let (_, rows) = commits.peek().with_context(|| format!("{partition} {offset} is in no commit"))?;
            let answer = answers.iter().find(|(_, shown)| shown >= rows).context("no answer shows the last commit")?;
            delays.push(answer.0 - produced as f64 / 1e3);
        }
    }
    ensure!(delays.len() as u64 == events, "{} of {events} events were produced", delays.len());
    let queries = answers.len();
    Ok((delays, queries))
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// A commit of the raw table.
struct Commit {
    /// The number of rows in the table after this commit.
    rows: u64,
    /// The positions that the commit moves. The key is the end of the application's name:
    /// `:<topic>:<partition>`.
    positions: BTreeMap<String, i64>,
}

fn commits(log: &Path) -> Result<Vec<Commit>> {
    let mut commits = Vec::new();
    let mut rows = 0;
    for version in 0.. {
        let path = log.join(format!("{version:020}.json"));
        let Ok(text) = fs::read_to_string(&path) else { break };
        let mut positions = BTreeMap::new();
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).with_context(|| path.display().to_string())?;
            if let Some(stats) = action["add"]["stats"].as_str() {
                rows += serde_json::from_str::<Value>(stats)?["numRecords"].as_u64().context("no numRecords")?;
            }
            let transaction = &action["txn"];
            if let (Some(application), Some(to)) = (transaction["appId"].as_str(), transaction["version"].as_i64()) {
                let mut parts = application.rsplitn(3, ':');
                let (Some(partition), Some(topic)) = (parts.next(), parts.next()) else { bail!("{application}") };
                positions.insert(format!(":{topic}:{partition}"), to);
            }
        }
        commits.push(Commit { rows, positions });
    }
    Ok(commits)
}
