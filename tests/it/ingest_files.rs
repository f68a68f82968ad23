//! From files to raw tables with the built program: every format and compression, each record once
//! however often a file is ingested, and other people's data.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use adlake_tests::adlake::Adlake;
use adlake_tests::readers;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::raw::Raw;

const RECORDS: usize = 2_000;

fn impression(n: usize) -> String {
    format!(
        r#"{{"ad_creative_id":"c{}","user_id":"u{n}","timestamp":"2026-03-{:02} 10:00:00","website":"example.com"}}"#,
        n % 10,
        1 + n % 20
    )
}

fn interaction(n: usize) -> String {
    // The cell contains everything that CSV has to quote.
    format!("2026-03-{:02} 11:00:00,u{n},k{},click,\"agent \"\"{n}\"\",\nsecond line\"", 1 + n % 20, n % 7)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn bzip2(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn xz(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Writes a file uncompressed and in every compression.
fn write_all(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    fs::write(folder.join(name), bytes)?;
    fs::write(folder.join(format!("{name}.gz")), gzip(bytes)?)?;
    fs::write(folder.join(format!("{name}.zst")), zstd::encode_all(bytes, 1)?)?;
    fs::write(folder.join(format!("{name}.bz2")), bzip2(bytes)?)?;
    fs::write(folder.join(format!("{name}.xz")), xz(bytes)?)?;
    Ok(())
}

fn report(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_compression_comes_in_once() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("events");
    fs::create_dir(&folder)?;
    let impressions: Vec<String> = (0..RECORDS).map(impression).collect();
    let interactions: Vec<String> = (0..RECORDS).map(interaction).collect();
    write_all(&folder, "impressions-array.json", format!("[\n{}\n]\n", impressions.join(",\n")).as_bytes())?;
    write_all(&folder, "impressions-lines.ndjson", impressions.join("\n").as_bytes())?;
    let columns = "timestamp,user_id,campaign_id,conversion_type,user_agent";
    write_all(&folder, "clicks-header.csv", format!("{columns}\n{}\n", interactions.join("\n")).as_bytes())?;
    let bare: Vec<String> = (0..RECORDS).map(|n| format!("2026-03-01 11:00:00,u{n},k1,purchase")).collect();
    write_all(&folder, "conversions-bare.csv", bare.join("\r\n").as_bytes())?;
    for (index, codec) in ["null", "deflate", "snappy", "zstandard"].into_iter().enumerate() {
        let path = folder.join(format!("bids-{index}.avro"));
        fs::write(path, bids(codec)?)?;
    }
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let events = folder.display().to_string();
    let first = report(&adlake.ok(["ingest", "files", &events, "--format", "json"]))?;
    let expected = (10 * RECORDS, 10 * RECORDS, 4 * RECORDS);
    let rows = |table: &str| first["rows"][table].as_u64().unwrap_or(0) as usize;
    assert_eq!((rows("raw/impressions"), rows("raw/interactions"), rows("raw/bid_requests")), expected, "{first}");
    assert_eq!(first["rejected"], serde_json::json!({}));

    let again = report(&adlake.ok(["ingest", "files", &events, "--format", "json"]))?;
    assert_eq!((&again["rows"], &again["commits"]), (&serde_json::json!({}), &serde_json::json!(0)));

    let per_file = "select count(*) from t group by source['topic'] order by 1";
    for (table, files) in [("raw/impressions", 10), ("raw/interactions", 10), ("raw/bid_requests", 4)] {
        assert_eq!(raw.query(table, per_file).await?, vec![RECORDS.to_string(); files], "{table}");
    }
    // The content is the same in every format.
    assert_eq!(raw.number("raw/impressions", "select count(distinct content_hash) from t").await?, RECORDS as i64);
    let agents = "select count(distinct user_agent) from t where user_agent like 'agent \"%\",\nsecond line'";
    assert_eq!(raw.number("raw/interactions", agents).await?, RECORDS as i64);
    Ok(())
}

/// Other readers find the texts that were sent: more texts than a dictionary has codes, over
/// several row groups; nothing but NULLs; a text longer than a page, as the first of all; the same
/// text in every row.
#[tokio::test(flavor = "multi_thread")]
async fn others_read_texts_however_many_and_however_long() -> Result<()> {
    const ROWS: usize = 160_000;
    let raw = Raw::new().await?;
    let folder = raw.path().join("events");
    fs::create_dir(&folder)?;
    let long = "agent ".repeat(200_000);
    let mut lines = String::from("timestamp,user_id,campaign_id,conversion_type,user_agent,country\n");
    for n in 0..ROWS {
        let agent = match n {
            0 => long.as_str(),
            _ => ["", "a", "b"][n % 3],
        };
        lines.push_str(&format!("2026-03-01 11:00:00,u{n},campaign-{n:06},click,{agent},\n"));
    }
    fs::write(folder.join("clicks.csv"), lines)?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    adlake.ok(["ingest", "files", &folder.display().to_string()]);
    let columns =
        ["campaign_id", "conversion_type", "user_agent", "country", "enriched.advertiser_id", "enriched.season"];
    let found = readers::assert_agree(&raw.path().join("lake/raw/interactions"), &columns);
    let sent = |column: &str, texts: usize, bytes: usize, different: usize| {
        let expected = format!("{texts} texts, {bytes} bytes, {different} different, ");
        assert!(found[column].starts_with(&expected), "{column}: {expected}: {}", found[column]);
    };
    assert_eq!(found[readers::COUNT], ROWS.to_string());
    sent("campaign_id", ROWS, ROWS * 15, ROWS);
    sent("enriched.advertiser_id", 0, 0, 0);
    sent("conversion_type", ROWS, ROWS * 5, 1);
    sent("user_agent", 1 + ROWS * 2 / 3, long.len() + ROWS * 2 / 3, 3);
    sent("country", 0, 0, 0);
    sent("enriched.season", ROWS, ROWS * 6, 1);
    Ok(())
}

fn bids(codec: &str) -> Result<Vec<u8>> {
    use std::str::FromStr;

    use apache_avro::types::{Record, Value};
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "Bid", "fields": [
            {"name": "auction_id", "type": "string"}, {"name": "user_id", "type": "long"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
    )?;
    let codec = apache_avro::Codec::from_str(codec)?;
    let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec)?;
    for n in 0..RECORDS {
        let mut record = Record::new(&schema).context("the schema is no record's")?;
        record.put("auction_id", format!("a{n}"));
        record.put("user_id", n as i64);
        record.put("timestamp", Value::TimestampMillis(1_772_000_000_000 + n as i64));
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_becomes_dead_letters_with_place_and_bytes() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("events");
    fs::create_dir(&folder)?;
    let good = impression;
    // The file is cut in the middle of its last element.
    fs::write(folder.join("impressions-cut.json"), format!("[{},{},{{\"user_id\": \"u", good(0), good(1)))?;
    fs::write(folder.join("impressions-lines.ndjson"), format!("{}\n{{\"cut\": \n{}\n", good(2), good(3)))?;
    fs::write(
        folder.join("clicks.csv"),
        format!("{}\n2026-03-01,\"u\n{}\n", interaction(0), "2026-03-01,u1,k1,click"),
    )?;
    let compressed = gzip((0..RECORDS).map(|n| good(n) + "\n").collect::<String>().as_bytes())?;
    fs::write(folder.join("impressions-broken.ndjson.gz"), &compressed[..compressed.len() / 2])?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let events = folder.display().to_string();
    adlake.ok(["ingest", "files", &events]);
    let sql = "select kind, reason, source['offset'], arrow_cast(payload, 'Utf8') from t \
               where source['topic'] not like '%broken%' order by source['topic']";
    let dead = raw.query("raw/dead_letters", sql).await?;
    assert_eq!(
        dead,
        [
            "interactions invalid_csv 1 2026-03-01,\"u",
            "impressions truncated 2 {\"user_id\": \"u",
            "impressions invalid_json 1 {\"cut\": ",
        ]
    );
    let broken = raw.query("raw/dead_letters", "select reason from t where source['topic'] like '%broken%'").await?;
    assert_eq!(broken, ["truncated"]);
    ensure!(raw.count("raw/impressions").await? > 100, "what came before the break is in");
    assert_eq!(raw.count("raw/interactions").await?, 2);

    adlake.ok(["ingest", "files", &events]);
    assert_eq!(raw.count("raw/dead_letters").await?, 4, "a second run writes nothing twice");
    Ok(())
}

/// Files like those of github.com/vikramk55/advertiseX-data-engineering, with the names, types and
/// formats of its generator.
fn look_alike(folder: &Path) -> Result<()> {
    let impressions: Vec<Value> = (0..1_000)
        .map(|n| {
            serde_json::json!({
                "ad_creative_id": n % 900,
                "user_id": n * 37 % 90_000,
                "timestamp": format!("2023-12-{:02} 17:16:34", 1 + n % 28),
                "website_url": format!("http://example{}.com/path/{}", n % 10, n % 100),
            })
        })
        .collect();
    fs::write(folder.join("ad_impressions.json"), serde_json::to_string_pretty(&impressions)?)?;
    let mut rows = "timestamp,user_id,ad_campaign_id,conversion_type\n".to_owned();
    for (kind, count) in [("purchase", 344), ("visit", 329), ("signup", 327)] {
        for n in 0..count {
            rows += &format!("2023-10-{:02} 16:11:30,{n},{},{kind}\n", 1 + n % 28, n % 10);
        }
    }
    fs::write(folder.join("clicks_conversions.csv"), rows)?;
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "BidRequest", "fields": [
            {"name": "bid_amount", "type": "float"}, {"name": "user_id", "type": "int"},
            {"name": "auction_id", "type": "string"}, {"name": "ip_address", "type": "string"}]}"#,
    )?;
    let mut writer = apache_avro::Writer::new(&schema, Vec::new())?;
    for n in 0..1_000 {
        let mut record = apache_avro::types::Record::new(&schema).context("the schema is no record's")?;
        record.put("bid_amount", n as f32 / 8.0);
        record.put("user_id", n);
        record.put("auction_id", format!("AUCTION-{n}"));
        record.put("ip_address", "192.168.223.236");
        writer.append_value(record)?;
    }
    Ok(fs::write(folder.join("bid_requests.avro"), writer.into_inner()?)?)
}

/// The original data, if available: in `ADLAKE_TEST_DATA`, or beside the checkout.
fn original() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("ADLAKE_TEST_DATA").map_or(beside, PathBuf::from);
    Some(data.join("advertisex/vikramk55")).filter(|path| path.is_dir())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_data_needs_ten_lines_of_mapping() -> Result<()> {
    let alike = tempfile::tempdir()?;
    look_alike(alike.path())?;
    for data in [Some(alike.path().to_owned()), original()].into_iter().flatten() {
        let raw = Raw::new().await?;
        let adlake = Adlake::in_dir(raw.path()).config(
            r#"
            [lake]
            uri = "lake"
            [sources.bid_requests.fields]
            auction_id = []
            [sources.bid_requests.defaults]
            auction_id = "unknown"
            event_time = "file_time"
            "#,
        );
        let text = adlake.ok(["ingest", "files", &data.display().to_string(), "--format", "json"]);
        assert_eq!(report(&text)?["rejected"], serde_json::json!({}));
        assert_eq!(raw.count("raw/impressions").await?, 1_000);
        assert_eq!(raw.count("raw/bid_requests").await?, 1_000);
        let types = "select conversion_type, count(*) from t group by 1 order by 1";
        assert_eq!(raw.query("raw/interactions", types).await?, ["purchase 344", "signup 327", "visit 329"]);
        let known = "select count(*) from t where website is not null and event_date is not null";
        assert_eq!(raw.number("raw/impressions", known).await?, 1_000);
        // As events: the auction ids are drawn at random and name several requests at once, so the
        // mapping leaves them out.
        for moment in ["before a batch run", "after one"] {
            for (view, count) in [("impressions", 1_000), ("conversions", 1_000), ("bid_requests", 1_000)] {
                let rows = adlake.query_json(&format!("SELECT count(*) AS n FROM {view}"));
                assert_eq!(rows[0]["n"], count, "{view} {moment}");
            }
            adlake.ok(["batch", "run", "--full", "--quiet"]);
        }
    }
    Ok(())
}
