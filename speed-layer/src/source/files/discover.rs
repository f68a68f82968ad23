//! Finds out which files are read, as which kind of event and in which format.
//!
//! The kind of event is given, or told by the file's name and folder, or by its format. The format
//! is given, or told by the extension, or by the content.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adlake_decode::mapping::Mapping;
use adlake_decode::record::StreamFormat;
use adlake_domain::event::EventKind;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::csv_file::CsvFile;
use super::kind;
use super::open::{Content, Digest};
use super::passed_over::{PassedOver, by_content, by_convention, by_extension};
use super::place::Found;
use super::split::Splitter;
use super::split::{avro, csv, json};
use crate::error::SpeedError;
use crate::plans::trial_plan;
use crate::record::Stream;
use crate::settings::SpeedSettings;

/// How many bytes at the beginning of a file are looked at to detect its format. For a CSV file
/// more may be needed ([`CsvFile`]).
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One array, or values one after another.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// Rows, with or without a header line.
    Csv,
    /// An Avro object container.
    Avro,
}

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesWanted {
    /// Files, folders (with everything in them), patterns (`*`, `?`, `[..]`, `**`), and
    /// `s3://bucket/prefix`.
    pub paths: Vec<String>,
    /// Keeps looking for new files until stopped.
    pub watch: bool,
    /// The kind of event in all of them.
    pub kind: Option<EventKind>,
    /// The format of all of them.
    pub format: Option<FileFormat>,
}

/// A file to be read.
#[derive(Debug, Clone)]
pub struct Input {
    pub found: Found,
    pub stream: Arc<Stream>,
    /// A digest of its beginning, as far as it was looked at.
    pub head: Digest,
    pub format: FileFormat,
    /// How many lines stand before its header.
    pub preamble_lines: u64,
    /// Older versions of adlake would have numbered its records differently.
    pub was_cut_otherwise: bool,
    /// How it is cut into records.
    pub cut: Cut,
}

/// How a file is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Json,
    /// Rows from this byte on.
    Csv {
        delimiter: u8,
        rows_at: usize,
        /// How many columns the header has, if there is one.
        columns: Option<usize>,
    },
    Avro,
}

impl Input {
    /// Opens the file and cuts it from its beginning. `is_growing`: its end is not final.
    pub fn split(&self, limit: usize, is_growing: bool) -> io::Result<Box<dyn Splitter>> {
        splitter(self.found.content()?.growing(is_growing), self.cut, limit)
    }
}

fn splitter(mut content: Content, cut: Cut, limit: usize) -> io::Result<Box<dyn Splitter>> {
    Ok(match cut {
        Cut::Json => Box::new(json::JsonValues::new(content, limit)),
        Cut::Csv { delimiter, rows_at, columns } => {
            content.skip(rows_at)?;
            Box::new(csv::Rows::new(content, delimiter, limit, columns))
        }
        Cut::Avro => Box::new(avro::Container::open(content, limit)?),
    })
}

/// The path without `file://`.
pub fn literal(path: &str) -> &Path {
    Path::new(path.strip_prefix("file://").unwrap_or(path))
}

/// Adds the canonical paths of files. It is an error if a path does not exist or cannot be looked
/// at, or if a pattern finds nothing. What cannot be looked at inside folders and patterns becomes
/// one of the `problems`. Without `problems` it is passed over for now.
pub fn find(
    path: &str,
    any_name: bool,
    problems: Option<&mut Vec<SpeedError>>,
    passed_over: &PassedOver,
    found: &mut BTreeSet<PathBuf>,
) -> Result<(), SpeedError> {
    let literal = literal(path);
    let mut search = Search { any_name, problems, passed_over, found, folders: HashSet::new() };
    if literal.exists() {
        return search.add(literal, true);
    }
    if !path.contains(['*', '?', '[']) {
        return Err(failed(literal, "there is no such file", None));
    }
    let matches = glob::glob(path).map_err(|error| failed(literal, format!("is not a pattern: {error}"), None))?;
    let mut any = false;
    for entry in matches {
        let added = match entry {
            Ok(entry) => search.add(&entry, true),
            Err(error) => {
                let path = error.path().to_owned();
                Err(failed(&path, "cannot be read", Some(error.into())))
            }
        };
        search.pass_over(added);
        any = true;
    }
    if any { Ok(()) } else { Err(failed(literal, "no file matches", None)) }
}

