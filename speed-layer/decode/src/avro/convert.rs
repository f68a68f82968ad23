//! A fast path: converts the values of a datum directly to cells of their columns, by a plan made
//! once for each schema.
//!
//! The general path reads every value by name as it was written, and then converts it to the type
//! of its column. If the writer's schema fits the columns, the conversion is known before any value
//! is read. It fits where records meet structs, lists meet lists, and scalars have the column's
//! type or can be converted to it.
//!
//! Whatever is not known beforehand, or goes wrong, is read again on the general path, which also
//! reports the error. The fast path only ever gives what the general one would give
//! (`tests::shapes`). So its functions return `None` without a reason.

use arrow::datatypes::DataType;
use bumpalo::collections::Vec as BumpVec;

use super::MappedSchema;
use super::datum::Cursor;
use super::schema::{Node, NodeId, WriterSchema};
use crate::cell::Cell;
use crate::mapping::{Field, Mapping, Shape};
use crate::nested::entries;
use crate::row::Row;
use crate::validate;
use crate::value::Value;

/// How a value is converted to a cell.
#[derive(Debug)]
pub(crate) enum Converter {
    Null,
    Text,
    Int32,
    Double,
    /// Any other scalar, converted to a text, an integer of 32 bits or a double.
    Scalar(NodeId, Scalar),
    Union(Box<[Converter]>),
    /// The members of a struct, and the number of the struct's fields.
    Struct(Box<[Member]>, usize),
    List(Box<Converter>),
    /// A map or a record, converted to a map of texts.
    Map(NodeId),
    /// A content field that is not nested.
    Field(NodeId),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar {
    Text,
    Int32,
    Double,
}

/// A field of a record.
#[derive(Debug)]
pub(crate) enum Member {
    /// A field of the struct.
    Known(usize, Converter),
    /// The struct has no such field. The pieces are the parts of its path between the indices of
    /// lists.
    Unknown(NodeId, Box<[String]>),
}

/// For each field of a record that alone fills a content field: the index of that field, and how
/// the value is converted.
pub(crate) fn converters(
    schema: &WriterSchema,
    entries: &[Option<u16>],
    default_entries: &[Option<u16>],
    mapping: &Mapping,
) -> Vec<Option<(usize, Converter)>> {
    let sole_fields = mapping.sole_fields(entries.iter().chain(default_entries).copied());
    let mut compiler = Compiler { schema, left: PARTS_MAX };
    let mut converter = |index: Option<usize>, node: NodeId| {
        let index = index?;
        let field = &mapping.fields()[index];
        let converter = match field.shape {
            Shape::Nested => compiler.converter(node, &field.data_type, vec![field.name.clone()])?,
            Shape::Text if !field.empty_is_missing => {
                compiler.converter(node, &DataType::Utf8, Vec::new()).unwrap_or(Converter::Field(node))
            }
            _ => Converter::Field(node),
        };
        Some((index, converter))
    };
    schema.record().fields.iter().zip(sole_fields).map(|((_, node), index)| converter(index, *node)).collect()
}

/// The greatest number of parts of a plan. A type that is named repeatedly is in the plan as often,
/// and containers bring schemas of their own.
const PARTS_MAX: usize = 4096;
/// The names of members without a column are stored in the plan. Such a member counts as one part,
/// and as one more for each this many bytes of its name.
const NAME_BYTES: usize = 64;

struct Compiler<'s> {
    schema: &'s WriterSchema,
    /// The parts that the plan may still get.
    left: usize,
}

impl Compiler<'_> {
    /// How a node's value is converted to a column's type. `None` where that depends on the value,
    /// or where the plan would be too large. `path` is the path to the node, in pieces between the
    /// indices of lists.
    fn converter(&mut self, node: NodeId, data_type: &DataType, path: Vec<String>) -> Option<Converter> {
        self.left = self.left.checked_sub(1)?;
        let schema = self.schema;
        Some(match (schema.node(node), data_type) {
            (Node::Null, _) => Converter::Null,
            (Node::Union(branches), _) => {
                let branch = |branch: &NodeId| self.converter(*branch, data_type, path.clone());
                Converter::Union(branches.iter().map(branch).collect::<Option<_>>()?)
            }
            (Node::Map(_) | Node::Record(_), DataType::Map(..)) => Converter::Map(node),
            (Node::Record(record), DataType::Struct(fields)) if record.defaults.is_empty() => {
                let member = |(name, node): &(String, NodeId)| {
                    let path = longer(&path, &format!(".{name}"));
                    Some(match fields.find(name) {
                        Some((index, field)) => Member::Known(index, self.converter(*node, field.data_type(), path)?),
                        None => {
                            self.left = self.left.checked_sub(1 + name.len() / NAME_BYTES)?;
                            Member::Unknown(*node, path.into())
                        }
                    })
                };
                Converter::Struct(record.fields.iter().map(member).collect::<Option<_>>()?, fields.len())
            }
            (Node::Array(item), DataType::List(element)) => {
                let mut path = longer(&path, "[");
                path.push("]".to_owned());
                Converter::List(Box::new(self.converter(*item, element.data_type(), path)?))
            }
            (Node::Array(_) | Node::Map(_) | Node::Record(_) | Node::Refused { .. } | Node::Pending, _) => return None,
            (Node::Text, DataType::Utf8) => Converter::Text,
            (Node::Int, DataType::Int32) => Converter::Int32,
            (Node::Double, DataType::Float64) => Converter::Double,
            (_, DataType::Utf8) => Converter::Scalar(node, Scalar::Text),
            (_, DataType::Int32) => Converter::Scalar(node, Scalar::Int32),
            (_, DataType::Float64) => Converter::Scalar(node, Scalar::Double),
            _ => return None,
        })
    }
}

