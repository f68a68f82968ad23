//! Finds the place where reading goes on after a value that cannot be read.
//!
//! These places are looked for:
//!
//! 1. A line within the bad value that begins another value. That value can be read, or its opening
//!    bracket is the first wrong byte of the bad one. It is indented no deeper than the line in
//!    which the bad value begins. So a value that is cut off within its line does not take the
//!    values of the next lines for its own parts, and the parts of a pretty-printed value do not
//!    count as values.
//! 2. The place where the bad value's own brackets close, if no such line comes before.
//! 3. An object that can be read and stands before the next line: from the first wrong byte on, or
//!    within a string.
//! 4. The line end after the first wrong byte.
//!
//! Place 2 counts only if it comes after the first wrong byte, and then it goes before 3 and 4.
//! Otherwise the first place in the content counts.
//!
//! If the content ends before the question is settled, the answer is not certain: more content
//! could give another one ([`Resync::is_certain`]). Such an answer is not used while a file may
//! still grow.
//!
//! The search has a budget: each byte taken pays for looking at [`CREDIT`] bytes. So the time for a
//! file grows in proportion to its length, however bad the file is. Without credit, only the line
//! end counts.

use std::io;

use super::brackets::Brackets;
use memchr::memrchr;

use super::{JsonValues, RECORD_SEPARATOR, Read, ends_line, is_opening, is_separator, line_end};

/// Each byte taken allows looking at this many bytes.
const CREDIT: u64 = 64;
/// How many bytes may be looked at in any case.
const CREDIT_FIRST: u64 = 16 << 20;
/// How far beyond the beginning of a bad value the search goes.
const SEARCHED_BYTES_MAX: usize = 1 << 20;

/// The state of the search.
#[derive(Debug)]
pub(super) struct Resync {
    credit: u64,
    /// The indentation of this line's first value: separators, and the bracket that opens an array.
    indentation: usize,
    /// No value of this line has been taken yet.
    at_line_start: bool,
    /// The earliest place at which more content could end the piece. An end beyond it is not
    /// certain.
    open_question: usize,
}

impl Default for Resync {
    fn default() -> Self {
        Resync { credit: CREDIT_FIRST, indentation: 0, at_line_start: true, open_question: usize::MAX }
    }
}

impl Resync {
    /// Notes that these bytes were taken.
    pub fn taken(&mut self, bytes: &[u8]) {
        self.credit = self.credit.saturating_add(bytes.len() as u64 * CREDIT).min(u64::MAX / 2);
        let line_end = memrchr(b'\n', bytes);
        if line_end.is_some() {
            self.indentation = 0;
            self.at_line_start = true;
        }
        if self.at_line_start {
            let line = &bytes[line_end.map_or(0, |end| end + 1)..];
            let length = line.iter().take_while(|byte| is_separator(**byte) || **byte == b'[').count();
            self.indentation += length;
            self.at_line_start = length == line.len();
        }
    }

    /// Starts the search for the end of another piece.
    pub fn begin(&mut self) {
        self.open_question = usize::MAX;
    }

    /// Notes that more content could end the piece at this place.
    pub fn is_open(&mut self, at: usize) {
        self.open_question = self.open_question.min(at);
    }

    /// Whether the piece ends at `end` whatever follows the content.
    pub fn is_certain(&self, end: usize) -> bool {
        end <= self.open_question
    }

    /// Spends credit for looking at `bytes` bytes. Returns whether there was enough.
    fn pay(&mut self, bytes: usize) -> bool {
        let enough = self.credit >= bytes as u64;
        self.credit = self.credit.saturating_sub(bytes as u64);
        enough
    }
}

impl JsonValues {
    /// Whether an object or list that can be read begins `at` bytes ahead.
    pub(super) fn is_value(&mut self, at: usize) -> io::Result<bool> {
        if !self.resync.pay(1) {
            return Ok(false);
        }
        let found = self.read_at(at)?;
        let looked_at = match found {
            Read::Whole(bytes) | Read::Broken(bytes) => bytes,
            Read::CutOff => {
                self.resync.is_open(at);
                self.window.rest().len().saturating_sub(at)
            }
            Read::TooLong => self.limit,
        };
        self.resync.pay(looked_at);
        Ok(matches!(found, Read::Whole(_)))
    }

    /// Whether an object with members that can be read begins `at` bytes ahead. `{}` within a
    /// string is mostly part of the string.
    fn is_object(&mut self, at: usize) -> io::Result<bool> {
        // Looks two bytes ahead, however little of the content has been read so far.
        self.window.fill_to(at + 2)?;
        let is_empty = self.window.rest().get(at + 1) == Some(&b'}');
        Ok(!is_empty && self.is_value(at)?)
    }

