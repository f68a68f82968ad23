//! Makes the alarms of CloudWatch those of the rules.
//!
//! `PutMetricAlarm` and `PutCompositeAlarm` overwrite whatever has the name. So only alarms are
//! changed whose name begins with the prefix *and* that have our tags.
//!
//! CloudWatch takes a composite alarm only if all that it names exist, and deletes no alarm that a
//! composite alarm names. So alarms are put in the order of [`wanted`], and removed in the other.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{AlarmType, CompositeAlarm, MetricAlarm, Statistic, Tag};
use serde::Serialize;

use super::super::SinkError;
use super::wanted::{self, Kind, Wanted};
use super::{client, dimension, problem};
use crate::alarms::rule::Rule;
use crate::alarms::settings::CloudwatchSettings;

/// The tag of the alarms that are ours.
const TAG: (&str, &str) = ("managed-by", "adlake-alarms");
/// The tag with the prefix: one prefix may begin with another.
const TAG_PREFIX: &str = "adlake-prefix";
/// The most alarms that are deleted at once.
const DELETED_MAX: usize = 100;
/// Dollars a month of a metric, a metric alarm and a composite alarm, in most regions.
const PRICES: (f64, f64, f64) = (0.30, 0.10, 0.50);

/// What [`sync`] does, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SyncReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Alarms that are new.
    pub created: Vec<String>,
    /// Alarms that were different.
    pub updated: Vec<String>,
    /// Alarms of rules that are no more, in the order in which they are removed.
    pub removed: Vec<String>,
    /// Alarms that are as they should be.
    pub unchanged: Vec<String>,
    /// Alarms with the prefix that are not ours.
    pub foreign: Vec<String>,
    /// What the metrics and the alarms cost, in dollars a month, at the list price of most regions.
    pub dollars_a_month: f64,
}

/// An alarm that is there.
#[derive(Debug, Clone)]
enum Found {
    Metric(Box<MetricAlarm>),
    Composite(Box<CompositeAlarm>),
}

impl Found {
    fn name(&self) -> &str {
        let name = match self {
            Found::Metric(alarm) => alarm.alarm_name(),
            Found::Composite(alarm) => alarm.alarm_name(),
        };
        name.unwrap_or_default()
    }

    fn arn(&self) -> &str {
        let arn = match self {
            Found::Metric(alarm) => alarm.alarm_arn(),
            Found::Composite(alarm) => alarm.alarm_arn(),
        };
        arn.unwrap_or_default()
    }
}

impl Wanted {
    fn is(&self, found: &Found, settings: &CloudwatchSettings) -> bool {
        match (&self.kind, found) {
            (Kind::Metric { metric, dimensions, comparison, periods, missing }, Found::Metric(found)) => {
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                let of = found.dimensions().iter().map(|d| (text(d.name()), text(d.value())));
                found.alarm_description() == Some(&self.description)
                    && found.namespace() == Some(&settings.namespace)
                    && found.metric_name() == Some(metric)
                    && of.eq(dimensions.iter().cloned())
                    && found.comparison_operator() == Some(comparison)
                    && found.evaluation_periods() == Some(*periods)
                    && found.threshold() == Some(1.0)
                    && found.period() == Some(60)
                    && found.statistic() == Some(&Statistic::Maximum)
                    && found.treat_missing_data() == Some(missing)
                    && found.alarm_actions() == self.actions
                    && found.ok_actions() == self.actions
            }
            (Kind::Composite(rule), Found::Composite(found)) => {
                found.alarm_description() == Some(&self.description)
                    && found.alarm_rule() == Some(rule)
                    && found.alarm_actions() == self.actions
                    && found.ok_actions() == self.actions
            }
            _ => false,
        }
    }

    async fn put(&self, client: &Client, settings: &CloudwatchSettings) -> Result<(), SinkError> {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let tags = vec![tag(TAG.0, TAG.1), tag(TAG_PREFIX, &settings.prefix)];
        match &self.kind {
            Kind::Metric { metric, dimensions, comparison, periods, missing } => {
                let dimensions = dimensions.iter().map(|(name, value)| dimension(name, value)).collect();
                let put = client
                    .put_metric_alarm()
                    .alarm_name(&self.name)
                    .alarm_description(&self.description)
                    .namespace(&settings.namespace)
                    .metric_name(*metric)
                    .set_dimensions(Some(dimensions))
                    .statistic(Statistic::Maximum)
                    .period(60)
                    .evaluation_periods(*periods)
                    .threshold(1.0)
                    .comparison_operator(comparison.clone())
                    .treat_missing_data(*missing)
                    .set_alarm_actions(Some(self.actions.clone()))
                    .set_ok_actions(Some(self.actions.clone()))
                    .set_tags(Some(tags));
                put.send().await.map(|_| ()).map_err(|error| problem(&error))
            }
            Kind::Composite(rule) => {
                let put = client
                    .put_composite_alarm()
                    .alarm_name(&self.name)
                    .alarm_description(&self.description)
                    .alarm_rule(rule)
                    .set_alarm_actions(Some(self.actions.clone()))
                    .set_ok_actions(Some(self.actions.clone()))
                    .set_tags(Some(tags));
                put.send().await.map(|_| ()).map_err(|error| problem(&error))
            }
        }
    }
}

