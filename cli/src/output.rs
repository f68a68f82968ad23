//! Answers, on stdout: a stream of record batches as a table, JSON, CSV or Arrow.
//!
//! At most one batch is buffered, except that a table buffers its first rows to choose its widths.
//! A value looks the same in every text format ([`cell`]): decimals are exact; times are RFC 3339
//! in UTC, with no more fractional digits than they need; bytes are hex.

pub mod cell;
pub mod table;
pub mod json;
pub mod csv;

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use clap::ValueEnum;

/// The formats of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text for people, in aligned columns
    #[default]
    Table,
    /// A JSON array with an object for each row
    Json,
    /// CSV with a header
    Csv,
    /// An Arrow IPC stream
    Arrow,
}

/// Writes batches of one schema.
pub trait BatchWriter {
    /// Writes the rows of a batch.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Writes what follows the last row.
    fn finish(&mut self) -> Result<()>;
}

/// Creates a writer of this format into `out`.
pub fn writer<'a>(format: Format, schema: &SchemaRef, out: impl Write + 'a) -> Result<Box<dyn BatchWriter + 'a>> {
    let out = BufWriter::with_capacity(64 << 10, out);
    Ok(match format {
        Format::Table => Box::new(table::TableWriter::new(schema, out)),
        Format::Json => Box::new(json::JsonWriter::new(schema, out)),
        Format::Csv => Box::new(csv::CsvWriter::new(schema, out)),
        Format::Arrow => Box::new(ArrowWriter(StreamWriter::try_new(out, schema).context("cannot write Arrow")?)),
    })
}

struct ArrowWriter<W: Write>(StreamWriter<W>);

impl<W: Write> BatchWriter for ArrowWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.0.write(batch).and_then(|()| self.0.flush()).map_err(io_error)?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish().and_then(|()| self.0.flush()).map_err(io_error)?)
    }
}

/// Arrow wraps the error of the pipe. The inner error says whether the reader has closed it.
fn io_error(error: arrow::error::ArrowError) -> std::io::Error {
    match error {
        arrow::error::ArrowError::IoError(_, error) => error,
        other => std::io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("campaign", DataType::Utf8, true),
            Field::new("spend", DataType::Decimal128(38, 6), true),
        ]);
        let spend = Decimal128Array::from(vec![Some(1_500_000), None]).with_precision_and_scale(38, 6).unwrap();
        let names = StringArray::from(vec![Some("a,\"b\""), Some("")]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names), Arc::new(spend)]).unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = writer(format, &batch().schema(), &mut out).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        out
    }

    fn check(format: Format, batches: &[RecordBatch], expected: &str) {
        assert_eq!(String::from_utf8(written(format, batches)).unwrap(), expected);
    }

    #[test]
    fn text_formats() {
        check(
            Format::Table,
            &[batch()],
            "campaign     spend\n--------  --------\na,\"b\"     1.500000\n              NULL\n(2 rows)\n",
        );
        check(
            Format::Json,
            &[batch(), batch().slice(1, 1)],
            "[{\"campaign\":\"a,\\\"b\\\"\",\"spend\":1.500000},\n{\"campaign\":\"\",\"spend\":null},\n\
             {\"campaign\":\"\",\"spend\":null}]\n",
        );
        check(Format::Csv, &[batch()], "campaign,spend\n\"a,\"\"b\"\"\",1.500000\n\"\",\n");
    }

    #[test]
    fn without_rows_the_columns_are_told_all_the_same() {
        check(Format::Table, &[], "campaign  spend\n--------  -----\n(0 rows)\n");
        check(Format::Json, &[], "[]\n");
        check(Format::Csv, &[], "campaign,spend\n");
        let bytes = written(Format::Arrow, &[]);
        let read = StreamReader::try_new(&bytes[..], None).unwrap();
        assert_eq!(read.schema(), batch().schema());
    }

    /// A reader that has closed the pipe.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_a_failure() {
        for format in [Format::Table, Format::Json, Format::Csv, Format::Arrow] {
            let written = writer(format, &batch().schema(), Gone).and_then(|mut writer| {
                writer.write(&batch())?;
                writer.finish()
            });
            assert!(crate::failure::is_broken_pipe(&written.unwrap_err()), "{format:?}");
        }
    }

    #[test]
    fn arrow_is_a_stream() {
        let bytes = written(Format::Arrow, &[batch()]);
        let read: Vec<RecordBatch> = StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [batch()]);
    }
}