/// The path with `more` appended to its last piece.
fn longer(path: &[String], more: &str) -> Vec<String> {
    let mut path = path.to_vec();
    if let Some(last) = path.last_mut() {
        last.push_str(more);
    }
    path
}

/// Offers every field of the datum at the cursor to `row`. `None` means that the datum has to be
/// read on the general path.
pub(super) fn read<'a>(cursor: &mut Cursor<'a, 'a>, schema: &'a MappedSchema, row: &mut Row<'a, '_>) -> Option<()> {
    let record = schema.writer.record();
    let mut conversion = DatumConversion { indices: BumpVec::new_in(row.arena()), field: 0, cursor, row };
    for (((name, node), entry), converter) in record.fields.iter().zip(&schema.entries).zip(&schema.converters) {
        match converter {
            Some((index, converter)) => {
                conversion.field = *index;
                let mut cell = Cell::Null;
                conversion.cell(converter, 1, &mut cell)?;
                if !matches!(cell, Cell::Null) {
                    conversion.row.set_converted(*index, cell);
                }
            }
            None => {
                let value = conversion.cursor.value(*node, 1).ok()?;
                conversion.row.offer(name, *entry, value).ok()?;
            }
        }
    }
    for ((name, constant), entry) in record.defaults.iter().zip(&schema.default_entries) {
        conversion.row.offer(name, *entry, constant.value()).ok()?;
    }
    cursor.refused.is_none().then_some(())
}

/// The state of reading one datum into cells.
struct DatumConversion<'c, 'r, 'a, 'd> {
    cursor: &'c mut Cursor<'a, 'a>,
    row: &'r mut Row<'a, 'd>,
    /// The index of the content field that is being read.
    field: usize,
    /// The indices in the lists that the value is in.
    indices: BumpVec<'a, usize>,
}

impl<'a> DatumConversion<'_, '_, 'a, '_> {
    fn cell(&mut self, converter: &'a Converter, depth: usize, out: &mut Cell<'a>) -> Option<()> {
        self.cursor.check_depth(depth).ok()?;
        match converter {
            Converter::Null => {}
            Converter::Text => *out = Cell::Text(self.text()?),
            Converter::Int32 => *out = Cell::Integer(i32::try_from(self.long()?).ok()?.into()),
            Converter::Double => {
                let number = f64::from_le_bytes(self.cursor.bytes(8)?.try_into().ok()?);
                *out = Cell::Double(Some(number).filter(|number| number.is_finite())?);
            }
            Converter::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index))?;
                self.cell(branch, depth, out)?;
            }
            Converter::Scalar(node, scalar) => {
                let value = self.cursor.value(*node, depth).ok()?;
                if !value.is_null() {
                    *out = match scalar {
                        Scalar::Text => validate::text(value, self.row.arena())?,
                        Scalar::Int32 => validate::int32(value).ok()?,
                        Scalar::Double => validate::double(value).ok()?,
                    };
                }
            }
            Converter::Struct(members, width) => {
                self.cursor.count(members.len()).ok()?;
                let cells = self.row.arena().alloc_slice_fill_copy(*width, Cell::Null);
                for member in members {
                    match member {
                        Member::Known(index, converter) => self.cell(converter, depth + 1, &mut cells[*index])?,
                        Member::Unknown(node, path) => {
                            let value = self.cursor.value(*node, depth + 1).ok()?;
                            if !value.is_null() {
                                self.keep(path, value);
                            }
                        }
                    }
                }
                *out = Cell::Struct(cells);
            }
            Converter::List(item) => {
                let mut cells = BumpVec::new_in(self.row.arena());
                self.indices.push(0);
                while let Some(count) = self.cursor.block().ok()? {
                    for _ in 0..count {
                        if let Some(index) = self.indices.last_mut() {
                            *index = cells.len();
                        }
                        cells.push(Cell::Null);
                        self.cell(item, depth + 1, cells.last_mut()?)?;
                    }
                }
                self.indices.pop();
                *out = Cell::List(cells.into_bump_slice());
            }
            Converter::Map(node) => match self.cursor.value(*node, depth).ok()? {
                Value::Object(members) => *out = Cell::Map(entries(members, self.row.arena())),
                _ => return None,
            },
            Converter::Field(node) => {
                let value = self.cursor.value(*node, depth).ok()?;
                let mapping = self.row.mapping();
                let field: &Field = &mapping.fields()[self.field];
                if value.is_nested() {
                    return None;
                }
                if !validate::is_missing(field, value) {
                    *out = validate::cell(field, value, mapping.times(), self.row.arena()).ok()?;
                } else if field.default.is_some() && !value.is_null() {
                    // The default replaces the empty text, which is kept as an attribute. The
                    // general path does both.
                    return None;
                }
            }
        }
        Some(())
    }

    #[inline]
    fn long(&mut self) -> Option<i64> {
        self.cursor.long().ok()
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        std::str::from_utf8(self.cursor.bytes(length)?).ok()
    }

    /// Notes a value that no field takes, to be kept under its path.
    #[cold]
    fn keep(&mut self, pieces: &[String], value: Value<'a>) {
        let mut path = String::new();
        for (place, piece) in pieces.iter().enumerate() {
            path.push_str(piece);
            if let Some(index) = self.indices.get(place).filter(|_| place + 1 < pieces.len()) {
                path.push_str(&index.to_string());
            }
        }
        self.row.keep_later(self.field, &path, value);
    }
}
