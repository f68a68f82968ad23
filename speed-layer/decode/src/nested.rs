//! Converts nested values to structs, lists and maps, by the types of the schema alone.
//!
//! Members that the schema does not know are kept among the attributes under their path
//! (`imp[0].ext`, `site.publisher.cat`). A member that the schema knows must be of its type.
//! Otherwise the record is a dead letter, and its detail names the path.

use arrow::datatypes::DataType;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use crate::attributes::Attributes;
use crate::cell::Cell;
use crate::reject::{Reason, Reject};
use crate::validate;
use crate::value::{Opened, Value, collect};

/// The path from the record to a nested value, as a linked list on the stack. It is formatted only
/// when it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trail<'t> {
    Field(&'t str),
    Member(&'t Trail<'t>, &'t str),
    Element(&'t Trail<'t>, usize),
}

impl std::fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trail::Field(name) => f.write_str(name),
            Trail::Member(parent, name) => write!(f, "{parent}.{name}"),
            Trail::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Converts a value to a cell of `data_type`. Members that the type does not know go to
/// `attributes`.
pub(crate) fn convert<'a>(
    value: Value<'a>,
    data_type: &DataType,
    trail: Trail<'_>,
    attributes: &mut Attributes,
    arena: &'a Bump,
) -> Result<Cell<'a>, Reject> {
    if value.is_null() {
        return Ok(Cell::Null);
    }
    match data_type {
        DataType::Struct(fields) => {
            let Opened::Object(members) = value.open(arena)? else { return Err(is_not("an object", value, trail)) };
            let cells = arena.alloc_slice_fill_copy(fields.len(), Cell::Null);
            // Members mostly come in the order of the fields, so the search for the next one starts
            // after the last one found.
            let mut next = 0;
            let mut find = |name: &str| {
                let behind = (next..fields.len()).find(|index| fields[*index].name() == name);
                let found = behind.or_else(|| fields[..next].iter().position(|field| field.name() == name));
                next = found.map_or(next, |index| index + 1);
                found
            };
            for (name, value) in members {
                if value.is_null() {
                    continue;
                }
                let trail = Trail::Member(&trail, name);
                match find(name) {
                    Some(index) => {
                        cells[index] = convert(*value, fields[index].data_type(), trail, attributes, arena)?;
                    }
                    None => attributes.keep(&trail.to_string(), value),
                }
            }
            Ok(Cell::Struct(cells))
        }
        DataType::List(element) => match value.open(arena)? {
            Opened::List(items) => {
                let cells = items.iter().enumerate().map(|(index, item)| {
                    convert(*item, element.data_type(), Trail::Element(&trail, index), attributes, arena)
                });
                Ok(Cell::List(collect(cells, arena)?))
            }
            // A single text where the type is a list of texts. CSV has no other way to write one.
            Opened::Scalar if *element.data_type() == DataType::Utf8 => {
                let cell = validate::text(value, arena).ok_or_else(|| is_not("a list", value, trail))?;
                Ok(Cell::List(arena.alloc_slice_copy(&[cell])))
            }
            _ => Err(is_not("a list", value, trail)),
        },
        DataType::Map(..) => {
            let Opened::Object(members) = value.open(arena)? else { return Err(is_not("an object", value, trail)) };
            Ok(Cell::Map(entries(members, arena)))
        }
        DataType::Utf8 => validate::text(value, arena).ok_or_else(|| is_not("a text", value, trail)),
        DataType::Int32 => validate::int32(value).map_err(|reject| reject.at(trail)),
        DataType::Float64 => validate::double(value).map_err(|reject| reject.at(trail)),
        other => Err(Reject::new(Reason::BadType, format!("{trail}: nothing can be {other}"))),
    }
}

/// Whether a value is nested as its type is: object, list or scalar at every level that the type
/// knows, null anywhere. The types of the scalars do not count.
#[cold]
pub(crate) fn has_shape<'a>(value: Value<'a>, data_type: &DataType, arena: &'a Bump) -> bool {
    if value.is_null() {
        return true;
    }
    match (data_type, value.open(arena)) {
        // A value that cannot be opened is broken. It is reported as such later, not as the wrong
        // shape.
        (_, Err(_)) => true,
        (DataType::Struct(fields), Ok(Opened::Object(members))) => members.iter().all(|(name, value)| {
            fields.find(name).is_none_or(|(_, field)| has_shape(*value, field.data_type(), arena))
        }),
        (DataType::List(element), Ok(Opened::List(items))) => {
            items.iter().all(|item| has_shape(*item, element.data_type(), arena))
        }
        (DataType::List(element), Ok(Opened::Scalar)) => *element.data_type() == DataType::Utf8,
        (DataType::Map(..), Ok(Opened::Object(_))) => true,
        (DataType::Struct(_) | DataType::List(_) | DataType::Map(..), _) => false,
        _ => !value.is_nested(),
    }
}

/// The entries of a map of texts, sorted by key. Of a key sent twice, the later entry counts.
/// Nested values become JSON text.
pub(crate) fn entries<'a>(members: &[(&'a str, Value<'a>)], arena: &'a Bump) -> &'a [(&'a str, Option<&'a str>)] {
    let mut entries = BumpVec::with_capacity_in(members.len(), arena);
    for (key, value) in members {
        let text = value.to_text(arena).or_else(|| {
            value.is_nested().then(|| {
                let mut text = String::new();
                value.write_json(&mut text);
                &*arena.alloc_str(&text)
            })
        });
        entries.push((*key, text));
    }
    // The sort is stable: of equal keys the last one sent stays last, and that one is kept.
    entries.sort_by_key(|(key, _)| *key);
    let mut kept: BumpVec<'a, (&'a str, Option<&'a str>)> = BumpVec::with_capacity_in(entries.len(), arena);
    for entry in entries {
        match kept.last_mut() {
            Some(last) if last.0 == entry.0 => *last = entry,
            _ => kept.push(entry),
        }
    }
    kept.into_bump_slice()
}

