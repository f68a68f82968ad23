//! Decides the winners among copies: rows whose key occurs in several rows.
//!
//! The winner is the first row of its key by event time, content and place
//! (the order of [`super::events`]). A bid request has two: the first row, and the first of the
//! rows that tell most of our bid. Only the columns that decide are read. Contents are large, and
//! seldom decide: rows with the same content hash have the same content, and most copies have the
//! same hash or another time. So the winners are first decided without contents, and the keys for
//! which contents are needed are found ([`Unclear`]). These are decided again with contents.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

use super::events::RANK;
use crate::operators::copies::{BID, HAS_OTHER_BID, binaries, column};

/// What cannot be decided without contents.
#[derive(Debug, Default)]
pub(super) struct Unclear {
    /// The keys.
    pub keys: BinaryBuilder,
    /// The content hashes of all rows that can win these keys.
    pub hashes: BinaryBuilder,
}

/// The columns of the winners for those of the copies.
pub(super) fn schema_of(copies: &Schema) -> SchemaRef {
    let fields = copies.fields().iter().map(|field| match field.name().as_str() {
        RANK => Field::new(HAS_OTHER_BID, DataType::Boolean, true),
        name => Field::new(name, field.data_type().clone(), true),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The winners of copies that come ordered by key, and within a key by the order of the winner.
///
/// `unclear` takes the keys for which contents are needed. Without it the order counts contents
/// already.
pub(super) fn winners(
    copies: SendableRecordBatchStream,
    unclear: Option<Arc<Mutex<Unclear>>>,
) -> SendableRecordBatchStream {
    let schema = schema_of(&copies.schema());
    let chooser = Chooser { schema: schema.clone(), unclear, open: None, is_unclear: false };
    let batches = stream::try_unfold(Some((copies, chooser)), |state| async move {
        let Some((mut copies, mut chooser)) = state else { return Ok(None) };
        match copies.next().await.transpose()? {
            Some(batch) => Ok(Some((chooser.push(batch)?, Some((copies, chooser))))),
            None => Ok(Some((chooser.finish()?, None))),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Chooser {
    schema: SchemaRef,
    unclear: Option<Arc<Mutex<Unclear>>>,
    /// The rows of the last key that lead so far. Rows of this key may follow.
    open: Option<RecordBatch>,
    is_unclear: bool,
}

/// The rows that lead among those of a key.
struct Leading {
    row: usize,
    bid: usize,
    is_unclear: bool,
}

impl Chooser {
    fn push(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let batch = match self.open.take() {
            Some(open) => concat_batches(&batch.schema(), [&open, &batch])?,
            None => batch,
        };
        let mut decided = self.decide(&batch)?;
        if let Some(last) = decided.pop() {
            let mut rows = vec![last.row as u32, last.bid as u32];
            rows.dedup();
            self.open = Some(take_record_batch(&batch, &UInt32Array::from(rows))?);
            self.is_unclear = last.is_unclear;
        }
        self.output(&batch, decided)
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let Some(open) = self.open.take() else { return Ok(RecordBatch::new_empty(self.schema)) };
        let decided = self.decide(&open)?;
        self.output(&open, decided)
    }

    /// The leading rows of each key.
    fn decide(&mut self, batch: &RecordBatch) -> Result<Vec<Leading>> {
        let wrong = || internal_datafusion_err!("copies have columns of other types");
        let (keys, hashes) = (binaries(column(batch, "event_key")?)?, binaries(column(batch, "content_hash")?)?);
        let times = column(batch, "event_time")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let ranks = match batch.column_by_name(RANK) {
            Some(ranks) => Some(ranks.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?),
            None => None,
        };
        let rank = |row: usize| ranks.map_or(0, |ranks| ranks.value(row));
        let time = |row: usize| times.is_valid(row).then(|| times.value(row));
        let hash = |row: usize| hashes.is_valid(row).then(|| hashes.value(row));
        // Whether only their contents tell which of two rows comes first.
        let are_tied = |a: usize, b: usize| time(a) == time(b) && hash(a) != hash(b);
        let mut tied: Vec<(usize, usize)> = Vec::new();
        let mut decided: Vec<Leading> = Vec::new();
        for row in 0..batch.num_rows() {
            let leading = match decided.last_mut() {
                Some(leading) if keys.value(leading.row) == keys.value(row) => leading,
                _ => {
                    let is_unclear = decided.is_empty() && std::mem::take(&mut self.is_unclear);
                    decided.push(Leading { row, bid: row, is_unclear });
                    continue;
                }
            };
            let is_tied = if rank(row) > rank(leading.bid) {
                leading.bid = row;
                false
            } else {
                rank(row) == rank(leading.bid) && are_tied(row, leading.bid)
            };
            if is_tied || are_tied(row, leading.row) {
                leading.is_unclear = true;
                tied.push((row, leading.bid));
            }
        }
        if let Some(unclear) = &self.unclear
            && let Ok(mut unclear) = unclear.lock()
        {
            let rows = tied.iter().flat_map(|(row, bid)| [*row, *bid]);
            rows.filter_map(hash).for_each(|hash| unclear.hashes.append_value(hash));
        }
        Ok(decided)
    }

    /// The winners of the keys that are decided.
    fn output(&self, batch: &RecordBatch, decided: Vec<Leading>) -> Result<RecordBatch> {
        let decided = match &self.unclear {
            None => decided,
            Some(unclear) => {
                let (keys, hashes) =
                    (binaries(column(batch, "event_key")?)?, binaries(column(batch, "content_hash")?)?);
                let (again, decided): (Vec<_>, Vec<_>) = decided.into_iter().partition(|leading| leading.is_unclear);
                let mut unclear =
                    unclear.lock().map_err(|_| internal_datafusion_err!("a reader of copies panicked"))?;
                for leading in again {
                    unclear.keys.append_value(keys.value(leading.row));
                    let leading = [leading.row, leading.bid].into_iter().filter(|row| hashes.is_valid(*row));
                    leading.for_each(|row| unclear.hashes.append_value(hashes.value(row)));
                }
                decided
            }
        };
        let rows: UInt32Array = decided.iter().map(|leading| leading.row as u32).collect();
        let bids: UInt32Array = decided.iter().map(|leading| leading.bid as u32).collect();
        let are_other: BooleanArray = decided.iter().map(|leading| Some(leading.row != leading.bid)).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(batch.schema().fields()) {
            columns.push(match field.name().as_str() {
                RANK => Arc::new(are_other.clone()),
                BID => take(column, &bids, None)?,
                _ => take(column, &rows, None)?,
            });
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int64Array, TimestampMicrosecondArray};

    use super::*;

    /// Decides copies (key, time, content hash, rank) in batches of `rows` rows. Returns the
    /// winners as (key, time, time of the bid), and the keys that are unclear.
    fn decide(copies: &[(&str, i64, &str, i64)], rows: usize) -> (Vec<(String, i64, i64)>, Vec<String>) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("event_key", DataType::Binary, true),
            Field::new("event_time", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true),
            Field::new("content_hash", DataType::Binary, true),
            Field::new(RANK, DataType::Int64, true),
            Field::new(BID, DataType::Int64, true),
        ]));
        let batch = |copies: &[(&str, i64, &str, i64)]| {
            let times = || copies.iter().map(|copy| copy.1);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(BinaryArray::from_iter_values(copies.iter().map(|copy| copy.0))),
                Arc::new(TimestampMicrosecondArray::from_iter_values(times())),
                Arc::new(BinaryArray::from_iter_values(copies.iter().map(|copy| copy.2))),
                Arc::new(Int64Array::from_iter_values(copies.iter().map(|copy| copy.3))),
                Arc::new(Int64Array::from_iter_values(times())),
            ];
            Ok(RecordBatch::try_new(schema.clone(), columns).unwrap())
        };
        let batches: Vec<Result<RecordBatch>> = copies.chunks(rows).map(batch).collect();
        let input = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream::iter(batches)));
        let unclear = Arc::new(Mutex::new(Unclear::default()));
        let found: Vec<RecordBatch> = futures::executor::block_on(async {
            winners(input, Some(unclear.clone())).map(|batch| batch.unwrap()).collect().await
        });
        let mut decided = Vec::new();
        for batch in found {
            let (keys, times) = (batch.column(0).as_binary::<i32>(), batch.column(1));
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let (others, bids) = (batch.column(3).as_boolean(), batch.column(4).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                assert!(others.value(row) || times.value(row) == bids.value(row));
                let key = String::from_utf8(keys.value(row).to_vec()).unwrap();
                decided.push((key, times.value(row), bids.value(row)));
            }
        }
        let unclear = unclear.lock().unwrap().keys.finish();
        (decided, unclear.iter().flatten().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect())
    }

    fn check(copies: &[(&str, i64, &str, i64)], expected: &[(&str, i64, i64)], unclear: &[&str]) {
        for rows in 1..=copies.len() {
            let (decided, found) = decide(copies, rows);
            let decided: Vec<(&str, i64, i64)> = decided.iter().map(|(k, row, bid)| (k.as_str(), *row, *bid)).collect();
            assert_eq!((decided.as_slice(), found), (expected, unclear.iter().map(|key| key.to_string()).collect()));
        }
    }

    #[test]
    fn the_first_row_wins_and_the_first_that_tells_most_of_the_bid() {
        check(&[("a", 1, "x", 0), ("a", 2, "y", 0), ("b", 1, "x", 0)], &[("a", 1, 1), ("b", 1, 1)], &[]);
        check(&[("a", 1, "x", 0), ("a", 2, "y", 2), ("a", 3, "z", 3), ("a", 4, "z", 3)], &[("a", 1, 3)], &[]);
        check(&[("a", 1, "x", 2), ("a", 2, "y", 0), ("b", 7, "x", 2)], &[("a", 1, 1), ("b", 7, 7)], &[]);
    }

    #[test]
    fn contents_decide_only_between_rows_of_one_time_with_other_hashes() {
        check(&[("a", 1, "x", 0), ("a", 1, "x", 0), ("a", 2, "y", 0)], &[("a", 1, 1)], &[]);
        check(&[("a", 1, "x", 0), ("a", 1, "y", 0), ("b", 2, "y", 0)], &[("b", 2, 2)], &["a"]);
        check(&[("a", 1, "x", 0), ("a", 2, "y", 2), ("a", 2, "z", 2), ("b", 2, "y", 0)], &[("b", 2, 2)], &["a"]);
        check(&[("a", 1, "x", 0), ("a", 2, "y", 2), ("a", 2, "z", 0)], &[("a", 1, 2)], &[]);
    }
}
