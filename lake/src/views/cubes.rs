//! Aggregation: from events and attributions to sums, and from sums to the cubes.
//!
//! The contributions of events are integers of 128 bits (counts: 64) that can be added. So a
//! changed event is added with a plus sign, and the one that it replaces with a minus sign. A row
//! of a cube exists while at least one event or credit contributes to it (`events`).

use adlake_domain::batch_schema::{credit_column, revenue_column};
use adlake_domain::credit::Model;
use adlake_domain::kpi::{self, RATIOS, SUMS, Sum};
use adlake_domain::settings::{Display, SpendSource};

use super::slice::Slice;

/// The SQL name of [`adlake_domain::batch_schema::wide`].
const WIDE: &str = "DECIMAL(38, 0)";

fn sql_type(sum: &Sum) -> &'static str {
    if sum.wide { WIDE } else { "BIGINT" }
}

fn zero(sum: &Sum) -> String {
    format!("CAST(0 AS {}) AS {}", sql_type(sum), sum.column)
}

/// SQL: interactions. Dimensions that they lack come from their last touchpoint.
///
/// Adds `website`, `joined` and `seconds_between_micros` to the columns of the interactions. A
/// region may only be inherited together with a country that fits. Attribution has checked that
/// already: `region` of an attribution is the resolved region of the interaction.
pub(super) fn inherited(interactions: &str, attributions: &str) -> String {
    let columns: Vec<String> = super::event_columns(adlake_domain::event::EventKind::Interaction)
        .into_iter()
        .map(|name| match name.as_str() {
            "ad_creative_id" | "country" | "device_type" => format!("coalesce(i.{name}, t.touch_{name}) AS {name}"),
            "region" => "coalesce(i.region, t.region) AS region".to_string(),
            _ => format!("i.{name}"),
        })
        .collect();
    format!(
        "SELECT {}, t.touch_website AS website, t.interaction_key IS NOT NULL AS joined, \
         t.seconds_between_micros FROM {interactions} i LEFT JOIN (SELECT interaction_key, touch_website, \
         touch_ad_creative_id, touch_country, region, touch_device_type, seconds_between_micros \
         FROM {attributions} WHERE last_touch) t \
         ON i.event_key = t.interaction_key",
        columns.join(", ")
    )
}

/// The tables that contribute to the sums: names of tables, or queries in parentheses.
pub(super) struct Contributors {
    pub impressions: String,
    pub interactions: String,
    /// The attributions that contribute credit.
    pub attributions: String,
    /// The attributions of all these interactions.
    pub touches: String,
    pub bid_requests: String,
}

impl Contributors {
    /// The contributors of a slice, in tables `impressions`, `interactions`, `attributions` and
    /// `bid_requests`.
    pub fn of_slice(slice: &Slice) -> Contributors {
        let part =
            |table: &str, time: &str, slice: &Slice| format!("(SELECT * FROM {table} WHERE {})", slice.condition(time));
        // The credit of an interaction may go to another campaign than its own.
        let any_campaign = Slice { campaigns: None, ..slice.clone() };
        Contributors {
            impressions: part("impressions", "event_time", slice),
            interactions: part("interactions", "event_time", slice),
            attributions: part("attributions", "interaction_time", slice),
            touches: part("attributions", "interaction_time", &any_campaign),
            bid_requests: part("bid_requests", "event_time", slice),
        }
    }
}

