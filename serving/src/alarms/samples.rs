//! From the live state to samples: the windows of a rule, and the sums in them.
//!
//! Events are counted by hours of the report zone, so a window is made of whole hours. For ratios,
//! and for sums that may only not be too large, the running hour is part of the window as soon as
//! it has the least volume; else the window is the last one that is over. So a ratio is judged
//! every few seconds, and a count is never compared while it still grows.
//!
//! The windows of earlier weeks begin at the same time of the local clock, also where the zone
//! changed its offset in between. A window is left out of the baseline where it overlaps a trouble
//! of the same group, or where it has less than half of the least volume.

mod windows;
mod operational;
mod series;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use adlake_domain::time;
use adlake_lake::LakeError;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Int64Type};
use chrono_tz::Tz;

pub use self::operational::{Facts, TableFact, facts};
pub use self::series::Point;
pub use self::windows::{Windows, windows};
use super::detect::{Sample, Sums, median};
use super::engine::{Engine, Observation};
use super::rule::metric::{Kpi, Metric};
use super::rule::{Against, Rule};
use crate::access::Scope;
use crate::answer::{AnswerError, Asked, Value, answer};
use crate::metrics::Catalogues;
use crate::question::{Condition, Dimension, Filter, Grain, Question, Range};
use crate::state::State;
use crate::state::groups::Coded;
use crate::state::names::Names;

/// The events of the group with these labels that a rule looks at.
pub fn of_group(rule: &Rule, labels: &BTreeMap<String, String>) -> Filter {
    let own = Dimension::ALL.into_iter().filter_map(|dimension| {
        let value = labels.get(dimension.name())?;
        Some(Condition::In(dimension, vec![Some(value.clone())]))
    });
    let events = Condition::All(std::iter::once(rule.filter.events.clone()).chain(own).collect());
    Filter { events, rows: Vec::new() }
}

/// Pacing is not judged before this share of a campaign's time is over.
const ELAPSED_MIN: f64 = 0.05;

/// What samples are made from.
#[derive(Debug, Clone, Copy)]
pub struct Sampler<'a> {
    /// The state.
    pub state: &'a State,
    /// The names of all states.
    pub names: &'a Names,
    /// The metrics.
    pub catalogues: &'a Catalogues,
    /// The moment that is judged.
    pub now: i64,
    /// Whether the running hour may be looked at.
    pub has_running: bool,
}

/// The time and the budget of a campaign of the reference data.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    from: Option<i64>,
    to: Option<i64>,
    budget: Option<f64>,
}

/// The sums of the groups of a window, in the order of the rule's inputs.
pub type Groups = HashMap<Arc<str>, Vec<f64>>;

