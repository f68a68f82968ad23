//! DataFusion's rule `push_down_filter`, without its fault.
//!
//! The rule takes a condition for one on the groups of an aggregation when all its columns are grouped by, and moves it below
//! the aggregation. A condition without columns always passes that test. An aggregation without groups, or with grouping sets of which
//! one may be empty, yields a row even of no rows: below it, a condition that is false empties the input, but the row stays.
//! (`SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b'` gave a row with 0.) Such conditions stay above.
//! Nothing else changes: of such an aggregation the rule moves no other conditions.
//!
//! To be removed once DataFusion's own rule asks whether the aggregation may yield a row of no rows, as its physical one
//! does. The test here says when that is so.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// DataFusion's rules, in their order, one of them mended.
pub(crate) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let faulty = PushDownFilter::new();
    let mend = |rule: Arc<dyn OptimizerRule + Send + Sync>| -> Arc<dyn OptimizerRule + Send + Sync> {
        if rule.name() == faulty.name() { Arc::new(MendedPushDown(PushDownFilter::new())) } else { rule }
    };
    Optimizer::new().rules.into_iter().map(mend).collect()
}

#[derive(Debug)]
struct MendedPushDown(PushDownFilter);

impl OptimizerRule for MendedPushDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        self.0.supports_rewrite()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if filters_a_row_of_no_rows(&plan) { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Whether the plan filters an aggregation that may yield a row of no rows. Filters right below one another count as one: the rule
/// joins them.
fn filters_a_row_of_no_rows(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = plan else { return false };
    match filter.input.as_ref() {
        LogicalPlan::Aggregate(aggregate) => {
            let of_sets = |expression: &Expr| matches!(expression, Expr::GroupingSet(_));
            aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(of_sets)
        }
        inner => filters_a_row_of_no_rows(inner),
    }
}
