//! A partition that is ours, and the chunk of it in the making.

use std::sync::Arc;

use super::watch::Listened;
use crate::decode::columns::room_after;
use crate::record::{Chunk, Rejection, Stream};
use crate::source::{CHUNK_BYTES, Event, KEPT_BYTES, Port};

/// A partition that is ours.
pub struct Slot {
    pub stream: Arc<Stream>,
    pub state: State,
    /// Whether the client fetches it, or did before it was revoked.
    pub is_assigned: bool,
    pub chunk: Chunk,
    /// Bytes and records about as many as the last chunk had, for which room is made when the next one begins: with many partitions most have none in the making.
    room: (usize, usize),
    pub generation: u64,
    pub next: i64,
    /// Where reading ends, in a run that has an end.
    pub end: Option<i64>,
    pub caught_up: bool,
    /// How long we had listened when something last came of it.
    pub heard: Listened,
    /// What was done about its silence since.
    pub remedies: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Assigned; the pipeline has not said where to begin.
    Waiting,
    /// It has, but the group's other new partitions are still waiting.
    Ready,
    Reading,
    /// Ours, and of no use: its table is stopped.
    Skipped,
    Revoked,
}

impl Slot {
    /// A partition that waits for its start.
    pub fn new(stream: Arc<Stream>, end: Option<i64>, heard: Listened) -> Slot {
        let chunk = Chunk::new(stream.partition);
        let (generation, next) = (0, 0);
        let (state, is_assigned, caught_up, remedies) = (State::Waiting, false, false, 0);
        let room = (0, 0);
        Slot { stream, state, is_assigned, chunk, room, generation, next, end, caught_up, heard, remedies }
    }

    /// Something came of it.
    pub fn hear(&mut self, now: Listened) {
        self.heard = now;
        self.remedies = 0;
    }

    /// Whether everything is read that a run with an end is to read.
    pub fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Nothing before an offset is left to come: what lies between the last record and there is none. Records that are past
    /// the end of the run are not passed, since they were not taken.
    pub fn pass(&mut self, offset: i64, port: &Port) {
        let position = self.end.map_or(offset, |end| offset.min(end));
        self.hand_on(port);
        if position > self.next {
            self.next = position;
            port.tell(Event::Passed { stream: self.stream.clone(), generation: self.generation, position });
        }
    }

    /// Adds a record to the chunk, which is handed on when it is large enough.
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
        debug_assert!(fits, "a chunk is handed on long before it is full");
        self.next = offset + 1;
        self.caught_up = false;
        if self.chunk.bytes() >= CHUNK_BYTES {
            self.hand_on(port);
        }
    }

    /// Hands on the chunk.
    pub fn hand_on(&mut self, port: &Port) {
        if !self.chunk.is_empty() {
            self.room = (room_after(self.chunk.bytes()), room_after(self.chunk.len()));
            let next = Chunk::new(self.stream.partition);
            port.hand_on(&self.stream, self.generation, std::mem::replace(&mut self.chunk, next));
        }
    }

    /// Says, once, that nothing is left at the moment.
    pub fn catch_up(&mut self, port: &Port) {
        if !self.caught_up {
            self.caught_up = true;
            port.tell(Event::CaughtUp { stream: self.stream.clone(), generation: self.generation });
        }
    }
}

/// The slot of a partition; most messages come from the same as the one before.
pub fn find(slots: &[Slot], last: usize, topic: &str, partition: i32) -> Option<usize> {
    let matches = |slot: &Slot| slot.stream.partition == partition && slot.stream.source == topic;
    if slots.get(last).is_some_and(matches) { Some(last) } else { slots.iter().position(matches) }
}
