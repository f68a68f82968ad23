//! JSON values in a row: the elements of one array, or values one after another over any number of lines.
//!
//! Only the structure is looked at: strings, brackets, commas. Whether an element is good JSON is the decoder's to say. A
//! string that a line end cuts off, and brackets that do not match, end the element where its neighbours' bounds can
//! still be told. An array that is not closed: the elements before the break are records, the rest is one rejected piece.

use std::io;

use memchr::{memchr3, memrchr};

use super::{Collector, Piece, Splitter, broken, skip_byte_order_mark, truncated};
use crate::source::files::open::Content;

/// Brackets deeper than this are only counted, not matched by kind: the decoder refuses such an element anyway.
const DEPTH_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    Inside,
    AfterArray,
    End,
}

/// Cuts an array into its elements, or a file of values into these.
#[derive(Debug)]
pub struct JsonValues {
    content: Content,
    limit: usize,
    is_array: bool,
    place: Place,
}

impl JsonValues {
    /// Elements of at most `limit` bytes of the array that the content is.
    pub fn array(content: Content, limit: usize) -> JsonValues {
        JsonValues { content, limit, is_array: true, place: Place::Begin }
    }

    /// Values of at most `limit` bytes, separated by white space, or by commas.
    pub fn concatenated(content: Content, limit: usize) -> JsonValues {
        JsonValues { content, limit, is_array: false, place: Place::Begin }
    }

    /// The next byte that is neither white space nor a comma; it is not taken.
    fn next_visible(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.content.fill()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            match buffer.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',') {
                Some(position) => {
                    let byte = buffer[position];
                    self.content.consume(position);
                    return Ok(Some(byte));
                }
                None => {
                    let length = buffer.len();
                    self.content.consume(length);
                }
            }
        }
    }

    fn element(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        let mut collector = Collector::new(self.limit);
        let mut scanner = Scanner::new(self.is_array);
        loop {
            let buffer = self.content.fill()?;
            if buffer.is_empty() {
                self.place = Place::End;
                if scanner.is_complete_at_end() && !self.is_array && self.content.broken().is_none() {
                    return Ok(collector.finish());
                }
                return Ok(broken(&self.content).unwrap_or_else(|| truncated("the file ends within a JSON value")));
            }
            let (taken, ended) = scanner.scan(buffer);
            collector.add(piece, &buffer[..taken]);
            self.content.consume(taken);
            if ended {
                return Ok(collector.finish());
            }
        }
    }

    /// Everything that is left, as one piece.
    fn rest(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        let mut collector = Collector::new(self.limit);
        loop {
            let buffer = self.content.fill()?;
            let length = buffer.len();
            if length == 0 {
                return Ok(());
            }
            collector.add(piece, buffer);
            self.content.consume(length);
        }
    }
}

impl Splitter for JsonValues {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        piece.clear();
        if self.place == Place::Begin {
            skip_byte_order_mark(&mut self.content)?;
            self.place = Place::Inside;
            if self.is_array {
                match self.next_visible()? {
                    Some(b'[') => self.content.consume(1),
                    _ => self.place = Place::AfterArray,
                }
            }
        }
        if self.place == Place::Inside {
            match self.next_visible()? {
                Some(b']') if self.is_array => {
                    self.content.consume(1);
                    self.place = Place::AfterArray;
                }
                Some(_) => return self.element(piece),
                None => {
                    self.place = Place::End;
                    if let Some(broken) = broken(&self.content) {
                        return Ok(broken);
                    }
                    if self.is_array {
                        return Ok(truncated("the file ends before its array is closed"));
                    }
                }
            }
        }
        if self.place == Place::AfterArray {
            self.place = Place::End;
            if self.next_visible()?.is_some() {
                self.rest(piece)?;
                let rejection = crate::record::Rejection {
                    reason: "invalid_json",
                    detail: "something follows the end of the file's array".to_owned(),
                };
                return Ok(Piece::Rejected(rejection));
            }
            if let Some(broken) = broken(&self.content) {
                return Ok(broken);
            }
        }
        Ok(Piece::End)
    }

    fn content(&self) -> &Content {
        &self.content
    }
}

