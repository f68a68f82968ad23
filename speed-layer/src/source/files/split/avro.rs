//! One record a datum of an Avro object container.
//!
//! Datums stand one behind another in a block without their lengths: [`Skipper`] finds their ends by the writer's schema, without
//! decoding them. A datum that cannot be told from its successors takes the rest of its block with it, as one rejected
//! piece; a damaged block is one rejected piece, and reading goes on behind the next sync marker.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;

use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};
use apache_avro::{Codec, Schema};
use memchr::memmem;

use super::{KEPT_BYTES, Piece, Rewound, Splitter, broken, too_long, truncated};
use crate::record::Rejection;
use crate::source::files::open::Content;

/// What an object container begins with.
pub const MAGIC: &[u8; 4] = b"Obj\x01";
/// The longest header, and the longest block as stored.
const HEADER_BYTES_MAX: usize = 16 << 20;
const BLOCK_BYTES_MAX: i64 = 256 << 20;
/// The longest block unpacked: a bomb is a damaged block.
const UNPACKED_BYTES_MAX: usize = 128 << 20;
const SYNC_BYTES: usize = 16;
const DEPTH_MAX: usize = 256;
/// A block may have so many records, and a datum so many inner records, more than it has bytes: those without fields have none.
const NOTHINGS_MAX: usize = 1024;

