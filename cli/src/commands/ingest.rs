//! `adlake ingest kafka | files`: the speed layer.

mod preview;

use std::collections::BTreeMap;

use adlake_lake::Lake;
use adlake_speed_layer::metrics::{IngestObserver, Metrics};
use adlake_speed_layer::plans;
use adlake_speed_layer::report::{IngestProgress, IngestReport, PassedOverFiles, PassedOverReason};
use adlake_speed_layer::run::{FilesRun, KafkaRun, run_files, run_kafka};
use adlake_speed_layer::source::files::FileFormat;
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;

use crate::commands::{ReportFormat, report};
use crate::failure::speed_error;
use crate::memory;
use crate::metrics_server;
use crate::options::{Global, Kind};
use crate::progress::ProgressBars;
use crate::shutdown;

/// The speed layer.
#[derive(Debug, Subcommand)]
pub enum Ingest {
    /// Read the configured Kafka topics until a signal (Ctrl-C) comes; what was read is committed
    /// before the command ends
    Kafka(Kafka),
    /// Read files to their ends, or watch for new ones; each record is taken once, however often
    /// its file is given
    Files(Files),
}

/// Read topics.
#[derive(Debug, Args)]
pub struct Kafka {
    /// The brokers to connect to first (host:port, comma-separated); overrides kafka.brokers of the
    /// configuration
    #[arg(long, value_name = "BOOTSTRAP")]
    brokers: Option<String>,
    /// End at the offsets where the partitions end now, once this worker or others of the group
    /// have read up to there
    #[arg(long)]
    until_end: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// What the command reads, for its help text.
const READ: &str = "\
Formats:       JSON (one array, or values one after another), NDJSON, CSV and TSV, Avro object containers.
               The extension names the format (.json, .ndjson, .jsonl, .csv, .tsv, .avro). Without one of these,
               the content decides.
Compressions:  gzip, zstd, bzip2 and xz (.gz, .gzip, .zst, .zstd, .bz2, .xz). The first bytes decide.
               Archives (.zip, .tar) and Parquet are not read.
Kinds:         impressions, interactions and bid requests. The name of the file decides, else the name of the nearest
               folder that names a kind (ad-impressions.json, clicks/2026/part-0.csv, bid_requests.avro). If no name
               does, the format decides: JSON holds impressions, CSV interactions, Avro bid requests.

--dry-run shows for each file what would be read of it.";

/// Read files.
#[derive(Debug, Args)]
#[command(after_help = READ)]
pub struct Files {
    /// Files, folders with everything below them, patterns ("data/**/*.csv") or s3://bucket/prefix;
    /// plain or compressed
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Keep looking for new files until a signal comes
    #[arg(long)]
    watch: bool,
    /// Show for each file its kind, format, header, mapping and first row, and write nothing
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// The kind of event in all of the files [default: found by name, folder and format]
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The format of all of the files [default: found by extension and content]
    #[arg(long, value_enum, value_name = "FORMAT")]
    file_format: Option<FileFormatOption>,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// The formats of files that --file-format names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormatOption {
    /// One JSON array, or JSON values one after another
    Json,
    /// One JSON value a line
    Ndjson,
    /// CSV rows, with or without a header
    Csv,
    /// An Avro object container
    Avro,
}

impl Ingest {
    /// Runs the command.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        memory::use_small_pages();
        let mut settings = global.load()?.settings;
        // Nothing is started for settings that cannot work, no metrics server either.
        plans::check(&settings.speed()).map_err(speed_error)?;
        let lake = Lake::open(&settings.lake).await?;
        let cancel = shutdown::on_signal()?;
        match self {
            Ingest::Files(files) if files.dry_run => preview::run(&lake, &settings.speed(), files).await,
            Ingest::Kafka(kafka) => {
                if let Some(brokers) = kafka.brokers {
                    settings.kafka.brokers = brokers;
                }
                let observer = RunObserver::new(progress.spinner("waiting for Kafka"));
                let _server = metrics_server::start(&settings.ingest.metrics_listen, &observer.metrics).await?;
                let run = KafkaRun { until_end: kafka.until_end };
                let done = run_kafka(&lake, &settings.speed(), run, &observer, cancel).await;
                observer.spinner.finish_and_clear();
                report(kafka.format, &done.map_err(speed_error)?, text)
            }
            Ingest::Files(files) => {
                let observer = RunObserver::new(progress.spinner("looking for files"));
                let _server = metrics_server::start(&settings.ingest.metrics_listen, &observer.metrics).await?;
                let (format, is_watched) = (files.format, files.watch);
                let done = run_files(&lake, &settings.speed(), files.wanted(), &observer, cancel).await;
                observer.spinner.finish_and_clear();
                let done = done.map_err(speed_error)?;
                report(format, &done, text)?;
                not_read(&done, is_watched)
            }
        }
    }
}

