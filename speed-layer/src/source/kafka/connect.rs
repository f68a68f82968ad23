//! The Kafka client: its settings, the first contact with the broker, and the first look at the
//! topics.
//!
//! A refusal at the start is an error at once. While ingest runs, a refusal is an outage like any
//! other, since credentials and certificates are renewed under running programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_decode::record::StreamFormat;
use adlake_domain::event::EventKind;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::group::{Complaints, Group, Tokens};
use super::msk_iam::MskIam;
use super::topics::Inquiry;
use crate::error::SpeedError;
use crate::settings::{Format, KafkaAuth, KafkaSettings, SpeedSettings};

/// How long one attempt of the first contact may take. The client's error events are served between
/// attempts.
const ATTEMPT: Duration = Duration::from_millis(500);
/// How long the broker may take to tell the topics' ids, and how long the start waits for them.
const IDS_TIMEOUT: Duration = Duration::from_secs(5);
const IDS_PATIENCE: Duration = Duration::from_secs(1);
/// How many events of the client are served after each attempt.
const EVENTS_MAX: usize = 64;
/// How long secure connections may fail before the settings are blamed. One may fail for another
/// reason, such as a broker that goes down in the middle of the handshake.
const INSECURE_PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes in one fetch response, which may hold many partitions.
const FETCH_BYTES_MAX: usize = 16 << 20;

/// A topic that is read.
pub struct Topic {
    pub kind: EventKind,
    pub name: String,
    pub format: StreamFormat,
    /// A number made of the topic's id. `None`: the broker has not told it.
    pub id: Option<i64>,
    /// The same number as stored in the lake.
    pub stored_id: Option<i64>,
    /// How many partitions it had at the start.
    pub partitions: i64,
    /// In how many of the broker's last answers the topic was missing.
    pub missing: u32,
}

/// The configured topics. It is an error to have none.
pub fn topics(settings: &SpeedSettings) -> Result<Vec<Topic>, SpeedError> {
    let topic = |kind: EventKind| {
        let source = settings.sources.of(kind);
        let format = match source.format(kind) {
            Format::Json => StreamFormat::Json,
            Format::Csv => StreamFormat::CSV,
            Format::Avro => StreamFormat::AvroMessage,
        };
        let name = source.topic(kind).to_owned();
        Topic { kind, name, format, id: None, stored_id: None, partitions: 0, missing: 0 }
    };
    let topics: Vec<Topic> = EventKind::ALL.into_iter().map(topic).filter(|topic| !topic.name.is_empty()).collect();
    if topics.is_empty() {
        Err(SpeedError::settings("sources", "no topic is configured: set the topic of at least one source"))
    } else {
        Ok(topics)
    }
}

/// A consumer that has not subscribed yet. Nothing is asked of the broker.
pub fn consumer(settings: &SpeedSettings) -> Result<Arc<BaseConsumer<Group>>, SpeedError> {
    let kafka = &settings.kafka;
    let tokens = match (kafka.auth, Handle::try_current()) {
        (KafkaAuth::Properties, _) => Tokens::Command(kafka.oauth_token_command.clone()),
        (KafkaAuth::MskIam, Ok(runtime)) => Tokens::MskIam(MskIam { region: kafka.region.clone(), runtime }),
        (KafkaAuth::MskIam, Err(error)) => return Err(SpeedError::settings("kafka.auth", error.to_string())),
    };
    let group = Group::new(tokens);
    match client_config(settings).create_with_context(group) {
        Ok(consumer) => Ok(Arc::new(consumer)),
        // The error does not show the value, which may be a password under a misspelt name.
        Err(KafkaError::ClientConfig(_, problem, key, _)) => {
            Err(SpeedError::settings(format!("kafka.properties.{key:?}"), problem))
        }
        Err(KafkaError::ClientCreation(problem)) => Err(SpeedError::settings("kafka.properties", problem)),
        Err(error) => Err(failed("cannot set up the client", error)),
    }
}

