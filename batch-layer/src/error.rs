//! What can go wrong in the batch layer.

use adlake_lake::LakeError;
use adlake_lake::retry::Retryable;
use datafusion::common::DataFusionError;
use tokio::task::JoinError;

/// Why a run was not published.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The lake could not be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The run was cancelled. Nothing was published.
    #[error("the batch run was stopped; nothing was published")]
    Stopped,
}

impl Retryable for BatchError {
    fn is_retryable(&self) -> bool {
        matches!(self, BatchError::Lake(error) if error.is_retryable())
    }

    fn into_outage(self) -> Self {
        match self {
            BatchError::Lake(error) => BatchError::Lake(error.into_outage()),
            BatchError::Stopped => BatchError::Stopped,
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

    /// A part of the run ended without a result.
    pub(crate) fn panicked(error: JoinError) -> BatchError {
        if error.is_cancelled() {
            return BatchError::Stopped;
        }
        BatchError::Lake(LakeError::Corrupt(format!("a part of the batch run failed: {error}")))
    }
}
