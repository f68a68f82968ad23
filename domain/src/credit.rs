//! The credits that a conversion gives to its touchpoints under each attribution model, and the
//! revenues that follow from them.
//!
//! The credits of a conversion sum to exactly [`CREDIT_WHOLE`] under every model, and its revenues
//! to exactly its value.

use serde::{Deserialize, Serialize};

/// The credit of a whole conversion. Credits are billionths.
pub const CREDIT_WHOLE: i64 = 1_000_000_000;

/// An attribution model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All credit to the last touchpoint.
    #[default]
    LastTouch,
    /// All credit to the first touchpoint.
    FirstTouch,
    /// The same credit to each touchpoint.
    Linear,
    /// 40% each to the first and the last touchpoint. The others share the rest.
    PositionBased,
    /// The weight of a touchpoint halves for every half-life before the last touchpoint.
    TimeDecay,
}

impl Model {
    /// Every model, in the order of the columns.
    pub const ALL: [Model; 5] =
        [Model::LastTouch, Model::FirstTouch, Model::Linear, Model::PositionBased, Model::TimeDecay];

    /// The suffix of the model's columns.
    pub fn name(self) -> &'static str {
        match self {
            Model::LastTouch => "last_touch",
            Model::FirstTouch => "first_touch",
            Model::Linear => "linear",
            Model::PositionBased => "position_based",
            Model::TimeDecay => "time_decay",
        }
    }
}

/// The credits of the touchpoints at `times` (ascending), by model. For each model they sum to
/// [`CREDIT_WHOLE`].
pub fn credits(times: &[i64], half_life_micros: i64) -> Vec<[i64; 5]> {
    let count = times.len();
    let Some(&last_time) = times.last() else { return Vec::new() };
    let mut credits = vec![[0_i64; 5]; count];
    let last = count - 1;
    credits[0][1] = CREDIT_WHOLE;
    let linear = CREDIT_WHOLE / count as i64;
    let shared = if count > 2 { CREDIT_WHOLE / 5 / (count as i64 - 2) } else { 0 };
    let weights: Vec<i128> = times.iter().map(|&time| decay_weight(last_time - time, half_life_micros)).collect();
    let total: i128 = weights.iter().sum();
    for (place, credit) in credits.iter_mut().enumerate() {
        credit[2] = linear;
        credit[3] = match (count, place) {
            (2, 0) => CREDIT_WHOLE / 2,
            (_, 0) => CREDIT_WHOLE / 5 * 2,
            _ => shared,
        };
        credit[4] = (weights[place] * i128::from(CREDIT_WHOLE) / total) as i64;
    }
    // In every model the last touchpoint gets the remainder. For "last touch" that is everything.
    credits[last] = [0; 5];
    if last == 0 {
        return vec![[CREDIT_WHOLE; 5]];
    }
    let rest: [i64; 5] = std::array::from_fn(|model| CREDIT_WHOLE - credits.iter().map(|c| c[model]).sum::<i64>());
    credits[last] = rest;
    credits
}

/// floor(2^30 x 2^-(age / half-life)).
fn decay_weight(age_micros: i64, half_life_micros: i64) -> i128 {
    let halvings = age_micros as f64 / (half_life_micros.max(1)) as f64;
    ((-halvings).exp2() * f64::from(1 << 30)).floor() as i128
}

/// The revenues of touchpoints with these credits: floor(value x credit / 10^9). The last
/// touchpoint gets the remainder.
///
/// If all credits are 0, so are the revenues.
pub fn revenues(value_micros: i64, credits: &[[i64; 5]]) -> Vec<[i64; 5]> {
    let mut revenues: Vec<[i64; 5]> = credits
        .iter()
        .map(|credits| {
            credits.map(|credit| {
                let product = i128::from(value_micros) * i128::from(credit);
                product.div_euclid(i128::from(CREDIT_WHOLE)) as i64
            })
        })
        .collect();
    for model in 0..5 {
        let credited: i64 = credits.iter().map(|credits| credits[model]).sum();
        let given: i128 = revenues.iter().map(|revenues| i128::from(revenues[model])).sum();
        if let Some(last) = revenues.last_mut()
            && credited != 0
        {
            // The remainder lies between 0 and the value, so it fits 64 bits.
            let whole = i128::from(last[model]) + i128::from(value_micros) - given;
            last[model] = whole as i64;
        }
    }
    revenues
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn the_largest_values_are_whole() {
        let credits = credits(&[0, HOUR, 2 * HOUR], HOUR);
        for value in [10_i64.pow(16), -(10_i64.pow(16)), i64::MAX, i64::MIN] {
            let revenues = revenues(value, &credits);
            for model in 0..5 {
                let sum: i128 = revenues.iter().map(|r| i128::from(r[model])).sum();
                assert_eq!(sum, i128::from(value), "model {model}");
            }
        }
    }

    #[test]
    fn models() {
        let week = 7 * 24 * HOUR;
        assert_eq!(credits(&[5], week), vec![[CREDIT_WHOLE; 5]]);
        let two = credits(&[0, week], week);
        assert_eq!(two[0], [0, 1_000_000_000, 500_000_000, 500_000_000, 333_333_333]);
        assert_eq!(two[1], [1_000_000_000, 0, 500_000_000, 500_000_000, 666_666_667]);
        let three = credits(&[0, 0, 0], week);
        assert_eq!(three[1], [0, 0, 333_333_333, 200_000_000, 333_333_333]);
        assert_eq!(three[2], [1_000_000_000, 0, 333_333_334, 400_000_000, 333_333_334]);
    }

    #[test]
    fn refunds_are_floored_downwards() {
        let credits = credits(&[0, 0, 0], HOUR);
        let revenues = revenues(-10, &credits);
        assert_eq!(revenues[0][2], -4);
        assert_eq!(revenues.iter().map(|r| r[2]).sum::<i64>(), -10);
    }

    proptest! {
        #[test]
        fn credits_and_revenues_are_whole(
            mut times in prop::collection::vec(0_i64..30 * 24 * HOUR, 1..100),
            value in -1_000_000_000_i64..1_000_000_000_000,
        ) {
            times.sort_unstable();
            let credits = credits(&times, 7 * 24 * HOUR);
            let revenues = revenues(value, &credits);
            for model in 0..5 {
                prop_assert_eq!(credits.iter().map(|c| c[model]).sum::<i64>(), CREDIT_WHOLE);
                prop_assert_eq!(revenues.iter().map(|r| r[model]).sum::<i64>(), value);
                prop_assert!(credits.iter().all(|c| c[model] >= 0));
            }
        }
    }
}
