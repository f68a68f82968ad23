//! Records that wait for their schemas.
//!
//! From the first chunk on that needs a schema which is not known, chunks are parked in order, and the registry is asked, again and again while it
//! does not answer. They are not taken yet: nothing but memory knows of them, and were the run to end, or their stream be started
//! again, they would be read again. Parked chunks count against the source's room, so that it waits as well.
//!
//! That a stream has passed positions without records ([`Pass`]) waits behind its parked chunks: it is no progress before they are taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::event::EventKind;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::pauses::Pauses;
use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::Stream;
use crate::registry::{Outage, Registry};
use crate::source::Records;

/// The chunks of one table that wait, and the registry that they wait for.
pub struct Parking {
    registry: Option<Arc<Registry>>,
    asker: Asker,
    parked: Vec<Records>,
    passes: Vec<Pass>,
    asking: Option<Asking>,
}

/// Ids that are being asked for.
struct Asking {
    ids: BTreeSet<u32>,
    answer: JoinHandle<Result<(), Outage>>,
}

/// A stream has no records left before a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    pub stream: Arc<Stream>,
    pub generation: u64,
    pub position: i64,
}

/// What comes back when the registry has been asked.
#[derive(Debug)]
pub struct Answered {
    /// Whether it has answered; if not, the run is being stopped.
    pub answer: Result<(), Outage>,
    /// The ids that were asked for.
    pub ids: BTreeSet<u32>,
    /// Everything that was parked, in order.
    pub records: Vec<Records>,
    /// What is to be passed once that is taken.
    pub passes: Vec<Pass>,
}

/// What asking takes beside ids.
#[derive(Clone)]
pub struct Asker {
    /// Whose schemas they are.
    pub kind: EventKind,
    /// Where outages are counted.
    pub metrics: Metrics,
    /// The longest pause between attempts.
    pub retry_pause_max: Duration,
    /// The run is being stopped: outages are not waited for any longer.
    pub stopping: CancellationToken,
}

impl Parking {
    /// Without a registry nothing ever waits.
    pub fn new(registry: Option<Arc<Registry>>, asker: Asker) -> Parking {
        Parking { registry, asker, parked: Vec::new(), passes: Vec::new(), asking: None }
    }

    /// The chunks that can be decoded at once; the others are parked. What comes behind parked chunks stays behind them. `answered` are ids
    /// that were asked for just now: whatever was learnt of them counts, however long the others took.
    pub fn admit(&mut self, mut chunks: Vec<Records>, answered: &BTreeSet<u32>) -> Vec<Records> {
        let Some(registry) = self.registry.clone() else { return chunks };
        let wanted = |records: &Records| {
            let mut wanted = BTreeSet::new();
            registry.wanted(&records.chunk, &mut wanted);
            wanted.retain(|id| !answered.contains(id));
            wanted
        };
        let needy = || chunks.iter().position(|records| !wanted(records).is_empty());
        let from = if self.parked.is_empty() { needy() } else { Some(0) };
        self.parked.extend(from.map_or_else(Vec::new, |from| chunks.split_off(from)));
        if self.asking.is_none() && !self.parked.is_empty() {
            let ids: BTreeSet<u32> = self.parked.iter().flat_map(wanted).collect();
            let answer = tokio::spawn(self.asker.clone().ask(registry, ids.clone()));
            self.asking = Some(Asking { ids, answer });
        }
        chunks
    }

    /// Keeps a pass back while chunks of its stream are parked; otherwise it may be made now.
    pub fn hold(&mut self, pass: Pass) -> Option<Pass> {
        if self.parked.iter().any(|records| records.stream == pass.stream) {
            self.passes.push(pass);
            return None;
        }
        Some(pass)
    }

    /// Everything parked, once the registry has answered, or has not and the run is being stopped. Cancel-safe.
    pub async fn answer(&mut self) -> Result<Answered, SpeedError> {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = (&mut asking.answer).await.map_err(|_| SpeedError::Ended("asking for schemas"))?;
        let ids = self.asking.take().map(|asking| asking.ids).unwrap_or_default();
        let (records, passes) = (std::mem::take(&mut self.parked), std::mem::take(&mut self.passes));
        Ok(Answered { answer, ids, records, passes })
    }

    /// Whether the registry is being asked.
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Drops what waits of a stream that is no longer ours.
    pub fn revoke(&mut self, stream: &Stream) {
        self.parked.retain(|records| *records.stream != *stream);
        self.passes.retain(|pass| *pass.stream != *stream);
    }

    /// Drops everything that waits: its streams are started again.
    pub fn clear(&mut self) {
        self.parked.clear();
        self.passes.clear();
    }

    /// The time of the oldest record that waits.
    pub fn oldest(&self) -> Option<i64> {
        self.parked.iter().filter_map(|records| records.chunk.oldest()).min()
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.answer.abort();
        }
    }
}

impl Asker {
    async fn ask(self, registry: Arc<Registry>, ids: BTreeSet<u32>) -> Result<(), Outage> {
        let mut pauses = Pauses::new(self.retry_pause_max, false);
        loop {
            let Err(outage) = registry.fetch(&ids).await else { return Ok(()) };
            if self.stopping.is_cancelled() {
                return Err(outage);
            }
            let table = self.kind.raw_table();
            tracing::warn!(table, error = %outage, "the schema registry does not answer; waiting for it");
            self.metrics.outage(self.kind);
            pauses.failed();
            pauses.pass(&self.stopping).await;
        }
    }
}
