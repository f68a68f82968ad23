//! `adlake serve` while it is killed, while batch runs are killed beside it, and over a store that
//! fails one request in ten. Every answer that it gives equals the computation from scratch at the
//! versions that the answer names; else it is an error that says so. After a kill it answers again
//! within the time of a cold start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::proxy::{Faults, Proxy};
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::batch_events::{Answer, State};
use super::batch_site::{BatchSite, Loop, ingest, until_leased};
use super::site::Place;
use super::{DEADLINE, knob, seed};

/// The time from a start to the first answer, in the middle of all starts; and the longest, because
/// other tests may keep the machine busy.
const COLD_START: Duration = Duration::from_secs(5);
const COLD_START_MAX: Duration = Duration::from_secs(15);
/// How long files are kept for readers.
const RETENTION: Duration = Duration::from_secs(3600);
const READERS: usize = 3;

/// Metrics of the API, and the names of the same sums in [`Answer`].
const METRICS: [(&str, &str); 10] = [
    ("impressions", "kpi_impressions"),
    ("spend", "kpi_cost"),
    ("clicks", "kpi_clicks"),
    ("conversions", "kpi_conversions"),
    ("revenue", "kpi_value"),
    ("bids", "kpi_bids"),
    ("joined_clicks", "kpi_joined"),
    ("seconds_to_click", "kpi_seconds"),
    ("attributed_conversions_linear", "kpi_credit"),
    ("attributed_revenue_time_decay", "kpi_credited"),
];

/// What the readers have seen.
#[derive(Debug, Default)]
struct Reading {
    answers: usize,
    /// How many of them were of a newer state than the one before, and from the tables of the lake.
    newer: usize,
    from_lake: usize,
    /// How often there was no connection, and the errors by status and code.
    unconnected: usize,
    errors: BTreeMap<String, usize>,
}

/// The questions: from memory by one cube and by another, and from the lake. The totals of all are
/// the same.
fn question(place: usize) -> Value {
    let dimensions = [json!([]), json!(["campaign_id"]), json!(["website"]), json!(["website", "ad_creative_id"])];
    let metrics = METRICS.map(|(name, _)| name);
    json!({"metrics": metrics, "dimensions": dimensions[place % dimensions.len()], "totals": true, "limit": 10_000})
}

/// A number in millionths.
fn millionths(cell: &Value) -> Result<i128> {
    let text = cell.as_str().map_or_else(|| cell.to_string(), String::from);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (whole, fraction): (i128, i128) = (whole.parse()?, format!("{fraction:0<6}")[..6].parse()?);
    ensure!(whole >= 0, "{text} is negative");
    Ok(whole * 1_000_000 + fraction)
}

/// The state that an answer names. Fails unless its totals, and its rows together, are those of
/// this state.
fn checked(site: &BatchSite, answer: &Value) -> Result<State> {
    // The first version of a table has no rows. Each round is one more.
    let rounds = |table: &str| -> Result<usize> {
        Ok(usize::try_from(answer["meta"]["versions"][table].as_u64().unwrap_or(0))?)
    };
    let state = State {
        impressions: rounds("raw/impressions")?,
        interactions: rounds("raw/interactions")?,
        bid_requests: rounds("raw/bid_requests")?,
    };
    let expected = {
        let events = site.events();
        ensure!(State::of(events.rounds()).is_at_least(&state), "{state:?} of {} rounds", events.rounds());
        events.answer(state)
    };
    let numbers = |row: &Value| -> Result<Vec<i128>> {
        let row = row.as_array().context("no row")?;
        row[row.len() - METRICS.len()..].iter().map(millionths).collect()
    };
    let told = |numbers: &[i128]| -> Answer {
        METRICS.iter().zip(numbers).map(|((_, name), number)| ((*name).to_owned(), *number)).collect()
    };
    let mut sums = vec![0; METRICS.len()];
    for row in answer["rows"].as_array().context("no rows")? {
        sums.iter_mut().zip(numbers(row)?).for_each(|(sum, number)| *sum += number);
    }
    for found in [told(&numbers(&answer["totals"])?), told(&sums)] {
        for (name, number) in &found {
            ensure!(expected.get(name) == Some(number), "{name} of {state:?}: {found:?} is not {expected:?}");
        }
    }
    Ok(state)
}

