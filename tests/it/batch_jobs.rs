//! The batch layer's commands: incremental runs, compaction, vacuum, rollback. After each of them
//! the answers are what they were, and every reader reads every table.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::whole_way::every_reader_agrees;

/// What people ask for: every campaign, and sums over every view of events.
fn answers(adlake: &Adlake) -> Vec<String> {
    let questions = [
        "SELECT * FROM campaign_kpis ORDER BY campaign_id",
        "SELECT * FROM campaign_daily ORDER BY day, campaign_id",
        "SELECT * FROM funnel ORDER BY campaign_id, events DESC, stage",
        "SELECT count(*) AS n, sum(credit_linear) AS c, sum(revenue_time_decay) AS r, sum(seconds_between) AS s \
         FROM attributions",
        "SELECT count(*) AS n, count(DISTINCT user_id) AS u, sum(cost) AS c FROM impressions",
        "SELECT count(*) AS n, sum(value) AS v, count(website) AS w FROM conversions",
        "SELECT count(*) AS n, sum(bid_price) AS b, sum(clearing_price) AS c FROM bid_requests",
    ];
    questions.iter().map(|question| format!("{:?}", adlake.query_json(question))).collect()
}

fn json(adlake: &Adlake, line: &[&str]) -> Result<Value> {
    let line = [line, &["--format", "json"]].concat();
    serde_json::from_str(&adlake.ok(&line)).with_context(|| format!("{line:?}"))
}

fn parquet_files(folder: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        files += if path.is_dir() {
            parquet_files(&path)?
        } else {
            usize::from(path.extension().is_some_and(|extension| extension == "parquet"))
        };
    }
    Ok(files)
}

/// Makes all data files of a lake look as if they were written then.
fn age(folder: &Path, then: SystemTime) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "_delta_log") {
            age(&path, then)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            fs::File::options().write(true).open(&path)?.set_modified(then)?;
        }
    }
    Ok(())
}

