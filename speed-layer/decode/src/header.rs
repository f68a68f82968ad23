//! Decides from the first lines of a CSV file whether it has a header, and where. It is pure.
//!
//! A header is *known* when it names every required field, except those that have a default in the
//! configuration. Other names in it become attributes. The header is looked for in the first
//! [`LINES_MAX`] lines. The lines before it (`sep=;`, a report's description) are the preamble.
//!
//! A file without a header has rows from its beginning. Its first row is read with the configured
//! columns, else with the default ones. If that fails, the file is not read at all: by position,
//! its values would come into the wrong fields.
//!
//! A line counts only if all of it is at hand, because half a header leads to wrong results. If
//! more bytes are needed, the caller is told where ([`Unclear::Cut`]), and calls again with more of
//! them.
//!
//! The result depends on the bytes and the configuration alone. Records are numbered from the end
//! of the header.

use std::fmt;

use csv::{ReaderBuilder, StringRecord};

use crate::csv::row_scan::{RowScan, Stop, is_line_end};
use crate::mapping::Mapping;
use crate::settings::CsvSettings;

/// The number of lines at the beginning of a file that are searched for a header. Empty lines do
/// not count.
pub const LINES_MAX: usize = 20;
/// The greatest length of a header. A longer one is not accepted, because each dead letter of the
/// file stores it.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// How much of a header an error shows.
const SHOWN_BYTES: usize = 200;
/// Other delimiters to suggest, if the header does not have the expected one.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a CSV file begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The header line as it stands in the file.
    pub header_line: Option<String>,
    /// The delimiter that the file names.
    pub delimiter: Option<u8>,
    /// The position of the first row, in bytes.
    pub rows_at: usize,
    /// The number of lines before the header that are not empty.
    pub preamble_lines: u64,
}

/// Why the beginning of a file cannot be classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclear {
    /// The bytes end within what may be the header or the first row. The number is that of its
    /// line, from 1.
    Cut(usize),
    /// There is neither a header nor a valid first row. The text says why, for people.
    Unknown(String),
}

/// Decides how a CSV file begins.
pub struct HeaderDetector<'a> {
    /// Says which names are known.
    pub mapping: &'a Mapping,
    /// The settings of the source.
    pub csv: &'a CsvSettings,
    /// The delimiter that the file's name implies.
    pub delimiter: Option<u8>,
    /// Whether the bytes are the whole file.
    pub is_whole: bool,
    /// Whether this is the last attempt: no more bytes will be passed, even if there are any.
    pub is_last_look: bool,
    /// Returns why a row cannot be read with the columns, if it cannot. The second argument is the
    /// delimiter.
    pub refuses: &'a dyn Fn(&[u8], u8) -> Option<String>,
}

impl fmt::Debug for HeaderDetector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderDetector").field("delimiter", &self.delimiter).finish_non_exhaustive()
    }
}

