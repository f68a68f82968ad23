//! Tests that every byte of a file of containers is in a record, in a rejected piece, or in a
//! header, a block's head or a sync marker. And every block that was left alone is delivered,
//! whatever was done to the bytes around it.

use apache_avro::types::{Record, Value};
use apache_avro::{DeflateSettings, Schema, Writer, ZstandardSettings};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::source::files::split::growth::{check_growing, pieces};

/// The schemas of a file's containers. Their fields differ in number, order and type.
const SCHEMAS: [&str; 2] = [
    concat!(
        r#"{"type":"record","name":"A","fields":[{"name":"text","type":"string"},"#,
        r#"{"name":"number","type":["null","long"]}]}"#
    ),
    concat!(
        r#"{"type":"record","name":"B","fields":[{"name":"flag","type":"boolean"},{"name":"number","type":"double"},"#,
        r#"{"name":"list","type":{"type":"array","items":"string"}},{"name":"text","type":"string"}]}"#
    ),
];

/// A container, and where its blocks are.
#[derive(Debug, Clone)]
struct Built {
    schema: &'static str,
    bytes: Vec<u8>,
    header: usize,
    /// Each block's place, and its datums.
    blocks: Vec<(Range<usize>, Vec<Vec<u8>>)>,
}

/// A change to the file, after its first header.
#[derive(Debug, Clone)]
enum Change {
    Cut(Index, usize),
    Doubled(Index, usize),
    Swapped(Index, Index, usize),
    Injected(Index, Vec<u8>),
    Changed(Index, u8),
    /// A copy of one of the sync markers is inserted.
    Marker(Index, Index),
    /// The end is missing.
    Ended(Index),
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(Codec::Null),
        Just(Codec::Null),
        Just(Codec::Snappy),
        Just(Codec::Deflate(DeflateSettings::default())),
        Just(Codec::Zstandard(ZstandardSettings::default())),
    ]
}

/// A marker that does not overlap with itself, even after proptest shrinks it, as is true of the
/// random markers of real files.
fn sync() -> impl Strategy<Value = [u8; SYNC_BYTES]> {
    any::<[u8; SYNC_BYTES]>().prop_map(|mut sync| {
        sync.iter_mut().for_each(|byte| *byte &= 0x7f);
        sync[0] = 0xf5;
        sync
    })
}

fn built() -> impl Strategy<Value = Built> {
    let blocks = proptest::collection::vec(proptest::collection::vec("[a-z]{0,40}", 1..6), 0..6);
    let built = (0..SCHEMAS.len(), codec(), sync(), blocks);
    built.prop_map(|(schema, codec, sync, texts)| build(SCHEMAS[schema], codec, sync, &texts))
}

fn build(schema: &'static str, codec: Codec, sync: [u8; SYNC_BYTES], blocks: &[Vec<String>]) -> Built {
    let parsed = Schema::parse_str(schema).unwrap();
    let skipper = skipper::Skipper::new(schema).unwrap();
    let mut writer = Writer::with_codec(&parsed, Vec::new(), codec).unwrap();
    let mut built = Built { schema, bytes: Vec::new(), header: 0, blocks: Vec::new() };
    writer.flush().unwrap();
    built.header = writer.get_ref().len();
    for (number, texts) in blocks.iter().enumerate() {
        let start = writer.get_ref().len();
        let mut datums = Vec::new();
        for text in texts {
            let mut record = Record::new(&parsed).unwrap();
            record.put("text", text.as_str());
            if schema == SCHEMAS[0] {
                record.put("number", Value::Union(1, Box::new(Value::Long(number as i64))));
            } else {
                record.put("flag", number % 2 == 0);
                record.put("number", number as f64);
                record.put("list", Value::Array(vec![Value::String(text.clone()); number % 3]));
            }
            let datum = apache_avro::writer::datum::GenericDatumWriter::builder(&parsed).build().unwrap();
            let datum = datum.write_value_to_vec(Value::from(record.clone())).unwrap();
            assert_eq!(skipper.skip(&datum, 0), Ok(datum.len()));
            datums.push(datum);
            writer.append_value(record).unwrap();
        }
        writer.flush().unwrap();
        built.blocks.push((start..writer.get_ref().len(), datums));
    }
    built.bytes = writer.into_inner().unwrap();
    if built.header == 0 {
        // The writer writes nothing before the first block, and nothing at the end.
        let Parsed::Header(_, length) = header::parse(&built.bytes) else { panic!("it has no header") };
        built.header = length;
        if let Some((place, _)) = built.blocks.first_mut() {
            place.start = length;
        }
    }
    // The writer draws its markers at random. They are replaced, so that a failure can be
    // reproduced.
    for end in std::iter::once(built.header).chain(built.blocks.iter().map(|(place, _)| place.end)) {
        built.bytes[end - SYNC_BYTES..end].copy_from_slice(&sync);
    }
    built
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1..200usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<Index>(), 1..200usize).prop_map(|(at, length)| Change::Doubled(at, length)),
        (any::<Index>(), any::<Index>(), 1..100usize).prop_map(|(a, b, length)| Change::Swapped(a, b, length)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, marker)| Change::Marker(at, marker)),
        small_change(),
        small_change(),
        small_change(),
    ]
}

