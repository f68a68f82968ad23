//! Sums in memory: a row for each key that has any, in columns, in the order of time.

use std::ops::Range;

use adlake_domain::kpi::SUMS;
use adlake_lake::LakeError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use hashbrown::HashMap;

use super::groups::{Coded, Groups, Selection, TooManyGroups};
use super::names::Names;
use crate::question::Dimension;

/// The sums of one column. Most have 64 bits, and many are zero everywhere.
#[derive(Debug, Clone)]
enum Numbers {
    Zero,
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
}

impl Numbers {
    fn of(values: Vec<i128>) -> Numbers {
        if values.iter().all(|value| *value == 0) {
            return Numbers::Zero;
        }
        match values.iter().map(|value| i64::try_from(*value)).collect::<Result<Vec<_>, _>>() {
            Ok(narrow) => Numbers::Narrow(narrow),
            Err(_) => Numbers::Wide(values),
        }
    }

    fn get(&self, row: usize) -> i128 {
        match self {
            Numbers::Zero => 0,
            Numbers::Narrow(values) => values[row].into(),
            Numbers::Wide(values) => values[row],
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Numbers::Zero => 0,
            Numbers::Narrow(values) => values.capacity() * size_of::<i64>(),
            Numbers::Wide(values) => values.capacity() * size_of::<i128>(),
        }
    }
}

/// Sums by time and some dimensions.
#[derive(Debug, Clone)]
pub struct Cube {
    dimensions: Vec<Dimension>,
    /// The first instant of the hour or day of each row, ascending.
    times: Vec<i64>,
    /// For each dimension the code of each row.
    codes: Vec<Vec<u32>>,
    /// In the order of [`SUMS`].
    sums: Vec<Numbers>,
    /// If the campaign is a dimension.
    by_campaign: Option<ByCampaign>,
}

