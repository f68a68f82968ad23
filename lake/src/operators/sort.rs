//! Sorts rows that may not fit in memory.
//!
//! DataFusion's sort merges sorted runs of whole rows. It copies wide rows twice, keeps a batch of
//! every run in memory while it merges, and fails if that memory is not there. Here rows are sorted
//! by their keys alone, and copied once, into the output:
//!
//! - Rows are kept while the session's memory allows, with their keys as bytes that compare like
//!   the rows. If all fit, the places of the rows are sorted, and the output is gathered by them.
//! - If not, the keys of the first rows are sampled, and ranges of keys are drawn from the sample.
//!   All rows are written to temporary files, one for each range. At the end the ranges are sorted
//!   one after the other in the same way: a range that does not fit is divided again.
//!
//! Rows with equal keys keep their order.
//!
//! [`Rule`] puts this operator in the place of DataFusion's sorts, except those that only keep the
//! first rows.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, SpillWriter, TaskContext};
use datafusion::physical_expr::{Distribution, LexOrdering, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
};
use futures::{StreamExt, stream};

use buffer::{Buffer, Gather, Place, SORTABLE_BYTES};

mod buffer;

/// Into how many ranges rows are divided that do not fit in memory.
const RANGES: usize = 16;
/// How many keys are sampled.
const SAMPLE_MAX: usize = 16 << 10;
/// The most bytes of rows that are sorted at once. Texts of one column must stay below two
/// gigabytes.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// How often rows are divided. What still does not fit then has hardly any different keys.
const DEPTH_MAX: usize = 6;

/// Puts [`SortedExec`] in the place of sorts.
#[derive(Debug, Default)]
pub(crate) struct Rule;

