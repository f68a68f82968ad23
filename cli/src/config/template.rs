//! The text of `config init`: every key with its default and one line of documentation.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::config::keys::{self, Key};
use crate::config::{KeyPath, Settings, dotted};

const HEAD: &str = "\
# adlake's configuration: every key, with its default.
# The environment overrides this file: ADLAKE_LAKE__URI overrides lake.uri. `adlake config check` checks this file.
# `adlake config show` shows every value in force and where it comes from.
";
/// An array whose text is longer is written with one element a line.
const LINE_MAX: usize = 100;

/// The text.
pub fn text() -> Result<String> {
    let mut text = HEAD.to_owned();
    let defaults = defaults()?;
    section(&mut text, &defaults, &mut Vec::new());
    Ok(text)
}

/// The defaults as a tree, in the order in which the settings declare them.
pub fn defaults() -> Result<Map<String, Value>> {
    match serde_json::to_value(Settings::default()).context("cannot write the defaults")? {
        Value::Object(tree) => Ok(tree),
        other => anyhow::bail!("the settings are not sections: {other}"),
    }
}

/// Whether a value is a section with keys of its own. Tables that accept any key have none by
/// default.
pub fn is_section(value: &Value) -> bool {
    value.as_object().is_some_and(|inner| !inner.is_empty())
}

fn section(text: &mut String, table: &Map<String, Value>, path: &mut KeyPath) {
    if !path.is_empty() {
        text.push('\n');
        comment(text, keys::find(path));
        text.push_str(&format!("[{}]\n", dotted(path)));
    }
    // A key that follows the header of a table would belong to that table, so tables come last.
    for (name, value) in table.iter().filter(|(_, value)| !value.is_object()) {
        path.push(name.clone());
        let key = keys::find(path);
        comment(text, key);
        match (value, key.and_then(|key| key.example)) {
            (Value::Null, Some(example)) => text.push_str(&format!("# {name} = {example}\n")),
            (Value::Null, None) => {}
            (value, _) => text.push_str(&format!("{name} = {}\n", toml(value))),
        }
        path.pop();
    }
    for (name, value) in table {
        let Value::Object(inner) = value else { continue };
        path.push(name.clone());
        section(text, inner, path);
        if let (true, Some(example)) = (inner.is_empty(), keys::find(path).and_then(|key| key.example)) {
            text.push_str(&format!("# {example}\n"));
        }
        path.pop();
    }
}

fn comment(text: &mut String, key: Option<&Key>) {
    if let Some(key) = key {
        text.push_str(&format!("# {}\n", key.doc));
    }
}

/// A value as it is written in TOML.
pub fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(toml).collect();
            let line = format!("[{}]", elements.join(", "));
            if line.len() <= LINE_MAX {
                return line;
            }
            elements.iter().fold(String::from("[\n"), |text, element| text + "  " + element + ",\n") + "]"
        }
        Value::Object(table) => {
            let pairs: Vec<String> = table.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn paths(table: &Map<String, Value>, path: &mut KeyPath, found: &mut Vec<KeyPath>) {
        for (name, value) in table {
            path.push(name.clone());
            found.push(path.clone());
            if let Value::Object(inner) = value {
                paths(inner, path, found);
            }
            path.pop();
        }
    }

    fn every_path() -> Vec<KeyPath> {
        let mut found = Vec::new();
        paths(&defaults().unwrap(), &mut Vec::new(), &mut found);
        found
    }

    #[test]
    fn the_template_is_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adlake.toml");
        std::fs::write(&path, text().unwrap()).unwrap();
        let config = config::load(Some(&path), [], None).unwrap();
        assert_eq!(config.settings, Settings::default());
    }

    #[test]
    fn every_key_has_its_line_and_every_line_its_key() {
        let paths = every_path();
        for path in &paths {
            assert!(keys::find(path).is_some(), "{} has no line in keys.rs", dotted(path));
        }
        for key in keys::all() {
            assert!(paths.iter().any(|path| keys::matches(key, path)), "{} is no key", key.path);
        }
    }

    #[test]
    fn every_key_is_in_the_template() {
        let text = text().unwrap();
        let lines = config::file::lines(&text);
        for path in every_path() {
            let name = path.last().unwrap();
            let there = lines.keys().any(|key| key.starts_with(&path)) || text.contains(&format!("\n# {name} = "));
            let free_table = text.contains(&format!("\n[{}]\n", dotted(&path)));
            assert!(there || free_table, "{}", dotted(&path));
        }
    }

    #[test]
    fn examples_are_accepted() {
        let text = text().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut tried = 0;
        for (place, line) in lines.iter().enumerate() {
            let is_example = line.starts_with("# ")
                && line.contains(" = ")
                && keys::all().any(|key| key.example.is_some_and(|example| line.ends_with(example)));
            if is_example {
                let mut changed = lines.clone();
                changed[place] = &line[2..];
                let changed = changed.join("\n");
                let parsed = toml::from_str::<Settings>(&changed);
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
                assert_ne!(parsed.unwrap(), Settings::default(), "{line}");
                tried += 1;
            }
        }
        assert!(tried > 10, "{tried}");
    }
}
