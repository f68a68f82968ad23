//! Random draws that `rand` does not offer: weighted choice, skewed and exponential numbers,
//! hashes.
//!
//! Every draw is a function of the generator's seed: the same seed gives the same draws on every
//! machine and at any rate.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The finalizer of SplitMix64. It is a bijection of 64-bit numbers, so distinct inputs give
/// distinct ids.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// True with this probability.
pub fn chance(random: &mut ChaCha8Rng, probability: f64) -> bool {
    probability > 0.0 && random.random::<f64>() < probability
}

/// An exponentially distributed number with this mean, capped at 20 times the mean.
pub fn exponential(random: &mut ChaCha8Rng, mean: f64) -> f64 {
    let uniform: f64 = random.random();
    (-(1.0 - uniform).ln()).min(20.0) * mean
}

/// A number between `middle / spread` and `middle * spread`, most often near `middle`.
pub fn around(random: &mut ChaCha8Rng, middle: f64, spread: f64) -> f64 {
    // The sum of three uniform numbers is close enough to a bell curve.
    let bell = (random.random::<f64>() + random.random::<f64>() + random.random::<f64>()) / 1.5 - 1.0;
    middle * spread.powf(bell)
}

/// A choice among weighted alternatives in constant time (Vose's alias method).
#[derive(Debug, Clone)]
pub struct Weighted {
    threshold: Vec<f64>,
    alias: Vec<u32>,
}

impl Weighted {
    /// `weights` are positive, in any unit.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Weighted {
        let weights: Vec<f64> = weights.into_iter().collect();
        let count = weights.len();
        let total: f64 = weights.iter().sum();
        let mut threshold: Vec<f64> = weights.iter().map(|weight| weight * count as f64 / total).collect();
        let mut alias: Vec<u32> = (0..count as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|&i| threshold[i] < 1.0);
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            alias[less] = more as u32;
            threshold[more] -= 1.0 - threshold[less];
            if threshold[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        for rest in small.into_iter().chain(large) {
            threshold[rest] = 1.0;
        }
        Weighted { threshold, alias }
    }

    /// The index that a uniform number selects.
    pub fn pick(&self, uniform: u64) -> usize {
        let count = self.threshold.len() as u128;
        let scaled = u128::from(uniform) * count;
        let place = (scaled >> 64) as usize;
        let fraction = (scaled as u64) as f64 / 18_446_744_073_709_551_616.0;
        if fraction < self.threshold[place] { place } else { self.alias[place] as usize }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn weighted_choice_follows_its_weights() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let weighted = Weighted::new([1.0, 2.0, 7.0]);
        let mut counts = [0_u32; 3];
        for _ in 0..100_000 {
            counts[weighted.pick(random.random())] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000_f64, 20_000.0, 70_000.0]) {
            assert!((f64::from(*count) - expected).abs() < 1_000.0, "{counts:?}");
        }
        assert_eq!(Weighted::new([5.0]).pick(u64::MAX), 0);
    }

    #[test]
    fn draws_keep_their_means() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mean = (0..100_000).map(|_| exponential(&mut random, 8.0)).sum::<f64>() / 100_000.0;
        assert!((mean - 8.0).abs() < 0.2, "{mean}");
        let happened = (0..100_000).filter(|_| chance(&mut random, 0.25)).count();
        assert!((24_000..26_000).contains(&happened), "{happened}");
        assert!(!chance(&mut random, 0.0));
    }
}
