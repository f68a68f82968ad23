//! Measures how well the built-in rules find what is wrong, and what it costs to evaluate them.
//!
//! - End to end: `adlake generate` plants faults of known kind, size, place and time into two
//!   months of seasonal traffic with holidays. The events are ingested, a batch run is published,
//!   and `adlake alarms test` tells when each rule would have fired. See [`planted`].
//! - In memory: the same rules by the same code over drawn sums of many campaigns, beside a fixed
//!   threshold and a z-score without season. See [`drawn`].
//! - A server over 2,000 campaigns: how long an evaluation of all rules takes. See [`evaluation`].
//!
//! What fires counts as right if a fault was planted there that the rule is meant to find. A fault
//! that is no trouble for the figures, like records that come twice, is meant for no rule.

mod drawn;
mod evaluation;
mod planted;

use std::collections::BTreeMap;

use adlake_domain::time::HOUR;
use adlake_serving::alarms::rule::{Rule, read};
use adlake_serving::metrics::Catalogue;
use anyhow::Result;

use crate::program::median;

pub use self::drawn::beside_others;
pub use self::evaluation::of_many_campaigns;
pub use self::planted::end_to_end;

/// The built-in rules that watch campaigns.
fn rules() -> Result<Vec<Rule>> {
    let rules = read::read(None, true, &Catalogue::new(&Default::default()))?;
    Ok(rules.into_iter().filter(|rule| !rule.by.is_empty()).collect())
}

/// A fault that was planted.
#[derive(Debug, Clone)]
struct Fault {
    /// What it is.
    name: String,
    /// The campaign that it concerns. `None`: all.
    campaign: Option<String>,
    from: i64,
    to: i64,
    /// The rules that are meant to find it.
    rules: &'static [&'static str],
}

/// That people would have been told of something.
#[derive(Debug, Clone)]
struct Told {
    rule: String,
    campaign: String,
    at: i64,
}

/// How long after a fault a rule still looks at its hours.
fn tail(rules: &[Rule], name: &str) -> i64 {
    let rule = rules.iter().find(|rule| rule.name == name);
    rule.map_or(3 * HOUR, |rule| i64::from(rule.window_hours) * HOUR + rule.delay + rule.times.hold) + HOUR
}

/// What was found of the faults with one name.
#[derive(Debug, Clone, Default)]
struct Found {
    planted: usize,
    found: usize,
    hours: Vec<f64>,
}

impl Found {
    fn recall(&self) -> f64 {
        self.found as f64 / self.planted.max(1) as f64
    }
}

/// What was found, and how much else.
#[derive(Debug, Clone, Default)]
struct Score {
    by_name: BTreeMap<String, Found>,
    right: usize,
    wrong: Vec<Told>,
}

impl Score {
    /// Adds faults, and what was told meanwhile.
    fn add(&mut self, rules: &[Rule], faults: &[Fault], told: &[Told]) {
        let is_of = |told: &Told, fault: &Fault| {
            fault.rules.contains(&told.rule.as_str())
                && fault.campaign.as_ref().is_none_or(|campaign| *campaign == told.campaign)
                && (fault.from..=fault.to + tail(rules, &told.rule)).contains(&told.at)
        };
        for fault in faults {
            let found = self.by_name.entry(fault.name.clone()).or_default();
            found.planted += 1;
            let first = told.iter().filter(|told| is_of(told, fault)).map(|told| told.at).min();
            if let Some(first) = first {
                found.found += 1;
                found.hours.push((first - fault.from) as f64 / HOUR as f64);
            }
        }
        for told in told {
            match faults.iter().any(|fault| is_of(told, fault)) {
                true => self.right += 1,
                false => self.wrong.push(told.clone()),
            }
        }
    }

    /// The share of what was told that was right.
    fn precision(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong.len()).max(1) as f64
    }

    fn print(&self, is_for_rules: impl Fn(&str) -> bool) {
        for (name, found) in &self.by_name {
            let hours = match found.hours.is_empty() {
                true => String::new(),
                false => format!(", told after {:.1} h (median)", median(found.hours.clone())),
            };
            let note = if is_for_rules(name) { "" } else { " (meant for no rule)" };
            println!("    {name:<44} {:>3} of {:>3} found{hours}{note}", found.found, found.planted);
        }
    }
}
