//! Records of every kind and format, field by field.

use std::collections::BTreeMap;

use adlake_domain::content::content_hashes_of_batch;
use adlake_domain::schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Codec, Schema, Writer};

use super::*;
use crate::decode::bid_request_avro_schema;
use crate::settings::AvroFraming;

fn check(batch: &RecordBatch, row: usize, expected: &[(&str, Option<&str>)]) {
    for (path, value) in expected {
        assert_eq!(cell(batch, path, row).as_deref(), *value, "{path}");
    }
}

/// What becomes of one JSON impression: its attributes, or the reason of its dead letter.
fn impression(payload: &str) -> Result<Option<String>, String> {
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload.as_bytes()]);
    match letters(&decoded).first() {
        Some((bytes, reason)) => {
            assert_eq!(bytes, payload.as_bytes());
            Err(reason.clone())
        }
        None => Ok(cell(&decoded.rows, "attributes", 0)),
    }
}

#[test]
fn a_json_impression() {
    let payload = br#" {"ad_creative_id": 419, "user_id": "u\u00e9", "timestamp": "2025-06-01T12:00:00.5Z",
        "website_url": "http://example2.com/path/83", "cost_micros": 1500.0, "viewable": 1, "width": "300",
        "country": "DEU", "device_type": "Mobile", "new": {"a": [1, 2.50]}, "other": null, "x\n": "\u0041",
        "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0"} "#;
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload]);
    assert_eq!(letters(&decoded), []);
    assert_eq!(decoded.rows.schema(), schema::raw_schema(EventKind::Impression));
    check(
        &decoded.rows,
        0,
        &[
            ("ad_creative_id", Some("419")),
            ("user_id", Some("ué")),
            ("event_time", Some("2025-06-01T12:00:00.500Z")),
            ("website", Some("http://example2.com/path/83")),
            ("cost_micros", Some("1500")),
            ("viewable", Some("true")),
            ("width", Some("300")),
            ("height", None),
            ("country", Some("DEU")),
            ("device_type", Some("Mobile")),
            ("attributes", Some(r#"{"new":{"a": [1, 2.50]},"x\n":"A"}"#)),
            ("enriched.country", Some("DE")),
            ("enriched.device_type", Some("desktop")),
            ("enriched.os", Some("Windows")),
            ("enriched.browser", Some("Firefox")),
            ("enriched.part_of_day", Some("afternoon")),
            ("enriched.day_type", Some("weekend")),
            ("enriched.season", Some("summer")),
            ("enriched.cost_micros", Some("1500")),
            ("enriched.campaign_id", None),
            ("source.topic", Some("topic")),
            ("source.partition", Some("3")),
            ("source.offset", Some("0")),
            ("ingested_at", Some("2025-06-02T00:00:00Z")),
            ("event_date", Some("2025-06-01")),
        ],
    );
    let hashes = content_hashes_of_batch(EventKind::Impression, &decoded.rows).unwrap();
    assert_eq!(column(&decoded.rows, "content_hash").as_binary::<i32>(), &hashes);
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
fn names_are_tried_in_order_and_losers_are_kept() {
    let with = |members: &str| {
        impression(&format!(r#"{{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,{members}}}"#))
    };
    let kept = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(with(r#""url":"b","website":"a""#), kept(r#"{"url":"b"}"#));
    assert_eq!(with(r#""website":"a","url":"b""#), kept(r#"{"url":"b"}"#));
    assert_eq!(with(r#""website":null,"url":"b""#), Ok(None));
    // As it is before folded; sent twice, the later.
    assert_eq!(with(r#""Website":"b","website":"a""#), kept(r#"{"Website":"b"}"#));
    assert_eq!(with(r#""website":"a","website":"b""#), kept(r#"{"website":"a"}"#));
    // An object under a common alias is something else; its parts may be known.
    assert_eq!(with(r#""site":{"domain":"d"}"#), kept(r#"{"site":{"domain":"d"}}"#));
    assert_eq!(with(r#""website":"a","creative":{"id":1}"#), kept(r#"{"creative":{"id":1}}"#));
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
    // In either order, by the quick way and by the parser's.
    for city in ["x", r"\u0078"] {
        let with = |members: &str| json(&format!(r#"{members},"city":"{city}""#));
        assert_eq!(with(r#""cuid":"","afid":"a""#), texts([Some("a"), eur, none, Some(r#"{"cuid":""}"#)]));
        assert_eq!(with(r#""afid":"a","cuid":"""#), texts([Some("a"), eur, none, Some(r#"{"cuid":""}"#)]));
        assert_eq!(with(r#""cuid":null,"afid":"a""#), texts([Some("a"), eur, none, None]));
        assert_eq!(with(r#""cuid":"c","afid":"""#), texts([Some("c"), eur, none, Some(r#"{"afid":""}"#)]));
        assert_eq!(with(r#""cuid":"c","cuid":"""#), texts([Some("c"), eur, none, Some(r#"{"cuid":""}"#)]));
        // Where nothing else is sent, it is what was sent.
        assert_eq!(with(r#""cuid":"","afid":"""#), texts([Some(""), eur, none, Some(r#"{"afid":""}"#)]));
        assert_eq!(with(r#""cuid":"""#), texts([Some(""), eur, none, None]));
        // Against a default it is no value, and is kept.
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
    // An amount has no rate here, but there is none.
    assert_eq!(letters(&decoded), []);
    let row = |row| ["user_id", "campaign_id", "currency", "attributes"].map(|path| cell(&decoded.rows, path, row));
    assert_eq!(row(0), texts([Some("a"), Some("k"), eur, None]));
    assert_eq!(row(1), texts([Some("c"), Some("k"), Some("USD"), Some(r#"{"afid":"a"}"#)]));
    assert_eq!(row(2), texts([Some(""), none, eur, Some(r#"{"note":"n"}"#)]));
    assert_eq!(row(3), row(0));
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
    // As a public set of bid requests has it.
    let list = r#""targeting_criteria":["age","interest"]"#;
    assert_eq!(by_default(list), kept(r#"{"targeting_criteria":["age","interest"]}"#, &["targeting"]));
    assert_eq!(by_default(r#""targeting":"x""#), kept(r#"{"targeting":"x"}"#, &["targeting"]));
    assert_eq!(by_default(r#""imp":{"id":"1"}"#), kept(r#"{"imp":{"id":"1"}}"#, &["imp"]));
    assert_eq!(by_default(r#""imp":["1","2"]"#), kept(r#"{"imp":["1","2"]}"#, &["imp"]));
    assert_eq!(
        by_default(r#""user":"u7","site":"d.com","app":7,"device":true"#),
        kept(r#"{"site":"d.com","app":7,"device":true,"user":"u7"}"#, &["app", "device", "site", "user"])
    );
    // The whole value is kept as it was sent, and once.
    let site = r#"{"ext":{"x":1},"publisher":"p"}"#;
    assert_eq!(by_default(&format!(r#""site":{site}"#)), kept(&format!(r#"{{"site":{site}}}"#), &["site"]));
    // The name whose value has the shape binds, whatever the order.
    for members in
        [r#""targeting":[1],"targeting_criteria":{"a":1}"#, r#""targeting_criteria":{"a":1},"targeting":[1]"#]
    {
        assert_eq!(by_default(members), kept(r#"{"targeting":[1]}"#, &["targeting"]));
    }
    // A scalar of another type is no other shape.
    assert_eq!(by_default(r#""imp":[{"banner":{"w":"wide"}}]"#), Err("bad_type".to_owned()));
    // Lists of texts bind: a currency that is not understood must not be passed over.
    assert_eq!(by_default(r#""cur":{"a":1}"#), Err("bad_type".to_owned()));
    // What the configuration names binds.
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
        {"name":"targeting_criteria","type":["null",{"type":"array","items":"string"},{"type":"map","values":"string"}]},
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
fn times_as_a_source_writes_them() {
    let mut decoder = decoder(EventKind::Interaction, &csv(), |source| {
        source.time_formats = vec!["%d/%b/%Y:%H:%M:%S %z".to_owned(), "%Y%m%d%H".to_owned()];
        source.time_zone = Some("Europe/Berlin".to_owned());
    });
    let rows: [&[u8]; 5] = [
        b"01/Mar/2025:10:00:00 +0000,u,k,click",
        b"2025030110,u,k,click",
        b"2025-03-01 10:00,u,k,click",
        b"20250301T100000Z,u,k,click",
        b"14102100,u,k,click",
    ];
    let decoded = push(&mut decoder, &rows);
    let times: Vec<_> = (0..4).map(|row| cell(&decoded.rows, "event_time", row).unwrap()).collect();
    assert_eq!(times, ["2025-03-01T10:00:00Z", "2025-03-01T09:00:00Z", "2025-03-01T09:00:00Z", "2025-03-01T10:00:00Z"]);
    assert_eq!(letters(&decoded), [(rows[4].to_vec(), "implausible_timestamp".to_owned())]);
    assert_eq!(
        cell(&decoded.dead_letters, "detail", 0).as_deref(),
        Some(
            "event_time: 14102100 read as epoch seconds is 1970-06-13T05:15:00Z, before ingest.event_time_min (2000-01-01)"
        )
    );
}

#[test]
fn the_time_of_an_event_in_the_future_is_shown_as_it_was_read() {
    let payload = br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748910960,"website":"w"}"#;
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload]);
    assert_eq!(letters(&decoded)[0].1, "too_far_in_future");
    assert_eq!(
        cell(&decoded.dead_letters, "detail", 0).as_deref(),
        Some("event_time: 2025-06-03T00:36:00Z is 24.6 h ahead; 24 h are allowed (ingest.future_max)")
    );
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
fn one_event_has_so_much_money_at_most() {
    let rows: [&[u8]; 4] = [
        b"1748736000,u,k,buy,,,,o1,9000000000000,",
        b"1748736000,u,k,buy,,,,o2,10000000000,",
        b"1748736000,u,k,buy,,,,o3,-10000000000,",
        b"1748736000,u,k,buy,,,,o4,1,,1000000000001",
    ];
    let decoded = decode(EventKind::Interaction, &csv(), &rows);
    let money: Vec<_> = (0..2).map(|row| cell(&decoded.rows, "enriched.value_micros", row).unwrap()).collect();
    assert_eq!(money, ["10000000000000000", "-10000000000000000"]);
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["out_of_range", "out_of_range"]);
    let detail = cell(&decoded.dead_letters, "detail", 0).unwrap();
    assert!(detail.contains("10,000,000,000 units of its currency (10^16 micros)"), "{detail}");
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
fn csv_interactions() {
    let header = ["timestamp", "User ID", "ad_campaign_id", "conversion_type", "value", "currency", "note"];
    let format = StreamFormat::Csv {
        header: Some(header.map(str::to_owned).to_vec()),
        header_line: None,
        delimiter: Some(b';'),
    };
    let rows: [&[u8]; 8] = [
        b"2023-10-07 16:11:30;82650;5;visit;12.345;USD;\"a;\n\"\"b\"\"\"\r\n",
        b"2023-10-07 16:11:30;;;click",
        b"2023-10-07 16:11:30;u;c;",
        b"2023-10-07 16:11:30;u;c;click;;;;",
        b"2023-10-07 16:11:30;u;c;buy;1;XXX;",
        b"2023-10-07 16:11:30;u;c;buy;;XXX;",
        b"2023-10-07 16:11:30;u",
        b";u;c;click",
    ];
    let decoded = decode(EventKind::Interaction, &format, &rows);
    check(
        &decoded.rows,
        0,
        &[
            ("event_time", Some("2023-10-07T16:11:30Z")),
            ("user_id", Some("82650")),
            ("campaign_id", Some("5")),
            ("conversion_type", Some("visit")),
            ("value", Some("12.345000000000")),
            ("enriched.value_micros", Some("12345000")),
            ("attributes", Some(r#"{"note":"a;\n\"b\""}"#)),
        ],
    );
    check(&decoded.rows, 1, &[("user_id", Some("")), ("campaign_id", Some("")), ("value", None), ("attributes", None)]);
    check(&decoded.rows, 2, &[("currency", Some("XXX")), ("enriched.value_micros", None)]);
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["missing_field", "too_many_columns", "no_fx_rate", "missing_field", "missing_field"]);
}

#[test]
fn csv_without_a_header_has_the_fields_in_order() {
    let decoded = decode(EventKind::Interaction, &csv(), &[b"1748736000,u,c,click,e1,cr,i1,o1,5,,2,US,mobile,ua"]);
    check(
        &decoded.rows,
        0,
        &[
            ("event_time", Some("2025-06-01T00:00:00Z")),
            ("event_id", Some("e1")),
            ("quantity", Some("2")),
            ("user_agent", Some("ua")),
        ],
    );
}

#[test]
fn openrtb_as_json() {
    let payload = br#"{"id": "a1", "imp": [{"id": "1", "banner": {"w": 300, "h": 250, "format": []}, "bidfloor": 0.5},
        {"id": "2", "video": {"mimes": ["x"]}, "ext": {"b": 1}}], "cur": ["USD"], "ext": {"ts": 1748736000},
        "site": {"domain": "d.com", "ext": {"amp": 0}}, "user": {"id": "u", "data": [{"segment": [{"id": "s"}]}]},
        "device": {"devicetype": 4, "geo": {"country": "USA", "region": "CA", "lat": 1}}, "bid_price": 1.25,
        "targeting": {"b": 1, "a": "x"}}"#;
    let decoded = decode(EventKind::BidRequest, &StreamFormat::Json, &[payload]);
    assert_eq!(letters(&decoded), []);
    let attributes = r#"{"ext":{"ts": 1748736000},"imp[0].banner.format":[],"imp[1].video.mimes":["x"],"imp[1].ext":{"b": 1},"site.ext":{"amp": 0}}"#;
    check(
        &decoded.rows,
        0,
        &[
            ("auction_id", Some("a1")),
            ("user_id", Some("u")),
            ("user.id", Some("u")),
            ("event_time", Some("2025-06-01T00:00:00Z")),
            ("site.domain", Some("d.com")),
            ("device.devicetype", Some("4")),
            ("device.geo.lat", Some("1.0")),
            ("targeting", Some("{a: x, b: 1}")),
            ("bid_price", Some("1.250000000000")),
            ("enriched.bid_price_micros", Some("1250000")),
            ("enriched.clearing_price_micros", None),
            ("enriched.country", Some("US")),
            ("enriched.region", Some("CA")),
            ("attributes", Some(attributes)),
        ],
    );
    let imp = column(&decoded.rows, "imp");
    assert_eq!(imp.as_list::<i32>().value_offsets(), [0, 2]);
}

/// A bid request of adlake's own schema with these fields, the others null.
fn bid(fields: &[(&str, Avro)]) -> Avro {
    let schema: serde_json::Value = serde_json::from_str(bid_request_avro_schema()).unwrap();
    let names = schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap().to_owned());
    let null = || Avro::Union(0, Box::new(Avro::Null));
    let values = names.map(|name| {
        let sent = fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        (name, sent.unwrap_or_else(null))
    });
    Avro::Record(values.collect())
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

fn plain_bid(auction: &str) -> Avro {
    bid(&[
        ("auction_id", Avro::String(auction.to_owned())),
        ("user_id", Avro::String("u".to_owned())),
        ("timestamp", Avro::TimestampMicros(NOW - 5)),
        ("clearing_price", some(Avro::Decimal(1_900_000i128.to_be_bytes().to_vec().into()))),
        ("won", some(Avro::Boolean(true))),
        ("badv", some(Avro::Array(vec![Avro::String("b".to_owned())]))),
        ("targeting", some(Avro::Map([("k".to_owned(), some(Avro::String("v".to_owned())))].into()))),
    ])
}

#[test]
fn avro_bid_requests_in_every_framing() {
    let schema = Schema::parse_str(bid_request_avro_schema()).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(plain_bid("a1")).unwrap();
    let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>().bytes;
    let single = [&[0xC3, 0x01][..], &fingerprint, &datum].concat();
    let confluent = [&[0, 0, 0, 0, 9][..], &datum].concat();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Snappy).unwrap();
    for auction in ["a2", "a3"] {
        writer.append_value(plain_bid(auction)).unwrap();
    }
    let container = writer.into_inner().unwrap();
    let trailing = [&datum[..], &[0]].concat();
    let payloads: [&[u8]; 6] = [&datum, &single, &confluent, &container, &trailing, &datum[..datum.len() - 1]];
    let decoded = decode(EventKind::BidRequest, &StreamFormat::AvroMessage, &payloads);
    let auctions: Vec<_> =
        (0..decoded.rows.num_rows()).map(|row| cell(&decoded.rows, "auction_id", row).unwrap()).collect();
    assert_eq!(auctions, ["a1", "a1", "a1", "a2", "a3"]);
    check(
        &decoded.rows,
        4,
        &[
            ("event_time", Some("2025-06-01T23:59:59.999995Z")),
            ("clearing_price", Some("1.900000000000")),
            ("bid_price", None),
            ("won", Some("true")),
            ("badv", Some("[b]")),
            ("targeting", Some("{k: v}")),
            ("attributes", None),
            ("source.offset", Some("3")),
        ],
    );
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["trailing_data", "invalid_avro"]);
}

/// Three bids, the second with a price below zero.
fn bids_with_one_bad() -> Vec<u8> {
    let text = r#"{"type":"record","name":"B","fields":[
        {"name":"auction_id","type":"string"},{"name":"user_id","type":"int"},{"name":"bid_amount","type":"float"},
        {"name":"ts","type":{"type":"int","logicalType":"date"}},{"name":"ip_address","type":"string"}]}"#;
    let schema = Schema::parse_str(text).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Null).unwrap();
    for (auction, price) in [("a1", 0.1f32), ("a2", -1.0), ("a3", 5.43)] {
        let fields = vec![
            ("auction_id".to_owned(), Avro::String(auction.to_owned())),
            ("user_id".to_owned(), Avro::Int(7)),
            ("bid_amount".to_owned(), Avro::Float(price)),
            ("ts".to_owned(), Avro::Date(20_000)),
            ("ip_address".to_owned(), Avro::String("192.0.2.7".to_owned())),
        ];
        writer.append_value(Avro::Record(fields)).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn a_container_keeps_its_good_records() {
    let container = bids_with_one_bad();
    let decoded = decode(EventKind::BidRequest, &StreamFormat::AvroMessage, &[&container]);
    check(
        &decoded.rows,
        0,
        &[
            ("auction_id", Some("a1")),
            ("user_id", Some("7")),
            ("bid_price", Some("0.100000000000")),
            ("event_time", Some("2024-10-04T00:00:00Z")),
            ("attributes", Some(r#"{"ip_address":"192.0.2.7"}"#)),
        ],
    );
    check(&decoded.rows, 1, &[("auction_id", Some("a3")), ("bid_price", Some("5.430000000000"))]);
    assert_eq!(letters(&decoded), [(container, "negative_number".to_owned())]);
    let detail = cell(&decoded.dead_letters, "detail", 0).unwrap();
    assert!(detail.starts_with("1 bad of 3 records: record 2: bid_price: "), "{detail}");
}

#[test]
fn configured_schemas() {
    let schema = r#"{"type":"record","name":"I","fields":[{"name":"ad_creative_id","type":"long"},
        {"name":"user_id","type":"string"},{"name":"timestamp","type":"double"},
        {"name":"website","type":{"type":"enum","name":"W","symbols":["a","b"]}}]}"#;
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::AvroMessage, |source| {
        source.avro.schema = Some(schema.to_owned());
        source.avro.framing = AvroFraming::None;
    });
    let value = Avro::Record(vec![
        ("ad_creative_id".to_owned(), Avro::Long(-5)),
        ("user_id".to_owned(), Avro::String("u".to_owned())),
        ("timestamp".to_owned(), Avro::Double(1_748_736_000.25)),
        ("website".to_owned(), Avro::Enum(1, "b".to_owned())),
    ]);
    let schema = Schema::parse_str(schema).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
    let decoded = push(&mut decoder, &[&datum]);
    check(
        &decoded.rows,
        0,
        &[("ad_creative_id", Some("-5")), ("event_time", Some("2025-06-01T00:00:00.250Z")), ("website", Some("b"))],
    );
}

#[test]
fn what_is_no_record() {
    let rejected = |payload: &[u8]| {
        let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload]);
        let letters = letters(&decoded);
        assert_eq!(letters[0].0, payload);
        letters[0].1.clone()
    };
    assert_eq!(rejected(b""), "empty_record");
    assert_eq!(rejected(b" "), "invalid_json");
    assert_eq!(rejected(b"[]"), "not_an_object");
    assert_eq!(rejected(b"7"), "not_an_object");
    assert_eq!(rejected(b"null"), "not_an_object");
    assert_eq!(rejected(b"{\"a\":1"), "invalid_json");
    assert_eq!(rejected(b"{} {}"), "invalid_json");
    assert_eq!(rejected(b"{\"a\":\"\xff\"}"), "invalid_utf8");
    assert_eq!(rejected(b"{}"), "missing_field");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(65), "]".repeat(65));
    assert_eq!(rejected(deep.as_bytes()), "invalid_json");
}

#[test]
fn a_list_in_one_message_is_as_many_events() {
    let good =
        |user: &str| format!(r#"{{"ad_creative_id":"c","user_id":"{user}", "timestamp":1748736000,"website":"w"}}"#);
    let (a, b, bad) = (good("a"), good("b"), r#"{"user_id": "x"}"#);
    let list = format!("\u{feff} [{a},\n{bad} , null,{b}, {bad}] ");
    let cut = &list[..list.len() - 3];
    let marked = format!("\u{feff}{a}");
    let payloads = [list.as_str(), "[]", "[1, [{}]]", cut, &marked, "\u{feff}"].map(str::as_bytes);
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &payloads);
    let users: Vec<_> = (0..decoded.rows.num_rows())
        .map(|row| (cell(&decoded.rows, "user_id", row).unwrap(), cell(&decoded.rows, "source.offset", row).unwrap()))
        .collect();
    let expected = [("a", "0"), ("b", "0"), ("a", "4")].map(|(user, offset)| (user.to_owned(), offset.to_owned()));
    assert_eq!(users, expected);
    let found = letters(&decoded);
    let found: Vec<(&[u8], &str)> =
        found.iter().map(|(payload, reason)| (payload.as_slice(), reason.as_str())).collect();
    assert_eq!(
        found,
        [
            (bad.as_bytes(), "missing_field"),
            (b"null", "not_an_object"),
            (bad.as_bytes(), "missing_field"),
            (b"[]", "not_an_object"),
            (b"[1, [{}]]", "not_an_object"),
            (cut.as_bytes(), "invalid_json"),
            ("\u{feff}".as_bytes(), "invalid_json"),
        ]
    );

    let limited = |count: usize| {
        let mut decoder =
            decoder(EventKind::Impression, &StreamFormat::Json, |source| source.records_max = Some(count));
        let decoded = push(&mut decoder, &[list.as_bytes()]);
        (decoded.rows.num_rows(), letters(&decoded).len())
    };
    assert_eq!((limited(5), limited(4)), ((2, 3), (0, 1)));
}

#[test]
fn what_is_a_dead_letter_already_stays_one_and_costs_no_row() {
    let good = r#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w"}"#;
    let list = format!(r#"[{good},{{}},{good}]"#);
    let container = bids_with_one_bad();
    let cases: [(EventKind, StreamFormat, &[u8]); 4] = [
        (EventKind::Impression, StreamFormat::Json, list.as_bytes()),
        (EventKind::Impression, StreamFormat::Json, b"{}"),
        (EventKind::Impression, StreamFormat::Json, b"[{}"),
        (EventKind::BidRequest, StreamFormat::AvroMessage, &container),
    ];
    for (kind, format, payload) in cases {
        // As after a crash between the commit of the dead letters and that of the rows.
        let first = decode(kind, &format, &[payload]);
        let dead: Vec<Vec<u8>> = letters(&first).into_iter().map(|(payload, _)| payload).collect();
        assert!(!dead.is_empty());
        let mut decoder = decoder(kind, &format, |_| ());
        let record = RecordRef { payload, key: None, partition: 3, offset: 0, time: Some(NOW - 1_000_000) };
        decoder.push_again(record, NOW, &|payload| dead.iter().any(|dead| dead == payload));
        let again = decoder.finish().unwrap();
        assert_eq!(again.rows, first.rows);
        assert_eq!(letters(&again), []);
    }
}

#[test]
fn odd_texts_and_numbers_are_exactly_what_was_sent() {
    let with = |members: &str| {
        impression(&format!(r#"{{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w",{members}}}"#))
    };
    let kept = |text: &str| Ok(Some(text.to_owned()));
    let letter = |reason: &str| Err(reason.to_owned());
    let long = "123456789012345678901234567890.10";
    assert_eq!(with(&format!(r#""x":{long}"#)), kept(&format!(r#"{{"x":{long}}}"#)));
    assert_eq!(with(r#""x":1E400"#), kept(r#"{"x":1E400}"#));
    assert_eq!(with(r#""city":1E400"#), Ok(None));
    assert_eq!(with(r#""cost_micros":9223372036854775808"#), letter("out_of_range"));
    assert_eq!(with(r#""cost_micros":1E400"#), letter("out_of_range"));
    assert_eq!(with(r#""cost_micros":5e3"#), Ok(None));
    assert_eq!(with(r#""city":"a\u0000b""#), Ok(None));
    assert_eq!(with("\"city\":\"a\0b\""), letter("invalid_json"));
    assert_eq!(with(r#""city":"\ud800""#), letter("invalid_json"));
    assert_eq!(with(r#""x":{"y":"\ud800"}"#), kept(r#"{"x":{"y":"\ud800"}}"#));
    assert_eq!(with(r#""city":"\ud83d\ude00""#), Ok(None));
    assert_eq!(with(r#""city":"a","city":null,"city":"b""#), kept(r#"{"city":"a"}"#));
    assert_eq!(with(r#""x":1,"x":2"#), kept(r#"{"x":1,"x":2}"#));
    let decoded = decode(
        EventKind::Impression,
        &StreamFormat::Json,
        &[br#"{"ad_creative_id":123456789012345678901234567890,"user_id":"\u0000","timestamp":1748736000,"website":"w"}"#],
    );
    check(&decoded.rows, 0, &[("ad_creative_id", Some("123456789012345678901234567890")), ("user_id", Some("\0"))]);
}

#[test]
fn nesting_is_limited_as_configured() {
    let with = |depth: usize, limit: usize| {
        let value = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let payload =
            format!(r#"{{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w","x":{value}}}"#);
        let mut decoder = decoder(EventKind::Impression, &StreamFormat::Json, |source| source.depth_max = Some(limit));
        push(&mut decoder, &[payload.as_bytes()]).rows.num_rows()
    };
    assert_eq!((with(64, 64), with(65, 64), with(120, 120), with(3, 2)), (1, 0, 1, 0));
    assert_eq!(with(10_000, 64), 0);
    assert_eq!(with(1_000_000, 120), 0);
}

#[test]
fn a_batch_leaves_nothing_behind() {
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::Json, |_| ());
    let good = br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w","city":"x"}"#;
    let first = push(&mut decoder, &[good, b"{"]);
    let bytes = decoder.bytes();
    assert_eq!((decoder.rows(), decoder.rejected(), bytes), (0, 0, 0));
    let second = push(&mut decoder, &[good, b"{"]);
    assert_eq!(first.rows, second.rows);
    assert_eq!(first.dead_letters, second.dead_letters);
    let empty = push(&mut decoder, &[]);
    assert_eq!((empty.rows.num_rows(), empty.dead_letters.num_rows()), (0, 0));
}

#[test]
fn exact_copies_and_nothing_else_have_equal_hashes() {
    let payloads: [&[u8]; 6] = [
        br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w"}"#,
        br#"{"user_id":"u","website":"w","timestamp":"2025-06-01T00:00:00Z","ad_creative_id":"c","city":null}"#,
        br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w","city":""}"#,
        br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w","x":1}"#,
        br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000.000001,"website":"w"}"#,
        br#"{"ad_creative_id":"cu","user_id":"","timestamp":1748736000,"website":"w"}"#,
    ];
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &payloads);
    let hashes = column(&decoded.rows, "content_hash");
    let hashes: Vec<_> = hashes.as_binary::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(hashes[0], hashes[1]);
    for (at, hash) in hashes.iter().enumerate().skip(1) {
        assert!(hashes[at + 1..].iter().all(|other| other != hash), "{at}");
    }
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
