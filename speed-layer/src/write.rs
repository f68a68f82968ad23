//! Writes decoded rows as Parquet, and commits the files.
//!
//! [`Builder`] holds what has been taken for one table and is not sealed yet. It uses the CPU and
//! does no I/O. [`Committer`] uploads and commits what was sealed, dead letters first. If it fails
//! after the dead letters, their position is ahead of the rows'. The dead letters in between are
//! then looked up ([`KnownDead`]) and not written again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_domain::event::EventKind;
use adlake_lake::{Advance, Appended, Appender, DataFile, Lake, LakeError, TableWriter, WriterSettings, failpoint};
use arrow::array::{AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::prelude::{SessionContext, cast, col, lit};
use tokio::sync::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use crate::decode::Decoder;
use crate::error::SpeedError;
use crate::pipeline::marks;
use crate::plans::Plans;
use crate::record::{Chunk, Stream, StreamFormat};
use crate::replay::written;
use crate::settings::IngestSettings;
use crate::source::{KEPT_BYTES, TopicMarks};

/// The decoder's rows go to the encoder when there are this many ...
const BATCH_ROWS: usize = 32 << 10;
/// ... or when they take this many bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Builds the rows and dead letters of one table.
pub struct Builder {
    plans: Arc<Plans>,
    /// It makes writers here and commits nothing.
    appender: Appender,
    writer_settings: WriterSettings,
    decoder: Option<Open>,
    writer: Option<TableWriter>,
    dead_letters: Vec<RecordBatch>,
    dead_bytes: usize,
    rows: usize,
    misshapen: BTreeMap<String, u64>,
    encoding_time: Duration,
}

/// A decoder, the source and format that it is for, and the epoch of its plan.
struct Open {
    source: String,
    format: StreamFormat,
    epoch: u64,
    decoder: Decoder,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("table", &self.appender.table())
            .field("rows", &self.rows())
            .finish_non_exhaustive()
    }
}

/// What is to be committed, besides positions.
#[derive(Debug, Default)]
pub struct Sealed {
    /// The rows. Without any, the positions advance all the same.
    pub writer: Option<TableWriter>,
    /// Dead letters, in any order.
    pub dead_letters: Vec<RecordBatch>,
    /// By field: the number of rows in which it was sent in the wrong shape.
    pub misshapen: BTreeMap<String, u64>,
}

impl Builder {
    /// A builder for the raw table of a kind. The table is created if it does not exist.
    pub async fn open(
        lake: &Lake,
        kind: EventKind,
        plans: Arc<Plans>,
        settings: &IngestSettings,
    ) -> Result<Builder, SpeedError> {
        let appender = lake.appender_with(kind.raw_table(), &plans.added_columns(kind)?).await?;
        let writer_settings = settings.writer();
        Ok(Builder {
            plans,
            appender,
            writer_settings,
            decoder: None,
            writer: None,
            dead_letters: Vec::new(),
            dead_bytes: 0,
            rows: 0,
            misshapen: BTreeMap::new(),
            encoding_time: Duration::ZERO,
        })
    }

    /// Takes the records of a chunk from position `from` on, except those that are dead letters
    /// already. `ingested_at` is the current time, in microseconds since the epoch.
    pub fn take(
        &mut self,
        stream: &Arc<Stream>,
        chunk: &Chunk,
        from: i64,
        known_dead: Option<&KnownDead>,
        ingested_at: i64,
    ) -> Result<(), SpeedError> {
        let now = self.plans.epoch();
        let format = chunk.format().map_or(&stream.format, |format| &**format);
        let suits = |open: &Open| open.epoch == now && open.source == stream.source && open.format == *format;
        if !self.decoder.as_ref().is_some_and(suits) {
            self.encode()?;
            let plan = self.plans.plan(stream.kind, format)?;
            let decoder = Decoder::new(plan, &stream.source)?.written_as(written(stream, format));
            let (source, format) = (stream.source.clone(), format.clone());
            self.decoder = Some(Open { source, format, epoch: now, decoder });
        }
        let Some(Open { decoder, .. }) = &mut self.decoder else { return Ok(()) };
        for (record, rejection) in chunk.records_from(from) {
            let is_dead = |payload: &[u8]| known_dead.is_some_and(|known| known.contains(record.offset, payload));
            match rejection {
                None if known_dead.is_some() => decoder.push_again(record, ingested_at, &is_dead),
                None => decoder.push(record, ingested_at),
                Some(_) if is_dead(record.payload) => {}
                Some(rejection) => decoder.reject(record, rejection, ingested_at),
            }
        }
        if decoder.rows() >= BATCH_ROWS || decoder.bytes() >= BATCH_BYTES {
            self.encode()?;
        }
        Ok(())
    }

