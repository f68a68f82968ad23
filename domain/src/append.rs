//! Appending bytes of which there are few: ids, names, codes.
//!
//! A call of `memcpy` costs more than what it copies then. Of up to 32 bytes the first and the last
//! are copied, a fixed number of each, which overlap where there are fewer than both.

use std::ptr;

/// What is appended in the short way.
const SHORT: usize = 32;

/// Appends `bytes` to `out`, quickly where they are few.
#[inline(always)]
pub fn append_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len();
    if length > SHORT {
        return out.extend_from_slice(bytes);
    }
    out.reserve(SHORT);
    let from = bytes.as_ptr();
    // SAFETY: there is room for `SHORT` bytes, of which `length` are written; each copy is of N
    // bytes where `length` is N or more, from the first byte or up to the last one, and both
    // vectors are apart, since one is borrowed for writing.
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
/// `length` is at least `N`; so many bytes can be read and written there, which do not overlap.
#[inline(always)]
unsafe fn both_ends<const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: as above; the last `N` bytes begin at `length - N`.
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
                // With room to spare, and with none.
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