/// The rows of each campaign, ascending.
#[derive(Debug, Clone)]
struct ByCampaign {
    /// Where the rows of each code begin; and, one more, where those of the last end.
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl ByCampaign {
    fn of(codes: &[u32]) -> ByCampaign {
        let count = codes.iter().max().map_or(0, |most| *most as usize + 1);
        let mut starts = vec![0u32; count + 1];
        for code in codes {
            starts[*code as usize + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; codes.len()]);
        for (row, code) in codes.iter().enumerate() {
            let place = &mut next[*code as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        ByCampaign { starts, rows }
    }

    fn rows(&self, code: u32) -> &[u32] {
        let start = |code: usize| self.starts.get(code).copied().unwrap_or(self.rows.len() as u32) as usize;
        &self.rows[start(code as usize)..start(code as usize + 1)]
    }

    fn bytes(&self) -> usize {
        (self.starts.capacity() + self.rows.capacity()) * size_of::<u32>()
    }
}

/// A cube, and its sums over all campaigns.
#[derive(Debug, Clone)]
pub struct Layers {
    whole: Cube,
    over_campaigns: Cube,
}

impl Layers {
    /// The layers of a cube.
    pub fn of(whole: Cube) -> Layers {
        let kept: Vec<Dimension> =
            whole.dimensions.iter().copied().filter(|dimension| *dimension != Dimension::Campaign).collect();
        let over_campaigns = whole.regrouped(&kept, |time| time);
        Layers { whole, over_campaigns }
    }

    /// The smaller layer with all of these dimensions.
    pub fn with(&self, dimensions: &[Dimension]) -> Option<&Cube> {
        [&self.over_campaigns, &self.whole].into_iter().find(|cube| cube.has(dimensions))
    }

    /// The cube.
    pub fn whole(&self) -> &Cube {
        &self.whole
    }

    /// How many rows both have.
    pub fn rows(&self) -> usize {
        self.whole.rows() + self.over_campaigns.rows()
    }

    /// The bytes that both take.
    pub fn bytes(&self) -> usize {
        self.whole.bytes() + self.over_campaigns.bytes()
    }
}

/// Collects the rows of a cube. Rows with the same key are added up.
#[derive(Debug)]
pub struct CubeBuilder {
    dimensions: Vec<Dimension>,
    rows: HashMap<(i64, Vec<u32>), Vec<i128>>,
}

impl CubeBuilder {
    /// No rows yet.
    pub fn new(dimensions: &[Dimension]) -> CubeBuilder {
        CubeBuilder { dimensions: dimensions.to_vec(), rows: HashMap::new() }
    }

    /// Adds rows with the columns `time`, the dimensions and all sums.
    pub fn add(&mut self, batch: &RecordBatch, names: &Names) -> Result<(), LakeError> {
        let rows = Rows::of(batch, &self.dimensions, names)?;
        let sums = (0..SUMS.len()).map(|sum| column(batch, sum)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let key = (rows.times[row], rows.codes.iter().map(|codes| codes[row]).collect());
            self.add_row(key, sums.iter().map(|column| column[row]));
        }
        Ok(())
    }

    fn add_row(&mut self, key: (i64, Vec<u32>), sums: impl Iterator<Item = i128>) {
        let into = self.rows.entry(key).or_insert_with(|| vec![0; SUMS.len()]);
        for (into, value) in into.iter_mut().zip(sums) {
            *into += value;
        }
    }

    /// The cube. Rows whose sums are all zero are left out.
    pub fn finish(self) -> Cube {
        let any = |sums: &[i128]| sums.iter().any(|value| *value != 0);
        let mut rows: Vec<_> = self.rows.into_iter().filter(|(_, sums)| any(sums)).collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let times = rows.iter().map(|((time, _), _)| *time).collect();
        let codes = (0..self.dimensions.len()).map(|place| rows.iter().map(|((_, codes), _)| codes[place]).collect());
        let codes: Vec<Vec<u32>> = codes.collect();
        let campaign = self.dimensions.iter().position(|dimension| *dimension == Dimension::Campaign);
        let by_campaign = campaign.map(|place| ByCampaign::of(&codes[place]));
        let sums = (0..SUMS.len()).map(|sum| Numbers::of(rows.iter().map(|(_, sums)| sums[sum]).collect())).collect();
        Cube { dimensions: self.dimensions, times, codes, sums, by_campaign }
    }
}

impl Cube {
    /// A cube without rows.
    pub fn empty(dimensions: &[Dimension]) -> Cube {
        CubeBuilder::new(dimensions).finish()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let codes: usize = self.codes.iter().map(|codes| codes.capacity() * size_of::<u32>()).sum();
        let by_campaign = self.by_campaign.as_ref().map_or(0, ByCampaign::bytes);
        let sums: usize = self.sums.iter().map(Numbers::bytes).sum();
        self.times.capacity() * size_of::<i64>() + codes + by_campaign + sums
    }

    /// Whether it has all of these dimensions.
    pub fn has(&self, dimensions: &[Dimension]) -> bool {
        dimensions.iter().all(|dimension| self.dimensions.contains(&dimension.stored()))
    }

    /// The codes of a dimension, row by row.
    pub fn codes(&self, dimension: Dimension) -> &[u32] {
        let place = self.dimensions.iter().position(|own| *own == dimension);
        place.map_or(&[], |place| &self.codes[place])
    }

    /// Whether a row has a campaign.
    pub fn has_campaign(&self, code: u32) -> bool {
        self.by_campaign.as_ref().is_some_and(|rows| !rows.rows(code).is_empty())
    }

    /// The first and the last time of the rows for which a condition holds.
    pub fn span(&self, condition: &Coded) -> Option<(i64, i64)> {
        let matcher = condition.columns(|dimension| self.codes(dimension));
        let ends = self.places(condition, 0..self.rows()).into_iter().filter_map(|mut places| {
            let first = places.clone().find(|row| matcher.holds(*row))?;
            let last = places.rfind(|row| matcher.holds(*row))?;
            Some((self.times[first], self.times[last]))
        });
        ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The rows of a range among which those are for which a condition holds: the campaigns' own if
    /// it names any, else all.
    fn places(&self, condition: &Coded, range: Range<usize>) -> Vec<Places<'_>> {
        match (&self.by_campaign, condition.campaigns()) {
            (Some(rows), Some(campaigns)) => {
                campaigns.iter().map(|code| Places::listed(rows.rows(*code), &range)).collect()
            }
            _ => vec![Places::All(range)],
        }
    }

    /// The same sums by fewer dimensions, and longer buckets: `bucket` gives the bucket of a time.
    pub fn regrouped(&self, dimensions: &[Dimension], bucket: impl Fn(i64) -> i64) -> Cube {
        let places: Vec<Option<usize>> =
            dimensions.iter().map(|wanted| self.dimensions.iter().position(|dimension| dimension == wanted)).collect();
        let mut builder = CubeBuilder::new(dimensions);
        let (mut last, mut start) = (None, 0);
        for row in 0..self.rows() {
            if last != Some(self.times[row]) {
                (last, start) = (Some(self.times[row]), bucket(self.times[row]));
            }
            let codes = places.iter().map(|place| place.map_or(super::names::UNKNOWN, |place| self.codes[place][row]));
            builder.add_row((start, codes.collect()), self.sums.iter().map(|sum| sum.get(row)));
        }
        builder.finish()
    }

    /// The rows in a range of time.
    fn range(&self, (from, to): (i64, i64)) -> Range<usize> {
        let start = self.times.partition_point(|time| *time < from);
        start..self.times.partition_point(|time| *time < to).max(start)
    }

    /// Adds the selected rows to groups.
    pub fn select(&self, selection: &Selection<'_>, groups: &mut Groups) -> Result<(), TooManyGroups> {
        let place = |wanted: Dimension| self.dimensions.iter().position(|dimension| *dimension == wanted);
        let no_codes: Vec<u32> = Vec::new();
        let codes = |wanted: Dimension| place(wanted.stored()).map_or(no_codes.as_slice(), |place| &self.codes[place]);
        let keys: Vec<&[u32]> = selection.dimensions.iter().map(|dimension| codes(*dimension)).collect();
        let sums: Vec<&Numbers> = selection.sums.iter().map(|sum| &self.sums[*sum]).collect();
        let matcher = selection.condition.columns(|dimension| codes(dimension));
        let (mut last, mut bucket) = (None, 0);
        let places = self.places(selection.condition, self.range(selection.range));
        for row in places.into_iter().flatten() {
            if !matcher.holds(row) {
                continue;
            }
            if last != Some(self.times[row]) {
                (last, bucket) = (Some(self.times[row]), selection.bucket(self.times[row]));
            }
            let key = selection.key(bucket, keys.iter().map(|codes| codes.get(row).copied().unwrap_or_default()));
            let into = groups.at(key)?;
            for (into, numbers) in into.iter_mut().zip(&sums) {
                *into += numbers.get(row);
            }
        }
        Ok(())
    }
}

/// Rows, ascending.
#[derive(Debug, Clone)]
enum Places<'a> {
    All(Range<usize>),
    Listed(std::slice::Iter<'a, u32>),
}

impl<'a> Places<'a> {
    /// Those that are in a range.
    fn listed(rows: &'a [u32], range: &Range<usize>) -> Places<'a> {
        let before = |end: usize| rows.partition_point(|row| (*row as usize) < end);
        Places::Listed(rows[before(range.start)..before(range.end)].iter())
    }
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Places::All(rows) => rows.next(),
            Places::Listed(rows) => rows.next().map(|row| *row as usize),
        }
    }
}

impl DoubleEndedIterator for Places<'_> {
    fn next_back(&mut self) -> Option<usize> {
        match self {
            Places::All(rows) => rows.next_back(),
            Places::Listed(rows) => rows.next_back().map(|row| *row as usize),
        }
    }
}

/// The times and codes of the rows of a batch.
#[derive(Debug)]
pub struct Rows {
    /// Zero where the batch has no column `time`.
    pub times: Vec<i64>,
    /// For each dimension.
    pub codes: Vec<Vec<u32>>,
}

impl Rows {
    /// Reads them by name.
    pub fn of(batch: &RecordBatch, dimensions: &[Dimension], names: &Names) -> Result<Rows, LakeError> {
        let times = match batch.column_by_name("time") {
            None => vec![0; batch.num_rows()],
            Some(column) => {
                let times = column.as_primitive_opt::<TimestampMicrosecondType>();
                times.ok_or_else(|| wrong("time is no column of times"))?.values().to_vec()
            }
        };
        let codes = dimensions.iter().map(|dimension| {
            let column = batch.column_by_name(dimension.name()).and_then(|column| column.as_string_opt::<i32>());
            let column = column.ok_or_else(|| wrong(format!("{} is no column of texts", dimension.name())))?;
            Ok(column.iter().map(|value| names.code(*dimension, value)).collect())
        });
        Ok(Rows { times, codes: codes.collect::<Result<_, LakeError>>()? })
    }
}

/// The values of a stored sum. What is NULL counts as 0.
pub fn column(batch: &RecordBatch, sum: usize) -> Result<Vec<i128>, LakeError> {
    let name = SUMS[sum].column;
    let column = batch.column_by_name(name).ok_or_else(|| wrong(format!("{name} is missing")))?;
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        let value = |row| if numbers.is_null(row) { 0 } else { numbers.value(row).into() };
        return Ok((0..numbers.len()).map(value).collect());
    }
    let numbers = column.as_primitive_opt::<Decimal128Type>();
    let numbers = numbers.ok_or_else(|| wrong(format!("{name} is no column of numbers")))?;
    Ok((0..numbers.len()).map(|row| if numbers.is_null(row) { 0 } else { numbers.value(row) }).collect())
}

