//! Avro: bare datums, datums whose schema is named by a registry id or a fingerprint, and
//! containers of one or more records in a message.
//!
//! A small decoder of our own ([`datum`]) decodes datums. It borrows texts and bytes from the
//! payload, bounds depth and size, and rejects whatever does not fit. Schemas, fingerprints and the
//! codecs of containers are apache-avro's. The bytes before a datum name the schema that it was
//! written with ([`Framed`]). The speed layer fetches the schemas of a registry before it passes
//! the records to a decoder, so nothing here waits.

pub(crate) mod datum;
mod convert;
pub(crate) mod container;
pub(crate) mod schema;
mod resolve;
mod registered;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use adlake_domain::event::EventKind;
use flate2::bufread::ZlibDecoder;
use hashbrown::HashMap;

pub use self::registered::{KnownSchema, RegisteredSchemas, schema_id};
pub use self::resolve::{Base, base};
pub use self::schema::{ParsedSchema, SchemaError};

use self::convert::Converter;
use self::schema::WriterSchema;
use crate::error::DecodeError;
use crate::mapping::Mapping;
use crate::record::StreamFormat;
use crate::reject::{Reason, Reject};
use crate::settings::{AvroFraming, SchemaFiles, SourceSettings};

/// The Avro schema of bid requests, as JSON text. adlake writes bid requests with it, and reads
/// them with it where no other schema is configured.
pub fn bid_request_avro_schema() -> &'static str {
    include_str!("../schemas/bid_request.avsc")
}

/// A schema whose fields are matched with a mapping.
#[derive(Debug)]
pub(crate) struct MappedSchema {
    pub writer: WriterSchema,
    /// For each field of the record: its entry in the mapping.
    pub entries: Vec<Option<u16>>,
    /// The same for the fields that have a default in the reader's schema.
    pub default_entries: Vec<Option<u16>>,
    /// For each field of the record: the index of its content field and how it is converted, if
    /// both are known before a value is read.
    pub converters: Vec<Option<(usize, Converter)>>,
}

impl MappedSchema {
    pub fn new(writer: WriterSchema, mapping: &Mapping) -> MappedSchema {
        let record = writer.record();
        let entries: Vec<_> = record.fields.iter().map(|(name, _)| mapping.lookup(name)).collect();
        let default_entries: Vec<_> = record.defaults.iter().map(|(name, _)| mapping.lookup(name)).collect();
        let converters = convert::converters(&writer, &entries, &default_entries, mapping);
        MappedSchema { writer, entries, default_entries, converters }
    }
}

/// The schemas of a source, as configured.
#[derive(Debug)]
pub(crate) struct AvroPlan {
    framing: AvroFraming,
    /// The schema of datums without framing.
    bare: Option<Arc<MappedSchema>>,
    /// Why the schema of a container cannot be used.
    unusable: Option<Reject>,
    by_fingerprint: HashMap<[u8; 8], Arc<MappedSchema>>,
    by_version: HashMap<[u8; 16], Arc<MappedSchema>>,
    reader: Option<ParsedSchema>,
    registry: Option<Arc<dyn RegisteredSchemas>>,
}

