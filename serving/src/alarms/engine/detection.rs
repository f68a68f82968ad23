//! How well the built-in rule `ctr_drop` detects: measured on synthetic campaigns, beside a fixed
//! threshold and a z-score without season.
//!
//! A campaign has a curve over the day and the week, a rate that differs by the hour of the day, a
//! level that drifts from week to week, and some holidays with half of the traffic. Clicks are
//! drawn. Faults are planted at a known time, with a known size, and last a day.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::detect::{Detect, Kind, Sample, Sums, judge, median};
use super::super::rule::{Against, read};
use super::super::track::{AlarmState, Times, Track};
use crate::metrics::Catalogue;

const HOUR: i64 = 3_600_000_000;
const WEEK: usize = 168;
const HOURS: usize = 11 * WEEK;
const WINDOW: usize = 3;
const FAULT_HOURS: usize = 24;
const VOLUME_MIN: f64 = 20_000.0;

/// Impressions and clicks by the hour.
struct Campaign {
    hours: Vec<(f64, f64)>,
}

/// How the built-in rule detects.
fn rule() -> (Detect, Times) {
    let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
    let rule = rules.into_iter().find(|rule| rule.name == "ctr_drop").unwrap();
    assert_eq!((rule.window_hours as usize, rule.against), (WINDOW, Against::HourOfWeek(6)));
    assert_eq!(rule.min_volume, [(1, VOLUME_MIN)]);
    (rule.detect, Times { no_data: None, ..rule.times })
}

fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

impl Campaign {
    fn new(random: &mut StdRng, per_hour: f64, fault: Option<(usize, f64)>) -> Campaign {
        let holiday = random.random_range(0..HOURS / 24);
        let mut level = 1.0;
        let mut hours = Vec::with_capacity(HOURS);
        for hour in 0..HOURS {
            if hour % WEEK == 0 {
                level *= 1.0 + 0.02 * normal(random);
            }
            let day = (hour % 24) as f64 / 24.0 * std::f64::consts::TAU;
            let weekend = if hour % WEEK >= 5 * 24 { 0.8 } else { 1.0 };
            let off = if hour / 24 == holiday { 0.5 } else { 1.0 };
            let mean = per_hour * (1.0 + 0.3 * day.sin()) * weekend * off;
            let impressions = (mean * (1.0 + 0.05 * normal(random))).max(0.0).round();
            let is_fault = fault.is_some_and(|(at, _)| (at..at + FAULT_HOURS).contains(&hour));
            let factor = fault.filter(|_| is_fault).map_or(1.0, |(_, by)| 1.0 - by);
            let rate = 0.01 * level * (1.0 + 0.15 * day.cos()) * factor;
            let clicks = impressions * rate + (impressions * rate * (1.0 - rate)).sqrt() * normal(random);
            hours.push((impressions, clicks.max(0.0).round()));
        }
        Campaign { hours }
    }

    fn window(&self, end: usize) -> Sums {
        let hours = &self.hours[end - WINDOW..end];
        let impressions: f64 = hours.iter().map(|hour| hour.0).sum();
        let clicks = hours.iter().map(|hour| hour.1).sum();
        Sums { numerator: clicks, denominator: Some(impressions), volume: impressions }
    }

    /// The hours at which the rule fires, from the seventh week on.
    fn fires(&self, method: Method) -> Vec<usize> {
        let (detect, times) = rule();
        let mut track = Track::new(0);
        let mut fires = Vec::new();
        for end in 6 * WEEK + WINDOW..HOURS {
            // Twice an hour.
            for half in 0..2 {
                let current = self.window(end);
                let weeks = (1..=6).map(|week| self.window(end - week * WEEK));
                let (detect, baseline) = match method {
                    Method::Rule => (detect, weeks.collect()),
                    Method::Threshold => {
                        let (below, above) = (Some(0.0085), None);
                        (Detect::Threshold { above, below, recover_above: None, recover_below: None }, Vec::new())
                    }
                    Method::ZScore => {
                        let rates: Vec<f64> =
                            (1..=WEEK).filter_map(|hour| self.window(end - WINDOW - hour + 1).value(1.0)).collect();
                        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
                        let deviation =
                            rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
                        let below = Some(mean - 3.0 * deviation.sqrt());
                        (Detect::Threshold { above: None, below, recover_above: None, recover_below: None }, Vec::new())
                    }
                };
                let is_enough = current.volume >= VOLUME_MIN;
                let sample = Sample { current: Some(current), baseline, is_enough, is_expected: true };
                let verdict = judge(&detect, Kind::Share, 1.0, &sample).verdict;
                let now = end as i64 * HOUR + half * HOUR / 2;
                if track.step(verdict, now, &times) && track.state == AlarmState::Firing {
                    fires.push(end);
                }
            }
        }
        fires
    }
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Rule,
    Threshold,
    ZScore,
}

/// Recall, hours to detection (median), and false alarms for each campaign and month.
fn measure(random: &mut StdRng, method: Method, drop: f64, campaigns: usize) -> (f64, f64, f64) {
    let (mut found, mut hours, mut wrong) = (0, Vec::new(), 0);
    for _ in 0..campaigns {
        let at = random.random_range(7 * WEEK..10 * WEEK);
        let fires = Campaign::new(random, 20_000.0, Some((at, drop))).fires(method);
        let is_found = |hour: &&usize| (at + 1..=at + FAULT_HOURS).contains(*hour);
        if let Some(hour) = fires.iter().find(is_found) {
            found += 1;
            hours.push((hour - at) as f64);
        }
        let is_wrong = |hour: &&usize| !(at + 1..=at + FAULT_HOURS + WINDOW).contains(*hour);
        wrong += fires.iter().filter(is_wrong).count();
    }
    let months = campaigns as f64 * (5 * WEEK) as f64 / 730.0;
    (f64::from(found) / campaigns as f64, median(&hours), wrong as f64 / months)
}

#[test]
fn drops_are_found_and_little_else() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for method in [Method::Rule, Method::Threshold, Method::ZScore] {
        for drop in [0.1, 0.2, 0.4] {
            let (recall, hours, wrong) = measure(&mut random, method, drop, 100);
            println!("{method:?}, -{:.0}%: recall {recall:.2}, {hours:.0} h, {wrong:.2} false a month", drop * 100.0);
            if matches!(method, Method::Rule) {
                assert!(drop < 0.2 || recall >= 0.95, "recall {recall}");
                assert!(wrong <= 1.0, "{wrong} false alarms for each campaign and month");
            }
        }
    }
}
