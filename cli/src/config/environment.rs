//! `ADLAKE_<SECTION>__<KEY>`: values from the environment, which override the file's.
//!
//! A variable holds text, which can be read in three ways. They are tried in this order: the text
//! itself, a TOML value (`77`, `true`, `["a", "b"]`), a list separated by commas. The first reading
//! that the key accepts counts. Variables without a double underscore are not configuration
//! (`ADLAKE_CACHE`). A variable that begins like a section but has no double underscore is refused,
//! because it is probably a mistake.

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::config::KeyPath;
use crate::config::file::unknown_key;
use crate::config::nearest::nearest;
use crate::failure::usage;

const PREFIX: &str = "ADLAKE_";
const SEPARATOR: &str = "__";

/// Writes the variables' values into the table. Returns the name and the key of each variable.
pub fn overlay<Settings: DeserializeOwned + Serialize + Default>(
    table: &mut Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, KeyPath)>> {
    let sections = Table::try_from(Settings::default()).unwrap_or_default();
    let mut variables: Vec<(String, String)> = variables.into_iter().collect();
    variables.sort();
    let mut overridden = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if !rest.contains(SEPARATOR) {
            let section = sections.keys().find(|section| {
                rest.to_ascii_lowercase().strip_prefix(section.as_str()).is_some_and(|key| key.starts_with('_'))
            });
            if let Some(section) = section {
                let key = rest[section.len() + 1..].to_ascii_uppercase();
                let section = section.to_ascii_uppercase();
                return Err(usage(format!(
                    "environment variable {name}: did you mean {PREFIX}{section}{SEPARATOR}{key} (two underscores \
                     separate the levels of a key)?"
                )));
            }
            continue;
        }
        let key = key_path(rest);
        *table = with_value::<Settings>(table, &name, &key, &text)?;
        overridden.push((name, key));
    }
    Ok(overridden)
}

/// Puts a value at a key and creates the tables on the way. Fails if something other than a table
/// is in the way.
pub fn insert(table: &mut Table, key: &[String], value: Value) -> Result<(), ()> {
    match key {
        [] => Err(()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            insert(inner.as_table_mut().ok_or(())?, rest, value)
        }
    }
}

/// The key of a variable. librdkafka's keys have dots, which variable names cannot have; the keys
/// of object stores are in capitals.
fn key_path(rest: &str) -> KeyPath {
    let levels: Vec<&str> = rest.split(SEPARATOR).collect();
    let lower: KeyPath = levels.iter().map(|level| level.to_ascii_lowercase()).collect();
    let under = |first: &str, second: &str| lower.len() == 3 && lower[0] == first && lower[1] == second;
    if under("kafka", "properties") {
        vec![lower[0].clone(), lower[1].clone(), lower[2].replace('_', ".")]
    } else if under("lake", "options") {
        vec![lower[0].clone(), lower[1].clone(), levels[2].to_owned()]
    } else {
        lower
    }
}

/// The table with `text` at the key, in the first reading that the key accepts.
fn with_value<Settings: DeserializeOwned>(table: &Table, name: &str, key: &[String], text: &str) -> Result<Table> {
    let mut readings = vec![Value::from(text)];
    if let Ok(mut parsed) = toml::from_str::<Table>(&format!("value = {text}"))
        && let Some(value) = parsed.remove("value")
        && parsed.is_empty()
    {
        readings.push(value);
    }
    readings.push(Value::Array(text.split(',').map(|part| Value::from(part.trim())).collect()));
    let mut first = None;
    for reading in readings {
        let mut candidate = table.clone();
        if insert(&mut candidate, key, reading).is_err() {
            return Err(usage(format!(
                "environment variable {name}: there is no such key; adlake config init writes all of them"
            )));
        }
        match Value::Table(candidate.clone()).try_into::<Settings>() {
            Ok(_) => return Ok(candidate),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    let message = first.map(|error| error.message().to_owned()).unwrap_or_default();
    Err(match unknown_key(&message) {
        Some((unknown, known)) => {
            let variable = |known: &str| {
                let level = key.iter().position(|level| level == unknown).unwrap_or(key.len() - 1);
                let mut levels = key.to_vec();
                levels[level] = known.to_owned();
                format!("{PREFIX}{}", levels.join(SEPARATOR).to_ascii_uppercase())
            };
            let meant = match nearest(unknown, known.iter().copied()) {
                Some(meant) => format!("did you mean {}?", variable(meant)),
                None => format!("known keys are {}", known.join(", ")),
            };
            usage(format!("environment variable {name}: unknown key {unknown}; {meant}"))
        }
        // serde's message shows the value, unless the key holds a secret.
        None => usage(format!("environment variable {name}: the value does not fit: {message}")),
    })
}
