//! Grouping: which rows of a cube count, and the sums by key.

use adlake_domain::time;
use chrono_tz::Tz;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

use super::names::{Names, UNKNOWN};
use crate::question::calendar::bucket_start;
use crate::question::{Condition, Dimension, Grain};

/// The key of a group: the beginning of its bucket (0 without buckets), and a code for each
/// dimension.
pub type Key = (i64, [u32; Dimension::ALL.len()]);

/// What is selected of a cube.
#[derive(Debug)]
pub struct Selection<'a> {
    /// The dimensions of the groups.
    pub dimensions: &'a [Dimension],
    /// The stored sums that are needed.
    pub sums: &'a [usize],
    /// Which rows count.
    pub condition: &'a Coded,
    /// The range of time.
    pub range: (i64, i64),
    /// The buckets. `None`: one.
    pub grain: Option<Grain>,
    /// The zone of the buckets.
    pub zone: Tz,
    /// The advertiser of each campaign that has one, as codes.
    pub advertisers: &'a HashMap<u32, u32>,
}

impl Selection<'_> {
    /// The bucket of a time.
    pub fn bucket(&self, time: i64) -> i64 {
        self.grain.map_or(0, |grain| bucket_start(time, grain, self.zone))
    }

    /// The key of a row. Its codes are those of the stored dimensions.
    pub fn key(&self, bucket: i64, codes: impl Iterator<Item = u32>) -> Key {
        let mut key = [0; Dimension::ALL.len()];
        for ((into, code), dimension) in key.iter_mut().zip(codes).zip(self.dimensions) {
            *into = match dimension {
                Dimension::Advertiser => self.advertisers.get(&code).copied().unwrap_or(UNKNOWN),
                _ => code,
            };
        }
        (bucket, key)
    }
}

/// Sums by key.
#[derive(Debug)]
pub struct Groups {
    places: HashMap<Key, usize>,
    keys: Vec<Key>,
    /// As many for each key as sums are selected.
    sums: Vec<i128>,
    width: usize,
    most: usize,
}

/// There are more groups than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyGroups;

impl Groups {
    /// No groups, with so many sums each. `most`: how many groups there may be.
    pub fn new(width: usize, most: usize) -> Groups {
        Groups { places: HashMap::new(), keys: Vec::new(), sums: Vec::new(), width, most }
    }

    /// The sums of a key, zero if it is new.
    pub fn at(&mut self, key: Key) -> Result<&mut [i128], TooManyGroups> {
        let next = self.keys.len();
        let place = match self.places.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if next >= self.most => return Err(TooManyGroups),
            Entry::Vacant(entry) => {
                entry.insert(next);
                self.keys.push(key);
                self.sums.resize(self.sums.len() + self.width, 0);
                next
            }
        };
        Ok(&mut self.sums[place * self.width..(place + 1) * self.width])
    }

    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[i128])> {
        let of = |place: usize| &self.sums[place * self.width..(place + 1) * self.width];
        self.keys.iter().enumerate().map(move |(place, key)| (key, of(place)))
    }
}

/// A condition whose values are codes.
#[derive(Debug, Clone)]
pub enum Coded {
    /// All hold.
    All(Vec<Coded>),
    /// One holds.
    Any(Vec<Coded>),
    /// It does not hold.
    Not(Box<Coded>),
    /// A stored dimension has one of the codes.
    In(Dimension, HashSet<u32>),
}

impl Coded {
    /// The condition with codes. A value without a code is one that no event has.
    pub fn of(condition: &Condition, names: &Names, advertisers: &HashMap<u32, u32>) -> Coded {
        let all = |parts: &[Condition]| parts.iter().map(|part| Coded::of(part, names, advertisers)).collect();
        match condition {
            Condition::All(parts) => Coded::All(all(parts)),
            Condition::Any(parts) => Coded::Any(all(parts)),
            Condition::Not(part) => Coded::Not(Box::new(Coded::of(part, names, advertisers))),
            Condition::In(dimension, values) => {
                let code = |value: &Option<String>| match value {
                    None => Some(UNKNOWN),
                    Some(value) => names.known(*dimension, value),
                };
                let codes: HashSet<u32> = values.iter().filter_map(code).collect();
                if *dimension != Dimension::Advertiser {
                    return Coded::In(*dimension, codes);
                }
                let of = |wanted: bool| {
                    let campaigns = advertisers.iter().filter(|(_, advertiser)| codes.contains(*advertiser) == wanted);
                    Coded::In(Dimension::Campaign, campaigns.map(|(campaign, _)| *campaign).collect())
                };
                // Campaigns that are not listed have no known advertiser.
                if codes.contains(&UNKNOWN) { Coded::Not(Box::new(of(false))) } else { of(true) }
            }
        }
    }

    /// Campaigns without which it holds for no row. `None`: it does not say any.
    pub fn campaigns(&self) -> Option<&HashSet<u32>> {
        match self {
            Coded::In(Dimension::Campaign, codes) => Some(codes),
            Coded::All(parts) => parts.iter().filter_map(Coded::campaigns).min_by_key(|codes| codes.len()),
            _ => None,
        }
    }

