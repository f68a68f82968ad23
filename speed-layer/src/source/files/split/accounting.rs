//! Tests that every byte of a file is accounted for. A byte is in a record, in a rejected piece
//! that holds it whole, or in a separator, header or marker that the format names. And good records
//! are ingested, whatever stands beside them.
//!
//! The files are made of good records and of bad ones (good ones that were cut, doubled, swapped or
//! injected into). They are stored plain, compressed, and with the compressed data cut off.

use std::io::Write;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

pub const LIMIT: usize = 1 << 20;

/// What a splitter made of a content.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    pub piece: Vec<u8>,
    pub span: Range<u64>,
    pub is_record: bool,
}

fn cut_all(splitter: &mut dyn Splitter) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut piece = Vec::new();
    loop {
        let is_record = match splitter.next(&mut piece).unwrap() {
            Piece::End => return cuts,
            Piece::Record => true,
            Piece::Rejected(_) => false,
        };
        cuts.push(Cut { piece: piece.clone(), span: splitter.span(), is_record });
    }
}

/// Spans come in order, each holds exactly its bytes, and between them stands only what `may_part`
/// allows.
fn check_spans(bytes: &[u8], cuts: &[Cut], may_part: impl Fn(&[u8]) -> bool) -> Result<(), TestCaseError> {
    let mut end = 0;
    for cut in cuts {
        let (from, to) = (cut.span.start as usize, cut.span.end as usize);
        prop_assert!(end <= from && from <= to && to <= bytes.len(), "{:?} after {end}", cut.span);
        prop_assert_eq!(&bytes[from..to], &cut.piece[..], "a piece is its bytes");
        prop_assert!(may_part(&bytes[end..from]), "lost: {:?}", String::from_utf8_lossy(&bytes[end..from]));
        end = to;
    }
    prop_assert!(may_part(&bytes[end..]), "lost at the end: {:?}", String::from_utf8_lossy(&bytes[end..]));
    Ok(())
}

