//! What is done now and then beside reading: report the lag, look at the topics, wake silent
//! partitions.
//!
//! [`super::watch`] decides what the broker's answers mean.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connect::failed;
use super::position::RECREATED;
use super::slot::State;
use super::watch::{self, Remedy, Silence, TopicState};
use super::{KafkaSource, Membership, WATERMARKS_TIMEOUT};
use crate::error::SpeedError;
use crate::source::{Event, Port};

const TEND_INTERVAL: Duration = Duration::from_secs(1);
/// How often a topic is looked at that the broker did not know the last time.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);

const DELETED: &str = "the topic was deleted. What had been read of it is in the lake. To ingest without it, \
                       set its topic to \"\"; \
                       if it is created again, give it another name or set another kafka.cluster name";

impl KafkaSource {
    pub(super) fn tend(&mut self, port: &Port) -> Result<(), SpeedError> {
        self.look_at_topics()?;
        if self.tended_at.elapsed() < TEND_INTERVAL {
            return Ok(());
        }
        self.tended_at = Instant::now();
        self.acknowledge_again();
        for slot in self.slots.iter().filter(|slot| slot.state == State::Reading) {
            // Needed after a partition was assigned again, and harmless otherwise.
            if !self.queue.attach(&slot.stream.source, slot.stream.partition) {
                tracing::warn!(
                    topic = slot.stream.source,
                    partition = slot.stream.partition,
                    "cannot forward the queue of a partition"
                );
            }
        }
        if self.is_full {
            let read = self.slots.iter().filter(|slot| slot.state == State::Reading);
            let places = read.map(|slot| (slot.stream.source.as_str(), slot.stream.partition));
            self.ends.ask(places, WATERMARKS_TIMEOUT);
        }
        let behind = |slot: &super::Slot| {
            let (topic, partition) = (&slot.stream.source, slot.stream.partition);
            let end = self.queue.known_end(topic, partition).max(self.ends.known(topic, partition))?;
            (slot.state == State::Reading).then(|| (slot.stream.clone(), (end - slot.next).max(0)))
        };
        port.tell(Event::Behind(self.slots.iter().filter_map(behind).collect()));
        self.wake_silent(port)
    }

    /// Commits the group's offsets again if the group has refused some, as it does while partitions
    /// move. Workers that run until the end wait for them.
    fn acknowledge_again(&mut self) {
        if !self.consumer.context().take_refusal() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for ((topic, partition), position) in &self.acknowledged {
            super::add(&mut list, topic, *partition, *position);
        }
        self.commit_offsets(&list);
    }

    /// Asks about the topics when it is time, and handles the answer when it arrives. Never waits.
    fn look_at_topics(&mut self) -> Result<(), SpeedError> {
        let is_missing = self.topics.iter().any(|topic| topic.missing > 0);
        let interval = if is_missing { MISSING_INTERVAL } else { self.settings.metadata_interval };
        if self.inquired_at.elapsed() >= interval && !self.stopped {
            self.inquired_at = Instant::now();
            let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
            self.inquiry.ask(&names, WATERMARKS_TIMEOUT);
        }
        let answers = match self.inquiry.answer(Duration::ZERO) {
            Some(Ok(answers)) => answers,
            Some(Err(error)) => {
                // During an outage other errors report the cause, and some brokers never answer
                // this request.
                tracing::debug!(%error, "the broker does not describe its topics; asking again later");
                return Ok(());
            }
            None => return Ok(()),
        };
        for answer in answers {
            let Some(topic) = self.topics.iter_mut().find(|topic| topic.name == answer.name) else { continue };
            let advice = match watch::topic(topic.stored_id.or(topic.id), topic.missing, &answer) {
                TopicState::Same => {
                    topic.missing = 0;
                    topic.id = answer.id;
                    continue;
                }
                TopicState::Missing(times) => {
                    topic.missing = times;
                    continue;
                }
                TopicState::Gone => DELETED,
                TopicState::Recreated => RECREATED,
            };
            return Err(SpeedError::Topic { topic: topic.name.clone(), advice });
        }
        Ok(())
    }

    /// Tries to wake partitions that have been silent for long.
    fn wake_silent(&mut self, port: &Port) -> Result<(), SpeedError> {
        if self.assigning || self.revoking.is_some() {
            // The group waits for an answer, and everything is paused meanwhile: silence means
            // nothing. A partition that was assigned again now would be taken for the answer.
            let listened = self.listened;
            self.slots.iter_mut().for_each(|slot| slot.last_arrival = listened);
            return Ok(());
        }
        let is_silent = |slot: &super::Slot| {
            slot.state == State::Reading
                && !slot.is_at_end()
                && self.listened.since(slot.last_arrival)
                    >= watch::silence_max(self.settings.stall_timeout, slot.remedies)
        };
        let mut asked = TopicPartitionList::new();
        for slot in self.slots.iter().filter(|slot| is_silent(slot)) {
            // In a request for offsets by time, `End` asks for the end.
            if let Err(error) = asked.add_partition_offset(&slot.stream.source, slot.stream.partition, Offset::End) {
                return Err(failed("cannot query the watermarks of partitions", error));
            }
        }
        if asked.count() == 0 {
            return Ok(());
        }
        let ends = match self.consumer.offsets_for_times(asked, WATERMARKS_TIMEOUT) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(%error, "partitions deliver nothing, and the broker does not tell their watermarks");
                TopicPartitionList::new()
            }
        };
        let silent: Vec<usize> = (0..self.slots.len()).filter(|index| is_silent(&self.slots[*index])).collect();
        let mut rejoin = false;
        for index in silent {
            let (listened, slot) = (self.listened, &mut self.slots[index]);
            let (topic, partition, next) = (slot.stream.source.clone(), slot.stream.partition, slot.next);
            let end = ends.find_partition(&topic, partition).and_then(|found| match (found.error(), found.offset()) {
                (Ok(()), Offset::Offset(end)) => Some(end),
                _ => None,
            });
            // Whatever this look finds, the next one comes after the same interval.
            slot.last_arrival = listened;
            match watch::silence(end, next, slot.remedies) {
                Silence::Unknown => {}
                Silence::Idle => slot.remedies = 0,
                Silence::Stalled(remedy) => {
                    slot.remedies += 1;
                    let end = end.unwrap_or_default();
                    tracing::warn!(topic, partition, offset = next, end, ?remedy, "a partition has stalled");
                    port.tell(Event::Stalled(slot.stream.clone()));
                    match remedy {
                        Remedy::Rejoin => rejoin = true,
                        Remedy::Reassign => {
                            if let Err(error) = self.reassign(index, next) {
                                tracing::warn!(topic, partition, %error, "cannot assign a partition again");
                            }
                        }
                    }
                }
            }
        }
        if rejoin {
            // The group revokes the partitions in order and assigns them again.
            self.changes_to(Membership::Moving(Instant::now()));
            self.consumer.unsubscribe();
            self.subscribe()?;
        }
        Ok(())
    }
}
