//! Avro's schema resolution: datums written with one schema and read with another.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::json;

use super::*;
use crate::settings::AvroFraming;

/// A record with an auction, a user, a time and more fields.
fn schema(fields: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Bid","fields":[{{"name":"auction_id","type":"string"}},
            {{"name":"user_id","type":"string"}},{{"name":"timestamp","type":"long"}}{fields}]}}"#
    )
}

fn datum(schema: &str, more: Vec<(&str, Avro)>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let mut fields = vec![
        ("auction_id".to_owned(), Avro::String("a".to_owned())),
        ("user_id".to_owned(), Avro::String("u".to_owned())),
        ("timestamp".to_owned(), Avro::Long(1_748_736_000)),
    ];
    fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(Avro::Record(fields)).unwrap()
}

/// The result for a datum read with another schema: some columns, or the reason and detail of its
/// dead letter.
fn read(writer: &str, reader: &str, datum: &[u8], columns: &[&str]) -> Result<Vec<Option<String>>, (String, String)> {
    let mut decoder = decoder_with_files(schema_files([("reader.avsc", reader)]), |source| {
        source.avro.framing = AvroFraming::None;
        source.avro.schema = Some(writer.to_owned());
        source.avro.reader_schema_file = Some("reader.avsc".into());
    });
    let decoded = push(&mut decoder, &[datum]);
    match letters(&decoded).first() {
        Some((_, reason)) => Err((reason.clone(), cell(&decoded.dead_letters, "detail", 0).unwrap())),
        None => Ok(columns.iter().map(|column| cell(&decoded.rows, column, 0)).collect()),
    }
}

/// A decoder of Avro messages with bid requests, whose schemas are in files.
fn decoder_with_files(files: SchemaFiles, change: impl FnOnce(&mut SourceSettings)) -> Decoder {
    let (kind, format) = (EventKind::BidRequest, StreamFormat::AvroMessage);
    let plan = plan(kind, &format, ReferenceData::default(), &files, change).unwrap();
    Decoder::new(Arc::new(plan), "topic").unwrap()
}

fn some(texts: &[&str]) -> Result<Vec<Option<String>>, (String, String)> {
    Ok(texts.iter().map(|text| Some((*text).to_owned())).collect())
}

