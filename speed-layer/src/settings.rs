//! The speed layer's part of the configuration: the sections `[account]`, `[kafka]`, `[files]`,
//! `[ingest]` and `[sources.*]`.
//!
//! The values are plain, as written. Unknown keys are rejected. [`SpeedSettings::check`] checks the
//! values, also those that depend on several keys.

use std::time::Duration;

use adlake_decode::mapping::{added_columns, time_formats};
use adlake_decode::settings::ValidationSettings;
use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use adlake_domain::time::{TimeError, is_epoch, parse_time};
use adlake_lake::{Encoder, WriterSettings};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::error::SpeedError;

mod kafka;

pub use adlake_decode::settings::{AvroFraming, AvroSettings, CsvSettings, Format, SourceSettings};

pub use kafka::{FirstStart, KafkaAuth, KafkaSettings};

/// All settings of the speed layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeedSettings {
    /// The account, whose currency all amounts are in.
    pub account: AccountSettings,
    /// The Kafka broker.
    pub kafka: KafkaSettings,
    /// How folders and prefixes are watched.
    pub files: FilesSettings,
    /// Flushing, limits and shutdown.
    pub ingest: IngestSettings,
    /// The form of the records of each kind.
    pub sources: Sources,
    /// What events mean. The speed layer uses which ids count as absent, and the time zone of the
    /// calendar.
    pub meaning: Meaning,
}

/// `[account]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// The currency of the account (ISO 4217). All amounts are converted to it.
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
    /// A local file is read once its length and modification time have not changed for this long.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
    /// How often new files are looked for.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How often everything is listed anew, to find what the polls miss.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// A watched file is final once it has not changed for this long after it was read. Then a
    /// record that its end cuts off is taken as it is.
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
    /// A table is committed once it has this many new rows, ...
    pub flush_rows: usize,
    /// ... or once they take this many bytes of memory, ...
    pub flush_bytes: usize,
    /// ... or once the oldest of them is this old.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// The memory, in bytes, for records that are read and not yet decoded, over all tables.
    pub queue_bytes_max: usize,
    /// The greatest length of a record in bytes. A longer record is a dead letter that keeps its
    /// first bytes.
    pub record_bytes_max: usize,
    /// How far an event may be ahead of the clock. An event further ahead is a dead letter.
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// A number or digits are read as an epoch only if the resulting time is not before this one.
    /// It is a date or an RFC 3339 time.
    pub event_time_min: String,
    /// How long draining and committing may take after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub shutdown_deadline: Duration,
    /// How long a partition that is revoked is held while the records read from it are committed.
    #[serde(with = "humantime_serde")]
    pub revoke_deadline: Duration,
    /// The longest pause between attempts while the store does not answer.
    #[serde(with = "humantime_serde")]
    pub retry_pause_max: Duration,
    /// Parquet's zstd level.
    pub compression_level: i32,
    /// The address that serves `/metrics` and `/healthz`, as `host:port`. If empty, there is none.
    pub metrics_listen: String,
}

/// The number of rows in a row group of raw files. An encoded row group is buffered until it is
/// full. Its memory is reused for the next one.
const ROW_GROUP_ROWS: usize = 128 << 10;

impl IngestSettings {
    /// How raw files are written.
    pub(crate) fn writer(&self) -> WriterSettings {
        WriterSettings {
            compression_level: self.compression_level,
            row_group_rows: ROW_GROUP_ROWS,
            encoder: Encoder::Fast,
            ..WriterSettings::default()
        }
    }

    /// The limits of validation. Errors name the configuration key.
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

/// `[sources]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Impressions. The default format is JSON.
    pub impressions: SourceSettings,
    /// Clicks and conversions. The default format is CSV.
    pub interactions: SourceSettings,
    /// Bid requests. The default format is Avro.
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

    /// The same settings with every default that depends on the kind filled in.
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

impl SpeedSettings {
    /// Rejects values that cannot work. Errors name the configuration key.
    pub(crate) fn check(&self) -> Result<(), SpeedError> {
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
                return Err(SpeedError::settings(key, "must be greater than zero"));
            }
        }
        if ingest.record_bytes_max > 1 << 30 {
            return Err(SpeedError::settings("ingest.record_bytes_max", "must be at most 1 GiB"));
        }
        ingest.validation()?;
        if !(1..=22).contains(&ingest.compression_level) {
            return Err(SpeedError::settings("ingest.compression_level", "must be a level of zstd: 1 to 22"));
        }
        for kind in EventKind::ALL {
            let source = self.sources.of(kind);
            let topic = source.topic(kind);
            let taken =
                EventKind::ALL.iter().any(|other| *other != kind && self.sources.of(*other).topic(*other) == topic);
            if taken && !topic.is_empty() {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.topic"),
                    format!("{topic} is configured for two kinds of event: give each kind a topic of its own"),
                ));
            }
            if !source.csv.delimiter.is_ascii() || matches!(source.csv.delimiter, '"' | '\n' | '\r') {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.csv.delimiter"),
                    "must be one ASCII character, and neither a quote nor a line end",
                ));
            }
            // Most readers of stored JSON fail at a depth of 128.
            if !(1..=120).contains(&source.depth_max()) {
                return Err(SpeedError::settings(format!("sources.{kind}.depth_max"), "must be 1 to 120"));
            }
            if !(1..=1_000_000).contains(&source.records_max()) {
                return Err(SpeedError::settings(format!("sources.{kind}.records_max"), "must be 1 to 1,000,000"));
            }
            added_columns(kind, source)?;
            time_formats(kind, source)?;
            if source.avro.schema.is_some() && source.avro.schema_file.is_some() {
                return Err(SpeedError::settings(
                    format!("sources.{kind}.avro.schema"),
                    "give either schema or schema_file",
                ));
            }
            if source.avro.registry_timeout().is_zero() {
                let key = format!("sources.{kind}.avro.registry_timeout");
                return Err(SpeedError::settings(key, "must be greater than zero"));
            }
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

    #[test]
    fn no_secret_is_printed() {
        let avro = AvroSettings {
            registry: Some("https://ada:hush@registry:8081".into()),
            registry_password: Some("hush".into()),
            ..AvroSettings::default()
        };
        let settings = SpeedSettings {
            sources: Sources {
                bid_requests: SourceSettings { avro, ..SourceSettings::default() },
                ..Sources::default()
            },
            ..SpeedSettings::default()
        };
        for text in [format!("{settings:?}"), serde_json::to_string(&settings).unwrap()] {
            assert!(!text.contains("hush") && text.contains("@registry:8081"), "{text}");
        }
    }
}
