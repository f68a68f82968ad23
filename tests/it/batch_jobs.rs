//! The batch layer's commands: incremental runs, compaction, vacuum, rollback. After each of them
//! the answers are what they were, and every reader reads every table.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use adlake_tests::adlake::Adlake;
use adlake_tests::readers::{Seen, assert_spark_agrees};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::check_lake::copy_folder;
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

/// The names in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
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

/// Copies a lake as it is now. All readers but Spark must see the same in the copy. Returns it.
fn keep(lake: &Path, copy: &Path) -> Result<Vec<Seen>> {
    copy_folder(lake, copy)?;
    Ok(every_reader_agrees(copy))
}

/// Spark starts slowly. So the lake is copied at each moment, and Spark reads all copies at the end.
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
    let mut seen = keep(&lake, &folder.path().join("after-the-runs"))?;

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
    seen.extend(keep(&lake, &folder.path().join("after-the-compaction"))?);

    // The files of earlier runs are still there, so one of them can be published again.
    let back = json(&adlake, &["batch", "rollback", "--to", "3"])?;
    ensure!(back["run"] == 8, "{back}");
    ensure!(answers(&adlake) == expected, "a rollback has changed answers");
    seen.extend(keep(&lake, &folder.path().join("after-the-rollback"))?);
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
    let refused = adlake.run(["batch", "rollback", "--to", "99"]);
    let told = refused.stderr.clone();
    ensure!(told.contains("there is no batch run 99: the manifest knows runs 1 to 9"), "{told}");
    let kept = json(&keeping, &["batch", "vacuum"])?;
    let gone: u64 = kept["tables"].as_array().context("no tables")?.iter().filter_map(|t| t["files"].as_u64()).sum();
    ensure!(gone == 1 && young.exists() && !old.exists(), "not only the orphan is gone: {kept}");
    json(&adlake, &["batch", "rollback", "--to", "9"])?;
    ensure!(answers(&adlake) == expected, "vacuum has deleted what its retention protects");
    fs::remove_file(&young)?;

    // A run whose files are gone is not published again.
    let attributions = lake.join("batch/attributions");
    let aside = lake.join("batch/aside");
    fs::rename(&attributions, &aside)?;
    fs::create_dir_all(&attributions)?;
    fs::rename(aside.join("_delta_log"), attributions.join("_delta_log"))?;
    let refused = adlake.run(["batch", "rollback", "--to", "3"]);
    let told = refused.stderr.clone();
    ensure!(refused.status.code() == Some(1) && told.contains("batch/attributions/"), "rolled back: {told}");
    fs::rename(attributions.join("_delta_log"), aside.join("_delta_log"))?;
    fs::remove_dir(&attributions)?;
    fs::rename(&aside, &attributions)?;

    let dry = json(&adlake, &["batch", "vacuum", "--dry-run"])?;
    ensure!(parquet_files(&lake.join("raw/impressions"))? > before, "a trial has deleted files: {dry}");
    json(&adlake, &["batch", "vacuum"])?;
    ensure!(parquet_files(&lake.join("raw/impressions"))? < before, "old files of raw/impressions are still there");
    ensure!(answers(&adlake) == expected, "vacuum has deleted what queries need");
    seen.extend(keep(&lake, &folder.path().join("after-the-vacuum"))?);
    let refused = adlake.run(["batch", "rollback", "--to", "3"]);
    let told = refused.stderr.clone();
    let expected_text = "there is no batch run 3: the manifest knows run 10 alone";
    ensure!(refused.status.code() == Some(1) && told.contains(expected_text), "rolled back to deleted files: {told}");
    let state = json(&adlake, &["batch", "status"])?;
    let is_right = state["runs"][0]["run"] == 10 && state["runs"][1].is_null() && state["plan"]["what"] == "nothing";
    let jobs: Vec<_> = state["jobs"].as_array().context("no jobs")?.iter().map(|note| &note["job"]).collect();
    ensure!(is_right && jobs == ["compact", "run", "vacuum"], "{state}");
    ensure!(state["jobs"].as_array().into_iter().flatten().all(|note| note["outcome"] == "done"), "{state}");

    adlake.ok(["batch", "checkpoint"]);
    adlake.ok(["batch", "run", "--full", "--quiet"]);
    ensure!(answers(&adlake) == expected, "incremental runs and a full one differ");
    assert_spark_agrees(&seen);
    Ok(())
}

