//! The event time of the generator: the instant of the n-th opportunity to show an ad.
//!
//! The clock never reads the wall clock. The time depends on the opportunity's number alone, so a
//! stream does not depend on the rate at which it is sent.

use adlake_domain::time::civil_from_days;

/// Microseconds of an hour.
pub const HOUR: i64 = 3_600_000_000;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;

/// The traffic of each hour of a UTC day, relative to the others: low at night, with a peak in the
/// evening.
const RHYTHM: [f64; 24] = [
    0.55, 0.40, 0.30, 0.25, 0.25, 0.30, 0.45, 0.65, 0.85, 1.00, 1.10, 1.15, 1.20, 1.20, 1.15, 1.15, 1.20, 1.30, 1.45,
    1.60, 1.70, 1.55, 1.20, 0.85,
];

/// The traffic of each day of the week, from Monday on.
const WEEK: [f64; 7] = [1.0, 1.03, 1.05, 1.05, 1.0, 0.8, 0.75];
/// Holidays, (month, day), and the traffic on them.
const HOLIDAYS: [(u32, u32); 6] = [(1, 1), (5, 1), (10, 3), (12, 24), (12, 25), (12, 26)];
const HOLIDAY: f64 = 0.6;

/// The traffic of a UTC day, a number of days since 1970, relative to others.
fn day_factor(day: i64) -> f64 {
    let (_, month, date) = civil_from_days(day);
    let holiday = if HOLIDAYS.contains(&(month, date)) { HOLIDAY } else { 1.0 };
    // 1 January 1970 was a Thursday.
    holiday * WEEK[(day + 3).rem_euclid(7) as usize]
}

/// The factor on clicks per impression by the hour of the UTC day: people click more in the
/// evening.
pub fn click_season(time: i64) -> f64 {
    let hour = time.div_euclid(HOUR).rem_euclid(24) as f64;
    1.0 + 0.15 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).sin()
}

/// Gives opportunities their times, in ascending order.
#[derive(Debug)]
pub enum Clock {
    /// Opportunities are spread over a span of days by the daily rhythm.
    Rhythm { start: i64, segments: Vec<Segment>, at: usize, scale: f64, next: u64 },
    /// One opportunity every `step` microseconds, for streams that follow the wall clock.
    Steady { start: i64, step: f64, next: u64 },
}

/// A part of an hour, with the amount of traffic before it.
#[derive(Debug)]
pub struct Segment {
    from: i64,
    length: i64,
    before: f64,
    weight: f64,
}

impl Clock {
    /// `opportunities` over `span` microseconds from `start`, with more traffic by day than by
    /// night. With `seasons`, also less on weekends and on holidays.
    pub fn rhythm(start: i64, span: i64, opportunities: f64, seasons: bool) -> Clock {
        let (mut segments, mut from, mut before) = (Vec::new(), start, 0.0);
        while from < start + span {
            let hour = from.div_euclid(HOUR);
            let to = ((hour + 1) * HOUR).min(start + span);
            let season = if seasons { day_factor(hour.div_euclid(24)) } else { 1.0 };
            let weight = season * RHYTHM[hour.rem_euclid(24) as usize] * (to - from) as f64 / HOUR as f64;
            segments.push(Segment { from, length: to - from, before, weight });
            (from, before) = (to, before + weight);
        }
        Clock::Rhythm { start, segments, at: 0, scale: before / opportunities.max(1.0), next: 0 }
    }

    /// `per_second` opportunities in every second from `start`.
    pub fn steady(start: i64, per_second: f64) -> Clock {
        Clock::Steady { start, step: 1_000_000.0 / per_second, next: 0 }
    }

    /// The time of the next opportunity, in whole milliseconds (given as microseconds).
    pub fn next_time(&mut self) -> i64 {
        let time = match self {
            Clock::Steady { start, step, next } => {
                *next += 1;
                *start + ((*next - 1) as f64 * *step) as i64
            }
            Clock::Rhythm { start, segments, at, scale, next } => {
                let traffic = *next as f64 * *scale;
                *next += 1;
                while *at + 1 < segments.len() && segments[*at + 1].before <= traffic {
                    *at += 1;
                }
                match segments.get(*at) {
                    // After the end, the last segment continues.
                    Some(segment) => {
                        segment.from + ((traffic - segment.before) / segment.weight * segment.length as f64) as i64
                    }
                    None => *start,
                }
            }
        };
        time.div_euclid(1_000) * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rhythm_fills_its_span_and_is_busier_in_the_evening() {
        let start = 20_089 * DAY + 5 * HOUR / 2;
        let mut clock = Clock::rhythm(start, 2 * DAY, 100_000.0, false);
        let times: Vec<i64> = (0..100_000).map(|_| clock.next_time()).collect();
        assert!(times.is_sorted());
        assert_eq!(times[0], start);
        assert!((start + 2 * DAY - HOUR / 10..start + 2 * DAY).contains(&times[99_999]));
        let at_hour = |hour: i64| times.iter().filter(|time| time.div_euclid(HOUR).rem_euclid(24) == hour).count();
        assert!(at_hour(20) > 5 * at_hour(3), "{} {}", at_hour(20), at_hour(3));
    }

    #[test]
    fn seasons_lower_weekends_and_holidays() {
        // Wednesday, 1 January 2025 is a holiday; 4 and 5 January are a weekend.
        let mut clock = Clock::rhythm(20_089 * DAY, 7 * DAY, 70_000.0, true);
        let mut days = [0; 7];
        for _ in 0..70_000 {
            days[(clock.next_time() / DAY - 20_089) as usize] += 1;
        }
        assert!(days[0] * 10 < days[1] * 7, "{days:?}");
        assert!(days[3].max(days[4]) * 10 < days[1] * 9, "{days:?}");
    }

    #[test]
    fn steady_is_steady() {
        let mut clock = Clock::steady(1_000_000, 4.0);
        assert_eq!([clock.next_time(), clock.next_time(), clock.next_time()], [1_000_000, 1_250_000, 1_500_000]);
    }
}
