//! Runs the parts of a batch run: several beside each other, each in one thread, until all are done
//! or the run is cancelled.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use adlake_lake::replace::Replacer;
use adlake_lake::views::Plans;
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{DataFile, Lake, TableWriter};
use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::error::BatchError;
use crate::observer::BatchObserver;
use crate::settings::BatchSettings;

/// What all parts of a run share.
#[derive(Clone)]
pub(crate) struct Engine {
    pub lake: Lake,
    pub plans: Plans,
    pub meaning: Meaning,
    pub settings: BatchSettings,
    pub observer: Arc<dyn BatchObserver>,
    pub cancel: CancellationToken,
}

/// The files of a table that a run has written, and their rows.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub files: Vec<DataFile>,
    pub rows: u64,
}

impl Written {
    pub fn add(&mut self, other: Written) {
        self.files.extend(other.files);
        self.rows += other.rows;
    }
}

impl FromIterator<Written> for Written {
    fn from_iter<Parts: IntoIterator<Item = Written>>(parts: Parts) -> Written {
        let mut all = Written::default();
        parts.into_iter().for_each(|part| all.add(part));
        all
    }
}

impl Engine {
    /// Ends with [`BatchError::Stopped`] as soon as the run is cancelled.
    pub async fn until_cancelled<T>(&self, work: impl Future<Output = Result<T, BatchError>>) -> Result<T, BatchError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(BatchError::Stopped),
            done = work => done,
        }
    }

    /// Does a part for each item, as many at a time as there are workers. A part that an outage
    /// interrupts is done again. The results come in the order of the items.
    pub async fn each<Item, Part, Output>(
        &self,
        items: Vec<Item>,
        part: impl Fn(Engine, Item) -> Part + Clone + Send + Sync + 'static,
    ) -> Result<Vec<Output>, BatchError>
    where
        Item: Clone + Send + Sync + 'static,
        Part: Future<Output = Result<Output, BatchError>> + Send,
        Output: Send + 'static,
    {
        let mut waiting = items.into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut done: Vec<(usize, Output)> = Vec::new();
        loop {
            while running.len() < self.settings.workers()
                && let Some((place, item)) = waiting.next()
            {
                let (engine, part) = (self.clone(), part.clone());
                let work = async move {
                    let again = || async {
                        let engine = Engine { plans: engine.plans.sequential()?, ..engine.clone() };
                        part(engine, item.clone()).await
                    };
                    engine.lake.retry(again).await.map(|output| (place, output))
                };
                running.spawn(work.in_current_span());
            }
            let Some(next) = running.join_next().await else { break };
            done.push(next.map_err(BatchError::panicked)??);
        }
        done.sort_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, output)| output).collect())
    }

    /// Writes the rows of a frame to new files of a table. The rows come by date.
    pub async fn write(&self, replacer: &Replacer, table: BatchTable, frame: DataFrame) -> Result<Written, BatchError> {
        let mut rows = self.plans.stream(frame, Plans::schema_of(table)).await?;
        let mut output = self.output(replacer);
        output.write_all(&mut rows).await?;
        output.finish().await
    }

    /// A writer of new files of a table.
    pub fn output(&self, replacer: &Replacer) -> Output {
        let pool = &self.plans.context().runtime_env().memory_pool;
        Output {
            writer: replacer.writer(&self.settings.writer()),
            memory: MemoryConsumer::new("files that are written").register(pool),
            reserved: 0,
            written: Written::default(),
            table: replacer.table().name,
            observer: self.observer.clone(),
        }
    }
}

/// New files of a table. What they occupy before they are uploaded is taken from the session's
/// memory, so that sorts and aggregations spill earlier.
pub(crate) struct Output {
    writer: TableWriter,
    memory: MemoryReservation,
    /// What is reserved for other things.
    reserved: usize,
    written: Written,
    table: &'static str,
    observer: Arc<dyn BatchObserver>,
}

impl Output {
    /// Takes memory for something else that is needed as long as this.
    pub fn reserve(&mut self, bytes: usize) {
        self.reserved += bytes;
        self.memory.resize(self.reserved + self.writer.buffered_bytes());
    }

    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), BatchError> {
        self.writer.write(batch)?;
        self.written.rows += batch.num_rows() as u64;
        self.memory.resize(self.reserved + self.writer.buffered_bytes());
        self.writer.upload_closed(&mut self.written.files).await?;
        self.observer.rows(self.table, batch.num_rows() as u64);
        Ok(())
    }

    pub async fn write_all(&mut self, rows: &mut SendableRecordBatchStream) -> Result<(), BatchError> {
        while let Some(batch) = rows.next().await.transpose()? {
            self.write(&batch).await?;
        }
        Ok(())
    }

    pub async fn finish(self) -> Result<Written, BatchError> {
        let Output { writer, mut written, .. } = self;
        written.files.extend(writer.finish().await?);
        Ok(written)
    }
}

/// The tables that a run has written.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub versions: BTreeMap<String, u64>,
    pub rows: BTreeMap<String, u64>,
}

/// The name under which a batch table is registered for the plans.
pub(crate) fn plan_name(table: BatchTable) -> &'static str {
    match table {
        BatchTable::Events(EventKind::Impression) => "impressions",
        BatchTable::Events(EventKind::Interaction) => "interactions",
        BatchTable::Events(EventKind::BidRequest) => "bid_requests",
        BatchTable::Attributions => "attributions",
        BatchTable::Hourly => "hourly",
        BatchTable::Rollup => "rollup",
        BatchTable::Reach => "reach",
        BatchTable::Users => "users",
    }
}
