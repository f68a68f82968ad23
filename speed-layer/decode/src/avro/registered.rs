//! The schemas of a registry, as the decoder sees them.

use std::fmt;
use std::sync::Arc;

use super::schema::ParsedSchema;
use crate::settings::AvroFraming;

/// What is known about a schema id.
#[derive(Debug, Clone)]
pub enum KnownSchema {
    /// Its schema.
    Schema(Arc<ParsedSchema>),
    /// It is not an Avro schema, or not a valid one.
    Unusable(Arc<str>),
    /// The registry does not know it.
    Unknown,
}

/// Schemas by their id in a registry. Whoever decodes has fetched the schemas before, so this never
/// waits.
pub trait RegisteredSchemas: fmt::Debug + Send + Sync {
    /// What is known about an id. `None` means that it was never fetched.
    fn get(&self, id: u32) -> Option<KnownSchema>;
}

/// The registry's schema id in the framing of a message, if there is one.
#[inline]
pub fn schema_id(payload: &[u8], framing: AvroFraming) -> Option<u32> {
    match (framing, payload) {
        (AvroFraming::Confluent | AvroFraming::Auto, [0, a, b, c, d, ..]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_ids() {
        let check =
            |payload: &[u8], framing, expected| assert_eq!(schema_id(payload, framing), expected, "{payload:?}");
        check(&[0, 0, 0, 1, 2], AvroFraming::Auto, Some(258));
        check(&[0, 0, 0, 1, 2, 9], AvroFraming::Confluent, Some(258));
        check(&[0, 0, 0, 1, 2, 9], AvroFraming::None, None);
        check(&[0, 0, 0, 1], AvroFraming::Auto, None);
        check(&[1, 0, 0, 0, 1], AvroFraming::Auto, None);
    }
}
