//! How a source writes its records: the section `[sources.<kind>]` of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_domain::secret::{Secret, SecretUrl};
use serde::{Deserialize, Serialize};

use crate::record::StreamFormat;

/// The format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object per record.
    Json,
    /// One row per record.
    Csv,
    /// One datum per record.
    Avro,
}

/// The framing of an Avro datum in a Kafka record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AvroFraming {
    /// Detected from the first bytes: 0 and a schema id (Confluent), 03 and a schema version id
    /// (Glue), C3 01 and a fingerprint (single object), `Obj` 01 (a container), else no framing.
    #[default]
    Auto,
    /// No framing.
    None,
    /// A zero byte and a schema id of four bytes.
    Confluent,
    /// 03, then 00 or (compressed by zlib) 05, then a schema version id of sixteen bytes in the AWS
    /// Glue registry.
    Glue,
    /// Avro's single-object encoding.
    SingleObject,
}

/// `[sources.<kind>.csv]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvSettings {
    /// The delimiter, which is one ASCII character.
    pub delimiter: char,
    /// The names of the columns, in order, where the data does not name them. The default is the
    /// fields of the schema, in its order.
    pub columns: Option<Vec<String>>,
    /// Whether files begin with a header line. By default this is detected from the first lines.
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
    /// The framing of a datum in a Kafka record.
    pub framing: AvroFraming,
    /// The writer's schema of datums whose framing does not name one, as JSON text. For bid
    /// requests the default is adlake's own schema.
    pub schema: Option<String>,
    /// A file with that schema.
    pub schema_file: Option<PathBuf>,
    /// Files with the writer's schemas of single-object messages, which name them by fingerprint.
    pub single_object_schema_files: Vec<PathBuf>,
    /// For each schema version id of the AWS Glue registry, a file with its schema.
    pub glue_schema_files: BTreeMap<String, PathBuf>,
    /// A file with the reader's schema: its field names, aliases and defaults apply by Avro's rules
    /// of resolution. By default there is none, and fields keep what was written.
    pub reader_schema_file: Option<PathBuf>,
    /// The schema registry for the ids in Confluent framing: the base address of its REST API. It
    /// may hold a user and a password.
    pub registry: Option<SecretUrl>,
    /// The registry's user, for basic authentication.
    pub registry_user: Option<String>,
    /// The registry user's password.
    pub registry_password: Option<Secret>,
    /// A file with certificates (PEM) that the registry's certificate is checked against, in
    /// addition to the system's.
    pub registry_ca_file: Option<PathBuf>,
    /// A file with a client certificate and its key (PEM), if the registry requires one.
    pub registry_client_certificate_file: Option<PathBuf>,
    /// How long to wait for an answer of the registry. The default is 10 seconds.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub registry_timeout: Option<Duration>,
}

impl AvroSettings {
    /// The timeout in effect.
    pub fn registry_timeout(&self) -> Duration {
        self.registry_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// The schema files that a plan for a stream of this format needs, each with its key in
    /// `[sources.<kind>.avro]`.
    pub fn schema_files(&self, format: &StreamFormat) -> Vec<(String, &Path)> {
        let reader = self.reader_schema_file.iter().map(|path| ("reader_schema_file".to_owned(), path));
        let written = self.schema_file.iter().filter(|_| self.schema.is_none());
        let written = written.map(|path| ("schema_file".to_owned(), path));
        let single_objects = self.single_object_schema_files.iter();
        let single_objects = single_objects.map(|path| ("single_object_schema_files".to_owned(), path));
        let versions = self.glue_schema_files.iter();
        let versions = versions.map(|(version, path)| (format!("glue_schema_files.{version}"), path));
        let files: Vec<(String, &PathBuf)> = match format {
            StreamFormat::Json | StreamFormat::Csv { .. } => Vec::new(),
            // The datums of a file are written with the schema of their container.
            StreamFormat::AvroDatum { .. } => reader.collect(),
            StreamFormat::AvroMessage => reader.chain(written).chain(single_objects).chain(versions).collect(),
        };
        files.into_iter().map(|(key, path)| (key, path.as_path())).collect()
    }
}

/// `[sources.<kind>]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// The Kafka topic. If empty, no topic is read for this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The format of the topic's records. For files the extension names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The time zone (IANA name) of times that name none. The default is UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Additional time formats, in strftime's notation. They are tried before the known ones.
    pub time_formats: Vec<String>,
    /// How deeply objects and lists in the values of a record may be nested. A record nested deeper
    /// is a dead letter. The default is 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth_max: Option<usize>,
    /// How many records one Kafka message (a JSON list, an Avro container) may hold. A message with
    /// more is a dead letter. The default is 100,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_max: Option<usize>,
    /// For a field of the schema: the names and paths that it is looked up under. The first one
    /// found wins.
    pub fields: BTreeMap<String, Vec<String>>,
    /// For a field that the source does not send: a constant, or `record_time`, `file_time`,
    /// `ingest_time`.
    pub defaults: BTreeMap<String, String>,
    /// Columns to add to the raw table: the type, by column name. A column gets the value sent
    /// under its name, or under the names and paths that `fields` lists for it.
    pub columns: BTreeMap<String, String>,
    /// How the source writes CSV.
    pub csv: CsvSettings,
    /// How the source writes Avro.
    pub avro: AvroSettings,
}

