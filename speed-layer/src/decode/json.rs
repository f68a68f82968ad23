//! JSON: one object per record, or a list of objects. serde_json's strict parser reads it without
//! copies.
//!
//! The parser finds the members and checks the grammar. A value stays the text that was sent until
//! a field needs it in its type. So `7.0` in a text field stays `7.0`, and amounts are exact. Only
//! strings with escapes are copied, into the row's arena.

use std::fmt;

use adlake_domain::event::EventKind;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

mod scan;

use super::row::Row;
use super::utf8;
use super::value::{Opened, Value};
use crate::mapping::Mapping;
use crate::validate::{Reason, Reject};

/// The deepest nesting of objects and lists in a text that is read as JSON. Readers of stored JSON
/// have limits of this kind too. For records the limit is `depth_max` of their source.
const DEPTH_MAX: usize = 64;

/// The byte order mark, which some programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The payload without a leading byte order mark.
#[inline]
pub(crate) fn without_mark(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload)
}

/// Whether the payload is a list, provided that it is JSON.
#[inline]
pub(crate) fn is_list(payload: &[u8]) -> bool {
    match payload.first() {
        Some(b'{') => false,
        _ => payload.trim_ascii_start().first() == Some(&b'['),
    }
}

/// The keys of the previous record. Most records have the same keys in the same order, so most keys
/// need no lookup.
#[derive(Debug, Default)]
pub(crate) struct KeyMemo {
    keys: Vec<(String, Option<u16>)>,
}

/// The number of keys that are remembered.
const KEYS_MAX: usize = 256;
/// Longer keys are not remembered.
const KEY_BYTES_MAX: usize = 128;

impl KeyMemo {
    /// Compares the start of `text` with the key that the previous record had at this place, and
    /// its closing quote. If they are equal, returns the key's length and its entry in the mapping.
    /// Remembered keys contain no escapes.
    #[inline]
    fn recognise(&self, place: usize, text: &[u8]) -> Option<(usize, Option<u16>)> {
        let (key, entry) = self.keys.get(place)?;
        let length = key.len();
        let same = text.get(length) == Some(&b'"') && same_bytes(&text[..length], key.as_bytes());
        (same && length > 0).then_some((length, *entry))
    }

    #[inline]
    fn lookup(&mut self, place: usize, key: &str, mapping: &Mapping) -> Option<u16> {
        if let Some((known, entry)) = self.keys.get(place)
            && known == key
        {
            return *entry;
        }
        let entry = mapping.lookup(key);
        let is_plain = |key: &str| key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        // Every place needs a key. The empty key, which never matches, stands for a key that is too
        // long or needs escapes.
        let learnt = if key.len() <= KEY_BYTES_MAX && is_plain(key) { (key, entry) } else { ("", None) };
        if let Some((known, known_entry)) = self.keys.get_mut(place) {
            known.clear();
            known.push_str(learnt.0);
            *known_entry = learnt.1;
        } else if place < KEYS_MAX {
            // Places come in order, so this is the next one.
            self.keys.push((learnt.0.to_owned(), learnt.1));
        }
        entry
    }
}

/// Whether two texts of the same length are equal. Keys are so short that a call of `memcmp` costs
/// more than it saves.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    a.iter().zip(b).all(|(a, b)| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

/// Offers every member of the record's object to `row`.
pub(crate) fn read<'a>(
    payload: &'a [u8],
    kind: EventKind,
    memo: &mut KeyMemo,
    row: &mut Row<'a, '_>,
) -> Result<(), Reject> {
    let text = utf8(payload)?;
    if let Some(outcome) = scan::read(text, memo, row) {
        return outcome;
    }
    row.clear();
    if text.trim_ascii_start().as_bytes().first() != Some(&b'{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Reject::new(Reason::NotAnObject, format!("a record of {kind} is a JSON object")),
            Err(error) => invalid(&error),
        });
    }
    parse(text, memo, row)
}

