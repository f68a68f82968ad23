//! How the lake and the server are doing.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::time;
use adlake_lake::LakeError;
use adlake_lake::session::SessionSettings;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::prelude::{SessionContext, col, lit};

use super::super::detect::{Sample, Sums};
use super::super::engine::Observation;
use super::super::rule::Rule;
use super::super::rule::metric::Operational;
use super::Sampler;
use crate::state::State;

/// How far a raw table has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFact {
    /// Its name.
    pub table: String,
    /// The newest time of an event.
    pub newest_event: i64,
    /// The newest time at which a row was taken in.
    pub newest_row: i64,
}

/// What the lake and the server tell of themselves at a moment.
#[derive(Clone, Default)]
pub struct Facts {
    /// The raw tables that have rows.
    pub tables: Vec<TableFact>,
    /// When a batch run was published.
    pub published_at: Option<i64>,
    /// The sinks, and for how many seconds they have failed.
    pub sinks: Vec<(String, f64)>,
    /// A session over the views of the state.
    pub context: Option<SessionContext>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("tables", &self.tables).field("sinks", &self.sinks).finish_non_exhaustive()
    }
}

/// Gathers what the state tells.
pub async fn facts(state: &State, session: &SessionSettings) -> Result<Facts, LakeError> {
    let context = session.context()?;
    state.views.register(&context)?;
    let sql = "SELECT \"table\", newest_event_time, newest_ingested_at FROM freshness";
    let mut tables = Vec::new();
    for batch in context.sql(sql).await?.collect().await? {
        let names = batch.column(0).as_string_opt::<i32>();
        let times = |place: usize| batch.column(place).as_primitive_opt::<TimestampMicrosecondType>();
        let (Some(names), Some(events), Some(rows)) = (names, times(1), times(2)) else { continue };
        for row in (0..batch.num_rows()).filter(|row| events.is_valid(*row) && rows.is_valid(*row)) {
            let (newest_event, newest_row) = (events.value(row), rows.value(row));
            tables.push(TableFact { table: names.value(row).to_owned(), newest_event, newest_row });
        }
    }
    let published_at = state.snapshot.latest.as_ref().map(|manifest| manifest.published_at);
    Ok(Facts { tables, published_at, sinks: Vec::new(), context: Some(context) })
}

pub(super) async fn observe(
    operational: Operational,
    rule: &Rule,
    sampler: &Sampler<'_>,
    facts: &Facts,
) -> Result<Vec<Observation>, LakeError> {
    let seconds = |micros: i64| micros.max(0) as f64 / 1e6;
    let now = sampler.now;
    let by_table = |value: &dyn Fn(&TableFact) -> f64| {
        facts.tables.iter().map(|fact| plain("table", &fact.table, value(fact))).collect()
    };
    Ok(match operational {
        Operational::IngestLag => by_table(&|fact| seconds(fact.newest_row - fact.newest_event)),
        Operational::Freshness => by_table(&|fact| seconds(now - fact.newest_row)),
        Operational::BatchAge => {
            let age = facts.published_at.map(|at| seconds(now - at));
            age.into_iter().map(|age| observation("{}".into(), age, None)).collect()
        }
        Operational::SinkDown => facts.sinks.iter().map(|(name, seconds)| plain("sink", name, *seconds)).collect(),
        Operational::DeadLetterRate => {
            let Some(context) = &facts.context else { return Ok(Vec::new()) };
            let to = time::hour_start(now, sampler.state.report_zone()) + time::HOUR;
            let from = to - i64::from(rule.window_hours) * time::HOUR;
            let rejected = rejected(context, from, to).await?;
            // Records count when they were taken in, as dead letters do: a feed that brings old
            // events is no reason for an alarm.
            let accepted = accepted(context, sampler.state, from, to).await?;
            vec![observation("{}".into(), rejected, Some(accepted + rejected))]
        }
    })
}

/// The rows of the raw tables that were taken in in a range. Files of other times are passed over
/// by their statistics.
async fn accepted(context: &SessionContext, state: &State, from: i64, to: i64) -> Result<f64, LakeError> {
    let instant = |micros: i64| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let mut rows = 0.0;
    for kind in EventKind::ALL {
        if let Some(table) = state.snapshot.newest_table(kind.raw_table()).await? {
            let taken = col("ingested_at").gt_eq(instant(from)).and(col("ingested_at").lt(instant(to)));
            rows += context.read_table(table)?.filter(taken)?.count().await? as f64;
        }
    }
    Ok(rows)
}

/// The dead letters that were taken in in a range.
async fn rejected(context: &SessionContext, from: i64, to: i64) -> Result<f64, LakeError> {
    let text = |micros: i64| DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let sql = format!(
        "SELECT count(*) FROM dead_letters WHERE ingest_date >= DATE '{}' AND ingested_at >= TIMESTAMP '{}' AND \
         ingested_at < TIMESTAMP '{}'",
        text(from).format("%Y-%m-%d"),
        text(from).format("%Y-%m-%dT%H:%M:%SZ"),
        text(to).format("%Y-%m-%dT%H:%M:%SZ"),
    );
    let batches = context.sql(&sql).await?.collect().await?;
    let count = batches.iter().find_map(|batch| {
        let counts = batch.column(0).as_primitive_opt::<Int64Type>()?;
        (!counts.is_empty()).then(|| counts.value(0))
    });
    Ok(count.unwrap_or_default() as f64)
}

fn plain(label: &str, value: &str, number: f64) -> Observation {
    observation(serde_json::json!({label: value}).to_string().into(), number, None)
}

fn observation(group: Arc<str>, numerator: f64, denominator: Option<f64>) -> Observation {
    let current = Some(Sums { numerator, denominator, volume: numerator });
    Observation { group, sample: Sample { current, is_enough: true, ..Sample::default() } }
}
