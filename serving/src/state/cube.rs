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
        let codes = codes.collect();
        let sums = (0..SUMS.len()).map(|sum| Numbers::of(rows.iter().map(|(_, sums)| sums[sum]).collect())).collect();
        Cube { dimensions: self.dimensions, times, codes, sums }
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
        self.times.capacity() * size_of::<i64>() + codes + self.sums.iter().map(Numbers::bytes).sum::<usize>()
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

    /// The first and the last time of the rows for which a condition holds.
    pub fn span(&self, condition: &Coded) -> Option<(i64, i64)> {
        let matcher = condition.columns(|dimension| self.codes(dimension));
        let first = (0..self.rows()).find(|row| matcher.holds(*row))?;
        let last = (first..self.rows()).rfind(|row| matcher.holds(*row))?;
        Some((self.times[first], self.times[last]))
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
        self.times.partition_point(|time| *time < from)..self.times.partition_point(|time| *time < to)
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
        for row in self.range(selection.range) {
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
}
