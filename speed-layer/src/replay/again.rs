//! Decodes the payload of a dead letter again. It does no I/O.
//!
//! The format of a payload comes from the configuration (for topics) or is stored with the letter
//! (for files: the header and delimiter of a CSV file, the schema of an Avro container). A header
//! is stored as it stands in the file, and is split by the delimiter that is configured now, as the
//! rows are.
//!
//! A letter that is not a whole record is not decoded: a row that is cut off may look like a row. A
//! message of several records (an Avro container, a JSON array) stays a dead letter, because its
//! good records became rows when it was ingested.

use std::collections::HashMap;

use adlake_decode::Decoder;
use adlake_decode::header;
use adlake_decode::mapping::Mapping;
use adlake_decode::record::{RecordRef, StreamFormat};
use adlake_domain::event::EventKind;
use adlake_domain::schema::FRAGMENT;
use adlake_lake::letters::claims::Verdict;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::error::SpeedError;
use crate::plans::DecodePlans;
use crate::settings::{Format, SourceSettings, Sources};

/// The first bytes of an Avro container.
const CONTAINER: &[u8] = b"Obj\x01";
/// The reasons that sources gave to parts of records, before letters stored that they are parts.
const CUT: [&str; 2] = ["too_long", "truncated"];

/// The result of decoding letters again.
#[derive(Debug, Default)]
pub(super) struct DecodedAgain {
    /// One verdict for each letter, in order.
    pub verdicts: Vec<Verdict>,
    /// The rows: `schema::raw_schema(kind)` and the columns that the configuration adds.
    pub rows: Vec<RecordBatch>,
}

/// The headers among the letters of a kind, by the path of their file. If no header was recognised
/// when a file was ingested (because of a wrong delimiter, for example), the letter of the file's
/// first record is its header.
#[derive(Debug)]
pub(super) struct Headers {
    /// Recognises headers. `None` means that the configuration says that there is none.
    mapping: Option<Mapping>,
    delimiter: u8,
    lines: HashMap<String, String>,
}

impl Headers {
    /// No headers yet.
    pub fn new(sources: &Sources, kind: EventKind) -> Result<Headers, SpeedError> {
        let source = sources.of(kind);
        let mapping = match source.csv.header {
            Some(false) => None,
            Some(true) | None => Some(Mapping::new(kind, source)?),
        };
        Ok(Headers { mapping, delimiter: source.csv.delimiter as u8, lines: HashMap::new() })
    }

    /// Whether there can be any headers.
    pub fn are_looked_for(&self) -> bool {
        self.mapping.is_some()
    }

    /// Adds the headers among some letters.
    pub fn gather(&mut self, letters: &RecordBatch) -> Result<(), SpeedError> {
        let found = self.among(&[Letters::new(letters)?]);
        self.lines.extend(found);
        Ok(())
    }

    fn among(&self, letters: &[Letters]) -> HashMap<String, String> {
        let mut found = HashMap::new();
        let Some(mapping) = &self.mapping else { return found };
        for letters in letters {
            for row in (0..letters.payload.len()).filter(|row| letters.is_first_of_file(*row)) {
                let Ok(StreamFormat::Csv { header: None, delimiter, .. }) = letters.written(row) else { continue };
                let line = letters.record(row).payload;
                if header::is_known(line, delimiter.unwrap_or(self.delimiter), mapping) {
                    found.insert(letters.topic.value(row).to_owned(), String::from_utf8_lossy(line).into_owned());
                }
            }
        }
        found
    }
}

/// Decodes letters of one kind. `headers` are the headers among all letters that existed when they
/// were gathered.
pub(super) fn decode_again(
    plans: &DecodePlans,
    sources: &Sources,
    kind: EventKind,
    headers: &Headers,
    letters: &[RecordBatch],
    ingested_at: i64,
) -> Result<DecodedAgain, SpeedError> {
    let mut decoder = LetterDecoder { plans, kind, again: DecodedAgain::default(), open: None };
    let letters = letters.iter().map(Letters::new).collect::<Result<Vec<_>, _>>()?;
    // More letters may have been committed since.
    let own = headers.among(&letters);
    for letters in &letters {
        for row in 0..letters.payload.len() {
            let topic = letters.topic.value(row);
            let header = own.get(topic).or_else(|| headers.lines.get(topic));
            match format(letters, row, sources, kind, header.map(String::as_str)) {
                Ok(format) => decoder.push(topic, format, letters.record(row), ingested_at)?,
                Err(verdict) => decoder.again.verdicts.push(verdict),
            }
        }
    }
    decoder.finish()?;
    Ok(decoder.again)
}

