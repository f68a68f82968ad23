//! Public test suites of broken and of unusual records.

use std::collections::BTreeMap;
use std::fs;

use adlake_domain::event::EventKind;
use adlake_speed_layer::run::{FilesRun, run_files};
use adlake_speed_layer::settings::{Format, SourceSettings, SpeedSettings};
use anyhow::{Context, Result, ensure};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{GOOD, GOOD_CLICK, among, anything, data, events, files, hex, letters, through_kafka};
use crate::raw::Raw;

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
        let (offset, count) = line.split_once(' ').with_context(|| format!("not an offset and a count: {line:?}"))?;
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
    let wanted = FilesRun { paths, kind: Some(EventKind::BidRequest), ..FilesRun::default() };
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
