//! What can go wrong in the batch layer.

use adlake_lake::LakeError;
use adlake_lake::retry::Retryable;
use datafusion::common::DataFusionError;
use tokio::task::JoinError;

use crate::quality_report::QualityReport;

/// Why a run was not published.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The lake could not be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The run was cancelled. Nothing was published.
    #[error("the batch run was stopped; nothing was published")]
    Stopped,
    /// Expectations have failed. Nothing was published.
    #[error(
        "batch run {} was not published, because expectations are not met: {}; what was published before stays; \
         see `SELECT * FROM quality`, and --publish-anyway to publish all the same",
        .0.run.unwrap_or_default(), .0.stopping().join(", ")
    )]
    Refused(Box<QualityReport>),
    /// A check has found that expectations of severity fail are not met.
    #[error("expectations of severity fail are not met: {}; see `SELECT * FROM quality`", .0.join(", "))]
    NotMet(Vec<String>),
}

impl Retryable for BatchError {
    fn is_retryable(&self) -> bool {
        matches!(self, BatchError::Lake(error) if error.is_retryable())
    }

    fn into_outage(self) -> Self {
        match self {
            BatchError::Lake(error) => BatchError::Lake(error.into_outage()),
            other => other,
        }
    }
}

impl From<DataFusionError> for BatchError {
    fn from(error: DataFusionError) -> Self {
        BatchError::Lake(error.into())
    }
}

impl BatchError {
    /// Another process has taken the lease.
    pub(crate) fn lost() -> BatchError {
        BatchError::Lake(LakeError::Superseded(
            "another process has taken the batch lease, as this one did not renew it in time; nothing was published"
                .to_string(),
        ))
    }

    /// Rows that were computed cannot be written or shown.
    pub(crate) fn rows(what: &str, error: impl std::fmt::Display) -> BatchError {
        BatchError::Lake(LakeError::Corrupt(format!("{what}: {error}")))
    }

    /// A part of the run ended without a result.
    pub(crate) fn panicked(error: JoinError) -> BatchError {
        if error.is_cancelled() {
            return BatchError::Stopped;
        }
        BatchError::Lake(LakeError::Corrupt(format!("a part of the batch run failed: {error}")))
    }
}
