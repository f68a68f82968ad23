//! From TOML to rules. Whatever is wrong is told with its file and line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use toml::Spanned;

use super::metric::Metric;
use super::{Against, Rule, RuleTest, Severity};
use crate::alarms::detect::{Change, Detect, Kind};
use crate::alarms::track::{AlarmState, Times};
use crate::metrics::Catalogue;
use crate::question::{Dimension, Filter};

/// The built-in rules.
pub const DEFAULTS: &str = include_str!("../defaults.toml");
/// The name under which they are told.
const BUILT_IN: &str = "(built-in rules)";

/// Why rules cannot be used: each line names a file and a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Wrong(pub Vec<String>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    description: String,
    metric: String,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    scope: Option<Json>,
    #[serde(default, with = "humantime_serde::option")]
    window: Option<Duration>,
    #[serde(default, with = "humantime_serde::option")]
    delay: Option<Duration>,
    detect: RawDetect,
    #[serde(default)]
    min_volume: toml::Table,
    #[serde(default, rename = "for", with = "humantime_serde::option")]
    hold: Option<Duration>,
    #[serde(default)]
    recover: RawRecover,
    #[serde(default)]
    no_data: Option<RawNoData>,
    #[serde(default)]
    max_alerts: Option<usize>,
    #[serde(default)]
    inhibited_by: Vec<String>,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    runbook: String,
    #[serde(default)]
    cause: Option<bool>,
    #[serde(default)]
    test: Vec<Spanned<RawTest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawDetect {
    above: Option<f64>,
    below: Option<f64>,
    baseline: Option<String>,
    weeks: Option<u32>,
    weeks_min: Option<usize>,
    method: Option<String>,
    z: Option<f64>,
    min_change: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRecover {
    change: Option<String>,
    above: Option<f64>,
    below: Option<f64>,
    #[serde(rename = "for", with = "humantime_serde::option")]
    hold: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNoData {
    #[serde(with = "humantime_serde")]
    after: Duration,
    #[serde(default)]
    severity: Option<Severity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    #[serde(default)]
    name: String,
    #[serde(default, with = "humantime_serde::option")]
    every: Option<Duration>,
    #[serde(default)]
    baseline: toml::Table,
    series: Vec<toml::Table>,
    states: Vec<String>,
}

/// Reads the rules of a file, or of all `.toml` files of a folder, with the built-in ones before
/// them. A rule with the name of a built-in one replaces it; with `enabled = false` it takes it
/// away.
pub fn read(path: Option<&Path>, with_defaults: bool, catalogue: &Catalogue) -> Result<Vec<Rule>, Wrong> {
    let mut wrong = Vec::new();
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    if with_defaults {
        rules.extend(parse(BUILT_IN, DEFAULTS, catalogue, &mut wrong).into_iter().filter_map(|(_, _, rule)| rule));
    }
    for file in files(path)? {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| Wrong(vec![format!("{shown}: {error}")]))?;
        for (name, line, rule) in parse(&shown, &text, catalogue, &mut wrong) {
            if !names.insert(name.clone()) {
                wrong.push(format!("{shown}:{line}: there are two rules {name:?}"));
            }
            rules.retain(|other: &Rule| other.name != name);
            rules.extend(rule);
        }
    }
    if wrong.is_empty() {
        wrong.extend(inhibitions(&rules));
    }
    if wrong.is_empty() { Ok(rules) } else { Err(Wrong(wrong)) }
}

fn files(path: Option<&Path>) -> Result<Vec<PathBuf>, Wrong> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let failed = |error: std::io::Error| Wrong(vec![format!("alarms.rules: {}: {error}", path.display())]);
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The rules of a text: their names, their lines, and the rules that are right and enabled.
fn parse(
    shown: &str,
    text: &str,
    catalogue: &Catalogue,
    wrong: &mut Vec<String>,
) -> Vec<(String, usize, Option<Rule>)> {
    let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let file: RawFile = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let at = error.span().map_or(1, |span| line(span.start));
            wrong.push(format!("{shown}:{at}: {}", error.message().trim()));
            return Vec::new();
        }
    };
    let mut rules = Vec::new();
    for spanned in file.rule {
        let span = spanned.span();
        let raw = spanned.into_inner();
        let own = text.get(span.start..).unwrap_or_default();
        // The end of the rule is where the next one begins.
        let end = own.get(1..).and_then(|rest| rest.find("\n[[rule]]")).map_or(own.len(), |end| end + 1);
        let own = &own[..end];
        let place = |key: &str| {
            let at = own.lines().position(|line| line.trim_start().strip_prefix(key).is_some_and(is_assignment));
            format!("{shown}:{}", line(span.start) + at.unwrap_or(0))
        };
        let (name, is_enabled) = (raw.name.clone(), raw.enabled.unwrap_or(true));
        let tests = |at: usize| format!("{shown}:{}", line(at));
        match check(raw, catalogue, &tests) {
            Ok(rule) => rules.push((name, line(span.start), is_enabled.then_some(rule))),
            Err((key, detail)) => wrong.push(format!("{}: rule {name:?}: {key}: {detail}", place(key))),
        }
    }
    rules
}

