//! `adlake serve` under clients that do it no good: many, slow, gone, and deaf ones.

use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::serve::{DEADLINE, Server, config, ingest};

const CONNECTIONS: usize = 1_000;
/// Clients that never read what they are sent.
const DEAF: usize = 100;
/// How much the resident set may grow, in MiB, while all of this goes on.
const GROWTH_MIB_MAX: u64 = 400;
/// How much the resident set may grow while answers that are too large are asked for, in MiB.
const REFUSED_MIB_MAX: u64 = 300;
/// The longest time for a small answer meanwhile.
const SMALL_MAX: Duration = Duration::from_secs(3);

/// The resident set of a process, in MiB.
fn resident_mib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn post(question: &serde_json::Value) -> String {
    let body = question.to_string();
    format!(
        "POST /v1/query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_it_no_good_leave_room_for_others() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let more = "idle_timeout = \"20s\"\nstall_timeout = \"3s\"\nsubscribers_max = 150\n";
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), more));
    ingest(&adlake, folder.path(), "a", 1, 20_000);
    adlake.ok(["batch", "run", "--quiet"]);
    let server = Server::start(adlake).await?;
    // By all dimensions there are nearly as many rows as events.
    let huge = json!({
        "metrics": ["impressions", "clicks", "conversions", "spend", "revenue", "ctr", "roas", "cpa"],
        "dimensions": ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region"],
        "time": {"grain": "hour"}, "limit": 10_000,
    });
    let small = json!({"metrics": ["impressions"]});
    let answer = server.post(&huge, None, &[]).await?;
    let length = answer.bytes().await?.len();
    ensure!(length > 500_000, "the answer has {length} bytes only: no socket is filled by it");
    server.ask(&small).await?;
    // There are no keys, so a page of another site must not ask or acknowledge anything here.
    for headers in [[("origin", "https://evil.example.com")], [("sec-fetch-site", "cross-site")]] {
        let refused = server.post(&small, None, &headers).await?;
        ensure!(refused.status() == 403, "{headers:?}: {}", refused.status());
    }
    let own = server.post(&small, None, &[("sec-fetch-site", "same-origin")]).await?;
    ensure!(own.status() == 200, "{}", own.status());
    let before = resident_mib(server.process.id())?;
    let address = ("127.0.0.1", server.port);

    // Those that ask for a huge answer, or for events, and never read.
    let mut deaf = Vec::new();
    let live = "GET /v1/live?query=%7B%22metrics%22%3A%5B%22impressions%22%5D%7D HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for number in 0..DEAF {
        let mut stream = TcpStream::connect(address).await?;
        // Several answers one after another fill every buffer on the way.
        let asked = if number % 2 == 0 { post(&huge).repeat(20) } else { live.to_owned() };
        stream.write_all(asked.as_bytes()).await?;
        deaf.push(stream);
    }
    // Those that go away while their answer is made.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(post(&huge).as_bytes()).await?;
    }
    // Those that send half a head, and half a body.
    let mut halves = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await?;
        let whole = post(&small);
        let cut = if number % 2 == 0 { 20 } else { whole.len() - 5 };
        stream.write_all(&whole.as_bytes()[..cut]).await?;
        halves.push(stream);
    }
    // A thousand that behave, all at once.
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let request = post(&small).replacen("\r\n", "\r\nconnection: close\r\n", 1);
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            anyhow::Ok(text)
        });
    }
    let mut served = 0;
    let mut peak = before;
    while let Some(done) = tasks.join_next().await {
        let text = done??;
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        served += 1;
        if served % 100 == 0 {
            peak = peak.max(resident_mib(server.process.id())?);
        }
    }
    let took = began.elapsed();
    println!("{served} were served in {took:?}; resident {before} MiB before, {peak} MiB at most");
    ensure!(served == CONNECTIONS && took < Duration::from_secs(30), "{served} in {took:?}");

    // The deaf ones are disconnected, and the places of those that wanted events are free again.
    let asked: Vec<_> = deaf.iter().step_by(2).collect();
    wait::until_async(DEADLINE, "the end of those that do not read", async || {
        peak = peak.max(resident_mib(server.process.id())?);
        let ended = asked.iter().filter(|stream| stream.try_write(b"x").is_err()).count();
        Ok(ended == asked.len())
    })
    .await?;
    ensure!(peak < before + GROWTH_MIB_MAX, "resident {before} MiB before, {peak} MiB at most");
    println!("resident {peak} MiB at most");
    drop((deaf, halves));
    wait::until_async(DEADLINE, "the places of those that wanted events", async || {
        let text = server.get("/metrics", None).await?.text().await?;
        Ok(text.contains("adlake_serve_subscribers 0"))
    })
    .await?;
    server.ask(&small).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_take_too_much_memory_is_refused_and_others_are_served() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), "answer_bytes_max = 8_388_608\n"));
    ingest(&adlake, folder.path(), "a", 1, 80_000);
    adlake.ok(["batch", "run", "--quiet"]);
    let server = Server::start(adlake).await?;
    let huge = json!({
        "metrics": ["impressions", "clicks", "conversions", "spend", "revenue", "ctr", "roas", "cpa"],
        "dimensions": ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region"],
        "time": {"grain": "hour"}, "limit": 10,
    });
    let small = json!({"metrics": ["impressions"], "dimensions": ["campaign_id"]});
    // By two dimensions and without a grain it is small enough.
    let mut narrow = huge.clone();
    narrow["dimensions"] = json!(["website", "device_type"]);
    narrow["time"] = json!({});
    let narrow = server.ask(&narrow).await?;
    ensure!(narrow["meta"]["source"] == "lake" && narrow["meta"]["truncated"] == true, "{}", narrow["meta"]);
    server.ask(&small).await?;
    let before = resident_mib(server.process.id())?;
    let server = std::sync::Arc::new(server);
    let mut tasks = JoinSet::new();
    for number in 0..12 {
        let (server, huge) = (server.clone(), huge.clone());
        let accept = ["application/json", "text/csv", "application/vnd.apache.arrow.stream"][number % 3];
        tasks.spawn(async move {
            for _ in 0..3 {
                let response = server.post(&huge, None, &[("accept", accept)]).await?;
                let (status, problem) = Server::problem(response).await?;
                ensure!(status == 422 && problem["code"] == "answer_too_large", "{status} {problem}");
                ensure!(problem["pointer"] == "/dimensions", "{problem}");
            }
            anyhow::Ok(())
        });
    }
    let (mut peak, mut slowest, mut served) = (before, Duration::ZERO, 0);
    while !tasks.is_empty() {
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
        let began = Instant::now();
        let answer = server.ask(&small).await?;
        slowest = slowest.max(began.elapsed());
        served += 1;
        ensure!(answer["rows"].as_array().is_some_and(|rows| rows.len() > 10), "{answer}");
        peak = peak.max(resident_mib(server.process.id())?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{served} small answers, {slowest:.1?} at most; resident {before} MiB before, {peak} MiB at most");
    ensure!(served > 5 && slowest < SMALL_MAX, "{served} small answers, {slowest:?} at most");
    ensure!(peak < before + REFUSED_MIB_MAX, "resident {before} MiB before, {peak} MiB at most");
    Ok(())
}
