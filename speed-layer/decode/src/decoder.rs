//! Turns records into columns: decode, validate, enrich, hash. A bad record becomes a dead letter
//! and leaves no other trace.
//!
//! A record is first read as a whole into a [`Row`]: the value that each field gets, and the
//! values that no field takes. Then the values are converted and checked. (A value is converted
//! while it is read if its field is already certain.) Only then is anything appended to columns. So
//! each record is either rows or a dead letter, and a bad record does not affect its neighbours.
//!
//! A message of several records gives a row for each good record. In a JSON list, each bad element
//! is a dead letter of its own. An Avro container with any bad record is one dead letter as a
//! whole, beside the rows of its good records.
//!
//! The formats differ only in how they offer values to the row: [`crate::json`], [`crate::csv`],
//! [`crate::avro`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bumpalo::Bump;

use crate::attributes::Attributes;
use crate::avro::{AvroPlan, Framed, MappedSchema, SchemaCache, container, datum, unpack};
use crate::batch::{Accepted, BatchBuilder};
use crate::cell::Cell;
use crate::csv::{self, CsvReader};
use crate::dead_letters::DeadLetters;
use crate::enrich::Enricher;
use crate::error::DecodeError;
use crate::json::{self, KeyMemo};
use crate::judge::{judge, judge_added};
use crate::mapping;
use crate::plan::{DecodePlan, PlanFormat};
use crate::record::{RecordRef, Rejection};
use crate::reject::{Reason, Reject};
use crate::row::Row;
use crate::validate::check_time;

/// The result of the records pushed since the last batch.
#[derive(Debug)]
pub struct Decoded {
    /// The good records, as `schema::raw_schema(kind)`.
    pub rows: RecordBatch,
    /// The bad records, as `schema::dead_letters_schema()`.
    pub dead_letters: RecordBatch,
    /// The number of bad records by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// By field: the number of good records in which the field has the wrong shape. Its value is
    /// kept among the attributes.
    pub misshapen: BTreeMap<String, u64>,
}

/// Decodes the records of one source, batch after batch.
///
/// The texts of one column of one batch must stay below 2 GiB. Finish the batch well before
/// [`Decoder::bytes`] reaches that.
#[derive(Debug)]
pub struct Decoder {
    topic: String,
    plan: Arc<DecodePlan>,
    stage: Stage,
    dead_letters: DeadLetters,
    arena: Bump,
    memo: KeyMemo,
    csv: CsvReader,
    schemas: SchemaCache,
    unpacked: Vec<u8>,
}

/// The part of a decoder that checks rows and appends them.
#[derive(Debug)]
struct Stage {
    attributes: Attributes,
    enricher: Enricher,
    batch: BatchBuilder,
    /// By field: the number of rows in which it was sent in the wrong shape.
    misshapen: BTreeMap<usize, u64>,
}

impl Decoder {
    /// A decoder for the records of `topic`, or of the file with that path.
    pub fn new(plan: Arc<DecodePlan>, topic: &str) -> Result<Decoder, DecodeError> {
        if matches!(plan.format, PlanFormat::Avro(_)) {
            // The limit holds for the whole program. Only the first call sets it.
            apache_avro::util::max_allocation_bytes(container::UNPACKED_BYTES_MAX);
        }
        Ok(Decoder {
            topic: topic.to_owned(),
            dead_letters: DeadLetters::new(plan.kind),
            stage: Stage {
                attributes: Attributes::default(),
                enricher: Enricher::new(plan.kind),
                batch: BatchBuilder::new(plan.kind, plan.mapping.added())?,
                misshapen: BTreeMap::new(),
            },
            arena: Bump::new(),
            memo: KeyMemo::default(),
            csv: plan.csv_reader(),
            schemas: SchemaCache::default(),
            unpacked: Vec::new(),
            plan,
        })
    }

    /// Decodes a record into a row or a dead letter. A message of several records may give several
    /// of each.
    #[inline]
    pub fn push(&mut self, record: RecordRef<'_>, ingested_at: i64) {
        if let Err(reject) = self.decode(record, ingested_at, &|_| false) {
            self.dead_letters.push(record, reject.reason.name(), &reject.detail, ingested_at);
        }
    }

    /// Decodes a record that was read before. Payloads that are dead letters already stay dead
    /// letters and are skipped. `is_dead` knows the payloads of the dead letters from the record's
    /// position.
    #[inline]
    pub fn push_again(&mut self, record: RecordRef<'_>, ingested_at: i64, is_dead: &dyn Fn(&[u8]) -> bool) {
        if !is_dead(record.payload) {
            if let Err(reject) = self.decode(record, ingested_at, is_dead) {
                self.dead_letters.push(record, reject.reason.name(), &reject.detail, ingested_at);
            }
        } else if self.plan.is_container(record.payload) {
            // The whole message is stored as one dead letter because of its bad records. Its good
            // records are not stored yet.
            let _ = self.decode(record, ingested_at, is_dead);
        }
    }