/// The report's hours begin at half past, so that some hold events of two UTC days.
#[test]
fn a_backfill_makes_damaged_days_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = "[lake]\nuri = \"lake\"\n[report]\ntime_zone = \"Asia/Kolkata\"\n";
    let adlake = Adlake::in_dir(folder.path()).config(config);
    let lake = folder.path().join("lake");
    let refused = adlake.run(["batch", "backfill", "--from", "2026-03-01", "--to", "2026-03-02"]);
    ensure!(refused.stderr.contains("no batch run was published yet"), "{}", refused.stderr);
    let traffic = ["--events", "6000", "--days", "4", "--duplicates", "0.05", "--conflicts", "0.02", "--late", "0.1"];
    for (part, seed) in [("a", "31"), ("b", "32")] {
        adlake.ok([&["generate", "--to-files", part, "--seed", seed, "--quiet"][..], &traffic[..]].concat());
        adlake.ok(["ingest", "files", &format!("{part}/events"), "--quiet"]);
        if part == "a" {
            adlake.ok(["ref", "load", "campaigns", "a/campaigns.csv", "--quiet"]);
            adlake.ok(["batch", "run", "--quiet"]);
        }
    }
    // The events of the second part are tail. A backfill leaves them there.
    let expected = answers(&adlake);
    let folders = names(&lake.join("batch/impressions"))?;
    let days: Vec<&str> = folders.iter().filter_map(|name| name.strip_prefix("event_date=")).collect();
    ensure!(days.len() >= 4, "{days:?}");
    let (from, to) = (days[1], days[2]);
    for day in [from, to] {
        for table in names(&lake.join("batch"))? {
            let day = lake.join(format!("batch/{table}/event_date={day}"));
            if day.exists() {
                fs::remove_dir_all(day)?;
            }
        }
    }
    let broken = adlake.run(["query", "SELECT count(cost) FROM impressions"]);
    ensure!(broken.status.code() == Some(1) && broken.stderr.contains("batch/impressions"), "{}", broken.stderr);
    let tables = ["impressions", "interactions", "bid_requests", "campaign_hourly", "campaign_rollup"];
    let of_another_day = || {
        let folders = tables.iter().map(|table| lake.join(format!("batch/{table}/event_date={}", days[3])));
        folders.map(|folder| names(&folder)).collect::<Result<Vec<_>>>()
    };
    let before = of_another_day()?;
    let done = json(&adlake, &["batch", "backfill", "--from", from, "--to", to])?;
    ensure!(of_another_day()? == before, "other days were computed too: {done}");
    ensure!(done["run"] == 2 && done["plan"]["what"] == "backfill", "{done}");
    ensure!(answers(&adlake) == expected, "answers differ after the backfill of {from} to {to}");
    every_reader_agrees(&lake);
    let (first, last) = (days[0], days[days.len() - 1]);
    let done = json(&adlake, &["batch", "backfill", "--from", first, "--to", last])?;
    ensure!(done["rows"]["batch/impressions"].as_u64() > Some(0), "{done}");
    ensure!(answers(&adlake) == expected, "answers differ after the backfill of all days");
    ensure!(json(&adlake, &["batch", "run"])?["plan"]["what"] == "incremental", "the backfill has covered the tail");
    ensure!(answers(&adlake) == expected, "answers differ after the run that follows");
    Ok(())
}
