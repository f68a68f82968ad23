//! Detectors: whether a value is abnormal, and what was expected. Pure functions.
//!
//! A share (clicks of impressions) is compared by Newcombe's interval for the difference of two
//! proportions, which is made of the Wilson intervals of both (Newcombe 1998, "Interval estimation
//! for the difference between independent proportions", method 10). The variation from week to week
//! beyond that of chance is added to it.
//!
//! Counts, money and prices are compared by the median of the weeks and the median absolute
//! deviation. The deviation is at least that of a Poisson count with as many events as expected.
//!
//! Nothing is abnormal by chance alone or by size alone: it differs by more than `z` deviations,
//! and by at least `min_change`.

/// The sums of one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// What is divided, or the value itself.
    pub numerator: f64,
    /// What it is divided by. `None`: the metric is a sum.
    pub denominator: Option<f64>,
    /// How many events the value is made of.
    pub volume: f64,
}

impl Sums {
    /// The value of the metric. `None`: the denominator is 0.
    pub fn value(&self, factor: f64) -> Option<f64> {
        match self.denominator {
            None => Some(self.numerator * factor),
            Some(0.0) => None,
            Some(denominator) => Some(self.numerator / denominator * factor),
        }
    }
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Events out of events, between 0 and 1.
    Share,
    /// Any other ratio.
    Ratio,
    /// A number of events.
    Count,
    /// Any other sum.
    Sum,
}

/// How much a value may change: a share of what was expected, with a sign.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It fell by at least this share.
    Down(f64),
    /// It rose by at least this share.
    Up(f64),
    /// Either.
    Either(f64),
}

impl Change {
    /// Whether a relative change is at least this one.
    pub fn is_reached(self, change: f64) -> bool {
        // A fall by exactly a fifth is one, although 0.008 / 0.01 - 1 is a little more than -0.2.
        let by = |by: f64| by - 1e-9;
        match self {
            Change::Down(least) => change <= -by(least),
            Change::Up(least) => change >= by(least),
            Change::Either(least) => change.abs() >= by(least),
        }
    }

    /// Whether a change in this direction counts: below, and above.
    fn directions(self) -> (bool, bool) {
        match self {
            Change::Down(_) => (true, false),
            Change::Up(_) => (false, true),
            Change::Either(_) => (true, true),
        }
    }
}

/// What a rule compares a value with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detect {
    /// Fixed bounds.
    Threshold {
        /// Abnormal above this.
        above: Option<f64>,
        /// Abnormal below this.
        below: Option<f64>,
        /// Normal again at or below this.
        recover_above: Option<f64>,
        /// Normal again at or above this.
        recover_below: Option<f64>,
    },
    /// Other windows: the one before, or those of the same hours of earlier weeks.
    Baseline {
        /// How many deviations.
        z: f64,
        /// The least relative change.
        min_change: Change,
        /// The relative change from which on it counts as recovered.
        recover: Change,
        /// How many windows with data are needed.
        points_min: usize,
        /// Whether shares are compared as proportions.
        wilson: bool,
    },
}

/// What is known of a group at a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// The window. `None`: there are no events of the group in it.
    pub current: Option<Sums>,
    /// The windows that it is compared with, those without data left out.
    pub baseline: Vec<Sums>,
    /// Whether the window has the least volume that the rule asks for.
    pub is_enough: bool,
    /// Whether data would be expected.
    pub is_expected: bool,
}

/// What a sample means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Normal,
    /// Nothing is wrong any more, but it has not recovered yet.
    Lingering,
    /// Something is wrong.
    Abnormal,
    /// Too little is known. States stay as they are.
    Unknown,
    /// There is no data where some is expected.
    Missing,
}

/// A verdict with its figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The value.
    pub value: Option<f64>,
    /// The middle of what was expected.
    pub expected: Option<f64>,
    /// The least that was expected.
    pub low: Option<f64>,
    /// The most that was expected.
    pub high: Option<f64>,
}

impl Judgement {
    fn without(verdict: Verdict, value: Option<f64>) -> Judgement {
        Judgement { verdict, value, expected: None, low: None, high: None }
    }

