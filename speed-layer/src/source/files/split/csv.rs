//! One record a row of CSV (RFC 4180): a quoted cell may hold delimiters, doubled quotes and line ends.
//!
//! A quote that is never closed would take the rest of the file with it. Where the end of the file, or the limit of a record's length,
//! is met within quotes, the row in which they were opened is rejected up to the end of its line, and the lines after it are read
//! again, each as a row of its own. Empty lines are no records.

use std::io;

use memchr::{memchr, memchr2};

use super::{Collector, Piece, Rewound, Splitter, broken, skip_byte_order_mark};
use crate::record::Rejection;
use crate::source::files::open::Content;

/// Cuts CSV into rows.
#[derive(Debug)]
pub struct Rows {
    content: Rewound,
    delimiter: u8,
    limit: usize,
    begun: bool,
    skip_first: bool,
    broken_told: bool,
}

/// Where in a row the scan has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Start,
    Plain,
    Quoted,
    QuoteInQuoted,
}

enum Row {
    Cut(Piece),
    Unclosed,
    Nothing,
}

impl Rows {
    /// Rows of at most `limit` bytes; without the first one where that names the columns.
    pub fn new(content: Content, delimiter: u8, limit: usize, skip_first: bool) -> Rows {
        let content = Rewound::new(content);
        Rows { content, delimiter, limit, begun: false, skip_first, broken_told: false }
    }

    fn row(&mut self, piece: &mut Vec<u8>) -> io::Result<Row> {
        piece.clear();
        let (delimiter, limit) = (self.delimiter, self.limit);
        let mut each_line = self.content.is_again();
        let mut collector = Collector::new(limit);
        let mut cell = Cell::Start;
        loop {
            let buffer = self.content.fill()?;
            if buffer.is_empty() {
                return Ok(match cell {
                    Cell::Quoted if !collector.is_too_long() => self.unclosed(piece),
                    _ if collector.length == 0 => Row::Nothing,
                    _ => Row::Cut(collector.finish()),
                });
            }
            // At the limit a row is judged by the same bytes, however the content is read. It is one line that is too long, and
            // ends where lines end; or a quote was opened before.
            if collector.length == limit && !each_line {
                if cell == Cell::Quoted && memchr(b'\n', piece).is_some() {
                    return Ok(self.unclosed(piece));
                }
                each_line = true;
            }
            let room = if each_line { buffer.len() } else { limit - collector.length };
            let buffer = &buffer[..buffer.len().min(room)];
            let (after, end) = scan(buffer, cell, delimiter, each_line);
            cell = after;
            let taken = end.unwrap_or(buffer.len());
            collector.add(piece, &buffer[..taken]);
            self.content.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(if cell == Cell::Quoted && !collector.is_too_long() {
                    Row::Unclosed
                } else {
                    Row::Cut(collector.finish())
                });
            }
        }
    }

    /// Leaves the first line in `piece`; the others are read again.
    fn unclosed(&mut self, piece: &mut Vec<u8>) -> Row {
        if let Some(end) = memchr(b'\n', piece) {
            self.content.put_back(&piece[end + 1..]);
            piece.truncate(end);
        }
        Row::Unclosed
    }
}

/// Goes on from `cell`; gives where the scan has come to and the line end that ends the row, if it is among the bytes. With
/// `each_line` line ends within quotes end the row, too.
fn scan(bytes: &[u8], mut cell: Cell, delimiter: u8, each_line: bool) -> (Cell, Option<usize>) {
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        match cell {
            Cell::Quoted => match memchr2(b'"', b'\n', &bytes[at..]) {
                None => return (cell, None),
                Some(found) => {
                    at += found;
                    if bytes[at] == b'"' {
                        cell = Cell::QuoteInQuoted;
                    } else if each_line {
                        return (cell, Some(at));
                    }
                }
            },
            _ if byte == b'\n' => return (Cell::Start, Some(at)),
            _ if byte == delimiter => cell = Cell::Start,
            Cell::Start | Cell::QuoteInQuoted if byte == b'"' => cell = Cell::Quoted,
            Cell::Start | Cell::QuoteInQuoted => cell = Cell::Plain,
            Cell::Plain => match memchr2(delimiter, b'\n', &bytes[at..]) {
                None => return (cell, None),
                Some(found) => {
                    at += found;
                    continue;
                }
            },
        }
        at += 1;
    }
    (cell, None)
}

