//! The evaluator: samples in, transitions out. No I/O and no clock, so that it can be tested and
//! replayed.
//!
//! What people are told is decided here too, and is part of a transition ([`Row::is_notice`]):
//!
//! - A trouble is told once when it begins and once when it ends, whatever happens in between.
//! - While a rule that inhibits another is not OK, the other's states stay as they are, and what
//!   was pending begins anew.
//! - Of one rule at most `max_alerts` groups are told at a time, the worst first. One further alarm
//!   says how many there are beside them.
//! - What is silenced is told when the silence ends, if it is still wrong.

mod row;
mod notices;

use std::collections::HashMap;
use std::sync::Arc;

use adlake_domain::time;

pub use self::row::{Alarm, Entry, OTHERS, Row, RowState, Silence, labels};
use super::detect::{Judgement, Sample, Verdict, judge};
use super::rule::{Against, Rule};
use super::track::{AlarmState, Track};

/// A trouble of which nothing was heard for so long is over.
const QUIET_MAX: i64 = 24 * time::HOUR;

/// The times of troubles, from and to. The end of one that lasts is `i64::MAX`.
type Incidents = Vec<(i64, i64)>;

/// A trouble that lasts longer is no exception any more.
const INCIDENT_MAX: i64 = 7 * time::DAY;
/// The most troubles of a group that are left out of its baseline.
const INCIDENTS_KEPT: usize = 50;

/// A group of a rule, and what is known of it.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Its labels, as [`labels`] reads them.
    pub group: Arc<str>,
    /// What is known.
    pub sample: Sample,
}

/// The states of all groups of all rules.
#[derive(Debug, Clone)]
pub struct Engine {
    rules: Arc<Vec<Rule>>,
    /// Rules after those that inhibit them.
    order: Vec<usize>,
    /// For each rule.
    entries: Vec<HashMap<Arc<str>, Entry>>,
    /// For each rule the row that tells of further groups, while there are any.
    others: Vec<Option<Row>>,
    /// For each rule and group the times of its troubles.
    incidents: Vec<HashMap<Arc<str>, Incidents>>,
    silences: Vec<Silence>,
    /// Alarms of rules that are no more.
    orphans: Vec<Row>,
    sequence: i64,
}

impl Engine {
    /// All groups of the rules are OK.
    pub fn new(rules: Arc<Vec<Rule>>) -> Engine {
        Engine {
            order: in_order(&rules),
            entries: vec![HashMap::new(); rules.len()],
            others: vec![None; rules.len()],
            incidents: vec![HashMap::new(); rules.len()],
            silences: Vec::new(),
            orphans: Vec::new(),
            sequence: 0,
            rules,
        }
    }

