//! A webhook: a POST of JSON for each notice, signed.
//!
//! `X-Adlake-Signature: t=<seconds>,v1=<hex>` is the HMAC-SHA256 of `<seconds>.<body>` with the
//! secret. `Idempotency-Key` is the key of the notice, the same whenever it is sent again.

use adlake_domain::secret::{Secret, SecretUrl};
use adlake_lake::LakeError;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{SinkError, Told, name_of, parsed, sent};
use crate::alarms::engine::{Row, RowState, labels};
use crate::alarms::rule::Rule;
use crate::alarms::settings::AlarmSettings;
use crate::alarms::track::AlarmState;
use crate::answer::time_text;
use crate::state::follow::now;

/// The header of the signature.
const SIGNATURE: &str = "x-adlake-signature";

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    client: reqwest::Client,
    name: String,
    url: reqwest::Url,
    secret: Secret,
}

impl Webhook {
    /// A webhook at an address.
    pub fn new(client: reqwest::Client, url: &SecretUrl, settings: &AlarmSettings) -> Result<Webhook, LakeError> {
        let secret = settings.webhook.secret.clone().unwrap_or_default();
        let name = name_of("webhook", url.expose());
        Ok(Webhook { client, name, url: parsed(url.expose(), "alarms.webhook.urls")?, secret })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Posts the first of the notices: the position advances after each.
    pub async fn tell(&self, told: Told<'_>) -> Result<usize, SinkError> {
        let Some(row) = told.notices.first() else { return Ok(0) };
        let rule = told.rules.iter().find(|rule| rule.name == row.rule);
        let body = body(row, rule, &told.settings.external_url).to_string();
        let signature = signature(self.secret.expose(), now() / 1_000_000, &body)?;
        let request = self.client.post(self.url.clone()).header("content-type", "application/json");
        let request = request.header(SIGNATURE, signature).header("idempotency-key", row.key());
        let response = sent(request.body(body)).await?;
        if response.status().is_success() {
            return Ok(1);
        }
        Err(SinkError(format!("it answers {}", response.status())))
    }
}

/// The header of the signature of a body.
fn signature(secret: &str, seconds: i64, body: &str) -> Result<String, SinkError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|error| SinkError(error.to_string()))?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("t={seconds},v1={hex}"))
}

/// What is posted.
fn body(row: &Row, rule: Option<&Rule>, external_url: &str) -> Value {
    let status = match row.state {
        RowState::Alarm(AlarmState::Ok) => "resolved",
        RowState::Alarm(AlarmState::NoData) => "no_data",
        _ => "firing",
    };
    json!({
        "version": 1,
        "key": row.key(),
        "id": row.id,
        "status": status,
        "rule": row.rule,
        "description": rule.map(|rule| rule.description.as_str()),
        "metric": rule.map(|rule| rule.metric.name()),
        "group": labels(&row.group),
        "severity": row.severity,
        "at": time_text(row.at),
        "value": row.value,
        "expected": {"low": row.low, "high": row.high},
        "why": row.why,
        "cause": row.cause,
        "owner": rule.map(|rule| rule.owner.as_str()),
        "runbook": rule.map(|rule| rule.runbook.as_str()),
        "url": if external_url.is_empty() { Value::Null } else { external_url.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_programs() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        let found = signature("key", 1_700_000_000, "{\"a\":1}").unwrap();
        assert_eq!(found, expected);
        assert_ne!(found, signature("key", 1_700_000_000, "{\"a\":2}").unwrap());
        assert_ne!(found, signature("other", 1_700_000_000, "{\"a\":1}").unwrap());
    }
}
