//! Alertmanager, API v2: what fires is posted again and again, what is resolved is said once.
//!
//! Alertmanager forgets what is not posted again. `endsAt` is four times the interval away, so that
//! a server that is started anew, or one lost request, resolves nothing. Labels tell which alarm it
//! is, and hold no values: values change, and would make another alarm of it.

use std::collections::BTreeSet;

use adlake_domain::secret::SecretUrl;
use adlake_domain::time;
use adlake_lake::LakeError;
use serde_json::{Map, Value, json};

use super::{SinkError, Told, name_of, parsed, sent};
use crate::alarms::engine::{Alarm, Row, labels};
use crate::answer::time_text;
use crate::state::follow::now;

/// The most alarms of one request.
const BATCH: usize = 500;
/// How many intervals an alarm outlasts without being posted again.
const OUTLASTS: i64 = 4;

/// An Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    client: reqwest::Client,
    name: String,
    url: reqwest::Url,
}

impl Alertmanager {
    /// The one at an address.
    pub fn new(client: reqwest::Client, url: &SecretUrl) -> Result<Alertmanager, LakeError> {
        let text = format!("{}/api/v2/alerts", url.expose().trim_end_matches('/'));
        Ok(Alertmanager {
            client,
            name: name_of("alertmanager", url.expose()),
            url: parsed(&text, "alarms.alertmanager.urls")?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Posts what fires, and what is resolved since.
    pub async fn tell(&self, told: Told<'_>) -> Result<usize, SinkError> {
        let alerts = alerts(told, now());
        // No alarms are posted too: whether it answers is known before it is needed.
        let batches: Vec<&[Value]> = if alerts.is_empty() { vec![&[]] } else { alerts.chunks(BATCH).collect() };
        for batch in batches {
            let body = Value::from(batch.to_vec()).to_string();
            let request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
            let response = sent(request).await?;
            if !response.status().is_success() {
                return Err(SinkError(format!("it answers {}", response.status())));
            }
        }
        Ok(told.notices.len())
    }
}

fn alerts(told: Told<'_>, now: i64) -> Vec<Value> {
    let url = told.settings.external_url.as_str();
    let resend = told.settings.resend_interval.as_micros() as i64;
    let ends_at = now + OUTLASTS * resend.max(time::SECOND);
    let firing = told.alarms.iter().filter(|alarm| alarm.is_told && alarm.state.is_alarm());
    let (mut alerts, mut active) = (Vec::new(), BTreeSet::new());
    for alarm in firing {
        active.insert((alarm.rule.clone(), alarm.group.clone()));
        alerts.push(json!({
            "labels": label_set(&alarm.rule, alarm.severity.name(), &alarm.group),
            "annotations": annotations(alarm),
            "startsAt": time_text(alarm.since),
            "endsAt": time_text(ends_at),
            "generatorURL": url,
        }));
    }
    let is_over = |row: &&Row| row.is_resolved() && !active.contains(&(row.rule.clone(), labels(&row.group)));
    for row in told.notices.iter().filter(is_over) {
        // The labels are those of the alarm, whose severity may have been that of missing data.
        let rule = told.rules.iter().find(|rule| rule.name == row.rule);
        let mut severities = BTreeSet::from([row.severity.name()]);
        severities.extend(rule.iter().filter(|rule| rule.times.no_data.is_some()).map(|r| r.no_data_severity.name()));
        for severity in severities {
            alerts.push(json!({
                "labels": label_set(&row.rule, severity, &labels(&row.group)),
                "annotations": {"summary": row.why},
                "endsAt": time_text(row.at),
                "generatorURL": url,
            }));
        }
    }
    alerts
}

fn label_set(rule: &str, severity: &str, group: &std::collections::BTreeMap<String, String>) -> Value {
    let mut labels = Map::new();
    for (name, value) in group {
        labels.insert(name.clone(), value.as_str().into());
    }
    labels.insert("alertname".into(), rule.into());
    labels.insert("severity".into(), severity.into());
    labels.insert("job".into(), "adlake".into());
    Value::Object(labels)
}

fn annotations(alarm: &Alarm) -> Value {
    let mut annotations = Map::new();
    let texts = [
        ("summary", alarm.why.as_str()),
        ("description", alarm.description.as_str()),
        ("cause", alarm.cause.as_deref().unwrap_or_default()),
        ("runbook", alarm.runbook.as_str()),
        ("owner", alarm.owner.as_str()),
        ("state", alarm.state.name()),
        ("id", alarm.id.as_str()),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        annotations.insert(name.into(), text.into());
    }
    Value::Object(annotations)
}
