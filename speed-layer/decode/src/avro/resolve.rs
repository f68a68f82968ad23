//! Avro's rules of schema resolution, as far as they follow from two schemas alone: which written
//! types a reader's schema accepts, and the defaults of fields that were not written.
//!
//! A number that the reader's schema widens keeps the value that was written. That value is exact,
//! and the column's type decides.

use apache_avro::Schema;
use apache_avro::schema::{Alias, InnerDecimalSchema, Name, UuidSchema};

use crate::value::Value;

/// A type without its logical meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Null,
    /// A byte.
    Boolean,
    /// A number of 32 bits, with variable length.
    Int,
    /// A number of 64 bits, with variable length.
    Long,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// Bytes after their length.
    Bytes,
    /// A text: UTF-8 after its length.
    Text,
    /// So many bytes.
    Fixed(usize),
    /// The number of a symbol.
    Enum,
    /// Blocks of items.
    Array,
    /// Blocks of texts and items.
    Map,
    /// The number of a branch, and its value.
    Union,
    /// The values of its fields.
    Record,
    /// A reference to a named type, which has to be looked up first.
    Named,
}

/// The type of a schema without its logical meaning.
pub fn base(schema: &Schema) -> Base {
    match schema {
        Schema::Null => Base::Null,
        Schema::Boolean => Base::Boolean,
        Schema::Int | Schema::Date | Schema::TimeMillis => Base::Int,
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Base::Long,
        Schema::Float => Base::Float,
        Schema::Double => Base::Double,
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Base::Bytes,
        Schema::String | Schema::Uuid(UuidSchema::String) => Base::Text,
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            Base::Fixed(fixed.size)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => Base::Bytes,
            InnerDecimalSchema::Fixed(fixed) => Base::Fixed(fixed.size),
        },
        Schema::Enum(_) => Base::Enum,
        Schema::Array(_) => Base::Array,
        Schema::Map(_) => Base::Map,
        Schema::Union(_) => Base::Union,
        Schema::Record(_) => Base::Record,
        Schema::Ref { .. } => Base::Named,
    }
}

/// Whether a schema is a plain number or plain bytes, without a logical type.
pub(crate) fn is_plain(schema: &Schema) -> bool {
    matches!(schema, Schema::Int | Schema::Long | Schema::Bytes | Schema::Fixed(_))
}

/// Whether a reader's schema accepts what was written with the writer's, judging by types and
/// names. With `by_name`, records must have the same name. Outside of unions records are often
/// renamed, so their names are not compared.
pub(crate) fn takes(reader: &Schema, writer: &Schema, by_name: bool) -> bool {
    let named = || same_name(reader, writer);
    match (base(writer), base(reader)) {
        (Base::Record, Base::Record) => !by_name || named(),
        (Base::Enum, Base::Enum) => named(),
        (Base::Fixed(a), Base::Fixed(b)) => a == b,
        (a, b) if a == b => true,
        (_, Base::Union) | (Base::Union, _) => true,
        (Base::Int, Base::Long | Base::Float | Base::Double) | (Base::Long, Base::Float | Base::Double) => true,
        (Base::Float, Base::Double) | (Base::Text, Base::Bytes) | (Base::Bytes, Base::Text) => true,
        _ => false,
    }
}

/// Whether two types have the same name, ignoring namespaces, or the writer's name is an alias of
/// the reader's type.
fn same_name(reader: &Schema, writer: &Schema) -> bool {
    let Some(name) = writer.name().map(Name::name) else { return false };
    reader.name().map(Name::name) == Some(name)
        || reader.aliases().is_some_and(|aliases| aliases.iter().map(Alias::name).any(|alias| alias == name))
}

/// The name of a type for messages.
pub(crate) fn describe(schema: &Schema) -> String {
    match base(schema) {
        Base::Null => "null",
        Base::Boolean => "boolean",
        Base::Int => "int",
        Base::Long => "long",
        Base::Float => "float",
        Base::Double => "double",
        Base::Bytes => "bytes",
        Base::Text => "string",
        Base::Array => "array",
        Base::Map => "map",
        Base::Union => "union",
        Base::Fixed(size) => return format!("fixed of {size}"),
        Base::Enum | Base::Record | Base::Named => {
            return schema.name().map_or_else(|| "a type".to_owned(), |name| name.name().to_owned());
        }
    }
    .to_owned()
}

/// The default of a reader's field. It is used where the writer's schema lacks the field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since the epoch.
    Time(i64),
    /// Microseconds of a local time.
    LocalTime(i64),
    /// A list, map or record, as JSON text.
    Json(String),
}

