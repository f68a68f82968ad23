//! What ingest reports while it runs: metrics for Prometheus, and progress for an observer.
//!
//! Rows and dead letters are counted when they are committed, not when they are read. This module
//! counts and writes the OpenMetrics text. The program serves that text over HTTP.

mod labels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use adlake_domain::event::EventKind;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use self::labels::{FieldLabel, OutcomeLabel, PartitionLabel, RejectedLabel, StageLabel, TableLabel, TraceLabel};
use crate::clock::now_micros;
use crate::record::Stream;
use crate::report::{IngestProgress, IngestReport, PassedOverFiles, PassedOverReason};

/// An observer of a run.
pub trait IngestObserver: Send + Sync {
    /// The metrics that the run counts in. An observer that shows them returns its own.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Called a few times a second, and at the end.
    fn update(&self, state: &IngestProgress);
}

/// An observer that does nothing.
impl IngestObserver for () {
    fn update(&self, _state: &IngestProgress) {}
}

/// The greatest number of files that the report names for each list.
const NAMED_MAX: usize = 1000;
/// The value of `oldest` when no record is waiting.
const NONE_WAITING: i64 = i64::MAX;

/// The metrics of a run. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    records: Family<TableLabel, Counter>,
    record_bytes: Family<TableLabel, Counter>,
    rows: Family<TableLabel, Counter>,
    rejected: Family<RejectedLabel, Counter>,
    misshapen: Family<FieldLabel, Counter>,
    file_bytes: Family<TableLabel, Counter>,
    commits: Family<TableLabel, Counter>,
    commit_seconds: Family<TableLabel, HistogramWithExemplars<TraceLabel>>,
    commit_conflicts: Family<TableLabel, Counter>,
    superseded: Family<TableLabel, Counter>,
    outages: Family<TableLabel, Counter>,
    stopped: Family<TableLabel, Gauge>,
    behind: Family<PartitionLabel, Gauge>,
    stalls: Family<PartitionLabel, Counter>,
    freshness: Family<TableLabel, Gauge<f64, AtomicU64>>,
    stages: Family<StageLabel, Counter<f64, AtomicU64>>,
    resident: Gauge,
    spans: Family<OutcomeLabel, Counter>,
    files: Family<OutcomeLabel, Counter>,
    listings: Counter,
    changed: Mutex<Vec<String>>,
    passed_over: Mutex<BTreeMap<PassedOverReason, PassedOverFiles>>,
    paths_without_files: Mutex<Vec<String>>,
    /// Files that cannot be used, and why.
    aside: Mutex<BTreeMap<String, String>>,
    /// Files that end within a record. Its rest is awaited.
    cut: Mutex<BTreeSet<String>>,
    preamble_lines: Counter,
    /// By kind: the time of the oldest record that is read and not committed, in microseconds since
    /// the epoch.
    oldest: [AtomicI64; 3],
    file_bytes_read: AtomicU64,
    reasons: Mutex<BTreeMap<String, u64>>,
    /// The number of rows by table and field, as in `raw/bid_requests.targeting`.
    shape_mismatches: Mutex<BTreeMap<String, u64>>,
    lags: Mutex<BTreeMap<String, i64>>,
}

