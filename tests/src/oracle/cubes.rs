//! The cubes: every event and every credit becomes a list of what it adds, and these are summed by
//! group.

use std::collections::{BTreeMap, BTreeSet};

use adlake_domain::credit::Model;
use adlake_domain::settings::SpendSource;

use super::attribution::{Joined, On, Touch};
use super::events::{Common, Events, Interaction};
use super::value::{Row, Value};
use super::{Input, calendar};

/// The sums of every cube, with the number of fractional digits of their unit: 0 for counts, 6 for
/// money and seconds, 9 for credits and for spend (which may be a CPM divided by 1000).
const SUMS: [(&str, i8); 23] = [
    ("impressions", 0),
    ("measurable_impressions", 0),
    ("viewable_impressions", 0),
    ("clicks", 0),
    ("conversions", 0),
    ("refunds", 0),
    ("bid_requests", 0),
    ("bids", 0),
    ("wins", 0),
    ("spend", 9),
    ("revenue", 6),
    ("unpriced_events", 0),
    ("view_time_ms", 0),
    ("interaction_depth", 0),
    ("seconds_to_click", 6),
    ("joined_clicks", 0),
    ("seconds_to_conversion", 6),
    ("joined_conversions", 0),
    ("gross_impressions", 0),
    ("gross_clicks", 0),
    ("gross_conversions", 0),
    ("gross_spend", 9),
    ("gross_revenue", 6),
];

/// What one event, or the credit of one touchpoint, adds to the cubes.
pub(super) struct Fact {
    hour: i64,
    day: i64,
    /// Website, creative, device, country and region, by the name of the column.
    dimensions: BTreeMap<&'static str, Option<String>>,
    /// An impression's user.
    user: Option<String>,
    adds: BTreeMap<String, i128>,
}

/// All events, and all credits that are not zero.
pub(super) fn facts(events: &Events, joins: &[Joined], input: &Input) -> Vec<Fact> {
    let bids_pay = input.display.spend_source == SpendSource::Bids;
    let mut facts = Vec::new();
    for impression in &events.impressions {
        let row = &impression.row;
        let mut fact = fact(&impression.common, None, input);
        let cost = i128::from(row.enriched_cost_micros.unwrap_or(0)) * 1000;
        fact.add("gross_impressions", 1);
        if !bids_pay {
            fact.add("gross_spend", cost);
        }
        if impression.reason.is_some() {
            facts.push(fact);
            continue;
        }
        fact.user = impression.common.user.clone();
        fact.add("impressions", 1);
        fact.add("measurable_impressions", row.viewable.is_some().into());
        fact.add("viewable_impressions", (row.viewable == Some(true)).into());
        fact.add("view_time_ms", row.view_time_ms.unwrap_or(0).into());
        fact.add("interaction_depth", row.interaction_depth.unwrap_or(0).into());
        if !bids_pay {
            fact.add("spend", cost);
            fact.add("unpriced_events", row.enriched_cost_micros.is_none().into());
        }
        facts.push(fact);
    }
    for (place, interaction) in events.interactions.iter().enumerate() {
        let touches = &joins[place].touches;
        let seen = inherited(place, joins, events);
        let mut fact = fact(&seen, interaction.conversion_type.as_ref(), input);
        let micros = touches.last().map(|touch| micros_between(touch, interaction, events));
        let value = i128::from(interaction.value_micros.unwrap_or(0));
        // A refund of a conversion that does not count takes back nothing that was counted.
        let of_primary = || joins[place].order.is_none_or(|order| events.interactions[order].primary);
        let revenue = if interaction.primary || interaction.refund && of_primary() { value } else { 0 };
        fact.add("gross_clicks", interaction.click.into());
        fact.add("gross_conversions", interaction.primary.into());
        fact.add("gross_revenue", revenue);
        if interaction.reason.is_some() {
            facts.push(fact);
            continue;
        }
        fact.add("revenue", revenue);
        if interaction.click {
            fact.add("clicks", 1);
            fact.add("joined_clicks", micros.is_some().into());
            fact.add("seconds_to_click", micros.unwrap_or(0));
        } else if interaction.primary {
            fact.add("conversions", 1);
            fact.add("joined_conversions", micros.is_some().into());
            fact.add("seconds_to_conversion", micros.unwrap_or(0));
        } else if interaction.refund {
            fact.add("refunds", 1);
        }
        facts.push(fact);
        facts.extend(touches.iter().filter_map(|touch| credit(interaction, touch, &seen, events, input)));
    }
    for bid in &events.bids {
        let mut fact = fact(&bid.common, None, input);
        let won = bid.won == Some(true);
        fact.add("bid_requests", 1);
        fact.add("bids", (bid.common.campaign.is_some() || bid.has_bid_price).into());
        fact.add("wins", won.into());
        if bids_pay && won {
            // A CPM in micros is the price of one impression in billionths.
            fact.add("spend", bid.clearing_price_micros.unwrap_or(0).into());
            fact.add("gross_spend", bid.clearing_price_micros.unwrap_or(0).into());
            fact.add("unpriced_events", bid.clearing_price_micros.is_none().into());
        }
        facts.push(fact);
    }
    facts
}

