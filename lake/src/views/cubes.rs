//! Aggregation: from events and attributions to sums, and from sums to the cubes.
//!
//! The contributions of events are integers of 128 bits (counts: 64) that can be added. So a
//! changed event is added with a plus sign, and the one that it replaces with a minus sign. A row
//! of a cube exists while at least one event or credit contributes to it (`events`).

use adlake_domain::batch_schema::{credit_column, revenue_column};
use adlake_domain::credit::Model;
use adlake_domain::kpi::{self, MICROS, NANOS, RATIOS, SUMS, Sum};
use adlake_domain::settings::Display;

use super::slice::Slice;

/// The SQL name of [`adlake_domain::batch_schema::wide`].
const WIDE: &str = "DECIMAL(38, 0)";

fn sql_type(sum: &Sum) -> &'static str {
    if sum.wide { WIDE } else { "BIGINT" }
}

fn zero(sum: &Sum) -> String {
    format!("CAST(0 AS {}) AS {}", sql_type(sum), sum.column)
}

/// SQL: interactions. Dimensions that they lack come from their last touchpoint, those of a refund
/// from its order. `invalid_reason` is that of attribution too.
///
/// Adds `website`, `joined`, `seconds_between_micros` and `order_is_primary` to the columns of the
/// interactions. A region may only be inherited together with a country that fits. Attribution has
/// checked that already: `region` of an attribution is the resolved region of the interaction.
pub(super) fn inherited(interactions: &str, attributions: &str) -> String {
    let columns: Vec<String> = super::event_columns(adlake_domain::event::EventKind::Interaction)
        .into_iter()
        .map(|name| match name.as_str() {
            "ad_creative_id" | "country" | "device_type" => format!("coalesce(i.{name}, t.touch_{name}) AS {name}"),
            "region" => "coalesce(i.region, t.region) AS region".to_string(),
            "invalid_reason" => "coalesce(i.invalid_reason, t.invalid_reason) AS invalid_reason".to_string(),
            // Only a refund takes the campaign too.
            "campaign_id" => "coalesce(i.campaign_id, CASE WHEN i.interaction_type = 'refund' THEN t.campaign_id END) \
                              AS campaign_id"
                .to_string(),
            _ => format!("i.{name}"),
        })
        .collect();
    format!(
        "SELECT {}, t.touch_website AS website, t.interaction_key IS NOT NULL AS joined, \
         t.seconds_between_micros, t.order_is_primary FROM {interactions} i LEFT JOIN (SELECT interaction_key, \
         touch_website, touch_ad_creative_id, touch_country, region, touch_device_type, campaign_id, \
         seconds_between_micros, order_is_primary, invalid_reason FROM {attributions} WHERE inherits) t \
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
    /// A condition on the interactions as they are counted, with what they have inherited.
    pub counted: Option<String>,
}

impl Contributors {
    /// The contributors of a slice, in tables `impressions`, `interactions`, `attributions` and
    /// `bid_requests`.
    pub fn of_slice(slice: &Slice) -> Contributors {
        let part =
            |table: &str, time: &str, slice: &Slice| format!("(SELECT * FROM {table} WHERE {})", slice.condition(time));
        // The credit of an interaction may go to another campaign than its own.
        let any_campaign = Slice { campaigns: None, ..slice.clone() };
        // A refund without a campaign is counted under that of its order.
        let interactions = match slice.campaigns() {
            None => part("interactions", "event_time", slice),
            Some(campaigns) => format!(
                "(SELECT * FROM interactions WHERE {} AND ({campaigns} OR campaign_id IS NULL AND \
                 interaction_type = 'refund'))",
                any_campaign.condition("event_time")
            ),
        };
        Contributors {
            impressions: part("impressions", "event_time", slice),
            interactions,
            attributions: part("attributions", "interaction_time", slice),
            touches: part("attributions", "interaction_time", &any_campaign),
            bid_requests: part("bid_requests", "event_time", slice),
            counted: slice.campaigns(),
        }
    }
}

/// What the rows of one table contribute to `campaign_hourly`.
struct Part {
    /// The table.
    rows: String,
    time: &'static str,
    conversion_type: &'static str,
    /// The columns of the table that the sums read, beside the keys.
    inputs: Vec<String>,
    sums: Vec<Contribution>,
}

/// What the rows of one table contribute to one sum.
struct Contribution {
    column: String,
    /// An aggregate.
    what: String,
    /// Of which rows. `None`: of all.
    of: Option<String>,
}

impl Contribution {
    fn new(column: &str, what: impl Into<String>, of: Option<String>) -> Contribution {
        Contribution { column: column.to_string(), what: what.into(), of }
    }

    /// SQL: the sum over the rows for which `and` holds too.
    fn sql(&self, and: Option<&str>) -> String {
        let conditions: Vec<String> = and.iter().map(|and| and.to_string()).chain(self.of.clone()).collect();
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" FILTER (WHERE ({}))", conditions.join(") AND ("))
        };
        format!("coalesce({}{filter}, 0)", self.what)
    }
}

