//! The stored sums and sketches of a snapshot, by chosen columns. The serving layer keeps some of
//! them in memory, and asks the lake for the others.
//!
//! Sums can be added: those of the published run, and the signed changes since, are the merged
//! ones. Sketches cannot be subtracted, so the changes of sketches are the groups that are replaced
//! and the groups that come.

use std::sync::Arc;

use adlake_domain::kpi::SUMS;
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::prelude::{Expr, cast, col, lit};

use super::plans::Plans;
use crate::error::LakeError;

/// Which rows are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the published run has written.
    Published,
    /// The signed changes since.
    Changes,
    /// Both.
    Merged,
}

/// The bucket of time of a group: a column `time` with its first instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// An hour of the report zone.
    Hour,
    /// A day of the report zone.
    Day,
}

/// Sums by some columns of the cube.
#[derive(Debug, Clone)]
pub struct Grouping<'a> {
    /// The rows that are summed.
    pub part: Part,
    /// The bucket of time. `None`: all time is one group.
    pub bucket: Option<Bucket>,
    /// Dimensions of the cube.
    pub dimensions: &'a [&'a str],
    /// Stored sums.
    pub sums: &'a [&'a str],
    /// A condition on the columns of the cube.
    pub condition: Option<Expr>,
}

/// Every stored sum.
pub fn all_sums() -> Vec<&'static str> {
    SUMS.iter().map(|sum| sum.column).collect()
}

/// Which sketches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sketches {
    /// What the published run has written: `day`, `campaign_id`, `reach_sketch`.
    Published,
    /// The groups whose sketches no longer count: `day`, `campaign_id`.
    Replaced,
    /// The sketches that come, several of a group at times: `day`, `campaign_id`, `reach_sketch`.
    New,
    /// All that count, several of a group at times: `day`, `campaign_id`, `reach_sketch`.
    Merged,
}

/// Rows with the columns `time` (if there are buckets), the dimensions, and the sums.
pub(super) async fn sums(plans: &Plans, wanted: &Grouping<'_>) -> Result<SendableRecordBatchStream, LakeError> {
    let is_rolled_up = wanted.dimensions.iter().all(|name| *name == "campaign_id");
    let table = match (wanted.part, is_rolled_up) {
        (Part::Changes, _) => "hourly_changes",
        (Part::Published, true) => "published_rollup",
        (Part::Published, false) => "published_hourly",
        (Part::Merged, true) => "merged_rollup",
        (Part::Merged, false) => "merged_hourly",
    };
    let context = plans.context();
    let mut rows = context.table(table).await?;
    if let Some(condition) = &wanted.condition {
        rows = rows.filter(condition.clone())?;
    }
    let mut groups: Vec<Expr> = Vec::new();
    match wanted.bucket {
        None => {}
        Some(Bucket::Hour) => groups.push(col("hour").alias("time")),
        Some(Bucket::Day) => groups.push(context.udf("report_day")?.call(vec![col("hour")]).alias("time")),
    }
    groups.extend(wanted.dimensions.iter().map(|name| col(*name)));
    let sums = wanted.sums.iter().map(|name| sum(col(*name)).alias(*name)).collect();
    Ok(rows.aggregate(groups, sums)?.execute_stream().await?)
}

/// The rows of sketches.
pub(super) async fn sketches(plans: &Plans, wanted: Sketches) -> Result<SendableRecordBatchStream, LakeError> {
    let table = match wanted {
        Sketches::Published => "published_reach",
        Sketches::Replaced => "replaced_reach",
        Sketches::New => "added_reach",
        Sketches::Merged => "merged_reach",
    };
    Ok(plans.context().table(table).await?.execute_stream().await?)
}

/// Conversions of primary types by the time since their last touch: a row for each number of
/// `bounds` (microseconds) that it has reached, with the columns `reached` and `conversions`.
/// `condition` is one on the columns of `batch/attributions`.
pub(super) async fn delays(
    plans: &Plans,
    condition: Expr,
    bounds: &[i64],
) -> Result<SendableRecordBatchStream, LakeError> {
    let context = plans.context();
    let is_primary = context.udf("is_primary")?.call(vec![col("conversion_type")]);
    let counted = col("interaction_type").eq(lit("conversion")).and(col("last_touch")).and(is_primary);
    let reached = bounds.iter().fold(lit(0_i64), |reached, bound| {
        reached + cast(col("seconds_between_micros").gt_eq(lit(*bound)), DataType::Int64)
    });
    let rows = context.table("merged_attributions").await?.filter(counted)?.filter(condition)?;
    let groups = vec![reached.alias("reached")];
    Ok(rows.aggregate(groups, vec![count(lit(1_i64)).alias("conversions")])?.execute_stream().await?)
}

/// Rows of the view of invalid traffic, added up by kind and reason.
pub(super) async fn invalid(
    plans: &Plans,
    view: Arc<dyn TableProvider>,
    condition: Expr,
) -> Result<SendableRecordBatchStream, LakeError> {
    let rows = plans.context().read_table(view)?.filter(condition)?;
    let sums = ["events", "cost"].map(|name| sum(col(name)).alias(name));
    Ok(rows.aggregate(vec![col("kind"), col("reason")], sums.into())?.execute_stream().await?)
}
