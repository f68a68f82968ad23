//! The names under which a source sends each field. The configuration is compiled once into one
//! lookup table.
//!
//! A field is looked up under three groups of names, in this order: the names configured for it,
//! its own names, common aliases ([`names`]). A name is either a key of the record or a path into a
//! nested value (`user.id`, `user_details[0].user_id`). A name with a dot or bracket is tried as
//! both. A key matches exactly or after folding: folding ignores case, spaces, underscores and
//! hyphens.
//!
//! If a record sends a field under several names, the first of this order with a value wins, and an
//! exact match wins over a folded one. An empty text does not count as a value if another name has
//! one.
//!
//! A configured name binds: a value under it that does not fit its field makes a dead letter. The
//! other names are guesses. If a nested field ([`names::BY_SHAPE`]) is sent in another shape under
//! such a name, the value is assumed to mean something else and is kept among the attributes.
//!
//! Which field a name belongs to is decided here, not by the content of a record. A configured name
//! is taken from every field that has it by default. Two fields cannot be configured to one name.

mod added;
mod names;
mod times;

pub use self::added::added_columns;
pub use self::times::time_formats;
pub(crate) use self::times::{ReadTime, Times};

use adlake_domain::event::EventKind;
use adlake_domain::schema;
use arrow::datatypes::{DataType, TimeUnit};
use hashbrown::HashMap;

use crate::error::SpeedError;
use crate::settings::SourceSettings;
use crate::validate::ValidationSettings;

/// The greatest number of fields. No kind of event has more. The arrays of a row have this length.
pub(crate) const FIELDS_MAX: usize = 32;

/// Where the fields of a source are found, and the defaults of those that a record does not send.
#[derive(Debug)]
pub struct Mapping {
    fields: Vec<Field>,
    /// The columns that the configuration adds. Their values also stay in the fields and the
    /// attributes.
    added: Vec<Field>,
    entries: Vec<Entry>,
    exact: HashMap<Box<str>, u16>,
    folded: HashMap<Box<str>, u16>,
    times: Times,
    depth_max: usize,
}

/// One field of the content, in schema order.
#[derive(Debug)]
pub(crate) struct Field {
    /// The field's name in the schema.
    pub name: String,
    /// The type of the field's column.
    pub data_type: DataType,
    /// The type as the decoder branches on it.
    pub shape: Shape,
    /// Whether a record without it is a dead letter.
    pub required: bool,
    /// Whether an empty text counts as missing. It does for times, for the type of an interaction,
    /// and for fields with a default.
    pub empty_is_missing: bool,
    /// The lowest number allowed. A record with a lower one is a dead letter.
    pub least: i128,
    /// The highest number allowed. A record with a higher one is a dead letter.
    pub most: i128,
    /// Whether a value of another shape, under a name that is not configured, is assumed to mean
    /// something else.
    pub by_shape: bool,
    /// Whether an object or list is kept as its JSON text.
    pub keeps_json: bool,
    /// The value of the field where a record does not send it.
    pub default: Option<Fallback>,
}

/// How a field's value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Int32,
    Int64,
    Boolean,
    Time,
    Amount,
    Double,
    /// A struct, list or map.
    Nested,
}

/// The default of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// A fixed value.
    Constant(Box<str>),
    /// The time of the Kafka record or of the file.
    RecordTime,
    /// The time of ingest.
    IngestTime,
}

/// What the value of a record's key is used for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entry {
    /// The field that gets the value, if any.
    pub direct: Option<Target>,
    /// The fields that are found inside the value.
    pub paths: Vec<Path>,
    /// The added columns that get the value, or a value inside it.
    pub added: Vec<Path>,
}

impl Entry {
    /// The field that gets the value, if the value is used for nothing else.
    #[inline]
    pub fn alone(&self) -> Option<Target> {
        self.direct.filter(|_| self.paths.is_empty() && self.added.is_empty())
    }
}

/// A field that a name belongs to. `rank` is the name's place among the names of the field: the
/// lower rank wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub field: u8,
    pub rank: u16,
    pub origin: Origin,
}

/// The origin of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration. A value under the name fits the field or makes a dead letter.
    Configured,
    /// The contract or the schema.
    Own,
    /// A common alias. An object or list under it means something else, unless the field is nested.
    Common,
}

