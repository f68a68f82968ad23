//! Partitions: assigned, begun, sought in, and revoked.
//!
//! The group's assignment is answered once the pipeline has said of every new partition where the
//! lake has it. A partition whose first and last offsets the broker does not tell follows later. A
//! revocation is answered once the rows that were read are committed, or after a time limit. Only
//! [`position`] decides where a partition begins.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use adlake_lake::failpoint;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connect::failed;
use super::group::{self, Place};
use super::position::{self, Begin, First};
use super::slot::{Slot, State};
use super::{KafkaSource, Membership, RETRY_PAUSE, Revoking, SEEK_TIMEOUT, WATERMARKS_TIMEOUT, add, is};
use crate::error::SpeedError;
use crate::record::{Chunk, Stream};
use crate::settings::{FirstStart, KafkaSettings};
use crate::source::{Event, Port, Start, TopicMarks};

impl KafkaSource {
    /// Notes that this consumer's assignment has changed, or is about to.
    pub(super) fn changes_to(&mut self, membership: Membership) {
        self.membership = membership;
        if let Some(until_end) = &mut self.until_end {
            until_end.assignment_changed();
        }
    }

    pub(super) fn assigned(&mut self, places: Vec<Place>, port: &Port) {
        self.changes_to(Membership::Settled);
        self.assigning = true;
        let mut streams = Vec::with_capacity(places.len());
        for (name, partition) in places {
            let Some(topic) = self.topics.iter().find(|topic| topic.name == name) else { continue };
            let stream = Arc::new(Stream {
                kind: topic.kind,
                application: Stream::partition_application(&self.cluster, &name, partition),
                source: name.clone(),
                partition,
                format: topic.format.clone(),
            });
            self.slots.retain(|slot| slot.stream != stream);
            let place = (name, partition);
            let end = self.until_end.as_ref().map(|until_end| until_end.end(&place));
            let mut slot = Slot::new(stream.clone(), end, self.listened);
            slot.remedies = self.in_vain.remove(&place).unwrap_or(0);
            self.slots.push(slot);
            streams.push(stream);
        }
        tracing::info!(partitions = streams.len(), "partitions assigned");
        failpoint::hit(failpoint::ASSIGNED);
        port.tell(Event::Assigned(streams));
    }

    pub(super) fn revoked(&mut self, places: Vec<Place>, port: &Port) {
        self.changes_to(Membership::Moving(Instant::now()));
        let mut streams = Vec::new();
        for slot in &mut self.slots {
            if places.iter().any(|place| is(&slot.stream, place)) {
                slot.state = State::Revoked;
                slot.chunk = Chunk::default();
                streams.push(slot.stream.clone());
            }
        }
        self.starts.retain(|start| !streams.contains(&start.stream));
        tracing::info!(partitions = streams.len(), "partitions revoked");
        failpoint::hit(failpoint::REVOKED);
        let deadline = Instant::now() + self.revoke_deadline;
        let places = streams.iter().map(|stream| (stream.source.clone(), stream.partition)).collect();
        self.revoking = Some(Revoking { places, deadline });
        port.tell(Event::Revoked(streams));
    }

