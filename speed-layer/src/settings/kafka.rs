//! `[kafka]`: the broker, where reading begins, and further properties of librdkafka.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use adlake_domain::secret::{PublicNames, SecretList, SecretOptions};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::SpeedError;

/// Where to begin with a partition that the lake has never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// At the broker's first offset.
    Earliest,
    /// At the broker's end offset, so that only new records are read.
    Latest,
    /// At the first record with this time or a later one. The time is the one that the record
    /// carries.
    At(DateTime<Utc>),
}

impl FromStr for FirstStart {
    type Err = String;

    fn from_str(text: &str) -> Result<FirstStart, String> {
        match text {
            "earliest" => Ok(FirstStart::Earliest),
            "latest" => Ok(FirstStart::Latest),
            time => match DateTime::parse_from_rfc3339(time) {
                Ok(time) => Ok(FirstStart::At(time.with_timezone(&Utc))),
                Err(_) => Err(format!("must be earliest, latest or a time like 2026-11-21T10:00:00Z, not {text:?}")),
            },
        }
    }
}

impl fmt::Display for FirstStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirstStart::Earliest => f.write_str("earliest"),
            FirstStart::Latest => f.write_str("latest"),
            FirstStart::At(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }
}

impl Serialize for FirstStart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FirstStart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FirstStart, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// How the client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaAuth {
    /// As librdkafka's properties say.
    #[default]
    Properties,
    /// With the AWS credentials of the process, to Amazon MSK.
    MskIam,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// The brokers to connect to first, as `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer group. It assigns the partitions. Positions come from the lake alone.
    pub group: String,
    /// The name of the cluster in the lake's transactions. The default is the cluster's own id.
    pub cluster: Option<String>,
    /// Where to begin with a partition that the lake has never seen.
    pub first_start: FirstStart,
    /// The memory, in bytes, for records fetched ahead, over all partitions.
    pub fetch_bytes_max: usize,
    /// How long to wait at the start for a broker that does not answer.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// How often the topics are checked for new partitions, and for topics that were deleted or
    /// recreated.
    #[serde(with = "humantime_serde")]
    pub metadata_interval: Duration,
    /// How long a partition with records left may deliver nothing before it is assigned again.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How the client logs in.
    pub auth: KafkaAuth,
    /// For `auth = "msk_iam"`: the region of the cluster. The default is the region that the AWS
    /// SDK finds.
    pub region: Option<String>,
    /// For `sasl.mechanisms = "OAUTHBEARER"`: a program that prints a token, and its arguments,
    /// which may hold a password.
    pub oauth_token_command: SecretList,
    /// By topic and partition: the offset at which to begin with a partition that the lake has
    /// never seen, instead of `first_start`.
    pub first_offsets: BTreeMap<String, BTreeMap<String, i64>>,
    /// Any other property of librdkafka, as `[kafka.properties]` (`security.protocol`,
    /// `sasl.username`, ...).
    pub properties: KafkaProperties,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            brokers: "localhost:9092".to_owned(),
            group: "adlake".to_owned(),
            cluster: None,
            first_start: FirstStart::Earliest,
            fetch_bytes_max: 16 << 20,
            start_timeout: Duration::from_secs(30),
            metadata_interval: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            auth: KafkaAuth::Properties,
            region: None,
            oauth_token_command: SecretList::default(),
            first_offsets: BTreeMap::new(),
            properties: KafkaProperties::default(),
        }
    }
}

/// Properties of librdkafka. Passwords and keys among them are not printed.
pub type KafkaProperties = SecretOptions<KafkaPropertyNames>;

/// The properties whose values are printed. All others are taken for secrets.
#[derive(Debug)]
pub enum KafkaPropertyNames {}

impl PublicNames for KafkaPropertyNames {
    fn is_public(name: &str) -> bool {
        PUBLIC_PROPERTIES.binary_search(&name).is_ok()
    }
}

