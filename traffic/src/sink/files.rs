//! Writes records into files: NDJSON, CSV with a header, Avro containers. A new file begins after a
//! fixed number of records.
//!
//! A file gets its name when it is complete; until then it is `<name>.part`. Text files are
//! compressed as a whole, with gzip or zstd. Avro files use the container's own codec (deflate,
//! zstandard).

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use adlake_domain::event::EventKind;
use flate2::Compression as Level;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::encode_avro::{bytes, long};
use crate::encode_text::CSV_HEADER;
use crate::error::TrafficError;
use crate::plan::kind_index;
use crate::random::mix;
use crate::sink::{Compression, Sink};

const ZSTD_LEVEL: i32 = 1;
const BLOCK_BYTES: usize = 64 << 10;
/// The buffer before the file or its compressor.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes into a folder.
pub struct FileSink {
    folder: PathBuf,
    compression: Compression,
    records_per_file: u64,
    schema: String,
    sync: [u8; 16],
    open: [Option<OpenFile>; 3],
    begun: [u32; 3],
}

struct OpenFile {
    path: PathBuf,
    part: PathBuf,
    writer: Writer,
    records: u64,
}

enum Writer {
    Plain(BufWriter<File>),
    Gzip(BufWriter<GzEncoder<File>>),
    Zstd(BufWriter<zstd::Encoder<'static, File>>),
    Avro { file: BufWriter<File>, block: Vec<u8>, count: i64 },
}

impl fmt::Debug for FileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl FileSink {
    /// Creates a sink and its `folder`. A folder that already holds generated files is refused.
    pub fn create(
        folder: &Path,
        compression: Compression,
        records_per_file: u64,
        schema: &str,
        seed: u64,
    ) -> Result<FileSink, TrafficError> {
        fs::create_dir_all(folder).map_err(TrafficError::file("create the folder", &folder))?;
        for kind in EventKind::ALL {
            let first = folder.join(file_name(kind, 0, compression));
            if first.exists() {
                return Err(TrafficError::FolderInUse(first));
            }
        }
        let mut sync = [0; 16];
        for (place, byte) in sync.iter_mut().enumerate() {
            *byte = (mix(seed ^ place as u64) & 0xff) as u8;
        }
        Ok(FileSink {
            folder: folder.to_owned(),
            compression,
            records_per_file,
            schema: schema.to_owned(),
            sync,
            open: [const { None }; 3],
            begun: [0; 3],
        })
    }

    fn begin(&mut self, kind: EventKind) -> Result<OpenFile, TrafficError> {
        let number = self.begun[kind_index(kind)];
        self.begun[kind_index(kind)] += 1;
        let path = self.folder.join(file_name(kind, number, self.compression));
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(TrafficError::file("write", &part))?;
        let mut writer = match (kind, self.compression) {
            (EventKind::BidRequest, _) => {
                let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
                file.write_all(&self.container_header()).map_err(TrafficError::file("write", &part))?;
                Writer::Avro { file, block: Vec::with_capacity(BLOCK_BYTES * 2), count: 0 }
            }
            (_, Compression::None) => Writer::Plain(BufWriter::with_capacity(BUFFER_BYTES, file)),
            (_, Compression::Gzip) => {
                Writer::Gzip(BufWriter::with_capacity(BUFFER_BYTES, GzEncoder::new(file, Level::fast())))
            }
            (_, Compression::Zstd) => {
                let encoder = zstd::Encoder::new(file, ZSTD_LEVEL).map_err(TrafficError::file("write", &part))?;
                Writer::Zstd(BufWriter::with_capacity(BUFFER_BYTES, encoder))
            }
        };
        if kind == EventKind::Interaction {
            writer.line(CSV_HEADER.as_bytes()).map_err(TrafficError::file("write", &part))?;
        }
        Ok(OpenFile { path, part, writer, records: 0 })
    }

    fn container_header(&self) -> Vec<u8> {
        let codec = match self.compression {
            Compression::None => "null",
            Compression::Gzip => "deflate",
            Compression::Zstd => "zstandard",
        };
        let mut header = b"Obj\x01".to_vec();
        long(&mut header, 2);
        for (key, value) in [("avro.schema", self.schema.as_str()), ("avro.codec", codec)] {
            bytes(&mut header, key.as_bytes());
            bytes(&mut header, value.as_bytes());
        }
        long(&mut header, 0);
        header.extend_from_slice(&self.sync);
        header
    }

