//! Refunds: their identity, their orders, what they take from them, and the sums.

use adlake_tests::oracle::raw::Enriched;

use super::*;

fn refund(id: &str, order: &str, campaign: &str, time: i64, value_micros: i64) -> RawInteraction {
    let value = Some(i128::from(value_micros) * 1_000_000);
    RawInteraction {
        value,
        enriched_value_micros: Some(value_micros),
        order_id: text(order),
        ..interaction("refund", id, "u1", campaign, time)
    }
}

fn order(id: &str, order: &str, campaign: &str, time: i64, value_micros: i64) -> RawInteraction {
    RawInteraction { order_id: text(order), ..purchase(id, "u1", campaign, time, value_micros) }
}

#[test]
fn a_refund_takes_back_revenue_as_its_order_was_credited() {
    case(rows![
        refund("r1", "o1", "c1", 5 * HOUR, 4_000_000),
        click("e1", "u1", "c1", HOUR),
        click("e2", "u1", "c1", 2 * HOUR),
        // Its sign does not matter. It lacks its campaign.
        refund("r2", "o1", "", 6 * HOUR, -1_000_001),
        order("p1", "o1", "c1", 3 * HOUR, 10_000_000),
        // An order that nobody knows, and none.
        refund("r3", "o9", "c2", 6 * HOUR, 500_000),
        refund("r4", "", "c2", 6 * HOUR, 250_000),
        // It was before its order.
        refund("r5", "o1", "c2", 2 * HOUR, 125_000),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "interaction_type", "interaction_campaign_id", "touchpoint_id",
                    "last_touch", "credit_linear", "revenue_linear", "seconds_between"]
            ["o1", "conversion", "c1", "e1", "false", "0.5", "5", "7200"]
            ["o1", "conversion", "c1", "e2", "true", "0.5", "5", "3600"]
            ["r1", "refund", "c1", "e1", "false", "0", "-2", "14400"]
            ["r1", "refund", "c1", "e2", "true", "0", "-2", "10800"]
            ["r2", "refund", "NULL", "e1", "false", "0", "-0.500001", "18000"]
            ["r2", "refund", "NULL", "e2", "true", "0", "-0.5", "14400"]),
        expect!("conversions" ["interaction_id", "campaign_id", "is_refund", "value"]
            ["o1", "c1", "false", "10"]
            ["r1", "c1", "true", "-4"]
            ["r2", "c1", "true", "-1.000001"]
            ["r3", "c2", "true", "-0.5"]
            ["r4", "c2", "true", "-0.25"]
            ["r5", "c2", "true", "-0.125"]),
        expect!("campaign_kpis" ["campaign_id", "clicks", "conversions", "refunds", "revenue", "joined_conversions",
                    "attributed_conversions_linear", "attributed_revenue_linear"]
            ["c1", "2", "1", "2", "4.999999", "1", "1", "4.999999"]
            ["c2", "0", "0", "3", "-0.875", "0", "0", "0"]),
        expect!("funnel" ["campaign_id", "stage", "events"]
            ["c1", "bids", "0"] ["c1", "wins", "0"] ["c1", "impressions", "0"] ["c1", "viewable", "0"]
            ["c1", "clicks", "2"] ["c1", "conversions", "1"]
            ["c2", "bids", "0"] ["c2", "wins", "0"] ["c2", "impressions", "0"] ["c2", "viewable", "0"]
            ["c2", "clicks", "0"] ["c2", "conversions", "0"]),
    ]);
}

#[test]
fn the_latest_order_counts_and_one_that_is_not_primary_takes_back_nothing() {
    let mut case = case(rows![
        click("e1", "u1", "c1", 0),
        order("p1", "o1", "c1", HOUR, 10_000_000),
        RawInteraction { conversion_type: text("signup"), ..order("p2", "o1", "c1", 2 * HOUR, 8_000_000) },
        refund("r1", "o1", "c1", 90 * MINUTE, 1_000_000),
        refund("r2", "o1", "c1", 3 * HOUR, 2_000_000),
        // c3 is another advertiser's. c2 is the same advertiser's.
        refund("r3", "o1", "c3", 3 * HOUR, 4_000_000),
        refund("r4", "o1", "c2", 90 * MINUTE, 100_000),
        // Parts with the same id are one. In the window, and after it.
        refund("r1", "o1", "c1", 91 * MINUTE, 1_000_000),
        refund("r5", "o1", "c1", HOUR + 30 * DAY, 200_000),
    ]);
    case.meaning.conversions.primary_types = ["purchase".to_string()].into();
    case.meaning.conversions.refund_window = std::time::Duration::from_secs(7200);
    case.check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "credit_linear", "revenue_linear"]
            ["o1", "e1", "1", "10"]
            ["o1", "e1", "0", "0"]
            ["r1", "e1", "0", "-1"]
            ["r2", "e1", "0", "0"]
            ["r4", "e1", "0", "-0.1"]),
        expect!("campaign_kpis" ["campaign_id", "conversions", "refunds", "revenue", "attributed_revenue_linear"]
            ["c1", "1", "3", "8.8", "8.9"] ["c2", "0", "1", "-0.1", "0"] ["c3", "0", "1", "-4", "0"]),
    ]);
}

#[test]
fn a_refund_takes_what_it_lacks_from_its_order() {
    let from = |row: RawInteraction, country: &str, region: &str| {
        let enriched = Enriched { region: text(region), ..Enriched::default() };
        RawInteraction { country: text(country), enriched, ..row }
    };
    case(rows![
        RawImpression { region: text("BE"), ..impression("i1", "u1", "c1", 0) },
        from(order("p1", "o1", "c1", HOUR, 1_000_000), "DE", "HH"),
        from(refund("r1", "o1", "", 2 * HOUR, 1), "", ""),
        from(refund("r2", "o1", "", 2 * HOUR, 1), "FR", ""),
        from(refund("r3", "o1", "", 2 * HOUR, 1), "DE", "BY"),
    ])
    .check(&[
        expect!("conversions" ["interaction_id", "campaign_id", "website", "ad_creative_id", "country", "region"]
        ["o1", "c1", "a.example", "r1", "DE", "HH"]
        ["r1", "c1", "a.example", "r1", "DE", "HH"]
        ["r2", "c1", "a.example", "r1", "FR", "NULL"]
        ["r3", "c1", "a.example", "r1", "DE", "BY"]),
    ]);
}
