//! `adlake batch run`.

use std::sync::Mutex;

use adlake_batch_layer::{RunReport, run};
use adlake_lake::Lake;
use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use crate::commands::{ReportFormat, report};
use crate::failure::batch_error;
use crate::options::Global;
use crate::progress::ProgressBars;
use crate::shutdown;

/// The batch layer.
#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Deduplicate, attribute and aggregate all events, then publish the result at once. If a
    /// signal stops the run, nothing is published
    Run(Run),
}

/// A batch run.
#[derive(Debug, Args)]
pub struct Run {
    /// Compute and publish even if nothing has changed since the last run
    #[arg(long)]
    full: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl Batch {
    /// Runs the command.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let Batch::Run(command) = self;
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        let cancel = shutdown::on_signal()?;
        let observer = StepSpinner { spinner: progress.spinner("batch run"), table: Mutex::new(String::new()) };
        let done = run(&lake, &settings.meaning(), &settings.batch, command.full, &observer, &cancel).await;
        observer.spinner.finish_and_clear();
        report(command.format, &done.map_err(batch_error)?, text)
    }
}

/// Shows which table is written now.
struct StepSpinner {
    spinner: ProgressBar,
    table: Mutex<String>,
}

impl adlake_batch_layer::BatchObserver for StepSpinner {
    fn begin(&self, table: &str) {
        self.spinner.set_message(format!("writing {table}"));
        if let Ok(mut current) = self.table.lock() {
            *current = table.to_owned();
        }
    }

    fn rows(&self, rows: u64) {
        if let Ok(table) = self.table.lock() {
            self.spinner.set_message(format!("writing {table}: {rows} rows"));
        }
    }

    fn end(&self, table: &str, rows: u64) {
        self.spinner.set_message(format!("wrote {table}: {rows} rows"));
    }
}

fn text(report: &RunReport) -> String {
    let seconds = report.elapsed.as_secs_f64();
    if !report.published {
        return format!("nothing has changed since batch run {}; --full computes it all the same\n", report.run);
    }
    let mut text = format!("published batch run {} in {seconds:.1} s\n", report.run);
    for (table, rows) in &report.rows {
        text.push_str(&format!("  {table:<24} {rows:>12} rows\n"));
    }
    text
}
