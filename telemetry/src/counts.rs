//! What became of the spans of this process. Counts are the process's, as the subscriber that
//! collects its spans is.

use std::sync::atomic::{AtomicU64, Ordering};

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What became of the spans of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Spans that a collector has taken.
    pub exported: u64,
    /// Spans that were dropped: the queue was full, or the collector did not take them.
    pub dropped: u64,
}

/// What became of the spans of this process so far.
pub fn counts() -> Counts {
    Counts { exported: EXPORTED.load(Ordering::Relaxed), dropped: DROPPED.load(Ordering::Relaxed) }
}

pub(crate) fn exported(spans: u64) {
    EXPORTED.fetch_add(spans, Ordering::Relaxed);
}

pub(crate) fn dropped(spans: u64) {
    DROPPED.fetch_add(spans, Ordering::Relaxed);
}
