//! Questions: what a client asks for, read and checked.
//!
//! A [`Request`] is the body as it was sent. A [`Question`] is one that can be answered: its names
//! exist, its range and its buckets fit the cubes.

pub mod calendar;
pub mod filter;
mod range;

use adlake_domain::credit::Model;
use chrono_tz::Tz;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

pub use self::calendar::Grain;
pub use self::filter::{Condition, Filter};
pub use self::range::{Compare, Compared, Range};
use crate::metrics::{Catalogues, Formula, nearest};

/// What is wrong with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// A word for programs.
    pub code: &'static str,
    /// The member that is wrong, as a JSON pointer.
    pub pointer: String,
    /// A sentence for people.
    pub detail: String,
}

impl Invalid {
    /// What is wrong with a member.
    pub fn new(code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Invalid {
        Invalid { code, pointer: pointer.into(), detail: detail.into() }
    }
}

/// A dimension that answers can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The campaign.
    Campaign,
    /// The advertiser of the campaign, by `ref/campaigns`.
    Advertiser,
    /// The website or app.
    Website,
    /// The creative.
    Creative,
    /// The kind of device.
    Device,
    /// The country, ISO 3166 alpha-2.
    Country,
    /// The region within the country.
    Region,
    /// The type of the conversion.
    ConversionType,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Dimension; 8] = [
        Dimension::Campaign,
        Dimension::Advertiser,
        Dimension::Website,
        Dimension::Creative,
        Dimension::Device,
        Dimension::Country,
        Dimension::Region,
        Dimension::ConversionType,
    ];

    /// Its name: the column of the cube, except for the advertiser.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Campaign => "campaign_id",
            Dimension::Advertiser => "advertiser_id",
            Dimension::Website => "website",
            Dimension::Creative => "ad_creative_id",
            Dimension::Device => "device_type",
            Dimension::Country => "country",
            Dimension::Region => "region",
            Dimension::ConversionType => "conversion_type",
        }
    }

    /// The dimension with a name.
    pub fn parse(name: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.name() == name)
    }

    /// The dimension of the cube that it is computed from.
    pub fn stored(self) -> Dimension {
        if self == Dimension::Advertiser { Dimension::Campaign } else { self }
    }
}

/// A question as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Names of metrics.
    pub metrics: Vec<String>,
    /// Names of dimensions.
    pub dimensions: Vec<String>,
    /// A filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Value>,
    /// The range of time, and its buckets.
    #[serde(deserialize_with = "time_object")]
    pub time: TimeRequest,
    /// The period to compare with.
    pub compare: Option<Compare>,
    /// The attribution model behind names without a suffix.
    pub model: Option<Model>,
    /// Names of columns, with `-` before them to descend.
    pub order: Vec<String>,
    /// The most rows.
    #[serde(deserialize_with = "whole_number")]
    pub limit: Option<usize>,
    /// Whether there is a row over everything.
    pub totals: bool,
    /// The next page of an answer.
    pub cursor: Option<String>,
}

/// Reads an object only. Serde would take a list of its members as well.
fn time_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeRequest, D::Error> {
    let members = Map::deserialize(deserializer)?;
    serde_json::from_value(Value::Object(members)).map_err(D::Error::custom)
}

/// Reads a whole number. `7.0` is one in JSON.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64);
    let read = number.as_u64().or_else(|| number.as_f64().and_then(whole)).and_then(|read| usize::try_from(read).ok());
    read.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number from 0 on")))
}

/// The time of a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeRequest {
    /// `[from, to)`.
    pub range: Option<(Option<String>, Option<String>)>,
    /// The buckets. `None`: one.
    pub grain: Option<Grain>,
    /// The zone of days and buckets.
    pub zone: Option<String>,
    /// Whether buckets without events are shown.
    pub fill: bool,
}

/// A column by which rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The column.
    pub column: Column,
    /// From the greatest to the least. Rows without a value are last in any case.
    pub descends: bool,
}

