//! `adlake alarms`: rules are checked and replayed, alarms listed, silenced and acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::time::parse_time;
use adlake_lake::Lake;
use adlake_serving::alarms::engine::{Alarm, Engine};
use adlake_serving::alarms::journal::{Journal, acknowledgement, silence};
use adlake_serving::alarms::replay::replay;
use adlake_serving::alarms::rule::{Rule, read};
use adlake_serving::alarms::sinks::cloudwatch::sync::{SyncReport, sync};
use adlake_serving::alarms::{prometheus, rule_test};
use adlake_serving::answer::time_text;
use adlake_serving::metrics::Catalogues;
use adlake_serving::state::follow::{Follower, now};
use adlake_serving::state::{Builder, names::Names};
use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::{ReportFormat, print, report};
use crate::config::Settings;
use crate::failure::usage;
use crate::options::{Global, duration};

/// What is wrong with the campaigns and the lake.
#[derive(Debug, Subcommand)]
pub enum Alarms {
    /// Check the rules, and run the tests that stand beside them
    Check(Check),
    /// List what is wrong now
    List(List),
    /// Replay a rule over history: when it would have fired
    Test(Test),
    /// Tell nobody of some alarms for a time
    Silence(Silence),
    /// Say that you look after an alarm
    Ack(Ack),
    /// Make the alarms of CloudWatch those of the rules; without --apply, only show what would be
    /// done
    Sync(Sync),
    /// Print a file of rules for Prometheus
    PrometheusRules,
}