/// Cuts an object container into its datums.
pub struct Container {
    content: Rewound,
    limit: usize,
    schema: String,
    codec: Codec,
    sync: [u8; SYNC_BYTES],
    skipper: Skipper,
    block: Vec<u8>,
    at: usize,
    left: i64,
    /// The file ends within the block.
    cut: bool,
    ended: bool,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("codec", &self.codec).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Container {
    /// Reads the header. What is wrong with it is `InvalidData`.
    pub fn open(content: Content, limit: usize) -> io::Result<Container> {
        // For the whole program; the first call counts.
        apache_avro::util::max_allocation_bytes(UNPACKED_BYTES_MAX);
        let mut content = Rewound::new(content);
        let mut header = Vec::new();
        content.append(&mut header, MAGIC.len())?;
        if header != MAGIC {
            return Err(invalid("not an Avro object container"));
        }
        let metadata = metadata(&mut content)?;
        let text = |key: &str| {
            metadata
                .get(key)
                .map(|value| String::from_utf8(value.clone()))
                .transpose()
                .map_err(|_| invalid("its header is not UTF-8"))
        };
        let schema = text("avro.schema")?.ok_or_else(|| invalid("its header has no schema"))?;
        let codec = match text("avro.codec")? {
            None => Codec::Null,
            Some(name) => Codec::from_str(&name).map_err(|_| invalid(format!("its codec {name} is not known")))?,
        };
        let mut sync = Vec::new();
        if !content.append(&mut sync, SYNC_BYTES)? {
            return Err(invalid("it ends within its header"));
        }
        let sync = <[u8; SYNC_BYTES]>::try_from(sync).map_err(|_| invalid("it ends within its header"))?;
        let skipper = Skipper::new(&schema).map_err(|error| invalid(format!("its schema is not valid: {error}")))?;
        Ok(Container {
            content,
            limit,
            schema,
            codec,
            sync,
            skipper,
            block: Vec::new(),
            at: 0,
            left: 0,
            cut: false,
            ended: false,
        })
    }

    /// The writer's schema, JSON text.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Reads the next block. A piece where it cannot be: the bytes are left in `piece`.
    fn next_block(&mut self, piece: &mut Vec<u8>) -> io::Result<Option<Piece>> {
        self.block.clear();
        self.at = 0;
        self.left = 0;
        if self.content.fill()?.is_empty() {
            self.ended = true;
            return Ok(Some(broken(&self.content.content).unwrap_or(Piece::End)));
        }
        let mut head = Vec::new();
        let (count, size) = match (long(&mut self.content, &mut head)?, long(&mut self.content, &mut head)?) {
            (Some(count), Some(size)) => (count, size),
            _ => return self.damaged(head, piece).map(Some),
        };
        if count < 0 || !(0..=BLOCK_BYTES_MAX).contains(&size) {
            return self.damaged(head, piece).map(Some);
        }
        // Not reserved in advance: a damaged size must not cost the memory that it asks for.
        let whole = self.content.append(&mut self.block, size as usize)?;
        let mut sync = Vec::new();
        if !whole || !self.content.append(&mut sync, SYNC_BYTES)? {
            return self.cut_off(head, sync, count, whole, piece);
        }
        if sync != self.sync {
            head.append(&mut self.block);
            head.extend_from_slice(&sync);
            return self.damaged(head, piece).map(Some);
        }
        let stored = (self.codec != Codec::Null).then(|| first(&self.block));
        if let Err(error) = self.codec.decompress(&mut self.block) {
            piece.extend_from_slice(&stored.unwrap_or_default());
            self.block.clear();
            return Ok(Some(bad(format!("a block of {count} records cannot be decompressed: {error}"))));
        }
        if usize::try_from(count).is_ok_and(|count| count > self.block.len() + NOTHINGS_MAX) {
            head.extend_from_slice(&self.block);
            piece.extend_from_slice(&first(&head));
            let length = std::mem::take(&mut self.block).len();
            return Ok(Some(bad(format!("a block of {length} bytes that promises {count} records"))));
        }
        self.left = count;
        Ok(None)
    }

    /// The file ends within this block, or a damaged size reaches beyond the file.
    fn cut_off(
        &mut self,
        mut head: Vec<u8>,
        sync: Vec<u8>,
        count: i64,
        whole: bool,
        piece: &mut Vec<u8>,
    ) -> io::Result<Option<Piece>> {
        let is_last = memmem::find(&self.block, &self.sync).is_none();
        if !is_last {
            head.append(&mut self.block);
            head.extend_from_slice(&sync);
            return self.damaged(head, piece).map(Some);
        }
        if self.codec == Codec::Null || whole && self.codec.decompress(&mut self.block).is_ok() {
            // What is there can be told apart as far as it goes.
            self.left = count.min((self.block.len() + NOTHINGS_MAX) as i64);
            self.cut = true;
            return Ok(None);
        }
        piece.extend_from_slice(&first(&self.block));
        self.ended = true;
        self.block.clear();
        let cut = || truncated(format!("the file ends within a block of {count} records"));
        Ok(Some(broken(&self.content.content).unwrap_or_else(cut)))
    }

    /// Skips to behind the next sync marker.
    fn damaged(&mut self, read: Vec<u8>, piece: &mut Vec<u8>) -> io::Result<Piece> {
        piece.extend_from_slice(&first(&read));
        self.block.clear();
        self.content.put_back(&read);
        let mut window: Vec<u8> = Vec::new();
        loop {
            let buffer = self.content.fill()?;
            if buffer.is_empty() {
                self.ended = true;
                break;
            }
            let before = window.len();
            let length = buffer.len();
            window.extend_from_slice(buffer);
            if let Some(found) = memmem::find(&window, &self.sync) {
                self.content.consume(found + SYNC_BYTES - before);
                break;
            }
            self.content.consume(length);
            window.drain(..window.len().saturating_sub(SYNC_BYTES - 1));
        }
        Ok(bad("a block is damaged; reading goes on behind the next sync marker".to_owned()))
    }
}

impl Splitter for Container {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        piece.clear();
        loop {
            if self.left > 0 {
                let start = self.at;
                return Ok(match self.skipper.skip(&self.block, start) {
                    Ok(end) => {
                        self.at = end;
                        self.left -= 1;
                        let datum = &self.block[start..end];
                        if datum.len() > self.limit {
                            piece.extend_from_slice(&first(datum));
                            Piece::Rejected(too_long(datum.len(), self.limit))
                        } else {
                            piece.extend_from_slice(datum);
                            Piece::Record
                        }
                    }
                    Err(problem) => {
                        let left = std::mem::take(&mut self.left);
                        piece.extend_from_slice(&first(&self.block[start..]));
                        if self.cut {
                            truncated(format!("the file ends within a block; {left} of its records are missing"))
                        } else {
                            bad(format!("{problem}; with this record the {left} last ones of its block are lost"))
                        }
                    }
                });
            }
            if self.ended {
                return Ok(Piece::End);
            }
            if std::mem::take(&mut self.cut) {
                self.ended = true;
                // All records of the last block are there, but not its end.
                return Ok(broken(&self.content.content).unwrap_or(Piece::End));
            }
            if let Some(found) = self.next_block(piece)? {
                return Ok(found);
            }
        }
    }

