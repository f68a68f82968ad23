//! Checks invariants of the decoders on arbitrary bytes. It is for property tests and
//! fuzzing, not for programs.
//!
//! The bytes are pushed as one record between two good records. These invariants are checked:
//!
//! - The good records give the same rows as they do alone.
//! - The bytes give rows or dead letters, at least one in all.
//! - A dead letter holds the bytes, or (for a JSON list) a part of them.
//! - The memory held grows with the bytes that were sent.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::decoder::{Decoded, Decoder};
use crate::enrich::{Enrichment, EnrichmentSettings, ReferenceData};
use crate::plan::DecodePlan;
use crate::record::{RecordRef, StreamFormat};
use crate::settings::{SchemaFiles, SourceSettings, ValidationSettings};

/// How many times the bytes of a record a decoder may hold (and a constant more). Many small texts
/// also have offsets.
const GROWTH_MAX: usize = 600;
const NOW: i64 = 1_748_822_400_000_000;

/// The format in which the bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// As a JSON impression.
    Json,
    /// As a JSON bid request, which has nested fields.
    JsonBids,
    /// As a CSV interaction.
    Csv,
    /// As a bid request in an Avro message of any framing.
    Avro,
}

/// A decoder that can be tried repeatedly.
#[derive(Debug)]
pub struct Trier {
    decoder: Decoder,
    good: Vec<u8>,
    alone: RecordBatch,
}

/// What the bytes have become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// The number of rows.
    pub rows: usize,
    /// The number of dead letters.
    pub dead_letters: usize,
}

impl Trier {
    /// A trier for one format.
    pub fn new(trial: Trial) -> Result<Trier, String> {
        let mut source = SourceSettings::default();
        for (field, constant) in [("user_id", "u"), ("timestamp", "ingest_time")] {
            source.defaults.insert(field.to_owned(), constant.to_owned());
        }
        let (kind, format, good) = match trial {
            Trial::Json => (EventKind::Impression, StreamFormat::Json, GOOD_IMPRESSION.to_vec()),
            Trial::JsonBids => (EventKind::BidRequest, StreamFormat::Json, GOOD_BID.to_vec()),
            Trial::Csv => {
                let format = StreamFormat::CSV;
                (EventKind::Interaction, format, GOOD_CLICK.to_vec())
            }
            Trial::Avro => {
                let schema = GOOD_AVRO_SCHEMA.to_owned();
                source.avro.schema = Some(schema);
                (EventKind::BidRequest, StreamFormat::AvroMessage, GOOD_DATUM.to_vec())
            }
        };
        let enrichment = Arc::new(Enrichment::new(&EnrichmentSettings::default(), ReferenceData::default()));
        let plan =
            DecodePlan::new(kind, &source, &SchemaFiles::default(), &format, ValidationSettings::default(), enrichment);
        let plan = plan.map_err(|error| error.to_string())?;
        let mut decoder = Decoder::new(Arc::new(plan), "trial").map_err(|error| error.to_string())?;
        let alone = push(&mut decoder, &[&good, &good, &good])?.rows;
        if alone.num_rows() != 3 {
            return Err("the good record is not good".to_owned());
        }
        Ok(Trier { decoder, good, alone })
    }

