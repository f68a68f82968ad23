//! Reads the same datums and CSV rows on the fast path and on the general one: the rows, the dead
//! letters and their details are equal.

use apache_avro::Schema;
use apache_avro::schema::UnionSchema;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::avro::{AvroPlan, bid_request_avro_schema};
use crate::mapping::Mapping;
use crate::plan::PlanFormat;
use crate::settings::AvroFraming;

/// A bid request with a foreign schema: types that differ from the columns', members that no column
/// has, names that two fields have.
const FOREIGN: &str = r#"{"type":"record","name":"Foreign","fields":[
    {"name":"auction_id","type":["null","string","long"]},
    {"name":"user_id","type":{"type":"enum","name":"Who","symbols":["a","b"]}},
    {"name":"timestamp","type":[{"type":"long","logicalType":"timestamp-millis"},"null"]},
    {"name":"tmax","type":"long"},
    {"name":"at","type":["int","null"]},
    {"name":"bid_price","type":["null","double","float",
        {"type":"bytes","logicalType":"decimal","precision":20,"scale":3}]},
    {"name":"price","type":["null","double"]},
    {"name":"cur","type":{"type":"array","items":["null","string"]}},
    {"name":"bcat","type":["null","string",{"type":"array","items":"string"}]},
    {"name":"more","type":["null","string"]},
    {"name":"targeting","type":["null",{"type":"map","values":["null","string","int"]}]},
    {"name":"imp","type":["null",{"type":"array","items":["null",{"type":"record","name":"Imp","fields":[
        {"name":"ext","type":["null",{"type":"map","values":"int"}]},
        {"name":"id","type":["null","string","bytes"]},
        {"name":"secure","type":["null","long"]},
        {"name":"bidfloor","type":["null","float","double","int"]},
        {"name":"banner","type":["null",{"type":"record","name":"Banner","fields":[
            {"name":"w","type":"int"},{"name":"format","type":{"type":"array","items":"int"}},
                {"name":"h","type":["null","long"]}]}]}
    ]}]}]},
    {"name":"device","type":{"type":"record","name":"Device","fields":[
        {"name":"ua","type":["null","string"]},
        {"name":"geo","type":["null",{"type":"record","name":"Geo","fields":[
            {"name":"lat","type":["null","double"]},{"name":"country","type":"string"},
            {"name":"near","type":["null","Geo"]}]}]},
        {"name":"devicetype","type":["null","long"]}]}},
    {"name":"site","type":["null",{"type":"map","values":"string"}]},
    {"name":"won","type":["null","boolean"]},
    {"name":"targeting_criteria","type":["null",{"type":"array","items":"int"},{"type":"map","values":"int"}]},
    {"name":"user","type":["null","string",{"type":"record","name":"User","fields":[{"name":"id","type":"string"},
        {"name":"data","type":["null","string",{"type":"array","items":"string"}]}]}]},
    {"name":"crid","type":"string"},
    {"name":"creative_id","type":["null","string","bytes"]}
]}"#;