    /// The end of a value that cannot be read. `None`: it has no end within the length of a record.
    pub(super) fn find_end(&mut self, found: Read) -> io::Result<Option<usize>> {
        self.resync.begin();
        let wrong = match found {
            Read::Broken(at) => Some(at),
            _ => None,
        };
        if found == Read::CutOff {
            self.resync.is_open(0);
        }
        let searched = SEARCHED_BYTES_MAX.min(self.limit);
        let mut brackets = Brackets::default();
        let mut scanned = 0;
        let mut closed = None;
        let mut next_line = None;
        // Checks line by line: does the value close, or does another one begin?
        while closed.is_none() && scanned < searched {
            let line = self.line_from(scanned, searched)?;
            if line == scanned {
                // Its brackets may close in content that is still to come.
                self.resync.is_open(0);
                break;
            }
            let rest = self.window.rest();
            let (taken, ended) = brackets.scan(&rest[scanned..line]);
            let is_line = rest[line - 1] == b'\n';
            if ended {
                closed = brackets.are_closed().then_some(scanned + taken);
                if closed.is_none() {
                    // The value has one line, and the line end cuts off a string in it.
                    next_line = self.line_of_a_value(line, wrong)?.then_some(line);
                    break;
                }
            }
            let looked_at = line - scanned;
            scanned = line;
            if !self.resync.pay(looked_at) {
                closed = None;
                break;
            }
            if closed.is_none() && is_line && self.line_of_a_value(line, wrong)? {
                next_line = Some(line);
                break;
            }
        }
        if let Some(end) = closed.filter(|end| wrong.is_none_or(|wrong| *end > wrong)) {
            return Ok(Some(end));
        }
        let line = match wrong {
            Some(wrong) => self.end_of_line(wrong)?,
            None => None,
        };
        // A value that the end of the content cuts off is not broken: with more content it may be
        // whole.
        let in_line = match found {
            Read::CutOff => None,
            _ => self.value_in_line(wrong, next_line, line)?,
        };
        Ok([next_line, in_line, line].into_iter().flatten().min())
    }

    /// Where the line around `from` ends: behind its line feed, or at `most` or the end of the
    /// content if that comes first.
    fn line_from(&mut self, from: usize, most: usize) -> io::Result<usize> {
        let mut searched_to = from;
        loop {
            let rest = self.window.rest();
            let rest = &rest[..rest.len().min(most)];
            if let Some(end) = line_end(rest, searched_to) {
                return Ok(end + 1);
            }
            searched_to = rest.len().max(from);
            if rest.len() == most || !self.window.fill_to(searched_to + 1)? {
                return Ok(self.window.rest().len().min(most).max(from));
            }
        }
    }

    /// Whether the line at `line` begins a value that is indented no deeper than the line that
    /// reading is in. The value can be read, or its opening bracket is the first wrong byte.
    fn line_of_a_value(&mut self, line: usize, wrong: Option<usize>) -> io::Result<bool> {
        let allowed = self.resync.indentation;
        let mut at = line;
        loop {
            match self.window.rest().get(at).copied() {
                Some(b' ' | b'\t') if at - line < allowed => at += 1,
                Some(byte) if is_opening(byte) => {
                    let is_value = wrong == Some(at) || self.is_value(at)?;
                    if !self.resync.is_certain(at + 1) {
                        self.resync.is_open(line);
                    }
                    return Ok(is_value);
                }
                Some(_) => return Ok(false),
                None if !self.window.fill_to(at + 1)? => {
                    self.resync.is_open(line);
                    return Ok(false);
                }
                None => {}
            }
        }
    }

    /// The line end from `wrong` on. `None`: the record would reach its length limit first.
    fn end_of_line(&mut self, wrong: usize) -> io::Result<Option<usize>> {
        let mut from = wrong;
        loop {
            let rest = self.window.rest();
            let searched = &rest[from.min(rest.len())..rest.len().min(self.limit)];
            if let Some(end) = searched.iter().position(|byte| ends_line(*byte)) {
                return Ok(Some(from + end));
            }
            if rest.len() >= self.limit {
                return Ok(None);
            }
            from = rest.len();
            if !self.window.fill_to(from + 1)? {
                let end = self.window.rest().len();
                self.resync.is_open(end.saturating_sub(1));
                return Ok(Some(end));
            }
        }
    }

    /// The first object that can be read before the next line: within a string of the bad value, or
    /// from its first wrong byte on.
    fn value_in_line(
        &mut self,
        wrong: Option<usize>,
        next_line: Option<usize>,
        line: Option<usize>,
    ) -> io::Result<Option<usize>> {
        let rest = self.window.rest();
        let end = [next_line, line].into_iter().flatten().min();
        let end = end.unwrap_or(rest.len()).min(rest.len()).min(self.limit.min(SEARCHED_BYTES_MAX));
        if !self.resync.pay(end) {
            return Ok(None);
        }
        let (mut in_string, mut escaped) = (false, false);
        for at in 1..end {
            let byte = self.window.rest()[at];
            let is_after = wrong.is_some_and(|wrong| at >= wrong);
            match byte {
                b'{' if (in_string || is_after) && self.is_object(at)? => return Ok(Some(at)),
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'\n' | RECORD_SEPARATOR => in_string = false,
                _ => {}
            }
        }
        Ok(None)
    }
}
