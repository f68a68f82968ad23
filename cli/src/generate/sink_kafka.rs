//! Produces records to Kafka. They are keyed by user, and the producer is idempotent, so each
//! record is there exactly once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use adlake_domain::event::EventKind;
use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use crate::generate::knobs::place;
use crate::generate::sink::Sink;
use crate::generate::sink_files::Compression;

const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
const POLL_EVERY: u32 = 256;
const ADMIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The broker and the topics.
#[derive(Debug, Clone)]
pub struct KafkaTarget {
    pub brokers: String,
    /// By kind, in the order of [`EventKind::ALL`].
    pub topics: [String; 3],
    /// Partitions of a topic that is created.
    pub partitions: i32,
    pub compression: Compression,
    /// Further properties of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl KafkaTarget {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    /// Creates the missing topics of the kinds that are sent.
    pub async fn create_topics(&self, kinds: [bool; 3]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().context("cannot set up the Kafka client")?;
        let topics: Vec<NewTopic<'_>> = (self.topics.iter().zip(kinds))
            .filter(|(topic, sent)| *sent && !topic.is_empty())
            .map(|(topic, _)| NewTopic::new(topic, self.partitions, TopicReplication::Fixed(-1)))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
        let created = admin
            .create_topics(&topics, &options)
            .await
            .with_context(|| format!("Kafka at {} does not answer", self.brokers))?;
        for topic in created {
            match topic {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, error)) => bail!("cannot create the topic {topic} on {}: {error}", self.brokers),
            }
        }
        Ok(())
    }
}

/// Produces to Kafka.
pub struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    target: KafkaTarget,
    sent: u32,
}

/// Keeps the error of the first record that could not be delivered.
struct Deliveries {
    failure: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    fn stats(&self, _statistics: Statistics) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, message)) = result
            && let Ok(mut failure) = self.failure.lock()
            && failure.is_none()
        {
            *failure = Some(format!("a record of {} was not delivered: {error}", message.topic()));
        }
    }
}

impl KafkaSink {
    /// A producer for these topics.
    pub fn create(target: &KafkaTarget) -> Result<KafkaSink> {
        let mut config = target.client();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("batch.size", "262144")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "131072")
            .set("message.timeout.ms", "60000");
        match target.compression {
            Compression::None => {}
            Compression::Gzip => _ = config.set("compression.type", "gzip"),
            Compression::Zstd => _ = config.set("compression.type", "zstd"),
        }
        let producer = config
            .create_with_context(Deliveries { failure: Mutex::new(None) })
            .context("cannot set up the Kafka producer")?;
        Ok(KafkaSink { producer, target: target.clone(), sent: 0 })
    }

    fn check(&self) -> Result<()> {
        let failure = self.producer.context().failure.lock().ok().and_then(|failure| failure.clone());
        match failure {
            Some(failure) => Err(anyhow!("{failure} (Kafka at {})", self.target.brokers)),
            None => Ok(()),
        }
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<()> {
        let topic = &self.target.topics[place(kind)];
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(20));
                    self.check()?;
                    record = back;
                }
                Err((error, _)) => bail!("cannot produce to {topic} on {}: {error}", self.target.brokers),
            }
        }
        self.sent += 1;
        if self.sent >= POLL_EVERY {
            self.sent = 0;
            self.producer.poll(Duration::ZERO);
            self.check()?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    fn finish(&mut self) -> Result<()> {
        let flushed = self.producer.flush(FLUSH_DEADLINE);
        self.check()?;
        flushed.with_context(|| format!("Kafka at {} did not take every record", self.target.brokers))
    }
}
