//! Positions through crashes, concurrent processes and changed rules.

use adlake_decode::record::StreamFormat;
use adlake_domain::event::EventKind;
use proptest::prelude::*;

use super::*;

fn stored(rows: Option<i64>) -> Stored {
    Stored { rows, ..Stored::default() }
}

fn from(taken: Option<Taken>) -> Option<i64> {
    taken.map(|taken| taken.from)
}

fn stream(partition: i32) -> Arc<Stream> {
    Arc::new(Stream {
        kind: EventKind::Impression,
        source: "topic".to_owned(),
        partition,
        application: format!("application {partition}"),
        format: StreamFormat::Json,
    })
}

#[test]
fn nothing_is_taken_before_the_start_nor_of_another_generation() {
    let (mut ledger, stream) = (Ledger::default(), stream(0));
    assert_eq!(ledger.take(&stream, 0, 5), None);
    assert!(ledger.assign(&stream));
    assert_eq!(ledger.take(&stream, 0, 5), None);
    let start = ledger.start(&stream, stored(Some(3)), 7).unwrap();
    assert_eq!((start.stored, start.generation), (Some(3), 7));
    assert_eq!(ledger.take(&stream, 7, 5), None);
    ledger.started(&stream, 6, 0, false);
    assert_eq!(ledger.take(&stream, 7, 5), None);
    ledger.started(&stream, 7, 3, false);
    assert_eq!(ledger.take(&stream, 6, 5), None);
    assert_eq!(ledger.take(&stream, 7, 3), None);
    assert_eq!(from(ledger.take(&stream, 7, 5)), Some(3));
    assert_eq!(from(ledger.take(&stream, 7, 9)), Some(5));
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: Some(3), to: 9 }]);
    assert!(!ledger.is_open());
    assert_eq!(ledger.seal(), []);
}

#[test]
fn numbers_without_records_are_progress() {
    let (mut ledger, stream) = (Ledger::default(), stream(0));
    assert!(ledger.assign(&stream));
    ledger.start(&stream, stored(Some(3)), 1).unwrap();
    ledger.pass(&stream, 1, 9);
    assert!(!ledger.is_open(), "it has not been started");
    ledger.started(&stream, 1, 3, false);
    ledger.pass(&stream, 0, 9);
    assert!(!ledger.is_open(), "of another generation");
    ledger.pass(&stream, 1, 5);
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: Some(3), to: 5 }]);
    assert_eq!(from(ledger.take(&stream, 1, 8)), Some(5));
    ledger.pass(&stream, 1, 7);
    ledger.pass(&stream, 1, 9);
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: Some(5), to: 9 }]);
    ledger.revoke(&stream);
    ledger.pass(&stream, 1, 20);
    assert!(!ledger.is_open(), "it is no longer ours");
}

#[test]
fn a_first_start_at_the_end_is_written_down() {
    let check = |pin: bool, stored: Stored, expected: &[(Option<i64>, i64)]| {
        let (mut ledger, stream) = (Ledger::default(), stream(0));
        assert!(ledger.assign(&stream));
        ledger.start(&stream, stored, 1).unwrap();
        ledger.started(&stream, 1, 40, pin);
        let spans: Vec<_> = ledger.seal().into_iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(spans, expected);
        assert!(!ledger.is_open());
    };
    check(true, stored(None), &[(None, 40)]);
    check(true, stored(Some(40)), &[]);
    check(false, stored(None), &[]);
}

#[test]
fn what_was_taken_of_a_revoked_stream_is_still_sealed() {
    let (mut ledger, stream) = (Ledger::default(), stream(0));
    assert!(ledger.assign(&stream));
    ledger.start(&stream, stored(None), 1).unwrap();
    ledger.started(&stream, 1, 0, false);
    ledger.take(&stream, 1, 5);
    ledger.revoke(&stream);
    assert_eq!(ledger.take(&stream, 1, 6), None);
    ledger.forget_revoked();
    assert!(ledger.is_open_for(&stream));
    assert!(!ledger.assign(&stream), "rows without their position would come in twice");
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: None, to: 5 }]);
    assert!(ledger.assign(&stream));
    ledger.revoke(&stream);
    ledger.forget_revoked();
    assert!(ledger.start(&stream, stored(None), 2).is_none());
}