impl Files {
    /// Which files are read, and as what.
    fn wanted(self) -> FilesRun {
        FilesRun {
            paths: self.paths,
            watch: self.watch,
            kind: self.kind.map(Kind::event_kind),
            format: self.file_format.map(FileFormatOption::format),
        }
    }
}

/// The problem to report if no file of the named paths was read.
fn nothing_read(paths: &[String]) -> Option<String> {
    let paths = (!paths.is_empty()).then(|| paths.join(", "))?;
    Some(format!(
        "no file in {paths} was read: all of them are passed over, for the reasons above. See \"adlake ingest files \
         --help\" for the formats that are read"
    ))
}

/// An error if files were not read and somebody has to act on it.
fn not_read(report: &IngestReport, is_watched: bool) -> Result<()> {
    let mut problems = Vec::new();
    if let count @ 1.. = report.set_aside.len() {
        problems.push(format!(
            "{count} files are set aside, for the reasons above: nothing of them is ingested. Correct the files or the \
             configuration; the next run tries them again"
        ));
    }
    if let count @ 1.. = report.changed_files.len() {
        problems.push(format!(
            "{count} files were changed after they had been ingested: what was ingested is no longer their beginning. \
             They were not read. To ingest the new content, store it under another name"
        ));
    }
    if !is_watched {
        problems.extend(nothing_read(&report.paths_without_files));
    }
    if problems.is_empty() { Ok(()) } else { anyhow::bail!(problems.join(". ")) }
}

impl FileFormatOption {
    fn format(self) -> FileFormat {
        match self {
            FileFormatOption::Json => FileFormat::Json,
            FileFormatOption::Ndjson => FileFormat::Ndjson,
            FileFormatOption::Csv => FileFormat::Csv,
            FileFormatOption::Avro => FileFormat::Avro,
        }
    }
}

/// Shows the progress of a run in a line on the terminal, and its metrics over HTTP.
struct RunObserver {
    spinner: ProgressBar,
    metrics: Metrics,
}

impl RunObserver {
    fn new(spinner: ProgressBar) -> RunObserver {
        RunObserver { spinner, metrics: Metrics::default() }
    }
}

impl IngestObserver for RunObserver {
    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn update(&self, state: &IngestProgress) {
        let mut message = format!("{} rows committed, {} rejected", state.rows, state.rejected);
        if let Some(behind) = state.behind {
            message += &format!(", {behind} behind");
        }
        if let Some(total) = state.bytes_total {
            let percent = state.bytes_read as f64 / total.max(1) as f64 * 100.0;
            message += &format!(", {percent:.0} % read");
        }
        self.spinner.set_message(message);
    }
}

fn text(report: &IngestReport) -> String {
    let rows: u64 = report.rows.values().sum();
    let rejected: u64 = report.rejected.values().sum();
    let files = report.files.map(|files| format!(" of {files} files")).unwrap_or_default();
    let mut text = format!(
        "read {} records{files} in {:.1} s: {rows} rows, {rejected} dead letters, {} commits\n",
        report.records_read, report.seconds, report.commits
    );
    for (table, rows) in &report.rows {
        text.push_str(&format!("  {table:<24} {rows:>12} rows\n"));
    }
    for (name, reason) in &report.set_aside {
        text.push_str(&format!("  set aside: {name}: {reason}\n"));
    }
    for name in &report.cut_files {
        text.push_str(&format!("  ends within a record, whose rest is awaited: {name}\n"));
    }
    if report.preamble_lines > 0 {
        text.push_str(&format!("  {:<24} {:>12} lines before headers, passed over\n", "", report.preamble_lines));
    }
    for name in &report.changed_files {
        text.push_str(&format!("  changed, not read: {name}\n"));
    }
    text.push_str(&passed_over(&report.passed_over));
    for (reason, count) in &report.rejected {
        text.push_str(&format!("  {reason:<24} {count:>12} dead letters\n"));
    }
    for (field, rows) in &report.shape_mismatches {
        text.push_str(&format!("  {field:<24} {rows:>12} rows: sent in another shape, kept in attributes\n"));
    }
    text
}

/// The files that are not read, one line for each reason.
fn passed_over(passed_over: &BTreeMap<PassedOverReason, PassedOverFiles>) -> String {
    let line = |(reason, files): (&PassedOverReason, &PassedOverFiles)| {
        let more = files.count.saturating_sub(files.examples.len() as u64);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let names = files.examples.join(", ");
        format!("  passed over: {} ({}): {names}{more}\n", files.count, reason.explanation())
    };
    passed_over.iter().map(line).collect()
}
