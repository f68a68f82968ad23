//! Where records come from, behind one trait.
//!
//! # The exactly-once contract
//!
//! A source hands on *streams*: a Kafka partition, a file. Each has an application name that is the same for ever, and positions
//! that number its records. The lake stores, with the rows, the position up to which each stream has come; nothing else is ever
//! resumed from. Between a source and the pipeline this holds:
//!
//! 1. **Assigned, then started.** A stream's records are handed on only after [`Event::Assigned`] has been answered by
//!    [`Command::Start`] with the position stored in the lake (or none, for a stream that the lake has never seen).
//!    [`Event::Started`] confirms it and says where reading begins.
//! 2. **In order, without holes.** After a start at position `p` come all records of the stream with positions from `p` on, once
//!    each, in growing order. A number that is not used by a record (a compacted one, a transaction marker) may be passed over;
//!    [`Event::Passed`] says so where no record follows. The same position always stands for the same bytes, except that of a record
//!    which the stream's end cuts off. Such records come last, if at all, in a chunk that says so ([`Chunk::is_cut`]), and all of them are
//!    rejected. They become dead letters, and the stored position stays before them: once the stream is longer, what stands there is
//!    handed on again, as what it is then.
//! 3. **Generations.** Each start carries a generation that was never used before; everything that follows from it carries it too. A
//!    stream may be started again at any time, which is how the pipeline goes back: what still arrives of an older
//!    generation is dropped there.
//! 4. **Refused, not skipped.** Where the records from `p` on no longer exist, or the stream ends before `p`, the source
//!    fails with an error that names the stream and both positions. It never goes on elsewhere.
//! 5. **Revoked, then released.** After [`Event::Revoked`] no record of the stream follows. The source gives the stream
//!    away when [`Command::Release`] says that its last rows are committed, or after a time limit. It is safe not to wait: whoever
//!    commits second finds another position stored than it expects.
//! 6. **Acknowledged afterwards.** [`Command::Acknowledge`] follows a commit to the lake, and a start at a stored position; it is for
//!    observers, and may be lost.
//! 7. **Done.** A source with an end says [`Event::Done`] when every started stream has been handed on to its end; it goes on
//!    listening, since streams may be started again.
//! 8. **Bounded.** Records handed on and not yet dropped by the pipeline are counted in bytes; a source waits for room
//!    ([`Port::has_room`]) before it reads more, and attends to its group meanwhile.
//! 9. **Skipped.** After [`Command::Skip`] a stream counts as handed on: its table is stopped, nobody takes its records. It stays
//!    this source's until it is revoked, and waits for no start.
//!
//! `conformance` checks this for any implementation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc as blocking};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::error::SpeedError;
use crate::record::{Chunk, Stream};

pub mod files;
pub mod kafka;

#[doc(hidden)]
pub mod conformance;

/// The bytes that a chunk is handed on at.
pub const CHUNK_BYTES: usize = 1 << 20;

/// How many bytes of a record that is too long are kept in its dead letter.
pub const KEPT_BYTES: usize = 64 << 10;

/// What a source tells the pipeline.
#[derive(Debug)]
pub enum Event {
    /// These streams are this source's to read. Each waits for a start.
    Assigned(Vec<Arc<Stream>>),
    /// A start has taken effect.
    Started {
        /// The stream.
        stream: Arc<Stream>,
        /// Of the start.
        generation: u64,
        /// Where reading begins.
        position: i64,
    },
    /// Records, in order.
    Records(Records),
    /// All records before this position have been handed on: what lies between the last of them and here is none (the mark of a
    /// transaction, a record that was rolled back or compacted away).
    Passed {
        /// The stream.
        stream: Arc<Stream>,
        /// Of the start.
        generation: u64,
        /// Where reading has come to.
        position: i64,
    },
    /// What the source has found of the topic that a stream is of, for the lake to keep beside the stream's position.
    Topic {
        /// The stream.
        stream: Arc<Stream>,
        /// What was found.
        marks: TopicMarks,
    },
    /// Nothing came of a stream that had more to give, and something is done about it.
    Stalled(Arc<Stream>),
    /// Everything that the stream holds at this moment has been handed on.
    CaughtUp {
        /// The stream.
        stream: Arc<Stream>,
        /// Of the start.
        generation: u64,
    },
    /// These streams go to somebody else.
    Revoked(Vec<Arc<Stream>>),
    /// How many records each stream holds that have not been handed on.
    Behind(Vec<(Arc<Stream>, i64)>),
    /// Bytes of files (as stored, compressed ones so) that have been read since the last such event.
    Consumed(u64),
    /// Nothing is left to hand on, after so many commands to start.
    Done {
        /// How many [`Command::Start`] the source had obeyed.
        starts: u64,
    },
}

/// A chunk with what it belongs to. Dropping it makes room.
#[derive(Debug)]
pub struct Records {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Of the start that it follows.
    pub generation: u64,
    /// The records.
    pub chunk: Chunk,
    _room: Room,
}

/// What is remembered of a topic as a whole, from when the lake first saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicMarks {
    /// A number made of the id that the cluster gave the topic: another one is another topic, if of the same name.
    pub id: Option<i64>,
    /// How many partitions it had. Those with higher numbers were added since.
    pub partitions: Option<i64>,
}

/// Where to begin, or to begin again, with a stream.
#[derive(Debug, Clone)]
pub struct Start {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The position stored in the lake; none: the stream has never been seen.
    pub stored: Option<i64>,
    /// What the lake has stored of its topic.
    pub marks: TopicMarks,
    /// Never used before.
    pub generation: u64,
}

