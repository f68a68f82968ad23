//! `adlake batch run`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use adlake_batch_layer::{Plan, RunReport, run};
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
        let observer = Arc::new(StepSpinner { spinner: progress.spinner("batch run"), rows: Mutex::default() });
        let done = run(&lake, &settings.meaning(), &settings.batch, command.full, observer.clone(), &cancel).await;
        observer.spinner.finish_and_clear();
        report(command.format, &done.map_err(batch_error)?, text)
    }
}

/// Shows which tables are written now.
struct StepSpinner {
    spinner: ProgressBar,
    /// The rows that were written to each table so far.
    rows: Mutex<BTreeMap<String, u64>>,
}

impl StepSpinner {
    fn show(&self, table: &str, more: u64) {
        if let Ok(mut rows) = self.rows.lock() {
            let rows = rows.entry(table.to_owned()).or_default();
            *rows += more;
            self.spinner.set_message(format!("writing {table}: {rows} rows"));
        }
    }
}

impl adlake_batch_layer::BatchObserver for StepSpinner {
    fn planned(&self, plan: &Plan) {
        self.spinner.set_message(reason(plan));
    }

    fn begin(&self, table: &str) {
        self.show(table, 0);
    }

    fn rows(&self, table: &str, rows: u64) {
        self.show(table, rows);
    }

    fn end(&self, table: &str, rows: u64) {
        self.spinner.set_message(format!("wrote {table}: {rows} rows"));
    }
}

/// What a run does, and why.
fn reason(plan: &Plan) -> String {
    match plan {
        Plan::Nothing { run } => format!("nothing has changed since batch run {run}; --full computes it all the same"),
        Plan::Incremental { run, tables } => {
            format!("computed what has changed since run {run}: new rows in {}", tables.join(", "))
        }
        Plan::Full { why } => format!("computed everything, because {}", why.text()),
    }
}

fn text(report: &RunReport) -> String {
    let seconds = report.elapsed.as_secs_f64();
    let reason = reason(&report.plan);
    if !report.published {
        return format!("{reason}\n");
    }
    let mut text = format!("published batch run {} in {seconds:.1} s: {reason}\n", report.run);
    for (table, rows) in &report.rows {
        text.push_str(&format!("  {table:<24} {rows:>12} rows\n"));
    }
    text
}
