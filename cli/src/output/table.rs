//! Aligned columns. Numbers are aligned right, and NULL is `NULL`.
//!
//! The first rows determine the widths. A longer value in a later row pushes the rest of its line
//! to the right.

use std::io::{BufWriter, Write};

use anyhow::Result;
use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::output::{BatchWriter, cell};

/// How many rows determine the widths.
const SAMPLE_ROWS: usize = 1_000;
/// A column is aligned up to this width only.
const WIDTH_MAX: usize = 60;

/// Writes a table.
pub struct TableWriter<W: Write> {
    out: BufWriter<W>,
    schema: SchemaRef,
    /// Set when the first rows are written.
    widths: Vec<usize>,
    /// Rows that wait until the widths are chosen.
    waiting: Vec<RecordBatch>,
    rows: u64,
}

impl<W: Write> TableWriter<W> {
    /// A table of these columns.
    pub fn new(schema: &SchemaRef, out: BufWriter<W>) -> TableWriter<W> {
        TableWriter { out, schema: schema.clone(), widths: Vec::new(), waiting: Vec::new(), rows: 0 }
    }

    fn begin(&mut self) -> Result<()> {
        if !self.widths.is_empty() || self.schema.fields().is_empty() {
            return Ok(());
        }
        let fields = self.schema.fields();
        self.widths = fields.iter().map(|field| width(field.name())).collect();
        let mut sampled = 0;
        for batch in &self.waiting {
            let rows = batch.num_rows().min(SAMPLE_ROWS - sampled);
            for (place, column) in batch.columns().iter().enumerate() {
                for row in 0..rows {
                    let text = text(column, row);
                    self.widths[place] = self.widths[place].max(width(&text).min(WIDTH_MAX));
                }
            }
            sampled += rows;
        }
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        self.line(&names)?;
        let rule: Vec<String> = self.widths.iter().map(|width| "-".repeat(*width)).collect();
        writeln!(self.out, "{}", rule.join("  "))?;
        Ok(())
    }

    /// Writes a row. It takes as many lines as its tallest cell.
    fn line(&mut self, cells: &[String]) -> Result<()> {
        let lines = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for number in 0..lines {
            let parts: Vec<&str> = cells.iter().map(|cell| cell.split('\n').nth(number).unwrap_or_default()).collect();
            self.part(&parts)?;
        }
        Ok(())
    }

    fn part(&mut self, cells: &[&str]) -> Result<()> {
        let mut line = String::new();
        for (place, (cell, field)) in cells.iter().zip(self.schema.fields()).enumerate() {
            if place > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(self.widths[place].saturating_sub(width(cell)));
            if cell::is_number(field.data_type()) {
                line.push_str(&padding);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&padding);
            }
        }
        writeln!(self.out, "{}", line.trim_end())?;
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch.columns().iter().map(|column| text(column, row)).collect();
            self.line(&cells)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        self.begin()?;
        for batch in std::mem::take(&mut self.waiting) {
            self.rows(&batch)?;
        }
        Ok(())
    }
}

impl<W: Write> BatchWriter for TableWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.widths.is_empty() {
            return self.rows(batch);
        }
        self.waiting.push(batch.clone());
        if self.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= SAMPLE_ROWS {
            self.release()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.release()?;
        let rows = self.rows;
        writeln!(self.out, "({rows} {})", if rows == 1 { "row" } else { "rows" })?;
        Ok(self.out.flush()?)
    }
}

/// The text of a cell. Few texts contain line ends: query plans, for example.
fn text(column: &arrow::array::ArrayRef, row: usize) -> String {
    if column.data_type().is_null() || column.is_null(row) {
        return "NULL".to_owned();
    }
    let mut text = String::new();
    cell::value(&mut text, column, row);
    // A control character becomes a space: an escape sequence would reach the terminal.
    let breaks = |character: char| character.is_control() && character != '\n';
    if text.contains(breaks) {
        text = text.chars().map(|character| if breaks(character) { ' ' } else { character }).collect();
    }
    text
}

/// The number of characters in the longest line.
fn width(text: &str) -> usize {
    text.split('\n').map(|line| line.chars().count()).max().unwrap_or(0)
}
