//! CSV with a header (RFC 4180, lines end in LF). NULL is an empty cell; an empty text is `""`.

use std::io::{BufWriter, Write};

use anyhow::Result;
use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::output::{BatchWriter, cell};

/// Writes CSV.
pub struct CsvWriter<W: Write> {
    out: BufWriter<W>,
    /// The header, until it is written.
    header: Option<String>,
    line: String,
    cell: String,
}

impl<W: Write> CsvWriter<W> {
    /// A writer whose first line is the header.
    pub fn new(schema: &SchemaRef, out: BufWriter<W>) -> CsvWriter<W> {
        let mut header = String::new();
        for (place, field) in schema.fields().iter().enumerate() {
            if place > 0 {
                header.push(',');
            }
            append(&mut header, field.name());
        }
        header.push('\n');
        CsvWriter { out, header: Some(header), line: String::new(), cell: String::new() }
    }

    fn begin(&mut self) -> Result<()> {
        if let Some(header) = self.header.take() {
            self.out.write_all(header.as_bytes())?;
        }
        Ok(())
    }
}

impl<W: Write> BatchWriter for CsvWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.begin()?;
        for row in 0..batch.num_rows() {
            self.line.clear();
            for (place, column) in batch.columns().iter().enumerate() {
                if place > 0 {
                    self.line.push(',');
                }
                if column.data_type().is_null() || column.is_null(row) {
                    continue;
                }
                self.cell.clear();
                cell::value(&mut self.cell, column, row);
                append(&mut self.line, &self.cell);
            }
            self.line.push('\n');
            self.out.write_all(self.line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.begin()?;
        Ok(self.out.flush()?)
    }
}

fn append(line: &mut String, text: &str) {
    let plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']);
    if plain {
        line.push_str(text);
        return;
    }
    line.push('"');
    for part in text.split_inclusive('"') {
        line.push_str(part);
        if part.ends_with('"') {
            line.push('"');
        }
    }
    line.push('"');
}
