//! Reads Avro object container files in memory: the header, then blocks of datums, with any codec
//! of apache-avro.

use std::str::FromStr;

use apache_avro::Codec;

use super::datum::long;
use crate::reject::{Reason, Reject};

/// The greatest size, in bytes, that the blocks of a container in one message may decompress to.
pub(crate) const UNPACKED_BYTES_MAX: usize = 128 << 20;

/// A container whose header has been read.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    /// The writer's schema, as JSON text.
    pub schema: &'a [u8],
    codec: Codec,
    sync: &'a [u8],
    rest: &'a [u8],
}

/// The datums of a block, one after another.
#[derive(Debug)]
pub(crate) struct Block {
    pub count: usize,
    pub bytes: Vec<u8>,
}

impl<'a> Container<'a> {
    /// Reads the header.
    pub fn open(payload: &'a [u8]) -> Result<Container<'a>, Reject> {
        let mut rest = payload
            .strip_prefix(super::MAGIC)
            .ok_or_else(|| invalid("the message does not begin like an Avro container"))?;
        let (mut schema, mut codec) = (None, Codec::Null);
        loop {
            let mut count = take_long(&mut rest)?;
            if count == 0 {
                break;
            }
            if count < 0 {
                take_long(&mut rest)?;
                count = count.checked_neg().ok_or_else(|| invalid("a count in the container is out of range"))?;
            }
            for _ in 0..count {
                let key = take_prefixed(&mut rest)?;
                let value = take_prefixed(&mut rest)?;
                match key {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => {
                        let name = std::str::from_utf8(value).unwrap_or("?");
                        codec = Codec::from_str(name).map_err(|_| invalid(format!("the codec {name} is unknown")))?;
                    }
                    _ => {}
                }
            }
        }
        let sync = take(&mut rest, 16)?;
        Ok(Container {
            schema: schema.ok_or_else(|| invalid("the container's header has no schema"))?,
            codec,
            sync,
            rest,
        })
    }

    /// The next block. `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<Block>, Reject> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let count = usize::try_from(take_long(&mut self.rest)?)
            .map_err(|_| invalid("the record count of a block is below zero"))?;
        let mut bytes = take_prefixed(&mut self.rest)?.to_vec();
        if take(&mut self.rest, 16)? != self.sync {
            return Err(invalid("a block does not end with the container's sync marker"));
        }
        self.codec.decompress(&mut bytes).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Block { count, bytes }))
    }
}

fn take_long(rest: &mut &[u8]) -> Result<i64, Reject> {
    let (value, length) = long(rest)?;
    *rest = &rest[length..];
    Ok(value)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Reject> {
    let (bytes, after) = rest.split_at_checked(count).ok_or_else(|| invalid("ends too early"))?;
    *rest = after;
    Ok(bytes)
}

fn take_prefixed<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Reject> {
    let length = usize::try_from(take_long(rest)?).map_err(|_| invalid("a length is below zero"))?;
    take(rest, length)
}

fn invalid(detail: impl Into<String>) -> Reject {
    Reject::new(Reason::InvalidAvro, detail)
}
