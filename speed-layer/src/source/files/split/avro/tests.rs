use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{DeflateSettings, Schema, Writer};

use super::super::testing::split;
use super::skipper::Skipper;
use super::*;

const SCHEMA: &str = r#"{"type": "record", "name": "a.b.Node", "fields": [
    {"name": "text", "type": "string"},
    {"name": "number", "type": ["null", "long", "double"]},
    {"name": "list", "type": {"type": "array", "items": {"type": "map", "values": "int"}}},
    {"name": "fixed", "type": {"type": "fixed", "name": "Four", "size": 4}},
    {"name": "other", "type": ["null", "Four"]},
    {"name": "next", "type": ["null", "Node"]}
]}"#;

fn node(index: i64, next: Option<Value>) -> Value {
    let map = Value::Map([("k".to_owned(), Value::Int(index as i32))].into());
    let fixed = Value::Fixed(4, vec![1, 2, 3, 4]);
    Value::Record(vec![
        ("text".to_owned(), Value::String(format!("text {index}"))),
        ("number".to_owned(), Value::Union(1, Box::new(Value::Long(index)))),
        ("list".to_owned(), Value::Array(vec![map; (index % 3) as usize])),
        ("fixed".to_owned(), fixed.clone()),
        ("other".to_owned(), Value::Union(1, Box::new(fixed))),
        (
            "next".to_owned(),
            match next {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(next) => Value::Union(1, Box::new(next)),
            },
        ),
    ])
}

/// Twenty records, five to a block, and the datums as `apache_avro` writes them.
fn container(codec: Codec) -> (Vec<u8>, Vec<Vec<u8>>) {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    let mut datums = Vec::new();
    for index in 0..20 {
        let value = node(index, (index % 2 == 0).then(|| node(index + 100, None)));
        let datum = GenericDatumWriter::builder(&schema).build().unwrap();
        datums.push(datum.write_value_to_vec(value.clone()).unwrap());
        writer.append_value(value).unwrap();
        if index % 5 == 4 {
            writer.flush().unwrap();
        }
    }
    (writer.into_inner().unwrap(), datums)
}

fn cut(bytes: &[u8]) -> Vec<(String, Option<&'static str>)> {
    split(Container::open(Content::of(bytes), 1000).unwrap())
}

fn expected(datums: &[Vec<u8>]) -> Vec<(String, Option<&'static str>)> {
    datums.iter().map(|datum| (String::from_utf8_lossy(datum).into_owned(), None)).collect()
}

#[test]
fn cuts_containers_of_every_codec_into_datums() {
    let codecs = [
        Codec::Null,
        Codec::Deflate(DeflateSettings::default()),
        Codec::Snappy,
        Codec::Zstandard(apache_avro::ZstandardSettings::default()),
        Codec::Bzip2(apache_avro::Bzip2Settings::default()),
        Codec::Xz(apache_avro::XzSettings::default()),
    ];
    for codec in codecs {
        let (bytes, datums) = container(codec);
        assert_eq!(cut(&bytes), expected(&datums), "{codec:?}");
    }
}

#[test]
fn a_damaged_block_costs_no_other_block() {
    let (bytes, datums) = container(Codec::Snappy);
    let sync = bytes[bytes.len() - SYNC_BYTES..].to_vec();
    // The second block follows the second marker (the first marker ends the header).
    let second = memmem::find_iter(&bytes, &sync).nth(1).unwrap() + SYNC_BYTES;
    for offset in [0, 1, 2, 20] {
        let mut damaged = bytes.clone();
        damaged[second + offset] ^= 0xff;
        let pieces = cut(&damaged);
        let good: Vec<_> = pieces.iter().filter(|(_, reason)| reason.is_none()).cloned().collect();
        assert_eq!(good, expected(&[&datums[..5], &datums[10..]].concat()), "byte {offset}");
        assert_eq!(pieces.len(), 16, "byte {offset}");
        let third = memmem::find_iter(&bytes, &sync).nth(2).unwrap();
        let whole = String::from_utf8_lossy(&damaged[second..third]).into_owned();
        assert_eq!(pieces[5], (whole, Some("invalid_avro")), "byte {offset}");
    }
}

