//! Which files were begun and which are done: the table `raw/files`.
//!
//! Positions alone tell whether a record is in the lake. This list saves opening a million files to
//! find each one at its end. It also knows what was read, so that a file that was changed can be
//! recognized. A file's row is written some time after its last records were committed. If the row
//! is lost, the file is read through once more, and nothing of it is ingested twice.
//!
//! Before anything of a file is delivered, a row says how the file begins. If another file takes
//! the place of one that was ingested in part, reading must not go on there at the stored position.
//!
//! A file that ends within a record is not quite done: its last record is taken when it is whole,
//! or when the file is final. A file that cannot be used at all is set aside with the reason, and
//! the next run tries it again.
//!
//! In memory each file takes 16 bytes for its name, and a record of what it was. A million files
//! take about 120 MB.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::FILES;
use adlake_domain::event::EventKind;
use adlake_domain::schema::files_schema;
use adlake_lake::{Lake, LakeError, WriterSettings};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::open::Digest;
use super::place::Found;
use crate::clock::now_micros;

/// The version of the rules that number a file's records. Version 1 also looks for headers below a
/// preamble. Files ingested before that have no version.
const NUMBERING: i64 = 1;
/// Rows are written when there are this many, ...
const ROWS_MAX: usize = 10_000;
/// ... or when the first of them is this old.
const INTERVAL: Duration = Duration::from_secs(30);

/// The list of the files that are done.
#[derive(Debug)]
pub struct FileList {
    files: HashMap<u128, Known>,
    store: Option<(Lake, Handle)>,
    rows: Vec<Row>,
    since: Instant,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    /// The kind of event found in it. `None`: the list does not say.
    kind: Option<EventKind>,
    /// Whether today's rules numbered its records.
    has_current_numbers: bool,
    /// A hash of its tag.
    tag: u64,
    read: Digest,
    records: i64,
    /// A hash of its last record.
    last: Option<u64>,
    status: Status,
    at: i64,
}

/// What was read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeFile {
    /// The digest of its bytes.
    pub read: Digest,
    /// How many records that is, without those that the end cuts off.
    pub records: i64,
    /// A hash of the last of them.
    pub last: Option<u64>,
    /// Whether it ends within a record.
    pub is_cut: bool,
}

/// What is known of the records of a file that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// How many there were.
    pub records: i64,
    /// A hash of the last of them.
    pub last: Option<u64>,
    /// Whether today's rules numbered them.
    pub has_current_numbers: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Something of it may be in the lake. The digest is that of its beginning.
    Begun,
    /// All of it is in the lake.
    Ingested,
    /// All of it is in the lake except what its end cuts off, which may be a dead letter.
    Cut,
    /// Another file took its name, and was not read.
    Changed,
    /// It cannot be used as it is. The digest covers what was ingested before.
    SetAside,
}

impl Status {
    const ALL: [Status; 5] = [Status::Begun, Status::Ingested, Status::Cut, Status::Changed, Status::SetAside];

    fn name(self) -> &'static str {
        match self {
            Status::Begun => "begun",
            Status::Ingested => "ingested",
            Status::Cut => "cut",
            Status::Changed => "changed",
            Status::SetAside => "set_aside",
        }
    }
}

#[derive(Debug)]
struct Row {
    path: String,
    tag: String,
    known: Known,
    reason: Option<String>,
}

/// What the list says about a file that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was never read to its end.
    New,
    /// It is unchanged since it was read to its end.
    Done,
    /// It is unchanged since it was read to its end, which is within a record.
    Cut,
    /// It was written since. Its beginning must be compared with this digest of what was read.
    Written(Digest),
    /// It was written since it was begun, when it began like this. Or it was set aside since.
    Begun(Digest),
    /// It is known that it no longer begins with what was ingested.
    Changed,
}

impl FileList {
    /// Reads the list from the lake. Without a lake the list is empty.
    pub fn open(lake: Option<&Lake>, runtime: Option<&Handle>) -> Result<FileList, LakeError> {
        let store = lake.cloned().zip(runtime.cloned());
        let files = match &store {
            Some((lake, runtime)) => runtime.block_on(lake.retry(|| load(lake)))?,
            None => HashMap::new(),
        };
        Ok(FileList { files, store, rows: Vec::new(), since: Instant::now() })
    }

