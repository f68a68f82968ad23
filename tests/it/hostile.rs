//! Hostile input, end to end: public test suites of broken records, through the real Kafka and from
//! files, and input that fills the memory of a program that believes its stated sizes.
//!
//! In each test, rows and dead letters together are the events that were sent, dead letters have
//! exactly the bytes that were sent, and every good record between bad ones is ingested. The
//! tallies are printed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adlake_speed_layer::report::IngestReport;
use adlake_speed_layer::run::{FilesRun, KafkaRun, run_files, run_kafka};
use adlake_speed_layer::settings::{Format, SourceSettings, SpeedSettings};
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::raw::Raw;

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

#[tokio::test(flavor = "multi_thread")]
async fn json_test_suite_through_kafka() -> Result<()> {
    let raw = Raw::new().await?;
    let suite = files("JSONTestSuite/test_parsing", ".json")?;
    assert_eq!(suite.len(), 318);
    let records = among(GOOD, suite.iter().map(|(_, content)| content.clone()));
    let report = through_kafka(&raw, "impressions", &records, |_| ()).await?;
    let sent: usize = records.iter().map(|record| events(record).len()).sum();
    let rows = raw.count("raw/impressions").await? as usize;
    let letters = letters(&raw).await?;
    assert_eq!(rows + letters.len(), sent);
    assert_eq!(raw.number("raw/impressions", "select count(*) from t where user_id = 'good'").await?, 319);
    for (offset, payload) in &letters {
        assert!(events(&records[*offset]).iter().any(|event| hex(event) == *payload), "{}", suite[offset / 2].0);
    }
    println!(
        "JSONTestSuite: 318 texts among 319 good records: {sent} events = {rows} rows + {} dead letters {:?}",
        letters.len(),
        report.rejected
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_suites_through_kafka() -> Result<()> {
    let raw = Raw::new().await?;
    let crashers = files("arrow-testing/data/csv/fuzzing", "")?;
    let mut suite: Vec<Vec<u8>> = crashers.into_iter().map(|(_, content)| content).collect();
    for (_, content) in files("csv-spectrum/csvs", ".csv")? {
        suite.extend(content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        suite.push(content);
    }
    let count = suite.len();
    let records = among(GOOD_CLICK, suite);
    let report = through_kafka(&raw, "interactions", &records, |_| ()).await?;
    let rows = raw.count("raw/interactions").await? as usize;
    let letters = letters(&raw).await?;
    assert_eq!(rows + letters.len(), records.len());
    assert_eq!(
        raw.number("raw/interactions", "select count(*) from t where user_id = 'good'").await? as usize,
        count + 1
    );
    for (offset, payload) in &letters {
        assert_eq!(*payload, hex(&records[*offset]));
    }
    println!(
        "CSV suites: {count} rows and files among {} good records: {rows} rows + {} dead letters {:?}",
        count + 1,
        letters.len(),
        report.rejected
    );
    Ok(())
}

/// A good record in which some bytes are cut, doubled, swapped or inserted.
fn spoilt(good: &[u8], tokens: &[&[u8]], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(1..9)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            3 if !bytes.is_empty() => {
                let other = random.random_range(0..bytes.len());
                let at = at.min(bytes.len() - 1);
                bytes.swap(at, other);
            }
            _ => drop(bytes.splice(at..at, tokens[random.random_range(0..tokens.len())].iter().copied())),
        }
    }
    bytes
}

/// How many records of an Avro container can be read one after the other from its beginning, and
/// whether these are all of it, according to apache-avro's reader.
fn readable(container: &[u8]) -> (usize, bool) {
    let Ok(reader) = apache_avro::Reader::new(container) else { return (0, false) };
    let mut count = 0;
    for record in reader {
        if record.is_err() {
            return (count, false);
        }
        count += 1;
    }
    (count, true)
}

/// A container of one block without compression: damage inside it leaves the records before it
/// good.
fn plain_container() -> Result<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type":"record","name":"Plain","fields":[{"name":"some_text","type":"string"},
            {"name":"some_number","type":"long"}]}"#,
    )?;
    let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), apache_avro::Codec::Null)?;
    for number in 0..20i64 {
        let mut record = apache_avro::types::Record::new(&schema).context("a record schema")?;
        record.put("some_text", format!("text {number}"));
        record.put("some_number", number * 1000);
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

/// The same container, with ten good records before a record that has a text of negative length.
fn half_good_container() -> Result<Vec<u8>> {
    let mut container = plain_container()?;
    let text = container.windows(7).position(|window| window == b"text 10").context("the text")?;
    container[text - 1] = 1;
    Ok(container)
}

/// Every byte of every message is accounted for, with any compression of the topic. A message
/// becomes rows, or a dead letter that holds it whole. Of a JSON list, each element does. Of an
/// Avro container, exactly the records before a bad part become rows, beside the dead letter. Every
/// good message between bad ones is ingested.
#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_message_is_accounted_for() -> Result<()> {
    const RECORDS: usize = 300;
    let seed = std::env::var("ADLAKE_TEST_SEED").map_or_else(|_| Ok(rand::random()), |seed| seed.parse())?;
    println!("ADLAKE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let list = [b"[", GOOD, b",", GOOD, b"]"].concat();
    let container =
        files("arrow-testing/data/avro", "alltypes_plain.avro")?.into_iter().next().context("a container")?.1;
    let json: &[&[u8]] = &[b"{", b"}", b"[", b"]", b"\"", b",", b"\n", b"\0", b"\x1e", b"\\", b"x", GOOD];
    let csv: &[&[u8]] = &[b"\"", b",", b"\n", b"\r", b"\r\n", b"\"\"", b"x", GOOD_CLICK];
    let avro: &[&[u8]] = &[&[0], &[1], &[0xff], b"Obj\x01", &[0x80, 0x80, 0x80, 0x01]];
    let table = |kind: &str| format!("raw/{kind}");
    for compression in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        for (kind, goods, tokens) in [
            ("impressions", vec![GOOD.to_vec(), list.clone()], json),
            ("interactions", vec![GOOD_CLICK.to_vec()], csv),
            ("bid_requests", vec![container.clone(), plain_container()?], avro),
        ] {
            let raw = Raw::new().await?;
            let mut bad: Vec<_> = (0..RECORDS).map(|n| spoilt(&goods[n % goods.len()], tokens, &mut random)).collect();
            if kind == "bid_requests" {
                bad[0] = half_good_container()?;
            }
            let records = among(&goods[0], bad);
            compressed_through_kafka(&raw, kind, &records, compression, |source| {
                if kind == "bid_requests" {
                    anything(source);
                }
            })
            .await?;
            let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
            for line in raw.query(&table(kind), "select source['offset'], count(*) from t group by 1").await? {
                let (offset, count) = line.split_once(' ').context("two cells")?;
                rows.insert(offset.parse()?, count.parse()?);
            }
            let letters = letters(&raw).await?;
            let mut beside_letters = 0;
            let good_rows = rows.get(&0).copied().context("a good message has no rows")?;
            for (offset, record) in records.iter().enumerate() {
                let what = || format!("seed {seed}, {kind}, {compression}: {:?}", String::from_utf8_lossy(record));
                let count = rows.get(&offset).copied().unwrap_or(0);
                let own: Vec<&String> =
                    letters.iter().filter(|(other, _)| *other == offset).map(|(_, payload)| payload).collect();
                if offset % 2 == 0 {
                    ensure!((count, own.len()) == (good_rows, 0), "a good message is lost: {}", what());
                } else if kind == "impressions" {
                    let events = events(record);
                    ensure!(count + own.len() == events.len(), "{count} rows, {} letters: {}", own.len(), what());
                    ensure!(own.iter().all(|own| events.iter().any(|event| hex(event) == **own)), "{}", what());
                } else {
                    if kind == "bid_requests" && record.starts_with(b"Obj\x01") {
                        // The good records are rows. If anything is bad, the message is a letter.
                        let (good, is_whole) = readable(record);
                        ensure!(count == good, "{count} rows of {good} good records: {}", what());
                        let is_told = own.len() == 1 || (own.is_empty() && is_whole && good > 0);
                        ensure!(is_told, "{count} rows, {} letters: {}", own.len(), what());
                        beside_letters += usize::from(own.len() == 1) * count;
                    } else {
                        ensure!(count + own.len() == 1, "{count} rows, {} letters: {}", own.len(), what());
                    }
                    ensure!(own.iter().all(|own| **own == hex(record)), "not whole: {}", what());
                }
            }
            ensure!(
                kind != "bid_requests" || beside_letters >= 10,
                "seed {seed}: {beside_letters} rows beside letters"
            );
        }
    }
    Ok(())
}