/// Every good record is a piece of its own, or part of a piece that is sound as a whole.
fn check_good(goods: &[(usize, Vec<u8>)], cuts: &[Cut], is_sound: impl Fn(&[u8]) -> bool) -> Result<(), TestCaseError> {
    for (at, good) in goods {
        let (from, to) = (*at as u64, (*at + good.len()) as u64);
        let holder = cuts.iter().find(|cut| cut.span.start <= from && to <= cut.span.end);
        let holder = holder.ok_or_else(|| TestCaseError::fail(format!("in no piece: {}", text(good))))?;
        let lands = holder.is_record && (holder.piece == *good || is_sound(&holder.piece));
        prop_assert!(lands, "{} is lost in {}", text(good), text(&holder.piece));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a good record is spoilt.
#[derive(Debug, Clone)]
pub enum Spoil {
    Cut(Index, usize),
    Truncate(Index),
    Double(Index, usize),
    Swap(Index, Index),
    Inject(Index, &'static str),
}

fn spoil(tokens: &'static [&'static str]) -> impl Strategy<Value = Spoil> {
    let index = any::<Index>;
    prop_oneof![
        (index(), 1..9usize).prop_map(|(at, length)| Spoil::Cut(at, length)),
        index().prop_map(Spoil::Truncate),
        (index(), 1..9usize).prop_map(|(at, length)| Spoil::Double(at, length)),
        (index(), index()).prop_map(|(a, b)| Spoil::Swap(a, b)),
        (index(), select(tokens)).prop_map(|(at, token)| Spoil::Inject(at, token)),
    ]
}

impl Spoil {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Spoil::Cut(at, count) => drop(bytes.drain(at.index(length)..(at.index(length) + count).min(length))),
            Spoil::Truncate(at) => bytes.truncate(at.index(length)),
            Spoil::Double(at, count) => {
                let at = at.index(length);
                let copy = bytes[at..(at + count).min(length)].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            Spoil::Swap(a, b) => bytes.swap(a.index(length), b.index(length)),
            Spoil::Inject(at, token) => {
                let at = at.index(length);
                drop(bytes.splice(at..at, token.bytes()));
            }
        }
    }
}

/// A record, and the ways in which it is spoilt: none if it is good.
pub type Item = (String, Vec<Spoil>);

/// Builds a file of items, and tells where its good records are. Bad records stand on lines of
/// their own; any separator may follow a good one.
pub fn file(items: &[(Item, &'static str)]) -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
    let (mut bytes, mut goods) = (Vec::new(), Vec::new());
    let mut was_good = true;
    for ((record, spoils), separator) in items {
        let mut record = record.clone().into_bytes();
        let is_good = spoils.is_empty();
        if !bytes.is_empty() {
            bytes.extend_from_slice(if was_good && is_good { separator.as_bytes() } else { b"\n" });
        }
        if is_good {
            goods.push((bytes.len(), record.clone()));
        }
        spoils.iter().for_each(|spoil| spoil.apply(&mut record));
        bytes.extend_from_slice(&record);
        was_good = is_good;
    }
    // A line end, so that the last record is known to be whole.
    bytes.push(b'\n');
    (bytes, goods)
}

pub fn items(
    record: impl Strategy<Value = String>,
    tokens: &'static [&'static str],
    separators: &'static [&'static str],
) -> impl Strategy<Value = Vec<(Item, &'static str)>> {
    let spoils = prop_oneof![3 => Just(Vec::new()), 2 => proptest::collection::vec(spoil(tokens), 1..4)];
    proptest::collection::vec(((record, spoils), select(separators)), 1..12)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The ways in which a file is stored.
fn stored(bytes: &[u8]) -> Vec<Vec<u8>> {
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    vec![gzip(bytes), [gzip(first), gzip(second)].concat(), zstd(bytes), [zstd(first), zstd(second)].concat()]
}

fn check_file(
    bytes: &[u8],
    goods: &[(usize, Vec<u8>)],
    may_part: fn(&[u8]) -> bool,
    is_sound: fn(&[u8]) -> bool,
    split: impl Fn(Content) -> Box<dyn Splitter>,
) -> Result<(), TestCaseError> {
    let cuts = cut_all(&mut *split(Content::from_bytes(bytes.to_vec())));
    check_spans(bytes, &cuts, may_part)?;
    check_good(goods, &cuts, is_sound)?;
    let slowly = cut_all(&mut *split(Content::of(bytes)));
    prop_assert_eq!(&slowly, &cuts, "read in sevens");
    for stored in stored(bytes) {
        let content = |bytes: &[u8]| Content::over(io::Cursor::new(bytes.to_vec())).unwrap();
        prop_assert_eq!(&cut_all(&mut *split(content(&stored))), &cuts, "compressed");
        // If the data is cut off, what could be read is accounted for, and a piece says that
        // something is missing.
        let cut_off = &stored[..stored.len() - 5];
        let mut splitter = split(content(cut_off));
        let cuts = cut_all(&mut *splitter);
        let end = splitter.content().position() as usize;
        check_spans(&bytes[..end], &cuts, may_part)?;
        prop_assert!(cuts.iter().any(|cut| !cut.is_record), "nobody was told");
        let whole: Vec<_> = goods.iter().filter(|(at, good)| at + good.len() < end).cloned().collect();
        let cuts: Vec<Cut> = cuts.into_iter().filter(|cut| cut.is_record || cut.span.end < end as u64).collect();
        for (at, good) in whole {
            let is_there =
                cuts.iter().any(|cut| cut.span.start as usize <= at && at + good.len() <= cut.span.end as usize);
            let is_in_last = cuts.last().is_none_or(|cut| (cut.span.end as usize) < at);
            prop_assert!(is_there || is_in_last, "{} is lost", text(&good));
        }
    }
    Ok(())
}

pub const JSON_TOKENS: &[&str] = &[
    "{", "}", "[", "]", "\"", ",", ":", "\\", "\n", "\r\n", "\u{1e}", "\0", "x", "null", "{}", "[{}", "\u{feff}", "  ",
];
pub const JSON_SEPARATORS: &[&str] = &["\n", "", ",", ",\n", "\r\n", "\u{1e}", " "];

pub fn json_record() -> impl Strategy<Value = String> {
    let text = "[a-z{}\\[\\],: ]{0,6}";
    prop_oneof![
        (text, 0..100u32).prop_map(|(text, number)| format!(r#"{{"a":"{text}","b":{number},"c":[{{"d":null}}]}}"#)),
        text.prop_map(|text| format!(r#"{{"t":"{text}\"","n":{{"m":[1,2]}}}}"#)),
        (0..100u32).prop_map(|number| format!("{{\n  \"a\": {number},\n  \"b\": [\n    {{}}\n  ]\n}}")),
    ]
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

pub const CSV_TOKENS: &[&str] = &["\"", "\"\"", ",", "\n", "\r", "\r\n", "x", "\"x", "\",", "\u{feff}"];
pub const LINE_ENDS: &[&str] = &["\n", "\r\n", "\r", "\n\n"];

pub fn csv_record() -> impl Strategy<Value = String> {
    let cell = || prop_oneof![4 => "[a-z0-9]{0,5}", 1 => "\"([a-z,]|\"\"){0,5}\"", 1 => "[a-z]\"[a-z]"];
    (cell(), cell(), cell()).prop_map(|(a, b, c)| format!("{a},{b},{c}"))
}

/// Whether the bytes are one row whose quotes are all where quotes may be.
fn is_row(bytes: &[u8]) -> bool {
    use adlake_decode::csv::row_scan::{RowScan, Stop};

    let mut scan = RowScan::new(b',');
    scan.scan(bytes) == Stop::Nowhere && !scan.is_quoted()
}

proptest! {
    #[test]
    fn of_json(items in items(json_record(), JSON_TOKENS, JSON_SEPARATORS)) {
        let (bytes, goods) = file(&items);
        check_file(&bytes, &goods, json::may_part, is_json, |content| Box::new(json::JsonValues::new(content, LIMIT)))?;
    }

    #[test]
    fn of_csv(items in items(csv_record(), CSV_TOKENS, LINE_ENDS)) {
        let (bytes, goods) = file(&items);
        check_file(&bytes, &goods, csv::may_part, is_row,
            |content| Box::new(csv::Rows::new(content, b',', LIMIT, None)))?;
    }

    #[test]
    fn of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let cuts = cut_all(&mut json::JsonValues::new(Content::from_bytes(bytes.clone()), LIMIT));
        check_spans(&bytes, &cuts, json::may_part)?;
        let cuts = cut_all(&mut csv::Rows::new(Content::from_bytes(bytes.clone()), b',', LIMIT, None));
        check_spans(&bytes, &cuts, csv::may_part)?;
    }
}
