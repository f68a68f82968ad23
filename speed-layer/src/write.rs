//! Decoded rows become Parquet, and Parquet becomes a commit.
//!
//! [`Builder`] holds what has been taken of one table and not been sealed: the CPU's part, no I/O. [`Committer`] uploads and commits
//! what was sealed, dead letters first. If it fails in between, the dead letters' position is ahead of the rows', which the
//! ledger knows how to take up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use adlake_lake::{Advance, Appended, Appender, DataFile, Lake, LakeError, TableWriter, WriterSettings};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use tokio::sync::Mutex;

use crate::decode::Decoder;
use crate::error::SpeedError;
use crate::plans::Plans;
use crate::record::{Chunk, Stream};
use crate::settings::IngestSettings;

/// Rows are handed from the columns' builders to the encoder when there are so many ...
const BATCH_ROWS: usize = 32 << 10;
/// ... or so many bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Rows and dead letters of one table in the making.
pub struct Builder {
    plans: Arc<Plans>,
    /// Makes writers; commits nothing.
    appender: Appender,
    writer_settings: WriterSettings,
    /// The stream whose source and format the decoder is for, and the epoch of its plan.
    decoder: Option<(Arc<Stream>, u64, Decoder)>,
    writer: Option<TableWriter>,
    dead_letters: Vec<RecordBatch>,
    dead_bytes: usize,
    rows: usize,
    encoding_time: Duration,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("table", &self.appender.table()).field("rows", &self.rows()).finish_non_exhaustive()
    }
}

/// What is to be committed, beside positions.
#[derive(Debug, Default)]
pub struct Sealed {
    /// The rows; none: positions advance all the same.
    pub writer: Option<TableWriter>,
    /// Dead letters, in any order.
    pub dead_letters: Vec<RecordBatch>,
}

impl Builder {
    /// For the raw table of a kind, which is created if need be.
    pub async fn open(lake: &Lake, kind: EventKind, plans: Arc<Plans>, settings: &IngestSettings) -> Result<Builder, SpeedError> {
        let appender = lake.appender(kind.raw_table()).await?;
        let writer_settings = WriterSettings { compression_level: settings.compression_level, ..WriterSettings::default() };
        Ok(Builder {
            plans,
            appender,
            writer_settings,
            decoder: None,
            writer: None,
            dead_letters: Vec::new(),
            dead_bytes: 0,
            rows: 0,
            encoding_time: Duration::ZERO,
        })
    }

    /// Takes the records of a chunk from a position on. `ingested_at` is now, in microseconds since the epoch.
    pub fn take(&mut self, stream: &Arc<Stream>, chunk: &Chunk, from: i64, ingested_at: i64) -> Result<(), SpeedError> {
        let now = self.plans.epoch();
        let suits = |other: &Stream, epoch: u64| {
            epoch == now && other.source == stream.source && other.format == stream.format
        };
        if !self.decoder.as_ref().is_some_and(|(other, epoch, _)| suits(other, *epoch)) {
            self.encode()?;
            let decoder = Decoder::new(self.plans.plan(stream)?, &stream.source)?;
            self.decoder = Some((stream.clone(), now, decoder));
        }
        let Some((_, _, decoder)) = &mut self.decoder else { return Ok(()) };
        for (record, rejection) in chunk.records_from(from) {
            match rejection {
                None => decoder.push(record, ingested_at),
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
        let Some((_, _, decoder)) = &mut self.decoder else { return Ok(()) };
        if decoder.rows() + decoder.rejected() == 0 {
            return Ok(());
        }
        let decoded = decoder.finish()?;
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

    /// Rows and dead letters held.
    pub fn rows(&self) -> usize {
        self.rows + self.decoder.as_ref().map_or(0, |(_, _, decoder)| decoder.rows() + decoder.rejected())
    }

    /// Memory held, approximately.
    pub fn bytes(&self) -> usize {
        let decoding = self.decoder.as_ref().map_or(0, |(_, _, decoder)| decoder.bytes());
        decoding + self.dead_bytes + self.writer.as_ref().map_or(0, TableWriter::buffered_bytes)
    }

    /// How long encoding has taken since this was last asked.
    pub fn take_encoding_time(&mut self) -> Duration {
        std::mem::take(&mut self.encoding_time)
    }

    /// Hands out everything held, and begins anew.
    pub fn seal(&mut self) -> Result<Sealed, SpeedError> {
        self.encode()?;
        self.rows = 0;
        self.dead_bytes = 0;
        Ok(Sealed { writer: self.writer.take(), dead_letters: std::mem::take(&mut self.dead_letters) })
    }

    /// Drops everything held.
    pub fn discard(&mut self) {
        self.decoder = None;
        self.writer = None;
        self.dead_letters.clear();
        self.dead_bytes = 0;
        self.rows = 0;
    }
}

/// Keeps the dead letters for which `keep` says so of their source, partition and position. Also how many are kept per reason.
pub fn filter_dead_letters(
    batches: Vec<RecordBatch>,
    mut keep: impl FnMut(&str, i32, i64) -> bool,
) -> Result<(Vec<RecordBatch>, BTreeMap<String, u64>), SpeedError> {
    let mut kept = Vec::with_capacity(batches.len());
    let mut reasons = BTreeMap::new();
    for batch in batches {
        let wrong = || arrow::error::ArrowError::SchemaError("dead letters lack a column".to_owned());
        let source = batch.column_by_name("source").and_then(|column| column.as_struct_opt()).ok_or_else(wrong)?;
        let topic = source.column_by_name("topic").and_then(|column| column.as_string_opt::<i32>()).ok_or_else(wrong)?;
        let partition = source.column_by_name("partition").and_then(|c| c.as_primitive_opt::<Int32Type>()).ok_or_else(wrong)?;
        let offset = source.column_by_name("offset").and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
        let reason = batch.column_by_name("reason").and_then(|c| c.as_string_opt::<i32>()).ok_or_else(wrong)?;
        let mask: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(keep(topic.value(row), partition.value(row), offset.value(row))))
            .collect();
        for row in (0..batch.num_rows()).filter(|row| mask.value(*row)) {
            *reasons.entry(reason.value(row).to_owned()).or_default() += 1;
        }
        if mask.true_count() == batch.num_rows() {
            kept.push(batch);
        } else if mask.true_count() > 0 {
            kept.push(filter_record_batch(&batch, &mask)?);
        }
    }
    Ok((kept, reasons))
}

/// What became of a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in.
    Committed {
        /// Bytes of the files.
        bytes: u64,
        /// How many files there are.
        files: usize,
    },
    /// Its rows are not in: somebody else has moved one of the streams.
    Superseded,
}

/// Commits to one table, and to the dead letters that all tables share.
#[derive(Debug)]
pub struct Committer {
    rows: Appender,
    dead_letters: Arc<Mutex<Appender>>,
    writer_settings: WriterSettings,
}

impl Committer {
    /// For the raw table of a kind. `dead_letters` appends to `raw/dead_letters`.
    pub async fn open(
        lake: &Lake,
        kind: EventKind,
        dead_letters: Arc<Mutex<Appender>>,
        settings: &IngestSettings,
    ) -> Result<Committer, SpeedError> {
        let rows = lake.appender(kind.raw_table()).await?;
        let writer_settings = WriterSettings { compression_level: settings.compression_level, ..WriterSettings::default() };
        Ok(Committer { rows, dead_letters, writer_settings })
    }

