//! Finds the end of a value that may be no JSON, by its brackets and quotes alone.

use memchr::{memchr3, memrchr};

/// Brackets nested deeper than this are only counted, not matched by kind. The decoder refuses such
/// a value anyway.
const DEPTH_MAX: usize = 1024;

/// Finds the bracket that closes a value, over any number of buffers. A closing bracket closes the
/// nearest opening one of its kind, and all brackets within that. A string ends at a line end.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    open: Vec<u8>,
    /// How many brackets are open beyond [`DEPTH_MAX`].
    beyond: usize,
    in_string: bool,
    escaped: bool,
    /// The value has more than one line.
    is_long: bool,
}

impl Brackets {
    /// How many of the bytes belong to the value, and whether it ends with them. If a line end cuts
    /// off a string in the value's first line, the value ends there.
    pub fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
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
                    b'"' => self.in_string = false,
                    _ if self.is_long => self.in_string = false,
                    _ => return (at - 1, true),
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match byte {
                b'"' => self.in_string = true,
                b'\n' => self.is_long = true,
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

    /// Whether every bracket is closed.
    pub fn are_closed(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_costs_no_memory() {
        let deep = [b'['; 10_000];
        let mut brackets = Brackets::default();
        assert_eq!(brackets.scan(&deep), (10_000, false));
        assert_eq!(brackets.open.len(), DEPTH_MAX);
        assert_eq!(brackets.scan(&[b']'; 10_001]), (10_000, true));
    }

    #[test]
    fn closes_by_kind() {
        let check = |text: &str, expected: (usize, bool), closed: bool| {
            let mut brackets = Brackets::default();
            assert_eq!((brackets.scan(text.as_bytes()), brackets.are_closed()), (expected, closed), "{text:?}");
        };
        check("{}x", (2, true), true);
        check("{\"a\":[1}x", (8, true), true);
        check("{\"}\\\"\":[]}", (10, true), true);
        check("{\"a\":1", (6, false), false);
        check("{\"a\n", (3, true), false);
        check("{\n\"a\n}", (6, true), true);
    }
}