impl Sampler<'_> {
    /// The groups of a rule.
    pub async fn observe(
        &self,
        rule: &Rule,
        place: usize,
        engine: &Engine,
        facts: &Facts,
    ) -> Result<Vec<Observation>, AnswerError> {
        match &rule.metric {
            Metric::Kpi { kpi, .. } => self.observe_kpi(rule, kpi, place, engine).await,
            Metric::Pacing => self.observe_pacing(rule).await,
            Metric::Operational(operational) => {
                operational::observe(*operational, rule, self, facts).await.map_err(AnswerError::Lake)
            }
        }
    }

    async fn observe_kpi(
        &self,
        rule: &Rule,
        kpi: &Kpi,
        place: usize,
        engine: &Engine,
    ) -> Result<Vec<Observation>, AnswerError> {
        let zone = self.state.report_zone();
        let windows = windows(rule, self.now, zone);
        let complete = self.window(rule, windows.complete, zone).await?;
        let running = match windows.running.filter(|_| self.has_running) {
            Some(range) => Some(self.window(rule, range, zone).await?),
            None => None,
        };
        let plans = if rule.times.no_data.is_some() { self.plans() } else { HashMap::new() };
        let mut groups: Vec<&Arc<str>> = complete.current.keys().collect();
        for window in [Some(&complete), running.as_ref()].into_iter().flatten() {
            groups.extend(window.current.keys());
            groups.extend(window.baseline.iter().flat_map(|(_, groups)| groups.keys()));
        }
        groups.sort_unstable();
        groups.dedup();
        let is_enough = |window: &Window, group: &Arc<str>| {
            window.current.get(group).is_some_and(|numbers| has_volume(rule, kpi, numbers, 1.0))
        };
        let observe = |group: &Arc<str>| {
            let window = running.as_ref().filter(|window| is_enough(window, group)).unwrap_or(&complete);
            let incidents = engine.incidents(place, group, self.now);
            let mut sample = sample(rule, kpi, window, group, &incidents);
            sample.is_expected &= is_planned(&plans, rule, group, self.now);
            Observation { group: group.clone(), sample }
        };
        Ok(groups.into_iter().map(observe).collect())
    }

    async fn window(&self, rule: &Rule, range: (i64, i64), zone: Tz) -> Result<Window, AnswerError> {
        let current = self.sums(rule, range).await?;
        let mut baseline = Vec::new();
        let first = self.state.span(&Coded::All(Vec::new())).map_or(i64::MAX, |(first, _)| first);
        for earlier in windows::baseline(rule, range, zone) {
            // What was before the first event is not known to be 0.
            if earlier.0 >= first {
                baseline.push((earlier, self.sums(rule, earlier).await?));
            }
        }
        Ok(Window { current, baseline })
    }

    /// The sums of all groups in a range.
    async fn sums(&self, rule: &Rule, range: (i64, i64)) -> Result<Groups, AnswerError> {
        self.asked_sums(&rule.inputs, &rule.by, &rule.filter, (Some(range.0), Some(range.1))).await
    }

    /// Sums by groups. Groups of which a dimension is unknown are left out.
    pub async fn asked_sums(
        &self,
        inputs: &[String],
        by: &[Dimension],
        filter: &Filter,
        (from, to): (Option<i64>, Option<i64>),
    ) -> Result<Groups, AnswerError> {
        let rows = self.ask(inputs, by, filter, Range { from, to }, None).await?;
        let mut groups = Groups::with_capacity(rows.len());
        for row in rows {
            let (dimensions, values) = row.split_at(by.len());
            let Some(group) = group(by, dimensions) else { continue };
            groups.insert(group, values.iter().map(number).collect());
        }
        // Without dimensions there is always a row, also where there are no events.
        if by.is_empty() {
            groups.retain(|_, numbers| numbers.iter().any(|number| *number != 0.0));
        }
        Ok(groups)
    }

    /// Rows of the time (if there is a grain), the dimensions and the sums.
    async fn ask(
        &self,
        inputs: &[String],
        by: &[Dimension],
        filter: &Filter,
        range: Range,
        grain: Option<Grain>,
    ) -> Result<Vec<Vec<Value>>, AnswerError> {
        let catalogue = self.catalogues.of(None);
        let question = Question {
            model: self.catalogues.default_model(),
            metrics: inputs.iter().filter_map(|name| catalogue.find(name)).collect(),
            dimensions: by.to_vec(),
            filter: filter.clone(),
            range,
            grain,
            zone: self.state.report_zone(),
            fill: false,
            compare: None,
            order: Vec::new(),
            limit: usize::MAX,
            totals: false,
        };
        let (state, names, catalogues, scope) = (self.state, self.names, self.catalogues, &Scope::All);
        // Who operates the server has written the rules.
        let bytes_max = usize::MAX;
        Ok(answer(Asked { state, names, catalogues, scope, bytes_max }, &question, 0).await?.rows)
    }

    async fn observe_pacing(&self, rule: &Rule) -> Result<Vec<Observation>, AnswerError> {
        let inputs = ["spend", "impressions"].map(String::from);
        // A replay does not know what came later.
        let to = (!self.has_running).then(|| time::hour_start(self.now, self.state.report_zone()));
        let spent = self.asked_sums(&inputs, &rule.by, &rule.filter, (None, to)).await?;
        let plans = self.plans();
        let mut observations = Vec::new();
        for (group, numbers) in spent {
            let Some(Plan { from: Some(from), to: Some(to), budget: Some(budget) }) =
                campaign(&group).and_then(|campaign| plans.get(&campaign).copied())
            else {
                continue;
            };
            let elapsed = ((self.now - from) as f64 / (to - from).max(1) as f64).min(1.0);
            if elapsed <= 0.0 || budget <= 0.0 {
                continue;
            }
            let current = Sums { numerator: numbers[0], denominator: Some(budget * elapsed), volume: numbers[1] };
            let sample = Sample { current: Some(current), is_enough: elapsed >= ELAPSED_MIN, ..Sample::default() };
            observations.push(Observation { group, sample });
        }
        Ok(observations)
    }

    fn plans(&self) -> HashMap<String, Plan> {
        let zone = self.state.report_zone();
        let mut plans = HashMap::new();
        for batch in &self.state.campaigns {
            let texts = batch.column_by_name("campaign_id").and_then(|column| column.as_string_opt::<i32>());
            let budgets = batch.column_by_name("budget_micros").and_then(|c| c.as_primitive_opt::<Int64Type>());
            let date = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Date32Type>());
            let (starts, ends) = (date("start_date"), date("end_date"));
            let Some(texts) = texts else { continue };
            for row in 0..batch.num_rows() {
                let day = |column: Option<&arrow::array::PrimitiveArray<Date32Type>>, add: i32| {
                    let column = column.filter(|column| column.is_valid(row))?;
                    Some(time::first_day_of(column.value(row) + add, zone))
                };
                let budget = budgets.filter(|column| column.is_valid(row)).map(|column| column.value(row) as f64 / 1e6);
                let plan = Plan { from: day(starts, 0), to: day(ends, 1), budget };
                plans.insert(texts.value(row).to_owned(), plan);
            }
        }
        plans
    }
}

