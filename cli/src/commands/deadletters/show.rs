//! `adlake deadletters show`: one dead letter, with the bytes that were sent.

use std::io::Write;

use adlake_domain::identity::hex;
use adlake_lake::letters::LetterFilter;
use adlake_lake::{Lake, LakeError};
use anyhow::Result;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use clap::Args;
use serde_json::{Map, Value};

use crate::commands::{ReportFormat, report};
use crate::config::Settings;
use crate::output::cell;

/// One dead letter.
#[derive(Debug, Args)]
pub struct Show {
    /// The topic of the record, or the path of its file
    topic: String,
    /// The partition of the record; 0 for files
    partition: i32,
    /// The offset of the record, or its number in the file (from 0)
    offset: i64,
    /// Print only the bytes of the record, exactly as they were sent
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl Show {
    /// Writes the letter to stdout. It writes several if clusters have topics of the same name.
    pub async fn run(self, lake: &Lake, settings: &Settings) -> Result<()> {
        let filter = LetterFilter {
            topics: vec![self.topic.clone()],
            partition: Some(self.partition),
            offset: Some(self.offset),
            ..LetterFilter::default()
        };
        let context = settings.query.session.context()?;
        let letters = lake.dead_letters(&context, &filter).await?;
        let schema = letters.schema().inner().clone();
        let batches = letters.collect().await.map_err(LakeError::from)?;
        let letters = concat_batches(&schema, &batches)?;
        if letters.num_rows() == 0 {
            let detail = format!(
                "no dead letter has topic {}, partition {} and offset {}",
                self.topic, self.partition, self.offset
            );
            return Err(LakeError::NotFound(detail).into());
        }
        if self.raw {
            let mut out = std::io::stdout().lock();
            for row in 0..letters.num_rows() {
                out.write_all(&payload(&letters, row)?)?;
            }
            return Ok(out.flush()?);
        }
        let found = (0..letters.num_rows()).map(|row| letter(&letters, row)).collect::<Result<Vec<_>>>()?;
        report(self.format, &found, |found| found.iter().map(text).collect())
    }
}

fn payload(letters: &RecordBatch, row: usize) -> Result<Vec<u8>> {
    let column = letters.column_by_name("payload").ok_or_else(|| LakeError::Corrupt("no payload".to_owned()))?;
    let column = cast(column, &DataType::Binary)?;
    let column = column.as_binary::<i32>();
    Ok(if column.is_valid(row) { column.value(row).to_vec() } else { Vec::new() })
}

/// The columns of a letter. Its bytes are text if they are UTF-8, else hex.
fn letter(letters: &RecordBatch, row: usize) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for (field, column) in letters.schema().fields().iter().zip(letters.columns()) {
        if field.name() == "payload" {
            continue;
        }
        let mut text = String::new();
        cell::json(&mut text, column, row);
        let value: Value = serde_json::from_str(&text)?;
        if !value.is_null() {
            object.insert(field.name().clone(), value);
        }
    }
    let bytes = payload(letters, row)?;
    object.insert("bytes".to_owned(), bytes.len().into());
    match String::from_utf8(bytes) {
        Ok(text) => object.insert("payload".to_owned(), text.into()),
        Err(error) => object.insert("payload_hex".to_owned(), hex(error.as_bytes()).into()),
    };
    Ok(object)
}

fn text(letter: &Map<String, Value>) -> String {
    let mut lines = String::new();
    for (name, value) in letter {
        match value {
            Value::String(value) => lines.push_str(&format!("{name:<14} {value}\n")),
            value => lines.push_str(&format!("{name:<14} {value}\n")),
        }
    }
    lines
}