struct Search<'a> {
    /// Every file of a folder is taken, whatever its name.
    any_name: bool,
    problems: Option<&'a mut Vec<SpeedError>>,
    passed_over: &'a PassedOver,
    found: &'a mut BTreeSet<PathBuf>,
    /// The folders visited so far: links may lead back to them.
    folders: HashSet<PathBuf>,
}

impl Search<'_> {
    /// `named`: the user named the file, so it is taken whatever its name.
    fn add(&mut self, path: &Path, named: bool) -> Result<(), SpeedError> {
        let unreadable = |error| failed(path, "cannot be read", Some(error));
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            self.found.insert(path.canonicalize().map_err(unreadable)?);
            return Ok(());
        }
        let folder = path.canonicalize().map_err(unreadable)?;
        if !named && !self.folders.insert(folder.clone()) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some(reason) = by_convention(&name) {
                self.passed_over.note(&folder.join(&*name).to_string_lossy(), reason);
                continue;
            }
            // An entry that is certainly a file is judged by its name. A link may lead to a folder.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            match by_extension(&name).filter(|_| !self.any_name) {
                Some(reason) if is_file || !entry.path().is_dir() => {
                    self.passed_over.note(&folder.join(&*name).to_string_lossy(), reason);
                }
                _ => {
                    let added = self.add(&entry.path(), false);
                    self.pass_over(added);
                }
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, added: Result<(), SpeedError>) {
        match (added, &mut self.problems) {
            (Ok(()), _) => {}
            (Err(error), Some(problems)) => problems.push(error),
            (Err(error), None) => tracing::warn!(
                error = adlake_lake::error::chain(&error),
                "a path cannot be read now; it is tried again"
            ),
        }
    }
}

/// The format that a file's extension tells (after the extension of a compression), and the
/// delimiter if the extension tells it.
pub fn extension(name: &str) -> Option<(FileFormat, Option<u8>)> {
    let name = name.to_ascii_lowercase();
    match uncompressed(&name).rsplit_once('.')?.1 {
        "json" => Some((FileFormat::Json, None)),
        "ndjson" | "jsonl" => Some((FileFormat::Ndjson, None)),
        "csv" => Some((FileFormat::Csv, None)),
        "tsv" => Some((FileFormat::Csv, Some(b'\t'))),
        "avro" => Some((FileFormat::Avro, None)),
        _ => None,
    }
}

