//! Drawn sums of many campaigns: the built-in rules beside a fixed threshold and a z-score.
//!
//! A campaign has 20,000 impressions an hour: a curve over the day, quieter weekends, holidays with
//! half of the traffic. Its rates follow the hour of the day, and its level drifts by 2% a week.
//! Clicks and conversions are drawn. One fault is planted, at a time that is drawn.
//!
//! The others get what the rules get: the same windows of three hours, the same least volume, and
//! the same time before they tell. They watch the click-through rate, the price of a click and the
//! number of impressions.

use std::sync::Arc;

use adlake_domain::time::HOUR;
use adlake_serving::alarms::detect::{Detect, Kind, Sample, Sums, judge};
use adlake_serving::alarms::engine::{Engine, Observation};
use adlake_serving::alarms::rule::Rule;
use adlake_serving::alarms::rule::metric::Metric;
use adlake_serving::alarms::samples::known_sample;
use adlake_serving::alarms::track::{AlarmState, Times, Track};
use anyhow::{Context, Result};
use chrono_tz::Tz;
use rand::prelude::*;

use super::{Fault, Score, Told, rules};
use crate::batch::Target;
use crate::program::median;

const WEEK: usize = 168;
const HOURS: usize = 11 * WEEK;
/// Six weeks are the baseline.
const JUDGED_FROM: usize = 6 * WEEK;
const PER_HOUR: f64 = 20_000.0;
const VOLUME_MIN: f64 = 20_000.0;
const WINDOW: usize = 3;
/// A Monday, 00:00 UTC.
const START: i64 = 1_760_918_400_000_000;
/// The least and the most that is normal.
type Bounds = (Option<f64>, Option<f64>);
/// What is judged by the other methods, and its fixed bounds.
type Watched = (&'static str, Option<f64>, Option<f64>);
const WATCHED: [Watched; 3] =
    [("ctr", Some(0.0085), None), ("cpc", None, Some(0.9)), ("impressions", Some(20_000.0), None)];

/// Sums of an hour.
#[derive(Debug, Clone, Copy, Default)]
struct Hour {
    impressions: f64,
    clicks: f64,
    conversions: f64,
    spend: f64,
}

/// What is planted: its name, its hours, its effect, and the rules that are meant to find it. The
/// other methods are meant to find it by what they watch.
struct Plant {
    name: &'static str,
    hours: usize,
    effect: fn(&mut Rates),
    rules: &'static [&'static str],
    others: &'static [&'static str],
}

/// What the sums of an hour are drawn from.
struct Rates {
    impressions: f64,
    ctr: f64,
    cvr: f64,
    price: f64,
}

const PLANTS: [Plant; 6] = [
    Plant {
        name: "CTR falls by 10%",
        hours: 24,
        effect: |rates| rates.ctr *= 0.9,
        rules: &["ctr_drop"],
        others: &["ctr"],
    },
    Plant {
        name: "CTR falls by 20%",
        hours: 24,
        effect: |rates| rates.ctr *= 0.8,
        rules: &["ctr_drop"],
        others: &["ctr", "cpc"],
    },
    Plant {
        name: "CTR falls by 40%",
        hours: 24,
        effect: |rates| rates.ctr *= 0.6,
        rules: &["ctr_drop", "cpc_spike", "cpa_spike", "conversions_silent"],
        others: &["ctr", "cpc"],
    },
    Plant {
        name: "a currency mistake: costs are twice as high",
        hours: 24,
        effect: |rates| rates.price *= 2.0,
        rules: &["cpc_spike", "cpa_spike"],
        others: &["cpc"],
    },
    Plant {
        name: "a feed stops: no events",
        hours: 6,
        effect: |rates| rates.impressions = 0.0,
        rules: &["ctr_drop", "conversions_silent"],
        others: &["impressions"],
    },
    Plant {
        name: "a feed stops: no clicks and conversions",
        hours: 6,
        effect: |rates| rates.ctr = 0.0,
        rules: &["ctr_drop", "conversions_silent", "cpc_spike", "cpa_spike"],
        others: &["ctr", "cpc"],
    },
];

