//! The pieces of a file on their way into chunks: numbered, and at the end of a file perhaps cut off.

use xxhash_rust::xxh3::xxh3_64;

use super::CHUNK_RECORDS;
use super::split::Piece;
use crate::record::{Chunk, Rejection};
use crate::source::CHUNK_BYTES;

/// How many bytes of cut pieces are held: a block of Avro that is cut off comes in parts.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Whether a piece was rejected for want of its end.
pub fn is_truncated(piece: &Piece) -> bool {
    matches!(piece, Piece::Rejected(rejection) if rejection.reason == "truncated")
}

/// The pieces of a file, counted; those from a position on are kept.
pub struct Numbered {
    /// How many there were.
    pub position: i64,
    /// Where keeping begins.
    pub from: i64,
    /// When the file was last changed.
    pub time: Option<i64>,
    /// The position of the last record that was read before, and the hash of it.
    pub last_before: Option<(i64, u64)>,
    /// The kept ones.
    pub chunk: Chunk,
}

impl Numbered {
    /// Takes a piece; `false` where it is not what was read at its position before.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], piece: Piece) -> bool {
        let position = self.position;
        self.position += 1;
        if position >= self.from {
            let fits = match piece {
                Piece::Record => self.chunk.push(position, self.time, None, bytes),
                Piece::Rejected(rejection) => self.chunk.push_rejected(position, self.time, bytes, rejection),
                Piece::End => true,
            };
            debug_assert!(fits, "a chunk is handed on long before it is full");
            return true;
        }
        self.last_before.is_none_or(|(last, hash)| position != last || xxh3_64(bytes) == hash)
    }

    /// Whether what is kept is to be handed on.
    pub fn is_full(&self) -> bool {
        self.chunk.bytes() >= CHUNK_BYTES || self.chunk.len() >= CHUNK_RECORDS
    }
}

/// The last pieces of a file, which its end cuts off.
#[derive(Debug, Default)]
pub struct CutOff {
    pieces: Vec<(Vec<u8>, Piece)>,
    bytes: usize,
}

impl CutOff {
    /// Whether more may be held: what is longer is taken as it is.
    pub fn has_room(&self) -> bool {
        self.pieces.len() < CHUNK_RECORDS && self.bytes < HELD_BYTES_MAX
    }

    /// Holds one more.
    pub fn push(&mut self, bytes: Vec<u8>, piece: Piece) {
        self.bytes += bytes.len();
        self.pieces.push((bytes, piece));
    }

    /// Gives them up: something follows them.
    pub fn take(&mut self) -> Vec<(Vec<u8>, Piece)> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }

    /// How many are held.
    pub fn len(&self) -> i64 {
        self.pieces.len() as i64
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces from `from` on as rejected records, of which the first is at `position`.
    pub fn chunk(self, position: i64, from: i64, time: Option<i64>) -> Chunk {
        let mut chunk = Chunk::new(0);
        for (offset, (bytes, piece)) in (position..).zip(self.pieces).filter(|(offset, _)| *offset >= from) {
            let rejection = match piece {
                Piece::Rejected(rejection) => rejection,
                Piece::Record | Piece::End => {
                    Rejection { reason: "truncated", detail: "the file ends within this record".to_owned() }
                }
            };
            let fits = chunk.push_rejected(offset, time, &bytes, rejection);
            debug_assert!(fits, "few pieces are held");
        }
        chunk.cut_off()
    }
}