#[test]
fn jobs_change_files_and_no_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = "[lake]\nuri = \"lake\"\n[batch]\nvacuum_retention = \"0s\"\n";
    let adlake = Adlake::in_dir(folder.path()).config(config);
    let lake = folder.path().join("lake");
    let traffic = ["--events", "6000", "--days", "3", "--duplicates", "0.05", "--conflicts", "0.02", "--late", "0.1"];
    for (part, seed) in [("a", "11"), ("b", "12"), ("c", "13"), ("d", "14"), ("e", "15"), ("f", "16")] {
        adlake.ok([&["generate", "--to-files", part, "--seed", seed, "--quiet"][..], &traffic[..]].concat());
        if part == "a" {
            adlake.ok(["ref", "load", "creatives", "a/creatives.csv", "--quiet"]);
            adlake.ok(["ref", "load", "campaigns", "a/campaigns.csv", "--quiet"]);
        }
        adlake.ok(["ingest", "files", &format!("{part}/events"), "--quiet"]);
        let plan = json(&adlake, &["batch", "plan"])?;
        let expected = if part == "a" { "full" } else { "incremental" };
        ensure!(plan["plan"]["what"] == expected, "part {part}: {plan}");
        ensure!(plan["reads"]["raw/impressions"]["rows"].as_u64() > Some(0), "nothing would be read: {plan}");
        let before = answers(&adlake);
        let run = json(&adlake, &["batch", "run"])?;
        ensure!(run["published"] == true && run["plan"]["what"] == expected, "part {part}: {run}");
        ensure!(answers(&adlake) == before, "the run after part {part} has changed answers");
        let again = json(&adlake, &["batch", "run"])?;
        ensure!(again["published"] == false && again["plan"]["what"] == "nothing", "{again}");
    }
    let expected = answers(&adlake);
    every_reader_agrees(&lake);

    let dry = json(&adlake, &["batch", "compact", "--dry-run"])?;
    let files = |report: &Value, table: &str, which: &str| report["tables"][table][which].as_u64().unwrap_or_default();
    for table in ["raw/impressions", "batch/impressions"] {
        ensure!(files(&dry, table, "files_before") > 4, "{table} would not be compacted: {dry}");
    }
    ensure!(dry["run"].is_null(), "a trial has published a run: {dry}");
    let before = parquet_files(&lake.join("raw/impressions"))?;
    let done = json(&adlake, &["batch", "compact"])?;
    for table in ["raw/impressions", "raw/interactions", "raw/bid_requests", "batch/impressions"] {
        let (old, new) = (files(&done, table, "files_before"), files(&done, table, "files_after"));
        ensure!(new > 0 && new < old, "{table}: {old} files became {new}");
    }
    ensure!(done["run"] == 7, "the compacted tables are not published: {done}");
    ensure!(answers(&adlake) == expected, "compaction has changed answers");
    ensure!(json(&adlake, &["batch", "run"])?["published"] == false, "a compaction was taken for new rows");
    every_reader_agrees(&lake);

    // The files of earlier runs are still there, so one of them can be published again.
    let back = json(&adlake, &["batch", "rollback", "--to", "3"])?;
    ensure!(back["run"] == 8, "{back}");
    ensure!(answers(&adlake) == expected, "a rollback has changed answers");
    let run = json(&adlake, &["batch", "run"])?;
    ensure!(run["plan"]["what"] == "incremental" && run["run"] == 9, "after the rollback: {run}");
    ensure!(answers(&adlake) == expected, "the run after the rollback has changed answers");

    // Within the retention nothing goes that a reader or a rollback may need, however old the files
    // are. What no table ever had goes if it is old: a commit that is under way may need the rest.
    let other = tempfile::tempdir()?;
    let retention = format!("[lake]\nuri = \"{}\"\n[batch]\nvacuum_retention = \"7d\"\n", lake.display());
    let keeping = Adlake::in_dir(other.path()).config(&retention);
    let young = lake.join("batch/impressions/event_date=2025-01-01/part-young.parquet");
    let old = lake.join("batch/impressions/event_date=2025-01-01/part-old.parquet");
    fs::write(&old, "left behind")?;
    age(&lake, SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60))?;
    fs::write(&young, "being written")?;
    let kept = json(&keeping, &["batch", "vacuum"])?;
    let gone: u64 = kept["tables"].as_array().context("no tables")?.iter().filter_map(|t| t["files"].as_u64()).sum();
    ensure!(gone == 1 && young.exists() && !old.exists(), "not only the orphan is gone: {kept}");
    json(&adlake, &["batch", "rollback", "--to", "9"])?;
    ensure!(answers(&adlake) == expected, "vacuum has deleted what its retention protects");
    fs::remove_file(&young)?;

    let dry = json(&adlake, &["batch", "vacuum", "--dry-run"])?;
    ensure!(parquet_files(&lake.join("raw/impressions"))? > before, "a trial has deleted files: {dry}");
    json(&adlake, &["batch", "vacuum"])?;
    ensure!(parquet_files(&lake.join("raw/impressions"))? < before, "old files of raw/impressions are still there");
    ensure!(answers(&adlake) == expected, "vacuum has deleted what queries need");
    every_reader_agrees(&lake);
    let refused = adlake.run(["batch", "rollback", "--to", "3"]);
    let told = refused.stderr.clone();
    ensure!(refused.status.code() == Some(1) && told.contains("batch/"), "rolled back to deleted files: {told}");
    let refused = adlake.run(["batch", "rollback", "--to", "99"]);
    let told = refused.stderr.clone();
    ensure!(told.contains("there is no batch run 99: the manifest knows runs 1 to 10"), "{told}");

    adlake.ok(["batch", "checkpoint"]);
    adlake.ok(["batch", "run", "--full", "--quiet"]);
    ensure!(answers(&adlake) == expected, "incremental runs and a full one differ");
    Ok(())
}
