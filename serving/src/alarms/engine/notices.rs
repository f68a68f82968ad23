//! Which troubles are told: not the silenced ones, and of one rule not more than it allows.

use std::sync::Arc;

use super::super::rule::Rule;
use super::super::track::AlarmState;
use super::{Engine, OTHERS, Row, RowState};

impl Engine {
    /// Marks the rows of troubles that are told now, and adds rows for those that began earlier.
    pub(super) fn decide_notices(&mut self, at: usize, is_inhibited: bool, now: i64, rows: &mut Vec<Row>) {
        let rules = self.rules.clone();
        let rule = &rules[at];
        let mut told = 0;
        let mut waiting: Vec<(f64, Arc<str>)> = Vec::new();
        for (group, entry) in &self.entries[at] {
            if !entry.track.state.is_alarm() {
                continue;
            }
            if entry.track.is_told {
                told += 1;
            } else if self.silence(rule, group, now).is_none() {
                let badness = entry.judgement.as_ref().map_or(0.0, super::Judgement::badness);
                waiting.push((badness, group.clone()));
            }
        }
        // A rule that is inhibited tells of nothing new.
        if !is_inhibited {
            waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let room = rule.alerts_max.saturating_sub(told).min(waiting.len());
            for (_, group) in waiting.drain(..room) {
                self.tell(at, rule, &group, now, rows);
            }
            self.tell_others(at, rule, waiting.len(), now, rows);
        }
    }

    fn tell(&mut self, at: usize, rule: &Rule, group: &Arc<str>, now: i64, rows: &mut Vec<Row>) {
        let Some(entry) = self.entries[at].get_mut(group) else { return };
        entry.track.is_told = true;
        let is_own = |row: &&mut Row| row.rule == rule.name && row.group == *group;
        match rows.iter_mut().rev().find(is_own) {
            Some(row) => row.is_notice = true,
            None => {
                let Some(row) = &entry.row else { return };
                rows.push(Row { sequence: None, at: now, is_notice: true, ..row.clone() });
            }
        }
        if let Some(row) = &mut entry.row {
            row.is_notice = true;
        }
    }

    /// Tells that there are further groups, when the first comes and when the last goes.
    fn tell_others(&mut self, at: usize, rule: &Rule, count: usize, now: i64, rows: &mut Vec<Row>) {
        let others = &mut self.others[at];
        if (count > 0) == others.is_some() {
            return;
        }
        let row = match others.take() {
            Some(row) => Row {
                sequence: None,
                at: now,
                state: RowState::Alarm(AlarmState::Ok),
                why: "there are no further groups".into(),
                is_notice: true,
                ..row
            },
            None => {
                let text = format!("{}\n{OTHERS}\n{now}", rule.name);
                let row = Row {
                    sequence: None,
                    at: now,
                    rule: rule.name.clone(),
                    group: OTHERS.into(),
                    state: RowState::Alarm(AlarmState::Firing),
                    id: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes())),
                    value: Some(count as f64),
                    low: None,
                    high: None,
                    why: format!(
                        "{count} further groups beside the {} that are told one by one (max_alerts); all of them: \
                         adlake alarms list",
                        rule.alerts_max
                    ),
                    severity: rule.severity,
                    is_notice: true,
                    until: None,
                    by: None,
                    cause: None,
                };
                *others = Some(row.clone());
                row
            }
        };
        rows.push(row);
    }

    /// Adds to the rows and to the states what has contributed most to a trouble.
    pub fn set_cause(&mut self, row: &mut Row, cause: String) {
        let Some(rule) = self.rules.iter().position(|rule| rule.name == row.rule) else { return };
        if let Some(stored) = self.entries[rule].get_mut(&row.group).and_then(|entry| entry.row.as_mut()) {
            stored.cause = Some(cause.clone());
        }
        row.cause = Some(cause);
    }
}