#[test]
fn a_record_that_the_end_cuts_off_is_a_letter_and_comes_in_when_it_is_whole() {
    let (mut ledger, stream) = (Ledger::default(), stream(0));
    let cut = |position: i64, payload: &[u8]| {
        let mut chunk = Chunk::new(0);
        let rejection = adlake_decode::record::Rejection { reason: "truncated", detail: String::new() };
        assert!(chunk.push_rejected(position, None, payload, rejection));
        chunk.cut_off()
    };
    let begin = |ledger: &mut Ledger, stored: Stored, generation: u64| {
        assert!(ledger.assign(&stream));
        let start = ledger.start(&stream, stored, generation).unwrap();
        ledger.started(&stream, generation, start.stored.unwrap_or(0), false);
    };
    begin(&mut ledger, Stored::default(), 1);
    assert_eq!(from(ledger.take(&stream, 1, 5)), Some(0));
    assert_eq!(ledger.take_cut(&stream, 2, &cut(5, b"{")), None, "of another generation");
    assert_eq!(from(ledger.take_cut(&stream, 1, &cut(5, b"{"))), Some(5));
    let spans = ledger.seal();
    assert_eq!(spans, [Span { stream: stream.clone(), from: None, to: 5 }]);
    assert_eq!(ledger.seal_dead(&spans[0]), Span { stream: stream.clone(), from: None, to: 6 });
    assert!(!ledger.is_open());

    // The same bytes are read again. There is nothing to commit.
    let known = || Some(Arc::new([(5, b"{")].into_iter().collect::<KnownDead>()));
    let after = || Stored { rows: Some(5), dead_letters: Some(6), known_dead: known(), ..Stored::default() };
    begin(&mut ledger, after(), 2);
    assert_eq!(ledger.take_cut(&stream, 2, &cut(5, b"{")), None);
    assert!(!ledger.is_open());
    // There is a little more of the record, so it is another dead letter. The commit names the
    // table's position and does not move it.
    assert_eq!(from(ledger.take_cut(&stream, 2, &cut(5, b"{}}"))), Some(5));
    assert!(ledger.is_open());
    let spans = ledger.seal();
    assert_eq!(spans, [Span { stream: stream.clone(), from: Some(5), to: 5 }]);
    assert_eq!(ledger.seal_dead(&spans[0]), Span { stream: stream.clone(), from: Some(6), to: 7 });
    // The record is whole. Its bytes differ from the dead letter's.
    begin(&mut ledger, after(), 3);
    let taken = ledger.take(&stream, 3, 6).unwrap();
    assert_eq!(taken.from, 5);
    assert!(!taken.known_dead.unwrap().contains(5, b"{}"));
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: Some(5), to: 6 }]);
    // After a crash between the commit of the dead letter and that of the rows.
    begin(&mut ledger, Stored { rows: Some(2), ..after() }, 4);
    assert_eq!(from(ledger.take(&stream, 4, 5)), Some(2));
    assert_eq!(ledger.take_cut(&stream, 4, &cut(5, b"{")), None);
    assert_eq!(ledger.seal(), [Span { stream: stream.clone(), from: Some(2), to: 5 }]);
}

/// A table and the dead letters of one stream, as the lake stores them.
#[derive(Debug, Default)]
struct Tables {
    stored: Option<i64>,
    dead_stored: Option<i64>,
    rows: Vec<i64>,
    dead: Vec<i64>,
}

#[derive(Debug, Clone)]
enum Step {
    Take(i64),
    /// Seals, and makes the first `commits` of the two commits. With fewer than both, or if `dies`
    /// is set, the process dies.
    Commit {
        commits: usize,
        dies: bool,
    },
    /// Another process, which had been assigned the stream, commits this many records.
    Other(i64),
    Die,
    /// From now on records are judged differently.
    Rules(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6i64).prop_map(Step::Take),
        4 => (0..3usize, any::<bool>()).prop_map(|(commits, dies)| Step::Commit { commits, dies }),
        1 => (1..6i64).prop_map(Step::Other),
        1 => Just(Step::Die),
        1 => (2..5i64).prop_map(Step::Rules),
    ]
}

fn payload(position: i64) -> Vec<u8> {
    position.to_le_bytes().to_vec()
}

impl Tables {
    fn commit_dead(&mut self, span: &Span, dead: &[i64]) -> bool {
        if self.dead_stored != span.from {
            return false;
        }
        self.dead_stored = Some(span.to);
        self.dead.extend(dead);
        true
    }

