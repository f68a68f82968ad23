//! A buffer in pieces.

use std::io::{self, Write};

use bytes::Bytes;

/// A file that is being written, as a list of pieces. A single buffer would be copied whenever it
/// grows, and take twice the memory meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

/// The size of a piece in bytes.
const PIECE_BYTES: usize = 1 << 20;

impl Pieces {
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.full.push(self.last.into());
        self.full
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() + bytes.len() > PIECE_BYTES && !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        if self.last.capacity() == 0 {
            self.last.reserve(bytes.len().max(PIECE_BYTES));
        }
        self.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
