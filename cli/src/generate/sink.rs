//! Where generated records go: files or Kafka.

use adlake_domain::event::EventKind;
use anyhow::Result;

/// Takes records in order of arrival.
pub trait Sink {
    /// Takes one record; `key` is its user's id.
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<()>;

    /// Lets what is buffered go on its way; called where the stream pauses.
    fn pause(&mut self) -> Result<()>;

    /// Returns once everything sent is where it belongs.
    fn finish(&mut self) -> Result<()>;
}
