//! The header of a container, before its blocks: schema, codec and sync marker.

use std::collections::HashMap;
use std::str::FromStr;

use apache_avro::Codec;
use serde::de::IgnoredAny;

use super::skipper::{Skipper, varint};

/// An object container begins with these bytes.
pub const MAGIC: &[u8; 4] = b"Obj\x01";
pub const SYNC_BYTES: usize = 16;
/// The longest header.
pub const HEADER_BYTES_MAX: usize = 16 << 20;
/// The most entries in a header. Two are needed.
const ENTRIES_MAX: u64 = 1024;
/// How many bytes are looked at first where a header may be.
pub const FIRST_LOOK_BYTES: usize = 4 << 10;

/// A container's header, and what is needed to read the blocks.
#[derive(Debug)]
pub struct Header {
    /// The writer's schema, JSON text.
    pub schema: String,
    pub codec: Codec,
    pub sync: [u8; SYNC_BYTES],
    pub skipper: Skipper,
}

/// What stands at the beginning of the given bytes.
#[derive(Debug)]
pub enum Parsed {
    /// A header, and its length.
    Header(Box<Header>, usize),
    /// The beginning of a header. At least this many bytes are needed.
    Short(usize),
    /// No header, and why.
    Invalid(String),
}

/// Why parsing ended without a header.
enum Stop {
    Short(usize),
    Invalid(String),
}

/// Looks for a header at the beginning of some bytes. The time does not grow with the lengths that
/// the bytes promise: a schema that is no JSON is left at its first wrong byte.
pub fn parse(bytes: &[u8]) -> Parsed {
    match read(bytes) {
        Ok((header, length)) => Parsed::Header(Box::new(header), length),
        Err(Stop::Short(needed)) => Parsed::Short(needed),
        Err(Stop::Invalid(why)) => Parsed::Invalid(why),
    }
}

fn read(bytes: &[u8]) -> Result<(Header, usize), Stop> {
    if bytes.len() < MAGIC.len() {
        return Err(if MAGIC.starts_with(bytes) { Stop::Short(MAGIC.len()) } else { no_container() });
    }
    if !bytes.starts_with(MAGIC) {
        return Err(no_container());
    }
    let mut at = MAGIC.len();
    let mut entries: HashMap<&[u8], &[u8]> = HashMap::new();
    let mut allowed = ENTRIES_MAX;
    loop {
        let count = long(bytes, &mut at)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            long(bytes, &mut at)?;
        }
        allowed = allowed.checked_sub(count.unsigned_abs()).ok_or_else(damaged)?;
        for _ in 0..count.unsigned_abs() {
            let key = field(bytes, &mut at)?;
            entries.insert(key, field(bytes, &mut at)?);
        }
    }
    let sync = take(bytes, &mut at, SYNC_BYTES)?;
    let schema = *entries.get(&b"avro.schema"[..]).ok_or_else(|| invalid("its header has no schema"))?;
    let not_valid = |error: String| Stop::Invalid(format!("its schema is not valid: {error}"));
    serde_json::from_slice::<IgnoredAny>(schema).map_err(|error| not_valid(error.to_string()))?;
    let utf8 = |value: &[u8]| String::from_utf8(value.to_vec()).map_err(|_| invalid("its header is not UTF-8"));
    let schema = utf8(schema)?;
    let codec = match entries.get(&b"avro.codec"[..]) {
        None => Codec::Null,
        Some(name) => {
            let name = utf8(name)?;
            Codec::from_str(&name).map_err(|_| Stop::Invalid(format!("its codec {name} is not known")))?
        }
    };
    let sync = <[u8; SYNC_BYTES]>::try_from(sync).map_err(|_| damaged())?;
    let skipper = Skipper::new(&schema).map_err(not_valid)?;
    Ok((Header { schema, codec, sync, skipper }, at))
}

fn long(bytes: &[u8], at: &mut usize) -> Result<i64, Stop> {
    match varint(bytes, *at) {
        Some((value, end)) => {
            *at = end;
            Ok(value)
        }
        None if bytes.len() - *at < 10 => Err(Stop::Short(bytes.len() + 1)),
        None => Err(damaged()),
    }
}

/// A string or bytes, preceded by the length.
fn field<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
    let length = long(bytes, at)?;
    take(bytes, at, usize::try_from(length).map_err(|_| damaged())?)
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, count: usize) -> Result<&'a [u8], Stop> {
    let end = at.checked_add(count).filter(|end| *end <= HEADER_BYTES_MAX).ok_or_else(damaged)?;
    let taken = bytes.get(*at..end).ok_or(Stop::Short(end))?;
    *at = end;
    Ok(taken)
}

fn no_container() -> Stop {
    invalid("not an Avro object container")
}

/// The same text describes a header within which the file ends.
pub const DAMAGED: &str = "its header is damaged or cut off";

fn damaged() -> Stop {
    invalid(DAMAGED)
}

fn invalid(why: &str) -> Stop {
    Stop::Invalid(why.to_owned())
}
