//! What the advice is made from, as the lake and the brokers tell it. Nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_lake::job_notes::JobNote;
use adlake_lake::letters::{LetterFilter, LetterState};
use adlake_lake::{Lake, LakeError};
use adlake_serving::QueryEngine;
use adlake_speed_layer::source::kafka::survey::{Survey, SurveyedTopic, survey};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use chrono::{DateTime, Utc};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{SessionContext, col, lit};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::Settings;
use crate::failure::{speed_error, usage};

/// What the advice is made from.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    /// When the newest rows of all raw tables were ingested.
    pub newest_ingested_at: Option<DateTime<Utc>>,
    /// When the published run was published.
    pub published_at: Option<DateTime<Utc>>,
    /// The raw tables with commits that the published run does not cover.
    pub uncovered: Vec<String>,
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
    /// The alarms that fire.
    pub alarms: Vec<Firing>,
}

/// How far the lake is behind a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub topic: String,
    /// Records (offsets) that the brokers have and the lake does not.
    pub records: i64,
    /// Records that the lake does not have, and the brokers no longer have.
    pub lost: i64,
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

/// An alarm that fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firing {
    pub rule: String,
    pub group: String,
    pub severity: String,
    pub why: String,
}

/// The latest check's expectations that are not met.
const UNMET: &str = "SELECT expectation, \"table\", status, decision FROM quality WHERE status <> 'pass' \
                     AND checked_at = (SELECT max(checked_at) FROM quality) ORDER BY expectation, \"table\"";
/// The alarms whose last transition is to fire.
const FIRING: &str = "SELECT rule, alarm_group, severity, why FROM (SELECT *, row_number() OVER (PARTITION BY rule, \
                      alarm_group ORDER BY sequence DESC) AS place FROM alarms WHERE sequence IS NOT NULL) AS newest \
                      WHERE place = 1 AND alarm_state = 'FIRING' ORDER BY rule, alarm_group";

impl Facts {
    /// Adds what the views `quality` and `alarms` tell.
    pub async fn take_views(&mut self, engine: &QueryEngine) -> Result<()> {
        let text = |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let unmet = super::rows(engine, UNMET).await?;
        self.quality.extend(unmet.iter().map(|row| Unmet {
            expectation: text(row, "expectation"),
            table: text(row, "table"),
            status: text(row, "status"),
            decision: text(row, "decision"),
        }));
        let firing = super::rows(engine, FIRING).await?;
        self.alarms.extend(firing.iter().map(|row| Firing {
            rule: text(row, "rule"),
            group: text(row, "alarm_group"),
            severity: text(row, "severity"),
            why: text(row, "why"),
        }));
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
        let speed = settings.speed();
        // The client blocks.
        let Survey { cluster, topics } =
            tokio::task::spawn_blocking(move || survey(&speed)).await?.map_err(speed_error)?;
        let cluster = cluster.ok_or_else(|| usage("kafka.cluster: the cluster does not tell its id: set a name"))?;
        let mut all = Vec::new();
        for topic in topics {
            // Dead letters are committed before the raw table's position passes them.
            let applications = topic.applications(&cluster);
            let stored = lake.positions(EventKind::raw_table(topic.kind), &applications).await?;
            all.push(lag(&topic, &stored));
        }
        self.lag = Some(all);
        Ok(())
    }
}

fn lag(topic: &SurveyedTopic, stored: &[Option<i64>]) -> Lag {
    let mut lag = Lag { topic: topic.name.clone(), records: 0, lost: 0, never_read: 0 };
    for (marks, stored) in topic.partitions.iter().zip(stored) {
        let has_records = marks.high > marks.low;
        lag.records += (marks.high - stored.unwrap_or(marks.low).max(marks.low)).max(0);
        lag.lost += stored.map_or(0, |stored| (marks.low - stored).max(0));
        lag.never_read += usize::from(stored.is_none() && has_records);
    }
    lag
}

#[cfg(test)]
mod tests {
    use adlake_speed_layer::source::kafka::survey::Watermarks;

    use super::*;

    #[test]
    fn the_lag_is_what_the_brokers_have_beyond_the_lake() {
        let check = |marks: &[(i64, i64)], stored: &[Option<i64>], records, lost, never_read| {
            let partitions = marks.iter().map(|&(low, high)| Watermarks { low, high }).collect();
            let topic = SurveyedTopic { kind: EventKind::Impression, name: "t".to_owned(), partitions };
            assert_eq!(super::lag(&topic, stored), Lag { topic: "t".to_owned(), records, lost, never_read });
        };
        check(&[(0, 10)], &[Some(10)], 0, 0, 0);
        check(&[(0, 10), (5, 9)], &[Some(4), None], 10, 0, 1);
        check(&[(7, 10)], &[Some(4)], 3, 3, 0);
        check(&[(0, 0)], &[None], 0, 0, 0);
        // The topic was recreated: the lake is ahead.
        check(&[(0, 2)], &[Some(9)], 0, 0, 0);
    }
}