    /// Moves what the decoder holds into the encoder.
    fn encode(&mut self) -> Result<(), SpeedError> {
        let Some(Open { decoder, .. }) = &mut self.decoder else { return Ok(()) };
        if decoder.rows() + decoder.rejected() == 0 {
            return Ok(());
        }
        let decoded = decoder.finish()?;
        for (field, rows) in decoded.misshapen {
            *self.misshapen.entry(field).or_default() += rows;
        }
        if decoded.rows.num_rows() > 0 {
            self.rows += decoded.rows.num_rows();
            let started = Instant::now();
            self.writer.get_or_insert_with(|| self.appender.writer(&self.writer_settings)).write(&decoded.rows)?;
            self.encoding_time += started.elapsed();
        }
        if decoded.dead_letters.num_rows() > 0 {
            self.rows += decoded.dead_letters.num_rows();
            self.dead_bytes += decoded.dead_letters.get_array_memory_size();
            self.dead_letters.push(decoded.dead_letters);
        }
        Ok(())
    }

    /// The number of rows and dead letters held.
    pub fn rows(&self) -> usize {
        self.rows + self.decoder.as_ref().map_or(0, |open| open.decoder.rows() + open.decoder.rejected())
    }

    /// The approximate memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let decoding = self.decoder.as_ref().map_or(0, |open| open.decoder.bytes());
        decoding + self.dead_bytes + self.writer.as_ref().map_or(0, TableWriter::buffered_bytes)
    }

    /// The time that encoding has taken since the last call.
    pub fn take_encoding_time(&mut self) -> Duration {
        std::mem::take(&mut self.encoding_time)
    }

    /// Returns everything held. The builder is empty afterwards.
    pub fn seal(&mut self) -> Result<Sealed, SpeedError> {
        self.encode()?;
        self.rows = 0;
        self.dead_bytes = 0;
        Ok(Sealed {
            writer: self.writer.take(),
            dead_letters: std::mem::take(&mut self.dead_letters),
            misshapen: std::mem::take(&mut self.misshapen),
        })
    }

    /// Drops everything held.
    pub fn discard(&mut self) {
        self.decoder = None;
        self.writer = None;
        self.dead_letters.clear();
        self.dead_bytes = 0;
        self.rows = 0;
        self.misshapen.clear();
    }
}

/// The streams that have dead letters, by source and partition, and the number of dead letters by
/// reason.
type DeadLetterCounts = (BTreeSet<(String, i32)>, BTreeMap<String, u64>);

/// Counts dead letters.
pub fn count_dead_letters(batches: &[RecordBatch]) -> Result<DeadLetterCounts, SpeedError> {
    let (mut places, mut reasons) = (BTreeSet::new(), BTreeMap::new());
    for batch in batches {
        let columns = Places::of(batch)?;
        let reason = batch.column_by_name("reason").and_then(|c| c.as_string_opt::<i32>()).ok_or_else(lacks_column)?;
        for row in 0..batch.num_rows() {
            *reasons.entry(reason.value(row).to_owned()).or_default() += 1;
            let (topic, partition) = (columns.topic.value(row), columns.partition.value(row));
            if !places.iter().any(|(other, number)| other == topic && *number == partition) {
                places.insert((topic.to_owned(), partition));
            }
        }
    }
    Ok((places, reasons))
}

/// The origin of each row of a batch.
struct Places<'a> {
    topic: &'a StringArray,
    partition: &'a Int32Array,
}

impl Places<'_> {
    fn of(batch: &RecordBatch) -> Result<Places<'_>, SpeedError> {
        let source =
            batch.column_by_name("source").and_then(|column| column.as_struct_opt()).ok_or_else(lacks_column)?;
        let column = |name: &str| source.column_by_name(name).ok_or_else(lacks_column);
        Ok(Places {
            topic: column("topic")?.as_string_opt().ok_or_else(lacks_column)?,
            partition: column("partition")?.as_primitive_opt().ok_or_else(lacks_column)?,
        })
    }
}

fn lacks_column() -> arrow::error::ArrowError {
    arrow::error::ArrowError::SchemaError("dead letters lack a column".to_owned())
}

