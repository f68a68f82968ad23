//! The configuration. A flag overrides an environment variable, a variable overrides `adlake.toml`,
//! and the file overrides the defaults.
//!
//! Every value knows its origin. An unknown key is refused at any level, and the error names the
//! nearest known key. The variable `ADLAKE_<SECTION>__<KEY>` overrides its key: two underscores
//! separate the levels, and case does not matter. Relative paths are relative to the working
//! directory.

pub mod file;
pub mod environment;
pub mod keys;
pub mod template;
pub mod show;
pub mod nearest;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use adlake_batch_layer::{BatchSettings, QualitySettings};
use adlake_domain::credit::Model;
use adlake_domain::invalid::Invalid;
use adlake_domain::segments::Segments;
use adlake_domain::settings::{Attribution, Conversions, Display, Identity, Meaning, Report, SpendSource};
use adlake_lake::StorageSettings;
use adlake_serving::alarms::settings::AlarmSettings;
use adlake_serving::{QuerySettings, ServeSettings};
use adlake_speed_layer::settings::{
    AccountSettings, FilesSettings, IngestSettings, KafkaSettings, Sources, SpeedSettings,
};
use adlake_telemetry::TelemetrySettings;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::failure::usage;

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "adlake.toml";

/// All sections.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub lake: StorageSettings,
    pub account: AccountSettings,
    pub kafka: KafkaSettings,
    pub files: FilesSettings,
    pub ingest: IngestSettings,
    pub sources: Sources,
    pub attribution: Attribution,
    pub identity: Identity,
    pub conversions: Conversions,
    pub invalid: Invalid,
    pub report: Report,
    pub spend: SpendSettings,
    pub display: DisplaySettings,
    pub segments: Segments,
    pub batch: BatchSettings,
    pub quality: QualitySettings,
    pub catalog: CatalogSettings,
    pub query: QuerySettings,
    pub serve: ServeSettings,
    pub alarms: AlarmSettings,
    pub telemetry: TelemetrySettings,
}

/// The `[catalog]` section.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogSettings {
    /// The database of AWS Glue whose tables each batch run keeps true. Empty: none.
    pub glue_database: String,
    /// What the names of the tables begin with.
    pub prefix: String,
}

/// The `[spend]` section.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpendSettings {
    /// Where spend comes from: one source, never both.
    pub source: SpendSource,
}

/// The `[display]` section.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisplaySettings {
    /// The attribution model behind columns without a suffix.
    pub default_model: Model,
}

impl Settings {
    /// What the events mean. It is stored with every batch run.
    pub fn meaning(&self) -> Meaning {
        Meaning {
            attribution: self.attribution.clone(),
            identity: self.identity.clone(),
            conversions: self.conversions.clone(),
            invalid: self.invalid.clone(),
            report: self.report.clone(),
        }
    }

    /// What is shown of the results. A change takes effect at once.
    pub fn display(&self) -> Display {
        Display {
            default_model: self.display.default_model,
            spend_source: self.spend.source,
            segments: self.segments.clone(),
        }
    }

    /// The sections of the speed layer.
    pub fn speed(&self) -> SpeedSettings {
        SpeedSettings {
            account: self.account.clone(),
            kafka: self.kafka.clone(),
            files: self.files.clone(),
            ingest: self.ingest.clone(),
            sources: self.sources.clone(),
            meaning: self.meaning(),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// The path of a key, level by level.
pub type KeyPath = Vec<String>;

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: Settings,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    origins: BTreeMap<KeyPath, Origin>,
}

/// Reads the configuration from `file`, or from [`DEFAULT_FILE`] if `file` is `None` and that file
/// exists. `variables` come from the environment; `lake` is the value of the flag.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    lake: Option<&str>,
) -> Result<Config> {
    let file = match file {
        Some(file) => Some(file.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()),
    };
    let mut table = Table::new();
    let mut origins = BTreeMap::new();
    if let Some(path) = &file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| usage(format!("cannot read the configuration {}: {error}", path.display())))?;
        table = file::parse::<Settings>(path, &text)?;
        origins
            .extend(file::lines(&text).into_iter().map(|(key, line)| (key, Origin::File { path: path.clone(), line })));
    }
    for (name, key) in environment::overlay::<Settings>(&mut table, variables)? {
        origins.retain(|other, _| !other.starts_with(&key));
        origins.insert(key, Origin::Environment(name));
    }
    if let Some(uri) = lake {
        let key = ["lake", "uri"].map(String::from).to_vec();
        environment::insert(&mut table, &key, Value::from(uri))
            .map_err(|()| usage("--lake: the configuration has a value at lake where a section [lake] belongs"))?;
        origins.insert(key, Origin::Flag("--lake"));
    }
    let mut settings: Settings = Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| usage(format!("the configuration cannot be read: {}", error.message())))?;
    settings.sources = settings.sources.resolved();
    settings.batch.segments = settings.segments.clone();
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    let taken = settings.invalid.take_files(read);
    taken.and_then(|()| settings.meaning().check()).and_then(|()| settings.segments.check()).map_err(usage)?;
    Ok(Config { settings, file, origins })
}

