//! Shows what would become of files, without writing anything. It shows the kind, format, header
//! and mapping of each file, and its first record as it would be ingested.
//!
//! A preview uses the code of ingest to find, recognize, cut and decode the files. It reads only
//! the beginning of each file.

use std::collections::BTreeMap;

use adlake_decode::Decoder;
use adlake_decode::mapping::{Fallback, Mapping, Origin, Step};
use adlake_decode::record::{RecordRef, StreamFormat};
use adlake_domain::event::EventKind;
use adlake_lake::error::chain;
use apache_avro::Schema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::json::LineDelimitedWriter;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::discover::{self, FileFormat, FilesWanted, Input, Mappings};
use super::open::Compression;
use super::place::{Found, Places};
use super::split::Piece;
use super::{SourceContext, kind};
use crate::clock::now_micros;
use crate::error::SpeedError;
use crate::plans::DecodePlans;
use crate::settings::SpeedSettings;

/// How many bytes of a record that would be a dead letter are shown.
const SHOWN_BYTES: usize = 200;
/// How deeply nested names of a record are followed.
const DEPTH_MAX: usize = 16;

/// What would become of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// Its canonical path, or its URI.
    pub path: String,
    /// How it would be read. `None`: it cannot be read.
    #[serde(flatten)]
    pub reading: Option<Reading>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a file would be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// The kind of its records, written as `--kind` takes it.
    #[serde(serialize_with = "table")]
    pub kind: EventKind,
    /// How the kind is known.
    pub kind_from: KindFrom,
    /// How it is written.
    pub format: FileFormat,
    /// How it is compressed.
    pub compression: Compression,
    /// The delimiter between the cells of a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The columns, keys or fields of its records, in order. For JSON they are those of the first
    /// record.
    pub names: Vec<String>,
    /// How these names are known.
    pub names_from: NamesFrom,
    /// The names from which each field is taken: the first one that has a value.
    pub fields: BTreeMap<String, Vec<String>>,
    /// Names whose values are kept in `attributes`, because they are no field, or because a field
    /// is found inside them.
    pub attributes: Vec<String>,
    /// The defaults of fields.
    pub defaults: BTreeMap<String, String>,
    /// Required fields that have neither a name nor a default: every record would be a dead letter.
    pub missing: Vec<String>,
    /// What would become of its first record.
    pub first: FirstRecord,
}

/// How the kind of a file is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KindFrom {
    /// The user gave it for all files.
    Option,
    /// By this part of the path.
    Name(String),
    /// By its format alone.
    Format,
}

/// How the names of a file's fields are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NamesFrom {
    /// Its header.
    Header,
    /// The configuration's `csv.columns`.
    Configuration,
    /// The order of the fields in the schema of the kind.
    DefaultOrder,
    /// Its own Avro schema.
    Schema,
    /// Its first record.
    FirstRecord,
}

/// What would become of a file's first record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstRecord {
    /// A row of the raw table.
    Row(Value),
    /// A dead letter.
    DeadLetter {
        /// For programs.
        reason: String,
        /// For people.
        detail: String,
        /// Its bytes as text, or the beginning of them.
        record: String,
    },
    /// The file has no record.
    Nothing,
}

fn table<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.table())
}

/// Previews all files that are found. Blocks.
pub fn preview(
    wanted: &FilesWanted,
    settings: &SpeedSettings,
    context: &SourceContext,
    plans: &DecodePlans,
) -> Result<Vec<Preview>, SpeedError> {
    let mappings = Mappings::new(settings)?;
    let (_, found) = Places::open(wanted, settings, context)?;
    let preview = |found: Found| {
        let path = found.name.clone();
        match read(found, wanted, settings, &mappings, plans) {
            Ok(reading) => Preview { path, reading: Some(reading), problem: None },
            Err(error) => Preview { path, reading: None, problem: Some(chain(&error)) },
        }
    };
    Ok(found.into_iter().map(preview).collect())
}