/// What the lake has stored of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The position in the raw table.
    pub rows: Option<i64>,
    /// The position in the dead letters.
    pub dead_letters: Option<i64>,
    /// The dead letters between the two positions, if the dead letters' is ahead after a crash.
    pub known_dead: Option<Arc<KnownDead>>,
    /// The marks of the stream's topic.
    pub marks: TopicMarks,
}

/// Dead letters that are stored: their positions and a hash of their bytes.
///
/// The hash tells them from those of a topic of the same name on another cluster, which have the
/// same table, topic and offsets. A long dead letter also has a hash of its first [`KEPT_BYTES`].
/// With another `ingest.record_bytes_max` the same record is stored either whole or as these first
/// bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownDead(HashSet<(i64, u128)>);

impl KnownDead {
    /// Whether the record at a position is among them.
    pub fn contains(&self, position: i64, payload: &[u8]) -> bool {
        hashes(payload).any(|hash| self.0.contains(&(position, hash)))
    }
}

impl<P: AsRef<[u8]>> FromIterator<(i64, P)> for KnownDead {
    fn from_iter<I: IntoIterator<Item = (i64, P)>>(letters: I) -> KnownDead {
        let mut known = HashSet::new();
        for (position, payload) in letters {
            known.extend(hashes(payload.as_ref()).map(|hash| (position, hash)));
        }
        KnownDead(known)
    }
}

/// The hash of all bytes, and of the bytes that are stored of a record that is too long.
fn hashes(payload: &[u8]) -> impl Iterator<Item = u128> + '_ {
    std::iter::once(payload).chain(payload.get(..KEPT_BYTES).filter(|kept| kept.len() < payload.len())).map(xxh3_128)
}

/// The dead letters of a stream from a position on, in a version of their table. Dead letters of
/// another kind do not count: a file that was read as the wrong kind of event is read again as the
/// right one.
async fn known_dead(lake: &Lake, version: u64, stream: &Stream, from: Option<i64>) -> Result<KnownDead, LakeError> {
    let provider = lake.provider(DEAD_LETTERS, version).await?;
    let source = |field: &str| col("source").field(field);
    let letters = SessionContext::new()
        .read_table(provider)?
        .filter(
            col("kind")
                .eq(lit(stream.kind.table()))
                .and(source("topic").eq(lit(stream.source.as_str())))
                .and(source("partition").eq(lit(stream.partition)))
                .and(source("offset").gt_eq(lit(from.unwrap_or(i64::MIN)))),
        )?
        .select(vec![source("offset").alias("offset"), cast(col("payload"), DataType::Binary).alias("payload")])?
        .collect()
        .await?;
    let mut known = Vec::new();
    for batch in &letters {
        let offset = batch.column(0).as_primitive_opt::<Int64Type>();
        let payload = batch.column(1).as_binary_opt::<i32>();
        let (Some(offset), Some(payload)) = (offset, payload) else {
            return Err(LakeError::Corrupt(format!("{DEAD_LETTERS} has other columns than adlake writes")));
        };
        known.extend(offset.values().iter().copied().zip(payload.iter().map(Option::unwrap_or_default)));
    }
    Ok(known.into_iter().collect())
}

/// The result of committing a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed {
        /// The total size of the files in bytes.
        bytes: u64,
        /// The number of files.
        files: usize,
        /// By table: how often another commit took the version that ours was meant for.
        conflicts: [(&'static str, u64); 2],
    },
    /// Its rows are not committed: another process has advanced one of the streams.
    Superseded,
}

/// Commits to one table, and to the dead letters, which all tables share.
#[derive(Debug)]
pub struct Committer {
    lake: Lake,
    rows: Appender,
    dead_letters: Arc<Mutex<Appender>>,
    writer_settings: WriterSettings,
}

impl Committer {
    /// A committer for the raw table of a kind, with the columns that the configuration adds.
    /// `dead_letters` appends to `raw/dead_letters`.
    pub async fn open(
        lake: &Lake,
        kind: EventKind,
        columns: &[Field],
        dead_letters: Arc<Mutex<Appender>>,
        settings: &IngestSettings,
    ) -> Result<Committer, SpeedError> {
        let rows = lake.appender_with(kind.raw_table(), columns).await?;
        let writer_settings = settings.writer();
        Ok(Committer { lake: lake.clone(), rows, dead_letters, writer_settings })
    }

    /// What the table and the dead letters have stored of these streams.
    pub async fn stored(&mut self, streams: &[Arc<Stream>]) -> Result<Vec<Stored>, LakeError> {
        let lake = self.lake.clone();
        lake.watch(self.look_up(streams)).await
    }

