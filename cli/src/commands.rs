//! The commands, one file each.

pub mod demo;
pub mod generate;
pub mod ingest;
pub mod batch;
pub mod catalog;
pub mod check_lake;
pub mod query;
pub mod access;
pub mod serve;
pub mod alarms;
pub mod reference;
pub mod status;
pub mod doctor;
pub mod deadletters;
pub mod config;
pub mod completions;

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// The format of a report. A report says what a command has done; it is not the answer to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ReportFormat {
    /// Text for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// Prints text to stdout.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a report: `text` for people, or the value as JSON.
pub fn report<T: Serialize>(format: ReportFormat, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
    match format {
        ReportFormat::Table => print(&text(value)),
        ReportFormat::Json => print(&(serde_json::to_string_pretty(value).context("cannot write the report")? + "\n")),
    }
}
