//! The merge: what the rows after the published run change of its results.
//!
//! Tables are registered by name. `<kind>` is the name of a kind of event:
//!
//! - `published_<kind>`: the events as published.
//! - `tail_keyed_<kind>`: the tail (raw rows with identities).
//! - `new_<kind>`: new or changed events.
//! - `replaced_<kind>`: the published events that they replace.
//! - `interactions_before`, `interactions_after`: the interactions whose attribution may have
//!   changed, as published and as they are now.
//! - `attributions_before`, `attributions_after`: the attributions of these interactions.
//! - `hourly_changes`: the signed changes of the sums.
//! - `rollup_changes`: the same by campaign, if only these are needed.
//! - `user_changes`: the signed changes of what users did.
//! - `merged_<table>`: the result.
//!
//! What an event or a credit is, is not defined here but in `Q`: see [`super::plans`].

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use adlake_domain::event::EventKind;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef};
use chrono::{Datelike, NaiveDate, TimeDelta};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;

use super::materialize::{Kept, Materialized, materialize};
use super::plans::Plans;
use crate::error::LakeError;
use crate::snapshot::Snapshot;

mod among;
mod events;
mod attributions;
mod near;
mod cubes;
mod users;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A part of the merge that a query may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Events of a kind.
    Events(EventKind),
    /// Attributions, and the dimensions that interactions inherit through them.
    Attributions,
    /// The sums.
    Hourly,
    /// The sums by campaign.
    Rollup,
    /// The sketches.
    Reach,
    /// What each user did.
    Users,
}

impl Part {
    /// This part and the parts that it is made from, in order.
    fn with_sources(self) -> Vec<Part> {
        use EventKind::{BidRequest, Impression, Interaction};
        match self {
            Part::Events(_) => vec![self],
            Part::Attributions => vec![Part::Events(Impression), Part::Events(Interaction), self],
            Part::Hourly | Part::Rollup => vec![
                Part::Events(Impression),
                Part::Events(Interaction),
                Part::Events(BidRequest),
                Part::Attributions,
                self,
            ],
            Part::Reach => vec![Part::Events(Impression), self],
            Part::Users => vec![Part::Events(Impression), Part::Events(Interaction), Part::Attributions, self],
        }
    }
}

/// The merged tables of one snapshot, named `merged_<table>`, for the parts that a query needs.
pub struct Merge<'a> {
    plans: &'a Plans,
    snapshot: &'a Snapshot,
    /// The most bytes of rows of one materialized plan that stay in memory.
    memory_bytes_max: usize,
    kept: Mutex<Vec<Kept>>,
    /// The names of materialized tables that have rows.
    filled: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("snapshot", &self.snapshot.newest).finish_non_exhaustive()
    }
}

/// The outcome of a merge. Its tables can be read as long as this lives.
#[derive(Debug, Default)]
pub struct Merged {
    /// What the materialized tables occupy.
    _kept: Vec<Kept>,
    /// The names of materialized tables that have rows.
    filled: BTreeSet<String>,
}

impl Merged {
    /// Whether a materialized table has rows.
    pub fn has_rows(&self, name: &str) -> bool {
        self.filled.contains(name)
    }
}

