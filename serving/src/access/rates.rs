//! How often something may be done: a bucket of tokens for each name.

use std::time::Instant;

use hashbrown::HashMap;

/// The most buckets. Full ones are let go of first: they allow as much as new ones.
const BUCKETS_MAX: usize = 50_000;

/// Buckets that fill again at a constant rate.
#[derive(Debug)]
pub struct Rates {
    /// How much a bucket holds. 0: no limit.
    full: f64,
    per_second: f64,
    buckets: HashMap<String, (f64, Instant)>,
}

impl Rates {
    /// So many times in a second, and as many at once. 0: no limit.
    pub fn per_second(times: u32) -> Rates {
        Rates { full: times.into(), per_second: times.into(), buckets: HashMap::new() }
    }

    /// So many times in a minute, and as many at once. 0: no limit.
    pub fn per_minute(times: u32) -> Rates {
        Rates { per_second: f64::from(times) / 60.0, ..Rates::per_second(times) }
    }

    /// Takes one from the bucket of a name. Else it says after how many seconds there is one.
    pub fn take(&mut self, name: &str, now: Instant) -> Result<(), u32> {
        if self.full == 0.0 {
            return Ok(());
        }
        let left = self.left(name, now);
        if left < 1.0 {
            return Err((((1.0 - left) / self.per_second).ceil() as u32).max(1));
        }
        self.buckets.insert(name.to_owned(), (left - 1.0, now));
        Ok(())
    }

    /// Takes one from each bucket, or nothing.
    pub fn take_all(&mut self, names: &[String], now: Instant) -> Result<(), u32> {
        for (place, name) in names.iter().enumerate() {
            if let Err(seconds) = self.take(name, now) {
                self.give_back(&names[..place]);
                return Err(seconds);
            }
        }
        Ok(())
    }

    /// Puts back what was taken.
    pub fn give_back(&mut self, names: &[String]) {
        for name in names {
            if let Some((left, _)) = self.buckets.get_mut(name) {
                *left = (*left + 1.0).min(self.full);
            }
        }
    }

    fn left(&mut self, name: &str, now: Instant) -> f64 {
        let (full, per_second) = (self.full, self.per_second);
        let filled =
            |left: f64, at: Instant| (left + now.saturating_duration_since(at).as_secs_f64() * per_second).min(full);
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(name) {
            self.buckets.retain(|_, (left, at)| filled(*left, *at) < full);
            // So many names at once are an attack: it gains nothing by it but new buckets.
            if self.buckets.len() >= BUCKETS_MAX {
                self.buckets.clear();
            }
        }
        self.buckets.get(name).map_or(full, |(left, at)| filled(*left, *at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_may_so_often_and_no_more() {
        let mut rates = Rates::per_second(3);
        let now = Instant::now();
        let allowed = |rates: &mut Rates, at| (0..5).filter(|_| rates.take("a", at).is_ok()).count();
        assert_eq!(allowed(&mut rates, now), 3);
        assert_eq!(allowed(&mut rates, now + Duration::from_millis(400)), 1);
        assert_eq!(rates.take("b", now), Ok(()));
        assert_eq!(allowed(&mut rates, now + Duration::from_secs(60)), 3);
        assert!((0..100).all(|_| Rates::per_second(0).take("a", now).is_ok()));
        let mut slow = Rates::per_minute(2);
        assert_eq!((slow.take("a", now), slow.take("a", now), slow.take("a", now)), (Ok(()), Ok(()), Err(30)));
        assert_eq!(slow.take("a", now + Duration::from_secs(30)), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_all_or_nothing_is_taken() {
        let mut rates = Rates::per_minute(2);
        let now = Instant::now();
        let names = ["a".to_string(), "b".to_string()];
        rates.take_all(&names, now).unwrap();
        rates.give_back(&names);
        rates.take("b", now).unwrap();
        rates.take("b", now).unwrap();
        assert!(rates.take_all(&names, now).is_err());
        assert_eq!((rates.take("a", now), rates.take("a", now)), (Ok(()), Ok(())));
    }

    #[test]
    fn buckets_are_bounded() {
        let mut rates = Rates::per_minute(1);
        let now = Instant::now();
        for name in 0..BUCKETS_MAX + 10 {
            rates.take(&name.to_string(), now).unwrap();
        }
        assert!(rates.buckets.len() <= BUCKETS_MAX, "{}", rates.buckets.len());
    }
}
