use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{DeflateSettings, Writer};

use super::super::testing::split;
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

/// Twenty records, five a block, and the datums as `apache_avro` writes them.
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
    // The second block: behind the second marker (the first one ends the header).
    let second = memmem::find_iter(&bytes, &sync).nth(1).unwrap() + SYNC_BYTES;
    for offset in [0, 1, 2, 20] {
        let mut damaged = bytes.clone();
        damaged[second + offset] ^= 0xff;
        let pieces = cut(&damaged);
        let good: Vec<_> = pieces.iter().filter(|(_, reason)| reason.is_none()).cloned().collect();
        assert_eq!(good, expected(&[&datums[..5], &datums[10..]].concat()), "byte {offset}");
        assert_eq!(pieces.len(), 16, "byte {offset}");
        assert_eq!(pieces[5].1, Some("invalid_avro"), "byte {offset}");
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