impl<'a> Merge<'a> {
    /// A merge of the tables of a snapshot. The rows of a materialized plan stay in memory up to
    /// `memory_bytes_max`.
    pub fn new(plans: &'a Plans, snapshot: &'a Snapshot, memory_bytes_max: usize) -> Merge<'a> {
        Merge { plans, snapshot, memory_bytes_max, kept: Mutex::default(), filled: Mutex::default() }
    }

    /// Registers the merged tables of the parts: `merged_impressions`,
    /// `merged_interactions`, `merged_bid_requests`, `merged_attributions`, `merged_hourly`,
    /// `merged_rollup`, `merged_reach`, `merged_users`.
    pub async fn prepare(self, parts: &BTreeSet<Part>) -> Result<Merged, LakeError> {
        let mut all: Vec<Part> = Vec::new();
        for part in parts.iter().flat_map(|part| part.with_sources()) {
            if !all.contains(&part) {
                all.push(part);
            }
        }
        all.sort_unstable();
        for part in all {
            match part {
                Part::Events(kind) => self.merge_events(kind).await?,
                Part::Attributions => self.merge_attributions().await?,
                Part::Hourly => self.merge_hourly().await?,
                Part::Rollup => self.merge_rollup(parts.contains(&Part::Hourly)).await?,
                Part::Reach => self.merge_reach().await?,
                Part::Users => self.merge_users().await?,
            }
        }
        let kept = self.kept.into_inner().unwrap_or_default();
        let filled = self.filled.into_inner().unwrap_or_default();
        Ok(Merged { _kept: kept, filled })
    }

    /// Registers a batch table as published, or as empty. Returns whether it is published.
    async fn register_published(&self, name: &str, table: &str, schema: SchemaRef) -> Result<bool, LakeError> {
        match self.snapshot.published_table(table).await? {
            Some(provider) => {
                self.plans.register(name, provider)?;
                Ok(true)
            }
            None => {
                self.plans.register_empty(name, schema)?;
                Ok(false)
            }
        }
    }

    /// Runs a plan and registers its rows under a name. Returns whether there are any.
    async fn materialize(&self, name: &str, sql: &str, schema: Option<SchemaRef>) -> Result<bool, LakeError> {
        let began = Instant::now();
        let frame = self.plans.sql(sql).await?;
        let schema = schema.unwrap_or_else(|| nullable(frame.schema().as_arrow()));
        let rows = self.run(frame.execute_stream().await?, schema).await?;
        tracing::debug!(name, rows = rows.count, elapsed = ?began.elapsed(), "a part of the merge");
        self.register_rows(name, rows)
    }

    async fn run(&self, stream: SendableRecordBatchStream, schema: SchemaRef) -> Result<Materialized, LakeError> {
        Ok(materialize(self.plans.context(), stream, schema, self.memory_bytes_max).await?)
    }

    fn register_rows(&self, name: &str, rows: Materialized) -> Result<bool, LakeError> {
        self.plans.register(name, rows.table)?;
        if let Ok(mut kept) = self.kept.lock() {
            kept.push(rows.kept);
        }
        if let (true, Ok(mut filled)) = (rows.count > 0, self.filled.lock()) {
            filled.insert(name.to_string());
        }
        Ok(rows.count > 0)
    }

    /// Whether events of these kinds have come or gone. If not, nothing that is made from them
    /// alone has changed, and no plan has to tell: planning takes longer than most answers.
    fn has_changed(&self, kinds: &[EventKind]) -> bool {
        let changes = kinds.iter().flat_map(|kind| ["new", "replaced"].map(|what| format!("{what}_{}", kind.table())));
        changes.into_iter().any(|name| self.has_rows(&name))
    }

    fn has_rows(&self, name: &str) -> bool {
        self.filled.lock().is_ok_and(|filled| filled.contains(name))
    }

    /// SQL: a condition that prunes partitions, with the dates that `dates` yields as literals. If
    /// a date has no literal, nothing is pruned.
    async fn on_dates(&self, column: &str, dates: &str) -> Result<String, LakeError> {
        let batches = self.plans.sql(dates).await?.collect().await?;
        let mut found = BTreeSet::new();
        for batch in &batches {
            if let Some(days) = batch.column(0).as_primitive_opt::<Date32Type>() {
                found.extend(days.iter().flatten());
            }
        }
        let list: Option<Vec<String>> = found.into_iter().map(date_literal).collect();
        Ok(match list {
            None => String::new(),
            Some(list) if list.is_empty() => " WHERE false".to_string(),
            Some(list) => format!(" WHERE {column} IN ({})", list.join(", ")),
        })
    }
}

/// SQL: the date that is so many days after 1970-01-01. `None` if its year does not have four
/// digits.
fn date_literal(days: i32) -> Option<String> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::days(i64::from(days)))?;
    (1..=9999).contains(&date.year()).then(|| format!("DATE '{}'", date.format("%Y-%m-%d")))
}

/// All columns are nullable: rows that are read back later may not meet a stricter schema.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), without_views(field.data_type()), true)).collect();
    std::sync::Arc::new(Schema::new(fields))
}

fn without_views(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_a_literal_if_its_year_has_four_digits() {
        for (days, expected) in [
            (0, Some("DATE '1970-01-01'")),
            (-1, Some("DATE '1969-12-31'")),
            (20_513, Some("DATE '2026-03-01'")),
            (2_932_896, Some("DATE '9999-12-31'")),
            (2_932_897, None),
            (-719_162, Some("DATE '0001-01-01'")),
            (-719_163, None),
            (i32::MAX, None),
            (i32::MIN, None),
        ] {
            assert_eq!(date_literal(days).as_deref(), expected, "{days}");
        }
    }
}