    /// The states that the stored rows lead to.
    pub fn restored(rules: Arc<Vec<Rule>>, mut rows: Vec<Row>) -> Engine {
        let mut engine = Engine::new(rules);
        rows.sort_by_key(|row| (row.sequence.is_none(), row.sequence, row.at));
        for row in rows {
            engine.apply(row);
        }
        engine
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Vec<Rule>> {
        &self.rules
    }

    /// The number of the newest transition.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The silences that are not over.
    pub fn silences(&self, now: i64) -> impl Iterator<Item = &Silence> {
        self.silences.iter().filter(move |silence| silence.until > now)
    }

    /// Takes what people have silenced, and what they look after.
    pub fn take_by_hand(&mut self, rows: Vec<Row>) {
        self.silences.clear();
        for row in rows.into_iter().filter(|row| !matches!(row.state, RowState::Alarm(_))) {
            self.apply(row);
        }
    }

    fn apply(&mut self, row: Row) {
        self.sequence = self.sequence.max(row.sequence.unwrap_or_default());
        match row.state {
            RowState::Silenced => {
                self.silences.retain(|silence| silence.id != row.id);
                self.silences.push(Silence::of(row));
                return;
            }
            RowState::Acked => {
                for entry in self.entries.iter_mut().flat_map(HashMap::values_mut) {
                    if entry.track.id.as_deref() == Some(&row.id) {
                        entry.track.acked_by = row.by.clone();
                    }
                }
                return;
            }
            RowState::Alarm(_) => {}
        }
        let RowState::Alarm(state) = row.state else { return };
        let Some(rule) = self.rules.iter().position(|rule| rule.name == row.rule) else {
            self.orphans.retain(|other| other.id != row.id);
            if state.is_alarm() {
                self.orphans.push(row);
            }
            return;
        };
        if &*row.group == OTHERS {
            self.others[rule] = state.is_alarm().then_some(row);
            return;
        }
        self.note_incident(rule, state, &row);
        let entry = self.entries[rule].entry(row.group.clone()).or_insert_with(|| Entry::new(row.at));
        let track = &mut entry.track;
        if track.state != state {
            (track.state, track.since) = (state, row.at);
        }
        match state {
            AlarmState::Ok | AlarmState::Pending => {
                (track.fired_at, track.id, track.is_told, track.acked_by) = (None, None, false, None);
            }
            AlarmState::Firing | AlarmState::NoData => {
                if state == AlarmState::Firing {
                    track.fired_at = track.fired_at.or(Some(row.at));
                } else {
                    track.missing_since = Some(row.at);
                }
                track.id = Some(row.id.clone());
                track.is_told |= row.is_notice;
            }
        }
        entry.row = Some(row);
    }

    /// Moves on to a moment. `observations` has the groups of each rule; `None`: they could not be
    /// observed, and stay as they are. Returns the transitions in their order.
    pub fn step(&mut self, now: i64, observations: Vec<Option<Vec<Observation>>>) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut observations = observations;
        observations.resize_with(self.rules.len(), || None);
        for orphan in std::mem::take(&mut self.orphans) {
            let why = "the rule is no more".to_owned();
            let is_notice = orphan.is_notice;
            rows.push(Row { at: now, state: RowState::Alarm(AlarmState::Ok), why, is_notice, ..orphan });
        }
        for rule in self.order.clone() {
            let is_inhibited = self.is_inhibited(rule);
            if let Some(observed) = observations[rule].take() {
                self.observe(rule, observed, is_inhibited, now, &mut rows);
            }
            self.decide_notices(rule, is_inhibited, now, &mut rows);
        }
        for row in &mut rows {
            let rule = self.rules.iter().position(|rule| rule.name == row.rule);
            if let (Some(rule), RowState::Alarm(state)) = (rule, row.state) {
                self.note_incident(rule, state, row);
            }
            self.sequence += 1;
            row.sequence = Some(self.sequence);
        }
        rows
    }

    /// The times of a group's troubles that its baseline leaves out. One that has lasted longer
    /// than [`INCIDENT_MAX`] is what is to be expected from then on.
    pub fn incidents(&self, rule: usize, group: &str, now: i64) -> Vec<(i64, i64)> {
        let all = self.incidents[rule].get(group).into_iter().flatten();
        all.filter(|(from, to)| *to < i64::MAX || now - from <= INCIDENT_MAX).copied().collect()
    }

    fn note_incident(&mut self, rule: usize, state: AlarmState, row: &Row) {
        let incidents = self.incidents[rule].entry(row.group.clone()).or_default();
        let is_open = incidents.last().is_some_and(|(_, to)| *to == i64::MAX);
        match (state, is_open) {
            (AlarmState::Firing, false) => {
                // It was wrong before it fired.
                let before = self.rules[rule].times.hold + i64::from(self.rules[rule].window_hours) * time::HOUR;
                incidents.push((row.at - before, i64::MAX));
            }
            (AlarmState::Ok, true) => {
                if let Some(last) = incidents.last_mut() {
                    last.1 = row.at;
                    if last.1 - last.0 > INCIDENT_MAX {
                        incidents.pop();
                    }
                }
            }
            _ => {}
        }
        if incidents.len() > INCIDENTS_KEPT {
            incidents.remove(0);
        }
        if incidents.is_empty() {
            self.incidents[rule].remove(&row.group);
        }
    }

