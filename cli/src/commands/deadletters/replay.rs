//! `adlake deadletters replay`: decodes dead letters again; the good ones become rows.

use adlake_lake::Lake;
use adlake_speed_layer::replay::{ReplayOptions, ReplayReport, replay};
use anyhow::Result;
use clap::Args;
use tracing::Instrument;
use tracing::field::Empty;

use super::filter::FilterOptions;
use crate::commands::{ReportFormat, report};
use crate::config::Settings;
use crate::failure::speed_error;
use crate::progress::ProgressBars;
use crate::shutdown;

/// Replay dead letters.
#[derive(Debug, Args)]
#[command(after_help = "Without options, every dead letter that is not a row yet is decoded again. If a replay is \
        interrupted, the next one finishes what it has left.")]
pub struct Replay {
    #[command(flatten)]
    filter: FilterOptions,
    /// Replay at most this many letters
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Report what would become of the letters, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl Replay {
    /// Runs the command. A signal ends it after the current batch.
    pub async fn run(self, lake: &Lake, settings: &Settings, progress: &ProgressBars) -> Result<()> {
        let cancel = shutdown::on_signal()?;
        let watch = progress.spinner("replaying");
        let options = ReplayOptions { filter: self.filter.filter(None), limit: self.limit, dry_run: self.dry_run };
        let shown = |state: &ReplayReport| {
            watch.set_message(format!("{} letters, {} are rows now", state.letters, state.replayed));
        };
        let span = adlake_telemetry::span!("replay dead letters", adlake.letters = Empty, adlake.replayed = Empty);
        let done = replay(lake, &settings.speed(), options, &shown, cancel).instrument(span.clone()).await;
        match &done {
            Ok(done) => {
                span.record("adlake.letters", done.letters);
                span.record("adlake.replayed", done.replayed);
            }
            Err(error) => adlake_telemetry::fail(&span, error),
        }
        watch.finish_and_clear();
        report(self.format, &done.map_err(speed_error)?, text)
    }
}

fn text(report: &ReplayReport) -> String {
    let again: u64 = report.rejected.values().sum();
    let would = if report.dry_run { "would be" } else { "are" };
    let mut text = format!(
        "decoded {} dead letters again in {:.1} s: {} {would} rows now, {again} rejected again\n",
        report.letters, report.seconds, report.replayed
    );
    if report.finished + report.released > 0 {
        text.push_str(&format!(
            "finished an interrupted replay: {} letters were rows already and are marked, {} are free for a replay\n",
            report.finished, report.released
        ));
    }
    for (table, rows) in &report.rows {
        text.push_str(&format!("  {table:<24} {rows:>12} rows\n"));
    }
    for (reason, count) in &report.rejected {
        text.push_str(&format!("  {reason:<24} {count:>12} rejected again\n"));
    }
    text
}
