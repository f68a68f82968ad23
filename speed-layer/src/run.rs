//! What the program calls: a run over Kafka's topics, and a run over files.
//!
//! A run ends when its source does, or when it is cancelled: then the source is stopped, what was read is committed, the group is left.
//! Either way everything that the report counts is in the lake, and nothing else is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::Lake;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::metrics::{self, Metrics, Progress};
use crate::pipeline::{self, Dependencies};
use crate::plans::Plans;
use crate::settings::SpeedSettings;
use crate::source::Source;
use crate::source::files::{FilesSource, FilesWanted};
use crate::source::kafka::KafkaSource;

/// How often newer reference data is looked for.
const REFERENCE_INTERVAL: Duration = Duration::from_secs(60);

/// How Kafka is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaRun {
    /// Ends the run at the offsets that are the partitions' ends when it begins.
    pub until_end: bool,
}

/// Which files are read, and as what.
pub type FilesRun = FilesWanted;

/// What a run has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IngestReport {
    /// Records read, those read again after going back included.
    pub records_read: u64,
    /// Files looked at.
    pub files: Option<usize>,
    /// Rows committed, by table.
    pub rows: BTreeMap<String, u64>,
    /// Dead letters committed, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Commits.
    pub commits: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Ingests the configured topics until cancelled, or until their end.
pub async fn run_kafka(
    lake: &Lake,
    settings: &SpeedSettings,
    options: KafkaRun,
    progress: &dyn Progress,
    cancel: CancellationToken,
) -> Result<IngestReport, SpeedError> {
    settings.check()?;
    let connect = {
        let settings = settings.clone();
        move || Ok((KafkaSource::connect(&settings, options.until_end)?, None))
    };
    run(lake, settings, connect, progress, cancel).await
}

/// Ingests files to their ends, each record once, however often it is called.
pub async fn run_files(
    lake: &Lake,
    settings: &SpeedSettings,
    options: FilesRun,
    progress: &dyn Progress,
    cancel: CancellationToken,
) -> Result<IngestReport, SpeedError> {
    settings.check()?;
    let open = {
        let settings = settings.clone();
        move || {
            let source = FilesSource::open(&options, &settings)?;
            let files = (source.files(), source.bytes());
            Ok((source, Some(files)))
        }
    };
    run(lake, settings, open, progress, cancel).await
}

/// Opens a source where blocking does no harm, and runs the pipeline over it, with metrics and fresh reference data beside.
async fn run<S: Source>(
    lake: &Lake,
    settings: &SpeedSettings,
    open: impl FnOnce() -> Result<(S, Option<(usize, u64)>), SpeedError> + Send + 'static,
    progress: &dyn Progress,
    cancel: CancellationToken,
) -> Result<IngestReport, SpeedError> {
    let started = Instant::now();
    let (source, files) = tokio::task::spawn_blocking(open).await.map_err(|_| SpeedError::Ended("the source"))??;
    let metrics = Metrics::default();
    let beside = CancellationToken::new();
    let _end_beside = beside.clone().drop_guard();
    if !settings.ingest.metrics_listen.is_empty() {
        let listener = metrics::listen(&settings.ingest.metrics_listen).await?;
        tokio::spawn(metrics::serve(listener, metrics.clone(), beside.clone()));
    }
    let plans = Arc::new(Plans::open(lake, settings).await?);
    tokio::spawn(plans.clone().keep_fresh(lake.clone(), REFERENCE_INTERVAL, beside));
    let dependencies = Dependencies {
        lake,
        settings,
        plans,
        metrics: metrics.clone(),
        progress,
        bytes_total: files.map(|(_, bytes)| bytes),
        cancel,
    };
    pipeline::run(Box::new(source), dependencies).await?;
    let mut report = metrics.report();
    report.files = files.map(|(files, _)| files);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
