//! From what is computed to what it was computed from: links to the spans of commits.
//!
//! A writer that exports traces stores the `traceparent` of its span in the `commitInfo` of its
//! commits. Who computes something from a table links its own span to those of the commits that are
//! new to it. This costs a read of each of these log entries, so it is done only in spans that are
//! exported, and only for the newest entries.

use std::collections::BTreeMap;

use adlake_telemetry::SpanContext;
use futures::future::{BoxFuture, join_all};
use tracing::Span;

use crate::commit;
use crate::storage::Lake;

/// The most entries of one table that are read for links.
const ENTRIES_MAX: u64 = 8;
/// How many of them are read at the same time.
const ENTRIES_AT_ONCE: usize = 4;

impl Lake {
    /// Links the current span to the spans of the commits after one set of versions, up to another:
    /// for each table of `newest` the last few.
    ///
    /// What cannot be read has no link. Nothing else depends on it.
    pub fn link_commits<'a>(
        &'a self,
        since: &'a BTreeMap<String, u64>,
        newest: &'a BTreeMap<String, u64>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !adlake_telemetry::is_sampled() {
                return;
            }
            let span = Span::current();
            for (table, to) in newest {
                let first = since.get(table).map_or(0, |version| version + 1);
                let versions: Vec<u64> = (first.max(to.saturating_sub(ENTRIES_MAX - 1))..=*to).collect();
                for some in versions.chunks(ENTRIES_AT_ONCE) {
                    let traces = join_all(some.iter().map(|version| self.trace_of(table, *version))).await;
                    traces.iter().flatten().for_each(|trace| adlake_telemetry::link(&span, trace));
                }
            }
        })
    }

    /// The span that has made a commit, if it is known.
    async fn trace_of(&self, table: &str, version: u64) -> Option<SpanContext> {
        let log_store = self.log_store(table).ok()?;
        match commit::read_entry(&log_store, table, version).await {
            Ok(entry) => entry?.trace,
            Err(error) => {
                tracing::debug!(table, version, %error, "a log entry was not read, so it is not linked");
                None
            }
        }
    }
}
