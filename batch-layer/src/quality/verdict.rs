//! Decides, from what was counted, whether an expectation is met. Pure: no I/O, no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::expectation::{Check, Expectation, Measure};
use crate::quality_report::Shares;

/// A result of an earlier published run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Past {
    pub observed: Option<f64>,
    pub shares: Option<Shares>,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Counted {
    /// The numbers of [`super::plan::Work::Scan`] or [`super::plan::Work::Query`].
    Numbers(Vec<Option<f64>>),
    /// The rows of each value.
    Rows(BTreeMap<String, f64>),
}

/// Whether an expectation is met.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Verdict {
    pub is_met: bool,
    pub observed: Option<f64>,
    pub checked: u64,
    pub violating: u64,
    pub note: Option<String>,
    pub shares: Option<Shares>,
}

/// The smallest share that the population stability index (PSI) counts with, so that a new value
/// does not make it infinite.
const SHARE_MIN: f64 = 1e-4;

/// Decides. `past` holds the results of the last published runs, the newest first.
pub(super) fn verdict(expectation: &Expectation, counted: &Counted, past: &[Past], now: DateTime<Utc>) -> Verdict {
    let number = |place: usize| match counted {
        Counted::Numbers(numbers) => numbers.get(place).copied().flatten(),
        Counted::Rows(_) => None,
    };
    let rows = |place: usize| number(place).unwrap_or(0.0).max(0.0) as u64;
    let tolerance = &expectation.tolerance;
    let of_rows = |checked: u64, violating: u64| Verdict {
        is_met: tolerance.accepts(violating, checked),
        observed: Some(if checked == 0 { 0.0 } else { violating as f64 / checked as f64 }),
        checked,
        violating,
        ..Verdict::default()
    };
    match &expectation.check {
        Check::NotNull
        | Check::Unique { .. }
        | Check::AcceptedValues { .. }
        | Check::Range { .. }
        | Check::Regex { .. } => of_rows(rows(0), rows(1)),
        Check::Completeness { min } => {
            let (checked, missing) = (rows(0), rows(1));
            let share = if checked == 0 { 1.0 } else { (checked - missing) as f64 / checked as f64 };
            let is_met = share >= *min;
            Verdict { is_met, observed: Some(share), checked, violating: missing, ..Verdict::default() }
        }
        Check::Relationship { to, target_may_be_empty, .. } => {
            if rows(2) == 0 && *target_may_be_empty {
                let note = Some(format!("{to} has no rows, so nothing was compared"));
                return Verdict { is_met: true, note, ..Verdict::default() };
            }
            of_rows(rows(0), rows(1))
        }
        Check::RowCount { min, max } => {
            let found = rows(0);
            let is_met = min.is_none_or(|min| found >= min) && max.is_none_or(|max| found <= max);
            Verdict { is_met, observed: number(0), checked: found, ..Verdict::default() }
        }
        Check::Freshness { age_max } => match number(1) {
            None => Verdict {
                checked: rows(0),
                note: Some("there is no time in the column".to_string()),
                ..Verdict::default()
            },
            Some(newest) => {
                let age = (now.timestamp_micros() as f64 - newest) / 1e6;
                let is_met = age <= age_max.as_secs_f64();
                Verdict { is_met, observed: Some(age), checked: rows(0), ..Verdict::default() }
            }
        },
        Check::Drift { measure, runs, runs_min, change_max } => {
            drift(*measure, counted, &past[..past.len().min(*runs)], *runs_min, *change_max)
        }
        Check::Discrepancy { .. } => Verdict {
            is_met: tolerance.accepts(rows(1), rows(0)),
            observed: number(2),
            checked: rows(0),
            violating: rows(1),
            note: (rows(0) == 0).then(|| "no group is large enough to be compared".to_string()),
            ..Verdict::default()
        },
        Check::Sql { .. } => {
            let violating = rows(0);
            Verdict {
                is_met: tolerance.accepts(violating, violating),
                observed: number(0),
                checked: violating,
                violating,
                ..Verdict::default()
            }
        }
    }
}

