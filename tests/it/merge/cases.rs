//! The rules of the contract's "Semantics", one by one, with answers computed by hand.
//!
//! Every case runs with its rows in the given order, and again in reverse order. In each order it
//! runs three times: with half of the rows and no batch run, with all rows of which half are
//! batched, and with all rows batched. The oracle must give the expected values too.

use adlake_domain::attribution::Model;
use adlake_domain::settings::{Display, Meaning, Scope, SpendSource};
use adlake_tests::history::{ReferenceData, Rows, START};
use adlake_tests::oracle::raw::{Device, Geo, Imp, RawBidRequest, RawImpression, RawInteraction, Site, Source};
use adlake_tests::oracle::value::{Row, Value};
use adlake_tests::oracle::{self, Input, VIEWS};

use super::EVERY_STEP;
use super::lake::TestLake;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A row of any kind.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a few rows in tests")]
enum Arriving {
    Impression(RawImpression),
    Interaction(RawInteraction),
    Bid(RawBidRequest),
}

fn text(value: &str) -> Option<String> {
    Some(value.to_string())
}

/// An impression that costs one unit. `id` may be empty, which means no id.
fn impression(id: &str, user: &str, campaign: &str, time: i64) -> RawImpression {
    RawImpression {
        impression_id: text(id),
        user_id: text(user),
        campaign_id: text(campaign),
        event_time: START + time,
        ad_creative_id: text("r1"),
        website: text("a.example"),
        cost_micros: Some(1_000_000),
        enriched_cost_micros: Some(1_000_000),
        ..RawImpression::default()
    }
}

fn interaction(kind: &str, id: &str, user: &str, campaign: &str, time: i64) -> RawInteraction {
    RawInteraction {
        event_id: text(id),
        user_id: text(user),
        campaign_id: text(campaign),
        event_time: START + time,
        conversion_type: text(kind),
        ..RawInteraction::default()
    }
}

fn click(id: &str, user: &str, campaign: &str, time: i64) -> RawInteraction {
    interaction("click", id, user, campaign, time)
}

fn purchase(id: &str, user: &str, campaign: &str, time: i64, value_micros: i64) -> RawInteraction {
    RawInteraction {
        value: Some(i128::from(value_micros) * 1_000_000),
        enriched_value_micros: Some(value_micros),
        ..interaction("purchase", id, user, campaign, time)
    }
}

impl From<RawImpression> for Arriving {
    fn from(row: RawImpression) -> Arriving {
        Arriving::Impression(row)
    }
}

impl From<RawInteraction> for Arriving {
    fn from(row: RawInteraction) -> Arriving {
        Arriving::Interaction(row)
    }
}

impl From<RawBidRequest> for Arriving {
    fn from(row: RawBidRequest) -> Arriving {
        Arriving::Bid(row)
    }
}

macro_rules! rows {
    ($($row:expr),+ $(,)?) => { vec![$(Arriving::from($row)),+] };
}

/// The rows as they are stored if they arrive in this order.
fn arrived(rows: &[Arriving], first_offset: i64) -> Rows {
    let mut all = Rows::default();
    for (offset, row) in (first_offset..).zip(rows) {
        let source = Source { topic: "topic".to_string(), partition: 0, offset };
        let ingested_at = START + 20 * DAY + offset;
        match row.clone() {
            Arriving::Impression(row) => all.impressions.push(RawImpression { source, ingested_at, ..row }),
            Arriving::Interaction(row) => all.interactions.push(RawInteraction { source, ingested_at, ..row }),
            Arriving::Bid(row) => all.bid_requests.push(RawBidRequest { source, ingested_at, ..row }),
        }
    }
    all
}

/// Columns of a view and their expected values, row by row. A text is written as it is, any other
/// value as [`Value`] writes it.
struct Expected {
    view: &'static str,
    columns: &'static [&'static str],
    rows: &'static [&'static [&'static str]],
}

impl Expected {
    fn check(&self, found: &[Row], whom: &str) {
        let show = |value: Option<&Value>| match value {
            None => "no such column".to_string(),
            Some(Value::Text(text)) => text.clone(),
            // Trailing zeros are removed, because the oracle and the view have different scales.
            Some(decimal @ Value::Decimal { .. }) => match decimal.to_string() {
                shown if shown.contains('.') => shown.trim_end_matches('0').trim_end_matches('.').to_string(),
                shown => shown,
            },
            Some(value) => value.to_string(),
        };
        let mut shown: Vec<Vec<String>> =
            found.iter().map(|row| self.columns.iter().map(|name| show(row.get(*name))).collect()).collect();
        let mut expected: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        shown.sort();
        expected.sort();
        assert_eq!(shown, expected, "{} of {whom}: {:?}", self.view, self.columns);
    }
}

macro_rules! expect {
    ($view:literal [$($column:literal),+] $([$($value:literal),+])*) => {
        Expected { view: $view, columns: &[$($column),+], rows: &[$(&[$($value),+]),*] }
    };
}

