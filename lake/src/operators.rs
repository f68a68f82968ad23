//! Operators of plans that DataFusion lacks, or that adlake needs to be faster or to take less
//! memory. They appear in `EXPLAIN`.

pub(crate) mod attribute;
pub(crate) mod attribution;
pub(crate) mod codec;
pub(crate) mod copies;
pub(crate) mod exchange;
pub(crate) mod explode;
pub(crate) mod repeated;
pub(crate) mod sort;
pub(crate) mod take;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

/// A planner of queries that knows adlake's own nodes.
#[derive(Debug, Default)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(attribution::AttributionPlanner),
            Arc::new(explode::ExplodePlanner),
            Arc::new(take::TakePlanner),
        ]);
        planner.create_physical_plan(plan, session).await
    }
}
