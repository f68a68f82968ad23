//! Where records come from, behind one trait.
//!
//! # The exactly-once contract
//!
//! A source delivers *streams*: a Kafka partition, or a file. Each stream has an application name
//! that never changes, and positions that number its records. The lake stores, in the same commit
//! as the rows, the position that each stream has reached. Nothing else is ever resumed from.
//! Between a source and the pipeline this holds:
//!
//! 1. **Assigned, then started.** A stream's records are delivered only after [`Event::Assigned`]
//!    was answered by [`Command::Start`]. The start carries the position stored in the lake, or
//!    none for a stream that the lake has never seen. [`Event::Started`] confirms it and says where
//!    reading begins.
//! 2. **In order, without holes.** After a start at position `p` all records of the stream from
//!    position `p` on follow, once each, in growing order. A number that no record uses (a
//!    compacted record, a transaction marker) may be passed over. [`Event::Passed`] says so where
//!    no record follows.
//!
//!    The same position always stands for the same bytes, with one exception: records that the end
//!    of the stream cuts off. Such records come last, in a chunk that says so ([`Chunk::is_cut`]),
//!    and all of them are rejected. They become dead letters, and the stored position stays before
//!    them. Once the stream is longer, the bytes at that position are delivered again, as what they
//!    are then.
//! 3. **Generations.** Each start carries a generation that was never used before, and so does
//!    everything that follows from it. The pipeline may start a stream again at any time, which is
//!    how it goes back. It drops what still arrives of an older generation.
//! 4. **Refused, not skipped.** If the records from `p` on no longer exist, or the stream ends
//!    before `p`, the source fails with an error that names the stream and both positions. It never
//!    goes on elsewhere.
//! 5. **Revoked, then released.** After [`Event::Revoked`] no record of the stream follows. The
//!    source gives the stream away when [`Command::Release`] says that its last rows are committed,
//!    or after a time limit. Not waiting is safe: the second one to commit finds another position
//!    stored than it expects.
//! 6. **Acknowledged afterwards.** [`Command::Acknowledge`] follows a commit to the lake, and a
//!    start at a stored position. It is for observers, and may be lost.
//! 7. **Done.** A source with an end says [`Event::Done`] when every started stream has been
//!    delivered to its end, and no other stream may belong to a worker that is dead. It goes on
//!    listening, since streams may be started again.
//! 8. **Bounded.** Records that were delivered and are not yet dropped by the pipeline are counted
//!    in bytes. A source waits for room ([`Port::has_room`]) before it reads more, and serves its
//!    consumer group meanwhile.
//! 9. **Skipped.** After [`Command::Skip`] a stream counts as delivered: its table is stopped, and
//!    nobody takes its records. The source keeps the stream until it is revoked, and expects no
//!    start of it.
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

/// A chunk that has reached this many bytes is delivered.
pub const CHUNK_BYTES: usize = 1 << 20;

/// How many bytes of a record that is too long are kept in its dead letter.
pub const KEPT_BYTES: usize = 64 << 10;

/// What a source tells the pipeline.
#[derive(Debug)]
pub enum Event {
    /// These streams were given to this source to read. Each waits for a start.
    Assigned(Vec<Arc<Stream>>),
    /// A start has taken effect.
    Started {
        /// The stream.
        stream: Arc<Stream>,
        /// The generation of the start.
        generation: u64,
        /// Where reading begins.
        position: i64,
    },
    /// Records, in order.
    Records(Records),
    /// All records before this position have been delivered. Between the last one and this position
    /// there is none (only transaction markers, records that were rolled back, or compacted ones).
    Passed {
        /// The stream.
        stream: Arc<Stream>,
        /// The generation of the start.
        generation: u64,
        /// The position that reading has reached.
        position: i64,
    },
    /// What the source found out about a stream's topic. The lake keeps it beside the stream's
    /// position.
    Topic {
        /// The stream.
        stream: Arc<Stream>,
        /// What was found.
        marks: TopicMarks,
    },
    /// Nothing arrived from a stream that has more records. The source is trying to revive it.
    Stalled(Arc<Stream>),
    /// Everything that the stream holds at this moment has been delivered.
    CaughtUp {
        /// The stream.
        stream: Arc<Stream>,
        /// The generation of the start.
        generation: u64,
    },
    /// These streams go to another consumer.
    Revoked(Vec<Arc<Stream>>),
    /// How many records of each stream have not been delivered.
    Behind(Vec<(Arc<Stream>, i64)>),
    /// How many bytes of files were read since the last such event. Compressed files count as
    /// stored.
    Consumed(u64),
    /// Nothing is left to deliver.
    Done {
        /// How many [`Command::Start`] the source had carried out.
        starts: u64,
    },
}