impl Default for Inner {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("adlake_ingest"),
            records: Family::default(),
            record_bytes: Family::default(),
            rows: Family::default(),
            rejected: Family::default(),
            misshapen: Family::default(),
            file_bytes: Family::default(),
            commits: Family::default(),
            commit_seconds: Family::new_with_constructor(commit_seconds),
            commit_conflicts: Family::default(),
            superseded: Family::default(),
            outages: Family::default(),
            stopped: Family::default(),
            behind: Family::default(),
            stalls: Family::default(),
            freshness: Family::default(),
            stages: Family::default(),
            resident: Gauge::default(),
            spans: Family::default(),
            files: Family::default(),
            listings: Counter::default(),
            changed: Mutex::default(),
            passed_over: Mutex::default(),
            paths_without_files: Mutex::default(),
            aside: Mutex::default(),
            cut: Mutex::default(),
            preamble_lines: Counter::default(),
            oldest: [const { AtomicI64::new(NONE_WAITING) }; 3],
            file_bytes_read: AtomicU64::new(0),
            reasons: Mutex::default(),
            shape_mismatches: Mutex::default(),
            lags: Mutex::default(),
        };
        let registry = &mut inner.registry;
        registry.register("records", "Records read from the source", inner.records.clone());
        registry.register_with_unit("record", "Bytes of the records read", Unit::Bytes, inner.record_bytes.clone());
        registry.register("rows", "Rows committed", inner.rows.clone());
        registry.register("rejected", "Dead letters committed", inner.rejected.clone());
        let help = "Rows committed in which a field was sent in another shape, and is kept in attributes";
        registry.register("shape_mismatch", help, inner.misshapen.clone());
        registry.register_with_unit("file", "Bytes of the files committed", Unit::Bytes, inner.file_bytes.clone());
        registry.register("commits", "Commits to the lake", inner.commits.clone());
        let help = "From the beginning of the upload to the end of the commit";
        registry.register_with_unit("commit", help, Unit::Seconds, inner.commit_seconds.clone());
        let help = "Times that another's commit stood where one of ours was to be, and ours came after it";
        registry.register("commit_conflicts", help, inner.commit_conflicts.clone());
        registry.register(
            "superseded",
            "Batches given up because somebody else had committed",
            inner.superseded.clone(),
        );
        registry.register("outages", "Batches given up because the store did not answer", inner.outages.clone());
        let help = "1 where a table cannot be written any more, because somebody has changed it";
        registry.register("table_stopped", help, inner.stopped.clone());
        registry.register("lag_records", "Records at the broker that are not read yet", inner.behind.clone());
        let help = "Times that a partition was taken anew because nothing came of it";
        registry.register("stalls", help, inner.stalls.clone());
        let help = "Age of the oldest record that is read and not committed";
        registry.register_with_unit("freshness", help, Unit::Seconds, inner.freshness.clone());
        registry.register_with_unit("stage", "Time spent per stage", Unit::Seconds, inner.stages.clone());
        registry.register_with_unit("resident", "Resident memory of the process", Unit::Bytes, inner.resident.clone());
        registry.register("spans", "Spans of traces by what became of them", inner.spans.clone());
        let help =
            "Files ingested to their ends, files that were changed after they were, and files that cannot be used";
        registry.register("files", help, inner.files.clone());
        let help = "Lines before the headers of CSV files, which are passed over";
        registry.register("preamble_lines", help, inner.preamble_lines.clone());
        registry.register("listings", "Requests to list a prefix of S3", inner.listings.clone());
        inner
    }
}

fn commit_seconds() -> HistogramWithExemplars<TraceLabel> {
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    HistogramWithExemplars::new(bounds.into_iter())
}

fn table(kind: EventKind) -> TableLabel {
    TableLabel { table: kind.raw_table() }
}

fn slot(kind: EventKind) -> usize {
    EventKind::ALL.iter().position(|other| *other == kind).unwrap_or(0)
}

impl Metrics {
    /// Records were taken to be decoded.
    pub(crate) fn read(&self, kind: EventKind, records: usize, bytes: usize) {
        self.inner.records.get_or_create(&table(kind)).inc_by(records as u64);
        self.inner.record_bytes.get_or_create(&table(kind)).inc_by(bytes as u64);
    }

