//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    batch, completions, config as config_command, deadletters, demo, generate, ingest, query, reference, status,
};
use crate::config::{self, Config};
use crate::logging::LogFormat;

/// A lakehouse for advertising data: streaming events in, exact campaign answers out.
#[derive(Debug, Parser)]
#[command(name = "adlake", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 it failed; 2 the command line or the configuration has to be changed.")]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: adlake.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "ADLAKE_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// The lake: a folder, file:///folder or s3://bucket/prefix; overrides the configuration
    #[arg(long, global = true, value_name = "URI", help_heading = "Global options")]
    pub lake: Option<String>,
    /// Format of the logs, which go to stderr
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Global options")]
    pub log_format: LogFormat,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Log more; twice: log still more
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        conflicts_with = "quiet",
        help_heading = "Global options"
    )]
    pub verbose: u8,
}

impl Global {
    /// From -1 (errors only) to 2 (everything).
    pub fn verbosity(&self) -> i8 {
        if self.quiet { -1 } else { self.verbose.min(2) as i8 }
    }

    /// Loads the configuration in force.
    pub fn load(&self) -> Result<Config> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != "ADLAKE_CONFIG");
        config::load(self.config.as_deref(), variables, self.lake.as_deref())
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once")]
pub enum Command {
    /// The whole system in one process on synthetic traffic, with live KPIs
    Demo(demo::Demo),
    /// Synthetic traffic, seeded, in all three formats: to files or to Kafka
    Generate(generate::Generate),
    /// The speed layer: events into the lake, exactly once
    #[command(subcommand)]
    Ingest(ingest::Ingest),
    /// The batch layer: dedupe, attribution, aggregation
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Ask the merged views a question in SQL
    Query(query::Query),
    /// Reference data: creatives, campaigns, exchange rates
    #[command(subcommand)]
    Ref(reference::Reference),
    /// The lake's tables: versions, rows, freshness, the published batch run
    Status(status::Status),
    /// Rejected records: count them, look at one, replay them once the cause is fixed
    #[command(subcommand)]
    Deadletters(deadletters::Deadletters),
    /// The configuration: write one, check it, show what is in force
    #[command(subcommand)]
    Config(config_command::Config),
    /// Completions for a shell, on stdout
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let arguments = Arguments::try_parse_from(["adlake", "query", "SELECT 1", "--lake", "x", "-vv"]).unwrap();
        assert_eq!(arguments.global.lake.as_deref(), Some("x"));
        assert_eq!(arguments.global.verbosity(), 2);
        assert!(Arguments::try_parse_from(["adlake", "--quiet", "-v", "status"]).is_err());
    }
}
