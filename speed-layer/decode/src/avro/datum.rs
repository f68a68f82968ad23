//! Reads Avro's binary encoding by the writer's schema. Texts and bytes are borrowed, and
//! everything is checked.
//!
//! These are rejected:
//!
//! - lengths beyond the payload;
//! - integers that do not fit;
//! - branches and symbols that do not exist;
//! - texts that are not UTF-8;
//! - nesting deeper than `depth_max` of the source;
//! - more values in lists, maps and inner records than the datum has bytes, plus [`VALUES_FREE`].
//!   (An array of nulls takes no bytes for its values, and neither does a record without fields.)
//!
//! No memory is allocated for a length before that many bytes are seen.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::schema::{Node, NodeId, WriterSchema};
use super::{MappedSchema, convert};
use crate::reject::{Reason, Reject};
use crate::row::Row;
use crate::value::{Decimal, Value};

/// The lists, maps and inner records of a datum may have this many more values than the datum has
/// bytes.
const VALUES_FREE: usize = 1024;

/// Offers every field of a datum to `row`. Returns the number of bytes of the datum (`None` where
/// it cannot be read) and whether the record is good.
pub(crate) fn read<'a>(
    bytes: &'a [u8],
    schema: &'a MappedSchema,
    row: &mut Row<'a, '_>,
) -> (Option<usize>, Result<(), Reject>) {
    let mut cursor = Cursor::new(bytes, &schema.writer, row.mapping().depth_max(), row.arena());
    if schema.converters.iter().any(Option::is_some) {
        if convert::read(&mut cursor, schema, row).is_some() {
            return (Some(cursor.at), Ok(()));
        }
        row.clear();
        cursor = Cursor::new(bytes, &schema.writer, row.mapping().depth_max(), row.arena());
    }
    let mut outcome = Ok(());
    let record = schema.writer.record();
    for ((name, node), entry) in record.fields.iter().zip(&schema.entries) {
        match cursor.value(*node, 1) {
            Ok(value) => {
                let refused = cursor.refused.take().map_or(Ok(()), |reject| Err(reject.at(name)));
                let offered = refused.and_then(|()| row.offer(name, *entry, value));
                outcome = outcome.and(offered);
            }
            Err(reject) => return (None, Err(reject.at(name))),
        }
    }
    for ((name, constant), entry) in record.defaults.iter().zip(&schema.default_entries) {
        let offered = row.offer(name, *entry, constant.value());
        outcome = outcome.and(offered);
    }
    (Some(cursor.at), outcome)
}

/// Reads the long at the start of `bytes`. Returns it and the number of its bytes.
#[inline]
pub(crate) fn long(bytes: &[u8]) -> Result<(i64, usize), Reject> {
    match bytes {
        // The branches of unions, lengths and most counts fit in one byte.
        [byte, ..] if *byte < 0x80 => Ok((i64::from(byte >> 1) ^ -i64::from(byte & 1), 1)),
        _ => long_of_many(bytes),
    }
}

fn long_of_many(bytes: &[u8]) -> Result<(i64, usize), Reject> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        if place == 9 && *byte > 1 {
            return Err(invalid("an integer has more than 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), place + 1));
        }
    }
    Err(invalid("the datum ends within an integer"))
}

#[cold]
fn invalid(detail: &str) -> Reject {
    Reject::new(Reason::InvalidAvro, detail)
}

/// The position in a datum that is being read.
pub(super) struct Cursor<'a, 's> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
    depth_max: usize,
    /// Why the first value that the reader's schema does not accept is rejected.
    pub refused: Option<Reject>,
    schema: &'s WriterSchema,
    arena: &'a Bump,
}

