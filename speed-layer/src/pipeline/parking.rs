//! Holds records that wait for their schemas.
//!
//! From the first chunk that needs an unknown schema on, chunks are parked in order. The registry
//! is asked for the schemas, and asked again while it does not answer. Parked chunks are not taken
//! yet: they exist only in memory. If the run ends or their stream is started again, they are read
//! again. Parked chunks count against the bytes that the source may have in flight, so the source
//! waits as well.
//!
//! A stream may also pass positions without records ([`Pass`]). A pass waits behind the stream's
//! parked chunks: it is no progress before they are taken.

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

/// The parked chunks of one table, and the registry that they wait for.
pub struct Parking {
    registry: Option<Arc<Registry>>,
    request: RequestContext,
    parked: Vec<Records>,
    passes: Vec<Pass>,
    running: Option<RunningRequest>,
}

/// A running request for schema ids.
struct RunningRequest {
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

/// The result of asking the registry.
#[derive(Debug)]
pub struct RegistryAnswer {
    /// Whether the registry has answered. An error means that the run is being stopped.
    pub answer: Result<(), Outage>,
    /// The ids that it was asked for.
    pub ids: BTreeSet<u32>,
    /// All parked chunks, in order.
    pub records: Vec<Records>,
    /// The passes to make after these chunks are taken.
    pub passes: Vec<Pass>,
}

/// What a request for schemas needs besides the ids.
#[derive(Clone)]
pub struct RequestContext {
    /// The kind of event whose schemas are asked for.
    pub kind: EventKind,
    /// The metrics that count outages.
    pub metrics: Metrics,
    /// The longest pause between attempts.
    pub retry_pause_max: Duration,
    /// Cancelled when the run is being stopped. Outages are not waited out any longer then.
    pub stopping: CancellationToken,
}

impl Parking {
    /// Without a registry, nothing ever waits.
    pub fn new(registry: Option<Arc<Registry>>, request: RequestContext) -> Parking {
        Parking { registry, request, parked: Vec::new(), passes: Vec::new(), running: None }
    }

    /// Returns the chunks that can be decoded at once, and parks the others. A chunk that follows a
    /// parked one is parked, too. `answered` are ids that the registry was just asked for. The
    /// answer for them counts, however long the other ids took.
    pub fn admit(&mut self, mut chunks: Vec<Records>, answered: &BTreeSet<u32>) -> Vec<Records> {
        let Some(registry) = self.registry.clone() else { return chunks };
        let wanted = |records: &Records| {
            let mut wanted = BTreeSet::new();
            registry.wanted(&records.chunk, &mut wanted);
            wanted.retain(|id| !answered.contains(id));
            wanted
        };
        let first_waiting = || chunks.iter().position(|records| !wanted(records).is_empty());
        let from = if self.parked.is_empty() { first_waiting() } else { Some(0) };
        self.parked.extend(from.map_or_else(Vec::new, |from| chunks.split_off(from)));
        if self.running.is_none() && !self.parked.is_empty() {
            let ids: BTreeSet<u32> = self.parked.iter().flat_map(wanted).collect();
            let answer = tokio::spawn(self.request.clone().ask(registry, ids.clone()));
            self.running = Some(RunningRequest { ids, answer });
        }
        chunks
    }

    /// Holds a pass back while chunks of its stream are parked. Otherwise returns it, to be made
    /// now.
    pub fn hold(&mut self, pass: Pass) -> Option<Pass> {
        if self.parked.iter().any(|records| records.stream == pass.stream) {
            self.passes.push(pass);
            return None;
        }
        Some(pass)
    }

    /// Returns everything parked once the registry has answered, or once the run is being stopped
    /// without an answer. It is cancel-safe.
    pub async fn answer(&mut self) -> Result<RegistryAnswer, SpeedError> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let answer = (&mut running.answer).await.map_err(|_| SpeedError::Ended("asking for schemas"))?;
        let ids = self.running.take().map(|running| running.ids).unwrap_or_default();
        let (records, passes) = (std::mem::take(&mut self.parked), std::mem::take(&mut self.passes));
        Ok(RegistryAnswer { answer, ids, records, passes })
    }

    /// Whether the registry is being asked.
    pub fn is_asking(&self) -> bool {
        self.running.is_some()
    }

    /// Whether no chunks are parked.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Drops what is parked of a stream that is no longer assigned.
    pub fn revoke(&mut self, stream: &Stream) {
        self.parked.retain(|records| *records.stream != *stream);
        self.passes.retain(|pass| *pass.stream != *stream);
    }

    /// Drops everything that is parked, because its streams are started again.
    pub fn clear(&mut self) {
        self.parked.clear();
        self.passes.clear();
    }

    /// The time of the oldest parked record.
    pub fn oldest(&self) -> Option<i64> {
        self.parked.iter().filter_map(|records| records.chunk.oldest()).min()
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.answer.abort();
        }
    }
}

impl RequestContext {
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
