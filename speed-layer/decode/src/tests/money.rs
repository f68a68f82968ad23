//! Amounts and their currencies.

use super::*;

/// Of each row, the value and the currency as sent, and the amount in micros.
type Amounts = Vec<[Option<String>; 3]>;

/// Decodes interactions with these values and currencies. Returns, for each row, the value and the
/// currency sent and the amount in micros, and for each dead letter, its reason and detail.
fn interactions(amounts: &[(&str, &str)]) -> (Amounts, Vec<(String, String)>) {
    let mut reference = ReferenceData::default();
    // 2025-06-01 is day 20,240.
    reference.rates.insert((20_240, "IDR".to_owned()), 60_000_000);
    let mut decoder = decoder_with(EventKind::Interaction, &csv(), reference, |_| ());
    let rows: Vec<String> =
        amounts.iter().map(|(value, currency)| format!("1748736000,u,k,buy,,,,o,{value},{currency}")).collect();
    let decoded = push(&mut decoder, &rows.iter().map(String::as_bytes).collect::<Vec<_>>());
    let row = |row| ["value", "currency", "enriched.value_micros"].map(|path| cell(&decoded.rows, path, row));
    let detail = |row| cell(&decoded.dead_letters, "detail", row).unwrap();
    let reasons = letters(&decoded).into_iter().enumerate().map(|(row, (_, reason))| (reason, detail(row)));
    ((0..decoded.rows.num_rows()).map(row).collect(), reasons.collect())
}

#[test]
fn one_event_has_so_much_money_at_most_in_the_account_currency() {
    let (rows, letters) = interactions(&[
        ("9000000000000", ""),
        ("10000000000", ""),
        ("-10000000000", "USD"),
        ("10000000000.5", "USD"),
        // 1.2 million dollars.
        ("20000000000", "IDR"),
        ("-20000000000", "IDR"),
        ("200000000000000", "IDR"),
        ("99999999999999999999999999.999999999999", "IDR"),
        ("100000000000000000000000000", "IDR"),
    ]);
    let money: Vec<_> =
        rows.iter().map(|[value, _, micros]| (value.as_deref().unwrap(), micros.as_deref().unwrap())).collect();
    assert_eq!(
        money,
        [
            ("10000000000.000000000000", "10000000000000000"),
            ("-10000000000.000000000000", "-10000000000000000"),
            ("20000000000.000000000000", "1200000000000"),
            ("-20000000000.000000000000", "-1200000000000"),
        ]
    );
    assert!(letters.iter().all(|(reason, _)| reason == "out_of_range"), "{letters:?}");
    let details: Vec<&str> = letters.iter().map(|(_, detail)| detail.as_str()).collect();
    let bound = "is out of range: one event's money is at most 10,000,000,000 USD (10^16 micros), after conversion";
    assert_eq!(
        details,
        [
            format!("value: 9000000000000 USD {bound}"),
            format!("value: 10000000000.5 USD {bound}"),
            format!("value: 200000000000000 IDR {bound}"),
            format!("value: 99999999999999999999999999.999999999999 IDR {bound}"),
            // No type holds this number as it was sent.
            "value: \"100000000000000000000000000\" is out of range".to_owned(),
        ]
    );
}

#[test]
fn a_currency_matters_where_there_is_an_amount() {
    let (rows, letters) = interactions(&[("1", "XTS"), ("", "XTS"), ("1", "idr")]);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rows, [[None, text("XTS"), None], [text("1.000000000000"), text("idr"), text("60")]]);
    assert_eq!(letters, [("no_fx_rate".to_owned(), "XTS has no rate on 2025-06-01".to_owned())]);
}

#[test]
fn counts_are_bounded_as_they_are_sent() {
    let decoded = decode(EventKind::Interaction, &csv(), &[b"1748736000,u,k,buy,,,,o4,1,,1000000000001"]);
    assert_eq!(letters(&decoded)[0].1, "out_of_range");
    let detail = cell(&decoded.dead_letters, "detail", 0).unwrap();
    assert!(detail.contains("quantity: \"1000000000001\" is out of range"), "{detail}");
}
