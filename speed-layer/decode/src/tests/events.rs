//! Records of every kind, field by field.

use adlake_domain::content::content_hashes_of_batch;
use adlake_domain::schema;

use super::*;

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
fn csv_interactions() {
    let header = ["timestamp", "User ID", "ad_campaign_id", "conversion_type", "value", "currency", "note"];
    let format = StreamFormat::Csv {
        header: Some(header.map(str::to_owned).to_vec()),
        header_line: None,
        delimiter: Some(b';'),
    };
    let rows: [&[u8]; 6] = [
        b"2023-10-07 16:11:30;82650;5;visit;12.345;USD;\"a;\n\"\"b\"\"\"\r\n",
        b"2023-10-07 16:11:30;;;click",
        b"2023-10-07 16:11:30;u;c;",
        b"2023-10-07 16:11:30;u;c;click;;;;",
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
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["missing_field", "too_many_columns", "missing_field", "missing_field"]);
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
    let attributes = concat!(
        r#"{"ext":{"ts": 1748736000},"imp[0].banner.format":[],"imp[1].video.mimes":["x"],"#,
        r#""imp[1].ext":{"b": 1},"site.ext":{"amp": 0}}"#
    );
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