/// Microseconds from the touchpoint to the interaction.
pub(super) fn micros_between(touch: &Touch, interaction: &Interaction, events: &Events) -> i128 {
    i128::from(interaction.common.time) - i128::from(touch.common(events).time)
}

/// An interaction's fields. What it lacks comes from its last touch, and what that lacks comes from
/// the touch's impression. What a refund lacks comes from its order, the campaign too.
pub(super) fn inherited(place: usize, joins: &[Joined], events: &Events) -> Common {
    let mut seen = events.interactions[place].common.clone();
    let is_invalid = events.interactions[place].reason.is_some();
    if let Some(order) = joins[place].order.filter(|_| !is_invalid) {
        let order = inherited(order, joins, events);
        fill(&mut seen, &order);
        seen.campaign = seen.campaign.or(order.campaign);
    } else if let Some(last) = joins[place].touches.last() {
        let mut touch = last.common(events).clone();
        if let Some(place) = last.impression {
            fill(&mut touch, &events.impressions[place].common);
        }
        fill(&mut seen, &touch);
    }
    seen
}

/// Fills the missing fields of an event from its source. A region means nothing without its
/// country: it is copied only if the event's country is unknown or the same.
fn fill(event: &mut Common, source: &Common) {
    let region_fits = match (&event.country, &source.country) {
        (None, _) => true,
        (Some(own), Some(other)) => own == other,
        (Some(_), None) => false,
    };
    if event.region.is_none() && region_fits {
        event.region.clone_from(&source.region);
    }
    for (own, other) in [
        (&mut event.website, &source.website),
        (&mut event.creative, &source.creative),
        (&mut event.country, &source.country),
        (&mut event.device, &source.device),
    ] {
        if own.is_none() {
            own.clone_from(other);
        }
    }
}

fn credit(interaction: &Interaction, touch: &Touch, seen: &Common, events: &Events, input: &Input) -> Option<Fact> {
    if touch.credits == [0; 5] && touch.revenues == [0; 5] {
        return None;
    }
    let touchpoint = touch.common(events);
    let impression = touch.impression.map(|place| &events.impressions[place].common);
    let through = |field: fn(&Common) -> &Option<String>| {
        let own = field(touchpoint).clone();
        own.or_else(|| impression.and_then(|impression| field(impression).clone())).or_else(|| field(seen).clone())
    };
    let counted = Common {
        time: seen.time,
        campaign: touchpoint.campaign.clone().or_else(|| seen.campaign.clone()),
        creative: through(|common| &common.creative),
        website: through(|common| &common.website),
        ..seen.clone()
    };
    let mut fact = fact(&counted, interaction.conversion_type.as_ref(), input);
    for (place, model) in Model::ALL.into_iter().enumerate() {
        fact.add(&format!("attributed_conversions_{}", model.name()), touch.credits[place]);
        fact.add(&format!("attributed_revenue_{}", model.name()), touch.revenues[place]);
        if model == input.display.default_model {
            fact.add("attributed_conversions", touch.credits[place]);
            fact.add("attributed_revenue", touch.revenues[place]);
        }
    }
    Some(fact)
}

/// The name of a touchpoint's kind.
pub(super) fn kind_of(on: On) -> &'static str {
    match on {
        On::Impression(_) => "impression",
        On::Click(_) => "click",
    }
}

fn fact(common: &Common, conversion_type: Option<&String>, input: &Input) -> Fact {
    let zone = input.meaning.report.time_zone;
    Fact {
        hour: calendar::hour(zone, common.time),
        day: calendar::day(zone, common.time),
        dimensions: BTreeMap::from([
            ("campaign_id", common.campaign.clone()),
            ("website", common.website.clone()),
            ("ad_creative_id", common.creative.clone()),
            ("device_type", common.device.clone()),
            ("country", common.country.clone()),
            ("region", common.region.clone()),
            ("conversion_type", conversion_type.cloned()),
        ]),
        user: None,
        adds: BTreeMap::new(),
    }
}

impl Fact {
    fn add(&mut self, sum: &str, amount: i128) {
        *self.adds.entry(sum.to_string()).or_default() += amount;
    }

    fn dimension(&self, name: &str) -> Value {
        self.dimensions[name].as_ref().into()
    }
}

/// The sums and users of the facts that share a key.
#[derive(Default)]
struct Group {
    key: Row,
    sums: BTreeMap<String, i128>,
    users: BTreeSet<String>,
}

impl Group {
    fn sum(&self, name: &str) -> i128 {
        self.sums.get(name).copied().unwrap_or(0)
    }
}

/// The grain of a cube's time column: hours, days, or all of time.
#[derive(Clone, Copy)]
enum Grain {
    Hour,
    Day,
    Ever,
}

