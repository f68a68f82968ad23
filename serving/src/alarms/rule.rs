//! Rules: what is watched, by whom it is looked after, and when it is wrong.
//!
//! A [`Rule`] has been checked: its metric and its dimensions exist, its times fit the hours by
//! which events are counted. [`read`](read::read) makes rules of TOML.

pub mod read;
pub mod metric;

use serde::Serialize;
use serde_json::Value as Json;

use self::metric::Metric;
use super::detect::Detect;
use super::track::Times;
use crate::question::{Dimension, Filter};

/// How urgent an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity with a name.
    pub fn parse(name: &str) -> Option<Severity> {
        [Severity::Info, Severity::Warning, Severity::Critical].into_iter().find(|severity| severity.name() == name)
    }
}

/// What the value of a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Fixed bounds.
    Nothing,
    /// The window before.
    Previous,
    /// The same hours of so many weeks before.
    HourOfWeek(u32),
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, unique among the rules.
    pub name: String,
    /// What it watches for, a sentence.
    pub description: String,
    /// What is watched.
    pub metric: Metric,
    /// The dimensions of its groups.
    pub by: Vec<Dimension>,
    /// Which events count.
    pub filter: Filter,
    /// The filter as it was written.
    pub scope: Option<Json>,
    /// The length of the window, in hours.
    pub window_hours: u32,
    /// How far behind the present the window ends, in microseconds.
    pub delay: i64,
    /// When a value is abnormal.
    pub detect: Detect,
    /// What it is compared with.
    pub against: Against,
    /// The least sums of the window: places in `inputs`, and numbers.
    pub min_volume: Vec<(usize, f64)>,
    /// The metrics that are asked for.
    pub inputs: Vec<String>,
    /// Its times.
    pub times: Times,
    /// The severity of missing data.
    pub no_data_severity: Severity,
    /// The most groups that are told one by one.
    pub alerts_max: usize,
    /// While one of these rules is not OK, this one does not fire.
    pub inhibited_by: Vec<String>,
    /// The severity of its alarms.
    pub severity: Severity,
    /// Who looks after it.
    pub owner: String,
    /// What to do: a path or an address.
    pub runbook: String,
    /// Whether the sites and creatives that contribute most are looked for.
    pub has_cause: bool,
    /// Its tests.
    pub tests: Vec<RuleTest>,
}

impl Rule {
    /// The place of a metric among the inputs.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|input| input == name)
    }
}

/// A test of a rule: a series, and the states that it must give.
#[derive(Debug, Clone)]
pub struct RuleTest {
    /// Its name.
    pub name: String,
    /// The time from one step to the next, in microseconds.
    pub every: i64,
    /// The sums of each window that is compared with, by the names of metrics.
    pub baseline: Vec<(String, f64)>,
    /// The sums of the window, step by step. Without any, there are no events.
    pub series: Vec<Vec<(String, f64)>>,
    /// The states that they must give.
    pub states: Vec<String>,
    /// Where it stands: the file and the line.
    pub place: String,
}
