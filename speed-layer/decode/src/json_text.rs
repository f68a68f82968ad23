//! Values in JSON text. A value stays the text that was sent until a field needs its parts.

use std::fmt;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::reject::{Reason, Reject};
use crate::value::{Opened, Value};

/// The deepest nesting of objects and lists in a text that is read as JSON. Readers of stored JSON
/// have limits of this kind too. For records the limit is `depth_max` of their source.
const DEPTH_MAX: usize = 64;

impl<'a> Value<'a> {
    /// Opens a nested value into its parts. A text that is a JSON object or list is nested too,
    /// because CSV has no other way to nest.
    pub fn open(self, arena: &'a Bump) -> Result<Opened<'a>, Reject> {
        match self {
            Value::List(items) => Ok(Opened::List(items)),
            Value::Object(members) => Ok(Opened::Object(members)),
            Value::Json(text) => open(text, arena),
            Value::Text(text) | Value::Cell(text) => match text.trim_ascii_start().as_bytes().first() {
                Some(b'{' | b'[') if is_valid(text) => open(text, arena),
                _ => Ok(Opened::Scalar),
            },
            _ => Ok(Opened::Scalar),
        }
    }
}

/// The members or elements of an object or list that was parsed before.
pub(crate) fn open<'a>(text: &'a str, arena: &'a Bump) -> Result<Opened<'a>, Reject> {
    let mut parser = serde_json::Deserializer::from_str(text);
    parser.deserialize_any(PartsVisitor { arena }).map_err(|error| invalid(&error))
}

/// Whether a text is JSON and is not nested too deeply.
fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= DEPTH_MAX
}

/// The value of `raw`, which is valid JSON without spaces around it. Pass `usize::MAX` as
/// `depth_max` for a part of a value whose depth was checked as a whole.
#[inline]
pub(crate) fn value<'a>(raw: &'a str, arena: &'a Bump, depth_max: usize) -> Result<Value<'a>, serde_json::Error> {
    Ok(match raw.as_bytes() {
        [b'"', inner @ .., b'"'] => {
            if memchr::memchr(b'\\', inner).is_none() {
                Value::Text(&raw[1..raw.len() - 1])
            } else {
                let text: String = serde_json::from_str(raw)?;
                Value::Text(arena.alloc_str(&text))
            }
        }
        [b'n', ..] => Value::Null,
        [b't', ..] => Value::Bool(true),
        [b'f', ..] => Value::Bool(false),
        [b'{' | b'[', ..] => {
            if depth_max != usize::MAX && depth(raw) > depth_max {
                return Err(Error::custom(format_args!("nested deeper than {depth_max}")));
            }
            Value::Json(raw)
        }
        _ => Value::Number(raw),
    })
}

/// The depth to which the objects and lists of a valid JSON text are nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cold]
pub(crate) fn invalid(error: &serde_json::Error) -> Reject {
    Reject::new(Reason::InvalidJson, error.to_string())
}

/// A key. It is borrowed where it has no escapes, else it is copied into the arena.
pub(crate) struct KeySeed<'a> {
    pub arena: &'a Bump,
}

impl<'a> DeserializeSeed<'a> for KeySeed<'a> {
    type Value = &'a str;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<&'a str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for KeySeed<'a> {
    type Value = &'a str;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'a str) -> Result<&'a str, E> {
        Ok(key)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<&'a str, E> {
        Ok(self.arena.alloc_str(key))
    }
}

/// Collects the parts of an object or list.
struct PartsVisitor<'a> {
    arena: &'a Bump,
}

impl<'a> Visitor<'a> for PartsVisitor<'a> {
    type Value = Opened<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Opened<'a>, A::Error> {
        let mut list = BumpVec::new_in(self.arena);
        while let Some(key) = members.next_key_seed(KeySeed { arena: self.arena })? {
            let raw: &'a RawValue = members.next_value()?;
            list.push((key, value(raw.get(), self.arena, usize::MAX).map_err(A::Error::custom)?));
        }
        Ok(Opened::Object(list.into_bump_slice()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<Opened<'a>, A::Error> {
        let mut list = BumpVec::new_in(self.arena);
        while let Some(raw) = elements.next_element::<&'a RawValue>()? {
            list.push(value(raw.get(), self.arena, usize::MAX).map_err(A::Error::custom)?);
        }
        Ok(Opened::List(list.into_bump_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths() {
        let check = |text: &str, expected: usize| assert_eq!(depth(text), expected, "{text}");
        check("1", 0);
        check("[]", 1);
        check(r#"{"a":[1,{"b":2}],"c":[]}"#, 3);
        check(r#"["[[[\"[[["]"#, 1);
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(!is_valid(&deep));
        assert!(is_valid(&deep[1..deep.len() - 1]));
    }

    #[test]
    fn values_keep_their_text() {
        let arena = Bump::new();
        let check = |raw: &str, expected: &str| {
            let arena = Bump::new();
            let mut out = String::new();
            value(raw, &arena, DEPTH_MAX).unwrap().write_json(&mut out);
            assert_eq!(out, expected);
        };
        check("7.10", "7.10");
        check("1E400", "1E400");
        check(r#""a\u00e9\/""#, r#""aé/""#);
        check("null", "null");
        check("[1, 2]", "[1, 2]");
        assert!(value(r#""\ud800""#, &arena, DEPTH_MAX).is_err());
        match open(r#"{"a\n": 1, "b": [ ]}"#, &arena).unwrap() {
            Opened::Object([("a\n", Value::Number("1")), ("b", Value::Json("[ ]"))]) => {}
            _ => panic!("not the members"),
        }
    }

    #[test]
    fn texts_that_are_nested_are_opened() {
        let arena = Bump::new();
        assert!(matches!(Value::Cell(" [1]").open(&arena), Ok(Opened::List([_]))));
        assert!(matches!(Value::Cell("[1").open(&arena), Ok(Opened::Scalar)));
        assert!(matches!(Value::Text("x").open(&arena), Ok(Opened::Scalar)));
    }
}