/// Properties of librdkafka that hold no secret: numbers, switches, names and paths. They are whole
/// names, because a misspelt name may begin like one of these. They are sorted.
const PUBLIC_PROPERTIES: [&str; 82] = [
    "allow.auto.create.topics",
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.metrics.push",
    "enable.partition.eof",
    "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keystore.location",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Properties of librdkafka that exactly-once ingest depends on. Only adlake sets them.
const OWN_PROPERTIES: [&str; 6] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
];

impl KafkaSettings {
    /// The configured offset at which to begin with a partition, if there is one.
    pub fn first_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.first_offsets.get(topic)?.get(&partition.to_string()).copied()
    }

    /// The configuration key of [`KafkaSettings::first_offset`].
    pub fn first_offset_key(topic: &str, partition: impl fmt::Display) -> String {
        format!("kafka.first_offsets.{topic:?}.{partition}")
    }

    /// Rejects values that cannot work. `topics` are those that are read.
    pub(super) fn check(&self, topics: &[&str]) -> Result<(), SpeedError> {
        if self.group.is_empty() {
            return Err(SpeedError::settings("kafka.group", "must not be empty"));
        }
        for (key, wait) in
            [("kafka.metadata_interval", self.metadata_interval), ("kafka.stall_timeout", self.stall_timeout)]
        {
            if !(1..=3_600_000).contains(&wait.as_millis()) {
                return Err(SpeedError::settings(key, "must be between a millisecond and an hour"));
            }
        }
        for (topic, partitions) in &self.first_offsets {
            if !topics.contains(&topic.as_str()) {
                let key = format!("kafka.first_offsets.{topic:?}");
                return Err(SpeedError::settings(key, "is not a topic of any of the sources"));
            }
            for (partition, offset) in partitions {
                // The text must be the canonical one, because lookups use it.
                let is_number = partition.parse::<i32>().is_ok_and(|n| n >= 0 && n.to_string() == *partition);
                if !is_number || *offset < 0 {
                    let message = "must map the number of a partition to an offset, as in 0 = 1200";
                    return Err(SpeedError::settings(KafkaSettings::first_offset_key(topic, partition), message));
                }
            }
        }
        self.check_auth()?;
        for key in self.properties.names() {
            if OWN_PROPERTIES.contains(&key) {
                return Err(SpeedError::settings(
                    format!("kafka.properties.{key}"),
                    "is set by adlake, because exactly-once ingest depends on it: remove it here",
                ));
            }
        }
        Ok(())
    }

    /// With IAM, nothing else may say how the client logs in.
    fn check_auth(&self) -> Result<(), SpeedError> {
        if self.auth == KafkaAuth::Properties {
            return Ok(());
        }
        if !self.oauth_token_command.as_slice().is_empty() {
            let message = "makes the tokens itself: remove kafka.oauth_token_command";
            return Err(SpeedError::settings("kafka.auth", message));
        }
        if let Some(key) = self.properties.names().find(|key| key.starts_with("sasl.")) {
            let message = "is of another way to log in than kafka.auth: remove one of them";
            return Err(SpeedError::settings(format!("kafka.properties.{key}"), message));
        }
        match self.properties.expose_one("security.protocol") {
            None => Ok(()),
            Some(protocol) if protocol.eq_ignore_ascii_case("sasl_ssl") => Ok(()),
            Some(_) => {
                let message = "must be SASL_SSL with kafka.auth = \"msk_iam\", or be left out";
                Err(SpeedError::settings("kafka.properties.security.protocol", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn first_starts_are_words_or_times() {
        for (text, expected) in [
            ("earliest", Some("earliest")),
            ("latest", Some("latest")),
            ("2026-11-21T10:00:00Z", Some("2026-11-21T10:00:00Z")),
            ("2026-11-21T12:00:00.250+02:00", Some("2026-11-21T10:00:00.250Z")),
            ("Latest", None),
            ("", None),
            ("2026-11-21", None),
            ("yesterday", None),
        ] {
            let parsed = text.parse::<FirstStart>();
            assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{text}: {parsed:?}");
        }
        assert_eq!(serde_json::to_string(&FirstStart::Earliest).unwrap(), "\"earliest\"");
        assert_eq!(serde_json::from_str::<FirstStart>("\"latest\"").unwrap(), FirstStart::Latest);
        let error = serde_json::from_str::<FirstStart>("\"soon\"").unwrap_err().to_string();
        assert!(error.contains("must be earliest, latest or a time") && error.contains("\"soon\""), "{error}");
    }

    #[test]
    fn first_offsets_are_of_partitions_that_are_read() {
        let check = |topic: &str, partition: &str, offset: i64| {
            let mut settings = KafkaSettings::default();
            settings.first_offsets.entry(topic.to_owned()).or_default().insert(partition.to_owned(), offset);
            settings.check(&["a.b", ""]).map_err(|error| error.to_string())
        };
        assert_eq!(check("a.b", "0", 12), Ok(()));
        for (topic, partition, offset, key) in [
            ("b", "0", 1, "kafka.first_offsets.\"b\":"),
            ("a.b", "00", 1, "kafka.first_offsets.\"a.b\".00:"),
            ("a.b", "-1", 1, "kafka.first_offsets.\"a.b\".-1:"),
            ("a.b", "x", 1, "kafka.first_offsets.\"a.b\".x:"),
            ("a.b", "1", -2, "kafka.first_offsets.\"a.b\".1:"),
        ] {
            let error = check(topic, partition, offset).unwrap_err();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn with_iam_nothing_else_logs_in() {
        let check = |properties: &[(&str, &str)], command: &[&str], key: Option<&str>| {
            let settings = KafkaSettings {
                auth: KafkaAuth::MskIam,
                properties: properties.iter().copied().collect(),
                oauth_token_command: command.iter().copied().collect(),
                ..KafkaSettings::default()
            };
            let error = settings.check(&[]).err().map(|error| error.to_string());
            match key {
                None => assert_eq!(error, None),
                Some(key) => assert!(error.as_ref().is_some_and(|error| error.starts_with(key)), "{error:?}"),
            }
            let from_properties = KafkaSettings { auth: KafkaAuth::Properties, ..settings };
            assert!(from_properties.check(&[]).is_ok(), "{properties:?}");
        };
        check(&[], &[], None);
        check(&[("security.protocol", "sasl_ssl"), ("ssl.ca.location", "x.pem")], &[], None);
        check(&[("security.protocol", "SSL")], &[], Some("kafka.properties.security.protocol: must be SASL_SSL"));
        check(&[("sasl.mechanisms", "PLAIN")], &[], Some("kafka.properties.sasl.mechanisms: "));
        check(&[], &["print-token"], Some("kafka.auth: "));
    }

    #[test]
    fn no_secret_is_printed() {
        let properties = [
            ("sasl.password", "hush"),
            ("sasl.pasword", "hush"),
            ("ssl.key.pem", "hush"),
            ("ssl.key.password", "hush"),
            ("sasl.jaas.config", "hush"),
            ("client.secret", "hush"),
            ("sasl.oauthbearer.client.secret", "hush"),
            ("group.password", "hush"),
            ("broker.secret", "hush"),
            ("fetch.", "hush"),
            ("security.protocol", "SASL_SSL"),
            ("fetch.wait.max.ms", "200"),
        ];
        let settings = KafkaSettings {
            properties: properties.into_iter().collect(),
            oauth_token_command: ["print-token", "hush"].into_iter().collect(),
            ..KafkaSettings::default()
        };
        for text in [format!("{settings:?}"), serde_json::to_string(&settings).unwrap()] {
            assert!(!text.contains("hush") && text.contains("SASL_SSL") && text.contains("200"), "{text}");
        }
    }

    #[test]
    fn every_property_that_is_printed_is_one_of_librdkafkas() {
        assert!(PUBLIC_PROPERTIES.is_sorted());
        let is_unknown = |name: &str| {
            let error = ClientConfig::new().set(name, "?").create_native_config().err();
            error.is_some_and(|error| error.to_string().contains("No such configuration property"))
        };
        for name in PUBLIC_PROPERTIES {
            assert!(!is_unknown(name), "{name}");
        }
        assert!(is_unknown("group.password"));
    }
}
