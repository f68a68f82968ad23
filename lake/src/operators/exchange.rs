//! Gives every exchange of rows between partitions one input.
//!
//! Where memory is short, an exchange ([`RepartitionExec`]) writes batches to files. All its inputs
//! share the files of an output. Two inputs that write at the same time open two files, but the
//! output waits for the older one alone: when the next batch is in the newer one, and the inputs
//! wait for the output, the query waits for ever. The defect is
//! <https://github.com/apache/datafusion/issues/24883>. It is mended in DataFusion after 55.2, and
//! then this rule can go. With one input there is never more than one file to write to.
//!
//! What is below the exchange stays parallel: its partitions are put together just before.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Puts the partitions together that an exchange reads from.
#[derive(Debug, Default)]
pub(crate) struct Rule;

impl PhysicalOptimizerRule for Rule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|node| {
            let Some(exchange) = node.downcast_ref::<RepartitionExec>() else { return Ok(Transformed::no(node)) };
            let input = exchange.input();
            // An exchange that preserves the order has files of their own for each input.
            if exchange.preserve_order() || input.output_partitioning().partition_count() < 2 {
                return Ok(Transformed::no(node));
            }
            let input = Arc::new(CoalescePartitionsExec::new(input.clone()));
            let exchange = RepartitionExec::try_new(input, exchange.partitioning().clone())?;
            Ok(Transformed::yes(Arc::new(exchange) as _))
        });
        replaced.data()
    }

    fn name(&self) -> &str {
        "exchanges_have_one_input"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::RecordBatch;
    use datafusion::common::DataFusionError;

    use super::*;
    use crate::session::SessionSettings;

    /// Two aggregations, one above the other. Each has an exchange below it.
    const QUERY: &str = "SELECT number % 5000 AS key, count(DISTINCT repeat(CAST(number AS VARCHAR), 20)) AS texts \
         FROM (SELECT value AS number FROM generate_series(1, 40000)) GROUP BY key";

    /// Without the rule three queries in ten wait for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn exchanges_that_spill_do_not_wait_for_one_another() {
        let settings = SessionSettings { memory_bytes_max: 2_000_000, partitions: 2, ..SessionSettings::default() };
        let (mut finished, mut spilled) = (0, 0);
        for _ in 0..40 {
            let plain = settings.context().unwrap();
            // With larger batches no query finishes in so little memory. With more, few would wait.
            let config = plain.copied_config().with_batch_size(512);
            let context = crate::session::context(config, plain.runtime_env());
            let plan = context.sql(QUERY).await.unwrap().create_physical_plan().await.unwrap();
            let work = datafusion::physical_plan::collect(plan.clone(), context.task_ctx());
            match tokio::time::timeout(Duration::from_secs(60), work).await.expect("the query waits for ever") {
                Ok(rows) => {
                    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 5_000);
                    finished += 1;
                }
                // An aggregation may need more memory than there is.
                Err(error) => assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}"),
            }
            spilled += spills_of_exchanges(plan.as_ref());
        }
        println!("{finished} queries finished, and exchanges wrote {spilled} files");
        assert!(finished >= 20 && spilled > 0, "what did not spill proves nothing");
    }

    fn spills_of_exchanges(plan: &dyn ExecutionPlan) -> usize {
        let own = plan.metrics().and_then(|all| all.spill_count()).filter(|_| plan.name() == "RepartitionExec");
        let below = plan.children().into_iter().map(|child| spills_of_exchanges(child.as_ref()));
        own.unwrap_or(0) + below.sum::<usize>()
    }
}
