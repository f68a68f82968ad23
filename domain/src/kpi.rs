//! The sums in the cubes, and the ratios of these sums.
//!
//! Sums are integers that can be added, so every grouping of them is exact. Ratios are divided
//! last. They are never stored or averaged. Counts of events have 64 bits. All other sums have 128
//! bits: one event may bring 10^16 micros, and a thousand such events exceed 64 bits. Each ratio
//! names two sums as its numerator and denominator. This table is the only place that defines them.

use crate::credit::Model;
use crate::settings::{Display, SpendSource};

/// A sum in the cubes that can be added, as `batch/campaign_hourly` stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// The stored column.
    pub column: &'static str,
    /// What it counts, and its unit.
    pub description: &'static str,
    /// Whether it has 128 bits (a decimal of 38 digits) instead of 64.
    pub wide: bool,
}

/// A number of events.
const fn count(column: &'static str, description: &'static str) -> Sum {
    Sum { column, description, wide: false }
}

/// A sum over a value of the events.
const fn total(column: &'static str, description: &'static str) -> Sum {
    Sum { column, description, wide: true }
}

/// The dimensions of `campaign_hourly`, after `hour`.
pub const DIMENSIONS: [&str; 7] =
    ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region", "conversion_type"];

/// Every stored sum, in the order of the columns.
pub const SUMS: [Sum; 36] = [
    count("events", "events and credits behind the row; a row without any does not exist"),
    count("impressions", "impressions"),
    count("measurable_impressions", "impressions of which it is known whether they were viewable"),
    count("viewable_impressions", "impressions that were viewable"),
    count("clicks", "clicks"),
    count("conversions", "conversions of primary types"),
    count("refunds", "refunds"),
    count("gross_impressions", "impressions, invalid ones too"),
    count("gross_clicks", "clicks, invalid ones too"),
    count("gross_conversions", "conversions of primary types, invalid ones too"),
    count("bid_requests", "imps offered at auction"),
    count("bids", "imps with a campaign or a bid price of ours"),
    count("wins", "imps won"),
    total("cost_micros", "cost of the impressions, micros of the account currency"),
    total("clearing_price_micros", "clearing prices of the won bids, a CPM in micros of the account currency"),
    total("revenue_micros", "value of the conversions of primary types, less refunds, micros of the account currency"),
    total("gross_cost_micros", "cost of the impressions, invalid ones too, micros of the account currency"),
    total(
        "gross_revenue_micros",
        "value of the conversions of primary types, less refunds, invalid ones too, micros of the account currency",
    ),
    count("unpriced_impressions", "impressions without a cost"),
    count("unpriced_wins", "won bids without a clearing price"),
    total("view_time_ms", "time in view, milliseconds"),
    total("interaction_depth", "interaction depth"),
    total("seconds_to_click_micros", "microseconds from impression to click, over joined clicks"),
    count("joined_clicks", "clicks joined to an impression"),
    total("seconds_to_conversion_micros", "microseconds from last touch to conversion, over joined conversions"),
    count("joined_conversions", "conversions of primary types joined to a touchpoint"),
    total("attributed_conversions_last_touch_billionths", "credit by last touch, billionths of a conversion"),
    total("attributed_conversions_first_touch_billionths", "credit by first touch, billionths of a conversion"),
    total("attributed_conversions_linear_billionths", "credit by the linear model, billionths of a conversion"),
    total("attributed_conversions_position_based_billionths", "credit by position, billionths of a conversion"),
    total("attributed_conversions_time_decay_billionths", "credit by time decay, billionths of a conversion"),
    total("attributed_revenue_last_touch_micros", "revenue by last touch, micros of the account currency"),
    total("attributed_revenue_first_touch_micros", "revenue by first touch, micros of the account currency"),
    total("attributed_revenue_linear_micros", "revenue by the linear model, micros of the account currency"),
    total("attributed_revenue_position_based_micros", "revenue by position, micros of the account currency"),
    total("attributed_revenue_time_decay_micros", "revenue by time decay, micros of the account currency"),
];

/// The scale of a sum that is stored in millionths of what is shown.
pub const MICROS: i8 = 6;
/// The scale of a sum that is stored in billionths of what is shown.
pub const NANOS: i8 = 9;

/// A sum as the views show it: a stored sum times `10^-scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The view's column.
    pub name: String,
    /// The stored sum.
    pub stored: String,
    /// 0 for whole numbers, [`MICROS`] or [`NANOS`].
    pub scale: i8,
    /// The unit of what is shown.
    pub unit: Unit,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Events, users or credits.
    Events,
    /// Units of the account currency.
    Currency,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// None.
    Plain,
}

