//! Splitters cut a file into records, in bounded memory.
//!
//! A piece is a record, or bytes that are no record together with the reason. Each piece takes one
//! position. The same bytes are always cut in the same way, because a resumed run knows nothing but
//! positions.
//!
//! **Every byte is accounted for.** [`Splitter::span`] says which bytes of the content the last
//! piece stands for. Spans come in order and do not overlap. What lies between them is of a kind
//! that the format names: separators, headers, block heads. The tests in `accounting` check this
//! for every format, compression and mutation.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use adlake_decode::record::{Rejection, StreamFormat};

use crate::source::KEPT_BYTES;
use crate::source::files::open::Content;

pub mod avro;
pub mod csv;
pub mod json;

/// What a splitter cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A record. Its bytes are in the buffer.
    Record,
    /// Bytes that are no record. They are in the buffer.
    Rejected(Rejection),
    /// Nothing is left.
    End,
}

/// Cuts the content of one file into pieces.
pub trait Splitter: Send {
    /// Cuts off the next piece. Its bytes replace whatever `piece` held.
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece>;

    /// The bytes of the decompressed content that the last piece stands for. Of a piece that is too
    /// long, `next` keeps only the beginning; the span covers all of it.
    fn span(&self) -> Range<u64>;

    /// Whether the end of the content cuts off the last piece, so that more content could change
    /// it.
    fn is_cut(&self) -> bool;

    /// The content, which knows how far it was read.
    fn content(&self) -> &Content;

    /// How the last record is written, if not like the first ones of the file.
    fn format(&self) -> Option<&Arc<StreamFormat>> {
        None
    }
}

/// [`Rewound::peek`] reads at most this many bytes beyond those that it was asked for.
const PEEKED_BYTES_MAX: usize = 16 << 20;

/// A content whose bytes can be put back, to be read again before it goes on.
#[derive(Debug)]
struct Rewound {
    content: Content,
    held: Vec<u8>,
    held_read: usize,
    /// Nothing follows the held bytes.
    ended: bool,
}

impl Rewound {
    fn new(content: Content) -> Rewound {
        Rewound { content, held: Vec::new(), held_read: 0, ended: false }
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.held_read < self.held.len() { Ok(&self.held[self.held_read..]) } else { self.content.fill() }
    }

    fn consume(&mut self, bytes: usize) {
        if self.held_read < self.held.len() {
            self.held_read += bytes;
        } else {
            self.content.consume(bytes);
        }
    }

    /// How many bytes of the decompressed content have been taken, without those that were put
    /// back.
    fn position(&self) -> u64 {
        self.content.position() - (self.held.len() - self.held_read) as u64
    }

    /// Puts bytes back, in front of those that are still to be read again. They must be the last
    /// ones that were taken.
    fn put_back(&mut self, bytes: &[u8]) {
        let before = self.held_read.checked_sub(bytes.len());
        if let Some(before) = before.filter(|before| self.held[*before..self.held_read] == *bytes) {
            self.held_read = before;
            return;
        }
        let mut held = bytes.to_vec();
        held.extend_from_slice(&self.held[self.held_read..]);
        self.held = held;
        self.held_read = 0;
    }

    /// The next `count` bytes, or as many as there are, without taking them.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.held.len() - self.held_read < count && !self.ended {
            self.held.drain(..self.held_read);
            self.held_read = 0;
            // Reads more than was asked for. A caller that advances byte by byte would otherwise
            // make `drain` move all held bytes each time.
            let wanted = count.saturating_add(count.min(PEEKED_BYTES_MAX));
            while self.held.len() < wanted {
                let buffer = self.content.fill()?;
                if buffer.is_empty() {
                    self.ended = true;
                    break;
                }
                let taken = buffer.len().min(wanted - self.held.len());
                self.held.extend_from_slice(&buffer[..taken]);
                self.content.consume(taken);
            }
        }
        let ahead = &self.held[self.held_read..];
        Ok(&ahead[..ahead.len().min(count)])
    }

    /// Takes `count` bytes, or as many as there are, and appends them to `into`. Returns whether
    /// there were that many.
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

/// Collects a record up to the limit. Of a longer record it keeps the beginning.
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

/// The last piece of a content whose compressed data is broken. It says so.
fn broken(content: &Content) -> Option<Piece> {
    content.broken().map(|detail| truncated(format!("the compressed data is damaged or cut off: {detail}")))
}

/// A UTF-8 byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod any_bytes;
#[cfg(test)]
mod growth;

#[cfg(test)]
pub mod testing {
    use super::*;

    /// All pieces: their bytes, and the reason if they are no record.
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

    /// The expected pieces when all of them are records.
    pub fn records(expected: &[&str]) -> Vec<(String, Option<&'static str>)> {
        expected.iter().map(|record| (record.to_string(), None)).collect()
    }
}
