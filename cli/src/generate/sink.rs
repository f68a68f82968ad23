//! Destinations of generated records: files or Kafka.

use adlake_domain::event::EventKind;
use anyhow::Result;

/// Takes records in order of arrival.
pub trait Sink {
    /// Takes one record; `key` is its user's id.
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<()>;

    /// Sends what is buffered. Called when the stream pauses.
    fn pause(&mut self) -> Result<()>;

    /// Returns when everything sent has arrived.
    fn finish(&mut self) -> Result<()>;
}
