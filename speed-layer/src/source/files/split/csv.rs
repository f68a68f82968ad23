//! CSV: a row is a record. [`row_scan`](adlake_decode::csv::row_scan) defines rows for the splitter
//! and the decoder alike.
//!
//! Bad quotes cost only their own line. This concerns two cases: text follows a closing quote, or a
//! quote is not closed before the content ends or the limit of a record's length is reached. Then
//! the first line of the supposed row is rejected, and the lines after it are read again. Lines of
//! nothing but white space are no records.
//!
//! A last row without a line end counts as cut off if it has fewer cells than the row before it.
//! While a file may still grow, its last row counts as cut off whatever it holds. A quote that is
//! open at the end then cuts off everything after it, since nobody knows yet where the cell ends.

use std::io;
use std::ops::Range;

use adlake_decode::csv::row_scan::{RowScan, Stop, is_line_end};
use adlake_decode::record::Rejection;

use super::{BYTE_ORDER_MARK, Collector, Piece, Rewound, Splitter, broken, truncated};
use crate::source::files::open::Content;

/// Cuts CSV into rows.
#[derive(Debug)]
pub struct Rows {
    content: Rewound,
    delimiter: u8,
    limit: usize,
    begun: bool,
    /// How many cells the row before has. At first this is the header's number.
    cells: Option<usize>,
    broken_told: bool,
    span: Range<u64>,
    is_cut: bool,
}

/// What the reader found where a row should be.
enum Row {
    /// A row that ends with a line end.
    Ended { cells: usize },
    /// A row that ends with the content.
    Last { cells: usize },
    /// A line that is longer than a record may be.
    Long(Piece),
    /// The first line of something that is no row. `is_last`: the content ends within it.
    Malformed { detail: &'static str, is_last: bool },
    /// A quoted cell that the content's end cuts off, with everything before it in its row.
    CutOff,
    /// The content has ended.
    Nothing,
}

const UNCLOSED: &str = "a quote is opened here and not closed";
const TEXT_AFTER_QUOTE: &str = "text follows a closing quote";

impl Rows {
    /// Cuts rows of at most `limit` bytes. `columns`: how many the header before them has, if there
    /// is one.
    pub fn new(content: Content, delimiter: u8, limit: usize, columns: Option<usize>) -> Rows {
        Rows {
            content: Rewound::new(content),
            delimiter,
            limit,
            begun: false,
            cells: columns,
            broken_told: false,
            span: 0..0,
            is_cut: false,
        }
    }

    fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        let mut first = Vec::new();
        self.content.append(&mut first, BYTE_ORDER_MARK.len())?;
        if first != BYTE_ORDER_MARK {
            self.content.put_back(&first);
        }
        Ok(())
    }

    fn row(&mut self, piece: &mut Vec<u8>) -> io::Result<Row> {
        piece.clear();
        let mut collector = Collector::new(self.limit);
        let mut scan = RowScan::new(self.delimiter);
        loop {
            let buffer = self.content.fill()?;
            if buffer.is_empty() {
                return match collector.length {
                    0 => Ok(Row::Nothing),
                    _ if scan.is_quoted() && self.content.content.may_go_on() => Ok(Row::CutOff),
                    _ if scan.is_quoted() => self.first_line(piece, UNCLOSED),
                    _ => Ok(Row::Last { cells: scan.cells() }),
                };
            }
            // At the limit, a row is judged by the same bytes however the content is read in.
            if collector.length == self.limit {
                return if scan.is_quoted() && piece.iter().any(|byte| is_line_end(*byte)) {
                    self.first_line(piece, UNCLOSED)
                } else {
                    self.rest_of_line(piece, collector).map(Row::Long)
                };
            }
            let room = buffer.len().min(self.limit - collector.length);
            let stop = scan.scan(&buffer[..room]);
            let taken = match stop {
                Stop::LineEnd(at) | Stop::TextAfterQuote(at) => at,
                Stop::Nowhere => room,
            };
            collector.add(piece, &buffer[..taken]);
            self.content.consume(taken);
            match stop {
                Stop::LineEnd(_) => {
                    self.content.consume(1);
                    return Ok(Row::Ended { cells: scan.cells() });
                }
                Stop::TextAfterQuote(_) => return self.first_line(piece, TEXT_AFTER_QUOTE),
                Stop::Nowhere => {}
            }
        }
    }

    /// Leaves the first line in `piece`. What was taken of later lines is put back and read again.
    fn first_line(&mut self, piece: &mut Vec<u8>, detail: &'static str) -> io::Result<Row> {
        if let Some(end) = piece.iter().position(|byte| is_line_end(*byte)) {
            self.content.put_back(&piece[end + 1..]);
            piece.truncate(end);
            return Ok(Row::Malformed { detail, is_last: false });
        }
        let mut collector = Collector::new(self.limit);
        collector.length = piece.len();
        match self.rest_of_line(piece, collector)? {
            Piece::Record => Ok(Row::Malformed { detail, is_last: self.content.fill()?.is_empty() }),
            long => Ok(Row::Long(long)),
        }
    }

