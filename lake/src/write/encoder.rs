//! What encodes the rows of a file. A faster encoder writes the events and dead letters of ingest
//! and replays, and the batch tables ([`mod@super::fast`]). The Parquet library writes everything
//! else: reference data, `raw/files`, and the files that are written again to mark dead letters.
//! Both write the same rows with the same encodings.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;

use super::pieces::Pieces;

/// Encodes rows of one schema into one file.
pub(super) trait FileEncoder: std::fmt::Debug + Send {
    /// Encodes rows. They must have the file's schema. After an error the encoder is unusable.
    fn encode(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Bytes of the file so far and of the open row group, approximately.
    fn encoded_bytes(&self) -> usize;

    /// Bytes held in memory, approximately.
    fn memory_bytes(&self) -> usize;

    /// Ends the file and returns its bytes and its metadata.
    fn finish(self: Box<Self>) -> Result<(Vec<Bytes>, ParquetMetaData)>;
}

/// The Parquet library.
pub(super) struct LibraryEncoder(ArrowWriter<Pieces>);

impl std::fmt::Debug for LibraryEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibraryEncoder").finish_non_exhaustive()
    }
}

impl LibraryEncoder {
    pub(super) fn new(schema: SchemaRef, properties: WriterProperties) -> Result<LibraryEncoder> {
        Ok(LibraryEncoder(ArrowWriter::try_new(Pieces::default(), schema, Some(properties))?))
    }
}

impl FileEncoder for LibraryEncoder {
    fn encode(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch)
    }

    fn encoded_bytes(&self) -> usize {
        self.0.bytes_written() + self.0.in_progress_size()
    }

    fn memory_bytes(&self) -> usize {
        self.0.bytes_written() + self.0.memory_size()
    }

    fn finish(mut self: Box<Self>) -> Result<(Vec<Bytes>, ParquetMetaData)> {
        let metadata = self.0.finish()?;
        Ok((std::mem::take(self.0.inner_mut()).finish(), metadata))
    }
}
