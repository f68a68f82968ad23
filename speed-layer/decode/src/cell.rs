//! A value in the type of its column. It borrows its texts and parts.

/// A value of the type of its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(&'a str),
    /// Whole numbers, and times in microseconds.
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// A number of 10^-12 units.
    Amount(i128),
    /// The values in the order of the type's fields.
    Struct(&'a [Cell<'a>]),
    List(&'a [Cell<'a>]),
    /// Entries sorted by key.
    Map(&'a [(&'a str, Option<&'a str>)]),
}

impl<'a> Cell<'a> {
    /// The text, if the cell is one.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The field at `index` of a struct.
    pub fn part(&self, index: usize) -> Cell<'a> {
        match self {
            Cell::Struct(cells) => cells.get(index).copied().unwrap_or(Cell::Null),
            _ => Cell::Null,
        }
    }
}
