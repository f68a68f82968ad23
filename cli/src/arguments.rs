//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::event::EventKind;
use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    batch, completions, config as config_command, deadletters, demo, generate, ingest, query, reference, status,
};
use crate::config::{self, Config};
use crate::logging::LogFormat;

/// A lakehouse for advertising data: it takes in streams of events, and answers questions about
/// campaigns exactly.
#[derive(Debug, Parser)]
#[command(name = "adlake", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 the command line or the configuration has to be changed; 130 a \
        second signal ended the command at once."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file [default: adlake.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "ADLAKE_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Where the lake is: a folder, file:///folder or s3://bucket/prefix; overrides lake.uri of the
    /// configuration
    #[arg(long, global = true, value_name = "URI", help_heading = "Global options")]
    pub lake: Option<String>,
    /// The format of the logs, which are written to stderr
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Global options")]
    pub log_format: LogFormat,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Log more; given twice, log everything, the libraries included
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

/// A kind of event, by the name of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    Impressions,
    Interactions,
    BidRequests,
}

impl Kind {
    /// As the domain names it.
    pub fn event_kind(self) -> EventKind {
        match self {
            Kind::Impressions => EventKind::Impression,
            Kind::Interactions => EventKind::Interaction,
            Kind::BidRequests => EventKind::BidRequest,
        }
    }
}

/// A duration as people write it: "90s", "2h 30m".
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error} (for example 90s, 30m or 2h)"))
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once")]
pub enum Command {
    /// See the whole system at work: synthetic traffic, ingest, batch runs and live KPIs in one
    /// process
    Demo(demo::Demo),
    /// Write synthetic events to files or to Kafka, together with the answers that they lead to
    Generate(generate::Generate),
    /// Read events from Kafka or from files into the lake, each record exactly once
    #[command(subcommand)]
    Ingest(ingest::Ingest),
    /// Compute the batch tables: deduplicated events, attribution and KPIs
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Get the answer to a question in SQL, over everything that is committed
    Query(query::Query),
    /// Load reference data: creatives, campaigns, exchange rates
    #[command(subcommand)]
    Ref(reference::Reference),
    /// Show the lake's tables: their versions and rows, how fresh they are, and the last batch run
    Status(status::Status),
    /// Count, show and replay the records that ingest has rejected
    #[command(subcommand)]
    Deadletters(deadletters::Deadletters),
    /// Write a configuration, check it, or show what is in force
    #[command(subcommand)]
    Config(config_command::Config),
    /// Print a script with which a shell completes the commands and options of adlake
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
