//! CloudWatch: metrics of what fires, and the alarms on them.
//!
//! A metric and an alarm for each campaign would cost hundreds of dollars a month, so the rules are
//! evaluated here, and few metrics are published: for each rule how many groups fire, and how wrong
//! the worst of them is; and a heartbeat, whose absence is an alarm. Metrics of single groups are
//! published only if `metrics_max` allows some.
//!
//! `PutMetricAlarm` overwrites whatever has the name. So [`sync`] changes only alarms whose name
//! begins with the prefix *and* that have our tag.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    ComparisonOperator, Dimension, MetricAlarm, MetricDatum, StandardUnit, Statistic, Tag,
};
use serde::Serialize;

use super::{REQUEST_TIMEOUT, SinkError, Told};
use crate::alarms::engine::Alarm;
use crate::alarms::rule::Rule;
use crate::alarms::settings::CloudwatchSettings;
use crate::alarms::track::AlarmState;

/// The most metrics of one request.
const METRICS_MAX: usize = 1_000;
/// The tag of the alarms that are ours.
const TAG: (&str, &str) = ("managed-by", "adlake-alarms");
/// Dollars a month of one metric, and of one alarm, in most regions.
const PRICES: (f64, f64) = (0.30, 0.10);

/// CloudWatch.
#[derive(Debug)]
pub struct Cloudwatch {
    settings: CloudwatchSettings,
    client: Option<Client>,
}

impl Cloudwatch {
    /// The one that the environment names: region, credentials, endpoint.
    pub fn new(settings: &CloudwatchSettings) -> Cloudwatch {
        Cloudwatch { settings: settings.clone(), client: None }
    }

    /// Publishes the metrics of this moment.
    pub async fn tell(&mut self, told: Told<'_>) -> Result<usize, SinkError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(client().await).clone(),
        };
        let at = DateTime::from_secs(crate::state::follow::now() / 1_000_000);
        for batch in metrics(told.rules, told.alarms, &self.settings, at).chunks(METRICS_MAX) {
            let put =
                client.put_metric_data().namespace(&self.settings.namespace).set_metric_data(Some(batch.to_vec()));
            put.send().await.map_err(|error| problem(&error))?;
        }
        Ok(told.notices.len())
    }
}

async fn client() -> Client {
    let timeouts = aws_config::timeout::TimeoutConfig::builder().operation_timeout(REQUEST_TIMEOUT).build();
    let loader = aws_config::defaults(aws_config::BehaviorVersion::latest()).timeout_config(timeouts);
    Client::new(&loader.load().await)
}

fn problem(error: &(dyn std::error::Error + 'static)) -> SinkError {
    SinkError(crate::state::follow::chain(error))
}

fn dimension(name: &str, value: &str) -> Dimension {
    // 1 to 1024 ASCII characters, as CloudWatch has it.
    let is_taken = |c: &char| c.is_ascii() && !c.is_ascii_control();
    let value: String = value.chars().map(|c| if is_taken(&c) { c } else { '?' }).take(1024).collect();
    let value = if value.trim().is_empty() { "?".to_owned() } else { value };
    Dimension::builder().name(name).value(value).build()
}

fn datum(name: &str, dimensions: Vec<Dimension>, value: f64, at: DateTime) -> MetricDatum {
    // CloudWatch refuses what is no number, and what is too large for it.
    let value = if value.is_finite() { value.clamp(-1e100, 1e100) } else { 0.0 };
    let datum = MetricDatum::builder().metric_name(name).set_dimensions(Some(dimensions)).value(value);
    datum.unit(StandardUnit::None).timestamp(at).build()
}

fn metrics(rules: &[Rule], alarms: &[Alarm], settings: &CloudwatchSettings, at: DateTime) -> Vec<MetricDatum> {
    let mut metrics = vec![datum("Heartbeat", Vec::new(), 1.0, at)];
    for rule in rules {
        let firing: Vec<&Alarm> =
            alarms.iter().filter(|alarm| alarm.rule == rule.name && alarm.state.is_alarm() && alarm.is_told).collect();
        let worst = firing.iter().map(|alarm| alarm.badness).filter(|badness| badness.is_finite()).fold(0.0, f64::max);
        metrics.push(datum("Firing", rule_dimensions(rule), firing.len() as f64, at));
        metrics.push(datum("Worst", rule_dimensions(rule), worst, at));
    }
    let valued = alarms.iter().filter(|alarm| alarm.state == AlarmState::Firing);
    for alarm in valued.take(settings.metrics_max) {
        let Some(value) = alarm.value.filter(|value| value.is_finite()) else { continue };
        let mut dimensions = vec![dimension("rule", &alarm.rule)];
        dimensions.extend(alarm.group.iter().map(|(name, value)| dimension(name, value)));
        metrics.push(datum("Value", dimensions, value, at));
    }
    metrics
}

fn rule_dimensions(rule: &Rule) -> Vec<Dimension> {
    vec![dimension("rule", &rule.name), dimension("severity", rule.severity.name())]
}

/// An alarm of CloudWatch as it should be.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    name: String,
    description: String,
    metric: &'static str,
    dimensions: Vec<(String, String)>,
    comparison: ComparisonOperator,
    periods: i32,
    missing: &'static str,
}

/// What [`sync`] does, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SyncReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Alarms that are new.
    pub created: Vec<String>,
    /// Alarms that were different.
    pub updated: Vec<String>,
    /// Alarms of rules that are no more.
    pub removed: Vec<String>,
    /// Alarms that are as they should be.
    pub unchanged: Vec<String>,
    /// Alarms with the prefix that are not ours.
    pub foreign: Vec<String>,
    /// What the metrics and the alarms cost, in dollars a month, at the list price of most regions.
    pub dollars_a_month: f64,
}

