//! Changes of the hourly cube, put into its files: rows that are in order are met by changes that
//! are in order. A file is read and written in one pass, without sorting or grouping its rows. A
//! file that no change meets stays as it is.
//!
//! The files of a day have to be in order, each in itself and one after another, as every run
//! writes them. That is checked: of all files the first rows and the last, of those that are read
//! all rows. If it does not hold, the day has to be computed in another way.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use adlake_domain::kpi::SUMS;
use adlake_lake::LiveFile;
use adlake_lake::replace::Replacer;
use adlake_lake::views::Day;
use adlake_lake::views::plans::{BatchTable, Plans};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, DynComparator, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, concat_batches, interleave, take};
use arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;

use crate::engine::{Engine, Output, Written};
use crate::error::BatchError;

/// The changes of a day, in the order of the cube, a row for each key.
pub(crate) struct Changes {
    rows: RecordBatch,
    _memory: MemoryReservation,
}

/// A file by its place, and the changes that meet it.
type Assigned = (usize, Range<usize>);

/// A file, and the changes that meet it.
#[derive(Clone)]
pub(crate) struct Piece {
    pub file: LiveFile,
    changes: Range<usize>,
}

impl Piece {
    /// Whether a change meets the file.
    pub fn is_met(&self) -> bool {
        !self.changes.is_empty()
    }
}

impl Changes {
    /// The changes of a day in table `hourly_changes`. `None`: there is no memory for them.
    pub async fn of(engine: &Engine, day: Day) -> Result<Option<Changes>, BatchError> {
        let pool = &engine.plans.context().runtime_env().memory_pool;
        let memory = MemoryConsumer::new("changes of the cube").register(pool);
        let schema = Plans::schema_of(BatchTable::Hourly);
        let mut rows = engine.plans.stream(engine.plans.changes_of(day).await?, schema.clone()).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await.transpose()? {
            // Twice: they are put together in the end.
            if memory.try_grow(2 * batch.get_array_memory_size()).is_err() {
                return Ok(None);
            }
            batches.push(batch);
        }
        let rows = concat_batches(&schema, &batches).map_err(DataFusionError::from)?;
        Ok(Some(Changes { rows, _memory: memory }))
    }

    /// The files with the changes that meet each. `None`: one does not begin after another has
    /// ended.
    pub async fn pieces(&self, replacer: &Replacer, files: Vec<LiveFile>) -> Result<Option<Vec<Piece>>, BatchError> {
        let (mut begun, mut ends) = (Vec::new(), Vec::new());
        for file in files {
            // A file without rows is left out, so it is gone afterwards.
            if let Some(of_file) = replacer.open(&file).await?.ends()? {
                begun.push(file);
                ends.push(of_file);
            }
        }
        let pieces = self.assigned(&ends)?.map(|assigned| {
            let piece = |(place, changes): Assigned| Piece { file: begun[place].clone(), changes };
            assigned.into_iter().map(piece).collect()
        });
        Ok(pieces)
    }

    /// The changes that meet each file, by the files' places in the order of their rows. `ends` are
    /// the first row and the last of each. A change meets the last file that begins before it, or
    /// the first file.
    fn assigned(&self, ends: &[[RecordBatch; 2]]) -> Result<Option<Vec<Assigned>>> {
        let all = |end: usize| concat_batches(&self.rows.schema(), ends.iter().map(|ends| &ends[end]));
        let (firsts, lasts) = (all(0)?, all(1)?);
        let order = Order::between(&firsts, &firsts)?;
        let mut places: Vec<usize> = (0..ends.len()).collect();
        places.sort_by(|a, b| order.compare(*a, *b));
        let order = Order::between(&firsts, &lasts)?;
        if places.windows(2).any(|pair| order.compare(pair[1], pair[0]) != Ordering::Greater) {
            return Ok(None);
        }
        let order = Order::between(&self.rows, &firsts)?;
        let (mut assigned, mut next) = (Vec::new(), 0);
        for (number, place) in places.iter().enumerate() {
            let until = match places.get(number + 1) {
                Some(following) => first_where(next..self.rows.num_rows(), |change| {
                    order.compare(change, *following) != Ordering::Less
                }),
                None => self.rows.num_rows(),
            };
            assigned.push((*place, next..until));
            next = until;
        }
        Ok(Some(assigned))
    }