/// Makes the alarms of CloudWatch those of the rules. Those of others are left alone; if one has
/// the name of ours, nothing is changed at all.
pub async fn sync(rules: &[Rule], settings: &CloudwatchSettings, dry_run: bool) -> Result<SyncReport, SinkError> {
    let wanted = wanted::alarms(rules, settings)?;
    let client = client().await;
    let mut report = SyncReport { dry_run, dollars_a_month: price(rules, &wanted, settings), ..SyncReport::default() };
    let mut ours: BTreeMap<String, Found> = BTreeMap::new();
    for (alarm, is_ours) in existing(&client, &settings.prefix).await? {
        let name = alarm.name().to_owned();
        if is_ours {
            ours.insert(name, alarm);
        } else {
            report.foreign.push(name);
        }
    }
    if let Some(taken) = wanted.iter().find(|wanted| report.foreign.contains(&wanted.name)) {
        let detail = format!(
            "there is an alarm {:?} that does not have the tags {}={} and {TAG_PREFIX}={}: rename it, or change \
             alarms.cloudwatch.prefix; nothing was changed",
            taken.name, TAG.0, TAG.1, settings.prefix
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
    for names in removals(ours.into_values().collect()) {
        if !dry_run {
            let delete = client.delete_alarms().set_alarm_names(Some(names.clone()));
            delete.send().await.map_err(|error| problem(&error))?;
        }
        report.removed.extend(names);
    }
    Ok(report)
}

fn price(rules: &[Rule], wanted: &[Wanted], settings: &CloudwatchSettings) -> f64 {
    let composites = wanted.iter().filter(|wanted| wanted.is_composite()).count();
    // The heartbeat, and two of each rule.
    let metrics = 1 + 2 * rules.len() + settings.metrics_max;
    metrics as f64 * PRICES.0 + (wanted.len() - composites) as f64 * PRICES.1 + composites as f64 * PRICES.2
}

/// What is deleted with one request each: composite alarms one by one, those first that no other
/// one names, and then the metric alarms.
fn removals(ours: Vec<Found>) -> Vec<Vec<String>> {
    let (mut composites, mut metrics) = (Vec::new(), Vec::new());
    for found in ours {
        match found {
            Found::Composite(alarm) => composites.push(alarm),
            Found::Metric(_) => metrics.push(found.name().to_owned()),
        }
    }
    let mut requests = Vec::new();
    while !composites.is_empty() {
        let is_free = |alarm: &CompositeAlarm| {
            let name = alarm.alarm_name().unwrap_or_default();
            !composites.iter().any(|other| wanted::children(other.alarm_rule().unwrap_or_default()).contains(name))
        };
        // A circle is not ours. CloudWatch says what it is.
        let place = composites.iter().position(|alarm| is_free(alarm)).unwrap_or(0);
        requests.push(vec![composites.remove(place).alarm_name().unwrap_or_default().to_owned()]);
    }
    requests.extend(metrics.chunks(DELETED_MAX).map(<[String]>::to_vec));
    requests
}

/// The alarms with a prefix, and whether each is ours.
async fn existing(client: &Client, prefix: &str) -> Result<Vec<(Found, bool)>, SinkError> {
    let mut found = Vec::new();
    let mut next = None;
    loop {
        // Without types, only metric alarms are described.
        let page = client
            .describe_alarms()
            .alarm_name_prefix(prefix)
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .set_next_token(next.take());
        let page = page.send().await.map_err(|error| problem(&error))?;
        let metrics = page.metric_alarms().iter().cloned().map(Box::new).map(Found::Metric);
        for alarm in metrics.chain(page.composite_alarms().iter().cloned().map(Box::new).map(Found::Composite)) {
            let tags = client.list_tags_for_resource().resource_arn(alarm.arn());
            let tags = tags.send().await.map_err(|error| problem(&error))?;
            let tag = |key: &str| tags.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
            // Those that were made before there was a tag with the prefix do not have it.
            let is_ours = tag(TAG.0) == Some(TAG.1) && tag(TAG_PREFIX).is_none_or(|own| own == prefix);
            found.push((alarm, is_ours));
        }
        next = page.next_token().map(String::from);
        if next.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composite_alarms_are_removed_one_by_one_and_before_what_they_name() {
        let composite = |name: &str, rule: &str| {
            Found::Composite(Box::new(CompositeAlarm::builder().alarm_name(name).alarm_rule(rule).build()))
        };
        let metric = |name: &str| Found::Metric(Box::new(MetricAlarm::builder().alarm_name(name).build()));
        let requests = removals(vec![
            metric("a"),
            composite("a-not-inhibited", "ALARM(\"a\") AND NOT ALARM(\"b\")"),
            composite("any-1", "ALARM(\"a-not-inhibited\") OR ALARM(\"b\")"),
            composite("any", "ALARM(\"any-1\")"),
            metric("b"),
        ]);
        assert_eq!(requests, [vec!["any"], vec!["any-1"], vec!["a-not-inhibited"], vec!["a", "b"]]);
        // A circle ends too.
        let requests = removals(vec![composite("x", "ALARM(\"y\")"), composite("y", "ALARM(\"x\")")]);
        assert_eq!(requests.len(), 2);
    }
}
