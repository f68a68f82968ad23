//! The trace of a batch: one span from its first record to the end of its commit, with the steps of
//! the commit below it. There is never a span of a record.

use std::collections::BTreeSet;
use std::fmt::Display;

use adlake_domain::event::EventKind;
use tracing::field::{Empty, display};

use crate::pipeline::ledger::Span;

/// The most streams whose positions a span tells.
const STREAMS_MAX: usize = 20;

/// The span of a batch.
#[derive(Debug)]
pub struct Cycle(tracing::Span);

impl Cycle {
    /// A batch of the raw table of a kind begins.
    pub fn begin(kind: EventKind) -> Cycle {
        Cycle(adlake_telemetry::span!(
            "ingest batch",
            otel.name = format_args!("ingest {}", kind.raw_table()),
            otel.kind = "consumer",
            messaging.operation.type = "process",
            messaging.system = Empty,
            messaging.destination.name = Empty,
            messaging.destination.partition.id = Empty,
            messaging.batch.message_count = Empty,
            adlake.table = kind.raw_table(),
            adlake.table.version = Empty,
            adlake.streams = Empty,
            adlake.positions = Empty,
            adlake.rows = Empty,
            adlake.dead_letters = Empty,
            adlake.files = Empty,
            adlake.bytes = Empty,
        ))
    }

    /// The batch is sealed: what it holds is known.
    pub fn sealed(&self, spans: &[Span], rows: u64, dead_letters: u64) {
        let Cycle(span) = self;
        if span.is_disabled() {
            return;
        }
        span.record("adlake.rows", rows);
        span.record("adlake.dead_letters", dead_letters);
        span.record("adlake.streams", spans.len() as u64);
        span.record("messaging.batch.message_count", rows + dead_letters);
        let sources: BTreeSet<&str> = spans.iter().map(|span| span.stream.source.as_str()).collect();
        let sources: Vec<&str> = sources.into_iter().take(STREAMS_MAX).collect();
        span.record("messaging.destination.name", sources.join(","));
        if spans.iter().any(|span| span.stream.topic_application().is_some()) {
            span.record("messaging.system", "kafka");
            if let [only] = spans {
                span.record("messaging.destination.partition.id", display(only.stream.partition));
            }
        }
        let positions = spans.iter().take(STREAMS_MAX).map(|span| {
            let Span { stream, from, to } = span;
            let from = from.map_or_else(|| "start".to_owned(), |from| from.to_string());
            format!("{}/{} {from}..{to}", stream.source, stream.partition)
        });
        span.record("adlake.positions", positions.collect::<Vec<_>>().join(", "));
    }

    /// Its records are not committed with it.
    pub fn fail(&self, why: &dyn Display) {
        adlake_telemetry::fail(&self.0, why);
    }

    /// The span, for what is done within it.
    pub fn span(&self) -> tracing::Span {
        self.0.clone()
    }
}
