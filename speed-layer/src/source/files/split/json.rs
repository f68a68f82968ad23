//! JSON: a file is a sequence of values, whatever separates them.
//!
//! Values are separated by white space, line ends, commas, the record separator 0x1E, byte order
//! marks, or nothing. A `[` that stands before what may be a value, or before a `]`, opens an array
//! whose elements are values like the others. So one array, one value a line, and values over many
//! lines are all read in the same way.
//!
//! **A value that cannot be read does not cost its neighbours.** It ends where the next value can
//! be read, else at the next line: [`resync`] looks for that place. Its bytes are one piece, which
//! the decoder rejects. Text that begins no value (`x`) ends at the next object or list that can be
//! read, or at the end of its line.

use std::io;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr3};
use serde::de::IgnoredAny;

use self::resync::Resync;
use super::{BYTE_ORDER_MARK, Collector, Piece, Splitter, broken, truncated};
use crate::source::files::open::Content;

mod brackets;
mod resync;
mod window;

use brackets::Brackets;
use window::Window;

/// RFC 7464 puts this byte before each text.
const RECORD_SEPARATOR: u8 = 0x1e;

/// Cuts a file into its values.
#[derive(Debug)]
pub struct JsonValues {
    window: Window,
    limit: usize,
    /// An array was opened and is not closed yet.
    in_array: bool,
    ended: bool,
    resync: Resync,
    span: Range<u64>,
    is_cut: bool,
    /// Whether a line that is one flat object is taken without being parsed.
    has_shortcut: bool,
}

/// What the reader found where a value should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// A value of this many bytes.
    Whole(usize),
    /// No JSON from about this byte on. The first wrong byte is this one or a later one.
    Broken(usize),
    /// Valid JSON so far, but the content ends.
    CutOff,
    /// Valid JSON so far, but longer than a record may be.
    TooLong,
}

impl JsonValues {
    /// Cuts values of at most `limit` bytes.
    pub fn new(content: Content, limit: usize) -> JsonValues {
        JsonValues {
            window: Window::new(content),
            limit,
            in_array: false,
            ended: false,
            resync: Resync::default(),
            span: 0..0,
            is_cut: false,
            has_shortcut: true,
        }
    }

    /// The same splitter without the shortcut: it parses every value.
    #[cfg(test)]
    pub fn without_shortcut(content: Content, limit: usize) -> JsonValues {
        JsonValues { has_shortcut: false, ..JsonValues::new(content, limit) }
    }

    /// Skips separators. Returns the first byte of the next value.
    fn next_visible(&mut self) -> io::Result<Option<u8>> {
        loop {
            let rest = self.window.rest();
            let length = rest.iter().position(|byte| !is_separator(*byte)).unwrap_or(rest.len());
            let first = rest.get(length).copied();
            self.take(length);
            match first {
                Some(byte) if byte == BYTE_ORDER_MARK[0] => {
                    self.window.fill_to(BYTE_ORDER_MARK.len())?;
                    if !self.window.rest().starts_with(BYTE_ORDER_MARK) {
                        return Ok(first);
                    }
                    self.take(BYTE_ORDER_MARK.len());
                }
                Some(_) => return Ok(first),
                None if self.window.fill_to(1)? => {}
                None => return Ok(None),
            }
        }
    }

