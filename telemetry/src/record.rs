//! A span that has ended, as it waits for its export.

use crate::context::SpanContext;

/// The most bytes of a text in a span.
const TEXT_BYTES_MAX: usize = 2048;
/// The most links of a span.
pub const LINKS_MAX: usize = 64;

/// The kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Internal,
    Server,
    Client,
    Consumer,
}

impl Kind {
    pub fn parse(text: &str) -> Kind {
        match text {
            "server" => Kind::Server,
            "client" => Kind::Client,
            "consumer" => Kind::Consumer,
            _ => Kind::Internal,
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

/// A span.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub context: SpanContext,
    pub parent: Option<u64>,
    /// Whether the parent is of another process.
    pub is_parent_remote: bool,
    pub name: String,
    pub kind: Kind,
    /// In nanoseconds since the epoch.
    pub from: u64,
    pub to: u64,
    pub attributes: Vec<(&'static str, Value)>,
    pub links: Vec<SpanContext>,
    /// Links that were too many.
    pub links_dropped: u32,
    pub failure: Option<String>,
}

impl Record {
    /// Sets an attribute.
    pub fn set(&mut self, name: &'static str, value: Value) {
        match self.attributes.iter_mut().find(|(other, _)| *other == name) {
            Some((_, former)) => *former = value,
            None => self.attributes.push((name, value)),
        }
    }

    /// Adds a link.
    pub fn link(&mut self, to: SpanContext) {
        match self.links.len() < LINKS_MAX {
            true => self.links.push(to),
            false => self.links_dropped += 1,
        }
    }
}

/// The text, or its beginning if it is long.
pub fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_at_a_character() {
        assert_eq!(shortened("short"), "short");
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(shortened(&format!("x{long}")).len(), TEXT_BYTES_MAX - 1);
    }
}