struct Case {
    rows: Vec<Arriving>,
    meaning: Meaning,
    display: Display,
    reference: ReferenceData,
}

/// A case with the default meaning. Campaigns c1 and c2 belong to advertiser v1, c3 to v2.
fn case(rows: Vec<Arriving>) -> Case {
    let meaning = Meaning::default();
    Case { rows, meaning, display: Display::default(), reference: ReferenceData::variant(0) }
}

impl Case {
    fn check(self, expected: &[Expected]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(self.told(&self.rows, expected, &VIEWS));
        let backwards: Vec<Arriving> = self.rows.iter().rev().cloned().collect();
        runtime.block_on(self.told(&backwards, expected, &EVERY_STEP));
    }

    async fn told(&self, rows: &[Arriving], expected: &[Expected], merged: &[&str]) {
        let (early, late) = rows.split_at(rows.len() / 2);
        let (early, late) = (arrived(early, 0), arrived(late, early.len() as i64));
        let mut lake = TestLake::create(&self.meaning).await.unwrap();
        lake.load(&self.reference).await.unwrap();
        lake.show(&self.display).await.unwrap();
        let mut so_far = early.clone();
        lake.append(&early).await.unwrap();
        self.check_all(&lake, &so_far, &[], &["campaign_hourly"], "half").await;
        lake.batch(false).await.unwrap();
        lake.append(&late).await.unwrap();
        so_far.extend(&late);
        self.check_all(&lake, &so_far, expected, merged, "merged").await;
        lake.batch(false).await.unwrap();
        self.check_all(&lake, &so_far, expected, &["campaign_hourly"], "batched").await;
    }

    async fn check_all(&self, lake: &TestLake, rows: &Rows, expected: &[Expected], views: &[&str], whom: &str) {
        let input = Input { display: self.display.clone(), ..super::input(rows, &self.reference, &self.meaning) };
        let oracle = oracle::views(&input);
        for expected in expected {
            expected.check(&oracle[expected.view], "the oracle");
        }
        super::check(lake, &input, views).await.unwrap_or_else(|error| panic!("{whom}: {error:?}"));
        for expected in expected {
            expected.check(&lake.answer(expected.view).await.unwrap().rows, whom);
        }
    }
}

mod bids;

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
fn clicks_join_the_latest_impression_of_their_window() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        impression("i2", "u1", "c2", HOUR),
        impression("i3", "u2", "unknown", 0),
        impression("i4", "u3", "c1", HOUR),
        impression("i5", "u3", "c1", HOUR),
        impression("i6", "u3", "c1", HOUR + 1),
        // The borders belong to the window.
        click("e1", "u1", "c1", DAY),
        click("e2", "u1", "c1", DAY + 1),
        // An unknown campaign of the impression matches any campaign of the click. An unknown
        // campaign of the click matches only unknown ones.
        click("e3", "u2", "c2", HOUR),
        click("e4", "u1", "unknown", HOUR),
        // Between equal times, the id decides.
        click("e5", "u3", "c1", HOUR),
        // An explicit impression of the same user within the window wins, whatever its campaign. An
        // impression of another user does not count, and the default rule applies.
        RawInteraction { impression_id: text("i1"), ..click("e6", "u1", "c2", 2 * HOUR) },
        RawInteraction { impression_id: text("i3"), ..click("e7", "u1", "c2", 2 * HOUR) },
        // A click of an unknown user joins nothing.
        click("e8", "unknown", "c1", HOUR),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "touchpoint_campaign_id", "seconds_between"]
            ["e1", "i1", "c1", "86400"]
            ["e3", "i3", "NULL", "3600"]
            ["e5", "i5", "c1", "0"]
            ["e6", "i1", "c1", "7200"]
            ["e7", "i2", "c2", "3600"]),
        expect!("campaign_kpis" ["campaign_id", "clicks", "joined_clicks", "seconds_to_click"]
            ["c1", "4", "2", "86400"]
            ["c2", "3", "3", "14400"]),
    ]);
}

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
fn views_count_where_there_is_no_click() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        impression("i2", "u1", "c2", HOUR),
        impression("i3", "u1", "c3", 2 * HOUR),
        purchase("p1", "u1", "c1", DAY, 1_000_000),
        // A named impression of the user within the window restricts the touchpoints to itself,
        // whatever its scope.
        RawInteraction { impression_id: text("i3"), ..purchase("p2", "u1", "c1", DAY, 1_000_000) },
        RawInteraction { impression_id: text("i1"), ..purchase("p3", "u1", "c1", DAY + 1, 1_000_000) },
        purchase("p4", "u1", "c1", DAY + HOUR + 1, 1_000_000),
        // A click comes before any view, however old it is.
        impression("j1", "u2", "c1", 6 * DAY),
        click("e1", "u2", "c1", 0),
        purchase("p5", "u2", "c1", 7 * DAY, 1_000_000),
        purchase("p6", "u2", "c1", 7 * DAY + 1, 1_000_000),
    ])
    .check(&[expect!("attributions" ["interaction_id", "touchpoint_id", "touchpoint_kind"]
        ["p1", "i1", "impression"]
        ["p1", "i2", "impression"]
        ["p2", "i3", "impression"]
        ["p3", "i2", "impression"]
        ["p5", "e1", "click"])]);
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
fn interactions_inherit_from_their_last_touch() {
    let seen = RawImpression {
        country: text("deu"),
        region: text("BE"),
        device_type: text("4"),
        ..impression("i1", "u1", "c1", 0)
    };
    case(rows![
        seen,
        RawInteraction { country: text("fr"), ..click("e1", "u1", "c1", HOUR) },
        RawInteraction { ad_creative_id: text("r7"), ..purchase("p1", "u1", "c1", 2 * HOUR, 1_000_000) },
        purchase("p2", "u2", "c1", 2 * HOUR, 1_000_000),
    ])
    .check(&[
        expect!("clicks" ["interaction_id", "website", "ad_creative_id", "country", "region", "device_type"]
            ["e1", "a.example", "r1", "FR", "NULL", "mobile"]),
        expect!("conversions" ["interaction_id", "website", "ad_creative_id", "country", "region", "device_type"]
            ["p1", "a.example", "r7", "FR", "NULL", "mobile"]
            ["p2", "NULL", "NULL", "NULL", "NULL", "NULL"]),
        // The credit has the creative and the website of the touchpoint, and the country of the
        // conversion.
        expect!("campaign_hourly" ["conversion_type", "ad_creative_id", "website", "country", "conversions",
                "attributed_conversions", "clicks", "impressions"]
            ["NULL", "r1", "a.example", "DE", "0", "0", "0", "1"]
            ["click", "r1", "a.example", "FR", "0", "0", "1", "0"]
            ["purchase", "r7", "a.example", "FR", "1", "0", "0", "0"]
            ["purchase", "r1", "a.example", "FR", "0", "1", "0", "0"]
            ["purchase", "NULL", "NULL", "NULL", "1", "0", "0", "0"]),
    ]);
}

