//! Kafka topics as a source. A consumer group shares out the partitions; the lake says at which
//! offset each one begins.
//!
//! One thread polls the group and takes messages in batches ([`batch_queue`]). While the pipeline
//! has no room, messages stay in librdkafka's queue, which is bounded, and the thread goes on
//! polling the group. A slow lake therefore never costs this process its membership.
//!
//! What always holds:
//!
//! - Nothing is resumed from the group's own offsets. They are committed after the lake's commit,
//!   for lag exporters, and for other workers that run until the end ([`until_end`]).
//! - Ingest stops at an offset that the broker does not have ([`position`]), and when a topic was
//!   deleted or recreated ([`tend`]).
//! - Topics that do not exist are refused. So are librdkafka properties that would break the
//!   contract of [`super`].

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use adlake_lake::failpoint;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::record::{Chunk, Stream};
use crate::settings::{KafkaSettings, SpeedSettings};
use crate::source::{CHUNK_BYTES, Command, Next, Port, Source, Start};

mod connect;
mod group;
mod partitions;
mod position;
mod slot;
pub mod survey;
mod tend;
mod watch;
mod topics;
mod ends;
mod repeats;
mod batch_queue;
mod token;
mod msk_iam;
mod until_end;
#[cfg(test)]
mod tests;

use batch_queue::{BatchQueue, Item};
use connect::{Topic, failed};
use ends::Ends;
use group::{Change, Group, Place};
use repeats::Admitted;
use slot::{Slot, State, find};
use topics::Inquiry;
use until_end::{Bounds, UntilEnd};
use watch::ListeningTime;

/// The most messages taken at a time.
const BATCH_MAX: usize = 4096;
/// How long a batch may take to fill. Commands and rebalances wait as long.
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// How long the broker may take to answer with a partition's first and last offsets. After that it
/// is asked again.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(5);
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a retry when the broker did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long an assignment is awaited after partitions were revoked.
const MOVING_MAX: Duration = Duration::from_secs(15);
/// How long the group may take to answer the last commits of offsets, while this consumer leaves.
const LAST_COMMITS_MAX: Duration = Duration::from_secs(2);
/// How long the client may take to leave the group.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// How many events of the group are served between two batches.
const GROUP_EVENTS_MAX: usize = 16;

/// The topics of the configuration as one source.
pub struct KafkaSource {
    // Declared before the consumer: queues are destroyed before their client.
    queue: BatchQueue<Group>,
    inquiry: Inquiry<Group>,
    ends: Ends<Group>,
    consumer: Arc<BaseConsumer<Group>>,
    settings: KafkaSettings,
    cluster: String,
    topics: Vec<Topic>,
    record_bytes_max: usize,
    revoke_deadline: Duration,
    /// Present in a run that reads up to the end and stops.
    until_end: Option<UntilEnd>,

    slots: Vec<Slot>,
    membership: Membership,
    /// The group has assigned partitions and waits for the answer. The answer follows once each
    /// partition has its start.
    assigning: bool,
    revoking: Option<Revoking>,
    /// Starts that cannot be made yet.
    starts: Vec<Start>,
    /// The offsets at which this run began partitions that the lake had not seen.
    begun: HashMap<Place, i64>,
    retry_at: Instant,
    acknowledged: HashMap<Place, i64>,
    /// How many remedies a silent partition had had when it was revoked. Rejoining the group is
    /// itself a remedy, so the partition may be assigned again: its count must survive that.
    in_vain: HashMap<Place, u32>,
    tended_at: Instant,
    inquired_at: Instant,
    listened: ListeningTime,
    record_bytes_average: usize,
    /// Nothing is read now, because the pipeline has no room.
    is_full: bool,
    stopped: bool,
    done_sent: Option<u64>,
    starts_executed: u64,
}

/// What the group has said about this consumer's partitions. While partitions move between
/// consumers, holding none does not mean that everything is read.
enum Membership {
    /// The group has not answered yet.
    Joining,
    /// The partitions are assigned.
    Settled,
    /// Partitions were revoked at this moment. Another assignment follows, possibly an empty one,
    /// which not every group protocol announces.
    Moving(Instant),
}

