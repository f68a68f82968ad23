//! Reads dead letters. Queries and replays select them by the same filter.

use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_domain::schema::{REPLAYED, dead_letters_schema};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::logical_expr::{Expr, Literal};
use datafusion::prelude::{DataFrame, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;

use crate::error::LakeError;
use crate::storage::Lake;

pub mod claims;

/// The state of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// Not a row yet: never replayed, being replayed, or rejected again.
    Open,
    /// Its record is a row now.
    Replayed,
}

/// Selects letters. An empty field selects all. Of a field with several values one must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Kinds of event.
    pub kinds: Vec<EventKind>,
    /// Reasons of the rejection.
    pub reasons: Vec<String>,
    /// Topics, or paths of files.
    pub topics: Vec<String>,
    /// The Kafka partition; 0 for files.
    pub partition: Option<i32>,
    /// The offset, or the record's number in its file.
    pub offset: Option<i64>,
    /// Rejected at or after this time, in microseconds since the epoch.
    pub since: Option<i64>,
    /// Rejected before this time.
    pub until: Option<i64>,
    /// Their state.
    pub state: Option<LetterState>,
}

impl LetterFilter {
    /// The filter as a condition on the columns of `raw/dead_letters`.
    pub fn condition(&self) -> Expr {
        let source = |field: &str| col("source").field(field);
        let one_of = |column: Expr, values: Vec<String>| column.in_list(values.into_iter().map(lit).collect(), false);
        let time = |micros: i64| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())).lit();
        let mut all = lit(true);
        if !self.kinds.is_empty() {
            all = all.and(one_of(col("kind"), self.kinds.iter().map(|kind| kind.table().to_owned()).collect()));
        }
        if !self.reasons.is_empty() {
            all = all.and(one_of(col("reason"), self.reasons.clone()));
        }
        if !self.topics.is_empty() {
            all = all.and(one_of(source("topic"), self.topics.clone()));
        }
        if let Some(partition) = self.partition {
            all = all.and(source("partition").eq(lit(partition)));
        }
        if let Some(offset) = self.offset {
            all = all.and(source("offset").eq(lit(offset)));
        }
        if let Some(since) = self.since {
            all = all.and(col("ingested_at").gt_eq(time(since)));
        }
        if let Some(until) = self.until {
            all = all.and(col("ingested_at").lt(time(until)));
        }
        match self.state {
            Some(LetterState::Open) => {
                all.and(col("replay_outcome").is_null().or(col("replay_outcome").not_eq(lit(REPLAYED))))
            }
            Some(LetterState::Replayed) => all.and(col("replay_outcome").eq(lit(REPLAYED))),
            None => all,
        }
    }
}

impl Lake {
    /// The dead letters that a filter selects, with all columns. Empty if there is no table.
    pub async fn dead_letters(&self, context: &SessionContext, filter: &LetterFilter) -> Result<DataFrame, LakeError> {
        let letters = match self.newest_version(catalogue::DEAD_LETTERS).await? {
            Some(version) => context.read_table(self.provider(catalogue::DEAD_LETTERS, version).await?)?,
            None => context.read_batch(arrow::array::RecordBatch::new_empty(dead_letters_schema()))?,
        };
        Ok(letters.filter(filter.condition())?)
    }
}

#[cfg(test)]
mod tests;
