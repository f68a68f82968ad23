//! Tests of the whole decoder, with records of public test suites and hostile ones.

mod avro;
mod corpora;
mod events;
mod evolution;
mod messages;
mod money;
mod mutations;
mod names;
mod neighbours;
mod shapes;
mod times;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adlake_domain::event::EventKind;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::decoder::{Decoded, Decoder};
use crate::enrich::{Enrichment, EnrichmentSettings, ReferenceData};
use crate::error::DecodeError;
use crate::plan::DecodePlan;
use crate::record::{RecordRef, StreamFormat};
use crate::settings::{SchemaFiles, SourceSettings, ValidationSettings};

/// The time of ingest: 2025-06-02T00:00:00Z.
const NOW: i64 = 1_748_822_400_000_000;

fn csv() -> StreamFormat {
    StreamFormat::CSV
}

fn decoder(kind: EventKind, format: &StreamFormat, change: impl FnOnce(&mut SourceSettings)) -> Decoder {
    decoder_with(kind, format, ReferenceData::default(), change)
}

fn decoder_with(
    kind: EventKind,
    format: &StreamFormat,
    reference: ReferenceData,
    change: impl FnOnce(&mut SourceSettings),
) -> Decoder {
    let plan = plan(kind, format, reference, &SchemaFiles::default(), change).unwrap();
    Decoder::new(Arc::new(plan), "topic").unwrap()
}

fn plan(
    kind: EventKind,
    format: &StreamFormat,
    reference: ReferenceData,
    files: &SchemaFiles,
    change: impl FnOnce(&mut SourceSettings),
) -> Result<DecodePlan, DecodeError> {
    let mut source = SourceSettings::default();
    change(&mut source);
    let enrichment = Arc::new(Enrichment::new(&EnrichmentSettings::default(), reference));
    DecodePlan::new(kind, &source, files, format, ValidationSettings::default(), enrichment)
}

/// Schema files with these names and texts.
fn schema_files<const N: usize>(files: [(&str, &str); N]) -> SchemaFiles {
    files.into_iter().map(|(name, text)| (PathBuf::from(name), text.to_owned())).collect()
}

/// Pushes the payloads with offsets 0, 1, ... and checks that the columns fit their schemas.
fn push(decoder: &mut Decoder, payloads: &[&[u8]]) -> Decoded {
    for (offset, payload) in payloads.iter().enumerate() {
        let record = RecordRef { payload, key: None, partition: 3, offset: offset as i64, time: Some(NOW - 1_000_000) };
        decoder.push(record, NOW);
    }
    let (rows, rejected) = (decoder.rows(), decoder.rejected());
    let decoded = decoder.finish().unwrap();
    assert_eq!((decoded.rows.num_rows(), decoded.dead_letters.num_rows()), (rows, rejected));
    assert_eq!(decoded.reasons.values().sum::<u64>(), rejected as u64);
    decoded
}

fn decode(kind: EventKind, format: &StreamFormat, payloads: &[&[u8]]) -> Decoded {
    push(&mut decoder(kind, format, |_| ()), payloads)
}

/// A column, found by a path into structs.
fn column(batch: &RecordBatch, path: &str) -> ArrayRef {
    let mut names = path.split('.');
    let mut array = batch.column_by_name(names.next().unwrap()).unwrap().clone();
    for name in names {
        array = array.as_struct().column_by_name(name).unwrap_or_else(|| panic!("no {name} in {path}")).clone();
    }
    array
}

/// A value as text; `None` where it is NULL.
fn cell(batch: &RecordBatch, path: &str, row: usize) -> Option<String> {
    let array = column(batch, path);
    let options = FormatOptions::default();
    array.is_valid(row).then(|| ArrayFormatter::try_new(&array, &options).unwrap().value(row).to_string())
}

/// Compares values of a row, by their paths.
fn check(batch: &RecordBatch, row: usize, expected: &[(&str, Option<&str>)]) {
    for (path, value) in expected {
        assert_eq!(cell(batch, path, row).as_deref(), *value, "{path}");
    }
}

/// The result for one JSON impression: its attributes, or the reason of its dead letter.
fn impression(payload: &str) -> Result<Option<String>, String> {
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload.as_bytes()]);
    match letters(&decoded).first() {
        Some((bytes, reason)) => {
            assert_eq!(bytes, payload.as_bytes());
            Err(reason.clone())
        }
        None => Ok(cell(&decoded.rows, "attributes", 0)),
    }
}

/// The payloads and reasons of the dead letters.
fn letters(decoded: &Decoded) -> Vec<(Vec<u8>, String)> {
    let payloads = column(&decoded.dead_letters, "payload");
    let reasons = column(&decoded.dead_letters, "reason");
    let payloads = payloads.as_binary::<i32>().iter().map(|payload| payload.unwrap().to_vec());
    payloads.zip(reasons.as_string::<i32>().iter().map(|reason| reason.unwrap().to_owned())).collect()
}

/// A folder of the public test data, which is not part of the project.
fn shared(folder: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(folder);
    assert!(path.is_dir(), "the test data {} is missing: see data/README.md beside the checkout", path.display());
    path
}

/// The files of a test data folder with an ending, by name.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(shared(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {ending} in {folder}");
    files
}
