//! Credits: the models, the scope, and which touchpoints and conversions count.

use adlake_domain::credit::Model;
use adlake_domain::settings::Scope;

use super::*;

#[test]
fn credits_follow_the_models() {
    case(rows![
        click("e1", "u1", "c1", 0),
        click("e2", "u1", "c2", 5 * DAY),
        click("e3", "u1", "c3", 6 * DAY),
        // Seven days before the last touch, it has half its weight.
        click("e4", "u1", "c1", 7 * DAY),
        purchase("p1", "u1", "c1", 7 * DAY, 10_000_001),
        // A refund: negative revenue is rounded down.
        purchase("p2", "u2", "c3", 2 * HOUR, -10),
        click("f1", "u2", "c3", HOUR),
        click("f2", "u2", "c3", HOUR),
        click("f3", "u2", "c3", HOUR),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "credit_last_touch", "credit_first_touch",
                "credit_linear", "credit_position_based", "revenue_linear"]
            ["p1", "e1", "0", "1", "0.333333333", "0.4", "3.333333"]
            ["p1", "e2", "0", "0", "0.333333333", "0.2", "3.333333"]
            ["p1", "e4", "1", "0", "0.333333334", "0.4", "3.333335"]
            ["p2", "f1", "0", "1", "0.333333333", "0.4", "-0.000004"]
            ["p2", "f2", "0", "0", "0.333333333", "0.2", "-0.000004"]
            ["p2", "f3", "1", "0", "0.333333334", "0.4", "-0.000002"]),
        expect!("campaign_kpis" ["campaign_id", "conversions", "revenue", "attributed_conversions",
                "attributed_conversions_linear", "attributed_revenue", "seconds_to_conversion"]
            ["c1", "1", "10.000001", "1", "0.666666667", "10.000001", "0"]
            ["c2", "0", "0", "0", "0.333333333", "0", "0"]
            ["c3", "1", "-0.00001", "1", "1", "-0.00001", "3600"]),
    ]);
}

#[test]
fn time_decay_halves_with_every_half_life() {
    let mut case = case(rows![
        click("e1", "u1", "c1", 0),
        click("e2", "u1", "c1", 7 * DAY),
        purchase("p1", "u1", "c1", 7 * DAY, 3_000_000),
    ]);
    case.display.default_model = Model::TimeDecay;
    case.check(&[expect!("attributions" ["touchpoint_id", "credit_time_decay", "revenue_time_decay"]
        ["e1", "0.333333333", "0.999999"]
        ["e2", "0.666666667", "2.000001"])]);
}

#[test]
fn scope_is_the_advertiser_else_the_campaign() {
    let rows = rows![
        click("e1", "u1", "c1", 0),
        click("e2", "u1", "c3", 0),
        click("e3", "u1", "c9", 0),
        click("e4", "u1", "unknown", 0),
        purchase("p1", "u1", "c2", HOUR, 1_000_000),
        purchase("p2", "u1", "c9", HOUR, 1_000_000),
        purchase("p3", "u1", "unknown", HOUR, 1_000_000),
    ];
    case(rows.clone()).check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id"]
            ["p1", "e1"] ["p1", "e4"] ["p2", "e3"] ["p2", "e4"] ["p3", "e4"]),
        // The credit of an unknown campaign goes to the campaign of the conversion.
        expect!("campaign_kpis" ["campaign_id", "attributed_conversions_last_touch",
                    "attributed_conversions_first_touch"]
            ["c1", "0", "1"] ["c2", "1", "0"] ["c3", "0", "0"] ["c9", "1", "1"]),
    ]);
    let mut by_campaign = case(rows.clone());
    by_campaign.meaning.attribution.scope = Scope::Campaign;
    by_campaign.check(&[expect!("attributions" ["interaction_id", "touchpoint_id"]
        ["p1", "e4"] ["p2", "e3"] ["p2", "e4"] ["p3", "e4"])]);
    let mut by_advertiser = case(rows);
    by_advertiser.meaning.attribution.scope = Scope::Advertiser;
    by_advertiser.check(&[expect!("attributions" ["interaction_id", "touchpoint_id"]
        ["p1", "e1"] ["p1", "e4"] ["p2", "e4"] ["p3", "e4"])]);
}

