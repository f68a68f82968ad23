//! CloudWatch: metrics of what fires, and the alarms on them (`sync`).
//!
//! A metric and an alarm for each campaign would cost hundreds of dollars a month, so the rules are
//! evaluated here, and few metrics are published: for each rule how many groups fire, and how wrong
//! the worst of them is; and a heartbeat, whose absence is an alarm. Metrics of single groups are
//! published only if `metrics_max` allows some.

pub mod sync;
mod wanted;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};

use super::{REQUEST_TIMEOUT, SinkError, Told};
use crate::alarms::engine::Alarm;
use crate::alarms::rule::Rule;
use crate::alarms::settings::CloudwatchSettings;
use crate::alarms::track::AlarmState;

/// The most metrics of one request.
const METRICS_MAX: usize = 1_000;

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
    SinkError(adlake_lake::error::chain(error))
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
