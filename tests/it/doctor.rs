//! `adlake doctor`: a sound place is told and left as it was, and whatever is wrong is told with
//! what to do.

use std::path::Path;

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::s3::S3Server;
use adlake_tests::setup;
use adlake_tests::shim::Shim;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::ingest_kafka::impressions;

fn config(lake: &str, brokers: &str, topic: &str, more: &str) -> String {
    format!(
        "[lake]\nuri = \"{lake}\"\nretry_for = \"1s\"\n[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{}\"\n\
         [sources.impressions]\ntopic = \"{topic}\"\n{more}[sources.interactions]\ntopic = \"\"\n\
         [sources.bid_requests]\ntopic = \"\"\n",
        unique("group")
    )
}

/// The exit code, and the findings of a level, each with its area, subject, detail and remedy.
fn examine(adlake: &Adlake, args: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = adlake.run([&["doctor", "--format", "json", "--timeout", "4s"], args].concat());
    let found = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    Ok((output.status.code(), found))
}

/// The findings of a level in an area.
fn of<'a>(found: &'a Value, level: &str, area: &str) -> Vec<&'a Value> {
    let findings = found["findings"].as_array().into_iter().flatten();
    findings.filter(|finding| finding["level"] == level && finding["area"] == area).collect()
}

fn objects(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(objects(&path)?);
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_place_is_told_and_left_as_it_was() -> Result<()> {
    let (broker, s3, folder) = (Broker::shared(), S3Server::start()?, tempfile::tempdir()?);
    let topic = unique("doctor");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 30))?;
    let text = config(&s3.uri("lake"), broker.bootstrap(), &topic, "");
    let adlake = Adlake::in_dir(folder.path()).config(&text).envs(s3.environment());

    let (code, found) = examine(&adlake, &[])?;
    ensure!(code == Some(0) && found["errors"] == 0 && found["warnings"] == 0, "{found}");
    ensure!(of(&found, "ok", "tables")[0]["detail"].as_str().is_some_and(|text| text.contains("is empty")), "{found}");
    ensure!(objects(&s3.bucket_folder())?.is_empty(), "{:?}", objects(&s3.bucket_folder())?);

    adlake.ok(["ingest", "kafka", "--until-end", "--quiet"]);
    let before = objects(&s3.bucket_folder())?;
    for part in ["all", "batch", "maintenance", "serving", "speed"] {
        let (code, found) = examine(&adlake, &["--part", part])?;
        ensure!(code == Some(0) && found["errors"] == 0 && found["part"] == part, "{found}");
        ensure!(of(&found, "ok", "kafka").is_empty() != ["all", "speed"].contains(&part), "{found}");
        ensure!(!of(&found, "ok", "store").is_empty() && of(&found, "ok", "tables").len() > 4, "{found}");
    }
    // The role of ingest may not delete: its probe stays, and disturbs nobody.
    let mut after = objects(&s3.bucket_folder())?;
    after.retain(|object| !before.contains(object));
    ensure!(after.len() == 1 && after[0].ends_with("raw/_doctor/probe"), "{after:?}");
    adlake.ok(["check-lake", "--quiet"]);
    let (_, found) = examine(&adlake, &[])?;
    let kafka = of(&found, "ok", "kafka");
    let told = |part: &str| kafka.iter().any(|finding| finding.to_string().contains(part));
    ensure!(told("2 partitions with about 30 records") && told("group ") && told("may be read"), "{found}");
    let text = adlake.ok(["doctor"]);
    ensure!(text.contains("ok       store") && text.contains("raw/impressions: version "), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_what_to_do() -> Result<()> {
    let (broker, s3, folder) = (Broker::shared(), S3Server::start()?, tempfile::tempdir()?);
    let lake = s3.uri("lake");
    let topic = unique("doctor");
    broker.create_topic(&topic, 1)?;
    let at = |text: &str| Adlake::in_dir(folder.path()).config(text).envs(s3.environment());
    let told = |adlake: &Adlake, args: &[&str], area: &str, parts: [&str; 2]| -> Result<Value> {
        let (code, found) = examine(adlake, args)?;
        let wrong = of(&found, "error", area);
        ensure!(code == Some(1) && !wrong.is_empty(), "{area}: {code:?} {found}");
        ensure!(wrong[0]["detail"].as_str().is_some_and(|detail| detail.contains(parts[0])), "{}", wrong[0]);
        ensure!(wrong[0]["remedy"].as_str().is_some_and(|remedy| remedy.contains(parts[1])), "{}", wrong[0]);
        Ok(found)
    };

    let closed = format!("127.0.0.1:{}", setup::free_port()?);
    let dead = at(&config(&lake, &closed, &topic, ""));
    told(&dead, &[], "kafka", ["no answer from", "kafka.brokers"])?;
    ensure!(examine(&dead, &["--no-kafka"])?.0 == Some(0), "--no-kafka asks the brokers");
    let unknown = at(&config(&lake, broker.bootstrap(), &unique("nobody"), ""));
    told(&unknown, &[], "kafka", ["create it", "sources.impressions.topic"])?;
    let registry = format!("format = \"avro\"\n[sources.impressions.avro]\nregistry = \"http://{closed}\"\n");
    let registry = at(&config(&lake, broker.bootstrap(), &topic, &registry));
    told(&registry, &[], "registry", ["onnect", "sources.impressions.avro.registry"])?;

    let fine = config(&lake, broker.bootstrap(), &topic, "");
    let stranger = at(&fine).env("AWS_SECRET_ACCESS_KEY", "not-the-one");
    let found = told(&stranger, &["--no-kafka"], "store", ["cannot list", "s3:ListBucket"])?;
    ensure!(of(&found, "ok", "tables").is_empty() && !found.to_string().contains("not-the-one"), "{found}");
    let nowhere = at(&fine).env("AWS_ENDPOINT_URL", format!("http://{closed}"));
    told(&nowhere, &["--no-kafka"], "store", ["cannot list", "is the store up"])?;

    // A feature that this program does not know.
    at(&fine).ok(["ingest", "kafka", "--until-end", "--quiet"]);
    let log = s3.bucket_folder().join("lake/raw/impressions/_delta_log/00000000000000000001.json");
    let protocol =
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["domainMetadata","rowTracking"]}}"#;
    std::fs::write(log, format!("{protocol}\n"))?;
    told(&at(&fine), &["--no-kafka"], "tables", ["rowTracking", "version of adlake"])?;

    let wrong = at("[lake]\nurl = \"x\"\n");
    let (code, found) = examine(&wrong, &[])?;
    ensure!(code == Some(2) && found["errors"] == 1, "{code:?} {found}");
    let detail = of(&found, "error", "configuration")[0]["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("adlake.toml:2") && detail.contains("lake.uri"), "{found}");
    Ok(())
}

#[test]
fn a_clock_that_is_wrong_is_told() -> Result<()> {
    let (s3, folder) = (S3Server::start()?, tempfile::tempdir()?);
    let shim = Shim::new(folder.path(), &folder.path().join("nothing"))?;
    let text = config(&s3.uri("lake"), "127.0.0.1:1", "none", "");
    let adlake = Adlake::in_dir(folder.path()).config(&text).envs(s3.environment()).envs(shim.environment());
    for (offset_ms, warnings) in [(0, 0), (60_000, 1), (-60_000, 1)] {
        shim.set_clock_offset_ms(offset_ms)?;
        let (code, found) = examine(&adlake, &["--no-kafka"])?;
        ensure!(code == Some(0) && found["warnings"] == warnings, "{offset_ms}: {found}");
        let side = if offset_ms > 0 { "s behind this" } else { "s ahead of this" };
        for finding in of(&found, "warning", "clock") {
            ensure!(finding["detail"].as_str().is_some_and(|detail| detail.contains(side)), "{finding}");
        }
    }
    let (_, found) = examine(&adlake, &["--no-kafka", "--clock-tolerance", "2m"])?;
    ensure!(found["warnings"] == 0, "{found}");
    Ok(())
}