#[test]
fn names_defaults_and_promotions() {
    let writer =
        schema(r#",{"name":"bid","type":"int"},{"name":"extra","type":"string"},{"name":"seen","type":"long"}"#);
    let reader = r#"{"type":"record","name":"Renamed","fields":[
        {"name":"seen","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"bid_price","aliases":["other","bid"],"type":["null","double"]},
        {"name":"auction_id","type":"bytes"},{"name":"user_id","type":["null","string"]},
        {"name":"timestamp","type":"long"},
        {"name":"currency","type":"string","default":"USD"},
        {"name":"cur","type":{"type":"array","items":"string"},"default":["USD"]},
        {"name":"tmax","type":["null","int"],"default":null},
        {"name":"at","type":["int","null"],"default":2}]}"#;
    let bytes = datum(
        &writer,
        vec![("bid", Avro::Int(3)), ("extra", Avro::String("x".to_owned())), ("seen", Avro::Long(1500))],
    );
    let columns = ["auction_id", "bid_price", "cur", "at", "attributes"];
    let kept = r#"{"extra":"x","seen":"1970-01-01T00:00:01.500000Z","currency":"USD"}"#;
    assert_eq!(read(&writer, reader, &bytes, &columns), some(&["a", "3.000000000000", "[USD]", "2", kept]));
    assert_eq!(read(&writer, reader, &bytes, &["tmax"]), Ok(vec![None]));
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_and_costs_nothing_else() {
    let refused = |detail: &str| Err(("unusable_schema".to_owned(), detail.to_owned()));
    // A branch that the reader does not accept matters only if a datum uses it.
    let writer = schema(r#",{"name":"at","type":["null","int","string"]}"#);
    let reader = schema(r#",{"name":"at","type":["null","int"],"default":null}"#);
    let at = |branch: u32, value: Avro| datum(&writer, vec![("at", Avro::Union(branch, Box::new(value)))]);
    assert_eq!(read(&writer, &reader, &at(1, Avro::Int(1)), &["at"]), some(&["1"]));
    assert_eq!(read(&writer, &reader, &at(0, Avro::Null), &["at"]), Ok(vec![None]));
    let text = at(2, Avro::String("one".to_owned()));
    assert_eq!(read(&writer, &reader, &text, &["at"]), refused("at: string cannot be read as union"));

    // Symbols that the reader knows are kept. Others become its default, and are rejected if there
    // is none.
    let symbols = |symbols: &str, default: &str| {
        schema(&format!(r#",{{"name":"x","type":{{"type":"enum","name":"E","symbols":[{symbols}]{default}}}}}"#))
    };
    let writer = symbols(r#""A","B""#, "");
    let bytes = |place: u32, symbol: &str| datum(&writer, vec![("x", Avro::Enum(place, symbol.to_owned()))]);
    let with_default = symbols(r#""Z","A""#, r#","default":"Z""#);
    assert_eq!(read(&writer, &with_default, &bytes(0, "A"), &["attributes"]), some(&[r#"{"x":"A"}"#]));
    assert_eq!(read(&writer, &with_default, &bytes(1, "B"), &["attributes"]), some(&[r#"{"x":"Z"}"#]));
    let (reason, detail) = read(&writer, &symbols(r#""A""#, ""), &bytes(1, "B"), &[]).unwrap_err();
    assert_eq!(reason, "unusable_schema");
    assert!(detail.starts_with("x: the reader's schema does not have the symbol"), "{detail}");
}

#[test]
fn inner_and_recursive_types_are_resolved() {
    let writer = schema(
        r#",{"name":"tree","type":{"type":"record","name":"Node","fields":[{"name":"v","type":"int"},
            {"name":"next","type":["null","Node"]}]}}"#,
    );
    let reader = schema(
        r#",{"name":"tree","type":{"type":"record","name":"Node","fields":[
            {"name":"value","aliases":["v"],"type":"long"},{"name":"unit","type":"string","default":"ms"},
            {"name":"next","type":["null","Node"],"default":null}]}}"#,
    );
    let node =
        |value: i32, next: Avro| Avro::Record(vec![("v".to_owned(), Avro::Int(value)), ("next".to_owned(), next)]);
    let leaf = node(2, Avro::Union(0, Box::new(Avro::Null)));
    let bytes = datum(&writer, vec![("tree", node(1, Avro::Union(1, Box::new(leaf))))]);
    let kept = r#"{"tree":{"value":1,"next":{"value":2,"next":null,"unit":"ms"},"unit":"ms"}}"#;
    assert_eq!(read(&writer, &reader, &bytes, &["attributes"]), some(&[kept]));
}

#[test]
fn schemas_that_cannot_be_resolved_are_refused_at_the_start() {
    let check = |reader: &str, wanted: &str| {
        let files = schema_files([("reader.avsc", reader)]);
        let (kind, format) = (EventKind::BidRequest, StreamFormat::AvroMessage);
        let plan = plan(kind, &format, ReferenceData::default(), &files, |source| {
            source.avro.schema = Some(schema(""));
            source.avro.reader_schema_file = Some("reader.avsc".into());
        });
        let error = plan.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check("\"int\"", "Bid cannot be read as int");
    check(&schema(r#",{"name":"more","type":"int"}"#), "Bid.more: is not written and has no default");
    check(&schema(r#",{"name":"more","type":"int","default":"x"}"#), "`default`");
    check("{", "reader_schema_file: reader.avsc: not an Avro schema");
}

#[test]
fn the_error_for_a_missing_schema_names_each_setting_that_gives_one() {
    let plan_with = |avro: serde_json::Value| {
        let files = schema_files([("file.avsc", &schema(""))]);
        let (kind, format) = (EventKind::Impression, StreamFormat::AvroMessage);
        plan(kind, &format, ReferenceData::default(), &files, |source| {
            source.avro = serde_json::from_value(avro).unwrap();
        })
    };
    let error = plan_with(json!({})).unwrap_err().to_string();
    for (name, value) in [
        ("schema", json!(schema(""))),
        ("schema_file", json!("file.avsc")),
        ("registry", json!("http://localhost")),
        ("single_object_schema_files", json!(["file.avsc"])),
        ("glue_schema_files", json!({ "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0": "file.avsc" })),
    ] {
        assert!(error.contains(name), "{name}: {error}");
        plan_with(json!({ name: value })).unwrap();
    }
}

#[test]
fn fingerprints_and_packed_glue_messages_find_their_schemas() {
    let (one, two) = (schema(""), schema(r#",{"name":"tmax","type":"int"}"#));
    let version = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    let files = schema_files([("one.avsc", &one), ("two.avsc", &two)]);
    let mut decoder = decoder_with_files(files, |source| {
        source.avro.single_object_schema_files = vec!["one.avsc".into(), "two.avsc".into()];
        source.avro.glue_schema_files.insert(version.to_owned(), "two.avsc".into());
    });
    let fingerprint = |text: &str| Schema::parse_str(text).unwrap().fingerprint::<apache_avro::rabin::Rabin>().bytes;
    let single = |text: &str, datum: &[u8]| [&[0xC3, 0x01][..], &fingerprint(text), datum].concat();
    let (first, second) = (datum(&one, vec![]), datum(&two, vec![("tmax", Avro::Int(120))]));
    let id = 0x0f1e_2d3c_4b5a_6978_8796_a5b4_c3d2_e1f0u128.to_be_bytes();
    let mut packed = flate2::write::ZlibEncoder::new([&[3, 5][..], &id].concat(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &second).unwrap();
    let payloads = [
        single(&one, &first),
        single(&two, &second),
        [&[3, 0][..], &id, &second].concat(),
        packed.finish().unwrap(),
        [&[3, 0][..], &[9; 16], &second].concat(),
        single(&schema(r#",{"name":"n","type":"null"}"#), &first),
        [&[3, 5][..], &id, &second].concat(),
    ];
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let decoded = push(&mut decoder, &payloads);
    let limits: Vec<_> = (0..decoded.rows.num_rows()).map(|row| cell(&decoded.rows, "tmax", row)).collect();
    assert_eq!(limits, [None, Some("120".to_owned()), Some("120".to_owned()), Some("120".to_owned())]);
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["unknown_schema", "unknown_schema", "invalid_avro"]);
}

#[test]
fn records_of_nothing_cost_no_time() {
    // Twenty levels of ten records each, which take no bytes: 10^20 records.
    let mut inner = r#"{"type":"record","name":"R0","fields":[{"name":"n","type":"null"}]}"#.to_owned();
    for level in 1..20 {
        let more: String = (1..10).map(|n| format!(r#",{{"name":"f{n}","type":"R{}"}}"#, level - 1)).collect();
        inner = format!(r#"{{"type":"record","name":"R{level}","fields":[{{"name":"f0","type":{inner}}}{more}]}}"#);
    }
    let writer = schema(&format!(r#",{{"name":"x","type":{inner}}}"#));
    let mut bytes = datum(&schema(""), vec![]);
    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
        source.avro.framing = AvroFraming::None;
        source.avro.schema = Some(writer);
    });
    let decoded = push(&mut decoder, &[&bytes]);
    assert_eq!(letters(&decoded), [(std::mem::take(&mut bytes), "invalid_avro".to_owned())]);
}
