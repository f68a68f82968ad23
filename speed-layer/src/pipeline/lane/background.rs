//! The background work of a lane: one lookup or one commit at a time, and what follows from its
//! result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adlake_lake::Advance;
use adlake_lake::error::chain;
use rand::Rng;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::cycle::Cycle;
use super::look_up::stored;
use super::{Lane, show_spent};
use crate::error::SpeedError;
use crate::pipeline::ledger::Span;
use crate::pipeline::pauses::Pauses;
use crate::record::Stream;
use crate::source::Command;
use crate::write::{Committer, Outcome, Stored, count_dead_letters};

/// The result of a lookup or a commit.
pub(super) enum BackgroundResult {
    LookedUp(Result<Vec<Stored>, SpeedError>, Vec<Arc<Stream>>),
    Committed(Result<Outcome, SpeedError>, Batch),
}

/// What a lane knows about a batch that is being committed.
pub(super) struct Batch {
    spans: Vec<Span>,
    rows: u64,
    rejected: BTreeMap<String, u64>,
    misshapen: BTreeMap<String, u64>,
    started: Instant,
    cycle: Cycle,
}

impl Lane {
    /// Seals what has been taken, and begins to commit it.
    pub(super) async fn commit(&mut self) -> Result<(), SpeedError> {
        self.since = None;
        self.early = Duration::ZERO;
        if !self.ledger.is_open() {
            return Ok(());
        }
        let (Some(mut committer), Some(mut builder)) = (self.committer.take(), self.builder.take()) else {
            return Ok(());
        };
        let cycle = self.cycle.take().unwrap_or_else(|| Cycle::begin(self.context.kind));
        let encode = cycle.span().in_scope(|| adlake_telemetry::span!("encode"));
        let metrics = self.context.metrics.clone();
        let work = self.worker.run(move || {
            let started = Instant::now();
            let sealed = builder.seal();
            show_spent(&metrics, &mut builder, started);
            (builder, sealed)
        });
        let (builder, sealed) = work.await?;
        drop(encode);
        self.builder = Some(builder);
        let mut sealed = sealed?;
        let spans = self.ledger.seal();

        let (places, rejected) = count_dead_letters(&sealed.dead_letters)?;
        let has_dead = |span: &&Span| places.contains(&(span.stream.source.clone(), span.stream.partition));
        let dead_spans: Vec<Span> = spans.iter().filter(has_dead).map(|span| self.ledger.seal_dead(span)).collect();
        let rows = sealed.writer.as_ref().map_or(0, |writer| writer.rows() as u64);
        let mut advances: Vec<Advance> = spans.iter().map(Span::advance).collect();
        advances.extend(self.marks.seal(&spans));
        let dead_advances = dead_spans.iter().map(Span::advance).collect();
        let misshapen = std::mem::take(&mut sealed.misshapen);
        cycle.sealed(&spans, rows, rejected.values().sum());
        let span = cycle.span();
        let batch = Batch { spans, rows, rejected, misshapen, started: Instant::now(), cycle };
        self.oldest_in_commit = self.oldest.take();
        self.show_oldest();
        let metrics = self.context.metrics.clone();
        let work = async move {
            let result = committer.commit(sealed, advances, dead_advances).await;
            metrics.spent("commit", batch.started.elapsed());
            (committer, BackgroundResult::Committed(result, batch))
        };
        self.background = Some(tokio::spawn(work.instrument(span)));
        Ok(())
    }

    /// Begins to look up the stored positions of the unstarted streams. While the store does not
    /// answer, the lookup is retried.
    pub(super) fn look_up(&mut self) {
        let Some(mut committer) = self.committer.take() else { return };
        let streams = std::mem::take(&mut self.unstarted);
        let pauses = Pauses::new(self.context.retry_pause_max, std::mem::take(&mut self.pause_first));
        let (stopping, kind) = (self.context.stopping.clone(), self.context.kind);
        self.background = Some(tokio::spawn(async move {
            let result = stored(&mut committer, &streams, kind, pauses, &stopping).await;
            (committer, BackgroundResult::LookedUp(result, streams))
        }));
    }