impl Membership {
    fn is_settled(&self) -> bool {
        match self {
            Membership::Joining => false,
            Membership::Settled => true,
            Membership::Moving(since) => since.elapsed() >= MOVING_MAX,
        }
    }
}

struct Revoking {
    places: Vec<Place>,
    deadline: Instant,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let topics: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        f.debug_struct("KafkaSource").field("cluster", &self.cluster).field("topics", &topics).finish_non_exhaustive()
    }
}

impl KafkaSource {
    /// Connects to the cluster and looks up the topics. Blocks, but gives up a broker that does not
    /// answer once `cancel` is cancelled. With `until_end`, reading ends where the partitions end
    /// now.
    pub fn connect(
        settings: &SpeedSettings,
        until_end: bool,
        cancel: &CancellationToken,
    ) -> Result<KafkaSource, SpeedError> {
        let kafka = &settings.kafka;
        let mut topics = connect::topics(settings)?;
        let consumer = connect::consumer(settings)?;
        let no_queue = || failed("cannot create a queue", KafkaError::ClientCreation("out of memory".to_owned()));
        let queue = BatchQueue::new(consumer.clone()).ok_or_else(no_queue)?;
        let mut inquiry = Inquiry::new(consumer.clone()).ok_or_else(no_queue)?;
        let ends = Ends::new(consumer.clone()).ok_or_else(no_queue)?;
        connect::first_contact(&consumer, kafka, &topics[0].name, cancel)?;
        connect::look_at(&mut topics, &consumer, &mut inquiry, kafka)?;
        let mut bounds = HashMap::new();
        for topic in topics.iter().filter(|_| until_end) {
            for partition in 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX) {
                let (low, high) =
                    consumer.fetch_watermarks(&topic.name, partition, kafka.start_timeout).map_err(|error| {
                        failed(format!("cannot find the end of {} partition {partition}", topic.name), error)
                    })?;
                bounds.insert((topic.name.clone(), partition), Bounds { low, high });
            }
        }
        let cluster = match &kafka.cluster {
            Some(cluster) => cluster.clone(),
            None => consumer.client().fetch_cluster_id(kafka.start_timeout).ok_or_else(|| {
                SpeedError::settings(
                    "kafka.cluster",
                    "the cluster does not tell its id: set a name for the cluster here",
                )
            })?,
        };
        let until_end = if until_end {
            let (session_timeout, heartbeat_interval) = connect::liveness(settings)?;
            Some(UntilEnd::new(bounds, session_timeout, heartbeat_interval))
        } else {
            None
        };
        let now = Instant::now();
        Ok(KafkaSource {
            queue,
            inquiry,
            ends,
            consumer,
            settings: kafka.clone(),
            cluster,
            topics,
            record_bytes_max: settings.ingest.record_bytes_max,
            revoke_deadline: settings.ingest.revoke_deadline,
            until_end,
            slots: Vec::new(),
            membership: Membership::Joining,
            assigning: false,
            revoking: None,
            starts: Vec::new(),
            begun: HashMap::new(),
            retry_at: now,
            acknowledged: HashMap::new(),
            in_vain: HashMap::new(),
            tended_at: now,
            inquired_at: now,
            listened: ListeningTime::default(),
            record_bytes_average: 1024,
            is_full: false,
            stopped: false,
            done_sent: None,
            starts_executed: 0,
        })
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &'static str {
        "adlake-kafka"
    }

    fn run(mut self: Box<Self>, port: &mut Port) -> Result<(), SpeedError> {
        self.subscribe()?;
        let result = self.work(port);
        self.leave();
        close(self);
        result
    }
}

/// Closes the client, which leaves the group. Without a broker that would take long, and it is not
/// waited for: the group finds out by itself that this consumer is gone.
fn close(source: Box<KafkaSource>) {
    let (closed, wait) = mpsc::channel();
    let closing = thread::Builder::new().name("adlake-kafka-close".to_owned()).spawn(move || {
        drop(source);
        let _ = closed.send(());
    });
    // Without a thread, the closure was dropped, and the source with it.
    if closing.is_ok() && wait.recv_timeout(CLOSE_MAX).is_err() {
        tracing::warn!("the brokers do not answer while the consumer group is left; it is not waited for");
    }
}

