//! Takes rows by their keys: the copies (rows whose key may occur in several rows), or the rows
//! without copies and the winners of the copies.
//!
//! Nearly all rows have a key that no other row has. A table of the prefixes of the repeated keys
//! tells the two sorts apart. Rows that stay are not copied if all rows of their batch stay.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use adlake_domain::identity::{KEY_BYTES, Key, key_prefix};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, interleave};
use arrow::datatypes::{FieldRef, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
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
use hashbrown::HashMap;

/// The column of the input with what a row of bid requests tells of our bid.
pub(crate) const OWN_BID: &str = "own_bid";
/// The column of the output with our bid. It has a name of its own, because it may come from
/// another row: DataFusion moves field accesses below a node if the input has the column's name.
pub(crate) const BID: &str = "bid";
/// The column of winners that tells whether their bid is that of another row.
pub(crate) const HAS_OTHER_BID: &str = "has_other_bid";

/// The columns that name a row, and its bid.
const COLUMNS: [&str; 6] = ["event_key", "event_time", "content_hash", "ingested_at", "source", OWN_BID];

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

/// Prefixes of keys that occur in several rows.
#[derive(Debug)]
pub(crate) struct Prefixes {
    prefixes: hashbrown::HashSet<i64>,
    _memory: MemoryReservation,
}

impl Prefixes {
    /// The prefixes of the only column of a batch.
    pub fn new(batch: &RecordBatch, runtime: &RuntimeEnv) -> Result<Prefixes> {
        let values = batch.column(0).as_primitive_opt::<Int64Type>();
        let values = values.ok_or_else(|| internal_datafusion_err!("prefixes are no integers"))?;
        let prefixes: hashbrown::HashSet<i64> = values.iter().flatten().collect();
        let memory = MemoryConsumer::new("prefixes of copies").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        memory.grow(prefixes.capacity() * (size_of::<i64>() + 1));
        Ok(Prefixes { prefixes, _memory: memory })
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.prefixes.contains(&key_prefix(key))
    }
}

/// Keys or hashes.
#[derive(Debug)]
pub(crate) struct Values {
    values: hashbrown::HashSet<Key>,
    _memory: MemoryReservation,
}

impl Values {
    /// All of them have the length of a key.
    pub fn new(values: &[Vec<u8>], runtime: &RuntimeEnv) -> Result<Values> {
        let values: hashbrown::HashSet<Key> = values.iter().map(|value| key(value)).collect::<Result<_>>()?;
        let memory = MemoryConsumer::new("values of rows").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        memory.grow(values.capacity() * (size_of::<Key>() + 1));
        Ok(Values { values, _memory: memory })
    }

    /// The rows of a batch that have one of the values.
    fn rows(&self, batch: RecordBatch, name: &str) -> Result<RecordBatch> {
        let values = binaries(column(&batch, name)?)?.iter();
        let stays =
            values.map(|value| value.is_some_and(|value| key(value).is_ok_and(|key| self.values.contains(&key))));
        let stays = stays.collect();
        filtered(batch, stays)
    }
}

/// The winners among copies.
#[derive(Debug)]
pub(crate) struct Winners {
    prefixes: Arc<Prefixes>,
    /// The number of the winner of each key.
    by_key: HashMap<Key, usize>,
    rows: Rows,
    bids: Option<Bids>,
    _memory: MemoryReservation,
}

#[derive(Debug)]
struct Bids {
    bids: ArrayRef,
    are_other: BooleanArray,
}

impl Winners {
    /// Winners with the columns that name a row; and of bid requests, their bids.
    pub fn new(
        prefixes: Arc<Prefixes>,
        schema: &SchemaRef,
        winners: &[RecordBatch],
        runtime: &RuntimeEnv,
    ) -> Result<Winners> {
        let winners = concat_batches(schema, winners)?;
        let rows = Rows::of(&winners)?;
        let mut by_key = HashMap::with_capacity(winners.num_rows());
        for row in 0..winners.num_rows() {
            by_key.insert(key(rows.keys.value(row))?, row);
        }
        let bids = match winners.column_by_name(BID) {
            Some(bids) => {
                let are_other = column(&winners, HAS_OTHER_BID)?.as_boolean_opt();
                let are_other = are_other.ok_or_else(|| internal_datafusion_err!("{HAS_OTHER_BID} is no boolean"))?;
                Some(Bids { bids: bids.clone(), are_other: are_other.clone() })
            }
            None => None,
        };
        let memory = MemoryConsumer::new("winners of copies").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        let entry = size_of::<Key>() + size_of::<usize>() + 1;
        memory.grow(get_record_batch_memory_size(&winners) + by_key.capacity() * entry);
        Ok(Winners { prefixes, by_key, rows, bids, _memory: memory })
    }

    /// The number of the winner that a row is.
    fn winner(&self, rows: &Rows, row: usize) -> Result<Option<usize>> {
        let Some(winner) = self.by_key.get(&key(rows.keys.value(row))?).copied() else { return Ok(None) };
        Ok(rows.is_same(row, &self.rows, winner).then_some(winner))
    }

    /// The rows of a batch that win. `seen` are the winners of earlier batches: if a row is in the
    /// table twice, it wins once.
    fn take(&self, batch: RecordBatch, seen: &mut hashbrown::HashSet<usize>) -> Result<RecordBatch> {
        let rows = Rows::of(&batch)?;
        let mut stays = Vec::with_capacity(batch.num_rows());
        let mut others = Vec::new();
        for row in 0..batch.num_rows() {
            if !self.prefixes.contains(rows.keys.value(row)) {
                stays.push(true);
                continue;
            }
            let winner = self.winner(&rows, row)?.filter(|winner| seen.insert(*winner));
            stays.push(winner.is_some());
            if let (Some(winner), Some(bids)) = (winner, &self.bids)
                && bids.are_other.value(winner)
            {
                others.push((row, winner));
            }
        }
        let batch = match &self.bids {
            Some(bids) if !others.is_empty() => with_other_bids(&batch, &bids.bids, &others)?,
            _ => batch,
        };
        filtered(batch, stays)
    }
}

/// The batch with the bids of other rows: `others` are the rows, and the places of their bids in
/// `bids`.
fn with_other_bids(batch: &RecordBatch, bids: &ArrayRef, others: &[(usize, usize)]) -> Result<RecordBatch> {
    let place = batch.schema().index_of(OWN_BID)?;
    let mut columns = batch.columns().to_vec();
    let bids = cast(bids, columns[place].data_type())?;
    let mut from: Vec<(usize, usize)> = (0..batch.num_rows()).map(|row| (0, row)).collect();
    others.iter().for_each(|(row, bid)| from[*row] = (1, *bid));
    columns[place] = interleave(&[columns[place].as_ref(), bids.as_ref()], &from)?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn copies(prefixes: &Prefixes, batch: RecordBatch) -> Result<RecordBatch> {
    let keys = binaries(column(&batch, "event_key")?)?;
    let stays = keys.iter().map(|key| key.is_some_and(|key| prefixes.contains(key))).collect();
    filtered(batch, stays)
}

fn filtered(batch: RecordBatch, stays: Vec<bool>) -> Result<RecordBatch> {
    if stays.iter().all(|stays| *stays) {
        return Ok(batch);
    }
    Ok(filter_record_batch(&batch, &BooleanArray::from(stays))?)
}

/// What names rows.
#[derive(Debug)]
struct Rows {
    keys: BinaryArray,
    times: TimestampMicrosecondArray,
    hashes: BinaryArray,
    ingested: TimestampMicrosecondArray,
    topics: StringArray,
    partitions: Int32Array,
    offsets: Int64Array,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Rows> {
        let wrong = || internal_datafusion_err!("the columns that name a row have other types");
        let times = |name: &str| -> Result<TimestampMicrosecondArray> {
            Ok(column(batch, name)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?.clone())
        };
        let source = column(batch, "source")?.as_struct_opt().ok_or_else(wrong)?;
        let field = |name: &str| source.column_by_name(name).ok_or_else(wrong);
        Ok(Rows {
            keys: binaries(column(batch, "event_key")?)?.clone(),
            times: times("event_time")?,
            hashes: binaries(column(batch, "content_hash")?)?.clone(),
            ingested: times("ingested_at")?,
            topics: field("topic")?.as_string_opt::<i32>().ok_or_else(wrong)?.clone(),
            partitions: field("partition")?.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?.clone(),
            offsets: field("offset")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.clone(),
        })
    }

    fn is_same(&self, row: usize, others: &Rows, other: usize) -> bool {
        fn value<T>(array: &dyn Array, row: usize, value: impl Fn(usize) -> T) -> Option<T> {
            array.is_valid(row).then(|| value(row))
        }
        macro_rules! equal {
            ($column:ident) => {
                value(&self.$column, row, |row| self.$column.value(row))
                    == value(&others.$column, other, |row| others.$column.value(row))
            };
        }
        equal!(times)
            && equal!(ingested)
            && equal!(offsets)
            && equal!(partitions)
            && equal!(hashes)
            && equal!(topics)
            && self.keys.value(row) == others.keys.value(other)
    }
}

fn key(bytes: &[u8]) -> Result<Key> {
    bytes.try_into().map_err(|_| internal_datafusion_err!("a key has {} bytes instead of {KEY_BYTES}", bytes.len()))
}

pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("there is no column {name}"))
}

pub(crate) fn binaries(column: &ArrayRef) -> Result<&BinaryArray> {
    column.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("{} is not bytes", column.data_type()))
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
struct TakeExec {
    input: Arc<dyn ExecutionPlan>,
    taken: Taken,
    properties: Arc<PlanProperties>,
}

impl TakeExec {
    fn new(input: Arc<dyn ExecutionPlan>, taken: Taken) -> TakeExec {
        let schema = Schema::new(input.schema().fields().iter().map(renamed).collect::<Vec<_>>());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        TakeExec { input, taken, properties: Arc::new(properties) }
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
        let mut seen = hashbrown::HashSet::new();
        let batches = input.map(move |batch| {
            let batch = match &taken {
                Taken::Copies(prefixes) => copies(prefixes, batch?)?,
                Taken::Winners(winners) => winners.take(batch?, &mut seen)?,
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
