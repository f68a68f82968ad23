//! The bookkeeping of one table: the position of each stream, what a commit advances, and what is
//! dropped. It is pure.
//!
//! Each stream has two stored positions: the table's and that of `raw/dead_letters`. Both are
//! looked up when the stream is assigned, and whenever something unexpected happens. In between,
//! they are advanced in memory when commits are sealed.
//!
//! The position of the dead letters may differ from the table's:
//!
//! - It lags behind, because it only moves when there are dead letters.
//! - It is ahead after a crash between the commit of the dead letters and that of the rows. The
//!   records in between are then read again. Those that are dead letters already are skipped,
//!   whatever they would become now. With other settings, newer reference data or a later clock, a
//!   record may be judged differently than before the crash. It must not end up in both tables, nor
//!   in neither.
//! - It is ahead where a stream ends within a record ([`Ledger::take_cut`]). The part of the record
//!   that is there becomes a dead letter, and the table's position stays before it. If the stream
//!   is longer the next time, the whole record is read at that position. It is taken, because its
//!   bytes differ from the dead letter's. If the stream is not longer, the dead letter is found
//!   there and is not written again.

use std::collections::HashMap;
use std::sync::Arc;

use adlake_decode::record::RecordRef;
use adlake_lake::Advance;

use crate::record::{Chunk, Stream};
use crate::source::Start;
use crate::write::{KnownDead, Stored};

/// The positions of the streams of one table.
#[derive(Debug, Default)]
pub struct Ledger {
    tracks: HashMap<Arc<Stream>, Track>,
}

#[derive(Debug)]
struct Track {
    state: State,
    /// The generation of the last start. Chunks of other generations are dropped.
    generation: u64,
    /// The position that the table will have stored once everything sealed is committed.
    stored: Option<i64>,
    /// The same position in `raw/dead_letters`.
    dead_stored: Option<i64>,
    /// Dead letters that are stored beyond the table's position.
    known_dead: Option<Arc<KnownDead>>,
    /// The position after the last record sealed, or the position where reading began.
    sealed: i64,
    /// The position after the last record taken.
    next: i64,
    /// The position after a record that the stream's end cuts off, if that record is taken and not
    /// sealed.
    cut: Option<i64>,
    /// The same position in the batch that was sealed last.
    cut_sealed: Option<i64>,
    /// Whether the next commit stores the position where reading began, even without records.
    pinned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Reading,
    Revoked,
}

impl Track {
    fn new() -> Track {
        Track {
            state: State::Waiting,
            generation: 0,
            stored: None,
            dead_stored: None,
            known_dead: None,
            sealed: 0,
            next: 0,
            cut: None,
            cut_sealed: None,
            pinned: false,
        }
    }

    fn is_open(&self) -> bool {
        self.pinned || self.next > self.sealed || self.cut.is_some()
    }
}

/// How far a sealed batch advances a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The position that must be stored before the commit.
    pub from: Option<i64>,
    /// The position after the batch.
    pub to: i64,
}

/// The records of a chunk that are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Records from this position on are taken.
    pub from: i64,
    /// Records that are among these are not taken.
    pub known_dead: Option<Arc<KnownDead>>,
}

impl Span {
    /// The same span as the lake's type.
    pub fn advance(&self) -> Advance {
        Advance { application: self.stream.application.clone(), from: self.from, to: self.to }
    }
}

impl Ledger {
    /// Adds an assigned stream. Nothing of it is taken before it has been looked up and started.
    ///
    /// Returns `false` and changes nothing if records of the stream's earlier assignment are still
    /// to be committed. They have to be sealed or [`Ledger::reset`] first. A stream that is now
    /// decoded differently replaces its earlier form.
    #[must_use]
    pub fn assign(&mut self, stream: &Arc<Stream>) -> bool {
        if self.is_open_for(stream) {
            return false;
        }
        self.tracks.retain(|other, _| other.application != stream.application);
        self.tracks.insert(stream.clone(), Track::new());
        true
    }

    /// The stream is no longer assigned, so no more of it is taken. What was taken is still
    /// committed.
    pub fn revoke(&mut self, stream: &Stream) {
        if let Some(track) = self.tracks.get_mut(stream) {
            track.state = State::Revoked;
        }
    }

    /// Removes the revoked streams that have nothing left to commit.
    pub fn forget_revoked(&mut self) {
        self.tracks.retain(|_, track| track.state != State::Revoked || track.is_open());
    }

    /// Takes the stored positions of a stream that was looked up, and returns how to start it.
    /// `None` if the stream is no longer assigned.
    pub fn start(&mut self, stream: &Arc<Stream>, stored: Stored, generation: u64) -> Option<Start> {
        let track = self.tracks.get_mut(stream).filter(|track| track.state != State::Revoked)?;
        let Stored { rows, dead_letters, known_dead, marks } = stored;
        *track = Track { generation, stored: rows, dead_stored: dead_letters, known_dead, ..Track::new() };
        Some(Start { stream: stream.clone(), stored: rows, marks, generation })
    }