    /// Tries bytes. An error says which invariant does not hold.
    pub fn try_bytes(&mut self, bytes: &[u8]) -> Result<Tally, String> {
        for (offset, payload) in [&self.good, bytes, &self.good].into_iter().enumerate() {
            self.decoder.push(record(offset, payload), NOW);
        }
        let held = self.decoder.bytes();
        if held > bytes.len() * GROWTH_MAX + (64 << 10) {
            return Err(format!("{held} bytes are held for {}", bytes.len()));
        }
        let decoded = self.decoder.finish().map_err(|error| error.to_string())?;
        let offsets = offsets(&decoded.rows)?;
        let own = offsets.iter().filter(|offset| **offset == 1).count();
        if offsets.first() != Some(&0) || offsets.last() != Some(&2) || offsets.len() != own + 2 {
            return Err(format!("the good records are not where they were: {offsets:?}"));
        }
        for (column, alone) in decoded.rows.columns().iter().zip(self.alone.columns()) {
            let last = offsets.len() - 1;
            if column.slice(0, 1) != alone.slice(0, 1) || column.slice(last, 1) != alone.slice(2, 1) {
                return Err(format!("a good record has changed: {column:?}, alone {alone:?}"));
            }
        }
        let letters = &decoded.dead_letters;
        let payloads = letters.column_by_name("payload").and_then(|column| column.as_binary_opt::<i32>());
        for payload in payloads.ok_or("dead letters lack their payload")?.iter().flatten() {
            if !(payload.is_empty() && bytes.is_empty()) && memchr::memmem::find(bytes, payload).is_none() {
                return Err(format!("a dead letter is not what was sent: {payload:?}"));
            }
        }
        let tally = Tally { rows: own, dead_letters: letters.num_rows() };
        if tally == Tally::default() { Err("the bytes are lost".to_owned()) } else { Ok(tally) }
    }
}

fn record(offset: usize, payload: &[u8]) -> RecordRef<'_> {
    RecordRef { payload, key: None, partition: 0, offset: offset as i64, time: Some(NOW) }
}

fn push(decoder: &mut Decoder, payloads: &[&[u8]]) -> Result<Decoded, String> {
    for (offset, payload) in payloads.iter().enumerate() {
        decoder.push(record(offset, payload), NOW);
    }
    decoder.finish().map_err(|error| error.to_string())
}

fn offsets(rows: &RecordBatch) -> Result<Vec<i64>, String> {
    let source = rows.column_by_name("source").and_then(|column| column.as_struct_opt());
    let offsets = source.and_then(|source| source.column_by_name("offset")?.as_primitive_opt::<Int64Type>());
    Ok(offsets.ok_or("rows lack their offsets")?.values().to_vec())
}

/// A good impression to start from.
pub const GOOD_IMPRESSION: &[u8] =
    br#"{"ad_creative_id":"c","user_id":"u\u00e9","timestamp":1748736000,"website":"w","width":300,
    "viewable":true,"cost_micros":1500,"x":{"y":[1,2.5,null]}}"#;
/// A good bid request to start from.
pub const GOOD_BID: &[u8] = br#"{"id":"a","imp":[{"id":"1","banner":{"w":300,"h":250},"bidfloor":0.5,"ext":{"a":1}}],
    "site":{"domain":"d","publisher":{"id":"p"}},"device":{"geo":{"country":"DEU","lat":52.5},"devicetype":2},
    "cur":["USD"],"badv":["x"],"ts":1748736000,"targeting":{"k":"v"}}"#;
/// A good click to start from.
pub const GOOD_CLICK: &[u8] = b"1748736000,\"u \"\"1\"\"\",k,click,e1,c1,,,1.25,USD,2";
/// The schema of [`GOOD_DATUM`].
pub const GOOD_AVRO_SCHEMA: &str = r#"{"type":"record","name":"Bid","fields":[{"name":"auction_id","type":"string"},
    {"name":"user_id","type":["null","string"]},{"name":"timestamp","type":"long"},
    {"name":"bid_price","type":["null","double",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]},
    {"name":"cur","type":{"type":"array","items":"string"}},
        {"name":"targeting","type":{"type":"map","values":["null","string"]}},
    {"name":"tree","type":["null",{"type":"record","name":"Node","fields":[{"name":"v","type":"int"},
        {"name":"next","type":["null","Node"]}]}]}]}"#;
/// Auction "ab", user "u", time 1748736000, a price of 1.5, one currency, one targeting entry, a
/// tree of two nodes.
pub const GOOD_DATUM: &[u8] = &[
    4, b'a', b'b', 2, 2, b'u', 0x80, 0xe0, 0xdc, 0x83, 0x0d, 2, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 2, 6, b'U', b'S', b'D',
    0, 2, 2, b'k', 2, 2, b'v', 0, 2, 2, 2, 4, 0,
];
