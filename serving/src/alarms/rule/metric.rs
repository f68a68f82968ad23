//! What rules can watch: the metrics of the catalogue, some that are made of them, and what the
//! lake and the server tell of themselves.

use super::super::detect::{Kind, Sums};
use crate::metrics::{Catalogue, Formula, nearest};

/// Something that tells how the lake or the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operational {
    /// Seconds from the newest event of a raw table to when it was taken in.
    IngestLag,
    /// Seconds since a raw table has got its newest row.
    Freshness,
    /// The share of records of the window that were rejected.
    DeadLetterRate,
    /// Seconds since a batch run was published.
    BatchAge,
    /// Seconds since a sink of alarms last failed without success after it.
    SinkDown,
}

impl Operational {
    /// All of them.
    pub const ALL: [Operational; 5] = [
        Operational::IngestLag,
        Operational::Freshness,
        Operational::DeadLetterRate,
        Operational::BatchAge,
        Operational::SinkDown,
    ];

    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Operational::IngestLag => "ingest_lag",
            Operational::Freshness => "freshness",
            Operational::DeadLetterRate => "dead_letter_rate",
            Operational::BatchAge => "batch_age",
            Operational::SinkDown => "sink_down",
        }
    }
}

/// A sum of a window: metrics of the catalogue, each times a factor.
pub type Terms = Vec<(String, f64)>;

/// How a KPI is computed from sums of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Kpi {
    /// What is divided, or the value itself.
    pub numerator: Terms,
    /// What it is divided by.
    pub denominator: Option<Terms>,
    /// What the ratio is multiplied with.
    pub factor: f64,
    /// The metric that counts the events behind the value.
    pub volume: String,
    /// What kind of number it is.
    pub kind: Kind,
    /// The value is 0 where this metric is not.
    pub unless: Option<String>,
}

/// What a rule watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// A metric over the events of a window.
    Kpi {
        /// Its name.
        name: String,
        /// How it is computed.
        kpi: Kpi,
    },
    /// Spend since the start of a campaign, in shares of what its budget allows until now.
    Pacing,
    /// How the lake or the server is doing.
    Operational(Operational),
}

impl Metric {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Metric::Kpi { name, .. } => name,
            Metric::Pacing => PACING,
            Metric::Operational(operational) => operational.name(),
        }
    }

    /// What kind of number it is.
    pub fn kind(&self) -> Kind {
        match self {
            Metric::Kpi { kpi, .. } => kpi.kind,
            Metric::Pacing => Kind::Ratio,
            Metric::Operational(_) => Kind::Sum,
        }
    }

    /// What a ratio is multiplied with.
    pub fn factor(&self) -> f64 {
        if let Metric::Kpi { kpi, .. } = self { kpi.factor } else { 1.0 }
    }

    /// The metrics of the catalogue that it needs.
    pub fn inputs(&self) -> Vec<String> {
        let Metric::Kpi { kpi, .. } = self else { return Vec::new() };
        let terms = kpi.numerator.iter().chain(kpi.denominator.iter().flatten()).map(|(name, _)| name.clone());
        let mut inputs: Vec<String> = Vec::new();
        for name in terms.chain([kpi.volume.clone()]).chain(kpi.unless.clone()) {
            if !inputs.contains(&name) {
                inputs.push(name);
            }
        }
        inputs
    }

    /// Reads a metric by its name.
    pub fn find(name: &str, catalogue: &Catalogue) -> Result<Metric, String> {
        if name == PACING {
            return Ok(Metric::Pacing);
        }
        if let Some(operational) = Operational::ALL.into_iter().find(|operational| operational.name() == name) {
            return Ok(Metric::Operational(operational));
        }
        if let Some(kpi) = made(name) {
            return Ok(Metric::Kpi { name: name.to_owned(), kpi });
        }
        let Some(place) = catalogue.find(name) else {
            let known = catalogue.all().iter().map(|metric| metric.name.as_str());
            let own = Operational::ALL.into_iter().map(|operational| -> &str { operational.name() });
            let near = nearest(name, known.chain(own).chain(MADE).chain([PACING]));
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err(format!("there is no metric {name:?}{hint}"));
        };
        let one = |name: &str| vec![(name.to_owned(), 1.0)];
        let unit = |place: usize| catalogue.at(place).unit;
        let kpi = match catalogue.at(place).formula {
            Formula::Sum { .. } => {
                let kind = if unit(place) == "events" { Kind::Count } else { Kind::Sum };
                let volume = if kind == Kind::Count { name.to_owned() } else { volume(name).to_owned() };
                Kpi { numerator: one(name), denominator: None, factor: 1.0, volume, kind, unless: None }
            }
            Formula::Ratio { numerator, denominator, factor } => {
                let is_share = factor == 1.0 && unit(numerator) == "events" && unit(denominator) == "events";
                let kind = if is_share { Kind::Share } else { Kind::Ratio };
                let names = [numerator, denominator].map(|place| catalogue.at(place).name.clone());
                let volume = match kind {
                    Kind::Share => names[1].clone(),
                    _ if unit(denominator) == "events" => names[1].clone(),
                    _ => volume(&names[0]).to_owned(),
                };
                Kpi { numerator: one(&names[0]), denominator: Some(one(&names[1])), factor, volume, kind, unless: None }
            }
            Formula::Reach | Formula::Frequency { .. } => {
                return Err(format!("{name:?} is known by whole days only, so no rule can watch it"));
            }
        };
        Ok(Metric::Kpi { name: name.to_owned(), kpi })
    }
}

