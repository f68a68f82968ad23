//! Files cut into records, in bounded memory.
//!
//! A piece is a record, or bytes that are none with the reason; each takes one position. The same bytes are always cut the same
//! way, since positions are all that a resumed run has to go by. A damaged record ends where its neighbours' bounds can be told.

use std::io;

use crate::record::Rejection;
use crate::source::KEPT_BYTES;
use crate::source::files::open::Content;

pub mod avro;
pub mod csv;
pub mod json;
pub mod lines;

/// What was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A record, in the buffer.
    Record,
    /// Bytes that are no record, in the buffer.
    Rejected(Rejection),
    /// Nothing is left.
    End,
}

/// Cuts one file's content.
pub trait Splitter: Send {
    /// Cuts off the next piece and leaves its bytes in `piece`, whatever that held before.
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece>;

    /// The content, for what it knows of its progress.
    fn content(&self) -> &Content;

    /// Whether the last piece was ended by the end of the content, or by broken compressed data, where its format asks for more. If the file
    /// grows it may be another piece, or part of one.
    fn is_cut(&self) -> bool {
        false
    }
}

/// A content some of whose bytes can be put back, to be read again before it goes on.
#[derive(Debug)]
struct Rewound {
    content: Content,
    held: Vec<u8>,
    held_read: usize,
}

impl Rewound {
    fn new(content: Content) -> Rewound {
        Rewound { content, held: Vec::new(), held_read: 0 }
    }

    /// Whether what comes next was put back.
    fn is_again(&self) -> bool {
        self.held_read < self.held.len()
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.is_again() { Ok(&self.held[self.held_read..]) } else { self.content.fill() }
    }

    fn consume(&mut self, bytes: usize) {
        if self.is_again() {
            self.held_read += bytes;
        } else {
            self.content.consume(bytes);
        }
    }

    /// Puts bytes back, before those that are still to be read again.
    fn put_back(&mut self, bytes: &[u8]) {
        let mut held = bytes.to_vec();
        held.extend_from_slice(&self.held[self.held_read..]);
        self.held = held;
        self.held_read = 0;
    }

    /// Appends so many bytes, or as many as there are; whether that was all of them.
    fn append(&mut self, into: &mut Vec<u8>, count: usize) -> io::Result<bool> {
        let mut left = count;
        while left > 0 {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let taken = buffer.len().min(left);
            into.extend_from_slice(&buffer[..taken]);
            self.consume(taken);
            left -= taken;
        }
        Ok(true)
    }
}

/// Collects a record up to the limit; of a longer one it keeps the beginning.
#[derive(Debug)]
struct Collector {
    limit: usize,
    length: usize,
}

impl Collector {
    fn new(limit: usize) -> Collector {
        Collector { limit, length: 0 }
    }

    fn add(&mut self, piece: &mut Vec<u8>, bytes: &[u8]) {
        self.length += bytes.len();
        if self.length <= self.limit {
            piece.extend_from_slice(bytes);
        } else {
            let room = KEPT_BYTES.min(self.limit).saturating_sub(piece.len());
            piece.extend_from_slice(&bytes[..bytes.len().min(room)]);
            piece.truncate(KEPT_BYTES.min(self.limit));
        }
    }

    fn is_too_long(&self) -> bool {
        self.length > self.limit
    }

    fn finish(&self) -> Piece {
        if self.is_too_long() { Piece::Rejected(too_long(self.length, self.limit)) } else { Piece::Record }
    }
}

fn too_long(length: usize, limit: usize) -> Rejection {
    Rejection { reason: "too_long", detail: format!("{length} bytes, more than ingest.record_bytes_max ({limit})") }
}

fn truncated(detail: impl Into<String>) -> Piece {
    Piece::Rejected(Rejection { reason: "truncated", detail: detail.into() })
}

/// What ends a content whose compressed data is broken: one piece that says so.
fn broken(content: &Content) -> Option<Piece> {
    content.broken().map(|detail| truncated(format!("the compressed data is damaged or cut off: {detail}")))
}

/// Skips a UTF-8 byte order mark. Only at the very beginning.
fn skip_byte_order_mark(content: &mut Content) -> io::Result<()> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if content.fill()?.starts_with(MARK) {
        content.consume(MARK.len());
    }
    Ok(())
}

#[cfg(test)]
mod any_bytes;

#[cfg(test)]
pub mod testing {
    use super::*;

    /// All pieces: their bytes, and the reason of those that are no record.
    pub fn split(mut splitter: impl Splitter) -> Vec<(String, Option<&'static str>)> {
        let mut pieces = Vec::new();
        let mut piece = b"what was there before".to_vec();
        loop {
            let reason = match splitter.next(&mut piece).unwrap() {
                Piece::Record => None,
                Piece::Rejected(rejection) => Some(rejection.reason),
                Piece::End => break,
            };
            pieces.push((String::from_utf8_lossy(&piece).into_owned(), reason));
        }
        assert_eq!(splitter.next(&mut piece).unwrap(), Piece::End, "the end stays the end");
        pieces
    }

    /// Records only.
    pub fn records(expected: &[&str]) -> Vec<(String, Option<&'static str>)> {
        expected.iter().map(|record| (record.to_string(), None)).collect()
    }
}
