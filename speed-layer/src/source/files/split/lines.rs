//! One record a line (NDJSON). Lines of nothing but white space are no records.

use std::io;

use memchr::memchr;

use super::json::is_whole;
use super::{Collector, Piece, Splitter, broken, skip_byte_order_mark};
use crate::source::files::open::Content;

/// Cuts at line ends (`\n`, `\r\n`).
#[derive(Debug)]
pub struct Lines {
    content: Content,
    limit: usize,
    begun: bool,
    broken_told: bool,
    cut: bool,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(content: Content, limit: usize) -> Lines {
        Lines { content, limit, begun: false, broken_told: false, cut: false }
    }
}

impl Splitter for Lines {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        if !self.begun {
            skip_byte_order_mark(&mut self.content)?;
            self.begun = true;
        }
        loop {
            piece.clear();
            let mut line = Collector::new(self.limit);
            let ended = loop {
                let buffer = self.content.fill()?;
                if buffer.is_empty() {
                    break true;
                }
                match memchr(b'\n', buffer) {
                    Some(end) => {
                        line.add(piece, &buffer[..end]);
                        self.content.consume(end + 1);
                        break false;
                    }
                    None => {
                        let length = buffer.len();
                        line.add(piece, buffer);
                        self.content.consume(length);
                    }
                }
            };
            self.cut = false;
            if ended
                && !self.broken_told
                && let Some(broken) = broken(&self.content)
            {
                self.broken_told = true;
                self.cut = true;
                return Ok(broken);
            }
            if !line.is_too_long() && piece.last() == Some(&b'\r') {
                piece.pop();
            }
            if !piece.iter().all(u8::is_ascii_whitespace) {
                self.cut = ended && !is_whole(piece);
                return Ok(line.finish());
            }
            if ended {
                return Ok(Piece::End);
            }
        }
    }

    fn content(&self) -> &Content {
        &self.content
    }

    fn is_cut(&self) -> bool {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{records, split};
    use super::*;

    #[test]
    fn cuts_at_line_ends() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(split(Lines::new(Content::of(text.as_bytes()), 100)), records(expected), "{text:?}");
        };
        check("", &[]);
        check("\n \r\n", &[]);
        check("{\"a\":1}\n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]);
        check("\u{feff}first\r\n\nsecond\n", &["first", "second"]);
    }

    #[test]
    fn a_last_line_without_a_line_end_that_is_no_whole_value_is_cut() {
        let check = |content: Content, expected: &[(&str, bool)]| {
            let mut lines = Lines::new(content, 100);
            let mut piece = Vec::new();
            let mut found = Vec::new();
            while lines.next(&mut piece).unwrap() != Piece::End {
                found.push((String::from_utf8(piece.clone()).unwrap(), lines.is_cut()));
            }
            let expected: Vec<_> = expected.iter().map(|(text, cut)| ((*text).to_owned(), *cut)).collect();
            assert_eq!(found, expected);
            assert!(!lines.is_cut());
        };
        let of = |text: &str| Content::of(text.as_bytes());
        check(of("{\"a\":1}\n{\"a\":"), &[("{\"a\":1}", false), ("{\"a\":", true)]);
        check(of("{\"a\":1}\n{\"a\":2}"), &[("{\"a\":1}", false), ("{\"a\":2}", false)]);
        check(of("{\"a\":\n{\"a\":2}\n"), &[("{\"a\":", false), ("{\"a\":2}", false)]);
        check(of(""), &[]);
        // What could be read of compressed data that breaks off is no whole line, though it may look like one.
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut gzip, b"{\"a\":1}\n{\"a\":2}\n").unwrap();
        let bytes = gzip.finish().unwrap();
        let content = Content::over(io::Cursor::new(bytes[..bytes.len() - 9].to_vec())).unwrap();
        check(content, &[("{\"a\":1}", false), ("{\"a\":2}", true)]);
    }

    #[test]
    fn a_long_line_is_rejected_and_costs_nobody_else() {
        let text = format!("{}\nshort\n{}", "x".repeat(50), "y".repeat(11));
        let pieces = split(Lines::new(Content::of(text.as_bytes()), 10));
        let expected =
            [("x".repeat(10), Some("too_long")), ("short".to_owned(), None), ("y".repeat(10), Some("too_long"))];
        assert_eq!(pieces, expected);
    }
}
