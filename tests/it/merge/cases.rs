//! The rules of the contract's "Semantics", one by one, with answers computed by hand.
//!
//! Every case runs with its rows in the given order, and again in reverse order. In each order it
//! runs three times: with half of the rows and no batch run, with all rows of which half are
//! batched, and with all rows batched. The oracle must give the expected values too.

use adlake_domain::settings::{Display, Meaning, SpendSource};
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
mod correlation;
mod credits;
mod identity;
mod invalid;
mod kpis;
mod refunds;
mod segments;