/// Measures each fault in so many campaigns, by each method.
pub fn beside_others(campaigns: usize, _runs: usize) -> Result<()> {
    let seed = rand::random::<u64>();
    println!("alarms-drawn: sums of {campaigns} campaigns for each fault, {PER_HOUR} impressions an hour, seed {seed}");
    let rules = rules()?;
    let watching: Vec<&Rule> = rules.iter().filter(|rule| is_drawn(rule)).collect();
    let times = &rules.iter().find(|rule| rule.name == "ctr_drop").context("no rule ctr_drop")?.times;
    let times = Times { no_data: None, ..*times };
    let mut random = StdRng::seed_from_u64(seed);
    let mut scores = [("the rules", Score::default()), ("threshold", Score::default()), ("z-score", Score::default())];
    for plant in &PLANTS {
        for _ in 0..campaigns {
            let at = random.random_range(7 * WEEK..10 * WEEK);
            let series = Series::new(&mut random, Some((at, plant)));
            let told = [
                by_rules(&watching, &series),
                by_bounds(&series, &times, |(_, below, above), _| (*below, *above)),
                by_bounds(&series, &times, |(_, below, above), earlier| {
                    let mean = earlier.iter().sum::<f64>() / earlier.len() as f64;
                    let square = earlier.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
                    let deviation = (square / earlier.len() as f64).sqrt();
                    (below.map(|_| mean - 3.0 * deviation), above.map(|_| mean + 3.0 * deviation))
                }),
            ];
            for (place, ((_, score), told)) in scores.iter_mut().zip(told).enumerate() {
                let (from, to) = (time(at), time(at + plant.hours));
                let meant = if place == 0 { plant.rules } else { plant.others };
                score.add(&rules, &[Fault { name: plant.name.into(), campaign: None, from, to, rules: meant }], &told);
            }
        }
    }
    show(&scores, campaigns);
    Ok(())
}

/// Whether there are sums for a rule.
fn is_drawn(rule: &Rule) -> bool {
    matches!(rule.metric, Metric::Kpi { .. }) && rule.inputs.iter().all(|input| Hour::default().sum(input).is_some())
}

fn show(scores: &[(&str, Score); 3], campaigns: usize) {
    println!(
        "    {:<44}{}",
        "recall, hours until told",
        scores.each_ref().map(|(name, _)| format!("{name:>16}")).concat()
    );
    for plant in &PLANTS {
        let cells = scores.each_ref().map(|(_, score)| {
            let found = &score.by_name[plant.name];
            let cell = format!("{:.2} {:>5.1} h", found.recall(), median(found.hours.clone()));
            format!("{cell:>16}")
        });
        println!("    {:<44}{}", plant.name, cells.concat());
    }
    let months = (campaigns * PLANTS.len() * (HOURS - JUDGED_FROM)) as f64 / 730.0;
    let wrong = |score: &Score| score.wrong.len() as f64 / months;
    let cells = scores.each_ref().map(|(_, score)| format!("{:>16.3}", score.precision()));
    println!("    {:<44}{}", "precision", cells.concat());
    let cells = scores.each_ref().map(|(_, score)| format!("{:>16.2}", wrong(score)));
    println!("    {:<44}{}", "false alarms a campaign and month", cells.concat());
    let recall = scores[0].1.by_name[PLANTS[1].name].recall();
    println!("  falls of 20% by the rules: {}", Target::at_least("recall", recall, 0.95).text());
    println!(
        "  by the rules: {}",
        Target::at_most("false alarms a campaign and month", wrong(&scores[0].1), 1.0).text()
    );
}

/// The end of an hour, or the beginning of the next.
fn time(hour: usize) -> i64 {
    START + hour as i64 * HOUR
}

impl Hour {
    fn sum(&self, name: &str) -> Option<f64> {
        match name {
            "impressions" => Some(self.impressions),
            "clicks" => Some(self.clicks),
            "conversions" => Some(self.conversions),
            "spend" => Some(self.spend),
            _ => None,
        }
    }
}

/// The hours of a campaign.
struct Series {
    hours: Vec<Hour>,
}

fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// So many of so many, each with a probability.
fn count(random: &mut StdRng, of: f64, rate: f64) -> f64 {
    (of * rate + (of * rate * (1.0 - rate)).sqrt() * normal(random)).round().clamp(0.0, of)
}