/// A change that moves no part of the file to another place.
fn small_change() -> impl Strategy<Value = Change> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..30);
    prop_oneof![
        (any::<Index>(), bytes).prop_map(|(at, bytes)| Change::Injected(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Changed(at, byte)),
        any::<Index>().prop_map(Change::Ended),
    ]
}

/// The bytes, each with its place in the original file. New bytes have no place.
type Traced = Vec<(u8, Option<usize>)>;

fn apply(change: &Change, file: &mut Traced, from: usize, markers: &[Vec<u8>]) {
    let room = file.len() - from;
    if room == 0 {
        return;
    }
    let place = |index: &Index| from + index.index(room);
    let insert = |file: &mut Traced, at: usize, bytes: Traced| _ = file.splice(at..at, bytes);
    match change {
        Change::Cut(at, length) => {
            let at = place(at);
            file.drain(at..file.len().min(at + length));
        }
        Change::Doubled(at, length) => {
            let at = place(at);
            let again = file[at..file.len().min(at + length)].to_vec();
            insert(file, at, again);
        }
        Change::Swapped(a, b, length) => {
            let (a, b) = (place(a), place(b));
            for offset in 0..*length {
                if a + offset < file.len() && b + offset < file.len() {
                    file.swap(a + offset, b + offset);
                }
            }
        }
        Change::Injected(at, bytes) => {
            insert(file, place(at), bytes.iter().map(|byte| (*byte, None)).collect());
        }
        Change::Changed(at, byte) => file[place(at)] = (*byte, None),
        Change::Marker(at, marker) => {
            let marker = &markers[marker.index(markers.len())];
            insert(file, place(at), marker.iter().map(|byte| (*byte, None)).collect());
        }
        Change::Ended(at) => file.truncate(place(at)),
    }
}

/// The places at which a stretch of the original file stands unchanged.
fn places(file: &Traced, stretch: Range<usize>) -> Vec<usize> {
    let stands = |at: &usize| {
        let here = file[*at..].iter().take(stretch.len()).map(|(_, from)| *from);
        here.eq(stretch.clone().map(Some))
    };
    (0..file.len()).filter(stands).collect()
}

#[derive(Debug)]
struct Cut {
    bytes: Vec<u8>,
    piece: Piece,
    span: Range<usize>,
    schema: Option<String>,
}

fn cut(mut container: Container) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let piece = container.next(&mut bytes).unwrap();
        if piece == Piece::End {
            return cuts;
        }
        let schema = match container.format().map(|format| &**format) {
            None => container.schema().to_owned(),
            Some(StreamFormat::AvroDatum { schema }) => schema.clone(),
            Some(other) => panic!("{other:?}"),
        };
        let span = container.span().start as usize..container.span().end as usize;
        let is_record = piece == Piece::Record;
        cuts.push(Cut { bytes: bytes.clone(), piece, span, schema: is_record.then_some(schema) });
    }
}

/// Whether the bytes between two spans are headers, heads of blocks and sync markers.
fn is_between(mut gap: &[u8], markers: &[Vec<u8>], is_last: bool) -> bool {
    while !gap.is_empty() {
        if let Some(marker) = markers.iter().find(|marker| gap.starts_with(marker)) {
            gap = &gap[marker.len()..];
        } else if let Parsed::Header(_, length) = header::parse(gap) {
            gap = &gap[length..];
        } else if is_last && markers.iter().any(|marker| marker.starts_with(gap)) {
            return true;
        } else if let Some((_, _, length)) = head_of(gap) {
            gap = &gap[length..];
        } else {
            return false;
        }
    }
    true
}

fn markers(containers: &[Built]) -> Vec<Vec<u8>> {
    containers.iter().map(|built| built.bytes[built.header - SYNC_BYTES..built.header].to_vec()).collect()
}

/// The containers, one after another, with the changes applied.
fn traced(containers: &[Built], changes: &[Change], markers: &[Vec<u8>]) -> Traced {
    let whole: Vec<u8> = containers.iter().flat_map(|built| built.bytes.clone()).collect();
    let mut file: Traced = whole.iter().enumerate().map(|(at, byte)| (*byte, Some(at))).collect();
    for change in changes {
        apply(change, &mut file, containers[0].header, markers);
    }
    file
}

fn changed(containers: &[Built], changes: &[Change]) -> Vec<u8> {
    traced(containers, changes, &markers(containers)).iter().map(|(byte, _)| *byte).collect()
}

