//! Tests with files that grow. A piece taken from the beginning of a file must stay the same when
//! the file is whole. Positions are given to pieces in order, so a piece that more content changes
//! would shift all later ones.
//!
//! So for every beginning of a file this holds: its pieces, without the last ones that the end cuts
//! off, are the first pieces of the whole file.

use proptest::prelude::*;
use proptest::sample::Index;

use super::accounting::{
    CSV_TOKENS, Cut, Item, JSON_SEPARATORS, JSON_TOKENS, LIMIT, LINE_ENDS, csv_record, file, gzip, items, json_record,
};
use super::*;

/// The pieces, and how many of them come before those that the end cuts off.
pub fn pieces(splitter: &mut dyn Splitter) -> (Vec<Cut>, usize) {
    let (mut cuts, mut certain) = (Vec::new(), 0);
    let mut piece = Vec::new();
    loop {
        let found = splitter.next(&mut piece).unwrap();
        let is_truncated = matches!(&found, Piece::Rejected(rejection) if rejection.reason == "truncated");
        let is_cut = splitter.is_cut() || (is_truncated && splitter.content().broken().is_some());
        let is_record = match found {
            Piece::End => return (cuts, certain),
            Piece::Record => true,
            Piece::Rejected(_) => false,
        };
        cuts.push(Cut { piece: piece.clone(), span: splitter.span(), is_record });
        if !is_cut {
            certain = cuts.len();
        }
    }
}

/// Checks a beginning of a file that may still grow.
pub fn check_growing(
    bytes: &[u8],
    length: usize,
    split: impl Fn(Content) -> Box<dyn Splitter>,
) -> Result<(), TestCaseError> {
    let growing = |bytes: &[u8]| Content::from_bytes(bytes.to_vec()).growing(true);
    let (whole, _) = pieces(&mut *split(growing(bytes)));
    let (begun, certain) = pieces(&mut *split(growing(&bytes[..length])));
    prop_assert!(certain <= whole.len(), "{certain} of {begun:?}, whole {whole:?}");
    prop_assert_eq!(&begun[..certain], &whole[..certain], "the first {} bytes", length);
    // When the file becomes final as it is, the pieces that were taken stay what they are.
    let (last, _) = pieces(&mut *split(Content::from_bytes(bytes[..length].to_vec())));
    prop_assert!(certain <= last.len(), "{certain} of {begun:?}, final {last:?}");
    prop_assert_eq!(&begun[..certain], &last[..certain], "the first {} bytes are final", length);
    Ok(())
}

