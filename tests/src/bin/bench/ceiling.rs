//! The most that the hardware could do. Arrow's own decoders turn records into columns, and Parquet
//! with zstd(1) encodes the columns, on one thread. Nothing else runs: no Kafka, no checks, no ids,
//! no enrichment, no Delta.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::schema;
use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::Schema;
use arrow::json;
use arrow_avro::reader::ReaderBuilder as AvroReaderBuilder;
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::program::thread_cpu;

const BATCH_ROWS: usize = 8192;

/// The format of records, which also determines their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Avro,
}

impl Format {
    pub fn kind(self) -> EventKind {
        match self {
            Format::Json => EventKind::Impression,
            Format::Csv => EventKind::Interaction,
            Format::Avro => EventKind::BidRequest,
        }
    }

    /// The format and kind, for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "JSON impressions",
            Format::Csv => "CSV clicks and conversions",
            Format::Avro => "Avro bid requests",
        }
    }
}

/// Records in memory, in the form in which the ceiling reads them.
pub enum Sample {
    Json(Vec<Vec<u8>>),
    /// With its schema; the columns are in the schema's order.
    Csv(Vec<Vec<u8>>, Arc<Schema>),
    /// A container, and the number of records in it.
    Avro(Vec<u8>, usize),
}

impl Sample {
    /// Loads the sample from the only file in a folder that `generate` wrote.
    pub fn load(format: Format, folder: &Path) -> Result<Sample> {
        let file = the_file(folder)?;
        match format {
            Format::Json => Ok(Sample::Json(lines(&file)?)),
            Format::Csv => {
                let mut lines = lines(&file)?;
                let header = String::from_utf8(lines.remove(0))?;
                let schema = columns(format, header.split(','))?;
                let lines = lines.iter().map(|line| with_plain_time(line)).collect::<Result<_>>()?;
                Ok(Sample::Csv(lines, schema))
            }
            Format::Avro => {
                let bytes = fs::read(&file)?;
                let mut records = 0;
                for batch in AvroReaderBuilder::new().build(Cursor::new(&bytes))? {
                    records += batch?.num_rows();
                }
                Ok(Sample::Avro(bytes, records))
            }
        }
    }

    pub fn records(&self) -> usize {
        match self {
            Sample::Json(lines) | Sample::Csv(lines, _) => lines.len(),
            Sample::Avro(_, records) => *records,
        }
    }

    /// Mean bytes of a record.
    pub fn record_bytes(&self) -> usize {
        let bytes = match self {
            Sample::Json(lines) | Sample::Csv(lines, _) => lines.iter().map(Vec::len).sum(),
            Sample::Avro(bytes, _) => bytes.len(),
        };
        bytes / self.records()
    }

    /// Measures the rows per CPU-second.
    pub fn ceiling(&self) -> Result<f64> {
        let started = thread_cpu();
        let rows = match self {
            Sample::Json(lines) => encode_json(lines)?,
            Sample::Csv(lines, schema) => encode_csv(lines, schema)?,
            Sample::Avro(bytes, _) => {
                let reader = AvroReaderBuilder::new().with_batch_size(BATCH_ROWS).build(Cursor::new(bytes))?;
                let mut parquet = Encoder::default();
                for batch in reader {
                    parquet.write(&batch?)?;
                }
                parquet.finish()?
            }
        };
        ensure!(rows == self.records(), "the ceiling decoded {rows} of {} rows", self.records());
        Ok(rows as f64 / (thread_cpu() - started).as_secs_f64())
    }
}

fn the_file(folder: &Path) -> Result<PathBuf> {
    let files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(files.len() == 1, "{} holds {} files", folder.display(), files.len());
    files.into_iter().next().context("no file")
}

fn lines(file: &Path) -> Result<Vec<Vec<u8>>> {
    Ok(BufReader::new(File::open(file)?).split(b'\n').collect::<Result<_, _>>()?)
}

/// The columns of a kind, under the names that they have in records.
fn columns<'a>(format: Format, names: impl Iterator<Item = &'a str>) -> Result<Arc<Schema>> {
    let fields = as_sent(format);
    let field = |name: &str| {
        let found = fields.iter().find(|field| field.name() == name);
        found.cloned().with_context(|| format!("no column {name}"))
    };
    Ok(Arc::new(Schema::new(names.map(field).collect::<Result<Vec<_>>>()?)))
}

fn as_sent(format: Format) -> Vec<arrow::datatypes::Field> {
    let fields = schema::content_fields(format.kind()).into_iter();
    fields.map(|field| if field.name() == "event_time" { field.with_name("timestamp") } else { field }).collect()
}

/// Rewrites the time in the first cell of a CSV line so that arrow-csv can read it.
fn with_plain_time(line: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(line)?;
    let (time, rest) = text.split_once(',').context("a line has only one cell")?;
    let time = match time.parse::<i64>() {
        Ok(millis) => {
            let time = DateTime::from_timestamp_millis(millis).context("a time out of range")?;
            time.to_rfc3339_opts(SecondsFormat::Millis, true)
        }
        Err(_) => time.to_owned(),
    };
    Ok(format!("{time},{rest}").into_bytes())
}

/// Writes Parquet into memory.
#[derive(Default)]
struct Encoder {
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
}

impl Encoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
                let properties = WriterProperties::builder().set_compression(zstd).build();
                none.insert(ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?)
            }
        };
        self.rows += batch.num_rows();
        Ok(writer.write(batch)?)
    }

    fn finish(self) -> Result<usize> {
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(self.rows)
    }
}

fn encode_json(lines: &[Vec<u8>]) -> Result<usize> {
    let schema = Arc::new(Schema::new(as_sent(Format::Json)));
    let mut decoder = json::ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut parquet = Encoder::default();
    for batch in lines.chunks(BATCH_ROWS) {
        for line in batch {
            ensure!(decoder.decode(line)? == line.len(), "the ceiling's decoder stopped early");
        }
        if let Some(batch) = decoder.flush()? {
            parquet.write(&batch)?;
        }
    }
    parquet.finish()
}

fn encode_csv(lines: &[Vec<u8>], schema: &Arc<Schema>) -> Result<usize> {
    let mut decoder = csv::ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS).build_decoder();
    let mut parquet = Encoder::default();
    for batch in lines.chunks(BATCH_ROWS) {
        for line in batch {
            ensure!(decoder.decode(line)? == line.len(), "the ceiling's decoder stopped early");
            decoder.decode(b"\n")?;
        }
        if let Some(batch) = decoder.flush()? {
            parquet.write(&batch)?;
        }
    }
    parquet.finish()
}
