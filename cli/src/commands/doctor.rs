//! `adlake doctor`: whether adlake can work here, found by trying. Each finding says what to do.

mod broker;
mod finding;
mod store;
mod tables;

use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_lake::Lake;
use adlake_speed_layer::registry::Registry;
use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::finding::{Area, Finding, Level, text};
use crate::commands::{ReportFormat, config, report};
use crate::config::Settings;
use crate::failure::{line, usage};
use crate::options::{Global, duration};

/// Whether adlake can work here.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The part whose permissions are tried, and what it needs
    #[arg(long, value_enum, default_value = "all")]
    part: Part,
    /// Do not ask the brokers and the schema registries
    #[arg(long)]
    no_kafka: bool,
    /// How long each attempt may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    /// How far the store's clock and this machine's may be apart
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    clock_tolerance: Duration,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A part of adlake that is deployed with permissions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Everything that follows
    All,
    /// `adlake ingest`
    Speed,
    /// `adlake batch run`
    Batch,
    /// `adlake batch compact | vacuum | checkpoint`
    Maintenance,
    /// `adlake serve`
    Serving,
}

impl Part {
    /// Whether it reads Kafka.
    fn ingests(self) -> bool {
        matches!(self, Part::All | Part::Speed)
    }
}

/// What was found.
#[derive(Debug, Serialize)]
struct Examination {
    part: Part,
    lake: String,
    at: DateTime<Utc>,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Examines and prints what was found. With an error among it, it fails.
    pub async fn run(self, global: &Global) -> Result<()> {
        let mut findings = Vec::new();
        let mut lake_uri = String::new();
        let mut is_usage = false;
        match self.configuration(global).await {
            Ok((settings, from)) => {
                findings.push(Finding::ok(Area::Configuration, from, "can be used"));
                lake_uri.clone_from(&settings.lake.uri);
                self.examine(&settings, &mut findings).await;
            }
            Err(error) => {
                is_usage = true;
                let remedy = "correct this; `adlake config show` tells where each value comes from";
                findings.push(Finding::error(Area::Configuration, "configuration", line(&error), remedy));
            }
        }
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        let done = Examination { part: self.part, lake: lake_uri, at: Utc::now(), errors, warnings, findings };
        report(self.format, &done, |done| text(&done.findings))?;
        match errors {
            0 => Ok(()),
            _ if is_usage => Err(usage("the configuration cannot be used")),
            1 => bail!("adlake cannot work here: 1 error"),
            errors => bail!("adlake cannot work here: {errors} errors"),
        }
    }

    /// The settings, and where they come from.
    async fn configuration(&self, global: &Global) -> Result<(Settings, String)> {
        let config = global.load()?;
        config::usable(&config.settings).await?;
        let from = config::source_of(&config);
        Ok((config.settings, from))
    }

    async fn examine(&self, settings: &Settings, findings: &mut Vec<Finding>) {
        let of_lake = async {
            let mut findings = Vec::new();
            match Lake::open(&settings.lake).await {
                Ok(lake) => {
                    let serves_alarms = settings.alarms.enabled;
                    let limits = (self.timeout, self.clock_tolerance);
                    store::examine(&lake, self.part, serves_alarms, limits, &mut findings).await;
                    // Without the store, each table would fail in the same way, after long retries.
                    if findings.iter().all(|finding| finding.level != Level::Error) {
                        tables::examine(&lake, self.part, self.timeout, &mut findings).await;
                    }
                }
                Err(error) => {
                    let detail = line(&error.into());
                    findings.push(Finding::error(Area::Store, "lake", detail, "correct [lake] in the configuration"));
                }
            }
            findings
        };
        let of_streams = async {
            let mut findings = Vec::new();
            if self.part.ingests() && !self.no_kafka {
                broker::examine(settings, self.timeout, &mut findings).await;
                registries(settings, self.timeout, &mut findings).await;
            }
            findings
        };
        let (lake, streams) = tokio::join!(of_lake, of_streams);
        findings.extend(lake);
        findings.extend(streams);
    }
}

/// Asks each schema registry for a schema. Whether it has that schema does not matter.
async fn registries(settings: &Settings, timeout: Duration, findings: &mut Vec<Finding>) {
    for kind in EventKind::ALL {
        let key = format!("sources.{kind}.avro.registry");
        let remedy = format!("see {key} and the keys beside it; is the registry up, and may this machine reach it?");
        let registry = match Registry::open(kind, &settings.sources.of(kind).avro) {
            Ok(None) => continue,
            Ok(Some(registry)) => registry,
            Err(error) => {
                findings.push(Finding::error(Area::Registry, key, line(&error.into()), remedy));
                continue;
            }
        };
        findings.push(match tokio::time::timeout(timeout, registry.ping()).await {
            Ok(Ok(())) => Finding::ok(Area::Registry, key, "answers"),
            Ok(Err(error)) => Finding::error(Area::Registry, key, line(&error.into()), remedy),
            Err(_) => Finding::error(Area::Registry, key, format!("no answer within {timeout:?}"), remedy),
        });
    }
}
