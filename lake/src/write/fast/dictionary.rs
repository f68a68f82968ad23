//! The distinct texts of a column and their codes, in the form of a dictionary page.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Texts up to this many bytes are stored in the hash table itself, as two words.
const SHORT: usize = 16;

/// The most codes: a code takes two bytes.
const CODES_MAX: usize = 1 << 16;

const SLOTS_MIN: usize = 256;

/// The most slots that are searched for a text. Texts that are made to collide end the dictionary
/// instead of slowing it down.
const PROBES_MAX: usize = 256;

/// An odd number with as many ones as zeros: wyhash's first secret.
const MIX: u64 = 0xa076_1d64_78bd_642f;

/// The distinct texts in the order of their first appearance.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// The dictionary page: the texts, each after its length in four bytes if `has_lengths`.
    page: Vec<u8>,
    has_lengths: bool,
    page_bytes_max: usize,
    /// The hash table. Its length is a power of two, and at most half of its slots are taken.
    slots: Vec<Slot>,
    texts: usize,
    seeds: [u64; 2],
}

/// One slot of the hash table. A text of at most [`SHORT`] bytes is in `words`. For a longer one
/// they hold its hash and its position in the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    words: [u64; 2],
    length: u32,
    /// The text's code plus one. 0: the slot is empty.
    code: u32,
}

impl Dictionary {
    /// `has_lengths`: the page has the lengths of the texts. Without them, all texts have the same
    /// length, which is at most [`SHORT`].
    pub(super) fn new(page_bytes_max: usize, has_lengths: bool) -> Dictionary {
        /// Random seeds of the hash, new in each process. So nobody can send texts that collide.
        static SEEDS: OnceLock<[u64; 2]> = OnceLock::new();
        let seeds = *SEEDS.get_or_init(|| {
            let state = RandomState::new();
            [state.hash_one(0), state.hash_one(1)]
        });
        let slots = vec![Slot::default(); SLOTS_MIN];
        Dictionary { page: Vec::new(), has_lengths, page_bytes_max, slots, texts: 0, seeds }
    }

    /// Drops all texts. Keeps the memory.
    pub(super) fn clear(&mut self) {
        self.page.clear();
        self.slots.fill(Slot::default());
        self.texts = 0;
    }

    /// The number of texts.
    pub(super) fn len(&self) -> usize {
        self.texts
    }

    /// The dictionary page, uncompressed.
    pub(super) fn page(&self) -> &[u8] {
        &self.page
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.page.capacity() + self.slots.capacity() * size_of::<Slot>()
    }

    /// The code of a text. A text without a code gets one. `None`: the text has none, and the
    /// dictionary is full or too many texts collide.
    #[inline(always)]
    pub(super) fn code(&mut self, text: &[u8]) -> Option<u16> {
        if text.len() > SHORT {
            return self.code_of_long(text);
        }
        let (words, length) = (words(text), text.len() as u32);
        let hash = self.hash_words(words, length);
        for probe in 0..PROBES_MAX {
            let at = self.place(hash, probe);
            let slot = &self.slots[at];
            if slot.words == words && slot.length == length && slot.code != 0 {
                return Some((slot.code - 1) as u16);
            }
            if slot.code == 0 {
                return self.add(at, words[0], words[1], text);
            }
        }
        None
    }

    #[inline(never)]
    fn code_of_long(&mut self, text: &[u8]) -> Option<u16> {
        let (hash, length) = (self.hash_bytes(text), text.len() as u32);
        for probe in 0..PROBES_MAX {
            let at = self.place(hash, probe);
            let slot = &self.slots[at];
            if slot.code == 0 {
                return self.add(at, hash, (self.page.len() + size_of::<u32>()) as u64, text);
            }
            let [other, first] = slot.words;
            let is_same = || &self.page[first as usize..][..text.len()] == text;
            if other == hash && slot.length == length && is_same() {
                return Some((slot.code - 1) as u16);
            }
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, at: usize, low: u64, high: u64, text: &[u8]) -> Option<u16> {
        let length = u32::try_from(text.len()).ok()?;
        if self.texts == CODES_MAX || self.page.len() + size_of::<u32>() + text.len() > self.page_bytes_max {
            return None;
        }
        if self.has_lengths {
            self.page.extend_from_slice(&length.to_le_bytes());
        }
        self.page.extend_from_slice(text);
        self.texts += 1;
        self.slots[at] = Slot { words: [low, high], length, code: self.texts as u32 };
        let code = (self.texts - 1) as u16;
        if self.texts * 2 > self.slots.len() {
            self.grow();
        }
        Some(code)
    }

    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, slots).into_iter().filter(|slot| slot.code != 0) {
            let is_short = slot.length as usize <= SHORT;
            let hash = if is_short { self.hash_words(slot.words, slot.length) } else { slot.words[0] };
            let mut places = (0..self.slots.len()).map(|probe| self.place(hash, probe));
            if let Some(at) = places.find(|at| self.slots[*at].code == 0) {
                self.slots[at] = slot;
            }
        }
    }

    #[inline(always)]
    fn place(&self, hash: u64, probe: usize) -> usize {
        (hash as usize).wrapping_add(probe) & (self.slots.len() - 1)
    }

    /// The hash of a text of at most [`SHORT`] bytes. A single product is nearly linear in the
    /// digits of numbered texts: with one pair of seeds in a few hundred, too many of them collide.
    #[inline(always)]
    fn hash_words(&self, [low, high]: [u64; 2], length: u32) -> u64 {
        fold(fold(low ^ self.seeds[0], high ^ self.seeds[1].wrapping_add(u64::from(length))), MIX)
    }

    /// The hash of a text of more than [`SHORT`] bytes.
    fn hash_bytes(&self, text: &[u8]) -> u64 {
        let (blocks, _) = text.as_chunks::<SHORT>();
        let last = &text[text.len() - SHORT..];
        let mut hash = text.len() as u64;
        for block in blocks.iter().map(<[u8; SHORT]>::as_slice).chain([last]) {
            let [low, high] = words(block);
            hash = fold(low ^ hash ^ self.seeds[0], high ^ self.seeds[1]).rotate_left(23) ^ hash;
        }
        fold(hash ^ self.seeds[0], self.seeds[1])
    }
}