/// The path from a key's value to a field inside it.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub target: Target,
    pub steps: Vec<Step>,
}

/// One step into a nested value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The member of an object, by its exact name.
    Key(Box<str>),
    /// The element of a list, from 0.
    Index(usize),
}

impl Mapping {
    /// Compiles the mapping for a source of one kind. Errors name the configuration key.
    pub fn new(kind: EventKind, settings: &SourceSettings) -> Result<Mapping, SpeedError> {
        Mapping::with_epoch_min(kind, settings, ValidationSettings::default().event_time_min)
    }

    /// As [`Mapping::new`], with the earliest time, in microseconds, that digits are accepted as.
    pub fn with_epoch_min(kind: EventKind, settings: &SourceSettings, epoch_min: i64) -> Result<Mapping, SpeedError> {
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
            return Err(SpeedError::settings(format!("sources.{kind}"), "has more fields than the decoder holds"));
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
    fn add_names(&mut self, kind: EventKind, settings: &SourceSettings) -> Result<(), SpeedError> {
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
                    return Err(SpeedError::settings(key(), format!("{alias} is already configured for {other}")));
                }
                self.add_name(index, &mut ranks, alias, Origin::Configured)
                    .map_err(|message| SpeedError::settings(key(), message))?;
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
                SpeedError::settings(format!("sources.{kind}.fields"), format!("{name}: {message}"))
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

    fn entry(&mut self, name: &str, folded: bool) -> &mut Entry {
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

    fn direct(&self, name: &str) -> Option<Target> {
        self.exact.get(name).and_then(|index| self.entries[usize::from(*index)].direct)
    }

    /// The index of the entry for a key of a record, if there is one.
    pub(crate) fn lookup(&self, key: &str) -> Option<u16> {
        if let Some(index) = self.exact.get(key) {
            return Some(*index);
        }
        let mut buffer = [0u8; 64];
        let folded = fold_into(key, &mut buffer)?;
        self.folded.get(folded).copied()
    }

    /// The entry at an index that [`Mapping::lookup`] returned.
    pub(crate) fn entry_at(&self, index: u16) -> &Entry {
        &self.entries[usize::from(index)]
    }

    /// For each key of a record: the field that only this key fills, if the key is used for nothing
    /// else. The record must have no other keys than these.
    pub(crate) fn alone(&self, entries: impl Iterator<Item = Option<u16>> + Clone) -> Vec<Option<usize>> {
        let mut candidates = vec![0; self.fields.len()];
        for entry in entries.clone().flatten().map(|entry| self.entry_at(entry)) {
            let targets = entry.direct.iter().chain(entry.paths.iter().map(|path| &path.target));
            targets.for_each(|target| candidates[usize::from(target.field)] += 1);
        }
        let alone = |entry: u16| {
            let field = usize::from(self.entry_at(entry).alone()?.field);
            (candidates[field] == 1).then_some(field)
        };
        entries.map(|entry| alone(entry?)).collect()
    }

    /// The content fields, in schema order.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The columns that the configuration adds.
    pub(crate) fn added(&self) -> &[Field] {
        &self.added
    }

    /// How the source writes times.
    #[inline]
    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    /// How deeply the values of a record may be nested.
    pub(crate) fn depth_max(&self) -> usize {
        self.depth_max
    }

    /// The index of a field in the content, by its name in the schema or in the contract.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name || names::own(&field.name).contains(&name))
    }

    /// The column names of a source that does not name its columns: the fields in schema order.
    pub(crate) fn default_columns(&self) -> Vec<String> {
        self.fields.iter().map(|field| names::own(&field.name)[0].to_owned()).collect()
    }
}

fn unknown_field(key: String, kind: EventKind) -> SpeedError {
    let names: Vec<String> = schema::content_fields(kind).iter().map(|field| field.name().clone()).collect();
    SpeedError::settings(key, format!("{kind} have no such field; they have {}", names.join(", ")))
}

fn fields(kind: EventKind) -> Vec<Field> {
    schema::content_fields(kind)
        .into_iter()
        .map(|field| {
            let name = field.name().clone();
            let required = kind.required_fields().contains(&name.as_str());
            let most = names::most(&name);
            Field {
                shape: shape(field.data_type()),
                data_type: field.data_type().clone(),
                required,
                empty_is_missing: required && matches!(name.as_str(), "event_time" | "conversion_type"),
                least: if names::NOT_NEGATIVE.contains(&name.as_str()) { 0 } else { -most },
                most,
                by_shape: names::BY_SHAPE.contains(&name.as_str()),
                keeps_json: names::KEEPS_JSON.contains(&name.as_str()),
                default: None,
                name,
            }
        })
        .collect()
}

fn shape(data_type: &DataType) -> Shape {
    match data_type {
        DataType::Utf8 => Shape::Text,
        DataType::Int32 => Shape::Int32,
        DataType::Int64 => Shape::Int64,
        DataType::Boolean => Shape::Boolean,
        DataType::Timestamp(TimeUnit::Microsecond, _) => Shape::Time,
        DataType::Decimal128(..) => Shape::Amount,
        DataType::Float64 => Shape::Double,
        _ => Shape::Nested,
    }
}

fn fallback(field: &Field, text: &str, times: &Times, key: &dyn Fn() -> String) -> Result<Fallback, SpeedError> {
    match (field.shape, text) {
        (Shape::Nested, _) => Err(SpeedError::settings(key(), "a nested field can have no default")),
        (Shape::Time, "record_time" | "file_time") => Ok(Fallback::RecordTime),
        (Shape::Time, "ingest_time") => Ok(Fallback::IngestTime),
        (Shape::Time, _) => times.read(text).map(|_| Fallback::Constant(text.into())).map_err(|reject| {
            let detail = reject.detail;
            SpeedError::settings(key(), format!("must be record_time, file_time, ingest_time or a time; {detail}"))
        }),
        _ => Ok(Fallback::Constant(text.into())),
    }
}

/// The name in lower case (ASCII), without spaces, underscores and hyphens.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// As [`fold`], without allocating. `None` for names longer than the buffer: no accepted name is
/// that long.
fn fold_into<'b>(name: &str, buffer: &'b mut [u8; 64]) -> Option<&'b str> {
    let mut length = 0;
    for byte in name.bytes().filter(|byte| !matches!(byte, b' ' | b'_' | b'-')) {
        *buffer.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    std::str::from_utf8(&buffer[..length]).ok()
}

