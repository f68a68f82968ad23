//! Writes adlake's operators as bytes, and reads them back, so that a plan can be run by another
//! process: DataFusion does this for its own operators.
//!
//! Functions are written as their names. The process that reads a plan has them in its session,
//! with their state (null values, advertisers).

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion_proto::physical_plan::from_proto::parse_physical_sort_exprs;
use datafusion_proto::physical_plan::to_proto::serialize_physical_sort_exprs;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalSortExprNodeCollection;
use prost::Message;

use super::attribution::AttributionExec;
use super::copies::{Prefixes, Values, Winners};
use super::explode::ExplodeExec;
use super::sort::SortedExec;
use super::take::{self, TakeExec, Taken};

/// The codec of adlake's operators.
#[derive(Debug, Default)]
pub struct OperatorCodec;

/// The first byte of an operator tells which it is.
const ATTRIBUTION: u8 = 1;
const EXPLODE: u8 = 2;
const SORT: u8 = 3;
const SORT_BY_PARTITION: u8 = 4;
const TAKE_COPIES: u8 = 5;
const TAKE_WINNERS: u8 = 6;
const TAKE_HAVING: u8 = 7;

impl PhysicalExtensionCodec for OperatorCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(node) = node.downcast_ref::<AttributionExec>() {
            buf.push(ATTRIBUTION);
            buf.extend(serde_json::to_vec(&node.rules).map_err(external)?);
        } else if node.downcast_ref::<ExplodeExec>().is_some() {
            buf.push(EXPLODE);
        } else if let Some(node) = node.downcast_ref::<SortedExec>() {
            buf.push(if node.by_partition { SORT_BY_PARTITION } else { SORT });
            let order = serialize_physical_sort_exprs(node.order.iter().cloned(), self, converter)?;
            buf.extend(PhysicalSortExprNodeCollection { physical_sort_expr_nodes: order }.encode_to_vec());
        } else if let Some(node) = node.downcast_ref::<TakeExec>() {
            match &node.taken {
                Taken::Copies(prefixes) => {
                    buf.push(TAKE_COPIES);
                    write_batch(&prefixes.batch()?, buf)?;
                }
                Taken::Winners(winners) => {
                    buf.push(TAKE_WINNERS);
                    write_batch(&winners.prefixes.batch()?, buf)?;
                    write_batch(&winners.batch, buf)?;
                }
                Taken::Having(column, values) => {
                    buf.push(TAKE_HAVING);
                    buf.push(column.len() as u8);
                    buf.extend(column.as_bytes());
                    write_batch(&values.batch()?, buf)?;
                }
            }
        } else {
            return internal_err!("{} cannot be sent to another process", node.name());
        }
        Ok(())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some((operator, rest)), [input]) = (buf.split_first(), inputs) else {
            return internal_err!("an operator has one input, and bytes that tell which it is");
        };
        let (input, mut rest) = (input.clone(), Cursor::new(rest));
        let runtime = ctx.runtime_env();
        Ok(match *operator {
            ATTRIBUTION => {
                let rules = serde_json::from_reader(rest).map_err(external)?;
                Arc::new(AttributionExec::new(input, rules))
            }
            EXPLODE => Arc::new(ExplodeExec::new(input)?),
            SORT | SORT_BY_PARTITION => {
                let order = PhysicalSortExprNodeCollection::decode(rest).map_err(external)?.physical_sort_expr_nodes;
                let context = PhysicalPlanDecodeContext::new(ctx, self);
                let order = parse_physical_sort_exprs(&order, &context, &input.schema(), converter)?;
                let order = LexOrdering::new(order).ok_or_else(|| internal_datafusion_err!("a sort has an order"))?;
                let sort = SortExec::new(order, input).with_preserve_partitioning(*operator == SORT_BY_PARTITION);
                Arc::new(SortedExec::of(&sort))
            }
            TAKE_COPIES => {
                let prefixes = Prefixes::new(&read_batch(&mut rest)?, &runtime)?;
                Arc::new(TakeExec::new(input, Taken::Copies(Arc::new(prefixes))))
            }
            TAKE_WINNERS => {
                let prefixes = Arc::new(Prefixes::new(&read_batch(&mut rest)?, &runtime)?);
                let winners = read_batch(&mut rest)?;
                let winners = Winners::new(prefixes, &winners.schema(), &[winners], &runtime)?;
                Arc::new(TakeExec::new(input, Taken::Winners(Arc::new(winners))))
            }
            TAKE_HAVING => {
                let begin = rest.get_ref();
                let length = begin.first().copied().unwrap_or_default() as usize;
                let name = begin.get(1..=length).unwrap_or_default();
                let column = take::COLUMNS_OF_VALUES.into_iter().find(|column| column.as_bytes() == name);
                let column = column.ok_or_else(|| internal_datafusion_err!("rows are not taken by this column"))?;
                rest.set_position(1 + length as u64);
                let values = read_batch(&mut rest)?;
                let values = values.column(0).as_binary_opt::<i32>();
                let values = values.ok_or_else(|| internal_datafusion_err!("values are no bytes"))?;
                Arc::new(TakeExec::new(input, Taken::Having(column, Arc::new(Values::new(values, &runtime)?))))
            }
            other => return internal_err!("there is no operator {other}"),
        })
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Writes a batch after its length.
fn write_batch(batch: &RecordBatch, to: &mut Vec<u8>) -> Result<()> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend(bytes);
    Ok(())
}

fn read_batch(from: &mut Cursor<&[u8]>) -> Result<RecordBatch> {
    let cut = || internal_datafusion_err!("an operator was cut off");
    let rest = from.get_ref().get(from.position() as usize..).ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let length = u64::from_le_bytes(*length) as usize;
    let bytes = rest.get(..length).ok_or_else(cut)?;
    from.set_position(from.position() + (size_of::<u64>() + length) as u64);
    StreamReader::try_new(bytes, None)?.next().ok_or_else(cut)?.map_err(Into::into)
}
