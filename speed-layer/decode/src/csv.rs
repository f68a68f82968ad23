//! CSV: one row per record, without its header. Most rows are split here. Rows that are not plain,
//! or are wrong, are read by csv-core.
//!
//! [`row_scan`] defines what a row is. A row with too few cells leaves its last columns NULL. A row
//! with too many cells, a quote that is not closed, text after a closing quote, or a second row
//! makes a dead letter. An empty cell is NULL, except in required fields, where it is an empty
//! text.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::{memchr, memchr3};

pub mod row_scan;

use self::row_scan::{RowScan, Stop, is_line_end};
use crate::cell::Cell;
use crate::mapping::{Mapping, Shape};
use crate::reject::{Reason, Reject};
use crate::row::Row;
use crate::utf8::utf8;
use crate::validate;
use crate::value::Value;

/// The columns of a source, matched with the fields that they fill.
#[derive(Debug)]
pub(crate) struct CsvColumns {
    columns: Vec<CsvColumn>,
    delimiter: u8,
}

#[derive(Debug)]
struct CsvColumn {
    name: String,
    entry: Option<u16>,
    /// Whether an empty cell is an empty text, not NULL.
    keeps_empty: bool,
    /// The field that only this column fills, if the column fills no other.
    sole_field: Option<usize>,
    /// Whether the field takes any text unchanged.
    is_text: bool,
}

