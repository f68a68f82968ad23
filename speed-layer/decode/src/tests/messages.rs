//! Messages that hold no record or several records, and unusual records.

use super::avro::bids_with_one_bad;
use super::*;

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
        // The state after a crash between the commit of the dead letters and that of the rows.
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
        &[concat!(
            r#"{"ad_creative_id":123456789012345678901234567890,"#,
            r#""user_id":"\u0000","timestamp":1748736000,"website":"w"}"#
        )
        .as_bytes()],
    );
    check(&decoded.rows, 0, &[("ad_creative_id", Some("123456789012345678901234567890")), ("user_id", Some("\0"))]);
}
