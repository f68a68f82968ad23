//! How generating traffic fails.

use std::io;
use std::path::{Path, PathBuf};

use rdkafka::error::KafkaError;
use thiserror::Error;

/// Why traffic cannot be generated or sent.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// A file or a folder cannot be created, written or renamed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: "write", "create the folder".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// The folder holds generated files of an earlier run, which must not be mixed with new ones.
    #[error("{} exists already: choose a folder without generated files, or remove them", .0.display())]
    FolderInUse(PathBuf),

    /// The generator cannot write records of this schema.
    #[error("the schema of bid requests cannot be written: {0}")]
    Schema(String),

    /// Kafka does not take what is sent.
    #[error("Kafka at {brokers}: {action}")]
    Kafka {
        /// The brokers' addresses.
        brokers: String,
        /// What failed.
        action: String,
        /// The client's error.
        source: Box<KafkaError>,
    },

    /// The Kafka client refuses a property. The value is not shown, because it may be a password
    /// under a misspelt name.
    #[error("kafka.properties.{property:?}: {problem}")]
    Property {
        /// The name of the property.
        property: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A text describes no incident.
    #[error("the incident {text:?}: {why}")]
    Incident {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },

    /// The truth cannot be written as JSON.
    #[error("cannot write the truth as JSON")]
    Truth(#[from] serde_json::Error),
}

impl TrafficError {
    /// Turns the system's error about a file or folder into one that names it.
    pub(crate) fn file<P: AsRef<Path>>(action: &'static str, path: &P) -> impl FnOnce(io::Error) -> TrafficError {
        move |source| TrafficError::File { action, path: path.as_ref().to_owned(), source }
    }
}
