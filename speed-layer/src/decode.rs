//! Turns records into columns: decode, validate, enrich, hash. A bad record becomes a dead letter
//! and leaves no other trace.
//!
//! A record is first read as a whole into a [`row::Row`]: the value that each field gets, and the
//! values that no field takes. Then the values are converted and checked. (A value is converted
//! while it is read if its field is already certain.) Only then is anything appended to columns. So
//! each record is either rows or a dead letter, and a bad record does not affect its neighbours.
//!
//! A message of several records gives a row for each good record. In a JSON list, each bad element
//! is a dead letter of its own. An Avro container with any bad record is one dead letter as a
//! whole, beside the rows of its good records.
//!
//! The formats differ only in how they offer values to the row: [`json`], [`csv`], [`avro`].

pub(crate) mod avro;
mod batch;
pub(crate) mod columns;
pub(crate) mod csv;
pub(crate) mod json;
mod judge;
pub(crate) mod nested;
pub(crate) mod row;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::str::Utf8Error;
use std::sync::Arc;

use adlake_domain::event::EventKind;
use arrow::array::RecordBatch;
use bumpalo::Bump;

use self::avro::{AvroPlan, Framed, MappedSchema, SchemaCache, container, datum};
use self::batch::{Accepted, BatchBuilder};
use self::columns::Cell;
use self::csv::{CsvColumns, CsvReader};
use self::json::KeyMemo;
use self::judge::{judge, judge_added};
use self::row::{Attributes, Row};
use crate::dead_letter::DeadLetters;
use crate::enrich::{Enricher, Enrichment};
use crate::error::SpeedError;
use crate::mapping::{self, Mapping};
use crate::record::{RecordRef, Rejection, StreamFormat};
use crate::registry::Registry;
use crate::settings::SourceSettings;
use crate::validate::{Reason, Reject, ValidationSettings};

/// The Avro schema of bid requests, as JSON text. adlake writes bid requests with it, and reads
/// them with it where no other schema is configured.
pub fn bid_request_avro_schema() -> &'static str {
    include_str!("../schemas/bid_request.avsc")
}

/// Everything that decoding a source depends on. It is immutable: a change of settings or reference
/// data makes a new plan.
#[derive(Debug)]
pub struct DecodePlan {
    kind: EventKind,
    format: PlanFormat,
    mapping: Mapping,
    /// A bit for each required field.
    required: u32,
    /// A bit for each field that has a default.
    fallbacks: u32,
    event_time: usize,
    records_max: usize,
    validation: ValidationSettings,
    enrichment: Arc<Enrichment>,
}

#[derive(Debug)]
enum PlanFormat {
    Json,
    Csv(CsvColumns),
    Avro(Box<AvroPlan>),
}

impl DecodePlan {
    /// Compiles the plan for a stream of events of one kind. Reads the file of the Avro schema
    /// where one is configured. Errors name the configuration key.
    pub fn new(
        kind: EventKind,
        source: &SourceSettings,
        format: &StreamFormat,
        validation: ValidationSettings,
        enrichment: Arc<Enrichment>,
    ) -> Result<DecodePlan, SpeedError> {
        let mapping = Mapping::with_epoch_min(kind, source, validation.event_time_min)?;
        let format = match format {
            StreamFormat::Json => PlanFormat::Json,
            StreamFormat::Csv { header, delimiter, .. } => {
                let names = header.clone().or_else(|| source.csv.columns.clone());
                let names = names.unwrap_or_else(|| mapping.default_columns());
                let delimiter = delimiter.unwrap_or(source.csv.delimiter as u8);
                PlanFormat::Csv(CsvColumns::new(&mapping, &names, delimiter))
            }
            StreamFormat::AvroDatum { .. } | StreamFormat::AvroMessage => {
                PlanFormat::Avro(Box::new(AvroPlan::new(kind, source, format, &mapping)?))
            }
        };
        let bits = |wanted: &dyn Fn(usize) -> bool| {
            (0..mapping.fields().len()).filter(|index| wanted(*index)).fold(0u32, |bits, index| bits | 1 << index)
        };
        let required = bits(&|index| mapping.fields()[index].required);
        let fallbacks = bits(&|index| mapping.fields()[index].default.is_some());
        let event_time = mapping
            .index("event_time")
            .ok_or_else(|| SpeedError::settings(format!("sources.{kind}"), "events have no time"))?;
        let records_max = source.records_max();
        Ok(DecodePlan { kind, format, mapping, required, fallbacks, event_time, records_max, validation, enrichment })
    }

