//! Operations on a cluster for tests: topics, records, offsets. They are synchronous, and can also
//! be used inside a tokio runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::{Broker, POLL_TIMEOUT};
use crate::wait;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The payloads of a topic, per partition, in order of offset.
pub type Payloads = BTreeMap<i32, Vec<Vec<u8>>>;

impl Broker {
    /// Creates a topic with `partitions` partitions. Returns when each of them has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Like [`Broker::create_topic`], with settings of the topic (`retention.ms`, ...).
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let topic =
            settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| {
                topic.set(key, value)
            });
        let results = block_on(self.admin()?.create_topics([&topic], &admin_options()))?;
        all_done(results).with_context(|| format!("cannot create the topic {name}"))?;
        self.wait_for_leaders(name, partitions)
    }

    /// Raises the number of a topic's partitions to `partitions`. Returns when each of them has a
    /// leader.
    pub fn add_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        let more = NewPartitions::new(name, usize::try_from(partitions)?);
        let results = block_on(self.admin()?.create_partitions([&more], &admin_options()))?;
        all_done(results).with_context(|| format!("cannot add partitions to the topic {name}"))?;
        self.wait_for_leaders(name, partitions)
    }

    fn wait_for_leaders(&self, name: &str, partitions: i32) -> Result<()> {
        let consumer = self.consumer("adlake-tests-metadata")?;
        let what = format!("leaders of the topic {name}");
        wait::until(REQUEST_TIMEOUT, &what, || {
            consumer.fetch_metadata(Some(name), POLL_TIMEOUT).is_ok_and(|metadata| {
                let leaders = metadata.topics().iter().flat_map(|topic| topic.partitions()).filter(|p| p.leader() >= 0);
                i32::try_from(leaders.count()) == Ok(partitions)
            })
        })
    }

    /// Deletes a topic. Returns when the topic is gone from the metadata, so that it can be created
    /// again.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let results = block_on(self.admin()?.delete_topics(&[name], &admin_options()))?;
        all_done(results).with_context(|| format!("cannot delete the topic {name}"))?;
        let consumer = self.consumer("adlake-tests-metadata")?;
        wait::until(REQUEST_TIMEOUT, &format!("the end of the topic {name}"), || {
            consumer
                .fetch_metadata(None, POLL_TIMEOUT)
                .is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.name() != name))
        })
    }

    /// Drops the records of a partition before `offset`, as retention does.
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        let results = block_on(self.admin()?.delete_records(&offsets, &admin_options()))?;
        for result in results.elements() {
            result.error().with_context(|| format!("cannot delete records of {topic} {partition}"))?;
        }
        Ok(())
    }

    /// Produces one record per payload, to `partition` or spread over all partitions. Returns when
    /// all are acknowledged.
    pub fn produce<P: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: Option<i32>,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<()> {
        let failures = Arc::new(Mutex::new(Vec::new()));
        let mut config = self.client_config();
        config.set("linger.ms", "5").set("message.timeout.ms", "30000").set("sticky.partitioning.linger.ms", "0");
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries { failures: Arc::clone(&failures) })?;
        for payload in payloads {
            let mut record = BaseRecord::<(), [u8]>::to(topic).payload(payload.as_ref());
            record.partition = partition;
            while let Err((error, unsent)) = producer.send(record) {
                ensure!(
                    error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                    "cannot produce to {topic}: {error}"
                );
                producer.poll(POLL_TIMEOUT);
                record = unsent;
            }
        }
        producer.flush(REQUEST_TIMEOUT).with_context(|| format!("cannot produce to {topic}"))?;
        let failures = failures.lock().map_err(|_| anyhow!("a delivery callback panicked"))?;
        if let Some(first) = failures.first() {
            bail!("{} records were not delivered to {topic}: {first}", failures.len());
        }
        Ok(())
    }

    /// All records that a topic holds now.
    pub fn records(&self, topic: &str) -> Result<Payloads> {
        self.read(topic, |message| message.payload().unwrap_or_default().to_vec())
    }

    /// The time at which each record of a topic was produced, in milliseconds since 1970.
    pub fn produced_at(&self, topic: &str) -> Result<BTreeMap<i32, Vec<i64>>> {
        self.read(topic, |message| message.timestamp().to_millis().unwrap_or_default())
    }

    /// Applies `of` to every record that a topic holds now. The results are grouped by partition,
    /// in order.
    fn read<T>(&self, topic: &str, of: impl Fn(&BorrowedMessage<'_>) -> T) -> Result<BTreeMap<i32, Vec<T>>> {
        let ends = self.end_offsets(topic)?;
        let consumer = self.consumer(&super::unique("adlake-tests-read"))?;
        let mut assignment = TopicPartitionList::new();
        for partition in ends.keys() {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut read: BTreeMap<i32, Vec<T>> = ends.keys().map(|partition| (*partition, Vec::new())).collect();
        let mut unread = BTreeMap::new();
        for (partition, end) in &ends {
            let (start, _) = consumer.fetch_watermarks(topic, *partition, REQUEST_TIMEOUT)?;
            if start < *end {
                unread.insert(*partition, *end);
            }
        }
        wait::value(REQUEST_TIMEOUT, &format!("the records of {topic}"), || {
            while !unread.is_empty() {
                let Some(message) = consumer.poll(POLL_TIMEOUT) else { return Ok(None) };
                let message = message.with_context(|| format!("cannot read {topic}"))?;
                read.entry(message.partition()).or_default().push(of(&message));
                if unread.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                    unread.remove(&message.partition());
                }
            }
            Ok(Some(()))
        })?;
        Ok(read)
    }

    /// The next offset of each partition: the position of a reader that has read everything.
    pub fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let consumer = self.consumer("adlake-tests-offsets")?;
        self.partitions(&consumer, topic)?
            .into_iter()
            .map(|partition| {
                let (_, end) = consumer
                    .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                    .with_context(|| format!("cannot get the offsets of {topic} {partition}"))?;
                Ok((partition, end))
            })
            .collect()
    }

    /// The offsets of a topic that the consumer group `group` has committed. Partitions without a
    /// commit are absent.
    pub fn committed_offsets(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let consumer = self.consumer(group)?;
        let mut asked = TopicPartitionList::new();
        for partition in self.partitions(&consumer, topic)? {
            asked.add_partition(topic, partition);
        }
        let committed = consumer
            .committed_offsets(asked, REQUEST_TIMEOUT)
            .with_context(|| format!("cannot get the offsets of the group {group}"))?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error().with_context(|| format!("{topic} {}", element.partition()))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// A consumer in the group `group`. It neither subscribes nor commits by itself.
    pub fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        let mut config = self.client_config();
        config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        config.create().with_context(|| format!("cannot make a consumer of {}", self.bootstrap))
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
        let metadata = consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .with_context(|| format!("cannot get the metadata of {topic}"))?;
        let partitions: Vec<i32> =
            metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
        ensure!(!partitions.is_empty(), "there is no topic {topic} at {}", self.bootstrap);
        Ok(partitions)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client_config().create().with_context(|| format!("cannot make an admin client of {}", self.bootstrap))
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("reconnect.backoff.max.ms", "500");
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }
}

/// Keeps the failed deliveries, which a producer reports nowhere else.
struct Deliveries {
    failures: Arc<Mutex<Vec<KafkaError>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Ok(mut failures) = self.failures.lock()
        {
            failures.push(error.clone());
        }
    }
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

fn all_done(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        result.map_err(|(name, code)| anyhow!("{name}: {code}"))?;
    }
    Ok(())
}
