//! The catalogue of metrics: what can be asked for, from the same definitions as the SQL views.

use std::collections::HashMap;

use adlake_domain::credit::Model;
use adlake_domain::kpi::{self, RATIOS, SUMS, Unit};
use adlake_domain::settings::Display;
use serde::Serialize;

/// How a metric is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Formula {
    /// A stored sum times `10^-scale`. Its place in [`SUMS`].
    Sum { stored: usize, scale: i8 },
    /// `numerator / denominator * factor` of two other metrics, which are sums.
    Ratio { numerator: usize, denominator: usize, factor: f64 },
    /// The number of distinct users, from sketches.
    Reach,
    /// Impressions for each user that was reached. The place of `impressions`.
    Frequency { impressions: usize },
}

/// A metric.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name, which is the column of the views.
    pub name: String,
    /// How it is computed.
    pub formula: Formula,
    /// What it is measured in.
    pub unit: &'static str,
    /// What it is.
    pub description: String,
}

/// A metric as it is shown to those who ask for the catalogue.
#[derive(Debug, Clone, Serialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `integer`, `decimal` or `number`.
    #[serde(rename = "type")]
    pub value_type: &'static str,
    /// What it is measured in.
    pub unit: &'static str,
    /// How it is computed from its inputs.
    pub formula: String,
    /// The additive sums that it is computed from.
    pub inputs: Vec<String>,
    /// Whether it can be added over groups.
    pub is_additive: bool,
    /// What it is.
    pub description: String,
}

/// The metrics, with one model behind the names without a suffix.
#[derive(Debug)]
pub struct Catalogue {
    metrics: Vec<Metric>,
    places: HashMap<String, usize>,
}

impl Catalogue {
    /// The metrics in the order of the views' columns.
    pub fn new(display: &Display) -> Catalogue {
        let stored = |name: &str| SUMS.iter().position(|sum| sum.column == name);
        let mut metrics: Vec<Metric> = kpi::shown(display)
            .into_iter()
            .filter_map(|sum| {
                let place = stored(&sum.stored)?;
                Some(Metric {
                    formula: Formula::Sum { stored: place, scale: sum.scale },
                    unit: unit(sum.unit),
                    description: described_sum(SUMS[place].description),
                    name: sum.name,
                })
            })
            .collect();
        let place = |metrics: &[Metric], name: &str| metrics.iter().position(|metric| metric.name == name);
        if let Some(impressions) = place(&metrics, "impressions") {
            metrics.push(Metric {
                name: "reach".into(),
                formula: Formula::Reach,
                unit: "users",
                description: "distinct users of the impressions: exact below 4,096, else with a standard error of 1.6%"
                    .into(),
            });
            metrics.push(Metric {
                name: "frequency".into(),
                formula: Formula::Frequency { impressions },
                unit: "ratio",
                description: "impressions for each user that was reached".into(),
            });
        }
        for ratio in RATIOS {
            let sums = (place(&metrics, ratio.numerator), place(&metrics, ratio.denominator));
            let (Some(numerator), Some(denominator)) = sums else { continue };
            let is_price = metrics[numerator].unit == "currency" && metrics[denominator].unit != "currency";
            metrics.push(Metric {
                name: ratio.column.into(),
                formula: Formula::Ratio { numerator, denominator, factor: ratio.factor },
                unit: if is_price { "currency" } else { "ratio" },
                description: described_ratio(ratio.column).into(),
            });
        }
        for ratio in RATIOS {
            // The same over valid and invalid events, where both sides count those.
            let gross = |name: &str| place(&metrics, &format!("gross_{name}"));
            let (Some(numerator), Some(denominator)) = (gross(ratio.numerator), gross(ratio.denominator)) else {
                continue;
            };
            let net = place(&metrics, ratio.column).map_or("ratio", |net| metrics[net].unit);
            metrics.push(Metric {
                name: format!("gross_{}", ratio.column),
                formula: Formula::Ratio { numerator, denominator, factor: ratio.factor },
                unit: net,
                description: format!("{}, of valid and invalid events", described_ratio(ratio.column)),
            });
        }
        let places = metrics.iter().enumerate().map(|(place, metric)| (metric.name.clone(), place)).collect();
        Catalogue { metrics, places }
    }

    /// All metrics.
    pub fn all(&self) -> &[Metric] {
        &self.metrics
    }

    /// The metric at a place.
    pub fn at(&self, place: usize) -> &Metric {
        &self.metrics[place]
    }

    /// The place of a metric.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The stored sums that a metric is computed from.
    pub fn inputs(&self, place: usize) -> Vec<usize> {
        match self.at(place).formula {
            Formula::Sum { stored, .. } => vec![stored],
            Formula::Ratio { numerator, denominator, .. } => {
                [self.inputs(numerator), self.inputs(denominator)].concat()
            }
            Formula::Reach => Vec::new(),
            Formula::Frequency { impressions } => self.inputs(impressions),
        }
    }