    /// Whether a rule that inhibits this one is not OK.
    fn is_inhibited(&self, rule: usize) -> bool {
        let names = &self.rules[rule].inhibited_by;
        let parents = self.rules.iter().zip(&self.entries).filter(|(parent, _)| names.contains(&parent.name));
        parents.into_iter().any(|(_, entries)| entries.values().any(|entry| entry.track.state != AlarmState::Ok))
    }

    fn observe(&mut self, at: usize, observed: Vec<Observation>, is_inhibited: bool, now: i64, rows: &mut Vec<Row>) {
        let rules = self.rules.clone();
        let rule = &rules[at];
        let entries = &mut self.entries[at];
        let mut seen: std::collections::HashSet<Arc<str>> = std::collections::HashSet::with_capacity(observed.len());
        for Observation { group, sample } in observed {
            seen.insert(group.clone());
            let judgement = judge(&rule.detect, rule.metric.kind(), rule.metric.factor(), &sample);
            let is_quiet = sample.current.is_none() && !sample.is_expected;
            if let Some(entry) = entries.get_mut(&group) {
                entry.judgement = Some(judgement);
                entry.step(rule, &group, Some(&judgement), is_quiet, is_inhibited, now, rows);
                continue;
            }
            // What is OK and stays OK needs no entry.
            if is_inhibited || !matches!(judgement.verdict, Verdict::Abnormal | Verdict::Missing) {
                continue;
            }
            let mut entry = Entry::new(now);
            entry.judgement = Some(judgement);
            entry.step(rule, &group, Some(&judgement), is_quiet, is_inhibited, now, rows);
            entries.insert(group, entry);
        }
        for (group, entry) in entries.iter_mut().filter(|(group, _)| !seen.contains(*group)) {
            entry.step(rule, group, None, true, is_inhibited, now, rows);
        }
        entries.retain(|_, entry| entry.track.state != AlarmState::Ok || entry.track.missing_since.is_some());
    }

    /// The alarms: what is not OK, and what is told beside it.
    pub fn alarms(&self, now: i64) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        for ((rule, entries), others) in self.rules.iter().zip(&self.entries).zip(&self.others) {
            for (group, entry) in entries.iter().filter(|(_, entry)| entry.track.state != AlarmState::Ok) {
                alarms.push(Alarm::of(rule, group, entry, self.silence(rule, group, now)));
            }
            alarms.extend(others.iter().map(|row| Alarm::of_others(rule, row)));
        }
        let rank = |alarm: &Alarm| match alarm.state {
            AlarmState::Firing => 0,
            AlarmState::NoData => 1,
            _ => 2,
        };
        let key = |alarm: &Alarm| (rank(alarm), std::cmp::Reverse(alarm.severity), alarm.rule.clone());
        alarms.sort_by(|a, b| {
            key(a).cmp(&key(b)).then(b.badness.total_cmp(&a.badness)).then_with(|| a.group.cmp(&b.group))
        });
        alarms
    }

    fn silence(&self, rule: &Rule, group: &str, now: i64) -> Option<&Silence> {
        self.silences.iter().find(|silence| silence.until > now && silence.covers(&rule.name, group))
    }
}

