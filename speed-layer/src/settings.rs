//! The speed layer's part of the configuration: the sections `[account]`, `[kafka]`, `[files]`, `[ingest]` `[sources.*]`.
//!
//! Plain values, as written. Unknown keys are refused; what depends on several keys is checked by [`SpeedSettings::check`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use serde::{Deserialize, Serialize};

use crate::error::SpeedError;

/// All that the speed layer is configured by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeedSettings {
    /// The account that money is counted in.
    pub account: AccountSettings,
    /// The broker.
    pub kafka: KafkaSettings,
    /// Watching folders and prefixes.
    pub files: FilesSettings,
    /// Flushing, limits, shutdown.
    pub ingest: IngestSettings,
    /// What the records of each kind look like.
    pub sources: Sources,
    /// What events mean. Here it matters which ids count as absent, and the calendar's zone.
    pub meaning: Meaning,
}

/// `[account]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// The currency of the account, ISO 4217: all amounts are converted to it.
    pub currency: String,
}

impl Default for AccountSettings {
    fn default() -> Self {
        AccountSettings { currency: "USD".to_owned() }
    }
}

/// Where a partition that the lake has never seen is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstStart {
    /// At the broker's first offset.
    Earliest,
    /// At the broker's end: only what comes from now on.
    Latest,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// Brokers to ask first, `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer group. It shares out the partitions; positions come from the lake alone.
    pub group: String,
    /// The name of the cluster in the lake's transactions. By default the id that the cluster gives itself.
    pub cluster: Option<String>,
    /// Where a partition that the lake has never seen is begun.
    pub first_start: FirstStart,
    /// Memory for records fetched ahead, over all partitions.
    pub fetch_bytes_max: usize,
    /// How long a broker that does not answer is waited for at the start.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Any other property of librdkafka, as `[kafka.properties]` (`security.protocol`, `sasl.username`, ...).
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            brokers: "localhost:9092".to_owned(),
            group: "adlake".to_owned(),
            cluster: None,
            first_start: FirstStart::Earliest,
            fetch_bytes_max: 32 << 20,
            start_timeout: Duration::from_secs(30),
            properties: BTreeMap::new(),
        }
    }
}

/// `[files]`: how folders and prefixes are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesSettings {
    /// A local file is read once its length and its time of change have stayed the same for so long.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
    /// How often new files are looked for.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How often everything is looked through, for what the polls do not see.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
}

impl Default for FilesSettings {
    fn default() -> Self {
        FilesSettings {
            settle: Duration::from_secs(2),
            poll_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(5 * 60),
        }
    }
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// A table is committed once it has so many new rows ...
    pub flush_rows: usize,
    /// ... or holds so many bytes of them in memory ...
    pub flush_bytes: usize,
    /// ... or its oldest new row is so old.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// Memory for records read and not yet decoded, over all tables.
    pub queue_bytes_max: usize,
    /// A record longer than this is a dead letter that keeps its first bytes.
    pub record_bytes_max: usize,
    /// An event further ahead of the clock than this is a dead letter.
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// After SIGTERM: how long draining and committing may take.
    #[serde(with = "humantime_serde")]
    pub shutdown_deadline: Duration,
    /// How long a partition that goes to another consumer is held to commit what was read of it.
    #[serde(with = "humantime_serde")]
    pub revoke_deadline: Duration,
    /// The longest pause between attempts while the store is out.
    #[serde(with = "humantime_serde")]
    pub retry_pause_max: Duration,
    /// Parquet's zstd level.
    pub compression_level: i32,
    /// Where `/metrics` and `/healthz` are served, `host:port`; empty: nowhere.
    pub metrics_listen: String,
}