/// Checks that a file of good records that may still grow gives each record that is complete. Else
/// a splitter that takes nothing would pass all the other checks.
fn check_taken(
    items: &[(Item, &'static str)],
    needs_line_end: bool,
    split: impl Fn(Content) -> Box<dyn Splitter>,
) -> Result<(), TestCaseError> {
    let (bytes, goods) = file(items);
    for length in 0..=bytes.len() {
        let (begun, certain) = pieces(&mut *split(Content::from_bytes(bytes[..length].to_vec()).growing(true)));
        let complete = goods.iter().filter(|(at, good)| at + good.len() + usize::from(needs_line_end) <= length);
        let complete: Vec<&Vec<u8>> = complete.map(|(_, good)| good).collect();
        let taken: Vec<&Vec<u8>> = begun[..certain].iter().map(|cut| &cut.piece).collect();
        prop_assert_eq!(taken, complete, "the first {} bytes", length);
    }
    Ok(())
}

fn good(items: Vec<(Item, &'static str)>) -> Vec<(Item, &'static str)> {
    items.into_iter().map(|((record, _), separator)| ((record, Vec::new()), separator)).collect()
}

/// Checks a file whose compressed data breaks off at first and is complete later.
fn check_broken(
    bytes: &[u8],
    length: usize,
    split: impl Fn(Content) -> Box<dyn Splitter>,
) -> Result<(), TestCaseError> {
    let stored = gzip(bytes);
    let content = |bytes: &[u8]| Content::over(io::Cursor::new(bytes.to_vec())).unwrap();
    let (whole, _) = pieces(&mut *split(content(&stored)));
    let (begun, certain) = pieces(&mut *split(content(&stored[..length.min(stored.len())])));
    prop_assert!(certain <= whole.len(), "{begun:?}, whole {whole:?}");
    prop_assert_eq!(&begun[..certain], &whole[..certain], "the first {} bytes", length);
    Ok(())
}

fn json(limit: usize) -> impl Fn(Content) -> Box<dyn Splitter> {
    move |content| Box::new(json::JsonValues::new(content, limit))
}

fn csv(limit: usize, columns: Option<usize>) -> impl Fn(Content) -> Box<dyn Splitter> {
    move |content| Box::new(csv::Rows::new(content, b',', limit, columns))
}

fn check_items(
    items: &[(Item, &'static str)],
    ends: &[Index],
    split: impl Fn(Content) -> Box<dyn Splitter>,
) -> Result<(), TestCaseError> {
    let (bytes, _) = file(items);
    for end in ends {
        check_growing(&bytes, end.index(bytes.len() + 1), &split)?;
        check_broken(&bytes, 12 + end.index(bytes.len()), &split)?;
    }
    Ok(())
}

/// Text in which brackets, quotes and line ends stand anywhere.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[{}\\[\\]\",:0-9a-z.+\\\\ \n-]{0,120}",
        "(\\{\"a\":|\\}|\\[|\\]|1|x|\"|,|\n|\n  |\\{\\}){0,40}",
        "(\"[a-z,\n]{0,20}\"?|[0-9]{0,3}|,|\n|\r|\"\"){0,40}",
    ]
}

proptest! {
    /// A line taken by the shortcut is the same piece that parsing finds.
    #[test]
    fn a_flat_line_is_what_parsing_finds(
        lines in proptest::collection::vec("(\\{\"[a-z]{0,3}\":(1|\"x?\"?|\"\r|\"\u{1e}|x|\t|\"\\\\|\\[\\])\
            (,\"b\":2)?\\}[\r ]?|\\}|x|\"\\{)", 0..8),
        limit in prop_oneof![Just(LIMIT), 5..30usize],
        is_growing: bool,
    ) {
        let text = lines.join("\n");
        for text in [text.clone(), format!("[{text}"), format!("{text}\n")] {
            let content = || Content::of(text.as_bytes()).growing(is_growing);
            let found = pieces(&mut json::JsonValues::new(content(), limit));
            let parsed = pieces(&mut json::JsonValues::without_shortcut(content(), limit));
            prop_assert_eq!(found, parsed, "{:?}", text);
        }
    }

    #[test]
    fn a_complete_value_is_taken(items in items(json_record(), JSON_TOKENS, JSON_SEPARATORS)) {
        check_taken(&good(items), false, json(LIMIT))?;
    }

    #[test]
    fn a_complete_row_is_taken(items in items(csv_record(), CSV_TOKENS, LINE_ENDS)) {
        check_taken(&good(items), true, csv(LIMIT, Some(3)))?;
    }

    #[test]
    fn of_json(items in items(json_record(), JSON_TOKENS, JSON_SEPARATORS), ends in any::<[Index; 8]>()) {
        check_items(&items, &ends, json(LIMIT))?;
    }

    #[test]
    fn of_csv(
        items in items(csv_record(), CSV_TOKENS, LINE_ENDS),
        ends in any::<[Index; 8]>(),
        columns in proptest::option::of(2..5usize),
    ) {
        check_items(&items, &ends, csv(LIMIT, columns))?;
    }

    #[test]
    fn of_any_text(text in text(), limit in prop_oneof![Just(LIMIT), 10..60usize]) {
        for end in 0..=text.len() {
            check_growing(text.as_bytes(), end, json(limit))?;
            check_growing(text.as_bytes(), end, csv(limit, None))?;
        }
    }
}