    /// Writes a file anew, with the changes that meet it. `None`: its rows are not in order.
    pub async fn fold(
        &self,
        piece: &Piece,
        replacer: &Replacer,
        mut output: Output,
    ) -> Result<Option<Written>, BatchError> {
        output.reserve(piece.file.bytes as usize);
        let opened = replacer.open(&piece.file).await?;
        let (mut next, mut last) = (piece.changes.start, None::<RecordBatch>);
        for batch in opened.rows()? {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            if !is_ordered(&batch, last.as_ref())? {
                return Ok(None);
            }
            let met = self.met_by(&batch, next..piece.changes.end)?;
            next = met.end;
            output.write(&self.folded(&batch, met)?).await?;
            last = Some(batch.slice(batch.num_rows() - 1, 1));
        }
        let none = self.rows.slice(0, 0);
        output.write(&self.folded(&none, next..piece.changes.end)?).await?;
        Ok(Some(output.finish().await?))
    }

    /// The first of these changes: those that are not after the batch's last row.
    fn met_by(&self, batch: &RecordBatch, changes: Range<usize>) -> Result<Range<usize>> {
        let (order, last) = (Order::between(&self.rows, batch)?, batch.num_rows() - 1);
        let end = first_where(changes.clone(), |change| order.compare(change, last) == Ordering::Greater);
        Ok(changes.start..end)
    }

    /// The rows of a batch and these changes: a row for each key, in order. A key goes if its
    /// `events` are not positive.
    fn folded(&self, batch: &RecordBatch, changes: Range<usize>) -> Result<RecordBatch> {
        if changes.is_empty() {
            return Ok(batch.clone());
        }
        let order = Order::between(&self.rows, batch)?;
        // The place of each change in the batch, and whether the row there has its key.
        let mut places: Vec<(usize, bool)> = Vec::with_capacity(changes.len());
        let mut place = 0;
        for change in changes.clone() {
            place = first_where(place..batch.num_rows(), |row| order.compare(change, row) != Ordering::Greater);
            let is_there = place < batch.num_rows() && order.compare(change, place) == Ordering::Equal;
            places.push((place, is_there));
            place += usize::from(is_there);
        }
        let sums = self.sums(batch, changes.start, &places)?;
        let events = integers(&sums, EVENTS)?;
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(batch.num_rows() + places.len());
        let mut taken = 0;
        for (number, (place, is_there)) in places.into_iter().enumerate() {
            rows.extend((taken..place).map(|row| (0, row)));
            taken = place + usize::from(is_there);
            if events.value(number) > 0 {
                rows.push((1, number));
            }
        }
        rows.extend((taken..batch.num_rows()).map(|row| (0, row)));
        let columns = batch.columns().iter().zip(sums.columns());
        let columns = columns.map(|(before, after)| interleave(&[before, after], &rows));
        Ok(RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)?)
    }

    /// The changed rows: the keys of the changes, and the sums of each change and its row.
    fn sums(&self, batch: &RecordBatch, first: usize, places: &[(usize, bool)]) -> Result<RecordBatch> {
        let of_batch: UInt64Array = places.iter().map(|(place, is_there)| is_there.then_some(*place as u64)).collect();
        let changes = self.rows.slice(first, places.len());
        let schema = batch.schema();
        let columns =
            schema.fields().iter().zip(changes.columns()).zip(batch.columns()).map(|((field, change), row)| {
                if !SUMS.iter().any(|sum| sum.column == field.name()) {
                    return Ok(change.clone());
                }
                added(change, &take(row.as_ref(), &of_batch, None)?)
            });
        Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>>>()?)?)
    }
}

/// The number of events and credits behind a row.
const EVENTS: &str = "events";

fn integers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array> {
    let found = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    found.ok_or_else(|| internal_datafusion_err!("{name} is no column of integers"))
}

/// The sums of two columns, in which NULL is nothing.
fn added(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
    let too_large = || DataFusionError::Execution("a sum of the cube is too large".to_string());
    if let (Some(a), Some(b)) = (a.as_primitive_opt::<Int64Type>(), b.as_primitive_opt::<Int64Type>()) {
        let sums = a.iter().zip(b).map(|(a, b)| a.unwrap_or_default().checked_add(b.unwrap_or_default()));
        let sums = sums.collect::<Option<Vec<i64>>>().ok_or_else(too_large)?;
        return Ok(Arc::new(Int64Array::from(sums)));
    }
    match (a.as_primitive_opt::<Decimal128Type>(), b.as_primitive_opt::<Decimal128Type>()) {
        (Some(x), Some(y)) => {
            let sums = x.iter().zip(y).map(|(x, y)| x.unwrap_or_default().checked_add(y.unwrap_or_default()));
            let sums = sums.collect::<Option<Vec<i128>>>().ok_or_else(too_large)?;
            Ok(Arc::new(Decimal128Array::from(sums).with_data_type(a.data_type().clone())))
        }
        _ => Err(internal_datafusion_err!("{} is no type of sums", a.data_type())),
    }
}