    /// The metric nearest to a name that is none.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.metrics.iter().map(|metric| metric.name.as_str()))
    }

    /// The catalogue for those who ask.
    pub fn described(&self) -> Vec<Described> {
        let name = |place: usize| self.at(place).name.clone();
        let all = (0..self.metrics.len()).map(|place| {
            let metric = self.at(place);
            let (formula, inputs, is_additive) = match metric.formula {
                Formula::Sum { .. } => (format!("sum({})", metric.name), vec![metric.name.clone()], true),
                Formula::Ratio { numerator, denominator, factor } => {
                    let factor = if factor == 1.0 { String::new() } else { format!(" * {factor}") };
                    let formula = format!("{} / {}{factor}", name(numerator), name(denominator));
                    (formula, vec![name(numerator), name(denominator)], false)
                }
                Formula::Reach => ("distinct users of the impressions".into(), vec!["reach_sketch".into()], false),
                Formula::Frequency { .. } => {
                    ("impressions / reach".into(), vec!["impressions".into(), "reach_sketch".into()], false)
                }
            };
            Described {
                name: metric.name.clone(),
                value_type: metric.value_type(),
                unit: metric.unit,
                formula,
                inputs,
                is_additive,
                description: metric.description.clone(),
            }
        });
        all.collect()
    }
}

impl Metric {
    /// The type of its values: `integer`, `decimal` or `number`.
    pub fn value_type(&self) -> &'static str {
        match self.formula {
            Formula::Sum { scale: 0, .. } | Formula::Reach => "integer",
            Formula::Sum { .. } => "decimal",
            Formula::Ratio { .. } | Formula::Frequency { .. } => "number",
        }
    }
}

/// The catalogues of a display, one for each model behind the names without a suffix.
#[derive(Debug)]
pub struct Catalogues {
    default_model: Model,
    by_model: Vec<Catalogue>,
}

impl Catalogues {
    /// The catalogues of a display.
    pub fn new(display: &Display) -> Catalogues {
        let with = |default_model: Model| Catalogue::new(&Display { default_model, ..display.clone() });
        Catalogues { default_model: display.default_model, by_model: Model::ALL.map(with).into_iter().collect() }
    }

    /// The catalogue with a model, or with that of the configuration.
    pub fn of(&self, model: Option<Model>) -> &Catalogue {
        let wanted = model.unwrap_or(self.default_model);
        let place = Model::ALL.iter().position(|model| *model == wanted).unwrap_or_default();
        &self.by_model[place]
    }

    /// The model behind the names without a suffix, unless a question names another.
    pub fn default_model(&self) -> Model {
        self.default_model
    }
}

/// The known name that is nearest to one that is not known, if it is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let far = |other: &str| distance(&lower, other);
    known.map(|other| (far(other), other)).min().filter(|(far, _)| *far <= 1 + lower.len() / 4).map(|(_, other)| other)
}

/// How many characters have to be put in, left out or exchanged to make one text of another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (place, to) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(from != *to);
            diagonal = row[place + 1];
            row[place + 1] = exchanged.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[b.len()]
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Events => "events",
        Unit::Currency => "currency",
        Unit::Seconds => "seconds",
        Unit::Milliseconds => "milliseconds",
        Unit::Plain => "none",
    }
}

/// What a stored sum is, without the unit that it is stored in.
fn described_sum(stored: &str) -> String {
    let units = [", micros", ", billionths", ", a CPM"];
    let end = units.iter().filter_map(|unit| stored.find(unit)).min().unwrap_or(stored.len());
    stored[..end].replace("microseconds", "seconds")
}

fn described_ratio(name: &str) -> &'static str {
    match name {
        "ctr" => "click-through rate",
        "cvr" => "conversion rate: conversions for each click",
        "cpc" => "cost per click",
        "cpm" => "cost per mille: of a thousand impressions",
        "cpa" => "cost per acquisition: per conversion",
        "roas" => "return on ad spend: revenue for each unit of spend",
        "viewability" => "share of the measurable impressions that were viewable",
        "win_rate" => "share of the bids that won",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_sums_and_ratios_is_a_metric() {
        let display = Display::default();
        let catalogue = Catalogue::new(&display);
        for name in kpi::shown(&display).iter().map(|sum| sum.name.as_str()).chain(RATIOS.iter().map(|r| r.column)) {
            assert!(catalogue.find(name).is_some(), "{name}");
        }
        let gross: Vec<&str> =
            RATIOS.iter().map(|r| r.column).filter(|name| catalogue.find(&format!("gross_{name}")).is_some()).collect();
        assert_eq!(gross, ["ctr", "cvr", "cpc", "cpm", "cpa", "roas"]);
        for described in catalogue.described() {
            assert!(!described.description.is_empty() && !described.inputs.is_empty(), "{described:?}");
            let is_stored = |unit: &&str| described.description.contains(*unit);
            assert!(!["micro", "billionths"].iter().any(is_stored), "{described:?}");
        }
    }

    #[test]
    fn a_model_changes_the_names_without_a_suffix() {
        let catalogues = Catalogues::new(&Display::default());
        let stored = |model| {
            let catalogue = catalogues.of(model);
            catalogue.at(catalogue.find("attributed_revenue").unwrap()).formula
        };
        assert_eq!(stored(None), stored(Some(Model::LastTouch)));
        assert_ne!(stored(None), stored(Some(Model::Linear)));
    }

    #[test]
    fn the_nearest_name_is_told_if_it_is_near() {
        let catalogue = Catalogue::new(&Display::default());
        for (name, expected) in
            [("click", Some("clicks")), ("CTR", Some("ctr")), ("spent", Some("spend")), ("zzz", None)]
        {
            assert_eq!(catalogue.nearest(name), expected, "{name}");
        }
    }
}
