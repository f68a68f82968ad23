//! Which name of a field wins, in what order, and which values are kept of the others.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;

use super::*;
use crate::settings::AvroFraming;

#[test]
fn names_are_tried_in_order_and_losers_are_kept() {
    let with = |members: &str| {
        impression(&format!(r#"{{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,{members}}}"#))
    };
    let kept = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(with(r#""url":"b","website":"a""#), kept(r#"{"url":"b"}"#));
    assert_eq!(with(r#""website":"a","url":"b""#), kept(r#"{"url":"b"}"#));
    assert_eq!(with(r#""website":null,"url":"b""#), Ok(None));
    // An exact match wins over a folded one. Of a name sent twice, the later value wins.
    assert_eq!(with(r#""Website":"b","website":"a""#), kept(r#"{"Website":"b"}"#));
    assert_eq!(with(r#""website":"a","website":"b""#), kept(r#"{"website":"a"}"#));
    // An object under a common alias means something else. Its parts may be known.
    assert_eq!(with(r#""site":{"domain":"d"}"#), kept(r#"{"site":{"domain":"d"}}"#));
    assert_eq!(with(r#""website":"a","creative":{"id":1}"#), kept(r#"{"creative":{"id":1}}"#));
}

#[test]
fn the_more_telling_name_wins() {
    let header = |names: &str| Some(names.split(',').map(str::to_owned).collect::<Vec<_>>());
    let check = |names: &str, row: &str, field: &str, expected: &str| {
        let format = StreamFormat::Csv { header: header(names), delimiter: None, header_line: None };
        let decoded = decode(EventKind::Interaction, &format, &[row.as_bytes()]);
        assert_eq!(cell(&decoded.rows, field, 0).as_deref(), Some(expected), "{names}: {row}");
    };
    check(
        "ts,user_id,campaign_id,type,event",
        "1748736000,u,k,track,Order Completed",
        "conversion_type",
        "Order Completed",
    );
    check("ts,user_id,campaign_id,event_type,event_name", "1748736000,u,k,web,buy", "conversion_type", "buy");
    check(
        "user_id,campaign_id,type,click_time,conversion_time",
        "u,k,buy,1748736000,1748736060",
        "event_time",
        "2025-06-01T00:01:00Z",
    );
    check("ts,user_id,campaign_id,type,click_id,conversion_id", "1748736000,u,k,buy,c1,v1", "event_id", "v1");
}

#[test]
fn paths_and_defaults() {
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::Json, |source| {
        source.fields =
            BTreeMap::from([("website".to_owned(), vec!["page.list[1].host".to_owned(), "host".to_owned()])]);
        source.defaults = BTreeMap::from([
            ("timestamp".to_owned(), "record_time".to_owned()),
            ("ad_creative_id".to_owned(), "none".to_owned()),
            ("currency".to_owned(), "USD".to_owned()),
        ]);
        source.time_zone = Some("Europe/Berlin".to_owned());
    });
    let decoded = push(
        &mut decoder,
        &[
            br#"{"page":{"list":[{"host":"a"},{"host":"b"}]},"user_details":[{"user_id":7}],"host":"c"}"#,
            br#"{"page":{"list":[]},"user_details":[],"host":"c","user_id":"u","timestamp":"2025-06-01 12:00:00"}"#,
        ],
    );
    assert_eq!(letters(&decoded), []);
    check(
        &decoded.rows,
        0,
        &[
            ("website", Some("b")),
            ("user_id", Some("7")),
            ("ad_creative_id", Some("none")),
            ("currency", Some("USD")),
            ("event_time", Some("2025-06-01T23:59:59Z")),
            (
                "attributes",
                Some(r#"{"page":{"list":[{"host":"a"},{"host":"b"}]},"user_details":[{"user_id":7}],"host":"c"}"#),
            ),
        ],
    );
    check(&decoded.rows, 1, &[("website", Some("c")), ("event_time", Some("2025-06-01T10:00:00Z"))]);
}

#[test]
fn empty_is_not_null_and_required_is_required() {
    let with = |website: &str, time: &str| {
        impression(&format!(r#"{{"ad_creative_id":"c","user_id":"","website":{website},"timestamp":{time}}}"#))
    };
    let time = "\"2025-06-01 00:00:00\"";
    let letter = |reason: &str| Err(reason.to_owned());
    assert_eq!(with("\"\"", time), Ok(None));
    assert_eq!(with("null", time), letter("missing_field"));
    assert_eq!(with("\"x\"", "\"\""), letter("missing_field"));
    assert_eq!(with("\"x\"", "null"), letter("missing_field"));
    assert_eq!(with("\"x\"", "\"soon\""), letter("bad_timestamp"));
    assert_eq!(with("\"x\"", "\"2025-06-03T00:00:00Z\""), Ok(None));
    assert_eq!(with("\"x\"", "\"2025-06-03T00:00:01Z\""), letter("too_far_in_future"));
    assert_eq!(with("\"x\"", "\"1969-01-01\""), letter("out_of_range"));
    assert_eq!(with("\"x\"", "\"1970-01-01\""), Ok(None));
    assert_eq!(with("\"x\"", "\"14102100\""), letter("implausible_timestamp"));
    assert_eq!(with("\"x\"", "14102100"), letter("implausible_timestamp"));
    assert_eq!(with("\"x\"", "-1"), letter("implausible_timestamp"));
    assert_eq!(with("{}", time), letter("bad_type"));
    assert_eq!(with("[\"x\"]", time), letter("bad_type"));
}

#[test]
fn an_empty_text_gives_way_to_another_name_and_to_a_default() {
    let fields = |source: &mut SourceSettings| {
        source.fields.insert("user_id".to_owned(), vec!["cuid".to_owned(), "afid".to_owned()]);
        source.defaults.insert("currency".to_owned(), "EUR".to_owned());
        source.defaults.insert("ad_creative_id".to_owned(), "none".to_owned());
    };
    let json = |members: &str| {
        let payload = format!(r#"{{"timestamp":1748736000,"website":"w",{members}}}"#);
        let decoded = push(&mut decoder(EventKind::Impression, &StreamFormat::Json, fields), &[payload.as_bytes()]);
        assert_eq!(letters(&decoded), [], "{members}");
        ["user_id", "currency", "ad_creative_id", "attributes"].map(|path| cell(&decoded.rows, path, 0))
    };
    let texts = |texts: [Option<&str>; 4]| texts.map(|text| text.map(str::to_owned));
    let [eur, none] = [Some("EUR"), Some("none")];
    // In either order, by the fast scanner and by the parser.
    for city in ["x", r"\u0078"] {
        let with = |members: &str| json(&format!(r#"{members},"city":"{city}""#));
        assert_eq!(with(r#""cuid":"","afid":"a""#), texts([Some("a"), eur, none, Some(r#"{"cuid":""}"#)]));
        assert_eq!(with(r#""afid":"a","cuid":"""#), texts([Some("a"), eur, none, Some(r#"{"cuid":""}"#)]));
        assert_eq!(with(r#""cuid":null,"afid":"a""#), texts([Some("a"), eur, none, None]));
        assert_eq!(with(r#""cuid":"c","afid":"""#), texts([Some("c"), eur, none, Some(r#"{"afid":""}"#)]));
        assert_eq!(with(r#""cuid":"c","cuid":"""#), texts([Some("c"), eur, none, Some(r#"{"cuid":""}"#)]));
        // If nothing else is sent, the empty text is the value.
        assert_eq!(with(r#""cuid":"","afid":"""#), texts([Some(""), eur, none, Some(r#"{"afid":""}"#)]));
        assert_eq!(with(r#""cuid":"""#), texts([Some(""), eur, none, None]));
        // If there is a default, the empty text is not a value, and is kept as an attribute.
        assert_eq!(with(r#""cuid":"c","currency":"""#), texts([Some("c"), eur, none, Some(r#"{"currency":""}"#)]));
        assert_eq!(with(r#""cuid":"c","currency":null"#), texts([Some("c"), eur, none, None]));
        assert_eq!(with(r#""cuid":"c","ad_id":"""#), texts([Some("c"), eur, none, Some(r#"{"ad_id":""}"#)]));
    }

    let header = ["timestamp", "cuid", "afid", "campaign_id", "conversion_type", "currency", "note"];
    let format =
        StreamFormat::Csv { header: Some(header.map(str::to_owned).to_vec()), delimiter: None, header_line: None };
    let rows: [&[u8]; 4] = [
        b"1748736000,,a,k,click,,",
        b"1748736000,c,a,k,click,USD,",
        b"1748736000,,,,click,,n",
        b"1748736000,\"\",\"a\",k,click,\"\",\"\"",
    ];
    let mut decoder = decoder(EventKind::Interaction, &format, |source| {
        source.fields.insert("user_id".to_owned(), vec!["cuid".to_owned(), "afid".to_owned()]);
        source.defaults.insert("currency".to_owned(), "EUR".to_owned());
        source.defaults.insert("campaign_id".to_owned(), "none".to_owned());
    });
    let decoded = push(&mut decoder, &rows);
    // The currency has no rate, but there is no amount either.
    assert_eq!(letters(&decoded), []);
    let row = |row| ["user_id", "campaign_id", "currency", "attributes"].map(|path| cell(&decoded.rows, path, row));
    assert_eq!(row(0), texts([Some("a"), Some("k"), eur, None]));
    assert_eq!(row(1), texts([Some("c"), Some("k"), Some("USD"), Some(r#"{"afid":"a"}"#)]));
    assert_eq!(row(2), texts([Some(""), none, eur, Some(r#"{"note":"n"}"#)]));
    assert_eq!(row(3), row(0));
}

#[test]
fn an_avro_text_that_is_empty_gives_way() {
    let schema = r#"{"type":"record","name":"I","fields":[{"name":"ad_creative_id","type":"string"},
        {"name":"cuid","type":"string"},{"name":"afid","type":"string"},{"name":"timestamp","type":"long"},
        {"name":"website","type":"string"},{"name":"currency","type":["null","string"]}]}"#;
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::AvroMessage, |source| {
        source.avro.schema = Some(schema.to_owned());
        source.avro.framing = AvroFraming::None;
        source.fields.insert("user_id".to_owned(), vec!["cuid".to_owned(), "afid".to_owned()]);
        source.defaults.insert("currency".to_owned(), "EUR".to_owned());
        source.defaults.insert("website".to_owned(), "nowhere".to_owned());
    });
    let text = |text: &str| Avro::String(text.to_owned());
    let value = Avro::Record(vec![
        ("ad_creative_id".to_owned(), text("")),
        ("cuid".to_owned(), text("")),
        ("afid".to_owned(), text("a")),
        ("timestamp".to_owned(), Avro::Long(1_748_736_000)),
        ("website".to_owned(), text("")),
        ("currency".to_owned(), Avro::Union(1, Box::new(text("")))),
    ]);
    let schema = Schema::parse_str(schema).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
    let decoded = push(&mut decoder, &[&datum]);
    check(
        &decoded.rows,
        0,
        &[
            ("ad_creative_id", Some("")),
            ("user_id", Some("a")),
            ("website", Some("nowhere")),
            ("currency", Some("EUR")),
            ("attributes", Some(r#"{"cuid":"","website":"","currency":""}"#)),
        ],
    );
}

#[test]
fn an_optional_field_of_another_shape_costs_no_record() {
    let bid = |members: &str, change: fn(&mut SourceSettings)| {
        let payload = format!(r#"{{"id":"a","user_id":"u","timestamp":1748736000,{members}}}"#);
        let decoded = push(&mut decoder(EventKind::BidRequest, &StreamFormat::Json, change), &[payload.as_bytes()]);
        match letters(&decoded).first() {
            Some((_, reason)) => Err(reason.clone()),
            None => Ok((cell(&decoded.rows, "attributes", 0), decoded.misshapen)),
        }
    };
    let kept = |attributes: &str, fields: &[&str]| {
        Ok((Some(attributes.to_owned()), fields.iter().map(|field| ((*field).to_owned(), 1)).collect()))
    };
    let by_default = |members: &str| bid(members, |_| ());
    // This form is in a public set of bid requests.
    let list = r#""targeting_criteria":["age","interest"]"#;
    assert_eq!(by_default(list), kept(r#"{"targeting_criteria":["age","interest"]}"#, &["targeting"]));
    assert_eq!(by_default(r#""targeting":"x""#), kept(r#"{"targeting":"x"}"#, &["targeting"]));
    assert_eq!(by_default(r#""imp":{"id":"1"}"#), kept(r#"{"imp":{"id":"1"}}"#, &["imp"]));
    assert_eq!(by_default(r#""imp":["1","2"]"#), kept(r#"{"imp":["1","2"]}"#, &["imp"]));
    assert_eq!(
        by_default(r#""user":"u7","site":"d.com","app":7,"device":true"#),
        kept(r#"{"site":"d.com","app":7,"device":true,"user":"u7"}"#, &["app", "device", "site", "user"])
    );
    // The whole value is kept as it was sent, and only once.
    let site = r#"{"ext":{"x":1},"publisher":"p"}"#;
    assert_eq!(by_default(&format!(r#""site":{site}"#)), kept(&format!(r#"{{"site":{site}}}"#), &["site"]));
    // The name whose value has the right shape wins, in whatever order.
    for members in
        [r#""targeting":[1],"targeting_criteria":{"a":1}"#, r#""targeting_criteria":{"a":1},"targeting":[1]"#]
    {
        assert_eq!(by_default(members), kept(r#"{"targeting":[1]}"#, &["targeting"]));
    }
    // A scalar of the wrong type does not count as another shape.
    assert_eq!(by_default(r#""imp":[{"banner":{"w":"wide"}}]"#), Err("bad_type".to_owned()));
    // Lists of texts always bind: a currency that is not understood must not be ignored.
    assert_eq!(by_default(r#""cur":{"a":1}"#), Err("bad_type".to_owned()));
    // A configured name binds.
    let named = |members: &str| {
        bid(members, |source| _ = source.fields.insert("targeting".to_owned(), vec!["targeting_criteria".to_owned()]))
    };
    assert_eq!(named(list), Err("bad_type".to_owned()));
    assert_eq!(named(r#""targeting_criteria":{"a":1}"#), Ok((None, BTreeMap::new())));
    assert_eq!(named(r#""targeting":[1]"#), kept(r#"{"targeting":[1]}"#, &["targeting"]));
    let path = |members: &str| {
        bid(members, |source| _ = source.fields.insert("campaign_id".to_owned(), vec!["c.id".to_owned()]))
    };
    assert_eq!(path(r#""c":{"id":{"x":1}}"#), Err("bad_type".to_owned()));
    assert_eq!(path(r#""c":{"id":7}"#), kept(r#"{"c":{"id":7}}"#, &[]));
}

#[test]
fn an_avro_field_of_another_shape_costs_no_record() {
    let schema = r#"{"type":"record","name":"B","fields":[{"name":"auction_id","type":"string"},
        {"name":"user_id","type":"string"},{"name":"timestamp","type":"long"},
        {"name":"targeting_criteria","type":["null",{"type":"array","items":"string"},
            {"type":"map","values":"string"}]},
        {"name":"site","type":["null","string"]}]}"#;
    let parsed = Schema::parse_str(schema).unwrap();
    let datum = |criteria: Avro, site: Avro| {
        let text = |text: &str| Avro::String(text.to_owned());
        let fields = [("auction_id", text("a")), ("user_id", text("u")), ("timestamp", Avro::Long(1_748_736_000))];
        let fields = fields.into_iter().chain([("targeting_criteria", criteria), ("site", site)]);
        let record = Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).collect());
        GenericDatumWriter::builder(&parsed).build().unwrap().write_value_to_vec(record).unwrap()
    };
    let some = |branch: u32, value: Avro| Avro::Union(branch, Box::new(value));
    let null = || some(0, Avro::Null);
    let list = || some(1, Avro::Array(vec![Avro::String("age".to_owned())]));
    let map = || some(2, Avro::Map([("k".to_owned(), Avro::String("v".to_owned()))].into()));
    let payloads = [datum(list(), null()), datum(map(), null()), datum(null(), some(1, Avro::String("d".to_owned())))];
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let with = |change: fn(&mut SourceSettings)| {
        let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
            source.avro.schema = Some(schema.to_owned());
            source.avro.framing = AvroFraming::None;
            change(source);
        });
        push(&mut decoder, &payloads)
    };
    let decoded = with(|_| ());
    assert_eq!(letters(&decoded), []);
    check(&decoded.rows, 0, &[("targeting", None), ("attributes", Some(r#"{"targeting_criteria":["age"]}"#))]);
    check(&decoded.rows, 1, &[("targeting", Some("{k: v}")), ("attributes", None)]);
    check(&decoded.rows, 2, &[("site", None), ("attributes", Some(r#"{"site":"d"}"#))]);
    assert_eq!(decoded.misshapen, BTreeMap::from([("site".to_owned(), 1), ("targeting".to_owned(), 1)]));
    let decoded =
        with(|source| _ = source.fields.insert("targeting".to_owned(), vec!["targeting_criteria".to_owned()]));
    assert_eq!(letters(&decoded), [(payloads[0].to_vec(), "bad_type".to_owned())]);
}

#[test]
fn long_keys_and_changing_ones_are_not_confused() {
    let long = "k".repeat(300);
    let required = r#""ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w""#;
    let with_long = format!(r#"{{"{long}":1,{required}}}"#);
    let with_empty = format!(r#"{{"":2,{required}}}"#);
    let with_city = format!(r#"{{"city":"x",{required}}}"#);
    let payloads = [&with_long, &with_empty, &with_city, &with_long, &with_city].map(|payload| payload.as_bytes());
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &payloads);
    assert_eq!(letters(&decoded), []);
    let kept = format!(r#"{{"{long}":1}}"#);
    for (row, attributes) in [Some(kept.as_str()), Some(r#"{"":2}"#), None, Some(&kept), None].into_iter().enumerate() {
        assert_eq!(cell(&decoded.rows, "attributes", row).as_deref(), attributes);
        assert_eq!(cell(&decoded.rows, "city", row).as_deref(), attributes.is_none().then_some("x"));
    }
}