impl<'a, 's: 'a> Cursor<'a, 's> {
    fn new(bytes: &'a [u8], schema: &'s WriterSchema, depth_max: usize, arena: &'a Bump) -> Cursor<'a, 's> {
        Cursor { bytes, at: 0, values: 0, depth_max, refused: None, schema, arena }
    }

    /// The values of the record itself are at depth 1, as JSON values that are not nested. Unions
    /// do not add depth.
    #[inline]
    pub fn check_depth(&self, depth: usize) -> Result<(), Reject> {
        if depth > self.depth_max + 1 { Err(invalid("nested deeper than depth_max")) } else { Ok(()) }
    }

    pub fn value(&mut self, node: NodeId, depth: usize) -> Result<Value<'a>, Reject> {
        self.check_depth(depth)?;
        let schema = self.schema;
        Ok(match schema.node(node) {
            Node::Null | Node::Pending => Value::Null,
            Node::Boolean => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(invalid("a boolean is neither 0 nor 1")),
            },
            Node::Int => Value::Integer(self.int()?.into()),
            Node::Long => Value::Integer(self.long()?),
            Node::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Node::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Node::Bytes => Value::Bytes(self.prefixed()?),
            Node::Text => Value::Text(self.text()?),
            Node::Fixed(size) => Value::Bytes(self.take(*size)?),
            Node::Enum(symbols) => {
                let index = self.int()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                match symbol.ok_or_else(|| invalid("the number of an enum's symbol is out of range"))? {
                    Some(symbol) => Value::Text(symbol),
                    None => self.refuse("the reader's schema does not have the symbol, and no default for it"),
                }
            }
            Node::Array(item) => {
                let mut items = BumpVec::new_in(self.arena);
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        items.push(self.value(*item, depth + 1)?);
                    }
                }
                Value::List(items.into_bump_slice())
            }
            Node::Map(item) => {
                let mut members = BumpVec::new_in(self.arena);
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        let key = self.text()?;
                        members.push((key, self.value(*item, depth + 1)?));
                    }
                }
                Value::Object(members.into_bump_slice())
            }
            Node::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                self.value(*branch.ok_or_else(|| invalid("the number of a union's branch is out of range"))?, depth)?
            }
            Node::Record(record) => {
                // A record whose fields are empty records takes no bytes, so a few bytes could
                // describe countless values.
                self.count(record.fields.len())?;
                let mut members = BumpVec::with_capacity_in(record.fields.len() + record.defaults.len(), self.arena);
                for (name, field) in &record.fields {
                    let value = self.value(*field, depth + 1).map_err(|reject| reject.at(name))?;
                    members.push((name.as_str(), value));
                }
                members.extend(record.defaults.iter().map(|(name, constant)| (name.as_str(), constant.value())));
                Value::Object(members.into_bump_slice())
            }
            Node::Refused { written, detail } => {
                self.value(*written, depth)?;
                self.refuse(detail)
            }
            Node::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.prefixed()?,
                };
                self.decimal(bytes, *scale)
            }
            Node::BigDecimal => {
                // The bytes hold the unscaled value, with its length before it, and then the scale.
                let inner = self.prefixed()?;
                let (length, at) = long(inner)?;
                let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
                let unscaled =
                    end.and_then(|end| inner.get(at..end)).ok_or_else(|| invalid("a decimal is too short"))?;
                let (scale, _) = long(&inner[at + unscaled.len()..])?;
                self.decimal(unscaled, u32::try_from(scale).map_err(|_| invalid("a decimal's scale is below zero"))?)
            }
            Node::Uuid { prefixed } => {
                let bytes = if *prefixed { self.prefixed()? } else { self.take(16)? };
                let bytes: [u8; 16] = bytes.try_into().map_err(|_| invalid("a UUID is not 16 bytes long"))?;
                Value::Text(self.arena.alloc_str(&hyphenated(bytes)))
            }
            Node::Date => Value::LocalTime(i64::from(self.int()?) * adlake_domain::time::DAY),
            Node::Timestamp { up, down, local } => {
                let number = self.long()?.checked_mul(*up).ok_or_else(|| invalid("a time is out of range"))?;
                let micros = number.div_euclid(*down);
                if *local { Value::LocalTime(micros) } else { Value::Time(micros) }
            }
        })
    }

    fn decimal(&self, bytes: &'a [u8], scale: u32) -> Value<'a> {
        match unscaled(bytes) {
            // A text with more than 1000 decimal places would be too long.
            Some(unscaled) if scale <= 1000 => Value::Decimal(self.arena.alloc(Decimal { unscaled, scale })),
            _ => Value::Bytes(bytes),
        }
    }

    /// The next `count` bytes, if there are that many.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Reject> {
        self.bytes(count).ok_or_else(|| invalid("ends too early"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        self.take(N)?.try_into().map_err(|_| invalid("ends too early"))
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, Reject> {
        let (value, length) = long(&self.bytes[self.at..])?;
        self.at += length;
        Ok(value)
    }

    fn int(&mut self) -> Result<i32, Reject> {
        i32::try_from(self.long()?).map_err(|_| invalid("an int has more than 32 bits"))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], Reject> {
        let length = usize::try_from(self.long()?).map_err(|_| invalid("a length is below zero"))?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Reject> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| invalid("a text is not UTF-8"))
    }

    /// The number of items in the next block of a list or map. `None` at the end.
    pub fn block(&mut self) -> Result<Option<usize>, Reject> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        if count < 0 {
            // The size of the block in bytes, which only readers that skip it need.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        self.count(count)?;
        Ok(Some(count))
    }

    pub fn count(&mut self, values: usize) -> Result<(), Reject> {
        self.values = self.values.saturating_add(values);
        if self.values > self.bytes.len() + VALUES_FREE {
            return Err(invalid("the datum has too many values for its length"));
        }
        Ok(())
    }

    /// Notes that the reader's schema does not accept a value. Reading goes on after the value.
    #[cold]
    fn refuse(&mut self, detail: &str) -> Value<'a> {
        self.refused.get_or_insert_with(|| Reject::new(Reason::UnusableSchema, detail));
        Value::Null
    }
}