    /// Whether the `[` that comes next opens an array of records. Any other `[` belongs to text
    /// that is no JSON.
    fn opens_array(&mut self) -> io::Result<bool> {
        let mut at = 1;
        loop {
            match self.window.rest().get(at) {
                Some(byte) if byte.is_ascii_whitespace() => at += 1,
                Some(byte) => return Ok(b"{[]\"-0123456789tfn".contains(byte)),
                // An array that nothing follows.
                None if at > self.limit => return Ok(true),
                None => {
                    if !self.window.fill_to(at + 1)? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: usize) {
        self.resync.taken(&self.window.rest()[..bytes]);
        self.window.take(bytes);
    }

    /// Takes a piece of `bytes` bytes, and leaves the line ends at its end out of the piece.
    fn cut(&mut self, piece: &mut Vec<u8>, bytes: usize) {
        let bytes = &self.window.rest()[..bytes];
        let last = bytes.iter().rposition(|byte| !ends_line(*byte));
        let bytes = &bytes[..last.map_or(0, |last| last + 1)];
        piece.extend_from_slice(bytes);
        let length = bytes.len();
        self.span = self.window.position()..self.window.position() + length as u64;
        self.take(length);
    }

    /// Takes everything that is left, as a piece that the end of the content cuts off.
    fn cut_off(&mut self, piece: &mut Vec<u8>) -> Piece {
        self.is_cut = true;
        self.ended = true;
        self.cut(piece, self.window.rest().len());
        broken(self.window.content()).unwrap_or_else(|| truncated("the file ends within a JSON value"))
    }

    /// Reads a value that begins `at` bytes ahead.
    fn read_at(&mut self, at: usize) -> io::Result<Read> {
        loop {
            let rest = self.window.rest();
            let bytes = &rest[at.min(rest.len())..rest.len().min(at + self.limit)];
            match read(bytes) {
                Read::CutOff if bytes.len() == self.limit => {
                    return Ok(if self.window.fill_to(at + self.limit + 1)? { Read::TooLong } else { Read::CutOff });
                }
                Read::CutOff => {
                    let (before, wanted) = (rest.len(), at + bytes.len() * 2 + 1);
                    self.window.fill_to(wanted)?;
                    if self.window.rest().len() == before {
                        return Ok(Read::CutOff);
                    }
                }
                found => return Ok(found),
            }
        }
    }

    /// The length of an object that is alone on its line and has no other bracket and no escape in
    /// it. Most records of most files are such objects. The full search would find the same end,
    /// whether the object is good or bad.
    fn flat_line(&self) -> Option<usize> {
        let rest = self.window.rest();
        let end = 1 + memchr3(b'{', b'}', b'\\', rest.strip_prefix(b"{")?)?;
        let after = &rest[end + 1..];
        let is_alone = rest[end] == b'}' && (after.starts_with(b"\n") || after.starts_with(b"\r\n"));
        // With the line end within the limit, so that a text that it cuts off is seen to end there.
        let is_short = is_alone && end + 1 < self.limit;
        let is_flat = is_short
            && memchr(b'[', &rest[..end]).is_none()
            && memchr3(b'\n', b'\r', RECORD_SEPARATOR, &rest[..end]).is_none();
        (is_flat && self.has_shortcut).then_some(end + 1)
    }

    /// Takes an object or a list.
    fn value(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        if let Some(bytes) = self.flat_line() {
            self.cut(piece, bytes);
            return Ok(Piece::Record);
        }
        let found = self.read_at(0)?;
        if let Read::Whole(bytes) = found {
            self.cut(piece, bytes);
            return Ok(Piece::Record);
        }
        if let Some(end) = self.find_end(found)? {
            let is_certain = self.resync.is_certain(end);
            let is_last = end == self.window.rest().len() && !self.window.fill_to(end + 1)?;
            if !is_certain && (is_last || self.window.content().may_go_on()) {
                return Ok(self.cut_off(piece));
            }
            self.cut(piece, end);
            return Ok(Piece::Record);
        }
        if !self.resync.is_certain(self.limit) && self.window.content().may_go_on() {
            return Ok(self.cut_off(piece));
        }
        match found {
            Read::CutOff => Ok(self.cut_off(piece)),
            Read::Broken(_) => self.long(piece, |bytes| up_to(bytes, ends_line)),
            _ => {
                let mut brackets = Brackets::default();
                self.long(piece, |bytes| brackets.scan(bytes))
            }
        }
    }

    /// The length of a number, a string or a word. `None`: no separator or end follows it, or it
    /// cannot be read.
    fn scalar(&mut self) -> io::Result<Option<usize>> {
        let bytes = loop {
            let bytes = match self.read_at(0)? {
                Read::Whole(bytes) => bytes,
                Read::CutOff => {
                    self.resync.is_open(0);
                    return Ok(None);
                }
                Read::Broken(_) | Read::TooLong => return Ok(None),
            };
            // A number at the end of the bytes read so far may go on.
            let may_go_on = bytes == self.window.rest().len() && bytes < self.limit;
            if !may_go_on || !self.window.fill_to(bytes + 1)? {
                break bytes;
            }
            self.window.fill_to(bytes * 2)?;
        };
        let mut at = bytes;
        loop {
            match self.window.rest().get(at) {
                Some(b' ' | b'\t') if at < self.limit => at += 1,
                Some(byte) => {
                    let ends = is_separator(*byte) || (self.in_array && *byte == b']');
                    return Ok((ends && at < self.limit).then_some(bytes));
                }
                None => {
                    if !self.window.fill_to(at + 1)? {
                        if self.window.content().may_go_on() {
                            self.resync.is_open(0);
                            return Ok(None);
                        }
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Takes text that begins no value, up to the next object or list that can be read, or the end
    /// of its line.
    fn text(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        self.resync.begin();
        if let Some(bytes) = self.scalar()? {
            self.cut(piece, bytes);
            return Ok(Piece::Record);
        }
        let mut at = 1;
        let end = loop {
            let rest = self.window.rest();
            let searched = &rest[at.min(rest.len())..rest.len().min(self.limit)];
            match searched.iter().position(|byte| ends_line(*byte) || is_opening(*byte)) {
                Some(found) if ends_line(searched[found]) => break at + found,
                Some(found) => {
                    at += found;
                    if self.is_value(at)? {
                        break at;
                    }
                    at += 1;
                }
                None if rest.len() >= self.limit => {
                    if !self.resync.is_certain(self.limit) && self.window.content().may_go_on() {
                        return Ok(self.cut_off(piece));
                    }
                    return self.long(piece, |bytes| up_to(bytes, |byte| ends_line(byte) || is_opening(byte)));
                }
                None => {
                    at = rest.len();
                    if !self.window.fill_to(at + 1)? {
                        return Ok(self.last_text(piece));
                    }
                }
            }
        };
        if !self.resync.is_certain(end) && self.window.content().may_go_on() {
            return Ok(self.cut_off(piece));
        }
        self.cut_text(piece, end);
        Ok(Piece::Record)
    }

    fn last_text(&mut self, piece: &mut Vec<u8>) -> Piece {
        let before = self.in_array;
        let end = self.text_end(self.window.rest().len());
        if before && end < self.window.rest().trim_ascii_end().len() && !self.window.content().may_go_on() {
            self.cut_text(piece, end);
            return Piece::Record;
        }
        self.cut_off(piece)
    }

    /// Takes a text, without the separators at its end and without the bracket that closes its
    /// array.
    fn cut_text(&mut self, piece: &mut Vec<u8>, end: usize) {
        let end = self.text_end(end);
        self.cut(piece, end);
    }

    fn text_end(&self, end: usize) -> usize {
        let trimmed = |end: usize| {
            let bytes = &self.window.rest()[..end];
            bytes.iter().rposition(|byte| !is_separator(*byte)).map_or(0, |last| last + 1)
        };
        let end = trimmed(end);
        if self.in_array && end > 1 && self.window.rest()[end - 1] == b']' { trimmed(end - 1) } else { end }
    }

    /// Takes a piece that is longer than a record may be. `scan` finds its end.
    fn long(&mut self, piece: &mut Vec<u8>, mut scan: impl FnMut(&[u8]) -> (usize, bool)) -> io::Result<Piece> {
        let mut collector = Collector::new(self.limit);
        let start = self.window.position();
        loop {
            if self.window.rest().is_empty() && !self.window.fill_to(1)? {
                self.span = start..self.window.position();
                self.is_cut = true;
                return Ok(broken(self.window.content()).unwrap_or_else(|| collector.finish()));
            }
            let rest = self.window.rest();
            let (taken, ended) = scan(rest);
            collector.add(piece, &rest[..taken]);
            self.take(taken);
            if ended {
                self.span = start..self.window.position();
                return Ok(collector.finish());
            }
        }
    }
}

impl Splitter for JsonValues {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        piece.clear();
        self.is_cut = false;
        while !self.ended {
            match self.next_visible()? {
                Some(b'[') if !self.in_array && self.opens_array()? => {
                    self.in_array = true;
                    self.take(1);
                }
                Some(b']') if self.in_array => {
                    self.in_array = false;
                    self.take(1);
                }
                Some(b'{' | b'[') => return self.value(piece),
                Some(_) => return self.text(piece),
                None => {
                    self.ended = true;
                    self.span = self.window.position()..self.window.position();
                    if let Some(broken) = broken(self.window.content()) {
                        self.is_cut = true;
                        return Ok(broken);
                    }
                    if self.in_array {
                        self.is_cut = true;
                        return Ok(truncated("the file ends before its array is closed"));
                    }
                }
            }
        }
        Ok(Piece::End)
    }

    fn span(&self) -> Range<u64> {
        self.span.clone()
    }

    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn content(&self) -> &Content {
        self.window.content()
    }
}

/// What may stand between values, except byte order marks.
fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b',' || byte == RECORD_SEPARATOR
}

/// Whether the bytes may stand between two pieces.
pub fn may_part(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = match rest.strip_prefix(BYTE_ORDER_MARK) {
            Some(after) => after,
            None if is_separator(*first) || matches!(first, b'[' | b']') => after,
            None => return false,
        };
    }
    true
}

/// What ends a text that is no JSON.
fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | RECORD_SEPARATOR)
}

fn is_opening(byte: u8) -> bool {
    matches!(byte, b'{' | b'[')
}

/// How many bytes come before the first one that ends the piece, and whether there is such a byte.
fn up_to(bytes: &[u8], ends: impl Fn(u8) -> bool) -> (usize, bool) {
    let end = bytes.iter().position(|byte| ends(*byte));
    (end.unwrap_or(bytes.len()), end.is_some())
}

/// Reads the value at the beginning of the bytes, by serde_json's strict grammar. Of strings only
/// the quotes matter here. Whether they are UTF-8 is for the decoder to check.
fn read(bytes: &[u8]) -> Read {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Read::Whole(values.byte_offset()),
        Some(Err(error)) if error.is_eof() => Read::CutOff,
        Some(Err(error)) => {
            let line = match error.line() {
                0 | 1 => 0,
                line => memchr_iter(b'\n', bytes).nth(line - 2).map_or(0, |end| end + 1),
            };
            // The column counts the byte that was looked at, or stands before it.
            let wrong = (line + error.column()).saturating_sub(1).min(bytes.len());
            // Of a number that the end cuts off serde_json says that it is no number.
            let is_last = wrong + 1 >= bytes.len();
            if is_last && bytes.last().is_some_and(|last| b".eE+-".contains(last)) {
                return Read::CutOff;
            }
            Read::Broken(wrong)
        }
        None => Read::CutOff,
    }
}

/// The first line feed from `from` on.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr(b'\n', bytes.get(from..)?).map(|end| from + end)
}

#[cfg(test)]
mod tests;