    /// Takes the rest of a line up to its line end, whatever quotes it has.
    fn rest_of_line(&mut self, piece: &mut Vec<u8>, mut collector: Collector) -> io::Result<Piece> {
        loop {
            let buffer = self.content.fill()?;
            let end = buffer.iter().position(|byte| is_line_end(*byte));
            let taken = end.unwrap_or(buffer.len());
            let is_over = end.is_some() || buffer.is_empty();
            collector.add(piece, &buffer[..taken]);
            self.content.consume(taken);
            if is_over {
                // The line end stays in the content, where it reads as an empty line. So the caller
                // can tell whether the content ends here.
                return Ok(collector.finish());
            }
        }
    }

    fn piece(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        loop {
            let start = self.content.position();
            let found = self.row(piece)?;
            if matches!(found, Row::Nothing) {
                self.span = start..start;
                if let Some(broken) = self.broken_once() {
                    return Ok(broken);
                }
                return Ok(Piece::End);
            }
            // What is kept of a long line may be its white space alone.
            if !matches!(found, Row::Long(_)) && piece.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.span = match found {
                Row::Long(_) => start..self.content.position(),
                _ => start..start + piece.len() as u64,
            };
            return Ok(match found {
                Row::Ended { cells } => {
                    self.cells = Some(cells);
                    Piece::Record
                }
                Row::Last { cells } => self.last(cells),
                Row::Long(piece) => {
                    self.is_cut = self.content.fill()?.is_empty();
                    piece
                }
                Row::CutOff | Row::Malformed { is_last: true, detail: UNCLOSED } => {
                    self.is_cut = true;
                    self.broken_once().unwrap_or_else(|| truncated("the file ends within a quoted cell"))
                }
                Row::Malformed { detail, is_last } => {
                    self.is_cut = is_last;
                    Piece::Rejected(Rejection { reason: "invalid_csv", detail: detail.to_owned() })
                }
                Row::Nothing => Piece::End,
            });
        }
    }

    /// The last row, which has no line end. If the compressed data is broken, the row may have been
    /// longer than what could be read.
    fn last(&mut self, cells: usize) -> Piece {
        if let Some(broken) = self.broken_once() {
            return broken;
        }
        self.is_cut = self.content.content.may_go_on();
        match self.cells {
            Some(before) if cells < before => {
                self.is_cut = true;
                truncated(format!("the file ends within this row: it has {cells} cells, the row before it {before}"))
            }
            _ => Piece::Record,
        }
    }

    fn broken_once(&mut self) -> Option<Piece> {
        let broken = broken(&self.content.content).filter(|_| !self.broken_told)?;
        self.broken_told = true;
        self.is_cut = true;
        Some(broken)
    }
}

/// Whether the bytes may stand between two rows.
pub fn may_part(bytes: &[u8]) -> bool {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).iter().all(u8::is_ascii_whitespace)
}