/// Check the rules.
#[derive(Debug, Args)]
pub struct Check {
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// List alarms.
#[derive(Debug, Args)]
pub struct List {
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Replay a rule.
#[derive(Debug, Args)]
pub struct Test {
    /// The rule
    rule: String,
    /// The first moment: a date or a time, in the report zone
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The first moment after the last; by default now
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Silence alarms.
#[derive(Debug, Args)]
pub struct Silence {
    /// The rule; * is all rules
    rule: String,
    /// How long
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "2h")]
    time: Duration,
    /// Only groups with this label, like campaign_id=c1; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Why
    #[arg(long, default_value = "")]
    why: String,
    /// Who you are
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

/// Look after an alarm.
#[derive(Debug, Args)]
pub struct Ack {
    /// The id of the alarm, as `adlake alarms list` shows it
    id: String,
    /// Who you are
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

/// Make the alarms of CloudWatch those of the rules.
#[derive(Debug, Args)]
pub struct Sync {
    /// Do it
    #[arg(long)]
    apply: bool,
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// The rules of the settings.
pub fn rules(settings: &Settings) -> Result<Arc<Vec<Rule>>> {
    settings.alarms.check()?;
    let catalogues = Catalogues::new(&settings.display());
    let path = Some(settings.alarms.rules.as_path()).filter(|path| !path.as_os_str().is_empty());
    let rules = read::read(path, settings.alarms.defaults, catalogues.of(None));
    Ok(rules.map_err(|wrong| usage(wrong.to_string()))?.into())
}

impl Alarms {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        match self {
            Alarms::Check(check) => check.run(&settings),
            Alarms::List(list) => list.run(&settings).await,
            Alarms::Test(test) => test.run(&settings).await,
            Alarms::Silence(silence) => silence.run(&settings).await,
            Alarms::Ack(ack) => ack.run(&settings).await,
            Alarms::Sync(sync) => sync.run(&settings).await,
            Alarms::PrometheusRules => print(&prometheus::rules_file(&rules(&settings)?)),
        }
    }
}

impl Check {
    fn run(&self, settings: &Settings) -> Result<()> {
        let rules = rules(settings)?;
        let (tests, failed) = rule_test::run(&rules);
        if !failed.is_empty() {
            return Err(usage(failed.join("; ")));
        }
        #[derive(Serialize)]
        struct Checked {
            rules: Vec<String>,
            tests: usize,
        }
        let checked = Checked { rules: rules.iter().map(|rule| rule.name.clone()).collect(), tests };
        report(self.format, &checked, |checked| {
            format!("{} rules are right, {} tests pass\n", checked.rules.len(), checked.tests)
        })
    }
}

/// The alarms of the lake.
async fn stored(settings: &Settings, lake: &Lake) -> Result<(Journal, Engine)> {
    let mut journal = Journal::open(lake, &settings.query.session).await?;
    let rows = journal.read().await?;
    Ok((journal, Engine::restored(rules(settings)?, rows)))
}

impl List {
    async fn run(&self, settings: &Settings) -> Result<()> {
        let lake = Lake::open(&settings.lake).await?;
        let (_, engine) = stored(settings, &lake).await?;
        let alarms = engine.alarms(now());
        report(self.format, &alarms, |alarms| text(alarms))
    }
}

fn text(alarms: &[Alarm]) -> String {
    if alarms.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    let mut text = String::new();
    for alarm in alarms {
        let group: Vec<String> = alarm.group.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let group = if group.is_empty() { String::new() } else { format!(" {}", group.join(" ")) };
        let id = if alarm.id.is_empty() { "-" } else { &alarm.id };
        text.push_str(&format!(
            "{:<8} {:<8} {}{group}, since {}\n         {}\n",
            alarm.state.name(),
            alarm.severity.name(),
            alarm.rule,
            time_text(alarm.since),
            alarm.why
        ));
        let notes = [
            ("cause", alarm.cause.clone()),
            ("runbook", Some(alarm.runbook.clone()).filter(|runbook| !runbook.is_empty())),
            ("looked after by", alarm.acked_by.clone()),
            ("silenced until", alarm.silenced_until.clone()),
            ("id", Some(id.to_owned())),
        ];
        for (name, note) in notes {
            if let Some(note) = note {
                text.push_str(&format!("         {name}: {note}\n"));
            }
        }
    }
    text
}

/// A transition that a replay has found.
#[derive(Debug, Serialize)]
struct Replayed {
    at: String,
    group: BTreeMap<String, String>,
    state: &'static str,
    value: Option<f64>,
    expected_low: Option<f64>,
    expected_high: Option<f64>,
    told: bool,
    why: String,
}

impl Test {
    async fn run(&self, settings: &Settings) -> Result<()> {
        let rules = rules(settings)?;
        let rule = rules.iter().find(|rule| rule.name == self.rule);
        let rule = rule.ok_or_else(|| usage(format!("there is no rule {:?}", self.rule)))?;
        let zone = settings.report.time_zone;
        let moment = |text: &str| parse_time(text, zone).map_err(|error| usage(format!("{text:?}: {error}")));
        let from = moment(&self.from)?;
        let to = self.to.as_deref().map(moment).transpose()?.unwrap_or_else(now);
        let lake = Lake::open(&settings.lake).await?;
        let names = Arc::new(Names::default());
        let follower = Follower {
            builder: Builder { lake, names: names.clone(), base_bytes_max: settings.serve.state_bytes_max },
            session: settings.serve.session.clone(),
            meaning: settings.meaning(),
            display: settings.display(),
            interval: settings.serve.refresh_interval,
        };
        let state = follower.state(None).await?;
        let catalogues = Catalogues::new(&settings.display());
        let rows = replay(rule, &state, &names, &catalogues, (from, to)).await?;
        let replayed: Vec<Replayed> = rows
            .iter()
            .map(|row| Replayed {
                at: time_text(row.at),
                group: adlake_serving::alarms::engine::labels(&row.group),
                state: row.state.name(),
                value: row.value,
                expected_low: row.low,
                expected_high: row.high,
                told: row.is_notice,
                why: row.why.clone(),
            })
            .collect();
        report(self.format, &replayed, |replayed| {
            let line = |row: &Replayed| {
                let group: Vec<String> = row.group.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let told = if row.told { "told" } else { "" };
                format!("{}  {:<8} {:<5} {}: {}\n", row.at, row.state, told, group.join(" "), row.why)
            };
            let lines: String = replayed.iter().map(line).collect();
            let told = replayed.iter().filter(|row| row.told && row.state != "OK").count();
            format!("{lines}{told} alarms would have been told\n")
        })
    }
}

impl Silence {
    async fn run(&self, settings: &Settings) -> Result<()> {
        let rules = rules(settings)?;
        if self.rule != "*" && !rules.iter().any(|rule| rule.name == self.rule) {
            return Err(usage(format!("there is no rule {:?}", self.rule)));
        }
        let mut labels = BTreeMap::new();
        for label in &self.labels {
            let (name, value) =
                label.split_once('=').ok_or_else(|| usage(format!("--label {label:?}: it is NAME=VALUE")))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        let lake = Lake::open(&settings.lake).await?;
        let row = silence(&self.rule, &labels, now(), self.time, &self.by, &self.why);
        Journal::open(&lake, &settings.query.session).await?.add(&row).await?;
        print(&format!("silenced until {} as {}\n", time_text(row.until.unwrap_or_default()), row.id))
    }
}

impl Ack {
    async fn run(&self, settings: &Settings) -> Result<()> {
        let lake = Lake::open(&settings.lake).await?;
        let (mut journal, engine) = stored(settings, &lake).await?;
        let alarms = engine.alarms(now());
        let alarm = alarms.iter().find(|alarm| alarm.id == self.id && !self.id.is_empty());
        let alarm = alarm.ok_or_else(|| anyhow!("there is no alarm {:?} now", self.id))?;
        journal.add(&acknowledgement(alarm, now(), &self.by)).await?;
        print(&format!("{} looks after {}\n", self.by, alarm.rule))
    }
}

impl Sync {
    async fn run(&self, settings: &Settings) -> Result<()> {
        let rules = rules(settings)?;
        let done = sync(&rules, &settings.alarms.cloudwatch, !self.apply).await.context("CloudWatch")?;
        report(self.format, &done, synced)
    }
}

fn synced(done: &SyncReport) -> String {
    let mut text = String::new();
    for (what, names) in [
        ("create", &done.created),
        ("update", &done.updated),
        ("remove", &done.removed),
        ("keep", &done.unchanged),
        ("leave alone (not ours)", &done.foreign),
    ] {
        names.iter().for_each(|name| text.push_str(&format!("{what}: {name}\n")));
    }
    let note = if done.dry_run { "; nothing was changed: --apply does it" } else { "" };
    text.push_str(&format!("about ${:.2} a month for metrics and alarms{note}\n", done.dollars_a_month));
    text
}