/// SQL: what events and attributions contribute to `campaign_hourly`, times `sign`. A key may occur
/// several times.
pub(super) fn contributions(from: &Contributors, sign: i8) -> String {
    let one = "count(*)".to_string();
    let filtered = |what: &str, condition: &str| format!("coalesce({what} FILTER (WHERE {condition}), 0)");
    let count = |condition: &str| filtered("count(*)", condition);
    // The type of a sum is the type of its argument. 64 bits would wrap.
    let sum = |column: &str| format!("sum(CAST({column} AS {WIDE}))");
    let total = |column: &str| format!("coalesce({}, 0)", sum(column));
    let mut parts = Vec::new();
    parts.push(part(
        &from.impressions,
        "event_time",
        "CAST(NULL AS VARCHAR)",
        &[
            ("events", one.clone()),
            ("impressions", one.clone()),
            ("measurable_impressions", "count(viewable)".to_string()),
            ("viewable_impressions", count("viewable")),
            ("cost_micros", total("cost_micros")),
            ("unpriced_impressions", count("cost_micros IS NULL")),
            ("view_time_ms", total("view_time_ms")),
            ("interaction_depth", total("interaction_depth")),
        ],
        sign,
    ));
    let click = "interaction_type = 'click'";
    let conversion = "interaction_type = 'conversion' AND is_primary(conversion_type)";
    parts.push(part(
        &format!("({})", inherited(&from.interactions, &from.touches)),
        "event_time",
        "conversion_type",
        &[
            ("events", one.clone()),
            ("clicks", count(click)),
            ("conversions", count(conversion)),
            ("revenue_micros", filtered(&sum("value_micros"), conversion)),
            ("seconds_to_click_micros", filtered(&sum("seconds_between_micros"), click)),
            ("joined_clicks", count(&format!("{click} AND joined"))),
            ("seconds_to_conversion_micros", filtered(&sum("seconds_between_micros"), conversion)),
            ("joined_conversions", count(&format!("{conversion} AND joined"))),
        ],
        sign,
    ));
    let credited: Vec<String> = Model::ALL.map(|model| format!("{} <> 0", credit_column(model))).to_vec();
    let mut credits = vec![("events".to_string(), one.clone())];
    for model in Model::ALL {
        credits.push((format!("attributed_conversions_{}_billionths", model.name()), total(&credit_column(model))));
        credits.push((format!("attributed_revenue_{}_micros", model.name()), total(&revenue_column(model))));
    }
    let credits: Vec<(&str, String)> = credits.iter().map(|(column, sum)| (column.as_str(), sum.clone())).collect();
    parts.push(part(
        &format!("(SELECT * FROM {} WHERE {})", from.attributions, credited.join(" OR ")),
        "interaction_time",
        "conversion_type",
        &credits,
        sign,
    ));
    parts.push(part(
        &from.bid_requests,
        "event_time",
        "CAST(NULL AS VARCHAR)",
        &[
            ("events", one.clone()),
            ("bid_requests", one),
            ("bids", count("campaign_id IS NOT NULL OR bid_price_micros IS NOT NULL")),
            ("wins", count("won")),
            ("clearing_price_micros", filtered(&sum("clearing_price_micros"), "won")),
            ("unpriced_wins", count("won AND clearing_price_micros IS NULL")),
        ],
        sign,
    ));
    parts.join(" UNION ALL ")
}

fn part(table: &str, time: &str, conversion_type: &str, sums: &[(&str, String)], sign: i8) -> String {
    let sign = if sign < 0 { "-" } else { "" };
    let keys: Vec<String> = kpi::DIMENSIONS
        .iter()
        .map(|name| match *name {
            "conversion_type" => format!("{conversion_type} AS conversion_type"),
            name => name.to_string(),
        })
        .collect();
    let columns: Vec<String> = SUMS
        .iter()
        .map(|sum| match sums.iter().find(|(column, _)| *column == sum.column) {
            Some((column, expression)) => format!("{sign}CAST({expression} AS {}) AS {column}", sql_type(sum)),
            None => zero(sum),
        })
        .collect();
    // Grouped by position, because some keys are expressions.
    let positions: Vec<String> = (1..=keys.len() + 1).map(|place| place.to_string()).collect();
    format!(
        "SELECT report_hour({time}) AS hour, {}, {} FROM {table} GROUP BY {}",
        keys.join(", "),
        columns.join(", "),
        positions.join(", ")
    )
}

