//! One table's part of the pipeline: its records, its rows in the making, its commits, one after another.
//!
//! While a batch is being committed the next one is built; it is committed when the first is in, and until then at most
//! one batch is built ahead. Whatever does not go as expected (somebody else committed, the store does not answer) ends in the same
//! place: everything in memory is dropped, and every stream is looked up and started again from what the lake has
//! stored. While the store does not answer, nothing is held in memory, and looking up is what is tried again ([`look_up`]).
//!
//! Records whose schemas are not known yet are parked, in order, with all that comes behind them, while the registry is asked; what was
//! taken before is committed meanwhile. Parked records are not taken: nothing but memory knows of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::flush::{Due, FlushPolicy, Held};
use super::ledger::Ledger;
use super::marks::Marks;
use super::parking::{Answered, Asker, Parking, Pass};
use super::stopped::Stopped;
use crate::error::SpeedError;
use crate::metrics::{Metrics, now_micros};
use crate::record::Stream;
use crate::registry::Registry;
use crate::source::{Command, Commander, Event, Records};
use crate::write::{Builder, Committer};

mod landing;
mod look_up;
mod worker;

use landing::{Landed, landed};
pub use worker::Worker;

/// The most events taken at a time.
const EVENTS_MAX: usize = 8;

/// What the pipeline tells a lane.
#[derive(Debug)]
pub enum Order {
    /// What the source says of this table's streams.
    Event(Event),
    /// Commit everything taken so far, and say when nothing is left to be done.
    Drain(oneshot::Sender<()>),
}

/// What a lane is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its table's kind of event.
    pub kind: EventKind,
    /// The rows in the making.
    pub builder: Builder,
    /// Where they are made.
    pub worker: Worker,
    /// The commits.
    pub committer: Committer,
    /// Where schemas are looked up, if anywhere.
    pub registry: Option<Arc<Registry>>,
    /// When to commit.
    pub policy: FlushPolicy,
    /// The longest pause between attempts while the store does not answer.
    pub retry_pause_max: Duration,
    /// Whether a first start is written down though nothing was read.
    pub pin_first_start: bool,
    /// The source.
    pub commander: Commander,
    /// The generations of starts, of all lanes.
    pub generations: Arc<AtomicU64>,
    /// Where it counts.
    pub metrics: Metrics,
    /// The run is being stopped: outages are not waited for any longer.
    pub stopping: CancellationToken,
    /// Where it says that its table is stopped.
    pub notice: mpsc::UnboundedSender<EventKind>,
}

/// One table's part of the pipeline.
pub struct Lane {
    parts: LaneParts,
    orders: mpsc::UnboundedReceiver<Order>,
    ledger: Ledger,
    marks: Marks,
    /// Absent while the worker has it.
    builder: Option<Builder>,
    worker: Worker,
    /// Absent while something is under way.
    committer: Option<Committer>,
    under_way: Option<JoinHandle<(Committer, Landed)>>,
    /// Chunks that need schemas which are not known yet, and those behind them.
    parking: Parking,
    /// What was given up when the run was stopped.
    given_up: Option<String>,
    /// Streams whose stored positions have to be looked up.
    unstarted: Vec<Arc<Stream>>,
    /// Whether looking up begins with a pause.
    pause_first: bool,
    /// Revoked streams that the source waits for.
    unreleased: Vec<Arc<Stream>>,
    drains: Vec<oneshot::Sender<()>>,
    since: Option<Instant>,
    /// How much earlier than usual the next commit is.
    early: Duration,
    oldest: Option<i64>,
    /// The same of the batch that is being committed.
    oldest_under_way: Option<i64>,
}

struct LaneParts {
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
        f.debug_struct("Lane").field("kind", &self.parts.kind).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane that takes orders.
    pub fn new(parts: Parts, orders: mpsc::UnboundedReceiver<Order>) -> Lane {
        let Parts { kind, builder, worker, committer, policy, .. } = parts;
        let asker = Asker {
            kind,
            metrics: parts.metrics.clone(),
            retry_pause_max: parts.retry_pause_max,
            stopping: parts.stopping.clone(),
        };
        Lane {
            parts: LaneParts {
                kind,
                policy,
                retry_pause_max: parts.retry_pause_max,
                pin_first_start: parts.pin_first_start,
                commander: parts.commander,
                generations: parts.generations,
                metrics: parts.metrics,
                stopping: parts.stopping,
                notice: parts.notice,
            },
            orders,
            ledger: Ledger::default(),
            marks: Marks::default(),
            builder: Some(builder),
            worker,
            committer: Some(committer),
            under_way: None,
            parking: Parking::new(parts.registry, asker),
            given_up: None,
            unstarted: Vec::new(),
            pause_first: false,
            unreleased: Vec::new(),
            drains: Vec::new(),
            since: None,
            early: Duration::ZERO,
            oldest: None,
            oldest_under_way: None,
        }
    }