/// A name in lower case, without the extension of its compression.
pub fn uncompressed(name: &str) -> &str {
    [".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

pub fn kind_by_format(format: FileFormat) -> EventKind {
    match format {
        FileFormat::Json | FileFormat::Ndjson => EventKind::Impression,
        FileFormat::Csv => EventKind::Interaction,
        FileFormat::Avro => EventKind::BidRequest,
    }
}

/// Looks at a file to find its format and its kind of event.
pub fn input(
    found: Found,
    wanted: &FilesWanted,
    settings: &SpeedSettings,
    mappings: &Mappings,
) -> Result<Input, SpeedError> {
    let path = found.path();
    let unreadable = |error| failed(path, "cannot be read", Some(error));
    let mut content = found.content().map_err(unreadable)?;
    let mut head = vec![0; HEAD_BYTES];
    let length = content.read_up_to(&mut head).map_err(unreadable)?;
    head.truncate(length);
    let mut digest = content.digest();
    if let Some(what) = by_content(&head) {
        return Err(failed(path, format!("is not read: it is {what}"), None));
    }
    let named = extension(found.file_name());
    let format = wanted.format.or(named.map(|(format, _)| format)).unwrap_or_else(|| sniff(&head));
    let kind = wanted
        .kind
        .or_else(|| kind::from_name(&found.name).map(|(kind, _)| kind))
        .unwrap_or_else(|| kind_by_format(format));
    let delimiter = named.and_then(|(_, delimiter)| delimiter);
    let (mut preamble_lines, mut was_cut_otherwise) = (0, false);
    let (cut, stream_format) = match format {
        FileFormat::Json | FileFormat::Ndjson => (Cut::Json, StreamFormat::Json),
        FileFormat::Csv => {
            let file = CsvFile { kind, delimiter, time: found.modified, settings, mappings };
            let csv = file.begins(&mut content, &mut head, unreadable)?;
            let csv = csv.map_err(|reason| failed(path, reason, None))?;
            digest = content.digest();
            (preamble_lines, was_cut_otherwise) = (csv.preamble_lines, csv.was_cut_otherwise);
            (csv.cut, csv.format)
        }
        FileFormat::Avro if head.is_empty() => (Cut::Json, StreamFormat::Json),
        FileFormat::Avro => {
            let limit = settings.ingest.record_bytes_max;
            let opened = found.content().and_then(|content| avro::Container::open(content, limit));
            let container = opened.map_err(|error| match error.kind() {
                ErrorKind::InvalidData => failed(path, error.to_string(), None),
                _ => unreadable(error),
            })?;
            let format = StreamFormat::AvroDatum { schema: container.schema().to_owned() };
            if let Some(message) = trial_plan(settings, kind, &format)?.unusable_schema() {
                return Err(failed(path, format!("its own schema cannot be used: {message}"), None));
            }
            (Cut::Avro, format)
        }
    };
    let application = application(&found.name);
    let stream =
        Arc::new(Stream { kind, source: found.name.clone(), partition: 0, application, format: stream_format });
    Ok(Input { found, stream, head: digest, format, preamble_lines, was_cut_otherwise, cut })
}

/// The application name of a file's transactions.
pub fn application(name: &str) -> String {
    format!("adlake:file:{:032x}", xxh3_128(name.as_bytes()))
}

fn sniff(head: &[u8]) -> FileFormat {
    if head.starts_with(avro::MAGIC) {
        return FileFormat::Avro;
    }
    match visible(head).first() {
        Some(b'[' | b'{') => FileFormat::Json,
        _ => FileFormat::Csv,
    }
}

fn visible(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start()
}

/// What the configuration says about the fields of each kind.
#[derive(Debug)]
pub struct Mappings([Mapping; 3]);

impl Mappings {
    pub fn new(settings: &SpeedSettings) -> Result<Mappings, SpeedError> {
        let of = |kind| Mapping::new(kind, settings.sources.of(kind));
        Ok(Mappings([of(EventKind::Impression)?, of(EventKind::Interaction)?, of(EventKind::BidRequest)?]))
    }

    pub fn of(&self, kind: EventKind) -> &Mapping {
        let [impressions, interactions, bid_requests] = &self.0;
        match kind {
            EventKind::Impression => impressions,
            EventKind::Interaction => interactions,
            EventKind::BidRequest => bid_requests,
        }
    }
}

pub(super) fn failed(path: &Path, message: impl Into<String>, source: Option<io::Error>) -> SpeedError {
    SpeedError::File { path: path.to_owned(), message: message.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_formats_from_names() {
        let check = |name: &str, expected: Option<FileFormat>| {
            assert_eq!(extension(name).map(|(format, _)| format), expected, "{name}");
        };
        check("a.json", Some(FileFormat::Json));
        check("a.NDJSON.GZ", Some(FileFormat::Ndjson));
        check("a.b.csv.zst", Some(FileFormat::Csv));
        check("a.csv.bz2", Some(FileFormat::Csv));
        check("a.json.XZ", Some(FileFormat::Json));
        check("a.avro", Some(FileFormat::Avro));
        check("a.parquet", None);
        check("json", None);
        assert_eq!(extension("a.tsv"), Some((FileFormat::Csv, Some(b'\t'))));
    }

    #[test]
    fn tells_formats_from_content() {
        assert_eq!(sniff(b"Obj\x01..."), FileFormat::Avro);
        assert_eq!(sniff(b" {}"), FileFormat::Json);
        assert_eq!(sniff(b"a,b"), FileFormat::Csv);
    }
}
