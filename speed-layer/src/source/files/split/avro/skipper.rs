//! Finds where a datum ends, by its schema, without decoding it.

use std::collections::HashMap;

use adlake_decode::avro::{Base, base};
use apache_avro::Schema;
use apache_avro::schema::Name;

const DEPTH_MAX: usize = 256;
/// How many more records a block may have than it has bytes, and how many more inner records a
/// datum. Records without fields take no bytes.
pub const NOTHINGS_MAX: usize = 1024;

/// The byte layout of a schema's values.
#[derive(Debug, Clone)]
enum Shape {
    Empty,
    Varint,
    Fixed(usize),
    Sized,
    List(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<usize>),
}

/// Finds the end of a datum.
#[derive(Debug)]
pub struct Skipper {
    shapes: Vec<Shape>,
    root: usize,
}

impl Skipper {
    /// Prepares for datums that were written with `schema` (JSON text).
    pub fn new(schema: &str) -> Result<Skipper, String> {
        let schema = Schema::parse_str(schema).map_err(|error| error.to_string())?;
        let mut skipper = Skipper { shapes: Vec::new(), root: 0 };
        skipper.root = skipper.compile(&schema, None, &mut HashMap::new())?;
        Ok(skipper)
    }

    fn compile(
        &mut self,
        schema: &Schema,
        namespace: Option<&str>,
        names: &mut HashMap<String, usize>,
    ) -> Result<usize, String> {
        if let Schema::Ref { name } = schema {
            let name = name.fullname(namespace);
            return names.get(&name).copied().ok_or_else(|| format!("{name} is not defined"));
        }
        let index = self.shapes.len();
        self.shapes.push(Shape::Empty);
        if let Some(name) = schema.name() {
            names.insert(Name::fullname(name, namespace), index);
        }
        let shape = match (base(schema), schema) {
            (Base::Boolean, _) => Shape::Fixed(1),
            (Base::Float, _) => Shape::Fixed(4),
            (Base::Double, _) => Shape::Fixed(8),
            (Base::Fixed(size), _) => Shape::Fixed(size),
            (Base::Int | Base::Long | Base::Enum, _) => Shape::Varint,
            (Base::Bytes | Base::Text, _) => Shape::Sized,
            (_, Schema::Array(array)) => Shape::List(self.compile(&array.items, namespace, names)?),
            (_, Schema::Map(map)) => Shape::Map(self.compile(&map.types, namespace, names)?),
            (_, Schema::Union(union)) => {
                let variants = union.variants().iter().map(|variant| self.compile(variant, namespace, names));
                Shape::Union(variants.collect::<Result<_, _>>()?)
            }
            (_, Schema::Record(record)) => {
                let name = record.name.fully_qualified_name(namespace);
                let inner = name.namespace();
                let fields = record.fields.iter().map(|field| self.compile(&field.schema, inner, names));
                Shape::Record(fields.collect::<Result<_, _>>()?)
            }
            // The type is null: references were looked up above.
            (Base::Null | Base::Named | Base::Array | Base::Map | Base::Union | Base::Record, _) => Shape::Empty,
        };
        self.shapes[index] = shape;
        Ok(index)
    }

    /// The position after the datum that begins at `start`.
    pub fn skip(&self, bytes: &[u8], start: usize) -> Result<usize, &'static str> {
        let mut steps = bytes.len() - start + NOTHINGS_MAX;
        self.skip_shape(self.root, bytes, start, DEPTH_MAX, &mut steps)
    }

    /// `steps` is how many record fields may still be visited. It bounds the work for records that
    /// contain nothing but records, which take no bytes.
    fn skip_shape(
        &self,
        shape: usize,
        bytes: &[u8],
        at: usize,
        depth: usize,
        steps: &mut usize,
    ) -> Result<usize, &'static str> {
        const CUT: &str = "a value reaches beyond its block";
        let deeper = depth.checked_sub(1).ok_or("values are nested too deeply")?;
        let forward = |at: usize, count: usize| at.checked_add(count).filter(|end| *end <= bytes.len()).ok_or(CUT);
        let sized = |at: usize| {
            let (length, at) = varint(bytes, at).ok_or(CUT)?;
            forward(at, usize::try_from(length).map_err(|_| "a length is below zero")?)
        };
        match &self.shapes[shape] {
            Shape::Empty => Ok(at),
            Shape::Varint => varint(bytes, at).map(|(_, end)| end).ok_or(CUT),
            Shape::Fixed(count) => forward(at, *count),
            Shape::Sized => sized(at),
            Shape::Record(fields) => {
                *steps = steps.checked_sub(fields.len()).ok_or("records of nothing are too many")?;
                fields.iter().try_fold(at, |at, field| self.skip_shape(*field, bytes, at, deeper, steps))
            }
            Shape::Union(variants) => {
                let (variant, at) = varint(bytes, at).ok_or(CUT)?;
                let variant = usize::try_from(variant).ok().and_then(|variant| variants.get(variant));
                self.skip_shape(*variant.ok_or("a union has no such branch")?, bytes, at, deeper, steps)
            }
            Shape::List(item) | Shape::Map(item) => {
                let is_map = matches!(self.shapes[shape], Shape::Map(_));
                let mut at = at;
                loop {
                    let (count, behind) = varint(bytes, at).ok_or(CUT)?;
                    at = behind;
                    if count == 0 {
                        return Ok(at);
                    }
                    if count < 0 {
                        at = sized(at)?;
                        continue;
                    }
                    for _ in 0..count {
                        let before = at;
                        if is_map {
                            at = sized(at)?;
                        }
                        at = self.skip_shape(*item, bytes, at, deeper, steps)?;
                        if at == before {
                            // Items without bytes: there is nothing to skip, however many there
                            // are.
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// Reads a variable-length long. Returns it and the position after it.
#[inline]
pub fn varint(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            if index == 9 && *byte > 1 {
                // The number has more than 64 bits.
                return None;
            }
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), start + index + 1));
        }
    }
    None
}