/// The parts of the sums. Each row of their tables is an event or a credit.
fn parts(from: &Contributors) -> Vec<Part> {
    // The type of a sum is the type of its argument. 64 bits would wrap.
    let total = |column: &str| format!("sum(CAST({column} AS {WIDE}))");
    let sum = |column: &str, of: &str| Contribution::new(column, total(of), None);
    let sum_if = |column: &str, of: &str, condition: &str| Contribution::new(column, total(of), Some(condition.into()));
    let all = |column: &str| Contribution::new(column, "count(*)", None);
    let count = |column: &str, condition: &str| Contribution::new(column, "count(*)", Some(condition.into()));
    let names = |columns: &[&str]| columns.iter().map(|column| column.to_string()).collect();
    let valid = "invalid_reason IS NULL";
    let [gross_click, gross_refund] = ["interaction_type = 'click'", "interaction_type = 'refund'"];
    let gross_conversion = "interaction_type = 'conversion' AND is_primary(conversion_type)";
    let gross_valued = format!("{gross_conversion} OR {gross_refund} AND coalesce(order_is_primary, true)");
    let valued = format!("{valid} AND ({gross_valued})");
    let [click, refund, conversion] =
        [gross_click, gross_refund, gross_conversion].map(|gross| format!("{gross} AND {valid}"));
    let counted = from.counted.as_ref().map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    let (mut credited, mut inputs, mut credits) = (Vec::new(), Vec::new(), Vec::new());
    for model in Model::ALL {
        let (credit, revenue) = (credit_column(model), revenue_column(model));
        credited.push(format!("{credit} <> 0 OR {revenue} <> 0"));
        credits.push(sum(&format!("attributed_conversions_{}_billionths", model.name()), &credit));
        credits.push(sum(&format!("attributed_revenue_{}_micros", model.name()), &revenue));
        inputs.extend([credit, revenue]);
    }
    vec![
        Part {
            rows: from.impressions.clone(),
            time: "event_time",
            conversion_type: "CAST(NULL AS VARCHAR)",
            inputs: names(&["viewable", "cost_micros", "view_time_ms", "interaction_depth", "invalid_reason"]),
            sums: vec![
                count("impressions", valid),
                count("measurable_impressions", &format!("{valid} AND viewable IS NOT NULL")),
                count("viewable_impressions", &format!("{valid} AND viewable")),
                sum_if("cost_micros", "cost_micros", valid),
                count("unpriced_impressions", &format!("{valid} AND cost_micros IS NULL")),
                sum_if("view_time_ms", "view_time_ms", valid),
                sum_if("interaction_depth", "interaction_depth", valid),
                all("gross_impressions"),
                sum("gross_cost_micros", "cost_micros"),
            ],
        },
        Part {
            rows: format!("(SELECT * FROM ({}){counted})", inherited(&from.interactions, &from.touches)),
            time: "event_time",
            conversion_type: "conversion_type",
            inputs: names(&[
                "interaction_type",
                "value_micros",
                "seconds_between_micros",
                "joined",
                "order_is_primary",
                "invalid_reason",
            ]),
            sums: vec![
                count("clicks", &click),
                count("conversions", &conversion),
                count("refunds", &refund),
                count("gross_clicks", gross_click),
                count("gross_conversions", gross_conversion),
                sum_if("gross_revenue_micros", "value_micros", &gross_valued),
                sum_if("revenue_micros", "value_micros", &valued),
                sum_if("seconds_to_click_micros", "seconds_between_micros", &click),
                count("joined_clicks", &format!("{click} AND joined")),
                sum_if("seconds_to_conversion_micros", "seconds_between_micros", &conversion),
                count("joined_conversions", &format!("{conversion} AND joined")),
            ],
        },
        Part {
            rows: format!("(SELECT * FROM {} WHERE {})", from.attributions, credited.join(" OR ")),
            time: "interaction_time",
            conversion_type: "conversion_type",
            inputs,
            sums: credits,
        },
        Part {
            rows: from.bid_requests.clone(),
            time: "event_time",
            conversion_type: "CAST(NULL AS VARCHAR)",
            inputs: names(&["bid_price_micros", "won", "clearing_price_micros"]),
            sums: vec![
                all("bid_requests"),
                count("bids", "campaign_id IS NOT NULL OR bid_price_micros IS NOT NULL"),
                count("wins", "won"),
                sum_if("clearing_price_micros", "clearing_price_micros", "won"),
                count("unpriced_wins", "won AND clearing_price_micros IS NULL"),
            ],
        },
    ]
}

