//! What was wrong in a time: transitions of `batch/alarms`, put together to troubles.
//!
//! A trouble begins with the first transition that has its id, and ends with the one that says OK.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use adlake_domain::catalogue;
use adlake_lake::session::SessionSettings;
use adlake_lake::{Lake, LakeError};
use serde::Serialize;
use tokio::sync::Mutex;

use super::engine::{Row, RowState, labels};
use super::journal;
use super::track::AlarmState;

/// Something that was wrong, or is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trouble {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// The labels of the group.
    pub group: BTreeMap<String, String>,
    /// `FIRING` or `NO DATA`: what it was last, before it was over.
    pub state: &'static str,
    /// How urgent it was.
    pub severity: &'static str,
    /// When it began.
    #[serde(serialize_with = "as_time")]
    pub from: i64,
    /// When it was over. `None`: it is not.
    #[serde(serialize_with = "as_time_if_any")]
    pub to: Option<i64>,
    /// Whether people were told.
    pub is_told: bool,
    /// What had contributed most.
    pub cause: Option<String>,
    /// Who looked after it.
    pub acked_by: Option<String>,
    /// Each change, the oldest first.
    pub changes: Vec<Change>,
}

/// A change of a trouble, or what a person did about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// When.
    #[serde(serialize_with = "as_time")]
    pub at: i64,
    /// The state from then on, or `ACKED`.
    pub state: &'static str,
    /// The value.
    pub value: Option<f64>,
    /// The least that was expected.
    pub expected_low: Option<f64>,
    /// The most that was expected.
    pub expected_high: Option<f64>,
    /// Why, for people.
    pub why: String,
    /// Who, where it was a person.
    pub by: Option<String>,
}

fn as_time<S: serde::Serializer>(micros: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::answer::time_text(*micros))
}

fn as_time_if_any<S: serde::Serializer>(micros: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match micros {
        Some(micros) => as_time(micros, serializer),
        None => serializer.serialize_none(),
    }
}

/// The rows of the newest version, read again only when there is another one.
#[derive(Debug)]
pub struct History {
    lake: Lake,
    session: SessionSettings,
    read: Mutex<Option<(u64, Arc<Vec<Row>>)>>,
}

impl History {
    /// That of a lake.
    pub fn new(lake: Lake, session: SessionSettings) -> History {
        History { lake, session, read: Mutex::new(None) }
    }

    /// The rows since a moment, in the order of their times.
    pub async fn rows(&self, since: i64) -> Result<Arc<Vec<Row>>, LakeError> {
        let Some(version) = self.lake.newest_version(catalogue::ALARMS).await? else { return Ok(Arc::default()) };
        let mut read = self.read.lock().await;
        if let Some((_, rows)) = read.as_ref().filter(|(known, _)| *known >= version) {
            return Ok(rows.clone());
        }
        let mut rows = journal::since(&self.lake, &self.session, version, since).await?;
        rows.sort_by_key(|row| (row.at, row.sequence.is_none(), row.sequence));
        let rows = Arc::new(rows);
        *read = Some((version, rows.clone()));
        Ok(rows)
    }
}

/// The troubles that the rows tell of and that overlap a range, the newest first. The rows are in
/// the order of their times.
pub fn troubles(rows: &[Row], (from, to): (i64, i64)) -> Vec<Trouble> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut found: Vec<Trouble> = Vec::new();
    for row in rows.iter().filter(|row| !row.id.is_empty()) {
        let change = Change {
            at: row.at,
            state: row.state.name(),
            value: row.value,
            expected_low: row.low,
            expected_high: row.high,
            why: row.why.clone(),
            by: row.by.clone(),
        };
        let place = places.get(row.id.as_str()).copied();
        match (row.state, place) {
            (RowState::Alarm(state), None) if state.is_alarm() => {
                places.insert(&row.id, found.len());
                found.push(Trouble {
                    id: row.id.clone(),
                    rule: row.rule.clone(),
                    group: labels(&row.group),
                    state: state.name(),
                    severity: row.severity.name(),
                    from: row.at,
                    to: None,
                    is_told: row.is_notice,
                    cause: row.cause.clone(),
                    acked_by: None,
                    changes: vec![change],
                });
            }
            (RowState::Alarm(state), Some(place)) => {
                let trouble = &mut found[place];
                match state {
                    AlarmState::Ok => trouble.to = Some(row.at),
                    state if state.is_alarm() => trouble.state = state.name(),
                    _ => {}
                }
                trouble.is_told |= row.is_notice;
                trouble.cause = row.cause.clone().or(trouble.cause.take());
                trouble.changes.push(change);
            }
            (RowState::Acked, Some(place)) => {
                found[place].acked_by = row.by.clone();
                found[place].changes.push(change);
            }
            // What began before the rows do is not known well enough; a silence is no trouble.
            _ => {}
        }
    }
    found.retain(|trouble| trouble.from < to && trouble.to.is_none_or(|end| end >= from));
    found.sort_by(|a, b| b.from.cmp(&a.from).then_with(|| a.id.cmp(&b.id)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::Severity;

    fn row(at: i64, state: RowState, id: &str) -> Row {
        Row {
            sequence: Some(at),
            at,
            rule: "ctr_drop".into(),
            group: r#"{"campaign_id":"c1"}"#.into(),
            state,
            id: id.into(),
            value: Some(0.1),
            low: None,
            high: None,
            why: format!("at {at}"),
            severity: Severity::Warning,
            is_notice: state == RowState::Alarm(AlarmState::Firing),
            until: None,
            by: (state == RowState::Acked).then(|| "ada".into()),
            cause: None,
        }
    }

    #[test]
    fn transitions_of_one_id_are_a_trouble() {
        use AlarmState::{Firing, NoData, Ok as Over, Pending};
        let alarm = RowState::Alarm;
        let rows = [
            row(1, alarm(Pending), ""),
            row(2, alarm(Firing), "a"),
            row(3, RowState::Acked, "a"),
            row(4, alarm(NoData), "a"),
            row(5, alarm(Over), "a"),
            row(6, alarm(Firing), "b"),
            // Its beginning is not among the rows.
            row(7, alarm(Over), "z"),
        ];
        let found = troubles(&rows, (0, 100));
        let shown: Vec<_> = found.iter().map(|one| (one.id.as_str(), one.from, one.to, one.state)).collect();
        assert_eq!(shown, [("b", 6, None, "FIRING"), ("a", 2, Some(5), "NO DATA")]);
        assert_eq!(found[1].acked_by.as_deref(), Some("ada"));
        assert_eq!(
            found[1].changes.iter().map(|change| change.state).collect::<Vec<_>>(),
            ["FIRING", "ACKED", "NO DATA", "OK"]
        );
        assert!(found[1].is_told);
        let ids = |range| troubles(&rows, range).into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids((0, 2)), Vec::<String>::new());
        assert_eq!(ids((3, 4)), ["a"]);
        assert_eq!(ids((6, 7)), ["b"]);
        assert_eq!(ids((50, 60)), ["b"]);
    }
}
