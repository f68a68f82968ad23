//! Why a plan or a batch cannot be made. A bad record is not among these errors: it is a dead
//! letter.

use arrow::error::ArrowError;

/// Why a plan or a batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The configuration has to be changed.
    #[error("{key}: {message}")]
    Settings {
        /// The configuration key.
        key: String,
        /// What is wrong with its value.
        message: String,
    },

    /// Decoded columns do not fit together. This is a bug in adlake.
    #[error("cannot build columns")]
    Columns(#[from] ArrowError),
}

impl DecodeError {
    /// An error of the configuration.
    pub fn settings(key: impl Into<String>, message: impl Into<String>) -> DecodeError {
        DecodeError::Settings { key: key.into(), message: message.into() }
    }
}
