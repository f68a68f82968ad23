//! Invalid traffic: the rules, their order, and what counts net and gross.

use super::*;

#[test]
fn robots_and_sizes_of_zero_count_gross_alone() {
    let robot = |row: RawImpression| RawImpression { user_agent: text("Googlebot/2.1"), ..row };
    let by_robot = |row: RawInteraction| RawInteraction { user_agent: text("x crawler"), ..row };
    case(rows![
        impression("i1", "u1", "c1", 0),
        robot(impression("i2", "u1", "c1", MINUTE)),
        RawImpression { height: Some(0), ..impression("i3", "u1", "c1", 2 * MINUTE) },
        RawImpression { user_agent: text("CUBOT NOTE"), width: Some(1), ..impression("i4", "u2", "c1", 0) },
        // The first reason is told.
        robot(RawImpression { width: Some(0), ..impression("i5", "u3", "", 0) }),
        click("e1", "u1", "c1", 3 * MINUTE),
        by_robot(click("e2", "u1", "c1", 3 * MINUTE)),
        purchase("p1", "u1", "c1", HOUR, 10_000_000),
        by_robot(purchase("p2", "u1", "c1", HOUR, 5_000_000)),
    ])
    .check(&[
        expect!("campaign_kpis" ["campaign_id", "impressions", "gross_impressions", "spend", "gross_spend", "reach",
                    "clicks", "gross_clicks", "conversions", "gross_conversions", "revenue", "gross_revenue"]
            ["c1", "2", "4", "2", "4", "2", "1", "2", "1", "2", "10", "15"]),
        expect!("invalid_traffic" ["campaign_id", "kind", "reason", "events", "cost"]
            ["c1", "impression", "bot", "1", "1"]
            ["NULL", "impression", "bot", "1", "1"]
            ["c1", "impression", "zero_size", "1", "1"]
            ["c1", "click", "bot", "1", "0"]
            ["c1", "conversion", "bot", "1", "0"]),
        expect!("attributions" ["interaction_id", "touchpoint_id"] ["e1", "i1"] ["p1", "e1"]),
        expect!("impressions"["impression_id"]["i1"]["i4"]),
        expect!("clicks"["interaction_id"]["e1"]),
        expect!("conversions"["interaction_id"]["p1"]),
    ]);
}

#[test]
fn rates_are_of_a_user_or_an_address_on_a_utc_day() {
    let from = |ip: &str, row: RawImpression| RawImpression { ip: text(ip), ..row };
    let mut case = case(rows![
        // Three on a day are too many, two are not. Those of an unknown user are of nobody.
        impression("i1", "u1", "c1", 0),
        RawImpression { width: Some(0), ..impression("i2", "u1", "c1", HOUR) },
        impression("i3", "u1", "c2", 23 * HOUR),
        impression("i4", "u1", "c1", 24 * HOUR),
        impression("i5", "u1", "c1", 25 * HOUR),
        impression("i6", "", "c1", 0),
        impression("i7", "", "c1", 0),
        impression("i8", "", "c1", 0),
        // One address, written in two ways, and two texts that are none.
        from("192.0.2.7", impression("j1", "u2", "c1", 0)),
        from("::ffff:192.0.2.7", impression("j2", "u3", "c1", 0)),
        from("192.0.2.7", impression("j3", "u3", "c1", 24 * HOUR)),
        from("192.0.2.07", impression("j4", "u4", "c1", 0)),
        // The rates are by kind.
        click("e1", "u1", "c1", HOUR),
        click("e2", "u1", "c1", HOUR),
        purchase("p1", "u1", "c1", 2 * HOUR, 1_000_000),
    ]);
    case.meaning.invalid.rate_user.impressions = 2;
    case.meaning.invalid.rate_user.clicks = 1;
    case.meaning.invalid.rate_address = 1;
    case.check(&[
        expect!("impressions"["impression_id"]["i4"]["i5"]["i6"]["i7"]["i8"]["j3"]["j4"]),
        expect!("clicks"["interaction_id"]),
        expect!("attributions" ["interaction_id", "touchpoint_id"]),
        expect!("conversions"["interaction_id"]["p1"]),
        expect!("invalid_traffic" ["campaign_id", "kind", "reason", "events", "cost"]
            ["c1", "impression", "rate_user", "1", "1"]
            ["c2", "impression", "rate_user", "1", "1"]
            ["c1", "impression", "zero_size", "1", "1"]
            ["c1", "impression", "rate_address", "2", "2"]
            ["c1", "click", "rate_user", "2", "0"]),
    ]);
}

#[test]
fn a_click_that_comes_too_soon_keeps_what_its_impression_tells() {
    const SECOND: i64 = MINUTE / 60;
    let mut case = case(rows![
        impression("i1", "u1", "c1", 0),
        RawInteraction { impression_id: text("i1"), ..click("e1", "u1", "c2", 2 * SECOND - 1) },
        click("e2", "u1", "c1", 2 * SECOND),
        // It has no impression.
        click("e3", "u2", "c1", SECOND),
        purchase("p1", "u1", "c1", HOUR, 1_000_000),
    ]);
    case.meaning.invalid.fast_click = std::time::Duration::from_secs(2);
    case.check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id"] ["e2", "i1"] ["p1", "e2"]),
        expect!("site_daily" ["campaign_id", "website", "clicks", "gross_clicks", "joined_clicks"]
            ["c1", "a.example", "1", "1", "1"]
            ["c2", "a.example", "0", "1", "0"]
            ["c1", "NULL", "1", "1", "0"]),
        expect!("invalid_traffic" ["campaign_id", "kind", "reason", "events"] ["c2", "click", "fast_click", "1"]),
    ]);
}

#[test]
fn a_refund_of_an_invalid_order_is_invalid() {
    let with_order = |row: RawInteraction| RawInteraction { order_id: text("o1"), ..row };
    let by_robot = |row: RawInteraction| RawInteraction { user_agent: text("spider"), ..row };
    let refund = |id: &str, time: i64, micros: i64| {
        let row = with_order(purchase(id, "u1", "", time, micros));
        RawInteraction { conversion_type: text("refund"), ..row }
    };
    case(rows![
        click("e1", "u1", "c1", 0),
        with_order(purchase("p1", "u1", "c1", HOUR, 10_000_000)),
        refund("r1", 2 * HOUR, 1_000_000),
        by_robot(with_order(RawInteraction {
            campaign_id: text("c3"),
            ..purchase("p2", "u1", "", 3 * HOUR, 7_000_000)
        })),
        // Its order is the latest one, which is invalid.
        refund("r2", 4 * HOUR, 2_000_000),
        by_robot(refund("r3", 5 * HOUR, 3_000_000)),
        // This one is invalid itself, and has an order that is not.
        by_robot(refund("r4", 2 * HOUR, 500_000)),
    ])
    .check(&[
        expect!("campaign_daily" ["campaign_id", "conversions", "gross_conversions", "refunds", "revenue",
                    "gross_revenue", "attributed_revenue_linear"]
            ["c1", "1", "1", "1", "9", "9", "9"]
            ["c3", "0", "1", "0", "0", "7", "0"]
            ["NULL", "0", "0", "0", "0", "-5.5", "0"]),
        expect!("invalid_traffic" ["campaign_id", "kind", "reason", "events"]
            ["c3", "conversion", "bot", "1"]
            ["NULL", "refund", "bot", "2"]
            ["NULL", "refund", "order_invalid", "1"]),
    ]);
}
