//! One record a line (NDJSON). Lines of nothing but white space are no records.

use std::io;

use memchr::memchr;

use super::{Collector, Piece, Splitter, broken, skip_byte_order_mark};
use crate::source::files::open::Content;

/// Cuts at line ends (`\n`, `\r\n`).
#[derive(Debug)]
pub struct Lines {
    content: Content,
    limit: usize,
    begun: bool,
    broken_told: bool,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(content: Content, limit: usize) -> Lines {
        Lines { content, limit, begun: false, broken_told: false }
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
            if ended
                && !self.broken_told
                && let Some(broken) = broken(&self.content)
            {
                self.broken_told = true;
                return Ok(broken);
            }
            if !line.is_too_long() && piece.last() == Some(&b'\r') {
                piece.pop();
            }
            if !piece.iter().all(u8::is_ascii_whitespace) {
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
    fn a_long_line_is_rejected_and_costs_nobody_else() {
        let text = format!("{}\nshort\n{}", "x".repeat(50), "y".repeat(11));
        let pieces = split(Lines::new(Content::of(text.as_bytes()), 10));
        let expected =
            [("x".repeat(10), Some("too_long")), ("short".to_owned(), None), ("y".repeat(10), Some("too_long"))];
        assert_eq!(pieces, expected);
    }
}