const PACING: &str = "pacing";
/// Metrics that are made of several sums.
const MADE: [&str; 4] = ["unserved_win_rate", "unjoined_click_rate", "spend_without_impressions", "invalid_rate"];

fn made(name: &str) -> Option<Kpi> {
    let terms = |terms: &[(&str, f64)]| terms.iter().map(|(name, factor)| ((*name).to_owned(), *factor)).collect();
    let kpi = |numerator: &[(&str, f64)], denominator: &[(&str, f64)], volume: &str| Kpi {
        numerator: terms(numerator),
        denominator: (!denominator.is_empty()).then(|| terms(denominator)),
        factor: 1.0,
        volume: volume.into(),
        kind: Kind::Ratio,
        unless: None,
    };
    Some(match name {
        "unserved_win_rate" => kpi(&[("wins", 1.0), ("impressions", -1.0)], &[("wins", 1.0)], "wins"),
        "unjoined_click_rate" => kpi(&[("clicks", 1.0), ("joined_clicks", -1.0)], &[("clicks", 1.0)], "clicks"),
        "invalid_rate" => {
            let invalid = [("gross_impressions", 1.0), ("impressions", -1.0)];
            kpi(&invalid, &[("gross_impressions", 1.0)], "gross_impressions")
        }
        "spend_without_impressions" => {
            Kpi { kind: Kind::Sum, unless: Some("impressions".into()), ..kpi(&[("spend", 1.0)], &[], "wins") }
        }
        _ => return None,
    })
}

/// The events that a sum is made of.
fn volume(name: &str) -> &'static str {
    match name {
        "spend" | "view_time_ms" | "interaction_depth" | "unpriced_events" => "impressions",
        "seconds_to_click" => "joined_clicks",
        "seconds_to_conversion" => "joined_conversions",
        _ => "conversions",
    }
}

impl Kpi {
    /// The sums of a window. `inputs` are the names behind the numbers.
    pub fn sums(&self, inputs: &[String], numbers: &[f64]) -> Sums {
        let number = |name: &str| {
            let place = inputs.iter().position(|input| input == name);
            place.and_then(|place| numbers.get(place).copied()).unwrap_or_default()
        };
        let total = |terms: &Terms| terms.iter().map(|(name, factor)| number(name) * factor).sum::<f64>();
        let is_void = self.unless.as_deref().is_some_and(|name| number(name) != 0.0);
        Sums {
            numerator: if is_void { 0.0 } else { total(&self.numerator) },
            denominator: self.denominator.as_ref().map(total),
            volume: number(&self.volume),
        }
    }
}

#[cfg(test)]
mod tests {
    use adlake_domain::settings::Display;

    use super::*;

    #[test]
    fn every_metric_of_the_catalogue_can_be_watched_but_those_of_days() {
        let catalogue = Catalogue::new(&Display::default());
        for metric in catalogue.all() {
            match Metric::find(&metric.name, &catalogue) {
                Ok(found) => {
                    assert!(found.inputs().iter().all(|name| catalogue.find(name).is_some()), "{found:?}");
                }
                Err(detail) => assert!(["reach", "frequency"].contains(&metric.name.as_str()), "{detail}"),
            }
        }
        for name in MADE {
            let inputs = Metric::find(name, &catalogue).unwrap().inputs();
            assert!(inputs.iter().all(|name| catalogue.find(name).is_some()), "{name}: {inputs:?}");
        }
        assert!(Metric::find("ctrr", &catalogue).unwrap_err().contains("did you mean \"ctr\"?"));
    }

    #[test]
    fn kinds_follow_from_units() {
        let catalogue = Catalogue::new(&Display::default());
        for (name, kind) in [
            ("ctr", Kind::Share),
            ("win_rate", Kind::Share),
            ("cpc", Kind::Ratio),
            ("roas", Kind::Ratio),
            ("clicks", Kind::Count),
            ("spend", Kind::Sum),
        ] {
            assert_eq!(Metric::find(name, &catalogue).unwrap().kind(), kind, "{name}");
        }
    }

    #[test]
    fn sums_are_made_of_terms() {
        let catalogue = Catalogue::new(&Display::default());
        let Metric::Kpi { kpi, .. } = Metric::find("unserved_win_rate", &catalogue).unwrap() else { panic!() };
        let inputs = ["wins", "impressions"].map(String::from);
        assert_eq!(kpi.sums(&inputs, &[200.0, 150.0]).value(1.0), Some(0.25));
        let Metric::Kpi { kpi, .. } = Metric::find("invalid_rate", &catalogue).unwrap() else { panic!() };
        let inputs = ["impressions", "gross_impressions"].map(String::from);
        assert_eq!(kpi.sums(&inputs, &[100.0, 400.0]).value(1.0), Some(0.75));
        let Metric::Kpi { kpi, .. } = Metric::find("spend_without_impressions", &catalogue).unwrap() else { panic!() };
        let inputs = ["spend", "impressions", "wins"].map(String::from);
        assert_eq!(kpi.sums(&inputs, &[7.0, 1.0, 3.0]).value(1.0), Some(0.0));
        assert_eq!(kpi.sums(&inputs, &[7.0, 0.0, 3.0]).value(1.0), Some(7.0));
    }
}