/// The same format, with the header split by the delimiter that is configured now.
fn split_header_again(format: StreamFormat, source: &SourceSettings) -> StreamFormat {
    let StreamFormat::Csv { header, header_line, delimiter } = format else { return format };
    let by = delimiter.unwrap_or(source.csv.delimiter as u8);
    // Older letters store the names alone. A single name is the whole line if the delimiter was
    // another one.
    let line = header_line.clone().or_else(|| match header.as_deref() {
        Some([only]) if only.contains(char::from(by)) => Some(only.clone()),
        _ => None,
    });
    let header = line.map(|line| header::names(&line, by)).or(header);
    StreamFormat::Csv { header, header_line, delimiter }
}

/// The format of a letter. An error says why the format or the record is unknown. `header` is the
/// header of the letter's file, if that is a letter itself.
fn format(
    letters: &Letters,
    row: usize,
    sources: &Sources,
    kind: EventKind,
    header: Option<&str>,
) -> Result<StreamFormat, Verdict> {
    let dead = |reason: &str, detail: &str| Verdict::Dead { reason: reason.to_owned(), detail: detail.to_owned() };
    let fragment = || dead("fragment", "the letter holds only a part of its record: send the record again");
    if letters.format.is_valid(row) {
        let text = letters.format.value(row);
        if text == FRAGMENT {
            return Err(fragment());
        }
        let format = letters.written(row).map_err(|error| dead("unknown_format", &error.to_string()))?;
        return match (format, header) {
            (StreamFormat::Csv { header: None, .. }, Some(_)) if letters.is_first_of_file(row) => {
                Err(dead("header", "the letter is the header of its file"))
            }
            (StreamFormat::Csv { header: None, delimiter, .. }, Some(line)) => {
                let format = StreamFormat::Csv { header: None, header_line: Some(line.to_owned()), delimiter };
                Ok(split_header_again(format, sources.of(kind)))
            }
            (format, _) => Ok(split_header_again(format, sources.of(kind))),
        };
    }
    if CUT.contains(&letters.reason.value(row)) {
        return Err(fragment());
    }
    // A file's path has a slash. No topic's name has one.
    if letters.topic.value(row).contains('/') {
        return Err(dead(
            "unknown_format",
            "the letter was written before letters stored their format: ingest its record in another file",
        ));
    }
    Ok(match sources.of(kind).format(kind) {
        Format::Json => StreamFormat::Json,
        Format::Csv => StreamFormat::CSV,
        Format::Avro => StreamFormat::AvroMessage,
    })
}

/// Whether a payload may be a message of several records.
fn may_hold_several_records(payload: &[u8]) -> bool {
    payload.starts_with(CONTAINER) || payload.trim_ascii_start().first() == Some(&b'[')
}

/// Decodes letters with one decoder at a time, for the letters of one topic and format.
struct LetterDecoder<'a> {
    plans: &'a DecodePlans,
    kind: EventKind,
    again: DecodedAgain,
    open: Option<OpenDecoder>,
}

struct OpenDecoder {
    topic: String,
    format: StreamFormat,
    decoder: Decoder,
    /// For each letter that the decoder has rejected: its index among the verdicts, in order.
    rejected: Vec<usize>,
}

/// A decoder's batch is finished when its rows take this many bytes.
const BATCH_BYTES: usize = 16 << 20;

impl LetterDecoder<'_> {
    fn push(
        &mut self,
        topic: &str,
        format: StreamFormat,
        record: RecordRef<'_>,
        ingested_at: i64,
    ) -> Result<(), SpeedError> {
        let suits = self.open.as_ref().is_some_and(|open| open.topic == topic && open.format == format);
        // Decoded alone, so that all of its rows can be dropped.
        let alone = may_hold_several_records(record.payload);
        if alone || !suits || self.open.as_ref().is_some_and(|open| open.decoder.bytes() >= BATCH_BYTES) {
            self.finish()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let decoder = Decoder::new(self.plans.plan(self.kind, &format)?, topic)?;
                self.open.insert(OpenDecoder { topic: topic.to_owned(), format, decoder, rejected: Vec::new() })
            }
        };
        let before = open.decoder.rejected();
        open.decoder.push(record, ingested_at);
        if open.decoder.rejected() > before {
            open.rejected.push(self.again.verdicts.len());
        }
        self.again.verdicts.push(Verdict::Row);
        if !alone {
            return Ok(());
        }
        if open.decoder.rows() + open.decoder.rejected() > 1 {
            self.open = None;
            let detail =
                "some records of the message are rows already: send the others as messages of their own".to_owned();
            if let Some(verdict) = self.again.verdicts.last_mut() {
                *verdict = Verdict::Dead { reason: "several_records".to_owned(), detail };
            }
        }
        self.finish()
    }

    /// Takes the rows and verdicts of the open decoder.
    fn finish(&mut self) -> Result<(), SpeedError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let decoded = open.decoder.finish()?;
        let texts = |name: &str| column(&decoded.dead_letters, name, &DataType::Utf8);
        let (reason, detail) = (texts("reason")?, texts("detail")?);
        let (reason, detail) = (reason.as_string::<i32>(), detail.as_string::<i32>());
        for (row, place) in open.rejected.into_iter().enumerate() {
            let (reason, detail) = (reason.value(row).to_owned(), detail.value(row).to_owned());
            self.again.verdicts[place] = Verdict::Dead { reason, detail };
        }
        if decoded.rows.num_rows() > 0 {
            self.again.rows.push(decoded.rows);
        }
        Ok(())
    }
}