impl Config {
    /// The origin of a key's value: that of the key itself, or that of the table around it.
    pub fn origin(&self, key: &[String]) -> &Origin {
        (1..=key.len()).rev().find_map(|levels| self.origins.get(&key[..levels])).unwrap_or(&Origin::Default)
    }
}

/// A key path as it is written in TOML.
pub fn dotted(key: &[String]) -> String {
    let bare =
        |level: &str| !level.is_empty() && level.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let levels: Vec<String> =
        key.iter().map(|level| if bare(level) { level.clone() } else { format!("{level:?}") }).collect();
    levels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str, variables: &[(&str, &str)], lake: Option<&str>) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), variables.iter().map(|(name, value)| (name.to_string(), value.to_string())), lake)
    }

    fn refused(text: &str, variables: &[(&str, &str)], parts: &[&str]) {
        let error = from(text, variables, None).unwrap_err();
        assert_eq!(crate::failure::exit_code(&error), crate::failure::USAGE, "{error:#}");
        let line = crate::failure::line(&error);
        for part in parts {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
    }

    #[test]
    fn nothing_gives_the_defaults() {
        let config = from("", &[], None).unwrap();
        assert_eq!(config.settings, Settings::default());
        assert_eq!(*config.origin(&["lake".into(), "uri".into()]), Origin::Default);
    }

    #[test]
    fn flags_go_over_the_environment_over_the_file() {
        let file = "[lake]\nuri = \"a\"\n[ingest]\nflush_rows = 1\nflush_interval = \"2s\"\n";
        let variables = [("ADLAKE_LAKE__URI", "b"), ("ADLAKE_INGEST__FLUSH_ROWS", "77"), ("UNRELATED__X", "1")];
        let config = from(file, &variables, Some("c")).unwrap();
        let origin = |section: &str, key: &str| config.origin(&[section.into(), key.into()]).to_string();
        assert_eq!(config.settings.lake.uri, "c");
        assert_eq!(origin("lake", "uri"), "--lake");
        assert_eq!(config.settings.ingest.flush_rows, 77);
        assert_eq!(origin("ingest", "flush_rows"), "ADLAKE_INGEST__FLUSH_ROWS");
        assert_eq!(config.settings.ingest.flush_interval.as_secs(), 2);
        assert!(origin("ingest", "flush_interval").ends_with("x.toml:5"));
    }

    #[test]
    fn the_environment_says_every_type() {
        let variables = [
            ("ADLAKE_REPORT__TIME_ZONE", "Europe/Berlin"),
            ("ADLAKE_IDENTITY__NULL_VALUES", "[\"\", \"x\"]"),
            ("ADLAKE_CONVERSIONS__CLICK_TYPES", "click, tap"),
            ("ADLAKE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
            ("ADLAKE_LAKE__OPTIONS__AWS_REGION", "eu-west-1"),
            ("ADLAKE_SOURCES__INTERACTIONS__CSV__HEADER", "true"),
            ("ADLAKE_SOURCES__IMPRESSIONS__FIELDS__USER_ID", "uid"),
            ("ADLAKE_ACCOUNT__CURRENCY", "EUR"),
        ];
        let settings = from("", &variables, None).unwrap().settings;
        assert_eq!(settings.report.time_zone, chrono_tz::Europe::Berlin);
        assert_eq!(settings.identity.null_values.len(), 2);
        assert!(settings.conversions.click_types.contains("tap"));
        assert_eq!(settings.kafka.properties.expose_one("security.protocol"), Some("SSL"));
        assert_eq!(settings.lake.options.expose_one("AWS_REGION"), Some("eu-west-1"));
        assert_eq!(settings.sources.interactions.csv.header, Some(true));
        assert_eq!(settings.sources.impressions.fields["user_id"], ["uid"]);
        assert_eq!(settings.account.currency, "EUR");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        refused("[lake]\nurl = \"x\"\n", &[], &["x.toml:2", "lake.url", "lake.uri"]);
        refused("\n\n[ingst]\nflush_rows = 1\n", &[], &["x.toml:3", "ingst", "ingest"]);
        refused("[sources.impressions]\ntopics = \"x\"\n", &[], &["x.toml:2", "sources.impressions.topics", "topic"]);
        refused("[ingest]\nflush_rows = \"many\"\n", &[], &["x.toml:2", "ingest.flush_rows"]);
        refused("[ingest]\nflush_interval = \"soon\"\n", &[], &["x.toml:2", "ingest.flush_interval"]);
        refused("[lake\n", &[], &["x.toml:1"]);
        refused("", &[("ADLAKE_LAKE__URL", "x")], &["ADLAKE_LAKE__URL", "ADLAKE_LAKE__URI"]);
        refused("", &[("ADLAKE_LAKE_URI", "x")], &["ADLAKE_LAKE_URI", "ADLAKE_LAKE__URI"]);
        refused("", &[("ADLAKE_INGEST__FLUSH_ROWS", "many")], &["ADLAKE_INGEST__FLUSH_ROWS", "many"]);
        refused("", &[("ADLAKE_LAKE__URI__X", "many")], &["ADLAKE_LAKE__URI__X"]);
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_named_without_its_value() {
        let avro = "[sources.bid_requests.avro]\n";
        let unseen = |text: &str, variables: &[(&str, &str)], lake: Option<&str>, part: &str| {
            let line = crate::failure::line(&from(text, variables, lake).unwrap_err());
            assert!(line.contains(part) && !line.contains("4711") && !line.contains("hush"), "{line}");
        };
        for value in ["4711", "47.114711", "hush", "true", "[\"hush\"]", "{ hush = 4711 }", "\"hush"] {
            unseen(&format!("{avro}registry_password = {value}\n"), &[], None, "x.toml:2");
            unseen(&format!("{avro}registry = {value}\n"), &[], None, "x.toml:2");
            unseen(&format!("[kafka.properties]\n\"sasl.password\" = {value}\n"), &[], None, "x.toml:2");
            unseen(&format!("[lake.options]\nAWS_SECRET_ACCESS_KEY = {value}\n"), &[], None, "x.toml:2");
        }
        unseen("[kafka]\noauth_token_command = \"hush\"\n", &[], None, "x.toml:2: kafka.oauth_token_command");
        unseen("[kafka]\nproperties = \"hush\"\n", &[], None, "x.toml:2: kafka.properties");
        unseen("[lake]\nuri = \"s3://u:hush@b/p\"\n", &[], None, "x.toml:2: lake.uri");
        unseen("", &[], Some("s3://u:hush@b/p"), "lake.options");
        unseen(
            "",
            &[("ADLAKE_KAFKA__PROPERTIES__SASL__PASSWORD", "hush")],
            None,
            "ADLAKE_KAFKA__PROPERTIES__SASL__PASSWORD",
        );
        unseen("", &[("ADLAKE_LAKE__URI", "s3://u:hush@b/p")], None, "ADLAKE_LAKE__URI");
    }

    #[test]
    fn paths_are_written_as_in_toml() {
        let path = ["kafka", "properties", "sasl.password"].map(String::from);
        assert_eq!(dotted(&path), "kafka.properties.\"sasl.password\"");
    }
}
