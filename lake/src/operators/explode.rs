//! Makes a row of each element of a list. Nearly all records of bid requests stand for one event.
//! Batches of such records are passed on as they are; only others are copied.
//!
//! DataFusion's `unnest` copies every column of every batch.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
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

/// The name of the column with the elements.
pub(crate) const ELEMENT: &str = "event";

/// The plan that makes a row of each element of the last column of `input`, which is a list. The
/// other columns are repeated.
pub(crate) fn plan(input: LogicalPlan) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(ExplodeNode::new(input)?) }))
}

/// The columns of the output for those of the input.
fn exploded(input: &Schema) -> Result<SchemaRef> {
    let Some((list, others)) = input.fields().split_last() else { return internal_err!("there is no list to explode") };
    let DataType::List(element) = list.data_type() else { return internal_err!("the last column is no list") };
    let element = Field::new(ELEMENT, element.data_type().clone(), true);
    Ok(Arc::new(Schema::new(others.iter().cloned().chain([Arc::new(element)]).collect::<Vec<_>>())))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ExplodeNode {
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl ExplodeNode {
    fn new(input: LogicalPlan) -> Result<ExplodeNode> {
        let schema = exploded(input.schema().as_arrow())?;
        Ok(ExplodeNode { input, schema: Arc::new(DFSchema::try_from(schema)?) })
    }
}

impl PartialOrd for ExplodeNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ExplodeNode {
    fn name(&self) -> &str {
        "Explode"
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

    /// Filters stay above: the input has its columns under other qualifiers.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Explode")
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => ExplodeNode::new(input),
            _ => internal_err!("an explosion has one input"),
        }
    }

    /// The columns are those of the input in the same order, the list included.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let list = self.schema.fields().len() - 1;
        let mut columns: Vec<usize> = output_columns.iter().copied().filter(|column| *column != list).collect();
        columns.sort_unstable();
        columns.push(list);
        Some(vec![columns])
    }
}

pub(crate) struct ExplodePlanner;

#[async_trait]
impl ExtensionPlanner for ExplodePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if node.as_any().downcast_ref::<ExplodeNode>().is_none() {
            return Ok(None);
        }
        let [input] = physical_inputs else { return internal_err!("an explosion has one input") };
        Ok(Some(Arc::new(ExplodeExec::new(input.clone())?)))
    }
}

#[derive(Debug)]
pub(super) struct ExplodeExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ExplodeExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>) -> Result<ExplodeExec> {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(exploded(&input.schema())?),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ExplodeExec { input, properties: Arc::new(properties) })
    }
}

impl DisplayAs for ExplodeExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExplodeExec")
    }
}

impl ExecutionPlan for ExplodeExec {
    fn name(&self) -> &str {
        "ExplodeExec"
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
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("an explosion has one input"))?;
        Ok(Arc::new(ExplodeExec::new(input)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let output = schema.clone();
        let batches = input.map(move |batch| explode(&batch?, &output));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

fn explode(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let Some((list, others)) = batch.columns().split_last() else { return internal_err!("there is no list") };
    let list = list.as_list_opt::<i32>().ok_or_else(|| internal_datafusion_err!("the last column is no list"))?;
    let offsets = list.value_offsets();
    let begin = offsets.first().copied().unwrap_or_default() as usize;
    let end = offsets.last().copied().unwrap_or_default() as usize;
    let is_single = list.null_count() == 0 && offsets.windows(2).all(|pair| pair[1] - pair[0] == 1);
    if is_single {
        let mut columns = others.to_vec();
        columns.push(list.values().slice(begin, end - begin));
        return Ok(RecordBatch::try_new(schema.clone(), columns)?);
    }
    let (mut rows, mut elements) = (Vec::new(), Vec::new());
    for row in (0..list.len()).filter(|row| list.is_valid(*row)) {
        for element in offsets[row]..offsets[row + 1] {
            rows.push(row as u32);
            elements.push(element as u32);
        }
    }
    let rows = UInt32Array::from(rows);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for column in others {
        columns.push(take(column, &rows, None)?);
    }
    columns.push(take(list.values(), &UInt32Array::from(elements), None)?);
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn check(lists: &[Option<Vec<i64>>], expected: &[(i64, i64)]) {
        let wrapped =
            lists.iter().map(|list| list.as_ref().map(|list| list.iter().copied().map(Some).collect::<Vec<_>>()));
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(wrapped);
        let numbers = Int64Array::from_iter_values(0..lists.len() as i64);
        let input = Schema::new(vec![
            Field::new("number", DataType::Int64, true),
            Field::new("events", list.data_type().clone(), true),
        ]);
        let schema = exploded(&input).unwrap();
        let batch = RecordBatch::try_new(Arc::new(input), vec![Arc::new(numbers), Arc::new(list)]).unwrap();
        let rows = explode(&batch, &schema).unwrap();
        let column = |place: usize| rows.column(place).as_primitive::<Int64Type>().values().to_vec();
        let found: Vec<(i64, i64)> = column(0).into_iter().zip(column(1)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_element_is_a_row() {
        check(&[Some(vec![7]), Some(vec![8])], &[(0, 7), (1, 8)]);
        check(&[Some(vec![7, 9]), None, Some(vec![]), Some(vec![8])], &[(0, 7), (0, 9), (3, 8)]);
        check(&[], &[]);
    }
}
