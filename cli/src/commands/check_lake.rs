//! `adlake check-lake`: whether the lake is whole, and its batch tables are what the raw tables
//! give.

use std::sync::{Arc, Mutex};

use adlake_batch_layer::check::check;
use adlake_batch_layer::{BatchError, BatchObserver, CheckOptions, CheckReport, Plan, Recompute};
use adlake_lake::Lake;
use anyhow::{Result, anyhow, bail};
use clap::Args;
use indicatif::ProgressBar;

use crate::commands::{ReportFormat, report};
use crate::failure::batch_error;
use crate::options::Global;
use crate::progress::ProgressBars;
use crate::shutdown;

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckLake {
    /// Decode every column of every data file, and check the order of rows
    #[arg(long)]
    deep: bool,
    /// Recompute so many of the newest days that have rows, and compare them with the published run
    #[arg(long, value_name = "DAYS", default_value_t = 2, conflicts_with_all = ["all", "no_recompute"])]
    sample: usize,
    /// Recompute all days
    #[arg(long, conflicts_with = "no_recompute")]
    all: bool,
    /// Recompute nothing
    #[arg(long)]
    no_recompute: bool,
    /// How many runs before the last one are looked at: can they be published again?
    #[arg(long, value_name = "RUNS", default_value_t = 20)]
    runs: usize,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl CheckLake {
    /// Checks the lake and prints what was found. If something is wrong, it fails.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        let recompute = match (self.no_recompute, self.all) {
            (true, _) => Recompute::Nothing,
            (_, true) => Recompute::All,
            _ => Recompute::Newest(self.sample),
        };
        let options = CheckOptions { deep: self.deep, recompute, runs_max: self.runs };
        let cancel = shutdown::on_signal()?;
        let observer =
            Arc::new(CheckSpinner { spinner: progress.spinner("checking the lake"), rows: Mutex::default() });
        let done = check(&lake, &settings.batch, &options, observer.clone(), &cancel).await;
        observer.spinner.finish_and_clear();
        let done = done.map_err(|error| match error {
            BatchError::Stopped => anyhow!("the check was stopped; the lake is as it was"),
            error => batch_error(error),
        })?;
        report(self.format, &done, text)?;
        match done.findings.len() {
            0 => Ok(()),
            1 => bail!("the lake is not sound: 1 finding"),
            count => bail!("the lake is not sound: {count} findings"),
        }
    }
}

/// Shows which table is looked at.
struct CheckSpinner {
    spinner: ProgressBar,
    /// The rows of the table that were compared so far.
    rows: Mutex<u64>,
}

impl BatchObserver for CheckSpinner {
    fn planned(&self, _plan: &Plan) {}

    fn begin(&self, table: &str) {
        if let Ok(mut rows) = self.rows.lock() {
            *rows = 0;
        }
        self.spinner.set_message(format!("checking {table}"));
    }

    fn rows(&self, table: &str, rows: u64) {
        if let Ok(mut all) = self.rows.lock() {
            *all += rows;
            self.spinner.set_message(format!("checking {table}: {all} rows compared"));
        }
    }

    fn end(&self, _table: &str, _rows: u64) {}
}

fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let file = finding.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
        let version = finding.version.map(|version| format!(" (version {version})")).unwrap_or_default();
        text.push_str(&format!("{}{file}{version}\n  {}\n  {}\n", finding.table, finding.detail, finding.remedy));
    }
    let checked = &report.checked;
    text.push_str(&format!(
        "checked {} tables, {} log entries, {} checkpoints, {} data files ({:.1} MB), {} runs in {:.1} s\n",
        checked.tables,
        checked.log_entries,
        checked.checkpoints,
        checked.files,
        checked.file_bytes as f64 / 1e6,
        checked.runs,
        report.elapsed.as_secs_f64()
    ));
    if checked.decoded_rows > 0 {
        text.push_str(&format!("decoded {} rows\n", checked.decoded_rows));
    }
    let recomputed = &report.recomputed;
    if let (Some(run), Some(first), Some(last)) = (recomputed.run, recomputed.dates.first(), recomputed.dates.last()) {
        let rows: u64 = recomputed.rows.values().sum();
        let days = recomputed.dates.len();
        text.push_str(&format!(
            "recomputed {days} days ({first} to {last}) of batch run {run}: {rows} rows compared\n"
        ));
    }
    for run in &report.runs {
        let state = match (&run.detail, run.can_be_published_again) {
            (_, true) => "can be published again".to_owned(),
            (detail, false) => format!("cannot be published again: {}", detail.as_deref().unwrap_or_default()),
        };
        text.push_str(&format!("batch run {} of {} {state}\n", run.run, run.published_at));
    }
    for skipped in &report.skipped {
        text.push_str(&format!("not checked: {}: {}\n", skipped.what, skipped.why));
    }
    text.push_str(if report.is_sound { "the lake is sound\n" } else { "the lake is not sound\n" });
    text
}
