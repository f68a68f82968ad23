//! One JSON array of objects, with one object a line.

use std::io::{BufWriter, Write};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::output::{BatchWriter, cell};

/// Writes JSON.
pub struct JsonWriter<W: Write> {
    out: BufWriter<W>,
    /// `"name":` of each column.
    names: Vec<String>,
    rows: u64,
    line: String,
}

impl<W: Write> JsonWriter<W> {
    /// Begins the array.
    pub fn new(schema: &SchemaRef, out: BufWriter<W>) -> JsonWriter<W> {
        let name = |field: &arrow::datatypes::FieldRef| {
            let mut name = String::new();
            cell::string(&mut name, field.name());
            name + ":"
        };
        JsonWriter { out, names: schema.fields().iter().map(name).collect(), rows: 0, line: String::new() }
    }
}

impl<W: Write> BatchWriter for JsonWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            self.line.clear();
            self.line.push_str(if self.rows == 0 { "[{" } else { ",\n{" });
            self.rows += 1;
            for (place, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
                if place > 0 {
                    self.line.push(',');
                }
                self.line.push_str(name);
                cell::json(&mut self.line, column, row);
            }
            self.line.push('}');
            self.out.write_all(self.line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.out.write_all(if self.rows == 0 { b"[]\n" } else { b"]\n" })?;
        Ok(self.out.flush()?)
    }
}
