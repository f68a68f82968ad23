//! Finds the known name that a mistyped name probably means.

/// The known name nearest to `name`, unless all of them differ too much.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, found) = known.into_iter().map(|other| (distance(name, other), other)).min()?;
    (distance <= (name.len().max(found.len()) / 2).max(2)).then_some(found)
}

/// The number of edits from one to the other: insertions, deletions, replacements (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (place, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = place + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["uri", "options", "flush_rows", "flush_interval"];
        for (name, expected) in
            [("url", Some("uri")), ("flush_row", Some("flush_rows")), ("optoins", Some("options")), ("brokers", None)]
        {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