    fn commit_rows(&mut self, span: &Span, rows: &[i64]) -> bool {
        if self.stored != span.from {
            return false;
        }
        self.stored = Some(span.to);
        self.rows.extend(rows);
        true
    }

    fn look_up(&self) -> Stored {
        let ahead = self.dead.iter().filter(|position| self.stored.is_none_or(|stored| **position >= stored));
        let known_dead: KnownDead = ahead.map(|position| (*position, payload(*position))).collect();
        Stored {
            rows: self.stored,
            dead_letters: self.dead_stored,
            known_dead: Some(Arc::new(known_dead)),
            ..Stored::default()
        }
    }
}

/// One process: a ledger, and what the process holds in memory.
struct Process {
    ledger: Ledger,
    stream: Arc<Stream>,
    generation: u64,
    at: i64,
    rows: Vec<i64>,
    dead: Vec<i64>,
}

impl Process {
    fn new(tables: &Tables) -> Process {
        let (ledger, stream) = (Ledger::default(), stream(0));
        let mut process = Process { ledger, stream, generation: 0, at: 0, rows: vec![], dead: vec![] };
        assert!(process.ledger.assign(&process.stream));
        process.begin(tables);
        process
    }

    fn begin(&mut self, tables: &Tables) {
        self.generation += 1;
        let start = self.ledger.start(&self.stream, tables.look_up(), self.generation).unwrap();
        self.at = start.stored.unwrap_or(0);
        self.ledger.started(&self.stream, self.generation, self.at, false);
    }

    fn take(&mut self, count: i64, bad: i64) {
        let next = self.at + count;
        let taken = self.ledger.take(&self.stream, self.generation, next).unwrap();
        for position in taken.from..next {
            if taken.known_dead.as_ref().is_some_and(|dead| dead.contains(position, &payload(position))) {
                continue;
            }
            if position % bad == 0 { self.dead.push(position) } else { self.rows.push(position) }
        }
        self.at = next;
    }

    /// Returns whether the process may go on with what it knows.
    fn commit(&mut self, tables: &mut Tables, commits: usize) -> bool {
        let (rows, dead) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.dead));
        for span in self.ledger.seal() {
            let dead_span = (!dead.is_empty()).then(|| self.ledger.seal_dead(&span));
            // The table's position is checked before the dead letters are committed, as the
            // committer does.
            let moved = tables.stored != span.from;
            let superseded = (commits > 0
                && dead_span.is_some_and(|dead_span| moved || !tables.commit_dead(&dead_span, &dead)))
                || (commits > 1 && !tables.commit_rows(&span, &rows));
            if superseded {
                assert_eq!(self.ledger.reset(), std::slice::from_ref(&self.stream));
                self.begin(tables);
                return true;
            }
        }
        commits > 1
    }
}

proptest! {
    #[test]
    fn every_record_comes_in_once_whoever_dies(steps in proptest::collection::vec(step(), 1..60)) {
        let mut tables = Tables::default();
        let mut process = Process::new(&tables);
        let mut bad = 3;
        for step in steps {
            let goes_on = match step {
                Step::Take(count) => {
                    process.take(count, bad);
                    true
                }
                Step::Commit { commits, dies } => process.commit(&mut tables, commits) && !dies,
                Step::Other(count) => {
                    let mut other = Process::new(&tables);
                    other.take(count, bad);
                    other.commit(&mut tables, 2)
                }
                Step::Die => false,
                Step::Rules(rules) => {
                    bad = rules;
                    true
                }
            };
            if !goes_on {
                process = Process::new(&tables);
            }
            // Up to the stored position, every record is in exactly one table. After it, there are
            // only dead letters.
            let stored = tables.stored.unwrap_or(0);
            let mut all: Vec<i64> = tables.rows.iter().chain(&tables.dead).copied().collect();
            all.sort_unstable();
            let beyond: Vec<i64> = all.iter().copied().filter(|position| *position >= stored).collect();
            prop_assert_eq!(&all[..all.len() - beyond.len()], &(0..stored).collect::<Vec<_>>());
            prop_assert!(beyond.windows(2).all(|pair| pair[0] < pair[1]), "twice: {:?}", beyond);
            prop_assert!(tables.rows.iter().all(|position| *position < stored));
        }
    }
}
