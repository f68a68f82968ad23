//! `adlake batch check`: whether the expectations are met, and proposals for new ones.

use std::path::{Path, PathBuf};

use adlake_batch_layer::quality::{check, html, suggest};
use adlake_batch_layer::quality_report::{Decision, Status};
use adlake_batch_layer::{Gate, QualityReport};
use adlake_lake::Lake;
use anyhow::{Context, Error, Result};
use clap::Args;

use crate::commands::{ReportFormat, print, report};
use crate::config::Settings;
use crate::failure::{NotMet, batch_error, usage};
use crate::progress::ProgressBars;
use crate::shutdown;

/// A check of the expectations.
#[derive(Debug, Args)]
pub struct Check {
    /// Check only the expectations with these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Write the report to this file too, as a page that can be passed on
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Do not append the results to batch/quality
    #[arg(long)]
    no_record: bool,
    /// Propose expectations for this table or view as TOML, from what it holds, and check nothing
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["names", "html", "no_record"])]
    suggest: Option<String>,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table", conflicts_with = "suggest")]
    format: ReportFormat,
}

impl Check {
    /// Checks and prints the report. If an expectation of severity fail is not met, it fails.
    pub async fn run(self, lake: &Lake, settings: &Settings, progress: &ProgressBars) -> Result<()> {
        let (meaning, display) = (settings.meaning(), settings.display());
        if let Some(table) = &self.suggest {
            let spinner = progress.spinner("looking at the table");
            let done = suggest::suggest(lake, &meaning, &settings.batch, &display, table).await;
            spinner.finish_and_clear();
            return print(&done.map_err(batch_error)?);
        }
        let gate = Gate::new(&settings.quality, &display).map_err(batch_error)?;
        let known: Vec<String> = gate.expectations().iter().map(|expectation| expectation.name.clone()).collect();
        if let Some(unknown) = self.names.iter().find(|name| !known.contains(name)) {
            return Err(usage(format!("there is no expectation {unknown:?}; there are {}", known.join(", "))));
        }
        let gate = gate.only(|name| self.names.is_empty() || self.names.iter().any(|wanted| wanted == name));
        let cancel = shutdown::on_signal()?;
        let spinner = progress.spinner("checking the expectations");
        let done = check(lake, &meaning, &settings.batch, &gate, !self.no_record, &cancel).await;
        spinner.finish_and_clear();
        let done = done.map_err(batch_error)?;
        write_html(self.html.as_deref(), &done, lake)?;
        report(self.format, &done, text)?;
        match done.stopping() {
            stopping if stopping.is_empty() => Ok(()),
            stopping => {
                let detail = format!("expectations of severity fail are not met: {}", stopping.join(", "));
                Err(Error::new(NotMet(detail)))
            }
        }
    }
}

/// Writes the page, if a file is named.
pub fn write_html(path: Option<&Path>, report: &QualityReport, lake: &Lake) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let page = html::page(report, lake.root().as_str());
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Who runs the program, by the environment.
pub fn user() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"].into_iter();
    names.filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty()).unwrap_or("unknown".to_owned())
}

/// The report for people.
pub fn text(report: &QualityReport) -> String {
    let mut text = String::new();
    let width = report.outcomes.iter().map(|outcome| outcome.expectation.chars().count()).max().unwrap_or(0).min(48);
    for outcome in &report.outcomes {
        let name = &outcome.expectation;
        let status = outcome.status.name();
        let observed = match outcome.status {
            Status::Error => String::new(),
            _ => format!(": {}", html::observed(outcome)),
        };
        text.push_str(&format!("  {status:<5}  {name:<width$}  {}{observed}\n", outcome.expected));
        if let (Some(note), true) = (&outcome.note, outcome.status != Status::Pass) {
            text.push_str(&format!("         {:width$}  {note}\n", ""));
        }
    }
    text.push_str(&format!(
        "checked {} expectations in {:.1} s: {} failed, {} could not be evaluated, {} warnings\n",
        report.outcomes.len(),
        report.elapsed.as_secs_f64(),
        report.count(Status::Fail),
        report.count(Status::Error),
        report.count(Status::Warn)
    ));
    if let (Decision::PublishAnyway, Some(who)) = (report.decision, &report.decided_by) {
        text.push_str(&format!("published anyway by {who}\n"));
    }
    text
}