    /// Works until there are no more orders. What is not committed then is dropped: it is read again.
    pub async fn run(mut self) -> Result<(), SpeedError> {
        let mut orders = Vec::with_capacity(EVENTS_MAX);
        loop {
            match self.step(&mut orders).await {
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

    /// The next thing there is to do; `false` when there are no more orders.
    async fn step(&mut self, orders: &mut Vec<Order>) -> Result<bool, SpeedError> {
        let due = self.advance().await?;
        let takes_more = !(due == Due::Full && self.under_way.is_some());
        let timer = match due {
            Due::At(at) if self.under_way.is_none() => Some(at),
            _ => None,
        };
        tokio::select! {
            biased;
            landed = landed(&mut self.under_way), if self.under_way.is_some() => self.land(landed?)?,
            answer = self.parking.answer(), if self.parking.is_asking() => {
                self.answered(answer?).await?;
            }
            taken = self.orders.recv_many(orders, EVENTS_MAX), if takes_more => {
                if taken == 0 {
                    return Ok(false);
                }
                self.obey(orders).await?;
            }
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now).into()), if timer.is_some() => {}
        }
        Ok(true)
    }

    /// Its table cannot be written any more: what is in memory is dropped, and the others go on without it.
    async fn stop(mut self, error: SpeedError) -> Result<(), SpeedError> {
        let streams = self.ledger.reset();
        let Lane { parts, orders, parking, builder, committer, unreleased, drains, .. } = self;
        // Parked records give their room back, which the other tables need.
        drop((parking, builder));
        if let Some(committer) = committer {
            committer.close().await;
        }
        let LaneParts { kind, commander, metrics, notice, .. } = parts;
        metrics.oldest(kind, None);
        if !unreleased.is_empty() {
            commander.tell(Command::Release(unreleased));
        }
        Stopped { kind, error, commander, metrics, notice }.run(orders, streams, drains).await
    }

    /// Begins what can be begun. Says when the next commit is due.
    async fn advance(&mut self) -> Result<Due, SpeedError> {
        let mut due = self.due();
        // Before the next commit begins: with a store so slow that there is always one under way nothing would ever be given away.
        self.release();
        if self.committer.is_some() {
            let waited_for = |stream: &Arc<Stream>| self.ledger.is_open_for(stream);
            let hurried = !self.drains.is_empty() || self.unreleased.iter().any(waited_for) || self.ledger.is_pinned();
            if !self.unstarted.is_empty() {
                self.look_up();
            } else if matches!(due, Due::Now | Due::Full) || (hurried && self.ledger.is_open()) {
                self.commit().await?;
                due = self.due();
            }
        }
        self.release();
        if self.under_way.is_none() && !self.ledger.is_open() && self.unstarted.is_empty() && self.parking.is_empty() {
            for drain in self.drains.drain(..) {
                // Who asked may have gone, as at a deadline.
                let _ = drain.send(());
            }
        }
        Ok(due)
    }

    fn due(&self) -> Due {
        let (rows, bytes) = self.builder.as_ref().map_or((0, 0), |builder| (builder.rows(), builder.bytes()));
        self.parts.policy.due(&Held { rows, bytes, since: self.since, early: self.early }, Instant::now())
    }

    async fn obey(&mut self, orders: &mut Vec<Order>) -> Result<(), SpeedError> {
        let mut records = Vec::new();
        for order in orders.drain(..) {
            match order {
                Order::Event(Event::Records(chunk)) => records.push(chunk),
                other => {
                    // What was handed on before is taken before.
                    self.take(std::mem::take(&mut records), &BTreeSet::new()).await?;
                    self.follow(other);
                }
            }
        }
        self.take(records, &BTreeSet::new()).await
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Drain(drained) => self.drains.push(drained),
            Order::Event(Event::Assigned(streams)) => {
                if streams.iter().any(|stream| self.ledger.is_open_for(stream)) {
                    // It was ours before, and came back before what was read of it then is committed.
                    self.start_again();
                }
                for stream in streams {
                    if self.ledger.assign(&stream) && !self.unstarted.contains(&stream) {
                        self.unstarted.push(stream);
                    }
                }
            }
            Order::Event(Event::Started { stream, generation, position }) => {
                self.ledger.started(&stream, generation, position, self.parts.pin_first_start);
                if self.ledger.is_open() {
                    self.since.get_or_insert_with(Instant::now);
                }
            }
            Order::Event(Event::Passed { stream, generation, position }) => {
                self.pass(Pass { stream, generation, position });
            }
            Order::Event(Event::Topic { stream, marks }) => self.marks.found(&stream, marks),
            Order::Event(Event::Stalled(stream)) => self.parts.metrics.stalled(&stream),
            Order::Event(Event::Revoked(streams)) => {
                for stream in streams {
                    self.ledger.revoke(&stream);
                    self.unstarted.retain(|unstarted| *unstarted != stream);
                    self.parking.revoke(&stream);
                    self.parts.metrics.not_ours(&stream);
                    self.unreleased.push(stream);
                }
            }
            Order::Event(Event::Behind(streams)) => {
                for (stream, records) in streams {
                    self.parts.metrics.behind(&stream, records);
                }
            }
            Order::Event(Event::Records(_) | Event::CaughtUp { .. } | Event::Consumed(_) | Event::Done { .. }) => {}
        }
    }