/// Finds the end of one value, byte by byte, over any number of buffers.
#[derive(Debug)]
pub struct Scanner {
    in_array: bool,
    open: Vec<u8>,
    begun: bool,
    in_string: bool,
    escaped: bool,
    /// A value that is neither object, array nor string: it ends before a separator.
    is_bare: bool,
    lines: usize,
    /// Brackets open beyond [`DEPTH_MAX`].
    beyond: usize,
}

impl Scanner {
    /// For elements of an array, or for values that stand alone.
    pub fn new(in_array: bool) -> Scanner {
        Scanner {
            in_array,
            open: Vec::new(),
            begun: false,
            in_string: false,
            escaped: false,
            is_bare: false,
            lines: 0,
            beyond: 0,
        }
    }

    /// Whether the end of the file ends the value.
    fn is_complete_at_end(&self) -> bool {
        self.is_bare
    }

    /// How many of the bytes belong to the value, and whether it ends with them.
    pub fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                let Some(found) = memchr3(b'"', b'\\', b'\n', &bytes[at..]) else { return (bytes.len(), false) };
                at += found + 1;
                match bytes[at - 1] {
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.open.is_empty() {
                            return (at, true);
                        }
                    }
                    // No string goes over a line end. Of elements that stand in a line each this one ends here; in an
                    // element of many lines only the string does.
                    _ => {
                        self.in_string = false;
                        if self.lines == 0 {
                            return (at - 1, true);
                        }
                        self.lines += 1;
                    }
                }
                continue;
            }
            if !self.begun {
                self.begun = true;
                self.is_bare = !matches!(byte, b'{' | b'[' | b'"');
            }
            if self.is_bare {
                if byte.is_ascii_whitespace() || byte == b',' || (self.in_array && byte == b']') {
                    return (at, true);
                }
                at += 1;
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.in_string = true,
                b'\n' => self.lines += 1,
                b'{' | b'[' if self.open.len() == DEPTH_MAX => self.beyond += 1,
                b'{' | b'[' => self.open.push(byte),
                b'}' | b']' if self.beyond > 0 => self.beyond -= 1,
                b'}' | b']' => {
                    let opening = if byte == b'}' { b'{' } else { b'[' };
                    if let Some(depth) = memrchr(opening, &self.open) {
                        self.open.truncate(depth);
                    }
                    if self.open.is_empty() {
                        return (at, true);
                    }
                }
                _ => {}
            }
        }
        (at, false)
    }
}