/// Reads the members with the strict parser, where the fast scanner gives up.
fn parse<'a>(text: &'a str, memo: &mut KeyMemo, row: &mut Row<'a, '_>) -> Result<(), Reject> {
    let mut refused = None;
    let mut parser = serde_json::Deserializer::from_str(text);
    let members = RecordVisitor { memo, row, refused: &mut refused };
    let parsed = parser.deserialize_map(members).and_then(|()| parser.end());
    // Broken JSON is the more basic error of the two, so it is reported first.
    parsed.map_err(|error| invalid(&error))?;
    refused.map_or(Ok(()), Err)
}

/// The elements of a list of records, each as it was sent. The list is rejected as a whole if it is
/// not JSON, has more than `elements_max` elements, or holds no object.
pub(crate) fn elements(payload: &[u8], kind: EventKind, elements_max: usize) -> Result<Vec<&[u8]>, Reject> {
    let text = utf8(payload)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let mut too_many = false;
    let visitor = ElementsVisitor { elements_max, too_many: &mut too_many };
    let parsed = parser.deserialize_seq(visitor).and_then(|elements| parser.end().map(|()| elements));
    let elements = match parsed {
        Err(_) if too_many => {
            let detail = format!("a list of more than records_max ({elements_max}) elements");
            return Err(Reject::new(Reason::TooManyRecords, detail));
        }
        parsed => parsed.map_err(|error| invalid(&error))?,
    };
    if elements.iter().any(|element| element.first() == Some(&b'{')) {
        return Ok(elements);
    }
    Err(Reject::new(Reason::NotAnObject, format!("a list without any object: a record of {kind} is a JSON object")))
}

/// The members or elements of an object or list that was parsed before.
pub(crate) fn open<'a>(text: &'a str, arena: &'a Bump) -> Result<Opened<'a>, Reject> {
    let mut parser = serde_json::Deserializer::from_str(text);
    parser.deserialize_any(PartsVisitor { arena }).map_err(|error| invalid(&error))
}

/// Whether a text is JSON and is not nested too deeply.
pub(crate) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= DEPTH_MAX
}

/// The value of `raw`, which is valid JSON without spaces around it. Pass `usize::MAX` as
/// `depth_max` for a part of a value whose depth was checked as a whole.
fn value<'a>(raw: &'a str, arena: &'a Bump, depth_max: usize) -> Result<Value<'a>, serde_json::Error> {
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

fn invalid(error: &serde_json::Error) -> Reject {
    Reject::new(Reason::InvalidJson, error.to_string())
}

/// Walks the members of a record.
struct RecordVisitor<'v, 'a, 'd> {
    memo: &'v mut KeyMemo,
    row: &'v mut Row<'a, 'd>,
    /// The first member that the row refused.
    refused: &'v mut Option<Reject>,
}

impl<'a> Visitor<'a> for RecordVisitor<'_, 'a, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        let arena = self.row.arena();
        let mut place = 0;
        while let Some(key) = members.next_key_seed(KeySeed { arena })? {
            let raw: &'a RawValue = members.next_value()?;
            let value = value(raw.get(), arena, self.row.mapping().depth_max()).map_err(A::Error::custom)?;
            let entry = self.memo.lookup(place, key, self.row.mapping());
            place += 1;
            if let Err(reject) = self.row.offer(key, entry, value) {
                self.refused.get_or_insert(reject);
            }
        }
        Ok(())
    }
}

/// A key. It is borrowed where it has no escapes, else it is copied into the arena.
struct KeySeed<'a> {
    arena: &'a Bump,
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

/// Collects the texts of a list's elements.
struct ElementsVisitor<'v> {
    elements_max: usize,
    too_many: &'v mut bool,
}

impl<'a> Visitor<'a> for ElementsVisitor<'_> {
    type Value = Vec<&'a [u8]>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<Vec<&'a [u8]>, A::Error> {
        let mut list = Vec::new();
        while let Some(raw) = elements.next_element::<&'a RawValue>()? {
            if list.len() == self.elements_max {
                *self.too_many = true;
                return Err(A::Error::custom("too many elements"));
            }
            list.push(raw.get().as_bytes());
        }
        Ok(list)
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
}
