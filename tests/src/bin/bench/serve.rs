//! Measures the server: how soon it answers after its start, how fast while requests come at a
//! steady rate, what memory it takes, and how soon a commit is in the answers.
//!
//! The load is an open loop: requests are sent at their times, whether or not those before were
//! answered, so a slow answer makes those behind it late as well. Half of the questions are about
//! all campaigns, half about one that is drawn anew for each, so that few answers are given again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adlake_tests::setup;
use anyhow::{Context, Result, ensure};
use rand::prelude::*;
use serde_json::{Value, json};

use crate::batch::{Bench, KEYS, Keys, Target, line};
use crate::program::{Resident, quantile};
use crate::questions::{KPIS, ask, question, read};
use crate::serve_beside;

const CAMPAIGNS: u32 = 2_000;
const RATE: u32 = 500;
const SECONDS: u32 = 20;
const COMMITS: usize = 5;
const DEADLINE: Duration = Duration::from_secs(120);

/// Measures a server over so many events.
pub fn under_load(events: usize, runs: usize) -> Result<()> {
    let bench = Bench::with_traffic("serve", events, Keys { campaigns: CAMPAIGNS, ..KEYS }, runs)?;
    println!("{}", line("the batch run before", &bench.batch_run("full")?));
    let port = setup::free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let started = Instant::now();
    let mut server = bench.program.command(&["serve", "--listen", &listen]).spawn()?;
    let resident = Resident::watch(server.id());
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(measure(&bench, &format!("http://{listen}"), started));
    let most = resident.most();
    server.kill()?;
    server.wait()?;
    measured?;
    println!("  {}", Target::at_most("MB resident", (most >> 20) as f64, 3_072.0).text());
    Ok(())
}

async fn measure(bench: &Bench, base: &str, started: Instant) -> Result<()> {
    let client = reqwest::Client::new();
    while !client.get(format!("{base}/readyz")).send().await.is_ok_and(|response| response.status().is_success()) {
        ensure!(started.elapsed() < DEADLINE, "the server is not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("  first answer {}", Target::at_most("s", started.elapsed().as_secs_f64(), 5.0).text());
    let list: Value = read(client.get(format!("{base}/v1/campaigns")).send().await?).await?;
    let list = list["campaigns"].as_array().context("no campaigns")?;
    let campaigns: Vec<String> = list.iter().filter_map(|row| Some(row["campaign_id"].as_str()?.to_owned())).collect();
    // The sums by day are read after the first answer.
    // An answer that was made from the lake is given again to the same question, so each differs.
    let types = |limit: usize| json!({"metrics": ["clicks"], "dimensions": ["conversion_type"], "limit": limit});
    let mut limit = 1;
    while ask(&client, base, &types(limit)).await?["meta"]["source"] != "memory" {
        limit += 1;
        ensure!(started.elapsed() < DEADLINE, "the sums by conversion type are not in memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("  all cubes in memory after {:.2} s", started.elapsed().as_secs_f64());
    serve_beside::peers(bench, &client, base, &campaigns).await?;
    let times = load(&client, base, &campaigns, 0.5, |random| question(random.random_range(0..12))).await?;
    show("the twelve questions", times, 0.010);
    let times = load(&client, base, &campaigns, 1.0, |_| json!({"metrics": KPIS})).await?;
    show("a campaign's KPIs", times, 0.002);
    visible(bench, &client, base).await
}

fn show(what: &str, times: Vec<f64>, bound: f64) {
    let at = |share: f64| quantile(times.clone(), share);
    let p99 = Target::at_most("s p99", at(0.99), bound).text();
    println!("  {what}: {} answers, {:.4} s median, {:.4} s at most, {p99}", times.len(), at(0.5), at(1.0));
}

/// Sends questions at the rate, a share of them about one campaign, and returns how long after its
/// time each was answered.
async fn load(
    client: &reqwest::Client,
    base: &str,
    campaigns: &[String],
    about_one: f64,
    of: impl Fn(&mut StdRng) -> Value,
) -> Result<Vec<f64>> {
    let mut random = StdRng::seed_from_u64(1);
    let times: Arc<Mutex<Vec<f64>>> = Arc::default();
    let began = Instant::now();
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..RATE * SECONDS {
        let at = began + Duration::from_secs_f64(f64::from(number) / f64::from(RATE));
        tokio::time::sleep_until(at.into()).await;
        let mut question = of(&mut random);
        if random.random_bool(about_one) {
            question["filters"] = json!(["=", "campaign_id", campaigns.choose(&mut random)]);
        }
        let request = client.post(format!("{base}/v1/query")).header("content-type", "application/json");
        let (request, times) = (request.body(question.to_string()), times.clone());
        sent.spawn(async move {
            let response = request.send().await?;
            let status = response.status();
            let answer = response.bytes().await?;
            ensure!(status.is_success(), "{question}: {}", String::from_utf8_lossy(&answer));
            if let Ok(mut times) = times.lock() {
                times.push(at.elapsed().as_secs_f64());
            }
            Ok(())
        });
    }
    while let Some(done) = sent.join_next().await {
        done??;
    }
    let times = times.lock().map(|times| times.clone()).unwrap_or_default();
    Ok(times)
}

/// Ingests a few events again and again, and measures how long after its end they are in an answer.
async fn visible(bench: &Bench, client: &reqwest::Client, base: &str) -> Result<()> {
    let mut times = Vec::new();
    for number in 0..COMMITS {
        let count = json!({"metrics": ["impressions"]});
        let before = ask(client, base, &count).await?["rows"][0][0].as_i64();
        bench.add(100 + number as u64, 1_000, "2025-01-07", "1")?;
        let committed = Instant::now();
        while ask(client, base, &count).await?["rows"][0][0].as_i64() == before {
            ensure!(committed.elapsed() < DEADLINE, "the events are not in the answers");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.push(committed.elapsed().as_secs_f64());
    }
    println!("  from commit to answer: {}", Target::at_most("s at most", quantile(times, 1.0), 1.0).text());
    Ok(())
}
