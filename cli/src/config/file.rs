//! Reads `adlake.toml`. Errors name the line and the key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use serde::de::DeserializeOwned;
use toml::Table;
use toml::de::{DeTable, DeValue, Error};

use crate::config::nearest::nearest;
use crate::config::{KeyPath, dotted};
use crate::failure::usage;

/// Parses a file into a table, which must be readable as `Settings`.
pub fn parse<Settings: DeserializeOwned>(path: &Path, text: &str) -> Result<Table> {
    let wrong = |error: &Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let place = format!("{}:{line}", path.display());
        let key = error.span().and_then(|span| key_at(text, &span));
        match (unknown_key(error.message()), key) {
            (Some((name, known)), key) => {
                let table = key.filter(|key| key.last().is_some_and(|last| last == name));
                let table = table.map(|key| key[..key.len() - 1].to_vec()).unwrap_or_default();
                let full = |name: &str| dotted(&[table.as_slice(), &[name.to_owned()]].concat());
                let meant = match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean {}?", full(meant)),
                    None => format!("known keys are {}", known.join(", ")),
                };
                usage(format!("{place}: unknown key {}; {meant}", full(name)))
            }
            (None, Some(key)) => usage(format!("{place}: {}: {}", dotted(&key), error.message())),
            (None, None) => usage(format!("{place}: {}", error.message())),
        }
    };
    toml::from_str::<Settings>(text).map_err(|error| wrong(&error))?;
    toml::from_str::<Table>(text).map_err(|error| wrong(&error))
}

/// The line of every key that has a value.
pub fn lines(text: &str) -> BTreeMap<KeyPath, usize> {
    let mut lines = BTreeMap::new();
    visit(text, &mut |path, key, _, is_table| {
        if !is_table {
            lines.insert(path.to_vec(), line_of(text, key.start));
        }
    });
    lines
}

/// Finds the unknown name and the known names in serde's error message.
pub fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (name, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((name, known))
}

/// The innermost key whose name or value contains the place of an error.
fn key_at(text: &str, place: &Range<usize>) -> Option<KeyPath> {
    let mut found: Option<KeyPath> = None;
    visit(text, &mut |path, key, value, _| {
        let within = |span: &Range<usize>| span.start <= place.start && place.end <= span.end;
        let deeper = found.as_ref().is_none_or(|other| other.len() <= path.len());
        if deeper && (within(key) || within(value)) {
            found = Some(path.to_vec());
        }
    });
    found
}

/// The callback of [`visit`].
type See<'a> = dyn FnMut(&[String], &Range<usize>, &Range<usize>, bool) + 'a;

/// Calls `see` for every key, with its path, the places of its name and its value, and whether the
/// value is a table that has keys.
fn visit(text: &str, see: &mut See<'_>) {
    if let Ok(document) = DeTable::parse(text) {
        visit_table(document.get_ref(), &mut Vec::new(), see);
    }
}

fn visit_table(table: &DeTable<'_>, path: &mut KeyPath, see: &mut See<'_>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let inner = match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => Some(inner),
            _ => None,
        };
        see(path, &key.span(), &value.span(), inner.is_some());
        if let Some(inner) = inner {
            visit_table(inner, path, see);
        }
        path.pop();
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_keys() {
        let lines = lines("# x\n[a]\nb = 1\nc.d = [\n 1,\n]\n[e.f]\ng = \"x\"\n");
        let expected = [(vec!["a", "b"], 3), (vec!["a", "c", "d"], 4), (vec!["e", "f", "g"], 8)];
        let expected: BTreeMap<KeyPath, usize> =
            expected.into_iter().map(|(path, line)| (path.into_iter().map(String::from).collect(), line)).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn messages_of_serde_are_understood() {
        let message = "unknown field `url`, expected `uri` or `options`";
        assert_eq!(unknown_key(message), Some(("url", vec!["uri", "options"])));
        assert_eq!(unknown_key("unknown field `x`, expected one of `a`, `b`, `c`"), Some(("x", vec!["a", "b", "c"])));
        assert_eq!(unknown_key("invalid type: integer"), None);
    }
}
