//! Options that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::event::EventKind;
use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::config::{self, Config};
use crate::logging::LogFormat;

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
