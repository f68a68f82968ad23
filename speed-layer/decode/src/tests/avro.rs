//! Avro: every framing, containers, and configured schemas.

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Codec, Schema, Writer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::avro::bid_request_avro_schema;
use crate::settings::AvroFraming;

/// A bid request of adlake's own schema with these fields. The others are null.
fn bid(fields: &[(&str, Avro)]) -> Avro {
    let schema: serde_json::Value = serde_json::from_str(bid_request_avro_schema()).unwrap();
    let names = schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap().to_owned());
    let null = || Avro::Union(0, Box::new(Avro::Null));
    let values = names.map(|name| {
        let sent = fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        (name, sent.unwrap_or_else(null))
    });
    Avro::Record(values.collect())
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

fn plain_bid(auction: &str) -> Avro {
    bid(&[
        ("auction_id", Avro::String(auction.to_owned())),
        ("user_id", Avro::String("u".to_owned())),
        ("timestamp", Avro::TimestampMicros(NOW - 5)),
        ("clearing_price", some(Avro::Decimal(1_900_000i128.to_be_bytes().to_vec().into()))),
        ("won", some(Avro::Boolean(true))),
        ("badv", some(Avro::Array(vec![Avro::String("b".to_owned())]))),
        ("targeting", some(Avro::Map([("k".to_owned(), some(Avro::String("v".to_owned())))].into()))),
    ])
}

#[test]
fn avro_bid_requests_in_every_framing() {
    let schema = Schema::parse_str(bid_request_avro_schema()).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(plain_bid("a1")).unwrap();
    let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>().bytes;
    let single = [&[0xC3, 0x01][..], &fingerprint, &datum].concat();
    let confluent = [&[0, 0, 0, 0, 9][..], &datum].concat();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Snappy).unwrap();
    for auction in ["a2", "a3"] {
        writer.append_value(plain_bid(auction)).unwrap();
    }
    let container = writer.into_inner().unwrap();
    let trailing = [&datum[..], &[0]].concat();
    let payloads: [&[u8]; 6] = [&datum, &single, &confluent, &container, &trailing, &datum[..datum.len() - 1]];
    let decoded = decode(EventKind::BidRequest, &StreamFormat::AvroMessage, &payloads);
    let auctions: Vec<_> =
        (0..decoded.rows.num_rows()).map(|row| cell(&decoded.rows, "auction_id", row).unwrap()).collect();
    assert_eq!(auctions, ["a1", "a1", "a1", "a2", "a3"]);
    check(
        &decoded.rows,
        4,
        &[
            ("event_time", Some("2025-06-01T23:59:59.999995Z")),
            ("clearing_price", Some("1.900000000000")),
            ("bid_price", None),
            ("won", Some("true")),
            ("badv", Some("[b]")),
            ("targeting", Some("{k: v}")),
            ("attributes", None),
            ("source.offset", Some("3")),
        ],
    );
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["trailing_data", "invalid_avro"]);
}

