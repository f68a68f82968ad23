//! Which files are done, and which were begun: `raw/files`.
//!
//! Whether a record is in the lake is told by the positions alone. This list saves opening a million files to find each at its end, and
//! knows what was read, so that a file that is no longer what it was can be told. A file's row is written some time after its
//! last records were committed. If it is lost, the file is read through once more, and nothing of it is ingested twice.
//!
//! Before anything of a file is handed on a row says how it begins: a file that takes the place of one that was ingested in part
//! must not be gone on with where that one was left.
//!
//! A file that ends within a record is not quite done: its last record is taken when it is whole, or when the file is final. One that
//! cannot be used at all is set aside with the reason, and tried again by the next run.
//!
//! Of each file is held in memory: 16 bytes for its name, and what it was. A million files take about 120 MB.

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
use crate::metrics::now_micros;

/// By which rules records are numbered in files: 1 is since headers are looked for below a preamble. Files of before have none.
const NUMBERING: i64 = 1;
/// Rows are written when there are so many, ...
const ROWS_MAX: usize = 10_000;
/// ... or the first of them is so old.
const INTERVAL: Duration = Duration::from_secs(30);

/// The list of the files that are done.
#[derive(Debug)]
pub struct Done {
    files: HashMap<u128, Known>,
    store: Option<(Lake, Handle)>,
    rows: Vec<Row>,
    since: Instant,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    /// What was found in it; none where the list does not say.
    kind: Option<EventKind>,
    /// Whether its records are numbered by today's rules.
    is_numbered_so: bool,
    /// Hash of its tag.
    tag: u64,
    read: Digest,
    records: i64,
    /// Hash of the last of the records.
    last: Option<u64>,
    status: Status,
    at: i64,
}

/// What was read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Its bytes.
    pub read: Digest,
    /// How many records that is; without those that the end cuts off.
    pub records: i64,
    /// Hash of the last of them.
    pub last: Option<u64>,
    /// Whether it ends within a record.
    pub is_cut: bool,
}

/// What is known of the records of a file that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// How many there were.
    pub records: i64,
    /// Hash of the last of them.
    pub last: Option<u64>,
    /// Whether they are numbered by today's rules.
    pub is_numbered_so: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Something of it may be in; what was read is how it begins.
    Begun,
    /// All of it is in.
    Ingested,
    /// All of it is in but what its end cuts off, which may be a dead letter.
    Cut,
    /// Another file has its name, and was not read.
    Changed,
    /// It cannot be used as it is; what was read is what was in before.
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

/// What a file that was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was never read to its end.
    New,
    /// It is as it was when it was read to its end.
    Done,
    /// It is as it was when it was read to its end, which is within a record.
    Cut,
    /// It was written since. What was read has to be compared with its beginning.
    Written(Digest),
    /// It was written since it was begun, which was with this. Or it was set aside since.
    Begun(Digest),
    /// It is known that it does not begin any more with what was ingested.
    Changed,
}

impl Done {
    /// The list as the lake has it; without a lake an empty one.
    pub fn open(lake: Option<&Lake>, runtime: Option<&Handle>) -> Result<Done, LakeError> {
        let store = lake.cloned().zip(runtime.cloned());
        let files = match &store {
            Some((lake, runtime)) => runtime.block_on(lake.patiently(|| load(lake)))?,
            None => HashMap::new(),
        };
        Ok(Done { files, store, rows: Vec::new(), since: Instant::now() })
    }

    /// What a file is, where it is to be read as this kind of event.
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
            // An older adlake may have found no record where there are some: the positions tell.
            (Status::Ingested, true) if known.records == 0 && !known.is_numbered_so && known.bytes > 0 => Verdict::New,
            (Status::Ingested, true) => Verdict::Done,
            (Status::Cut, true) => Verdict::Cut,
            (Status::Changed, true) => Verdict::Changed,
            (Status::Ingested | Status::Cut | Status::Changed, false) => Verdict::Written(known.read),
        }
    }

    /// A file is about to be read, and begins like this. Of one that was read before more is known.
    pub fn begun(&mut self, found: &Found, kind: EventKind, head: Digest) {
        let is_new = |known: &Known| match known.status {
            // As another kind of event it is another file.
            _ if known.kind.is_some_and(|other| other != kind) => true,
            Status::Begun => known.read != head,
            Status::SetAside => known.read.bytes == 0,
            Status::Ingested | Status::Cut | Status::Changed => false,
        };
        let is_numbered_so = self.before(found, kind).is_none_or(|before| before.is_numbered_so);
        if self.files.get(&xxh3_128(found.name.as_bytes())).is_none_or(is_new) {
            let begun = Whole { read: head, records: 0, last: None, is_cut: false };
            self.note(found, kind, begun, Status::Begun, is_numbered_so);
        }
    }

    /// What is known of the records of a file that was read as this kind of event before.
    pub fn before(&self, found: &Found, kind: EventKind) -> Option<Before> {
        let known = self.files.get(&xxh3_128(found.name.as_bytes()));
        let known = known.filter(|known| known.kind.is_none_or(|other| other == kind))?;
        Some(Before { records: known.records, last: known.last, is_numbered_so: known.is_numbered_so })
    }

    /// A file was read to its end, and all of it is committed.
    pub fn ingested(&mut self, found: &Found, kind: EventKind, whole: Whole) {
        let status = if whole.is_cut { Status::Cut } else { Status::Ingested };
        self.note(found, kind, whole, status, true);
    }

    /// A file has taken the place of another, of which more or something else was ingested.
    pub fn replaced(&mut self, found: &Found, kind: EventKind, whole: Whole) {
        self.note(found, kind, whole, Status::Changed, true);
    }

    fn note(&mut self, found: &Found, kind: EventKind, whole: Whole, status: Status, is_numbered_so: bool) {
        let Whole { read, records, last, .. } = whole;
        let (kind, bytes, at) = (Some(kind), found.bytes, now_micros());
        self.put(found, Known { bytes, kind, is_numbered_so, tag: 0, read, records, last, status, at }, None);
    }

    /// A file cannot be used as it is. What is known of it stays known: it may be read on once it can be.
    pub fn set_aside(&mut self, found: &Found, reason: &str) {
        let nothing = || Known {
            bytes: 0,
            kind: None,
            is_numbered_so: true,
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

    /// Whether it is kept anywhere.
    pub fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    /// A file was written, but it begins with what was ingested, and has no more than that.
    pub fn same(&mut self, found: &Found) {
        let known = self.files.get(&xxh3_128(found.name.as_bytes()));
        let is_cut = known.is_some_and(|known| known.status == Status::Cut);
        self.again(found, if is_cut { Status::Cut } else { Status::Ingested });
    }

    /// A file does not begin any more with what was ingested.
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

    /// Writes the rows if it is time to. What cannot be written now is written later.
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
        // Rows that are written twice say the same twice.
        match runtime.block_on(lake.patiently(|| append(lake, &self.rows))) {
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
        Arc::new(rows.iter().map(|row| row.known.is_numbered_so.then_some(NUMBERING)).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(files_schema(), columns)
        .map_err(|error| LakeError::Rows { table: FILES.to_owned(), detail: error.to_string() })?;
    let mut appender = lake.appender(FILES).await?;
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&batch)?;
    let files = writer.finish().await?;
    // No positions: a row written twice says the same twice.
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
    // Lists of an older adlake lack these columns until something is written to them.
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
            is_numbered_so: numbering.as_ref().is_some_and(|numbering| numbering.is_valid(row)),
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
