//! Columns that the configuration adds to a raw table: `[sources.<kind>.columns] name = "type"`.
//!
//! They are projections: a value in one of them is also stored where it would be stored without it,
//! in a field or in the attributes. So content hashes and identities do not depend on them.

use adlake_domain::event::EventKind;
use adlake_domain::schema::{self, AMOUNT_PRECISION, AMOUNT_SCALE};
use arrow::datatypes::{DataType, Field as Column};

use super::path::parse_path;
use super::{Field, Mapping, Origin, Path, Shape, Target, names};
use crate::error::DecodeError;
use crate::settings::SourceSettings;

/// The greatest number of added columns. It is more than anybody needs, and few enough for the
/// arrays of a row.
const COLUMNS_MAX: usize = 64;

/// The type that a name in the configuration stands for.
fn data_type(name: &str) -> Option<DataType> {
    Some(match name {
        "string" => DataType::Utf8,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "timestamp" => schema::timestamp(),
        "decimal" => DataType::Decimal128(AMOUNT_PRECISION, AMOUNT_SCALE),
        _ => return None,
    })
}

/// The columns that a source's configuration adds, ordered by name. Errors name the configuration
/// key.
pub fn added_columns(kind: EventKind, settings: &SourceSettings) -> Result<Vec<Column>, DecodeError> {
    let raw = schema::raw_schema(kind);
    if settings.columns.len() > COLUMNS_MAX {
        return Err(DecodeError::settings(
            format!("sources.{kind}.columns"),
            format!("has {} columns; {COLUMNS_MAX} is the most", settings.columns.len()),
        ));
    }
    let mut columns: Vec<Column> = Vec::new();
    for (name, type_name) in &settings.columns {
        let refused = |message: String| DecodeError::settings(format!("sources.{kind}.columns.{name}"), message);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(plain) {
            return Err(refused("a column's name is letters, digits and underscores, and no digit first".to_owned()));
        }
        let taken = raw.fields().iter().any(|field| {
            field.name().eq_ignore_ascii_case(name) || names::own(field.name()).iter().any(|own| own == name)
        });
        if taken || columns.iter().any(|other| other.name().eq_ignore_ascii_case(name)) {
            return Err(refused(format!("{kind} already have a field or column of that name: choose another")));
        }
        let Some(data_type) = data_type(type_name) else {
            let types = "string, integer, long, double, boolean, timestamp, decimal";
            return Err(refused(format!("{type_name:?} is not a type; use one of {types}")));
        };
        columns.push(Column::new(name, data_type, true));
    }
    Ok(columns)
}

/// The added columns as the decoder needs them.
pub(super) fn fields(kind: EventKind, settings: &SourceSettings) -> Result<Vec<Field>, DecodeError> {
    let columns = added_columns(kind, settings)?.into_iter();
    Ok(columns
        .map(|column| {
            let shape = Shape::of(column.data_type());
            Field {
                name: column.name().clone(),
                data_type: column.data_type().clone(),
                shape,
                required: false,
                empty_is_missing: shape != Shape::Text,
                min: i128::MIN,
                max: i128::MAX,
                by_shape: false,
                keeps_json: true,
                default: None,
            }
        })
        .collect())
}

impl Mapping {
    /// Adds the names of the added columns: those in `fields`, else the column's own name.
    pub(super) fn add_columns(&mut self, kind: EventKind, settings: &SourceSettings) -> Result<(), DecodeError> {
        let columns: Vec<String> = self.added.iter().map(|field| field.name.clone()).collect();
        for (index, column) in columns.iter().enumerate() {
            let own = vec![column.clone()];
            let names = settings.fields.get(column).unwrap_or(&own);
            for (place, name) in names.iter().enumerate() {
                let refused = |message: &str| {
                    DecodeError::settings(format!("sources.{kind}.fields.{column}"), message.to_owned())
                };
                if name.is_empty() {
                    return Err(refused("a name must not be empty"));
                }
                let rank = u16::try_from(place * 2).map_err(|_| refused("has too many names"))?;
                let target = Target { field: index as u8, rank, origin: Origin::Configured };
                self.add_path(name, Path { target, steps: Vec::new() });
                if name.contains(['.', '[']) {
                    let (root, steps) = parse_path(name).map_err(|message| refused(&message))?;
                    self.add_path(root, Path { target, steps });
                }
            }
        }
        Ok(())
    }

    fn add_path(&mut self, key: &str, path: Path) {
        if !self.exact.contains_key(key) {
            // The exact entry starts as a copy of the folded one. An empty entry would hide what
            // the folded one is used for.
            let folded = self.lookup(key).map(|index| self.entry_at(index).clone()).unwrap_or_default();
            *self.entry(key, false) = folded;
        }
        self.entry(key, false).added.push(path.clone());
        let late = Target { rank: path.target.rank + 1, ..path.target };
        self.entry(key, true).added.push(Path { target: late, ..path });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(columns: &[(&str, &str)]) -> SourceSettings {
        let owned = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
        SourceSettings { columns: columns.iter().map(owned).collect(), ..SourceSettings::default() }
    }

    #[test]
    fn every_type_can_be_had() {
        let types = ["string", "integer", "long", "double", "boolean", "timestamp", "decimal"];
        let names: Vec<String> = types.iter().map(|name| format!("a_{name}")).collect();
        let columns: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(types).collect();
        let added = added_columns(EventKind::Interaction, &settings(&columns)).unwrap();
        assert_eq!(added.len(), types.len());
        assert!(added.iter().all(Column::is_nullable));
    }

    #[test]
    fn refuses_what_cannot_be_a_column() {
        let check = |name: &str, kind: &str, part: &str| {
            let error = added_columns(EventKind::Impression, &settings(&[(name, kind)])).unwrap_err().to_string();
            assert!(error.contains(&format!("sources.impressions.columns.{name}")) && error.contains(part), "{error}");
        };
        check("a b", "string", "letters");
        check("1a", "string", "digit");
        check("tier", "text", "decimal");
        check("user_id", "string", "already");
        check("User_ID", "string", "already");
        check("timestamp", "string", "already");
        check("attributes", "string", "already");
        check("event_date", "string", "already");
    }

    #[test]
    fn fields_keep_what_they_had() {
        let mut with = settings(&[("userid", "string"), ("ad_id", "string"), ("deep", "long")]);
        with.fields.insert("deep".to_owned(), vec!["site.tier".to_owned()]);
        let plain = Mapping::new(EventKind::Impression, &SourceSettings::default()).unwrap();
        let mapping = Mapping::new(EventKind::Impression, &with).unwrap();
        for key in ["userid", "user_id", "USERID", "ad_id", "Ad ID", "site", "site.tier", "other"] {
            let direct = |mapping: &Mapping| {
                let entry = mapping.lookup(key).map(|index| mapping.entry_at(index).clone()).unwrap_or_default();
                (entry.direct, entry.paths.len())
            };
            assert_eq!(direct(&mapping), direct(&plain), "{key}");
        }
        let added = |key: &str| mapping.entry_at(mapping.lookup(key).unwrap()).added.clone();
        assert_eq!(added("USER-ID").len(), 1);
        assert_eq!(added("site")[0].steps.len(), 1);
        assert_eq!(added("site.tier")[0].steps.len(), 0);
    }
}
