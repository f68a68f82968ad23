//! The values of a column that is encoded with a dictionary: texts, or wide numbers as texts.

use arrow::array::{Array, Decimal128Array, StringArray};
use arrow::buffer::NullBuffer;

/// The length of a number of 128 bits.
pub(super) const WIDE_BYTES: i32 = 16;

/// Texts, or numbers as texts.
pub(super) struct Texts<'a> {
    /// Where each text begins in `bytes`, and where the last one ends.
    pub(super) offsets: &'a [i32],
    pub(super) bytes: &'a [u8],
    pub(super) nulls: Option<&'a NullBuffer>,
}

impl<'a> Texts<'a> {
    pub(super) fn of(texts: &'a StringArray) -> Texts<'a> {
        Texts { offsets: texts.value_offsets(), bytes: texts.value_data(), nulls: texts.nulls() }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }
}

/// Numbers of 128 bits as Parquet writes them.
pub(super) struct WideNumbers<'a> {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> WideNumbers<'a> {
    pub(super) fn of(numbers: &'a Decimal128Array) -> WideNumbers<'a> {
        WideNumbers {
            offsets: (0..=numbers.len() as i32).map(|number| number * WIDE_BYTES).collect(),
            bytes: numbers.values().iter().flat_map(|number| number.to_be_bytes()).collect(),
            nulls: numbers.nulls(),
        }
    }

    pub(super) fn texts(&self) -> Texts<'_> {
        Texts { offsets: &self.offsets, bytes: &self.bytes, nulls: self.nulls }
    }
}

/// The text of some rows, if all of them have the same.
pub(super) fn one_text<'a>(offsets: &[i32], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (first, second, last) = (*offsets.first()?, *offsets.get(1)?, *offsets.last()?);
    let (length, rows) = (second - first, offsets.len() - 1);
    let all = &bytes[first as usize..last as usize];
    let (text, rest) = all.split_at(length as usize);
    let is_repeated = all.len() == text.len() * rows && rest == &all[..rest.len()];
    let other_lengths = || offsets.windows(2).fold(0, |other, ends| other | ((ends[1] - ends[0]) ^ length));
    (is_repeated && other_lengths() == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_one_of_one_length() {
        let found = |texts: &[&str], first: usize| {
            let texts = StringArray::from_iter_values(texts);
            one_text(&texts.value_offsets()[first..], texts.value_data()).map(<[u8]>::to_vec)
        };
        assert_eq!(found(&["ab", "ab", "ab"], 0), Some(b"ab".to_vec()));
        assert_eq!(found(&["x", "ab", "ab"], 1), Some(b"ab".to_vec()));
        assert_eq!(found(&["ab"], 0), Some(b"ab".to_vec()));
        assert_eq!(found(&["", ""], 0), Some(Vec::new()));
        assert_eq!(found(&[], 0), None);
        // The same bytes, divided otherwise among the texts.
        assert_eq!(found(&["a", "", "aa"], 0), None);
        assert_eq!(found(&["aa", "a", "aaa"], 0), None);
        assert_eq!(found(&["", "", "a"], 0), None);
        assert_eq!(found(&["ab", "ac"], 0), None);
    }
}