/// Splits `a.b[0].c` into `a` and the steps to `c`.
fn parse_path(text: &str) -> Result<(&str, Vec<Step>), String> {
    let malformed = || format!("{text} is not a path like user.details[0].id");
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (root, mut rest) = text.split_at(end);
    if root.is_empty() {
        return Err(malformed());
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').ok_or_else(malformed)?;
            steps.push(Step::Index(index.parse().map_err(|_| malformed())?));
            rest = after;
        } else {
            let inner = rest.strip_prefix('.').ok_or_else(malformed)?;
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            if end == 0 {
                return Err(malformed());
            }
            steps.push(Step::Key(inner[..end].into()));
            rest = &inner[end..];
        }
    }
    Ok((root, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(kind: EventKind, change: impl Fn(&mut SourceSettings)) -> Result<Mapping, SpeedError> {
        let mut settings = SourceSettings::default();
        change(&mut settings);
        Mapping::new(kind, &settings)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn common_names_are_known() {
        let check = |kind: EventKind, key: &str, expected: Option<&str>| {
            let mapping = mapping(kind, |_| ()).unwrap();
            let direct = mapping.lookup(key).and_then(|index| mapping.entry_at(index).direct);
            let found = direct.map(|target| mapping.fields[usize::from(target.field)].name.as_str());
            assert_eq!(found, expected, "{kind}: {key}");
        };
        check(EventKind::Impression, "ad_creative_id", Some("ad_creative_id"));
        check(EventKind::Impression, "ad_id", Some("ad_creative_id"));
        check(EventKind::Impression, "website_url", Some("website"));
        check(EventKind::Impression, "event_timestamp", Some("event_time"));
        check(EventKind::Impression, "timestamp", Some("event_time"));
        check(EventKind::Impression, "User ID", Some("user_id"));
        check(EventKind::Impression, "userId", Some("user_id"));
        check(EventKind::Impression, "USER-ID", Some("user_id"));
        check(EventKind::Impression, "ts", Some("event_time"));
        check(EventKind::Impression, "site", Some("website"));
        check(EventKind::Impression, "id", None);
        check(EventKind::Impression, "something_else", None);
        check(EventKind::Impression, "", None);
        check(EventKind::Interaction, "ad_campaign_id", Some("campaign_id"));
        check(EventKind::BidRequest, "id", Some("auction_id"));
        check(EventKind::BidRequest, "bid_amount", Some("bid_price"));
        check(EventKind::BidRequest, "site", Some("site"));
    }

    #[test]
    fn configured_names_come_first_and_are_taken_from_others() {
        let mapping = mapping(EventKind::Impression, |settings| {
            settings.fields.insert("website".to_owned(), names(&["url", "user_details[0].site"]));
            settings.fields.insert("user_id".to_owned(), names(&["ts"]));
        })
        .unwrap();
        let direct = |key: &str| mapping.entry_at(mapping.lookup(key).unwrap()).direct.unwrap();
        let website = mapping.index("website").unwrap() as u8;
        assert_eq!(direct("url"), Target { field: website, rank: 0, origin: Origin::Configured });
        assert_eq!(direct("URL"), Target { field: website, rank: 1, origin: Origin::Configured });
        assert_eq!(direct("website"), Target { field: website, rank: 4, origin: Origin::Own });
        assert_eq!(usize::from(direct("ts").field), mapping.index("user_id").unwrap());
        let root = mapping.entry_at(mapping.lookup("user_details").unwrap());
        let path = root.paths.iter().find(|path| path.target.field == website).unwrap();
        assert_eq!(path.steps, [Step::Index(0), Step::Key("site".into())]);
    }

    #[test]
    fn an_empty_list_takes_a_field_out() {
        let mapping = mapping(EventKind::BidRequest, |settings| {
            settings.fields.insert("auction_id".to_owned(), Vec::new());
        });
        assert!(mapping.unwrap().direct("auction_id").is_none());
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let check = |change: fn(&mut SourceSettings), wanted: &str| {
            let error = mapping(EventKind::Impression, change).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error} does not mention {wanted}");
        };
        check(|s| _ = s.fields.insert("websites".to_owned(), names(&["x"])), "sources.impressions.fields.websites");
        check(|s| _ = s.fields.insert("website".to_owned(), names(&["a[b]"])), "not a path");
        check(|s| _ = s.fields.insert("website".to_owned(), names(&["a..b"])), "not a path");
        check(|s| _ = s.fields.insert("website".to_owned(), names(&[""])), "must not be empty");
        check(
            |s| {
                s.fields.insert("website".to_owned(), names(&["x"]));
                s.fields.insert("city".to_owned(), names(&["x"]));
            },
            "already configured",
        );
        check(|s| _ = s.defaults.insert("event_time".to_owned(), "soon".to_owned()), "ingest_time");
        check(|s| _ = s.defaults.insert("nothing".to_owned(), "x".to_owned()), "no such field");
        check(|s| _ = s.defaults.insert("event_time".to_owned(), "14102100".to_owned()), "1970-06-13T05:15:00Z");
        check(|s| s.time_zone = Some("Mars/Olympus".to_owned()), "time_zone");
        check(|s| s.time_formats = names(&["%H"]), "sources.impressions.time_formats");
    }

    #[test]
    fn defaults_know_times() {
        let mapping = mapping(EventKind::BidRequest, |settings| {
            settings.defaults.insert("timestamp".to_owned(), "file_time".to_owned());
            settings.defaults.insert("user_id".to_owned(), "record_time".to_owned());
        })
        .unwrap();
        let default = |name: &str| mapping.fields[mapping.index(name).unwrap()].default.clone();
        assert_eq!(default("event_time"), Some(Fallback::RecordTime));
        assert_eq!(default("user_id"), Some(Fallback::Constant("record_time".into())));
    }

    #[test]
    fn paths() {
        assert_eq!(parse_path("a").unwrap(), ("a", vec![]));
        assert_eq!(parse_path("a.b[10].c").unwrap().1, [Step::Key("b".into()), Step::Index(10), Step::Key("c".into())]);
        for text in ["", ".a", "[0]", "a.", "a[", "a[x]", "a[0]b", "a[-1]"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }
}
