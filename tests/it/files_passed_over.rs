//! Files that are not read are reported with the reason, so a user who finds no rows learns why.

use std::fs;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::raw::Raw;

const IMPRESSION: &str =
    r#"{"ad_creative_id":"c","user_id":"u","timestamp":"2026-03-01 10:00:00","website":"example.com"}"#;
const CONFIG: &str = "[lake]\nuri = \"lake\"\n[files]\nsettle = \"100ms\"\npoll_interval = \
    \"50ms\"\n[ingest]\nflush_interval = \"100ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_which_nothing_is_read_does_not_look_like_success() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("in");
    fs::create_dir(&folder)?;
    for name in ["a.parquet", "b.parquet", "c.zip", "_SUCCESS", "d.json.tmp"] {
        fs::write(folder.join(name), "x")?;
    }
    let adlake = Adlake::in_dir(raw.path()).config(CONFIG);
    let path = folder.display().to_string();
    let output = adlake.run(["ingest", "files", &path, "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("no file in {path} was read")), "{}", output.stderr);
    let report: Value = serde_json::from_str(&output.stdout)?;
    let told = |reason: &str| report["passed_over"][reason].clone();
    let name = |name: &str| folder.canonicalize().map(|folder| folder.join(name).display().to_string());
    let mut parquet = told("unknown_extension");
    if let Some(examples) = parquet["examples"].as_array_mut() {
        examples.sort_by_key(ToString::to_string);
    }
    assert_eq!(parquet, json!({"count": 2, "examples": [name("a.parquet")?, name("b.parquet")?]}));
    assert_eq!(told("archive"), json!({"count": 1, "examples": [name("c.zip")?]}));
    assert_eq!(told("hidden"), json!({"count": 1, "examples": [name("_SUCCESS")?]}));
    assert_eq!(told("half_written"), json!({"count": 1, "examples": [name("d.json.tmp")?]}));
    assert_eq!(report["paths_without_files"], json!([path]));

    // The report for people says it too. The files that can be read are still read.
    let other = raw.path().join("other");
    fs::create_dir(&other)?;
    fs::write(other.join("impressions.ndjson"), IMPRESSION)?;
    let other = other.display().to_string();
    let output = adlake.run(["ingest", "files", &other, &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.contains("read 1 records of 1 files"), "{}", output.stdout);
    assert!(output.stdout.contains("passed over: 2 (the extension is not known"), "{}", output.stdout);
    assert_eq!(raw.count("raw/impressions").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_meant_are_told_and_are_no_failure() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("in");
    fs::create_dir(&folder)?;
    let adlake = Adlake::in_dir(raw.path()).config(CONFIG);
    let path = folder.display().to_string();
    assert!(adlake.ok(["ingest", "files", &path]).contains("read 0 records of 0 files"));
    fs::write(folder.join("_SUCCESS"), "")?;
    fs::write(folder.join("impressions.ndjson.partial"), "{")?;
    let text = adlake.ok(["ingest", "files", &path]);
    assert!(text.contains("passed over: 1 (hidden by convention"), "{text}");
    assert!(text.contains("passed over: 1 (half-written by convention"), "{text}");
    // Files that are not read are reported beside files that are read, but are no failure then.
    fs::write(folder.join("impressions.ndjson"), IMPRESSION)?;
    fs::write(folder.join("notes.txt"), "")?;
    let text = adlake.ok(["ingest", "files", &path]);
    assert!(text.contains("read 1 records of 1 files"), "{text}");
    assert!(text.contains("passed over: 1 (the extension is not known"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_come_while_a_folder_is_watched_are_told_once() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("in");
    fs::create_dir(&folder)?;
    fs::write(folder.join("first.parquet"), "x")?;
    let adlake = Adlake::in_dir(raw.path()).config(CONFIG);
    let mut process = adlake.spawn(["ingest", "files", &folder.display().to_string(), "--watch", "--format", "json"]);
    // When the files that follow these arrive, these have been seen.
    for (n, other) in ["second.parquet", "third.zip"].into_iter().enumerate() {
        fs::write(folder.join(other), "x")?;
        fs::write(folder.join(format!("impressions-{n}.ndjson")), IMPRESSION)?;
        let (what, rows) = (format!("the impression of file {n}"), n as i64 + 1);
        let came =
            wait::until_async(Duration::from_secs(60), &what, async || Ok(raw.count("raw/impressions").await? == rows));
        came.await.with_context(|| process.logs())?;
    }
    process.sigterm()?;
    let status = process.wait_exit(Duration::from_secs(60))?;
    assert_eq!(status.code(), Some(0), "{}", process.logs());
    let report: Value = serde_json::from_str(&process.stdout()?)?;
    assert_eq!(report["passed_over"]["unknown_extension"]["count"], json!(2), "{report}");
    assert_eq!(report["passed_over"]["archive"]["count"], json!(1), "{report}");
    Ok(())
}