impl Splitter for Rows {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        self.is_cut = false;
        if !std::mem::replace(&mut self.begun, true) {
            self.skip_byte_order_mark()?;
        }
        self.piece(piece)
    }

    fn span(&self) -> Range<u64> {
        self.span.clone()
    }

    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn content(&self) -> &Content {
        &self.content.content
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{records, split};
    use super::*;

    fn rows(text: &str, limit: usize) -> Vec<(String, Option<&'static str>)> {
        split(Rows::new(Content::of(text.as_bytes()), b',', limit, None))
    }

    #[test]
    fn cuts_at_line_ends_outside_quotes() {
        let check = |text: &str, expected: &[&str]| assert_eq!(rows(text, 1000), records(expected), "{text:?}");
        check("", &[]);
        check("\n\r\n  \n", &[]);
        check("a,b\r\nc,d", &["a,b", "c,d"]);
        check("\u{feff}a,\"b\nb\"\nc,\"d \"\"d\n\"\" d\"\n", &["a,\"b\nb\"", "c,\"d \"\"d\n\"\" d\""]);
        check("\"a\",\"\"\n\"\",b\n", &["\"a\",\"\"", "\"\",b"]);
        // In a cell that did not begin with a quote, a quote is an ordinary character.
        check("5\" screen,b\nc,d\n", &["5\" screen,b", "c,d"]);
        check("a\tb,\"c\nd\"\n", &["a\tb,\"c\nd\""]);
    }

    #[test]
    fn an_unclosed_quote_costs_its_line_only() {
        let unclosed = |text: &str| (text.to_owned(), Some("invalid_csv"));
        let row = |text: &str| (text.to_owned(), None);
        assert_eq!(rows("a,b\nc,\"d\ne,f\ng,h\n", 1000), [row("a,b"), unclosed("c,\"d"), row("e,f"), row("g,h")]);
        let cut_off = |text: &str| (text.to_owned(), Some("truncated"));
        assert_eq!(rows("a,\"b", 1000), [cut_off("a,\"b")]);
        assert_eq!(rows("a,\"b\nc,d\ne,\"f", 1000), [unclosed("a,\"b"), row("c,d"), cut_off("e,\"f")]);
        assert_eq!(rows("a,\"b\nc,\"d\ne,f", 1000), [unclosed("a,\"b"), unclosed("c,\"d"), row("e,f")]);
        // The same happens if the limit is reached within quotes.
        let text = format!("a,\"b\n{}", "c,d\n".repeat(20));
        let pieces = rows(&text, 30);
        assert_eq!(pieces[0], unclosed("a,\"b"));
        assert_eq!(pieces[1..], vec![row("c,d"); 20]);
    }

    #[test]
    fn text_after_a_closing_quote_costs_its_line_only() {
        let bad = |text: &str| (text.to_owned(), Some("invalid_csv"));
        let row = |text: &str| (text.to_owned(), None);
        let text = "u2,\"o2,2\nu3,o3,3\nu4,\"o4\",4\nu5,o5,5\n";
        assert_eq!(rows(text, 1000), [bad("u2,\"o2,2"), row("u3,o3,3"), row("u4,\"o4\",4"), row("u5,o5,5")]);
        let said = "1,\"he said \"hi\" there\"";
        assert_eq!(rows(&format!("a,b\n{said}\r\nc,d\n"), 1000), [row("a,b"), bad(said), row("c,d")]);
        assert_eq!(rows(said, 1000), [bad(said)]);
    }

    #[test]
    fn a_bare_cr_ends_a_row() {
        let check = |text: &str, expected: &[&str]| assert_eq!(rows(text, 1000), records(expected), "{text:?}");
        check("a,b\rc,d\r", &["a,b", "c,d"]);
        check("a,b\rc,d\ne,f\r\ng,h", &["a,b", "c,d", "e,f", "g,h"]);
        check("a,\"b\rc\"\rd,e", &["a,\"b\rc\"", "d,e"]);
        check("a,b\r\r\n\rc,d", &["a,b", "c,d"]);
    }

    #[test]
    fn a_row_that_the_end_of_the_file_cuts_off_is_told() {
        let check = |text: &str, columns: Option<usize>, last: &str, reason: Option<&'static str>| {
            let mut splitter = Rows::new(Content::of(text.as_bytes()), b',', 100, columns);
            let (mut piece, mut before) = (Vec::new(), (String::new(), None, false));
            loop {
                before = match splitter.next(&mut piece).unwrap() {
                    Piece::End => break,
                    Piece::Record => (String::from_utf8(piece.clone()).unwrap(), None, splitter.is_cut()),
                    Piece::Rejected(r) => {
                        (String::from_utf8(piece.clone()).unwrap(), Some(r.reason), splitter.is_cut())
                    }
                };
            }
            assert_eq!(before, (last.to_owned(), reason, reason == Some("truncated")), "{text:?}");
        };
        check("1,2,3\n4,5", Some(3), "4,5", Some("truncated"));
        check("1,2", Some(3), "1,2", Some("truncated"));
        check("1,2,3\n4", None, "4", Some("truncated"));
        check("1,2,3\n4,5,6", None, "4,5,6", None);
        check("1,2,3\n4,5\n", None, "4,5", None);
        // Short rows are valid rows if all rows before them were as short.
        check("1,2,3\n4,5\n6,7", None, "6,7", None);
        check("1,2", None, "1,2", None);
        check("1,2\n3,\"4", None, "3,\"4", Some("truncated"));
        check("1,2\n3,\"4\n", None, "3,\"4", Some("invalid_csv"));
    }

    #[test]
    fn a_long_row_is_rejected_and_costs_nobody_else() {
        let long = |text: &str| (text.to_owned(), Some("too_long"));
        let text = format!("{}\na,b\n", "x".repeat(50));
        assert_eq!(rows(&text, 10), [long(&"x".repeat(10)), ("a,b".to_owned(), None)]);
        let text = format!("\"{}\na,b\n", "x".repeat(50));
        assert_eq!(rows(&text, 10), [long(&format!("\"{}", "x".repeat(9))), ("a,b".to_owned(), None)]);
    }

    #[test]
    fn a_long_row_that_begins_with_white_space_is_told() {
        let text = format!("{}x\na,b\n", " ".repeat(50));
        assert_eq!(rows(&text, 10), [(" ".repeat(10), Some("too_long")), ("a,b".to_owned(), None)]);
    }

    proptest! {
        #[test]
        fn cuts_what_a_csv_writer_wrote_as_a_csv_reader_would(
            table in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 2..4), 0..8)
        ) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &table {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let cut = split(Rows::new(Content::of(&text), b',', 10_000, None));
            let read: Vec<Vec<String>> = cut
                .iter()
                .map(|(row, reason)| {
                    assert_eq!(*reason, None);
                    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
                    let record = reader.records().next().unwrap().unwrap();
                    record.iter().map(str::to_owned).collect()
                })
                .collect();
            prop_assert_eq!(read, table);
        }
    }
}
