//! Parquet's hybrid of run lengths and bit packing. It encodes the codes of a dictionary and the
//! definition levels.

/// Values that are packed together.
const GROUP: usize = 8;

/// The shortest run that is encoded as a run. A shorter one is packed like other values.
const RUN_MIN: usize = 16;

/// The bits that a value of at most `max` takes.
pub(super) fn width(max: usize) -> u32 {
    usize::BITS - max.leading_zeros()
}

/// Appends `values`. Each takes at most `width` bits, and `width` is at most 16.
pub(super) fn encode(values: &[u16], width: u32, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while let Some(end) = run_from(values, at) {
        if end - at >= RUN_MIN {
            pack(&values[packed..at], width, out);
            run(values[at], end - at, width, out);
            packed = end;
        }
        at = end.max(at + GROUP);
    }
    pack(&values[packed..], width, out);
}

/// The end of the run that begins at `at`, which is a multiple of a group. If the group there is no
/// run, returns `at`. Runs consist of whole groups, except that the last may end within one.
fn run_from(values: &[u16], at: usize) -> Option<usize> {
    let first = values.get(at..at + GROUP)?;
    let same = u128::from(first[0]) * 0x0001_0001_0001_0001_0001_0001_0001_0001;
    let mut end = at;
    while values.get(end..end + GROUP).is_some_and(|group| lanes(group) == same) {
        end += GROUP;
    }
    let rest = values.len() - end;
    let is_last = end > at && rest < GROUP && values[end..].iter().all(|value| *value == first[0]);
    Some(if is_last { values.len() } else { end })
}

/// A group as one number of 128 bits.
fn lanes(group: &[u16]) -> u128 {
    let lane = |lanes: u128, value: &u16| lanes >> 16 | u128::from(*value) << 112;
    group.iter().fold(0, lane)
}

fn run(value: u16, times: usize, width: u32, out: &mut Vec<u8>) {
    varint(times << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn pack(values: &[u16], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(GROUP);
    varint(groups << 1 | 1, out);
    let bytes = width as usize;
    let mut at = out.len();
    // Each group is stored as a whole word. The next group overwrites the bytes that are too many.
    out.resize(at + groups * bytes + size_of::<u128>(), 0);
    let (whole, rest) = values.as_chunks::<GROUP>();
    let mut last = [0; GROUP];
    last[..rest.len()].copy_from_slice(rest);
    let last = if rest.is_empty() { &[][..] } else { std::slice::from_ref(&last) };
    for group in whole.iter().chain(last) {
        if width <= 8 {
            let packed = group.iter().rev().fold(0u64, |packed, value| packed << width | u64::from(*value));
            out[at..at + 8].copy_from_slice(&packed.to_le_bytes());
        } else {
            let packed = group.iter().rev().fold(0u128, |packed, value| packed << width | u128::from(*value));
            out[at..at + 16].copy_from_slice(&packed.to_le_bytes());
        }
        at += bytes;
    }
    out.truncate(at);
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes bit by bit, as the format's description says.
    fn decode(mut bytes: &[u8], width: u32, values: usize) -> Vec<u16> {
        let mut out = Vec::new();
        while out.len() < values {
            let (mut header, mut shift) = (0usize, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if header & 1 == 0 {
                let length = width.div_ceil(8) as usize;
                let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte));
                out.extend(std::iter::repeat_n(value, header >> 1));
                bytes = &bytes[length..];
            } else {
                let length = (header >> 1) * width as usize;
                for value in 0..(header >> 1) * GROUP {
                    let bit = |bit: usize| u16::from(bytes[bit / 8] >> (bit % 8) & 1);
                    let first = value * width as usize;
                    out.push((0..width as usize).rev().fold(0, |value, at| value << 1 | bit(first + at)));
                }
                bytes = &bytes[length..];
            }
        }
        assert!(bytes.is_empty() && out.len() < values + GROUP, "{} bytes left", bytes.len());
        out.truncate(values);
        out
    }

    #[test]
    fn a_width_is_that_of_the_greatest_value() {
        assert_eq!([0, 1, 2, 255, 256, 65_535].map(width), [0, 1, 2, 8, 9, 16]);
    }

    #[test]
    fn a_run_takes_a_few_bytes_and_what_follows_is_packed() {
        let mut out = Vec::new();
        encode(&[5; 1_000], 3, &mut out);
        assert_eq!(out, [0xd0, 0x0f, 5]);
        out.clear();
        encode(&[0; 20_000], 0, &mut out);
        assert_eq!(out, [0xc0, 0xb8, 0x02]);
        out.clear();
        encode(&[7, 7, 7, 7, 7, 7, 7, 7, 1, 2], 3, &mut out);
        assert_eq!(out, [0x05, 0xff, 0xff, 0xff, 0x11, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_the_same(
            width in 0u32..=16,
            runs in prop::collection::vec((any::<u16>(), prop_oneof![1usize..4, 1usize..40, 100usize..300]), 0..60),
        ) {
            let mask = ((1u32 << width) - 1) as u16;
            let values: Vec<u16> =
                runs.iter().flat_map(|(value, times)| std::iter::repeat_n(value & mask, *times)).collect();
            let mut out = vec![9];
            encode(&values, width, &mut out);
            prop_assert_eq!(out[0], 9);
            prop_assert_eq!(decode(&out[1..], width, values.len()), values);
        }
    }
}