fn is_assignment(rest: &str) -> bool {
    rest.trim_start().starts_with('=')
}

type Refused = (&'static str, String);

fn check(raw: RawRule, catalogue: &Catalogue, place: &dyn Fn(usize) -> String) -> Result<Rule, Refused> {
    let refuse = |key: &'static str, detail: &str| Err((key, detail.to_owned()));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if raw.name.is_empty() || !raw.name.chars().all(is_name) || raw.name.starts_with(|c: char| c.is_ascii_digit()) {
        return refuse("name", "a name has letters, digits and underscores, and does not begin with a digit");
    }
    let metric = Metric::find(&raw.metric, catalogue).map_err(|detail| ("metric", detail))?;
    let mut by = Vec::new();
    for name in &raw.by {
        let dimension = Dimension::parse(name).ok_or_else(|| ("by", format!("there is no dimension {name:?}")))?;
        if by.contains(&dimension) {
            return Err(("by", format!("{name:?} is named twice")));
        }
        by.push(dimension);
    }
    match &metric {
        Metric::Operational(_) if !by.is_empty() || raw.scope.is_some() => {
            return refuse("by", "a metric of the lake or the server has no dimensions, and no scope");
        }
        Metric::Pacing if by != [Dimension::Campaign] => return refuse("by", "pacing is by [\"campaign_id\"]"),
        _ => {}
    }
    let filter = match &raw.scope {
        None => Filter::everything(),
        Some(scope) => Filter::read(scope, catalogue).map_err(|invalid| ("scope", invalid.detail))?,
    };
    if !filter.rows.is_empty() {
        return refuse("scope", "a scope is a filter on dimensions; use min_volume for metrics");
    }
    let window = raw.window.unwrap_or(Duration::from_secs(3600));
    if window.as_secs() == 0 || !window.as_secs().is_multiple_of(3600) || window.as_secs() > 7 * 24 * 3600 {
        return refuse("window", "events are counted by hours: a window has whole hours, at most 168");
    }
    let window_hours = (window.as_secs() / 3600) as u32;
    let mut inputs = metric.inputs();
    let mut min_volume = Vec::new();
    for (name, value) in &raw.min_volume {
        let number = number(value).ok_or_else(|| ("min_volume", format!("{name} is no number")))?;
        if matches!(metric, Metric::Operational(_) | Metric::Pacing) {
            return refuse("min_volume", "only a KPI has a volume");
        }
        match catalogue.find(name).map(|place| catalogue.inputs(place).len()) {
            Some(1) => {}
            _ => return Err(("min_volume", format!("{name:?} is no sum of the catalogue"))),
        }
        if !inputs.contains(name) {
            inputs.push(name.clone());
        }
        min_volume.push((inputs.iter().position(|input| input == name).unwrap_or_default(), number));
    }
    let (detect, against) = detect(&raw.detect, &raw.recover, &metric)?;
    let tests = raw.test.into_iter().map(|test| {
        let at = place(test.span().start);
        rule_test(test.into_inner(), at, &inputs, &metric)
    });
    let tests = tests.collect::<Result<Vec<_>, Refused>>()?;
    let micros = |duration: Option<Duration>| duration.map_or(0, |duration| duration.as_micros() as i64);
    let severity = raw.severity.unwrap_or(Severity::Warning);
    let is_baseline = against != Against::Nothing;
    Ok(Rule {
        has_cause: raw.cause.unwrap_or(is_baseline && by.contains(&Dimension::Campaign)),
        name: raw.name,
        description: raw.description,
        metric,
        by,
        filter,
        scope: raw.scope,
        window_hours,
        delay: micros(raw.delay),
        detect,
        against,
        min_volume,
        inputs,
        times: Times {
            hold: micros(raw.hold),
            recover: micros(raw.recover.hold),
            no_data: raw.no_data.as_ref().map(|no_data| no_data.after.as_micros() as i64),
        },
        no_data_severity: raw.no_data.as_ref().and_then(|no_data| no_data.severity).unwrap_or(severity),
        alerts_max: raw.max_alerts.unwrap_or(20).max(1),
        inhibited_by: raw.inhibited_by,
        severity,
        owner: raw.owner,
        runbook: raw.runbook,
        tests,
    })
}