impl KafkaSource {
    fn subscribe(&self) -> Result<(), SpeedError> {
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        self.consumer.subscribe(&names).map_err(|error| failed("cannot subscribe", error))
    }

    fn work(&mut self, port: &mut Port) -> Result<(), SpeedError> {
        while self.turn(port)? {}
        Ok(())
    }

    /// Does one round of everything that is due. `false`: the pipeline is gone.
    fn turn(&mut self, port: &mut Port) -> Result<bool, SpeedError> {
        loop {
            match port.next_command(Duration::ZERO) {
                Next::Command(command) => self.execute(command, port),
                Next::Nothing => break,
                Next::Closed => return Ok(false),
            }
        }
        self.serve_group(port)?;
        self.start(port)?;
        self.release_if_due()?;
        self.tell_if_done(port);
        self.tend(port)?;
        self.is_full = !self.stopped && !port.has_room(BATCH_WAIT);
        if self.stopped || self.is_full {
            // Messages wait in librdkafka. The group is polled all the same.
            if self.stopped
                && let Next::Command(command) = port.next_command(BATCH_WAIT)
            {
                self.execute(command, port);
            }
        } else {
            self.read(port);
        }
        Ok(true)
    }

    fn execute(&mut self, command: Command, port: &Port) {
        match command {
            Command::Start(starts) => {
                self.starts_executed += 1;
                for start in starts {
                    self.starts.retain(|waiting| waiting.stream != start.stream);
                    self.starts.push(start);
                }
                self.retry_at = Instant::now();
            }
            Command::Release(streams) => {
                if let Some(revoking) = &mut self.revoking {
                    revoking.places.retain(|place| !streams.iter().any(|stream| is(stream, place)));
                }
            }
            Command::Skip(streams) => self.skip(&streams),
            Command::Acknowledge(positions) => {
                let mut list = TopicPartitionList::new();
                for (stream, position) in positions {
                    let ours = self.slots.iter().any(|slot| slot.stream == stream);
                    if ours && add(&mut list, &stream.source, stream.partition, position) {
                        self.acknowledged.insert((stream.source.clone(), stream.partition), position);
                    }
                }
                self.commit_offsets(&list);
                failpoint::hit(failpoint::AFTER_ACKNOWLEDGE);
            }
            Command::Stop => {
                self.stopped = true;
                for slot in &mut self.slots {
                    slot.chunk = Chunk::default();
                }
                port.tell_done();
            }
        }
    }

    /// Commits offsets of the group, without waiting for the answer.
    fn commit_offsets(&self, list: &TopicPartitionList) {
        if list.count() == 0 {
            return;
        }
        match self.consumer.commit(list, CommitMode::Async) {
            Ok(()) => self.consumer.context().commit_sent(),
            Err(error) => tracing::debug!(%error, "the consumer group's offsets were not committed"),
        }
    }

