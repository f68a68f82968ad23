//! What the advice is made from, as the lake and the brokers tell it. Nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_batch_layer::{Plan, PlanReport, Why};
use adlake_domain::event::EventKind;
use adlake_lake::job_notes::JobNote;
use adlake_lake::letters::{LetterFilter, LetterState};
use adlake_lake::manifest::Manifest;
use adlake_lake::{Lake, LakeError};
use adlake_serving::QueryEngine;
use adlake_serving::alarms::engine::{Alarm, Engine};
use adlake_serving::alarms::journal;
use adlake_serving::state::follow::now;
use adlake_speed_layer::source::kafka::survey::{Survey, SurveyedTopic, survey};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use chrono::{DateTime, Utc};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{SessionContext, col, lit};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::commands::alarms;
use crate::config::Settings;
use crate::failure::{speed_error, usage};

/// What the advice is made from.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    /// When the newest rows of all raw tables were ingested.
    pub newest_ingested_at: Option<DateTime<Utc>>,
    /// When the published run was published.
    pub published_at: Option<DateTime<Utc>>,
    /// The raw tables with rows that the published run does not cover.
    pub uncovered: Vec<String>,
    /// Why the next run has to compute everything, although a run is published.
    pub recompute: Option<&'static str>,
    /// By topic. Absent unless it was asked for.
    pub lag: Option<Vec<Lag>>,
    /// By table: files that a compaction would rewrite.
    pub small_files: BTreeMap<String, u64>,
    /// By table: the files of its log.
    pub log_files: BTreeMap<String, u64>,
    /// By reason: records of the window that are dead letters still.
    pub dead_letters: BTreeMap<String, u64>,
    /// How the last job of each kind ended.
    pub jobs: Vec<JobNote>,
    /// The expectations that the last check found not to be met.
    pub quality: Vec<Unmet>,
    /// The alarms that fire, or have no data, and are not silenced.
    pub alarms: Vec<Firing>,
}

/// How far the lake is behind a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub topic: String,
    /// Records (offsets) that the brokers have and the lake does not.
    pub records: i64,
    /// Records that the lake does not have, and the brokers no longer have.
    pub lost: i64,
    /// Records that the lake has, and the brokers never had: the topic was created again.
    pub ahead: i64,
    /// Partitions with records of which the lake has no position.
    pub never_read: usize,
}

/// An expectation that is not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmet {
    pub expectation: String,
    pub table: String,
    pub status: String,
    pub decision: String,
}

/// An alarm of which people are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firing {
    pub rule: String,
    /// Its labels, like `campaign_id=c1`.
    pub group: String,
    pub state: &'static str,
    pub severity: &'static str,
    pub why: String,
    /// Who looks after it.
    pub acked_by: Option<String>,
}

/// The latest check's expectations that are not met.
const UNMET: &str = "SELECT expectation, \"table\", status, decision FROM quality WHERE status <> 'pass' \
                     AND checked_at = (SELECT max(checked_at) FROM quality) ORDER BY expectation, \"table\"";

impl Facts {
    /// Takes what is published, and what the next run would do.
    pub fn take_run(&mut self, manifest: Option<&Manifest>, next: PlanReport) {
        self.published_at = manifest.and_then(|manifest| DateTime::from_timestamp_micros(manifest.published_at));
        self.recompute = match next.plan {
            Plan::Full { why: why @ (Why::OtherRules | Why::OtherAdvertisers | Why::LogRemoved) } => Some(why.text()),
            _ => None,
        };
        self.uncovered = next.reads.into_keys().collect();
    }

    /// Adds what the view `quality` tells.
    pub async fn take_quality(&mut self, engine: &QueryEngine) -> Result<()> {
        let text = |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let unmet = super::rows(engine, UNMET).await?;
        self.quality.extend(unmet.iter().map(|row| Unmet {
            expectation: text(row, "expectation"),
            table: text(row, "table"),
            status: text(row, "status"),
            decision: text(row, "decision"),
        }));
        Ok(())
    }

    /// Adds the alarms that are stored in a version of their table, as `adlake alarms list` shows
    /// them.
    pub async fn take_alarms(&mut self, lake: &Lake, settings: &Settings, version: u64) -> Result<()> {
        let rows = journal::since(lake, &settings.query.session, version, 0).await?;
        // Without alarms the rules are not needed, and may be on another machine.
        if !rows.is_empty() {
            let engine = Engine::restored(alarms::rules(settings)?, rows);
            self.alarms.extend(engine.alarms(now()).into_iter().filter_map(firing));
        }
        Ok(())
    }

    /// Counts the dead letters of the last `window` by reason.
    pub async fn take_letters(&mut self, lake: &Lake, context: &SessionContext, window: Duration) -> Result<()> {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let since = Utc::now().timestamp_micros().saturating_sub(window);
        let filter = LetterFilter { since: Some(since), state: Some(LetterState::Open), ..LetterFilter::default() };
        let frame = lake.dead_letters(context, &filter).await?;
        let counted = frame.aggregate(vec![col("reason")], vec![count(lit(1)).alias("letters")]);
        for batch in counted.map_err(LakeError::from)?.collect().await.map_err(LakeError::from)? {
            let reasons = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)?;
            let reasons = reasons.as_string::<i32>();
            let letters = batch.column(1).as_primitive_opt::<Int64Type>().context("a count is no number")?;
            for row in 0..batch.num_rows() {
                let reason = if reasons.is_valid(row) { reasons.value(row) } else { "without a reason" };
                *self.dead_letters.entry(reason.to_owned()).or_default() += letters.value(row).max(0) as u64;
            }
        }
        Ok(())
    }

    /// Asks the brokers how far the lake is behind.
    pub async fn take_lag(&mut self, lake: &Lake, settings: &Settings) -> Result<()> {
        let Survey { cluster, topics } = surveyed(settings).await?;
        let cluster = cluster.ok_or_else(|| usage("kafka.cluster: the cluster does not tell its id: set a name"))?;
        let mut stored = Vec::new();
        for topic in &topics {
            // Dead letters are committed before the raw table's position passes them.
            let applications = topic.applications(&cluster);
            stored.push(lake.positions(EventKind::raw_table(topic.kind), &applications).await?);
        }
        let lags = |topics: &[SurveyedTopic]| -> Vec<Lag> {
            topics.iter().zip(&stored).map(|(topic, stored)| lag(topic, stored)).collect()
        };
        let mut all = lags(&topics);
        // Records that came after the first look may be in the lake already.
        if all.iter().any(|lag| lag.ahead > 0) {
            all = lags(&surveyed(settings).await?.topics);
        }
        self.lag = Some(all);
        Ok(())
    }
}