/// A column of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The bucket of time.
    Time,
    /// The dimension at this place of the question.
    Dimension(usize),
    /// The metric at this place of the question.
    Metric(usize),
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The model behind names without a suffix.
    pub model: Model,
    /// Places of metrics in the catalogue of that model.
    pub metrics: Vec<usize>,
    /// The dimensions.
    pub dimensions: Vec<Dimension>,
    /// Which events count, and which rows are shown.
    pub filter: Filter,
    /// The range of time.
    pub range: Range,
    /// The buckets. `None`: one.
    pub grain: Option<Grain>,
    /// The zone of days and buckets.
    pub zone: Tz,
    /// Whether buckets without events are shown.
    pub fill: bool,
    /// The period to compare with.
    pub compare: Option<Compare>,
    /// The order of the rows.
    pub order: Vec<Order>,
    /// The most rows.
    pub limit: usize,
    /// Whether there is a row over everything.
    pub totals: bool,
}

/// What questions are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The metrics.
    pub catalogues: &'a Catalogues,
    /// The zone of the cubes.
    pub report_zone: Tz,
    /// The most rows that an answer may have.
    pub rows_max: usize,
}

/// The rows of an answer if the question does not say how many.
const ROWS: usize = 1_000;

impl Request {
    /// The question, if it can be answered.
    pub fn read(&self, rules: Rules<'_>) -> Result<Question, Invalid> {
        let model = self.model.unwrap_or(rules.catalogues.default_model());
        let catalogue = rules.catalogues.of(Some(model));
        if self.metrics.is_empty() {
            return Err(Invalid::new("unknown_metric", "/metrics", "at least one metric is needed"));
        }
        let mut metrics = Vec::new();
        for (place, name) in self.metrics.iter().enumerate() {
            let pointer = format!("/metrics/{place}");
            let metric = catalogue.find(name).ok_or_else(|| {
                let hint = catalogue.nearest(name).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                Invalid::new("unknown_metric", pointer.clone(), format!("there is no metric {name:?}{hint}"))
            })?;
            if metrics.contains(&metric) {
                return Err(Invalid::new("unknown_metric", pointer, format!("{name:?} is named twice")));
            }
            metrics.push(metric);
        }
        let mut dimensions = Vec::new();
        for (place, name) in self.dimensions.iter().enumerate() {
            let pointer = format!("/dimensions/{place}");
            let dimension = Dimension::parse(name).ok_or_else(|| {
                let near = nearest(name, Dimension::ALL.into_iter().map(Dimension::name));
                let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                Invalid::new("unknown_dimension", pointer.clone(), format!("there is no dimension {name:?}{hint}"))
            })?;
            if dimensions.contains(&dimension) {
                return Err(Invalid::new("unknown_dimension", pointer, format!("{name:?} is named twice")));
            }
            dimensions.push(dimension);
        }
        let filter = match &self.filters {
            Some(Value::Null) | None => Filter::everything(),
            Some(value) => Filter::read(value, catalogue)?,
        };
        let zone = match &self.time.zone {
            None => rules.report_zone,
            Some(name) => name.parse().map_err(|_| {
                Invalid::new("bad_zone", "/time/zone", format!("{name:?} is no zone's name, like Europe/Berlin"))
            })?,
        };
        let range = Range::read(self.time.range.as_ref(), zone, rules.report_zone)?;
        if self.time.fill && !(dimensions.is_empty() && self.time.grain.is_some()) {
            let detail = "\"fill\" needs a grain, and no dimensions";
            return Err(Invalid::new("bad_range", "/time/fill", detail));
        }
        if self.compare.is_some() && range.from.is_none() {
            let detail = "a comparison needs a range with a beginning";
            return Err(Invalid::new("bad_range", "/time/range", detail));
        }
        let limit = self.limit.unwrap_or(ROWS.min(rules.rows_max));
        if !(1..=rules.rows_max).contains(&limit) {
            let detail = format!("the limit is between 1 and {}", rules.rows_max);
            return Err(Invalid::new("bad_limit", "/limit", detail));
        }
        let question = Question {
            model,
            metrics,
            dimensions,
            filter,
            range,
            grain: self.time.grain,
            zone,
            fill: self.time.fill,
            compare: self.compare,
            order: self.order()?,
            limit,
            totals: self.totals,
        };
        question.check_reach(rules)?;
        Ok(question)
    }

