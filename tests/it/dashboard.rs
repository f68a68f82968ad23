//! The dashboard over a real server, in Chromium: `serving/dashboard/tests` says what it must do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};

use crate::ingest_kafka::get;
use crate::serve_access::add_user;
use crate::serve_tls::{certificate, section};

const DEADLINE: Duration = Duration::from_secs(60);
/// Chromium starts once, and draws some dozens of pages.
const TESTS_DEADLINE: Duration = Duration::from_secs(600);
const DAYS: i64 = 30;

#[test]
fn the_page_signs_in_over_tls_and_keeps_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    certificate(folder.path(), "server")?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "[lake]\nuri = \"{}\"\n[serve]\nkeys_file = \"{}\"\nusers_file = \"{}\"\n{}",
        path("lake"),
        path("keys.toml"),
        path("users.toml"),
        section(folder.path(), "server")
    );
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    adlake.ok(["generate", "--to-files", "new", "--seed", "5", "--events", "2000", "--quiet"]);
    for kind in ["creatives", "campaigns"] {
        adlake.ok(["ref", "load", kind, &format!("new/{kind}.csv"), "--quiet"]);
    }
    adlake.ok(["ingest", "files", "new/events", "--quiet"]);
    let campaigns = adlake.query_json("SELECT campaign_id FROM campaign_kpis ORDER BY impressions DESC LIMIT 1");
    let campaign = campaigns[0]["campaign_id"].as_str().context("no campaign")?.to_owned();
    let rights = ["--role", "advertiser", "--campaign", &campaign, "--format", "json"];
    let key = adlake.ok([&["keys", "create", "client"], &rights[..]].concat());
    let key = serde_json::from_str::<serde_json::Value>(&key)?["key"].as_str().context("no key")?.to_owned();
    let password = "correct horse battery";
    let (is_added, told) = add_user(folder.path(), "analyst", &["--role", "analyst"], password)?;
    ensure!(is_added, "{told}");
    let port = setup::free_port()?;
    let server = adlake.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    wait::until(DEADLINE, "a server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        .with_context(|| server.logs())?;
    let mut node = run_tests(&format!("https://127.0.0.1:{port}/"), &["--sign-in"]);
    node.env("ADLAKE_KEY", &key).env("ADLAKE_PASSWORD", password);
    finish(node, folder.path())
}

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

    finish(run_tests(&format!("http://127.0.0.1:{port}/"), &[]), folder.path())
}

/// The command that runs the tests of the page against a server.
pub fn run_tests(base: &str, more: &[&str]) -> Command {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../serving/dashboard/tests/run.mjs");
    let mut node = Command::new("node");
    node.arg(tests).args(["--base", base]).args(more);
    node
}

/// Runs them to their end.
pub fn finish(node: Command, folder: &Path) -> Result<()> {
    let mut process = Process::start("dashboard", node, folder).context("node (tests/setup/setup.sh dashboard)")?;
    let status = process.wait_exit(TESTS_DEADLINE).with_context(|| process.logs())?;
    let text = process.stdout()?;
    println!("{text}");
    ensure!(status.success() && text.contains("ok "), "{text}\n{}", process.logs());
    Ok(())
}