impl Default for IngestSettings {
    fn default() -> Self {
        IngestSettings {
            flush_rows: 1_000_000,
            flush_bytes: 64 << 20,
            flush_interval: Duration::from_secs(1),
            queue_bytes_max: 32 << 20,
            record_bytes_max: 16 << 20,
            future_max: Duration::from_secs(24 * 60 * 60),
            shutdown_deadline: Duration::from_secs(30),
            revoke_deadline: Duration::from_secs(10),
            retry_pause_max: Duration::from_secs(30),
            compression_level: 1,
            metrics_listen: String::new(),
        }
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a record.
    Json,
    /// One row a record.
    Csv,
    /// One datum a record.
    Avro,
}

/// What stands around an Avro datum in a Kafka record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AvroFraming {
    /// Told by the first bytes: 0 and a schema id (Confluent), C3 01 and a fingerprint (single object), else none.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// A zero byte and a four-byte schema id.
    Confluent,
    /// Avro's single-object encoding.
    SingleObject,
}

/// `[sources.<kind>.csv]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvSettings {
    /// One ASCII character.
    pub delimiter: char,
    /// The names of the columns, in order, where the data does not tell them. By default the fields of the schema, in its order.
    pub columns: Option<Vec<String>>,
    /// Whether files begin with a line of names. By default it is told from the first line.
    pub header: Option<bool>,
}

impl Default for CsvSettings {
    fn default() -> Self {
        CsvSettings { delimiter: ',', columns: None, header: None }
    }
}

/// `[sources.<kind>.avro]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AvroSettings {
    /// What stands around a datum in a Kafka record.
    pub framing: AvroFraming,
    /// The writer's schema as JSON text. By default adlake's own.
    pub schema: Option<String>,
    /// A file with the writer's schema.
    pub schema_file: Option<PathBuf>,
}

/// `[sources.<kind>]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// The Kafka topic; empty: none is read for this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// How the topic's records are written; files tell it by their extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The zone of times that name none (IANA name). By default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// For a field of the schema: the names and paths it is looked for under, first found first.
    pub fields: BTreeMap<String, Vec<String>>,
    /// For a field that the source never sends: a constant, or `record_time`, `file_time`, `ingest_time`.
    pub defaults: BTreeMap<String, String>,
    /// How its CSV is written.
    pub csv: CsvSettings,
    /// How its Avro is written.
    pub avro: AvroSettings,
}

/// `[sources]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Impressions: JSON by default.
    pub impressions: SourceSettings,
    /// Clicks and conversions: CSV by default.
    pub interactions: SourceSettings,
    /// Bid requests: Avro by default.
    pub bid_requests: SourceSettings,
}

impl Default for Sources {
    fn default() -> Self {
        let empty = Sources {
            impressions: SourceSettings::default(),
            interactions: SourceSettings::default(),
            bid_requests: SourceSettings::default(),
        };
        empty.resolved()
    }
}

impl Sources {
    /// The settings of a kind.
    pub fn of(&self, kind: EventKind) -> &SourceSettings {
        match kind {
            EventKind::Impression => &self.impressions,
            EventKind::Interaction => &self.interactions,
            EventKind::BidRequest => &self.bid_requests,
        }
    }

    /// The same with every default that depends on the kind filled in.
    pub fn resolved(&self) -> Sources {
        let resolve = |kind| {
            let settings = self.of(kind);
            SourceSettings {
                topic: Some(settings.topic(kind).to_owned()),
                format: Some(settings.format(kind)),
                time_zone: Some(settings.time_zone().to_owned()),
                ..settings.clone()
            }
        };
        Sources {
            impressions: resolve(EventKind::Impression),
            interactions: resolve(EventKind::Interaction),
            bid_requests: resolve(EventKind::BidRequest),
        }
    }
}

impl SourceSettings {
    /// The topic in force; empty: none.
    pub fn topic(&self, kind: EventKind) -> &str {
        self.topic.as_deref().unwrap_or(kind.default_topic())
    }

    /// The format in force.
    pub fn format(&self, kind: EventKind) -> Format {
        self.format.unwrap_or(match kind {
            EventKind::Impression => Format::Json,
            EventKind::Interaction => Format::Csv,
            EventKind::BidRequest => Format::Avro,
        })
    }

    /// The zone in force.
    pub fn time_zone(&self) -> &str {
        self.time_zone.as_deref().unwrap_or("UTC")
    }
}

