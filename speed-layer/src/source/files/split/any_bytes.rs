//! What every splitter must do for any bytes. It ends. No piece is longer than the limit, or than
//! what is kept of a longer one. And the same bytes are cut in the same way however they are read
//! in: otherwise a position would mean something else the next time.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 40;

fn pieces(mut splitter: Box<dyn Splitter>, bytes: usize) -> Result<Vec<(Vec<u8>, Piece)>, TestCaseError> {
    let mut found = Vec::new();
    let mut piece = Vec::new();
    loop {
        match splitter.next(&mut piece).unwrap() {
            Piece::End => return Ok(found),
            cut => {
                prop_assert!(piece.len() <= LIMIT.max(KEPT_BYTES.min(bytes)), "{} bytes", piece.len());
                prop_assert!(cut != Piece::Record || piece.len() <= LIMIT);
                found.push((piece.clone(), cut));
            }
        }
        // Every piece takes at least one byte, except records that have no bytes.
        prop_assert!(found.len() <= bytes + 2048);
    }
}

fn check(bytes: &[u8], split: impl Fn(Content) -> Box<dyn Splitter>) -> Result<(), TestCaseError> {
    let at_once = pieces(split(Content::from_bytes(bytes.to_vec())), bytes.len())?;
    let in_sevens = pieces(split(Content::of(bytes)), bytes.len())?;
    prop_assert_eq!(at_once, in_sevens);
    Ok(())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[{}\\[\\]\",:0-9a-z.+\\\\ \n-]{0,200}".prop_map(String::into_bytes),
        "(\"[a-z,\n]{0,20}\"?|[0-9]{0,3}|,|\n|\"\"){0,60}".prop_map(String::into_bytes),
        "(\\[{0,70}|\\]{0,70}|\\{\"a\":|\\}|,|\n){0,20}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// A container of several blocks, with some bytes changed.
fn container() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (proptest::collection::vec("[a-z]{0,60}", 0..20), changes, any::<bool>()).prop_map(|(texts, changes, packed)| {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"t","type":"string"},{"name":"l","type":
            {"type":"array","items":["null","long"]}}]}"#;
        let schema = apache_avro::Schema::parse_str(schema).unwrap();
        let codec = if packed { apache_avro::Codec::Snappy } else { apache_avro::Codec::Null };
        let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec).unwrap();
        for (index, text) in texts.into_iter().enumerate() {
            let mut record = apache_avro::types::Record::new(&schema).unwrap();
            record.put("t", text);
            let number = apache_avro::types::Value::Union(1, Box::new((index as i64).into()));
            record.put("l", apache_avro::types::Value::Array(vec![number; index % 3]));
            writer.append_value(record).unwrap();
            if index % 4 == 3 {
                writer.flush().unwrap();
            }
        }
        let mut bytes = writer.into_inner().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn json_values(bytes in text()) {
        check(&bytes, |content| Box::new(json::JsonValues::new(content, LIMIT)))?;
    }

    #[test]
    fn rows(bytes in text(), columns in proptest::option::of(0..4usize)) {
        check(&bytes, |content| Box::new(csv::Rows::new(content, b',', LIMIT, columns)))?;
    }

    #[test]
    fn containers(bytes in container()) {
        if avro::Container::open(Content::from_bytes(bytes.clone()), LIMIT).is_ok() {
            check(&bytes, |content| Box::new(avro::Container::open(content, LIMIT).unwrap()))?;
        }
    }
}