#[test]
fn a_region_is_inherited_only_within_its_country() {
    let seen = |id: &str, user: &str, country: &str, region: &str| RawImpression {
        country: text(country),
        region: text(region),
        ..impression(id, user, "c1", 0)
    };
    let from = |country: &str, row: RawInteraction| RawInteraction { country: text(country), ..row };
    case(rows![
        seen("i1", "u1", "DE", "BE"),
        // A click from Portugal on an impression in Germany is not in Berlin. Neither is the
        // conversion that follows from it.
        from("PT", click("e1", "u1", "c1", HOUR)),
        purchase("p1", "u1", "c1", 2 * HOUR, 1_000_000),
        from("deu", purchase("p2", "u1", "c1", 2 * HOUR, 1_000_000)),
        // The same country, in another spelling.
        seen("i2", "u2", "DEU", "BE"),
        from("de", click("e2", "u2", "c1", HOUR)),
        from("DE", purchase("p3", "u2", "c1", 2 * HOUR, 1_000_000)),
        from("PT", purchase("p4", "u2", "c1", 2 * HOUR, 1_000_000)),
        purchase("p5", "u2", "c1", 2 * HOUR, 1_000_000),
        // A touch without a country gives its region only to an event that has no country either.
        seen("i3", "u3", "Narnia", "BE"),
        from("PT", click("e3", "u3", "c1", HOUR)),
        click("e4", "u3", "c1", HOUR),
    ])
    .check(&[
        expect!("clicks" ["interaction_id", "country", "region"]
            ["e1", "PT", "NULL"] ["e2", "DE", "BE"] ["e3", "PT", "NULL"] ["e4", "NULL", "BE"]),
        expect!("conversions" ["interaction_id", "country", "region"]
            ["p1", "PT", "NULL"] ["p2", "DE", "NULL"] ["p3", "DE", "BE"] ["p4", "PT", "NULL"] ["p5", "DE", "BE"]),
        // The credit is counted in the place of the conversion.
        expect!("geo_daily" ["campaign_id", "country", "region", "clicks", "conversions", "attributed_conversions"]
            ["c1", "DE", "BE", "1", "2", "2"]
            ["c1", "DE", "NULL", "0", "1", "1"]
            ["c1", "PT", "NULL", "2", "2", "2"]
            ["c1", "NULL", "BE", "1", "0", "0"]),
    ]);
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
fn times_between_are_exact() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        click("e1", "u1", "c1", 1),
        click("e2", "u1", "c1", 9 * 1_000_000 + 999_999),
        purchase("p1", "u1", "c1", 10 * 1_000_000 + 500_000, 1_000_000),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "last_touch", "seconds_between"]
            ["e1", "i1", "true", "0.000001"]
            ["e2", "i1", "true", "9.999999"]
            ["p1", "e1", "false", "10.499999"]
            ["p1", "e2", "true", "0.500001"]),
        expect!("campaign_kpis" ["seconds_to_click", "joined_clicks", "seconds_to_conversion", "joined_conversions"]
            ["10", "2", "0.500001", "1"]),
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