/// The sums of the views, in the order of their columns.
pub fn shown(display: &Display) -> Vec<Shown> {
    let sum = |name: &str, stored: &str, scale, unit| Shown { name: name.into(), stored: stored.into(), scale, unit };
    let count = |name: &str| sum(name, name, 0, Unit::Events);
    let seconds = |name: &str| sum(name, &format!("{name}_micros"), MICROS, Unit::Seconds);
    let (spend, gross, unpriced) = match display.spend_source {
        SpendSource::Impressions => ("cost_micros", "gross_cost_micros", "unpriced_impressions"),
        // Bids are never invalid.
        SpendSource::Bids => ("clearing_price_micros", "clearing_price_micros", "unpriced_wins"),
    };
    let spend_scale = match display.spend_source {
        SpendSource::Impressions => MICROS,
        // Exact: micros per mille divided by 1000 are billionths.
        SpendSource::Bids => NANOS,
    };
    let mut shown: Vec<Shown> =
        ["impressions", "measurable_impressions", "viewable_impressions", "clicks", "conversions"].map(count).to_vec();
    shown.extend(["refunds", "bid_requests", "bids", "wins"].map(count));
    shown.push(sum("spend", spend, spend_scale, Unit::Currency));
    shown.push(sum("revenue", "revenue_micros", MICROS, Unit::Currency));
    shown.extend(["gross_impressions", "gross_clicks", "gross_conversions"].map(count));
    shown.push(sum("gross_spend", gross, spend_scale, Unit::Currency));
    shown.push(sum("gross_revenue", "gross_revenue_micros", MICROS, Unit::Currency));
    shown.push(sum("unpriced_events", unpriced, 0, Unit::Events));
    shown.push(sum("view_time_ms", "view_time_ms", 0, Unit::Milliseconds));
    shown.push(sum("interaction_depth", "interaction_depth", 0, Unit::Plain));
    shown.extend([seconds("seconds_to_click"), count("joined_clicks")]);
    shown.extend([seconds("seconds_to_conversion"), count("joined_conversions")]);
    let models = Model::ALL.map(|model| (format!("_{}", model.name()), model));
    for (suffix, model) in [(String::new(), display.default_model)].into_iter().chain(models) {
        let (conversions, revenue) = ("attributed_conversions", "attributed_revenue");
        let stored = format!("{conversions}_{}_billionths", model.name());
        shown.push(sum(&format!("{conversions}{suffix}"), &stored, NANOS, Unit::Events));
        let stored = format!("{revenue}_{}_micros", model.name());
        shown.push(sum(&format!("{revenue}{suffix}"), &stored, MICROS, Unit::Currency));
    }
    shown
}

/// A ratio of two sums of a view: `numerator / denominator * factor`. It is NULL where the
/// denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The view's column.
    pub column: &'static str,
    /// A sum of the view.
    pub numerator: &'static str,
    /// A sum of the view.
    pub denominator: &'static str,
    /// 1000 for a price per mille.
    pub factor: f64,
}

const fn ratio(column: &'static str, numerator: &'static str, denominator: &'static str) -> Ratio {
    Ratio { column, numerator, denominator, factor: 1.0 }
}

/// The ratios of the cubes, in the order of the columns.
pub const RATIOS: [Ratio; 8] = [
    ratio("ctr", "clicks", "impressions"),
    ratio("cvr", "conversions", "clicks"),
    ratio("cpc", "spend", "clicks"),
    Ratio { column: "cpm", numerator: "spend", denominator: "impressions", factor: 1000.0 },
    ratio("cpa", "spend", "conversions"),
    ratio("roas", "revenue", "spend"),
    ratio("viewability", "viewable_impressions", "measurable_impressions"),
    ratio("win_rate", "wins", "bids"),
];

/// The stages of the funnel. For each the sum that counts it.
pub const FUNNEL: [(&str, &str); 6] = [
    ("bids", "bids"),
    ("wins", "wins"),
    ("impressions", "impressions"),
    ("viewable", "viewable_impressions"),
    ("clicks", "clicks"),
    ("conversions", "conversions"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_sums_are_made_of_stored_ones() {
        for spend_source in [SpendSource::Impressions, SpendSource::Bids] {
            for sum in shown(&Display { spend_source, ..Display::default() }) {
                assert!(SUMS.iter().any(|stored| stored.column == sum.stored), "{sum:?}");
            }
        }
    }

    #[test]
    fn ratios_and_stages_are_made_of_sums() {
        let shown = shown(&Display::default());
        let known = |name: &str| shown.iter().any(|sum| sum.name == name);
        for ratio in RATIOS {
            assert!(known(ratio.numerator) && known(ratio.denominator), "{}", ratio.column);
        }
        assert!(FUNNEL.iter().all(|(_, sum)| known(sum)));
    }

    #[test]
    fn the_ratios_fit_together() {
        let find = |name: &str| RATIOS.iter().find(|ratio| ratio.column == name).copied().unwrap();
        let value = |name: &str| match name {
            "clicks" => 40.0,
            "impressions" => 5_000.0,
            "conversions" => 3.0,
            "spend" => 12.345,
            _ => 0.0,
        };
        let of = |name: &str| {
            let ratio = find(name);
            value(ratio.numerator) / value(ratio.denominator) * ratio.factor
        };
        assert!((of("cpm") - of("cpa") * of("cvr") * of("ctr") * 1000.0).abs() < 1e-9);
    }
}
