//! CSV: one row a record, by csv-core, without its header.
//!
//! RFC 4180 with a configurable delimiter: cells in double quotes may hold delimiters, line ends and doubled quotes;
//! text after a closing quote is taken as it stands. A row too short leaves its last columns NULL; a row too long, an
//! unclosed quote or a second row make a dead letter. An empty cell is NULL, but for required fields, where it is an
//! empty text.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::memchr3;

use super::columns::Cell;
use super::row::Row;
use super::utf8;
use super::value::Value;
use crate::mapping::{Mapping, Shape};
use crate::validate::{self, Reason, Reject};

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
    /// The field that this column is, if it is nothing else and no other column is that field.
    alone: Option<usize>,
}

impl CsvColumns {
    pub fn new(mapping: &Mapping, names: &[String], delimiter: u8) -> CsvColumns {
        // A byte order mark is no part of the first name.
        let names: Vec<&str> = names.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        let entries: Vec<Option<u16>> = names.iter().map(|name| mapping.lookup(name)).collect();
        let alone = mapping.alone(entries.iter().copied());
        let column = |((name, entry), alone): ((&str, Option<u16>), Option<usize>)| {
            let direct = entry.and_then(|entry| mapping.entry_at(entry).direct);
            let keeps_empty = direct.is_some_and(|target| mapping.fields()[usize::from(target.field)].required);
            let alone = alone.filter(|index| mapping.fields()[*index].shape != Shape::Nested);
            CsvColumn { name: name.to_owned(), entry, keeps_empty, alone }
        };
        CsvColumns { columns: names.into_iter().zip(entries).zip(alone).map(column).collect(), delimiter }
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Every cell is offered from here on, and judged later.
    #[cfg(test)]
    pub fn read_in_the_general_way(&mut self) -> usize {
        self.columns.iter_mut().filter_map(|column| column.alone.take()).count()
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
    let text = utf8(payload)?;
    let too_many = |cells: usize| {
        let detail = format!("{cells} cells, of {} columns", columns.columns.len());
        Err(Reject::new(Reason::TooManyColumns, detail))
    };
    if let Some(line) = plain(text) {
        if place_all(line, columns, row).is_some() {
            return Ok(());
        }
        row.clear();
        let mut cells = columns.columns.iter();
        let mut start = 0;
        for end in Delimiters::new(line.as_bytes(), columns.delimiter).chain([line.len()]) {
            match cells.next() {
                Some(column) => offer(column, &line[start..end], row)?,
                None => return too_many(1 + Delimiters::new(line.as_bytes(), columns.delimiter).count()),
            }
            start = end + 1;
        }
        return Ok(());
    }
    let cells = reader.split(payload)?;
    if cells > columns.columns.len() {
        return too_many(cells);
    }
    let cells = || {
        let starts = std::iter::once(0).chain(reader.ends[..cells].iter().copied());
        let places = starts.zip(&reader.ends[..cells]).map(|(start, end)| &reader.text[start..*end]);
        columns.columns.iter().zip(places)
    };
    // Cells of UTF-8 are UTF-8: quotes and delimiters are ASCII.
    if cells().all(|(column, text)| std::str::from_utf8(text).is_ok_and(|text| place(column, text, row).is_some())) {
        return Ok(());
    }
    row.clear();
    for (column, text) in cells() {
        let text = std::str::from_utf8(text)
            .map_err(|_| Reject::new(Reason::InvalidUtf8, format!("in column {}", column.name)))?;
        offer(column, text, row)?;
    }
    Ok(())
}

#[inline]
fn offer<'a>(column: &'a CsvColumn, text: &'a str, row: &mut Row<'a, '_>) -> Result<(), Reject> {
    let is_sent = !text.is_empty() || column.keeps_empty;
    if is_sent { row.offer(&column.name, column.entry, Value::Cell(text)) } else { Ok(()) }
}

/// Takes a cell in the type of its field at once; `None`: something is wrong with it, and all cells are to be offered, to be judged in
/// the order of their fields.
#[inline]
fn place<'a>(column: &'a CsvColumn, text: &'a str, row: &mut Row<'a, '_>) -> Option<()> {
    let Some(index) = column.alone else {
        return offer(column, text, row).ok();
    };
    let mapping = row.mapping();
    let field = &mapping.fields()[index];
    if text.is_empty() && (!column.keeps_empty || validate::is_missing(field, Value::Cell(text))) {
        return Some(());
    }
    if field.shape == Shape::Text {
        row.place_shaped(index, Cell::Text(text));
    } else {
        row.place_shaped(index, validate::cell(field, Value::Cell(text), mapping.zone(), row.arena()).ok()?);
    }
    Some(())
}

/// Takes the cells of a plain row.
fn place_all<'a>(line: &'a str, columns: &'a CsvColumns, row: &mut Row<'a, '_>) -> Option<()> {
    let mut cells = columns.columns.iter();
    let mut start = 0;
    for end in Delimiters::new(line.as_bytes(), columns.delimiter).chain([line.len()]) {
        place(cells.next()?, &line[start..end], row)?;
        start = end + 1;
    }
    Some(())
}

/// Where the delimiters of a row are. Cells are short: eight bytes are looked at together, and no search begins anew after each.
struct Delimiters<'l> {
    line: &'l [u8],
    delimiter: u64,
    /// The place of the next eight bytes.
    next: usize,
    /// The highest bit of each of the last eight bytes that is a delimiter.
    found: u64,
}

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Delimiters<'_> {
    fn new(line: &[u8], delimiter: u8) -> Delimiters<'_> {
        Delimiters { line, delimiter: u64::from_ne_bytes([delimiter; 8]), next: 0, found: 0 }
    }
}

impl Iterator for Delimiters<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let rest = self.line.get(self.next..)?;
            let eight = match rest.first_chunk() {
                Some(eight) => u64::from_le_bytes(*eight),
                None if rest.is_empty() => return None,
                None => {
                    // What is not there is no delimiter.
                    let mut eight = (!self.delimiter).to_le_bytes();
                    eight[..rest.len()].copy_from_slice(rest);
                    u64::from_le_bytes(eight)
                }
            };
            let differs = eight ^ self.delimiter;
            // A byte is zero where neither its high bit is set nor adding 0x7f to the others carries into it.
            self.found = !(((differs & LOW) + LOW) | differs | LOW);
            self.next += 8;
        }
        let place = self.next - 8 + self.found.trailing_zeros() as usize / 8;
        self.found &= self.found - 1;
        Some(place)
    }
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
        fn delimiters_are_where_they_are(line in proptest::collection::vec(proptest::sample::select(b"ab,;-\x00\x01\x7f\x80\xac\xff".to_vec()), 0..40), delimiter: u8) {
            for delimiter in [b',', b';', delimiter] {
                let places = (0..line.len()).filter(|place| line[*place] == delimiter);
                proptest::prop_assert_eq!(Delimiters::new(&line, delimiter).collect::<Vec<_>>(), places.collect::<Vec<_>>());
            }
        }

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
