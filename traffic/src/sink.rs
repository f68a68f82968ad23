//! Destinations of generated records: files or Kafka.

pub mod files;
pub mod kafka;

use std::fmt;
use std::str::FromStr;

use adlake_domain::event::EventKind;

use crate::error::TrafficError;

/// Takes records in order of arrival.
pub trait Sink {
    /// Takes one record; `key` is its user's id.
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<(), TrafficError>;

    /// Sends what is buffered. Called when the stream pauses.
    fn pause(&mut self) -> Result<(), TrafficError>;

    /// Returns when everything sent has arrived.
    fn finish(&mut self) -> Result<(), TrafficError>;
}

/// How files, or Kafka's batches of records, are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The names, as in [`Compression::from_str`].
    pub const NAMES: [&str; 3] = ["none", "gzip", "zstd"];
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Compression, String> {
        match name {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            other => Err(format!("{other:?} is not one of {}", Compression::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}
