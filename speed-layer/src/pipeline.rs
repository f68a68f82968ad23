//! The pipeline: takes a source's records through decode, validate, enrich and write, into the
//! lake.
//!
//! ```text
//! source's thread      one task                one task per table       one thread per table
//! ---------------      --------                ------------------       --------------------
//! source -- events --> pipeline -- messages -> lane -- chunks --------> decode, validate,
//!   ^  (bounded in        |                     |  |                    enrich, encode
//!   |   bytes)            |                     |  +-- sealed batches -> upload, commit
//!   +---- commands -------+---------------------+
//! ```
//!
//! All channels are made here. There is one lane per table, and chunks go to their lane in the
//! order in which they were read. At the end the source is stopped, then the lanes are drained, and
//! only then may the source leave its consumer group.
//!
//! Where schemas come from a registry, a lane fetches the schemas that a chunk needs before the
//! chunk is decoded: see [`parking`].
//!
//! Memory is bounded by the bytes that the source may have in flight, and by two batches per table.

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
use crate::metrics::{IngestObserver, Metrics};
use crate::plans::DecodePlans;
use crate::settings::{FirstStart, SpeedSettings};
use crate::source::{Command, Event, Handle, Source};
use crate::write::{Builder, Committer};

mod lane;
mod ledger;
mod flush;
mod parking;
mod marks;
mod stopped_table;
mod pauses;

use flush::FlushPolicy;
use lane::{Lane, LaneSetup, Worker};
use stopped_table::StoppedTable;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long a source may take to leave its group after the last commit or after a failure.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// What a run needs besides its source.
pub(crate) struct Dependencies<'a> {
    pub lake: &'a Lake,
    pub settings: &'a SpeedSettings,
    pub plans: Arc<DecodePlans>,
    pub metrics: Metrics,
    pub progress: &'a dyn IngestObserver,
    /// The size of all files in bytes, if the source reads files.
    pub bytes_total: Option<u64>,
    /// Cancelling it stops the run in an orderly way.
    pub cancel: CancellationToken,
}

/// What the pipeline sends to a lane.
#[derive(Debug)]
enum LaneMessage {
    /// An event of the source about the streams of the lane's table.
    Event(Event),
    /// Commit everything taken so far, and answer when nothing is left to do.
    Drain(oneshot::Sender<()>),
}

/// Runs until the source has reached its end or the run is cancelled. By then everything that was
/// read is committed.
pub(crate) async fn run(source: Box<dyn Source>, dependencies: Dependencies<'_>) -> Result<(), SpeedError> {
    let settings = dependencies.settings;
    let opened = tokio::select! {
        opened = open_all(&dependencies) => opened?,
        // At the start there is nothing to commit, so a stop does not wait for a lake that does not
        // answer.
        () = dependencies.cancel.cancelled() => return Ok(()),
    };

    let mut handle = Handle::spawn(source, settings.ingest.queue_bytes_max)?;
    let stopping = CancellationToken::new();
    let generations = Arc::new(AtomicU64::new(1));
    let mut tasks = JoinSet::new();
    let mut lanes = Lanes { messages: Vec::new(), assigned: Vec::new(), stopped: Vec::new() };
    let (notice, mut notices) = mpsc::unbounded_channel();
    for (kind, opened) in opened {
        let (sender, messages) = mpsc::unbounded_channel();
        lanes.messages.push((kind, sender));
        let (commander, metrics, notice) = (handle.commander().clone(), dependencies.metrics.clone(), notice.clone());
        let (builder, committer) = match opened {
            Ok(parts) => parts,
            Err(error) => {
                let stopped = StoppedTable { kind, error, commander, metrics, notice };
                tasks.spawn(stopped.run(messages, Vec::new(), Vec::new()));
                continue;
            }
        };
        let setup = LaneSetup {
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
        tasks.spawn(Lane::new(setup, messages).run());
    }

    let result = walk(&mut handle, &mut lanes, &mut tasks, &mut notices, &stopping, &dependencies).await;
    // When their messages end, the lanes end too, and the last senders of commands with them.
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
        // If the source has failed, the failure of a lane is only a consequence.
        (_, Ok(Err(error))) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(()), Ok(Ok(()))) => Ok(()),
        (Ok(()), Err(_)) => {
            tracing::warn!("everything is committed, but the source has not ended in time; it is abandoned");
            Ok(())
        }
    }
}

