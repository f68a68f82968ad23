//! The state of one group of one rule, and how it moves. A pure state machine.
//!
//! ```text
//!        abnormal             for `for`                normal for `recover.for`
//!   OK ------------> PENDING ----------> FIRING ------------------------------> OK
//!    ^                  |                   |
//!    +--- not abnormal--+                   | no data for `no_data.after`
//!                                           v
//!                     any ------------> NO DATA -- data again --> what it was before
//! ```
//!
//! Unknown leaves a state as it is: nothing fires and nothing is resolved because too little is
//! known. The time of `recover` begins anew after it.

use serde::{Deserialize, Serialize};

use super::detect::Verdict;

/// The state of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AlarmState {
    /// Nothing is wrong.
    #[serde(rename = "OK")]
    Ok,
    /// Something is wrong, but not for long enough.
    #[serde(rename = "PENDING")]
    Pending,
    /// Something is wrong.
    #[serde(rename = "FIRING")]
    Firing,
    /// There is no data where some is expected.
    #[serde(rename = "NO DATA")]
    NoData,
}

impl AlarmState {
    /// All of them.
    pub const ALL: [AlarmState; 4] = [AlarmState::Ok, AlarmState::Pending, AlarmState::Firing, AlarmState::NoData];

    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            AlarmState::Ok => "OK",
            AlarmState::Pending => "PENDING",
            AlarmState::Firing => "FIRING",
            AlarmState::NoData => "NO DATA",
        }
    }

    /// The state with a name.
    pub fn parse(name: &str) -> Option<AlarmState> {
        AlarmState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it is one that people are told.
    pub fn is_alarm(self) -> bool {
        matches!(self, AlarmState::Firing | AlarmState::NoData)
    }
}

/// The times of a rule, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long it must be wrong before it fires.
    pub hold: i64,
    /// How long it must be normal before it is resolved.
    pub recover: i64,
    /// How long data must be missing. `None`: that is no alarm.
    pub no_data: Option<i64>,
}

/// The state of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// The state.
    pub state: AlarmState,
    /// Since when.
    pub since: i64,
    /// Since when it is normal while it fires.
    pub recovering_since: Option<i64>,
    /// Since when data is missing.
    pub missing_since: Option<i64>,
    /// When the present trouble fired. It outlasts a time without data.
    pub fired_at: Option<i64>,
    /// The id of the present trouble.
    pub id: Option<String>,
    /// Whether people were told of it.
    pub is_told: bool,
    /// Who has said that they look after it.
    pub acked_by: Option<String>,
}

impl Track {
    /// A group of which nothing is known yet.
    pub fn new(now: i64) -> Track {
        Track {
            state: AlarmState::Ok,
            since: now,
            recovering_since: None,
            missing_since: None,
            fired_at: None,
            id: None,
            is_told: false,
            acked_by: None,
        }
    }

    /// Moves on by one verdict. Returns whether the state has changed.
    pub fn step(&mut self, verdict: Verdict, now: i64, times: &Times) -> bool {
        let next = self.next(verdict, now, times);
        let Some(next) = next.filter(|next| *next != self.state) else { return false };
        match next {
            AlarmState::Firing => self.fired_at = self.fired_at.or(Some(now)),
            AlarmState::Ok => {
                self.fired_at = None;
                self.missing_since = None;
            }
            AlarmState::Pending | AlarmState::NoData => {}
        }
        self.recovering_since = None;
        (self.state, self.since) = (next, now);
        true
    }

