//! Identity: which records are one event, and whose it is.

use super::*;

#[test]
fn copies_are_one_event_whatever_their_order() {
    let first = impression("i1", "u1", "c1", 2 * HOUR);
    let winner = RawImpression { enriched_cost_micros: Some(3_000_000), ..impression("i1", "u2", "c2", HOUR) };
    let nameless = impression("", "u3", "c1", HOUR);
    let another = RawImpression { city: text(""), ..nameless.clone() };
    case(rows![first.clone(), winner.clone(), first, winner, nameless.clone(), another, nameless]).check(&[
        expect!("impressions" ["user_id", "campaign_id", "cost", "event_time"]
            ["u2", "c2", "3", "2026-10-23T01:00:00.000000Z"]
            ["u3", "c1", "1", "2026-10-23T01:00:00.000000Z"]
            ["u3", "c1", "1", "2026-10-23T01:00:00.000000Z"]),
        expect!("campaign_kpis" ["campaign_id", "impressions", "spend", "reach"]
            ["c1", "2", "2", "1"] ["c2", "1", "3", "1"]),
    ]);
}

#[test]
fn orders_are_known_by_type_number_and_advertiser() {
    let order = |campaign: &str, kind: &str, id: &str, time: i64| RawInteraction {
        order_id: text("o1"),
        conversion_type: text(kind),
        ..purchase(id, "u1", campaign, time, 5_000_000)
    };
    case(rows![
        order("c1", "purchase", "e1", HOUR),
        // The same advertiser: it is a copy, whatever its event id is.
        order("c2", "purchase", "e2", 2 * HOUR),
        order("c3", "purchase", "e1", 3 * HOUR),
        order("c1", "signup", "e1", 4 * HOUR),
        // Without an advertiser, the campaign takes its place. Without both, nothing does.
        order("c9", "purchase", "e1", 5 * HOUR),
        order("c8", "purchase", "e1", 6 * HOUR),
        order("unknown", "purchase", "e1", 7 * HOUR),
        order("null", "purchase", "e3", 8 * HOUR),
    ])
    .check(&[expect!("conversions" ["interaction_id", "campaign_id", "conversion_type", "event_id"]
        ["o1", "c1", "purchase", "e1"]
        ["o1", "c3", "purchase", "e1"]
        ["o1", "c1", "signup", "e1"]
        ["o1", "c9", "purchase", "e1"]
        ["o1", "c8", "purchase", "e1"]
        ["o1", "NULL", "purchase", "e1"])]);
}

#[test]
fn users_and_campaigns_in_the_null_list_are_unknown() {
    case(rows![
        impression("i1", "unknown", "c1", 0),
        impression("i2", "u1", "null", 0),
        impression("i3", "u1", "c1", 0),
        click("e1", "", "c1", HOUR),
    ])
    .check(&[
        expect!("campaign_daily" ["campaign_id", "impressions", "clicks", "reach", "frequency"]
            ["c1", "2", "1", "1", "2.0"] ["NULL", "1", "0", "1", "1.0"]),
        expect!("campaign_kpis" ["campaign_id", "impressions", "ctr"] ["c1", "2", "0.5"]),
        expect!("attributions"["interaction_id"]),
    ]);
}

#[test]
fn a_late_copy_takes_an_event_away_from_its_user() {
    case(rows![
        impression("i1", "u1", "c1", 2 * HOUR),
        click("e1", "u1", "c1", 3 * HOUR),
        purchase("p1", "u1", "c1", 4 * HOUR, 1_000_000),
        // These come earlier and belong to another user, so u1 has neither an impression nor a
        // click any more.
        impression("i1", "u2", "c1", HOUR),
        click("e1", "u2", "c3", 2 * HOUR),
        purchase("p2", "u2", "c3", 5 * HOUR, 1_000_000),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "user_id"] ["p2", "e1", "u2"]),
        expect!("campaign_kpis" ["campaign_id", "impressions", "clicks", "conversions", "attributed_conversions"]
            ["c1", "1", "0", "1", "0"] ["c3", "0", "1", "1", "1"]),
    ]);
}