    /// Bytes of files were read.
    pub(crate) fn consumed(&self, bytes: u64) {
        self.inner.file_bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All of a file is in the lake. With `waits`, the file ends within its last record, whose rest
    /// is awaited.
    pub(crate) fn file_done(&self, name: &str, waits: bool) {
        self.inner.files.get_or_create(&OutcomeLabel { outcome: "ingested" }).inc();
        let mut cut = self.inner.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if !waits {
            cut.remove(name);
        } else if cut.len() < NAMED_MAX {
            cut.insert(name.to_owned());
        }
    }

    /// A file cannot be used.
    pub(crate) fn file_set_aside(&self, name: &str, reason: &str) {
        self.inner.files.get_or_create(&OutcomeLabel { outcome: "set_aside" }).inc();
        let mut aside = self.inner.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if aside.len() < NAMED_MAX || aside.contains_key(name) {
            aside.insert(name.to_owned(), reason.to_owned());
        }
    }

    /// A file that could not be used can be used now.
    pub(crate) fn file_taken_up(&self, name: &str) {
        self.inner.aside.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Lines before a header were skipped.
    pub(crate) fn preamble(&self, lines: u64) {
        self.inner.preamble_lines.inc_by(lines);
    }

    /// A file differs from what was ingested of it.
    pub(crate) fn file_changed(&self, name: &str) {
        self.inner.files.get_or_create(&OutcomeLabel { outcome: "changed" }).inc();
        let mut changed = self.inner.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.len() < NAMED_MAX {
            changed.push(name.to_owned());
        }
    }

    /// A file in a folder or prefix is not read. Returns the number of files so far with this
    /// reason.
    pub(crate) fn file_passed_over(&self, name: &str, reason: PassedOverReason) -> u64 {
        self.inner.files.get_or_create(&OutcomeLabel { outcome: "passed_over" }).inc();
        let mut passed_over = self.inner.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let files = passed_over.entry(reason).or_default();
        files.add(name);
        files.count
    }

    /// The number of files that were not read although their names do not say so.
    pub(crate) fn files_passed_over_unexpectedly(&self) -> u64 {
        let passed_over = self.inner.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        passed_over.iter().filter(|(reason, _)| reason.is_unexpected()).map(|(_, files)| files.count).sum()
    }

    /// No file of a given path is read, although there are some.
    pub(crate) fn path_without_files(&self, path: &str) {
        self.inner.paths_without_files.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    }

    /// A prefix of S3 was listed with one request.
    pub(crate) fn listed(&self) {
        self.inner.listings.inc();
    }

    /// A batch was committed.
    pub(crate) fn committed(
        &self,
        kind: EventKind,
        rows: u64,
        rejected: &BTreeMap<String, u64>,
        bytes: u64,
        took: Duration,
    ) {
        let inner = &self.inner;
        inner.rows.get_or_create(&table(kind)).inc_by(rows);
        for (reason, count) in rejected {
            let label = RejectedLabel { table: kind.raw_table(), reason: reason.clone() };
            inner.rejected.get_or_create(&label).inc_by(*count);
            let mut reasons = inner.reasons.lock().unwrap_or_else(PoisonError::into_inner);
            *reasons.entry(reason.clone()).or_default() += count;
        }
        inner.file_bytes.get_or_create(&table(kind)).inc_by(bytes);
        inner.commits.get_or_create(&table(kind)).inc();
        let trace = adlake_telemetry::current().filter(|context| context.is_sampled);
        let trace = trace.map(|context| TraceLabel { trace_id: context.trace_text() });
        inner.commit_seconds.get_or_create(&table(kind)).observe(took.as_secs_f64(), trace, Some(SystemTime::now()));
    }

    /// Rows were committed in which a field was sent in the wrong shape.
    pub(crate) fn misshapen(&self, kind: EventKind, fields: &BTreeMap<String, u64>) {
        for (field, rows) in fields {
            let table = kind.raw_table();
            self.inner.misshapen.get_or_create(&FieldLabel { table, field: field.clone() }).inc_by(*rows);
            let mut known = self.inner.shape_mismatches.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = known.entry(format!("{table}.{field}")).or_default();
            if *sum == 0 {
                tracing::warn!(table, field, rows, "a field is sent in another shape; it is kept in attributes");
            }
            *sum += rows;
        }
    }

    /// Commits to a table collided with other commits.
    pub(crate) fn conflicts(&self, table: &'static str, count: u64) {
        self.inner.commit_conflicts.get_or_create(&TableLabel { table }).inc_by(count);
    }

    pub(crate) fn superseded(&self, kind: EventKind) {
        self.inner.superseded.get_or_create(&table(kind)).inc();
    }

    pub(crate) fn outage(&self, kind: EventKind) {
        self.inner.outages.get_or_create(&table(kind)).inc();
    }

    /// A table cannot be written any more.
    pub(crate) fn stopped(&self, kind: EventKind) {
        self.inner.stopped.get_or_create(&table(kind)).set(1);
    }

    /// Time spent in a stage.
    pub(crate) fn spent(&self, stage: &'static str, time: Duration) {
        self.inner.stages.get_or_create(&StageLabel { stage }).inc_by(time.as_secs_f64());
    }

    /// The number of records of a partition that are not read yet.
    pub(crate) fn behind(&self, stream: &Stream, records: i64) {
        let label = PartitionLabel { topic: stream.source.clone(), partition: stream.partition };
        self.inner.behind.get_or_create(&label).set(records);
        self.lags().insert(stream.application.clone(), records);
    }

    /// A partition with records left delivered nothing.
    pub(crate) fn stalled(&self, stream: &Stream) {
        let label = PartitionLabel { topic: stream.source.clone(), partition: stream.partition };
        self.inner.stalls.get_or_create(&label).inc();
    }

    /// A partition is no longer assigned.
    pub(crate) fn not_ours(&self, stream: &Stream) {
        let label = PartitionLabel { topic: stream.source.clone(), partition: stream.partition };
        self.inner.behind.remove(&label);
        self.lags().remove(&stream.application);
    }

    fn lags(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i64>> {
        self.inner.lags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the time of the oldest record of a kind that is read and not committed, in microseconds
    /// since the epoch.
    pub(crate) fn oldest(&self, kind: EventKind, time: Option<i64>) {
        self.inner.oldest[slot(kind)].store(time.unwrap_or(NONE_WAITING), Ordering::Relaxed);
    }

    /// The progress of the run. The caller knows `bytes_total`.
    pub(crate) fn progress(&self, bytes_total: Option<u64>) -> IngestProgress {
        let inner = &self.inner;
        let sum = |family: &Family<TableLabel, Counter>| {
            EventKind::ALL.iter().map(|kind| family.get_or_create(&table(*kind)).get()).sum::<u64>()
        };
        let lags = self.lags();
        IngestProgress {
            records_read: sum(&inner.records),
            bytes_read: inner.file_bytes_read.load(Ordering::Relaxed),
            bytes_total,
            rows: sum(&inner.rows),
            rejected: inner.reasons.lock().unwrap_or_else(PoisonError::into_inner).values().sum(),
            behind: (!lags.is_empty()).then(|| lags.values().map(|records| records.unsigned_abs()).sum()),
        }
    }

    /// The report of what has been done so far.
    pub(crate) fn report(&self) -> IngestReport {
        let inner = &self.inner;
        let of = |family: &Family<TableLabel, Counter>, kind: EventKind| family.get_or_create(&table(kind)).get();
        let rows = EventKind::ALL.into_iter().map(|kind| (kind.raw_table().to_owned(), of(&inner.rows, kind)));
        IngestReport {
            records_read: EventKind::ALL.into_iter().map(|kind| of(&inner.records, kind)).sum(),
            files: None,
            changed_files: inner.changed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            passed_over: inner.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            paths_without_files: inner.paths_without_files.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            set_aside: inner.aside.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            cut_files: inner.cut.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
            preamble_lines: inner.preamble_lines.get(),
            rows: rows.filter(|(_, rows)| *rows > 0).collect(),
            rejected: inner.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            shape_mismatches: inner.shape_mismatches.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            commits: EventKind::ALL.into_iter().map(|kind| of(&inner.commits, kind)).sum(),
            seconds: 0.0,
        }
    }

    /// The metrics in the OpenMetrics text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let now = now_micros();
        for kind in EventKind::ALL {
            let oldest = self.inner.oldest[slot(kind)].load(Ordering::Relaxed);
            let age = if oldest == NONE_WAITING { 0.0 } else { (now - oldest).max(0) as f64 / 1e6 };
            self.inner.freshness.get_or_create(&table(kind)).set(age);
        }
        if let Some(bytes) = resident_bytes() {
            self.inner.resident.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        let counts = adlake_telemetry::counts();
        for (outcome, spans) in [("exported", counts.exported), ("dropped", counts.dropped)] {
            let counter = self.inner.spans.get_or_create(&OutcomeLabel { outcome });
            counter.inc_by(spans.saturating_sub(counter.get()));
        }
        let mut text = String::new();
        encode(&mut text, &self.inner.registry)?;
        Ok(text)
    }
}

/// The resident memory of this process. `None` where the system does not report it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_committed() {
        let metrics = Metrics::default();
        metrics.read(EventKind::Impression, 10, 1000);
        let rejected = [("missing_field".to_owned(), 2), ("bad_json".to_owned(), 1)].into();
        metrics.committed(EventKind::Impression, 7, &rejected, 500, Duration::from_millis(20));
        metrics.oldest(EventKind::Interaction, Some(now_micros() - 5_000_000));
        let text = metrics.render().unwrap();
        for line in [
            "adlake_ingest_records_total{table=\"raw/impressions\"} 10",
            "adlake_ingest_record_bytes_total{table=\"raw/impressions\"} 1000",
            "adlake_ingest_rows_total{table=\"raw/impressions\"} 7",
            "adlake_ingest_rejected_total{table=\"raw/impressions\",reason=\"missing_field\"} 2",
            "adlake_ingest_commit_seconds_bucket{le=\"0.025\",table=\"raw/impressions\"} 1",
            "adlake_ingest_freshness_seconds{table=\"raw/interactions\"} 5.",
            "adlake_ingest_freshness_seconds{table=\"raw/impressions\"} 0.0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(
            metrics.progress(Some(5)),
            IngestProgress {
                records_read: 10,
                bytes_total: Some(5),
                rows: 7,
                rejected: 3,
                ..IngestProgress::default()
            }
        );
    }

    #[test]
    fn lag_is_of_the_partitions_that_are_ours() {
        let metrics = Metrics::default();
        let stream = |partition: i32| Stream {
            kind: EventKind::Impression,
            source: "t".to_owned(),
            partition,
            application: format!("t {partition}"),
            format: adlake_decode::record::StreamFormat::Json,
        };
        assert_eq!(metrics.progress(None).behind, None);
        metrics.behind(&stream(0), 5);
        metrics.behind(&stream(1), 7);
        assert_eq!(metrics.progress(None).behind, Some(12));
        metrics.not_ours(&stream(1));
        assert_eq!(metrics.progress(None).behind, Some(5));
        let text = metrics.render().unwrap();
        assert!(text.contains("adlake_ingest_lag_records{topic=\"t\",partition=\"0\"} 5"), "{text}");
        assert!(!text.contains("partition=\"1\""), "{text}");
    }
}