impl Part {
    /// SQL: the hour and the dimensions.
    fn keys(&self, dimensions: &[&str]) -> String {
        let keys = dimensions.iter().map(|name| match *name {
            "conversion_type" => format!("{} AS conversion_type", self.conversion_type),
            name => name.to_string(),
        });
        format!("report_hour({}) AS hour, {}", self.time, keys.collect::<Vec<_>>().join(", "))
    }

    /// SQL: the sums of the part by hour and dimensions, times `sign`.
    fn contributions(&self, sign: i8, dimensions: &[&str]) -> String {
        let sign = if sign < 0 { "-" } else { "" };
        let columns: Vec<String> = SUMS
            .iter()
            .map(|sum| {
                let own = self.sums.iter().find(|own| own.column == sum.column).map(|own| own.sql(None));
                match own.or_else(|| (sum.column == "events").then(|| "count(*)".to_string())) {
                    Some(sql) => format!("{sign}CAST({sql} AS {}) AS {}", sql_type(sum), sum.column),
                    None => zero(sum),
                }
            })
            .collect();
        // Grouped by position, because some keys are expressions.
        let positions: Vec<String> = (1..=dimensions.len() + 1).map(|place| place.to_string()).collect();
        let (keys, columns, positions) = (self.keys(dimensions), columns.join(", "), positions.join(", "));
        format!("SELECT {keys}, {columns} FROM {} GROUP BY {positions}", self.rows)
    }
}

/// SQL: what events and attributions contribute to `campaign_hourly`, or to sums by fewer of its
/// dimensions, times `sign`. A key may occur several times.
pub(super) fn contributions(from: &Contributors, sign: i8, dimensions: &[&str]) -> String {
    parts(from).iter().map(|part| part.contributions(sign, dimensions)).collect::<Vec<_>>().join(" UNION ALL ")
}

