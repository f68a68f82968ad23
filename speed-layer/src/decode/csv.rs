//! CSV: one row a record, by csv-core, without its header.
//!
//! RFC 4180 with a configurable delimiter: cells in double quotes may hold delimiters, line ends and doubled quotes;
//! text after a closing quote is taken as it stands. A row too short leaves its last columns NULL; a row too long, an
//! unclosed quote or a second row make a dead letter. An empty cell is NULL, but for required fields, where it is an
//! empty text.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::{memchr_iter, memchr3};

use super::row::Row;
use super::value::Value;
use crate::mapping::Mapping;
use crate::validate::{Reason, Reject};

/// The columns of a source, matched with the fields that they are.
#[derive(Debug)]
pub(crate) struct CsvColumns {
    columns: Vec<CsvColumn>,
    delimiter: u8,
}

#[derive(Debug)]
struct CsvColumn {
    name: String,
    entry: Option<u16>,
    /// Whether an empty cell is an empty text.
    keeps_empty: bool,
}

impl CsvColumns {
    pub fn new(mapping: &Mapping, names: &[String], delimiter: u8) -> CsvColumns {
        let column = |name: &String| {
            // A byte order mark is no part of the first name.
            let name = name.trim_start_matches('\u{feff}');
            let entry = mapping.lookup(name);
            let direct = entry.and_then(|entry| mapping.entry_at(entry).direct);
            let keeps_empty = direct.is_some_and(|target| mapping.fields()[usize::from(target.field)].required);
            CsvColumn { name: name.to_owned(), entry, keeps_empty }
        };
        CsvColumns { columns: names.iter().map(column).collect(), delimiter }
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }
}

/// Splits rows into cells; its buffers are reused.
#[derive(Debug)]
pub(crate) struct CsvReader {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvReader {
    pub fn new(delimiter: u8) -> CsvReader {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        CsvReader { reader, text: vec![0; 1024], ends: vec![0; 32] }
    }

    /// Splits the payload's one row; the number of its cells.
    fn split(&mut self, payload: &[u8]) -> Result<usize, Reject> {
        self.reader.reset();
        // Quotes only ever make cells shorter than the payload.
        if self.text.len() < payload.len() + 1 {
            self.text.resize(payload.len() + 1, 0);
        }
        let (mut read, mut written, mut cells) = (0, 0, 0);
        loop {
            let rest = &payload[read..];
            // At its end a line end is added: within an open quote it does not end the row.
            let input = if rest.is_empty() { &b"\n"[..] } else { rest };
            let (result, taken, put, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[cells..]);
            written += put;
            cells += ended;
            if !rest.is_empty() {
                read += taken;
            }
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::InputEmpty if !rest.is_empty() => {}
                ReadRecordResult::InputEmpty if written == 0 && cells == 0 && !payload.contains(&b'"') => {
                    return Err(Reject::new(Reason::EmptyRecord, "there is no row"));
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                    return Err(Reject::new(Reason::InvalidCsv, "a quote is not closed"));
                }
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2 + 1, 0),
            }
        }
        match payload[read..].iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            true => Ok(cells),
            false => Err(Reject::new(Reason::TrailingData, "a second row follows the first")),
        }
    }
}

