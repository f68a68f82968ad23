//! Decodes the records of one table and encodes their rows. It uses the CPU and does no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_decode::Decoder;
use adlake_decode::record::StreamFormat;
use adlake_domain::event::EventKind;
use adlake_lake::{Appender, Lake, TableWriter, WriterSettings};
use arrow::array::RecordBatch;

use super::known_dead::KnownDead;
use crate::error::SpeedError;
use crate::plans::DecodePlans;
use crate::record::{Chunk, Stream};
use crate::settings::IngestSettings;

/// The decoder's rows go to the encoder when there are this many ...
const BATCH_ROWS: usize = 32 << 10;
/// ... or when they take this many bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Builds the rows and dead letters of one table.
pub struct Builder {
    plans: Arc<DecodePlans>,
    /// It makes writers here and commits nothing.
    appender: Appender,
    writer_settings: WriterSettings,
    decoder: Option<OpenDecoder>,
    writer: Option<TableWriter>,
    dead_letters: Vec<RecordBatch>,
    dead_bytes: usize,
    rows: usize,
    misshapen: BTreeMap<String, u64>,
    encoding_time: Duration,
}

/// A decoder, the source and format that it is for, and the epoch of its plan.
struct OpenDecoder {
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
        plans: Arc<DecodePlans>,
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
        let suits = |open: &OpenDecoder| open.epoch == now && open.source == stream.source && open.format == *format;
        if !self.decoder.as_ref().is_some_and(suits) {
            self.encode()?;
            let plan = self.plans.plan(stream.kind, format)?;
            let decoder = Decoder::new(plan, &stream.source)?.written_as(stream.stored_format(format));
            let (source, format) = (stream.source.clone(), format.clone());
            self.decoder = Some(OpenDecoder { source, format, epoch: now, decoder });
        }
        let Some(OpenDecoder { decoder, .. }) = &mut self.decoder else { return Ok(()) };
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
        let Some(OpenDecoder { decoder, .. }) = &mut self.decoder else { return Ok(()) };
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
