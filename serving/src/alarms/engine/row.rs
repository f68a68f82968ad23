//! What is stored of alarms, and what is shown of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::detect::Judgement;
use super::super::rule::{Rule, Severity};
use super::super::track::{AlarmState, Track};

/// The group of the alarm that says how many further groups there are.
pub const OTHERS: &str = r#"{"others":"*"}"#;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// The state of a group from then on.
    Alarm(AlarmState),
    /// A person has silenced alarms.
    Silenced,
    /// A person looks after an alarm.
    Acked,
}

impl RowState {
    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            RowState::Alarm(state) => state.name(),
            RowState::Silenced => "SILENCED",
            RowState::Acked => "ACKED",
        }
    }

    /// The state with a name.
    pub fn parse(name: &str) -> Option<RowState> {
        match name {
            "SILENCED" => Some(RowState::Silenced),
            "ACKED" => Some(RowState::Acked),
            _ => AlarmState::parse(name).map(RowState::Alarm),
        }
    }
}

/// A row of `batch/alarms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its number among the transitions. `None`: it is no transition.
    pub sequence: Option<i64>,
    /// When, in microseconds.
    pub at: i64,
    /// The rule.
    pub rule: String,
    /// The labels of the group: a JSON object.
    pub group: Arc<str>,
    /// What it says.
    pub state: RowState,
    /// The id of the trouble, or of the silence. It stays the same until the trouble is over.
    pub id: String,
    /// The value.
    pub value: Option<f64>,
    /// The least that was expected.
    pub low: Option<f64>,
    /// The most that was expected.
    pub high: Option<f64>,
    /// Why, for people.
    pub why: String,
    /// How urgent it is.
    pub severity: Severity,
    /// Whether it is told to people.
    pub is_notice: bool,
    /// The end of a silence, in microseconds.
    pub until: Option<i64>,
    /// Who has silenced it, or looks after it.
    pub by: Option<String>,
    /// What has contributed most.
    pub cause: Option<String>,
}

impl Row {
    /// What a receiver knows the notice by: the same whenever it is sent again.
    pub fn key(&self) -> String {
        format!("{}-{}", self.id, self.sequence.unwrap_or_default())
    }

    /// Whether it says that a trouble is over.
    pub fn is_resolved(&self) -> bool {
        self.state == RowState::Alarm(AlarmState::Ok)
    }
}

/// The labels of a group.
pub fn labels(group: &str) -> BTreeMap<String, String> {
    serde_json::from_str(group).unwrap_or_default()
}

/// What somebody has silenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// The rule. `*`: all rules.
    pub rule: String,
    /// The labels that a group must have.
    pub labels: BTreeMap<String, String>,
    /// Its end, in microseconds.
    #[serde(serialize_with = "as_time")]
    pub until: i64,
    /// Who has silenced it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl Silence {
    pub(super) fn of(row: Row) -> Silence {
        Silence {
            labels: labels(&row.group),
            id: row.id,
            rule: row.rule,
            until: row.until.unwrap_or_default(),
            by: row.by.unwrap_or_default(),
            why: row.why,
        }
    }

    /// Whether it silences a group of a rule.
    pub fn covers(&self, rule: &str, group: &str) -> bool {
        if self.rule != "*" && self.rule != rule {
            return false;
        }
        let own = labels(group);
        self.labels.iter().all(|(name, value)| own.get(name) == Some(value))
    }
}

/// A group that is not OK.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its state.
    pub track: Track,
    /// Its newest figures.
    pub judgement: Option<Judgement>,
    /// The row of its last change.
    pub row: Option<Row>,
    /// Since when nothing is heard of it, and nothing expected.
    pub quiet_since: Option<i64>,
}

impl Entry {
    pub(super) fn new(now: i64) -> Entry {
        Entry { track: Track::new(now), judgement: None, row: None, quiet_since: None }
    }
}

/// An alarm as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarm {
    /// The id of the trouble. Empty while it is pending.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// What the rule watches for.
    pub description: String,
    /// The metric.
    pub metric: String,
    /// The labels of the group.
    pub group: BTreeMap<String, String>,
    /// Its state.
    pub state: AlarmState,
    /// Since when, in microseconds.
    #[serde(serialize_with = "as_time")]
    pub since: i64,
    /// The newest value.
    pub value: Option<f64>,
    /// The least that is expected.
    pub expected_low: Option<f64>,
    /// The most that is expected.
    pub expected_high: Option<f64>,
    /// Why, for people.
    pub why: String,
    /// What has contributed most.
    pub cause: Option<String>,
    /// How urgent it is.
    pub severity: Severity,
    /// Who looks after the rule.
    pub owner: String,
    /// What to do.
    pub runbook: String,
    /// Whether people were told.
    pub is_told: bool,
    /// Who looks after it.
    pub acked_by: Option<String>,
    /// Until when it is silenced.
    pub silenced_until: Option<String>,
    /// How wrong it is.
    #[serde(skip)]
    pub badness: f64,
}

fn as_time<S: serde::Serializer>(micros: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::answer::time_text(*micros))
}

impl Alarm {
    pub(super) fn of(rule: &Rule, group: &str, entry: &Entry, silence: Option<&Silence>) -> Alarm {
        let row = entry.row.as_ref();
        let judgement = entry.judgement.as_ref();
        let figure = |newest: fn(&Judgement) -> Option<f64>, stored: fn(&Row) -> Option<f64>| match judgement {
            Some(judgement) => newest(judgement),
            None => row.and_then(stored),
        };
        Alarm {
            id: entry.track.id.clone().unwrap_or_default(),
            rule: rule.name.clone(),
            description: rule.description.clone(),
            metric: rule.metric.name().to_owned(),
            group: labels(group),
            state: entry.track.state,
            since: entry.track.since,
            value: figure(|judgement| judgement.value, |row| row.value),
            expected_low: figure(|judgement| judgement.low, |row| row.low),
            expected_high: figure(|judgement| judgement.high, |row| row.high),
            // What people were told stays; of what is pending, the newest figures are of use.
            why: match (entry.track.state, judgement) {
                (AlarmState::Pending, Some(judgement)) => super::explain(rule, AlarmState::Pending, Some(judgement)),
                _ => row.map(|row| row.why.clone()).unwrap_or_default(),
            },
            cause: row.and_then(|row| row.cause.clone()),
            severity: match entry.track.state {
                AlarmState::NoData => rule.no_data_severity,
                _ => rule.severity,
            },
            owner: rule.owner.clone(),
            runbook: rule.runbook.clone(),
            is_told: entry.track.is_told,
            acked_by: entry.track.acked_by.clone(),
            silenced_until: silence.map(|silence| crate::answer::time_text(silence.until)),
            badness: judgement.map_or(0.0, Judgement::badness),
        }
    }

    pub(super) fn of_others(rule: &Rule, row: &Row) -> Alarm {
        Alarm {
            id: row.id.clone(),
            rule: rule.name.clone(),
            description: rule.description.clone(),
            metric: rule.metric.name().to_owned(),
            group: labels(&row.group),
            state: AlarmState::Firing,
            since: row.at,
            value: row.value,
            expected_low: None,
            expected_high: None,
            why: row.why.clone(),
            cause: None,
            severity: row.severity,
            owner: rule.owner.clone(),
            runbook: rule.runbook.clone(),
            is_told: true,
            acked_by: None,
            silenced_until: None,
            badness: 0.0,
        }
    }
}
