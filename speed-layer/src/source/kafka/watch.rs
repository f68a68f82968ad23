//! Draws conclusions from the broker's answers while reading goes on, about topics and about silent
//! partitions. Pure.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode;

use super::topics::Described;

/// How many answers in a row must say that a topic is unknown before it counts as gone. A broker
/// that has just restarted may not know the topic yet.
pub const GONE_ANSWERS: u32 = 3;

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// It is the topic that is being read.
    Same,
    /// The broker does not know it. The number counts such answers in a row.
    Missing(u32),
    /// The topic was deleted.
    Gone,
    /// Another topic has its name.
    Recreated,
}

/// What `answer` says about a topic that had the id `known_id` and was missing in the last
/// `missing` answers.
pub fn topic(known_id: Option<i64>, missing: u32, answer: &Described) -> TopicState {
    match answer.error {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            if missing + 1 >= GONE_ANSWERS { TopicState::Gone } else { TopicState::Missing(missing + 1) }
        }
        // Other errors say nothing about whether the topic exists.
        Some(_) => TopicState::Missing(missing.min(1)),
        None => match (known_id, answer.id) {
            (Some(known), Some(found)) if known != found => TopicState::Recreated,
            _ => TopicState::Same,
        },
    }
}

/// How a silent partition is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Unassign the partition and assign it again at the same offset.
    Reassign,
    /// Leave the group and join it again.
    Rejoin,
}

/// What the silence of a partition means from which nothing has arrived for
/// [`crate::settings::KafkaSettings::stall_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The broker does not say what it has: an outage, which explains the silence.
    Unknown,
    /// The partition has no more records.
    Idle,
    /// The partition has more records and does not deliver them.
    Stalled(Remedy),
}

/// Judges the silence of a partition. `end` is the end that the broker tells a reader with the same
/// settings (committed records only, unless configured otherwise). `next` is the offset that is
/// awaited. `remedies` counts what was tried since the last record.
pub fn silence(end: Option<i64>, next: i64, remedies: u32) -> Silence {
    match end {
        None => Silence::Unknown,
        Some(end) if end <= next => Silence::Idle,
        Some(_) if remedies.is_multiple_of(2) => Silence::Stalled(Remedy::Reassign),
        Some(_) => Silence::Stalled(Remedy::Rejoin),
    }
}

/// How long a partition may be silent before the next remedy. The time doubles after each remedy
/// that did not help: on a busy machine, or from a broker that has just restarted, records take
/// longer than the time-out, and every remedy makes fetching begin again.
pub fn silence_max(stall_timeout: Duration, remedies: u32) -> Duration {
    stall_timeout.saturating_mul(1 << remedies.min(REMEDIES_DOUBLING))
}

/// After this many remedies the time does not double any more.
const REMEDIES_DOUBLING: u32 = 6;

/// The total time spent listening. Time without room for records does not count: a partition that
/// nobody listens to is not silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListeningTime(Duration);

/// The most that a single wait counts for. The process may have been stopped during a longer one.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl ListeningTime {
    /// Adds time spent listening.
    pub fn add(&mut self, time: Duration) {
        self.0 += time.min(WAIT_MAX);
    }

    /// How much listening time has passed since `then`.
    pub fn since(self, then: ListeningTime) -> Duration {
        self.0.saturating_sub(then.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(id: Option<i64>, error: Option<RDKafkaErrorCode>) -> Described {
        Described { name: "t".to_owned(), id, partitions: 1, error }
    }

    #[test]
    fn a_topic_is_gone_when_it_stays_away() {
        let unknown = described(None, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
        let mut missing = 0;
        for answer in 1..GONE_ANSWERS {
            assert_eq!(topic(Some(1), missing, &unknown), TopicState::Missing(answer));
            missing = answer;
        }
        assert_eq!(topic(Some(1), missing, &unknown), TopicState::Gone);
        let leaderless = described(None, Some(RDKafkaErrorCode::LeaderNotAvailable));
        assert_eq!(topic(Some(1), 2, &leaderless), TopicState::Missing(1));
        assert_eq!(topic(Some(1), 0, &leaderless), TopicState::Missing(0));
    }

    #[test]
    fn a_topic_is_another_by_its_id() {
        let check = |known, found, expected| assert_eq!(topic(known, 2, &described(found, None)), expected);
        check(Some(1), Some(1), TopicState::Same);
        check(Some(1), Some(2), TopicState::Recreated);
        check(None, Some(2), TopicState::Same);
        check(Some(1), None, TopicState::Same);
    }

    #[test]
    fn only_a_partition_with_more_to_give_is_stalled() {
        assert_eq!(silence(None, 5, 0), Silence::Unknown);
        assert_eq!(silence(Some(5), 5, 0), Silence::Idle);
        assert_eq!(silence(Some(4), 5, 3), Silence::Idle);
        assert_eq!(silence(Some(6), 5, 0), Silence::Stalled(Remedy::Reassign));
        assert_eq!(silence(Some(6), 5, 1), Silence::Stalled(Remedy::Rejoin));
        assert_eq!(silence(Some(6), 5, 2), Silence::Stalled(Remedy::Reassign));
    }

    #[test]
    fn remedies_in_vain_become_rare() {
        let waits = [0, 1, 2, 6, 7, u32::MAX].map(|remedies| silence_max(Duration::from_millis(500), remedies));
        assert_eq!(waits.map(|wait| wait.as_millis()), [500, 1_000, 2_000, 32_000, 32_000, 32_000]);
    }

    #[test]
    fn time_that_nobody_listened_does_not_count() {
        let mut listened = ListeningTime::default();
        listened.add(Duration::from_millis(20));
        let then = listened;
        listened.add(Duration::from_millis(30));
        listened.add(Duration::from_secs(3600));
        assert_eq!(listened.since(then), Duration::from_millis(1030));
        assert_eq!(then.since(listened), Duration::ZERO);
    }
}