impl Splitter for Rows {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        if !self.begun {
            skip_byte_order_mark(&mut self.content.content)?;
            self.begun = true;
        }
        loop {
            let cut = match self.row(piece)? {
                Row::Cut(cut) => cut,
                Row::Unclosed => Piece::Rejected(Rejection {
                    reason: "invalid_csv",
                    detail: "a quote is opened here and not closed".to_owned(),
                }),
                Row::Nothing => {
                    if !self.broken_told
                        && let Some(broken) = broken(&self.content.content)
                    {
                        self.broken_told = true;
                        return Ok(broken);
                    }
                    return Ok(Piece::End);
                }
            };
            if cut == Piece::Record && piece.last() == Some(&b'\r') {
                piece.pop();
            }
            if piece.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if std::mem::take(&mut self.skip_first) {
                continue;
            }
            // The last row of broken data is as far as it could be read, not as it was.
            if cut == Piece::Record
                && !self.broken_told
                && let Some(broken) = broken(&self.content.content)
            {
                self.broken_told = true;
                return Ok(broken);
            }
            return Ok(cut);
        }
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
        split(Rows::new(Content::of(text.as_bytes()), b',', limit, false))
    }

    #[test]
    fn cuts_at_line_ends_outside_quotes() {
        let check = |text: &str, expected: &[&str]| assert_eq!(rows(text, 1000), records(expected), "{text:?}");
        check("", &[]);
        check("\n\r\n  \n", &[]);
        check("a,b\r\nc,d", &["a,b", "c,d"]);
        check("\u{feff}a,\"b\nb\"\nc,\"d \"\"d\n\"\" d\"\n", &["a,\"b\nb\"", "c,\"d \"\"d\n\"\" d\""]);
        check("\"a\",\"\"\n\"\",b\n", &["\"a\",\"\"", "\"\",b"]);
        // A quote within a cell that did not begin with one is a character.
        check("5\" screen,b\nc,d\n", &["5\" screen,b", "c,d"]);
        check("a\tb,\"c\nd\"\n", &["a\tb,\"c\nd\""]);
    }

    #[test]
    fn leaves_out_the_header() {
        let splitter = Rows::new(Content::of(b"\nname,\"na\nme\"\na,b\n"), b',', 100, true);
        assert_eq!(split(splitter), records(&["a,b"]));
    }

    #[test]
    fn an_unclosed_quote_costs_its_line_only() {
        let unclosed = |text: &str| (text.to_owned(), Some("invalid_csv"));
        let row = |text: &str| (text.to_owned(), None);
        assert_eq!(rows("a,b\nc,\"d\ne,f\ng,h\n", 1000), [row("a,b"), unclosed("c,\"d"), row("e,f"), row("g,h")]);
        assert_eq!(rows("a,\"b", 1000), [unclosed("a,\"b")]);
        assert_eq!(rows("a,\"b\nc,\"d\ne,f", 1000)[0], row("a,\"b\nc,\"d"));
        // The same where the limit is met within quotes.
        let text = format!("a,\"b\n{}", "c,d\n".repeat(20));
        let pieces = rows(&text, 30);
        assert_eq!(pieces[0], unclosed("a,\"b"));
        assert_eq!(pieces[1..], vec![row("c,d"); 20]);
    }

    #[test]
    fn a_long_row_is_rejected_and_costs_nobody_else() {
        let long = |text: &str| (text.to_owned(), Some("too_long"));
        let text = format!("{}\na,b\n", "x".repeat(50));
        assert_eq!(rows(&text, 10), [long(&"x".repeat(10)), ("a,b".to_owned(), None)]);
        let text = format!("\"{}\na,b\n", "x".repeat(50));
        assert_eq!(rows(&text, 10), [long(&format!("\"{}", "x".repeat(9))), ("a,b".to_owned(), None)]);
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
            let cut = split(Rows::new(Content::of(&text), b',', 10_000, false));
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