/// SQL: one row for each key of the contributions, with the columns of the batch table.
pub(super) fn hourly(contributions: &str, only_positive: bool) -> String {
    let sums: Vec<String> = SUMS.iter().map(|sum| format!("sum(c.{0}) AS {0}", sum.column)).collect();
    let keys = kpi::DIMENSIONS.join(", ");
    let having = if only_positive {
        "HAVING sum(c.events) > 0".to_string()
    } else {
        let any: Vec<String> = SUMS.iter().map(|sum| format!("sum(c.{}) <> 0", sum.column)).collect();
        format!("HAVING {}", any.join(" OR "))
    };
    format!(
        "SELECT hour, {keys}, {}, CAST(hour AS DATE) AS event_date FROM ({contributions}) c \
         GROUP BY hour, {keys} {having}",
        sums.join(", ")
    )
}

/// SQL: the sums of rows of the hourly cube by hour and campaign.
pub(super) fn rollup(hourly: &str) -> String {
    let sums: Vec<String> = SUMS.iter().map(|sum| format!("sum({0}) AS {0}", sum.column)).collect();
    format!(
        "SELECT hour, campaign_id, {}, event_date FROM {hourly} GROUP BY hour, campaign_id, event_date",
        sums.join(", ")
    )
}

/// SQL: one sketch of the impressions for each day and campaign.
pub(super) fn reach(impressions: &str) -> String {
    format!(
        "SELECT day, campaign_id, reach_sketch(user_id) AS reach_sketch, CAST(day AS DATE) AS event_date \
         FROM (SELECT report_day(event_time) AS day, campaign_id, user_id FROM {impressions}) GROUP BY day, campaign_id"
    )
}

/// The sums of a view. `stored` gives the expression for a stored sum.
fn shown_sums(display: &Display, stored: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let (spend, unpriced) = match display.spend_source {
        SpendSource::Impressions => (format!("micros({})", stored("cost_micros")), stored("unpriced_impressions")),
        // Exact: micros per mille divided by 1000 are billionths.
        SpendSource::Bids => (format!("nanos({})", stored("clearing_price_micros")), stored("unpriced_wins")),
    };
    let plain = |name: &str| (name.to_string(), stored(name));
    let mut sums: Vec<(String, String)> = [
        "impressions",
        "measurable_impressions",
        "viewable_impressions",
        "clicks",
        "conversions",
        "bid_requests",
        "bids",
        "wins",
    ]
    .map(plain)
    .to_vec();
    sums.push(("spend".into(), spend));
    sums.push(("revenue".into(), format!("micros({})", stored("revenue_micros"))));
    sums.push(("unpriced_events".into(), unpriced));
    let seconds = |name: &str| (name.to_string(), format!("micros({})", stored(&format!("{name}_micros"))));
    sums.extend(["view_time_ms", "interaction_depth"].map(plain));
    sums.extend([seconds("seconds_to_click"), plain("joined_clicks")]);
    sums.extend([seconds("seconds_to_conversion"), plain("joined_conversions")]);
    let conversions =
        |model: Model| format!("nanos({})", stored(&format!("attributed_conversions_{}_billionths", model.name())));
    let revenue = |model: Model| format!("micros({})", stored(&format!("attributed_revenue_{}_micros", model.name())));
    sums.push(("attributed_conversions".into(), conversions(display.default_model)));
    sums.push(("attributed_revenue".into(), revenue(display.default_model)));
    for model in Model::ALL {
        sums.push((format!("attributed_conversions_{}", model.name()), conversions(model)));
        sums.push((format!("attributed_revenue_{}", model.name()), revenue(model)));
    }
    sums
}

fn ratio(numerator: &str, denominator: &str, factor: f64) -> String {
    let factor = if factor == 1.0 { String::new() } else { format!(" * {factor:.1}") };
    format!("CASE WHEN {denominator} <> 0 THEN CAST({numerator} AS DOUBLE) / CAST({denominator} AS DOUBLE){factor} END")
}

fn ratios() -> Vec<String> {
    RATIOS.iter().map(|r| format!("{} AS {}", ratio(r.numerator, r.denominator, r.factor), r.column)).collect()
}

fn aliased(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, expression)| format!("{expression} AS {name}")).collect::<Vec<_>>().join(", ")
}

fn names(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ")
}