    fn order(&self) -> Result<Vec<Order>, Invalid> {
        let mut order = Vec::new();
        for (place, text) in self.order.iter().enumerate() {
            let (name, descends) = text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
            let is = |other: &String| other == name;
            let column = if name == "time" && self.time.grain.is_some() {
                Column::Time
            } else if let Some(place) = self.dimensions.iter().position(is) {
                Column::Dimension(place)
            } else if let Some(place) = self.metrics.iter().position(is) {
                Column::Metric(place)
            } else {
                let detail = format!("the answer has no column {name:?}");
                return Err(Invalid::new("bad_order", format!("/order/{place}"), detail));
            };
            order.push(Order { column, descends });
        }
        Ok(order)
    }
}

impl Question {
    /// Whether reach is asked for, or needed by a metric or a condition.
    pub fn needs_reach(&self, catalogues: &Catalogues) -> bool {
        let catalogue = catalogues.of(Some(self.model));
        let asked = self.metrics.iter().chain(self.filter.rows.iter().map(|row| &row.metric));
        asked.copied().any(|place| matches!(catalogue.at(place).formula, Formula::Reach | Formula::Frequency { .. }))
    }

    /// Sketches are kept by day and campaign, so reach is not known of anything finer.
    fn check_reach(&self, rules: Rules<'_>) -> Result<(), Invalid> {
        if !self.needs_reach(rules.catalogues) {
            return Ok(());
        }
        let refuse = |pointer: &str, detail: &str| Err(Invalid::new("reach_not_available", pointer, detail));
        let is_finer = |dimension: &Dimension| dimension.stored() != Dimension::Campaign;
        if self.dimensions.iter().any(is_finer) {
            return refuse("/dimensions", "reach is known by campaign and advertiser only");
        }
        if self.filter.events.dimensions().iter().any(is_finer) {
            return refuse("/filters", "reach can be filtered by campaign and advertiser only");
        }
        if self.grain == Some(Grain::Hour) {
            return refuse("/time/grain", "reach is known by day, not by hour");
        }
        if self.zone != rules.report_zone {
            return refuse("/time/zone", "reach is known by days of the report zone only");
        }
        if !self.range.has_whole_days(rules.report_zone) {
            return refuse("/time/range", "reach is known by whole days only");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::settings::Display;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Question, Invalid> {
        let catalogues = Catalogues::new(&Display::default());
        let rules = Rules { catalogues: &catalogues, report_zone: Tz::UTC, rows_max: 10_000 };
        serde_json::from_value::<Request>(value).unwrap().read(rules)
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let check = |value: Value, code: &str, pointer: &str| {
            let error = read(value).unwrap_err();
            assert_eq!((error.code, error.pointer.as_str()), (code, pointer), "{error:?}");
        };
        check(json!({}), "unknown_metric", "/metrics");
        check(json!({"metrics": ["clicks", "click"]}), "unknown_metric", "/metrics/1");
        check(json!({"metrics": ["clicks", "clicks"]}), "unknown_metric", "/metrics/1");
        check(json!({"metrics": ["clicks"], "dimensions": ["site"]}), "unknown_dimension", "/dimensions/0");
        check(json!({"metrics": ["clicks"], "order": ["-spend"]}), "bad_order", "/order/0");
        check(json!({"metrics": ["clicks"], "limit": 0}), "bad_limit", "/limit");
        check(json!({"metrics": ["clicks"], "limit": 10_001}), "bad_limit", "/limit");
        check(json!({"metrics": ["clicks"], "time": {"zone": "Bielefeld"}}), "bad_zone", "/time/zone");
        check(json!({"metrics": ["clicks"], "compare": "previous_period"}), "bad_range", "/time/range");
        check(json!({"metrics": ["reach"], "dimensions": ["country"]}), "reach_not_available", "/dimensions");
        check(json!({"metrics": ["reach"], "filters": ["=", "country", "DE"]}), "reach_not_available", "/filters");
        check(json!({"metrics": ["frequency"], "time": {"grain": "hour"}}), "reach_not_available", "/time/grain");
        let range = json!({"range": ["2026-03-01T01:00:00Z", null]});
        check(json!({"metrics": ["reach"], "time": range}), "reach_not_available", "/time/range");
    }

    #[test]
    fn a_question_has_defaults() {
        let question = read(json!({"metrics": ["clicks"], "order": ["-clicks"]})).unwrap();
        assert_eq!((question.limit, question.zone, question.grain), (ROWS, Tz::UTC, None));
        assert_eq!(question.order, [Order { column: Column::Metric(0), descends: true }]);
        assert_eq!((question.range.from, question.range.to), (None, None));
    }
}