/// Reads a big-endian two's complement integer. `None` where it does not fit.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let excess = bytes.len().saturating_sub(16);
    let (high, low) = bytes.split_at(excess);
    if high.iter().any(|byte| *byte != fill) {
        return None;
    }
    let mut wide = [fill; 16];
    wide[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(wide);
    ((value < 0) == negative).then_some(value)
}

fn hyphenated(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;
    use apache_avro::types::Value as AvroValue;
    use apache_avro::writer::datum::GenericDatumWriter;

    use super::*;

    /// The datum of a record `{v: value}` as JSON text of `v`.
    fn decode(field: &str, bytes: &[u8]) -> Result<String, Reason> {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"v","type":{field}}}]}}"#);
        let schema = WriterSchema::parse(&text).unwrap();
        let arena = Bump::new();
        let mut cursor = Cursor::new(bytes, &schema, 64, &arena);
        let value = cursor.value(schema.record().fields[0].1, 1).map_err(|reject| reject.reason)?;
        assert_eq!(cursor.at, bytes.len());
        let mut out = String::new();
        value.write_json(&mut out);
        Ok(out)
    }

    #[test]
    fn agrees_with_apache_avro() {
        let check = |field: &str, value: AvroValue, expected: &str| {
            let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"v","type":{field}}}]}}"#);
            let schema = Schema::parse_str(&text).unwrap();
            let record = AvroValue::Record(vec![("v".to_owned(), value)]);
            let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap();
            assert_eq!(decode(field, &datum).as_deref(), Ok(expected), "{field}");
            // Every truncated prefix of it is rejected.
            for end in 0..datum.len() {
                assert!(decode_prefix(field, &datum[..end]).is_err(), "{field} cut at {end}");
            }
        };
        check("\"long\"", AvroValue::Long(i64::MIN), "-9223372036854775808");
        check("\"long\"", AvroValue::Long(-3), "-3");
        check("\"int\"", AvroValue::Int(i32::MAX), "2147483647");
        check("\"boolean\"", AvroValue::Boolean(true), "true");
        check("\"float\"", AvroValue::Float(0.1), "0.1");
        check("\"double\"", AvroValue::Double(-0.5), "-0.5");
        check("\"bytes\"", AvroValue::Bytes(vec![1, 255]), "\"01ff\"");
        check("\"string\"", AvroValue::String("é".to_owned()), "\"é\"");
        check(r#"["null","string"]"#, AvroValue::Union(1, Box::new(AvroValue::String("x".to_owned()))), "\"x\"");
        check(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, AvroValue::Enum(1, "B".to_owned()), "\"B\"");
        check(r#"{"type":"fixed","name":"F","size":2}"#, AvroValue::Fixed(2, vec![10, 11]), "\"0a0b\"");
        let list = AvroValue::Array(vec![AvroValue::Int(1), AvroValue::Int(-1)]);
        check(r#"{"type":"array","items":"int"}"#, list, "[1,-1]");
        let map = AvroValue::Map([("k".to_owned(), AvroValue::Int(1))].into());
        check(r#"{"type":"map","values":"int"}"#, map, r#"{"k":1}"#);
        let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
        check(micros, AvroValue::TimestampMicros(1), "\"1970-01-01T00:00:00.000001Z\"");
        let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
        check(millis, AvroValue::TimestampMillis(1), "\"1970-01-01T00:00:00.001000Z\"");
        let nanos = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
        check(nanos, AvroValue::TimestampNanos(1999), "\"1970-01-01T00:00:00.000001Z\"");
        let local = r#"{"type":"long","logicalType":"local-timestamp-millis"}"#;
        check(local, AvroValue::LocalTimestampMillis(1), "\"1970-01-01T00:00:00.001000\"");
        check(r#"{"type":"int","logicalType":"date"}"#, AvroValue::Date(1), "\"1970-01-02T00:00:00.000000\"");
        let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":18,"scale":6}"#;
        check(decimal, AvroValue::Decimal((-1_500_000i128).to_be_bytes().to_vec().into()), "-1.500000");
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let fixed = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
        check(fixed, AvroValue::Uuid(uuid.parse().unwrap()), &format!("\"{uuid}\""));
    }

    fn decode_prefix(field: &str, bytes: &[u8]) -> Result<usize, Reject> {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"v","type":{field}}}]}}"#);
        let (schema, arena) = (WriterSchema::parse(&text).unwrap(), Bump::new());
        let mut cursor = Cursor::new(bytes, &schema, 64, &arena);
        cursor.value(schema.record().fields[0].1, 1).map(|_| cursor.at)
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let check = |field: &str, bytes: &[u8]| {
            assert_eq!(decode(field, bytes), Err(Reason::InvalidAvro), "{field}: {bytes:?}");
        };
        check("\"boolean\"", &[2]);
        check("\"long\"", &[0xff; 11]);
        check("\"int\"", &[0xff, 0xff, 0xff, 0xff, 0x7f]);
        check("\"string\"", &[2, 0xff]);
        check("\"string\"", &[1]);
        check("\"bytes\"", &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(r#"["null","int"]"#, &[4]);
        check(r#"["null","int"]"#, &[1]);
        check(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2]);
        // A list of 2^40 nulls takes no bytes for its values.
        check(r#"{"type":"array","items":"null"}"#, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0]);
        // A chain so long that recursion would overflow the stack.
        let chain = r#"{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"]}]}"#;
        check(chain, &[2; 100_000]);
    }

    #[test]
    fn wide_decimals() {
        assert_eq!(unscaled(&[]), Some(0));
        assert_eq!(unscaled(&[0xff]), Some(-1));
        assert_eq!(unscaled(&[0; 40]), Some(0));
        assert_eq!(unscaled(&[0xff; 40]), Some(-1));
        let mut wide = [0; 17];
        wide[0] = 1;
        assert_eq!(unscaled(&wide), None);
        wide = [0; 17];
        wide[1] = 0x80;
        assert_eq!(unscaled(&wide), None);
    }
}