    /// By how much the value differs from what was expected.
    pub fn change(&self) -> Option<f64> {
        let (value, expected) = (self.value?, self.expected?);
        (expected != 0.0).then(|| value / expected - 1.0)
    }

    /// How wrong it is, to tell the worst from the others.
    pub fn badness(&self) -> f64 {
        let outside = |bound: Option<f64>, sign: f64| {
            let (value, bound) = (self.value?, bound?);
            Some(sign * (value - bound) / bound.abs().max(f64::MIN_POSITIVE))
        };
        let worst = outside(self.low, -1.0).into_iter().chain(outside(self.high, 1.0)).fold(0.0, f64::max);
        self.change().map_or(worst, |change| worst.max(change.abs()))
    }
}

/// Judges a sample.
pub fn judge(detect: &Detect, kind: Kind, factor: f64, sample: &Sample) -> Judgement {
    let Some(current) = sample.current else {
        return Judgement::without(if sample.is_expected { Verdict::Missing } else { Verdict::Unknown }, None);
    };
    let value = current.value(factor);
    let Some(number) = value.filter(|value| sample.is_enough && value.is_finite()) else {
        return Judgement::without(Verdict::Unknown, value);
    };
    match *detect {
        Detect::Threshold { above, below, recover_above, recover_below } => {
            let is_abnormal = above.is_some_and(|bound| number > bound) || below.is_some_and(|bound| number < bound);
            let is_back = recover_above.or(above).is_none_or(|bound| number <= bound)
                && recover_below.or(below).is_none_or(|bound| number >= bound);
            let verdict = match (is_abnormal, is_back) {
                (true, _) => Verdict::Abnormal,
                (false, false) => Verdict::Lingering,
                (false, true) => Verdict::Normal,
            };
            Judgement { verdict, value, expected: None, low: below, high: above }
        }
        Detect::Baseline { z, min_change, recover, points_min, wilson } => {
            let points: Vec<Sums> =
                sample.baseline.iter().copied().filter(|point| point.value(factor).is_some()).collect();
            if points.len() < points_min.max(1) {
                return Judgement::without(Verdict::Unknown, value);
            }
            let (expected, low, high) = match kind == Kind::Share && wilson {
                true => shares(&current, &points, z, factor),
                false => deviations(kind, &current, &points, z, factor),
            };
            let change = match (expected == 0.0, number == 0.0) {
                (true, true) => 0.0,
                (true, false) => number.signum() * f64::INFINITY,
                (false, _) => number / expected - 1.0,
            };
            let (down, up) = min_change.directions();
            let is_outside = (down && number < low) || (up && number > high);
            let verdict = match (is_outside && min_change.is_reached(change), recover.is_reached(change)) {
                (true, _) => Verdict::Abnormal,
                (false, true) => Verdict::Lingering,
                (false, false) => Verdict::Normal,
            };
            Judgement { verdict, value, expected: Some(expected), low: Some(low), high: Some(high) }
        }
    }
}

/// The expected share and its range, by Newcombe's interval.
fn shares(current: &Sums, points: &[Sums], z: f64, factor: f64) -> (f64, f64, f64) {
    let rate = |sums: &Sums| (sums.numerator / sums.denominator.unwrap_or(1.0)).clamp(0.0, 1.0);
    let rates: Vec<f64> = points.iter().map(rate).collect();
    let expected = median(&rates);
    let all: f64 = points.iter().filter_map(|point| point.denominator).sum();
    // What the weeks differ by beyond chance.
    let chance: f64 =
        points.iter().filter_map(|point| point.denominator).map(|n| expected * (1.0 - expected) / n).sum();
    let between = (spread(&rates).powi(2) - chance / points.len() as f64).max(0.0);
    let own = rate(current);
    let (own_low, own_high) = wilson(own, current.denominator.unwrap_or(1.0), z);
    let (low, high) = wilson(expected, all, z);
    let below = ((own_high - own).powi(2) + (expected - low).powi(2) + z * z * between).sqrt();
    let above = ((own - own_low).powi(2) + (high - expected).powi(2) + z * z * between).sqrt();
    (expected * factor, (expected - below).max(0.0) * factor, (expected + above) * factor)
}