/// What the pipeline tells a source.
#[derive(Debug)]
pub enum Command {
    /// Begin, or begin again.
    Start(Vec<Start>),
    /// What was read of these revoked streams is committed, or given up.
    Release(Vec<Arc<Stream>>),
    /// Hand on nothing more of these streams, and wait for no start of theirs.
    Skip(Vec<Arc<Stream>>),
    /// Committed up to (before) these positions.
    Acknowledge(Vec<(Arc<Stream>, i64)>),
    /// Hand on nothing more; answered by [`Event::Done`].
    Stop,
}

/// Something that records come from. It blocks, and has a thread of its own.
pub trait Source: Send + 'static {
    /// Names its thread.
    fn name(&self) -> &'static str;

    /// Works until [`Port::next_command`] says that the pipeline is gone, then leaves in order.
    fn run(self: Box<Self>, port: &mut Port) -> Result<(), SpeedError>;
}

/// The source's end of the two channels.
#[derive(Debug)]
pub struct Port {
    commands: blocking::Receiver<Command>,
    events: mpsc::UnboundedSender<Event>,
    budget: Arc<Budget>,
    starts: u64,
}

/// What [`Port::next_command`] found.
#[derive(Debug)]
pub enum Next {
    /// A command.
    Command(Command),
    /// None as yet.
    Nothing,
    /// The pipeline is gone: leave.
    Closed,
}

impl Port {
    /// The next command, waited for at most so long.
    pub fn next_command(&mut self, wait: Duration) -> Next {
        let received = if wait.is_zero() {
            self.commands.try_recv().map_err(|error| error == blocking::TryRecvError::Disconnected)
        } else {
            self.commands.recv_timeout(wait).map_err(|error| error == blocking::RecvTimeoutError::Disconnected)
        };
        match received {
            Ok(command) => {
                if matches!(command, Command::Start(_)) {
                    self.starts += 1;
                }
                Next::Command(command)
            }
            Err(false) => Next::Nothing,
            Err(true) => Next::Closed,
        }
    }

    /// Tells the pipeline; where that is gone, [`Port::next_command`] will say so.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Says that nothing is left, as of the commands taken so far.
    pub fn tell_done(&self) {
        self.tell(Event::Done { starts: self.starts });
    }

    /// Hands on records. They count against the room at once, and are never refused.
    pub fn hand_on(&self, stream: &Arc<Stream>, generation: u64, chunk: Chunk) {
        if !chunk.is_empty() {
            let room = self.budget.take(chunk.memory());
            self.tell(Event::Records(Records { stream: stream.clone(), generation, chunk, _room: room }));
        }
    }

    /// Whether there is room for more records, waited for at most so long.
    pub fn has_room(&self, wait: Duration) -> bool {
        self.budget.wait(wait)
    }
}

/// The pipeline's end of the two channels, and the owner of the source's thread.
#[derive(Debug)]
pub struct Handle {
    events: mpsc::UnboundedReceiver<Event>,
    commands: Commander,
    ended: oneshot::Receiver<Result<(), SpeedError>>,
}

/// Sends commands; cheap to clone. The source leaves when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Commander {
    commands: blocking::Sender<Command>,
    starts: Arc<AtomicU64>,
}

impl Commander {
    /// Tells the source; where that has ended, [`Handle::next`] will say so.
    pub fn tell(&self, command: Command) {
        if matches!(command, Command::Start(_)) {
            self.starts.fetch_add(1, Ordering::SeqCst);
        }
        let _ = self.commands.send(command);
    }

    /// How many commands to start have been sent.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }
}

impl Handle {
    /// Starts a source, which may have so many bytes of records under way.
    pub fn spawn(source: Box<dyn Source>, room_bytes: usize) -> Result<Handle, SpeedError> {
        let (command_sender, commands) = blocking::channel();
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let budget = Arc::new(Budget::new(room_bytes));
        let name = source.name();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut port = Port { commands, events, budget, starts: 0 };
                let result = source.run(&mut port);
                // The port goes last, so that whoever sees the events end finds the result.
                let _ = end.send(result);
                drop(port);
            })
            .map_err(|error| SpeedError::thread(name, error))?;
        let commands = Commander { commands: command_sender, starts: Arc::default() };
        Ok(Handle { events: event_receiver, commands, ended })
    }

    /// The next event; `None` when the source has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A sender of commands.
    pub fn commander(&self) -> &Commander {
        &self.commands
    }

    /// Lets the source leave, once every other [`Commander`] is gone, and waits for its result.
    pub async fn close(self) -> Result<(), SpeedError> {
        let Handle { mut events, commands, ended } = self;
        drop(commands);
        // Records still under way are dropped, so that the source never waits for room.
        while events.recv().await.is_some() {}
        ended.await.unwrap_or(Err(SpeedError::Ended("the source")))
    }
}

/// A number of bytes that may be under way.
#[derive(Debug)]
struct Budget {
    limit: usize,
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    fn new(limit: usize) -> Budget {
        Budget { limit, taken: Mutex::new(0), freed: Condvar::new() }
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Room {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Room { budget: self.clone(), bytes }
    }

    fn wait(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= self.limit {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            taken = self.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[derive(Debug)]
struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        *self.budget.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.take(60);
        assert!(budget.wait(Duration::ZERO));
        let second = budget.take(60);
        assert!(!budget.wait(Duration::from_millis(1)));
        drop(first);
        assert!(budget.wait(Duration::ZERO));
        drop(second);
        assert_eq!(*budget.taken.lock().unwrap(), 0);
    }

    #[test]
    fn waiting_ends_when_room_is_given_back() {
        let budget = Arc::new(Budget::new(1));
        let room = budget.take(1);
        let waiting = {
            let budget = budget.clone();
            thread::spawn(move || budget.wait(Duration::from_secs(60)))
        };
        drop(room);
        assert!(waiting.join().unwrap());
    }
}
