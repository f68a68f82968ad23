//! Decides when a run that reads up to the end is done.
//!
//! This worker may hold only some of the partitions. The others belong to other workers of the
//! group, and those may be dead. The group keeps the partitions of a worker that was killed until
//! its session times out. Only then does it assign them to the workers that are left. So a
//! partition that this worker does not hold may be unread, although nobody reads it.
//!
//! [`judge`] decides: each partition must be known to be read, or every other worker must be known
//! to be alive. The offsets that the group has committed tell what other workers have read. They
//! are committed after the lake's commit, so they never run ahead of the lake.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::KafkaSource;
use super::group::{Group, Place};
use super::slot::{Slot, State};
use crate::source::Port;

/// How often the group's offsets are queried while other workers are waited for.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the group may take to tell its offsets. The group is not polled meanwhile.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that counts as quiet between two answers. The process may have been stopped in between.
const QUIET_STEP_MAX: Duration = Duration::from_secs(4);
/// How much longer than a session and a heartbeat the group must be quiet. In this time the group
/// assigns the partitions of a dead worker. Where brokers set the session timeout themselves
/// (`group.protocol = consumer`), it may also be this much longer.
const MARGIN: Duration = Duration::from_secs(15);
/// How many partitions a log line names.
const LISTED_MAX: usize = 20;

/// The first offset of a partition and its end, when the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub low: i64,
    pub high: i64,
}

/// A run that reads up to the end.
pub struct UntilEnd {
    bounds: HashMap<Place, Bounds>,
    /// Topics whose table is stopped. Nobody takes their records.
    stopped: HashSet<String>,
    /// How far other workers came, by the group's offsets.
    committed: HashMap<Place, i64>,
    quiet: Quiet,
    patience: Duration,
    /// When other workers were last found to have partitions that are not read.
    waited_at: Option<Instant>,
    is_waiting_told: bool,
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// This worker has read it to its end, or its table is stopped.
    read: bool,
    bounds: Bounds,
    /// How far the group's offset came.
    committed: Option<i64>,
}

impl Known {
    fn is_open(&self) -> bool {
        let is_empty = self.bounds.low >= self.bounds.high;
        let read_by_others = self.committed.is_some_and(|offset| offset >= self.bounds.high);
        !self.read && !is_empty && !read_by_others
    }
}

/// Whether the run is done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Every partition is read.
    Done,
    /// These partitions may belong to dead workers, or to nobody.
    Wait(Vec<Place>),
    /// These partitions belong to other workers. They are alive: the group would have assigned the
    /// partitions of a dead one.
    LeftToOthers(Vec<Place>),
}

/// Decides whether the run is done. For the time `quiet`, the group has changed neither this
/// worker's assignment nor the offset of a partition that is not read. In the time `patience`, the
/// group finds a dead worker and assigns its partitions.
fn judge(partitions: impl IntoIterator<Item = (Place, Known)>, quiet: Duration, patience: Duration) -> Verdict {
    let open = partitions.into_iter().filter(|(_, known)| known.is_open()).map(|(place, _)| place);
    let mut open: Vec<Place> = open.collect();
    open.sort();
    match open.is_empty() {
        true => Verdict::Done,
        false if quiet >= patience => Verdict::LeftToOthers(open),
        false => Verdict::Wait(open),
    }
}

/// How long the group has changed nothing. Only time counts in which it has given answers: without
/// a coordinator, nothing changes, and sessions begin anew once there is one again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Quiet {
    time: Duration,
    answered_at: Option<Instant>,
}

impl Quiet {
    fn answered(&mut self, now: Instant, is_changed: bool) {
        let since = self.answered_at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.time = if is_changed { Duration::ZERO } else { self.time + since.min(QUIET_STEP_MAX) };
    }
}

impl UntilEnd {
    /// A run over partitions with these bounds, in a group that takes a worker for dead if it hears
    /// nothing of it for `session_timeout`. Workers hear of changes every `heartbeat_interval`.
    pub fn new(bounds: HashMap<Place, Bounds>, session_timeout: Duration, heartbeat_interval: Duration) -> UntilEnd {
        UntilEnd {
            bounds,
            stopped: HashSet::new(),
            committed: HashMap::new(),
            quiet: Quiet::default(),
            patience: session_timeout + heartbeat_interval + MARGIN,
            waited_at: None,
            is_waiting_told: false,
        }
    }