/// Whether the text is exactly one object or array, white space around it aside.
pub fn is_whole(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    matches!(text.first(), Some(b'{' | b'[')) && Scanner::new(false).scan(text) == (text.len(), true)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{records, split};
    use super::*;

    fn array(text: &str) -> Vec<(String, Option<&'static str>)> {
        split(JsonValues::array(Content::of(text.as_bytes()), 1000))
    }

    #[test]
    fn cuts_arrays_into_elements() {
        let check = |text: &str, expected: &[&str]| assert_eq!(array(text), records(expected), "{text:?}");
        check("[]", &[]);
        check(" [ ] \n", &[]);
        check(r#"[{"a":1},{"a":2}]"#, &[r#"{"a":1}"#, r#"{"a":2}"#]);
        check("\u{feff}[\n  {\n \"a\": [1, {}]\n  },\n  {}\n]\n", &["{\n \"a\": [1, {}]\n  }", "{}"]);
        check(
            r#"[{"a":"]},{\"[{"},"text, and",12, true ,null]"#,
            &[r#"{"a":"]},{\"[{"}"#, r#""text, and""#, "12", "true", "null"],
        );
        check(r#"[{"a":"\\"},{}]"#, &[r#"{"a":"\\"}"#, "{}"]);
        check(r#"[{"a":1}{"a":2}]"#, &[r#"{"a":1}"#, r#"{"a":2}"#]);
    }

    #[test]
    fn an_unclosed_array_keeps_what_came_before() {
        let check = |text: &str, good: &[&str], rest: &str| {
            let mut expected = records(good);
            expected.push((rest.to_owned(), Some("truncated")));
            assert_eq!(array(text), expected, "{text:?}");
        };
        check(r#"[{"a":1},{"a":2"#, &[r#"{"a":1}"#], r#"{"a":2"#);
        check(r#"[{"a":1},{"a":"2"#, &[r#"{"a":1}"#], r#"{"a":"2"#);
        check(r#"[{"a":1}, "#, &[r#"{"a":1}"#], "");
        check("[12", &[], "12");
        check("[", &[], "");
    }

    #[test]
    fn damage_stays_within_its_element() {
        let damaged = r#"{"a":[1}"#;
        assert_eq!(array(&format!("[{{}},{damaged},{{}}]")), records(&["{}", damaged, "{}"]));
        let cut = "[\n{\"a\":1},\n{\"a\":\"cut},\n{\"a\":3}\n]";
        assert_eq!(array(cut), records(&[r#"{"a":1}"#, r#"{"a":"cut},"#, r#"{"a":3}"#]));
        let pretty = "[\n{\n\"a\":\"cut,\n\"b\":1\n},\n{\"a\":3}\n]";
        assert_eq!(array(pretty), records(&["{\n\"a\":\"cut,\n\"b\":1\n}", r#"{"a":3}"#]));
        assert_eq!(array(r#"[{"a":1} x, {"a":2}]"#), records(&[r#"{"a":1}"#, "x", r#"{"a":2}"#]));
        assert_eq!(array("[{},}}},{}]"), records(&["{}", "}}}", "{}"]));
    }

    #[test]
    fn what_follows_the_array_is_one_piece() {
        let mut expected = records(&["1"]);
        expected.push(("{\"a\":2} [3]".to_owned(), Some("invalid_json")));
        assert_eq!(array("[1] {\"a\":2} [3]"), expected);
    }

    #[test]
    fn depth_costs_neither_memory_nor_neighbours() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = format!("[{{}},{deep},{{}},{}", "[".repeat(10_000));
        let pieces = split(JsonValues::array(Content::of(text.as_bytes()), 30_000));
        let rest = ("[".repeat(10_000), Some("truncated"));
        assert_eq!(pieces, [records(&["{}", &deep, "{}"]), vec![rest]].concat());
        let mut scanner = Scanner::new(false);
        scanner.scan(deep.as_bytes().split_at(10_000).0);
        assert_eq!(scanner.open.len(), DEPTH_MAX);
    }

    #[test]
    fn a_long_element_is_rejected_and_costs_nobody_else() {
        let text = format!("[1,\"{}\",2]", "x".repeat(50));
        let pieces = split(JsonValues::array(Content::of(text.as_bytes()), 10));
        assert_eq!(pieces[0], ("1".to_owned(), None));
        assert_eq!(pieces[1], (format!("\"{}", "x".repeat(9)), Some("too_long")));
        assert_eq!(pieces[2], ("2".to_owned(), None));
    }

    #[test]
    fn cuts_values_one_after_another() {
        let check = |text: &str, expected: &[&str]| {
            let values = JsonValues::concatenated(Content::of(text.as_bytes()), 1000);
            assert_eq!(split(values), records(expected), "{text:?}");
        };
        check("", &[]);
        check("{\n\"a\": 1\n}\n{\n\"a\": 2\n}", &["{\n\"a\": 1\n}", "{\n\"a\": 2\n}"]);
        check("{} ] 7", &["{}", "]", "7"]);
    }

    #[test]
    fn tells_whole_values() {
        for (text, expected) in [
            ("{}", true),
            (" {\"a\":\"}\"} ", true),
            ("{", false),
            ("{}{}", false),
            ("7", false),
            ("", false),
            ("[{}]", true),
        ] {
            assert_eq!(is_whole(text.as_bytes()), expected, "{text:?}");
        }
    }
}