impl Entry {
    /// Moves on by one judgement. `None`: the group was not seen.
    #[expect(clippy::too_many_arguments, reason = "one call, two places")]
    fn step(
        &mut self,
        rule: &Rule,
        group: &Arc<str>,
        judgement: Option<&Judgement>,
        is_quiet: bool,
        is_inhibited: bool,
        now: i64,
        rows: &mut Vec<Row>,
    ) {
        self.quiet_since = if is_quiet { self.quiet_since.or(Some(now)) } else { None };
        let track: &mut Track = &mut self.track;
        let former = track.state;
        let mut why = None;
        let is_over = self.quiet_since.is_some_and(|since| now - since >= QUIET_MAX);
        if is_inhibited && former == AlarmState::Pending {
            (track.state, track.since) = (AlarmState::Ok, now);
            why = Some(format!("inhibited by {}", rule.inhibited_by.join(" or ")));
        } else if former != AlarmState::Ok && is_over {
            *track = Track { id: track.id.take(), is_told: track.is_told, ..Track::new(now) };
            why = Some("there were no events for a day, and none are expected".to_owned());
        } else {
            let verdict = if is_inhibited { None } else { judgement.map(|judgement| judgement.verdict) };
            track.step(verdict.unwrap_or(Verdict::Unknown), now, &rule.times);
        }
        if track.state == former {
            return;
        }
        let was_told = track.is_told;
        if track.state.is_alarm() && track.id.is_none() {
            let text = format!("{}\n{group}\n{now}", rule.name);
            track.id = Some(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes())));
        }
        let id = track.id.clone().unwrap_or_default();
        if !track.state.is_alarm() {
            (track.id, track.is_told, track.acked_by, track.fired_at) = (None, false, None, None);
        }
        let judgement = judgement.copied();
        let figures = judgement.as_ref();
        let row = Row {
            sequence: None,
            at: now,
            rule: rule.name.clone(),
            group: group.clone(),
            state: RowState::Alarm(track.state),
            id,
            value: figures.and_then(|figures| figures.value),
            low: figures.and_then(|figures| figures.low),
            high: figures.and_then(|figures| figures.high),
            why: why.unwrap_or_else(|| explain(rule, track.state, figures)),
            severity: if track.state == AlarmState::NoData { rule.no_data_severity } else { rule.severity },
            // Troubles that begin are told by `decide_notices`, those that end here.
            is_notice: was_told && !track.state.is_alarm(),
            until: None,
            by: None,
            cause: None,
        };
        self.row = Some(row.clone());
        rows.push(row);
    }
}

/// Why a state is what it is, for people.
fn explain(rule: &Rule, state: AlarmState, judgement: Option<&Judgement>) -> String {
    let name = rule.metric.name();
    if state == AlarmState::NoData {
        let hours = rule.window_hours;
        return format!("there are no events for {name} in the last {hours} h, where some are expected");
    }
    let Some(judgement) = judgement else { return format!("nothing is known of {name}") };
    let Some(value) = judgement.value else { return format!("{name} has no value") };
    let against = match rule.against {
        Against::Nothing => String::new(),
        Against::Previous => " (the window before)".to_owned(),
        Against::HourOfWeek(weeks) => format!(" (the same hours of {weeks} weeks)"),
    };
    let range = match (judgement.low, judgement.high) {
        (Some(low), Some(high)) => format!("{} to {} is expected", shown(low), shown(high)),
        (Some(low), None) => format!("at least {} is expected", shown(low)),
        (None, Some(high)) => format!("at most {} is expected", shown(high)),
        (None, None) => "any value is expected".to_owned(),
    };
    let change = judgement.change().map(|change| format!(", {:+.1}%", change * 100.0)).unwrap_or_default();
    format!("{name} is {}{change}; {range}{against}", shown(value))
}

/// A number with four digits that count.
fn shown(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Rules after those that inhibit them. Reading the rules has refused circles.
fn in_order(rules: &[Rule]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(rules.len());
    while order.len() < rules.len() {
        let before = order.len();
        for place in 0..rules.len() {
            let waits = |name: &String| {
                rules.iter().position(|rule| rule.name == *name).is_some_and(|parent| !order.contains(&parent))
            };
            if !order.contains(&place) && !rules[place].inhibited_by.iter().any(waits) {
                order.push(place);
            }
        }
        if order.len() == before {
            let left: Vec<usize> = (0..rules.len()).filter(|place| !order.contains(place)).collect();
            order.extend(left);
        }
    }
    order
}

#[cfg(test)]
mod detection;
#[cfg(test)]
mod tests;
