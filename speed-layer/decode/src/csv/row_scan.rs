//! Defines what a CSV row is, for both the splitter of files and the decoder.
//!
//! It is RFC 4180 with a configurable delimiter. A cell that begins with a quote ends at the next
//! quote that is not doubled. It may hold delimiters, line ends and doubled quotes, and only a
//! delimiter or a line end may follow it. In other cells a quote is an ordinary character. CR, LF
//! and CRLF end a row outside quotes.

use memchr::{memchr, memchr3};

/// The state of the scan within a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Start,
    Plain,
    Quoted,
    /// After a quote within a quoted cell. The quote ends the cell, unless another one follows.
    QuoteInQuoted,
}

/// Where a scan has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At the CR or LF that ends the row.
    LineEnd(usize),
    /// At a byte that may not follow a closing quote: this is not a row.
    TextAfterQuote(usize),
    /// All bytes belong to the row.
    Nowhere,
}

/// Finds the end of one row, across any number of buffers.
#[derive(Debug, Clone)]
pub struct RowScan {
    delimiter: u8,
    cell: Cell,
    delimiters: usize,
}

impl RowScan {
    /// A scan at the start of a row.
    #[inline]
    pub fn new(delimiter: u8) -> RowScan {
        RowScan { delimiter, cell: Cell::Start, delimiters: 0 }
    }

    /// Continues the scan with these bytes.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8]) -> Stop {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match self.cell {
                Cell::Quoted => match memchr(b'"', &bytes[at..]) {
                    None => return Stop::Nowhere,
                    Some(found) => {
                        at += found;
                        self.cell = Cell::QuoteInQuoted;
                    }
                },
                _ if is_line_end(byte) => return Stop::LineEnd(at),
                _ if byte == self.delimiter => {
                    self.delimiters += 1;
                    self.cell = Cell::Start;
                }
                Cell::Start | Cell::QuoteInQuoted if byte == b'"' => self.cell = Cell::Quoted,
                Cell::QuoteInQuoted => return Stop::TextAfterQuote(at),
                Cell::Start => self.cell = Cell::Plain,
                Cell::Plain => match memchr3(self.delimiter, b'\n', b'\r', &bytes[at..]) {
                    None => return Stop::Nowhere,
                    Some(found) => {
                        at += found;
                        continue;
                    }
                },
            }
            at += 1;
        }
        Stop::Nowhere
    }

    /// Whether a quote is open.
    #[inline]
    pub fn is_quoted(&self) -> bool {
        self.cell == Cell::Quoted
    }

    /// The number of cells that the row has so far.
    #[inline]
    pub fn cells(&self) -> usize {
        self.delimiters + 1
    }
}

/// Whether a byte ends a row outside quotes.
#[inline]
pub fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ends() {
        let check = |text: &str, stop: Stop, quoted: bool, cells: usize| {
            let mut scan = RowScan::new(b',');
            assert_eq!((scan.scan(text.as_bytes()), scan.is_quoted(), scan.cells()), (stop, quoted, cells), "{text:?}");
        };
        check("", Stop::Nowhere, false, 1);
        check("a,b\r\nc", Stop::LineEnd(3), false, 2);
        check("a,b\rc", Stop::LineEnd(3), false, 2);
        check("a,\"b\r\n,\",c\n", Stop::LineEnd(10), false, 3);
        check("\"a\"\"b\",", Stop::Nowhere, false, 2);
        check("a,\"b", Stop::Nowhere, true, 2);
        check("a,\"b\" ,c", Stop::TextAfterQuote(5), false, 2);
        check("a\"b\",c", Stop::Nowhere, false, 2);
    }
}
