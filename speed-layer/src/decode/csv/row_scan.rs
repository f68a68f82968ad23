//! What a row of CSV is: the one definition that the splitter of files and the decoder share.
//!
//! RFC 4180 with a configurable delimiter. A cell that begins with a quote ends at the next single one; it may hold delimiters,
//! line ends and doubled quotes, and nothing but a delimiter or a line end follows it. In other cells a quote is a character.
//! CR, LF and CRLF end a row outside quotes.

use memchr::{memchr, memchr3};

/// Where in a row the scan has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within a quoted cell: it ends the cell, unless another one follows.
    QuoteInQuoted,
}

/// Where a scan has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The CR or LF that ends the row.
    LineEnd(usize),
    /// A byte behind a closing quote that may not follow it: this is no row.
    TextAfterQuote(usize),
    /// All bytes are of the row.
    Nowhere,
}

/// Finds the end of one row, over any number of buffers.
#[derive(Debug, Clone)]
pub(crate) struct RowScan {
    delimiter: u8,
    cell: Cell,
    delimiters: usize,
}

impl RowScan {
    pub fn new(delimiter: u8) -> RowScan {
        RowScan { delimiter, cell: Cell::Start, delimiters: 0 }
    }

    /// Goes on with these bytes.
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
    pub fn is_quoted(&self) -> bool {
        self.cell == Cell::Quoted
    }

    /// How many cells the row has so far.
    pub fn cells(&self) -> usize {
        self.delimiters + 1
    }
}

/// What ends a row outside quotes.
pub(crate) fn is_line_end(byte: u8) -> bool {
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