    /// Makes a dead letter of bytes that were rejected before they reached the decoder.
    pub fn reject(&mut self, record: RecordRef<'_>, rejection: &Rejection, ingested_at: i64) {
        self.dead_letters.push_fragment(record, rejection.reason, &rejection.detail, ingested_at);
    }

    /// Stores the format with every dead letter, where the configuration does not name it.
    #[must_use]
    pub fn written_as(mut self, written: Option<String>) -> Decoder {
        self.dead_letters.written_as(written);
        self
    }

    fn decode(
        &mut self,
        record: RecordRef<'_>,
        ingested_at: i64,
        is_dead: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), Reject> {
        let Decoder { plan, stage, arena, memo, csv, schemas, dead_letters, unpacked, .. } = self;
        let plan = &**plan;
        let payload = record.payload;
        if payload.is_empty() {
            return Err(Reject::new(Reason::EmptyRecord, "the payload is empty"));
        }
        arena.reset();
        match &plan.format {
            PlanFormat::Json => {
                let payload = json::without_mark(payload);
                if !json::is_list(payload) {
                    return stage
                        .row(plan, arena, record, ingested_at, |row| json::read(payload, plan.kind, memo, row));
                }
                for element in json::elements(payload, plan.kind, plan.records_max)? {
                    arena.reset();
                    let record = RecordRef { payload: element, ..record };
                    if is_dead(element) {
                        continue;
                    }
                    let outcome =
                        stage.row(plan, arena, record, ingested_at, |row| json::read(element, plan.kind, memo, row));
                    if let Err(reject) = outcome {
                        dead_letters.push(record, reject.reason.name(), &reject.detail, ingested_at);
                    }
                }
                Ok(())
            }
            PlanFormat::Csv(columns) => {
                stage.row(plan, arena, record, ingested_at, |row| csv::read(payload, columns, csv, row))
            }
            PlanFormat::Avro(avro) => match avro.frame(payload)? {
                Framed::Datum(schema, bytes) => stage.datum(plan, arena, record, ingested_at, bytes, schema),
                Framed::Registered(id, bytes) => {
                    let schema = schemas.registered(id, avro, &plan.mapping)?;
                    stage.datum(plan, arena, record, ingested_at, bytes, &schema)
                }
                Framed::Packed(schema, bytes) => {
                    unpack(bytes, unpacked)?;
                    let outcome = stage.datum(plan, arena, record, ingested_at, unpacked, schema);
                    if unpacked.capacity() > ARENA_BYTES_MAX {
                        *unpacked = Vec::new();
                    }
                    outcome
                }
                Framed::Either { schema, framed, bare } => {
                    match stage.datum(plan, arena, record, ingested_at, framed, schema) {
                        Err(reject) if reject.is_not_a_datum() => {
                            arena.reset();
                            stage.datum(plan, arena, record, ingested_at, bare, schema)
                        }
                        framed => framed,
                    }
                }
                Framed::Unless { schema, bare, otherwise } => {
                    match stage.datum(plan, arena, record, ingested_at, bare, schema) {
                        Err(reject) if reject.is_not_a_datum() => Err(otherwise),
                        outcome => outcome,
                    }
                }
                Framed::Container => stage.container(plan, arena, record, ingested_at, avro, schemas),
            },
        }
    }

    /// Rows decoded since the last batch.
    #[inline]
    pub fn rows(&self) -> usize {
        self.stage.batch.rows()
    }

    /// Records rejected since the last batch.
    #[inline]
    pub fn rejected(&self) -> usize {
        self.dead_letters.rows()
    }

    /// The approximate memory, in bytes, of the rows and dead letters since the last batch.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.stage.batch.bytes() + self.dead_letters.bytes()
    }

    /// Returns the batch of everything pushed since the last batch.
    pub fn finish(&mut self) -> Result<Decoded, DecodeError> {
        let rows = self.stage.batch.finish(&self.topic)?;
        let (dead_letters, reasons) = self.dead_letters.finish(&self.topic)?;
        // Frees the memory that one huge record has grown the arena to.
        if self.arena.allocated_bytes() > ARENA_BYTES_MAX {
            self.arena = Bump::new();
        }
        let name = |index: usize| self.plan.mapping.fields()[index].name.clone();
        let misshapen = std::mem::take(&mut self.stage.misshapen);
        let misshapen = misshapen.into_iter().map(|(index, rows)| (name(index), rows)).collect();
        Ok(Decoded { rows, dead_letters, reasons, misshapen })
    }
}

