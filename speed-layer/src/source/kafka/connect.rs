//! The client: its settings, and a first look at the topics.

use std::sync::Arc;
use std::time::Duration;

use adlake_domain::event::EventKind;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::group::Group;
use crate::error::SpeedError;
use crate::record::StreamFormat;
use crate::settings::{Format, SpeedSettings};

/// A topic that is read.
pub struct Topic {
    pub kind: EventKind,
    pub name: String,
    pub format: StreamFormat,
}

/// The configured topics; an error where there is none.
pub fn topics(settings: &SpeedSettings) -> Result<Vec<Topic>, SpeedError> {
    let topic = |kind: EventKind| {
        let source = settings.sources.of(kind);
        let format = match source.format(kind) {
            Format::Json => StreamFormat::Json,
            Format::Csv => StreamFormat::Csv { header: None, delimiter: None },
            Format::Avro => StreamFormat::AvroMessage,
        };
        Topic { kind, name: source.topic(kind).to_owned(), format }
    };
    let topics: Vec<Topic> = EventKind::ALL.into_iter().map(topic).filter(|topic| !topic.name.is_empty()).collect();
    if topics.is_empty() { Err(SpeedError::settings("sources", "no topic is named")) } else { Ok(topics) }
}

/// A consumer that has not subscribed yet. Nothing is asked of the broker.
pub fn consumer(settings: &SpeedSettings) -> Result<Arc<BaseConsumer<Group>>, SpeedError> {
    let created = client_config(settings).create_with_context(Group::default());
    created.map(Arc::new).map_err(|error| failed("cannot set up the client", error))
}

fn client_config(settings: &SpeedSettings) -> ClientConfig {
    let kafka = &settings.kafka;
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
        .set("client.id", "adlake")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("queued.max.messages.kbytes", (kafka.fetch_bytes_max >> 10).max(1).to_string())
        .set("fetch.error.backoff.ms", "200");
    for (key, value) in &kafka.properties {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error");
    config
}

/// The partitions of a topic, as the broker tells them.
pub fn partitions(
    consumer: &BaseConsumer<Group>,
    topic: &Topic,
    brokers: &str,
    timeout: Duration,
) -> Result<Vec<i32>, SpeedError> {
    let metadata = consumer
        .fetch_metadata(Some(&topic.name), timeout)
        .map_err(|error| failed(format!("no answer from {brokers}"), error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.name) else {
        return Err(failed(
            format!("{brokers} says nothing about topic {}", topic.name),
            KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
        ));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(found.partitions().iter().map(|partition| partition.id()).collect()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(SpeedError::settings(
            format!("sources.{}.topic", topic.kind),
            format!("{brokers} has no topic {}: create it, or set this to \"\" to ingest without it", topic.name),
        )),
        Some(code) => Err(failed(format!("topic {} cannot be read", topic.name), KafkaError::MetadataFetch(code))),
    }
}

/// An error of the client.
pub fn failed(what: impl Into<String>, source: KafkaError) -> SpeedError {
    SpeedError::Kafka { what: what.into(), source }
}