    /// Takes what can be decoded at once; the rest waits for its schemas. Once something was given up, nothing behind it is taken.
    async fn take(&mut self, chunks: Vec<Records>, answered: &BTreeSet<u32>) -> Result<(), SpeedError> {
        if self.given_up.is_some() {
            return Ok(());
        }
        let chunks = self.parking.admit(chunks, answered);
        self.show_oldest();
        self.decode(chunks).await
    }

    /// Goes past positions without records, unless records before them are still to be taken.
    fn pass(&mut self, pass: Pass) {
        let pass = if self.given_up.is_some() { None } else { self.parking.hold(pass) };
        if let Some(Pass { stream, generation, position }) = pass {
            self.ledger.pass(&stream, generation, position);
            if self.ledger.is_open() {
                self.since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// The registry has answered, or is not waited for any longer.
    async fn answered(&mut self, answered: Answered) -> Result<(), SpeedError> {
        let Answered { answer, ids, records, passes } = answered;
        if let Err(outage) = answer {
            // It may have been waited for by streams that are no longer ours.
            if !records.is_empty() {
                self.given_up = Some(format!("{}: {outage}", self.parts.kind.raw_table()));
            }
            return Ok(());
        }
        self.take(records, &ids).await?;
        for pass in passes {
            self.pass(pass);
        }
        Ok(())
    }

    /// Decodes, validates, enriches and encodes, on the worker.
    async fn decode(&mut self, chunks: Vec<Records>) -> Result<(), SpeedError> {
        let mut taken = Vec::with_capacity(chunks.len());
        for records in chunks {
            let (stream, generation, chunk) = (&records.stream, records.generation, &records.chunk);
            let which = match chunk.is_cut() {
                false => self.ledger.take(stream, generation, chunk.next().unwrap_or(i64::MIN)),
                true => self.ledger.take_cut(stream, generation, chunk),
            };
            // Others are of before the stream was started again, or known already: they make room here.
            let Some(which) = which else { continue };
            self.oldest = match (self.oldest, records.chunk.oldest()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.parts.metrics.read(self.parts.kind, records.chunk.len(), records.chunk.bytes());
            taken.push((records, which));
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        self.show_oldest();
        let Some(mut builder) = self.builder.take() else { return Err(SpeedError::Ended("decoding")) };
        let metrics = self.parts.metrics.clone();
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

    /// Drops what is in memory; every stream is looked up and started again.
    fn start_again(&mut self) {
        if let Some(builder) = &mut self.builder {
            builder.discard();
        }
        // Of older starts now: they would be dropped one by one.
        self.parking.clear();
        self.since = None;
        self.oldest = None;
        self.show_oldest();
        self.unstarted = self.ledger.reset();
    }

    /// Lets the source give away the revoked streams of which nothing is left to be committed.
    fn release(&mut self) {
        if self.unreleased.is_empty() {
            return;
        }
        let is_done = |stream: &Arc<Stream>| self.under_way.is_none() && !self.ledger.is_open_for(stream);
        let (done, left) = std::mem::take(&mut self.unreleased).into_iter().partition(is_done);
        self.unreleased = left;
        if !done.is_empty() {
            self.ledger.forget_revoked();
            self.parts.commander.tell(Command::Release(done));
        }
    }

    fn show_oldest(&self) {
        let oldest = [self.oldest, self.oldest_under_way, self.parking.oldest()].into_iter().flatten().min();
        self.parts.metrics.oldest(self.parts.kind, oldest);
    }

    async fn close(self) {
        if let Some(under_way) = self.under_way {
            under_way.abort();
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