#[test]
fn in_the_scope_account_every_touchpoint_of_the_user_counts() {
    let mut case = case(rows![
        // The click has no campaign, although the impression that it joined has one. The credit
        // goes to the campaign of the conversion.
        impression("i1", "u1", "c1", 0),
        RawInteraction { impression_id: text("i1"), ..click("e1", "u1", "unknown", HOUR) },
        click("e2", "u1", "c3", 2 * HOUR),
        purchase("p1", "u1", "unknown", 3 * HOUR, 1_000_000),
        purchase("p2", "u1", "c2", 3 * HOUR, 2_000_000),
        // The same holds for views. Clicks are still joined by campaign.
        impression("i2", "u2", "c3", 0),
        purchase("p3", "u2", "unknown", HOUR, 4_000_000),
        impression("i3", "u3", "c1", 0),
        click("e3", "u3", "c2", HOUR),
        // The order's advertiser is still part of its identity.
        RawInteraction { order_id: text("o1"), ..purchase("p4", "u4", "c1", HOUR, 1_000_000) },
        RawInteraction { order_id: text("o1"), ..purchase("p5", "u4", "c2", 2 * HOUR, 1_000_000) },
        RawInteraction { order_id: text("o1"), ..purchase("p6", "u4", "c3", 2 * HOUR, 1_000_000) },
    ]);
    case.meaning.attribution.scope = Scope::Account;
    case.check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "last_touch", "credit_linear"]
            ["e1", "i1", "true", "0"]
            ["p1", "e1", "false", "0.5"] ["p1", "e2", "true", "0.5"]
            ["p2", "e1", "false", "0.5"] ["p2", "e2", "true", "0.5"]
            ["p3", "i2", "true", "1"]),
        expect!("campaign_daily" ["campaign_id", "conversions", "attributed_conversions_linear",
                    "attributed_revenue_linear"]
            ["c1", "1", "0", "0"] ["c2", "1", "0.5", "1"] ["c3", "1", "2", "5.5"] ["NULL", "2", "0.5", "0.5"]),
    ]);
}

#[test]
fn types_that_are_not_primary_have_rows_without_credit() {
    let mut case = case(rows![
        RawInteraction { conversion_type: text(" CLICK"), ..click("e1", "u1", "c1", 0) },
        interaction("signup", "s1", "u1", "c1", HOUR),
        purchase("p1", "u1", "c1", HOUR, 2_000_000),
    ]);
    case.meaning.conversions.primary_types = ["Purchase".to_string()].into();
    case.check(&[
        expect!("attributions" ["interaction_id", "interaction_type", "touchpoint_id", "credit_linear",
                    "revenue_linear", "seconds_between"]
            ["s1", "conversion", "e1", "0", "0", "3600"]
            ["p1", "conversion", "e1", "1", "2", "3600"]),
        expect!("campaign_kpis" ["clicks", "conversions", "joined_conversions", "revenue", "cvr", "roas"]
            ["1", "1", "1", "2", "1.0", "NULL"]),
    ]);
}

#[test]
fn only_the_latest_touchpoints_count() {
    let mut rows: Vec<Arriving> = (0..102).map(|n| click(&format!("e{n:03}"), "u1", "c1", n * MINUTE).into()).collect();
    rows.push(purchase("p1", "u1", "c1", 3 * HOUR, 1_000_000).into());
    let linear = RawInteraction { campaign_id: text("c2"), ..purchase("p2", "u1", "c1", 3 * HOUR, 100) };
    rows.push(linear.into());
    case(rows).check(&[expect!("campaign_kpis" ["campaign_id", "clicks", "conversions",
                "attributed_conversions_linear", "attributed_revenue_linear"]
        ["c1", "102", "1", "2", "1.0001"] ["c2", "0", "1", "0", "0"])]);
}
