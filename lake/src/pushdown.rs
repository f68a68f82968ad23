//! DataFusion's rule `push_down_filter`, with one fault corrected.
//!
//! The rule moves a condition below an aggregation if all columns of the condition are grouped by.
//! A condition without columns always passes that test. But some aggregations yield a row even from
//! no rows: those without groups, or with grouping sets of which one may be empty. If a false
//! condition is moved below such an aggregation, it empties the input, but the row stays.
//! (`SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b'` gave a row with 0.)
//!
//! Here such conditions stay above the aggregation. Nothing else changes, because the rule moves no
//! other conditions below such an aggregation.
//!
//! To be removed once DataFusion's own rule checks whether the aggregation may yield a row from no
//! rows, as its physical rule does. A test here fails when that is so.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// DataFusion's optimizer rules in their order. One of them is corrected.
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

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if filters_a_row_of_no_rows(&plan) { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Whether the plan filters an aggregation that may yield a row from no rows. Filters directly
/// below one another count as one, because the rule joins them.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    use parquet::arrow::ArrowWriter;

    use crate::session::SessionSettings;

    /// Three clicks: one of campaign a, two of campaign b.
    fn clicks() -> RecordBatch {
        let campaigns = Arc::new(StringArray::from(vec!["a", "b", "b"]));
        let costs = Arc::new(Int64Array::from(vec![1, 2, 3]));
        RecordBatch::try_from_iter([("campaign", campaigns as _), ("cost", costs as _)]).unwrap()
    }

    fn with_clicks(context: SessionContext) -> SessionContext {
        let rows = clicks();
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        context.register_table("clicks", Arc::new(table)).unwrap();
        context
    }

    /// The rows of an answer. `|` separates the cells.
    async fn answer(context: &SessionContext, sql: &str) -> Vec<String> {
        let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
        let text = pretty_format_batches(&rows).unwrap().to_string();
        let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
        let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
        lines.map(cells).collect()
    }

    #[tokio::test]
    async fn a_condition_without_columns_stays_above_an_aggregation_without_groups() {
        let context = with_clicks(SessionSettings::default().context().unwrap());
        let union = "(SELECT 'a' AS t, count(*) AS n FROM clicks WHERE campaign = 'a' UNION ALL \
                     SELECT 'b', count(*) FROM clicks WHERE campaign = 'b')";
        let by_case = "(SELECT CASE WHEN 1 = 1 THEN 'x' ELSE 'y' END AS t, count(*) AS n FROM clicks)";
        let sets = "(SELECT 'a' AS t, campaign, count(*) AS n FROM clicks GROUP BY ROLLUP (campaign))";
        for (sql, expected) in [
            ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b'", vec![]),
            ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'a'", vec!["a|3"]),
            ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t IN ('b', 'c')", vec![]),
            ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b' OR n = 3", vec!["a|3"]),
            ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b' AND n = 0", vec![]),
            ("SELECT * FROM (SELECT NULL AS t, count(*) AS n FROM clicks) WHERE t IS NOT NULL", vec![]),
            (format!("SELECT * FROM {union} WHERE t = 'b'").as_str(), vec!["b|2"]),
            (format!("SELECT * FROM {union} WHERE t <> 'b'").as_str(), vec!["a|1"]),
            (format!("SELECT * FROM {union} WHERE t = 'c'").as_str(), vec![]),
            (format!("SELECT * FROM {by_case} WHERE t = 'y'").as_str(), vec![]),
            (format!("SELECT * FROM {by_case} WHERE t = 'x'").as_str(), vec!["x|3"]),
            (format!("SELECT n FROM (SELECT * FROM {by_case} WHERE n > 1) WHERE t = 'y'").as_str(), vec![]),
            (format!("SELECT count(*) FROM {by_case} WHERE t = 'y'").as_str(), vec!["0"]),
            (format!("SELECT max(n) FROM (SELECT * FROM {sets} WHERE t = 'b')").as_str(), vec![""]),
            (format!("SELECT * FROM {sets} WHERE t = 'b'").as_str(), vec![]),
            (format!("SELECT n FROM {sets} WHERE campaign IS NULL").as_str(), vec!["3"]),
            ("SELECT count(*) FROM clicks HAVING 1 = 2", vec![]),
            ("SELECT count(*) FROM clicks HAVING false", vec![]),
            ("SELECT count(*) FROM clicks HAVING (SELECT max(cost) FROM clicks) > 5", vec![]),
            ("SELECT count(*) FROM clicks HAVING (SELECT max(cost) FROM clicks) > 2", vec!["3"]),
            ("SELECT * FROM (SELECT count(*) AS n FROM clicks) WHERE false", vec![]),
            ("SELECT * FROM (SELECT count(*) AS n FROM clicks WHERE false)", vec!["0"]),
            ("SELECT * FROM (SELECT DISTINCT 'a' AS t, sum(cost) AS n FROM clicks) WHERE t = 'b'", vec![]),
            (
                "WITH c AS (SELECT 'a' AS t, count(*) AS n FROM clicks) SELECT x.t FROM c x \
                 JOIN c y ON x.n = y.n WHERE y.t = 'b'",
                vec![],
            ),
            (
                "SELECT * FROM (SELECT 'a' AS t, campaign, count(*) AS n FROM clicks GROUP BY campaign) WHERE t = 'b'",
                vec![],
            ),
        ] {
            assert_eq!(answer(&context, sql).await, expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn the_rule_is_still_needed() {
        let sql = "SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b'";
        let found = answer(&with_clicks(SessionContext::new()), sql).await;
        assert_eq!(found, ["a|0"], "DataFusion has mended its rule: this module can go");
    }

    #[tokio::test]
    async fn conditions_on_groups_and_rows_still_reach_the_scan() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("clicks.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, clicks().schema(), None).unwrap();
        writer.write(&clicks()).unwrap();
        writer.close().unwrap();
        let context = SessionSettings::default().context().unwrap();
        let path = folder.path().to_string_lossy().into_owned();
        context.register_parquet("clicks", path, ParquetReadOptions::default()).await.unwrap();
        for sql in [
            "SELECT * FROM (SELECT campaign, count(*) AS n FROM clicks GROUP BY campaign) WHERE campaign = 'b'",
            "SELECT * FROM (SELECT 'x' AS t, campaign, count(*) AS n FROM clicks GROUP BY campaign) \
             WHERE campaign = 'b' AND t = 'x'",
            "SELECT * FROM (SELECT campaign, cost FROM clicks) WHERE campaign = 'b'",
            "SELECT count(*) FROM (SELECT campaign AS c FROM clicks) WHERE c = 'b'",
        ] {
            let plan = answer(&context, &format!("EXPLAIN {sql}")).await.join("\n");
            assert!(plan.contains("predicate=") && plan.contains("pruning_predicate="), "{sql}: {plan}");
        }
    }
}
