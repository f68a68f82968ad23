//! The errors that can stop ingest, divided by what the caller does about them.
//!
//! A bad record is not among them: it is a dead letter. Neither is an outage that ingest can wait
//! out: it pauses and retries.

use std::path::PathBuf;

use adlake_decode::DecodeError;
use adlake_lake::LakeError;
use adlake_lake::retry::Retryable;

/// Why ingest could not begin or could not continue.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    /// The configuration has to be changed.
    #[error("{key}: {message}")]
    Settings {
        /// The configuration key.
        key: String,
        /// What is wrong with its value.
        message: String,
    },

    /// The broker no longer has the next records, or never had those that were read. A person has
    /// to decide.
    #[error(
        "{topic} partition {partition}: the lake has it up to offset {stored}, but the broker has offsets {low} to \
        {high}. {advice}"
    )]
    Lost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset to read, as stored in the lake.
        stored: i64,
        /// The broker's first offset.
        low: i64,
        /// The broker's end offset.
        high: i64,
        /// What happened and what can be done.
        advice: &'static str,
    },

    /// A topic no longer exists, or has been replaced. A person has to decide.
    #[error("{topic}: {advice}")]
    Topic {
        /// The topic.
        topic: String,
        /// What happened and what can be done.
        advice: &'static str,
    },

    /// Kafka failed in a way that waiting does not repair.
    #[error("kafka: {what}")]
    Kafka {
        /// What was being done.
        what: String,
        /// The client's error.
        #[source]
        source: rdkafka::error::KafkaError,
    },

    /// A file cannot be read, or has changed.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// The system's error, where there is one.
        #[source]
        source: Option<std::io::Error>,
    },

    /// The lake failed in a way that waiting does not repair, or before ingest had begun.
    #[error("cannot write to the lake")]
    Lake(#[from] LakeError),

    /// Decoded columns do not fit together. This is a bug in adlake.
    #[error("cannot build columns")]
    Columns(#[from] arrow::error::ArrowError),

    /// A part of ingest has panicked. This is a bug in adlake.
    #[error("{0} ended unexpectedly; this is a bug in adlake")]
    Ended(&'static str),

    /// What was read could not be committed before the shutdown deadline. Nothing is lost: it is
    /// read again.
    #[error("stopped before all records that were read were committed: {0}. The next run reads them again")]
    Unfinished(String),
}

impl SpeedError {
    /// An error of the configuration.
    pub fn settings(key: impl Into<String>, message: impl Into<String>) -> SpeedError {
        SpeedError::Settings { key: key.into(), message: message.into() }
    }

    /// The system could not start a thread.
    pub(crate) fn thread(name: &str, error: std::io::Error) -> SpeedError {
        SpeedError::File { path: name.into(), message: "cannot start a thread".to_owned(), source: Some(error) }
    }

    /// Whether the error concerns one table alone, so that the others can go on.
    pub fn stops_table(&self) -> bool {
        matches!(self, SpeedError::Lake(LakeError::Schema { .. }))
    }

    /// Whether waiting may repair it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, SpeedError::Lake(error) if error.is_retryable())
    }
}

impl From<DecodeError> for SpeedError {
    fn from(error: DecodeError) -> SpeedError {
        match error {
            DecodeError::Settings { key, message } => SpeedError::Settings { key, message },
            DecodeError::Columns(error) => SpeedError::Columns(error),
        }
    }
}

impl Retryable for SpeedError {
    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }

    fn into_outage(self) -> Self {
        match self {
            SpeedError::Lake(error) => SpeedError::Lake(error.into_outage()),
            other => other,
        }
    }
}
