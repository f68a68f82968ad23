//! Appends short byte strings fast: ids, names, codes.
//!
//! For so few bytes a call of `memcpy` costs more than the copy. So up to 32 bytes are copied as
//! two blocks of a fixed size: the first N and the last N bytes. The blocks overlap if the string
//! is shorter than both.

use std::ptr;

/// The most bytes that are copied without `memcpy`.
const SHORT: usize = 32;

/// Appends `bytes` to `out`. Fast for short strings.
#[inline(always)]
pub fn append_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len();
    if length > SHORT {
        return out.extend_from_slice(bytes);
    }
    out.reserve(SHORT);
    let from = bytes.as_ptr();
    // SAFETY: `out` has room for `SHORT` more bytes, and `length` is at most `SHORT`. A copy of N
    // bytes happens only if `length` is at least N, and it takes the first or the last N bytes. The
    // two memory areas do not overlap, because `out` is borrowed mutably.
    unsafe {
        let to = out.as_mut_ptr().add(out.len());
        match length {
            16.. => both_ends::<16>(from, to, length),
            8.. => both_ends::<8>(from, to, length),
            4.. => both_ends::<4>(from, to, length),
            2.. => both_ends::<2>(from, to, length),
            1 => *to = *from,
            0 => {}
        }
        out.set_len(out.len() + length);
    }
}

/// Copies the first `N` and the last `N` of `length` bytes.
///
/// # Safety
///
/// `length` is at least `N`. `length` bytes can be read at `from` and written at `to`, and the two
/// areas do not overlap.
#[inline(always)]
unsafe fn both_ends<const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller guarantees it. The last `N` bytes begin at `length - N`.
    unsafe {
        let (first, last) = (from.cast::<[u8; N]>().read_unaligned(), from.add(length - N).cast::<[u8; N]>());
        let last = ptr::read_unaligned(last);
        to.cast::<[u8; N]>().write_unaligned(first);
        to.add(length - N).cast::<[u8; N]>().write_unaligned(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_was_appended() {
        let text: Vec<u8> = (0..100).collect();
        for before in [0, 1, 40] {
            for length in 0..=text.len() {
                // With spare capacity and without.
                for capacity in [before, 200] {
                    let mut out = Vec::with_capacity(capacity);
                    out.resize(before, 7);
                    append_short(&mut out, &text[..length]);
                    assert_eq!(out[..before], vec![7; before]);
                    assert_eq!(out[before..], text[..length], "{length} bytes after {before}");
                }
            }
        }
    }
}
