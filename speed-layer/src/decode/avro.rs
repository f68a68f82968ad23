//! Avro: bare datums, single-object messages, Confluent's framing, and containers of one or more records in a message.
//!
//! Datums are decoded by a small decoder of ours ([`datum`]) that borrows texts and bytes from the payload, bounds
//! depth and size, and refuses whatever does not fit; schemas, fingerprints and the codecs of containers are
//! apache-avro's.

pub(crate) mod container;
pub(crate) mod datum;
pub(crate) mod schema;

use std::sync::Arc;

use hashbrown::HashMap;

use self::schema::WriterSchema;
use crate::mapping::Mapping;
use crate::settings::AvroFraming;
use crate::validate::{Reason, Reject};

/// A schema, and what its fields are to a mapping.
#[derive(Debug)]
pub(crate) struct MappedSchema {
    pub writer: WriterSchema,
    /// For each field of the record: its entry in the mapping.
    pub entries: Vec<Option<u16>>,
}

impl MappedSchema {
    pub fn new(writer: WriterSchema, mapping: &Mapping) -> MappedSchema {
        let entries = writer.record().iter().map(|(name, _)| mapping.lookup(name)).collect();
        MappedSchema { writer, entries }
    }
}

/// What a payload is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    /// A datum of the configured schema.
    Datum(&'a [u8]),
    /// Either: the framing tells, or the datum begins with a zero byte.
    ConfluentOrDatum(&'a [u8]),
    Container,
}

/// The first bytes of a container.
const MAGIC: &[u8] = b"Obj\x01";

/// Whether a payload begins like a container.
pub(crate) fn is_container(payload: &[u8]) -> bool {
    payload.starts_with(MAGIC)
}

/// Looks at the first bytes of a payload.
pub(crate) fn frame<'a>(payload: &'a [u8], framing: AvroFraming, schema: &WriterSchema) -> Result<Framed<'a>, Reject> {
    match (framing, payload) {
        (AvroFraming::None, datum) => Ok(Framed::Datum(datum)),
        (AvroFraming::Confluent, [0, _, _, _, _, datum @ ..]) => Ok(Framed::Datum(datum)),
        (AvroFraming::Confluent, _) => {
            Err(Reject::new(Reason::InvalidAvro, "does not begin with a zero byte and a schema id"))
        }
        (_, [0xC3, 0x01, rest @ ..]) if rest.len() >= 8 => {
            let (fingerprint, datum) = rest.split_at(8);
            if fingerprint == schema.fingerprint() {
                return Ok(Framed::Datum(datum));
            }
            let digits: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
            Err(Reject::new(Reason::UnknownSchema, format!("no schema with the fingerprint {digits} is configured")))
        }
        (AvroFraming::SingleObject, _) => {
            Err(Reject::new(Reason::InvalidAvro, "does not begin with C3 01 and a fingerprint"))
        }
        (AvroFraming::Auto, payload) if is_container(payload) => Ok(Framed::Container),
        (AvroFraming::Auto, [0, _, _, _, _, _, ..]) => Ok(Framed::ConfluentOrDatum(payload)),
        (AvroFraming::Auto, datum) => Ok(Framed::Datum(datum)),
    }
}

/// The schemas of containers seen before: most containers of a source have the same.
#[derive(Debug, Default)]
pub(crate) struct SchemaCache {
    known: HashMap<Box<[u8]>, Arc<MappedSchema>>,
}

/// Distinct schemas remembered; beyond it all are forgotten at once.
const SCHEMAS_MAX: usize = 64;

impl SchemaCache {
    /// The schema of this JSON text.
    pub fn schema(&mut self, text: &[u8], mapping: &Mapping) -> Result<Arc<MappedSchema>, Reject> {
        if let Some(schema) = self.known.get(text) {
            return Ok(schema.clone());
        }
        let invalid = |detail: String| Reject::new(Reason::InvalidAvro, detail);
        let json = std::str::from_utf8(text).map_err(|_| invalid("the schema is not UTF-8".to_owned()))?;
        let writer = WriterSchema::parse(json).map_err(|error| match error {
            schema::SchemaError::NotARecord => Reject::new(Reason::NotAnObject, error.to_string()),
            _ => invalid(error.to_string()),
        })?;
        let schema = Arc::new(MappedSchema::new(writer, mapping));
        if self.known.len() >= SCHEMAS_MAX {
            self.known.clear();
        }
        self.known.insert(text.into(), schema.clone());
        Ok(schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_told_by_the_first_bytes() {
        let schema = WriterSchema::parse(crate::decode::bid_request_avro_schema()).unwrap();
        let check = |payload: &[u8], framing: AvroFraming, expected: Result<Framed<'_>, Reason>| {
            let found = frame(payload, framing, &schema).map_err(|reject| reject.reason);
            assert_eq!(found, expected, "{payload:?}");
        };
        let mut single = vec![0xC3, 0x01];
        single.extend(schema.fingerprint());
        single.push(7);
        check(&single, AvroFraming::Auto, Ok(Framed::Datum(&[7])));
        check(&single, AvroFraming::SingleObject, Ok(Framed::Datum(&[7])));
        check(&single, AvroFraming::None, Ok(Framed::Datum(&single)));
        single[4] ^= 1;
        check(&single, AvroFraming::Auto, Err(Reason::UnknownSchema));
        check(&[0, 0, 0, 0, 1, 9], AvroFraming::Confluent, Ok(Framed::Datum(&[9])));
        check(&[0, 0, 0, 0, 1, 9], AvroFraming::Auto, Ok(Framed::ConfluentOrDatum(&[0, 0, 0, 0, 1, 9])));
        check(&[1, 2], AvroFraming::Confluent, Err(Reason::InvalidAvro));
        check(&[1, 2], AvroFraming::SingleObject, Err(Reason::InvalidAvro));
        check(b"Obj\x01...", AvroFraming::Auto, Ok(Framed::Container));
        check(&[4, 2], AvroFraming::Auto, Ok(Framed::Datum(&[4, 2])));
    }
}
