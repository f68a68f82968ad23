//! What is in force, and where each value comes from. A value whose type is a secret is shown as
//! `[secret]`: see [`adlake_domain::secret`].

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::template::{is_section, toml};
use crate::config::{Config, KeyPath, dotted};

/// A key in force, with its value and origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub key: String,
    pub value: Value,
    pub source: String,
}

/// Every key in force.
pub fn lines(config: &Config) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let tree = serde_json::to_value(&config.settings).context("cannot write the settings")?;
    if let Value::Object(tree) = tree {
        visit(config, &tree, &mut Vec::new(), &mut lines);
    }
    Ok(lines)
}

/// Formats the lines as `key = value  # source`.
pub fn text(lines: &[Line]) -> String {
    let written: Vec<String> = lines
        .iter()
        .map(|line| match &line.value {
            Value::Null => format!("# {} is not set", line.key),
            value => format!("{} = {}", line.key, toml(value).replace('\n', " ")),
        })
        .collect();
    let width = written.iter().map(|text| text.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    let mut text = String::new();
    for (line, written) in lines.iter().zip(written) {
        text.push_str(&format!("{written:<width$}  # {}\n", line.source));
    }
    text
}

fn visit(config: &Config, table: &Map<String, Value>, path: &mut KeyPath, lines: &mut Vec<Line>) {
    for (name, value) in table {
        path.push(name.clone());
        match value {
            Value::Object(inner) if is_section(value) => visit(config, inner, path, lines),
            value => {
                lines.push(Line { key: dotted(path), value: value.clone(), source: config.origin(path).to_string() })
            }
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_with_their_origins_and_secrets_are_masked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let file = "[lake.options]\nAWS_SECRET_ACCESS_KEY = \"hush\"\nAWS_REGION = \"x\"\nAWS_SECRT = \"hush\"\n\
                    [kafka]\noauth_token_command = [\"token\", \"hush\"]\n\
                    [kafka.properties]\n\"sasl.password\" = \"hush\"\n\"ssl.key.pem\" = \"hush\"\n\
                    \"security.protocol\" = \"SASL_SSL\"\n\
                    [sources.bid_requests.avro]\nregistry = \"https://u:hush@r:8081\"\nregistry_password = \"hush\"\n";
        std::fs::write(&path, file).unwrap();
        let variables = [("ADLAKE_KAFKA__BROKERS".to_string(), "k:9092".to_string())];
        let config = crate::config::load(Some(&path), variables, Some("s3://b/p")).unwrap();
        let lines = lines(&config).unwrap();
        let of = |key: &str| lines.iter().find(|line| line.key == key).unwrap_or_else(|| panic!("{key}: {lines:?}"));
        let check = |key: &str, value: &str, source: &str| {
            assert_eq!(of(key).value, value, "{key}");
            assert!(of(key).source.ends_with(source), "{key}: {}", of(key).source);
        };
        check("lake.uri", "s3://b/p", "--lake");
        check("lake.options.AWS_SECRET_ACCESS_KEY", "[secret]", "c.toml:2");
        check("lake.options.AWS_REGION", "x", "c.toml:3");
        check("lake.options.AWS_SECRT", "[secret]", "c.toml:4");
        check("kafka.properties.\"sasl.password\"", "[secret]", "c.toml:8");
        check("kafka.properties.\"security.protocol\"", "SASL_SSL", "c.toml:10");
        check("kafka.brokers", "k:9092", "ADLAKE_KAFKA__BROKERS");
        check("kafka.group", "adlake", "default");
        check("sources.bid_requests.avro.registry", "https://[secret]@r:8081", "c.toml:12");
        check("sources.bid_requests.avro.registry_password", "[secret]", "c.toml:13");
        assert_eq!(of("kafka.oauth_token_command").value, serde_json::json!(["[secret]", "[secret]"]));
        let text = text(&lines);
        for written in [&text, &serde_json::to_string(&lines).unwrap(), &format!("{config:?}")] {
            assert!(!written.contains("hush"), "{written}");
        }
        assert!(text.contains("# kafka.cluster is not set"), "{text}");
        assert!(text.contains("ingest.flush_interval = \"1s\""), "{text}");
    }
}
