//! What is in force, and where each value comes from. Secrets are masked.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::template::{is_section, toml};
use crate::config::{Config, KeyPath, dotted};

const MASK: &str = "***";
/// A key whose name contains one of these is a secret.
const SECRETS: [&str; 8] = ["secret", "password", "token", "credential", "passphrase", "private", "jaas", "access_key"];

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
    let tree = serde_json::to_value(&config.settings).context("cannot write the settings down")?;
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
            value => lines.push(Line {
                key: dotted(path),
                value: masked(name, value),
                source: config.origin(path).to_string(),
            }),
        }
        path.pop();
    }
}

fn masked(name: &str, value: &Value) -> Value {
    let name = name.to_ascii_lowercase();
    let is_secret = SECRETS.iter().any(|secret| name.contains(secret)) || name.ends_with(".key.pem");
    match value {
        // A command's arguments may contain secrets too.
        Value::Array(values) if is_secret && !values.is_empty() => MASK.into(),
        Value::String(text) if !text.is_empty() => {
            if is_secret {
                return MASK.into();
            }
            // scheme://user:password@host
            match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
                Some((scheme, (user, rest))) if user.contains(':') && !user.contains('/') => {
                    format!("{scheme}://{MASK}@{rest}").into()
                }
                _ => value.clone(),
            }
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_and_masks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let file = "[lake.options]\nAWS_SECRET_ACCESS_KEY = \"hush\"\nAWS_REGION = \"x\"\n\
                    [kafka]\noauth_token_command = [\"token\", \"hush\"]\n\
                    [kafka.properties]\n\"sasl.password\" = \"hush\"\n";
        std::fs::write(&path, file).unwrap();
        let variables = [("ADLAKE_KAFKA__BROKERS".to_string(), "k:9092".to_string())];
        let lines = lines(&crate::config::load(Some(&path), variables, Some("s3://u:hush@b/p")).unwrap()).unwrap();
        let of = |key: &str| lines.iter().find(|line| line.key == key).unwrap_or_else(|| panic!("{key}: {lines:?}"));
        let check = |key: &str, value: &str, source: &str| {
            assert_eq!(of(key).value, value, "{key}");
            assert!(of(key).source.ends_with(source), "{key}: {}", of(key).source);
        };
        check("lake.uri", "s3://***@b/p", "--lake");
        check("lake.options.AWS_SECRET_ACCESS_KEY", MASK, "c.toml:2");
        check("lake.options.AWS_REGION", "x", "c.toml:3");
        check("kafka.properties.\"sasl.password\"", MASK, "c.toml:7");
        check("kafka.oauth_token_command", MASK, "c.toml:5");
        check("kafka.brokers", "k:9092", "ADLAKE_KAFKA__BROKERS");
        check("kafka.group", "adlake", "default");
        let text = text(&lines);
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("# kafka.cluster is not set"), "{text}");
        assert!(text.contains("ingest.flush_interval = \"1s\""), "{text}");
    }
}
