//! The commands, one file each.

pub mod demo;
pub mod generate;
pub mod ingest;
pub mod batch;
pub mod query;
pub mod reference;
pub mod status;
pub mod deadletters;
pub mod config;
pub mod completions;

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::arguments::{Arguments, Command};
use crate::progress::ProgressBars;

/// Runs the command that the command line names.
pub async fn run(arguments: Arguments, progress: ProgressBars) -> Result<()> {
    let global = arguments.global;
    match arguments.command {
        Command::Demo(command) => command.run(&global, &progress).await,
        Command::Generate(command) => command.run(&global, &progress).await,
        Command::Ingest(command) => command.run(&global, &progress).await,
        Command::Batch(command) => command.run(&global, &progress).await,
        Command::Query(command) => command.run(&global).await,
        Command::Ref(command) => command.run(&global, &progress).await,
        Command::Status(command) => command.run(&global).await,
        Command::Deadletters(command) => command.run(&global, &progress).await,
        Command::Config(command) => command.run(&global).await,
        Command::Completions(command) => command.run(),
    }
}

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