/// The first number of a range from which on a condition holds.
fn first_where(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Compares rows of two batches by the order of the cube.
struct Order(Vec<DynComparator>);

impl Order {
    fn between(a: &RecordBatch, b: &RecordBatch) -> Result<Order> {
        let options = SortOptions { descending: false, nulls_first: true };
        let column = |batch: &RecordBatch, name: &str| {
            batch.column_by_name(name).cloned().ok_or_else(|| internal_datafusion_err!("the cube has no column {name}"))
        };
        let of = |name: &'static str| {
            let (a, b) = (column(a, name)?, column(b, name)?);
            Ok(arrow::array::make_comparator(a.as_ref(), b.as_ref(), options)?)
        };
        Ok(Order(BatchTable::Hourly.order_columns().into_iter().map(of).collect::<Result<_>>()?))
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.0.iter().map(|column| column(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

/// Whether the rows of a batch are in order, after the row `before`.
fn is_ordered(batch: &RecordBatch, before: Option<&RecordBatch>) -> Result<bool> {
    if let Some(before) = before
        && Order::between(before, batch)?.compare(0, 0) != Ordering::Less
    {
        return Ok(false);
    }
    let order = Order::between(batch, batch)?;
    Ok((1..batch.num_rows()).all(|row| order.compare(row - 1, row) == Ordering::Less))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Date32Array, StringArray, TimestampMicrosecondArray};
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use rand::prelude::*;

    use super::*;

    /// A campaign, an hour and a country, with the number of events and a wide sum.
    type Rows = BTreeMap<(Option<u8>, i64, Option<u8>), (i64, i128)>;

    fn batch(rows: &Rows) -> RecordBatch {
        let schema = Plans::schema_of(BatchTable::Hourly);
        let wide = SUMS.iter().find(|sum| sum.wide).map(|sum| sum.column);
        let text = |value: Option<u8>| value.map(|value| format!("{value:03}"));
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            let narrow = |of: &dyn Fn(&(i64, i128)) -> i64| {
                Arc::new(rows.values().map(|sums| Some(of(sums))).collect::<Int64Array>())
            };
            match field.name().as_str() {
                "hour" => {
                    let hours = rows.keys().map(|(_, hour, _)| *hour).collect::<Vec<_>>();
                    Arc::new(TimestampMicrosecondArray::from(hours).with_data_type(field.data_type().clone()))
                }
                "event_date" => Arc::new(Date32Array::from(vec![7; rows.len()])),
                "campaign_id" => Arc::new(rows.keys().map(|key| text(key.0)).collect::<StringArray>()),
                "country" => Arc::new(rows.keys().map(|key| text(key.2)).collect::<StringArray>()),
                EVENTS => narrow(&|sums| sums.0),
                name if Some(name) == wide => Arc::new(
                    rows.values()
                        .map(|sums| Some(sums.1))
                        .collect::<Decimal128Array>()
                        .with_data_type(field.data_type().clone()),
                ),
                name if SUMS.iter().any(|sum| sum.column == name && !sum.wide) => narrow(&|sums| 2 * sums.0),
                name if SUMS.iter().any(|sum| sum.column == name) => {
                    Arc::new(Decimal128Array::from(vec![0; rows.len()]).with_data_type(field.data_type().clone()))
                }
                _ => arrow::array::new_null_array(field.data_type(), rows.len()),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(schema, columns).unwrap()
    }

    fn changes(rows: &Rows) -> Changes {
        let pool: Arc<dyn datafusion::execution::memory_pool::MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Changes { rows: batch(rows), _memory: MemoryConsumer::new("test").register(&pool) }
    }

    fn random_rows(random: &mut StdRng, count: usize, least: i64) -> Rows {
        let rows = (0..count).map(|_| {
            let text = |random: &mut StdRng, most: u8| Some(random.random_range(0..most)).filter(|value| *value > 0);
            let key = (text(random, 4), random.random_range(0..5), text(random, 9));
            let events = random.random_range(least..5);
            (key, (events, i128::from(events) << 70))
        });
        rows.filter(|(_, sums)| sums.0 != 0).collect()
    }

    #[test]
    fn folded_rows_are_the_sums_by_key_in_order() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..300 {
            let count = random.random_range(0..80);
            let before = random_rows(&mut random, count, 1);
            let count = random.random_range(0..40);
            let come = random_rows(&mut random, count, -4);
            let mut expected = before.clone();
            for (key, sums) in &come {
                let into = expected.entry(*key).or_default();
                *into = (into.0 + sums.0, into.1 + sums.1);
            }
            expected.retain(|_, sums| sums.0 > 0);
            let (changes, before) = (changes(&come), batch(&before));
            assert!(is_ordered(&before, None).unwrap());
            // In several files, in no order.
            let mut cuts: Vec<usize> = (0..3).map(|_| random.random_range(0..=before.num_rows())).collect();
            cuts.extend([0, before.num_rows()]);
            cuts.sort_unstable();
            let files = cuts.windows(2).map(|cut| before.slice(cut[0], cut[1] - cut[0]));
            let mut files: Vec<RecordBatch> = files.filter(|file| file.num_rows() > 0).collect();
            files.shuffle(&mut random);
            if files.is_empty() {
                continue;
            }
            let mut parts = Vec::new();
            for (place, mut met) in changes.assigned(&ends(&files)).unwrap().unwrap() {
                // In two batches, as a file is read.
                let (file, end) = (&files[place], met.end);
                let cut = random.random_range(0..=file.num_rows());
                for part in [file.slice(0, cut), file.slice(cut, file.num_rows() - cut)] {
                    if part.num_rows() > 0 {
                        met = changes.met_by(&part, met.start..end).unwrap();
                        parts.push(changes.folded(&part, met.clone()).unwrap());
                        met.start = met.end;
                    }
                }
                parts.push(changes.folded(&file.slice(0, 0), met.start..end).unwrap());
            }
            assert_eq!(concat_batches(&before.schema(), &parts).unwrap(), batch(&expected));
        }
    }

    fn ends(files: &[RecordBatch]) -> Vec<[RecordBatch; 2]> {
        files.iter().map(|file| [0, file.num_rows() - 1].map(|row| file.slice(row, 1))).collect()
    }

    #[test]
    fn files_that_overlap_are_noticed_and_those_without_changes_are_not_met() {
        let key = |campaign: u8| (Some(campaign), 1, None);
        let rows = batch(&(1..=9).map(|campaign| (key(campaign), (1, 1))).collect());
        let one = changes(&[(key(5), (1, 1))].into());
        let apart = ends(&[rows.slice(6, 3), rows.slice(0, 3), rows.slice(3, 3)]);
        assert_eq!(one.assigned(&apart).unwrap().unwrap(), [(1, 0..0), (2, 0..1), (0, 1..1)]);
        // Before all files, between two, and after all.
        let around = changes(&[0, 4, 250].map(|campaign| (key(campaign), (1, 1))).into());
        let gap = ends(&[rows.slice(0, 2), rows.slice(5, 2)]);
        assert_eq!(around.assigned(&gap).unwrap().unwrap(), [(0, 0..2), (1, 2..3)]);
        // The file that a change meets is not the one that has its key.
        let within = ends(&[rows.clone(), rows.slice(3, 1)]);
        assert!(one.assigned(&within).unwrap().is_none());
        let touching = ends(&[rows.slice(0, 4), rows.slice(3, 4)]);
        assert!(one.assigned(&touching).unwrap().is_none());
        assert_eq!(one.assigned(&[]).unwrap().unwrap(), []);
    }

    #[test]
    fn rows_that_are_not_in_order_are_noticed() {
        let mut random = StdRng::seed_from_u64(1);
        let rows = batch(&random_rows(&mut random, 60, 1));
        let last = rows.num_rows() - 1;
        assert!(is_ordered(&rows.slice(1, last), Some(&rows.slice(0, 1))).unwrap());
        assert!(!is_ordered(&rows.slice(1, last), Some(&rows.slice(1, 1))).unwrap());
        let turned: UInt64Array = (0..=last as u64).rev().map(Some).collect();
        let turned = arrow::compute::take_record_batch(&rows, &turned).unwrap();
        assert!(!is_ordered(&turned, None).unwrap());
    }

    #[test]
    fn a_sum_that_does_not_fit_is_an_error() {
        let one: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(added(&one, &one).unwrap_err().to_string().contains("too large"));
        let none: ArrayRef = Arc::new(Int64Array::from(vec![None]));
        assert_eq!(added(&one, &none).unwrap().as_ref(), one.as_ref());
    }
}