impl CsvColumns {
    pub fn new(mapping: &Mapping, names: &[String], delimiter: u8) -> CsvColumns {
        // A byte order mark is not part of the first name.
        let names: Vec<&str> = names.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        let entries: Vec<Option<u16>> = names.iter().map(|name| mapping.lookup(name)).collect();
        let sole_fields = mapping.sole_fields(entries.iter().copied());
        let column = |((name, entry), sole_field): ((&str, Option<u16>), Option<usize>)| {
            let direct = entry.and_then(|entry| mapping.entry_at(entry).direct);
            let keeps_empty = direct.is_some_and(|target| mapping.fields()[usize::from(target.field)].required);
            let sole_field = sole_field.filter(|index| mapping.fields()[*index].shape != Shape::Nested);
            let is_text = sole_field.is_some_and(|index| mapping.fields()[index].shape == Shape::Text);
            CsvColumn { name: name.to_owned(), entry, keeps_empty, sole_field, is_text }
        };
        CsvColumns { columns: names.into_iter().zip(entries).zip(sole_fields).map(column).collect(), delimiter }
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Switches the fast path off: from now on every cell is offered to the row and checked later.
    #[cfg(test)]
    pub fn read_in_the_general_way(&mut self) -> usize {
        self.columns.iter_mut().filter_map(|column| column.sole_field.take()).count()
    }
}

/// Splits rows into cells. Its buffers are reused.
#[derive(Debug)]
pub(crate) struct CsvReader {
    reader: Reader,
    reader_delimiter: u8,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvReader {
    pub fn new(delimiter: u8) -> CsvReader {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        CsvReader { reader, reader_delimiter: delimiter, text: vec![0; 1024], ends: vec![0; 32] }
    }

    /// Splits the one row of the payload and returns the number of its cells.
    fn split(&mut self, payload: &[u8]) -> Result<usize, Reject> {
        check_row(payload, self.reader_delimiter)?;
        self.reader.reset();
        // The cells never take more bytes than the payload: quotes only make them shorter.
        if self.text.len() < payload.len() + 1 {
            self.text.resize(payload.len() + 1, 0);
        }
        let (mut read, mut written, mut cells) = (0, 0, 0);
        loop {
            let rest = &payload[read..];
            // A line end is added after the payload. Within an open quote it does not end the row.
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
                    return Err(Reject::new(Reason::EmptyRecord, "there is no row in it"));
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

/// Rejects a payload that is not exactly one row. Empty lines before and after the row are skipped,
/// as in files.
fn check_row(payload: &[u8], delimiter: u8) -> Result<(), Reject> {
    let begin = payload.iter().position(|byte| !is_line_end(*byte)).unwrap_or(payload.len());
    let row = &payload[begin..];
    let mut scan = RowScan::new(delimiter);
    match scan.scan(row) {
        Stop::LineEnd(at) if row[at..].iter().all(|byte| is_line_end(*byte)) => Ok(()),
        Stop::LineEnd(_) => Err(Reject::new(Reason::TrailingData, "a second row follows the first")),
        Stop::TextAfterQuote(at) => {
            Err(Reject::new(Reason::InvalidCsv, format!("text follows a closing quote, at byte {at} of the row")))
        }
        Stop::Nowhere if scan.is_quoted() => Err(Reject::new(Reason::InvalidCsv, "a quote is not closed")),
        Stop::Nowhere => Ok(()),
    }
}

/// Offers every cell of the payload's row to `row`.
pub(crate) fn read<'a>(
    payload: &'a [u8],
    columns: &'a CsvColumns,
    reader: &'a mut CsvReader,
    row: &mut Row<'a, '_>,
) -> Result<(), Reject> {
    let line = line(utf8(payload)?);
    let too_many = |cells: usize| {
        let detail = format!("the row has {cells} cells, but there are {} columns", columns.columns.len());
        Err(Reject::new(Reason::TooManyColumns, detail))
    };
    let placed = match memchr3(b'"', b'\n', b'\r', line.as_bytes()) {
        _ if line.is_empty() => None,
        None => set_all(plain(line, columns.delimiter), columns, row),
        Some(quote) => set_all(quoted(line, columns.delimiter, quote), columns, row),
    };
    if placed.is_some() {
        return Ok(());
    }
    row.clear();
    let cells = reader.split(payload)?;
    if cells > columns.columns.len() {
        return too_many(cells);
    }
    let cells = || {
        let starts = std::iter::once(0).chain(reader.ends[..cells].iter().copied());
        let places = starts.zip(&reader.ends[..cells]).map(|(start, end)| &reader.text[start..*end]);
        columns.columns.iter().zip(places)
    };
    for (column, text) in cells() {
        let text = std::str::from_utf8(text)
            .map_err(|_| Reject::new(Reason::InvalidUtf8, format!("not UTF-8 in column {}", column.name)))?;
        offer(column, text, row)?;
    }
    Ok(())
}

#[inline]
fn offer<'a>(column: &'a CsvColumn, text: &'a str, row: &mut Row<'a, '_>) -> Result<(), Reject> {
    let is_sent = !text.is_empty() || column.keeps_empty;
    if is_sent { row.offer(&column.name, column.entry, Value::Cell(text)) } else { Ok(()) }
}

/// Converts a cell to the type of its field at once. `None` means that the cell is wrong: then all
/// cells are to be offered to the row, so that they are checked in the order of their fields.
#[inline]
fn place<'a>(column: &'a CsvColumn, text: &'a str, row: &mut Row<'a, '_>) -> Option<()> {
    let Some(index) = column.sole_field else {
        return offer(column, text, row).ok();
    };
    if text.is_empty() && !column.keeps_empty {
        return Some(());
    }
    if column.is_text && !text.is_empty() {
        row.set_converted(index, Cell::Text(text));
        return Some(());
    }
    let mapping = row.mapping();
    let field = &mapping.fields()[index];
    if !validate::is_missing(field, Value::Cell(text)) {
        row.set_converted(index, validate::cell(field, Value::Cell(text), mapping.times(), row.arena()).ok()?);
    }
    Some(())
}

/// Takes the cells of a row as they are split. `None` if one of them cannot be taken.
#[inline]
fn set_all<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    columns: &'a CsvColumns,
    row: &mut Row<'a, '_>,
) -> Option<()> {
    let mut cells = columns.columns.iter();
    for text in texts {
        place(cells.next()?, text?, row)?;
    }
    Some(())
}

/// The row without its line end.
fn line(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The cells of a row without quotes and line ends: the text between its delimiters, unchanged.
#[inline]
fn plain(line: &str, delimiter: u8) -> impl Iterator<Item = Option<&str>> {
    let mut start = 0;
    Delimiters::new(line.as_bytes(), delimiter).chain([line.len()]).map(move |end| {
        let cell = &line[start..end];
        start = end + 1;
        Some(cell)
    })
}

/// The cells of a row whose first quote or line end is at `special`. Quotes are removed if they
/// surround a whole cell and occur nowhere else. A cell that csv-core has to read is `None`, and
/// the cells after it mean nothing.
fn quoted(line: &str, delimiter: u8, special: usize) -> impl Iterator<Item = Option<&str>> {
    let bytes = line.as_bytes();
    let mut ends = Delimiters::new(bytes, delimiter).chain([line.len()]);
    let (mut start, mut special) = (0, special);
    std::iter::from_fn(move || {
        let mut end = ends.next()?;
        let mut cell = line.get(start..end);
        if special < end {
            let after = start + 1;
            let length = bytes.get(after..).and_then(|rest| memchr(b'"', rest));
            let (true, Some(length)) = (special == start && bytes[special] == b'"', length) else {
                return Some(None);
            };
            let close = after + length;
            while end < close {
                end = ends.next()?;
            }
            cell = (end == close + 1).then(|| &line[after..close]);
            special = memchr3(b'"', b'\n', b'\r', &bytes[close + 1..]).map_or(line.len(), |next| close + 1 + next);
        }
        start = end + 1;
        Some(cell)
    })
}

/// The positions of the delimiters in a row. Cells are short, so 64 bytes are compared together
/// instead of one search per cell.
struct Delimiters<'l> {
    line: &'l [u8],
    delimiter: u8,
    /// The position of the next block.
    next: usize,
    /// A bit for each delimiter in the last block that is still to be returned.
    found: u64,
}

const BLOCK: usize = 64;

impl Delimiters<'_> {
    fn new(line: &[u8], delimiter: u8) -> Delimiters<'_> {
        Delimiters { line, delimiter, next: 0, found: 0 }
    }
}