impl SpeedSettings {
    /// Refuses values that cannot work, naming the key.
    pub fn check(&self) -> Result<(), SpeedError> {
        let ingest = &self.ingest;
        let positive: [(&str, u128); 10] = [
            ("ingest.flush_rows", ingest.flush_rows as u128),
            ("ingest.flush_bytes", ingest.flush_bytes as u128),
            ("ingest.flush_interval", ingest.flush_interval.as_millis()),
            ("ingest.queue_bytes_max", ingest.queue_bytes_max as u128),
            ("ingest.record_bytes_max", ingest.record_bytes_max as u128),
            ("ingest.shutdown_deadline", ingest.shutdown_deadline.as_millis()),
            ("ingest.retry_pause_max", ingest.retry_pause_max.as_millis()),
            ("files.poll_interval", self.files.poll_interval.as_millis()),
            ("files.sweep_interval", self.files.sweep_interval.as_millis()),
            ("kafka.fetch_bytes_max", self.kafka.fetch_bytes_max as u128),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(SpeedError::settings(key, "must be more than nothing"));
            }
        }
        if ingest.record_bytes_max > 1 << 30 {
            return Err(SpeedError::settings("ingest.record_bytes_max", "must be at most 1 GiB"));
        }
        if !(1..=22).contains(&ingest.compression_level) {
            return Err(SpeedError::settings("ingest.compression_level", "zstd has the levels 1 to 22"));
        }
        if self.kafka.group.is_empty() {
            return Err(SpeedError::settings("kafka.group", "must not be empty"));
        }
        for kind in EventKind::ALL {
            let source = self.sources.of(kind);
            let topic = source.topic(kind);
            let taken =
                EventKind::ALL.iter().any(|other| *other != kind && self.sources.of(*other).topic(*other) == topic);
            if taken && !topic.is_empty() {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.topic"),
                    format!("{topic} is the topic of two kinds of event"),
                ));
            }
            if !source.csv.delimiter.is_ascii() || matches!(source.csv.delimiter, '"' | '\n' | '\r') {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.csv.delimiter"),
                    "must be one ASCII character, and neither a quote nor a line end",
                ));
            }
            if source.avro.schema.is_some() && source.avro.schema_file.is_some() {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.avro.schema"),
                    "give either schema or schema_file",
                ));
            }
        }
        self.kafka.check_properties()
    }
}

/// Properties of librdkafka that exactly-once ingest depends on: they are set by adlake alone.
const OWN_PROPERTIES: [&str; 6] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
];

impl KafkaSettings {
    fn check_properties(&self) -> Result<(), SpeedError> {
        for key in self.properties.keys() {
            if OWN_PROPERTIES.contains(&key.as_str()) {
                return Err(SpeedError::settings(
                    format!("kafka.properties.{key}"),
                    "is set by adlake, whose exactly-once ingest depends on it",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_complete() {
        let settings = SpeedSettings::default();
        settings.check().unwrap();
        assert_eq!(settings.sources.resolved(), settings.sources);
        assert_eq!(settings.sources.bid_requests.format, Some(Format::Avro));
        assert_eq!(settings.sources.interactions.topic.as_deref(), Some("clicks-conversions"));
    }

    #[test]
    fn refuses_what_cannot_work() {
        let check = |change: fn(&mut SpeedSettings), key: &str| {
            let mut settings = SpeedSettings::default();
            change(&mut settings);
            match settings.check() {
                Err(SpeedError::Settings { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{key}: {other:?}"),
            }
        };
        check(|s| s.ingest.flush_rows = 0, "ingest.flush_rows");
        check(|s| s.ingest.compression_level = 23, "ingest.compression_level");
        check(|s| s.sources.impressions.csv.delimiter = '"', "sources.impressions.csv.delimiter");
        check(|s| s.sources.impressions.topic = Some("bid-requests".to_owned()), "sources.impressions.topic");
        check(
            |s| {
                s.kafka.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
            },
            "kafka.properties.enable.auto.commit",
        );
    }
}