/// A text of at most [`SHORT`] bytes as two words. Together with its length they identify it.
#[inline(always)]
fn words(text: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return [u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32, 0];
    }
    match text {
        [] => [0, 0],
        [first, .., last] => [u64::from(*first) | u64::from(text[text.len() / 2]) << 8 | u64::from(*last) << 16, 0],
        [only] => [u64::from(*only), 0],
    }
}

/// Combines the two halves of a product by XOR.
#[inline(always)]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The texts of a dictionary page.
    fn texts(mut page: &[u8]) -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        while let Some((length, rest)) = page.split_first_chunk() {
            let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            texts.push(text.to_vec());
            page = rest;
        }
        texts
    }

    #[test]
    fn a_dictionary_is_full_by_codes_and_by_bytes() {
        let mut by_codes = Dictionary::new(usize::MAX, true);
        for number in 0..CODES_MAX {
            assert_eq!(by_codes.code(number.to_string().as_bytes()), Some(number as u16));
        }
        assert_eq!(by_codes.code(b"another"), None);
        assert_eq!(by_codes.code(b"another that is not that short"), None);
        assert_eq!((by_codes.code(b"65535"), by_codes.len()), (Some(65_535), CODES_MAX));

        let mut by_bytes = Dictionary::new(20, true);
        assert_eq!(by_bytes.code(b"sixteen bytes..."), Some(0));
        assert_eq!((by_bytes.code(b""), by_bytes.code(b"sixteen bytes...")), (None, Some(0)));
    }

    #[test]
    fn texts_that_differ_in_one_byte_or_in_length_have_other_codes() {
        for length in 0..40 {
            let mut dictionary = Dictionary::new(usize::MAX, true);
            let text = vec![0; length];
            assert_eq!(dictionary.code(&text), Some(0));
            for at in 0..length {
                let mut other = text.clone();
                other[at] = 1;
                assert_eq!(dictionary.code(&other), Some(1 + at as u16), "byte {at} of {length}");
            }
            assert_eq!(dictionary.code(&vec![0; length + 1]), Some(1 + length as u16), "{length}");
        }
    }

    #[test]
    fn texts_that_meet_end_the_dictionary() {
        // With these seeds all short texts of one length whose first word is 0 have the same hash.
        let mut dictionary = Dictionary::new(usize::MAX, true);
        dictionary.seeds = [0, 0];
        let text = |number: u64| [[0; 8], number.to_le_bytes()].concat();
        let codes: Vec<_> = (0..1_000).map(|number| dictionary.code(&text(number))).collect();
        assert_eq!(codes[PROBES_MAX - 1..PROBES_MAX + 1], [Some(PROBES_MAX as u16 - 1), None]);
        assert_eq!(dictionary.code(&text(7)), Some(7));
    }

    #[test]
    fn numbered_texts_do_not_meet_whatever_the_seeds_are() {
        let check = |seeds: [u64; 2], text: fn(u32) -> String| {
            let mut dictionary = Dictionary::new(usize::MAX, true);
            dictionary.seeds = seeds;
            for number in 0..CODES_MAX as u32 {
                assert_eq!(dictionary.code(text(number).as_bytes()), Some(number as u16), "{seeds:x?}");
            }
        };
        // With a single product these seeds end the dictionary after 1,007 to 55,080 texts.
        check([0x3523_1fef_2fef_e027, 0x5b3e_fafd_72d9_0413], |number| {
            format!("{:012}", number / 2 * 3 + number % 2 + 1)
        });
        check([0x9c63_3b6e_37f3_d2bd, 0xbed3_7dfa_00bc_1112], |number| format!("campaign-{number:05}"));
        check([0xa999_e5ba_068d_94cc, 0x27d6_1e48_9e53_be4d], |number| format!("campaign-{number:05}"));
        check([0xb548_96f4_45f5_4cfb, 0x97b8_a064_0f80_e432], |number| format!("campaign-{number:05}"));
        check([0xf950_3b0e_6070_2690, 0x3345_c371_9a58_3077], |number| format!("{number:08}"));
    }

    proptest! {
        #[test]
        fn every_text_has_the_code_of_its_place_in_the_page(
            sent in prop::collection::vec(prop::collection::vec(0u8..3, 0..40), 0..2_000),
        ) {
            let mut dictionary = Dictionary::new(usize::MAX, true);
            let mut expected: HashMap<&[u8], u16> = HashMap::new();
            for text in &sent {
                let next = expected.len() as u16;
                let code = *expected.entry(text).or_insert(next);
                prop_assert_eq!(dictionary.code(text), Some(code));
            }
            let texts = texts(dictionary.page());
            prop_assert_eq!((texts.len(), dictionary.len()), (expected.len(), expected.len()));
            for (code, text) in texts.iter().enumerate() {
                prop_assert_eq!(expected[text.as_slice()], code as u16);
            }
        }
    }
}