impl AvroPlan {
    /// The plan for a stream of datums or messages. Errors name the configuration key.
    pub fn new(
        kind: EventKind,
        source: &SourceSettings,
        files: &SchemaFiles,
        format: &StreamFormat,
        mapping: &Mapping,
    ) -> Result<AvroPlan, DecodeError> {
        let settings = &source.avro;
        let key = |name: &str| format!("sources.{kind}.avro.{name}");
        let refused = |name: &str, path: Option<&Path>, error: SchemaError| {
            let file = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
            DecodeError::settings(key(name), format!("{file}{error}"))
        };
        let file = |name: &str, path: &Path| {
            files.text(path).ok_or_else(|| DecodeError::settings(key(name), format!("{} was not read", path.display())))
        };
        let reader = match &settings.reader_schema_file {
            Some(path) => {
                let text = file("reader_schema_file", path)?;
                let refused = |error| refused("reader_schema_file", Some(path), error);
                Some(ParsedSchema::new(text, &[]).map_err(refused)?)
            }
            None => None,
        };
        let mapped = |text: &str| {
            let writer = WriterSchema::compile(&ParsedSchema::new(text, &[])?, reader.as_ref())?;
            Ok(Arc::new(MappedSchema::new(writer, mapping)))
        };
        let mut plan = AvroPlan {
            framing: settings.framing,
            bare: None,
            unusable: None,
            by_fingerprint: HashMap::new(),
            by_version: HashMap::new(),
            reader: None,
            registry: None,
        };
        if let StreamFormat::AvroDatum { schema } = format {
            // One file may hold several containers, of which some have a bad schema. Only the
            // datums of those are rejected.
            let (bare, unusable) = match mapped(schema) {
                Ok(schema) => (Some(schema), None),
                Err(error) => (None, Some(unusable(error).at("the container's schema"))),
            };
            return Ok(AvroPlan { framing: AvroFraming::None, bare, unusable, ..plan });
        }
        let bare = match (&settings.schema, &settings.schema_file) {
            (Some(text), _) => Some(("schema", None, text.as_str())),
            (None, Some(path)) => Some(("schema_file", Some(path.as_path()), file("schema_file", path)?)),
            (None, None) if kind == EventKind::BidRequest => Some(("schema", None, bid_request_avro_schema())),
            (None, None) => None,
        };
        if let Some((name, path, text)) = bare {
            let schema = mapped(text).map_err(|error| refused(name, path, error))?;
            plan.by_fingerprint.insert(schema.writer.fingerprint(), schema.clone());
            plan.bare = Some(schema);
        }
        for path in &settings.single_object_schema_files {
            let text = file("single_object_schema_files", path)?;
            let schema = mapped(text).map_err(|error| refused("single_object_schema_files", Some(path), error))?;
            plan.by_fingerprint.insert(schema.writer.fingerprint(), schema);
        }
        for (version, path) in &settings.glue_schema_files {
            let name = format!("glue_schema_files.{version}");
            let id = version_id(version).ok_or_else(|| DecodeError::settings(key(&name), "is not a UUID"))?;
            let text = file(&name, path)?;
            plan.by_version.insert(id, mapped(text).map_err(|error| refused(&name, Some(path), error))?);
        }
        let has_schema = !plan.by_fingerprint.is_empty() || !plan.by_version.is_empty() || settings.registry.is_some();
        if !has_schema {
            return Err(DecodeError::settings(
                key("schema"),
                format!(
                    "{kind} in Avro need the writer's schema: set schema, schema_file, registry, \
                     single_object_schema_files or glue_schema_files"
                ),
            ));
        }
        Ok(AvroPlan { reader, ..plan })
    }

    /// Why the container's schema cannot be used, if it cannot.
    pub fn unusable(&self) -> Option<&str> {
        self.unusable.as_ref().map(|reject| reject.detail.as_str())
    }

    /// The same plan with the registry that resolves schema ids.
    pub fn with_registry(self, registry: Option<Arc<dyn RegisteredSchemas>>) -> AvroPlan {
        AvroPlan { registry, ..self }
    }

    /// Switches the fast path off. Returns the number of fields of the configured schema that used
    /// it.
    #[cfg(test)]
    pub fn read_in_the_general_way(&mut self) -> usize {
        self.by_fingerprint.clear();
        let schema = self.bare.as_mut().and_then(Arc::get_mut);
        schema.map_or(0, |schema| schema.converters.iter_mut().filter_map(Option::take).count())
    }

    /// Whether a message is a container.
    pub fn is_container(&self, payload: &[u8]) -> bool {
        self.framing == AvroFraming::Auto && payload.starts_with(MAGIC)
    }

