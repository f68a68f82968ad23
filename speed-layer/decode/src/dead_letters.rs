//! Builds dead letters: rejected records with their exact bytes, their origin and the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::schema;
use adlake_domain::time::event_date;
use arrow::array::builder::{
    BinaryBuilder, Date32Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::record::RecordRef;

/// Rejected records of one source.
#[derive(Debug)]
pub struct DeadLetters {
    kind: EventKind,
    payload: BinaryBuilder,
    key: BinaryBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    record_time: TimestampMicrosecondBuilder,
    ingested_at: TimestampMicrosecondBuilder,
    ingest_date: Date32Builder,
    /// The format of whole records, where the configuration does not name it.
    written: Option<String>,
    format: StringBuilder,
    rows: usize,
    bytes: usize,
    reasons: BTreeMap<&'static str, u64>,
}

/// The approximate memory, in bytes, of a dead letter besides its texts.
const ROW_BYTES: usize = 64;

impl DeadLetters {
    /// No dead letters, for records of one kind.
    pub fn new(kind: EventKind) -> DeadLetters {
        DeadLetters {
            kind,
            payload: BinaryBuilder::new(),
            key: BinaryBuilder::new(),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            record_time: TimestampMicrosecondBuilder::new(),
            ingested_at: TimestampMicrosecondBuilder::new(),
            ingest_date: Date32Builder::new(),
            written: None,
            format: StringBuilder::new(),
            rows: 0,
            bytes: 0,
            reasons: BTreeMap::new(),
        }
    }

    /// Stores the format with every dead letter.
    pub fn written_as(&mut self, written: Option<String>) {
        self.written = written;
    }

    /// Adds a record that was rejected.
    pub fn push(&mut self, record: RecordRef<'_>, reason: &'static str, detail: &str, ingested_at: i64) {
        self.format.append_option(self.written.as_deref());
        self.bytes += self.written.as_ref().map_or(0, String::len);
        self.append(record, reason, detail, ingested_at);
    }

    /// Adds bytes that were rejected because they are not a whole record. They can never be
    /// replayed.
    pub fn push_fragment(&mut self, record: RecordRef<'_>, reason: &'static str, detail: &str, ingested_at: i64) {
        self.format.append_value(schema::FRAGMENT);
        self.append(record, reason, detail, ingested_at);
    }

    fn append(&mut self, record: RecordRef<'_>, reason: &'static str, detail: &str, ingested_at: i64) {
        self.payload.append_value(record.payload);
        self.key.append_option(record.key);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
        self.partition.append_value(record.partition);
        self.offset.append_value(record.offset);
        self.record_time.append_option(record.time);
        self.ingested_at.append_value(ingested_at);
        self.ingest_date.append_value(event_date(ingested_at));
        self.rows += 1;
        self.bytes += record.payload.len() + record.key.map_or(0, <[u8]>::len) + detail.len() + ROW_BYTES;
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// The number of dead letters.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Their approximate memory, in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the batch (`schema::dead_letters_schema()`) and the number of dead letters by
    /// reason. The builder is empty afterwards.
    pub fn finish(&mut self, topic: &str) -> Result<(RecordBatch, BTreeMap<&'static str, u64>), ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let repeated =
            |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) as ArrayRef;
        let none = |data_type: &DataType| new_null_array(data_type, rows);
        let source = StructArray::try_new(
            schema::source_fields(),
            vec![repeated(topic), Arc::new(self.partition.finish()), Arc::new(self.offset.finish())],
            None,
        )?;
        let batch = RecordBatch::try_new(
            schema::dead_letters_schema(),
            vec![
                repeated(self.kind.table()),
                Arc::new(self.payload.finish()),
                Arc::new(self.key.finish()),
                Arc::new(self.reason.finish()),
                Arc::new(self.detail.finish()),
                Arc::new(source),
                Arc::new(self.record_time.finish().with_timezone("UTC")),
                Arc::new(self.ingested_at.finish().with_timezone("UTC")),
                Arc::new(self.format.finish()),
                none(&DataType::Utf8),
                none(&DataType::Utf8),
                none(&DataType::Utf8),
                none(&schema::timestamp()),
                Arc::new(self.ingest_date.finish()),
            ],
        )?;
        Ok((batch, std::mem::take(&mut self.reasons)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn how_a_letter_is_written_counts_among_its_bytes() {
        let mut letters = DeadLetters::new(EventKind::Interaction);
        letters.written_as(Some("x".repeat(10_000)));
        let record = RecordRef { payload: b"a", key: None, partition: 0, offset: 7, time: None };
        (0..100).for_each(|_| letters.push(record, "bad_type", "", 1_700_000_000_000_000));
        assert!(letters.bytes() >= 1_000_000, "{}", letters.bytes());
    }

    #[test]
    fn bytes_are_kept_exactly() {
        let mut letters = DeadLetters::new(EventKind::Impression);
        let payload = [0u8, 255, b'\n', b'{'];
        let record = RecordRef { payload: &payload, key: Some(&[1]), partition: 3, offset: 7, time: None };
        letters.push(record, "invalid_utf8", "at byte 1", 1_700_000_000_000_000);
        assert_eq!(letters.rows(), 1);
        assert!(letters.bytes() > 4);
        let (batch, reasons) = letters.finish("t").unwrap();
        assert_eq!(batch.column(1).as_binary::<i32>().value(0), payload);
        assert_eq!(batch.column(0).as_string::<i32>().value(0), "impressions");
        assert_eq!(reasons, BTreeMap::from([("invalid_utf8", 1)]));
        let (batch, reasons) = letters.finish("t").unwrap();
        assert_eq!((batch.num_rows(), reasons.len(), letters.bytes()), (0, 0, 0));
    }
}