/// A chunk, its stream and its generation. Dropping it frees its room in the budget.
#[derive(Debug)]
pub struct Records {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The generation of the start that the records follow.
    pub generation: u64,
    /// The records.
    pub chunk: Chunk,
    _room: Room,
}

/// What the lake remembers of a topic as a whole, from when it first saw the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicMarks {
    /// A number made of the id that the cluster gave the topic. Another number is another topic,
    /// even under the same name.
    pub id: Option<i64>,
    /// How many partitions it had. Partitions with higher numbers were added since.
    pub partitions: Option<i64>,
}

/// Where to begin, or to begin again, with a stream.
#[derive(Debug, Clone)]
pub struct Start {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The position stored in the lake. `None`: the lake has never seen the stream.
    pub stored: Option<i64>,
    /// What the lake has stored of the stream's topic.
    pub marks: TopicMarks,
    /// A number that was never used before.
    pub generation: u64,
}

/// What the pipeline tells a source.
#[derive(Debug)]
pub enum Command {
    /// Begin, or begin again.
    Start(Vec<Start>),
    /// The rows read from these revoked streams are committed, or given up.
    Release(Vec<Arc<Stream>>),
    /// Deliver nothing more of these streams, and expect no start of them.
    Skip(Vec<Arc<Stream>>),
    /// Everything before these positions is committed.
    Acknowledge(Vec<(Arc<Stream>, i64)>),
    /// Deliver nothing more. [`Event::Done`] is the answer.
    Stop,
}

/// A source of records. It blocks, and has a thread of its own.
pub trait Source: Send + 'static {
    /// The name of its thread.
    fn name(&self) -> &'static str;

    /// Works until [`Port::next_command`] says that the pipeline is gone, then leaves its group.
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
    /// No command has come.
    Nothing,
    /// The pipeline is gone: the source should leave.
    Closed,
}

impl Port {
    /// The next command, awaited for at most `wait`.
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

    /// Tells the pipeline. If the pipeline is gone, [`Port::next_command`] will say so.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Tells the pipeline that nothing is left, as of the commands received so far.
    pub fn tell_done(&self) {
        self.tell(Event::Done { starts: self.starts });
    }

    /// Delivers records. They count against the budget at once, and are never refused.
    pub fn deliver(&self, stream: &Arc<Stream>, generation: u64, chunk: Chunk) {
        if !chunk.is_empty() {
            let room = self.budget.take(chunk.memory());
            self.tell(Event::Records(Records { stream: stream.clone(), generation, chunk, _room: room }));
        }
    }

    /// Whether there is room for more records, awaited for at most `wait`.
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
    /// Tells the source. If the source has ended, [`Handle::next`] will say so.
    pub fn tell(&self, command: Command) {
        if matches!(command, Command::Start(_)) {
            self.starts.fetch_add(1, Ordering::SeqCst);
        }
        let _ = self.commands.send(command);
    }

    /// How many [`Command::Start`] have been sent.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }
}

impl Handle {
    /// Starts a source that may have about `room_bytes` bytes of records in flight.
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
                // The port is dropped last: whoever sees the events end finds the result.
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
        // Records in flight are dropped, so that the source never waits for room.
        while events.recv().await.is_some() {}
        ended.await.unwrap_or(Err(SpeedError::Ended("the source")))
    }
}

/// The budget of bytes that may be in flight.
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
