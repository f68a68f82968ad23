//! Sketches in memory, by day and campaign.

use std::sync::Arc;

use adlake_domain::reach::{Sketch, estimate};
use adlake_lake::LakeError;
use arrow::array::{AsArray, RecordBatch};
use hashbrown::{HashMap, HashSet};

use super::cube::Rows;
use super::groups::{Coded, Key, Selection};
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
    /// The union of the selected sketches, by key.
    pub fn select(&self, selection: &Selection<'_>) -> Result<Unions, LakeError> {
        let mut unions = Unions::default();
        self.select_into(selection, &mut unions)?;
        Ok(unions)
    }

    /// Adds the selected sketches to unions.
    pub fn select_into(&self, selection: &Selection<'_>, unions: &mut Unions) -> Result<(), LakeError> {
        self.add(&self.published, Some(&self.replaced), selection, unions)?;
        self.add(&self.added, None, selection, unions)
    }

    fn add(
        &self,
        sketches: &Sketches,
        without: Option<&Replaced>,
        selection: &Selection<'_>,
        unions: &mut Unions,
    ) -> Result<(), LakeError> {
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
            let union = unions.0.entry(key).or_default();
            union.union(&sketches.sketches[row]).map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(())
    }
}

/// A sketch for each key.
#[derive(Debug, Default)]
pub struct Unions(HashMap<Key, Sketch>);

impl Unions {
    /// The number of users of each key.
    pub fn estimates(&mut self) -> Result<HashMap<Key, u64>, LakeError> {
        let each = self.0.iter_mut().map(|(key, sketch)| Ok((*key, users(sketch)?)));
        each.collect()
    }

    /// The number of users of these keys together.
    pub fn together(&mut self, is_shown: impl Fn(&Key) -> bool) -> Result<u64, LakeError> {
        let mut together = Sketch::default();
        for (_, sketch) in self.0.iter_mut().filter(|(key, _)| is_shown(key)) {
            together.union(&sketch.to_bytes()).map_err(|error| wrong(&error.to_string()))?;
        }
        users(&mut together)
    }
}

fn users(sketch: &mut Sketch) -> Result<u64, LakeError> {
    estimate(&sketch.to_bytes()).map_err(|error| wrong(&error.to_string()))
}
