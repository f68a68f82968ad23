//! The whole walk: a source's records through decode, validate, enrich and write, into the lake.
//!
//! ```text
//!   source's thread          one task                 one task per table            a thread per table
//!   ---------------          --------                 ------------------            --------------
//!   source ── events ──────> pipeline ── orders ────> lane ── chunks ─────────────> decode, validate, enrich, encode
//!     ^  (bounded in bytes)     |                      |  └── sealed batches ─────> upload, commit
//!     └────── commands ─────────┴──────────────────────┘
//! ```
//!
//! All channels are made here, and the order of things is kept here: a lane per table, chunks to their lane in the order in which they
//! were read; at the end the source is stopped, the lanes are drained, and only then the source may leave its group.
//! Where schemas come from a registry a lane asks for those that a chunk needs before it is decoded; see [`parking`].
//! Memory is bounded by the bytes that the source may have under way and by two batches per table.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_domain::event::EventKind;
use adlake_lake::{Appender, Lake};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::metrics::{Metrics, Progress};
use crate::plans::Plans;
use crate::settings::{FirstStart, SpeedSettings};
use crate::source::{Command, Event, Handle, Source};
use crate::write::{Builder, Committer};

mod flush;
mod lane;
mod ledger;
pub(crate) mod marks;
mod parking;
mod pauses;
mod stopped;

use flush::FlushPolicy;
use lane::{Lane, Order, Parts, Worker};
use stopped::Stopped;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long a source may take to leave once everything is committed, or once something has failed.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// What a run needs beside its source.
pub(crate) struct Dependencies<'a> {
    pub lake: &'a Lake,
    pub settings: &'a SpeedSettings,
    pub plans: Arc<Plans>,
    pub metrics: Metrics,
    pub progress: &'a dyn Progress,
    /// Bytes of all files, where it is files that are read.
    pub bytes_total: Option<u64>,
    /// Stops the run in order.
    pub cancel: CancellationToken,
}

/// Runs until the source has come to its end, or the run is cancelled. Everything read is committed then.
pub(crate) async fn run(source: Box<dyn Source>, dependencies: Dependencies<'_>) -> Result<(), SpeedError> {
    let settings = dependencies.settings;
    let opened = tokio::select! {
        opened = open_all(&dependencies) => opened?,
        // A lake that does not answer at the start is not waited for.
        () = dependencies.cancel.cancelled() => return Ok(()),
    };

    let mut handle = Handle::spawn(source, settings.ingest.queue_bytes_max)?;
    let stopping = CancellationToken::new();
    let generations = Arc::new(AtomicU64::new(1));
    let mut tasks = JoinSet::new();
    let mut lanes = Lanes { orders: Vec::new(), assigned: Vec::new(), stopped: Vec::new() };
    let (notice, mut notices) = mpsc::unbounded_channel();
    for (kind, parts) in opened {
        let (sender, orders) = mpsc::unbounded_channel();
        lanes.orders.push((kind, sender));
        let (commander, metrics, notice) = (handle.commander().clone(), dependencies.metrics.clone(), notice.clone());
        let (builder, committer) = match parts {
            Ok(parts) => parts,
            Err(error) => {
                let stopped = Stopped { kind, error, commander, metrics, notice };
                tasks.spawn(stopped.run(orders, Vec::new(), Vec::new()));
                continue;
            }
        };
        let parts = Parts {
            kind,
            builder,
            worker: Worker::spawn(kind.table())?,
            committer,
            registry: dependencies.plans.registry(kind),
            policy: FlushPolicy::new(&settings.ingest),
            retry_pause_max: settings.ingest.retry_pause_max,
            pin_first_start: settings.kafka.first_start != FirstStart::Earliest
                || !settings.kafka.first_offsets.is_empty(),
            commander,
            generations: generations.clone(),
            metrics,
            stopping: stopping.clone(),
            notice,
        };
        tasks.spawn(Lane::new(parts, orders).run());
    }

    let result = walk(&mut handle, &mut lanes, &mut tasks, &mut notices, &stopping, &dependencies).await;
    // The lanes end with their orders, and with them the last senders of commands.
    drop(lanes);
    let ended = match result {
        Ok(()) => finish(&mut tasks).await,
        Err(error) => {
            tasks.shutdown().await;
            Err(error)
        }
    };
    let left = tokio::time::timeout(LEAVE_DEADLINE, handle.close()).await;
    dependencies.progress.update(&dependencies.metrics.progress(dependencies.bytes_total));
    match (ended, left) {
        // Where the source has failed, the lanes' end is only a consequence.
        (_, Ok(Err(error))) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(()), Ok(Ok(()))) => Ok(()),
        (Ok(()), Err(_)) => {
            tracing::warn!("everything is committed, but the source does not leave; it is left behind");
            Ok(())
        }
    }
}