    /// The next state. `None`: as it is.
    fn next(&mut self, verdict: Verdict, now: i64, times: &Times) -> Option<AlarmState> {
        if verdict == Verdict::Missing {
            self.recovering_since = None;
            let after = times.no_data?;
            let since = *self.missing_since.get_or_insert(now);
            if now - since >= after {
                return Some(AlarmState::NoData);
            }
            // What was wrong for a moment is not wrong while there is nothing to judge.
            return (self.state == AlarmState::Pending).then_some(AlarmState::Ok);
        }
        if verdict == Verdict::Unknown {
            self.recovering_since = None;
            return None;
        }
        self.missing_since = None;
        match (self.state, verdict) {
            (AlarmState::Ok, Verdict::Abnormal) => {
                Some(if times.hold == 0 { AlarmState::Firing } else { AlarmState::Pending })
            }
            (AlarmState::Ok, _) => None,
            (AlarmState::Pending, Verdict::Abnormal) => (now - self.since >= times.hold).then_some(AlarmState::Firing),
            (AlarmState::Pending, _) => Some(AlarmState::Ok),
            (AlarmState::NoData, _) if self.fired_at.is_some() => Some(AlarmState::Firing),
            (AlarmState::NoData, _) => Some(AlarmState::Ok),
            (AlarmState::Firing, Verdict::Normal) => {
                let since = *self.recovering_since.get_or_insert(now);
                (now - since >= times.recover).then_some(AlarmState::Ok)
            }
            (AlarmState::Firing, _) => {
                self.recovering_since = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMES: Times = Times { hold: 15, recover: 30, no_data: Some(30) };

    fn run(verdicts: &[Verdict], times: &Times) -> Vec<AlarmState> {
        let mut track = Track::new(0);
        let step = |(at, verdict): (usize, &Verdict)| {
            track.step(*verdict, at as i64 * 5, times);
            track.state
        };
        verdicts.iter().enumerate().map(step).collect()
    }

    #[test]
    fn it_fires_after_a_while_and_is_resolved_after_a_while() {
        use AlarmState::{Firing, Ok, Pending};
        use Verdict::{Abnormal, Lingering, Normal};
        let verdicts =
            [vec![Abnormal; 4], vec![Lingering; 8], vec![Normal; 3], vec![Lingering], vec![Normal; 7]].concat();
        let states = [vec![Pending; 3], vec![Firing; 19], vec![Ok; 1]].concat();
        assert_eq!(run(&verdicts, &TIMES), states);
        assert_eq!(run(&[Abnormal, Abnormal, Lingering, Abnormal], &TIMES), [Pending, Pending, Ok, Pending]);
    }

    #[test]
    fn missing_data_keeps_what_fires() {
        use AlarmState::{Firing, NoData, Ok, Pending};
        use Verdict::{Abnormal, Missing, Normal, Unknown};
        let verdicts = [vec![Abnormal; 4], vec![Missing; 7], vec![Abnormal; 2]].concat();
        let states = [vec![Pending; 3], vec![Firing; 7], vec![NoData], vec![Firing; 2]].concat();
        assert_eq!(run(&verdicts, &TIMES), states);
        let verdicts = [vec![Missing; 8], vec![Normal]].concat();
        assert_eq!(run(&verdicts, &TIMES), [vec![Ok; 6], vec![NoData; 2], vec![Ok]].concat());
        // A night: nothing is missing, as nothing is expected.
        assert_eq!(run(&[Unknown; 50], &TIMES), [Ok; 50]);
        assert_eq!(run(&[Missing; 50], &Times { no_data: None, ..TIMES }), [Ok; 50]);
    }

    #[test]
    fn what_is_unknown_changes_nothing() {
        use AlarmState::{Firing, Pending};
        use Verdict::{Abnormal, Normal, Unknown};
        let verdicts = [vec![Abnormal; 4], vec![Normal; 5], vec![Unknown], vec![Normal; 6]].concat();
        assert_eq!(run(&verdicts, &TIMES), [vec![Pending; 3], vec![Firing; 13]].concat());
    }

    fn verdicts() -> impl Strategy<Value = Vec<Verdict>> {
        let one = prop_oneof![
            Just(Verdict::Normal),
            Just(Verdict::Lingering),
            Just(Verdict::Abnormal),
            Just(Verdict::Unknown),
            Just(Verdict::Missing),
        ];
        // Runs of the same verdict, as they occur.
        prop::collection::vec((one, 1_usize..12), 1..40)
            .prop_map(|runs| runs.into_iter().flat_map(|(verdict, times)| vec![verdict; times]).collect())
    }

    proptest! {
        #[test]
        fn it_does_not_flap(verdicts in verdicts()) {
            let states = run(&verdicts, &TIMES);
            let fired: Vec<usize> = (1..states.len())
                .filter(|at| states[*at] == AlarmState::Firing && states[at - 1] == AlarmState::Pending)
                .collect();
            // Between two times that it fires it was normal for `recover`, and wrong for `for`.
            for pair in fired.windows(2) {
                prop_assert!((pair[1] - pair[0]) as i64 * 5 >= TIMES.recover + TIMES.hold, "{:?}", states);
            }
            for at in fired {
                let held = (TIMES.hold / 5) as usize;
                let not_normal = |verdict: &Verdict| matches!(verdict, Verdict::Abnormal | Verdict::Unknown);
                prop_assert!(verdicts[at - held..=at].iter().all(not_normal), "{:?}", verdicts);
            }
        }

        #[test]
        fn without_anything_wrong_nothing_is_told(verdicts in verdicts()) {
            let calm: Vec<Verdict> = verdicts.into_iter()
                .filter(|verdict| !matches!(verdict, Verdict::Abnormal | Verdict::Missing)).collect();
            prop_assert!(run(&calm, &TIMES).iter().all(|state| *state == AlarmState::Ok));
        }
    }
}