    /// The condition over columns of codes.
    pub fn columns<'a>(&'a self, codes: impl Fn(Dimension) -> &'a [u32] + Copy) -> Matcher<'a> {
        let all = |parts: &'a [Coded]| parts.iter().map(|part| part.columns(codes)).collect();
        match self {
            Coded::All(parts) => Matcher::All(all(parts)),
            Coded::Any(parts) => Matcher::Any(all(parts)),
            Coded::Not(part) => Matcher::Not(Box::new(part.columns(codes))),
            Coded::In(dimension, values) => Matcher::In(codes(*dimension), values),
        }
    }
}

/// A condition over the rows of a cube.
#[derive(Debug)]
pub enum Matcher<'a> {
    /// All hold.
    All(Vec<Matcher<'a>>),
    /// One holds.
    Any(Vec<Matcher<'a>>),
    /// It does not hold.
    Not(Box<Matcher<'a>>),
    /// The code of the row is one of these.
    In(&'a [u32], &'a HashSet<u32>),
}

impl Matcher<'_> {
    /// Whether it holds for a row.
    pub fn holds(&self, row: usize) -> bool {
        match self {
            Matcher::All(parts) => parts.iter().all(|part| part.holds(row)),
            Matcher::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Matcher::Not(part) => !part.holds(row),
            Matcher::In(codes, values) => values.contains(&codes.get(row).copied().unwrap_or_default()),
        }
    }
}

/// Whether buckets of a zone begin with hours of the report zone, in a range.
pub fn fits(range: (i64, i64), grain: Option<Grain>, zone: Tz, report_zone: Tz) -> bool {
    if zone == report_zone || matches!(grain, None | Some(Grain::Hour)) {
        return true;
    }
    let begins_with_hour = |at: i64| {
        let start = bucket_start(at, Grain::Day, zone);
        time::hour_start(start, report_zone) == start
    };
    // Offsets change a few times a year, so a look at each week and at the last day sees them.
    let week = 7 * time::DAY;
    let (from, to) = range;
    let mut at = from;
    while at < to {
        if !begins_with_hour(at) {
            return false;
        }
        at = at.saturating_add(week);
    }
    from >= to || begins_with_hour(to - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_clocks_by_half_an_hour_is_seen_at_the_end_of_a_range_too() {
        let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let zone = chrono_tz::Australia::Lord_Howe;
        let check = |to: &str, expected: bool| {
            let range = (at("2025-04-03T13:00:00Z"), at(to));
            assert_eq!(fits(range, Some(Grain::Day), zone, Tz::UTC), expected, "{to}");
        };
        // Until 6 April it is eleven hours ahead, then ten and a half.
        check("2025-04-05T13:00:00Z", true);
        check("2025-04-09T13:00:00Z", false);
    }

    #[test]
    fn there_are_as_many_groups_as_there_may_be() {
        let mut groups = Groups::new(2, 2);
        let key = |code: u32| (7, [code; Dimension::ALL.len()]);
        groups.at(key(1)).unwrap()[1] += 5;
        groups.at(key(2)).unwrap()[0] += 6;
        assert_eq!(groups.at(key(3)), Err(TooManyGroups));
        groups.at(key(1)).unwrap()[1] += 7;
        let all: Vec<_> = groups.iter().map(|(key, sums)| (key.1[0], sums.to_vec())).collect();
        assert_eq!(all, [(1, vec![0, 12]), (2, vec![6, 0])]);
    }

    #[test]
    fn conditions_hold_for_rows_as_for_values() {
        let names = Names::default();
        let (a, b) = (names.code(Dimension::Campaign, Some("a")), names.code(Dimension::Campaign, Some("b")));
        let x = names.code(Dimension::Advertiser, Some("x"));
        let advertisers = HashMap::from([(a, x)]);
        let rows = [a, b, UNKNOWN];
        let check = |condition: Condition, expected: [bool; 3]| {
            let coded = Coded::of(&condition, &names, &advertisers);
            let matcher = coded.columns(|_| &rows);
            assert_eq!([0, 1, 2].map(|row| matcher.holds(row)), expected, "{condition:?}");
        };
        let campaign = |values: &[Option<&str>]| {
            Condition::In(Dimension::Campaign, values.iter().map(|value| value.map(String::from)).collect())
        };
        let advertiser = |values: &[Option<&str>]| {
            Condition::In(Dimension::Advertiser, values.iter().map(|value| value.map(String::from)).collect())
        };
        check(campaign(&[Some("a"), None]), [true, false, true]);
        check(Condition::Not(Box::new(campaign(&[Some("a")]))), [false, true, true]);
        check(campaign(&[Some("nobody")]), [false; 3]);
        check(advertiser(&[Some("x")]), [true, false, false]);
        check(advertiser(&[None]), [false, true, true]);
        check(advertiser(&[None, Some("x")]), [true; 3]);
        check(Condition::All(Vec::new()), [true; 3]);
        check(Condition::Any(Vec::new()), [false; 3]);
    }
}