    /// Where reading ends in a partition. One that was added after the run began is not part of it:
    /// it ends at 0.
    pub fn end(&self, place: &Place) -> i64 {
        self.bounds.get(place).map_or(0, |bounds| bounds.high)
    }

    /// The group has changed this worker's assignment.
    pub fn assignment_changed(&mut self) {
        self.quiet = Quiet::default();
        self.waited_at = None;
        self.is_waiting_told = false;
    }

    /// The table of a topic is stopped.
    pub fn stop_topic(&mut self, topic: &str) {
        self.stopped.insert(topic.to_owned());
        self.waited_at = None;
    }

    fn is_due(&self) -> bool {
        self.waited_at.is_none_or(|at| at.elapsed() >= ASK_INTERVAL)
    }

    fn judge(&self, read: &HashSet<(&str, i32)>) -> Verdict {
        let known = |(place, bounds): (&Place, &Bounds)| {
            let read = read.contains(&(place.0.as_str(), place.1)) || self.stopped.contains(&place.0);
            (place.clone(), Known { read, bounds: *bounds, committed: self.committed.get(place).copied() })
        };
        judge(self.bounds.iter().map(known), self.quiet.time, self.patience)
    }

    /// Queries how far other workers came. Blocks for at most [`ASK_TIMEOUT`].
    fn ask(&mut self, consumer: &BaseConsumer<Group>, places: &[Place]) {
        let mut asked = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            asked.add_partition(topic, *partition);
        }
        match consumer.committed_offsets(asked, ASK_TIMEOUT) {
            Ok(answer) => {
                let mut is_changed = false;
                for element in answer.elements() {
                    if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                        let place = (element.topic().to_owned(), element.partition());
                        is_changed |= self.committed.insert(place, offset) != Some(offset);
                    }
                }
                self.quiet.answered(Instant::now(), is_changed);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot query the offsets of other workers of the group; trying again");
                self.quiet = Quiet::default();
            }
        }
    }
}

impl KafkaSource {
    /// Tells the pipeline once everything is read that this run is to read.
    pub(super) fn tell_if_done(&mut self, port: &Port) {
        let Some(until_end) = &mut self.until_end else { return };
        let holds_nothing_up = |slot: &Slot| slot.is_read() || matches!(slot.state, State::Revoked | State::Skipped);
        if self.stopped
            || !self.membership.is_settled()
            || self.assigning
            || !self.starts.is_empty()
            || self.done_sent == Some(self.starts_executed)
            || !until_end.is_due()
            || !self.slots.iter().all(holds_nothing_up)
        {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Reading) {
            slot.catch_up(port);
        }
        let read = self.slots.iter().filter(|slot| slot.is_read());
        let read = read.map(|slot| (slot.stream.source.as_str(), slot.stream.partition)).collect();
        let mut verdict = until_end.judge(&read);
        if let Verdict::Wait(open) = &verdict {
            until_end.ask(&self.consumer, open);
            verdict = until_end.judge(&read);
        }
        match verdict {
            Verdict::Done => {}
            Verdict::Wait(open) => {
                until_end.waited_at = Some(Instant::now());
                if !std::mem::replace(&mut until_end.is_waiting_told, true) {
                    tracing::info!(
                        partitions = listed(&open),
                        "this worker has read its partitions to their ends; waiting for others of the group, which \
                         may be dead"
                    );
                }
                return;
            }
            Verdict::LeftToOthers(open) => tracing::warn!(
                partitions = listed(&open),
                "the run ends, but other workers of the group are still reading partitions, and have not committed \
                 them up to their ends"
            ),
        }
        self.done_sent = Some(self.starts_executed);
        port.tell_done();
    }
}

