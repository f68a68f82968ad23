//! What can stop ingest, cut by what the caller does about it.
//!
//! A bad record is not among them: it is a dead letter. Neither is an outage while ingest can wait for its end: it pauses and tries again.

use std::path::PathBuf;

use adlake_lake::LakeError;
use adlake_lake::patience::MayPass;

/// Why ingest could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    /// The configuration has to be changed.
    #[error("{key}: {message}")]
    Settings {
        /// The key of the configuration.
        key: String,
        /// What is wrong with it.
        message: String,
    },

    /// The broker no longer has what comes next, or never had what was read: somebody has to decide.
    #[error(
        "{topic} partition {partition}: the lake has it up to offset {stored}, but the broker has offsets {low} to {high}. {advice}"
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
        /// The broker's end.
        high: i64,
        /// What happened and what can be done.
        advice: &'static str,
    },

    /// A topic is not there any more, or is another one: somebody has to decide.
    #[error("{topic}: {advice}")]
    Topic {
        /// The topic.
        topic: String,
        /// What happened and what can be done.
        advice: &'static str,
    },

    /// Kafka refused in a way that waiting will not mend.
    #[error("kafka: {what}")]
    Kafka {
        /// What was being done.
        what: String,
        /// The client's error.
        #[source]
        source: rdkafka::error::KafkaError,
    },

    /// A file cannot be read, or is not what it was.
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

    /// The lake refused in a way that waiting will not mend, or failed before ingest had begun.
    #[error("cannot write to the lake")]
    Lake(#[from] LakeError),

    /// Decoded columns do not fit together: a defect of adlake.
    #[error("cannot build columns")]
    Columns(#[from] arrow::error::ArrowError),

    /// A part of ingest ended by a panic: a defect of adlake.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),

    /// What was read could not be committed within the deadline of the shutdown. Nothing is lost: it is read again.
    #[error("stopped before everything read was committed: {0}. It will be read again")]
    Unfinished(String),

    /// The metrics' address cannot be listened on.
    #[error("cannot listen on {address} for metrics")]
    Metrics {
        /// The configured address.
        address: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl SpeedError {
    /// An error of the configuration.
    pub fn settings(key: impl Into<String>, message: impl Into<String>) -> SpeedError {
        SpeedError::Settings { key: key.into(), message: message.into() }
    }

    /// A thread that the system does not give.
    pub(crate) fn thread(name: &str, error: std::io::Error) -> SpeedError {
        SpeedError::File { path: name.into(), message: "cannot start a thread".to_owned(), source: Some(error) }
    }

    /// Whether it concerns one table alone: the others can go on.
    pub fn stops_table(&self) -> bool {
        matches!(self, SpeedError::Lake(LakeError::Schema { .. }))
    }

    /// Whether waiting may mend it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, SpeedError::Lake(error) if error.is_retryable())
    }
}

impl MayPass for SpeedError {
    fn may_pass(&self) -> bool {
        self.is_retryable()
    }

    fn doubted(self) -> Self {
        match self {
            SpeedError::Lake(error) => SpeedError::Lake(error.doubted()),
            other => other,
        }
    }
}