/// Writes a random value of a schema, mostly one that is accepted.
fn write(schema: &Schema, named: &[Schema], random: &mut SmallRng, depth: usize, out: &mut Vec<u8>) {
    let odd = random.random_range(0..400) == 0;
    match schema {
        Schema::Null => {}
        Schema::Boolean => out.push(random.random_range(0..2)),
        Schema::Int if odd => long(random.random_range(-5..1 << 31), out),
        Schema::Int => long(random.random_range(0..5000), out),
        Schema::Long if odd => long(random.random(), out),
        Schema::Long => long(random.random_range(0..5000), out),
        Schema::TimestampMillis | Schema::TimestampMicros => long(random.random_range(0..1_700_000_000_000), out),
        Schema::Float => out.extend((random.random_range(0..4000) as f32 / 8.0).to_le_bytes()),
        Schema::Double if odd => out.extend(f64::NAN.to_le_bytes()),
        Schema::Double => out.extend(random.random_range(-1.0..90.0f64).to_le_bytes()),
        Schema::Bytes | Schema::String | Schema::Decimal(_) => {
            let texts: [&[u8]; 8] = [b"", b"x", b"USD", b"12", b"a\"b\nc", "é".as_bytes(), b"[1]", b"1"];
            let text = if odd { &[0xff, 0xfe][..] } else { texts[random.random_range(0..texts.len())] };
            long(text.len() as i64, out);
            out.extend(text);
        }
        Schema::Enum(known) => long(random.random_range(0..known.symbols.len() as i64 + i64::from(odd)), out),
        Schema::Array(array) => items(random, depth, out, |random, out| {
            write(&array.items, named, random, depth + 1, out);
        }),
        Schema::Map(map) => items(random, depth, out, |random, out| {
            let key = ["a", "b", "c"][random.random_range(0..3)];
            long(key.len() as i64, out);
            out.extend(key.as_bytes());
            write(&map.types, named, random, depth + 1, out);
        }),
        Schema::Union(union) => branch(union, named, random, depth, odd, out),
        Schema::Record(record) => {
            for field in &record.fields {
                write(&field.schema, named, random, depth + 1, out);
            }
        }
        Schema::Ref { name } => {
            let known = named.iter().find(|schema| schema.name() == Some(name)).unwrap();
            write(known, named, random, depth + 1, out);
        }
        other => panic!("no values of {other:?}"),
    }
}

fn branch(union: &UnionSchema, named: &[Schema], random: &mut SmallRng, depth: usize, odd: bool, out: &mut Vec<u8>) {
    let variants = union.variants();
    let ends = variants.iter().position(|variant| *variant == Schema::Null).filter(|_| depth > 6);
    let index = ends.unwrap_or_else(|| random.random_range(0..variants.len()));
    long(index as i64 + i64::from(odd && depth > 2 && ends.is_none()) * variants.len() as i64, out);
    write(&variants[index], named, random, depth, out);
}

/// Writes blocks of items, with or without the block's size before them.
fn items(random: &mut SmallRng, depth: usize, out: &mut Vec<u8>, mut item: impl FnMut(&mut SmallRng, &mut Vec<u8>)) {
    for _ in 0..random.random_range(0..if depth > 6 { 1 } else { 3 }) {
        let count = random.random_range(1..4);
        let mut block = Vec::new();
        (0..count).for_each(|_| item(random, &mut block));
        if random.random() {
            long(count, out);
        } else {
            long(-count, out);
            long(block.len() as i64, out);
        }
        out.extend(block);
    }
    out.push(0);
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn named(schema: &Schema, found: &mut Vec<Schema>) {
    match schema {
        Schema::Record(record) => {
            found.push(schema.clone());
            record.fields.iter().for_each(|field| named(&field.schema, found));
        }
        Schema::Array(array) => named(&array.items, found),
        Schema::Map(map) => named(&map.types, found),
        Schema::Union(union) => union.variants().iter().for_each(|variant| named(variant, found)),
        _ => {}
    }
}

/// A decoder of datums of a schema, with the fast path or without.
fn datums(schema: &str, by_plan: bool, change: fn(&mut SourceSettings)) -> Decoder {
    let mut source = SourceSettings::default();
    source.avro.framing = AvroFraming::None;
    source.avro.schema = Some(schema.to_owned());
    change(&mut source);
    let enrichment = Arc::new(Enrichment::new(&EnrichmentSettings::default(), ReferenceData::default()));
    let format = StreamFormat::AvroMessage;
    let validation = ValidationSettings::default();
    let files = SchemaFiles::default();
    let mut plan = DecodePlan::new(EventKind::BidRequest, &source, &files, &format, validation, enrichment).unwrap();
    let PlanFormat::Avro(avro) = &mut plan.format else { panic!("not Avro") };
    assert!(by_plan || avro.read_in_the_general_way() > 0, "nothing is read by plan");
    Decoder::new(Arc::new(plan), "topic").unwrap()
}

/// The number of rows from good datums, and of dead letters from the others.
fn check(schema: &str, change: fn(&mut SourceSettings)) -> (usize, usize) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let parsed = Schema::parse_str(schema).unwrap();
    let mut definitions = Vec::new();
    named(&parsed, &mut definitions);
    let payloads: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let mut payload = Vec::new();
            write(&parsed, &definitions, &mut random, 0, &mut payload);
            match random.random_range(0..12) {
                0 => payload.truncate(random.random_range(0..=payload.len())),
                1 if !payload.is_empty() => {
                    let at = random.random_range(0..payload.len());
                    payload[at] ^= 1 << random.random_range(0..8);
                }
                _ => {}
            }
            payload
        })
        .collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let [planned, general] = [true, false].map(|by_plan| push(&mut datums(schema, by_plan, change), &payloads));
    assert_eq!(planned.rows, general.rows, "seed {seed}");
    assert_eq!(planned.dead_letters, general.dead_letters, "seed {seed}");
    assert_eq!(planned.misshapen, general.misshapen, "seed {seed}");
    (planned.rows.num_rows(), planned.dead_letters.num_rows())
}