/// Adds one for each field whose bit is set.
#[cold]
fn count(fields: u32, rows: &mut BTreeMap<usize, u64>) {
    for index in (0..mapping::FIELDS_MAX).filter(|index| fields >> index & 1 == 1) {
        *rows.entry(index).or_default() += 1;
    }
}

/// The scratch memory, in bytes, that may be kept from batch to batch.
const ARENA_BYTES_MAX: usize = 4 << 20;

impl Stage {
    /// Reads a record into a row, checks it and appends it.
    #[inline]
    fn row<'a>(
        &mut self,
        plan: &'a DecodePlan,
        arena: &'a Bump,
        record: RecordRef<'_>,
        ingested_at: i64,
        read: impl FnOnce(&mut Row<'a, '_>) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        let Stage { attributes, enricher, batch, misshapen } = self;
        let mut row = Row::new(&plan.mapping, arena, attributes);
        read(&mut row)?;
        let present = judge(plan, &mut row, record.time, ingested_at)?;
        let Cell::Integer(event_time) = row.cells()[plan.event_time] else {
            return Err(Reject::new(Reason::MissingField, "event_time"));
        };
        check_time(&plan.validation, event_time, ingested_at).map_err(|reject| reject.at("event_time"))?;
        let enriched = enricher.enrich(&plan.enrichment, row.cells(), event_time)?;
        let added = judge_added(plan, &row)?;
        if row.misshapen() != 0 {
            count(row.misshapen(), misshapen);
        }
        let (cells, attributes) = row.finish();
        let accepted = Accepted { cells, present, attributes, enriched, event_time, added };
        batch.push(&accepted, &record, ingested_at);
        Ok(())
    }

    /// Reads a payload that is exactly one datum.
    fn datum<'a>(
        &mut self,
        plan: &'a DecodePlan,
        arena: &'a Bump,
        record: RecordRef<'_>,
        ingested_at: i64,
        bytes: &'a [u8],
        schema: &'a MappedSchema,
    ) -> Result<(), Reject> {
        self.row(plan, arena, record, ingested_at, |row| {
            let (length, outcome) = datum::read(bytes, schema, row);
            match length.map(|length| bytes.len() - length) {
                Some(more @ 1..) => Err(Reject::new(Reason::TrailingData, format!("{more} bytes follow the datum"))),
                _ => outcome,
            }
        })
    }

    /// Reads every record of a container. If any is bad, the error names the first bad record and
    /// the number of bad ones.
    fn container(
        &mut self,
        plan: &DecodePlan,
        arena: &mut Bump,
        record: RecordRef<'_>,
        ingested_at: i64,
        avro: &AvroPlan,
        schemas: &mut SchemaCache,
    ) -> Result<(), Reject> {
        let mut container = container::Container::open(record.payload)?;
        let schema = schemas.schema(container.schema, avro, &plan.mapping)?;
        let (mut good, mut bad, mut first) = (0usize, 0usize, None);
        while let Some(block) = container.next_block().map_err(|reject| reject.at(format!("after {good} records")))? {
            let mut at = 0;
            for _ in 0..block.count {
                arena.reset();
                let rest = &block.bytes[at..];
                // A datum that cannot be read makes the rest of the message unreadable: its end is
                // unknown.
                let mut length = None;
                let outcome = self.row(plan, arena, record, ingested_at, |row| {
                    let (read, outcome) = datum::read(rest, &schema, row);
                    length = read;
                    outcome
                });
                match (outcome, length) {
                    (Ok(()), Some(length)) => {
                        good += 1;
                        at += length;
                    }
                    (Err(reject), Some(length)) => {
                        bad += 1;
                        at += length;
                        first.get_or_insert(reject.at(format!("record {}", good + bad)));
                    }
                    (Err(reject), None) => return Err(reject.at(format!("record {}", good + bad + 1))),
                    (Ok(()), None) => return Err(Reject::new(Reason::InvalidAvro, "a datum has no end")),
                }
                if good + bad > plan.records_max {
                    let detail = format!("the container holds more than {} records (records_max)", plan.records_max);
                    return Err(Reject::new(Reason::TooManyRecords, detail));
                }
            }
            if at != block.bytes.len() {
                return Err(Reject::new(Reason::InvalidAvro, "bytes follow the last record of a block"));
            }
        }
        match first {
            Some(reject) => Err(reject.at(format!("{bad} bad of {} records", good + bad))),
            None if good == 0 => Err(Reject::new(Reason::EmptyRecord, "the container holds no record")),
            None => Ok(()),
        }
    }
}
