//! What it costs a server to evaluate all built-in rules over many campaigns.
//!
//! The least volumes of the rules are taken away, so that each campaign is judged.

use std::fs;
use std::time::{Duration, Instant};

use adlake_tests::setup;
use anyhow::{Context, Result, ensure};
use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::batch::{Target, line};
use crate::program::{Program, Resident, median};

const RULES: &str = include_str!("../../../../../serving/src/alarms/defaults.toml");
const CAMPAIGNS: &str = "2000";
/// Six weeks of baseline, and a little more.
const DAYS: i64 = 45;
/// How many evaluations are waited for, and how many of the last are looked at: at first the server
/// reads its other cubes on the same cores, and looks for the causes of what fires.
const EVALUATIONS: usize = 70;
const LAST: usize = 30;
const DEADLINE: Duration = Duration::from_secs(300);

/// Measures a server with and without alarms.
pub fn of_many_campaigns(events: usize, _runs: usize) -> Result<()> {
    let program = Program::new(
        "[lake]\nuri = \"lake\"\n[alarms]\nrules = \"rules.toml\"\ndefaults = false\ninterval = \"1s\"\n",
    )?;
    let no_volumes = |line: &str| match line.starts_with("min_volume") {
        true => "min_volume = { impressions = 1 }\n".to_owned(),
        false => format!("{line}\n"),
    };
    // The tests of the rules have sums that are then not known.
    let parts = RULES.split("[[rule").filter(|part| part.starts_with("]]"));
    let rules: String = parts.map(|part| format!("[[rule{part}")).collect();
    fs::write(program.path("rules.toml"), rules.lines().map(no_volumes).collect::<String>())?;
    let start = (Utc::now() - TimeDelta::days(DAYS)).format("%Y-%m-%dT%H:00:00Z").to_string();
    let (days, events) = (DAYS.to_string(), events.to_string());
    let what = ["generate", "--to-files", "truth", "--events", &events, "--start", &start, "--days", &days];
    program.run(&[&what[..], &["--campaigns", CAMPAIGNS, "--bid-requests", "0.55", "--seasons"]].concat())?;
    program.new_lake("lake")?;
    program.run(&["ingest", "files", "truth/events"])?;
    fs::remove_dir_all(program.path("truth/events"))?;
    println!("alarms-evaluation: a server over {events} events of {DAYS} days and {CAMPAIGNS} campaigns");
    println!("{}", line("the batch run before", &program.run(&["batch", "run"])?));
    let without = served(&program, "false")?.1;
    let (times, with) = served(&program, "true")?;
    let (early, later) = times.split_at(EVALUATIONS - LAST);
    let rules = RULES.matches("[[rule]]").count();
    let most = later.iter().copied().fold(0.0, f64::max);
    let typical = Target::at_most("s, the median", median(later.to_vec()), 1.0).text();
    println!("  {rules} rules evaluated: {typical}; {most:.3} s at most");
    println!("  while the server begins: {:.3} s, the median", median(early.to_vec()));
    println!("  resident at most: {} MB with alarms, {} MB without", with >> 20, without >> 20);
    Ok(())
}

/// Serves until the rules were evaluated often. Returns how long each took, and the memory.
fn served(program: &Program, with_alarms: &str) -> Result<(Vec<f64>, u64)> {
    let port = setup::free_port()?;
    let mut command = program.command(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let mut server = command.env("ADLAKE_ALARMS__ENABLED", with_alarms).spawn()?;
    let resident = Resident::watch(server.id());
    let runtime = tokio::runtime::Runtime::new()?;
    let times = runtime.block_on(evaluated(port, with_alarms == "true"));
    let most = resident.most();
    server.kill()?;
    server.wait()?;
    Ok((times?, most))
}

async fn evaluated(port: u16, has_alarms: bool) -> Result<Vec<f64>> {
    let (client, began) = (reqwest::Client::new(), Instant::now());
    let text =
        async |path: &str| anyhow::Ok(client.get(format!("http://127.0.0.1:{port}{path}")).send().await?.text().await?);
    while !client.get(format!("http://127.0.0.1:{port}/readyz")).send().await.is_ok_and(|r| r.status().is_success()) {
        ensure!(began.elapsed() < DEADLINE, "the server is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut times, mut seen) = (Vec::new(), Value::Null);
    while times.len() < EVALUATIONS {
        ensure!(began.elapsed() < DEADLINE, "the rules were evaluated {} times only", times.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
        if !has_alarms {
            // As long as the other server, which evaluates each second.
            if began.elapsed() > Duration::from_secs(EVALUATIONS as u64) {
                return Ok(times);
            }
            continue;
        }
        let alarms: Value = serde_json::from_str(&text("/v1/alarms").await?)?;
        ensure!(alarms["problem"].is_null(), "{}", alarms["problem"]);
        if alarms["evaluated_at"].is_null() || alarms["evaluated_at"] == seen {
            continue;
        }
        seen = alarms["evaluated_at"].clone();
        let metrics = text("/metrics").await?;
        let took = metrics.lines().find_map(|line| line.strip_prefix("adlake_serve_alarms_evaluation_seconds "));
        times.push(took.context("no metric of the evaluation")?.trim().parse()?);
    }
    Ok(times)
}
