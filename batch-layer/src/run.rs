//! A batch run: all steps of the plan, then the manifest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adlake_domain::batch_schema::attributions_schema;
use adlake_domain::event::EventKind;
use adlake_domain::settings::{Meaning, REVISION};
use adlake_lake::manifest::Manifest;
use adlake_lake::retry::Retryable;
use adlake_lake::views::Plans;
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{Lake, LakeError};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col};
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::plan::{self, BatchSettings, Step};

/// Why a run was not published.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The lake could not be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The run was cancelled. Nothing was published.
    #[error("the batch run was stopped; nothing was published")]
    Stopped,
}

impl Retryable for BatchError {
    fn is_retryable(&self) -> bool {
        matches!(self, BatchError::Lake(error) if error.is_retryable())
    }

    fn into_outage(self) -> Self {
        match self {
            BatchError::Lake(error) => BatchError::Lake(error.into_outage()),
            BatchError::Stopped => BatchError::Stopped,
        }
    }
}

impl From<DataFusionError> for BatchError {
    fn from(error: DataFusionError) -> Self {
        BatchError::Lake(error.into())
    }
}

/// An observer of a run.
pub trait BatchObserver: Send + Sync {
    /// A step begins to write a table.
    fn begin(&self, table: &str);
    /// The number of rows written to the table so far.
    fn rows(&self, rows: u64);
    /// The table is finished.
    fn end(&self, table: &str, rows: u64);
}

/// An observer that does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl BatchObserver for Silent {
    fn begin(&self, _table: &str) {}
    fn rows(&self, _rows: u64) {}
    fn end(&self, _table: &str, _rows: u64) {}
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The run's number.
    pub run: i64,
    /// Whether it was published. It is not if nothing had changed.
    pub published: bool,
    /// The rows of each written table.
    pub rows: BTreeMap<String, u64>,
    /// The versions that it covers and wrote.
    pub versions: BTreeMap<String, u64>,
    /// The time that it took.
    pub elapsed: Duration,
}

/// Runs the batch computation over the whole raw tables, and publishes the result.
///
/// Without `full`, nothing is computed if the tables, the meaning and the program's revision are
/// the same as in the last published run.
pub fn run<'a>(
    lake: &'a Lake,
    meaning: &'a Meaning,
    settings: &'a BatchSettings,
    full: bool,
    observer: &'a dyn BatchObserver,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Result<RunReport, BatchError>> {
    // The boxed future is compiled in this crate, and not again in every program that awaits it.
    Box::pin(run_now(lake, meaning, settings, full, observer, cancel))
}

async fn run_now(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    full: bool,
    observer: &dyn BatchObserver,
    cancel: &CancellationToken,
) -> Result<RunReport, BatchError> {
    let began = Instant::now();
    settings.check()?;
    lake.create_tables().await?;
    let context = settings.session.context()?;
    let previous = Manifest::latest(lake, &context).await?;
    let mut versions = BTreeMap::new();
    for table in plan::covered() {
        if let Some(version) = lake.newest_version(table).await? {
            versions.insert(table.to_string(), version);
        }
    }
    if let (false, Some(previous)) = (full, &previous)
        && plan::unchanged(&versions, &previous.versions, previous.is_current() && previous.meaning == *meaning)
    {
        let versions = previous.versions.clone();
        return Ok(RunReport {
            run: previous.run,
            published: false,
            rows: BTreeMap::new(),
            versions,
            elapsed: began.elapsed(),
        });
    }
    let reference = lake.retry(|| lake.campaigns(&context, &versions)).await?;
    let plans = Plans::new(context.clone(), meaning, reference.advertisers());
    for kind in EventKind::ALL {
        let Some(version) = versions.get(kind.raw_table()) else {
            return Err(LakeError::NotFound(format!(
                "table {} was deleted while the batch run began",
                kind.raw_table()
            ))
            .into());
        };
        plans.register(&format!("raw_{}", kind.table()), lake.known_columns(kind.raw_table(), *version).await?)?;
    }
    let mut rows = BTreeMap::new();
    for Step(table) in plan::full() {
        if cancel.is_cancelled() {
            return Err(BatchError::Stopped);
        }
        // A step that an outage interrupted can be repeated: it replaces what its table holds.
        let step = || async {
            observer.begin(table.name());
            let stream = compute(&plans, table).await?;
            write(lake, settings, table, stream, observer, cancel).await
        };
        let (version, count) = lake.retry(step).await?;
        observer.end(table.name(), count);
        plans.register(batch_name(table), lake.known_columns(table.name(), version).await?)?;
        versions.insert(table.name().to_string(), version);
        rows.insert(table.name().to_string(), count);
        tracing::info!(table = table.name(), rows = count, version, "the batch table was written");
    }
    let manifest = Manifest {
        run_id: uuid::Uuid::new_v4().to_string(),
        run: previous.as_ref().map_or(1, |previous| previous.run + 1),
        published_at: chrono::Utc::now().timestamp_micros(),
        versions: versions.clone(),
        meaning: meaning.clone(),
        revision: REVISION,
    };
    manifest.publish(lake, previous.map(|previous| previous.run)).await?;
    Ok(RunReport { run: manifest.run, published: true, rows, versions, elapsed: began.elapsed() })
}

/// The name under which a written table is registered for the plans.
fn batch_name(table: BatchTable) -> &'static str {
    match table {
        BatchTable::Events(EventKind::Impression) => "impressions",
        BatchTable::Events(EventKind::Interaction) => "interactions",
        BatchTable::Events(EventKind::BidRequest) => "bid_requests",
        BatchTable::Attributions => "attributions",
        BatchTable::Hourly => "hourly",
        BatchTable::Reach => "reach",
    }
}

/// The rows of a table, in the order in which they are written.
async fn compute(plans: &Plans, table: BatchTable) -> Result<SendableRecordBatchStream, BatchError> {
    let frame = match table {
        BatchTable::Events(kind) => plans.events(kind, &format!("raw_{}", kind.table())).await?,
        BatchTable::Attributions => {
            let stream = plans.attributions("impressions", "interactions").await?;
            let context: SessionContext = plans.context().clone();
            adlake_lake::views::ordered(&context, stream, attributions_schema()).await?
        }
        BatchTable::Hourly => plans.hourly("impressions", "interactions", "attributions", "bid_requests").await?,
        BatchTable::Reach => plans.reach("impressions").await?,
    };
    let order = plan::order(table).into_iter().map(|column| col(column).sort(true, true)).collect();
    Ok(plans.stream(frame.sort(order)?, Plans::schema_of(table)).await?)
}

async fn write(
    lake: &Lake,
    settings: &BatchSettings,
    table: BatchTable,
    mut rows: SendableRecordBatchStream,
    observer: &dyn BatchObserver,
    cancel: &CancellationToken,
) -> Result<(u64, u64), BatchError> {
    let replacer = lake.replacer(table.name()).await?;
    let mut writer = replacer.writer(&settings.writer());
    let mut files = Vec::new();
    let mut count = 0;
    while let Some(batch) = rows.next().await.transpose()? {
        if cancel.is_cancelled() {
            return Err(BatchError::Stopped);
        }
        count += batch.num_rows() as u64;
        writer.write(&batch)?;
        writer.upload_closed(&mut files).await?;
        observer.rows(count);
    }
    files.extend(writer.finish().await?);
    Ok((replacer.commit(files).await?, count))
}