/// The columns of a batch of letters that make up the record.
struct Letters {
    payload: BinaryArray,
    key: BinaryArray,
    reason: StringArray,
    format: StringArray,
    topic: StringArray,
    partition: ArrayRef,
    offset: ArrayRef,
    record_time: ArrayRef,
}

impl Letters {
    fn new(batch: &RecordBatch) -> Result<Letters, ArrowError> {
        let binary = |name: &str| Ok::<_, ArrowError>(column(batch, name, &DataType::Binary)?.as_binary().clone());
        let text = |name: &str| Ok::<_, ArrowError>(column(batch, name, &DataType::Utf8)?.as_string().clone());
        let source = batch.column_by_name("source").and_then(|source| source.as_struct_opt());
        let source = RecordBatch::from(source.ok_or_else(|| ArrowError::SchemaError("source is no struct".into()))?);
        Ok(Letters {
            payload: binary("payload")?,
            key: binary("key")?,
            reason: text("reason")?,
            format: text("format")?,
            topic: column(&source, "topic", &DataType::Utf8)?.as_string().clone(),
            partition: column(&source, "partition", &DataType::Int32)?,
            offset: column(&source, "offset", &DataType::Int64)?,
            record_time: column(batch, "record_time", &adlake_domain::schema::timestamp())?,
        })
    }

    /// The format of the letter, if it is stored with it.
    fn written(&self, row: usize) -> Result<StreamFormat, serde_json::Error> {
        serde_json::from_str(if self.format.is_valid(row) { self.format.value(row) } else { "" })
    }

    /// Whether the letter is the first record of a file. A file's path has a slash; no topic's name
    /// has one.
    fn is_first_of_file(&self, row: usize) -> bool {
        self.offset.as_primitive::<Int64Type>().value(row) == 0 && self.topic.value(row).contains('/')
    }

    fn record(&self, row: usize) -> RecordRef<'_> {
        let time = self.record_time.as_primitive::<TimestampMicrosecondType>();
        RecordRef {
            payload: if self.payload.is_valid(row) { self.payload.value(row) } else { b"" },
            key: self.key.is_valid(row).then(|| self.key.value(row)),
            partition: self.partition.as_primitive::<Int32Type>().value(row),
            offset: self.offset.as_primitive::<Int64Type>().value(row),
            time: time.is_valid(row).then(|| time.value(row)),
        }
    }
}

/// A column, cast to the type that it should have.
fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| ArrowError::SchemaError(format!("dead letters lack the column {name}")))?;
    cast(column, data_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(format: StreamFormat) -> Vec<String> {
        let StreamFormat::Csv { header, .. } = format else { panic!("{format:?}") };
        header.unwrap()
    }

    #[test]
    fn a_header_is_cut_by_the_delimiter_of_now() {
        let mut source = SourceSettings::default();
        source.csv.delimiter = ';';
        let of = |text: &str| names(split_header_again(serde_json::from_str(text).unwrap(), &source));
        // A header as letters store it now, and as older letters store it.
        assert_eq!(of(r#"{"csv":{"header":["a;b,c"],"header_line":"a;b,c","delimiter":null}}"#), ["a", "b,c"]);
        assert_eq!(of(r#"{"csv":{"header":["a;b","c"],"header_line":"a;b,c","delimiter":null}}"#), ["a", "b,c"]);
        assert_eq!(of(r#"{"csv":{"header":["a;b"],"delimiter":null}}"#), ["a", "b"]);
        assert_eq!(of(r#"{"csv":{"header":["a;b","c"],"delimiter":null}}"#), ["a;b", "c"]);
        // A delimiter that the file names is kept.
        assert_eq!(of(r#"{"csv":{"header":["a;b","c"],"header_line":"a;b\tc","delimiter":9}}"#), ["a;b", "c"]);
        let text = serde_json::to_string(&StreamFormat::CSV).unwrap();
        assert_eq!(text, r#"{"csv":{"header":null,"delimiter":null}}"#, "a letter without a header is as it was");
    }
}