    /// Finds the framing of a payload from its first bytes.
    pub fn frame<'a>(&self, payload: &'a [u8]) -> Result<Framed<'_, 'a>, Reject> {
        match (self.framing, payload) {
            (AvroFraming::None, datum) => self.datum(datum),
            (AvroFraming::Confluent | AvroFraming::Auto, [0, a, b, c, d, datum @ ..]) if self.registry.is_some() => {
                Ok(Framed::Registered(u32::from_be_bytes([*a, *b, *c, *d]), datum))
            }
            (AvroFraming::Confluent, [0, _, _, _, _, datum @ ..]) => self.datum(datum),
            (AvroFraming::Confluent, _) => {
                invalid("the message does not begin with a zero byte and a schema id (Confluent framing)")
            }
            (AvroFraming::SingleObject | AvroFraming::Auto, [0xC3, 0x01, rest @ ..]) if rest.len() >= 8 => {
                let (fingerprint, datum) = rest.split_at(8);
                let known = <[u8; 8]>::try_from(fingerprint).ok().and_then(|key| self.by_fingerprint.get(&key));
                known.map(|schema| Framed::Datum(schema, datum)).ok_or_else(|| {
                    let detail = format!(
                        "no schema with the fingerprint {} is configured: add it to avro.single_object_schema_files",
                        digits(fingerprint)
                    );
                    Reject::new(Reason::UnknownSchema, detail)
                })
            }
            (AvroFraming::SingleObject, _) => {
                invalid("the message does not begin with C3 01 and a fingerprint (single-object framing)")
            }
            (AvroFraming::Glue | AvroFraming::Auto, [3, compression @ (0 | 5), rest @ ..]) if rest.len() >= 16 => {
                self.glue(payload, *compression == 5, rest)
            }
            (AvroFraming::Glue, _) => {
                invalid("the message does not begin with 03, then 00 or 05, and a schema version id (Glue framing)")
            }
            (AvroFraming::Auto, payload) if self.is_container(payload) => Ok(Framed::Container),
            (AvroFraming::Auto, [0, _, _, _, _, datum @ ..]) if !datum.is_empty() => {
                let schema = self.bare_schema()?;
                Ok(Framed::Either { schema, framed: datum, bare: payload })
            }
            (AvroFraming::Auto, datum) => self.datum(datum),
        }
    }

    fn glue<'a>(&self, payload: &'a [u8], is_packed: bool, rest: &'a [u8]) -> Result<Framed<'_, 'a>, Reject> {
        let (version, body) = rest.split_at(16);
        let known = <[u8; 16]>::try_from(version).ok().and_then(|key| self.by_version.get(&key));
        match (known, &self.bare, self.framing) {
            (Some(schema), ..) if is_packed => Ok(Framed::Packed(schema, body)),
            (Some(schema), ..) => Ok(Framed::Datum(schema, body)),
            // A bare datum may begin with the same bytes.
            (None, Some(schema), AvroFraming::Auto) => {
                Ok(Framed::Unless { schema, bare: payload, otherwise: unknown_version(version) })
            }
            (None, ..) => Err(unknown_version(version)),
        }
    }

    fn datum<'a>(&self, datum: &'a [u8]) -> Result<Framed<'_, 'a>, Reject> {
        Ok(Framed::Datum(self.bare_schema()?, datum))
    }

    fn bare_schema(&self) -> Result<&Arc<MappedSchema>, Reject> {
        let lacking = || {
            Reject::new(
                Reason::UnknownSchema,
                "the message does not name its schema, and avro.schema is not configured",
            )
        };
        if let Some(reject) = &self.unusable {
            return Err(reject.clone());
        }
        self.bare.as_ref().ok_or_else(lacking)
    }

    fn map(&self, written: &ParsedSchema, mapping: &Mapping) -> Result<Arc<MappedSchema>, Reject> {
        let writer = WriterSchema::compile(written, self.reader.as_ref()).map_err(unusable)?;
        Ok(Arc::new(MappedSchema::new(writer, mapping)))
    }
}

/// What a payload holds.
#[derive(Debug)]
pub(crate) enum Framed<'p, 'a> {
    /// A datum and its schema.
    Datum(&'p Arc<MappedSchema>, &'a [u8]),
    /// A datum compressed by zlib, and its schema.
    Packed(&'p Arc<MappedSchema>, &'a [u8]),
    /// A datum whose schema has this id in the registry.
    Registered(u32, &'a [u8]),
    /// Either a framed datum, or a bare one that begins with a zero byte.
    Either {
        schema: &'p Arc<MappedSchema>,
        framed: &'a [u8],
        bare: &'a [u8],
    },
    /// A bare datum. If it is not one, it is framed and its schema is unknown.
    Unless {
        schema: &'p Arc<MappedSchema>,
        bare: &'a [u8],
        otherwise: Reject,
    },
    Container,
}

/// The first bytes of a container.
const MAGIC: &[u8] = b"Obj\x01";

/// Decompresses zlib, up to a limit.
pub(crate) fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), Reject> {
    into.clear();
    let mut decoder = ZlibDecoder::new(packed).take(container::UNPACKED_BYTES_MAX as u64 + 1);
    let refused = |detail: String| Reject::new(Reason::InvalidAvro, detail);
    decoder.read_to_end(into).map_err(|error| refused(format!("the message cannot be decompressed: {error}")))?;
    if into.len() > container::UNPACKED_BYTES_MAX {
        return Err(refused(format!("the message decompresses to more than {} bytes", container::UNPACKED_BYTES_MAX)));
    }
    Ok(())
}