impl HeaderDetector<'_> {
    /// Examines the first bytes of a file. An error says why the beginning cannot be classified.
    pub fn detect(&self, head: &[u8]) -> Result<Beginning, Unclear> {
        let mark = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        // The settings have checked that it is one ASCII character.
        let mut delimiter = self.delimiter.unwrap_or(self.csv.delimiter as u8);
        let mut beginning = Beginning { header_line: None, delimiter: self.delimiter, rows_at: 0, preamble_lines: 0 };
        let mut lines: Vec<Line> = lines(head, mark).filter(|line| !line.is_blank()).take(LINES_MAX).collect();
        if let Some(named) = lines.first().and_then(|line| named_delimiter(line.text)) {
            delimiter = named;
            let line = lines.remove(0);
            beginning = Beginning { delimiter: Some(named), rows_at: line.next, preamble_lines: 1, ..beginning };
        }
        let Some(first) = lines.first() else {
            let has_nothing = self.is_whole || self.csv.header == Some(false);
            return if has_nothing { Ok(beginning) } else { Err(Unclear::Cut(1 + lines_before(head, head.len()))) };
        };
        if self.csv.header == Some(false) {
            return Ok(beginning);
        }
        // The rows begin at the first line that the columns accept, provided that no line before it
        // can be a header.
        let mut refused = None;
        let mut may_be_rows = self.csv.header.is_none();
        let before = beginning.preamble_lines;
        let is_cut = |end: usize| !self.is_whole && end == head.len();
        let cut = |line: &Line| Unclear::Cut(1 + lines_before(head, line.start));
        for (number, line) in (0..).zip(&lines) {
            if is_cut(line.next) {
                if self.is_last_look && self.csv.header == Some(true) && number > 0 {
                    break;
                }
                return Err(cut(line));
            }
            if let Some((cells, end)) = first_row(&head[line.start..], delimiter)
                && Known::of(&cells, self.mapping).is_header()
            {
                if is_cut(line.start + end) {
                    return Err(cut(line));
                }
                beginning.header_line = Some(header_line(&head[line.start..line.start + end], delimiter)?);
                beginning.rows_at = line.start + end;
                beginning.preamble_lines = before + number;
                return Ok(beginning);
            }
            if may_be_rows {
                match (self.refuses)(&head[line.start..], delimiter) {
                    None => return Ok(beginning),
                    Some(why) => _ = refused.get_or_insert(why),
                }
                may_be_rows = is_like_data(line.text, delimiter);
            }
        }
        if self.csv.header == Some(true) {
            let end = first_row(&head[first.start..], delimiter).map_or(first.next, |(_, end)| first.start + end);
            if is_cut(end) {
                return Err(cut(first));
            }
            beginning.header_line = Some(header_line(&head[first.start..end], delimiter)?);
            beginning.rows_at = end;
            return Ok(beginning);
        }
        Err(Unclear::Unknown(self.unknown(head, &lines, delimiter, &refused.unwrap_or_default())))
    }

    fn unknown(&self, head: &[u8], lines: &[Line], delimiter: u8, refused: &str) -> String {
        let of = |line: &Line, delimiter: u8| {
            let cells = first_row(&head[line.start..], delimiter).map(|(cells, _)| cells).unwrap_or_default();
            Known::of(&cells, self.mapping)
        };
        let mut text = format!("none of its first {LINES_MAX} lines is a known header");
        let other = DELIMITERS.into_iter().filter(|other| *other != delimiter);
        let other = other.flat_map(|other| lines.iter().map(move |line| (other, line)));
        if let Some((other, _)) = other.into_iter().find(|(other, line)| of(line, *other).is_header()) {
            text += &format!(" (with csv.delimiter = {:?} one of them is)", char::from(other));
        } else if let Some(nearest) =
            lines.iter().map(|line| of(line, delimiter)).rev().max_by_key(|known| known.fields)
            && nearest.fields > 0
        {
            text += &format!(" (the line that is most like one does not name {})", nearest.missing.join(", "));
        }
        text + &format!(
            ", and its first line is no row of the columns that are configured ({refused}): say in the source's \
             fields how its \
             columns are called, or set csv.header, csv.columns or csv.delimiter"
        )
    }
}

/// A header line as it stands in its file, without the line end. A header whose last quote is not
/// closed is not accepted, because it would be the whole file.
fn header_line(bytes: &[u8], delimiter: u8) -> Result<String, Unclear> {
    let mut scan = RowScan::new(delimiter);
    if scan.scan(bytes) == Stop::Nowhere && scan.is_quoted() {
        let line = bytes.split(|byte| is_line_end(*byte)).next().unwrap_or_default();
        return Err(Unclear::Unknown(format!(
            "a quote in its header is not closed: {}",
            String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)])
        )));
    }
    if bytes.len() > HEADER_BYTES_MAX {
        return Err(Unclear::Unknown(format!(
            "its header has {} bytes, and at most {HEADER_BYTES_MAX} are accepted, because each dead letter of the \
             file stores it: \
             shorten it, or set csv.header = false and name the columns in csv.columns",
            bytes.len()
        )));
    }
    Ok(String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned())
}

/// The names in a header line.
pub fn names(line: &str, delimiter: u8) -> Vec<String> {
    let cells = first_row(line.as_bytes(), delimiter).map(|(cells, _)| cells);
    cells.unwrap_or_default().iter().map(|cell| cell.trim().trim_start_matches('\u{feff}').to_owned()).collect()
}

/// Whether a line is a known header.
pub fn is_known(line: &[u8], delimiter: u8, mapping: &Mapping) -> bool {
    first_row(line, delimiter).is_some_and(|(cells, _)| Known::of(&cells, mapping).is_header())
}