fn read(
    found: Found,
    wanted: &FilesWanted,
    settings: &SpeedSettings,
    mappings: &Mappings,
    plans: &DecodePlans,
) -> Result<Reading, SpeedError> {
    let input = discover::input(found, wanted, settings, mappings)?;
    let unreadable = |error| discover::failed(input.found.path(), "cannot be read", Some(error));
    let compression = input.found.content().map_err(unreadable)?.compression();
    let kind = input.stream.kind;
    let kind_from = match (wanted.kind, kind::from_name(&input.found.name)) {
        (Some(_), _) => KindFrom::Option,
        (None, Some((_, part))) => KindFrom::Name(part.to_owned()),
        (None, None) => KindFrom::Format,
    };
    let mapping = mappings.of(kind);
    let mut piece = Vec::new();
    let cut = input.split(settings.ingest.record_bytes_max, false).and_then(|mut splitter| splitter.next(&mut piece));
    let cut = cut.map_err(unreadable)?;
    let source = settings.sources.of(kind);
    let record = match input.format {
        FileFormat::Json | FileFormat::Ndjson => first_object(&piece),
        FileFormat::Csv | FileFormat::Avro => None,
    };
    let (names, names_from, delimiter) = match &input.stream.format {
        StreamFormat::Csv { header, delimiter, .. } => {
            let delimiter = delimiter.map_or(source.csv.delimiter, char::from);
            let (names, from) = match (header, &source.csv.columns) {
                (Some(header), _) => (header.clone(), NamesFrom::Header),
                (None, Some(columns)) => (columns.clone(), NamesFrom::Configuration),
                (None, None) => (mapping.default_columns(), NamesFrom::DefaultOrder),
            };
            (names, from, Some(delimiter))
        }
        StreamFormat::AvroDatum { schema } => (schema_names(schema), NamesFrom::Schema, None),
        StreamFormat::Json | StreamFormat::AvroMessage => {
            let names = record.iter().flat_map(|record| record.keys().cloned()).collect();
            (names, NamesFrom::FirstRecord, None)
        }
    };
    let schema = match &input.stream.format {
        StreamFormat::AvroDatum { schema } => Schema::parse_str(schema).ok(),
        _ => None,
    };
    let holds = |name: &str, steps: &[Step]| match (&record, &schema) {
        (Some(record), _) => record.get(name).is_some_and(|value| value_holds(value, steps)),
        (None, Some(schema)) => schema_holds(schema, name, steps),
        (None, None) => false,
    };
    let Mapped { fields, attributes, defaults, missing } = map(mapping, &names, holds);
    let first = match cut {
        Piece::End => FirstRecord::Nothing,
        Piece::Rejected(rejection) => FirstRecord::DeadLetter {
            reason: rejection.reason.to_owned(),
            detail: rejection.detail,
            record: shown(&piece),
        },
        Piece::Record => decode(&input, &piece, plans)?,
    };
    let format = input.format;
    Ok(Reading {
        kind,
        kind_from,
        format,
        compression,
        delimiter,
        names,
        names_from,
        fields,
        attributes,
        defaults,
        missing,
        first,
    })
}

/// What a mapping makes of the names of a file's fields.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mapped {
    fields: BTreeMap<String, Vec<String>>,
    attributes: Vec<String>,
    defaults: BTreeMap<String, String>,
    missing: Vec<String>,
}

/// `holds` tells whether a name's value has something inside it at the given steps.
fn map(mapping: &Mapping, names: &[String], holds: impl Fn(&str, &[Step]) -> bool) -> Mapped {
    let mut mapped = Mapped::default();
    // For each field, the names with their ranks: an earlier name wins.
    let mut ranked: BTreeMap<String, Vec<(u16, String)>> = BTreeMap::new();
    for name in names {
        let entry = mapping.lookup(name).map(|index| mapping.entry_at(index));
        // If a field is only looked for inside a value, the value itself is kept as well.
        let mut is_taken = false;
        if let Some(entry) = entry {
            // An object is not a text. A field that only a common name gives is looked for inside
            // the object.
            let paths: Vec<_> = entry.paths.iter().filter(|path| holds(name, &path.steps)).collect();
            if let Some(target) = entry.direct.filter(|target| target.origin != Origin::Common || paths.is_empty()) {
                is_taken = true;
                let field = mapping.fields()[usize::from(target.field)].name.clone();
                ranked.entry(field).or_default().push((target.rank, name.clone()));
            }
            for path in paths {
                let field = mapping.fields()[usize::from(path.target.field)].name.clone();
                ranked.entry(field).or_default().push((path.target.rank, path_of(name, &path.steps)));
            }
            for path in entry.added.iter().filter(|path| path.steps.is_empty() || holds(name, &path.steps)) {
                let field = mapping.added()[usize::from(path.target.field)].name.clone();
                ranked.entry(field).or_default().push((path.target.rank, path_of(name, &path.steps)));
            }
        }
        if !is_taken {
            mapped.attributes.push(name.clone());
        }
    }
    for (field, mut names) in ranked {
        names.sort();
        mapped.fields.insert(field, names.into_iter().map(|(_, name)| name).collect());
    }
    for field in mapping.fields() {
        match &field.default {
            Some(Fallback::Constant(text)) => _ = mapped.defaults.insert(field.name.clone(), text.to_string()),
            Some(Fallback::RecordTime) => _ = mapped.defaults.insert(field.name.clone(), "file_time".to_owned()),
            Some(Fallback::IngestTime) => _ = mapped.defaults.insert(field.name.clone(), "ingest_time".to_owned()),
            None if field.required && !mapped.fields.contains_key(&field.name) => {
                mapped.missing.push(field.name.clone())
            }
            None => {}
        }
    }
    mapped
}

fn path_of(name: &str, steps: &[Step]) -> String {
    steps.iter().fold(name.to_owned(), |path, step| match step {
        Step::Key(key) => format!("{path}.{key}"),
        Step::Index(index) => format!("{path}[{index}]"),
    })
}

fn value_holds(value: &Value, steps: &[Step]) -> bool {
    let inner = steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(&**key),
        Step::Index(index) => value.get(*index),
    });
    inner.is_some_and(|inner| !inner.is_null())
}