/// SQL: the same as [`hourly`] over the [`contributions`], where all are positive, in the order of
/// the batch table.
///
/// The rows of all tables are sorted, and then grouped once. Few rows share a key, so groups in a
/// hash table would take more memory than the rows, and their sums would have to be sorted.
pub(super) fn hourly_at_once(from: &Contributors, order: &[&str]) -> String {
    let (groups, order) = (order.join(", "), ordered(order));
    let parts = parts(from);
    let mut inputs: Vec<&String> = Vec::new();
    for input in parts.iter().flat_map(|part| &part.inputs) {
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let rows: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let inputs = inputs.iter().map(|input| match part.inputs.contains(input) {
                true => input.to_string(),
                false => format!("NULL AS {input}"),
            });
            let (keys, inputs) = (part.keys(&kpi::DIMENSIONS), inputs.collect::<Vec<_>>().join(", "));
            format!("SELECT {keys}, {inputs}, {number} AS part FROM {}", part.rows)
        })
        .collect();
    let rows = rows.join(" UNION ALL ");
    let sums: Vec<String> = SUMS
        .iter()
        .map(|sum| {
            let own = parts.iter().enumerate().find_map(|(number, part)| {
                let own = part.sums.iter().find(|own| own.column == sum.column)?;
                Some(own.sql(Some(&format!("part = {number}"))))
            });
            let sql = own.unwrap_or_else(|| "count(*)".to_string());
            format!("CAST({sql} AS {}) AS {}", sql_type(sum), sum.column)
        })
        .collect();
    let keys = kpi::DIMENSIONS.join(", ");
    format!(
        "SELECT hour, {keys}, {}, event_date \
         FROM (SELECT *, CAST(hour AS DATE) AS event_date FROM ({rows}) ORDER BY {order}) \
         GROUP BY {groups} ORDER BY {order}",
        sums.join(", ")
    )
}

/// SQL: one row for each hour and values of the dimensions of the contributions, with the columns
/// of the batch table, where a sum is not 0.
pub(super) fn hourly(contributions: &str, dimensions: &[&str]) -> String {
    let any: Vec<String> = SUMS.iter().map(|sum| format!("sum(c.{}) <> 0", sum.column)).collect();
    let keys = dimensions.join(", ");
    format!(
        "SELECT hour, {keys}, {}, CAST(hour AS DATE) AS event_date FROM ({contributions}) c \
         GROUP BY hour, {keys} HAVING {}",
        added(),
        any.join(" OR ")
    )
}

/// SQL: the sums of rows of the batch table and of changes, in the order of the batch table. They
/// are sorted before they are grouped, as in [`hourly_at_once`].
pub(super) fn changed_hourly(rows: &str, order: &[&str]) -> String {
    let (groups, order) = (order.join(", "), ordered(order));
    format!(
        "SELECT hour, {}, {}, event_date FROM (SELECT * FROM ({rows}) ORDER BY {order}) c GROUP BY {groups} \
         HAVING sum(c.events) > 0 ORDER BY {order}",
        kpi::DIMENSIONS.join(", "),
        added()
    )
}

/// SQL: an ORDER BY of columns, as all batch tables have it.
pub(super) fn ordered(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{column} NULLS FIRST")).collect::<Vec<_>>().join(", ")
}

/// SQL: each sum of several rows `c`.
fn added() -> String {
    SUMS.map(|sum| format!("sum(c.{0}) AS {0}", sum.column)).join(", ")
}

/// SQL: the sums of rows of the hourly cube by hour and campaign.
pub(super) fn rollup(hourly: &str) -> String {
    let sums: Vec<String> = SUMS.iter().map(|sum| format!("sum({0}) AS {0}", sum.column)).collect();
    format!(
        "SELECT hour, campaign_id, {}, event_date FROM {hourly} GROUP BY hour, campaign_id, event_date",
        sums.join(", ")
    )
}

/// SQL: one sketch of the valid impressions for each day and campaign.
pub(super) fn reach(impressions: &str) -> String {
    format!(
        "SELECT day, campaign_id, reach_sketch(user_id) AS reach_sketch, CAST(day AS DATE) AS event_date \
         FROM (SELECT report_day(event_time) AS day, campaign_id, user_id FROM {impressions} \
         WHERE invalid_reason IS NULL) GROUP BY day, campaign_id"
    )
}

/// The sums of a view. `stored` gives the expression for a stored sum.
fn shown_sums(display: &Display, stored: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let shown = kpi::shown(display).into_iter().map(|sum| {
        let stored = stored(&sum.stored);
        let expression = match sum.scale {
            MICROS => format!("micros({stored})"),
            NANOS => format!("nanos({stored})"),
            _ => stored,
        };
        (sum.name, expression)
    });
    shown.collect()
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