    fn span(&self) -> std::ops::Range<u64> {
        0..0
    }

    fn is_cut(&self) -> bool {
        false
    }

    fn content(&self) -> &Content {
        &self.content.content
    }
}

fn first(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(KEPT_BYTES)].to_vec()
}

fn bad(detail: String) -> Piece {
    Piece::Rejected(Rejection { reason: "invalid_avro", detail })
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// A variable-length long from the content; its bytes go to `read`, too. `None`: the end, or no such number.
fn long(content: &mut Rewound, read: &mut Vec<u8>) -> io::Result<Option<i64>> {
    let start = read.len();
    while read.len() - start < 10 {
        if !content.append(read, 1)? {
            return Ok(None);
        }
        if read.last().is_some_and(|byte| *byte < 0x80) {
            return Ok(varint(read, start).map(|(value, _)| value));
        }
    }
    Ok(None)
}

fn metadata(content: &mut Rewound) -> io::Result<HashMap<String, Vec<u8>>> {
    let cut = || invalid("its header is damaged or cut off");
    let mut metadata = HashMap::new();
    let mut read = Vec::new();
    let field = |content: &mut Rewound| -> io::Result<Vec<u8>> {
        let mut number = Vec::new();
        let length = long(content, &mut number)?.and_then(|length| usize::try_from(length).ok()).ok_or_else(cut)?;
        if length > HEADER_BYTES_MAX {
            return Err(cut());
        }
        let mut bytes = Vec::new();
        if content.append(&mut bytes, length)? { Ok(bytes) } else { Err(cut()) }
    };
    loop {
        let count = long(content, &mut read)?.ok_or_else(cut)?;
        if count == 0 {
            return Ok(metadata);
        }
        if count < 0 {
            long(content, &mut read)?.ok_or_else(cut)?;
        }
        for _ in 0..count.unsigned_abs() {
            let key = String::from_utf8(field(content)?).map_err(|_| cut())?;
            metadata.insert(key, field(content)?);
        }
    }
}

/// A variable-length long and the position behind it.
fn varint(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), start + index + 1));
        }
    }
    None
}

/// What a schema's values look like as bytes.
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
    /// For datums written with a schema (JSON text).
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
        let shape = match schema {
            Schema::Null | Schema::Ref { .. } => Shape::Empty,
            Schema::Boolean => Shape::Fixed(1),
            Schema::Float => Shape::Fixed(4),
            Schema::Double => Shape::Fixed(8),
            Schema::Int
            | Schema::Long
            | Schema::Enum(_)
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Shape::Varint,
            Schema::Bytes | Schema::String | Schema::BigDecimal => Shape::Sized,
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Shape::Fixed(fixed.size),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Shape::Sized,
                InnerDecimalSchema::Fixed(fixed) => Shape::Fixed(fixed.size),
            },
            Schema::Uuid(uuid) => match uuid {
                UuidSchema::Bytes | UuidSchema::String => Shape::Sized,
                UuidSchema::Fixed(fixed) => Shape::Fixed(fixed.size),
            },
            Schema::Array(array) => Shape::List(self.compile(&array.items, namespace, names)?),
            Schema::Map(map) => Shape::Map(self.compile(&map.types, namespace, names)?),
            Schema::Union(union) => {
                let variants = union.variants().iter().map(|variant| self.compile(variant, namespace, names));
                Shape::Union(variants.collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                let inner = name.namespace();
                let fields = record.fields.iter().map(|field| self.compile(&field.schema, inner, names));
                Shape::Record(fields.collect::<Result<_, _>>()?)
            }
        };
        self.shapes[index] = shape;
        Ok(index)
    }

    /// The position behind the datum that begins at `start`.
    pub fn skip(&self, bytes: &[u8], start: usize) -> Result<usize, &'static str> {
        let mut steps = bytes.len() - start + NOTHINGS_MAX;
        self.skip_shape(self.root, bytes, start, DEPTH_MAX, &mut steps)
    }

    /// `steps`: how many fields of records may still be looked at, since those of nothing but records take no bytes.
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
                            // Items without bytes: there is nothing to skip, however many there are.
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
