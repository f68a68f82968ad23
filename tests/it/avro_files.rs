//! Avro containers that are damaged or concatenated, read by the built program.

use std::fs;

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result};
use apache_avro::types::{Record, Value};
use apache_avro::{Codec, Schema, Writer};
use serde_json::json;

use crate::raw::Raw;

const FIRST: &str = r#"{"type": "record", "name": "Bid", "fields": [
    {"name": "auction_id", "type": "string"}, {"name": "user_id", "type": "long"},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
/// Other fields, in another order.
const SECOND: &str = r#"{"type": "record", "name": "Bid", "fields": [
    {"name": "bid_price", "type": "double"}, {"name": "timestamp", "type": "string"},
    {"name": "user_id", "type": "string"}, {"name": "auction_id", "type": "string"}]}"#;

/// A container of `bids` bids, with `block` of them in each block.
fn container(schema: &str, codec: Codec, bids: usize, block: usize, bad: Option<usize>) -> Result<Vec<u8>> {
    let parsed = Schema::parse_str(schema)?;
    let mut writer = Writer::with_codec(&parsed, Vec::new(), codec)?;
    for n in 0..bids {
        let mut record = Record::new(&parsed).context("the schema is no record's")?;
        record.put("auction_id", format!("a{n}"));
        if schema == FIRST {
            record.put("user_id", n as i64);
            record.put("timestamp", Value::TimestampMillis(1_772_000_000_000 + n as i64));
        } else {
            record.put("user_id", format!("u{n}"));
            record.put("timestamp", if bad == Some(n) { "no time" } else { "2026-03-01 10:00:00" });
            record.put("bid_price", 1.5);
        }
        writer.append_value(record)?;
        if n % block == block - 1 {
            writer.flush()?;
        }
    }
    Ok(writer.into_inner()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_containers_in_a_file_both_come_in_each_with_its_schema() -> Result<()> {
    let raw = Raw::new().await?;
    let first = container(FIRST, Codec::Null, 2, 100, None)?;
    let second = container(SECOND, Codec::Snappy, 50, 20, Some(7))?;
    let file = raw.path().join("bids.avro");
    fs::write(&file, [&first[..], &second, &first].concat())?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let file = file.display().to_string();
    adlake.ok(["ingest", "files", &file]);
    let table = "raw/bid_requests";
    let sql = "select count(*), min(user_id), max(source['offset']) from t where bid_price is not null";
    assert_eq!(raw.query(table, sql).await?, ["49 u0 51"]);
    let sql = "select user_id, source['offset'] from t where bid_price is null order by 2";
    assert_eq!(raw.query(table, sql).await?, ["0 0", "1 1", "0 52", "1 53"]);
    // The bad record is stored as it was sent, and can be read again, because its letter contains
    // the schema.
    let sql = "select reason, source['offset'], format like '%bid_price%' from t";
    assert_eq!(raw.query("raw/dead_letters", sql).await?, ["bad_timestamp 9 true"]);
    let mended = "[lake]\nuri = \"lake\"\n[sources.bid_requests.fields]\ntimestamp = []\n\
                  [sources.bid_requests.defaults]\ntimestamp = \"2026-03-02T00:00:00Z\"\n";
    adlake.config(mended).ok(["deadletters", "replay"]);
    let sql = "select user_id, bid_price = 1.5, attributes from t where source['offset'] = 9";
    assert_eq!(raw.query(table, sql).await?, [r#"u7 true {"timestamp":"no time"}"#]);
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    adlake.ok(["ingest", "files", &file]);
    assert_eq!(raw.count(table).await?, 54, "a second run writes nothing twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_damaged_block_the_next_blocks_come_in_and_what_is_lost_is_kept_whole() -> Result<()> {
    let raw = Raw::new().await?;
    let bytes = container(FIRST, Codec::Snappy, 40, 4, None)?;
    let sync = &bytes[bytes.len() - 16..];
    let markers: Vec<usize> = (0..bytes.len() - 15).filter(|at| bytes[*at..].starts_with(sync)).collect();
    assert_eq!(markers.len(), 11);
    // The second block of ten states a negative number of records.
    let mut damaged = bytes.clone();
    let block = markers[1] + 16;
    damaged[block] = 7;
    let file = raw.path().join("bids.avro");
    fs::write(&file, &damaged)?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let report = adlake.ok(["ingest", "files", &file.display().to_string(), "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report)?;
    assert_eq!(report["rows"], json!({"raw/bid_requests": 36}));
    assert_eq!(report["rejected"], json!({"invalid_avro": 1}));
    let letters = raw.query("raw/dead_letters", "select encode(payload, 'hex'), detail from t").await?;
    let lost: String = damaged[block..markers[2]].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        letters,
        [format!("{lost} the head of a block is damaged; reading goes on behind the next sync marker")]
    );
    Ok(())
}
