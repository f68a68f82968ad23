//! `adlake ingest files --dry-run` says what ingest would do with each file, and writes nothing.

use std::fs;
use std::io::Write;

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_kind_format_header_mapping_and_first_row_and_writes_nothing() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("in");
    fs::create_dir_all(folder.join("impressions"))?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"time;User ID;campaign;event_type;shop\n2026-03-01 10:00:00;u1;k1;click;s\n")?;
    fs::write(folder.join("clicks-1.csv.gz"), gzip.finish()?)?;
    fs::write(
        folder.join("impressions/double-click-x.ndjson"),
        "{\"creative\":\"c\",\"user\":{\"id\":\"u\"},\"ts\":1772359200,\"site\":{\"domain\":\"d\"},\"x\":1}\n",
    )?;
    fs::write(folder.join("data.json"), "{\"user_id\":\"u\"}\n")?;
    fs::write(folder.join("notes.txt"), "")?;
    let adlake = Adlake::in_dir(raw.path()).config(
        "[lake]\nuri = \"lake\"\n[sources.interactions.csv]\ndelimiter = \";\"\n\
         [sources.interactions.defaults]\ncurrency = \"EUR\"\n",
    );
    let path = folder.display().to_string();
    let report: Value = serde_json::from_str(&adlake.ok(["ingest", "files", "--dry-run", &path, "--format", "json"]))?;
    assert!(!raw.path().join("lake").exists(), "no lake is made");

    let files = report["files"].as_array().context("the report has no list of files")?;
    let of = |end: &str| files.iter().find(|file| file["path"].as_str().is_some_and(|path| path.ends_with(end)));
    assert_eq!(files.len(), 3);
    let clicks = of("clicks-1.csv.gz").context("the report lacks clicks-1.csv.gz")?;
    assert_eq!(clicks["kind"], "interactions");
    assert_eq!(clicks["kind_from"], json!({"name": "clicks-1.csv.gz"}));
    assert_eq!((&clicks["format"], &clicks["compression"]), (&json!("csv"), &json!("gzip")));
    assert_eq!((&clicks["delimiter"], &clicks["names_from"]), (&json!(";"), &json!("header")));
    assert_eq!(clicks["names"], json!(["time", "User ID", "campaign", "event_type", "shop"]));
    assert_eq!(
        clicks["fields"],
        json!({"campaign_id": ["campaign"], "conversion_type": ["event_type"], "event_time": ["time"],
              "user_id": ["User ID"]})
    );
    assert_eq!(clicks["attributes"], json!(["shop"]));
    assert_eq!(clicks["defaults"], json!({"currency": "EUR"}));
    assert_eq!(clicks["missing"], json!([]));
    assert_eq!(clicks["first"]["row"]["campaign_id"], "k1");
    assert_eq!(clicks["first"]["row"]["currency"], "EUR");
    assert_eq!(clicks["first"]["row"]["attributes"], "{\"shop\":\"s\"}");

    let impressions = of("double-click-x.ndjson").context("the report lacks double-click-x.ndjson")?;
    assert_eq!(impressions["kind"], "impressions");
    assert_eq!(impressions["kind_from"], json!({"name": "impressions"}));
    assert_eq!(
        impressions["fields"],
        json!({"ad_creative_id": ["creative"], "event_time": ["ts"], "user_id": ["user.id"],
              "website": ["site.domain"]})
    );
    assert_eq!(impressions["first"]["row"]["website"], "d");

    let data = of("data.json").context("the report lacks data.json")?;
    assert_eq!((&data["kind_from"], &data["kind"]), (&json!("format"), &json!("impressions")));
    assert_eq!(data["missing"], json!(["ad_creative_id", "event_time", "website"]));
    assert_eq!(data["first"]["dead_letter"]["reason"], "missing_field");
    assert_eq!(report["passed_over"]["unknown_extension"]["count"], 1);

    let text = adlake.ok(["ingest", "files", "--dry-run", &path]);
    for line in [
        "3 files; nothing is written",
        "  kind         interactions, from the name clicks-1.csv.gz",
        "  format       CSV, gzip, delimiter ';'",
        "  header       time, User ID, campaign, event_type, shop",
        "  field        user_id <- User ID",
        "  attributes   shop",
        "  default      currency = EUR",
        "  missing      ad_creative_id, event_time, website (required",
        "  first record a dead letter: missing_field",
        "  passed over: 1 (the extension is not known",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!raw.path().join("lake").exists(), "nor is one made when it is written for people");
    Ok(())
}

#[test]
fn the_help_names_what_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let help = Adlake::in_dir(folder.path()).ok(["ingest", "files", "--help"]);
    for word in ["JSON", "NDJSON", "CSV", "TSV", "Avro", "gzip", "zstd", "bzip2", "xz", "--dry-run", ".jsonl", ".bz2"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    Ok(())
}