fn group<'a>(facts: impl IntoIterator<Item = &'a Fact>, grain: Grain, dimensions: &[&str]) -> Vec<Group> {
    let mut groups: BTreeMap<Vec<String>, Group> = BTreeMap::new();
    for fact in facts {
        let mut key: Row = dimensions.iter().map(|name| ((*name).to_string(), fact.dimension(name))).collect();
        match grain {
            Grain::Hour => drop(key.insert("hour".to_string(), Value::Time(fact.hour))),
            Grain::Day => drop(key.insert("day".to_string(), Value::Time(fact.day))),
            Grain::Ever => {}
        }
        let place = key.values().map(ToString::to_string).collect();
        let group = groups.entry(place).or_default();
        group.key = key;
        group.users.extend(fact.user.clone());
        for (name, amount) in &fact.adds {
            *group.sums.entry(name.clone()).or_default() += amount;
        }
    }
    groups.into_values().collect()
}

fn sums_row(group: &Group) -> Row {
    let mut row = group.key.clone();
    let mut put = |name: &str, scale: i8| {
        let sum = group.sum(name);
        row.insert(name.to_string(), if scale == 0 { Value::Int(sum) } else { Value::decimal(sum, scale) });
    };
    for (name, scale) in SUMS {
        put(name, scale);
    }
    put("attributed_conversions", 9);
    put("attributed_revenue", 6);
    for model in Model::ALL {
        put(&format!("attributed_conversions_{}", model.name()), 9);
        put(&format!("attributed_revenue_{}", model.name()), 6);
    }
    row
}

fn ratio(numerator: f64, denominator: f64) -> Value {
    if denominator == 0.0 { Value::Null } else { Value::Float(numerator / denominator) }
}

fn add_ratios(row: &mut Row, group: &Group) {
    let count = |name: &str| group.sum(name) as f64;
    let spend = group.sum("spend") as f64 / 1e9;
    let revenue = group.sum("revenue") as f64 / 1e6;
    for (name, value) in [
        ("ctr", ratio(count("clicks"), count("impressions"))),
        ("cvr", ratio(count("conversions"), count("clicks"))),
        ("cpc", ratio(spend, count("clicks"))),
        ("cpm", ratio(1000.0 * spend, count("impressions"))),
        ("cpa", ratio(spend, count("conversions"))),
        ("roas", ratio(revenue, spend)),
        ("viewability", ratio(count("viewable_impressions"), count("measurable_impressions"))),
        ("win_rate", ratio(count("wins"), count("bids"))),
    ] {
        row.insert(name.to_string(), value);
    }
}

fn add_reach(row: &mut Row, group: &Group) {
    row.insert("reach".to_string(), Value::Int(group.users.len() as i128));
    row.insert("frequency".to_string(), ratio(group.sum("impressions") as f64, group.users.len() as f64));
}

pub(super) fn campaign_hourly(facts: &[Fact]) -> Vec<Row> {
    let dimensions =
        ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region", "conversion_type"];
    group(facts, Grain::Hour, &dimensions).iter().map(sums_row).collect()
}

pub(super) fn campaign_daily(facts: &[Fact]) -> Vec<Row> {
    with_reach(&group(facts, Grain::Day, &["campaign_id"]))
}

pub(super) fn campaign_kpis(facts: &[Fact]) -> Vec<Row> {
    let known = facts.iter().filter(|fact| fact.dimensions["campaign_id"].is_some());
    with_reach(&group(known, Grain::Ever, &["campaign_id"]))
}

fn with_reach(groups: &[Group]) -> Vec<Row> {
    groups
        .iter()
        .map(|group| {
            let mut row = sums_row(group);
            add_ratios(&mut row, group);
            add_reach(&mut row, group);
            row
        })
        .collect()
}

pub(super) fn geo_daily(facts: &[Fact]) -> Vec<Row> {
    with_ratios(&group(facts, Grain::Day, &["campaign_id", "country", "region"]))
}

pub(super) fn site_daily(facts: &[Fact]) -> Vec<Row> {
    with_ratios(&group(facts, Grain::Day, &["campaign_id", "website"]))
}

fn with_ratios(groups: &[Group]) -> Vec<Row> {
    groups
        .iter()
        .map(|group| {
            let mut row = sums_row(group);
            add_ratios(&mut row, group);
            row
        })
        .collect()
}

pub(super) fn funnel(facts: &[Fact]) -> Vec<Row> {
    let stages = [
        ("bids", "bids"),
        ("wins", "wins"),
        ("impressions", "impressions"),
        ("viewable", "viewable_impressions"),
        ("clicks", "clicks"),
        ("conversions", "conversions"),
    ];
    let mut rows = Vec::new();
    for group in group(facts, Grain::Ever, &["campaign_id"]) {
        let mut before = None;
        for (stage, sum) in stages {
            let events = group.sum(sum);
            let mut row = group.key.clone();
            row.insert("stage".to_string(), stage.into());
            row.insert("events".to_string(), Value::Int(events));
            let rate = before.map_or(Value::Null, |before: i128| ratio(events as f64, before as f64));
            row.insert("rate".to_string(), rate);
            rows.push(row);
            before = Some(events);
        }
    }
    rows
}