impl Series {
    fn new(random: &mut StdRng, fault: Option<(usize, &Plant)>) -> Series {
        let holidays = [random.random_range(0..HOURS / 24), random.random_range(JUDGED_FROM / 24..HOURS / 24)];
        let (mut level, mut price) = (1.0, 0.006);
        let mut hours = Vec::with_capacity(HOURS);
        for hour in 0..HOURS {
            if hour % WEEK == 0 {
                level *= 1.0 + 0.02 * normal(random);
                price *= 1.0 + 0.02 * normal(random);
            }
            let day = (hour % 24) as f64 / 24.0 * std::f64::consts::TAU;
            let weekend = if hour % WEEK >= 5 * 24 { 0.8 } else { 1.0 };
            let off = if holidays.contains(&(hour / 24)) { 0.5 } else { 1.0 };
            let mean = PER_HOUR * (1.0 + 0.3 * day.sin()) * weekend * off;
            let mut rates = Rates {
                impressions: (mean * (1.0 + 0.05 * normal(random))).max(0.0).round(),
                ctr: 0.01 * level * (1.0 + 0.15 * day.cos()),
                cvr: 0.05,
                price: price * (1.0 + 0.05 * normal(random)),
            };
            if let Some((at, plant)) = fault
                && (at..at + plant.hours).contains(&hour)
            {
                (plant.effect)(&mut rates);
            }
            let clicks = count(random, rates.impressions, rates.ctr);
            let conversions = count(random, clicks, rates.cvr);
            let spend = rates.impressions * rates.price;
            hours.push(Hour { impressions: rates.impressions, clicks, conversions, spend });
        }
        Series { hours }
    }

    /// The sums of the hours in a range of time, by name. `None`: there are no events.
    fn sums(&self, (from, to): (i64, i64), names: &[String]) -> Option<Vec<f64>> {
        let hour = |at: i64| usize::try_from((at - START) / HOUR).ok();
        let hours = self.hours.get(hour(from)?..hour(to)?)?;
        let sum = |name: &String| hours.iter().filter_map(|hour| hour.sum(name)).sum::<f64>();
        hours.iter().any(|hour| hour.impressions > 0.0).then(|| names.iter().map(sum).collect())
    }

    /// What the other methods watch, in the window that ends with an hour.
    fn value(&self, name: &str, end: usize) -> Option<f64> {
        let hours = &self.hours[end.checked_sub(WINDOW)?..end];
        let sum = |name: &str| hours.iter().filter_map(|hour| hour.sum(name)).sum::<f64>();
        let value = match name {
            "ctr" => sum("clicks") / sum("impressions"),
            "cpc" => sum("spend") / sum("clicks"),
            _ => return Some(sum("impressions")),
        };
        (value.is_finite() && sum("impressions") >= VOLUME_MIN).then_some(value)
    }
}

/// What the rules would have told, hour by hour as `adlake alarms test` replays them.
fn by_rules(rules: &[&Rule], series: &Series) -> Vec<Told> {
    let group: Arc<str> = "{\"campaign_id\":\"c\"}".into();
    let mut told = Vec::new();
    for rule in rules {
        let Metric::Kpi { kpi, .. } = &rule.metric else { continue };
        let alone = Rule { inhibited_by: Vec::new(), ..(*rule).clone() };
        let mut engine = Engine::new(vec![alone].into());
        for end in JUDGED_FROM..=HOURS {
            let now = time(end) + rule.delay;
            let incidents = engine.incidents(0, &group, now);
            let sums = |range| series.sums(range, &rule.inputs);
            let sample = known_sample(rule, kpi, &group, &incidents, now, Tz::UTC, sums);
            let rows = engine.step(now, vec![Some(vec![Observation { group: group.clone(), sample }])]);
            let rows = rows.iter().filter(|row| row.is_notice && !row.is_resolved());
            told.extend(rows.map(|row| Told { rule: rule.name.clone(), campaign: String::new(), at: row.at }));
        }
    }
    told
}

/// What bounds would have told, which may depend on the values of the week before the window.
fn by_bounds(series: &Series, times: &Times, bounds: impl Fn(&Watched, &[f64]) -> Bounds) -> Vec<Told> {
    let mut told = Vec::new();
    for watched in &WATCHED {
        let values: Vec<Option<f64>> = (0..=HOURS).map(|end| series.value(watched.0, end)).collect();
        let mut track = Track::new(0);
        for end in JUDGED_FROM..=HOURS {
            let earlier: Vec<f64> = values[end - WINDOW - WEEK..=end - WINDOW].iter().flatten().copied().collect();
            let (below, above) = bounds(watched, &earlier);
            let detect = Detect::Threshold { above, below, recover_above: None, recover_below: None };
            let sums = values[end].map(|value| Sums { numerator: value, denominator: None, volume: VOLUME_MIN });
            let sample = Sample { current: sums, is_enough: sums.is_some(), ..Sample::default() };
            let verdict = judge(&detect, Kind::Sum, 1.0, &sample).verdict;
            let was = track.state;
            if track.step(verdict, time(end), times) && track.state == AlarmState::Firing && was != AlarmState::Firing {
                told.push(Told { rule: watched.0.to_owned(), campaign: String::new(), at: time(end) });
            }
        }
    }
    told
}