fn invalid<T>(detail: &str) -> Result<T, Reject> {
    Err(Reject::new(Reason::InvalidAvro, detail))
}

fn unknown_version(version: &[u8]) -> Reject {
    let detail = format!(
        "no schema is configured for the Glue schema version {}: add it to avro.glue_schema_files",
        digits(version)
    );
    Reject::new(Reason::UnknownSchema, detail)
}

fn unusable(error: SchemaError) -> Reject {
    match error {
        SchemaError::NotARecord => Reject::new(Reason::NotAnObject, error.to_string()),
        SchemaError::Invalid(_) | SchemaError::Unreadable(_) => Reject::new(Reason::UnusableSchema, error.to_string()),
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses a UUID, with or without hyphens.
fn version_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let valid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

/// The schemas of the records so far: registry schemas by id, container schemas by text. Most
/// records of a source have the same schema.
#[derive(Debug, Default)]
pub(crate) struct SchemaCache {
    of_containers: HashMap<Box<[u8]>, Arc<MappedSchema>>,
    registered: HashMap<u32, Result<Arc<MappedSchema>, Reject>>,
    last: Option<(u32, Arc<MappedSchema>)>,
}

/// The number of distinct schemas kept of each sort. If one more comes, all are evicted at once.
const SCHEMAS_MAX: usize = 256;

impl SchemaCache {
    /// The schema with this JSON text.
    pub fn schema(&mut self, text: &[u8], plan: &AvroPlan, mapping: &Mapping) -> Result<Arc<MappedSchema>, Reject> {
        if let Some(schema) = self.of_containers.get(text) {
            return Ok(schema.clone());
        }
        let refused = |detail: String| Reject::new(Reason::InvalidAvro, detail);
        let json = std::str::from_utf8(text).map_err(|_| refused("the container's schema is not UTF-8".to_owned()))?;
        let parsed = ParsedSchema::new(json, &[]).map_err(|error| refused(error.to_string()))?;
        let schema = plan.map(&parsed, mapping)?;
        if self.of_containers.len() >= SCHEMAS_MAX {
            self.of_containers.clear();
        }
        self.of_containers.insert(text.into(), schema.clone());
        Ok(schema)
    }

    /// The registry's schema with this id.
    #[inline]
    pub fn registered(&mut self, id: u32, plan: &AvroPlan, mapping: &Mapping) -> Result<Arc<MappedSchema>, Reject> {
        if let Some((last, schema)) = &self.last
            && *last == id
        {
            return Ok(schema.clone());
        }
        let schema = self.look_up(id, plan, mapping)?;
        self.last = Some((id, schema.clone()));
        Ok(schema)
    }

    fn look_up(&mut self, id: u32, plan: &AvroPlan, mapping: &Mapping) -> Result<Arc<MappedSchema>, Reject> {
        if let Some(schema) = self.registered.get(&id) {
            return schema.clone();
        }
        let schema = match plan.registry.as_ref().and_then(|registry| registry.get(id)) {
            Some(KnownSchema::Schema(parsed)) => plan.map(&parsed, mapping),
            Some(KnownSchema::Unusable(detail)) => {
                Err(Reject::new(Reason::UnusableSchema, format!("schema {id}: {detail}")))
            }
            // Not cached: the registry may know the id next time.
            Some(KnownSchema::Unknown) | None => {
                return Err(Reject::new(Reason::UnknownSchema, format!("the registry has no schema with the id {id}")));
            }
        };
        let schema = schema.map_err(|reject| reject.at(format!("schema {id}")));
        if self.registered.len() >= SCHEMAS_MAX {
            self.registered.clear();
        }
        self.registered.insert(id, schema.clone());
        schema
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The framing of a payload, in words, with the configured framing.
    fn framed(
        payload: &[u8],
        framing: AvroFraming,
        change: impl FnOnce(&mut SourceSettings),
    ) -> Result<String, Reason> {
        let mut source = SourceSettings::default();
        source.avro.framing = framing;
        change(&mut source);
        let kind = EventKind::BidRequest;
        let mapping = Mapping::new(kind, &source).unwrap();
        let files = [(PathBuf::from("bid.avsc"), bid_request_avro_schema().to_owned())].into_iter().collect();
        let plan = AvroPlan::new(kind, &source, &files, &StreamFormat::AvroMessage, &mapping).unwrap();
        match plan.frame(payload) {
            Ok(Framed::Datum(_, datum)) => Ok(format!("datum {datum:?}")),
            Ok(Framed::Packed(_, datum)) => Ok(format!("packed {datum:?}")),
            Ok(Framed::Registered(id, datum)) => Ok(format!("registered {id} {datum:?}")),
            Ok(Framed::Either { framed, bare, .. }) => Ok(format!("{framed:?} or {}", bare.len())),
            Ok(Framed::Unless { otherwise, .. }) => Ok(format!("datum or {}", otherwise.reason)),
            Ok(Framed::Container) => Ok("container".to_owned()),
            Err(reject) => Err(reject.reason),
        }
    }

    #[test]
    fn framing_is_told_by_the_first_bytes() {
        let schema = WriterSchema::parse(bid_request_avro_schema()).unwrap();
        let check = |payload: &[u8], framing: AvroFraming, expected: Result<&str, Reason>| {
            assert_eq!(framed(payload, framing, |_| ()), expected.map(str::to_owned), "{payload:?}");
        };
        let mut single = vec![0xC3, 0x01];
        single.extend(schema.fingerprint());
        single.push(7);
        check(&single, AvroFraming::Auto, Ok("datum [7]"));
        check(&single, AvroFraming::SingleObject, Ok("datum [7]"));
        check(&single, AvroFraming::None, Ok(&format!("datum {single:?}")));
        single[4] ^= 1;
        check(&single, AvroFraming::Auto, Err(Reason::UnknownSchema));
        check(&[0, 0, 0, 0, 1, 9], AvroFraming::Confluent, Ok("datum [9]"));
        check(&[0, 0, 0, 0, 1, 9], AvroFraming::Auto, Ok("[9] or 6"));
        check(&[1, 2], AvroFraming::Confluent, Err(Reason::InvalidAvro));
        check(&[1, 2], AvroFraming::SingleObject, Err(Reason::InvalidAvro));
        check(&[1, 2], AvroFraming::Glue, Err(Reason::InvalidAvro));
        check(b"Obj\x01...", AvroFraming::Auto, Ok("container"));
        check(&[4, 2], AvroFraming::Auto, Ok("datum [4, 2]"));
        let glue = [&[3, 0][..], &[7; 16], &[9]].concat();
        check(&glue, AvroFraming::Glue, Err(Reason::UnknownSchema));
        check(&glue, AvroFraming::Auto, Ok("datum or unknown_schema"));
    }

    #[test]
    fn configured_versions_of_glue_and_unpacking() {
        let path = PathBuf::from("bid.avsc");
        let version = "07070707-0707-0707-0707-070707070707";
        let check = |compression: u8, expected: &str| {
            let payload = [&[3, compression][..], &[7; 16], &[9]].concat();
            let found = framed(&payload, AvroFraming::Auto, |source| {
                source.avro.glue_schema_files.insert(version.to_owned(), path.clone());
            });
            assert_eq!(found, Ok(expected.to_owned()));
        };
        check(0, "datum [9]");
        check(5, "packed [9]");
        assert_eq!(version_id("not-a-version"), None);

        let zlib = |bytes: &[u8]| {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut unpacked = b"what was there before".to_vec();
        unpack(&zlib(b"abc"), &mut unpacked).unwrap();
        assert_eq!(unpacked, b"abc");
        assert_eq!(unpack(b"abc", &mut unpacked).unwrap_err().reason, Reason::InvalidAvro);
        let bomb = zlib(&vec![0; container::UNPACKED_BYTES_MAX + 1]);
        assert!(bomb.len() < 2 << 20);
        assert_eq!(unpack(&bomb, &mut unpacked).unwrap_err().reason, Reason::InvalidAvro);
    }
}
