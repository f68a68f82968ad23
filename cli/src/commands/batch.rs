//! `adlake batch`: the run and the jobs beside it.

mod check;
mod schedule;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use adlake_batch_layer::jobs::{self, CompactReport, VacuumReport};
use adlake_batch_layer::schedule::noted;
use adlake_batch_layer::timetable::Job;
use adlake_batch_layer::{BatchError, Gate, Plan, PlanReport, RunReport, backfill, planned, run_checked};
use adlake_lake::Lake;
use anyhow::{Context, Result};
use chrono::NaiveDate;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use crate::commands::{ReportFormat, catalog, report};
use crate::config::Settings;
use crate::failure::{batch_error, usage};
use crate::options::Global;
use crate::progress::ProgressBars;
use crate::shutdown;

/// The batch layer.
#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Compute what has changed since the last run, or everything, and publish it at once. If a
    /// signal stops the run, or an expectation of severity fail is not met, nothing is published
    Run(CheckedRun),
    /// Tell what `batch run` would do, why, and how much it would read
    Plan(Run),
    /// Check the expectations of quality.expectations, and write a report; or propose expectations
    /// from what a table holds
    Check(check::Check),
    /// Rewrite small files into large ones, without changing rows
    Compact(Rewriting),
    /// Delete data files that no reader needs any more (batch.vacuum_retention)
    Vacuum(Rewriting),
    /// Write checkpoints of all tables, and remove old entries of their logs
    Checkpoint(Simple),
    /// Publish the tables of an earlier run again
    Rollback(Rollback),
    /// Compute days anew from the events that the last run covers, and publish them: for batch
    /// tables that were damaged. Nothing is published if an expectation of severity fail is not met
    Backfill(Backfill),
    /// Show the published runs, what is new since, who holds the lease, and how the last jobs ended
    Status(Simple),
    /// Do the jobs at the times of batch.schedule, until a signal comes
    Schedule,
}

/// A batch run.
#[derive(Debug, Args)]
pub struct Run {
    /// Compute everything, whatever has changed since the last run
    #[arg(long)]
    full: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A batch run that checks what it would publish.
#[derive(Debug, Args)]
pub struct CheckedRun {
    #[command(flatten)]
    run: Run,
    #[command(flatten)]
    checks: Checks,
}

/// What is done about expectations.
#[derive(Debug, Args)]
pub struct Checks {
    /// Publish although expectations of severity fail are not met. The results say who did: the
    /// user name of the environment
    #[arg(long)]
    publish_anyway: bool,
    /// Write the results of the expectations to this file, as a page that can be passed on
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A job that can be tried.
#[derive(Debug, Args)]
pub struct Rewriting {
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A job without options.
#[derive(Debug, Args)]
pub struct Simple {
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A backfill.
#[derive(Debug, Args)]
pub struct Backfill {
    /// The first day (UTC), like 2026-03-01
    #[arg(long, value_name = "DATE")]
    from: NaiveDate,
    /// The last day
    #[arg(long, value_name = "DATE")]
    to: NaiveDate,
    #[command(flatten)]
    checks: Checks,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A rollback.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The number of the run
    #[arg(long, value_name = "RUN")]
    to: i64,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl Batch {
    /// Runs the command.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        let batch = &settings.batch;
        match self {
            Batch::Run(command) => {
                let cancel = shutdown::on_signal()?;
                let observer = StepSpinner::new(progress, "batch run");
                let (meaning, gate) = (settings.meaning(), command.checks.gate(&settings)?);
                let work = run_checked(&lake, &meaning, batch, command.run.full, &gate, observer.clone(), &cancel);
                let done = noted(&lake, Job::Run, work).await;
                observer.spinner.finish_and_clear();
                command.checks.tell(done, command.run.format, &lake)?;
                let kept = catalog::keep(&lake, &settings.catalog).await;
                kept.context("the batch run is done, but the catalogue was not told of its tables")
            }
            Batch::Check(command) => command.run(&lake, &settings, progress).await,
            Batch::Plan(command) => {
                let plan = planned(&lake, &settings.meaning(), batch, command.full).await.map_err(batch_error)?;
                report(command.format, &plan, plan_text)
            }
            Batch::Compact(command) => {
                let cancel = shutdown::on_signal()?;
                let work = jobs::compact(&lake, batch, command.dry_run, &cancel);
                let done = noted_if(!command.dry_run, &lake, Job::Compact, work).await?;
                report(command.format, &done, |done| compact_text(done, command.dry_run))
            }
            Batch::Vacuum(command) => {
                let cancel = shutdown::on_signal()?;
                let work = jobs::vacuum(&lake, batch, command.dry_run, &cancel);
                let done = noted_if(!command.dry_run, &lake, Job::Vacuum, work).await?;
                report(command.format, &done, vacuum_text)
            }
            Batch::Checkpoint(command) => {
                let done = noted_if(true, &lake, Job::Checkpoint, jobs::checkpoint(&lake)).await?;
                report(command.format, &done, checkpoint_text)
            }
            Batch::Rollback(command) => {
                let done = jobs::rollback(&lake, batch, command.to).await.map_err(batch_error)?;
                report(command.format, &done, |done| {
                    format!("published the tables of batch run {} again, as run {}\n", done.to, done.run)
                })
            }
            Batch::Backfill(command) => {
                if command.from > command.to {
                    return Err(usage("--from is after --to"));
                }
                let cancel = shutdown::on_signal()?;
                let observer = StepSpinner::new(progress, "batch backfill");
                let (meaning, days) = (settings.meaning(), command.from..=command.to);
                let gate = command.checks.gate(&settings)?;
                let done = backfill(&lake, &meaning, batch, days, &gate, observer.clone(), &cancel).await;
                observer.spinner.finish_and_clear();
                command.checks.tell(done, command.format, &lake)?;
                let kept = catalog::keep(&lake, &settings.catalog).await;
                kept.context("the backfill is done, but the catalogue was not told of its tables")
            }
            Batch::Status(command) => status::run(&lake, &settings.meaning(), batch, command.format).await,
            Batch::Schedule => schedule::run(&lake, &settings).await,
        }
    }
}

impl Checks {
    fn gate(&self, settings: &Settings) -> Result<Gate> {
        let gate = Gate::new(&settings.quality, &settings.display()).map_err(batch_error)?;
        Ok(if self.publish_anyway { gate.open_for(check::user()) } else { gate })
    }