    /// The source has begun at the position where it was told to. With `pin`, the next commit
    /// stores the position of a first start, so that the next run does not begin elsewhere.
    pub fn started(&mut self, stream: &Stream, generation: u64, position: i64, pin: bool) {
        let track = self.tracks.get_mut(stream);
        if let Some(track) = track.filter(|track| track.generation == generation && track.state == State::Waiting) {
            track.state = State::Reading;
            track.sealed = position;
            track.next = position;
            track.pinned = pin && track.stored.is_none();
        }
    }

    /// Takes records before `next`. Returns which of them, or `None` if all are to be dropped.
    pub fn take(&mut self, stream: &Stream, generation: u64, next: i64) -> Option<Taken> {
        let track = self.tracks.get_mut(stream)?;
        if track.state != State::Reading || track.generation != generation || next <= track.next {
            return None;
        }
        let from = std::mem::replace(&mut track.next, next);
        let known_dead = track.known_dead.clone();
        if track.dead_stored.is_none_or(|dead_stored| next >= dead_stored) {
            track.known_dead = None;
        }
        Some(Taken { from, known_dead })
    }

    /// Takes records that the stream's end cuts off. They become dead letters, and the table's
    /// position does not move past them. `None` if they are to be dropped, or if all of them are
    /// dead letters already.
    pub fn take_cut(&mut self, stream: &Stream, generation: u64, chunk: &Chunk) -> Option<Taken> {
        let track = self.tracks.get_mut(stream)?;
        let next = chunk.next()?;
        if track.state != State::Reading || track.generation != generation || next <= track.next || track.cut.is_some()
        {
            return None;
        }
        let (from, known_dead) = (track.next, track.known_dead.clone());
        let is_dead = |record: &RecordRef<'_>| {
            known_dead.as_ref().is_some_and(|known| known.contains(record.offset, record.payload))
        };
        if chunk.records_from(from).all(|(record, _)| is_dead(&record)) {
            return None;
        }
        track.cut = Some(next);
        Some(Taken { from, known_dead })
    }

    /// No records are left before `position`, and perhaps none were ever there. The position
    /// advances all the same.
    pub fn pass(&mut self, stream: &Stream, generation: u64, position: i64) {
        let track = self.tracks.get_mut(stream);
        if let Some(track) = track.filter(|track| track.generation == generation && track.state == State::Reading) {
            track.next = track.next.max(position);
        }
    }

    /// Whether there is anything to commit.
    pub fn is_open(&self) -> bool {
        self.tracks.values().any(Track::is_open)
    }

    /// Whether the position of a first start is still to be stored. Until then no other worker
    /// knows it.
    pub fn is_pinned(&self) -> bool {
        self.tracks.values().any(|track| track.pinned)
    }

    /// Whether there is anything to commit of the streams with this stream's application.
    pub fn is_open_for(&self, stream: &Stream) -> bool {
        let is_it = |other: &Stream| other.application == stream.application;
        self.tracks.iter().any(|(other, track)| is_it(other) && track.is_open())
    }

    /// Puts everything taken so far into one commit. Returns what it advances, ordered by
    /// application name. From now on the ledger treats the commit as done.
    pub fn seal(&mut self) -> Vec<Span> {
        let mut spans: Vec<Span> = self
            .tracks
            .iter_mut()
            .filter(|(_, track)| track.is_open())
            .map(|(stream, track)| {
                let from = track.stored.replace(track.next);
                track.sealed = track.next;
                track.cut_sealed = track.cut.take();
                track.pinned = false;
                Span { stream: stream.clone(), from, to: track.next }
            })
            .collect();
        spans.sort_by(|a, b| a.stream.application.cmp(&b.stream.application));
        spans
    }

    /// Returns what the commit of a sealed batch's dead letters advances, if the commit of the rows
    /// advances `span`. The ledger treats this commit as done, too.
    ///
    /// After a crash the stored position may be ahead of the span. Then it moves by one all the
    /// same, so that of two processes that know the same position only one can commit.
    pub fn seal_dead(&mut self, span: &Span) -> Span {
        let track = self.tracks.get(&span.stream);
        let from = track.and_then(|track| track.dead_stored);
        let end = track.and_then(|track| track.cut_sealed).map_or(span.to, |cut| span.to.max(cut));
        let to = from.map_or(end, |from| end.max(from + 1));
        if let Some(track) = self.tracks.get_mut(&span.stream) {
            track.dead_stored = Some(to);
        }
        Span { stream: span.stream.clone(), from, to }
    }

    /// Something unexpected has happened: everything taken is void, and so is everything that was
    /// treated as done. Revoked streams are removed. The others have to be looked up and started
    /// again, and are returned.
    pub fn reset(&mut self) -> Vec<Arc<Stream>> {
        self.tracks.retain(|_, track| track.state != State::Revoked);
        self.tracks.values_mut().for_each(|track| *track = Track::new());
        let mut streams: Vec<_> = self.tracks.keys().cloned().collect();
        streams.sort_by(|a, b| a.application.cmp(&b.application));
        streams
    }
}

#[cfg(test)]
mod tests;