    /// Judges a file that is to be read as this kind of event.
    pub fn judge(&self, found: &Found, kind: Option<EventKind>) -> Verdict {
        let Some(known) = self.files.get(&xxh3_128(found.name.as_bytes())) else { return Verdict::New };
        if kind.is_some() && known.kind != kind {
            return Verdict::New;
        }
        let is_as_it_was = known.bytes == found.bytes && known.tag == xxh3_64(found.tag.as_bytes());
        match (known.status, is_as_it_was) {
            (Status::Begun, true) => Verdict::New,
            (Status::SetAside, _) if known.read.bytes == 0 => Verdict::New,
            (Status::Begun, false) | (Status::SetAside, _) => Verdict::Begun(known.read),
            // An older version of adlake may have found no record where there are some. The
            // positions decide.
            (Status::Ingested, true) if known.records == 0 && !known.has_current_numbers && known.bytes > 0 => {
                Verdict::New
            }
            (Status::Ingested, true) => Verdict::Done,
            (Status::Cut, true) => Verdict::Cut,
            (Status::Changed, true) => Verdict::Changed,
            (Status::Ingested | Status::Cut | Status::Changed, false) => Verdict::Written(known.read),
        }
    }

    /// Notes that a file is about to be read, and how it begins. More is known already of a file
    /// that was read before.
    pub fn begun(&mut self, found: &Found, kind: EventKind, head: Digest) {
        let is_new = |known: &Known| match known.status {
            // Read as another kind of event, it counts as another file.
            _ if known.kind.is_some_and(|other| other != kind) => true,
            Status::Begun => known.read != head,
            Status::SetAside => known.read.bytes == 0,
            Status::Ingested | Status::Cut | Status::Changed => false,
        };
        let has_current_numbers = self.before(found, kind).is_none_or(|before| before.has_current_numbers);
        if self.files.get(&xxh3_128(found.name.as_bytes())).is_none_or(is_new) {
            let begun = WholeFile { read: head, records: 0, last: None, is_cut: false };
            self.note(found, kind, begun, Status::Begun, has_current_numbers);
        }
    }

    /// What is known about the records of a file that was read before as this kind of event.
    pub fn before(&self, found: &Found, kind: EventKind) -> Option<Before> {
        let known = self.files.get(&xxh3_128(found.name.as_bytes()));
        let known = known.filter(|known| known.kind.is_none_or(|other| other == kind))?;
        Some(Before { records: known.records, last: known.last, has_current_numbers: known.has_current_numbers })
    }

    /// Notes that a file was read to its end, and that everything of it is committed.
    pub fn ingested(&mut self, found: &Found, kind: EventKind, whole: WholeFile) {
        let status = if whole.is_cut { Status::Cut } else { Status::Ingested };
        self.note(found, kind, whole, status, true);
    }

    /// Notes that a file took the place of another one, of which more, or something else, was
    /// ingested.
    pub fn replaced(&mut self, found: &Found, kind: EventKind, whole: WholeFile) {
        self.note(found, kind, whole, Status::Changed, true);
    }

    fn note(&mut self, found: &Found, kind: EventKind, whole: WholeFile, status: Status, has_current_numbers: bool) {
        let WholeFile { read, records, last, .. } = whole;
        let (kind, bytes, at) = (Some(kind), found.bytes, now_micros());
        self.put(found, Known { bytes, kind, has_current_numbers, tag: 0, read, records, last, status, at }, None);
    }

    /// Notes that a file cannot be used as it is. What is known of it stays: reading may go on once
    /// the file can be used.
    pub fn set_aside(&mut self, found: &Found, reason: &str) {
        let nothing = || Known {
            bytes: 0,
            kind: None,
            has_current_numbers: true,
            tag: 0,
            read: Digest::nothing(),
            records: 0,
            last: None,
            status: Status::SetAside,
            at: 0,
        };
        let known = self.files.get(&xxh3_128(found.name.as_bytes())).copied().unwrap_or_else(nothing);
        let known = Known { bytes: found.bytes, status: Status::SetAside, at: now_micros(), ..known };
        self.put(found, known, Some(reason.to_owned()));
    }

    /// Whether the list is kept anywhere.
    pub fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    /// Notes that a file was written but begins with what was ingested and has no more than that.
    pub fn same(&mut self, found: &Found) {
        let known = self.files.get(&xxh3_128(found.name.as_bytes()));
        let is_cut = known.is_some_and(|known| known.status == Status::Cut);
        self.again(found, if is_cut { Status::Cut } else { Status::Ingested });
    }

    /// Notes that a file no longer begins with what was ingested.
    pub fn changed(&mut self, found: &Found) {
        self.again(found, Status::Changed);
    }

    fn again(&mut self, found: &Found, status: Status) {
        if let Some(known) = self.files.get(&xxh3_128(found.name.as_bytes())).copied() {
            self.put(found, Known { bytes: found.bytes, status, at: now_micros(), ..known }, None);
        }
    }

    fn put(&mut self, found: &Found, known: Known, reason: Option<String>) {
        let known = Known { tag: xxh3_64(found.tag.as_bytes()), ..known };
        self.files.insert(xxh3_128(found.name.as_bytes()), known);
        if self.store.is_some() {
            if self.rows.is_empty() {
                self.since = Instant::now();
            }
            self.rows.push(Row { path: found.name.clone(), tag: found.tag.clone(), known, reason });
        }
    }

