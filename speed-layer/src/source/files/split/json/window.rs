//! A window on a content: bytes can be looked at before they are taken.

use std::io;

use crate::source::files::open::Content;

/// Taken bytes are removed from the buffer when they are more than this, and more than the bytes
/// that are left.
const TAKEN_BYTES_MAX: usize = 256 << 10;

/// The bytes that come next, as many as were asked for.
#[derive(Debug)]
pub(super) struct Window {
    content: Content,
    buffer: Vec<u8>,
    taken: usize,
}

impl Window {
    pub fn new(content: Content) -> Window {
        Window { content, buffer: Vec::new(), taken: 0 }
    }

    /// What has been read and not taken.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Reads until `bytes` bytes are available, or nothing is left. Returns whether there are that
    /// many.
    pub fn fill_to(&mut self, bytes: usize) -> io::Result<bool> {
        if self.rest().len() >= bytes {
            return Ok(true);
        }
        if self.taken > TAKEN_BYTES_MAX.max(self.rest().len()) {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        while self.rest().len() < bytes {
            let more = self.content.fill()?;
            let length = more.len();
            if length == 0 {
                return Ok(false);
            }
            self.buffer.extend_from_slice(more);
            self.content.consume(length);
        }
        Ok(true)
    }

    /// Takes the first `bytes` bytes of the rest.
    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
    }

    /// How many bytes of the content have been taken.
    pub fn position(&self) -> u64 {
        self.content.position() - self.rest().len() as u64
    }

    pub fn content(&self) -> &Content {
        &self.content
    }
}