#[test]
fn plans_give_what_the_general_way_gives() {
    for (schema, change) in [
        (bid_request_avro_schema(), (|_| ()) as fn(&mut SourceSettings)),
        (FOREIGN, |_| ()),
        (FOREIGN, |source| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            source.fields.insert("imp_id".to_owned(), names(&["imp[0].id"]));
            source.fields.insert("campaign_id".to_owned(), names(&["more", "price"]));
            source.defaults.insert("user_id".to_owned(), "nobody".to_owned());
            source.defaults.insert("event_time".to_owned(), "record_time".to_owned());
        }),
        (bid_request_avro_schema(), |source| {
            // These defaults replace the record's own empty texts.
            source.defaults.insert("auction_id".to_owned(), "none".to_owned());
            source.defaults.insert("campaign_id".to_owned(), "none".to_owned());
            source.defaults.insert("bid_price".to_owned(), "1".to_owned());
        }),
        (FOREIGN, |source| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            source.fields.insert("targeting".to_owned(), names(&["targeting_criteria"]));
            source.defaults.insert("auction_id".to_owned(), "none".to_owned());
            source.defaults.insert("ad_creative_id".to_owned(), "none".to_owned());
        }),
    ] {
        let (rows, dead) = check(schema, change);
        println!("{rows} rows, {dead} dead letters");
        assert!(rows > 300 && dead > 300, "{rows} rows, {dead} dead letters");
    }
}

#[test]
fn a_plan_is_no_larger_than_it_may_be() {
    // A type that is named `branches` times is written once, but would be in the plan as often.
    let planned = |branches: usize, unknown: usize| {
        let members: Vec<String> = (0..unknown).map(|n| format!(r#"{{"name":"x{n}","type":"int"}}"#)).collect();
        let publisher = format!(r#"{{"type":"record","name":"B","fields":[{}]}}"#, members.join(","));
        let site = |n: usize| {
            let publisher = if n == 0 { &publisher } else { r#""B""# };
            format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"publisher","type":{publisher}}}]}}"#)
        };
        let sites: Vec<String> = (0..branches).map(site).collect();
        let schema = format!(
            r#"{{"type":"record","name":"Bid","fields":[{{"name":"auction_id","type":"string"}},
                {{"name":"user_id","type":"string"}},{{"name":"timestamp","type":"long"}},
                    {{"name":"site","type":[{}]}}]}}"#,
            sites.join(",")
        );
        let source = SourceSettings::default();
        let mapping = Mapping::new(EventKind::BidRequest, &source).unwrap();
        let format = StreamFormat::AvroDatum { schema };
        let mut plan =
            AvroPlan::new(EventKind::BidRequest, &source, &SchemaFiles::default(), &format, &mapping).unwrap();
        plan.read_in_the_general_way()
    };
    assert_eq!(planned(3, 10), 4);
    assert_eq!(planned(200, 50), 3, "a site is read in the general way");
}