#[test]
fn a_file_that_breaks_off_keeps_what_came_before() {
    for (codec, kept) in [(Codec::Null, 17..=19), (Codec::Snappy, 15..=15)] {
        let (bytes, datums) = container(codec);
        let last_datum = datums[19].len();
        let end = bytes.len() - SYNC_BYTES - last_datum / 2;
        let pieces = cut(&bytes[..end]);
        let good = pieces.len() - 1;
        assert!(kept.contains(&good), "{codec:?}: {good}");
        assert_eq!(pieces[..good], expected(&datums[..good]));
        assert_eq!(pieces[good].1, Some("truncated"));
    }
    let (bytes, datums) = container(Codec::Null);
    assert_eq!(cut(&bytes[..bytes.len() - 3]), expected(&datums), "only the last marker is cut");
}

/// The places of the sync markers, including that of the header.
fn markers(bytes: &[u8]) -> Vec<usize> {
    let sync = &bytes[bytes.len() - SYNC_BYTES..];
    memmem::find_iter(bytes, sync).collect()
}

/// A number as Avro writes it.
fn number(value: i64) -> Vec<u8> {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

#[test]
fn what_is_passed_over_after_a_damaged_block_is_kept_whole_and_the_next_block_is_read() {
    for codec in [Codec::Null, Codec::Snappy, Codec::Deflate(DeflateSettings::default())] {
        let (bytes, datums) = container(codec);
        let markers = markers(&bytes);
        let second = markers[1] + SYNC_BYTES;
        let (count, size, length) = head_of(&bytes[second..]).unwrap();
        let data = &bytes[second + length..markers[2]];
        assert_eq!((count, size), (5, data.len()));
        let heads = [
            ("a negative count", [number(-5), number(size as i64)].concat()),
            ("a negative size", [number(5), number(-1)].concat()),
            ("a size that is too small", [number(5), number(size as i64 - 3)].concat()),
            ("a size that reaches into the next block", [number(5), number(size as i64 + 40)].concat()),
            ("a size beyond the end of the file", [number(5), number(1 << 20)].concat()),
            ("a size that is never believed", [number(5), number(1 << 40)].concat()),
            ("a count that no block has", [number(1 << 50), number(size as i64)].concat()),
        ];
        for (what, head) in heads {
            let damaged = [&bytes[..second], &head, data, &bytes[markers[2]..]].concat();
            let lost = [&head[..], data].concat();
            let mut pieces = expected(&datums[..5]);
            pieces.push((String::from_utf8_lossy(&lost).into_owned(), Some("invalid_avro")));
            pieces.extend(expected(&datums[10..]));
            assert_eq!(cut(&damaged), pieces, "{what}");
        }
    }
}

#[test]
fn a_damaged_sync_marker_costs_no_block_but_its_own() {
    for codec in [Codec::Null, Codec::Snappy] {
        let (bytes, datums) = container(codec);
        let markers = markers(&bytes);
        let second = markers[1] + SYNC_BYTES;
        // The marker is changed, missing, or has more bytes in it.
        for marker in [&[7; SYNC_BYTES][..], b"", b"0123456789abcdefghij"] {
            let damaged = [&bytes[..markers[2]], marker, &bytes[markers[2] + SYNC_BYTES..]].concat();
            let lost = [&bytes[second..markers[2]], marker].concat();
            let mut pieces = expected(&datums[..5]);
            pieces.push((String::from_utf8_lossy(&lost).into_owned(), Some("invalid_avro")));
            pieces.extend(expected(&datums[10..]));
            assert_eq!(cut(&damaged), pieces, "{marker:?}");
        }
    }
}

#[test]
fn bytes_before_a_whole_block_do_not_hide_it() {
    for codec in [Codec::Null, Codec::Snappy] {
        let (bytes, datums) = container(codec);
        let second = markers(&bytes)[1] + SYNC_BYTES;
        // With each of the first ones, the count that follows becomes another number.
        for junk in [&[0x80; 9][..], &[0xfe; 5], b"\x02\x02", b"\n", b"Obj\x01"] {
            let damaged = [&bytes[..second], junk, &bytes[second..]].concat();
            let mut pieces = expected(&datums[..5]);
            pieces.push((String::from_utf8_lossy(junk).into_owned(), Some("invalid_avro")));
            pieces.extend(expected(&datums[5..]));
            assert_eq!(cut(&damaged), pieces, "{junk:?}");
        }
    }
}

#[test]
fn a_whole_block_in_the_place_of_datums_comes_out() {
    let (bytes, datums) = container(Codec::Null);
    let places = markers(&bytes);
    let second = places[1] + SYNC_BYTES;
    let third = &bytes[places[2] + SYNC_BYTES..places[3] + SYNC_BYTES];
    // The second block ends where its head says, but holds no datum.
    let filler = vec![0xff; 2 * third.len()];
    let head = [number(5), number(3 * third.len() as i64)].concat();
    let damaged = [&bytes[..second], &head, &filler[..], third, &bytes[places[2]..]].concat();
    let good: Vec<_> = cut(&damaged).into_iter().filter(|(_, reason)| reason.is_none()).collect();
    assert_eq!(good, expected(&[&datums[..5], &datums[10..15], &datums[10..]].concat()));
}

#[test]
fn a_size_over_two_blocks_hides_none_of_their_records() {
    // Unpacking ignores what follows the data of a deflated block.
    let (bytes, datums) = container(Codec::Null);
    let places = markers(&bytes);
    let second = places[1] + SYNC_BYTES;
    let (count, _, length) = head_of(&bytes[second..]).unwrap();
    let head = [number(count), number((places[3] - second - length) as i64)].concat();
    let damaged = [&bytes[..second], &head, &bytes[second + length..]].concat();
    assert_eq!(cut(&damaged), expected(&datums));
    let (bytes, datums) = container(Codec::Deflate(DeflateSettings::default()));
    let places = markers(&bytes);
    let second = places[1] + SYNC_BYTES;
    let (count, _, length) = head_of(&bytes[second..]).unwrap();
    let head = [number(count), number((places[3] - second - length) as i64)].concat();
    let damaged = [&bytes[..second], &head, &bytes[second + length..]].concat();
    let pieces = cut(&damaged);
    let good: Vec<_> = pieces.iter().filter(|(_, reason)| reason.is_none()).cloned().collect();
    assert_eq!(good, expected(&[&datums[..5], &datums[10..]].concat()));
}

#[test]
fn bytes_behind_the_last_record_of_a_block_are_kept() {
    for (codec, rest) in [(Codec::Null, true), (Codec::Snappy, true)] {
        let (bytes, datums) = container(codec);
        let places = markers(&bytes);
        let second = places[1] + SYNC_BYTES;
        // The head says three records instead of five.
        assert_eq!(bytes[second], 10);
        let mut damaged = bytes.clone();
        damaged[second] = 6;
        let mut pieces = expected(&datums[..8]);
        let lost = datums[8..10].concat();
        pieces.push((String::from_utf8_lossy(&lost).into_owned(), Some("invalid_avro")));
        pieces.extend(expected(&datums[10..]));
        assert_eq!(cut(&damaged), pieces);
        // The head says six records instead of five. No byte is lost, but a piece says that a
        // record is missing.
        damaged[second] = 12;
        let pieces = cut(&damaged);
        assert_eq!(pieces.len(), 21, "{rest}");
        assert_eq!(pieces[10], (String::new(), Some("invalid_avro")));
    }
}

#[test]
fn containers_one_behind_the_other_are_read_each_with_its_own_schema() {
    let other = r#"{"type": "record", "name": "Other", "fields": [{"name": "n", "type": "long"}]}"#;
    let schema = Schema::parse_str(other).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Snappy).unwrap();
    for n in 0..50i64 {
        writer.append_value(Value::Record(vec![("n".to_owned(), Value::Long(n))])).unwrap();
    }
    let other_bytes = writer.into_inner().unwrap();
    let (bytes, datums) = container(Codec::Null);
    let numbers: Vec<Vec<u8>> = (0..50).map(number).collect();
    // Damage between two containers does not hide the second one.
    for seam in [&b""[..], b"\n", b"Obj\x01", b"some bytes that nobody knows"] {
        let file = [&bytes, seam, &other_bytes, &bytes].concat();
        let mut container = Container::open(Content::of(&file), 1000).unwrap();
        let mut piece = Vec::new();
        let mut found = Vec::new();
        loop {
            match container.next(&mut piece).unwrap() {
                Piece::Record => {
                    let format = container.format().map(|format| (**format).clone());
                    found.push((piece.clone(), format));
                }
                Piece::Rejected(rejection) => assert_eq!((&piece[..], rejection.reason), (seam, "invalid_avro")),
                Piece::End => break,
            }
        }
        let first = datums.iter().map(|datum| (datum.clone(), None));
        let format = StreamFormat::AvroDatum { schema: schema.canonical_form() };
        let second = numbers.iter().map(|datum| (datum.clone(), Some(format.clone())));
        let mut found = found.into_iter().map(|(datum, format)| {
            let parsed = format.map(|format| match format {
                // The schema is the one in the header, character by character.
                StreamFormat::AvroDatum { schema } => {
                    StreamFormat::AvroDatum { schema: Schema::parse_str(&schema).unwrap().canonical_form() }
                }
                other => panic!("{other:?}"),
            });
            (datum, parsed)
        });
        assert!(found.by_ref().eq(first.clone().chain(second).chain(first)), "{seam:?}");
    }
}

