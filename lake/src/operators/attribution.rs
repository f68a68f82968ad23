//! Attribution as an operator of plans: a logical node, the physical operator, and the planner that
//! makes one from the other.
//!
//! The operator needs all events of a user in one partition, and together. So its input is
//! partitioned and ordered by user, and it runs in as many partitions as the session has. What a
//! partition computes depends on its users alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use adlake_domain::attribution::Rules;
use adlake_domain::batch_schema::attributions_schema;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::attribute;

/// The plan that attributes the rows of `input`, which has the columns of
/// [`attribute::input_columns`].
pub(crate) fn plan(input: LogicalPlan, rules: &Rules) -> Result<LogicalPlan> {
    let schema = Arc::new(DFSchema::try_from(attributions_schema())?);
    let node = AttributionNode { input, rules: rules.clone(), schema };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// Attribution in a logical plan.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AttributionNode {
    input: LogicalPlan,
    rules: Rules,
    schema: DFSchemaRef,
}

impl Hash for AttributionNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

impl PartialOrd for AttributionNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        if self == other { Some(std::cmp::Ordering::Equal) } else { None }
    }
}

impl UserDefinedLogicalNodeCore for AttributionNode {
    fn name(&self) -> &str {
        "Attribution"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// No filter may pass below: it could take away a touchpoint.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attribution: scope={:?}", self.rules.joins.scope)
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(AttributionNode { input, ..self.clone() }),
            _ => internal_err!("attribution has one input"),
        }
    }

    /// It reads all columns of its input, whatever is read of its output.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..attribute::input_columns().len()).collect()])
    }
}

pub(super) struct AttributionPlanner;

#[async_trait]
impl ExtensionPlanner for AttributionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<AttributionNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("attribution has one input") };
        Ok(Some(Arc::new(AttributionExec::new(input.clone(), node.rules.clone()))))
    }
}

/// Attribution in a physical plan.
#[derive(Debug)]
pub(super) struct AttributionExec {
    input: Arc<dyn ExecutionPlan>,
    pub(super) rules: Rules,
    properties: Arc<PlanProperties>,
}

impl AttributionExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, rules: Rules) -> AttributionExec {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(attributions_schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        AttributionExec { input, rules, properties: Arc::new(properties) }
    }

    fn user() -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(attribute::input_columns()[0], 0))
    }
}

impl DisplayAs for AttributionExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttributionExec: scope={:?}", self.rules.joins.scope)
    }
}

impl ExecutionPlan for AttributionExec {
    fn name(&self) -> &str {
        "AttributionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::KeyPartitioned(vec![Self::user()])])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let order = PhysicalSortRequirement::from(PhysicalSortExpr::new_default(Self::user()));
        vec![LexRequirement::new([order]).map(OrderingRequirements::new)]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("attribution has one input"))?;
        Ok(Arc::new(AttributionExec::new(input, self.rules.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(attribute::attribute(input, self.rules.clone()))
    }
}