fn number(value: &toml::Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64)).filter(|number| number.is_finite())
}

fn detect(raw: &RawDetect, recover: &RawRecover, metric: &Metric) -> Result<(Detect, Against), Refused> {
    let refuse = |key: &'static str, detail: &str| Err((key, detail.to_owned()));
    let Some(baseline) = &raw.baseline else {
        if raw.weeks.is_some() || raw.method.is_some() || raw.z.is_some() || raw.min_change.is_some() {
            return refuse("detect", "weeks, method, z and min_change need a baseline");
        }
        if raw.above.is_none() && raw.below.is_none() {
            return refuse("detect", "above, below or a baseline is needed");
        }
        if recover.change.is_some() {
            return refuse("recover", "a threshold recovers at a value: give above or below");
        }
        let (above, below) = (raw.above, raw.below);
        let is_apart = |bound: Option<f64>, recovers: Option<f64>, sign: f64| match (bound, recovers) {
            (_, None) => true,
            (Some(bound), Some(recovers)) => sign * recovers <= sign * bound,
            (None, Some(_)) => false,
        };
        if !is_apart(above, recover.above, 1.0) || !is_apart(below, recover.below, -1.0) {
            return refuse("recover", "it must lie on the normal side of the bound that it belongs to");
        }
        let detect = Detect::Threshold { above, below, recover_above: recover.above, recover_below: recover.below };
        return Ok((detect, Against::Nothing));
    };
    if !matches!(metric, Metric::Kpi { .. }) {
        return refuse("detect", "only a KPI has a baseline");
    }
    if raw.above.is_some() || raw.below.is_some() || recover.above.is_some() || recover.below.is_some() {
        return refuse("detect", "a baseline or bounds, not both");
    }
    let weeks = raw.weeks.unwrap_or(6);
    let against = match baseline.as_str() {
        "hour_of_week" if (1..=26).contains(&weeks) => Against::HourOfWeek(weeks),
        "hour_of_week" => return refuse("detect", "weeks is between 1 and 26"),
        "previous" => Against::Previous,
        _ => return refuse("detect", "the baseline is \"hour_of_week\" or \"previous\""),
    };
    let wilson = match raw.method.as_deref() {
        None | Some("auto") => metric.kind() == Kind::Share,
        Some("wilson") if metric.kind() == Kind::Share => true,
        Some("wilson") => return refuse("detect", "wilson compares shares, like ctr; use mad"),
        Some("mad") => false,
        Some(_) => return refuse("detect", "the method is auto, wilson or mad"),
    };
    let z = raw.z.unwrap_or(3.0);
    if !(0.5..=20.0).contains(&z) {
        return refuse("detect", "z is between 0.5 and 20");
    }
    let min_change = change(raw.min_change.as_deref().unwrap_or("20%")).map_err(|detail| ("detect", detail))?;
    let recover = match &recover.change {
        Some(text) => change(text).map_err(|detail| ("recover", detail))?,
        None => min_change,
    };
    let size = |change: Change| match change {
        Change::Down(by) | Change::Up(by) | Change::Either(by) => by,
    };
    if std::mem::discriminant(&recover) != std::mem::discriminant(&min_change) || size(recover) > size(min_change) {
        return refuse("recover", "the change has the sign of min_change, and is not larger");
    }
    let points_min = match against {
        Against::HourOfWeek(weeks) => raw.weeks_min.unwrap_or(3.min(weeks as usize)),
        _ => 1,
    };
    Ok((Detect::Baseline { z, min_change, recover, points_min, wilson }, against))
}