    /// Writes the rows when it is time to. Rows that cannot be written now are written later.
    pub fn write_if_due(&mut self) {
        if self.rows.len() >= ROWS_MAX || (!self.rows.is_empty() && self.since.elapsed() >= INTERVAL) {
            self.write();
        }
    }

    /// Writes the rows.
    pub fn write(&mut self) {
        let Some((lake, runtime)) = &self.store else { return };
        if self.rows.is_empty() {
            return;
        }
        // A row that is written twice says the same twice.
        match runtime.block_on(lake.retry(|| append(lake, &self.rows))) {
            Ok(()) => self.rows.clear(),
            Err(error) => {
                tracing::warn!(%error, rows = self.rows.len(), "{FILES} cannot be written; trying again later");
                self.since = Instant::now();
            }
        }
    }
}

async fn append(lake: &Lake, rows: &[Row]) -> Result<(), LakeError> {
    let texts =
        |text: fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(text).collect::<StringArray>()) };
    let numbers =
        |number: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(number))) };
    let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.known.at)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        texts(|row| Some(row.path.clone())),
        texts(|row| row.known.kind.map(|kind| kind.to_string())),
        texts(|row| Some(row.known.status.name().to_owned())),
        numbers(|row| row.known.bytes as i64),
        texts(|row| Some(row.tag.clone())),
        numbers(|row| row.known.read.bytes as i64),
        texts(|row| Some(format!("{:032x}", row.known.read.hash))),
        numbers(|row| row.known.records),
        Arc::new(at),
        texts(|row| row.reason.clone()),
        texts(|row| row.known.last.map(|hash| format!("{hash:016x}"))),
        Arc::new(rows.iter().map(|row| row.known.has_current_numbers.then_some(NUMBERING)).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(files_schema(), columns)
        .map_err(|error| LakeError::Rows { table: FILES.to_owned(), detail: error.to_string() })?;
    let mut appender = lake.appender(FILES).await?;
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&batch)?;
    let files = writer.finish().await?;
    // No positions are needed: a row that is written twice says the same twice.
    appender.commit(files, Vec::new()).await?;
    appender.close().await;
    Ok(())
}

async fn load(lake: &Lake) -> Result<HashMap<u128, Known>, LakeError> {
    let mut files: HashMap<u128, Known> = HashMap::new();
    let Some(version) = lake.newest_version(FILES).await? else { return Ok(files) };
    let frame = SessionContext::new().read_table(lake.provider(FILES, version).await?)?;
    let mut batches = frame.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        take(&batch, &mut files)
            .ok_or_else(|| LakeError::Corrupt(format!("{FILES} has other columns than adlake writes")))?;
    }
    Ok(files)
}

fn take(batch: &RecordBatch, files: &mut HashMap<u128, Known>) -> Option<()> {
    let text = |name: &str| cast(batch.column_by_name(name)?, &DataType::Utf8).ok();
    let number = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>().cloned();
    let (paths, statuses, tags, hashes) = (text("path")?, text("status")?, text("file_tag")?, text("read_hash")?);
    let kinds = text("kind")?;
    let kinds = kinds.as_string_opt::<i32>()?;
    let (paths, statuses) = (paths.as_string_opt::<i32>()?, statuses.as_string_opt::<i32>()?);
    let (tags, hashes) = (tags.as_string_opt::<i32>()?, hashes.as_string_opt::<i32>()?);
    let (bytes, read, records) = (number("file_bytes")?, number("read_bytes")?, number("records")?);
    let at = batch.column_by_name("ingested_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    // The list of an older version of adlake lacks these columns until something is written to it.
    let (last, numbering) = (text("last_hash"), number("numbering"));
    let last = last.as_ref().and_then(|last| last.as_string_opt::<i32>());
    for row in 0..batch.num_rows() {
        let known = Known {
            bytes: u64::try_from(bytes.value(row)).ok()?,
            kind: EventKind::ALL.into_iter().find(|kind| kind.to_string() == kinds.value(row)),
            tag: xxh3_64(tags.value(row).as_bytes()),
            read: Digest {
                bytes: u64::try_from(read.value(row)).ok()?,
                hash: u128::from_str_radix(hashes.value(row), 16).ok()?,
            },
            records: records.value(row),
            last: last.filter(|last| last.is_valid(row)).and_then(|last| u64::from_str_radix(last.value(row), 16).ok()),
            has_current_numbers: numbering.as_ref().is_some_and(|numbering| numbering.is_valid(row)),
            status: Status::ALL.into_iter().find(|status| status.name() == statuses.value(row))?,
            at: at.value(row),
        };
        let before = files.entry(xxh3_128(paths.value(row).as_bytes())).or_insert(known);
        if before.at <= known.at {
            *before = known;
        }
    }
    Some(())
}