/// Three bids, of which the second has a negative price.
pub(super) fn bids_with_one_bad() -> Vec<u8> {
    let text = r#"{"type":"record","name":"B","fields":[
        {"name":"auction_id","type":"string"},{"name":"user_id","type":"int"},{"name":"bid_amount","type":"float"},
        {"name":"ts","type":{"type":"int","logicalType":"date"}},{"name":"ip_address","type":"string"}]}"#;
    let schema = Schema::parse_str(text).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Null).unwrap();
    for (auction, price) in [("a1", 0.1f32), ("a2", -1.0), ("a3", 5.43)] {
        let fields = vec![
            ("auction_id".to_owned(), Avro::String(auction.to_owned())),
            ("user_id".to_owned(), Avro::Int(7)),
            ("bid_amount".to_owned(), Avro::Float(price)),
            ("ts".to_owned(), Avro::Date(20_000)),
            ("ip_address".to_owned(), Avro::String("192.0.2.7".to_owned())),
        ];
        writer.append_value(Avro::Record(fields)).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn a_container_keeps_its_good_records() {
    let container = bids_with_one_bad();
    let decoded = decode(EventKind::BidRequest, &StreamFormat::AvroMessage, &[&container]);
    check(
        &decoded.rows,
        0,
        &[
            ("auction_id", Some("a1")),
            ("user_id", Some("7")),
            ("bid_price", Some("0.100000000000")),
            ("event_time", Some("2024-10-04T00:00:00Z")),
            ("attributes", Some(r#"{"ip_address":"192.0.2.7"}"#)),
        ],
    );
    check(&decoded.rows, 1, &[("auction_id", Some("a3")), ("bid_price", Some("5.430000000000"))]);
    assert_eq!(letters(&decoded), [(container, "negative_number".to_owned())]);
    let detail = cell(&decoded.dead_letters, "detail", 0).unwrap();
    assert!(detail.starts_with("1 bad of 3 records: record 2: bid_price: "), "{detail}");
}

#[test]
fn configured_schemas() {
    let schema = r#"{"type":"record","name":"I","fields":[{"name":"ad_creative_id","type":"long"},
        {"name":"user_id","type":"string"},{"name":"timestamp","type":"double"},
        {"name":"website","type":{"type":"enum","name":"W","symbols":["a","b"]}}]}"#;
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::AvroMessage, |source| {
        source.avro.schema = Some(schema.to_owned());
        source.avro.framing = AvroFraming::None;
    });
    let value = Avro::Record(vec![
        ("ad_creative_id".to_owned(), Avro::Long(-5)),
        ("user_id".to_owned(), Avro::String("u".to_owned())),
        ("timestamp".to_owned(), Avro::Double(1_748_736_000.25)),
        ("website".to_owned(), Avro::Enum(1, "b".to_owned())),
    ]);
    let schema = Schema::parse_str(schema).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
    let decoded = push(&mut decoder, &[&datum]);
    check(
        &decoded.rows,
        0,
        &[("ad_creative_id", Some("-5")), ("event_time", Some("2025-06-01T00:00:00.250Z")), ("website", Some("b"))],
    );
}

/// How many records of a container apache-avro reads from its beginning, and whether that is all of
/// them.
fn readable(container: &[u8]) -> (usize, bool) {
    let Ok(reader) = apache_avro::Reader::new(container) else { return (0, false) };
    let records: Vec<_> = reader.collect();
    (records.iter().filter(|record| record.is_ok()).count(), records.iter().all(Result::is_ok))
}

#[test]
fn of_a_damaged_container_the_records_before_the_damage_become_rows() {
    let seed = std::env::var("ADLAKE_FUZZ_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("ADLAKE_FUZZ_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"Plain","fields":[
            {"name":"some_text","type":"string"},{"name":"some_number","type":"long"}]}"#,
    )
    .unwrap();
    let containers = [Codec::Null, Codec::Snappy].map(|codec| {
        let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
        for number in 0..20i64 {
            let text = Avro::String(format!("text {number}"));
            let fields = [("some_text", text), ("some_number", Avro::Long(number * 1000))];
            writer.append_value(Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())).unwrap();
        }
        writer.into_inner().unwrap()
    });
    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
        for (field, default) in [("auction_id", "a"), ("user_id", "u"), ("timestamp", "ingest_time")] {
            source.defaults.insert(field.to_owned(), default.to_owned());
        }
    });
    let mut beside_letters = 0;
    for number in 0..4_000 {
        let mut bytes = containers[number % 2].clone();
        for _ in 0..random.random_range(1..3) {
            let at = random.random_range(4..bytes.len());
            match random.random_range(0..4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.truncate(at.max(5)),
                2 => bytes[at] ^= 1 << random.random_range(0..7),
                _ => bytes.insert(at, [0, 1, 0xff, 0x80][random.random_range(0..4)]),
            }
        }
        let decoded = push(&mut decoder, &[&bytes]);
        let (rows, letters) = (decoded.rows.num_rows(), letters(&decoded));
        let (good, is_whole) = readable(&bytes);
        assert_eq!(rows, good, "{}", String::from_utf8_lossy(&bytes));
        assert!(letters.len() == 1 || (letters.is_empty() && is_whole && good > 0));
        assert!(letters.iter().all(|(payload, _)| *payload == bytes));
        beside_letters += letters.len() * rows;
    }
    assert!(beside_letters > 0);
}