/// Whether earlier versions took the first line of a file for a header. Half of its names had to be
/// known.
pub fn was_header(head: &[u8], csv: &CsvSettings, delimiter: Option<u8>, mapping: &Mapping) -> bool {
    let delimiter = delimiter.unwrap_or(csv.delimiter as u8);
    let mark = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let first = lines(head, mark).find(|line| !line.is_blank());
    let cells = first.and_then(|line| first_row(&head[line.start..], delimiter)).map(|(cells, _)| cells);
    let cells = cells.unwrap_or_default();
    let known = cells.iter().filter(|cell| mapping.lookup(cell.trim()).is_some()).count();
    csv.header.unwrap_or(known > 0 && known * 2 >= cells.len())
}

/// What a line names if it is read as a header.
struct Known {
    /// The number of fields that it names.
    fields: usize,
    /// The required fields that it does not name and that have no default.
    missing: Vec<String>,
}

impl Known {
    fn of(cells: &StringRecord, mapping: &Mapping) -> Known {
        let direct = |cell: &str| mapping.entry_at(mapping.lookup(cell.trim())?).direct;
        let mut named: Vec<usize> = cells.iter().filter_map(direct).map(|target| usize::from(target.field)).collect();
        named.sort_unstable();
        named.dedup();
        let fields = mapping.fields().iter().enumerate();
        let missing =
            fields.filter(|(index, field)| field.required && field.default.is_none() && !named.contains(index));
        Known { fields: named.len(), missing: missing.map(|(_, field)| field.name.clone()).collect() }
    }

    fn is_header(&self) -> bool {
        self.fields > 0 && self.missing.is_empty()
    }
}

/// A line of text, which ends at CR, LF or CRLF.
struct Line<'a> {
    start: usize,
    text: &'a [u8],
    /// Where the next line begins.
    next: usize,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.iter().all(u8::is_ascii_whitespace)
    }
}

fn lines(head: &[u8], from: usize) -> impl Iterator<Item = Line<'_>> {
    let mut start = from;
    std::iter::from_fn(move || {
        let rest = head.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        let end = if rest[length..].starts_with(b"\r\n") { 2 } else { usize::from(length < rest.len()) };
        let line = Line { start, text: &rest[..length], next: start + length + end };
        start = line.next;
        Some(line)
    })
}

/// The number of lines that end before a position.
fn lines_before(head: &[u8], position: usize) -> usize {
    lines(&head[..position], 0).count()
}

/// The delimiter in a line like `sep=;`, as spreadsheets write it.
fn named_delimiter(line: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches([' ', '\r']).trim_matches('"');
    let (key, named) = text.split_at_checked(4)?;
    match named.as_bytes() {
        [named] if key.eq_ignore_ascii_case("sep=") && named.is_ascii() => Some(*named),
        _ => None,
    }
}

/// The cells of the first row in `bytes`, and the position where the row ends.
fn first_row(bytes: &[u8], delimiter: u8) -> Option<(StringRecord, usize)> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
    let mut cells = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut cells).ok()? {
        return None;
    }
    let end = usize::try_from(reader.position().byte()).ok()?;
    Some((StringRecord::from_byte_record_lossy(cells), end.min(bytes.len())))
}