/// The number of datums in the blocks that are complete within so many bytes.
fn datums_within(containers: &[Built], length: usize) -> usize {
    let mut start = 0;
    let mut count = 0;
    for built in containers {
        let complete = built.blocks.iter().filter(|(place, _)| start + place.end <= length);
        count += complete.map(|(_, datums)| datums.len()).sum::<usize>();
        start += built.bytes.len();
    }
    count
}

fn check(containers: &[Built], changes: &[Change]) -> Result<(), TestCaseError> {
    let markers = markers(containers);
    let file = traced(containers, changes, &markers);
    let bytes: Vec<u8> = file.iter().map(|(byte, _)| *byte).collect();
    // A header whose marker was changed is still a header.
    let found = memmem::find_iter(&bytes, MAGIC).filter_map(|at| match header::parse(&bytes[at..]) {
        Parsed::Header(header, length) => Some((at..at + length, header.sync.to_vec())),
        _ => None,
    });
    let (headers, found): (Vec<Range<usize>>, Vec<Vec<u8>>) = found.unzip();
    let markers: Vec<Vec<u8>> = markers.into_iter().chain(found).collect();
    let cuts = cut(Container::open(Content::from_bytes(bytes.clone()), 1000).unwrap());
    let slowly = cut(Container::open(Content::of(&bytes), 1000).unwrap());
    prop_assert_eq!(format!("{cuts:?}"), format!("{slowly:?}"), "the same bytes are cut the same way");

    let mut end = 0;
    let mut before = 0..0;
    for cut in &cuts {
        if cut.span != before || cut.span.is_empty() {
            prop_assert!(cut.span.start >= end, "{:?} overlaps what ends at {end}", cut.span);
            let gap = &bytes[end..cut.span.start];
            prop_assert!(is_between(gap, &markers, false), "{gap:?} at {end} is in no piece");
            end = cut.span.end;
        }
        before = cut.span.clone();
        let is_packed = containers.iter().any(|built| {
            let Parsed::Header(header, _) = header::parse(&built.bytes) else { return false };
            header.codec != Codec::Null
        });
        prop_assert!(is_packed || bytes[cut.span.clone()] == cut.bytes, "{cut:?} is not what stands there");
    }
    let gap = &bytes[end..];
    prop_assert!(is_between(gap, &markers, true), "{gap:?} at the end is in no piece");

    // Each good block is delivered whole, where it stands.
    let mut start = 0;
    for built in containers {
        let mut header = places(&file, start..start + built.header);
        // A header that begins within another one (for example in the bytes taken for its marker)
        // cannot be recognized either.
        header.retain(|at| !headers.iter().any(|span| span.start < *at && *at < span.end));
        for (place, datums) in &built.blocks {
            for at in places(&file, start + place.start..start + place.end) {
                // The block may stand where nothing can recognize it: within a header whose marker
                // was changed, or within a string of a record.
                let records = cuts.iter().filter(|cut| cut.piece == Piece::Record);
                let records = records.map(|cut| &cut.span);
                let is_hidden = records.chain(&headers).any(|span| span.start < at && at < span.end);
                if is_hidden || !header.iter().any(|header| *header < at) {
                    continue;
                }
                let inside = at..at + place.len();
                let records = cuts.iter().filter(|cut| inside.contains(&cut.span.start) && cut.piece == Piece::Record);
                let records: Vec<_> = records.map(|cut| (cut.bytes.clone(), cut.schema.clone().unwrap())).collect();
                let sent: Vec<_> = datums.iter().map(|datum| (datum.clone(), built.schema.to_owned())).collect();
                prop_assert_eq!(&records, &sent, "the block at {}", at);
            }
        }
        start += built.bytes.len();
    }
    Ok(())
}

proptest! {
    /// See [`growth`](crate::source::files::split::growth). Only small changes are made. If a part
    /// of the file stood twice or were missing, a block with a wrong size could end with another
    /// block's marker by chance, and such a file counts as changed when it grows.
    #[test]
    fn a_file_that_grows_is_cut_as_the_whole_one(
        containers in proptest::collection::vec(built(), 1..4),
        changes in proptest::collection::vec(small_change(), 0..3),
        ends in any::<[Index; 8]>(),
    ) {
        let bytes = changed(&containers, &changes);
        let header = containers[0].header;
        for end in ends {
            let length = header + end.index(bytes.len() + 1 - header);
            check_growing(&bytes, length, |content| Box::new(Container::open(content, 1000).unwrap()))?;
            let content = Content::from_bytes(bytes[..length].to_vec()).growing(true);
            let (_, certain) = pieces(&mut Container::open(content, 1000).unwrap());
            prop_assert!(!changes.is_empty() || certain == datums_within(&containers, length), "{length} bytes");
        }
    }

    #[test]
    fn every_byte_is_accounted_for_and_every_good_block_comes_out(
        containers in proptest::collection::vec(built(), 1..4),
        changes in proptest::collection::vec(change(), 0..4),
    ) {
        check(&containers, &changes)?;
    }
}
