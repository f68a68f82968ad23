//! Reading a file of reference data: CSV, JSON, NDJSON or Parquet. Errors name the file and the line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use tracing::warn;

use crate::commands::reference::columns::{Columns, Rows};
use crate::failure::usage;
use crate::output::cell;

const BATCH_ROWS: usize = 64 << 10;

/// The rows of a file, by its extension.
pub fn read(path: &Path, columns: &Columns) -> Result<Vec<RecordBatch>> {
    let file = File::open(path).map_err(|error| usage(format!("cannot open {}: {error}", path.display())))?;
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let (stem, content): (&str, Box<dyn Read>) = if let Some(stem) = name.strip_suffix(".gz") {
        (stem, Box::new(flate2::read::MultiGzDecoder::new(file)))
    } else if let Some(stem) = name.strip_suffix(".zst") {
        (stem, Box::new(zstd::Decoder::new(file)?))
    } else if name.ends_with(".parquet") {
        return read_parquet(path, file, columns);
    } else {
        (&name, Box::new(file))
    };
    let mut reading = Reading { path, columns, rows: columns.builder(), batches: Vec::new() };
    let content = BufReader::new(content);
    match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => reading.csv(content)?,
        Some("ndjson" | "jsonl") => reading.ndjson(content)?,
        Some("json") => reading.json(content)?,
        _ => bail!(
            "{}: what it is cannot be told from its name: it ends in .csv, .json, .ndjson or .parquet",
            path.display()
        ),
    }
    reading.finish()
}

struct Reading<'a> {
    path: &'a Path,
    columns: &'a Columns,
    rows: Rows,
    batches: Vec<RecordBatch>,
}

impl Reading<'_> {
    fn at(&self, line: u64) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn push(&mut self, line: u64, cells: &[Option<String>]) -> Result<()> {
        self.rows.push(cells).with_context(|| self.at(line))?;
        if self.rows.len() >= BATCH_ROWS {
            self.batches.push(self.rows.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>> {
        self.batches.push(self.rows.finish()?);
        if self.batches.iter().all(|batch| batch.num_rows() == 0) {
            bail!("{}: there are no rows", self.path.display());
        }
        Ok(self.batches)
    }

    fn csv(&mut self, content: impl Read) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(content);
        let header = reader.headers().with_context(|| self.at(1))?.clone();
        let names = || header.iter().map(|name| name.trim_start_matches('\u{feff}'));
        let places = self.columns.places(names()).with_context(|| self.at(1))?;
        self.tell_ignored(names().zip(&places).filter(|(_, place)| place.is_none()).map(|(name, _)| name));
        for record in reader.records() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(0, csv::Position::line);
                anyhow!("{}: {error}", self.at(line))
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() > places.len() {
                bail!("{}: {} cells, but the header has {}", self.at(line), record.len(), places.len());
            }
            let mut cells = vec![None; self.columns.schema().fields().len()];
            for (cell, place) in record.iter().zip(&places) {
                if let (Some(place), false) = (place, cell.is_empty()) {
                    cells[*place] = Some(cell.to_owned());
                }
            }
            self.push(line, &cells)?;
        }
        Ok(())
    }

    fn ndjson(&mut self, content: impl BufRead) -> Result<()> {
        for (number, line) in content.lines().enumerate() {
            let number = number as u64 + 1;
            let line = line.with_context(|| self.at(number))?;
            if !line.trim().is_empty() {
                let value = serde_json::from_str(&line).map_err(|error| anyhow!("{}: {error}", self.at(number)))?;
                self.object(number, value)?;
            }
        }
        Ok(())
    }

    /// An array of objects, or objects one after the other.
    fn json(&mut self, mut content: impl Read) -> Result<()> {
        let mut text = String::new();
        content.read_to_string(&mut text).with_context(|| self.path.display().to_string())?;
        let text = text.trim_start_matches('\u{feff}');
        let line_of = |place: usize| text[..place].matches('\n').count() as u64 + 1;
        let mut at = text.len() - text.trim_start().len();
        let in_array = text[at..].starts_with('[');
        at += usize::from(in_array);
        loop {
            at += text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\r', '\n', ',']).len();
            let rest = &text[at..];
            if rest.is_empty() && !in_array || rest.starts_with(']') && in_array {
                return Ok(());
            }
            let line = line_of(at);
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    at += values.byte_offset();
                    self.object(line, value)?;
                }
                Some(Err(error)) => bail!("{}: {error}", self.at(line)),
                None => bail!("{}: the array does not end", self.at(line)),
            }
        }
    }

    fn object(&mut self, line: u64, value: Value) -> Result<()> {
        let Value::Object(object) = value else { bail!("{}: not an object", self.at(line)) };
        let cells = self.cells(&object).with_context(|| self.at(line))?;
        self.push(line, &cells)
    }

    fn cells(&self, object: &Map<String, Value>) -> Result<Vec<Option<String>>> {
        let mut cells = vec![None; self.columns.schema().fields().len()];
        for (name, value) in object {
            let Some(place) = self.columns.find(name) else { continue };
            cells[place] = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Array(_) | Value::Object(_) => bail!("column {name}: a nested value"),
            };
        }
        Ok(cells)
    }

    fn tell_ignored<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            warn!(file = %self.path.display(), columns = names.join(", "), "columns that the table does not have are left out");
        }
    }
}

