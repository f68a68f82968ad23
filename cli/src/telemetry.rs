//! Traces of a command: started before its work, and closed after it.

use adlake_telemetry::{Telemetry, TraceLayer};
use anyhow::Result;

use crate::arguments::{Arguments, Command};
use crate::failure::usage;

/// Starts the export of traces. `None`: they are off, or the command does nothing to trace.
///
/// # Errors
///
/// If the settings of traces are wrong. Other settings that are wrong are told by the command.
pub fn start(arguments: &Arguments) -> Result<Option<(TraceLayer, Telemetry)>> {
    let Some(part) = part(&arguments.command) else { return Ok(None) };
    let Ok(config) = arguments.global.load() else { return Ok(None) };
    Telemetry::start(&config.settings.telemetry, &format!("adlake-{part}")).map_err(usage)
}

/// The part of the system that a command is. `None`: it is not traced.
fn part(command: &Command) -> Option<&'static str> {
    match command {
        Command::Demo(_) => Some("demo"),
        Command::Ingest(_) | Command::Deadletters(_) => Some("ingest"),
        Command::Batch(_) => Some("batch"),
        Command::Serve(_) => Some("serve"),
        Command::Query(_) => Some("query"),
        Command::Generate(_)
        | Command::Alarms(_)
        | Command::Catalog(_)
        | Command::CheckLake(_)
        | Command::Keys(_)
        | Command::Users(_)
        | Command::Ref(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Completions(_) => None,
    }
}