/// A kind's tables, or why one of them is stopped from the start.
type Opened = (EventKind, Result<(Builder, Committer), SpeedError>);

/// Opens all tables.
async fn open_all(dependencies: &Dependencies<'_>) -> Result<Vec<Opened>, SpeedError> {
    let mut opened = Vec::new();
    let dead_letters = Arc::new(Mutex::new(dependencies.lake.appender(DEAD_LETTERS).await?));
    for kind in EventKind::ALL {
        match open(kind, dependencies, &dead_letters).await {
            Err(error) if !error.stops_table() => return Err(error),
            parts => opened.push((kind, parts)),
        }
    }
    Ok(opened)
}

/// Opens the tables of a kind: for building rows, and for committing them.
async fn open(
    kind: EventKind,
    dependencies: &Dependencies<'_>,
    dead_letters: &Arc<Mutex<Appender>>,
) -> Result<(Builder, Committer), SpeedError> {
    let (lake, plans, settings) = (dependencies.lake, &dependencies.plans, &dependencies.settings.ingest);
    let columns = plans.added_columns(kind)?;
    let builder = Builder::open(lake, kind, plans.clone(), settings).await?;
    let committer = Committer::open(lake, kind, &columns, dead_letters.clone(), settings).await?;
    Ok((builder, committer))
}

/// Hands on events until everything is read and committed, or no table is left that can be written.
async fn walk(
    handle: &mut Handle,
    lanes: &mut Lanes,
    tasks: &mut JoinSet<Result<(), SpeedError>>,
    notices: &mut mpsc::UnboundedReceiver<EventKind>,
    stopping: &CancellationToken,
    dependencies: &Dependencies<'_>,
) -> Result<(), SpeedError> {
    let commander = handle.commander().clone();
    let mut drains = FuturesUnordered::new();
    // How many starts the source had obeyed when it last said that nothing is left.
    let mut done_after = None;
    let mut deadline: Option<Instant> = None;
    let mut ended = false;
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            biased;
            () = dependencies.cancel.cancelled(), if deadline.is_none() => {
                tracing::info!("stopping: what was read is committed");
                stopping.cancel();
                commander.tell(Command::Stop);
                deadline = Some(Instant::now() + dependencies.settings.ingest.shutdown_deadline);
            }
            ended = tasks.join_next() => return Err(match ended {
                Some(Ok(Err(error))) => error,
                _ => SpeedError::Ended("a table's lane"),
            }),
            Some(kind) = notices.recv() => {
                lanes.stopped.push(kind);
                if lanes.all_stopped() {
                    return Ok(());
                }
            }
            event = handle.next(), if !ended => match event {
                None => {
                    // It has failed, and says why when it is closed. What was read is committed first: it may exist nowhere else any more.
                    ended = true;
                    drains = lanes.drain();
                    stopping.cancel();
                    deadline.get_or_insert_with(|| Instant::now() + dependencies.settings.ingest.shutdown_deadline);
                }
                Some(Event::Done { starts }) => {
                    done_after = Some(starts);
                    drains = lanes.drain();
                }
                Some(Event::Consumed(bytes)) => dependencies.metrics.consumed(bytes),
                Some(event) => {
                    lanes.hand_on(event);
                    if lanes.all_stopped() {
                        return Ok(());
                    }
                }
            },
            drained = drains.next(), if !drains.is_empty() => {
                // A lane that ended without an answer has failed, and says why to `join_next`.
                if drained == Some(Ok(())) && drains.is_empty() {
                    // A lane that has gone back meanwhile will read on; the source will say when that is done.
                    let all_read = done_after == Some(commander.starts());
                    if ended {
                        return Err(SpeedError::Ended("the source"));
                    }
                    if all_read || deadline.is_some() {
                        return Ok(());
                    }
                }
            }
            _ = ticks.tick() => dependencies.progress.update(&dependencies.metrics.progress(dependencies.bytes_total)),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                let message = "ingest.shutdown_deadline has passed".to_owned();
                return Err(SpeedError::Unfinished(message));
            }
        }
    }
}

