//! One table's part of the pipeline: its records, the batch being built, and its commits, one after
//! another.
//!
//! While one batch is being committed, the next is built. It is committed after the first, and at
//! most one batch is built ahead. Whenever something unexpected happens (another worker has
//! committed, the store does not answer), the lane does the same: it drops everything in memory,
//! and looks up and starts every stream again from the positions that the lake has stored. While
//! the store does not answer, nothing is held in memory, and the lookup is retried ([`look_up`]).
//!
//! Records with unknown schemas are parked, together with all that follow them, while the registry
//! is asked. What was taken before them is committed in the meantime. Parked records are not taken:
//! they exist only in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::LaneMessage;
use super::flush::{Due, FlushPolicy, Held};
use super::ledger::Ledger;
use super::marks::Marks;
use super::parking::{Parking, Pass, RegistryAnswer, RequestContext};
use super::stopped_table::StoppedTable;
use crate::clock::now_micros;
use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::Stream;
use crate::registry::Registry;
use crate::source::{Command, Commander, Event, Records};
use crate::write::{Builder, Committer};

mod worker;
mod background;
mod look_up;
mod cycle;

use background::{BackgroundResult, background_result};
use cycle::Cycle;
pub use worker::Worker;

/// The greatest number of events handled at a time.
const EVENTS_MAX: usize = 8;

/// What a lane is made of.
#[derive(Debug)]
pub struct LaneSetup {
    /// The kind of event in its table.
    pub kind: EventKind,
    /// Builds the rows.
    pub builder: Builder,
    /// The thread that builds them.
    pub worker: Worker,
    /// Commits the batches.
    pub committer: Committer,
    /// The schema registry, if there is one.
    pub registry: Option<Arc<Registry>>,
    /// When to commit.
    pub policy: FlushPolicy,
    /// The longest pause between attempts while the store does not answer.
    pub retry_pause_max: Duration,
    /// Whether the position of a first start is stored even if nothing was read.
    pub pin_first_start: bool,
    /// Sends commands to the source.
    pub commander: Commander,
    /// The generation of the last start, shared by all lanes.
    pub generations: Arc<AtomicU64>,
    /// The metrics of the run.
    pub metrics: Metrics,
    /// Cancelled when the run is being stopped. Outages are not waited out any longer then.
    pub stopping: CancellationToken,
    /// Tells the pipeline that the table is stopped.
    pub notice: mpsc::UnboundedSender<EventKind>,
}

/// One table's part of the pipeline.
pub struct Lane {
    context: LaneContext,
    messages: mpsc::UnboundedReceiver<LaneMessage>,
    ledger: Ledger,
    marks: Marks,
    /// `None` while the worker has it.
    builder: Option<Builder>,
    worker: Worker,
    /// `None` while a lookup or a commit is running.
    committer: Option<Committer>,
    background: Option<JoinHandle<(Committer, BackgroundResult)>>,
    /// Chunks that need unknown schemas, and the chunks that follow them.
    parking: Parking,
    /// What was given up when the run was stopped.
    given_up: Option<String>,
    /// Streams whose stored positions have to be looked up.
    unstarted: Vec<Arc<Stream>>,
    /// Whether the next lookup begins with a pause.
    pause_first: bool,
    /// Revoked streams that the source waits to release.
    unreleased: Vec<Arc<Stream>>,
    drains: Vec<oneshot::Sender<()>>,
    since: Option<Instant>,
    /// The span of the batch that is being built, from its first record on.
    cycle: Option<Cycle>,
    /// How much earlier than usual the next commit is.
    early: Duration,
    oldest: Option<i64>,
    /// The time of the oldest record in the batch that is being committed.
    oldest_in_commit: Option<i64>,
}

