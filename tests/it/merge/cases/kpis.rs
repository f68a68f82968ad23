//! KPIs: sums and ratios, by hour and by day.

use super::*;

#[test]
fn sums_do_not_wrap_at_64_bits() {
    // Each fits into 64 bits, but the sum of two does not.
    const HUGE: i64 = 9_000_000_000_000_000_000;
    let seen = |id: &str| RawImpression {
        enriched_cost_micros: Some(HUGE),
        view_time_ms: Some(HUGE),
        interaction_depth: Some(HUGE),
        ..impression(id, "u1", "c1", HOUR)
    };
    let won = |auction: &str| RawBidRequest {
        auction_id: text(auction),
        campaign_id: text("c1"),
        event_time: START + HOUR,
        clearing_price: Some(i128::from(HUGE) * 1_000_000),
        enriched_clearing_price_micros: Some(HUGE),
        won: Some(true),
        ..RawBidRequest::default()
    };
    let rows = rows![
        seen("i1"),
        won("a1"),
        purchase("p1", "u1", "c1", 2 * HOUR, HUGE),
        purchase("p3", "u2", "c1", 2 * HOUR, -HUGE),
        seen("i2"),
        won("a2"),
        purchase("p2", "u1", "c1", 2 * HOUR, HUGE),
        purchase("p4", "u2", "c2", 2 * HOUR, -HUGE),
        purchase("p5", "u2", "c2", 2 * HOUR, -HUGE),
    ];
    case(rows.clone()).check(&[
        expect!("campaign_kpis" ["campaign_id", "spend", "revenue", "view_time_ms", "interaction_depth",
                "attributed_revenue_last_touch", "attributed_revenue_linear", "roas"]
            ["c1", "18000000000000", "9000000000000", "18000000000000000000", "18000000000000000000",
                "18000000000000", "18000000000000", "0.5"]
            ["c2", "0", "-18000000000000", "0", "0", "0", "0", "NULL"]),
        expect!("geo_daily" ["campaign_id", "spend", "revenue"]
            ["c1", "18000000000000", "9000000000000"] ["c2", "0", "-18000000000000"]),
    ]);
    let mut by_bids = case(rows);
    by_bids.display.spend_source = SpendSource::Bids;
    by_bids.check(&[expect!("campaign_kpis" ["campaign_id", "spend"] ["c1", "18000000000"] ["c2", "0"])]);
}

#[test]
fn kpis_are_divided_last() {
    let viewed = |id: &str, viewable: Option<bool>| RawImpression { viewable, ..impression(id, "u1", "c1", HOUR) };
    let unpriced = RawImpression { cost_micros: None, enriched_cost_micros: None, ..viewed("i4", None) };
    case(rows![
        viewed("i1", Some(true)),
        viewed("i2", Some(true)),
        viewed("i3", Some(false)),
        unpriced,
        click("e1", "u1", "c1", 2 * HOUR),
        click("e2", "u1", "c1", 2 * HOUR),
        purchase("p1", "u1", "c1", 3 * HOUR, 12_000_000),
    ])
    .check(&[expect!("campaign_kpis" ["spend", "unpriced_events", "ctr", "cvr", "cpc", "cpm", "cpa", "roas",
                "viewability", "frequency"]
        ["3", "1", "0.5", "0.5", "1.5", "750.0", "3.0", "4.0", "0.6666666666666666", "4.0"])]);
}

#[test]
fn hours_and_days_are_those_of_the_reports_zone() {
    // In Berlin the clock goes back on 2026-10-25 at 01:00 UTC: the hour from 2 to 3 comes twice,
    // and the day has 25 hours.
    let mut case = case(rows![
        impression("i1", "u1", "c1", 2 * DAY - 2 * HOUR - 1),
        impression("i2", "u1", "c1", 2 * DAY - 2 * HOUR),
        impression("i3", "u1", "c1", 2 * DAY + 30 * MINUTE),
        impression("i4", "u1", "c1", 2 * DAY + 90 * MINUTE),
        impression("i5", "u1", "c1", 3 * DAY - HOUR - 1),
        impression("i6", "u1", "c1", 3 * DAY - HOUR),
    ]);
    case.meaning.report.time_zone = chrono_tz::Europe::Berlin;
    case.check(&[
        expect!("campaign_daily" ["day", "impressions"]
            ["2026-10-23T22:00:00.000000Z", "1"]
            ["2026-10-24T22:00:00.000000Z", "4"]
            ["2026-10-25T23:00:00.000000Z", "1"]),
        expect!("campaign_hourly" ["hour", "impressions"]
            ["2026-10-24T21:00:00.000000Z", "1"]
            ["2026-10-24T22:00:00.000000Z", "1"]
            ["2026-10-25T00:00:00.000000Z", "1"]
            ["2026-10-25T01:00:00.000000Z", "1"]
            ["2026-10-25T22:00:00.000000Z", "1"]
            ["2026-10-25T23:00:00.000000Z", "1"]),
    ]);
}