async fn finish(tasks: &mut JoinSet<Result<(), SpeedError>>) -> Result<(), SpeedError> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // One that was stopped has ended long before the others, which are waited for.
        result = result.and(ended.map_err(|_| SpeedError::Ended("a table's lane"))?);
    }
    result
}

/// The ways to the lanes.
struct Lanes {
    orders: Vec<(EventKind, mpsc::UnboundedSender<Order>)>,
    /// The kinds that there has been something to read of.
    assigned: Vec<EventKind>,
    /// The kinds whose tables are stopped.
    stopped: Vec<EventKind>,
}

impl Lanes {
    /// Whether there was something to read, and no table is left that takes any of it.
    fn all_stopped(&self) -> bool {
        !self.assigned.is_empty() && self.assigned.iter().all(|kind| self.stopped.contains(kind))
    }

    fn hand_on(&mut self, event: Event) {
        match event {
            Event::Records(records) => self.order(records.stream.kind, Event::Records(records)),
            Event::Started { stream, generation, position } => {
                self.order(stream.kind, Event::Started { stream, generation, position });
            }
            Event::Passed { stream, generation, position } => {
                self.order(stream.kind, Event::Passed { stream, generation, position });
            }
            Event::Topic { stream, marks } => self.order(stream.kind, Event::Topic { stream, marks }),
            Event::Stalled(stream) => self.order(stream.kind, Event::Stalled(stream)),
            Event::CaughtUp { stream, generation } => self.order(stream.kind, Event::CaughtUp { stream, generation }),
            Event::Assigned(streams) => {
                self.assigned.extend(streams.iter().map(|stream| stream.kind));
                self.assigned.sort_by_key(|kind| kind.table());
                self.assigned.dedup();
                self.split(streams, |stream| stream.kind, Event::Assigned);
            }
            Event::Revoked(streams) => self.split(streams, |stream| stream.kind, Event::Revoked),
            Event::Behind(streams) => self.split(streams, |(stream, _)| stream.kind, Event::Behind),
            Event::Consumed(_) | Event::Done { .. } => {}
        }
    }

    /// To each lane its own; to none an empty list.
    fn split<T>(&self, items: Vec<T>, kind: impl Fn(&T) -> EventKind, event: impl Fn(Vec<T>) -> Event) {
        let mut items = items;
        for wanted in EventKind::ALL {
            let (own, rest): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| kind(item) == wanted);
            items = rest;
            if !own.is_empty() {
                self.order(wanted, event(own));
            }
        }
    }

    fn order(&self, kind: EventKind, event: Event) {
        if let Some((_, orders)) = self.orders.iter().find(|(other, _)| *other == kind) {
            // A lane that has ended says why to whoever joins it.
            let _ = orders.send(Order::Event(event));
        }
    }

    fn drain(&self) -> FuturesUnordered<oneshot::Receiver<()>> {
        self.orders
            .iter()
            .map(|(_, orders)| {
                let (drained, answer) = oneshot::channel();
                let _ = orders.send(Order::Drain(drained));
                answer
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