    async fn look_up(&mut self, streams: &[Arc<Stream>]) -> Result<Vec<Stored>, LakeError> {
        let applications: Vec<String> = streams.iter().map(|stream| stream.application.clone()).collect();
        let topics: BTreeSet<[String; 2]> = streams.iter().filter_map(|stream| marks::applications(stream)).collect();
        let with_marks: Vec<String> = applications.iter().chain(topics.iter().flatten()).cloned().collect();
        let rows = self.rows.stored_all(&with_marks).await?;
        let positions: HashMap<&String, Option<i64>> = with_marks.iter().zip(rows.iter().copied()).collect();
        let (dead, version) = {
            let mut dead_letters = self.dead_letters.lock().await;
            (dead_letters.stored_all(&applications).await?, dead_letters.version())
        };
        let mut stored = Vec::with_capacity(streams.len());
        for ((stream, rows), dead_letters) in streams.iter().zip(rows.iter().copied()).zip(dead) {
            // `None` (never stored) is less than any position.
            let known_dead = match dead_letters > rows {
                true => Some(Arc::new(known_dead(&self.lake, version, stream, rows).await?)),
                false => None,
            };
            let marks = marks::applications(stream).map_or_else(TopicMarks::default, |[id, partitions]| {
                let of = |application| positions.get(&application).copied().flatten();
                TopicMarks { id: of(id), partitions: of(partitions) }
            });
            stored.push(Stored { rows, dead_letters, known_dead, marks });
        }
        Ok(stored)
    }

    /// Uploads and commits: first the dead letters with their positions, if there are any, then the
    /// rows with theirs.
    pub async fn commit(
        &mut self,
        sealed: Sealed,
        advances: Vec<Advance>,
        dead_advances: Vec<Advance>,
    ) -> Result<Outcome, SpeedError> {
        let started = Instant::now();
        let (mut bytes, mut count, mut dead_conflicts) = (0, 0, 0);
        if !sealed.dead_letters.is_empty() {
            let mut appender = self.dead_letters.lock().await;
            let mut writer = appender.writer(&self.writer_settings);
            for batch in &sealed.dead_letters {
                writer.write(batch)?;
            }
            let files = finish(writer).await?;
            bytes += files.iter().map(DataFile::bytes).sum::<u64>();
            count += files.len();
            // A process that commits only rows does not advance the dead letters' positions. So the
            // table's positions are checked here.
            let applications: Vec<String> = advances.iter().map(|advance| advance.application.clone()).collect();
            let stored = self.rows.stored_all(&applications).await?;
            if advances.iter().zip(&stored).any(|(advance, stored)| advance.from != *stored) {
                return Ok(Outcome::Superseded);
            }
            appender.refresh().await?;
            failpoint::hit(failpoint::BEFORE_DEAD_LETTERS);
            if let Appended::Superseded { .. } = appender.commit(files, dead_advances).await? {
                return Ok(Outcome::Superseded);
            }
            dead_conflicts = appender.take_conflicts();
            failpoint::hit(failpoint::AFTER_DEAD_LETTERS);
        }
        let files = match sealed.writer {
            Some(writer) => finish(writer).await?,
            None => Vec::new(),
        };
        bytes += files.iter().map(DataFile::bytes).sum::<u64>();
        count += files.len();
        let uploaded = started.elapsed();
        // Others may have committed since. Reading that now avoids a PUT that fails.
        self.rows.refresh().await?;
        match self.rows.commit(files, advances).await? {
            Appended::Committed { version } => {
                failpoint::hit(failpoint::BEFORE_ACKNOWLEDGE);
                let (upload_ms, commit_ms) =
                    (uploaded.as_millis() as u64, (started.elapsed() - uploaded).as_millis() as u64);
                tracing::debug!(table = self.rows.table(), version, bytes, upload_ms, commit_ms, "committed");
                let conflicts = [(self.rows.table(), self.rows.take_conflicts()), (DEAD_LETTERS, dead_conflicts)];
                Ok(Outcome::Committed { bytes, files: count, conflicts })
            }
            Appended::Superseded { .. } => Ok(Outcome::Superseded),
        }
    }

    /// Waits for background work.
    pub async fn close(self) {
        self.rows.close().await;
    }
}

