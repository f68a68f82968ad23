//! Publishes versions of tables as a run.

use std::collections::BTreeMap;

use adlake_domain::settings::Meaning;
use adlake_lake::lease::Lease;
use adlake_lake::manifest::Manifest;
use adlake_lake::{Lake, failpoint};

use crate::error::BatchError;

/// What a run publishes.
pub(crate) struct Publication {
    pub versions: BTreeMap<String, u64>,
    pub meaning: Meaning,
    /// The revision of the rules by which the batch tables were computed.
    pub revision: i64,
}

impl Publication {
    /// The manifest of the run after `previous`, which is not published yet.
    pub(crate) fn manifest(self, previous: Option<i64>) -> Manifest {
        let Publication { versions, meaning, revision } = self;
        Manifest {
            run_id: uuid::Uuid::new_v4().to_string(),
            run: previous.map_or(1, |previous| previous + 1),
            published_at: chrono::Utc::now().timestamp_micros(),
            versions,
            meaning,
            revision,
        }
    }
}

/// Publishes the manifest of the run after `previous`, unless this process has lost its lease.
/// Returns the run's number.
pub(crate) async fn publish(
    lake: &Lake,
    lease: &Lease,
    previous: Option<i64>,
    manifest: Manifest,
) -> Result<i64, BatchError> {
    failpoint::hit(failpoint::BEFORE_PUBLISH);
    lease.check().await?;
    manifest.publish(lake, previous).await?;
    Ok(manifest.run)
}
