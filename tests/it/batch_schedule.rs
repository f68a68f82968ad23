//! `adlake batch schedule`: jobs at their times, beside ingest, and what `/healthz` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::ingest_kafka::get;

const DEADLINE: Duration = Duration::from_secs(60);

/// The status line and the body of `/healthz`, once the body is as wanted.
fn health(port: u16, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Result<(String, Value)> {
    wait::value(DEADLINE, what, || {
        let Ok(answer) = get(port, "/healthz") else { return Ok(None) };
        let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let body: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
        let status = head.lines().next().unwrap_or_default().to_owned();
        Ok(is_wanted(&body).then_some((status, body)))
    })
}

/// The data files in a folder and in its folders.
pub fn data_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(data_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(files)
}

fn run_of(adlake: &Adlake) -> Result<i64> {
    let state: Value = serde_json::from_str(&adlake.ok(["batch", "status", "--format", "json"]))?;
    Ok(state["runs"][0]["run"].as_i64().unwrap_or_default())
}

#[test]
fn jobs_are_done_at_their_times_and_health_tells() -> Result<()> {
    let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let lake = folder.path().join("lake");
    let port = setup::free_port()?;
    let config = format!(
        "[lake]\nuri = \"{}\"\n[batch.schedule]\nrun = \"* * * * * *\"\ncompact = \"*/3 * * * * *\"\nvacuum = \"\"\n\
         checkpoint = \"\"\njitter = \"0s\"\nlisten = \"127.0.0.1:{port}\"\n",
        lake.display()
    );
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    for (part, seed) in [("a", "21"), ("b", "22"), ("c", "23")] {
        adlake.ok(["generate", "--to-files", part, "--seed", seed, "--events", "2000", "--quiet"]);
    }
    adlake.ok(["ingest", "files", "a/events", "--quiet"]);
    let scheduler = Adlake::in_dir(other.path()).config(&config);
    let mut process = scheduler.spawn(["batch", "schedule"]);

    let is_done = |health: &Value, job: &str| health["last"][job]["outcome"] == "done";
    let (status, body) = health(port, "the first jobs", |body| is_done(body, "run") && is_done(body, "compact"))
        .with_context(|| process.logs())?;
    ensure!(status.contains("200") && body["next"]["run"].is_string(), "{status}: {body}");
    ensure!(run_of(&adlake)? == 1, "the run was not published once");

    // New rows are computed without a word from anybody.
    adlake.ok(["ingest", "files", "b/events", "--quiet"]);
    wait::until(DEADLINE, "the second run", || run_of(&adlake).is_ok_and(|run| run == 2))?;

    // A run that fails is told, and tried again.
    process.signal(libc::SIGSTOP)?;
    let before = data_files(&lake.join("raw/impressions"))?;
    adlake.ok(["ingest", "files", "c/events", "--quiet"]);
    let mut moved = Vec::new();
    for file in data_files(&lake.join("raw/impressions"))?.into_iter().filter(|file| !before.contains(file)) {
        let aside = other.path().join(file.file_name().context("no name")?);
        fs::copy(&file, &aside)?;
        fs::remove_file(&file)?;
        moved.push((file, aside));
    }
    ensure!(!moved.is_empty(), "nothing was ingested");
    process.signal(libc::SIGCONT)?;
    let failed = |body: &Value| body["last"]["run"]["outcome"] == "failed";
    let (status, body) = health(port, "the failure", failed).with_context(|| process.logs())?;
    let told = body["last"]["run"]["error"].as_str().unwrap_or_default();
    ensure!(status.contains("503") && told.contains("raw/impressions"), "{status}: {body}");
    for (file, aside) in moved {
        fs::copy(&aside, &file)?;
    }
    let (status, body) =
        health(port, "the recovery", |body| is_done(body, "run") && run_of(&adlake).is_ok_and(|run| run == 3))?;
    ensure!(status.contains("200"), "{status}: {body}");

    let began = Instant::now();
    process.sigterm()?;
    let ended = process.wait_exit(DEADLINE)?;
    ensure!(ended.success() && began.elapsed() < Duration::from_secs(10), "{ended}: {}", process.logs());
    let rows = adlake.query_json("SELECT sum(impressions) AS n FROM campaign_hourly");
    let raw = adlake.query_json("SELECT count(*) AS n FROM impressions");
    ensure!(
        rows[0]["n"].to_string().trim_matches('"') == raw[0]["n"].to_string().trim_matches('"'),
        "{rows:?} {raw:?}"
    );
    Ok(())
}

#[test]
fn a_check_at_its_times_tells_what_is_not_met() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = setup::free_port()?;
    let config = format!(
        "[lake]\nuri = \"lake\"\n[quality]\nexpectations = \"expectations.toml\"\n[batch.schedule]\nrun = \"\"\n\
         check = \"* * * * * *\"\ncompact = \"\"\nvacuum = \"\"\ncheckpoint = \"\"\njitter = \"0s\"\n\
         listen = \"127.0.0.1:{port}\"\n"
    );
    let sql = "SELECT impression_id FROM impressions WHERE website = 'bad.example'";
    let text =
        format!("[[expectation]]\nname = \"no_bad_site\"\ntype = \"sql\"\nsql = \"{sql}\"\nseverity = \"fail\"\n");
    fs::write(folder.path().join("expectations.toml"), text)?;
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    let event = |id: usize, website: &str| {
        format!(
            "{{\"impression_id\":\"i{id}\",\"ad_creative_id\":\"k1\",\"user_id\":\"u{id}\",\"campaign_id\":\"c1\",\
             \"timestamp\":\"2026-03-01T10:00:00Z\",\"website\":\"{website}\"}}\n"
        )
    };
    fs::write(folder.path().join("a.json"), event(1, "good.example"))?;
    adlake.ok(["ingest", "files", "a.json", "--quiet"]);
    let mut process = adlake.spawn(["batch", "schedule"]);
    let of = |outcome: &'static str| move |body: &Value| body["last"]["check"]["outcome"] == outcome;
    let (status, body) = health(port, "the first check", of("done")).with_context(|| process.logs())?;
    ensure!(status.contains("200") && body["next"]["check"].is_string(), "{status}: {body}");
    fs::write(folder.path().join("b.json"), event(2, "bad.example"))?;
    adlake.ok(["ingest", "files", "b.json", "--quiet"]);
    let (status, body) = health(port, "a check that fails", of("failed")).with_context(|| process.logs())?;
    let told = body["last"]["check"]["error"].as_str().unwrap_or_default();
    ensure!(status.contains("503") && told.contains("no_bad_site"), "{status}: {body}");
    let rows = adlake.query_json("SELECT DISTINCT decision, status FROM quality ORDER BY status");
    ensure!(serde_json::to_string(&rows)?.contains("\"decision\":\"check\",\"status\":\"fail\""), "{rows:?}");
    process.sigterm()?;
    ensure!(process.wait_exit(DEADLINE)?.success(), "{}", process.logs());
    Ok(())
}

#[test]
fn a_schedule_that_cannot_be_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let check = |schedule: &str, expected: &str| {
        let config = format!("[lake]\nuri = \"lake\"\n[batch.schedule]\n{schedule}\n");
        let refused = Adlake::in_dir(folder.path()).config(&config).run(["batch", "schedule"]);
        assert!(refused.status.code() == Some(2) && refused.stderr.contains(expected), "{}", refused.stderr);
    };
    check("run = \"at noon\"", "batch.schedule.run: \"at noon\" is no cron expression: ");
    check("time_zone = \"Berlin\"", "batch.schedule.time_zone: \"Berlin\" is no zone's IANA name");
    let none = "run = \"\"\ncompact = \"\"\nvacuum = \"\"\ncheckpoint = \"\"";
    check(none, "batch.schedule: no job has times");
    Ok(())
}
