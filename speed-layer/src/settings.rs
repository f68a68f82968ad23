//! The speed layer's part of the configuration: the sections `[account]`, `[kafka]`, `[files]`, `[ingest]` `[sources.*]`.
//!
//! Plain values, as written. Unknown keys are refused; what depends on several keys is checked by [`SpeedSettings::check`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use adlake_domain::time::{TimeError, is_epoch, parse_time};
use adlake_lake::WriterSettings;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::error::SpeedError;
use crate::registry::Registry;
use crate::validate::ValidationSettings;

mod kafka;

pub use kafka::{FirstStart, KafkaSettings};

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
    /// A watched file is final once it has been left alone for so long after it was read: what its end cuts off is taken.
    #[serde(with = "humantime_serde")]
    pub final_after: Duration,
}

impl Default for FilesSettings {
    fn default() -> Self {
        FilesSettings {
            settle: Duration::from_secs(2),
            poll_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(5 * 60),
            final_after: Duration::from_secs(5 * 60),
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
    /// A number or digits are an epoch only where they give a time from here on: a date, or an RFC
    /// 3339 time.
    pub event_time_min: String,
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

/// Rows of a row group of raw files: what is encoded of one is held apart until it is full, and its memory serves for the next.
const ROW_GROUP_ROWS: usize = 128 << 10;

impl IngestSettings {
    /// How raw files are written.
    pub(crate) fn writer(&self) -> WriterSettings {
        WriterSettings {
            compression_level: self.compression_level,
            row_group_rows: ROW_GROUP_ROWS,
            ..WriterSettings::default()
        }
    }

    /// Which well-formed events are refused; an error names the key.
    pub fn validation(&self) -> Result<ValidationSettings, SpeedError> {
        let text = self.event_time_min.as_str();
        let parsed = if is_epoch(text) { Err(TimeError::NotATime) } else { parse_time(text, Tz::UTC) };
        let event_time_min = parsed.map_err(|error| {
            let message = format!("{text:?}: {error}; give a date (2000-01-01) or a time (2000-01-01T00:00:00Z)");
            SpeedError::settings("ingest.event_time_min", message)
        })?;
        Ok(ValidationSettings { future_max: self.future_max, event_time_min })
    }
}

impl Default for IngestSettings {
    fn default() -> Self {
        IngestSettings {
            flush_rows: 1_000_000,
            flush_bytes: 64 << 20,
            flush_interval: Duration::from_secs(1),
            queue_bytes_max: 16 << 20,
            record_bytes_max: 16 << 20,
            future_max: Duration::from_secs(24 * 60 * 60),
            event_time_min: "2000-01-01".to_owned(),
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
    /// Told by the first bytes: 0 and a schema id (Confluent), 03 and a schema version id (Glue), C3 01 and a fingerprint (single
    /// object), `Obj` 01 (a container), else none.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// A zero byte and a four-byte schema id.
    Confluent,
    /// 03, 00 or (packed by zlib) 05, and a sixteen-byte schema version id of the AWS Glue registry.
    Glue,
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
    /// The writer's schema of what no framing tells it for, as JSON text. By default, for bid requests, adlake's own.
    pub schema: Option<String>,
    /// A file with that schema.
    pub schema_file: Option<PathBuf>,
    /// Files with writers' schemas that single-object messages name by their fingerprints.
    pub single_object_schema_files: Vec<PathBuf>,
    /// For a schema version id of the AWS Glue registry: a file with its schema.
    pub glue_schema_files: BTreeMap<String, PathBuf>,
    /// A file with the schema to read with: its field names, aliases and defaults, by Avro's rules of resolution. By default what was
    /// written is taken as it is.
    pub reader_schema_file: Option<PathBuf>,
    /// The schema registry that knows the ids of Confluent's framing: the base address of its REST API.
    pub registry: Option<String>,
    /// Its user, for basic authentication.
    pub registry_user: Option<String>,
    /// The user's password.
    pub registry_password: Option<String>,
    /// A file with certificates (PEM) that its own is checked against, beside the system's.
    pub registry_ca_file: Option<PathBuf>,
    /// A file with a certificate of ours and its key (PEM), where the registry asks for one.
    pub registry_client_certificate_file: Option<PathBuf>,
    /// How long an answer of it is waited for. By default 10 seconds.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub registry_timeout: Option<Duration>,
}

impl AvroSettings {
    /// The time limit in force.
    pub fn registry_timeout(&self) -> Duration {
        self.registry_timeout.unwrap_or(Duration::from_secs(10))
    }
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
    /// Further forms of times, as strftime writes them, tried before the known ones.
    pub time_formats: Vec<String>,
    /// Objects and lists in a record's values may be nested so deep; what is deeper is a dead letter. By default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth_max: Option<usize>,
    /// One Kafka message (a JSON list, an Avro container) may hold so many records; one with more is a dead letter. By default 100,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_max: Option<usize>,
    /// For a field of the schema: the names and paths it is looked for under, first found first.
    pub fields: BTreeMap<String, Vec<String>>,
    /// For a field that the source never sends: a constant, or `record_time`, `file_time`, `ingest_time`.
    pub defaults: BTreeMap<String, String>,
    /// Columns that are added to the raw table: by name, the type. Filled from what is sent under the name, or under the names and
    /// paths that `fields` has for it.
    pub columns: BTreeMap<String, String>,
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
                depth_max: Some(settings.depth_max()),
                records_max: Some(settings.records_max()),
                avro: AvroSettings {
                    registry_timeout: Some(settings.avro.registry_timeout()),
                    ..settings.avro.clone()
                },
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

    /// The limit of nesting in force.
    pub fn depth_max(&self) -> usize {
        self.depth_max.unwrap_or(64)
    }

    /// The limit of records in a message in force.
    pub fn records_max(&self) -> usize {
        self.records_max.unwrap_or(100_000)
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
        ingest.validation()?;
        if !(1..=22).contains(&ingest.compression_level) {
            return Err(SpeedError::settings("ingest.compression_level", "zstd has the levels 1 to 22"));
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
            // Most readers of what is kept as JSON give up at 128.
            if !(1..=120).contains(&source.depth_max()) {
                return Err(SpeedError::settings(format!("sources.{kind}.depth_max"), "must be 1 to 120"));
            }
            if !(1..=1_000_000).contains(&source.records_max()) {
                return Err(SpeedError::settings(format!("sources.{kind}.records_max"), "must be 1 to 1,000,000"));
            }
            crate::mapping::added_columns(kind, source)?;
            crate::mapping::time_formats(kind, source)?;
            if source.avro.schema.is_some() && source.avro.schema_file.is_some() {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.avro.schema"),
                    "give either schema or schema_file",
                ));
            }
            if source.avro.registry_timeout().is_zero() {
                let key = format!("sources.{kind}.avro.registry_timeout");
                return Err(SpeedError::settings(key, "must be more than nothing"));
            }
            // An address or a certificate that cannot be used is refused here, too.
            Registry::open(kind, &source.avro)?;
        }
        let topics: Vec<&str> = EventKind::ALL.iter().map(|kind| self.sources.of(*kind).topic(*kind)).collect();
        self.kafka.check(&topics)
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
        check(|s| s.ingest.event_time_min = "20000101".to_owned(), "ingest.event_time_min");
        check(|s| s.ingest.event_time_min = "1969-12-31".to_owned(), "ingest.event_time_min");
        check(|s| s.sources.interactions.time_formats = vec!["%H".to_owned()], "sources.interactions.time_formats");
        check(|s| s.sources.impressions.csv.delimiter = '"', "sources.impressions.csv.delimiter");
        check(|s| s.sources.impressions.topic = Some("bid-requests".to_owned()), "sources.impressions.topic");
        check(|s| s.sources.impressions.depth_max = Some(121), "sources.impressions.depth_max");
        check(|s| s.sources.impressions.records_max = Some(0), "sources.impressions.records_max");
        check(
            |s| {
                s.kafka.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
            },
            "kafka.properties.enable.auto.commit",
        );
    }
}
