//! `adlake batch status`.

use adlake_batch_layer::BatchSettings;
use adlake_batch_layer::status::{StatusReport, status};
use adlake_domain::settings::Meaning;
use adlake_lake::Lake;
use adlake_lake::job_notes::Outcome;
use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::commands::{ReportFormat, report};
use crate::failure::batch_error;

/// Runs of which the text shows the times.
const RUNS_SHOWN: usize = 5;

/// Reads the state and prints it.
pub async fn run(lake: &Lake, meaning: &Meaning, settings: &BatchSettings, format: ReportFormat) -> Result<()> {
    let state = status(lake, meaning, settings).await.map_err(batch_error)?;
    report(format, &state, text)
}

fn text(state: &StatusReport) -> String {
    let mut text = String::new();
    match (state.runs.first(), state.runs.last()) {
        (Some(newest), Some(oldest)) => {
            text.push_str(&format!("published runs {} to {}, of which the last are\n", oldest.run, newest.run));
            for run in state.runs.iter().take(RUNS_SHOWN) {
                let rules = if run.is_current { "" } else { ", by the rules of another version of adlake" };
                text.push_str(&format!("  run {:<8} published at {}{rules}\n", run.run, time(run.published_at)));
            }
        }
        _ => text.push_str("no batch run published yet\n"),
    }
    text.push_str("the next run would\n  ");
    text.push_str(&super::plan_text(&state.next));
    if state.next.lease.is_none() {
        text.push_str("no job is at work\n");
    }
    if state.jobs.is_empty() {
        return text;
    }
    let [job, began, seconds, outcome] = ["job", "began", "seconds", "how it ended"];
    text.push_str(&format!("\n{job:<12}  {began:<20}  {seconds:>9}  {outcome}\n"));
    for note in &state.jobs {
        let seconds = (note.ended - note.began).as_seconds_f64();
        let outcome = match (note.outcome, &note.error) {
            (Outcome::Done, _) => "done".to_owned(),
            (Outcome::Stopped, _) => "stopped by a signal".to_owned(),
            (Outcome::Failed, error) => format!("failed: {}", error.as_deref().unwrap_or("for an unknown reason")),
        };
        text.push_str(&format!("{:<12}  {:<20}  {seconds:>9.1}  {outcome}\n", note.job, time(note.began)));
    }
    text
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