fn wrong(detail: impl Into<String>) -> LakeError {
    LakeError::Corrupt(format!("the sums of the lake: {}", detail.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube(rows: &[(i64, u32, u32, i128)]) -> Cube {
        let mut builder = CubeBuilder::new(&[Dimension::Campaign, Dimension::Country]);
        for (time, campaign, country, value) in rows {
            let mut sums = vec![0; SUMS.len()];
            sums[0] = 1;
            sums[9] = *value;
            builder.add_row((*time, vec![*campaign, *country]), sums.into_iter());
        }
        builder.finish()
    }

    #[test]
    fn rows_are_added_up_by_key_and_ordered_by_time() {
        let cube = cube(&[(7, 1, 1, 5), (3, 1, 2, 1 << 70), (7, 1, 1, 6)]);
        let all = Coded::All(Vec::new());
        assert_eq!((cube.rows(), cube.span(&all)), (2, Some((3, 7))));
        let country = |code| Coded::In(Dimension::Country, [code].into());
        assert_eq!([1, 2, 3].map(|code| cube.span(&country(code))), [Some((7, 7)), Some((3, 3)), None]);
        assert_eq!((cube.sums[9].get(0), cube.sums[9].get(1)), (1 << 70, 11));
        assert!(matches!(cube.sums[9], Numbers::Wide(_)) && matches!(cube.sums[0], Numbers::Narrow(_)));
        assert!(matches!(cube.sums[1], Numbers::Zero));
        let by_campaign = cube.regrouped(&[Dimension::Campaign], |_| 0);
        assert_eq!((by_campaign.rows(), by_campaign.sums[9].get(0)), (1, (1 << 70) + 11));
        assert!(by_campaign.has(&[Dimension::Advertiser]) && !by_campaign.has(&[Dimension::Country]));
    }

    #[test]
    fn who_does_not_ask_about_campaigns_is_answered_from_sums_over_all() {
        let layers = Layers::of(cube(&[(3, 1, 2, 5), (3, 4, 2, 6), (7, 1, 1, 7), (7, 0, 2, 8)]));
        let rows = |dimensions: &[Dimension]| layers.with(dimensions).map(Cube::rows);
        assert_eq!((rows(&[]), rows(&[Dimension::Country])), (Some(3), Some(3)));
        assert_eq!((rows(&[Dimension::Campaign]), rows(&[Dimension::Advertiser])), (Some(4), Some(4)));
        assert_eq!(rows(&[Dimension::Device]), None);
        let over = layers.with(&[]).unwrap();
        assert_eq!((over.times.as_slice(), over.sums[9].get(0)), ([3, 7, 7].as_slice(), 11));
    }

    #[test]
    fn the_rows_of_campaigns_are_those_that_a_condition_on_them_selects() {
        let rows: Vec<_> =
            (0..500i64).map(|row| (row / 7, (row % 11 * 3) as u32, (row % 5) as u32, row.into())).collect();
        let cube = cube(&rows);
        let campaigns = |codes: &[u32]| Coded::In(Dimension::Campaign, codes.iter().copied().collect());
        let country = Coded::In(Dimension::Country, [0, 3].into());
        let check = |condition: Coded, range: (i64, i64), is_listed: bool| {
            let places = cube.places(&condition, cube.range(range));
            assert_eq!(matches!(places[..], [Places::All(_)]), !is_listed, "{condition:?}");
            let matcher = condition.columns(|dimension| cube.codes(dimension));
            let mut found: Vec<usize> = places.into_iter().flatten().filter(|row| matcher.holds(*row)).collect();
            found.sort_unstable();
            let expected: Vec<usize> = cube.range(range).filter(|row| matcher.holds(*row)).collect();
            assert_eq!(found, expected, "{condition:?} {range:?}");
            expected.len()
        };
        for range in [(0, 100), (13, 29), (29, 13), (i64::MIN, i64::MAX)] {
            check(campaigns(&[3]), range, true);
            check(campaigns(&[0, 30, 4, 99]), range, true);
            check(Coded::All(vec![campaigns(&[3, 6, 9]), country.clone(), campaigns(&[6])]), range, true);
            check(Coded::Any(vec![campaigns(&[3]), country.clone()]), range, false);
            check(Coded::Not(Box::new(campaigns(&[3]))), range, false);
        }
        assert!(check(campaigns(&[0, 30]), (13, 29), true) > 10);
        assert!(cube.has_campaign(30) && !cube.has_campaign(31) && !cube.has_campaign(1000));
        // The campaign 3 is in the rows 1, 12, ..., 496.
        assert_eq!(cube.span(&campaigns(&[3])), Some((0, 70)));
        assert_eq!(
            (cube.span(&campaigns(&[4])), Cube::empty(&[Dimension::Campaign]).span(&campaigns(&[3]))),
            (None, None)
        );
    }
}