/// The expected value and its range, by the median and the deviations from it.
fn deviations(kind: Kind, current: &Sums, points: &[Sums], z: f64, factor: f64) -> (f64, f64, f64) {
    let values: Vec<f64> = points.iter().filter_map(|point| point.value(factor)).collect();
    let expected = median(&values);
    let volumes: Vec<f64> = points.iter().map(|point| point.volume).collect();
    let poisson = match kind {
        // Of a count of which none is expected, one is not abnormal.
        Kind::Count => expected.abs().max(1.0).sqrt(),
        // The events of the window make it uncertain, and so do those that were expected.
        _ => {
            let parts = 1.0 / median(&volumes).max(1.0) + 1.0 / current.volume.max(1.0);
            let parts = if kind == Kind::Sum { 1.0 / median(&volumes).max(1.0) } else { parts };
            expected.abs() * parts.sqrt()
        }
    };
    let reach = z * spread(&values).max(poisson);
    (expected, expected - reach, expected + reach)
}

/// The Wilson interval of a proportion over `n` trials.
pub fn wilson(p: f64, n: f64, z: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = z * z;
    let middle = p + z2 / (2.0 * n);
    let reach = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    let scale = 1.0 + z2 / n;
    (((middle - reach) / scale).max(0.0), ((middle + reach) / scale).min(1.0))
}