/// Partitions for a log line.
fn listed(places: &[Place]) -> String {
    let names = places.iter().take(LISTED_MAX).map(|(topic, partition)| format!("{topic} {partition}"));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if places.len() > LISTED_MAX {
        text.push_str(&format!(" and {} more", places.len() - LISTED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_run_is_done_when_each_partition_is_accounted_for() {
        let place = |partition: i32| ("t".to_owned(), partition);
        let check = |partitions: &[(bool, (i64, i64), Option<i64>)], quiet: u64, expected: Verdict| {
            let known = partitions.iter().enumerate().map(|(partition, (read, (low, high), committed))| {
                let bounds = Bounds { low: *low, high: *high };
                (place(partition as i32), Known { read: *read, bounds, committed: *committed })
            });
            assert_eq!(judge(known, Duration::from_secs(quiet), PATIENCE), expected, "{partitions:?} {quiet}");
        };
        let wait = |partitions: &[i32]| Verdict::Wait(partitions.iter().copied().map(place).collect());
        let left = |partitions: &[i32]| Verdict::LeftToOthers(partitions.iter().copied().map(place).collect());
        check(&[], 0, Verdict::Done);
        // All are read here. The group's offsets do not matter.
        check(&[(true, (0, 9), None), (true, (3, 9), Some(4))], 0, Verdict::Done);
        // The others hold nothing.
        check(&[(true, (0, 9), None), (false, (0, 0), None), (false, (7, 7), Some(2))], 0, Verdict::Done);
        // Another worker has read its partition.
        check(&[(true, (0, 9), None), (false, (0, 9), Some(9))], 0, Verdict::Done);
        check(&[(false, (0, 9), Some(12))], 0, Verdict::Done);
        // Nobody has read them to their ends.
        check(&[(true, (0, 9), None), (false, (0, 9), None)], 0, wait(&[1]));
        check(&[(false, (0, 9), Some(8)), (true, (0, 9), None), (false, (8, 9), None)], 59, wait(&[0, 2]));
        // The group has been quiet for long: the others are alive.
        check(&[(false, (0, 9), Some(8)), (true, (0, 9), None), (false, (8, 9), None)], 60, left(&[0, 2]));
        check(&[(true, (0, 9), None), (false, (0, 9), Some(9))], 60, Verdict::Done);
    }

    #[test]
    fn only_time_between_answers_without_a_change_is_quiet() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::default();
        let mut check = |second: u64, is_changed: bool, expected: u64| {
            quiet.answered(at(second), is_changed);
            assert_eq!(quiet.time, Duration::from_secs(expected), "{second}");
        };
        check(100, false, 0);
        check(101, false, 1);
        check(103, false, 3);
        // The process was stopped for an hour. The group may have changed since.
        check(3703, false, 7);
        check(3704, true, 0);
        check(3705, false, 1);
    }

    #[test]
    fn a_change_and_a_stopped_table_are_looked_at_at_once() {
        let bounds = Bounds { low: 0, high: 5 };
        let bounds = HashMap::from([(("a".to_owned(), 0), bounds), (("b".to_owned(), 1), bounds)]);
        let mut run = UntilEnd::new(bounds, Duration::from_secs(6), Duration::from_secs(3));
        assert_eq!(run.patience, Duration::from_secs(24));
        assert_eq!((run.end(&("b".to_owned(), 1)), run.end(&("b".to_owned(), 2))), (5, 0));
        let read = HashSet::from([("a", 0)]);
        assert_eq!(run.judge(&read), Verdict::Wait(vec![("b".to_owned(), 1)]));
        run.quiet.time = run.patience;
        assert_eq!(run.judge(&read), Verdict::LeftToOthers(vec![("b".to_owned(), 1)]));
        run.waited_at = Some(Instant::now());
        assert!(!run.is_due());
        run.assignment_changed();
        assert!(run.is_due());
        assert_eq!(run.judge(&read), Verdict::Wait(vec![("b".to_owned(), 1)]));
        run.waited_at = Some(Instant::now());
        run.stop_topic("b");
        assert!(run.is_due());
        assert_eq!(run.judge(&read), Verdict::Done);
    }

    #[test]
    fn a_log_line_names_some_partitions() {
        let places: Vec<Place> = (0..22).map(|partition| ("t".to_owned(), partition)).collect();
        assert_eq!(listed(&places[..2]), "t 0, t 1");
        assert!(listed(&places).ends_with(", t 19 and 2 more"), "{}", listed(&places));
    }
}
