//! Appends short byte strings fast: ids, names, codes.
//!
//! For so few bytes a call of `memcpy` costs more than the copy. So up to 32 bytes are loaded into
//! one or two words, which are appended whole. The bytes that are too many are cut off again.

/// The most bytes that are copied without `memcpy`.
const SHORT: usize = 32;
/// The bytes of a word.
const WORD: usize = 16;

/// Appends `bytes` to `out`. Fast for short strings.
#[inline(always)]
pub fn append_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let (length, end) = (bytes.len(), out.len() + bytes.len());
    if length > SHORT {
        return out.extend_from_slice(bytes);
    }
    match (bytes.first_chunk::<WORD>(), bytes.last_chunk::<WORD>()) {
        (Some(first), Some(last)) => {
            // The two words overlap in the bytes that `first` has already. They are shifted out.
            let rest = u128::from_le_bytes(*last).checked_shr(8 * (SHORT - length) as u32).unwrap_or(0);
            let mut words = [0; SHORT];
            words[..WORD].copy_from_slice(first);
            words[WORD..].copy_from_slice(&rest.to_le_bytes());
            out.extend_from_slice(&words);
        }
        _ => out.extend_from_slice(&word(bytes).to_le_bytes()),
    }
    out.truncate(end);
}

/// Less than [`WORD`] bytes as a number, the first byte lowest. The bytes after them are 0.
#[inline(always)]
fn word(bytes: &[u8]) -> u128 {
    let length = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let rest = u64::from_le_bytes(*last).checked_shr(8 * (WORD - length) as u32).unwrap_or(0);
        return u128::from(u64::from_le_bytes(*first)) | u128::from(rest) << 64;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // Both hold the bytes in which they overlap, so the union is right.
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4));
        return u128::from(u64::from(u32::from_le_bytes(*first)) | last);
    }
    match *bytes {
        [first] => first.into(),
        [first, second] => u128::from(first) | u128::from(second) << 8,
        [first, second, third] => u128::from(first) | u128::from(second) << 8 | u128::from(third) << 16,
        _ => 0,
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
