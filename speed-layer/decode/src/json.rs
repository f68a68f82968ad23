//! JSON: one object per record, or a list of objects. serde_json's strict parser reads it without
//! copies.
//!
//! The parser finds the members and checks the grammar. A value stays the text that was sent until
//! a field needs it in its type. So `7.0` in a text field stays `7.0`, and amounts are exact. Only
//! strings with escapes are copied, into the row's arena.

use std::fmt;

use adlake_domain::event::EventKind;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

mod scan;

use crate::json_text::{KeySeed, invalid, value};
use crate::mapping::Mapping;
use crate::reject::{Reason, Reject};
use crate::row::Row;
use crate::utf8::utf8;

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
            Ok(_) => Reject::new(Reason::NotAnObject, format!("the payload is JSON, but {kind} are JSON objects")),
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
            let detail = format!("the list has more than {elements_max} elements (records_max)");
            return Err(Reject::new(Reason::TooManyRecords, detail));
        }
        parsed => parsed.map_err(|error| invalid(&error))?,
    };
    if elements.iter().any(|element| element.first() == Some(&b'{')) {
        return Ok(elements);
    }
    Err(Reject::new(Reason::NotAnObject, format!("the list holds no object, but {kind} are JSON objects")))
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