/// SQL of view `campaign_hourly` over stored sums. `changed`: a key may occur several times, with
/// either sign.
pub(super) fn campaign_hourly(display: &Display, stored: &str, changed: bool) -> String {
    let keys = kpi::DIMENSIONS.join(", ");
    if changed {
        let sums = shown_sums(display, |column| format!("sum({column})"));
        format!("SELECT hour, {keys}, {} FROM {stored} GROUP BY hour, {keys} HAVING sum(events) > 0", aliased(&sums))
    } else {
        let sums = shown_sums(display, str::to_string);
        format!("SELECT hour, {keys}, {} FROM {stored}", aliased(&sums))
    }
}

/// SQL of a cube by day and some other dimensions.
pub(super) fn daily(display: &Display, stored: &str, dimensions: &[&str]) -> String {
    let sums = shown_sums(display, |column| format!("sum({column})"));
    let keys = dimensions.join(", ");
    format!(
        "SELECT day, {keys}, {}, {} FROM (SELECT day, {keys}, {} FROM (SELECT report_day(hour) AS day, * \
         FROM {stored}) \
         GROUP BY day, {keys} HAVING sum(events) > 0)",
        names(&sums),
        ratios().join(", "),
        aliased(&sums)
    )
}

/// SQL of a cube with reach: by day and campaign, or by campaign over all time where it is known.
pub(super) fn with_reach(display: &Display, stored: &str, sketches: &str, by_day: bool) -> String {
    let sums = shown_sums(display, |column| format!("sum({column})"));
    let (keys, condition) =
        if by_day { ("day, campaign_id", "") } else { ("campaign_id", "WHERE campaign_id IS NOT NULL") };
    let stored_sums: Vec<&str> = SUMS.iter().map(|sum| sum.column).collect();
    let zeros: Vec<String> = SUMS.iter().map(zero).collect();
    let (day, sketch_day) = if by_day { ("report_day(hour) AS day, ", "day, ") } else { ("", "") };
    format!(
        "SELECT {keys}, {names}, reach, reach_sketch, {frequency} AS frequency, {ratios} FROM (\
         SELECT {keys}, {sums}, reach(reach_sketch) AS reach, reach_union(reach_sketch) AS reach_sketch FROM (\
         SELECT {day}campaign_id, {stored_sums}, CAST(NULL AS BYTEA) AS reach_sketch FROM {stored} {condition} \
         UNION ALL SELECT {sketch_day}campaign_id, {zeros}, reach_sketch FROM {sketches} {condition}) \
         GROUP BY {keys} HAVING sum(events) > 0)",
        names = names(&sums),
        frequency = ratio("impressions", "reach", 1.0),
        ratios = ratios().join(", "),
        sums = aliased(&sums),
        stored_sums = stored_sums.join(", "),
        zeros = zeros.join(", "),
    )
}

/// SQL of view `funnel`.
///
/// The stages come from a join and not from `unnest`. The planner takes the columns of an unnested
/// group for functions of its key, and leaves them out of an ORDER BY that begins with the key.
pub(super) fn funnel(stored: &str) -> String {
    let (mut stages, mut events, mut rates) = (Vec::new(), String::new(), String::new());
    for (place, (stage, sum)) in kpi::FUNNEL.iter().enumerate() {
        stages.push(format!("({place}, '{stage}')"));
        events.push_str(&format!(" WHEN {place} THEN {sum}"));
        if let Some((_, before)) = place.checked_sub(1).and_then(|before| kpi::FUNNEL.get(before)) {
            rates.push_str(&format!(" WHEN {place} THEN {}", ratio(sum, before, 1.0)));
        }
    }
    let sums: Vec<String> = kpi::FUNNEL.iter().map(|(_, sum)| format!("sum({sum}) AS {sum}")).collect();
    format!(
        "SELECT campaign_id, stage, CASE place{events} END AS events, CASE place{rates} END AS rate FROM (\
         SELECT campaign_id, {} FROM {stored} GROUP BY campaign_id HAVING sum(events) > 0) \
         CROSS JOIN (VALUES {}) AS stages(place, stage)",
        sums.join(", "),
        stages.join(", ")
    )
}
