//! Names as numbers: each value of a dimension has a code, the same in every cube of the server.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

use crate::question::Dimension;

/// The code of unknown.
pub const UNKNOWN: u32 = 0;

/// The values of all dimensions. Codes are never taken back, so that cubes of different snapshots
/// can be read together.
#[derive(Debug, Default)]
pub struct Names {
    by_dimension: [RwLock<Codes>; Dimension::ALL.len()],
}

#[derive(Debug, Default)]
struct Codes {
    /// The value of code 1 is the first.
    values: Vec<Arc<str>>,
    codes: HashMap<Arc<str>, u32>,
}

impl Names {
    /// The code of a value, which is new if it has none yet.
    pub fn code(&self, dimension: Dimension, value: Option<&str>) -> u32 {
        let Some(value) = value else { return UNKNOWN };
        if let Some(code) = self.known(dimension, value) {
            return code;
        }
        let mut codes = self.of(dimension).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.codes.get(value) {
            return *code;
        }
        let value: Arc<str> = value.into();
        codes.values.push(value.clone());
        let code = codes.values.len() as u32;
        codes.codes.insert(value, code);
        code
    }

    /// The code of a value, if it has one: if any event ever had it.
    pub fn known(&self, dimension: Dimension, value: &str) -> Option<u32> {
        self.of(dimension).read().unwrap_or_else(PoisonError::into_inner).codes.get(value).copied()
    }

    /// The value of a code.
    pub fn value(&self, dimension: Dimension, code: u32) -> Option<Arc<str>> {
        let place = (code as usize).checked_sub(1)?;
        self.of(dimension).read().unwrap_or_else(PoisonError::into_inner).values.get(place).cloned()
    }

    /// How many codes a dimension has, unknown included.
    pub fn count(&self, dimension: Dimension) -> usize {
        self.of(dimension).read().unwrap_or_else(PoisonError::into_inner).values.len() + 1
    }

    /// About how many bytes the names take.
    pub fn bytes(&self) -> usize {
        let of = |codes: &RwLock<Codes>| {
            let codes = codes.read().unwrap_or_else(PoisonError::into_inner);
            codes.values.iter().map(|value| value.len() + 64).sum::<usize>()
        };
        self.by_dimension.iter().map(of).sum()
    }

    fn of(&self, dimension: Dimension) -> &RwLock<Codes> {
        &self.by_dimension[dimension as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_unknown_is_none() {
        let names = Names::default();
        let (a, b) = (names.code(Dimension::Country, Some("DE")), names.code(Dimension::Country, Some("")));
        assert_eq!(names.code(Dimension::Country, Some("DE")), a);
        assert_ne!(a, b);
        assert_eq!(names.code(Dimension::Country, None), UNKNOWN);
        assert_eq!(names.value(Dimension::Country, a).as_deref(), Some("DE"));
        assert_eq!(names.value(Dimension::Country, b).as_deref(), Some(""));
        assert_eq!(names.value(Dimension::Country, UNKNOWN), None);
        assert_eq!(names.known(Dimension::Region, "DE"), None);
        assert_eq!(names.count(Dimension::Country), 3);
    }
}
