//! The brokers: whether they can be reached, and whether the topics and the group may be read.

use std::time::Duration;

use adlake_speed_layer::error::SpeedError;
use adlake_speed_layer::source::kafka::survey::{Survey, Trial, is_refusal, lacks_token, survey_and_try};

use super::finding::{Area, Finding};
use crate::config::Settings;
use crate::failure::line;

/// What to do about a topic or a group that may not be read.
const PERMISSIONS: &str = "allow Describe and Read on the topics and Read on the group (with IAM: \
                           kafka-cluster:DescribeTopic, ReadData, DescribeGroup, AlterGroup)";

/// Asks the brokers.
pub async fn examine(settings: &Settings, timeout: Duration, findings: &mut Vec<Finding>) {
    let mut speed = settings.speed();
    speed.kafka.start_timeout = timeout;
    let brokers = settings.kafka.brokers.clone();
    // The client blocks.
    match tokio::task::spawn_blocking(move || survey_and_try(&speed)).await {
        Ok(Ok((survey, trials))) => judge(&brokers, &survey, trials, findings),
        Ok(Err(error)) => findings.push(unanswered(&brokers, error)),
        Err(error) => findings.push(Finding::error(Area::Kafka, brokers, error.to_string(), "try again")),
    }
}

fn unanswered(brokers: &str, error: SpeedError) -> Finding {
    let remedy = match &error {
        SpeedError::Settings { key, .. } => format!("correct {key}"),
        SpeedError::Kafka { source, .. } if is_refusal(source) => PERMISSIONS.to_owned(),
        error if lacks_token(error) => "see kafka.auth, kafka.region and the AWS credentials of this process, or \
                                        kafka.oauth_token_command"
            .to_owned(),
        _ => "see kafka.brokers and kafka.properties; are the brokers up, and may this machine reach every one of \
              them under the name that it advertises? Without Kafka, use --no-kafka"
            .to_owned(),
    };
    Finding::error(Area::Kafka, brokers, line(&error.into()), remedy)
}

fn judge(brokers: &str, survey: &Survey, trials: Vec<Trial>, findings: &mut Vec<Finding>) {
    match &survey.cluster {
        Some(cluster) => findings.push(Finding::ok(Area::Kafka, brokers, format!("cluster {cluster} answers"))),
        None => {
            let remedy = "give the cluster a name with kafka.cluster";
            findings.push(Finding::error(Area::Kafka, brokers, "the cluster does not tell its id", remedy));
        }
    }
    for topic in &survey.topics {
        let records: i64 = topic.partitions.iter().map(|marks| marks.high - marks.low).sum();
        let detail = format!("{} partitions with about {records} records", topic.partitions.len());
        findings.push(Finding::ok(Area::Kafka, format!("topic {}", topic.name), detail));
    }
    for Trial { subject, result } in trials {
        match result {
            Ok(()) => findings.push(Finding::ok(Area::Kafka, subject, "may be read")),
            Err(error) => {
                findings.push(Finding::error(Area::Kafka, subject, line(&error.into()), PERMISSIONS));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;
    use adlake_speed_layer::source::kafka::survey::{SurveyedTopic, Watermarks};
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;
    use crate::commands::doctor::finding::Level;

    #[test]
    fn what_the_brokers_say_is_told() {
        let partitions = vec![Watermarks { low: 5, high: 9 }, Watermarks { low: 0, high: 3 }];
        let topic = SurveyedTopic { kind: EventKind::Impression, name: "t".to_owned(), partitions };
        let mut survey = Survey { cluster: Some("c".to_owned()), topics: vec![topic] };
        let refused = || Err(SpeedError::Settings { key: "kafka".to_owned(), message: "no".to_owned() });
        let trials = || vec![Trial { subject: "group g".to_owned(), result: refused() }];
        let mut findings = Vec::new();
        judge("b:1", &survey, trials(), &mut findings);
        assert_eq!(findings[1].detail, "2 partitions with about 7 records");
        let levels = |findings: &[Finding]| findings.iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(&findings), [Level::Ok, Level::Ok, Level::Error]);
        survey.cluster = None;
        findings.clear();
        judge("b:1", &survey, Vec::new(), &mut findings);
        assert_eq!(levels(&findings), [Level::Error, Level::Ok]);
        assert_eq!(unanswered("b", refused().unwrap_err()).remedy.as_deref(), Some("correct kafka"));
        let remedy = |code| {
            let source = KafkaError::MetadataFetch(code);
            unanswered("b", SpeedError::Kafka { what: "topic t".to_owned(), source }).remedy.unwrap()
        };
        assert_eq!(remedy(RDKafkaErrorCode::TopicAuthorizationFailed), PERMISSIONS);
        assert!(remedy(RDKafkaErrorCode::BrokerTransportFailure).contains("kafka.brokers"));
    }
}