/// Asks until it is stopped. A reader sends the snapshot that it saw last, so that no answer is of
/// an older one, whatever server gives it.
async fn read(site: Arc<BatchSite>, port: Arc<AtomicU16>, stop: Arc<AtomicBool>, first: usize) -> Result<Reading> {
    let client = Client::builder().timeout(DEADLINE).build()?;
    let mut reading = Reading::default();
    let mut last: Option<(String, State)> = None;
    let mut place = first;
    while !stop.load(Ordering::Relaxed) {
        place += 1;
        let url = format!("http://127.0.0.1:{}/v1/query", port.load(Ordering::Relaxed));
        let mut request = client.post(url).header("content-type", "application/json");
        if let Some((snapshot, _)) = &last {
            request = request.header("x-adlake-snapshot", snapshot);
        }
        let sent = async {
            let response = request.body(question(place).to_string()).send().await?;
            anyhow::Ok((response.status().as_u16(), response.text().await?))
        };
        let Ok((status, text)) = sent.await else {
            reading.unconnected += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{status}: {text}"))?;
        if status != 200 {
            let code = answer["code"].as_str().context("an error without a code")?;
            ensure!(status == 503 || status == 500, "{status}: {text}");
            *reading.errors.entry(format!("{status} {code}")).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let state = checked(&site, &answer).with_context(|| text.clone())?;
        let snapshot = answer["meta"]["snapshot"].as_str().context("no snapshot")?.to_owned();
        if let Some((seen, before)) = &last {
            ensure!(state.is_at_least(before), "{snapshot} ({state:?}) after {seen} ({before:?})");
            reading.newer += usize::from(state != *before);
        }
        reading.answers += 1;
        reading.from_lake += usize::from(answer["meta"]["source"] == "lake");
        last = Some((snapshot, state));
    }
    Ok(reading)
}

/// The readers of a test.
struct Readers {
    port: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Reading>>,
}

impl Readers {
    fn start(site: &Arc<BatchSite>) -> Readers {
        let (port, stop) = (Arc::new(AtomicU16::new(1)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for first in 0..READERS {
            tasks.spawn(read(site.clone(), port.clone(), stop.clone(), first));
        }
        Readers { port, stop, tasks }
    }

    async fn stop(mut self) -> Result<Reading> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Reading::default();
        while let Some(reading) = self.tasks.join_next().await {
            let reading = reading??;
            all.answers += reading.answers;
            all.newer += reading.newer;
            all.from_lake += reading.from_lake;
            all.unconnected += reading.unconnected;
            for (error, count) in reading.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        Ok(all)
    }
}

/// Starts a server for the readers. Returns it, and how long it took to be ready.
async fn serve(adlake: &Adlake, readers: &Readers) -> Result<(Process, Duration)> {
    let port = setup::free_port()?;
    let began = Instant::now();
    let process = adlake.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let (client, url) = (Client::new(), format!("http://127.0.0.1:{port}/readyz"));
    let ready = wait::until_async(DEADLINE, "a ready server", async || {
        Ok(client.get(&url).send().await.is_ok_and(|response| response.status().is_success()))
    });
    ready.await.with_context(|| process.logs())?;
    readers.port.store(port, Ordering::Relaxed);
    Ok((process, began.elapsed()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_beside_batch_runs_that_are_killed_answers_right_or_not_at_all() -> Result<()> {
    let seed = seed()? + 31;
    let kills = knob("ADLAKE_TEST_SERVER_KILLS", 8)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = Arc::new(BatchSite::new(Place::Folder, random.random()).await?);
    let jobs = site.program("jobs", RETENTION)?;
    site.ingest_round(&jobs)?;
    let adlake = site.program("server", RETENTION)?.env("ADLAKE_SERVE__REFRESH_INTERVAL", "50ms");
    let ingesting = ingest(&site, RETENTION)?;
    let mut of_jobs = ChaCha8Rng::seed_from_u64(random.random());
    // A run lasts about half a second. Half of them die before their end.
    let running = Loop::start(move |(killed, ended): &mut (usize, usize)| {
        let mut run = jobs.spawn(["batch", "run", "--quiet"]);
        std::thread::sleep(Duration::from_millis(of_jobs.random_range(50..900)));
        // It fails if the run has ended.
        match run.signal(libc::SIGKILL) {
            Ok(()) => *killed += 1,
            Err(_) => *ended += 1,
        }
        run.wait_exit(DEADLINE)?;
        if of_jobs.random_bool(0.5) {
            let output = until_leased(&jobs, &["batch", "run", "--quiet"])?;
            ensure!(output.status.success(), "a run: {}", output.stderr);
            *ended += 1;
        }
        Ok(())
    });
    let readers = Readers::start(&site);
    let (mut process, took) = serve(&adlake, &readers).await?;
    let mut starts = vec![took];
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2_000))).await;
        ensure!(!ingesting.has_ended() && !running.has_ended(), "a thread beside the server has ended");
        process.kill9()?;
        let took;
        (process, took) = serve(&adlake, &readers).await?;
        starts.push(took);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reading = readers.stop().await.with_context(|| process.logs())?;
    let (rounds, (killed, ended)) = (ingesting.stop()? + 1, running.stop()?);
    starts.sort();
    let (middle, slowest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    println!(
        "{kills} kills of the server, {killed} of batch runs, {ended} runs, {rounds} rounds, {reading:?}; ready after \
         {slowest:.1?} at most"
    );
    ensure!(middle < COLD_START && slowest < COLD_START_MAX, "{starts:?} from starts to the first answers");
    ensure!(reading.answers as u64 > 10 * kills && reading.newer > 3 && reading.from_lake > 3, "{reading:?}");
    ensure!(killed > 0 && ended > 0, "{killed} runs were killed, {ended} have ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_store_that_fails_one_request_in_ten_answers_right_or_not_at_all() -> Result<()> {
    let seed = seed()? + 32;
    let seconds = knob("ADLAKE_TEST_FAULT_SECONDS", 30)?.min(120);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = Arc::new(BatchSite::new(Place::S3, random.random()).await?);
    let store = site.s3.as_ref().context("the lake is not on S3")?;
    let upstream = store.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(&upstream, random.random(), Faults::one_in_ten())?;
    let clean = site.program("clean", RETENTION)?;
    site.ingest_round(&clean)?;
    let harmed = site
        .program("server", RETENTION)?
        .env("ADLAKE_SERVE__REFRESH_INTERVAL", "100ms")
        .env("AWS_ENDPOINT_URL", proxy.endpoint());
    let ingesting = ingest(&site, RETENTION)?;
    let running = Loop::start(move |ended: &mut usize| {
        let output = until_leased(&clean, &["batch", "run", "--quiet"])?;
        ensure!(output.status.success(), "a run: {}", output.stderr);
        *ended += 1;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    });
    let readers = Readers::start(&site);
    let (mut process, mut slowest) = serve(&harmed, &readers).await?;
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(random.random_range(6_000..12_000))).await;
        ensure!(!ingesting.has_ended() && !running.has_ended(), "a thread beside the server has ended");
        process.kill9()?;
        kills += 1;
        let took;
        (process, took) = serve(&harmed, &readers).await?;
        slowest = slowest.max(took);
    }
    // The last one answers for a while too.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let reading = readers.stop().await.with_context(|| process.logs())?;
    let (rounds, ended) = (ingesting.stop()? + 1, running.stop()?);
    let (requests, faults) = proxy.counts();
    println!(
        "{faults} of {requests} requests harmed, {kills} kills, {ended} runs, {rounds} rounds, {reading:?}; ready \
         after {slowest:.1?} at most"
    );
    ensure!(faults * 30 > requests && requests > 100, "only {faults} of {requests} requests were harmed");
    let errors: usize = reading.errors.values().sum();
    ensure!(reading.answers > 20 && reading.newer > 2 && reading.answers > errors, "{reading:?}");
    Ok(())
}
