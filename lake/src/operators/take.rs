//! Takes rows by their keys: the copies (rows whose key may occur in several rows), or the rows
//! without copies and the winners of the copies, or the rows with one of many values.
//!
//! Nearly all rows have a key that no other row has. A table of the prefixes of the repeated keys
//! tells the two sorts apart. Rows that stay are not copied if all rows of their batch stay.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt;

use super::copies::{BID, COLUMNS, OWN_BID, Prefixes, Seen, Values, Winners};

/// Which rows are taken.
#[derive(Debug, Clone)]
pub(crate) enum Taken {
    /// The rows whose key has one of these prefixes.
    Copies(Arc<Prefixes>),
    /// The rows whose key has none of the prefixes, and the winners.
    Winners(Arc<Winners>),
    /// The rows with one of these values in a column.
    Having(&'static str, Arc<Values>),
}

/// The columns that [`Taken::Having`] takes rows by.
pub(super) const COLUMNS_OF_VALUES: [&str; 2] = [CONTENT_HASH, EVENT_KEY];
/// The hash of a row's content.
pub(crate) const CONTENT_HASH: &str = "content_hash";
/// The identity of a row's event.
pub(crate) const EVENT_KEY: &str = "event_key";

/// The plan that takes rows of `input`. Columns are found by their names. [`OWN_BID`] becomes
/// [`BID`].
pub(crate) fn plan(input: LogicalPlan, taken: Taken) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(TakeNode::new(input, taken)?) }))
}

/// A field of the output for one of the input.
fn renamed(field: &FieldRef) -> FieldRef {
    match field.name().as_str() {
        OWN_BID => Arc::new(field.as_ref().clone().with_name(BID)),
        _ => field.clone(),
    }
}

#[derive(Debug, Clone)]
struct TakeNode {
    input: LogicalPlan,
    taken: Taken,
    schema: DFSchemaRef,
}

impl TakeNode {
    fn new(input: LogicalPlan, taken: Taken) -> Result<TakeNode> {
        let fields = input.schema().iter().map(|(qualifier, field)| match field.name().as_str() {
            OWN_BID => (None, renamed(field)),
            _ => (qualifier.cloned(), field.clone()),
        });
        let schema = DFSchema::new_with_metadata(fields.collect(), input.schema().metadata().clone())?;
        Ok(TakeNode { input, taken, schema: Arc::new(schema) })
    }

    /// What the rows are taken by: the same object, or not.
    fn address(&self) -> usize {
        match &self.taken {
            Taken::Copies(prefixes) => Arc::as_ptr(prefixes).addr(),
            Taken::Winners(winners) => Arc::as_ptr(winners).addr(),
            Taken::Having(_, values) => Arc::as_ptr(values).addr(),
        }
    }
}

impl PartialEq for TakeNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.address() == other.address()
    }
}

impl Eq for TakeNode {}

impl Hash for TakeNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.address().hash(state);
    }
}

impl PartialOrd for TakeNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl Taken {
    fn name(&self) -> &'static str {
        match self {
            Taken::Copies(_) => "TakeCopies",
            Taken::Winners(_) => "TakeWinners",
            Taken::Having(..) => "TakeRows",
        }
    }
}

impl UserDefinedLogicalNodeCore for TakeNode {
    fn name(&self) -> &str {
        self.taken.name()
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

    /// Filters stay above. A winner is decided among all rows of its key.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.taken.name())
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => TakeNode::new(input, self.taken.clone()),
            _ => internal_err!("rows are taken from one input"),
        }
    }

    /// The wanted columns, and those that rows are taken by.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let needed: &[&str] = match &self.taken {
            Taken::Copies(_) => &COLUMNS[..1],
            Taken::Winners(_) => &COLUMNS,
            Taken::Having(column, _) => std::slice::from_ref(column),
        };
        let columns = self.input.schema().fields().iter().enumerate();
        let needed = columns.filter(|(_, field)| needed.contains(&field.name().as_str())).map(|(place, _)| place);
        let mut columns: Vec<usize> = output_columns.iter().copied().chain(needed).collect();
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}

pub(crate) struct TakePlanner;

#[async_trait]
impl ExtensionPlanner for TakePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<TakeNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("rows are taken from one input") };
        Ok(Some(Arc::new(TakeExec::new(input.clone(), node.taken.clone()))))
    }
}

#[derive(Debug)]
pub(super) struct TakeExec {
    input: Arc<dyn ExecutionPlan>,
    pub(super) taken: Taken,
    seen: Arc<Seen>,
    properties: Arc<PlanProperties>,
}

impl TakeExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, taken: Taken) -> TakeExec {
        let schema = Schema::new(input.schema().fields().iter().map(renamed).collect::<Vec<_>>());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        TakeExec { input, taken, seen: Arc::default(), properties: Arc::new(properties) }
    }
}

impl DisplayAs for TakeExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Exec", self.taken.name())
    }
}

impl ExecutionPlan for TakeExec {
    fn name(&self) -> &str {
        "TakeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("rows are taken from one input"))?;
        Ok(Arc::new(TakeExec::new(input, self.taken.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let taken = self.taken.clone();
        let schema = self.schema();
        let output = schema.clone();
        let seen = self.seen.clone();
        let batches = input.map(move |batch| {
            let batch = match &taken {
                Taken::Copies(prefixes) => prefixes.rows(batch?)?,
                Taken::Winners(winners) => winners.take(batch?, &seen)?,
                Taken::Having(column, values) => values.rows(batch?, column)?,
            };
            let (_, columns, rows) = batch.into_parts();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(output.clone(), columns, &options)?)
        });
        let batches = batches.filter(|batch: &Result<RecordBatch>| {
            futures::future::ready(!batch.as_ref().is_ok_and(|batch| batch.num_rows() == 0))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