/// A kind, and its tables or the error that stops them from the start.
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

/// Opens the tables of a kind, for building rows and for committing them.
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

/// Forwards events until everything is read and committed, or until no table is left that can be
/// written.
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
    // The number of starts that the source had carried out when it last reported that nothing is
    // left.
    let mut done_after = None;
    let mut deadline: Option<Instant> = None;
    let mut ended = false;
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            biased;
            () = dependencies.cancel.cancelled(), if deadline.is_none() => {
                tracing::info!("stopping; committing what was read");
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
                    // The source has failed. `close` returns its error later. What was read is
                    // committed first: it may exist nowhere else any more.
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
                // Lanes are not asked: one that waits for its store reads no messages, and the lag
                // grows just then.
                Some(Event::Behind(streams)) => {
                    streams.iter().for_each(|(stream, records)| dependencies.metrics.behind(stream, *records));
                }
                Some(event) => {
                    if let Event::Revoked(streams) = &event {
                        streams.iter().for_each(|stream| dependencies.metrics.not_ours(stream));
                    }
                    lanes.route(event);
                    if lanes.all_stopped() {
                        return Ok(());
                    }
                }
            },
            drained = drains.next(), if !drains.is_empty() => {
                // A lane that ended without an answer has failed. `join_next` returns its error.
                if drained == Some(Ok(())) && drains.is_empty() {
                    // A lane that has been reset in the meantime will read on. The source will
                    // report when that is done.
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
        // A lane whose table is stopped has ended long before the others. The others are still
        // awaited.
        result = result.and(ended.map_err(|_| SpeedError::Ended("a table's lane"))?);
    }
    result
}

/// The channels to the lanes.
struct Lanes {
    messages: Vec<(EventKind, mpsc::UnboundedSender<LaneMessage>)>,
    /// The kinds of all streams that were assigned so far.
    assigned: Vec<EventKind>,
    /// The kinds whose tables are stopped.
    stopped: Vec<EventKind>,
}

impl Lanes {
    /// Whether streams were assigned and the tables of all of them are stopped.
    fn all_stopped(&self) -> bool {
        !self.assigned.is_empty() && self.assigned.iter().all(|kind| self.stopped.contains(kind))
    }

    fn route(&mut self, event: Event) {
        match event {
            Event::Records(records) => self.send(records.stream.kind, Event::Records(records)),
            Event::Started { stream, generation, position } => {
                self.send(stream.kind, Event::Started { stream, generation, position });
            }
            Event::Passed { stream, generation, position } => {
                self.send(stream.kind, Event::Passed { stream, generation, position });
            }
            Event::Topic { stream, marks } => self.send(stream.kind, Event::Topic { stream, marks }),
            Event::Stalled(stream) => self.send(stream.kind, Event::Stalled(stream)),
            Event::CaughtUp { stream, generation } => self.send(stream.kind, Event::CaughtUp { stream, generation }),
            Event::Assigned(streams) => {
                self.assigned.extend(streams.iter().map(|stream| stream.kind));
                self.assigned.sort_by_key(|kind| kind.table());
                self.assigned.dedup();
                self.split(streams, |stream| stream.kind, Event::Assigned);
            }
            Event::Revoked(streams) => self.split(streams, |stream| stream.kind, Event::Revoked),
            Event::Behind(_) | Event::Consumed(_) | Event::Done { .. } => {}
        }
    }

    /// Sends each lane its own items. A lane without items gets nothing.
    fn split<T>(&self, items: Vec<T>, kind: impl Fn(&T) -> EventKind, event: impl Fn(Vec<T>) -> Event) {
        let mut items = items;
        for wanted in EventKind::ALL {
            let (own, rest): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| kind(item) == wanted);
            items = rest;
            if !own.is_empty() {
                self.send(wanted, event(own));
            }
        }
    }

    fn send(&self, kind: EventKind, event: Event) {
        if let Some((_, messages)) = self.messages.iter().find(|(other, _)| *other == kind) {
            // If the lane has ended, joining its task returns the error.
            let _ = messages.send(LaneMessage::Event(event));
        }
    }

    fn drain(&self) -> FuturesUnordered<oneshot::Receiver<()>> {
        self.messages
            .iter()
            .map(|(_, messages)| {
                let (drained, answer) = oneshot::channel();
                let _ = messages.send(LaneMessage::Drain(drained));
                answer
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
