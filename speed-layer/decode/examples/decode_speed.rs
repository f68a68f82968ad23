//! Measures how fast records become columns: decode, validate, enrich and hash, on one thread, by
//! format.
//!
//! `cargo run --release -p adlake-decode --example decode_speed [ROWS [NAME]]` prints rows per
//! second and nanoseconds per row. It measures JSON impressions of about 270 bytes, the same with a
//! user agent, CSV clicks and conversions, Avro bid requests of our own schema, and OpenRTB bid
//! requests as JSON.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use adlake_decode::avro::bid_request_avro_schema;
use adlake_decode::enrich::{Enrichment, EnrichmentSettings, ReferenceData};
use adlake_decode::error::DecodeError;
use adlake_decode::record::{RecordRef, StreamFormat};
use adlake_decode::settings::{SchemaFiles, SourceSettings, ValidationSettings};
use adlake_decode::{DecodePlan, Decoder};
use adlake_domain::event::EventKind;
use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

/// The time of ingest: 2025-06-02T00:00:00Z.
const NOW: i64 = 1_748_822_400_000_000;
/// The number of distinct records of each format. They repeat until there are enough.
const DISTINCT: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: usize = std::env::args().nth(1).map_or(Ok(2_000_000), |text| text.parse())?;
    let enrichment = Arc::new(Enrichment::new(&EnrichmentSettings::default(), reference()));
    let json = StreamFormat::Json;
    let csv = StreamFormat::CSV;
    let impressions: Vec<Vec<u8>> = (0..DISTINCT).map(|n| impression(n, "").into_bytes()).collect();
    measure("JSON impressions", EventKind::Impression, &json, &enrichment, &impressions, rows)?;
    let with_agents: Vec<Vec<u8>> = (0..DISTINCT).map(|n| impression(n, &user_agent(n)).into_bytes()).collect();
    measure("JSON impressions, user agent", EventKind::Impression, &json, &enrichment, &with_agents, rows)?;
    let interactions: Vec<Vec<u8>> = (0..DISTINCT).map(|n| interaction(n).into_bytes()).collect();
    measure("CSV clicks and conversions", EventKind::Interaction, &csv, &enrichment, &interactions, rows)?;
    let schema = Schema::parse_str(bid_request_avro_schema())?;
    let writer = GenericDatumWriter::builder(&schema).build()?;
    let bids = (0..DISTINCT).map(|n| writer.write_value_to_vec(bid(n))).collect::<Result<Vec<_>, _>>()?;
    measure("Avro bid requests", EventKind::BidRequest, &StreamFormat::AvroMessage, &enrichment, &bids, rows / 4)?;
    let openrtb: Vec<Vec<u8>> = (0..DISTINCT).map(|n| open_rtb(n).into_bytes()).collect();
    measure("OpenRTB bid requests as JSON", EventKind::BidRequest, &json, &enrichment, &openrtb, rows / 4)?;
    Ok(())
}

fn measure(
    name: &str,
    kind: EventKind,
    format: &StreamFormat,
    enrichment: &Arc<Enrichment>,
    payloads: &[Vec<u8>],
    rows: usize,
) -> Result<(), DecodeError> {
    if std::env::args().nth(2).is_some_and(|wanted| !name.contains(&wanted)) {
        return Ok(());
    }
    let (source, files) = (SourceSettings::default(), SchemaFiles::default());
    let plan = DecodePlan::new(kind, &source, &files, format, ValidationSettings::default(), enrichment.clone())?;
    let mut decoder = Decoder::new(Arc::new(plan), "topic")?;
    let mut best = f64::MAX;
    let mut finish = 0.0;
    let mut rejected = 0;
    for _ in 0..3 {
        let start = Instant::now();
        let mut finishing = 0.0;
        for (offset, payload) in payloads.iter().cycle().take(rows).enumerate() {
            let record = RecordRef { payload, key: None, partition: 0, offset: offset as i64, time: Some(NOW) };
            decoder.push(record, NOW);
            if decoder.rows() == 100_000 {
                let before = Instant::now();
                rejected += decoder.finish()?.dead_letters.num_rows();
                finishing += before.elapsed().as_secs_f64();
            }
        }
        rejected += decoder.finish()?.dead_letters.num_rows();
        let seconds = start.elapsed().as_secs_f64();
        if seconds < best {
            (best, finish) = (seconds, finishing);
        }
    }
    let bytes = payloads.iter().map(Vec::len).sum::<usize>() / payloads.len();
    let (per_second, nanos) = (rows as f64 / best, best * 1e9 / rows as f64);
    let finish = finish * 1e9 / rows as f64;
    println!(
        "{name:30} {bytes:5} bytes  {per_second:10.0} rows/s  {nanos:6.0} ns a row, \
         {finish:.0} of them in finish  rejected {rejected}"
    );
    Ok(())
}

fn reference() -> ReferenceData {
    let mut reference = ReferenceData::default();
    for n in 0..500 {
        reference.campaigns.insert(format!("cr-{n}"), format!("cmp-{}", n % 50));
    }
    for n in 0..50 {
        reference.advertisers.insert(format!("cmp-{n}"), format!("adv-{}", n % 7));
    }
    for day in 20_000..20_400 {
        reference.rates.insert((day, "EUR".to_owned()), 1_100_000_000_000);
    }
    reference
}

fn time(n: usize) -> String {
    format!("2025-06-01T{:02}:{:02}:{:02}.{:06}Z", n / 3600 % 24, n / 60 % 60, n % 60, n * 37 % 1_000_000)
}

fn user_agent(n: usize) -> String {
    let version = 100 + n % 40;
    format!(
        concat!(
            r#","user_agent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) "#,
            r#"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36""#
        ),
        version = version,
    )
}