fn client_config(settings: &SpeedSettings) -> ClientConfig {
    let kafka = &settings.kafka;
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
        .set("client.id", "adlake")
        .set("queued.max.messages.kbytes", (kafka.fetch_bytes_max >> 10).max(1).to_string())
        .set("topic.metadata.refresh.interval.ms", kafka.metadata_interval.as_millis().to_string())
        // After its queue was full, the client waits this long before it looks for room again. The
        // default is a second. The queue is read in less than a tenth of that, and the processor
        // would be idle for the rest.
        .set("fetch.queue.backoff.ms", "20")
        // The bytes of a response are held until its last record is read. With many partitions,
        // responses are as long as this limit allows.
        .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string())
        .set("fetch.error.backoff.ms", "200");
    // With the newer group protocol (KIP-848) the broker assigns partitions, and always
    // incrementally.
    if kafka.properties.expose_one("group.protocol") != Some("consumer") {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    }
    if kafka.auth == KafkaAuth::MskIam {
        config.set("security.protocol", "SASL_SSL").set("sasl.mechanisms", "OAUTHBEARER");
    }
    for (key, value) in kafka.properties.expose() {
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

/// The session timeout and the interval of heartbeats, as librdkafka uses them: by the properties,
/// or by its defaults.
pub fn liveness(settings: &SpeedSettings) -> Result<(Duration, Duration), SpeedError> {
    let config = client_config(settings)
        .create_native_config()
        .map_err(|error| failed("cannot read the settings of the client", error))?;
    let duration = |name: &str| {
        let value = config.get(name).map_err(|error| failed(format!("cannot read {name}"), error))?;
        match value.parse() {
            Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
            Err(_) => Err(SpeedError::settings(format!("kafka.properties.{name:?}"), "must be milliseconds")),
        }
    };
    Ok((duration("session.timeout.ms")?, duration("heartbeat.interval.ms")?))
}

/// Asks the broker for metadata until it answers, refuses this client, the time is up, or the
/// answer is not wanted any more.
pub fn first_contact(
    consumer: &BaseConsumer<Group>,
    settings: &KafkaSettings,
    topic: &str,
    cancel: &CancellationToken,
) -> Result<(), SpeedError> {
    let started = Instant::now();
    let mut insecure: Option<Instant> = None;
    loop {
        let left = settings.start_timeout.saturating_sub(started.elapsed());
        let answer = consumer.fetch_metadata(Some(topic), ATTEMPT.min(left.max(Duration::from_millis(1))));
        // During the first contact, only this loop serves the client's errors and its requests for
        // a token.
        for _ in 0..EVENTS_MAX {
            drop(consumer.poll(Duration::ZERO));
        }
        let complaints = consumer.context().complaints();
        if complaints.insecure > 0 {
            insecure.get_or_insert_with(Instant::now);
        }
        match answer {
            Ok(_) => return Ok(()),
            Err(error) => {
                if let Some(refusal) = refusal(settings, &complaints, insecure) {
                    return Err(refusal);
                }
                if started.elapsed() >= settings.start_timeout || cancel.is_cancelled() {
                    let reason = complaints.last.map(|last| format!(" ({last})")).unwrap_or_default();
                    return Err(failed(format!("no answer from {}{reason}", settings.brokers), error));
                }
            }
        }
    }
}

fn refusal(settings: &KafkaSettings, complaints: &Complaints, insecure: Option<Instant>) -> Option<SpeedError> {
    let reason = complaints.last.as_deref().unwrap_or("no reason given");
    let what = if complaints.refused > 0 {
        "does not accept these credentials"
    } else if insecure.is_some_and(|since| since.elapsed() >= INSECURE_PATIENCE) {
        "cannot be connected to securely"
    } else {
        return None;
    };
    Some(SpeedError::settings("kafka.properties", format!("{} {what}: {reason}", settings.brokers)))
}

/// Looks up the topics for the first time. Each must exist.
pub fn look_at(
    topics: &mut [Topic],
    consumer: &BaseConsumer<Group>,
    inquiry: &mut Inquiry<Group>,
    settings: &KafkaSettings,
) -> Result<(), SpeedError> {
    for topic in topics.iter_mut() {
        topic.partitions = partitions(consumer, topic, settings)?;
        check_first_offsets(topic, settings)?;
    }
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    inquiry.ask(&names, IDS_TIMEOUT);
    // A broker that does not tell the ids, or not in time, is asked again while reading goes on.
    if let Some(Ok(described)) = inquiry.answer(IDS_PATIENCE) {
        for topic in topics {
            topic.id = described.iter().find(|found| found.name == topic.name).and_then(|found| found.id);
        }
    }
    Ok(())
}

/// How many partitions a topic has.
pub fn partitions(consumer: &BaseConsumer<Group>, topic: &Topic, settings: &KafkaSettings) -> Result<i64, SpeedError> {
    let brokers = &settings.brokers;
    let metadata = consumer
        .fetch_metadata(Some(&topic.name), settings.start_timeout)
        .map_err(|error| failed(format!("no answer from {brokers}"), error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.name) else {
        return Err(failed(
            format!("{brokers} does not describe topic {}", topic.name),
            KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
        ));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(i64::try_from(found.partitions().len()).unwrap_or(i64::MAX)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(SpeedError::settings(
            format!("sources.{}.topic", topic.kind),
            format!("{brokers} has no topic {}: create it, or set this to \"\" to ingest without it", topic.name),
        )),
        Some(code) => Err(failed(format!("topic {} cannot be read", topic.name), KafkaError::MetadataFetch(code))),
    }
}

fn check_first_offsets(topic: &Topic, settings: &KafkaSettings) -> Result<(), SpeedError> {
    for partition in settings.first_offsets.get(&topic.name).into_iter().flat_map(|of| of.keys()) {
        if partition.parse::<i64>().is_ok_and(|number| number >= topic.partitions) {
            return Err(SpeedError::settings(
                KafkaSettings::first_offset_key(&topic.name, partition),
                format!("the topic has {} partitions, numbered from 0", topic.partitions),
            ));
        }
    }
    Ok(())
}

/// An error of the client.
pub fn failed(what: impl Into<String>, source: KafkaError) -> SpeedError {
    SpeedError::Kafka { what: what.into(), source }
}
