//! Produces records to Kafka. They are keyed by user, and the producer is idempotent, so each
//! record is there exactly once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_domain::secret::Secret;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use crate::error::TrafficError;
use crate::plan::kind_index;
use crate::sink::{Compression, Sink};

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
    /// Further properties of librdkafka. Some are passwords.
    pub properties: BTreeMap<String, Secret>,
}

impl KafkaTarget {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in &self.properties {
            config.set(key, value.expose());
        }
        config
    }

    fn error(&self, action: impl Into<String>, source: KafkaError) -> TrafficError {
        match source {
            KafkaError::ClientConfig(_, problem, property, _) => TrafficError::Property { property, problem },
            source => {
                TrafficError::Kafka { brokers: self.brokers.clone(), action: action.into(), source: Box::new(source) }
            }
        }
    }

    /// Creates the missing topics of the kinds that are sent.
    pub async fn create_topics(&self, kinds: [bool; 3]) -> Result<(), TrafficError> {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().map_err(|error| self.error("cannot set up the client", error))?;
        let topics: Vec<NewTopic<'_>> = (self.topics.iter().zip(kinds))
            .filter(|(topic, sent)| *sent && !topic.is_empty())
            .map(|(topic, _)| NewTopic::new(topic, self.partitions, TopicReplication::Fixed(-1)))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
        let created = admin.create_topics(&topics, &options).await;
        for topic in created.map_err(|error| self.error("does not answer: is it running at this address?", error))? {
            match topic {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(self.error(format!("cannot create the topic {topic}"), KafkaError::AdminOp(code)));
                }
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

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Keeps the topic and the error of the first record that could not be delivered.
struct Deliveries {
    failure: Mutex<Option<(String, KafkaError)>>,
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
            *failure = Some((message.topic().to_owned(), error.clone()));
        }
    }
}

impl KafkaSink {
    /// A producer for these topics.
    pub fn create(target: &KafkaTarget) -> Result<KafkaSink, TrafficError> {
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
            .map_err(|error| target.error("cannot set up the producer", error))?;
        Ok(KafkaSink { producer, target: target.clone(), sent: 0 })
    }

    fn check(&self) -> Result<(), TrafficError> {
        match self.producer.context().failure.lock().ok().and_then(|failure| failure.clone()) {
            Some((topic, error)) => Err(self.target.error(format!("a record of {topic} was not delivered"), error)),
            None => Ok(()),
        }
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<(), TrafficError> {
        let topic = &self.target.topics[kind_index(kind)];
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(20));
                    self.check()?;
                    record = back;
                }
                Err((error, _)) => return Err(self.target.error(format!("cannot produce to {topic}"), error)),
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

    fn pause(&mut self) -> Result<(), TrafficError> {
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    fn finish(&mut self) -> Result<(), TrafficError> {
        let flushed = self.producer.flush(FLUSH_DEADLINE);
        self.check()?;
        flushed
            .map_err(|error| self.target.error(format!("has not taken every record within {FLUSH_DEADLINE:?}"), error))
    }
}
