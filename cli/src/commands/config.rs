//! `adlake config init | check | show`.

use std::io::Write;
use std::path::PathBuf;

use adlake_domain::event::EventKind;
use adlake_lake::Lake;
use adlake_speed_layer::plans;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::commands::{ReportFormat, print, report};
use crate::config::{self, DEFAULT_FILE, Settings, show, template};
use crate::failure::{speed_error, usage};
use crate::options::Global;

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Write a file with every key, its meaning and its default
    Init(Init),
    /// Check the configuration in force, and name the key that is wrong
    Check,
    /// Show every key in force with its value and its origin; secrets are not shown
    Show(Show),
}

/// Write a commented file.
#[derive(Debug, Args)]
pub struct Init {
    /// The file to write; - is stdout
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

/// Show what is in force.
#[derive(Debug, Args)]
pub struct Show {
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

impl Config {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<()> {
        match self {
            Config::Init(init) => init.run(),
            Config::Check => check(global).await,
            Config::Show(show) => {
                let lines = show::lines(&global.load()?)?;
                report(show.format, &lines, |lines| show::text(lines))
            }
        }
    }
}

impl Init {
    fn run(&self) -> Result<()> {
        let text = template::text()?;
        if self.file.as_os_str() == "-" {
            return print(&text);
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true);
        if self.force {
            options.truncate(true)
        } else {
            options.create_new(true)
        };
        let path = self.file.display();
        let mut file = options.open(&self.file).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => usage(format!("{path} exists already; --force overwrites it")),
            _ => anyhow::Error::new(error).context(format!("cannot write {path}")),
        })?;
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))?;
        print(&format!("wrote {path}\n"))
    }
}

async fn check(global: &Global) -> Result<()> {
    let config = global.load()?;
    usable(&config.settings).await?;
    print(&format!("{}: ok\n", source_of(&config)))
}

/// Checks that every section can be used. Reads and writes nothing of the lake, and asks nobody.
pub async fn usable(settings: &Settings) -> Result<()> {
    let speed = settings.speed();
    plans::check(&speed).map_err(speed_error)?;
    settings.batch.check()?;
    for kind in EventKind::ALL {
        plans::check_decoding(&speed, kind).map_err(speed_error)?;
    }
    crate::commands::alarms::rules(settings)?;
    settings.telemetry.check().map_err(usage)?;
    Lake::open(&settings.lake).await?;
    Ok(())
}

/// Where the configuration was read from.
pub fn source_of(config: &config::Config) -> String {
    match &config.file {
        Some(path) => path.display().to_string(),
        None => format!("no {DEFAULT_FILE} here: the defaults"),
    }
}
