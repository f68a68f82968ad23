//! A fast path for plain records: finds the members in one pass, several times faster than
//! serde_json's parser in [`super::read`].
//!
//! Whatever is not plain (a key with escapes, anything that may be wrong) is left to the parser,
//! which also reports the error. So the scanner may give up on good JSON. It must never accept bad
//! JSON, nor find other members than the parser.

use serde_json::value::RawValue;

use super::KeyMemo;
use crate::json_text;
use crate::reject::Reject;
use crate::row::Row;
use crate::value::Value;

/// Offers every member of the record's object to `row`. `None` means that the scanner gave up: the
/// parser has to read the record, and an unknown part of the members has been offered.
pub(super) fn read<'a>(text: &'a str, memo: &mut KeyMemo, row: &mut Row<'a, '_>) -> Option<Result<(), Reject>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut refused = None;
    scanner.skip_spaces();
    scanner.take(b'{')?;
    scanner.skip_spaces();
    if scanner.peek()? == b'}' {
        scanner.at += 1;
    } else {
        for place in 0.. {
            let (key, entry) = scanner.key(memo, place, row)?;
            scanner.skip_spaces();
            scanner.take(b':')?;
            scanner.skip_spaces();
            let offered = match scanner.peek()? {
                b'"' => match scanner.plain_string()? {
                    Some(text) => row.offer_text(key, entry, text, false),
                    None => {
                        let value = scanner.escaped_string(row)?;
                        row.offer(key, entry, value)
                    }
                },
                b'-' | b'0'..=b'9' => row.offer_text(key, entry, scanner.number()?, true),
                first => {
                    let value = scanner.other(first, row)?;
                    row.offer(key, entry, value)
                }
            };
            scanner.skip_spaces();
            if let Err(reject) = offered {
                refused.get_or_insert(reject);
            }
            if scanner.peek()? == b'}' {
                scanner.at += 1;
                break;
            }
            scanner.take(b',')?;
            scanner.skip_spaces();
        }
    }
    scanner.skip_spaces();
    (scanner.at == text.len()).then(|| refused.map_or(Ok(()), Err))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    #[inline]
    fn skip_spaces(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a key without escapes. If it is the key that the previous record had at this place, it
    /// is recognised without a search for its end.
    #[inline]
    fn key(&mut self, memo: &mut KeyMemo, place: usize, row: &Row<'a, '_>) -> Option<(&'a str, Option<u16>)> {
        self.take(b'"')?;
        let start = self.at;
        if let Some((length, entry)) = memo.recognise(place, self.rest()) {
            self.at += length + 1;
            return Some((&self.text[start..start + length], entry));
        }
        let end = self.special().filter(|end| self.is_quote(*end))?;
        self.at = end + 1;
        let key = &self.text[start..end];
        Some((key, memo.lookup(place, key, row.mapping())))
    }

    /// A value that is neither a string nor a number.
    fn other(&mut self, first: u8, row: &Row<'a, '_>) -> Option<Value<'a>> {
        match first {
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'{' | b'[' => {
                let mut parser = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<&'a RawValue>();
                let raw = parser.next()?.ok()?.get();
                self.at += raw.len();
                json_text::value(raw, row.arena(), row.mapping().depth_max()).ok()
            }
            _ => None,
        }
    }

    /// Reads a string without escapes. If it has some, returns `Some(None)` and does not advance.
    #[inline]
    fn plain_string(&mut self) -> Option<Option<&'a str>> {
        let quote = self.at;
        self.at += 1;
        let end = self.special()?;
        if self.is_quote(end) {
            self.at = end + 1;
            return Some(Some(&self.text[quote + 1..end]));
        }
        self.at = quote;
        (self.text.as_bytes()[end] == b'\\').then_some(None)
    }

    /// Reads a string with escapes. The scanner finds its end, the parser decodes its content.
    #[cold]
    fn escaped_string(&mut self, row: &Row<'a, '_>) -> Option<Value<'a>> {
        let bytes = self.text.as_bytes();
        let quote = self.at;
        let mut at = quote + 1;
        loop {
            match bytes.get(at)? {
                b'\\' => at += 2,
                b'"' => break,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        json_text::value(self.text.get(quote..=at)?, row.arena(), usize::MAX).ok()
    }

    fn number(&mut self) -> Option<&'a str> {
        let bytes = self.rest();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(at);
        if whole == 0 || (whole > 1 && bytes[at] == b'0') {
            return None;
        }
        at += whole;
        if bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            if fraction == 0 {
                return None;
            }
            at += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            if exponent == 0 {
                return None;
            }
            at += exponent;
        }
        let text = &self.text[self.at..self.at + at];
        self.at += at;
        Some(text)
    }

    #[inline]
    fn word(&mut self, word: &str, value: Value<'a>) -> Option<Value<'a>> {
        self.rest().starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    #[inline]
    fn is_quote(&self, at: usize) -> bool {
        self.text.as_bytes().get(at) == Some(&b'"')
    }

    /// The position of the next byte that is not plain text: a quote, a backslash, or a control
    /// character.
    #[inline]
    fn special(&self) -> Option<usize> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        /// Sets the high bit of the first byte that is zero, and of no byte before it. Bits after
        /// that one mean nothing.
        const fn zeroes(word: u64) -> u64 {
            word.wrapping_sub(ONES) & !word & HIGH
        }
        let (words, tail) = self.rest().as_chunks::<8>();
        let mut at = self.at;
        for word in words {
            let word = u64::from_le_bytes(*word);
            let quotes = zeroes(word ^ (ONES * b'"' as u64));
            let backslashes = zeroes(word ^ (ONES * b'\\' as u64));
            let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
            let found = quotes | backslashes | controls;
            if found != 0 {
                return Some(at + found.trailing_zeros() as usize / 8);
            }
            at += 8;
        }
        let inside = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        Some(at + inside)
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::event::EventKind;
    use bumpalo::Bump;
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::Attributes;
    use crate::json;
    use crate::mapping::Mapping;
    use crate::settings::SourceSettings;

    /// What a row holds after the scanner has read it, as text. `None` where the scanner gave up.
    fn by_scanner(text: &str, memo: &mut KeyMemo) -> Option<Result<String, Reject>> {
        let mapping = mapping();
        let (arena, mut attributes) = (Bump::new(), Attributes::default());
        let mut row = Row::new(&mapping, &arena, &mut attributes);
        read(text, memo, &mut row).map(|outcome| outcome.map(|()| contents(&mut row)))
    }

    /// A mapping with several names of one field, some of which bind, and a default.
    fn mapping() -> Mapping {
        let mut settings = SourceSettings::default();
        settings.fields.insert("user_id".to_owned(), ["cuid", "afid", "user.id"].map(str::to_owned).to_vec());
        settings.defaults.insert("website".to_owned(), "nowhere".to_owned());
        Mapping::new(EventKind::Impression, &settings).unwrap()
    }

    fn by_parser(text: &str) -> Result<String, Reject> {
        let mapping = mapping();
        let (arena, mut attributes) = (Bump::new(), Attributes::default());
        let mut row = Row::new(&mapping, &arena, &mut attributes);
        json::parse(text, &mut KeyMemo::default(), &mut row).map(|()| contents(&mut row))
    }

    fn contents(row: &mut Row<'_, '_>) -> String {
        let values = (0..row.mapping().fields().len()).map(|index| format!("{:?};", row.value(index)));
        let values: String = values.collect();
        format!("{values}{:?}", row.attributes().finish())
    }

    /// Where the scanner does not give up, it must agree with the parser.
    fn check(text: &str, memo: &mut KeyMemo) -> bool {
        let Some(found) = by_scanner(text, memo) else { return false };
        let (found, expected) =
            (found.map_err(|reject| reject.reason), by_parser(text).map_err(|reject| reject.reason));
        assert_eq!(found, expected, "{text}");
        true
    }

    const PLAIN: &str = concat!(
        r#" {"user_id":"u1", "ad_creative_id" :"k\u00e9\"1","#,
        r#""timestamp": -1.25e+3 ,"website":"exämple.com" , "viewable":true,"#,
        "\n",
        r#"        "a":false,"b":null,"consent":{"x":[1,{"y":"]"}]},"c":[],"#,
        r#""width":0,"height":20,"long_text":"0123456789abcdef\t0123456789abcdef"}"#,
        "\n",
        r#"        "#
    );

    #[test]
    fn plain_records_are_read_as_the_parser_reads_them() {
        let mut memo = KeyMemo::default();
        // The second time, the keys are known.
        for text in [PLAIN, PLAIN, "{}", " { } ", r#"{"user_id":7}"#, r#"{"":1,"user_id":"x"}"#, PLAIN] {
            assert!(check(text, &mut memo), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_the_parser() {
        let wrong = [
            "",
            "{",
            "[]",
            "1",
            "{}x",
            "{}{}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":1.}"#,
            r#"{"a":1e}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":tru}"#,
            r#"{"a":truex}"#,
            r#"{"a":nul}"#,
            r#"{"a":"x}"#,
            "{\"a\":\"\n\"}",
            "{\"a\u{1}\":1}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\"}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":{]}"#,
            r#"{"a" 1}"#,
            r#"{'a':1}"#,
            "\u{feff}{}",
            r#"{"a":NaN}"#,
            r#"{"a":1 "b":2}"#,
        ];
        for text in wrong {
            assert!(by_scanner(text, &mut KeyMemo::default()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_that_needs_escapes_is_not_remembered_as_plain() {
        let mut memo = KeyMemo::default();
        let mapping = Mapping::new(EventKind::Impression, &SourceSettings::default()).unwrap();
        memo.lookup(0, "a\"b", &mapping);
        assert!(by_scanner(r#"{"a"b":1}"#, &mut memo).is_none());
        memo.lookup(0, "a\u{1}", &mapping);
        assert!(by_scanner("{\"a\u{1}\":1}", &mut memo).is_none());
    }

    proptest! {
        #[test]
        fn names_of_one_field_are_weighed_as_the_parser_weighs_them(
            members in prop::collection::vec(
                (
                    prop::sample::select(
                        &["cuid", "afid", "uid", "user", "user_id", "website", "url", "site", "currency"][..]
                    ),
                    prop::sample::select(
                        &[
                            r#""""#,
                            r#""""#,
                            r#""a""#,
                            r#""b\u0063""#,
                            "7",
                            "null",
                            r#"{"id":""}"#,
                            r#"{"id":"i"}"#
                        ][..]
                    ),
                ),
                0..6,
            ),
        ) {
            let members: Vec<String> = members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
            let text = format!("{{{}}}", members.join(","));
            let mut memo = KeyMemo::default();
            prop_assert!(check(&text, &mut memo) && check(&text, &mut memo), "{}", text);
        }

        #[test]
        fn mutated_records_are_read_as_the_parser_reads_them(
            changes in prop::collection::vec(
                (0usize..400, prop::sample::select(&b"\"\\{}[]:,01-.eEtn \x1f\n\x80a"[..]), any::<bool>()),
                0..4
            ),
        ) {
            let mut bytes = PLAIN.as_bytes().to_vec();
            for (at, byte, inserts) in changes {
                let at = at % bytes.len();
                if inserts { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            let text = String::from_utf8_lossy(&bytes);
            let mut memo = KeyMemo::default();
            check(&text, &mut memo);
            check(PLAIN, &mut memo);
            check(&text, &mut memo);
        }

        #[test]
        fn the_next_special_byte_is_found(text in "[ -~é]{0,40}[\"\\\\\u{0}-\u{1f}]?[ -~]{0,9}") {
            let scanner = Scanner { text: &text, at: 0 };
            let expected = text.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            prop_assert_eq!(scanner.special(), expected);
        }
    }
}