/// The median. 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median absolute deviation, as the standard deviation that it estimates.
fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    1.4826 * median(&deviations)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(numerator: f64, denominator: f64) -> Sums {
        Sums { numerator, denominator: Some(denominator), volume: denominator }
    }

    fn count(numerator: f64) -> Sums {
        Sums { numerator, denominator: None, volume: numerator }
    }

    fn sample(current: Sums, baseline: Vec<Sums>) -> Sample {
        Sample { current: Some(current), baseline, is_enough: true, is_expected: true }
    }

    fn drop_of(by: f64) -> Detect {
        Detect::Baseline {
            z: 3.0,
            min_change: Change::Down(by),
            recover: Change::Down(by / 2.0),
            points_min: 3,
            wilson: true,
        }
    }

    #[test]
    fn the_wilson_interval_is_that_of_the_books() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148 and 0 of 20, at 95%.
        for (events, n, low, high) in
            [(81.0, 263.0, 0.2553, 0.3662), (15.0, 148.0, 0.0624, 0.1605), (0.0, 20.0, 0.0, 0.1611)]
        {
            let found = wilson(events / n, n, 1.959_964);
            assert!((found.0 - low).abs() < 5e-5 && (found.1 - high).abs() < 5e-5, "{found:?}");
        }
    }

    #[test]
    fn a_drop_of_a_share_needs_size_and_certainty() {
        let weeks = vec![share(600.0, 60_000.0); 6];
        let check = |clicks: f64, impressions: f64, expected: Verdict| {
            let found = judge(&drop_of(0.2), Kind::Share, 1.0, &sample(share(clicks, impressions), weeks.clone()));
            assert_eq!(found.verdict, expected, "{clicks}/{impressions}: {found:?}");
        };
        check(600.0, 60_000.0, Verdict::Normal);
        check(480.0, 60_000.0, Verdict::Abnormal);
        // Certain, but small.
        check(5_100.0, 600_000.0, Verdict::Lingering);
        // Large, but uncertain.
        check(7.0, 1_000.0, Verdict::Lingering);
        check(0.0, 60_000.0, Verdict::Abnormal);
        // A rise is no drop.
        check(900.0, 60_000.0, Verdict::Normal);
    }

    #[test]
    fn weeks_that_differ_widen_the_range() {
        let even = vec![share(600.0, 60_000.0); 6];
        let uneven: Vec<Sums> =
            [400.0, 500.0, 600.0, 600.0, 700.0, 800.0].map(|clicks| share(clicks, 60_000.0)).to_vec();
        let judged = |weeks: Vec<Sums>| judge(&drop_of(0.2), Kind::Share, 1.0, &sample(share(470.0, 60_000.0), weeks));
        assert_eq!(judged(even).verdict, Verdict::Abnormal);
        assert_eq!(judged(uneven).verdict, Verdict::Lingering);
    }

    #[test]
    fn counts_have_at_least_the_deviation_of_chance() {
        let weeks = vec![count(100.0); 6];
        let check = |value: f64, expected: Verdict| {
            let found = judge(&drop_of(0.2), Kind::Count, 1.0, &sample(count(value), weeks.clone()));
            assert_eq!(found.verdict, expected, "{value}: {found:?}");
        };
        check(100.0, Verdict::Normal);
        check(75.0, Verdict::Lingering);
        check(69.0, Verdict::Abnormal);
        check(0.0, Verdict::Abnormal);
        let few = vec![count(2.0); 6];
        assert_eq!(judge(&drop_of(0.2), Kind::Count, 1.0, &sample(count(0.0), few)).verdict, Verdict::Lingering);
    }

    #[test]
    fn too_little_is_not_judged() {
        let weeks = vec![share(600.0, 60_000.0); 2];
        let found = judge(&drop_of(0.2), Kind::Share, 1.0, &sample(share(0.0, 60_000.0), weeks.clone()));
        assert_eq!(found.verdict, Verdict::Unknown);
        let mut little = sample(share(0.0, 100.0), vec![share(600.0, 60_000.0); 6]);
        little.is_enough = false;
        assert_eq!(judge(&drop_of(0.2), Kind::Share, 1.0, &little).verdict, Verdict::Unknown);
        let gone = Sample { current: None, ..little.clone() };
        assert_eq!(judge(&drop_of(0.2), Kind::Share, 1.0, &gone).verdict, Verdict::Missing);
        let night = Sample { is_expected: false, ..gone };
        assert_eq!(judge(&drop_of(0.2), Kind::Share, 1.0, &night).verdict, Verdict::Unknown);
    }

    #[test]
    fn thresholds_have_two_bounds() {
        let detect =
            Detect::Threshold { above: Some(10.0), below: None, recover_above: Some(8.0), recover_below: None };
        for (value, expected) in
            [(10.0, Verdict::Lingering), (10.1, Verdict::Abnormal), (8.5, Verdict::Lingering), (8.0, Verdict::Normal)]
        {
            let found = judge(&detect, Kind::Sum, 1.0, &sample(count(value), Vec::new()));
            assert_eq!(found.verdict, expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_as_ever_is_never_abnormal(
            clicks in 0_u32..5_000, more in 1_u32..1_000_000, weeks in 1_usize..9, kind in 0_u8..4,
        ) {
            let kind = [Kind::Share, Kind::Ratio, Kind::Count, Kind::Sum][usize::from(kind)];
            let sums = match kind {
                Kind::Share | Kind::Ratio => share(clicks.into(), f64::from(clicks) + f64::from(more)),
                Kind::Count | Kind::Sum => count(clicks.into()),
            };
            let detect = Detect::Baseline {
                z: 3.0, min_change: Change::Either(0.1), recover: Change::Either(0.05), points_min: 1, wilson: true,
            };
            let found = judge(&detect, kind, 1.0, &sample(sums, vec![sums; weeks]));
            prop_assert_eq!(found.verdict, Verdict::Normal);
        }

        #[test]
        fn a_worse_value_is_never_judged_better(
            base in 100_u32..100_000, one in 0_u32..100_000, other in 0_u32..100_000,
        ) {
            let weeks = vec![count(base.into()); 4];
            let judged = |value: u32| {
                let sample = sample(count(value.into()), weeks.clone());
                judge(&drop_of(0.2), Kind::Count, 1.0, &sample).verdict
            };
            let rank = |value: u32| match judged(value) {
                Verdict::Normal => 0,
                Verdict::Lingering => 1,
                _ => 2,
            };
            let (low, high) = (one.min(other), one.max(other));
            prop_assert!(rank(low) >= rank(high));
        }
    }
}