impl SourceSettings {
    /// The topic in effect. If empty, there is none.
    pub fn topic(&self, kind: EventKind) -> &str {
        self.topic.as_deref().unwrap_or(kind.default_topic())
    }

    /// The format in effect.
    pub fn format(&self, kind: EventKind) -> Format {
        self.format.unwrap_or(match kind {
            EventKind::Impression => Format::Json,
            EventKind::Interaction => Format::Csv,
            EventKind::BidRequest => Format::Avro,
        })
    }

    /// The time zone in effect.
    pub fn time_zone(&self) -> &str {
        self.time_zone.as_deref().unwrap_or("UTC")
    }

    /// The limit of nesting in effect.
    pub fn depth_max(&self) -> usize {
        self.depth_max.unwrap_or(64)
    }

    /// The limit of records per message in effect.
    pub fn records_max(&self) -> usize {
        self.records_max.unwrap_or(100_000)
    }
}

/// Limits on well-formed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationSettings {
    /// How far an event may be ahead of the time of ingest.
    pub future_max: Duration,
    /// The earliest time, in microseconds, that a number or digits are accepted as when read as an
    /// epoch.
    pub event_time_min: i64,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        // 2000-01-01.
        ValidationSettings { future_max: Duration::from_secs(24 * 60 * 60), event_time_min: 946_684_800_000_000 }
    }
}

/// The texts of the schema files that a source's configuration names, by path. This crate does no
/// I/O: whoever makes a plan reads the files before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaFiles(BTreeMap<PathBuf, String>);

impl SchemaFiles {
    /// The text of a file. `None` means that it was not read.
    pub fn text(&self, path: &Path) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

impl FromIterator<(PathBuf, String)> for SchemaFiles {
    fn from_iter<I: IntoIterator<Item = (PathBuf, String)>>(files: I) -> SchemaFiles {
        SchemaFiles(files.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_files_are_those_that_a_format_needs() {
        let every = AvroSettings {
            schema_file: Some("written".into()),
            single_object_schema_files: vec!["first".into(), "second".into()],
            glue_schema_files: BTreeMap::from([("id".to_owned(), "glue".into())]),
            reader_schema_file: Some("reader".into()),
            ..AvroSettings::default()
        };
        let check = |settings: &AvroSettings, format: &StreamFormat, expected: &[(&str, &str)]| {
            let files = settings.schema_files(format);
            let found: Vec<_> = files.iter().map(|(key, path)| (key.as_str(), path.to_str().unwrap())).collect();
            assert_eq!(found, expected, "{format:?}");
        };
        let datum = StreamFormat::AvroDatum { schema: "\"int\"".into() };
        let reader = ("reader_schema_file", "reader");
        let others = [
            ("single_object_schema_files", "first"),
            ("single_object_schema_files", "second"),
            ("glue_schema_files.id", "glue"),
        ];
        check(&every, &StreamFormat::Json, &[]);
        check(&every, &StreamFormat::CSV, &[]);
        check(&every, &datum, &[reader]);
        check(&every, &StreamFormat::AvroMessage, &[&[reader, ("schema_file", "written")], &others[..]].concat());
        // The schema itself takes precedence over a file with it.
        let with_schema = AvroSettings { schema: Some("\"int\"".to_owned()), ..every };
        check(&with_schema, &StreamFormat::AvroMessage, &[&[reader], &others[..]].concat());
        check(&AvroSettings::default(), &StreamFormat::AvroMessage, &[]);
    }
}