impl Iterator for Delimiters<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let rest = self.line.get(self.next..).filter(|rest| !rest.is_empty())?;
            self.found = match (rest.first_chunk(), self.line.last_chunk()) {
                (Some(block), _) => equal(block, self.delimiter),
                // The last 64 bytes of the row, without those that were compared before.
                (None, Some(block)) => equal(block, self.delimiter) >> (BLOCK - rest.len()),
                (None, None) => {
                    // Fills the block up with bytes that are not delimiters.
                    let mut block = [!self.delimiter; BLOCK];
                    block[..rest.len()].copy_from_slice(rest);
                    equal(&block, self.delimiter)
                }
            };
            self.next += BLOCK;
        }
        let place = self.next - BLOCK + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(place)
    }
}

/// A bit for each byte that equals `wanted`.
#[cfg(target_arch = "x86_64")]
#[inline]
fn equal(block: &[u8; BLOCK], wanted: u8) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};

    let (parts, _) = block.as_chunks::<16>();
    let bits = parts.iter().map(|part| {
        // SAFETY: it reads the sixteen bytes of `part`. Every x86-64 processor has SSE2.
        unsafe {
            let part = _mm_loadu_si128(part.as_ptr().cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_set1_epi8(wanted as i8)))
        }
    });
    bits.enumerate().fold(0, |all, (at, bits)| all | u64::from(bits as u16) << (16 * at))
}

/// A bit for each byte that equals `wanted`.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn equal(block: &[u8; BLOCK], wanted: u8) -> u64 {
    block.iter().enumerate().fold(0, |all, (at, byte)| all | u64::from(*byte == wanted) << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str, expected: Result<&[&str], Reason>) {
        let mut reader = CsvReader::new(b',');
        // The reader has read another row before: that must not matter.
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
        check("a,b\rc,d", Err(Reason::TrailingData));
        check("\n\r\na,b", Ok(&["a", "b"]));
        check("a,b\r", Ok(&["a", "b"]));
        check("\"he said \"hi\" there\",b", Err(Reason::InvalidCsv));
        check("\"a\" ,b", Err(Reason::InvalidCsv));
        check("\"a\"\"\"b", Err(Reason::InvalidCsv));
        check("5\" screen,b", Ok(&["5\" screen", "b"]));
    }

    proptest::proptest! {
        #[test]
        fn delimiters_are_where_they_are(
            line in proptest::collection::vec(
                proptest::sample::select(b"ab,;-\x00\x01\x7f\x80\xac\xff".to_vec()),
                0..200
            ),
            delimiter: u8
        ) {
            for delimiter in [b',', b';', delimiter] {
                let places = (0..line.len()).filter(|place| line[*place] == delimiter);
                proptest::prop_assert_eq!(
                    Delimiters::new(&line, delimiter).collect::<Vec<_>>(),
                    places.collect::<Vec<_>>()
                );
            }
        }

        #[test]
        fn rows_are_cut_as_the_reader_cuts_them(
            text in "([ab;é\\r\\n\"]{0,3}|\"[ab,;é\\n]{0,4}\")\
                (,([ab;é]{0,3}|\"[ab,;é\\r]{0,4}\"|[a\"\\n]{0,3})){0,4}(\\r?\\n)?",
            delimiter in proptest::sample::select(vec![b',', b';'])
        ) {
            let mut reader = CsvReader::new(delimiter);
            let read = reader.split(text.as_bytes());
            let line = line(&text);
            let cut: Option<Vec<&str>> = match memchr3(b'"', b'\n', b'\r', line.as_bytes()) {
                _ if line.is_empty() => None,
                None => plain(line, delimiter).collect(),
                Some(special) => quoted(line, delimiter, special).collect(),
            };
            if let Some(cells) = cut {
                let mut start = 0;
                let ends = &reader.ends[..read.expect("what is cut is a row")];
                let expected: Vec<&[u8]> =
                    ends.iter().map(|end| &reader.text[std::mem::replace(&mut start, *end)..*end]).collect();
                let cells: Vec<&[u8]> = cells.into_iter().map(str::as_bytes).collect();
                proptest::prop_assert_eq!(cells, expected);
            }
        }
    }

    #[test]
    fn quotes_around_whole_cells_are_cut_off() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let special = line.find(['"', '\n', '\r']).unwrap();
            let cells: Option<Vec<&str>> = quoted(line, b',', special).collect();
            assert_eq!(cells.as_deref(), expected, "{line:?}");
        };
        check("a,\"b,c\",d", Some(&["a", "b,c", "d"]));
        check("\"a\",,\"\"", Some(&["a", "", ""]));
        check("a,\"b\nc,\"", Some(&["a", "b\nc,"]));
        check("\"a,b\",\"c,d\"", Some(&["a,b", "c,d"]));
        check("a,\"b\"\"c\"", None);
        check("a,\"b\"c", None);
        check("a,b\"c\"", None);
        check("a,\"b", None);
        check("a,\"b,c", None);
        check("a\nb,c", None);
        check("\"a\"\n", None);
    }
}
