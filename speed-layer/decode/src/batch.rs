//! Builds a batch of raw rows: the columns of the content, and those that ingest adds.

use std::sync::Arc;

use adlake_domain::content::{ATTRIBUTES, content_hashes};
use adlake_domain::event::EventKind;
use adlake_domain::schema;
use adlake_domain::time::event_date;
use arrow::array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::cell::Cell;
use crate::columns::{Column, Texts, finish_values};
use crate::enrich::Enriched;
use crate::mapping::Field as AddedField;
use crate::record::RecordRef;

/// A checked and enriched event.
#[derive(Debug)]
pub(crate) struct Accepted<'r> {
    /// The content fields, in schema order.
    pub cells: &'r [Cell<'r>],
    /// A bit for each field that has a value.
    pub present: u32,
    pub attributes: Option<&'r str>,
    pub enriched: Enriched<'r>,
    pub event_time: i64,
    /// The columns that the configuration adds, in its order.
    pub added: &'r [Cell<'r>],
}

/// Builds a batch of raw rows.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    kind: EventKind,
    schema: SchemaRef,
    content: Vec<Column>,
    attributes: Column,
    enriched: EnrichedBuilder,
    partition: Vec<i32>,
    offset: Vec<i64>,
    ingested_at: Vec<i64>,
    event_date: Vec<i32>,
    added: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// The approximate memory, in bytes, of a row's columns beside its payload.
const ROW_BYTES: usize = 256;

impl BatchBuilder {
    /// A builder for the content of one kind and the columns that the configuration adds.
    pub fn new(kind: EventKind, added: &[AddedField]) -> Result<BatchBuilder, ArrowError> {
        let fields = schema::content_fields(kind);
        let raw = schema::raw_schema(kind);
        let columns = added.iter().map(|field| Arc::new(Field::new(&field.name, field.data_type.clone(), true)));
        Ok(BatchBuilder {
            kind,
            schema: Arc::new(Schema::new(raw.fields().iter().cloned().chain(columns).collect::<Vec<_>>())),
            added: added.iter().map(|field| Column::new(&field.data_type)).collect::<Result<_, _>>()?,
            content: fields.iter().map(|field| Column::new(field.data_type())).collect::<Result<_, _>>()?,
            attributes: Column::texts(),
            enriched: EnrichedBuilder::new(kind),
            partition: Vec::new(),
            offset: Vec::new(),
            ingested_at: Vec::new(),
            event_date: Vec::new(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Appends an event.
    #[inline]
    pub fn push(&mut self, event: &Accepted<'_>, record: &RecordRef<'_>, ingested_at: i64) {
        let row = self.rows;
        let mut present = event.present;
        while present != 0 {
            let index = present.trailing_zeros() as usize;
            present &= present - 1;
            self.content[index].set(row, &event.cells[index]);
        }
        if let Some(text) = event.attributes {
            self.attributes.set_text(row, text);
        }
        self.enriched.push(&event.enriched, row);
        self.partition.push(record.partition);
        self.offset.push(record.offset);
        self.ingested_at.push(ingested_at);
        self.event_date.push(event_date(event.event_time));
        for (column, cell) in self.added.iter_mut().zip(event.added) {
            if !matches!(cell, Cell::Null) {
                column.set(row, cell);
            }
        }
        self.rows += 1;
        self.bytes += record.payload.len() + ROW_BYTES;
    }

    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the batch of records of `topic`: `schema::raw_schema(kind)` and the added columns.
    /// The builder is empty afterwards.
    pub fn finish(&mut self, topic: &str) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let schema = self.schema.clone();
        debug_assert_eq!(schema.field(self.content.len()).name(), ATTRIBUTES);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for column in self.content.iter_mut().chain([&mut self.attributes]) {
            columns.push(column.finish(rows)?);
        }
        let hashes = content_hashes(&columns, rows)?;
        columns.push(Arc::new(hashes));
        columns.push(self.enriched.finish(self.kind, rows)?);
        let topics: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, rows)));
        columns.push(Arc::new(StructArray::try_new_with_length(
            schema::source_fields(),
            vec![
                topics,
                finish_values::<Int32Type>(&mut self.partition, None, &DataType::Int32)?,
                finish_values::<Int64Type>(&mut self.offset, None, &DataType::Int64)?,
            ],
            None,
            rows,
        )?));
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        columns.push(finish_values::<TimestampMicrosecondType>(&mut self.ingested_at, None, &utc)?);
        columns.push(finish_values::<Date32Type>(&mut self.event_date, None, &DataType::Date32)?);
        for column in &mut self.added {
            columns.push(column.finish(rows)?);
        }
        RecordBatch::try_new(schema, columns)
    }
}

/// Builds the struct `enriched`.
#[derive(Debug)]
struct EnrichedBuilder {
    /// Campaign, advertiser, country, region, device, os, browser. A row without a value is NULL.
    texts: [Column; 7],
    part_of_day: Texts,
    day_type: Texts,
    season: Texts,
    money: Vec<Column>,
}

impl EnrichedBuilder {
    fn new(kind: EventKind) -> EnrichedBuilder {
        let amounts = schema::enriched_fields(kind).iter().filter(|field| field.name().ends_with("_micros")).count();
        EnrichedBuilder {
            texts: std::array::from_fn(|_| Column::texts()),
            part_of_day: Texts::new(),
            day_type: Texts::new(),
            season: Texts::new(),
            money: (0..amounts).map(|_| Column::integers()).collect(),
        }
    }

    #[inline]
    fn push(&mut self, enriched: &Enriched<'_>, row: usize) {
        let country = enriched.country.as_ref().map(|code| code.as_str());
        let client = enriched.client;
        let texts = [
            enriched.campaign_id,
            enriched.advertiser_id,
            country,
            enriched.region,
            client.device_type,
            client.os,
            client.browser,
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            if let Some(text) = text {
                column.set_text(row, text);
            }
        }
        self.part_of_day.push(enriched.time.part_of_day);
        self.day_type.push(enriched.time.day_type);
        self.season.push(enriched.time.season);
        for (column, money) in self.money.iter_mut().zip(enriched.money) {
            if let Some(micros) = money {
                column.set(row, &Cell::Integer(micros));
            }
        }
    }

    fn finish(&mut self, kind: EventKind, rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut columns = Vec::new();
        for column in &mut self.texts {
            columns.push(column.finish(rows)?);
        }
        for texts in [&mut self.part_of_day, &mut self.day_type, &mut self.season] {
            columns.push(texts.finish(None)?);
        }
        for column in &mut self.money {
            columns.push(column.finish(rows)?);
        }
        Ok(Arc::new(StructArray::try_new_with_length(schema::enriched_fields(kind), columns, None, rows)?))
    }
}