    /// The same plan with the registry that resolves schema ids.
    pub fn with_registry(self, registry: Option<Arc<Registry>>) -> DecodePlan {
        match self.format {
            PlanFormat::Avro(avro) => {
                DecodePlan { format: PlanFormat::Avro(Box::new(avro.with_registry(registry))), ..self }
            }
            _ => self,
        }
    }

    /// Why containers written with the configured schema cannot be read, if they cannot.
    pub fn unusable_schema(&self) -> Option<&str> {
        match &self.format {
            PlanFormat::Avro(avro) => avro.unusable(),
            _ => None,
        }
    }

    /// The kind of event.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Whether a message is a container, which may hold both good and bad records.
    fn is_container(&self, payload: &[u8]) -> bool {
        match &self.format {
            PlanFormat::Avro(avro) => avro.is_container(payload),
            PlanFormat::Json | PlanFormat::Csv(_) => false,
        }
    }
}

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
    pub fn new(plan: Arc<DecodePlan>, topic: &str) -> Result<Decoder, SpeedError> {
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
            csv: csv_reader(&plan),
            schemas: SchemaCache::default(),
            unpacked: Vec::new(),
            plan,
        })
    }

    /// Decodes a record into a row or a dead letter. A message of several records may give several
    /// of each.
    pub fn push(&mut self, record: RecordRef<'_>, ingested_at: i64) {
        if let Err(reject) = self.decode(record, ingested_at, &|_| false) {
            self.dead_letters.push(record, reject.reason.name(), &reject.detail, ingested_at);
        }
    }

    /// Decodes a record that was read before. Payloads that are dead letters already stay dead
    /// letters and are skipped. `is_dead` knows the payloads of the dead letters from the record's
    /// position.
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
                    avro::unpack(bytes, unpacked)?;
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
    pub fn rows(&self) -> usize {
        self.stage.batch.rows()
    }

    /// Records rejected since the last batch.
    pub fn rejected(&self) -> usize {
        self.dead_letters.rows()
    }

    /// The approximate memory, in bytes, of the rows and dead letters since the last batch.
    pub fn bytes(&self) -> usize {
        self.stage.batch.bytes() + self.dead_letters.bytes()
    }

    /// Returns the batch of everything pushed since the last batch.
    pub fn finish(&mut self) -> Result<Decoded, SpeedError> {
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

fn csv_reader(plan: &DecodePlan) -> CsvReader {
    match &plan.format {
        PlanFormat::Csv(columns) => CsvReader::new(columns.delimiter()),
        PlanFormat::Json | PlanFormat::Avro(_) => CsvReader::new(b','),
    }
}

/// The payload as text.
#[inline]
fn utf8(payload: &[u8]) -> Result<&str, Reject> {
    if is_ascii(payload) {
        // SAFETY: ASCII is valid UTF-8. Most records are ASCII, and the check is fast.
        return Ok(unsafe { std::str::from_utf8_unchecked(payload) });
    }
    let refused = |error: Utf8Error| Reject::new(Reason::InvalidUtf8, format!("at byte {}", error.valid_up_to()));
    std::str::from_utf8(payload).map_err(refused)
}

/// Whether all bytes are ASCII. It looks at 32 bytes at a time.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<32>();
    let mut any = [0u8; 32];
    let mut add = |chunk: &[u8; 32]| any.iter_mut().zip(chunk).for_each(|(any, byte)| *any |= byte);
    chunks.iter().for_each(&mut add);
    match bytes.last_chunk() {
        // The last chunk may overlap the one before it. Looking at a byte twice does no harm.
        Some(last) => add(last),
        None => return rest.is_ascii(),
    }
    any.is_ascii()
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
        plan.validation.check_time(event_time, ingested_at).map_err(|reject| reject.at("event_time"))?;
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
                    let detail = format!("a container of more than records_max ({}) records", plan.records_max);
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
