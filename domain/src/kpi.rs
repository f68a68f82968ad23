//! The sums in the cubes, and the ratios of these sums.
//!
//! Sums are integers that can be added, so every grouping of them is exact. Ratios are divided
//! last. They are never stored or averaged. Counts of events have 64 bits. All other sums have 128
//! bits: one event may bring 10^16 micros, and a thousand such events exceed 64 bits. Each ratio
//! names two sums as its numerator and denominator. This table is the only place that defines them.

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
pub const SUMS: [Sum; 30] = [
    count("events", "events and credits behind the row; a row without any does not exist"),
    count("impressions", "impressions"),
    count("measurable_impressions", "impressions of which it is known whether they were viewable"),
    count("viewable_impressions", "impressions that were viewable"),
    count("clicks", "clicks"),
    count("conversions", "conversions of primary types"),
    count("bid_requests", "imps offered at auction"),
    count("bids", "imps with a campaign or a bid price of ours"),
    count("wins", "imps won"),
    total("cost_micros", "cost of the impressions, micros of the account currency"),
    total("clearing_price_micros", "clearing prices of the won bids, a CPM in micros of the account currency"),
    total("revenue_micros", "value of the conversions of primary types, micros of the account currency"),
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
    fn ratios_and_stages_are_made_of_sums() {
        let known = |name: &str| name == "spend" || name == "revenue" || SUMS.iter().any(|sum| sum.column == name);
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
