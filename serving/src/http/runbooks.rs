//! The runbooks of the built-in alarms, so that the dashboard can show them where there is no
//! documentation at hand.

use axum::http::{HeaderName, header};

use super::name::Name;
use super::problem::Problem;

macro_rules! runbooks {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../docs/runbooks/", $name)))),*]
    };
}

/// The names of the files, and their texts.
const RUNBOOKS: [(&str, &str); 14] = runbooks![
    "batch_late.md",
    "clicks_without_impressions.md",
    "conversions_silent.md",
    "cpa_spike.md",
    "cpc_spike.md",
    "ctr_drop.md",
    "dead_letters.md",
    "ingest_lag.md",
    "invalid_traffic.md",
    "over_budget.md",
    "sink_down.md",
    "spend_without_impressions.md",
    "stale_feed.md",
    "wins_not_served.md",
];

/// How rules name them.
pub fn paths() -> Vec<String> {
    RUNBOOKS.iter().map(|(name, _)| format!("docs/runbooks/{name}")).collect()
}

/// `GET /runbooks/{file}`.
pub async fn show(Name(file): Name) -> Result<([(HeaderName, &'static str); 1], &'static str), Problem> {
    let (_, text) = RUNBOOKS.into_iter().find(|(name, _)| *name == file).ok_or_else(Problem::not_found)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    #[test]
    fn every_built_in_rule_has_one() {
        let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
        for rule in rules {
            assert!(paths().contains(&rule.runbook), "{}", rule.runbook);
        }
    }
}