    /// Commits the group's offsets once more if the group has not taken all of them, and waits for
    /// its answers, unless they take long: the broker may be gone.
    fn acknowledge_last(&mut self) {
        let group = self.consumer.context();
        if group.take_refusal() || group.has_open_commits() {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), position) in self.acknowledged.drain() {
                add(&mut list, &topic, partition, position);
            }
            self.commit_offsets(&list);
        }
        let started = Instant::now();
        while group.has_open_commits() && started.elapsed() < LAST_COMMITS_MAX {
            drop(self.consumer.poll(BATCH_WAIT));
        }
    }

    /// Polls the group's events: assignments, revocations, errors that concern no partition.
    fn serve_group(&mut self, port: &Port) -> Result<(), SpeedError> {
        for _ in 0..GROUP_EVENTS_MAX {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Ok(message)) => {
                    // Only partitions that are not attached to the batch queue would deliver here,
                    // and every assigned partition is attached.
                    drop(message);
                    return Err(SpeedError::Ended("the forwarding of a partition"));
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(failed("the client cannot continue", error));
                }
                Some(Err(error)) => {
                    if let Some(Admitted { left_out }) = self.consumer.context().admit_line("group") {
                        tracing::warn!(%error, left_out, "kafka");
                    }
                }
            }
        }
        while let Some(change) = self.consumer.context().next_change() {
            match change {
                Change::Assigned(places) => self.assigned(places, port),
                Change::Revoked(places) => self.revoked(places, port),
            }
        }
        Ok(())
    }

    fn read(&mut self, port: &Port) {
        let count = (2 * CHUNK_BYTES / self.record_bytes_average.max(1)).clamp(1, BATCH_MAX);
        let (slots, limit) = (&mut self.slots, self.record_bytes_max);
        let mut bytes = 0;
        let mut last = 0;
        let mut astray = Vec::new();
        let (listened, started) = (self.listened, Instant::now());
        let group = self.consumer.context();
        let taken = self.queue.consume(count, BATCH_WAIT, |item| match item {
            Item::Record { topic, partition, offset, time_ms, key, payload } => {
                bytes += payload.len() + key.map_or(0, <[u8]>::len);
                let Some(index) = find(slots, last, topic, partition) else { return };
                last = index;
                let slot = &mut slots[index];
                if slot.state != State::Reading || offset < slot.next {
                    return;
                }
                slot.note_arrival(listened);
                if slot.end.is_some_and(|end| offset >= end) {
                    slot.pass(offset, port);
                    return;
                }
                slot.take(offset, time_ms.map(|time| time.saturating_mul(1_000)), key, payload, limit, port);
            }
            Item::End { topic, partition, offset } => {
                let Some(index) = find(slots, last, topic, partition) else { return };
                let slot = &mut slots[index];
                if slot.state == State::Reading {
                    slot.note_arrival(listened);
                    slot.pass(offset, port);
                    slot.catch_up(port);
                }
            }
            Item::Failed { topic, partition, code, reason } => {
                if let Some(Admitted { left_out }) = group.admit_line(&code.to_string()) {
                    tracing::warn!(topic, partition, %code, %reason, left_out, "kafka: a partition cannot be read now");
                }
                if matches!(
                    code,
                    RDKafkaErrorCode::AutoOffsetReset
                        | RDKafkaErrorCode::OffsetOutOfRange
                        | RDKafkaErrorCode::LogTruncation
                ) {
                    astray.extend(find(slots, last, topic, partition));
                }
            }
        });
        self.listened.add(started.elapsed());
        for slot in &mut self.slots {
            slot.deliver(port);
        }
        if let Some(average) = bytes.checked_div(taken) {
            // A few long records among many short ones shorten the batch at once; short records
            // lengthen it slowly.
            self.record_bytes_average = average.max((self.record_bytes_average * 7 + average) / 8);
        }
        for index in astray {
            self.find_again(index);
        }
    }

    /// Leaves the group and tells it how far this consumer came. Partitions that are still
    /// assigned, or whose revocation is not answered, are given back at once.
    fn leave(&mut self) {
        self.consumer.context().close();
        self.acknowledge_last();
        if self.revoking.take().is_some() || self.assigning {
            // The group waits for the answer to its last change. While leaving, any answer will do.
            let unassigned = if group::is_cooperative(&self.consumer) {
                let mut revoked = TopicPartitionList::new();
                for slot in self.slots.iter().filter(|slot| slot.state == State::Revoked && slot.is_assigned) {
                    revoked.add_partition(&slot.stream.source, slot.stream.partition);
                }
                if self.assigning {
                    self.consumer.incremental_assign(&TopicPartitionList::new())
                } else {
                    self.consumer.incremental_unassign(&revoked)
                }
            } else {
                self.consumer.unassign()
            };
            if let Err(error) = unassigned {
                tracing::debug!(%error, "the last rebalance was not answered before leaving the group");
            }
        }
    }
}

fn is(stream: &Stream, place: &Place) -> bool {
    stream.source == place.0 && stream.partition == place.1
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: i64) -> bool {
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).is_ok()
}
