//! `adlake status`: what it advises, and how it ends for a scheduler or a probe.

use std::fs;

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::batch_schedule::data_files;
use crate::ingest_kafka::{configuration, impressions};

/// The exit code, and the report.
fn status(adlake: &Adlake, args: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = adlake.run([&["status", "--check", "--format", "json"], args].concat());
    let report = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    Ok((output.status.code(), report))
}

/// What the advice is about, with its urgency.
fn advice(report: &Value) -> Vec<(String, String)> {
    let all = report["advice"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|advice| (text(&advice["about"]), text(&advice["urgency"]))).collect()
}

fn expect(adlake: &Adlake, args: &[&str], expected: &[(&str, &str)]) -> Result<Value> {
    let (code, report) = status(adlake, args)?;
    let found = advice(&report);
    let wanted: Vec<_> = expected.iter().map(|(about, urgency)| (about.to_string(), urgency.to_string())).collect();
    ensure!(found == wanted, "{args:?}: {found:?} {}", report["advice"]);
    let has_problem = expected.iter().any(|(_, urgency)| *urgency == "problem");
    ensure!(code == Some(if has_problem { 3 } else { 0 }), "{args:?}: {code:?}");
    Ok(report)
}

#[test]
fn each_thing_that_is_wrong_has_its_advice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lake = folder.path().join("lake");
    let adlake = Adlake::in_dir(folder.path()).config(
        "[lake]\nuri = \"lake\"\nretry_for = \"0s\"\n\
         [quality]\nexpectations = \"expectations.toml\"\nin_runs = \"none\"\n",
    );
    let expectation = "[[expectation]]\nname = \"countries\"\ntype = \"accepted_values\"\ntable = \"impressions\"\n\
                       column = \"country\"\nvalues = [\"nowhere\"]\nseverity = \"fail\"\n";
    fs::write(folder.path().join("expectations.toml"), expectation)?;
    adlake.ok(["generate", "--to-files", "a", "--seed", "5", "--events", "1000", "--late", "0", "--quiet"]);
    adlake.ok(["generate", "--to-files", "b", "--seed", "6", "--events", "1000", "--quiet"]);
    adlake.ok(["ingest", "files", "a/events", "--quiet"]);
    // Generated traffic has some records that are rejected.
    let report = expect(&adlake, &[], &[("batch_run", "warning"), ("dead_letters", "warning")])?;
    let letters: u64 =
        report["facts"]["dead_letters"].as_object().context("letters")?.values().filter_map(Value::as_u64).sum();
    let counted = adlake.query_json("SELECT count(*) AS n FROM dead_letters");
    let of_view = counted[0]["n"].to_string();
    ensure!(letters > 0 && of_view.trim_matches('"') == letters.to_string(), "{letters} {counted:?}");
    let most = (letters - 1).to_string();
    expect(&adlake, &["--letters-max", &most], &[("dead_letters", "problem"), ("batch_run", "warning")])?;
    expect(&adlake, &["--letters-window", "1ms"], &[("batch_run", "warning")])?;
    let recent = ["--letters-window", "1ms"];
    let with = |more: &[&'static str]| [&recent[..], more].concat();

    adlake.ok(["batch", "run", "--quiet"]);
    expect(&adlake, &recent, &[])?;
    let text = adlake.ok(["status", "--letters-window", "1ms"]);
    ensure!(text.contains("nothing is to be done"), "{text}");
    expect(&adlake, &with(&["--run-age-max", "1ms"]), &[])?;
    expect(&adlake, &with(&["--freshness-max", "1ms"]), &[("freshness", "problem")])?;

    // More rows, which the run does not cover; and a run that fails.
    let before = data_files(&lake.join("raw/impressions"))?;
    adlake.ok(["ingest", "files", "b/events", "--quiet"]);
    expect(&adlake, &recent, &[])?;
    expect(&adlake, &with(&["--run-age-max", "1ms"]), &[("batch_run", "problem")])?;
    let after = data_files(&lake.join("raw/impressions"))?;
    let file = after.into_iter().find(|file| !before.contains(file)).context("no new file")?;
    let aside = folder.path().join("aside");
    fs::rename(&file, &aside)?;
    ensure!(adlake.run(["batch", "run", "--quiet"]).status.code() == Some(1), "the run has not failed");
    fs::rename(&aside, &file)?;
    let report = expect(&adlake, &recent, &[("jobs", "problem")])?;
    let told = report["advice"][0].to_string();
    ensure!(told.contains("batch run") && told.contains("batch-failed.md"), "{told}");
    adlake.ok(["batch", "run", "--quiet"]);
    expect(&adlake, &recent, &[])?;

    // Two files of raw tables that a run covers can be made one.
    let small = expect(&adlake, &with(&["--small-files-max", "1"]), &[("small_files", "warning")])?;
    ensure!(small["facts"]["small_files"]["raw/impressions"].as_u64().is_some_and(|files| files > 1), "{small}");
    let planned: Value = serde_json::from_str(&adlake.ok(["batch", "compact", "--dry-run", "--format", "json"]))?;
    for (table, planned) in planned["tables"].as_object().context("tables")? {
        ensure!(small["facts"]["small_files"][table] == planned["files_before"], "{table}: {small}");
    }
    adlake.ok(["batch", "compact", "--quiet"]);
    // Files of a compaction are newer than the run, and their rows are not.
    expect(&adlake, &with(&["--small-files-max", "1", "--run-age-max", "1ms"]), &[])?;
    let (code, report) = status(&adlake, &with(&["--log-files-max", "0"]))?;
    let logs = advice(&report).iter().filter(|(about, urgency)| about == "log_files" && urgency == "warning").count();
    let tables = report["tables"].as_array().into_iter().flatten().filter(|table| table["version"].is_u64()).count();
    ensure!(code == Some(0) && logs == tables && tables > 3, "{logs} of {tables}: {report}");

    // An expectation that is not met.
    adlake.run(["batch", "check", "--quiet"]);
    let report = expect(&adlake, &recent, &[("quality", "problem")])?;
    ensure!(report["facts"]["quality"][0]["expectation"] == "countries", "{report}");
    let text = adlake.ok(["status", "--letters-window", "1ms"]);
    ensure!(text.contains("PROBLEM  expectation countries") && text.contains("-> `adlake batch check`"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_what_the_topics_have_beyond_the_lake() -> Result<()> {
    let (broker, folder) = (Broker::shared(), tempfile::tempdir()?);
    let topic = unique("lag");
    broker.create_topic(&topic, 2)?;
    for partition in 0..2 {
        broker.produce(&topic, Some(partition), impressions(0, 25))?;
    }
    let adlake = Adlake::in_dir(folder.path()).config(&configuration(
        broker,
        &topic,
        &unique("group"),
        &folder.path().join("lake"),
        "",
    ));
    let run = || adlake.ok(["ingest", "kafka", "--until-end", "--quiet"]);
    run();
    let lag = |report: &Value| report["facts"]["lag"][0].clone();
    let expected = |records: i64, lost: i64| -> Value {
        json!({"topic": topic, "records": records, "lost": lost, "ahead": 0, "never_read": 0})
    };
    let quiet = ["--lag", "--lag-max", "29"];
    let report = expect(&adlake, &quiet, &[("batch_run", "warning")])?;
    ensure!(lag(&report) == expected(0, 0), "{report}");
    broker.produce(&topic, Some(1), impressions(60, 90))?;
    let report = expect(&adlake, &quiet, &[("lag", "problem"), ("batch_run", "warning")])?;
    ensure!(lag(&report) == expected(30, 0), "{report}");
    let text = adlake.ok(["status", "--lag"]);
    ensure!(text.contains(&format!("lag of {topic}: 30 records")), "{text}");
    // Records that the broker deletes before they are ingested are lost.
    broker.delete_records_before(&topic, 1, 35)?;
    let report = expect(&adlake, &quiet, &[("lag", "problem"), ("batch_run", "warning")])?;
    ensure!(lag(&report) == expected(20, 10), "{report}");
    // Without the brokers there is no answer to this question, and one to all others.
    let config = configuration(broker, &topic, "g", &folder.path().join("lake"), "");
    let config =
        config.replace(broker.bootstrap(), "127.0.0.1:1").replace("[kafka]", "[kafka]\nstart_timeout = \"1s\"");
    let alone = Adlake::in_dir(folder.path()).config(&config);
    let output = alone.run(["status", "--lag"]);
    ensure!(output.status.code() == Some(1) && output.stderr.contains("127.0.0.1:1"), "{}", output.stderr);
    expect(&alone, &[], &[("batch_run", "warning")])?;
    Ok(())
}