#[test]
fn what_is_longer_than_one_letter_becomes_several() {
    let (bytes, datums) = container(Codec::Null);
    let places = markers(&bytes);
    let junk: Vec<u8> = (0..PART_BYTES_MAX * 5 / 2).map(|n| (n * n % 251) as u8 | 1).collect();
    let second = places[1] + SYNC_BYTES;
    let file = [&bytes[..second], &junk, &bytes[second..]].concat();
    let mut container = Container::open(Content::from_bytes(file), 1000).unwrap();
    let (mut piece, mut records, mut lost, mut details) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    loop {
        match container.next(&mut piece).unwrap() {
            Piece::Record => records.push(piece.clone()),
            Piece::Rejected(rejection) => {
                assert!(piece.len() <= PART_BYTES_MAX);
                lost.extend_from_slice(&piece);
                details.push(rejection.detail);
            }
            Piece::End => break,
        }
    }
    assert!(lost == junk, "all of it is kept");
    assert_eq!(records, datums);
    assert_eq!(details.len(), 3);
    assert!(details[2].ends_with(" (part 3); reading goes on at the next whole block"), "{}", details[2]);
}

#[test]
fn many_wrong_sizes_do_not_take_much_time() {
    let (bytes, _) = container(Codec::Snappy);
    let places = markers(&bytes);
    let sync = bytes[bytes.len() - SYNC_BYTES..].to_vec();
    let mut file = bytes[..places[0] + SYNC_BYTES].to_vec();
    // Each block claims to be as long as nearly everything that follows, or that another container
    // begins.
    for n in 0..100_000i64 {
        file.extend([number(1), number(4_000_000 - 30 * n)].concat());
        file.extend_from_slice(if n % 2 == 0 { &sync } else { b"Obj\x01\x02\x16avro.schema\x80\x80\x80\x02" });
    }
    let started = std::time::Instant::now();
    let pieces = cut(&file);
    assert!(pieces.iter().all(|(_, reason)| reason.is_some()));
    assert!(pieces.len() > 50_000, "{}", pieces.len());
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn refuses_what_is_no_container() {
    for bytes in [&b""[..], b"Obj", b"Obj\x01", b"Obj\x02abc", b"{\"a\": 1}"] {
        assert_eq!(Container::open(Content::of(bytes), 10).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn items_without_bytes_do_not_take_time() {
    let skipper = Skipper::new(r#"{"type": "array", "items": "null"}"#).unwrap();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]);
    assert_eq!(skipper.skip(&bytes, 0), Ok(bytes.len()));
}

#[test]
fn refuses_damage_instead_of_reading_beyond() {
    let skipper = Skipper::new(SCHEMA).unwrap();
    let (_, datums) = container(Codec::Null);
    for length in 0..datums[0].len() {
        assert!(skipper.skip(&datums[0][..length], 0).is_err());
    }
    assert_eq!(skipper.skip(&datums[0], 0), Ok(datums[0].len()));
}
