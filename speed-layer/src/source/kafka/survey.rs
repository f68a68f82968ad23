//! A look at the brokers and the topics, without ingesting anything and without joining the group.

use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::connect::{self, Topic, failed};
use super::group::{Group, NO_TOKEN};
pub use super::position::RECREATED;
use crate::error::SpeedError;
use crate::record::Stream;
use crate::settings::SpeedSettings;

/// How long one poll may take.
const POLL: Duration = Duration::from_millis(100);

/// What the brokers say.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The name of the cluster in the lake's transactions. `None`: the cluster does not tell its
    /// id, and the settings do not name it.
    pub cluster: Option<String>,
    /// The topics that are read.
    pub topics: Vec<SurveyedTopic>,
}

/// A topic that is read.
#[derive(Debug, Clone)]
pub struct SurveyedTopic {
    /// What it holds.
    pub kind: EventKind,
    /// Its name.
    pub name: String,
    /// Its partitions, by their numbers.
    pub partitions: Vec<Watermarks>,
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset.
    pub low: i64,
    /// The offset after the last.
    pub high: i64,
}

impl SurveyedTopic {
    /// The streams of the partitions, as the lake's transactions name them.
    pub fn applications(&self, cluster: &str) -> Vec<String> {
        let partition = |number| Stream::partition_application(cluster, &self.name, number as i32);
        (0..self.partitions.len()).map(partition).collect()
    }
}

/// What was tried with the permissions of a reader.
#[derive(Debug)]
pub struct Trial {
    /// What was tried: a topic, or the consumer group.
    pub subject: String,
    /// What came of it.
    pub result: Result<(), SpeedError>,
}

/// Asks the brokers for the topics that are read, and for their offsets. Blocks for at most about
/// `kafka.start_timeout`, and as long again for each partition that does not answer.
pub fn survey(settings: &SpeedSettings) -> Result<Survey, SpeedError> {
    let topics = connect::topics(settings)?;
    let consumer = connect::consumer(settings)?;
    survey_with(&consumer, settings, &topics)
}

/// Like [`survey`]. Also tries whether the topics may be read, and whether the group's offsets may.
pub fn survey_and_try(settings: &SpeedSettings) -> Result<(Survey, Vec<Trial>), SpeedError> {
    let topics = connect::topics(settings)?;
    let consumer = connect::consumer(settings)?;
    let survey = survey_with(&consumer, settings, &topics)?;
    let mut trials = Vec::new();
    for topic in &survey.topics {
        let result = try_to_read(&consumer, topic, settings.kafka.start_timeout);
        trials.push(Trial { subject: format!("topic {}", topic.name), result });
    }
    let result = try_group(&consumer, &survey, settings);
    trials.push(Trial { subject: format!("group {}", settings.kafka.group), result });
    Ok((survey, trials))
}

fn survey_with(
    consumer: &BaseConsumer<Group>,
    settings: &SpeedSettings,
    topics: &[Topic],
) -> Result<Survey, SpeedError> {
    let kafka = &settings.kafka;
    let Some(first) = topics.first() else { return Ok(Survey { cluster: None, topics: Vec::new() }) };
    connect::first_contact(consumer, kafka, &first.name, &CancellationToken::new())?;
    let mut surveyed = Vec::new();
    for topic in topics {
        let mut partitions = Vec::new();
        for partition in 0..connect::partitions(consumer, topic, kafka)? {
            let marks = consumer.fetch_watermarks(&topic.name, partition as i32, kafka.start_timeout);
            let (low, high) =
                marks.map_err(|error| failed(format!("no offsets of {} partition {partition}", topic.name), error))?;
            partitions.push(Watermarks { low, high });
        }
        surveyed.push(SurveyedTopic { kind: topic.kind, name: topic.name.clone(), partitions });
    }
    let cluster = kafka.cluster.clone().or_else(|| consumer.client().fetch_cluster_id(kafka.start_timeout));
    Ok(Survey { cluster, topics: surveyed })
}

/// Reads a record, or the end, of a partition that has records.
fn try_to_read(consumer: &BaseConsumer<Group>, topic: &SurveyedTopic, timeout: Duration) -> Result<(), SpeedError> {
    let is_filled = |marks: &Watermarks| marks.high > marks.low;
    let partition = topic.partitions.iter().position(is_filled).unwrap_or(0) as i32;
    let low = topic.partitions.get(partition as usize).map_or(0, |marks| marks.low);
    let wrong = |error| failed(format!("{} partition {partition} cannot be read", topic.name), error);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic.name, partition, Offset::Offset(low)).map_err(wrong)?;
    consumer.assign(&list).map_err(wrong)?;
    let began = Instant::now();
    let read = loop {
        match consumer.poll(POLL) {
            Some(Ok(_)) | Some(Err(KafkaError::PartitionEOF(_))) => break Ok(()),
            Some(Err(error)) if is_refusal(&error) => break Err(wrong(error)),
            Some(Err(_)) | None => {}
        }
        if began.elapsed() >= timeout {
            break Err(wrong(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
        }
    };
    let unassigned = consumer.unassign().map_err(wrong);
    read.and(unassigned)
}

/// Whether the brokers do not let this client look at something, or read it.
pub fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    )
}

/// Whether the brokers could not be asked because no token could be made.
pub fn lacks_token(error: &SpeedError) -> bool {
    matches!(error, SpeedError::Kafka { what, .. } if what.contains(NO_TOKEN))
}

fn try_group(consumer: &BaseConsumer<Group>, survey: &Survey, settings: &SpeedSettings) -> Result<(), SpeedError> {
    let mut list = TopicPartitionList::new();
    for topic in &survey.topics {
        list.add_partition(&topic.name, 0);
    }
    let group = &settings.kafka.group;
    let wrong = |error| failed(format!("the offsets of group {group} cannot be read"), error);
    let offsets = consumer.committed_offsets(list, settings.kafka.start_timeout).map_err(wrong)?;
    let of_each = offsets.elements().iter().try_for_each(|element| element.error());
    of_each.map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_as_ingest_names_them() {
        let marks = Watermarks { low: 0, high: 0 };
        let topic = SurveyedTopic { kind: EventKind::Impression, name: "t".to_owned(), partitions: vec![marks, marks] };
        let expected = [0, 1].map(|partition| Stream::partition_application("c", "t", partition));
        assert_eq!(topic.applications("c"), expected);
    }

    #[test]
    fn only_refusals_end_a_trial_at_once() {
        let check = |code, expected| assert_eq!(is_refusal(&KafkaError::MessageConsumption(code)), expected);
        check(RDKafkaErrorCode::TopicAuthorizationFailed, true);
        check(RDKafkaErrorCode::GroupAuthorizationFailed, true);
        check(RDKafkaErrorCode::BrokerTransportFailure, false);
        check(RDKafkaErrorCode::OperationTimedOut, false);
    }
}