/// Whether a line has a cell that begins like a number or a time. No name does.
fn is_like_data(line: &[u8], delimiter: u8) -> bool {
    line.split(|byte| *byte == delimiter).any(|cell| {
        let cell = cell.trim_ascii_start();
        cell.strip_prefix(b"\"").unwrap_or(cell).first().is_some_and(u8::is_ascii_digit)
    })
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;

    use super::*;
    use crate::settings::SourceSettings;

    fn look(head: &str, change: impl Fn(&mut SourceSettings)) -> Result<Beginning, String> {
        look_at(head, true, change).map_err(|unclear| match unclear {
            Unclear::Unknown(why) => why,
            Unclear::Cut(_) => panic!("{head:?} is all there is"),
        })
    }

    fn look_at(head: &str, is_whole: bool, change: impl Fn(&mut SourceSettings)) -> Result<Beginning, Unclear> {
        let mut source = SourceSettings::default();
        change(&mut source);
        let mapping = Mapping::new(EventKind::Interaction, &source).unwrap();
        let refuses = |row: &[u8], delimiter: u8| {
            let is_row = row.starts_with(b"2026-") && row.get(10) == Some(&delimiter);
            (!is_row).then(|| "bad_timestamp".to_owned())
        };
        let detector = HeaderDetector {
            mapping: &mapping,
            csv: &source.csv,
            delimiter: None,
            is_whole,
            is_last_look: false,
            refuses: &refuses,
        };
        detector.detect(head.as_bytes())
    }

    const HEADER: &str = "timestamp,user_id,campaign_id,conversion_type";
    const ROW: &str = "2026-03-01,u,k,click\n";

    /// Checks the header line and the number of preamble lines. Rows begin at the first `2026-`.
    fn check(head: &str, header: Option<&str>, preamble_lines: u64, delimiter: Option<u8>) {
        let found = look(head, |_| ()).unwrap_or_else(|why| panic!("{head:?}: {why}"));
        assert_eq!(found.header_line.as_deref(), header, "{head:?}");
        assert_eq!((found.preamble_lines, found.delimiter), (preamble_lines, delimiter), "{head:?}");
        let rows = &head[found.rows_at..];
        assert!(rows.trim_start_matches(['\u{feff}', '\r', '\n']).starts_with("2026-"), "{head:?}: {rows:?}");
    }

    #[test]
    fn a_header_names_all_required_fields() {
        check(&format!("{HEADER}\n{ROW}"), Some(HEADER), 0, None);
        check(&format!("\u{feff}{HEADER}\r\n{ROW}"), Some(HEADER), 0, None);
        check(&format!("\n \r{HEADER}\r{ROW}"), Some(HEADER), 0, None);
        let fewer_than_half = format!("{HEADER},source,medium,term,content,price_eur");
        check(&format!("{fewer_than_half}\n{ROW}"), Some(&fewer_than_half), 0, None);
        let quoted = "\"User ID\", Timestamp ,\"a\nb\",campaign,type";
        check(&format!("{quoted}\n{ROW}"), Some(quoted), 0, None);
        check(ROW, None, 0, None);
        check(&format!("\u{feff}{ROW}"), None, 0, None);
    }

    #[test]
    fn what_comes_before_a_header_is_passed_over_and_counted() {
        check(&format!("sep=,\n{HEADER}\n{ROW}"), Some(HEADER), 1, Some(b','));
        let semicolons = HEADER.replace(',', ";");
        check(&format!("\u{feff}SEP=;\r\n{semicolons}\r\n{ROW}"), Some(&semicolons), 1, Some(b';'));
        check(&format!("\"sep=,\"\n{ROW}"), None, 1, Some(b','));
        let report =
            format!("Report name,My \"report\nDate range,2026-03-01 to 2026-03-31\n\n{HEADER}\n{ROW}Total,,,1\n");
        check(&report, Some(HEADER), 2, None);
        // The last line in which a header is looked for.
        check(&format!("{}{HEADER}\n{ROW}", "x\n".repeat(19)), Some(HEADER), 19, None);
        assert!(look(&format!("{}{HEADER}\n{ROW}", "x\n".repeat(20)), |_| ()).is_err());
    }

    #[test]
    fn what_is_neither_header_nor_row_is_not_read() {
        let check = |head: &str, expected: &str| {
            let why = look(head, |_| ()).unwrap_err();
            assert!(why.contains(expected), "{head:?}: {why}");
        };
        check(&format!("when,who,what\n{ROW}"), "bad_timestamp");
        check(&format!("time,user_id,campaign_id,what\n{ROW}"), "does not name conversion_type");
        check(&format!("{}\n{}", HEADER.replace(',', ";"), ROW), "csv.delimiter = ';'");
        check(&format!("Date,2026-03-01\nwhen,who,what\n{ROW}"), "none of its first 20 lines");
        check(&format!("{}when,who,what\n{ROW}", "\n".repeat(30)), "none of its first 20 lines");
    }

    #[test]
    fn a_header_with_an_open_quote_is_not_the_whole_file() {
        for head in [format!("{HEADER},\"note\n{ROW}{ROW}"), format!("{HEADER},\"note")] {
            let why = look(&head, |_| ()).unwrap_err();
            assert_eq!(why, format!("a quote in its header is not closed: {HEADER},\"note"));
        }
        let why = look("a,\"b\n1,2\n", |source| source.csv.header = Some(true)).unwrap_err();
        assert_eq!(why, "a quote in its header is not closed: a,\"b");
    }

    #[test]
    fn empty_lines_before_a_header_do_not_count() {
        let head = format!("{}{HEADER}\n{ROW}", "\r\n".repeat(30));
        assert_eq!(look(&head, |_| ()).unwrap().header_line.as_deref(), Some(HEADER));
        assert_eq!(look_at(&"\n".repeat(30), false, |_| ()), Err(Unclear::Cut(31)));
    }

    #[test]
    fn half_a_line_tells_nothing() {
        let check = |head: &str, expected: Result<usize, usize>| {
            let found = look_at(head, false, |_| ()).map(|found| found.rows_at);
            assert_eq!(found, expected.map_err(Unclear::Cut), "{head:?}");
        };
        check(&format!("{HEADER}\n"), Err(1));
        check(&format!("{HEADER}\n{ROW}"), Ok(HEADER.len() + 1));
        check(&format!("{HEADER},note"), Err(1));
        check(&format!("{HEADER},note\n2"), Ok(HEADER.len() + 6));
        check(&format!("{HEADER},\"a\nb"), Err(1));
        check(&format!("{ROW}2026-"), Ok(0));
        check(&ROW[..ROW.len() - 1], Err(1));
        check("when,wh", Err(1));
        check(&format!("a report\n\n{HEADER}"), Err(3));
        check(&format!("sep=,\n{HEADER}"), Err(2));
        let says = |header: bool| move |source: &mut SourceSettings| source.csv.header = Some(header);
        assert_eq!(look_at("a,b", false, says(true)), Err(Unclear::Cut(1)));
        assert_eq!(look_at("a,\"b\nc,d\n", false, says(true)), Err(Unclear::Cut(2)));
        assert_eq!(look_at("a,b", false, says(false)).unwrap().rows_at, 0);
    }

    #[test]
    fn a_bad_first_row_is_a_row_where_it_cannot_be_a_header() {
        let head = format!("2025-03-01,\"u\n{ROW}");
        let found = look(&head, |_| ()).unwrap();
        assert_eq!((found.header_line, found.rows_at), (None, 0));
    }

    #[test]
    fn defaults_and_names_of_the_configuration_make_a_header_known() {
        let mended = |source: &mut SourceSettings| {
            source.fields.insert("user_id".to_owned(), vec!["who".to_owned()]);
            source.defaults.insert("timestamp".to_owned(), "file_time".to_owned());
            source.defaults.insert("campaign_id".to_owned(), "k".to_owned());
        };
        assert_eq!(look("what,who,type\nx,u,click\n", mended).unwrap().header_line.unwrap(), "what,who,type");
        // Nothing is missing, but a line that names no field is not a header.
        let all = |source: &mut SourceSettings| {
            mended(source);
            source.defaults.insert("user_id".to_owned(), "u".to_owned());
            source.defaults.insert("conversion_type".to_owned(), "click".to_owned());
        };
        assert!(look("a,b,c\n", all).unwrap_err().contains("none of its first"));
    }

    #[test]
    fn the_configuration_may_say_whether_there_is_a_header() {
        let says = |header: bool| move |source: &mut SourceSettings| source.csv.header = Some(header);
        let found = look(&format!("a,b\n{ROW}"), says(true)).unwrap();
        assert_eq!((found.header_line.as_deref(), found.rows_at), (Some("a,b"), 4));
        let found = look(&format!("sep=,\na,b\n{ROW}"), says(true)).unwrap();
        assert_eq!((found.header_line.as_deref(), found.preamble_lines, found.rows_at), (Some("a,b"), 1, 10));
        let found = look(&format!("title\n{HEADER}\n{ROW}"), says(true)).unwrap();
        assert_eq!((found.header_line.as_deref(), found.preamble_lines), (Some(HEADER), 1));
        let found = look(&format!("{HEADER}\n{ROW}"), says(false)).unwrap();
        assert_eq!((found.header_line, found.rows_at), (None, 0));
        let found = look("sep=;\nbad\n", says(false)).unwrap();
        assert_eq!((found.delimiter, found.rows_at), (Some(b';'), 6));
    }

    #[test]
    fn nothing_but_a_header_and_nothing_at_all_are_files_without_rows() {
        assert_eq!(look(HEADER, |_| ()).unwrap().rows_at, HEADER.len());
        for head in ["", "\n \r\n", "sep=;\n", "\u{feff}"] {
            assert_eq!(look(head, |_| ()).unwrap().header_line, None, "{head:?}");
        }
    }

    #[test]
    fn a_header_is_cut_by_the_delimiter_that_is_asked_for() {
        assert_eq!(names("a;\"b;c\"; d ", b';'), ["a", "b;c", "d"]);
        assert_eq!(names("a;b", b','), ["a;b"]);
        assert_eq!(names("", b','), Vec::<String>::new());
    }
}