/// What the brokers say.
async fn surveyed(settings: &Settings) -> Result<Survey> {
    let speed = settings.speed();
    // The client blocks.
    tokio::task::spawn_blocking(move || survey(&speed)).await?.map_err(speed_error)
}

fn lag(topic: &SurveyedTopic, stored: &[Option<i64>]) -> Lag {
    let mut lag = Lag { topic: topic.name.clone(), ..Lag::default() };
    for (marks, stored) in topic.partitions.iter().zip(stored) {
        let has_records = marks.high > marks.low;
        lag.records += (marks.high - stored.unwrap_or(marks.low).max(marks.low)).max(0);
        lag.lost += stored.map_or(0, |stored| (marks.low - stored).max(0));
        lag.ahead += stored.map_or(0, |stored| (stored - marks.high).max(0));
        lag.never_read += usize::from(stored.is_none() && has_records);
    }
    lag
}

/// The alarm, if people are told of it and nobody has silenced it.
fn firing(alarm: Alarm) -> Option<Firing> {
    if !alarm.state.is_alarm() || alarm.silenced_until.is_some() {
        return None;
    }
    let labels: Vec<String> = alarm.group.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(Firing {
        rule: alarm.rule,
        group: labels.join(" "),
        state: alarm.state.name(),
        severity: alarm.severity.name(),
        why: alarm.why,
        acked_by: alarm.acked_by,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adlake_serving::alarms::engine::{Row, RowState};
    use adlake_serving::alarms::track::AlarmState;
    use adlake_speed_layer::source::kafka::survey::Watermarks;

    use super::*;

    #[test]
    fn the_lag_is_what_the_brokers_have_beyond_the_lake() {
        let check = |marks: &[(i64, i64)], stored: &[Option<i64>], expected: Lag| {
            let partitions = marks.iter().map(|&(low, high)| Watermarks { low, high }).collect();
            let topic = SurveyedTopic { kind: EventKind::Impression, name: "t".to_owned(), partitions };
            assert_eq!(super::lag(&topic, stored), Lag { topic: "t".to_owned(), ..expected });
        };
        let none = Lag::default;
        check(&[(0, 10)], &[Some(10)], none());
        check(&[(0, 10), (5, 9)], &[Some(4), None], Lag { records: 10, never_read: 1, ..none() });
        check(&[(7, 10)], &[Some(4)], Lag { records: 3, lost: 3, ..none() });
        check(&[(0, 0)], &[None], none());
        // The topic was recreated: the lake is ahead.
        check(&[(0, 2), (0, 12)], &[Some(9), Some(9)], Lag { records: 3, ahead: 7, ..none() });
    }

    #[test]
    fn alarms_count_as_the_list_of_alarms_shows_them() {
        let rules = alarms::rules(&Settings::default()).unwrap();
        let row = |sequence: Option<i64>, group: &str, state: RowState| Row {
            sequence,
            at: sequence.unwrap_or(50),
            rule: rules[0].name.clone(),
            group: format!("{{\"campaign_id\":\"{group}\"}}").into(),
            state,
            id: format!("id-{group}"),
            value: None,
            low: None,
            high: None,
            why: "down".to_owned(),
            severity: rules[0].severity,
            is_notice: true,
            until: (state == RowState::Silenced).then_some(i64::MAX),
            by: Some("ada".to_owned()),
            cause: None,
        };
        let alarm = RowState::Alarm;
        let rows = vec![
            row(Some(1), "fires", alarm(AlarmState::Firing)),
            row(Some(2), "is silenced", alarm(AlarmState::Firing)),
            row(Some(3), "is acked", alarm(AlarmState::Firing)),
            row(Some(4), "has no data", alarm(AlarmState::NoData)),
            row(Some(5), "is pending", alarm(AlarmState::Pending)),
            row(Some(6), "is over", alarm(AlarmState::Firing)),
            row(Some(7), "is over", alarm(AlarmState::Ok)),
            row(None, "is silenced", RowState::Silenced),
            row(None, "is acked", RowState::Acked),
        ];
        let alarms = Engine::restored(Arc::clone(&rules), rows).alarms(100);
        let found: Vec<Firing> = alarms.into_iter().filter_map(firing).collect();
        let mut shown: Vec<_> =
            found.iter().map(|alarm| (alarm.group.as_str(), alarm.state, alarm.acked_by.as_deref())).collect();
        shown.sort();
        let expected = [
            ("campaign_id=fires", "FIRING", None),
            ("campaign_id=has no data", "NO DATA", None),
            ("campaign_id=is acked", "FIRING", Some("ada")),
        ];
        assert_eq!(shown, expected);
    }
}
