//! Checks that a payload is text.

use crate::reject::{Reason, Reject};

/// The payload as text. SIMD instructions check it, where the processor has them.
#[inline]
pub(crate) fn utf8(payload: &[u8]) -> Result<&str, Reject> {
    simdutf8::basic::from_utf8(payload).map_err(|_| invalid(payload))
}

/// The fast check does not say where the payload is wrong.
#[cold]
fn invalid(payload: &[u8]) -> Reject {
    let valid = std::str::from_utf8(payload).map_or_else(|error| error.valid_up_to(), str::len);
    Reject::new(Reason::InvalidUtf8, format!("not UTF-8 at byte {valid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_byte_is_named() {
        let check = |payload: &[u8], expected: Result<&str, &str>| {
            let found = utf8(payload).map_err(|reject| reject.detail);
            assert_eq!(found, expected.map_err(str::to_owned));
        };
        check(b"", Ok(""));
        check("é".repeat(100).as_bytes(), Ok(&"é".repeat(100)));
        check(b"ab\xff", Err("not UTF-8 at byte 2"));
        // Longer than what is checked at once, and cut off within a character.
        check(&[&[b'a'; 200][..], &[0xc3]].concat(), Err("not UTF-8 at byte 200"));
    }
}