    fn end(&mut self, open: OpenFile) -> Result<(), TrafficError> {
        let ended = match open.writer {
            Writer::Plain(writer) => writer.into_inner().map_err(|error| error.into_error()),
            Writer::Gzip(writer) => {
                writer.into_inner().map_err(|error| error.into_error()).and_then(|encoder| encoder.finish())
            }
            Writer::Zstd(writer) => {
                writer.into_inner().map_err(|error| error.into_error()).and_then(|encoder| encoder.finish())
            }
            Writer::Avro { mut file, mut block, mut count } => {
                write_block(&mut file, &mut block, &mut count, self.compression, &self.sync)
                    .and_then(|()| file.into_inner().map_err(|error| error.into_error()))
            }
        };
        ended.and_then(|file| file.sync_all()).map_err(TrafficError::file("write", &open.part))?;
        fs::rename(&open.part, &open.path).map_err(TrafficError::file("rename", &open.part))
    }
}

impl Sink for FileSink {
    fn send(&mut self, kind: EventKind, _key: &[u8], payload: &[u8]) -> Result<(), TrafficError> {
        let place = kind_index(kind);
        let mut open = match self.open[place].take() {
            Some(open) => open,
            None => self.begin(kind)?,
        };
        let written = match &mut open.writer {
            Writer::Avro { file, block, count } => {
                block.extend_from_slice(payload);
                *count += 1;
                if block.len() >= BLOCK_BYTES {
                    write_block(file, block, count, self.compression, &self.sync)
                } else {
                    Ok(())
                }
            }
            writer => writer.line(payload),
        };
        written.map_err(TrafficError::file("write", &open.part))?;
        open.records += 1;
        if open.records >= self.records_per_file {
            return self.end(open);
        }
        self.open[place] = Some(open);
        Ok(())
    }

    fn pause(&mut self) -> Result<(), TrafficError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TrafficError> {
        for place in 0..self.open.len() {
            if let Some(open) = self.open[place].take() {
                self.end(open)?;
            }
        }
        Ok(())
    }
}

impl Writer {
    fn line(&mut self, line: &[u8]) -> std::io::Result<()> {
        let writer: &mut dyn Write = match self {
            Writer::Plain(writer) => writer,
            Writer::Gzip(writer) => writer,
            Writer::Zstd(writer) => writer,
            Writer::Avro { file, .. } => file,
        };
        writer.write_all(line)?;
        writer.write_all(b"\n")
    }
}

fn write_block(
    file: &mut BufWriter<File>,
    block: &mut Vec<u8>,
    count: &mut i64,
    compression: Compression,
    sync: &[u8; 16],
) -> std::io::Result<()> {
    if *count == 0 {
        return Ok(());
    }
    let compressed = match compression {
        Compression::None => None,
        Compression::Gzip => {
            let mut encoder = DeflateEncoder::new(Vec::with_capacity(block.len() / 2), Level::fast());
            encoder.write_all(block)?;
            Some(encoder.finish()?)
        }
        Compression::Zstd => Some(zstd::bulk::compress(block, ZSTD_LEVEL)?),
    };
    let data = compressed.as_ref().unwrap_or(block);
    let mut head = Vec::with_capacity(20);
    long(&mut head, *count);
    long(&mut head, data.len() as i64);
    file.write_all(&head)?;
    file.write_all(data)?;
    file.write_all(sync)?;
    block.clear();
    *count = 0;
    Ok(())
}

/// `impressions-00000.ndjson.gz` and its like.
fn file_name(kind: EventKind, number: u32, compression: Compression) -> String {
    let format = match kind {
        EventKind::Impression => "ndjson",
        EventKind::Interaction => "csv",
        EventKind::BidRequest => return format!("{kind}-{number:05}.avro"),
    };
    let suffix = match compression {
        Compression::None => "",
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };
    format!("{kind}-{number:05}.{format}{suffix}")
}
