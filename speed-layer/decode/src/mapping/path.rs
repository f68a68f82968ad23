//! Paths from the value of a record's key to a value inside it: `user.details[0].id`.

use super::Target;

/// The path from a key's value to a field inside it.
#[derive(Debug, Clone)]
pub struct Path {
    pub target: Target,
    pub steps: Vec<Step>,
}

/// One step into a nested value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The member of an object, by its exact name.
    Key(Box<str>),
    /// The element of a list, from 0.
    Index(usize),
}

/// Splits `a.b[0].c` into `a` and the steps to `c`.
pub(super) fn parse_path(text: &str) -> Result<(&str, Vec<Step>), String> {
    let malformed = || format!("{text} is not a path like user.details[0].id");
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (root, mut rest) = text.split_at(end);
    if root.is_empty() {
        return Err(malformed());
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').ok_or_else(malformed)?;
            steps.push(Step::Index(index.parse().map_err(|_| malformed())?));
            rest = after;
        } else {
            let inner = rest.strip_prefix('.').ok_or_else(malformed)?;
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            if end == 0 {
                return Err(malformed());
            }
            steps.push(Step::Key(inner[..end].into()));
            rest = &inner[end..];
        }
    }
    Ok((root, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(parse_path("a").unwrap(), ("a", vec![]));
        assert_eq!(parse_path("a.b[10].c").unwrap().1, [Step::Key("b".into()), Step::Index(10), Step::Key("c".into())]);
        for text in ["", ".a", "[0]", "a.", "a[", "a[x]", "a[0]b", "a[-1]"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }
}
