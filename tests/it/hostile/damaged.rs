//! Good records that are damaged at random, under each compression of a topic.

use std::collections::BTreeMap;

use adlake_tests::seed::seed;
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{GOOD, GOOD_CLICK, among, anything, compressed_through_kafka, events, files, hex, letters};
use crate::raw::Raw;

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
///
/// Where a block ends before its number of records, that reader goes on with NULLs, also for what
/// may not be NULL. These are no records.
fn readable(container: &[u8]) -> (usize, bool) {
    let Ok(reader) = apache_avro::Reader::new(container) else { return (0, false) };
    let schema = reader.writer_schema().clone();
    let mut count = 0;
    for record in reader {
        if !record.is_ok_and(|record| record.validate(&schema)) {
            return (count, false);
        }
        count += 1;
    }
    (count, true)
}

#[test]
fn records_that_a_block_only_claims_are_not_counted() -> Result<()> {
    let containers = files("arrow-testing/data/avro", "alltypes_plain.avro")?.into_iter();
    let mut container = containers.map(|(_, bytes)| bytes).next().context("alltypes_plain.avro is missing")?;
    ensure!(readable(&container) == (8, true), "the container has other records");
    let marker = container[container.len() - 16..].to_vec();
    let begin = container.windows(16).position(|bytes| bytes == marker).context("the container has no marker")?;
    // The block says that it has 1,032 records instead of 8.
    drop(container.splice(begin + 16..begin + 17, [0x90, 0x10]));
    ensure!(readable(&container) == (8, false), "{:?} records are counted", readable(&container));
    Ok(())
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
        let mut record = apache_avro::types::Record::new(&schema).context("the schema is no record's")?;
        record.put("some_text", format!("text {number}"));
        record.put("some_number", number * 1000);
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

/// The same container, with ten good records before a record that has a text of negative length.
fn half_good_container() -> Result<Vec<u8>> {
    let mut container = plain_container()?;
    let text = container
        .windows(7)
        .position(|window| window == b"text 10")
        .context("the container lacks its eleventh text")?;
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
    let seed = seed()?;
    let mut random = StdRng::seed_from_u64(seed);
    let list = [b"[", GOOD, b",", GOOD, b"]"].concat();
    let container = files("arrow-testing/data/avro", "alltypes_plain.avro")?
        .into_iter()
        .next()
        .context("alltypes_plain.avro is missing")?
        .1;
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
                let (offset, count) =
                    line.split_once(' ').with_context(|| format!("not an offset and a count: {line:?}"))?;
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
                    ensure!(
                        own.iter().all(|own| events.iter().any(|event| hex(event) == **own)),
                        "no event: {}",
                        what()
                    );
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