    /// Stops fetching partitions whose table is stopped. The group's assignment does not wait for
    /// them.
    pub(super) fn skip(&mut self, streams: &[Arc<Stream>]) {
        self.starts.retain(|start| !streams.contains(&start.stream));
        self.slots
            .retain(|slot| !streams.contains(&slot.stream) || !matches!(slot.state, State::Waiting | State::Ready));
        if let Some(until_end) = &mut self.until_end {
            streams.iter().for_each(|stream| until_end.stop_topic(&stream.source));
        }
        let mut list = TopicPartitionList::new();
        for slot in &mut self.slots {
            if slot.state == State::Reading && streams.contains(&slot.stream) {
                slot.state = State::Skipped;
                slot.chunk = Chunk::default();
                list.add_partition(&slot.stream.source, slot.stream.partition);
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.pause(&list)
        {
            tracing::warn!(%error, "cannot pause the partitions of a stopped table; their records are dropped");
        }
    }

    pub(super) fn release_if_due(&mut self) -> Result<(), SpeedError> {
        let Some(revoking) = &self.revoking else { return Ok(()) };
        let late = Instant::now() >= revoking.deadline;
        if !revoking.places.is_empty() && !late && !self.consumer.assignment_lost() {
            return Ok(());
        }
        if late {
            tracing::warn!(
                "partitions are released before their records are committed (ingest.revoke_deadline); the next owner \
                 reads the records again"
            );
        }
        self.revoking = None;
        let mut list = TopicPartitionList::new();
        for slot in self.slots.iter().filter(|slot| slot.state == State::Revoked) {
            if slot.is_assigned {
                list.add_partition(&slot.stream.source, slot.stream.partition);
            }
            let place = (slot.stream.source.clone(), slot.stream.partition);
            self.acknowledged.remove(&place);
            if slot.remedies > 0 {
                self.in_vain.insert(place, slot.remedies);
            }
        }
        self.slots.retain(|slot| slot.state != State::Revoked);
        group::unassign(&self.consumer, &list).map_err(|error| failed("cannot unassign partitions", error))?;
        self.stay(|slot| slot.state == State::Reading)
    }

    /// Seeks to the next offset in each partition that stays assigned through a cooperative
    /// rebalance.
    ///
    /// librdkafka pauses such partitions during the rebalance, and resumes at the position that it
    /// believes was consumed. If the last batch held the end of a partition, that position is one
    /// record too far, since `rd_kafka_q_serve_rkmessages` counts the end as a record. That record
    /// would never be read.
    fn stay(&self, stays: impl Fn(&Slot) -> bool) -> Result<(), SpeedError> {
        if !group::is_cooperative(&self.consumer) {
            return Ok(());
        }
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| stays(slot)) {
            self.go_to(index, slot.next).map_err(|error| {
                let (topic, partition) = (&slot.stream.source, slot.stream.partition);
                failed(format!("cannot seek to offset {} of {topic} partition {partition}", slot.next), error)
            })?;
        }
        Ok(())
    }

    /// Makes the starts that can be made. Partitions that are being read are sought in. New
    /// partitions are assigned once every one of them has its start.
    pub(super) fn start(&mut self, port: &Port) -> Result<(), SpeedError> {
        if self.stopped || Instant::now() < self.retry_at {
            return Ok(());
        }
        let mut waiting: VecDeque<Start> = std::mem::take(&mut self.starts).into();
        while let Some(start) = waiting.pop_front() {
            let Some(index) = self.slots.iter().position(|slot| slot.stream == start.stream) else { continue };
            let done = match self.slots[index].state {
                State::Revoked | State::Skipped => true,
                State::Waiting | State::Ready => self.begin(index, &start, false, port)?,
                State::Reading => self.begin(index, &start, true, port)?,
            };
            if !done {
                // Each failure may take its time, and the group must be polled in between. The next
                // round begins with the other starts.
                waiting.push_back(start);
                self.retry_at = Instant::now() + RETRY_PAUSE;
                break;
            }
        }
        self.starts = waiting.into();
        // A partition whose broker does not answer (it may have no leader) does not keep the others
        // waiting. It follows when its broker answers.
        let is_tried = |slot: &Slot| self.starts.iter().any(|start| start.stream == slot.stream);
        let all_tried = self.slots.iter().filter(|slot| slot.state == State::Waiting).all(is_tried);
        // While the group waits for partitions to be given back, it would take an assignment for
        // the answer.
        let follows = self.revoking.is_none() && self.slots.iter().any(|slot| slot.state == State::Ready);
        if all_tried && (self.assigning || follows) {
            self.assign()?;
        }
        Ok(())
    }

    /// Finds where a partition begins and, if it is being read, seeks there. `false`: retry later,
    /// since the broker did not answer or the seek failed.
    fn begin(&mut self, index: usize, start: &Start, seek: bool, port: &Port) -> Result<bool, SpeedError> {
        let slot = &self.slots[index];
        let (topic, partition) = (slot.stream.source.as_str(), slot.stream.partition);
        let (low, high) = match self.consumer.fetch_watermarks(topic, partition, WATERMARKS_TIMEOUT) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(topic, partition, %error, "cannot query the watermarks of a partition; trying again");
                return Ok(false);
            }
        };
        let Some(info) = self.topics.iter_mut().find(|info| info.name == topic) else { return Ok(true) };
        info.stored_id = info.stored_id.or(start.marks.id);
        // If this run has begun the partition and the lake has no position of it yet, it begins at
        // the same offset again. Another offset would give other records.
        let place = (topic.to_owned(), partition);
        let begun = start.stored.or_else(|| self.begun.get(&place).copied());
        let stored = begun.unwrap_or_default();
        if let (Some(known), Some(found)) = (start.marks.id, info.id)
            && known != found
        {
            let (topic, advice) = (topic.to_owned(), position::RECREATED);
            return Err(SpeedError::Lost { topic, partition, stored, low, high, advice });
        }
        let marks = TopicMarks { id: info.id, partitions: Some(info.partitions) };
        let partitions = info.partitions;
        let first = if begun.is_some() { Some(First::Earliest) } else { self.first(start, partitions) };
        let Some(first) = first else { return Ok(false) };
        let next = match position::begin(begun, low, high, first) {
            Begin::At(next) => next,
            Begin::Lost(advice) => {
                return Err(SpeedError::Lost { topic: topic.to_owned(), partition, stored, low, high, advice });
            }
            Begin::Outside => {
                return Err(SpeedError::settings(
                    KafkaSettings::first_offset_key(topic, partition),
                    format!("is not an offset of this partition: the broker has offsets {low} to {high}"),
                ));
            }
        };
        if seek && let Err(error) = self.go_to(index, next) {
            let slot = &self.slots[index];
            let (topic, partition) = (slot.stream.source.as_str(), slot.stream.partition);
            tracing::warn!(topic, partition, offset = next, %error, "cannot seek in a partition; trying again");
            return Ok(false);
        }
        if start.stored.is_none() {
            self.begun.insert(place, next);
        }
        let slot = &mut self.slots[index];
        let partition = slot.stream.partition;
        slot.next = next;
        slot.caught_up = false;
        slot.last_arrival = self.listened;
        slot.chunk = Chunk::new(partition);
        slot.state = if seek { State::Reading } else { State::Ready };
        // With the same generation it is the same start, made again: the pipeline already knows of
        // it.
        if slot.generation != start.generation {
            slot.generation = start.generation;
            let (stream, generation) = (slot.stream.clone(), start.generation);
            port.tell(Event::Topic { stream: stream.clone(), marks });
            port.tell(Event::Started { stream, generation, position: next });
        }
        Ok(true)
    }

    /// Where a partition begins that the lake has never seen. `None`: the broker did not answer.
    fn first(&self, start: &Start, partitions: i64) -> Option<First> {
        let (topic, partition) = (start.stream.source.as_str(), start.stream.partition);
        if position::is_added(partition, start.marks.partitions.unwrap_or(partitions)) {
            return Some(First::Earliest);
        }
        if let Some(offset) = self.settings.first_offset(topic, partition) {
            return Some(First::Offset(offset));
        }
        let time = match self.settings.first_start {
            FirstStart::Earliest => return Some(First::Earliest),
            FirstStart::Latest => return Some(First::Latest),
            FirstStart::At(time) => time,
        };
        let mut asked = TopicPartitionList::new();
        add(&mut asked, topic, partition, time.timestamp_millis().max(0));
        let answer = self.consumer.offsets_for_times(asked, WATERMARKS_TIMEOUT).and_then(|answer| {
            let found = answer.find_partition(topic, partition).map(|found| (found.error(), found.offset()));
            let (error, offset) = found.unwrap_or((Ok(()), Offset::Invalid));
            error.map(|()| offset)
        });
        match answer {
            Ok(Offset::Offset(offset)) => Some(First::Since(Some(offset))),
            Ok(Offset::End) => Some(First::Since(None)),
            Ok(other) => {
                tracing::warn!(
                    topic,
                    partition,
                    ?other,
                    "the broker does not find the offset for a time in a partition; trying again"
                );
                None
            }
            Err(error) => {
                tracing::warn!(topic, partition, %error, "cannot query the offset for a time; trying again");
                None
            }
        }
    }

    /// Unassigns a partition that is being read, and assigns it again at `next`. librdkafka drops
    /// what it had fetched of it.
    pub(super) fn reassign(&self, index: usize, next: i64) -> KafkaResult<()> {
        let stream = &self.slots[index].stream;
        let mut list = TopicPartitionList::new();
        if group::is_cooperative(&self.consumer) {
            list.add_partition_offset(&stream.source, stream.partition, Offset::Offset(next))?;
            self.consumer.incremental_unassign(&list)?;
            return self.consumer.incremental_assign(&list);
        }
        for (other, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.state == State::Reading) {
            let next = if other == index { next } else { slot.next };
            list.add_partition_offset(&slot.stream.source, slot.stream.partition, Offset::Offset(next))?;
        }
        self.consumer.unassign()?;
        self.consumer.assign(&list)
    }

    /// Seeks in a partition that is being read. librdkafka refuses to seek in one that has stopped
    /// with an error: that one is unassigned and assigned again. The unassignment clears its
    /// forwarding, at a moment that librdkafka does not report; [`KafkaSource::tend`] sets it
    /// again.
    fn go_to(&self, index: usize, next: i64) -> KafkaResult<()> {
        let stream = &self.slots[index].stream;
        let (topic, partition) = (stream.source.as_str(), stream.partition);
        let Err(error) = self.consumer.seek(topic, partition, Offset::Offset(next), SEEK_TIMEOUT) else {
            return Ok(());
        };
        if self.assigning || self.revoking.is_some() {
            // The group would take a new assignment for the answer that it waits for.
            return Err(error);
        }
        tracing::debug!(topic, partition, %error, "assigning a partition again");
        self.reassign(index, next)
    }

    /// Assigns the partitions that have their starts. If the group waits for an answer to its
    /// assignment, this is the answer.
    pub(super) fn assign(&mut self) -> Result<(), SpeedError> {
        let answers = std::mem::replace(&mut self.assigning, false);
        let cooperative = group::is_cooperative(&self.consumer);
        let mut list = TopicPartitionList::new();
        let mut new = Vec::new();
        for slot in &mut self.slots {
            // Without cooperative rebalancing an assignment replaces the whole list: partitions
            // that are being read are named again, each at its next offset.
            let is_new = slot.state == State::Ready;
            if is_new || (!cooperative && slot.state == State::Reading) {
                if !self.queue.attach(&slot.stream.source, slot.stream.partition) {
                    return Err(SpeedError::Ended("the forwarding of a partition"));
                }
                add(&mut list, &slot.stream.source, slot.stream.partition, slot.next);
                slot.state = State::Reading;
                slot.is_assigned = true;
                new.push(slot.stream.clone());
            }
        }
        let assigned = if cooperative { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
        assigned.map_err(|error| failed("cannot assign partitions", error))?;
        if !answers {
            return Ok(());
        }
        self.stay(|slot| slot.state == State::Reading && !new.contains(&slot.stream))
    }

    /// The broker says that it does not have the next offset. Asks it again: if it has the offset
    /// after all, reading goes on there; if not, [`KafkaSource::begin`] refuses.
    pub(super) fn find_again(&mut self, index: usize) {
        let slot = &self.slots[index];
        let is_restarted = self.starts.iter().any(|start| start.stream == slot.stream);
        if slot.state == State::Reading && !is_restarted {
            let (stream, generation) = (slot.stream.clone(), slot.generation);
            let (stored, marks) = (Some(slot.next), TopicMarks::default());
            self.starts.push(Start { stream, stored, marks, generation });
        }
    }
}
