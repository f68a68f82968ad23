//! The meaning of the lake: dedupe, attribution, aggregation, and the merge of the batch view with
//! newer rows. Each is defined once, here.
//!
//! - [`plans`]: `Q`, from raw rows to events, attributions, sums and sketches. The batch layer
//!   writes its results.
//! - [`merge`]: what newer rows change of a published `Q`: replaced events, replaced attributions,
//!   signed sums, sketches.
//! - [`surface`]: the SQL views over both. They define nothing but names and ratios. Only
//!   `freshness` is about the tables themselves.
//!
//! `docs/merge.md` argues why a merged result equals a recomputed one.

pub mod plans;
mod events;
mod attribute;
mod cubes;
pub mod merge;
pub mod surface;
mod freshness;

mod materialize;
mod functions;
mod bid_events;
mod content_order;
mod arguments;

pub use plans::Plans;
pub use surface::{VIEWS, Views};

use std::sync::{Arc, Mutex};

use adlake_domain::batch_schema::event_schema;
use adlake_domain::event::EventKind;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{DataFrame, SessionContext};

/// The columns of a table of events.
fn event_columns(kind: EventKind) -> Vec<String> {
    event_schema(kind).fields().iter().map(|field| field.name().clone()).collect()
}

/// A plan over a stream that can be read only once. It is for sorting the stream within the
/// session's limits.
pub async fn ordered(
    context: &SessionContext,
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
) -> Result<DataFrame> {
    let single = SingleReadStream { schema: schema.clone(), stream: Mutex::new(Some(stream)) };
    context.read_table(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(single)])?))
}

struct SingleReadStream {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl std::fmt::Debug for SingleReadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SingleReadStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for SingleReadStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self.stream.lock().ok().and_then(|mut stream| stream.take());
        taken.unwrap_or_else(|| {
            let error = Err(exec_datafusion_err!("a stream is read twice"));
            let schema = self.schema.clone();
            Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
                schema,
                futures::stream::iter([error]),
            ))
        })
    }
}

#[cfg(test)]
mod tests;
