//! The dashboard over a real server, in Chromium: `serving/dashboard/tests` says what it must do.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};

use crate::ingest_kafka::get;

const DEADLINE: Duration = Duration::from_secs(60);
/// Chromium starts once, and draws some dozens of pages.
const TESTS_DEADLINE: Duration = Duration::from_secs(600);
const DAYS: i64 = 30;

#[test]
fn the_page_shows_what_the_server_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = format!("[lake]\nuri = \"{}\"\n", folder.path().join("lake").display());
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    let start = (chrono::Utc::now() - chrono::TimeDelta::days(DAYS)).format("%Y-%m-%d").to_string();
    let days = DAYS.to_string();
    let options = ["--events", "30000", "--start", &start, "--days", &days, "--campaigns", "12", "--quiet"];
    adlake.ok([&["generate", "--to-files", "new", "--seed", "5"], &options[..]].concat());
    for kind in ["creatives", "campaigns"] {
        adlake.ok(["ref", "load", kind, &format!("new/{kind}.csv"), "--quiet"]);
    }
    adlake.ok(["ingest", "files", "new/events", "--quiet"]);
    adlake.ok(["batch", "run", "--quiet"]);
    let port = setup::free_port()?;
    let server = adlake.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    wait::until(DEADLINE, "a ready server", || get(port, "/readyz").is_ok_and(|answer| answer.contains("200 OK")))
        .with_context(|| server.logs())?;
    let page = get(port, "/")?;
    ensure!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page}");

    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../serving/dashboard/tests/run.mjs");
    let mut node = Command::new("node");
    node.arg(tests).args(["--base", &format!("http://127.0.0.1:{port}/")]);
    let mut process =
        Process::start("dashboard", node, folder.path()).context("node (tests/setup/setup.sh dashboard)")?;
    let status = process.wait_exit(TESTS_DEADLINE).with_context(|| process.logs())?;
    let text = process.stdout()?;
    println!("{text}");
    ensure!(status.success() && text.contains("ok "), "{text}\n{}", process.logs());
    Ok(())
}