fn drift(measure: Measure, counted: &Counted, past: &[Past], runs_min: usize, change_max: f64) -> Verdict {
    let few = |known: usize| Some(format!("{known} earlier runs are known, and {runs_min} are needed"));
    match counted {
        Counted::Rows(rows) => {
            let all: f64 = rows.values().sum();
            let shares: Shares = rows.iter().map(|(value, rows)| (value.clone(), rows / all.max(1.0))).collect();
            let earlier: Vec<&Shares> = past.iter().filter_map(|past| past.shares.as_ref()).collect();
            let mut verdict = Verdict { checked: all as u64, ..Verdict::default() };
            if earlier.len() < runs_min {
                verdict.is_met = true;
                verdict.note = few(earlier.len());
            } else {
                let mut base = Shares::new();
                for shares in &earlier {
                    for (value, share) in *shares {
                        *base.entry(value.clone()).or_default() += share / earlier.len() as f64;
                    }
                }
                let (index, most) = stability(&base, &shares);
                verdict.observed = Some(index);
                verdict.is_met = index <= change_max;
                verdict.note = most.map(|value| {
                    let share = |shares: &Shares| shares.get(&value).copied().unwrap_or(0.0) * 100.0;
                    format!(
                        "{value:?} has changed most: {:.1}% of the rows, before {:.1}%",
                        share(&shares),
                        share(&base)
                    )
                });
            }
            verdict.shares = Some(shares);
            verdict
        }
        Counted::Numbers(numbers) => {
            let number = |place: usize| numbers.get(place).copied().flatten();
            let (checked, observed) = (number(0).unwrap_or(0.0).max(0.0) as u64, number(1));
            let earlier: Vec<f64> = past.iter().filter_map(|past| past.observed).collect();
            let mut verdict = Verdict { checked, observed, ..Verdict::default() };
            if earlier.len() < runs_min {
                verdict.is_met = true;
                verdict.note = few(earlier.len());
                return verdict;
            }
            let mean = earlier.iter().sum::<f64>() / earlier.len() as f64;
            match observed {
                None => verdict.note = Some("there is no value in the column".to_string()),
                Some(observed) => {
                    let change = (observed - mean).abs() / mean.abs().max(f64::MIN_POSITIVE);
                    // A share has no use of a relative limit near zero: 0.1% is twice 0.05%.
                    let change = if measure == Measure::NullFraction { (observed - mean).abs() } else { change };
                    verdict.is_met = change <= change_max || observed == mean;
                    verdict.note = Some(format!("the mean of {} earlier runs is {mean}", earlier.len()));
                }
            }
            verdict
        }
    }
}