/// Defaults for the fields that only adlake's events have.
fn anything(source: &mut SourceSettings) {
    for (field, default) in [("auction_id", "a"), ("user_id", "u"), ("timestamp", "ingest_time")] {
        source.defaults.insert(field.to_owned(), default.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_suites_through_kafka_and_from_files() -> Result<()> {
    let raw = Raw::new().await?;
    let mut suite = files("arrow-testing/data/avro", ".avro")?;
    let logical = suite.len();
    suite.extend(files("avro/share/test/data", ".avro")?);
    // Each file is also sent cut, and with one byte changed.
    let whole = suite.len();
    for (name, content) in suite.clone() {
        suite.push((format!("{name}, cut"), content[..content.len() * 2 / 3].to_vec()));
        let mut turned = content;
        let middle = turned.len() / 2;
        turned[middle] ^= 0x55;
        suite.push((format!("{name}, turned"), turned));
    }
    let records: Vec<Vec<u8>> = suite.iter().map(|(_, content)| content.clone()).collect();
    let change = |source: &mut SourceSettings| {
        anything(source);
        source.records_max = Some(1_000_000);
    };
    through_kafka(&raw, "bid_requests", &records, change).await?;
    let by_offset = "select source['offset'], count(*) from t group by 1";
    let mut rows = BTreeMap::new();
    for line in raw.query("raw/bid_requests", by_offset).await? {
        let (offset, count) = line.split_once(' ').context("two cells")?;
        rows.insert(offset.parse::<usize>()?, count.parse::<usize>()?);
    }
    let letters = letters(&raw).await?;
    for (offset, payload) in &letters {
        assert_eq!(*payload, hex(&records[*offset]), "{}", suite[*offset].0);
    }
    for (offset, (name, content)) in suite.iter().enumerate() {
        let dead = letters.iter().filter(|(other, _)| *other == offset).count();
        ensure!(dead <= 1 && (dead == 1 || rows.contains_key(&offset)), "{name}: {dead} dead letters");
        if offset < logical {
            let records = apache_avro::Reader::new(&content[..])?.count();
            assert_eq!((dead, rows.get(&offset).copied().unwrap_or(0)), (0, records), "{name}");
        }
    }
    let total: usize = rows.values().sum();
    println!(
        "Avro suites: {} containers, {whole} of them whole: {total} rows + {} dead letters",
        suite.len(),
        letters.len()
    );

    // The same whole files, read as files with one record each.
    let raw = Raw::new().await?;
    let mut settings = SpeedSettings::default();
    anything(&mut settings.sources.bid_requests);
    let paths = vec![data("arrow-testing/data/avro")?.display().to_string()];
    let wanted = FilesRun { paths, kind: Some(adlake_domain::event::EventKind::BidRequest), ..FilesRun::default() };
    let report = run_files(&raw.lake, &settings, wanted, &(), CancellationToken::new()).await?;
    let expected: usize = (0..logical).map(|offset| rows.get(&offset).copied().unwrap_or(0)).sum();
    assert_eq!((report.rows["raw/bid_requests"] as usize, report.rejected.len()), (expected, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openrtb_bid_requests_as_json_through_kafka() -> Result<()> {
    let raw = Raw::new().await?;
    let text = fs::read_to_string(data("openrtb/prebid_adapters_exemplary_bid_requests.jsonl")?)?;
    let mut requests = Vec::new();
    for line in text.lines() {
        let line: BTreeMap<&str, &RawValue> = serde_json::from_str(line)?;
        requests.push(line["bid_request"].get().as_bytes().to_vec());
    }
    let as_json = |source: &mut SourceSettings| {
        source.format = Some(Format::Json);
        source.defaults.insert("user_id".to_owned(), "unknown".to_owned());
        source.defaults.insert("timestamp".to_owned(), "record_time".to_owned());
    };
    let report = through_kafka(&raw, "bid_requests", &requests, as_json).await?;
    assert_eq!((report.rows["raw/bid_requests"], report.rejected.len()), (1418, 0));
    let sql = "select sum(cardinality(imp)), count(site), count(app), count(device), count(\"user\") from t";
    assert_eq!(raw.query("raw/bid_requests", sql).await?, ["1644 702 458 890 462"]);
    println!("OpenRTB: 1418 bid requests with 1644 imps: 1418 rows + 0 dead letters");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fill_the_memory_costs_neither_memory_nor_neighbours() -> Result<()> {
    const HUGE: u64 = 1 << 30;
    let raw = Raw::new().await?;
    let events = raw.path().join("events");
    fs::create_dir(&events)?;
    // A line of a gigabyte between good ones. The file is sparse.
    let line = [GOOD, b"\n"].concat();
    let mut sparse = File::create(events.join("impressions-line.ndjson"))?;
    sparse.write_all(&[&line, &b"{\"user_id\": \""[..]].concat())?;
    sparse.seek(SeekFrom::Current(HUGE as i64))?;
    sparse.write_all(&[&b"\"}\n"[..], &line].concat())?;
    // Compression bombs: gigabytes of zeros in one line, in one quoted cell, in one string of an
    // array. A file may consist of several members or frames.
    let zeros = vec![0; 64 << 20];
    let gzip = |bytes: &[u8]| -> Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1);
    let (gzip_zeros, zstd_zeros) = (gzip(&zeros)?, zstd(&zeros)?);
    let bomb = [gzip(&line)?, gzip_zeros.repeat(32), gzip(&[b"\n", &line[..]].concat())?].concat();
    fs::write(events.join("impressions-bomb.ndjson.gz"), &bomb)?;
    let list = [zstd(b"[\"")?, zstd_zeros.repeat(32), zstd(&[b"\", ", GOOD, b"]"].concat())?].concat();
    fs::write(events.join("impressions-list.json.zst"), &list)?;
    let click = [GOOD_CLICK, b"\n"].concat();
    let cells =
        [zstd(&[&click, &b"\"a"[..]].concat())?, zstd_zeros.repeat(16), zstd(&[b"\n", &click[..]].concat())?].concat();
    fs::write(events.join("clicks-cell.csv.zst"), &cells)?;
    // Ten thousand brackets, closed and unclosed.
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let good = String::from_utf8_lossy(GOOD);
    fs::write(events.join("impressions-deep.json"), format!("[{good},{{\"x\":{deep}}},{deep},{good}]"))?;
    fs::write(
        events.join("impressions-deep.ndjson"),
        format!("{good}\n{{\"x\":{deep}}}\n{}\n{good}\n", "[".repeat(10_000)),
    )?;
    // A container whose blocks state sizes that their content does not have.
    fs::write(events.join("bids-promise.avro"), promises()?)?;
    let stored: u64 = bomb.len() as u64 + list.len() as u64 + cells.len() as u64;

    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let mut process = adlake.spawn(["ingest", "files", &events.display().to_string(), "--format", "json"]);
    let status = PathBuf::from(format!("/proc/{}/status", process.id()));
    let mut peak = 0;
    let exit = wait::value(Duration::from_secs(180), "the end of ingest", || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(peak);
        process.exited()
    })?;
    ensure!(exit.success(), "{exit}\n{}", process.logs());
    let good = "select count(*) from t where user_id = 'good'";
    assert_eq!(raw.number("raw/impressions", good).await?, 2 + 2 + 1 + 2 + 2);
    assert_eq!(raw.number("raw/interactions", good).await?, 2);
    let sql = "select reverse(split_part(reverse(source['topic']), '/', 1)), source['offset'], reason, \
               length(encode(arrow_cast(payload, 'Binary'), 'hex')) / 2 from t order by 1, 2";
    let letters = raw.query(DEAD_LETTERS, sql).await?;
    let kept = 64 << 10;
    let expected = [
        "bids-promise.avro 0 invalid_avro 10".to_owned(),
        "bids-promise.avro 1 truncated 5".to_owned(),
        format!("clicks-cell.csv.zst 1 too_long {kept}"),
        format!("impressions-bomb.ndjson.gz 1 too_long {kept}"),
        "impressions-deep.json 1 invalid_json 20007".to_owned(),
        "impressions-deep.json 2 not_an_object 20001".to_owned(),
        "impressions-deep.ndjson 1 invalid_json 20007".to_owned(),
        // The first bracket opens an array that is never closed.
        "impressions-deep.ndjson 2 invalid_json 9999".to_owned(),
        "impressions-deep.ndjson 4 truncated 0".to_owned(),
        format!("impressions-line.ndjson 1 too_long {kept}"),
        format!("impressions-list.json.zst 0 too_long {kept}"),
    ];
    assert_eq!(letters, expected);
    println!(
        "a line of {HUGE} bytes, bombs of 5 GiB in {stored} bytes, 10,000 brackets: 11 good records in, {} dead \
         letters, \
         {} MiB resident at most",
        letters.len(),
        peak >> 10
    );
    ensure!(peak > 0 && peak < 400 << 10, "{peak} KiB were resident");
    Ok(())
}

/// A container with two blocks. The first states more records than it has bytes. The second states
/// a size, and its text a length, that reach far beyond the file.
fn promises() -> Result<Vec<u8>> {
    let schema = r#"{"type":"record","name":"Promise","fields":[{"name":"text","type":"string"}]}"#;
    let mut container = apache_avro::Writer::new(&apache_avro::Schema::parse_str(schema)?, Vec::new())?.into_inner()?;
    let sync = container[container.len() - 16..].to_vec();
    // Numbers are zigzag-encoded: 2^60 records in no byte, then one record of 2^27 bytes, with a
    // text of 2^24.
    container.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x00]);
    container.extend(&sync);
    container.extend([0x02, 0x80, 0x80, 0x80, 0x80, 0x01]);
    container.extend([0x80, 0x80, 0x80, 0x10, b'x']);
    Ok(container)
}