fn read_parquet(path: &Path, file: File, columns: &Columns) -> Result<Vec<RecordBatch>> {
    let place = || path.display().to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).with_context(place)?.build().with_context(place)?;
    let mut reading = Reading { path, columns, rows: columns.builder(), batches: Vec::new() };
    let mut row = 0;
    for batch in reader {
        let batch = batch.with_context(place)?;
        let schema = batch.schema();
        let places = columns.places(schema.fields().iter().map(|field| field.name().as_str())).with_context(place)?;
        for at in 0..batch.num_rows() {
            row += 1;
            let mut cells = vec![None; columns.schema().fields().len()];
            for (column, place) in batch.columns().iter().zip(&places) {
                if let Some(place) = place {
                    cells[*place] = cell_text(column, at);
                }
            }
            // The "line" of a Parquet file is its row.
            reading.push(row, &cells)?;
        }
    }
    reading.finish()
}

fn cell_text(column: &ArrayRef, row: usize) -> Option<String> {
    (!column.is_null(row)).then(|| {
        let mut text = String::new();
        cell::value(&mut text, column, row);
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use adlake_domain::catalogue;
    use adlake_lake::ReferenceKind;
    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, Decimal128Type, Int64Type};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn columns(kind: ReferenceKind) -> Columns {
        Columns::new(kind, catalogue::table(kind.table()).unwrap().schema)
    }

    fn load(kind: ReferenceKind, name: &str, content: &[u8]) -> Result<RecordBatch> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        let columns = columns(kind);
        let batches = read(&path, &columns)?;
        Ok(arrow::compute::concat_batches(columns.schema(), &batches).unwrap())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_format_gives_the_same_rows() {
        let rate = ReferenceKind::FxRates;
        let csv = b"Date,currency,rate,note\n2025-01-31,eur,1.0834,x\n2025-02-01,GBP,1.25,\n";
        let expected = load(rate, "r.csv", csv).unwrap();
        assert_eq!(expected.num_rows(), 2);
        assert_eq!(expected.column(0).as_primitive::<Date32Type>().value(0), 20_119);
        assert_eq!(expected.column(1).as_string::<i32>().value(0), "EUR");
        assert_eq!(expected.column(2).as_primitive::<Decimal128Type>().value(0), 1_083_400_000_000);
        let first = "{\"day\": \"2025-01-31\", \"currency\": \"EUR\", \"rate\": 1.0834}";
        let second = "{\"date\": \"2025-02-01T00:00:00Z\", \"currency\": \"GBP\", \"rate\": \"1.25\"}";
        let mut parquet = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut parquet, expected.schema(), None).unwrap();
        writer.write(&expected).unwrap();
        writer.close().unwrap();
        for (name, content) in [
            ("r.csv.gz", gzip(csv)),
            ("r.json", format!("[\n{first},\n{second}\n]\n").into_bytes()),
            ("r.json", format!("{first}\n{second}\n").into_bytes()),
            ("r.ndjson", format!("{first}\n\n{second}\n").into_bytes()),
            ("r.jsonl", format!("{first}\n{second}").into_bytes()),
            ("r.parquet", parquet),
        ] {
            assert_eq!(load(rate, name, &content).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn columns_have_other_names_too() {
        let creatives =
            load(ReferenceKind::Creatives, "c.csv", b"\xef\xbb\xbfcreative_id,campaign_id\ncr1,c1\ncr2,\n").unwrap();
        assert_eq!(creatives.column(0).as_string::<i32>().value(1), "cr2");
        assert!(creatives.column(1).is_null(1));
        let campaigns =
            load(ReferenceKind::Campaigns, "c.csv", b"id,Advertiser ID,budget_micros\nc1,a1,5000000\n").unwrap();
        assert_eq!(campaigns.column_by_name("budget_micros").unwrap().as_primitive::<Int64Type>().value(0), 5_000_000);
        assert_eq!(campaigns.column_by_name("advertiser_id").unwrap().as_string::<i32>().value(0), "a1");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_line() {
        let rate = ReferenceKind::FxRates;
        for (name, content, parts) in [
            ("r.csv", "day,currency,rate\n2025-01-01,EUR,1\n2025-01-02,EUR,one\n", vec!["r.csv:3", "rate", "one"]),
            ("r.csv", "day,currency,rate\nyesterday,EUR,1\n", vec!["r.csv:2", "day", "yesterday"]),
            ("r.csv", "day,currency,rate\n2025-01-01,,1\n", vec!["r.csv:2", "currency"]),
            ("r.csv", "day,rate\n2025-01-01,1\n", vec!["r.csv:1", "currency", "day, rate"]),
            ("r.csv", "day,date,currency,rate\n", vec!["r.csv:1", "day"]),
            ("r.csv", "day,currency,rate\n2025-01-01,EUR,1,2\n", vec!["r.csv:2", "4 cells"]),
            ("r.csv", "day,currency,rate\n", vec!["r.csv", "no rows"]),
            ("r.ndjson", "{}\n", vec!["r.ndjson:1", "day"]),
            ("r.ndjson", "{\"day\":\n", vec!["r.ndjson:1"]),
            ("r.json", "[\n{\"day\":\"2025-01-01\",\"currency\":\"EUR\",\"rate\":1},\n7]", vec!["r.json:3", "object"]),
            ("r.json", "[{\"day\":\"2025-01-01\",\"currency\":\"EUR\",\"rate\":1}", vec!["r.json:1", "end"]),
            ("r.txt", "x", vec!["r.txt", ".csv"]),
            ("r.parquet", "x", vec!["r.parquet"]),
        ] {
            let error = load(rate, name, content.as_bytes()).unwrap_err();
            let line = crate::failure::line(&error);
            for part in parts {
                assert!(line.contains(part), "{content}: {part} is not in {line}");
            }
        }
    }
}