    /// Handles the result of a lookup or a commit.
    pub(super) fn finish_background(
        &mut self,
        (committer, result): (Committer, BackgroundResult),
    ) -> Result<(), SpeedError> {
        self.background = None;
        self.committer = Some(committer);
        match result {
            BackgroundResult::LookedUp(Ok(stored), streams) => {
                let starts: Vec<_> = streams
                    .iter()
                    .zip(stored)
                    // A stream may have been reset in the meantime. It is then looked up once more.
                    .filter(|(stream, _)| !self.unstarted.contains(stream))
                    .filter_map(|(stream, stored)| {
                        let generation = self.context.generations.fetch_add(1, Ordering::Relaxed);
                        self.marks.stored(stream, stored.marks);
                        self.ledger.start(stream, stored, generation)
                    })
                    .collect();
                if !starts.is_empty() {
                    // A worker that was killed between a commit and its acknowledgement did not
                    // acknowledge it. So it is done here.
                    let known = starts.iter().filter_map(|start| Some((start.stream.clone(), start.stored?))).collect();
                    self.context.commander.tell(Command::Start(starts));
                    self.context.commander.tell(Command::Acknowledge(known));
                }
                Ok(())
            }
            // While the run is being stopped nothing more is read, so the positions do not matter.
            BackgroundResult::LookedUp(Err(error), _)
                if self.context.stopping.is_cancelled() && error.is_retryable() =>
            {
                Ok(())
            }
            BackgroundResult::LookedUp(Err(error), _) => Err(error),
            BackgroundResult::Committed(result, batch) => self.committed(result, batch),
        }
    }

    fn committed(&mut self, result: Result<Outcome, SpeedError>, batch: Batch) -> Result<(), SpeedError> {
        self.oldest_in_commit = None;
        self.show_oldest();
        let (kind, table) = (self.context.kind, self.context.kind.raw_table());
        // What is logged and measured here belongs to the batch.
        let span = batch.cycle.span();
        let _entered = span.enter();
        match result {
            Ok(Outcome::Committed { bytes, files, conflicts }) => {
                for (table, count) in conflicts {
                    self.context.metrics.conflicts(table, count);
                    if count > 0 {
                        self.early = self.context.policy.early(rand::rng().random_range(0.0..1.0));
                    }
                }
                let took = batch.started.elapsed();
                self.context.metrics.committed(kind, batch.rows, &batch.rejected, bytes, took);
                self.context.metrics.misshapen(kind, &batch.misshapen);
                tracing::debug!(table, rows = batch.rows, files, took_ms = took.as_millis() as u64, "batch committed");
                let positions = batch.spans.into_iter().map(|span| (span.stream, span.to)).collect();
                self.context.commander.tell(Command::Acknowledge(positions));
                Ok(())
            }
            Ok(Outcome::Superseded) => {
                tracing::info!(
                    table,
                    rows = batch.rows,
                    "another worker has committed these records; continuing from its position"
                );
                batch.cycle.fail(&"superseded: another worker has committed these records");
                self.context.metrics.superseded(kind);
                self.start_again();
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                batch.cycle.fail(&chain(&error));
                if self.context.stopping.is_cancelled() {
                    return Err(SpeedError::Unfinished(format!("{table}: {}", chain(&error))));
                }
                tracing::warn!(table, error = chain(&error), "the lake cannot be written to; waiting for it");
                self.context.metrics.outage(kind);
                self.pause_first = true;
                self.start_again();
                Ok(())
            }
            Err(error) => {
                batch.cycle.fail(&chain(&error));
                Err(error)
            }
        }
    }
}

/// Waits for the lookup or commit that is running.
pub(super) async fn background_result(
    background: &mut Option<JoinHandle<(Committer, BackgroundResult)>>,
) -> Result<(Committer, BackgroundResult), SpeedError> {
    match background {
        Some(handle) => handle.await.map_err(|_| SpeedError::Ended("committing")),
        None => std::future::pending().await,
    }
}
