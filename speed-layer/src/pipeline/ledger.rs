//! The book-keeping of one table: how far each stream has come, what a commit advances, what is dropped. Pure.
//!
//! For every stream there are two stored positions, the table's and that of `raw/dead_letters`. Both are looked up when the stream is
//! assigned and whenever something did not go as expected; in between they are carried forward as commits are sealed. The dead
//! letters' position
//!
//! - lags behind, since it only moves when there are dead letters, and
//! - runs ahead after a crash between the commit of the dead letters and that of the rows. The records in between are then read
//!   again. Those among them that are dead letters already are passed over as they are, whatever would become of them now: with
//!   other settings, newer reference data or a later clock a record may be judged otherwise than before the crash, and it must
//!   neither be in both tables nor in none.
//!
//! It also runs ahead where a stream ends within a record ([`Ledger::take_cut`]). What there is of the record becomes a dead letter, and
//! the table's position stays before it. If the stream is longer the next time, the whole record is read at that position, and is taken, since its
//! bytes are not those of the letter; if it is not, the letter is found there, and not written again.

use std::collections::HashMap;
use std::sync::Arc;

use adlake_lake::Advance;

use crate::record::{Chunk, RecordRef, Stream};
use crate::source::Start;
use crate::write::{KnownDead, Stored};

/// How far the streams of one table have come.
#[derive(Debug, Default)]
pub struct Ledger {
    tracks: HashMap<Arc<Stream>, Track>,
}

#[derive(Debug)]
struct Track {
    state: State,
    /// Of the last start; chunks of others are dropped.
    generation: u64,
    /// What the table will have stored once everything sealed is committed.
    stored: Option<i64>,
    /// The same of `raw/dead_letters`.
    dead_stored: Option<i64>,
    /// Dead letters that are in though the table has not come to them.
    known_dead: Option<Arc<KnownDead>>,
    /// The position after the last record sealed, or where reading began.
    sealed: i64,
    /// The position after the last record taken.
    next: i64,
    /// The position after the last record that the stream's end cuts off and that is taken and not sealed.
    cut: Option<i64>,
    /// The same of what was sealed last.
    cut_sealed: Option<i64>,
    /// Whether the next commit is to write down where reading began, records or not.
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

/// What a sealed batch advances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The position that must be stored.
    pub from: Option<i64>,
    /// The position after the batch.
    pub to: i64,
}

/// Which records of a chunk are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// From this position on ...
    pub from: i64,
    /// ... except those that are among these.
    pub known_dead: Option<Arc<KnownDead>>,
}

impl Span {
    /// The same as the lake takes it.
    pub fn advance(&self) -> Advance {
        Advance { application: self.stream.application.clone(), from: self.from, to: self.to }
    }
}

impl Ledger {
    /// A stream is ours; nothing is taken of it before it has been looked up and started. `false`, and nothing changed, where records
    /// of it from before are still to be committed: those have to be sealed or [`Ledger::reset`] first. A stream that is to be decoded
    /// otherwise than before takes the place of the one that it was.
    #[must_use]
    pub fn assign(&mut self, stream: &Arc<Stream>) -> bool {
        if self.is_open_for(stream) {
            return false;
        }
        self.tracks.retain(|other, _| other.application != stream.application);
        self.tracks.insert(stream.clone(), Track::new());
        true
    }

    /// A stream is no longer ours: nothing more is taken of it. What was taken stays to be committed.
    pub fn revoke(&mut self, stream: &Stream) {
        if let Some(track) = self.tracks.get_mut(stream) {
            track.state = State::Revoked;
        }
    }

    /// Forgets the revoked streams of which nothing is left to be committed.
    pub fn forget_revoked(&mut self) {
        self.tracks.retain(|_, track| track.state != State::Revoked || track.is_open());
    }

    /// The stored positions have been looked up: how the stream is to be started. `None`: it is no longer ours.
    pub fn start(&mut self, stream: &Arc<Stream>, stored: Stored, generation: u64) -> Option<Start> {
        let track = self.tracks.get_mut(stream).filter(|track| track.state != State::Revoked)?;
        let Stored { rows, dead_letters, known_dead, marks } = stored;
        *track = Track { generation, stored: rows, dead_stored: dead_letters, known_dead, ..Track::new() };
        Some(Start { stream: stream.clone(), stored: rows, marks, generation })
    }

    /// The source has begun where it was told to. With `pin` a first start is written down with the next commit, so that the next
    /// one does not begin elsewhere.
    pub fn started(&mut self, stream: &Stream, generation: u64, position: i64, pin: bool) {
        let track = self.tracks.get_mut(stream);
        if let Some(track) = track.filter(|track| track.generation == generation && track.state == State::Waiting) {
            track.state = State::Reading;
            track.sealed = position;
            track.next = position;
            track.pinned = pin && track.stored.is_none();
        }
    }

    /// Takes records up to (before) `next`: which of them, or `None` where they are to be dropped.
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

    /// Takes records that the stream's end cuts off: they become dead letters, and the table's position does not move past them.
    /// `None` where they are to be dropped, as all that are dead letters already.
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

    /// No records are left before `position`, and none may have been there: it is progress all the same.
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

    /// Whether a first start is still to be written down: until then nobody else knows where it was.
    pub fn is_pinned(&self) -> bool {
        self.tracks.values().any(|track| track.pinned)
    }

    /// Whether there is anything to commit of this stream, by its application.
    pub fn is_open_for(&self, stream: &Stream) -> bool {
        let is_it = |other: &Stream| other.application == stream.application;
        self.tracks.iter().any(|(other, track)| is_it(other) && track.is_open())
    }

    /// Everything taken so far goes into one commit: what it advances, in the order of the applications' names. From now on the
    /// commit is taken for done.
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

    /// What the commit of a sealed batch's dead letters advances, where the rows' commit advances `span`. Taken for done, as well.
    /// After a crash the stored position may be ahead of the span. It moves all the same, by one: of two processes that know the same
    /// position only one can commit.
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

    /// Something did not go as expected: everything taken is void, and so is what was taken for done. Revoked streams are forgotten;
    /// the others have to be looked up and started again.
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
