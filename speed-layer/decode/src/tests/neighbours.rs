//! Good records give the same rows whatever their neighbours are.

use proptest::prelude::*;

use super::corpora::events;
use super::*;

/// Good impressions, as JSON.
fn impression() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~é\\\\\"\n]{0,12}";
    let extra = prop_oneof![
        Just(String::new()),
        "[a-z]{1,3}".prop_map(|key| format!(",\"x_{key}\":{{\"k\":[1,null,\"{key}\"]}}")),
        (0u32..5000).prop_map(|cost| format!(",\"cost_micros\":{cost},\"viewable\":true")),
        Just(",\"city\":\"B\\u00e4r\",\"width\":\"300\"".to_owned()),
    ];
    (text, text, 946_684_800i64..NOW / 1_000_000, text, extra).prop_map(|(creative, user, time, site, extra)| {
        let quote = |text: &str| serde_json::to_string(text).unwrap();
        let (creative, user, site) = (quote(&creative), quote(&user), quote(&site));
        format!("{{\"ad_creative_id\":{creative},\"user_id\":{user},\"timestamp\":{time},\"website\":{site}{extra}}}")
            .into_bytes()
    })
}

fn interaction() -> impl Strategy<Value = Vec<u8>> {
    let cell = "[ -~é\n]{0,12}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\"")));
    (946_684_800i64..NOW / 1_000_000, cell.clone(), cell, "[a-z]{1,8}", proptest::option::of(-500i64..500)).prop_map(
        |(time, user, campaign, kind, value)| {
            let value = value.map_or(String::new(), |value| format!(",,,,,{value}.25"));
            format!("{time},{user},{campaign},{kind}{value}\n").into_bytes()
        },
    )
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "[{}\\[\\]\",:0-9a-z\\\\ ]{0,60}".prop_map(String::into_bytes),
        "(\"[a-z,\n]{0,20}|[0-9],){0,5}\"?".prop_map(String::into_bytes),
        impression().prop_flat_map(|bytes| (0..bytes.len()).prop_map(move |end| bytes[..end].to_vec())),
        interaction().prop_flat_map(|bytes| (0..bytes.len()).prop_map(move |end| bytes[..end].to_vec())),
        (impression(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        Just(
            b"{\"ad_creative_id\":\"c\",\"user_id\":\"u\",\"timestamp\":1748736000,\"website\":\"w\",\"width\":1e99}"
                .to_vec()
        ),
        Just(b"{\"ad_creative_id\":\"c\",\"kept\":1,\"city\":\"lost\",\"timestamp\":\"never\"}".to_vec()),
        Just(b"1748736000,u,c,click,e,cr,i,o,not a number".to_vec()),
    ]
}

/// Compares the rows of the good records alone with their rows among hostile records. Only the
/// offsets may differ.
fn check(
    kind: EventKind,
    format: &StreamFormat,
    good: &[Vec<u8>],
    mixed: &[(bool, Vec<u8>)],
) -> Result<(), TestCaseError> {
    let alone = decode(kind, format, &good.iter().map(Vec::as_slice).collect::<Vec<_>>());
    prop_assert_eq!(alone.rows.num_rows(), good.len(), "{:?}", letters(&alone));
    let payloads: Vec<&[u8]> = mixed.iter().map(|(_, payload)| payload.as_slice()).collect();
    let among = decode(kind, format, &payloads);
    let sent = payloads.iter().map(|payload| if *format == StreamFormat::Json { events(payload).len() } else { 1 });
    prop_assert_eq!(among.rows.num_rows() + among.dead_letters.num_rows(), sent.sum::<usize>());
    // Some hostile bytes are valid records. So only the rows at the positions of good records are
    // compared.
    let offsets = column(&among.rows, "source.offset");
    let offsets = offsets.as_primitive::<arrow::datatypes::Int64Type>();
    let wanted: arrow::array::BooleanArray =
        offsets.values().iter().map(|offset| Some(mixed[*offset as usize].0)).collect();
    let found = arrow::compute::filter_record_batch(&among.rows, &wanted).unwrap();
    prop_assert_eq!(found.num_rows(), good.len());
    for (name, column) in
        alone.rows.schema().fields().iter().map(|field| (field.name(), alone.rows.column_by_name(field.name())))
    {
        if name != "source" {
            prop_assert_eq!(column, found.column_by_name(name), "{}", name);
        }
    }
    for (payload, _) in letters(&among) {
        prop_assert!(payloads.iter().any(|sent| *sent == payload || events(sent).contains(&payload.as_slice())));
    }
    Ok(())
}

/// Good records in order, mixed with hostile ones.
fn strewn(good: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let good = good.prop_map(|payload| (true, payload));
    let bad = hostile().prop_map(|payload| (false, payload));
    proptest::collection::vec(prop_oneof![good, bad], 1..20)
}

fn good(mixed: &[(bool, Vec<u8>)]) -> Vec<Vec<u8>> {
    mixed.iter().filter(|(good, _)| *good).map(|(_, payload)| payload.clone()).collect()
}

proptest! {
    #[test]
    fn of_json_impressions(mixed in strewn(impression())) {
        check(EventKind::Impression, &StreamFormat::Json, &good(&mixed), &mixed)?;
    }

    #[test]
    fn of_csv_interactions(mixed in strewn(interaction())) {
        check(EventKind::Interaction, &csv(), &good(&mixed), &mixed)?;
    }

    #[test]
    fn of_avro_bytes(mixed in proptest::collection::vec(hostile(), 1..20)) {
        let payloads: Vec<&[u8]> = mixed.iter().map(Vec::as_slice).collect();
        let decoded = decode(EventKind::BidRequest, &StreamFormat::AvroMessage, &payloads);
        prop_assert_eq!(decoded.rows.num_rows() + decoded.dead_letters.num_rows(), payloads.len());
    }

    #[test]
    fn json_is_what_serde_json_says(bytes in hostile()) {
        let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[&bytes]);
        let syntax = letters(&decoded)
            .iter()
            .any(|(_, reason)| matches!(reason.as_str(), "invalid_json" | "invalid_utf8" | "empty_record"));
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let valid = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
        // Numbers too large for a double are JSON, but not a serde_json value. Nothing else may
        // differ.
        let too_large = serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok() && !valid;
        prop_assert!(syntax != valid || too_large, "{:?}", String::from_utf8_lossy(bytes));
    }
}
