//! Hostile input, end to end: public test suites of broken records, through the real Kafka and from
//! files, and input that fills the memory of a program that believes its stated sizes.
//!
//! In each test, rows and dead letters together are the events that were sent, dead letters have
//! exactly the bytes that were sent, and every good record between bad ones is ingested. The
//! tallies are printed.

use std::fs;
use std::path::{Path, PathBuf};

use adlake_speed_layer::report::IngestReport;
use adlake_speed_layer::run::{KafkaRun, run_kafka};
use adlake_speed_layer::settings::{SourceSettings, SpeedSettings};
use adlake_tests::kafka::{Broker, unique};
use anyhow::{Result, ensure};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::raw::Raw;

mod damaged;
mod memory;
mod suites;

const DEAD_LETTERS: &str = "raw/dead_letters";
const GOOD: &[u8] = br#"{"ad_creative_id":"c","user_id":"good","timestamp":"2026-03-01T10:00:00Z","website":"w"}"#;
const GOOD_CLICK: &[u8] = b"2026-03-01 10:00:00,good,k,click";

/// The public test suites: in `ADLAKE_TEST_DATA`, or beside the checkout.
fn data(part: &str) -> Result<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = std::env::var_os("ADLAKE_TEST_DATA").map_or(beside, PathBuf::from).join(part);
    ensure!(path.exists(), "{} is missing: set ADLAKE_TEST_DATA to the public test data", path.display());
    Ok(path)
}

/// The files of a folder with this ending, by name, with their content.
fn files(part: &str, ending: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data(part)?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && name.ends_with(ending) {
            found.push((name, fs::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// The events of a JSON message, as they are sent: the elements of a list that contains an object,
/// else the whole message.
fn events(payload: &[u8]) -> Vec<&[u8]> {
    let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    match serde_json::from_slice::<Vec<&RawValue>>(text) {
        Ok(elements) if elements.iter().any(|element| element.get().starts_with('{')) => {
            elements.into_iter().map(|element| element.get().as_bytes()).collect()
        }
        _ => vec![payload],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Settings that read one topic as this kind. `change` completes them.
fn settings(broker: &Broker, kind: &str, topic: &str, change: impl FnOnce(&mut SourceSettings)) -> SpeedSettings {
    let mut settings = SpeedSettings::default();
    settings.kafka.brokers = broker.bootstrap().to_owned();
    settings.kafka.group = unique("group");
    let sources = &mut settings.sources;
    for (name, source) in [
        ("impressions", &mut sources.impressions),
        ("interactions", &mut sources.interactions),
        ("bid_requests", &mut sources.bid_requests),
    ] {
        source.topic = Some(if name == kind { topic.to_owned() } else { String::new() });
    }
    let source = match kind {
        "impressions" => &mut sources.impressions,
        "interactions" => &mut sources.interactions,
        _ => &mut sources.bid_requests,
    };
    change(source);
    settings
}

/// Produces the records to a new topic with one partition, and ingests it to its end.
async fn through_kafka(
    raw: &Raw,
    kind: &str,
    records: &[Vec<u8>],
    change: impl FnOnce(&mut SourceSettings),
) -> Result<IngestReport> {
    compressed_through_kafka(raw, kind, records, "producer", change).await
}

/// Like [`through_kafka`], with a topic that the broker compresses.
async fn compressed_through_kafka(
    raw: &Raw,
    kind: &str,
    records: &[Vec<u8>],
    compression: &str,
    change: impl FnOnce(&mut SourceSettings),
) -> Result<IngestReport> {
    let broker = Broker::shared();
    let topic = unique(kind);
    broker.create_topic_with(&topic, 1, &[("compression.type", compression)])?;
    broker.produce(&topic, Some(0), records)?;
    let settings = settings(broker, kind, &topic, change);
    Ok(run_kafka(&raw.lake, &settings, KafkaRun { until_end: true }, &(), CancellationToken::new()).await?)
}

/// The offset and the payload of each dead letter; the payload is in hex.
async fn letters(raw: &Raw) -> Result<Vec<(usize, String)>> {
    let sql = "select source['offset'], encode(arrow_cast(payload, 'Binary'), 'hex') from t";
    let lines = raw.query(DEAD_LETTERS, sql).await?;
    lines
        .iter()
        .map(|line| {
            let (offset, payload) = line.split_once(' ').unwrap_or((line, ""));
            Ok((offset.parse()?, payload.to_owned()))
        })
        .collect()
}

/// Puts the records between good ones, with a good one before and after each.
fn among(good: &[u8], records: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut all = vec![good.to_vec()];
    for record in records {
        all.extend([record, good.to_vec()]);
    }
    all
}

/// Defaults for the fields that only adlake's events have.
fn anything(source: &mut SourceSettings) {
    for (field, default) in [("auction_id", "a"), ("user_id", "u"), ("timestamp", "ingest_time")] {
        source.defaults.insert(field.to_owned(), default.to_owned());
    }
}
