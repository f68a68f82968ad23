//! Reads a file of reference data: CSV, JSON, NDJSON or Parquet. Errors name the file and the line
//! (for Parquet: the row).
//!
//! A key that comes twice with different values is an error: nobody can tell which one counts. A
//! row that comes twice counts once and is reported. So are columns that the table does not have.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use crate::commands::reference::columns::{Columns, Rows};
use crate::failure::usage;
use crate::output::cell;

const BATCH_ROWS: usize = 64 << 10;

/// What a file holds.
#[derive(Debug)]
pub struct FileRows {
    /// Its rows, each key once.
    pub rows: RecordBatch,
    /// Rows that repeat an earlier row, with the lines of both: `rates.csv:4 repeats rates.csv:2`.
    pub repeated: Vec<String>,
    /// Names of columns that the table does not have.
    pub unknown_columns: BTreeSet<String>,
}

/// Reads the rows of a file; the extension says its format.
pub fn read(path: &Path, columns: &Columns) -> Result<FileRows> {
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
    let mut reading = Reading::new(path, columns);
    let content = BufReader::new(content);
    match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => reading.csv(content)?,
        Some("ndjson" | "jsonl") => reading.ndjson(content)?,
        Some("json") => reading.json(content)?,
        _ => bail!(
            "{}: the name does not tell the format: it must end in .csv, .json, .ndjson or .parquet",
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
    /// The line of each row.
    lines: Vec<u64>,
    unknown_columns: BTreeSet<String>,
}

impl Reading<'_> {
    fn new<'a>(path: &'a Path, columns: &'a Columns) -> Reading<'a> {
        let rows = columns.builder();
        Reading { path, columns, rows, batches: Vec::new(), lines: Vec::new(), unknown_columns: BTreeSet::new() }
    }

    fn at(&self, line: u64) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn push(&mut self, line: u64, cells: &[Option<String>]) -> Result<()> {
        self.rows.push(cells).with_context(|| self.at(line))?;
        self.lines.push(line);
        if self.rows.len() >= BATCH_ROWS {
            self.batches.push(self.rows.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<FileRows> {
        self.batches.push(self.rows.finish()?);
        let all = concat_batches(self.columns.schema(), &self.batches)?;
        if all.num_rows() == 0 {
            bail!("{}: the file has no rows", self.path.display());
        }
        let convert = |columns: &[ArrayRef]| -> Result<arrow::row::Rows> {
            let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
            Ok(RowConverter::new(fields)?.convert_columns(columns)?)
        };
        let names = self.columns.kind().key();
        let key: Vec<ArrayRef> = names.iter().filter_map(|name| all.column_by_name(name)).cloned().collect();
        let (keys, whole) = (convert(&key)?, convert(all.columns())?);
        let mut first: HashMap<arrow::row::Row<'_>, usize> = HashMap::new();
        let (mut kept, mut repeated) = (Vec::new(), Vec::new());
        for row in 0..all.num_rows() {
            let Some(&earlier) = first.get(&keys.row(row)) else {
                first.insert(keys.row(row), row);
                kept.push(row as u64);
                continue;
            };
            let (line, earlier_line) = (self.at(self.lines[row]), self.at(self.lines[earlier]));
            if whole.row(row) != whole.row(earlier) {
                let key = names.iter().zip(&key).map(|(name, column)| {
                    let text = cell_text(column, row).unwrap_or_default();
                    format!("{name} {text}")
                });
                let key = key.collect::<Vec<_>>().join(", ");
                bail!("{line}: {key} is in {earlier_line} already, with other values: keep one of the two rows");
            }
            repeated.push(format!("{line} repeats {earlier_line}"));
        }
        let rows = take_record_batch(&all, &UInt64Array::from(kept))?;
        Ok(FileRows { rows, repeated, unknown_columns: self.unknown_columns })
    }

    fn note_unknown<'n>(&mut self, names: impl Iterator<Item = &'n str>, places: &[Option<usize>]) {
        let unknown = names.zip(places).filter(|(_, place)| place.is_none()).map(|(name, _)| name.to_owned());
        self.unknown_columns.extend(unknown);
    }

    fn csv(&mut self, content: impl Read) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(content);
        let header = reader.headers().with_context(|| self.at(1))?.clone();
        let names = || header.iter().map(|name| name.trim_start_matches('\u{feff}'));
        let places = self.columns.places(names()).with_context(|| self.at(1))?;
        self.note_unknown(names(), &places);
        for record in reader.records() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(0, csv::Position::line);
                anyhow!("{}: {error}", self.at(line))
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() > places.len() {
                bail!("{}: the row has {} cells, but the header has {}", self.at(line), record.len(), places.len());
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

    /// Reads an array of objects, or objects one after the other.
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
            if rest.is_empty() && !in_array {
                return Ok(());
            }
            let line = line_of(at);
            if let (Some(after), true) = (rest.strip_prefix(']'), in_array) {
                return if after.trim().is_empty() {
                    Ok(())
                } else {
                    Err(anyhow!("{}: there is text after the end of the array", self.at(line)))
                };
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    at += values.byte_offset();
                    self.object(line, value)?;
                }
                Some(Err(error)) => bail!("{}: {error}", self.at(line)),
                None => bail!("{}: the array has no closing bracket", self.at(line)),
            }
        }
    }

    fn object(&mut self, line: u64, value: Value) -> Result<()> {
        let Value::Object(object) = value else { bail!("{}: the value is not an object", self.at(line)) };
        let at = self.at(line);
        let cells = self.cells(&object).context(at)?;
        self.push(line, &cells)
    }

    fn cells(&mut self, object: &Map<String, Value>) -> Result<Vec<Option<String>>> {
        let mut cells = vec![None; self.columns.schema().fields().len()];
        for (name, value) in object {
            let Some(place) = self.columns.find(name) else {
                if !self.unknown_columns.contains(name) {
                    self.unknown_columns.insert(name.clone());
                }
                continue;
            };
            if cells[place].is_some() {
                bail!(
                    "two of its keys mean the table's column {}: remove one",
                    self.columns.schema().field(place).name()
                );
            }
            cells[place] = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Array(_) | Value::Object(_) => {
                    bail!("column {name}: the value is nested, but text or a number is expected")
                }
            };
        }
        Ok(cells)
    }
}