struct LaneContext {
    kind: EventKind,
    policy: FlushPolicy,
    retry_pause_max: Duration,
    pin_first_start: bool,
    commander: Commander,
    generations: Arc<AtomicU64>,
    metrics: Metrics,
    stopping: CancellationToken,
    notice: mpsc::UnboundedSender<EventKind>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("kind", &self.context.kind).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane that receives its messages from this channel.
    pub fn new(setup: LaneSetup, messages: mpsc::UnboundedReceiver<LaneMessage>) -> Lane {
        let LaneSetup { kind, builder, worker, committer, policy, .. } = setup;
        let request = RequestContext {
            kind,
            metrics: setup.metrics.clone(),
            retry_pause_max: setup.retry_pause_max,
            stopping: setup.stopping.clone(),
        };
        Lane {
            context: LaneContext {
                kind,
                policy,
                retry_pause_max: setup.retry_pause_max,
                pin_first_start: setup.pin_first_start,
                commander: setup.commander,
                generations: setup.generations,
                metrics: setup.metrics,
                stopping: setup.stopping,
                notice: setup.notice,
            },
            messages,
            ledger: Ledger::default(),
            marks: Marks::default(),
            builder: Some(builder),
            worker,
            committer: Some(committer),
            background: None,
            parking: Parking::new(setup.registry, request),
            given_up: None,
            unstarted: Vec::new(),
            pause_first: false,
            unreleased: Vec::new(),
            drains: Vec::new(),
            since: None,
            cycle: None,
            early: Duration::ZERO,
            oldest: None,
            oldest_in_commit: None,
        }
    }

