//! The views with one row per event, and `attributions`.

use adlake_domain::credit::Model;
use adlake_domain::settings::SpendSource;

use super::attribution::Joined;
use super::cubes::{inherited, kind_of, micros_between};
use super::events::{Common, Events, Interaction};
use super::value::{Row, Value};
use super::{Input, calendar, invalid};

fn row<const N: usize>(fields: [(&str, Value); N]) -> Row {
    fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn money(micros: Option<i64>) -> Value {
    micros.map_or(Value::Null, |micros| Value::decimal(micros.into(), 6))
}

fn add_common(row: &mut Row, common: &Common) {
    row.insert("event_time".to_string(), Value::Time(common.time));
    for (name, value) in [
        ("user_id", &common.user),
        ("campaign_id", &common.campaign),
        ("advertiser_id", &common.advertiser),
        ("ad_creative_id", &common.creative),
        ("website", &common.website),
        ("country", &common.country),
        ("region", &common.region),
        ("device_type", &common.device),
    ] {
        row.insert(name.to_string(), value.as_ref().into());
    }
}

pub(super) fn impressions(events: &Events) -> Vec<Row> {
    events
        .impressions
        .iter()
        .filter(|impression| impression.reason.is_none())
        .map(|impression| {
            let raw = &impression.row;
            let mut row = row([
                ("impression_id", Value::Text(impression.common.id.clone())),
                ("ad_group_id", impression.ad_group.as_ref().into()),
                ("placement_id", impression.placement.as_ref().into()),
                ("auction_id", impression.auction.as_ref().into()),
                ("city", raw.city.as_ref().into()),
                ("os", impression.os.as_ref().into()),
                ("browser", impression.browser.as_ref().into()),
                ("content_category", raw.content_category.as_ref().into()),
                ("cost", money(raw.enriched_cost_micros)),
                ("currency", impression.currency.as_ref().into()),
                ("width", raw.width.map(i64::from).into()),
                ("height", raw.height.map(i64::from).into()),
                ("viewable", raw.viewable.into()),
                ("view_time_ms", raw.view_time_ms.into()),
                ("interaction_depth", raw.interaction_depth.into()),
            ]);
            add_common(&mut row, &impression.common);
            row
        })
        .collect()
}

/// The rows of `clicks`, or of `conversions`, which has the refunds too.
pub(super) fn interactions(events: &Events, joins: &[Joined], clicks: bool) -> Vec<Row> {
    let is_shown = |event: &Interaction| event.click == clicks && event.reason.is_none();
    let of_kind = events.interactions.iter().enumerate().filter(|(_, interaction)| is_shown(interaction));
    of_kind
        .map(|(place, interaction)| {
            let raw = &interaction.row;
            let mut row = row([
                ("interaction_id", Value::Text(interaction.common.id.clone())),
                ("conversion_type", interaction.conversion_type.as_ref().into()),
                ("event_id", interaction.event_id.as_ref().into()),
                ("order_id", interaction.order_id.as_ref().into()),
                ("impression_id", interaction.impression_id.as_ref().into()),
                ("os", raw.enriched.os.as_ref().into()),
                ("browser", raw.enriched.browser.as_ref().into()),
                ("value", money(interaction.value_micros)),
                ("currency", interaction.currency.as_ref().into()),
                ("quantity", raw.quantity.into()),
            ]);
            if !clicks {
                row.insert("is_refund".to_string(), Value::Bool(interaction.refund));
            }
            add_common(&mut row, &inherited(place, joins, events));
            row
        })
        .collect()
}

pub(super) fn bid_requests(events: &Events) -> Vec<Row> {
    events
        .bids
        .iter()
        .map(|bid| {
            let mut row = row([
                ("auction_id", bid.auction.as_ref().into()),
                ("imp_id", Value::Text(bid.imp.clone())),
                ("bid_price", money(bid.bid_price_micros)),
                ("clearing_price", money(bid.clearing_price_micros)),
                ("won", bid.won.into()),
            ]);
            add_common(&mut row, &bid.common);
            row
        })
        .collect()
}

pub(super) fn attributions(events: &Events, joins: &[Joined]) -> Vec<Row> {
    let mut rows = Vec::new();
    let joined = events.interactions.iter().zip(joins);
    for (interaction, Joined { touches, .. }) in joined.filter(|(interaction, _)| interaction.reason.is_none()) {
        for (place, touch) in touches.iter().enumerate() {
            let touchpoint = touch.common(events);
            let kind = invalid::kind_of(interaction);
            let mut row = row([
                ("user_id", interaction.common.user.as_ref().into()),
                ("interaction_id", Value::Text(interaction.common.id.clone())),
                ("interaction_type", kind.into()),
                ("interaction_time", Value::Time(interaction.common.time)),
                ("interaction_campaign_id", interaction.common.campaign.as_ref().into()),
                ("touchpoint_id", Value::Text(touchpoint.id.clone())),
                ("touchpoint_kind", kind_of(touch.on).into()),
                ("touchpoint_time", Value::Time(touchpoint.time)),
                ("touchpoint_campaign_id", touchpoint.campaign.as_ref().into()),
                ("last_touch", Value::Bool(place + 1 == touches.len())),
                ("seconds_between", Value::decimal(micros_between(touch, interaction, events), 6)),
            ]);
            for (place, model) in Model::ALL.into_iter().enumerate() {
                row.insert(format!("credit_{}", model.name()), Value::decimal(touch.credits[place], 9));
                row.insert(format!("revenue_{}", model.name()), Value::decimal(touch.revenues[place], 6));
            }
            rows.push(row);
        }
    }
    rows
}

/// How many events are invalid, by day, campaign, kind and reason, and what they would have cost.
pub(super) fn invalid_traffic(events: &Events, input: &Input) -> Vec<Row> {
    let bids_pay = input.display.spend_source == SpendSource::Bids;
    let mut classified = Vec::new();
    for impression in &events.impressions {
        let cost = if bids_pay { None } else { impression.row.enriched_cost_micros };
        classified.push((&impression.common, "impression", impression.reason, cost.unwrap_or(0)));
    }
    for interaction in &events.interactions {
        classified.push((&interaction.common, invalid::kind_of(interaction), interaction.reason, 0));
    }
    let mut groups = std::collections::BTreeMap::new();
    for (common, kind, reason, cost) in classified {
        let Some(reason) = reason else { continue };
        let day = calendar::day(input.meaning.report.time_zone, common.time);
        let (count, sum) = groups.entry((day, &common.campaign, kind, reason)).or_insert((0_i128, 0_i128));
        *count += 1;
        *sum += i128::from(cost);
    }
    let rows = groups.into_iter().map(|((day, campaign, kind, reason), (count, cost))| {
        row([
            ("day", Value::Time(day)),
            ("campaign_id", campaign.as_ref().into()),
            ("kind", kind.into()),
            ("reason", reason.into()),
            ("events", Value::Int(count)),
            ("cost", Value::decimal(cost, 6)),
        ])
    });
    rows.collect()
}