fn schema_names(schema: &str) -> Vec<String> {
    match Schema::parse_str(schema) {
        Ok(Schema::Record(record)) => record.fields.into_iter().map(|field| field.name).collect(),
        _ => Vec::new(),
    }
}

/// Whether records of a schema can have something at these steps. Types that are only referred to
/// by name are not followed.
fn schema_holds(schema: &Schema, name: &str, steps: &[Step]) -> bool {
    fn holds(schema: &Schema, steps: &[Step], depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        match (schema, steps) {
            (Schema::Union(union), _) => union.variants().iter().any(|variant| holds(variant, steps, depth)),
            (_, []) => !matches!(schema, Schema::Null),
            (Schema::Record(record), [Step::Key(key), rest @ ..]) => {
                let field = record.fields.iter().find(|field| field.name == **key);
                field.is_some_and(|field| holds(&field.schema, rest, depth))
            }
            (Schema::Map(map), [Step::Key(_), rest @ ..]) => holds(&map.types, rest, depth),
            (Schema::Array(array), [Step::Index(_), rest @ ..]) => holds(&array.items, rest, depth),
            _ => false,
        }
    }
    let steps: Vec<Step> = std::iter::once(Step::Key(name.into())).chain(steps.iter().cloned()).collect();
    holds(schema, &steps, DEPTH_MAX)
}

/// The object in a JSON text, or the first object of a list.
fn first_object(text: &[u8]) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_slice(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)).ok()? {
        Value::Object(object) => Some(object),
        Value::Array(elements) => elements.into_iter().find_map(|element| match element {
            Value::Object(object) => Some(object),
            _ => None,
        }),
        _ => None,
    }
}

fn decode(input: &Input, payload: &[u8], plans: &DecodePlans) -> Result<FirstRecord, SpeedError> {
    let stream = &input.stream;
    let mut decoder = Decoder::new(plans.plan(stream.kind, &stream.format)?, &stream.source)?;
    decoder.push(RecordRef { payload, key: None, partition: 0, offset: 0, time: input.found.modified }, now_micros());
    let decoded = decoder.finish()?;
    if decoded.rows.num_rows() > 0 {
        return Ok(FirstRecord::Row(as_json(&decoded.rows.slice(0, 1))?));
    }
    let text = |column: &str| {
        let column = decoded.dead_letters.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
        column.filter(|column| !column.is_empty()).map_or(String::new(), |column| column.value(0).to_owned())
    };
    Ok(FirstRecord::DeadLetter { reason: text("reason"), detail: text("detail"), record: shown(payload) })
}

/// The only row of a batch as JSON, without its NULLs.
fn as_json(row: &RecordBatch) -> Result<Value, SpeedError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(row)?;
    writer.finish()?;
    serde_json::from_slice(&writer.into_inner())
        .map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()).into())
}

fn shown(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_BYTES)]).into_owned();
    if payload.len() > SHOWN_BYTES { text + "..." } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SourceSettings;

    fn mapped(kind: EventKind, source: &SourceSettings, names: &[&str], record: &Value) -> Mapped {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mapping = Mapping::new(kind, source).unwrap();
        map(&mapping, &names, |name, steps| record.get(name).is_some_and(|value| value_holds(value, steps)))
    }

    #[test]
    fn names_are_told_with_their_fields() {
        let mut source = SourceSettings::default();
        source.fields.insert("website".to_owned(), vec!["ext.page".to_owned()]);
        source.defaults.insert("timestamp".to_owned(), "record_time".to_owned());
        let record = serde_json::json!({"ext": {"page": "p"}, "uid": 1, "User ID": 2, "foo": 3});
        let found = mapped(EventKind::Impression, &source, &["ext", "uid", "User ID", "foo"], &record);
        let expected = Mapped {
            fields: BTreeMap::from([
                ("user_id".to_owned(), vec!["User ID".to_owned(), "uid".to_owned()]),
                ("website".to_owned(), vec!["ext.page".to_owned()]),
            ]),
            attributes: vec!["ext".to_owned(), "foo".to_owned()],
            defaults: BTreeMap::from([("event_time".to_owned(), "file_time".to_owned())]),
            missing: vec!["ad_creative_id".to_owned()],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn schemas_are_looked_into() {
        let schema = r#"{"type": "record", "name": "B", "fields": [
            {"name": "user", "type": ["null",
                {"type": "record", "name": "U", "fields": [{"name": "id", "type": "long"}]}]},
            {"name": "tags", "type": {"type": "array", "items": "string"}}]}"#;
        assert_eq!(schema_names(schema), ["user", "tags"]);
        let schema = Schema::parse_str(schema).unwrap();
        let key = |key: &str| Step::Key(key.into());
        assert!(schema_holds(&schema, "user", &[key("id")]));
        assert!(!schema_holds(&schema, "user", &[key("name")]));
        assert!(schema_holds(&schema, "tags", &[Step::Index(0)]));
        assert!(!schema_holds(&schema, "site", &[]));
    }
}