    /// Works until there are no more messages. What is not committed by then is dropped, and read
    /// again by the next run.
    pub async fn run(mut self) -> Result<(), SpeedError> {
        let mut messages = Vec::with_capacity(EVENTS_MAX);
        loop {
            match self.step(&mut messages).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.stops_table() => return self.stop(error).await,
                Err(error) => return Err(error),
            }
        }
        let given_up = self.given_up.take();
        self.close().await;
        given_up.map_or(Ok(()), |what| Err(SpeedError::Unfinished(what)))
    }

    /// Does the next step. Returns `false` when there are no more messages.
    async fn step(&mut self, messages: &mut Vec<LaneMessage>) -> Result<bool, SpeedError> {
        let due = self.advance().await?;
        let takes_more = !(due == Due::Full && self.background.is_some());
        let timer = match due {
            Due::At(at) if self.background.is_none() => Some(at),
            _ => None,
        };
        tokio::select! {
            biased;
            result = background_result(&mut self.background), if self.background.is_some() => {
                self.finish_background(result?)?;
            }
            answer = self.parking.answer(), if self.parking.is_asking() => {
                self.answered(answer?).await?;
            }
            taken = self.messages.recv_many(messages, EVENTS_MAX), if takes_more => {
                if taken == 0 {
                    return Ok(false);
                }
                self.handle_messages(messages).await?;
            }
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now).into()), if timer.is_some() => {}
        }
        Ok(true)
    }

    /// The table cannot be written any more. What is in memory is dropped, and the other tables go
    /// on without this one.
    async fn stop(mut self, error: SpeedError) -> Result<(), SpeedError> {
        let streams = self.ledger.reset();
        let Lane { context, messages, parking, builder, committer, unreleased, drains, .. } = self;
        // Dropping parked records frees their room in the queue, which the other tables need.
        drop((parking, builder));
        if let Some(committer) = committer {
            committer.close().await;
        }
        let LaneContext { kind, commander, metrics, notice, .. } = context;
        metrics.oldest(kind, None);
        if !unreleased.is_empty() {
            commander.tell(Command::Release(unreleased));
        }
        StoppedTable { kind, error, commander, metrics, notice }.run(messages, streams, drains).await
    }

    /// Begins what can be begun. Returns when the next commit is due.
    async fn advance(&mut self) -> Result<Due, SpeedError> {
        let mut due = self.due();
        // Streams are released before the next commit begins. With a slow store a commit may always
        // be running, and nothing would ever be released.
        self.release();
        if self.committer.is_some() {
            let waited_for = |stream: &Arc<Stream>| self.ledger.is_open_for(stream);
            let is_urgent =
                !self.drains.is_empty() || self.unreleased.iter().any(waited_for) || self.ledger.is_pinned();
            if !self.unstarted.is_empty() {
                self.look_up();
            } else if matches!(due, Due::Now | Due::Full) || (is_urgent && self.ledger.is_open()) {
                self.commit().await?;
                due = self.due();
            }
        }
        self.release();
        if self.background.is_none() && !self.ledger.is_open() && self.unstarted.is_empty() && self.parking.is_empty() {
            for drain in self.drains.drain(..) {
                // The receiver may be gone, for example after a deadline.
                let _ = drain.send(());
            }
        }
        Ok(due)
    }

    fn due(&self) -> Due {
        let (rows, bytes) = self.builder.as_ref().map_or((0, 0), |builder| (builder.rows(), builder.bytes()));
        self.context.policy.due(&Held { rows, bytes, since: self.since, early: self.early }, Instant::now())
    }

    async fn handle_messages(&mut self, messages: &mut Vec<LaneMessage>) -> Result<(), SpeedError> {
        let mut records = Vec::new();
        for message in messages.drain(..) {
            match message {
                LaneMessage::Event(Event::Records(chunk)) => records.push(chunk),
                other => {
                    // Records that came before the message are taken before it.
                    self.take(std::mem::take(&mut records), &BTreeSet::new()).await?;
                    self.handle_message(other);
                }
            }
        }
        self.take(records, &BTreeSet::new()).await
    }

    fn handle_message(&mut self, message: LaneMessage) {
        match message {
            LaneMessage::Drain(drained) => self.drains.push(drained),
            LaneMessage::Event(Event::Assigned(streams)) => {
                if streams.iter().any(|stream| self.ledger.is_open_for(stream)) {
                    // The stream was assigned before, and is assigned again before its records of
                    // that time are committed.
                    self.start_again();
                }
                for stream in streams {
                    if self.ledger.assign(&stream) && !self.unstarted.contains(&stream) {
                        self.unstarted.push(stream);
                    }
                }
            }
            LaneMessage::Event(Event::Started { stream, generation, position }) => {
                self.ledger.started(&stream, generation, position, self.context.pin_first_start);
                if self.ledger.is_open() {
                    self.begin_cycle();
                }
            }
            LaneMessage::Event(Event::Passed { stream, generation, position }) => {
                self.pass(Pass { stream, generation, position });
            }
            LaneMessage::Event(Event::Topic { stream, marks }) => self.marks.found(&stream, marks),
            LaneMessage::Event(Event::Stalled(stream)) => self.context.metrics.stalled(&stream),
            LaneMessage::Event(Event::Revoked(streams)) => {
                for stream in streams {
                    self.ledger.revoke(&stream);
                    self.unstarted.retain(|unstarted| *unstarted != stream);
                    self.parking.revoke(&stream);
                    self.unreleased.push(stream);
                }
            }
            LaneMessage::Event(
                Event::Records(_) | Event::CaughtUp { .. } | Event::Behind(_) | Event::Consumed(_) | Event::Done { .. },
            ) => {}
        }
    }

    /// Decodes the records that can be decoded at once. The others wait for their schemas. Once
    /// something was given up, nothing that follows it is taken.
    async fn take(&mut self, chunks: Vec<Records>, answered: &BTreeSet<u32>) -> Result<(), SpeedError> {
        if self.given_up.is_some() {
            return Ok(());
        }
        let chunks = self.parking.admit(chunks, answered);
        self.show_oldest();
        self.decode(chunks).await
    }

    /// Advances past positions without records, unless records before them are still to be taken.
    fn pass(&mut self, pass: Pass) {
        let pass = if self.given_up.is_some() { None } else { self.parking.hold(pass) };
        if let Some(Pass { stream, generation, position }) = pass {
            self.ledger.pass(&stream, generation, position);
            if self.ledger.is_open() {
                self.begin_cycle();
            }
        }
    }

    /// The registry has answered, or is not awaited any longer.
    async fn answered(&mut self, answered: RegistryAnswer) -> Result<(), SpeedError> {
        let RegistryAnswer { answer, ids, records, passes } = answered;
        if let Err(outage) = answer {
            // The streams that waited for the registry may no longer be assigned.
            if !records.is_empty() {
                self.given_up = Some(format!("{}: {outage}", self.context.kind.raw_table()));
            }
            return Ok(());
        }
        self.take(records, &ids).await?;
        for pass in passes {
            self.pass(pass);
        }
        Ok(())
    }

    /// Decodes, validates, enriches and encodes on the worker thread.
    async fn decode(&mut self, chunks: Vec<Records>) -> Result<(), SpeedError> {
        let mut taken = Vec::with_capacity(chunks.len());
        for records in chunks {
            let (stream, generation, chunk) = (&records.stream, records.generation, &records.chunk);
            let which = match chunk.is_cut() {
                false => self.ledger.take(stream, generation, chunk.next().unwrap_or(i64::MIN)),
                true => self.ledger.take_cut(stream, generation, chunk),
            };
            // Other chunks belong to an earlier start of the stream, or are known already. They are
            // dropped here, which frees their room.
            let Some(which) = which else { continue };
            self.oldest = match (self.oldest, records.chunk.oldest()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.context.metrics.read(self.context.kind, records.chunk.len(), records.chunk.bytes());
            taken.push((records, which));
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.begin_cycle();
        self.show_oldest();
        let Some(mut builder) = self.builder.take() else { return Err(SpeedError::Ended("decoding")) };
        let metrics = self.context.metrics.clone();
        let work = self.worker.run(move || {
            let started = Instant::now();
            let ingested_at = now_micros();
            let result = taken.into_iter().try_for_each(|(records, which)| {
                let known_dead = which.known_dead.as_deref();
                builder.take(&records.stream, &records.chunk, which.from, known_dead, ingested_at)
            });
            show_spent(&metrics, &mut builder, started);
            (builder, result)
        });
        let (builder, result) = work.await?;
        self.builder = Some(builder);
        result
    }

    /// Drops everything in memory. Every stream is looked up and started again.
    fn start_again(&mut self) {
        if let Some(builder) = &mut self.builder {
            builder.discard();
        }
        // Parked chunks now belong to earlier starts, and would be dropped one by one.
        self.parking.clear();
        self.since = None;
        if let Some(cycle) = self.cycle.take() {
            cycle.fail(&"its records are dropped, and read again");
        }
        self.oldest = None;
        self.show_oldest();
        self.unstarted = self.ledger.reset();
    }

    /// A batch begins, unless it has begun.
    fn begin_cycle(&mut self) {
        self.since.get_or_insert_with(Instant::now);
        let kind = self.context.kind;
        self.cycle.get_or_insert_with(|| Cycle::begin(kind));
    }

    /// Lets the source release the revoked streams that have nothing left to commit.
    fn release(&mut self) {
        if self.unreleased.is_empty() {
            return;
        }
        let is_done = |stream: &Arc<Stream>| self.background.is_none() && !self.ledger.is_open_for(stream);
        let (done, left) = std::mem::take(&mut self.unreleased).into_iter().partition(is_done);
        self.unreleased = left;
        if !done.is_empty() {
            self.ledger.forget_revoked();
            self.context.commander.tell(Command::Release(done));
        }
    }

    fn show_oldest(&self) {
        let oldest = [self.oldest, self.oldest_in_commit, self.parking.oldest()].into_iter().flatten().min();
        self.context.metrics.oldest(self.context.kind, oldest);
    }

    async fn close(self) {
        if let Some(background) = self.background {
            background.abort();
        }
        if let Some(committer) = self.committer {
            committer.close().await;
        }
    }
}

fn show_spent(metrics: &Metrics, builder: &mut Builder, started: Instant) {
    let encoding = builder.take_encoding_time();
    metrics.spent("encode", encoding);
    metrics.spent("decode", started.elapsed().saturating_sub(encoding));
}
