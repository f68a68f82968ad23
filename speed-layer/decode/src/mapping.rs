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

mod compile;
mod names;
mod path;
mod times;
mod added;

pub use self::added::added_columns;
pub use self::path::{Path, Step};
pub use self::times::time_formats;
pub(crate) use self::times::{ReadTime, Times};

use arrow::datatypes::{DataType, TimeUnit};
use hashbrown::HashMap;

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
pub struct Field {
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
    pub min: i128,
    /// The highest number allowed. A record with a higher one is a dead letter.
    pub max: i128,
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
pub enum Shape {
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

impl Shape {
    /// How the values of a column of this type are read.
    fn of(data_type: &DataType) -> Shape {
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
}

/// The default of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// A fixed value.
    Constant(Box<str>),
    /// The time of the Kafka record or of the file.
    RecordTime,
    /// The time of ingest.
    IngestTime,
}

/// What the value of a record's key is used for.
#[derive(Debug, Default, Clone)]
pub struct Entry {
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
    pub fn only_target(&self) -> Option<Target> {
        self.direct.filter(|_| self.paths.is_empty() && self.added.is_empty())
    }
}

/// A field that a name belongs to. `rank` is the name's place among the names of the field: the
/// lower rank wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub field: u8,
    pub rank: u16,
    pub origin: Origin,
}

/// The origin of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration. A value under the name fits the field or makes a dead letter.
    Configured,
    /// The contract or the schema.
    Own,
    /// A common alias. An object or list under it means something else, unless the field is nested.
    Common,
}

impl Mapping {
    fn direct(&self, name: &str) -> Option<Target> {
        self.exact.get(name).and_then(|index| self.entries[usize::from(*index)].direct)
    }

    /// The index of the entry for a key of a record, if there is one.
    pub fn lookup(&self, key: &str) -> Option<u16> {
        if let Some(index) = self.exact.get(key) {
            return Some(*index);
        }
        let mut buffer = [0u8; 64];
        let folded = fold_into(key, &mut buffer)?;
        self.folded.get(folded).copied()
    }

    /// The entry at an index that [`Mapping::lookup`] returned.
    pub fn entry_at(&self, index: u16) -> &Entry {
        &self.entries[usize::from(index)]
    }

    /// For each key of a record: the field that only this key fills, if the key is used for nothing
    /// else. The record must have no other keys than these.
    pub(crate) fn sole_fields(&self, entries: impl Iterator<Item = Option<u16>> + Clone) -> Vec<Option<usize>> {
        let mut candidates = vec![0; self.fields.len()];
        for entry in entries.clone().flatten().map(|entry| self.entry_at(entry)) {
            let targets = entry.direct.iter().chain(entry.paths.iter().map(|path| &path.target));
            targets.for_each(|target| candidates[usize::from(target.field)] += 1);
        }
        let alone = |entry: u16| {
            let field = usize::from(self.entry_at(entry).only_target()?.field);
            (candidates[field] == 1).then_some(field)
        };
        entries.map(|entry| alone(entry?)).collect()
    }

    /// The content fields, in schema order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The columns that the configuration adds.
    pub fn added(&self) -> &[Field] {
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
    pub fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name || names::own(&field.name).contains(&name))
    }

    /// The column names of a source that does not name its columns: the fields in schema order.
    pub fn default_columns(&self) -> Vec<String> {
        self.fields.iter().map(|field| names::own(&field.name)[0].to_owned()).collect()
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

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;

    use super::*;
    use crate::error::DecodeError;
    use crate::settings::SourceSettings;

    fn mapping(kind: EventKind, change: impl Fn(&mut SourceSettings)) -> Result<Mapping, DecodeError> {
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
}