/// What is in a window, and in the windows that it is compared with.
struct Window {
    current: Groups,
    baseline: Vec<((i64, i64), Groups)>,
}

/// Whether the volume of a window reaches a share of the least one.
pub fn has_volume(rule: &Rule, kpi: &Kpi, numbers: &[f64], share: f64) -> bool {
    let is_some = match (&rule.min_volume[..], &kpi.denominator) {
        ([], Some(_)) => kpi.sums(&rule.inputs, numbers).denominator.is_some_and(|denominator| denominator != 0.0),
        _ => true,
    };
    is_some && rule.min_volume.iter().all(|(place, least)| numbers.get(*place).is_some_and(|n| *n >= least * share))
}

/// Whether there is any of what the volume counts.
fn has_any(rule: &Rule, kpi: &Kpi, numbers: &[f64]) -> bool {
    match &rule.min_volume[..] {
        [] => kpi.denominator.is_none() || kpi.sums(&rule.inputs, numbers).volume > 0.0,
        least => least.iter().any(|(place, _)| numbers.get(*place).is_some_and(|number| *number > 0.0)),
    }
}

fn sample(rule: &Rule, kpi: &Kpi, window: &Window, group: &Arc<str>, incidents: &[(i64, i64)]) -> Sample {
    let numbers = window.current.get(group).filter(|numbers| has_any(rule, kpi, numbers));
    let earlier: Vec<Option<&Vec<f64>>> = window.baseline.iter().map(|(_, groups)| groups.get(group)).collect();
    let is_trouble = |range: &(i64, i64)| incidents.iter().any(|(from, to)| range.0 < *to && *from < range.1);
    let baseline = window.baseline.iter().zip(&earlier).filter_map(|((range, _), numbers)| {
        let numbers = numbers.filter(|numbers| has_volume(rule, kpi, numbers, 0.5))?;
        (!is_trouble(range)).then(|| kpi.sums(&rule.inputs, numbers))
    });
    // Data is expected where at least half of the weeks have enough.
    let enough = |numbers: &Option<&Vec<f64>>| {
        let is_enough = numbers.is_some_and(|n| has_any(rule, kpi, n) && has_volume(rule, kpi, n, 1.0));
        f64::from(u8::from(is_enough))
    };
    let weeks: Vec<f64> = earlier.iter().map(enough).collect();
    Sample {
        current: numbers.map(|numbers| kpi.sums(&rule.inputs, numbers)),
        baseline: if rule.against == Against::Nothing { Vec::new() } else { baseline.collect() },
        is_enough: numbers.is_some_and(|numbers| has_volume(rule, kpi, numbers, 1.0)),
        is_expected: rule.times.no_data.is_some() && median(&weeks) > 0.5,
    }
}

