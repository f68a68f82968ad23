//! The `[alarms]` section.

use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::secret::{Secret, SecretUrl};
use adlake_lake::LakeError;
use serde::{Deserialize, Serialize};

/// The `[alarms]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmSettings {
    /// Whether `adlake serve` evaluates the rules.
    pub enabled: bool,
    /// A file of rules, or a folder of such files. Empty: only the built-in rules.
    pub rules: PathBuf,
    /// Whether the built-in rules are used.
    pub defaults: bool,
    /// How often the rules are evaluated.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long another server waits before it takes over from one that does not renew its lease.
    #[serde(with = "humantime_serde")]
    pub lease_time: Duration,
    /// How often what fires is sent again to the sinks that ask for it.
    #[serde(with = "humantime_serde")]
    pub resend_interval: Duration,
    /// The longest pause between two tries of a sink that fails.
    #[serde(with = "humantime_serde")]
    pub retry_pause_max: Duration,
    /// How far back the history of alarms is shown.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
    /// The address of the dashboard in what is sent. Empty: none.
    pub external_url: String,
    /// Webhooks.
    pub webhook: WebhookSettings,
    /// Alertmanagers.
    pub alertmanager: AlertmanagerSettings,
    /// CloudWatch.
    pub cloudwatch: CloudwatchSettings,
}

/// The `[alarms.webhook]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where each notice is posted to.
    pub urls: Vec<SecretUrl>,
    /// The key of the signature.
    pub secret: Option<Secret>,
}

/// The `[alarms.alertmanager]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerSettings {
    /// The addresses of all members of the cluster.
    pub urls: Vec<SecretUrl>,
}

/// The `[alarms.cloudwatch]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudwatchSettings {
    /// Whether metrics are published.
    pub enabled: bool,
    /// The namespace of the metrics.
    pub namespace: String,
    /// What the names of the alarms of CloudWatch begin with.
    pub prefix: String,
    /// The topics that those alarms notify.
    pub actions: Vec<String>,
    /// Whether there are composite alarms: of rules that others inhibit, and of all critical ones.
    pub composites: bool,
    /// The topics that the composite alarm of all critical rules notifies.
    pub critical_actions: Vec<String>,
    /// How many groups have a metric of their own. 0: none.
    pub metrics_max: usize,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        AlarmSettings {
            enabled: true,
            rules: PathBuf::new(),
            defaults: true,
            interval: Duration::from_secs(15),
            lease_time: Duration::from_secs(30),
            resend_interval: Duration::from_secs(60),
            retry_pause_max: Duration::from_secs(300),
            history: Duration::from_secs(120 * 24 * 60 * 60),
            external_url: String::new(),
            webhook: WebhookSettings::default(),
            alertmanager: AlertmanagerSettings::default(),
            cloudwatch: CloudwatchSettings::default(),
        }
    }
}

impl Default for CloudwatchSettings {
    fn default() -> Self {
        CloudwatchSettings {
            enabled: false,
            namespace: "adlake".into(),
            prefix: "adlake-".into(),
            actions: Vec::new(),
            composites: true,
            critical_actions: Vec::new(),
            metrics_max: 0,
        }
    }
}

impl AlarmSettings {
    /// Refuses impossible settings. The error names the key.
    pub fn check(&self) -> Result<(), LakeError> {
        let wrong = |key: &str, message: &str| Err(LakeError::Configuration(format!("alarms.{key}: {message}")));
        if self.interval < Duration::from_millis(100) {
            return wrong("interval", "must be at least 100ms");
        }
        if self.lease_time < Duration::from_secs(1) {
            return wrong("lease_time", "must be at least 1s");
        }
        if self.resend_interval < Duration::from_millis(100) {
            return wrong("resend_interval", "must be at least 100ms");
        }
        if self.retry_pause_max < Duration::from_millis(100) {
            return wrong("retry_pause_max", "must be at least 100ms");
        }
        if self.history < Duration::from_secs(3600) {
            return wrong("history", "must be at least 1h");
        }
        if !self.webhook.urls.is_empty() && self.webhook.secret.is_none() {
            return wrong("webhook.secret", "is needed to sign what is posted to alarms.webhook.urls");
        }
        if self.cloudwatch.prefix.is_empty() {
            return wrong("cloudwatch.prefix", "must not be empty, as alarms without it are left alone");
        }
        // As a tag's value, and between quotes in the expressions of composite alarms.
        let is_taken = |c: char| c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c);
        if !self.cloudwatch.prefix.chars().all(is_taken) {
            return wrong(
                "cloudwatch.prefix",
                "must have only letters and digits of ASCII, spaces, and _ . : / = + - @",
            );
        }
        if !self.cloudwatch.critical_actions.is_empty() && !self.cloudwatch.composites {
            return wrong(
                "cloudwatch.critical_actions",
                "needs alarms.cloudwatch.composites, whose alarm notifies them",
            );
        }
        Ok(())
    }
}