    /// The stored positions of streams, in the table and in the dead letters.
    pub async fn stored(&mut self, applications: &[String]) -> Result<Vec<(Option<i64>, Option<i64>)>, LakeError> {
        let rows = self.rows.stored_all(applications).await?;
        let dead = self.dead_letters.lock().await.stored_all(applications).await?;
        Ok(rows.into_iter().zip(dead).collect())
    }

    /// Uploads and commits: the dead letters with their positions, if there are any, then the rows with theirs.
    pub async fn commit(
        &mut self,
        sealed: Sealed,
        advances: Vec<Advance>,
        dead_advances: Vec<Advance>,
    ) -> Result<Outcome, SpeedError> {
        let started = Instant::now();
        let (mut bytes, mut count) = (0, 0);
        if !sealed.dead_letters.is_empty() {
            let mut appender = self.dead_letters.lock().await;
            let mut writer = appender.writer(&self.writer_settings);
            for batch in &sealed.dead_letters {
                writer.write(batch)?;
            }
            let files = finish(writer).await?;
            bytes += files.iter().map(DataFile::bytes).sum::<u64>();
            count += files.len();
            if let Appended::Superseded { .. } = appender.commit(files, dead_advances).await? {
                return Ok(Outcome::Superseded);
            }
        }
        let files = match sealed.writer {
            Some(writer) => finish(writer).await?,
            None => Vec::new(),
        };
        bytes += files.iter().map(DataFile::bytes).sum::<u64>();
        count += files.len();
        let uploaded = started.elapsed();
        match self.rows.commit(files, advances).await? {
            Appended::Committed { version } => {
                let (upload_ms, commit_ms) = (uploaded.as_millis() as u64, (started.elapsed() - uploaded).as_millis() as u64);
                tracing::debug!(table = self.rows.table(), version, bytes, upload_ms, commit_ms, "committed");
                Ok(Outcome::Committed { bytes, files: count })
            }
            Appended::Superseded { .. } => Ok(Outcome::Superseded),
        }
    }

    /// Waits for what goes on in the background.
    pub async fn close(self) {
        self.rows.close().await;
    }
}

/// Finishes and uploads. The last pages are compressed here, so that this leaves the runtime's threads.
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

    #[test]
    fn filters_dead_letters_by_where_they_came_from() {
        let mut letters = DeadLetters::new(EventKind::Impression);
        for offset in 0..6 {
            let record = RecordRef { payload: b"x", key: None, partition: (offset % 2) as i32, offset, time: None };
            letters.push(record, if offset < 3 { "early" } else { "late" }, "", 0);
        }
        let (batch, _) = letters.finish("topic").unwrap();
        let keep = |topic: &str, partition: i32, offset: i64| topic == "topic" && (partition == 0 || offset >= 5);
        let (kept, reasons) = filter_dead_letters(vec![batch.clone()], keep).unwrap();
        assert_eq!(kept.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
        assert_eq!(reasons, [("early".to_owned(), 2), ("late".to_owned(), 2)].into());
        let (kept, _) = filter_dead_letters(vec![batch.clone()], |_, _, _| true).unwrap();
        assert_eq!(kept, [batch.clone()]);
        let (kept, reasons) = filter_dead_letters(vec![batch], |_, _, _| false).unwrap();
        assert!(kept.is_empty() && reasons.is_empty());
    }
}