/// The sample of a group whose sums are known without a state. `sums` gives those of a range, in
/// the order of the rule's inputs, and nothing where there are no events.
pub fn known_sample(
    rule: &Rule,
    kpi: &Kpi,
    group: &Arc<str>,
    incidents: &[(i64, i64)],
    now: i64,
    zone: Tz,
    sums: impl Fn((i64, i64)) -> Option<Vec<f64>>,
) -> Sample {
    let groups = |range| sums(range).map(|numbers| (group.clone(), numbers)).into_iter().collect::<Groups>();
    let range = windows(rule, now, zone).complete;
    let baseline = windows::baseline(rule, range, zone).into_iter().map(|earlier| (earlier, groups(earlier))).collect();
    sample(rule, kpi, &Window { current: groups(range), baseline }, group, incidents)
}

/// The sample of a test: sums by the names of metrics. The baseline is the same every week.
pub fn test_sample(rule: &Rule, kpi: &Kpi, current: &[(String, f64)], baseline: &[(String, f64)]) -> Sample {
    let numbers = |row: &[(String, f64)]| {
        let of = |name: &String| row.iter().find(|(other, _)| other == name).map_or(0.0, |(_, number)| *number);
        rule.inputs.iter().map(of).collect::<Vec<f64>>()
    };
    let group: Arc<str> = "{}".into();
    let groups = |row: &[(String, f64)]| match row.is_empty() {
        true => Groups::new(),
        false => Groups::from([(group.clone(), numbers(row))]),
    };
    let weeks = match rule.against {
        Against::HourOfWeek(weeks) => weeks,
        Against::Previous => 1,
        Against::Nothing => windows::EXPECTED_WEEKS,
    };
    let window = Window {
        current: groups(current),
        baseline: (0..weeks).map(|week| ((i64::from(week), i64::from(week) + 1), groups(baseline))).collect(),
    };
    sample(rule, kpi, &window, &group, &[])
}

/// Whether a campaign runs, as far as the reference data tell.
fn is_planned(plans: &HashMap<String, Plan>, rule: &Rule, group: &str, now: i64) -> bool {
    if plans.is_empty() || !rule.by.contains(&Dimension::Campaign) {
        return true;
    }
    let Some(plan) = campaign(group).and_then(|campaign| plans.get(&campaign).copied()) else { return true };
    plan.from.is_none_or(|from| from <= now) && plan.to.is_none_or(|to| now < to)
}

/// The campaign of a group.
pub fn campaign(group: &str) -> Option<String> {
    super::engine::labels(group).remove(Dimension::Campaign.name())
}

/// The labels of a group: a JSON object in the order of the dimensions.
fn group(by: &[Dimension], values: &[Value]) -> Option<Arc<str>> {
    let mut text = String::from("{");
    for (dimension, value) in by.iter().zip(values) {
        let Value::Text(value) = value else { return None };
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&format!("\"{}\":{}", dimension.name(), serde_json::Value::from(&**value)));
    }
    text.push('}');
    Some(text.into())
}

/// A value as a number.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::Integer(value) => *value as f64,
        Value::Decimal(value, scale) => *value as f64 / 10_f64.powi((*scale).into()),
        Value::Number(value) => *value,
        _ => 0.0,
    }
}

/// An error of the lake, for those that have nothing else.
pub fn lake_error(error: AnswerError) -> LakeError {
    match error {
        AnswerError::Lake(error) => error,
        AnswerError::Invalid(invalid) => LakeError::Configuration(invalid.detail),
    }
}