/// The population stability index, and the value that adds most to it. Siddiqi, "Credit Risk
/// Scorecards" (2006): below 0.1 nothing has changed, above 0.25 much has.
fn stability(base: &Shares, now: &Shares) -> (f64, Option<String>) {
    let values: std::collections::BTreeSet<&String> = base.keys().chain(now.keys()).collect();
    let share = |shares: &Shares, value: &String| shares.get(value).copied().unwrap_or(0.0).max(SHARE_MIN);
    let parts = values.into_iter().map(|value| {
        let (before, after) = (share(base, value), share(now, value));
        (value, (after - before) * (after / before).ln())
    });
    let parts: Vec<(&String, f64)> = parts.collect();
    let most = parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, part)| *part > 0.0);
    (parts.iter().map(|(_, part)| part).sum(), most.map(|(value, _)| (*value).clone()))
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn expectation(text: &str) -> Expectation {
        parse("x", &format!("[[expectation]]\ntable = \"t\"\n{text}")).unwrap().remove(0)
    }

    fn check(text: &str, numbers: &[Option<f64>], past: &[f64], expected: (bool, Option<f64>)) {
        let past: Vec<Past> = past.iter().map(|past| Past { observed: Some(*past), shares: None }).collect();
        let now = DateTime::from_timestamp_micros(1_000_000_000).unwrap();
        let verdict = verdict(&expectation(text), &Counted::Numbers(numbers.to_vec()), &past, now);
        assert_eq!((verdict.is_met, verdict.observed), expected, "{text}");
    }

    #[test]
    fn rows_and_shares() {
        let not_null = "type = \"not_null\"\ncolumn = \"c\"";
        check(not_null, &[Some(4.0), Some(0.0)], &[], (true, Some(0.0)));
        check(not_null, &[Some(4.0), Some(1.0)], &[], (false, Some(0.25)));
        check(not_null, &[Some(0.0), None], &[], (true, Some(0.0)));
        let complete = "type = \"completeness\"\ncolumn = \"c\"\nmin = 0.75";
        check(complete, &[Some(4.0), Some(1.0)], &[], (true, Some(0.75)));
        check(complete, &[Some(4.0), Some(2.0)], &[], (false, Some(0.5)));
        let rows = "type = \"row_count\"\nmin = 2\nmax = 3";
        check(rows, &[Some(1.0)], &[], (false, Some(1.0)));
        check(rows, &[Some(3.0)], &[], (true, Some(3.0)));
        check(rows, &[Some(4.0)], &[], (false, Some(4.0)));
        let linked = "type = \"relationship\"\ncolumn = \"c\"\nto = \"r\"";
        check(linked, &[Some(4.0), Some(4.0), Some(0.0)], &[], (false, Some(1.0)));
        let linked = format!("{linked}\ntarget_may_be_empty = true");
        check(&linked, &[Some(4.0), Some(4.0), Some(0.0)], &[], (true, None));
        check(&linked, &[Some(4.0), Some(4.0), Some(1.0)], &[], (false, Some(1.0)));
    }

    #[test]
    fn times_are_compared_with_the_clock() {
        let fresh = "type = \"freshness\"\ncolumn = \"c\"\nmax_age = \"10m\"";
        check(fresh, &[Some(1.0), Some(400_000_000.0)], &[], (true, Some(600.0)));
        check(fresh, &[Some(1.0), Some(399_000_000.0)], &[], (false, Some(601.0)));
        check(fresh, &[Some(0.0), None], &[], (false, None));
    }

    #[test]
    fn measures_are_compared_with_earlier_runs() {
        let mean = "type = \"drift\"\ncolumn = \"c\"\nmeasure = \"mean\"\nmax_change = 0.5\nruns = 2\nmin_runs = 2";
        check(mean, &[Some(1.0), Some(99.0)], &[10.0], (true, Some(99.0)));
        check(mean, &[Some(1.0), Some(15.0)], &[9.0, 11.0], (true, Some(15.0)));
        check(mean, &[Some(1.0), Some(15.1)], &[9.0, 11.0], (false, Some(15.1)));
        // The third is older than the runs that count.
        check(mean, &[Some(1.0), Some(15.1)], &[9.0, 11.0, 90.0], (false, Some(15.1)));
        check(mean, &[Some(0.0), None], &[9.0, 11.0], (false, None));
        check(mean, &[Some(1.0), Some(0.0)], &[0.0, 0.0], (true, Some(0.0)));
        let nulls = "type = \"drift\"\ncolumn = \"c\"\nmeasure = \"null_fraction\"\nmax_change = 0.1\nmin_runs = 1";
        check(nulls, &[Some(9.0), Some(0.05)], &[0.01], (true, Some(0.05)));
        check(nulls, &[Some(9.0), Some(0.2)], &[0.01], (false, Some(0.2)));
    }

    #[test]
    fn shares_that_move_are_told_by_their_value() {
        let text = "type = \"drift\"\ncolumn = \"c\"\nmeasure = \"values\"\nmin_runs = 1";
        let told = |past: &[(&str, f64)], rows: &[(&str, f64)]| {
            let map = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, n)| (name.to_string(), *n)).collect();
            let past = [Past { observed: None, shares: Some(map(past)) }];
            verdict(&expectation(text), &Counted::Rows(map(rows)), &past, DateTime::UNIX_EPOCH)
        };
        let same = told(&[("a", 0.5), ("b", 0.5)], &[("a", 51.0), ("b", 49.0)]);
        assert!(same.is_met && same.observed.unwrap() < 0.01 && same.checked == 100, "{same:?}");
        let moved = told(&[("a", 0.5), ("b", 0.5)], &[("a", 95.0), ("c", 5.0)]);
        assert!(!moved.is_met, "{moved:?}");
        assert_eq!(moved.note.unwrap(), "\"b\" has changed most: 0.0% of the rows, before 50.0%");
        assert_eq!(moved.shares.unwrap()["c"], 0.05);
    }
}
