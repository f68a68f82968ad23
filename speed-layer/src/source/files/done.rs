//! Which files are done, and which were begun: `raw/files`.
//!
//! Whether a record is in the lake is told by the positions alone. This list saves opening a million files to find each at its end, and
//! knows what was read, so that a file that is no longer what it was can be told. A file's row is written some time after its
//! last records were committed. If it is lost, the file is read through once more, and nothing of it is ingested twice.
//!
//! Before anything of a file is handed on a row says how it begins: a file that takes the place of one that was ingested in part
//! must not be gone on with where that one was left.
//!
//! Of each file is held in memory: 16 bytes for its name, and what it was. A million files take about 100 MB.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::FILES;
use adlake_domain::event::EventKind;
use adlake_domain::schema::files_schema;
use adlake_lake::{Lake, LakeError, WriterSettings};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::open::Digest;
use super::place::Found;
use crate::metrics::now_micros;

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
    /// Hash of its tag.
    tag: u64,
    read: Digest,
    records: i64,
    status: Status,
    at: i64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Something of it may be in; what was read is how it begins.
    Begun,
    /// All of it is in.
    Ingested,
    /// Another file has its name, and was not read.
    Changed,
}

impl Status {
    const ALL: [Status; 3] = [Status::Begun, Status::Ingested, Status::Changed];

    fn name(self) -> &'static str {
        match self {
            Status::Begun => "begun",
            Status::Ingested => "ingested",
            Status::Changed => "changed",
        }
    }
}

#[derive(Debug)]
struct Row {
    path: String,
    tag: String,
    known: Known,
}

/// What a file that was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was never read to its end.
    New,
    /// It is as it was when it was read to its end.
    Done,
    /// It was written since. What was read has to be compared with its beginning.
    Written(Digest),
    /// It was written since it was begun, which was with this.
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
            (Status::Begun, false) => Verdict::Begun(known.read),
            (Status::Ingested, true) => Verdict::Done,
            (Status::Changed, true) => Verdict::Changed,
            (Status::Ingested | Status::Changed, false) => Verdict::Written(known.read),
        }
    }

    /// A file is about to be read, and begins like this. Of one that was read before more is known.
    pub fn begun(&mut self, found: &Found, kind: EventKind, head: Digest) {
        let known = self.files.get(&xxh3_128(found.name.as_bytes()));
        if known.is_none_or(|known| known.status == Status::Begun && known.read != head) {
            self.note(found, kind, head, 0, Status::Begun);
        }
    }

    /// A file was read to its end, and all of it is committed.
    pub fn ingested(&mut self, found: &Found, kind: EventKind, read: Digest, records: i64) {
        self.note(found, kind, read, records, Status::Ingested);
    }

    /// A file has taken the place of another, of which more or something else was ingested.
    pub fn replaced(&mut self, found: &Found, kind: EventKind, read: Digest, records: i64) {
        self.note(found, kind, read, records, Status::Changed);
    }

    fn note(&mut self, found: &Found, kind: EventKind, read: Digest, records: i64, status: Status) {
        self.put(
            found,
            Known { bytes: found.bytes, kind: Some(kind), tag: 0, read, records, status, at: now_micros() },
        );
    }

    /// Whether it is kept anywhere.
    pub fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    /// A file was written, but it begins with what was ingested, and has no more than that.
    pub fn same(&mut self, found: &Found) {
        self.again(found, Status::Ingested);
    }

    /// A file does not begin any more with what was ingested.
    pub fn changed(&mut self, found: &Found) {
        self.again(found, Status::Changed);
    }

    fn again(&mut self, found: &Found, status: Status) {
        if let Some(known) = self.files.get(&xxh3_128(found.name.as_bytes())).copied() {
            self.put(found, Known { bytes: found.bytes, status, at: now_micros(), ..known });
        }
    }

    fn put(&mut self, found: &Found, known: Known) {
        let known = Known { tag: xxh3_64(found.tag.as_bytes()), ..known };
        self.files.insert(xxh3_128(found.name.as_bytes()), known);
        if self.store.is_some() {
            if self.rows.is_empty() {
                self.since = Instant::now();
            }
            self.rows.push(Row { path: found.name.clone(), tag: found.tag.clone(), known });
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