impl PhysicalOptimizerRule for Rule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|node| match node.downcast_ref::<SortExec>() {
            Some(sort) if sort.fetch().is_none() => Ok(Transformed::yes(Arc::new(SortedExec::of(sort)) as _)),
            _ => Ok(Transformed::no(node)),
        });
        replaced.data()
    }

    fn name(&self) -> &str {
        "sorts_by_ranges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A sort in a physical plan.
#[derive(Debug)]
pub(super) struct SortedExec {
    input: Arc<dyn ExecutionPlan>,
    pub(super) order: LexOrdering,
    /// Whether each partition is sorted by itself.
    pub(super) by_partition: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SortedExec {
    pub(super) fn of(sort: &SortExec) -> SortedExec {
        SortedExec {
            input: sort.input().clone(),
            order: sort.expr().clone(),
            by_partition: sort.preserve_partitioning(),
            properties: sort.properties().clone(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for SortedExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SortedExec: expr=[{}], preserve_partitioning=[{}]", self.order, self.by_partition)
    }
}

impl ExecutionPlan for SortedExec {
    fn name(&self) -> &str {
        "SortedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let distribution =
            if self.by_partition { Distribution::UnspecifiedDistribution } else { Distribution::SinglePartition };
        InputDistributionRequirements::new(vec![distribution])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in &self.order {
            if apply(&key.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("a sort has one input"))?;
        let sort = SortExec::new(self.order.clone(), input).with_preserve_partitioning(self.by_partition);
        Ok(Arc::new(SortedExec::of(&sort)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let schema = self.schema();
        let shared = Arc::new(Shared {
            keys: Keys::new(&self.order, &schema)?,
            schema: schema.clone(),
            runtime: context.runtime_env(),
            batch_rows: context.session_config().batch_size(),
            spills: SpillMetrics::new(&self.metrics, partition),
        });
        let state = State::Reading { input, sorter: Sorter::new(shared, 0) };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let batches = stream::try_unfold((state, baseline), |(mut state, baseline)| async move {
            loop {
                state = match state {
                    State::Reading { mut input, mut sorter } => match input.next().await.transpose()? {
                        Some(batch) => {
                            let _timer = baseline.elapsed_compute().timer();
                            sorter.push(batch)?;
                            State::Reading { input, sorter }
                        }
                        None => {
                            drop(input);
                            let _timer = baseline.elapsed_compute().timer();
                            State::Sorted(sorter.finish()?)
                        }
                    },
                    State::Sorted(mut sorted) => {
                        let next = {
                            let _timer = baseline.elapsed_compute().timer();
                            sorted.next_batch()?
                        };
                        return Ok(next.map(|batch| {
                            baseline.record_output(batch.num_rows());
                            (batch, (State::Sorted(sorted), baseline))
                        }));
                    }
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

enum State {
    Reading { input: SendableRecordBatchStream, sorter: Sorter },
    Sorted(Sorted),
}

/// What the sorters of one partition share.
struct Shared {
    keys: Keys,
    schema: SchemaRef,
    runtime: Arc<RuntimeEnv>,
    /// The rows of a batch of the output.
    batch_rows: usize,
    spills: SpillMetrics,
}

/// Makes the keys of rows.
struct Keys {
    columns: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
}

impl Keys {
    fn new(order: &LexOrdering, schema: &SchemaRef) -> Result<Keys> {
        let mut fields = Vec::new();
        for key in order {
            fields.push(SortField::new_with_options(key.expr.data_type(schema)?, key.options));
        }
        let columns = order.iter().map(|key| key.expr.clone()).collect();
        Ok(Keys { columns, converter: RowConverter::new(fields)? })
    }

    fn of(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns: Result<Vec<ArrayRef>> =
            self.columns.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect();
        Ok(self.converter.convert_columns(&columns?)?)
    }
}

/// Takes rows.
struct Sorter {
    shared: Arc<Shared>,
    /// How often the rows were divided already.
    depth: usize,
    rows: Buffer,
    ranges: Option<Ranges>,
}

impl Sorter {
    fn new(shared: Arc<Shared>, depth: usize) -> Sorter {
        let pool = &shared.runtime.memory_pool;
        let memory = MemoryConsumer::new("sort").with_can_spill(true).register(pool);
        Sorter { shared, depth, rows: Buffer::new(memory), ranges: None }
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.shared.keys.of(&batch)?;
        // The places of the rows take memory too, once they are sorted.
        let bytes = get_record_batch_memory_size(&batch) + keys.size() + batch.num_rows() * SORTABLE_BYTES;
        let is_full = self.rows.memory.size() + bytes > BUFFER_BYTES_MAX;
        if is_full || self.rows.memory.try_grow(bytes).is_err() {
            let is_divisible = self.depth < DEPTH_MAX && self.rows.rows() >= RANGES;
            if is_divisible {
                self.spill()?;
            }
            // One batch must fit, and rows with nearly the same keys must too.
            self.rows.memory.grow(bytes);
        }
        self.rows.batches.push(batch);
        self.rows.keys.push(keys);
        Ok(())
    }

    /// Writes all rows in memory to the files of their ranges.
    fn spill(&mut self) -> Result<()> {
        if self.ranges.is_none() {
            self.ranges = Some(Ranges::sample(&self.rows));
        }
        if let Some(ranges) = &mut self.ranges {
            ranges.write(&mut self.rows, &self.shared)?;
        }
        self.rows.keys.clear();
        self.rows.memory.free();
        Ok(())
    }

    fn finish(mut self) -> Result<Sorted> {
        if self.ranges.is_some() && !self.rows.batches.is_empty() {
            self.spill()?;
        }
        let Sorter { shared, depth, mut rows, ranges } = self;
        let Some(ranges) = ranges else {
            let order = rows.sorted_places();
            rows.keys.clear();
            let gather = rows.take_rows(&shared.schema)?;
            return Ok(Sorted::InMemory { gather, order, next: 0, shared, _memory: rows.memory });
        };
        Ok(Sorted::InFiles { files: ranges.finish(&shared)?, current: None, depth, shared })
    }
}

/// Files of rows, by ranges of their keys.
struct Ranges {
    /// The least keys of all ranges but the first.
    bounds: Vec<Vec<u8>>,
    files: Vec<Option<RangeFile>>,
}

struct RangeFile {
    file: Arc<dyn SpillFile>,
    writer: StreamWriter<Box<dyn SpillWriter>>,
}

impl Ranges {
    /// Ranges that divide the rows evenly.
    fn sample(rows: &Buffer) -> Ranges {
        let step = rows.rows().div_ceil(SAMPLE_MAX).max(1);
        let mut sample: Vec<Place> = rows.places().step_by(step).collect();
        sample.sort_unstable_by(|a, b| rows.key(*a).cmp(rows.key(*b)));
        let mut bounds: Vec<Vec<u8>> =
            (1..RANGES).map(|range| rows.key(sample[range * sample.len() / RANGES]).to_vec()).collect();
        bounds.dedup();
        let files = (0..=bounds.len()).map(|_| None).collect();
        Ranges { bounds, files }
    }

    fn write(&mut self, rows: &mut Buffer, shared: &Shared) -> Result<()> {
        let mut places: Vec<Vec<Place>> = vec![Vec::new(); self.files.len()];
        for place in rows.places() {
            let key = rows.key(place);
            let range = self.bounds.partition_point(|bound| bound.as_slice() <= key);
            places[range].push(place);
        }
        let gather = rows.take_rows(&shared.schema)?;
        for (places, file) in places.iter().zip(&mut self.files) {
            for places in places.chunks(shared.batch_rows) {
                let file = match file {
                    Some(file) => file,
                    None => file.insert(RangeFile::new(shared)?),
                };
                file.writer.write(&gather.rows(places)?)?;
                shared.spills.spilled_rows.add(places.len());
            }
        }
        Ok(())
    }

    fn finish(self, shared: &Shared) -> Result<VecDeque<Arc<dyn SpillFile>>> {
        let mut files = VecDeque::new();
        for RangeFile { file, mut writer } in self.files.into_iter().flatten() {
            writer.finish()?;
            writer.get_mut().finish()?;
            shared.spills.spilled_bytes.add(file.size().unwrap_or_default() as usize);
            files.push_back(file);
        }
        Ok(files)
    }
}

impl RangeFile {
    fn new(shared: &Shared) -> Result<RangeFile> {
        let file = shared.runtime.disk_manager.create_tmp_file("sort")?;
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let writer = StreamWriter::try_new_with_options(file.open_writer()?, &shared.schema, options)?;
        shared.spills.spill_file_count.add(1);
        Ok(RangeFile { file, writer })
    }
}

/// Gives rows in their order.
enum Sorted {
    InMemory { gather: Gather, order: Vec<Place>, next: usize, shared: Arc<Shared>, _memory: MemoryReservation },
    InFiles { files: VecDeque<Arc<dyn SpillFile>>, current: Option<Box<Sorted>>, depth: usize, shared: Arc<Shared> },
}

impl Sorted {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Sorted::InMemory { gather, order, next, shared, .. } => {
                let places = &order[*next..order.len().min(*next + shared.batch_rows)];
                *next += places.len();
                if places.is_empty() { Ok(None) } else { Ok(Some(gather.rows(places)?)) }
            }
            Sorted::InFiles { files, current, depth, shared } => loop {
                if let Some(sorted) = current {
                    if let Some(batch) = sorted.next_batch()? {
                        return Ok(Some(batch));
                    }
                    *current = None;
                }
                let Some(file) = files.pop_front() else { return Ok(None) };
                *current = Some(Box::new(sort_file(&file, *depth + 1, shared)?));
            },
        }
    }
}

/// Sorts the rows of a file.
fn sort_file(file: &Arc<dyn SpillFile>, depth: usize, shared: &Arc<Shared>) -> Result<Sorted> {
    let path = file.path().ok_or_else(|| internal_datafusion_err!("a temporary file has no path"))?;
    let mut sorter = Sorter::new(shared.clone(), depth);
    for batch in StreamReader::try_new(BufReader::new(File::open(path)?), None)? {
        sorter.push(batch?)?;
    }
    sorter.finish()
}

#[cfg(test)]
mod tests;