    /// Tells how a run ended, and what became of the expectations.
    fn tell(&self, done: Result<RunReport, BatchError>, format: ReportFormat, lake: &Lake) -> Result<()> {
        let html = self.html.as_deref();
        match done {
            Ok(done) => {
                if let Some(quality) = &done.quality {
                    check::write_html(html, quality, lake)?;
                }
                report(format, &done, text)
            }
            Err(BatchError::Refused(quality)) => {
                check::write_html(html, &quality, lake)?;
                report(format, &*quality, check::text)?;
                Err(batch_error(BatchError::Refused(quality)))
            }
            Err(error) => Err(batch_error(error)),
        }
    }
}

/// Does a job, and notes how it ended unless it is only tried.
async fn noted_if<T>(
    is_done: bool,
    lake: &Lake,
    job: Job,
    work: impl Future<Output = Result<T, BatchError>>,
) -> Result<T> {
    let done = if is_done { noted(lake, job, work).await } else { work.await };
    done.map_err(batch_error)
}

/// Shows which tables are written now.
struct StepSpinner {
    spinner: ProgressBar,
    /// The rows that were written to each table so far.
    rows: Mutex<BTreeMap<String, u64>>,
}

impl StepSpinner {
    fn new(progress: &ProgressBars, job: &'static str) -> Arc<StepSpinner> {
        Arc::new(StepSpinner { spinner: progress.spinner(job), rows: Mutex::default() })
    }

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

fn plan_text(report: &PlanReport) -> String {
    let mut text = match &report.plan {
        Plan::Nothing { run } => format!("nothing to do: nothing has changed since batch run {run}\n"),
        Plan::Incremental { run, .. } => format!("compute what has changed since batch run {run}\n"),
        Plan::Full { why } => format!("compute everything, because {}\n", why.text()),
        Plan::Backfill { from, to, .. } => format!("compute the days from {from} to {to} anew\n"),
    };
    for (table, amount) in &report.reads {
        let megabytes = amount.bytes as f64 / 1e6;
        text.push_str(&format!(
            "  read {table:<20} {:>12} rows {megabytes:>10.1} MB {:>6} files\n",
            amount.rows, amount.files
        ));
    }
    if let Some(lease) = &report.lease {
        text.push_str(&format!("`{}` ({}) holds the lease since {}\n", lease.job, lease.process, lease.at));
    }
    text
}

fn compact_text(report: &CompactReport, dry_run: bool) -> String {
    let mut text = String::new();
    if report.tables.is_empty() {
        text.push_str("nothing to compact\n");
    }
    for (table, done) in &report.tables {
        let files = match dry_run {
            true => format!("{} files would be rewritten", done.files_before),
            false => format!("{} files became {}", done.files_before, done.files_after),
        };
        text.push_str(&format!("  {table:<24} {files}, {} rows\n", done.rows));
    }
    if let Some(run) = report.run {
        text.push_str(&format!("published batch run {run}\n"));
    }
    if let Some(note) = &report.note {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn vacuum_text(report: &VacuumReport) -> String {
    let verb = if report.dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for table in report.tables.iter().filter(|table| table.files > 0) {
        let megabytes = table.bytes as f64 / 1e6;
        text.push_str(&format!("  {:<24} {:>8} files {verb}, {megabytes:.1} MB\n", table.table, table.files));
    }
    if report.runs > 0 {
        let verb = if report.dry_run { "would be removed" } else { "were removed" };
        text.push_str(&format!("{} old runs {verb} from the manifest\n", report.runs));
    }
    if text.is_empty() { "nothing to delete\n".to_owned() } else { text }
}

fn checkpoint_text(removed: &BTreeMap<String, u64>) -> String {
    removed.iter().map(|(table, files)| format!("  {table:<24} {files:>8} old files of the log removed\n")).collect()
}

/// What a run does, and why.
fn reason(plan: &Plan) -> String {
    match plan {
        Plan::Nothing { run } => format!("nothing has changed since batch run {run}; --full computes it all the same"),
        Plan::Incremental { run, tables } => {
            format!("computed what has changed since run {run}: new rows in {}", tables.join(", "))
        }
        Plan::Full { why } => format!("computed everything, because {}", why.text()),
        Plan::Backfill { run, from, to } => {
            format!("computed the days from {from} to {to} anew, from the events that run {run} covers")
        }
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
    if let Some(quality) = &report.quality {
        text.push_str(&check::text(quality));
    }
    text
}
