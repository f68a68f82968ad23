//! Compiles the configuration of a source to a [`Mapping`].

use adlake_domain::event::EventKind;
use adlake_domain::schema;
use hashbrown::HashMap;

use super::path::parse_path;
use super::{Entry, FIELDS_MAX, Fallback, Field, Mapping, Origin, Path, Shape, Target, Times, added, fold, names};
use crate::error::DecodeError;
use crate::settings::{SourceSettings, ValidationSettings};

impl Mapping {
    /// Compiles the mapping for a source of one kind. Errors name the configuration key.
    pub fn new(kind: EventKind, settings: &SourceSettings) -> Result<Mapping, DecodeError> {
        Mapping::with_epoch_min(kind, settings, ValidationSettings::default().event_time_min)
    }

    /// As [`Mapping::new`], with the earliest time, in microseconds, that digits are accepted as.
    pub fn with_epoch_min(kind: EventKind, settings: &SourceSettings, epoch_min: i64) -> Result<Mapping, DecodeError> {
        let mut mapping = Mapping {
            fields: fields(kind),
            added: added::fields(kind, settings)?,
            entries: Vec::new(),
            exact: HashMap::new(),
            folded: HashMap::new(),
            times: Times::new(kind, settings, epoch_min)?,
            depth_max: settings.depth_max(),
        };
        if mapping.fields.len() > FIELDS_MAX {
            return Err(DecodeError::settings(format!("sources.{kind}"), "has more fields than the decoder holds"));
        }
        mapping.add_names(kind, settings)?;
        mapping.add_columns(kind, settings)?;
        for (name, text) in &settings.defaults {
            let key = || format!("sources.{kind}.defaults.{name}");
            let index = mapping.index(name).ok_or_else(|| unknown_field(key(), kind))?;
            let default = fallback(&mapping.fields[index], text, &mapping.times, &key)?;
            let field = &mut mapping.fields[index];
            (field.default, field.empty_is_missing) = (Some(default), true);
        }
        Ok(mapping)
    }

    /// Adds the configured names of all fields first, then the fields' own names, then the common
    /// aliases. The first field that gets a name keeps it. A field configured with an empty list of
    /// names is not looked up at all.
    fn add_names(&mut self, kind: EventKind, settings: &SourceSettings) -> Result<(), DecodeError> {
        let mut ranks = vec![0u16; self.fields.len()];
        // A field with an empty list is not looked up. A key with the field's name is an attribute.
        let mut unmapped = Vec::new();
        for (name, accepted) in settings.fields.iter().filter(|(name, _)| !settings.columns.contains_key(*name)) {
            let key = || format!("sources.{kind}.fields.{name}");
            let index = self.index(name).ok_or_else(|| unknown_field(key(), kind))?;
            if accepted.is_empty() {
                unmapped.push(index);
            }
            for alias in accepted {
                if let Some(other) = self.direct(alias).filter(|target| usize::from(target.field) != index) {
                    let other = &self.fields[usize::from(other.field)].name;
                    return Err(DecodeError::settings(key(), format!("{alias} is already configured for {other}")));
                }
                self.add_name(index, &mut ranks, alias, Origin::Configured)
                    .map_err(|message| DecodeError::settings(key(), message))?;
            }
        }
        let fields: Vec<String> = self.fields.iter().map(|field| field.name.clone()).collect();
        let own = fields
            .iter()
            .enumerate()
            .flat_map(|(index, field)| names::own(field).into_iter().map(move |name| (index, name, Origin::Own)));
        let common = fields.iter().enumerate().flat_map(|(index, field)| {
            names::aliases(kind, field).iter().map(move |name| (index, *name, Origin::Common))
        });
        // A name that another field already has stays with that field.
        for (index, name, origin) in own.chain(common).filter(|(index, ..)| !unmapped.contains(index)) {
            self.add_name(index, &mut ranks, name, origin).map_err(|message| {
                DecodeError::settings(format!("sources.{kind}.fields"), format!("{name}: {message}"))
            })?;
        }
        Ok(())
    }

    fn add_name(&mut self, index: usize, ranks: &mut [u16], name: &str, origin: Origin) -> Result<(), String> {
        if name.is_empty() {
            return Err("a name must not be empty".to_owned());
        }
        // Even ranks are for exact names, odd ranks for folded ones.
        let rank = ranks[index];
        ranks[index] = rank.checked_add(2).ok_or("has too many names")?;
        let target = Target { field: index as u8, rank, origin };
        let late = Target { rank: rank + 1, ..target };
        self.entry(name, false).direct.get_or_insert(target);
        self.entry(name, true).direct.get_or_insert(late);
        if name.contains(['.', '[']) {
            let (root, steps) = parse_path(name)?;
            self.entry(root, false).paths.push(Path { target, steps: steps.clone() });
            self.entry(root, true).paths.push(Path { target: late, steps });
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, name: &str, folded: bool) -> &mut Entry {
        let entries = &mut self.entries;
        let mut add = || {
            entries.push(Entry::default());
            (entries.len() - 1) as u16
        };
        let index = if folded {
            *self.folded.entry(fold(name).into()).or_insert_with(&mut add)
        } else {
            *self.exact.entry(name.into()).or_insert_with(&mut add)
        };
        &mut self.entries[usize::from(index)]
    }
}

fn unknown_field(key: String, kind: EventKind) -> DecodeError {
    let names: Vec<String> = schema::content_fields(kind).iter().map(|field| field.name().clone()).collect();
    DecodeError::settings(key, format!("{kind} have no such field; they have {}", names.join(", ")))
}

fn fields(kind: EventKind) -> Vec<Field> {
    schema::content_fields(kind)
        .into_iter()
        .map(|field| {
            let name = field.name().clone();
            let required = kind.required_fields().contains(&name.as_str());
            let max = names::highest(&name);
            Field {
                shape: Shape::of(field.data_type()),
                data_type: field.data_type().clone(),
                required,
                empty_is_missing: required && matches!(name.as_str(), "event_time" | "conversion_type"),
                min: if names::NOT_NEGATIVE.contains(&name.as_str()) { 0 } else { -max },
                max,
                by_shape: names::BY_SHAPE.contains(&name.as_str()),
                keeps_json: names::KEEPS_JSON.contains(&name.as_str()),
                default: None,
                name,
            }
        })
        .collect()
}

fn fallback(field: &Field, text: &str, times: &Times, key: &dyn Fn() -> String) -> Result<Fallback, DecodeError> {
    match (field.shape, text) {
        (Shape::Nested, _) => Err(DecodeError::settings(key(), "a nested field can have no default")),
        (Shape::Time, "record_time" | "file_time") => Ok(Fallback::RecordTime),
        (Shape::Time, "ingest_time") => Ok(Fallback::IngestTime),
        (Shape::Time, _) => times.read(text).map(|_| Fallback::Constant(text.into())).map_err(|reject| {
            let detail = reject.detail;
            DecodeError::settings(key(), format!("must be record_time, file_time, ingest_time or a time; {detail}"))
        }),
        _ => Ok(Fallback::Constant(text.into())),
    }
}