/// Finishes the files and uploads them. The last pages are compressed here, which would block the
/// runtime's threads.
async fn finish(writer: TableWriter) -> Result<Vec<DataFile>, SpeedError> {
    let runtime = tokio::runtime::Handle::current();
    let finished = tokio::task::spawn_blocking(move || runtime.block_on(writer.finish())).await;
    Ok(finished.map_err(|_| SpeedError::Ended("writing files"))??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::DeadLetters;
    use crate::record::RecordRef;

    fn letters(topic: &str, offsets: impl IntoIterator<Item = i64>) -> RecordBatch {
        let mut letters = DeadLetters::new(EventKind::Impression);
        for offset in offsets {
            let payload = format!("payload {offset}");
            let partition = (offset % 2) as i32;
            let record = RecordRef { payload: payload.as_bytes(), key: None, partition, offset, time: None };
            letters.push(record, if offset < 3 { "early" } else { "late" }, "", 0);
        }
        letters.finish(topic).unwrap().0
    }

    #[test]
    fn counts_dead_letters_by_stream_and_reason() {
        let (places, reasons) = count_dead_letters(&[letters("a", [0, 2, 4]), letters("b", [1, 2, 3, 5])]).unwrap();
        let place = |topic: &str, partition: i32| (topic.to_owned(), partition);
        assert_eq!(places, [place("a", 0), place("b", 0), place("b", 1)].into());
        assert_eq!(reasons, [("early".to_owned(), 4), ("late".to_owned(), 3)].into());
    }

    #[test]
    fn a_long_record_is_known_whole_and_by_what_is_kept_of_it() {
        let long = vec![b'x'; KEPT_BYTES + 1];
        let kept = &long[..KEPT_BYTES];
        for letter in [&long[..], kept] {
            let known: KnownDead = [(7, letter)].into_iter().collect();
            assert!(known.contains(7, &long) && known.contains(7, kept), "{} bytes", letter.len());
            assert!(!known.contains(8, &long) && !known.contains(7, &kept[1..]));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dead_letters_ahead_of_the_rows_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let lake = Lake::open(&adlake_lake::StorageSettings { uri, ..Default::default() }).await.unwrap();
        let appender = Arc::new(Mutex::new(lake.appender(DEAD_LETTERS).await.unwrap()));
        let settings = IngestSettings::default();
        let mut committer = Committer::open(&lake, EventKind::Impression, &[], appender, &settings).await.unwrap();
        let stream = |topic: &str, partition: i32| {
            Arc::new(Stream {
                kind: EventKind::Impression,
                source: topic.to_owned(),
                partition,
                application: format!("{topic} {partition}"),
                format: crate::record::StreamFormat::Json,
            })
        };
        let streams = [stream("a", 0), stream("b", 0), stream("c", 0)];
        let advance = |application: &str, to: i64| Advance { application: application.to_owned(), from: None, to };
        let dead_letters = vec![letters("a", 0..10), letters("b", 0..10)];
        let sealed = Sealed { dead_letters, ..Sealed::default() };
        let dead = vec![advance("a 0", 20), advance("b 0", 20)];
        assert_eq!(committer.stored(&streams[2..]).await.unwrap(), [Stored::default()]);
        let outcome = committer.commit(sealed, vec![advance("a 0", 5), advance("b 0", 20)], dead).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed { files: 1, .. }), "{outcome:?}");

        let stored = committer.stored(&streams).await.unwrap();
        assert_eq!((stored[0].rows, stored[0].dead_letters), (Some(5), Some(20)));
        let known = stored[0].known_dead.clone().unwrap();
        assert_eq!(*known, [6, 8].into_iter().map(|offset| (offset, format!("payload {offset}"))).collect());
        assert!(known.contains(6, b"payload 6") && !known.contains(6, b"another cluster's"));
        assert_eq!(stored[1], Stored { rows: Some(20), dead_letters: Some(20), ..Stored::default() });
        assert_eq!(stored[2], Stored::default());
        // The file was first read as another kind of event. When it is read again, the dead letters
        // of that kind do not count.
        let clicks = Arc::new(Stream { kind: EventKind::Interaction, ..(*streams[0]).clone() });
        let appender = Arc::new(Mutex::new(lake.appender(DEAD_LETTERS).await.unwrap()));
        let mut committer = Committer::open(&lake, EventKind::Interaction, &[], appender, &settings).await.unwrap();
        let stored = committer.stored(&[clicks]).await.unwrap();
        assert_eq!((stored[0].rows, stored[0].dead_letters), (None, Some(20)));
        assert_eq!(stored[0].known_dead.as_deref(), Some(&KnownDead::default()));
    }
}