fn impression(n: usize, more: &str) -> String {
    format!(
        concat!(
            r#"{{"impression_id":"imp-{n:012}","ad_creative_id":"cr-{}","campaign_id":"cmp-{}","#,
            r#""user_id":"user-{:08}","timestamp":"{}","website":"news{}.example.com","#,
            r#""cost_micros":{},"currency":"USD","country":"US","device_type":"mobile","#,
            r#""viewable":{}{more}}}"#
        ),
        n % 500,
        n % 50,
        n * 7919 % 100_000,
        time(n),
        n % 100,
        1000 + n % 3000,
        n.is_multiple_of(3),
        n = n,
        more = more,
    )
}

fn interaction(n: usize) -> String {
    let kind = ["click", "purchase", "signup"][n % 3];
    format!(
        "{},user-{:08},cmp-{},{kind},ev-{n:010},cr-{},,order-{n},{}.{:02},EUR,1,DE,mobile,\n",
        time(n),
        n * 7919 % 100_000,
        n % 50,
        n % 500,
        n % 200,
        n % 100,
    )
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn text(value: impl Into<String>) -> Value {
    some(Value::String(value.into()))
}

/// A record with these fields. The others are null.
fn record<'a>(names: &[&'a str], mut values: HashMap<&'a str, Value>) -> Value {
    let null = || Value::Union(0, Box::new(Value::Null));
    Value::Record(names.iter().map(|name| ((*name).to_owned(), values.remove(name).unwrap_or_else(null))).collect())
}

fn bid(n: usize) -> Value {
    let banner = Value::Record(vec![
        ("w".to_owned(), some(Value::Int(300))),
        ("h".to_owned(), some(Value::Int(250))),
        ("pos".to_owned(), some(Value::Int(1))),
    ]);
    let imp = record(
        &["id", "tagid", "instl", "secure", "bidfloor", "bidfloorcur", "banner", "video"],
        HashMap::from([
            ("id", text("1")),
            ("bidfloor", some(Value::Double(0.5))),
            ("bidfloorcur", text("USD")),
            ("banner", some(banner)),
        ]),
    );
    let site = record(
        &["id", "name", "domain", "page", "ref", "cat", "mobile", "publisher"],
        HashMap::from([
            ("domain", text(format!("news{}.example.com", n % 100))),
            ("page", text(format!("https://news{}.example.com/{n}", n % 100))),
        ]),
    );
    let geo = record(
        &["lat", "lon", "country", "region", "city", "zip", "type"],
        HashMap::from([
            ("lat", some(Value::Double(52.5))),
            ("lon", some(Value::Double(13.4))),
            ("country", text("DEU")),
            ("region", text("BE")),
        ]),
    );
    let device = record(
        &[
            "ua",
            "ip",
            "ipv6",
            "devicetype",
            "make",
            "model",
            "os",
            "osv",
            "language",
            "connectiontype",
            "ifa",
            "lmt",
            "geo",
        ],
        HashMap::from([
            ("ua", text("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148")),
            ("ip", text("192.0.2.7")),
            ("devicetype", some(Value::Int(4))),
            ("geo", some(geo)),
        ]),
    );
    let price = |micros: i64| some(Value::Decimal(micros.to_be_bytes().to_vec().into()));
    record(
        &[
            "auction_id",
            "user_id",
            "timestamp",
            "imp",
            "at",
            "tmax",
            "cur",
            "site",
            "app",
            "device",
            "user",
            "wseat",
            "bcat",
            "badv",
            "targeting",
            "imp_id",
            "campaign_id",
            "ad_creative_id",
            "bid_price",
            "clearing_price",
            "won",
        ],
        HashMap::from([
            ("auction_id", Value::String(format!("auction-{n:010}"))),
            ("user_id", Value::String(format!("user-{:08}", n * 7919 % 100_000))),
            ("timestamp", Value::TimestampMicros(NOW - 1_000_000 * (n as i64 % 86_400))),
            ("imp", some(Value::Array(vec![imp]))),
            ("at", some(Value::Int(2))),
            ("cur", some(Value::Array(vec![Value::String("USD".to_owned())]))),
            ("site", some(site)),
            ("device", some(device)),
            ("campaign_id", text(format!("cmp-{}", n % 50))),
            ("ad_creative_id", text(format!("cr-{}", n % 500))),
            ("bid_price", price(2_500_000)),
            ("clearing_price", price(1_900_000)),
            ("won", some(Value::Boolean(n.is_multiple_of(2)))),
        ]),
    )
}

fn open_rtb(n: usize) -> String {
    format!(
        concat!(
            r#"{{"id":"auction-{n:010}","imp":[{{"id":"1","banner":{{"w":300,"h":250,"pos":1}},"bidfloor":0.5,"#,
            r#""bidfloorcur":"USD","ext":{{"bidder":7}}}}],"#,
            r#""at":2,"cur":["USD"],"site":{{"domain":"news{}.example.com","#,
            r#""page":"https://news{}.example.com/{n}","publisher":{{"id":"p1"}}}},"#,
            r#""device":{{"ua":"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) "#,
            r#"AppleWebKit/605.1.15 Mobile/15E148","ip":"192.0.2.7","devicetype":4,"#,
            r#""geo":{{"lat":52.5,"lon":13.4,"country":"DEU","region":"BE"}}}},"user":{{"id":"user-{:08}"}},"#,
            r#""ext":{{"ts":{}}}}}"#
        ),
        n % 100,
        n % 100,
        n * 7919 % 100_000,
        NOW / 1000 - (n as i64 % 86_400) * 1000,
        n = n,
    )
}