fn wanted(rules: &[Rule], settings: &CloudwatchSettings) -> Vec<Wanted> {
    let mut all = vec![Wanted {
        name: format!("{}heartbeat", settings.prefix),
        description: "adlake does not evaluate its alarms".into(),
        metric: "Heartbeat",
        dimensions: Vec::new(),
        comparison: ComparisonOperator::LessThanThreshold,
        periods: 5,
        missing: "breaching",
    }];
    all.extend(rules.iter().map(|rule| {
        Wanted {
            name: format!("{}{}", settings.prefix, rule.name),
            description: format!("{} Runbook: {}", rule.description, rule.runbook),
            metric: "Firing",
            dimensions: rule_dimensions(rule)
                .iter()
                .map(|dimension| {
                    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                    (text(dimension.name()), text(dimension.value()))
                })
                .collect(),
            comparison: ComparisonOperator::GreaterThanOrEqualToThreshold,
            periods: 1,
            missing: "notBreaching",
        }
    }));
    all
}

impl Wanted {
    fn is(&self, found: &MetricAlarm, settings: &CloudwatchSettings) -> bool {
        let dimensions: Vec<(String, String)> = found
            .dimensions()
            .iter()
            .map(|d| (d.name().unwrap_or_default().to_owned(), d.value().unwrap_or_default().to_owned()))
            .collect();
        found.alarm_description() == Some(&self.description)
            && found.namespace() == Some(&settings.namespace)
            && found.metric_name() == Some(self.metric)
            && dimensions == self.dimensions
            && found.comparison_operator() == Some(&self.comparison)
            && found.evaluation_periods() == Some(self.periods)
            && found.threshold() == Some(1.0)
            && found.period() == Some(60)
            && found.statistic() == Some(&Statistic::Maximum)
            && found.treat_missing_data() == Some(self.missing)
            && found.alarm_actions() == settings.actions
    }

    async fn put(&self, client: &Client, settings: &CloudwatchSettings) -> Result<(), SinkError> {
        let dimensions = self.dimensions.iter().map(|(name, value)| dimension(name, value)).collect();
        let put = client
            .put_metric_alarm()
            .alarm_name(&self.name)
            .alarm_description(&self.description)
            .namespace(&settings.namespace)
            .metric_name(self.metric)
            .set_dimensions(Some(dimensions))
            .statistic(Statistic::Maximum)
            .period(60)
            .evaluation_periods(self.periods)
            .threshold(1.0)
            .comparison_operator(self.comparison.clone())
            .treat_missing_data(self.missing)
            .set_alarm_actions(Some(settings.actions.clone()))
            .set_ok_actions(Some(settings.actions.clone()))
            .tags(Tag::builder().key(TAG.0).value(TAG.1).build());
        put.send().await.map(|_| ()).map_err(|error| problem(&error))
    }
}

/// Makes the alarms of CloudWatch those of the rules. Those of others are left alone; if one has
/// the name of ours, nothing is changed at all.
pub async fn sync(rules: &[Rule], settings: &CloudwatchSettings, dry_run: bool) -> Result<SyncReport, SinkError> {
    let client = client().await;
    let wanted = wanted(rules, settings);
    let mut report = SyncReport { dry_run, ..SyncReport::default() };
    let metrics = wanted.len() + rules.len() + settings.metrics_max;
    report.dollars_a_month = metrics as f64 * PRICES.0 + wanted.len() as f64 * PRICES.1;
    let mut ours: BTreeMap<String, MetricAlarm> = BTreeMap::new();
    for (alarm, is_ours) in existing(&client, &settings.prefix).await? {
        let name = alarm.alarm_name().unwrap_or_default().to_owned();
        if is_ours {
            ours.insert(name, alarm);
        } else {
            report.foreign.push(name);
        }
    }
    if let Some(taken) = wanted.iter().find(|wanted| report.foreign.contains(&wanted.name)) {
        let detail = format!(
            "there is an alarm {:?} that does not have the tag {}={}: rename it, or change alarms.cloudwatch.prefix; \
             nothing was changed",
            taken.name, TAG.0, TAG.1
        );
        return Err(SinkError(detail));
    }
    for alarm in &wanted {
        let list = match ours.remove(&alarm.name) {
            None => &mut report.created,
            Some(found) if !alarm.is(&found, settings) => &mut report.updated,
            Some(_) => {
                report.unchanged.push(alarm.name.clone());
                continue;
            }
        };
        list.push(alarm.name.clone());
        if !dry_run {
            alarm.put(&client, settings).await?;
        }
    }
    report.removed = ours.into_keys().collect();
    for names in report.removed.chunks(100) {
        if !dry_run {
            let delete = client.delete_alarms().set_alarm_names(Some(names.to_vec()));
            delete.send().await.map_err(|error| problem(&error))?;
        }
    }
    Ok(report)
}

/// The alarms with a prefix, and whether each is ours.
async fn existing(client: &Client, prefix: &str) -> Result<Vec<(MetricAlarm, bool)>, SinkError> {
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let page = client.describe_alarms().alarm_name_prefix(prefix).set_next_token(next.take());
        let page = page.send().await.map_err(|error| problem(&error))?;
        for alarm in page.metric_alarms() {
            let tags = client.list_tags_for_resource().resource_arn(alarm.alarm_arn().unwrap_or_default());
            let tags = tags.send().await.map_err(|error| problem(&error))?;
            let is_ours = tags.tags().iter().any(|tag| (tag.key(), tag.value()) == (Some(TAG.0), Some(TAG.1)));
            found.push((alarm.clone(), is_ours));
        }
        next = page.next_token().map(String::from);
        if next.is_none() {
            return Ok(found);
        }
    }
}
