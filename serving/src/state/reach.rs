//! Sketches in memory, by day and campaign.

use std::sync::Arc;

use adlake_domain::reach::{Sketch, estimate};
use adlake_lake::LakeError;
use arrow::array::{AsArray, RecordBatch};
use hashbrown::{HashMap, HashSet};

use super::cube::Rows;
use super::groups::{Coded, Key, Selection, TooManyGroups};
use super::names::Names;
use crate::question::Dimension;

/// The sketches of one source: those of the published run, or those that come with the tail.
#[derive(Debug, Default)]
pub struct Sketches {
    days: Vec<i64>,
    campaigns: Vec<u32>,
    sketches: Vec<Vec<u8>>,
}

/// Days and campaigns whose published sketches no longer count.
#[derive(Debug, Default)]
pub struct Replaced(HashSet<(i64, u32)>);

/// Reads the column `day` as `time`, and the campaign.
fn keys(batch: &RecordBatch, names: &Names) -> Result<Rows, LakeError> {
    let index = batch.schema().index_of("day").map_err(|_| wrong("day is missing"))?;
    let renamed = RecordBatch::try_from_iter(batch.schema().fields().iter().zip(batch.columns()).enumerate().map(
        |(place, (field, column))| {
            (if place == index { "time" } else { field.name().as_str() }.to_owned(), column.clone())
        },
    ));
    Rows::of(&renamed.map_err(|error| wrong(&error.to_string()))?, &[Dimension::Campaign], names)
}

fn wrong(detail: &str) -> LakeError {
    LakeError::Corrupt(format!("the sketches of the lake: {detail}"))
}

impl Sketches {
    /// Adds rows with the columns `day`, `campaign_id` and `reach_sketch`.
    pub fn add(&mut self, batch: &RecordBatch, names: &Names) -> Result<(), LakeError> {
        let rows = keys(batch, names)?;
        let column = batch.column_by_name("reach_sketch").and_then(|column| column.as_binary_opt::<i32>());
        let column = column.ok_or_else(|| wrong("reach_sketch is no column of bytes"))?;
        for (row, sketch) in column.iter().enumerate() {
            let Some(sketch) = sketch else { continue };
            self.days.push(rows.times[row]);
            self.campaigns.push(rows.codes[0][row]);
            self.sketches.push(sketch.to_vec());
        }
        Ok(())
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        self.sketches.iter().map(|sketch| sketch.len() + size_of::<(Vec<u8>, i64, u32)>()).sum()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sketches.len()
    }
}

impl Replaced {
    /// Adds rows with the columns `day` and `campaign_id`.
    pub fn add(&mut self, batch: &RecordBatch, names: &Names) -> Result<(), LakeError> {
        let rows = keys(batch, names)?;
        self.0.extend(rows.times.iter().copied().zip(rows.codes[0].iter().copied()));
        Ok(())
    }
}

/// The sketches of a snapshot.
#[derive(Debug, Default)]
pub struct Reach {
    /// Those of the published run.
    pub published: Arc<Sketches>,
    /// Which of them no longer count.
    pub replaced: Replaced,
    /// Those that came since.
    pub added: Sketches,
}

impl Reach {
    /// Adds the selected sketches to unions, by key.
    pub fn select(&self, selection: &Selection<'_>, unions: &mut Unions) -> Result<(), UnionError> {
        self.add(&self.published, Some(&self.replaced), selection, unions)?;
        self.add(&self.added, None, selection, unions)
    }

    fn add(
        &self,
        sketches: &Sketches,
        without: Option<&Replaced>,
        selection: &Selection<'_>,
        unions: &mut Unions,
    ) -> Result<(), UnionError> {
        let condition: &Coded = selection.condition;
        let matcher = condition.columns(|_| &sketches.campaigns);
        let (from, to) = selection.range;
        for (row, day) in sketches.days.iter().enumerate() {
            let campaign = sketches.campaigns[row];
            let is_gone = without.is_some_and(|replaced| replaced.0.contains(&(*day, campaign)));
            if is_gone || !(from..to).contains(day) || !matcher.holds(row) {
                continue;
            }
            // Reach is only asked for by campaign or advertiser.
            let key = selection.key(selection.bucket(*day), selection.dimensions.iter().map(|_| campaign));
            unions.add(key, &sketches.sketches[row])?;
        }
        Ok(())
    }
}

/// Why sketches are not put together.
#[derive(Debug)]
pub enum UnionError {
    /// They would take more memory than they may.
    TooMany(TooManyGroups),
    /// One of them is none.
    Lake(LakeError),
}

impl From<LakeError> for UnionError {
    fn from(error: LakeError) -> Self {
        UnionError::Lake(error)
    }
}

/// A sketch for each key.
#[derive(Debug)]
pub struct Unions {
    sketches: HashMap<Key, Sketch>,
    bytes: usize,
    bytes_max: usize,
}

impl Unions {
    /// None yet. They may take so many bytes.
    pub fn new(bytes_max: usize) -> Unions {
        Unions { sketches: HashMap::new(), bytes: 0, bytes_max }
    }

    fn add(&mut self, key: Key, sketch: &[u8]) -> Result<(), UnionError> {
        let union = self.sketches.entry(key).or_default();
        let before = union.size();
        union.union(sketch).map_err(|error| wrong(&error.to_string()))?;
        self.bytes += union.size().saturating_sub(before);
        if self.bytes > self.bytes_max { Err(UnionError::TooMany(TooManyGroups)) } else { Ok(()) }
    }

    /// The number of users of each key.
    pub fn estimates(&mut self) -> Result<HashMap<Key, u64>, LakeError> {
        let each = self.sketches.iter_mut().map(|(key, sketch)| Ok((*key, users(sketch)?)));
        each.collect()
    }

    /// The number of users of these keys together.
    pub fn together(&mut self, is_shown: impl Fn(&Key) -> bool) -> Result<u64, LakeError> {
        let mut together = Sketch::default();
        for (_, sketch) in self.sketches.iter_mut().filter(|(key, _)| is_shown(key)) {
            together.union(&sketch.to_bytes()).map_err(|error| wrong(&error.to_string()))?;
        }
        users(&mut together)
    }
}

fn users(sketch: &mut Sketch) -> Result<u64, LakeError> {
    estimate(&sketch.to_bytes()).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_take_no_more_than_they_may() {
        let sketch = |from: u32| {
            let mut sketch = Sketch::default();
            (from..from + 1_000).for_each(|user| sketch.insert(&user.to_string()));
            sketch.to_bytes()
        };
        let key = |bucket: i64| (bucket, [0; Dimension::ALL.len()]);
        let mut unions = Unions::new(30_000);
        unions.add(key(1), &sketch(0)).unwrap();
        let taken = unions.bytes;
        assert!((8_000..30_000).contains(&taken), "{taken}");
        // The same users again.
        unions.add(key(1), &sketch(0)).unwrap();
        let added = (2..9).map(|bucket| unions.add(key(bucket), &sketch(5_000)));
        assert!(added.filter(Result::is_err).count() > 3);
        assert_eq!(Unions::new(usize::MAX).together(|_| true).unwrap(), 0);
    }
}
