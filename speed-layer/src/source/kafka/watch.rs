//! What is concluded from what the broker says while reading goes on: of topics, and of partitions that are silent. Pure.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode;

use super::topics::Described;

/// Answers in a row that have to agree before a topic is believed to be gone: a broker that has just come back may not know it yet.
pub const GONE_ANSWERS: u32 = 3;

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// It is the one that we read.
    Same,
    /// The broker does not know it, for the so many-th time in a row.
    Missing(u32),
    /// It is gone.
    Gone,
    /// Another one has its name.
    Recreated,
}

/// What an answer says of a topic that had this id, and was missing in the last so many answers.
pub fn topic(known_id: Option<i64>, missing: u32, answer: &Described) -> TopicState {
    match answer.error {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            if missing + 1 >= GONE_ANSWERS { TopicState::Gone } else { TopicState::Missing(missing + 1) }
        }
        // Anything else says nothing about whether it exists.
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
    /// It is unassigned and assigned anew, where it was.
    TakeAnew,
    /// The group is left and joined again.
    Rejoin,
}

/// What to think of a partition of which nothing has come for [`crate::settings::KafkaSettings::stall_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The broker does not say what it has: an outage, in which silence is no wonder.
    Unknown,
    /// It has nothing more to give.
    Idle,
    /// It has, and does not.
    Stalled(Remedy),
}

/// `end` is the end that the broker tells a reader like us (committed records alone, unless configured otherwise), `next` the offset that
/// we wait for, `remedies` how often something was done about it since the last record.
pub fn silence(end: Option<i64>, next: i64, remedies: u32) -> Silence {
    match end {
        None => Silence::Unknown,
        Some(end) if end <= next => Silence::Idle,
        Some(_) if remedies.is_multiple_of(2) => Silence::Stalled(Remedy::TakeAnew),
        Some(_) => Silence::Stalled(Remedy::Rejoin),
    }
}

/// How long a partition may be silent before something is done about it (again). Twice as long after each remedy in vain: on a busy machine, or
/// from a broker that has just come back, records take longer than the time-out, and every remedy makes them begin anew.
pub fn silence_max(stall_timeout: Duration, remedies: u32) -> Duration {
    stall_timeout.saturating_mul(1 << remedies.min(REMEDIES_DOUBLING))
}

/// After so many remedies the time does not double any more.
const REMEDIES_DOUBLING: u32 = 6;

/// How long we have listened in all, the time in which there was no room for records left out: a partition that nobody
/// listens to is not silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listened(Duration);

/// A single wait is counted for no more than this: the process may have been stopped meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Listened {
    /// We have listened.
    pub fn add(&mut self, time: Duration) {
        self.0 += time.min(WAIT_MAX);
    }

    /// How much of it was since then.
    pub fn since(self, then: Listened) -> Duration {
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
        assert_eq!(silence(Some(6), 5, 0), Silence::Stalled(Remedy::TakeAnew));
        assert_eq!(silence(Some(6), 5, 1), Silence::Stalled(Remedy::Rejoin));
        assert_eq!(silence(Some(6), 5, 2), Silence::Stalled(Remedy::TakeAnew));
    }

    #[test]
    fn remedies_in_vain_become_rare() {
        let waits = [0, 1, 2, 6, 7, u32::MAX].map(|remedies| silence_max(Duration::from_millis(500), remedies));
        assert_eq!(waits.map(|wait| wait.as_millis()), [500, 1_000, 2_000, 32_000, 32_000, 32_000]);
    }

    #[test]
    fn time_that_nobody_listened_does_not_count() {
        let mut listened = Listened::default();
        listened.add(Duration::from_millis(20));
        let then = listened;
        listened.add(Duration::from_millis(30));
        listened.add(Duration::from_secs(3600));
        assert_eq!(listened.since(then), Duration::from_millis(1030));
        assert_eq!(then.since(listened), Duration::ZERO);
    }
}