impl Constant {
    /// Reads a default as a schema writes it. `None` where it does not fit the field's type.
    pub fn new(json: &serde_json::Value, schema: &Schema) -> Option<Constant> {
        if let Schema::Union(union) = schema {
            // The specification says that the default is of the first branch. Later versions allow
            // any branch.
            return union.variants().iter().find_map(|variant| Constant::new(json, variant));
        }
        let micros = |up: i64, down: i64| Some(json.as_i64()?.checked_mul(up)?.div_euclid(down));
        match schema {
            Schema::Date => Some(Constant::LocalTime(micros(adlake_domain::time::DAY, 1)?)),
            Schema::TimestampMillis => Some(Constant::Time(micros(1000, 1)?)),
            Schema::TimestampMicros => Some(Constant::Time(micros(1, 1)?)),
            Schema::TimestampNanos => Some(Constant::Time(micros(1, 1000)?)),
            Schema::LocalTimestampMillis => Some(Constant::LocalTime(micros(1000, 1)?)),
            Schema::LocalTimestampMicros => Some(Constant::LocalTime(micros(1, 1)?)),
            Schema::LocalTimestampNanos => Some(Constant::LocalTime(micros(1, 1000)?)),
            _ => match (base(schema), json) {
                (Base::Null, serde_json::Value::Null) => Some(Constant::Null),
                (Base::Boolean, serde_json::Value::Bool(value)) => Some(Constant::Boolean(*value)),
                (Base::Int | Base::Long, json) => json.as_i64().map(Constant::Integer),
                (Base::Float | Base::Double, json) => json.as_f64().map(Constant::Double),
                (Base::Text | Base::Enum, serde_json::Value::String(text)) => Some(Constant::Text(text.clone())),
                // Each byte is written as the character with the same number.
                (Base::Bytes | Base::Fixed(_), serde_json::Value::String(text)) => {
                    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>().map(Constant::Bytes)
                }
                (Base::Array, json @ serde_json::Value::Array(_))
                | (Base::Map | Base::Record | Base::Named, json @ serde_json::Value::Object(_)) => {
                    Some(Constant::Json(json.to_string()))
                }
                _ => None,
            },
        }
    }

    /// The default as a value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Constant::Null => Value::Null,
            Constant::Boolean(value) => Value::Bool(*value),
            Constant::Integer(value) => Value::Integer(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::Text(text) => Value::Text(text),
            Constant::Bytes(bytes) => Value::Bytes(bytes),
            Constant::Time(micros) => Value::Time(*micros),
            Constant::LocalTime(micros) => Value::LocalTime(*micros),
            Constant::Json(text) => Value::Json(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> Schema {
        Schema::parse_str(text).unwrap()
    }

    #[test]
    fn types_are_taken_by_the_rules() {
        let check = |writer: &str, reader: &str, expected: bool| {
            assert_eq!(takes(&schema(reader), &schema(writer), true), expected, "{writer} read as {reader}");
        };
        for (writer, readers) in [
            ("\"int\"", &["\"int\"", "\"long\"", "\"float\"", "\"double\""][..]),
            ("\"long\"", &["\"long\"", "\"float\"", "\"double\""]),
            ("\"float\"", &["\"float\"", "\"double\""]),
            ("\"double\"", &["\"double\""]),
            ("\"string\"", &["\"string\"", "\"bytes\""]),
            ("\"bytes\"", &["\"bytes\"", "\"string\""]),
            ("\"boolean\"", &["\"boolean\""]),
            ("\"null\"", &["\"null\""]),
        ] {
            for reader in ["int", "long", "float", "double", "string", "bytes", "boolean", "null"] {
                let reader = format!("\"{reader}\"");
                check(writer, &reader, readers.contains(&reader.as_str()));
            }
        }
        let record = |name: &str, alias: &str| {
            format!(r#"{{"type":"record","name":"{name}","aliases":["{alias}"],"fields":[]}}"#)
        };
        check(&record("a.A", "x"), &record("b.A", "x"), true);
        check(&record("A", "x"), &record("B", "A"), true);
        check(&record("A", "B"), &record("B", "x"), false);
        check(r#"{"type":"fixed","name":"F","size":2}"#, r#"{"type":"fixed","name":"F","size":3}"#, false);
    }

    #[test]
    fn defaults_are_values_of_their_type() {
        let check = |json: &str, field: &str, expected: Option<Constant>| {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(Constant::new(&json, &schema(field)), expected, "{json} of {field}");
        };
        check("null", r#"["null","int"]"#, Some(Constant::Null));
        check("7", r#"["null","int"]"#, Some(Constant::Integer(7)));
        check("7", "\"double\"", Some(Constant::Double(7.0)));
        check("\"\\u00ff\\u0000\"", "\"bytes\"", Some(Constant::Bytes(vec![255, 0])));
        check("\"\\u0100\"", "\"bytes\"", None);
        check("1", r#"{"type":"long","logicalType":"timestamp-millis"}"#, Some(Constant::Time(1000)));
        check("[1, 2]", r#"{"type":"array","items":"int"}"#, Some(Constant::Json("[1,2]".to_owned())));
        check("\"x\"", "\"int\"", None);
    }
}
