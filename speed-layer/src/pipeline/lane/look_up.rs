//! Looks up the stored positions of streams, however long that takes.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_lake::error::chain;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::pipeline::pauses::Pauses;
use crate::record::Stream;
use crate::write::{Committer, Stored};

/// Returns what the lake has stored of streams. While the store does not answer, the lookup is
/// retried, unless ingest is being stopped.
pub async fn stored(
    committer: &mut Committer,
    streams: &[Arc<Stream>],
    kind: EventKind,
    mut pauses: Pauses,
    stopping: &CancellationToken,
) -> Result<Vec<Stored>, SpeedError> {
    loop {
        pauses.pass(stopping).await;
        match committer.stored(streams).await {
            Ok(stored) => return Ok(stored),
            Err(error) if error.is_retryable() && !stopping.is_cancelled() => {
                let error = chain(&error);
                tracing::warn!(table = kind.raw_table(), error, "the lake cannot be read; waiting for it");
                pauses.failed();
            }
            Err(error) => return Err(error.into()),
        }
    }
}