/// Offers every cell of the payload's row to `row`.
pub(crate) fn read<'a>(
    payload: &'a [u8],
    columns: &'a CsvColumns,
    reader: &'a mut CsvReader,
    row: &mut Row<'a, '_>,
) -> Result<(), Reject> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| Reject::new(Reason::InvalidUtf8, format!("at byte {}", error.valid_up_to())))?;
    let too_many = |cells: usize| {
        let detail = format!("{cells} cells, of {} columns", columns.columns.len());
        Err(Reject::new(Reason::TooManyColumns, detail))
    };
    let mut offer = |column: &'a CsvColumn, text: &'a str| {
        let is_sent = !text.is_empty() || column.keeps_empty;
        if is_sent { row.offer(&column.name, column.entry, Value::Cell(text)) } else { Ok(()) }
    };
    if let Some(line) = plain(text) {
        let mut cells = columns.columns.iter();
        let mut start = 0;
        let ends = memchr_iter(columns.delimiter, line.as_bytes()).chain([line.len()]);
        for end in ends {
            match cells.next() {
                Some(column) => offer(column, &line[start..end])?,
                None => return too_many(1 + memchr_iter(columns.delimiter, line.as_bytes()).count()),
            }
            start = end + 1;
        }
        return Ok(());
    }
    let cells = reader.split(payload)?;
    if cells > columns.columns.len() {
        return too_many(cells);
    }
    let mut start = 0;
    for (column, end) in columns.columns.iter().zip(&reader.ends[..cells]) {
        // Cells of UTF-8 are UTF-8: quotes and delimiters are ASCII.
        let text = std::str::from_utf8(&reader.text[start..*end])
            .map_err(|_| Reject::new(Reason::InvalidUtf8, format!("in column {}", column.name)))?;
        start = *end;
        offer(column, text)?;
    }
    Ok(())
}

/// A row without quotes, and without its line end: what is between its delimiters is its cells, as they stand. `None`: the reader
/// has to look at it.
fn plain(text: &str) -> Option<&str> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.is_empty() && memchr3(b'"', b'\n', b'\r', line.as_bytes()).is_none()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str, expected: Result<&[&str], Reason>) {
        let mut reader = CsvReader::new(b',');
        // Twice: what came before must not matter.
        let _ = reader.split(b"x,\"y\nz");
        let found = reader.split(payload.as_bytes()).map(|cells| {
            let mut start = 0;
            reader.ends[..cells]
                .iter()
                .map(|end| String::from_utf8(reader.text[std::mem::replace(&mut start, *end)..*end].to_vec()).unwrap())
                .collect::<Vec<_>>()
        });
        let expected = expected.map(|cells| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        assert_eq!(found.map_err(|reject| reject.reason), expected, "{payload:?}");
    }

    #[test]
    fn rows() {
        check("a,b", Ok(&["a", "b"]));
        check("a,b\n", Ok(&["a", "b"]));
        check("a,b\r\n", Ok(&["a", "b"]));
        check("a,b\r\n\r\n", Ok(&["a", "b"]));
        check("a", Ok(&["a"]));
        check("a,", Ok(&["a", ""]));
        check(",", Ok(&["", ""]));
        check("\"\"", Ok(&[""]));
        check("\"a,\"\"b\"\"\nc\",d", Ok(&["a,\"b\"\nc", "d"]));
        check("1,2,3,4,5,6,7", Ok(&["1", "2", "3", "4", "5", "6", "7"]));
        check("é,\"ü\"", Ok(&["é", "ü"]));
        check("", Err(Reason::EmptyRecord));
        check("\n", Err(Reason::EmptyRecord));
        check("a,\"b", Err(Reason::InvalidCsv));
        check("\"", Err(Reason::InvalidCsv));
        check("\"\n", Err(Reason::InvalidCsv));
        check("a,b\nc,d", Err(Reason::TrailingData));
    }

    proptest::proptest! {
        #[test]
        fn plain_rows_are_cut_as_the_reader_cuts_them(text in "[ab,;é \\r\\n\"]{0,12}", delimiter in proptest::sample::select(vec![b',', b';'])) {
            let mut reader = CsvReader::new(delimiter);
            let read = reader.split(text.as_bytes());
            if let Some(line) = plain(&text) {
                let mut start = 0;
                let ends = &reader.ends[..read.expect("a plain row is a row")];
                let cells: Vec<&[u8]> =
                    ends.iter().map(|end| &reader.text[std::mem::replace(&mut start, *end)..*end]).collect();
                let expected: Vec<&[u8]> = line.as_bytes().split(|byte| *byte == delimiter).collect();
                proptest::prop_assert_eq!(cells, expected);
            }
        }
    }
}
