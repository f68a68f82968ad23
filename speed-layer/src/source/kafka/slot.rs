//! A partition that this consumer holds, and the chunk that is being filled with its records.

use std::sync::Arc;

use adlake_decode::columns::room_after;
use adlake_decode::record::Rejection;

use super::watch::ListeningTime;
use crate::record::{Chunk, Stream};
use crate::source::{CHUNK_BYTES, Event, KEPT_BYTES, Port};

/// A partition that this consumer holds.
pub struct Slot {
    pub stream: Arc<Stream>,
    pub state: State,
    /// Whether the client fetches it, or fetched it until it was revoked.
    pub is_assigned: bool,
    pub chunk: Chunk,
    /// The bytes and the records to reserve when the next chunk begins, by the size of the last
    /// one. No chunk is kept ready: with many partitions, most have no records waiting.
    room: (usize, usize),
    pub generation: u64,
    pub next: i64,
    /// Where reading ends, in a run that reads up to the end and stops.
    pub end: Option<i64>,
    pub caught_up: bool,
    /// The listening time at which something last arrived from the partition.
    pub last_arrival: ListeningTime,
    /// How many remedies were tried since then to end its silence.
    pub remedies: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Assigned. The pipeline has not said where to begin.
    Waiting,
    /// It has its start, but other new partitions of the group still wait for theirs.
    Ready,
    Reading,
    /// Assigned, but its table is stopped: nothing is read.
    Skipped,
    Revoked,
}

impl Slot {
    /// A partition that waits for its start.
    pub fn new(stream: Arc<Stream>, end: Option<i64>, last_arrival: ListeningTime) -> Slot {
        let chunk = Chunk::new(stream.partition);
        let (generation, next) = (0, 0);
        let (state, is_assigned, caught_up, remedies) = (State::Waiting, false, false, 0);
        let room = (0, 0);
        Slot { stream, state, is_assigned, chunk, room, generation, next, end, caught_up, last_arrival, remedies }
    }

    /// Notes that something arrived from the partition.
    pub fn note_arrival(&mut self, now: ListeningTime) {
        self.last_arrival = now;
        self.remedies = 0;
    }

    /// Whether everything has been read that a run with an end is to read.
    pub fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Whether everything has been read that it holds at this moment, or that a run with an end is
    /// to read.
    pub fn is_read(&self) -> bool {
        self.state == State::Reading && (self.caught_up || self.is_at_end())
    }

    /// Notes that no record before `offset` is still to come: there is none between the last record
    /// and there. In a run with an end, the position never moves past the end, since the records
    /// behind it were not taken.
    pub fn pass(&mut self, offset: i64, port: &Port) {
        let position = self.end.map_or(offset, |end| offset.min(end));
        self.deliver(port);
        if position > self.next {
            self.next = position;
            port.tell(Event::Passed { stream: self.stream.clone(), generation: self.generation, position });
        }
    }

    /// Adds a record to the chunk. A chunk that is large enough is delivered.
    pub fn take(
        &mut self,
        offset: i64,
        time: Option<i64>,
        key: Option<&[u8]>,
        payload: &[u8],
        limit: usize,
        port: &Port,
    ) {
        if self.chunk.is_empty() {
            self.chunk = Chunk::with_capacity(self.stream.partition, self.room.0, self.room.1);
        }
        let fits = if payload.len() + key.map_or(0, <[u8]>::len) > limit {
            let detail = format!("{} bytes, more than ingest.record_bytes_max ({limit})", payload.len());
            let kept = &payload[..payload.len().min(KEPT_BYTES)];
            self.chunk.push_rejected(offset, time, kept, Rejection { reason: "too_long", detail })
        } else {
            self.chunk.push(offset, time, key, payload)
        };
        debug_assert!(fits, "a chunk is delivered long before it is full");
        self.next = offset + 1;
        self.caught_up = false;
        if self.chunk.bytes() >= CHUNK_BYTES {
            self.deliver(port);
        }
    }

    /// Delivers the chunk.
    pub fn deliver(&mut self, port: &Port) {
        if !self.chunk.is_empty() {
            self.room = (room_after(self.chunk.bytes()), room_after(self.chunk.len()));
            let next = Chunk::new(self.stream.partition);
            port.deliver(&self.stream, self.generation, std::mem::replace(&mut self.chunk, next));
        }
    }

    /// Tells the pipeline, once, that nothing is left at the moment.
    pub fn catch_up(&mut self, port: &Port) {
        if !self.caught_up {
            self.caught_up = true;
            port.tell(Event::CaughtUp { stream: self.stream.clone(), generation: self.generation });
        }
    }
}

/// Finds the slot of a partition. `last` is tried first: most messages come from the same partition
/// as the one before.
pub fn find(slots: &[Slot], last: usize, topic: &str, partition: i32) -> Option<usize> {
    let matches = |slot: &Slot| slot.stream.partition == partition && slot.stream.source == topic;
    if slots.get(last).is_some_and(matches) { Some(last) } else { slots.iter().position(matches) }
}