/// A row of an interaction. Most cells are good, some are rejected, some rows have too few or too
/// many cells.
fn csv_row(random: &mut SmallRng) -> String {
    let cell = |texts: &[&str], random: &mut SmallRng| texts[random.random_range(0..texts.len())].to_owned();
    let odd = |random: &mut SmallRng, good: &[&str], bad: &[&str]| {
        if random.random_range(0..40) == 0 { cell(bad, random) } else { cell(good, random) }
    };
    let columns = Mapping::new(EventKind::Interaction, &SourceSettings::default()).unwrap().default_columns();
    let cells = columns.iter().map(|name| match name.as_str() {
        "timestamp" => odd(
            random,
            &["2025-06-01T10:00:00Z", "1748736000", "20250601T1000", "2025-06-01 10:00 UTC", "01.06.2025"],
            &["", "never", "2031-01-01", "-1", "14102100"],
        ),
        "conversion_type" => odd(random, &["click", "purchase"], &["", "é"]),
        "value" => odd(random, &["", "12.5", "0"], &["x", "1e40", "-3", "1,5", "10000000001"]),
        "currency" => odd(random, &["", "USD"], &["ZZZ"]),
        "quantity" => odd(random, &["", "3"], &["3.5", "99999999999", "-1", "9999999999999"]),
        "user_id" => odd(random, &["u1", "u2"], &["", "null"]),
        _ => cell(&["", "a", "long enough to be more than one word", "é"], random),
    });
    let mut cells: Vec<String> = cells.collect();
    match random.random_range(0..30) {
        0 => cells.truncate(random.random_range(0..cells.len())),
        1 => cells.push("more".to_owned()),
        _ => {}
    }
    cells.join(",")
}

#[test]
fn rows_in_their_types_at_once_are_what_they_are_otherwise() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let payloads: Vec<String> = (0..4000).map(|_| csv_row(&mut random)).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(String::as_bytes).collect();
    // Without defaults, with some, and with two columns for one field.
    for (defaults, second_user) in [(false, None), (true, None), (true, Some("ad_creative_id"))] {
        let mut source = SourceSettings { time_formats: vec!["%d.%m.%Y".to_owned()], ..SourceSettings::default() };
        if defaults {
            for (field, text) in [("user_id", "nobody"), ("campaign_id", ""), ("currency", "USD"), ("quantity", "1")] {
                source.defaults.insert(field.to_owned(), text.to_owned());
            }
            source.defaults.insert("timestamp".to_owned(), "record_time".to_owned());
        }
        if let Some(second) = second_user {
            source.fields.insert("user_id".to_owned(), vec![second.to_owned()]);
        }
        let decoded = [true, false].map(|at_once| {
            let enrichment = Arc::new(Enrichment::new(&EnrichmentSettings::default(), ReferenceData::default()));
            let validation = ValidationSettings::default();
            let (kind, files) = (EventKind::Interaction, SchemaFiles::default());
            let mut plan = DecodePlan::new(kind, &source, &files, &csv(), validation, enrichment).unwrap();
            let PlanFormat::Csv(columns) = &mut plan.format else { panic!("not CSV") };
            assert!(at_once || columns.read_in_the_general_way() > 10, "nothing is read at once");
            push(&mut Decoder::new(Arc::new(plan), "topic").unwrap(), &payloads)
        });
        let [at_once, general] = decoded;
        assert_eq!(at_once.rows, general.rows, "seed {seed}");
        assert_eq!(at_once.dead_letters, general.dead_letters, "seed {seed}");
        assert!(at_once.rows.num_rows() > 2000 && at_once.dead_letters.num_rows() > 200, "{:?}", at_once.reasons);
    }
}
