//! Puts the pieces of a file into chunks: numbers them, and holds back those that the end of the
//! file may cut off.
//!
//! A piece is in its chunk, or an error names it. None is left out in silence.

use std::io;

use adlake_decode::record::Rejection;
use xxhash_rust::xxh3::xxh3_64;

use super::CHUNK_RECORDS;
use super::split::Piece;
use crate::record::Chunk;
use crate::source::CHUNK_BYTES;

/// How many bytes of cut-off pieces are held. An Avro block that is cut off comes in several parts.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Whether a piece was rejected because its end is missing.
pub fn is_truncated(piece: &Piece) -> bool {
    matches!(piece, Piece::Rejected(rejection) if rejection.reason == "truncated")
}

/// A record does not fit into its chunk. This should not happen: chunks are delivered long before
/// they are full, and `ingest.record_bytes_max` bounds the records. The error guards against a
/// mistake in either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "record {position}, of {bytes} bytes, does not fit into a chunk of {max} bytes: lower ingest.record_bytes_max, \
     so that it becomes a dead letter",
    max = Chunk::BYTES_MAX
)]
pub struct DoesNotFit {
    /// The number of the record in its file, from 0.
    pub position: i64,
    /// The length of the record.
    pub bytes: usize,
}

impl From<DoesNotFit> for io::Error {
    fn from(error: DoesNotFit) -> io::Error {
        io::Error::new(io::ErrorKind::FileTooLarge, error)
    }
}

/// Numbers the pieces of a file, and keeps those from a position on.
pub struct Numbered {
    /// How many pieces there were.
    pub position: i64,
    /// The first position that is kept.
    pub from: i64,
    /// When the file was last changed.
    pub time: Option<i64>,
    /// The position and the hash of the last record that was read before.
    pub last_before: Option<(i64, u64)>,
    /// The pieces that were kept.
    pub chunk: Chunk,
}

impl Numbered {
    /// Takes a piece. `false`: it is not what was read at its position before.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], piece: Piece) -> Result<bool, DoesNotFit> {
        let position = self.position;
        if position >= self.from {
            let fits = match piece {
                Piece::Record => self.chunk.push(position, self.time, None, bytes),
                Piece::Rejected(rejection) => self.chunk.push_rejected(position, self.time, bytes, rejection),
                Piece::End => true,
            };
            if !fits {
                return Err(DoesNotFit { position, bytes: bytes.len() });
            }
            self.position += 1;
            return Ok(true);
        }
        self.position += 1;
        Ok(self.last_before.is_none_or(|(last, hash)| position != last || xxh3_64(bytes) == hash))
    }

    /// Whether the kept pieces should be delivered.
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
    /// Whether more may be held. Beyond the limit, pieces are taken as they are.
    pub fn has_room(&self) -> bool {
        self.pieces.len() < CHUNK_RECORDS && self.bytes < HELD_BYTES_MAX
    }

    /// Holds one more piece.
    pub fn push(&mut self, bytes: Vec<u8>, piece: Piece) {
        self.bytes += bytes.len();
        self.pieces.push((bytes, piece));
    }

    /// Releases the held pieces, since something follows them.
    pub fn take(&mut self) -> Vec<(Vec<u8>, Piece)> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }

    /// How many pieces are held.
    pub fn len(&self) -> i64 {
        self.pieces.len() as i64
    }

    /// Whether no piece is held.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Makes a chunk of rejected records from the pieces from `from` on. The first held piece is at
    /// `position`.
    pub fn chunk(self, position: i64, from: i64, time: Option<i64>) -> Result<Chunk, DoesNotFit> {
        let mut chunk = Chunk::new(0);
        for (offset, (bytes, piece)) in (position..).zip(self.pieces).filter(|(offset, _)| *offset >= from) {
            let rejection = match piece {
                Piece::Rejected(rejection) => rejection,
                Piece::Record | Piece::End => {
                    Rejection { reason: "truncated", detail: "the file ends within this record".to_owned() }
                }
            };
            if !chunk.push_rejected(offset, time, &bytes, rejection) {
                return Err(DoesNotFit { position: offset, bytes: bytes.len() });
            }
        }
        Ok(chunk.cut_off())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection() -> Rejection {
        Rejection { reason: "truncated", detail: "cut".to_owned() }
    }

    /// More than a chunk can hold. Nothing reads it, so it takes no memory.
    fn too_much() -> Vec<u8> {
        vec![0; Chunk::BYTES_MAX + 1]
    }

    #[test]
    fn what_does_not_fit_into_a_chunk_is_an_error_that_names_it() {
        let chunk = Chunk::new(0);
        let mut numbered = Numbered { position: 5, from: 0, time: None, last_before: None, chunk };
        assert_eq!(numbered.take(b"fits", Piece::Record), Ok(true));
        for piece in [Piece::Record, Piece::Rejected(rejection())] {
            let error = numbered.take(&too_much(), piece).unwrap_err();
            assert_eq!(error, DoesNotFit { position: 6, bytes: Chunk::BYTES_MAX + 1 });
        }
        // Reading can go on: the failed piece was not counted.
        assert_eq!(numbered.take(b"fits, too", Piece::Record), Ok(true));
        assert_eq!((numbered.position, numbered.chunk.len()), (7, 2));
        let error = io::Error::from(DoesNotFit { position: 6, bytes: 5_000_000_000 });
        assert!(error.to_string().starts_with("record 6, of 5000000000 bytes, does not fit"), "{error}");
    }

    #[test]
    fn what_is_cut_off_and_does_not_fit_into_a_chunk_is_an_error_that_names_it() {
        let held = || {
            let mut cut_off = CutOff::default();
            cut_off.push(b"fits".to_vec(), Piece::Record);
            cut_off.push(too_much(), Piece::Rejected(rejection()));
            cut_off
        };
        let error = held().chunk(7, 0, None).unwrap_err();
        assert_eq!(error, DoesNotFit { position: 8, bytes: Chunk::BYTES_MAX + 1 });
        // A piece that was taken before does not count.
        assert!(held().chunk(7, 9, None).unwrap().is_empty());
    }
}