fn read_parquet(path: &Path, file: File, columns: &Columns) -> Result<FileRows> {
    let place = || path.display().to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).with_context(place)?.build().with_context(place)?;
    let mut reading = Reading::new(path, columns);
    let mut row = 0;
    for batch in reader {
        let batch = batch.with_context(place)?;
        let schema = batch.schema();
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let places = columns.places(names()).with_context(place)?;
        reading.note_unknown(names(), &places);
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
    use std::sync::Arc;

    use adlake_domain::catalogue;
    use adlake_lake::ReferenceKind;
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::{Date32Type, Decimal128Type, Int64Type};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn columns(kind: ReferenceKind) -> Columns {
        Columns::new(kind, catalogue::table(kind.table()).unwrap().schema)
    }

    fn load(kind: ReferenceKind, name: &str, content: &[u8]) -> Result<RecordBatch> {
        Ok(load_all(kind, name, content)?.rows)
    }

    fn load_all(kind: ReferenceKind, name: &str, content: &[u8]) -> Result<FileRows> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        read(&path, &columns(kind))
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
            (
                "r.json",
                "[{\"day\":\"2025-01-01\",\"currency\":\"EUR\",\"rate\":1}",
                vec!["r.json:1", "closing bracket"],
            ),
            (
                "r.json",
                "[{\"day\":\"2025-01-01\",\"currency\":\"EUR\",\"rate\":1}]\nx",
                vec!["r.json:1", "after the end"],
            ),
            (
                "r.ndjson",
                "{\"day\":\"2025-01-01\",\"date\":\"2025-01-02\",\"currency\":\"EUR\",\"rate\":1}",
                vec!["r.ndjson:1", "day"],
            ),
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

    #[test]
    fn a_rate_that_nobody_can_mean_is_refused_in_every_format() {
        let rate = ReferenceKind::FxRates;
        for (day, currency, value, parts) in [
            ("2026-03-01", "EUR", "-1", ["rate", "above 0"]),
            ("2026-03-01", "EUR", "0", ["rate", "above 0"]),
            ("2026-03-01", "EUR", "0.0000000000001", ["rate", "above 0"]),
            ("2026-03-01", "EUR", "0.0000000001", ["rate", "at least"]),
            ("2026-03-01", "EUR", "1000000000001", ["rate", "at most"]),
            ("2026-03-01", "EUR", "NaN", ["rate", "NaN"]),
            ("2026-03-01", "EUR", "inf", ["rate", "inf"]),
            ("2026-03-01", "EUR", "1,1", ["rate", "1,1"]),
            ("2026-03-01", "EUR", "", ["rate", "value is missing"]),
            ("2026-03-01", "EURO", "1", ["currency", "three letters"]),
            ("2026-03-01", "E1", "1", ["currency", "three letters"]),
            ("2026-03-01", " ", "1", ["currency", "value is missing"]),
            ("0026-03-01", "EUR", "1", ["day", "years"]),
            ("2026-02-30", "EUR", "1", ["day", "2026-02-30"]),
            ("", "EUR", "1", ["day", "value is missing"]),
        ] {
            let csv = format!("day,currency,rate\n2026-01-01,EUR,1\n{day},{currency},\"{value}\"\n");
            let json = format!(
                "{{\"day\":\"2026-01-01\",\"currency\":\"EUR\",\"rate\":1}}\n\
                 {{\"day\":\"{day}\",\"currency\":\"{currency}\",\"rate\":\"{value}\"}}"
            );
            let texts = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
            let batch = RecordBatch::try_from_iter([
                ("day", texts(day)),
                ("currency", texts(currency)),
                ("rate", texts(value)),
            ]);
            let batch = batch.unwrap();
            let mut parquet = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut parquet, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            for (name, place, content) in [
                ("r.csv", "r.csv:3", csv.into_bytes()),
                ("r.ndjson", "r.ndjson:2", json.into_bytes()),
                ("r.parquet", "r.parquet:1", parquet),
            ] {
                let line = crate::failure::line(&load(rate, name, &content).unwrap_err());
                for part in [place].into_iter().chain(parts) {
                    assert!(line.contains(part), "{day} {currency} {value}: {part} is not in {line}");
                }
            }
        }
    }

    #[test]
    fn campaigns_and_creatives_are_checked_too() {
        for (content, parts) in [
            ("campaign_id,budget_micros\nc1,-5\n", vec!["c.csv:2", "budget_micros", "between"]),
            ("campaign_id,target_roas\nc1,-5\n", vec!["c.csv:2", "target_roas"]),
            ("campaign_id,start_date,end_date\nc1,2026-03-02,2026-03-01\n", vec!["c.csv:2", "end_date", "before"]),
            ("campaign_id\n\" \"\n", vec!["c.csv:2", "campaign_id", "value is missing"]),
        ] {
            let line = crate::failure::line(&load(ReferenceKind::Campaigns, "c.csv", content.as_bytes()).unwrap_err());
            for part in parts {
                assert!(line.contains(part), "{content}: {part} is not in {line}");
            }
        }
        let open_end = "campaign_id,start_date,end_date\nc1,2026-03-02,9999-12-31\nc2,,2026-03-01\n";
        assert_eq!(load(ReferenceKind::Campaigns, "c.csv", open_end.as_bytes()).unwrap().num_rows(), 2);
    }

    #[test]
    fn a_key_that_comes_twice_is_told_with_both_lines() {
        let rate = ReferenceKind::FxRates;
        let csv = "day,currency,rate\n2026-01-01,EUR,1.1\n2026-01-01,USD,1\n2026-01-01, eur ,1.2\n";
        let line = crate::failure::line(&load(rate, "r.csv", csv.as_bytes()).unwrap_err());
        for part in ["r.csv:4", "r.csv:2", "day 2026-01-01, currency EUR"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        // A repeated row adds nothing: it counts once and is reported.
        let csv = "day,currency,rate\n2026-01-01,EUR,1.1\n2026-01-01,USD,1\n2026-01-01T10:00:00,eur,1.100\n";
        let read = load_all(rate, "r.csv", csv.as_bytes()).unwrap();
        assert_eq!(read.rows.num_rows(), 2);
        assert_eq!(read.repeated.len(), 1);
        assert!(read.repeated[0].contains("r.csv:4 repeats") && read.repeated[0].ends_with("r.csv:2"), "{read:?}");
    }

    #[test]
    fn columns_that_are_not_known_are_told() {
        let rate = ReferenceKind::FxRates;
        let csv = "day,currency,rate,note,source\n2026-01-01,EUR,1.1,x,y\n";
        let json = "{\"day\":\"2026-01-01\",\"currency\":\"EUR\",\"rate\":1,\"note\":1}\n\
                    {\"day\":\"2026-01-02\",\"currency\":\"EUR\",\"rate\":1,\"source\":[]}";
        for (name, content) in [("r.csv", csv), ("r.ndjson", json)] {
            let read = load_all(rate, name, content.as_bytes()).unwrap();
            assert_eq!(read.unknown_columns, ["note", "source"].map(String::from).into(), "{name}");
        }
    }
}
