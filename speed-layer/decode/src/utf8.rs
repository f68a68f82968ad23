//! Checks that a payload is text.

use std::str::Utf8Error;

use crate::reject::{Reason, Reject};

/// The payload as text.
#[inline]
pub(crate) fn utf8(payload: &[u8]) -> Result<&str, Reject> {
    if is_ascii(payload) {
        // SAFETY: ASCII is valid UTF-8. Most records are ASCII, and the check is fast.
        return Ok(unsafe { std::str::from_utf8_unchecked(payload) });
    }
    let refused =
        |error: Utf8Error| Reject::new(Reason::InvalidUtf8, format!("not UTF-8 at byte {}", error.valid_up_to()));
    std::str::from_utf8(payload).map_err(refused)
}

/// Whether all bytes are ASCII. It looks at 32 bytes at a time.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<32>();
    let mut any = [0u8; 32];
    let mut add = |chunk: &[u8; 32]| any.iter_mut().zip(chunk).for_each(|(any, byte)| *any |= byte);
    chunks.iter().for_each(&mut add);
    match bytes.last_chunk() {
        // The last chunk may overlap the one before it. Looking at a byte twice does no harm.
        Some(last) => add(last),
        None => return rest.is_ascii(),
    }
    any.is_ascii()
}
