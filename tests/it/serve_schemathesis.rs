//! `adlake serve` asked whatever its own description at `/openapi.json` allows, and what it does
//! not allow, by schemathesis: no error of the server, no answer that is not described, no body
//! that is not as described.

use std::process::Command;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::{seed, setup};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::serve::{Server, config, ingest};

const ASKED_MAX: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described() -> Result<()> {
    let program = setup::schemathesis()?;
    let seed = seed::seed()?;
    let examples = seed::knob("ADLAKE_TEST_EXAMPLES", 50)?;
    let folder = tempfile::tempdir()?;
    let keys = folder.path().join("keys.toml");
    let config = config(folder.path(), &format!("keys_file = \"{}\"\n", keys.display()));
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    ingest(&adlake, folder.path(), "a", 1, 2_000);
    adlake.ok(["batch", "run", "--quiet"]);
    ingest(&adlake, folder.path(), "b", 2, 500);
    let rows = adlake.query_json("SELECT campaign_id FROM campaign_kpis ORDER BY impressions DESC LIMIT 1");
    let own = rows[0]["campaign_id"].as_str().context("no campaign")?.to_owned();
    let create = |id: &str, more: &[&str]| -> Result<String> {
        let text = adlake.ok([&["keys", "create", id, "--format", "json"], more].concat());
        Ok(serde_json::from_str::<Value>(&text)?["key"].as_str().context("no key")?.to_owned())
    };
    let analyst = create("ana", &["--role", "analyst"])?;
    let admin = create("boss", &["--role", "admin"])?;
    let advertiser = create("ad", &["--role", "advertiser", "--campaign", &own])?;
    let server = Server::start(adlake).await?;

    let examples = examples.to_string();
    // What only admins see, and all of it as somebody sees it who sees little.
    let of_admins = ["--include-path", "/v1/dead_letters", "--include-path", "/metrics"];
    for (who, key, more) in [
        ("analyst", &analyst, &["--max-examples", &examples][..]),
        ("admin", &admin, &[&["--max-examples", "5"], &of_admins[..]].concat()[..]),
        ("advertiser", &advertiser, &["--max-examples", "2", "--phases", "examples,fuzzing"][..]),
    ] {
        let mut command = Command::new(&program);
        let here = setup::scripts().join("schemathesis");
        command
            .arg("--config-file")
            .arg(here.join("schemathesis.toml"))
            .args(["run", &server.url("/openapi.json"), "--workers", "2", "--seed", &seed.to_string()])
            .args(["-H", &format!("Authorization: Bearer {key}")])
            .args(more)
            .env("SCHEMATHESIS_HOOKS", "checks")
            .env("PYTHONPATH", &here)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NO_COLOR", "1")
            .current_dir(folder.path());
        let mut process = Process::start(&format!("schemathesis-{who}"), command, folder.path())?;
        let status = process.wait_exit(ASKED_MAX)?;
        let told = process.stdout()?;
        ensure!(status.success(), "{who}: {status}\n{told}\n{}\n{}", process.stderr()?, server.process.logs());
        let generated = told.lines().find(|line| line.contains(" generated, ")).context("no summary")?;
        println!("{who}: {}", generated.trim());
        let cases: usize = generated.trim().split(' ').next().context("no count")?.parse()?;
        ensure!(cases > 20, "only {cases} cases were asked\n{told}");
    }
    // It is as it was before.
    let answer = server.post(&json!({"metrics": ["impressions"]}), Some(&analyst), &[]).await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    Ok(())
}