fn is_not(wanted: &str, value: Value<'_>, trail: Trail<'_>) -> Reject {
    Reject::new(Reason::BadType, format!("{trail}: {} is not {wanted}", value.describe()))
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;
    use adlake_domain::schema::content_fields;

    use super::*;
    use crate::json_text;

    fn check(field: &str, json: &str, attributes: Option<&str>, verify: impl Fn(Result<Cell<'_>, Reject>)) {
        let arena = Bump::new();
        let mut kept = Attributes::default();
        let fields = content_fields(EventKind::BidRequest);
        let data_type = fields.iter().find(|known| known.name() == field).unwrap().data_type();
        let value = match json_text::open(json, &arena).unwrap() {
            Opened::List(items) => Value::List(items),
            Opened::Object(members) => Value::Object(members),
            Opened::Scalar => unreachable!(),
        };
        verify(convert(value, data_type, Trail::Field(field), &mut kept, &arena));
        assert_eq!(kept.finish(), attributes);
    }

    #[test]
    fn unknown_members_are_kept_under_their_path() {
        check(
            "site",
            r#"{"id": 7, "ext": {"x": [1]}, "publisher": {"id": "p", "cat": ["a"], "none": null}}"#,
            Some(r#"{"site.ext":{"x": [1]},"site.publisher.cat":["a"]}"#),
            |cell| {
                let cell = cell.unwrap();
                assert_eq!(cell.part(0), Cell::Text("7"));
                assert_eq!(cell.part(1), Cell::Null);
                assert_eq!(cell.part(7).part(0), Cell::Text("p"));
            },
        );
        check("imp", r#"[{"id": "1"}, {"id": "2", "ext": 1}, null]"#, Some(r#"{"imp[1].ext":1}"#), |cell| {
            let Cell::List([one, two, Cell::Null]) = cell.unwrap() else { panic!("not three") };
            assert_eq!((one.part(0), two.part(0)), (Cell::Text("1"), Cell::Text("2")));
        });
    }

    #[test]
    fn maps_are_sorted_and_texts() {
        check("targeting", r#"{"b": 1, "a": "x", "c": null, "d": {"e": 1}, "b": 2}"#, None, |cell| {
            let expected = [("a", Some("x")), ("b", Some("2")), ("c", None), ("d", Some(r#"{"e": 1}"#))];
            assert_eq!(cell.unwrap(), Cell::Map(&expected));
        });
    }

    #[test]
    fn wrong_types_name_their_path() {
        let refused = |field: &str, json: &str, wanted: &str| {
            check(field, json, None, |cell| {
                let reject = cell.unwrap_err();
                assert_eq!(reject.reason, Reason::BadType);
                assert!(reject.detail.starts_with(wanted), "{}", reject.detail);
            });
        };
        refused("imp", r#"[{"id":"1"},{"banner":{"w":"wide"}}]"#, "imp[1].banner.w: ");
        refused("imp", r#"{"id":"1"}"#, "imp: ");
        refused("site", "[]", "site: ");
        refused("device", r#"{"geo":{"lat":"north"}}"#, "device.geo.lat: ");
        refused("site", r#"{"name":{}}"#, "site.name: ");
    }

    #[test]
    fn a_shape_is_how_a_value_is_nested() {
        let check = |field: &str, value: Value<'_>, expected: bool| {
            let arena = Bump::new();
            let fields = content_fields(EventKind::BidRequest);
            let field = fields.iter().find(|known| known.name() == field).unwrap();
            assert_eq!(has_shape(value, field.data_type(), &arena), expected, "{}: {value:?}", field.name());
        };
        check("targeting", Value::Null, true);
        check("targeting", Value::Json(r#"{"a":[1],"b":{"c":2}}"#), true);
        check("targeting", Value::Cell(r#"{"a":"b"}"#), true);
        check("targeting", Value::Json("[]"), false);
        check("targeting", Value::Text(""), false);
        check("imp", Value::Json("[]"), true);
        check("imp", Value::Json(r#"[null,{"banner":{"w":"wide"},"ext":[]}]"#), true);
        check("imp", Value::Json(r#"[{"id":"1"},"2"]"#), false);
        check("imp", Value::Json(r#"{"id":"1"}"#), false);
        check("imp", Value::Json(r#"[{"banner":{"w":"wide"}},{"banner":[]}]"#), false);
        check("site", Value::Json(r#"{"publisher":"p"}"#), false);
        check("site", Value::Json(r#"{"name":{}}"#), false);
        check("site", Value::Json(r#"{"cat":"IAB1","publisher":null}"#), true);
        check("device", Value::Json(r#"{"geo":{"lat":[1]}}"#), false);
        check("device", Value::Integer(7), false);
    }

    #[test]
    fn keys_are_escaped() {
        check("site", r#"{"a\"b": 1}"#, Some(r#"{"site.a\"b":1}"#), |cell| assert!(cell.is_ok()));
    }
}