/// `-20%`, `+50%` or `30%`.
fn change(text: &str) -> Result<Change, String> {
    let refused = || format!("{text:?} is no change, like \"-20%\", \"+50%\" or \"30%\"");
    let percent: f64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(refused)?;
    let by = percent.abs() / 100.0;
    if !by.is_finite() || by == 0.0 {
        return Err(refused());
    }
    Ok(match text.as_bytes()[0] {
        b'-' => Change::Down(by),
        b'+' => Change::Up(by),
        _ => Change::Either(by),
    })
}

fn rule_test(raw: RawTest, place: String, inputs: &[String], metric: &Metric) -> Result<RuleTest, Refused> {
    let is_kpi = matches!(metric, Metric::Kpi { .. });
    let row = |table: &toml::Table, is_step: bool| {
        let mut row = Vec::new();
        for (name, value) in table {
            if is_step && name == "times" {
                continue;
            }
            let is_known = if is_kpi { inputs.contains(name) } else { name == "value" };
            let number = number(value).filter(|_| is_known).ok_or_else(|| {
                let known = if is_kpi { inputs.join(", ") } else { "value".into() };
                ("test", format!("{name:?} is no number of one of: {known}"))
            })?;
            row.push((name.clone(), number));
        }
        Ok::<_, Refused>(row)
    };
    let mut series = Vec::new();
    for step in &raw.series {
        let times = step.get("times").map_or(Some(1), toml::Value::as_integer);
        let times = times.filter(|times| (1..=10_000).contains(times));
        let times = times.ok_or_else(|| ("test", "times is between 1 and 10000".to_owned()))?;
        series.extend(vec![row(step, true)?; times as usize]);
    }
    if let Some(state) = raw.states.iter().find(|state| AlarmState::parse(state).is_none()) {
        return Err(("test", format!("{state:?} is no state: they are OK, PENDING, FIRING, NO DATA")));
    }
    if raw.states.len() != series.len() {
        let detail = format!("the series has {} steps, and there are {} states", series.len(), raw.states.len());
        return Err(("test", detail));
    }
    let every = raw.every.unwrap_or(Duration::from_secs(300)).as_micros() as i64;
    Ok(RuleTest { name: raw.name, every, baseline: row(&raw.baseline, false)?, series, states: raw.states, place })
}

/// Names that no rule has, and circles.
fn inhibitions(rules: &[Rule]) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in rules {
        for name in &rule.inhibited_by {
            if !rules.iter().any(|other| other.name == *name) {
                wrong.push(format!("rule {:?}: inhibited_by: there is no rule {name:?}", rule.name));
            }
        }
        let (mut seen, mut next) = (BTreeSet::new(), rule.inhibited_by.clone());
        while let Some(name) = next.pop() {
            if name == rule.name {
                wrong.push(format!("rule {:?}: inhibited_by: it inhibits itself", rule.name));
                break;
            }
            if seen.insert(name.clone()) {
                next.extend(
                    rules.iter().find(|other| other.name == name).into_iter().flat_map(|r| r.inhibited_by.clone()),
                );
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests;
