//! A Parquet file that is being written, in memory. [`Encoder`] says what encodes it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use super::encoder::{FileEncoder, LibraryEncoder};
use super::fast::FastEncoder;
use super::{Encoder, WriterSettings, encoding};

/// Writes rows of one schema into one file.
#[derive(Debug)]
pub(super) struct FileWriter {
    encoder: Box<dyn FileEncoder>,
    /// Whether a write failed halfway, so that the columns differ in length.
    is_torn: bool,
}

impl FileWriter {
    /// `bounded` names the text columns whose statistics are kept.
    pub(super) fn new(schema: &SchemaRef, bounded: &[&'static str], settings: &WriterSettings) -> Result<FileWriter> {
        let properties = encoding::properties(schema, bounded, settings)?;
        let encoder: Box<dyn FileEncoder> = match settings.encoder {
            Encoder::Library => Box::new(LibraryEncoder::new(schema.clone(), properties)?),
            Encoder::Fast => Box::new(FastEncoder::new(schema.clone(), properties, encoding::zstd_level(settings))?),
        };
        Ok(FileWriter { encoder, is_torn: false })
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        self.encoder.encoded_bytes()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.encoder.memory_bytes()
    }

    /// Encodes rows. They must have the file's schema. After an error the file is unusable.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if std::mem::replace(&mut self.is_torn, true) {
            return Err(torn());
        }
        self.encoder.encode(batch)?;
        self.is_torn = false;
        Ok(())
    }

    /// Ends the file and returns its bytes and its metadata.
    pub(super) fn finish(self) -> Result<(Vec<Bytes>, ParquetMetaData)> {
        if self.is_torn { Err(torn()) } else { self.encoder.finish() }
    }
}

fn torn() -> ParquetError {
    ParquetError::General("this file cannot be finished, because a write of rows into it has failed before".to_owned())
}
