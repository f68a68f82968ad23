//! The view `user_segments`: what each user did, and the first rule that fits.

use std::collections::BTreeMap;

use super::Input;
use super::attribution::Joined;
use super::events::Events;
use super::value::{Row, Value};

const DAY: i64 = 86_400_000_000;

#[derive(Debug, Default)]
struct User {
    times: Vec<i64>,
    impressions: i128,
    clicks: i128,
    conversions: i128,
    refunds: i128,
    micros: i128,
}

pub(super) fn user_segments(events: &Events, joins: &[Joined], input: &Input) -> Vec<Row> {
    let mut users: BTreeMap<&String, User> = BTreeMap::new();
    for impression in events.impressions.iter().filter(|impression| impression.reason.is_none()) {
        let Some(id) = &impression.common.user else { continue };
        let user = users.entry(id).or_default();
        user.times.push(impression.common.time);
        user.impressions += 1;
    }
    for (interaction, joined) in events.interactions.iter().zip(joins) {
        let (Some(id), None) = (&interaction.common.user, interaction.reason) else { continue };
        let user = users.entry(id).or_default();
        user.times.push(interaction.common.time);
        user.clicks += i128::from(interaction.click);
        user.conversions += i128::from(interaction.primary);
        user.refunds += i128::from(interaction.refund);
        let is_taken_back = joined.order.is_none_or(|order| events.interactions[order].primary);
        if interaction.primary || interaction.refund && is_taken_back {
            user.micros += i128::from(interaction.value_micros.unwrap_or(0));
        }
    }
    let newest = users.values().flat_map(|user| &user.times).max().copied().unwrap_or(0);
    users.iter().map(|(id, user)| row(id, user, newest, input)).collect()
}

fn row(id: &str, user: &User, newest: i64, input: &Input) -> Row {
    let (first, last) = (user.times.iter().min().copied(), user.times.iter().max().copied());
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
    let days = i128::from((newest - last) / DAY);
    let engagement = user.clicks + user.conversions;
    let within = |number: i128, min: Option<i64>, max: Option<i64>, unit: i128| {
        min.is_none_or(|min| number >= i128::from(min) * unit) && max.is_none_or(|max| number <= i128::from(max) * unit)
    };
    let fitting = input.display.segments.rule.iter().find(|rule| {
        within(days, rule.recency_days_min, rule.recency_days_max, 1)
            && within(user.impressions, rule.frequency_min, rule.frequency_max, 1)
            && within(user.micros, rule.value_min, rule.value_max, 1_000_000)
            && within(engagement, rule.engagement_min, rule.engagement_max, 1)
            && within(user.conversions, rule.conversions_min, rule.conversions_max, 1)
    });
    let segment = fitting.map_or("other", |rule| &rule.name);
    let values = [
        ("user_id", id.into()),
        ("segment", segment.into()),
        ("recency_days", Value::Int(days)),
        ("frequency", Value::Int(user.impressions)),
        ("value", Value::decimal(user.micros, 6)),
        ("engagement", Value::Int(engagement)),
        ("clicks", Value::Int(user.clicks)),
        ("conversions", Value::Int(user.conversions)),
        ("refunds", Value::Int(user.refunds)),
        ("first_seen", Value::Time(first)),
        ("last_seen", Value::Time(last)),
    ];
    values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
