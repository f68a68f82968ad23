//! What tells which rows are taken by their keys: prefixes of keys, values, and winners. See
//! [`super::take`].

use std::sync::{Arc, Mutex, PoisonError};

use adlake_domain::identity::{KEY_BYTES, Key, key_prefix};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, interleave};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use hashbrown::HashMap;

/// The column of the input with what a row of bid requests tells of our bid.
pub(crate) const OWN_BID: &str = "own_bid";
/// The column of the output with our bid. It has a name of its own, because it may come from
/// another row: DataFusion moves field accesses below a node if the input has the column's name.
pub(crate) const BID: &str = "bid";
/// The column of winners that tells whether their bid is that of another row.
pub(crate) const HAS_OTHER_BID: &str = "has_other_bid";

/// The columns that name a row, and its bid.
pub(super) const COLUMNS: [&str; 6] = ["event_key", "event_time", "content_hash", "ingested_at", "source", OWN_BID];

/// Prefixes of keys that occur in several rows.
#[derive(Debug)]
pub(crate) struct Prefixes {
    prefixes: hashbrown::HashSet<i64>,
    _memory: MemoryReservation,
}

impl Prefixes {
    /// The prefixes of the only column of a batch.
    pub fn new(batch: &RecordBatch, runtime: &RuntimeEnv) -> Result<Prefixes> {
        let values = batch.column(0).as_primitive_opt::<Int64Type>();
        let values = values.ok_or_else(|| internal_datafusion_err!("prefixes are no integers"))?;
        let prefixes: hashbrown::HashSet<i64> = values.iter().flatten().collect();
        let memory = MemoryConsumer::new("prefixes of copies").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        memory.grow(prefixes.capacity() * (size_of::<i64>() + 1));
        Ok(Prefixes { prefixes, _memory: memory })
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.prefixes.contains(&key_prefix(key))
    }

    /// The batch that [`Prefixes::new`] takes.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        let prefixes: ArrayRef = Arc::new(Int64Array::from_iter_values(self.prefixes.iter().copied()));
        Ok(RecordBatch::try_from_iter([("prefix", prefixes)])?)
    }

    /// The rows of a batch whose key has one of the prefixes.
    pub(super) fn rows(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let keys = binaries(column(&batch, "event_key")?)?;
        let stays = keys.iter().map(|key| key.is_some_and(|key| self.contains(key))).collect();
        filtered(batch, stays)
    }
}

/// Keys or hashes.
#[derive(Debug)]
pub(crate) struct Values {
    values: hashbrown::HashSet<Key>,
    _memory: MemoryReservation,
}

impl Values {
    /// All of them have the length of a key.
    pub fn new(values: &BinaryArray, runtime: &RuntimeEnv) -> Result<Values> {
        let values: hashbrown::HashSet<Key> = values.iter().flatten().map(key).collect::<Result<_>>()?;
        let memory = MemoryConsumer::new("values of rows").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        memory.grow(values.capacity() * (size_of::<Key>() + 1));
        Ok(Values { values, _memory: memory })
    }

    /// The values.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(&self.values));
        Ok(RecordBatch::try_from_iter([("value", values)])?)
    }

    /// The rows of a batch that have one of the values.
    pub(super) fn rows(&self, batch: RecordBatch, name: &str) -> Result<RecordBatch> {
        let values = binaries(column(&batch, name)?)?.iter();
        let stays =
            values.map(|value| value.is_some_and(|value| key(value).is_ok_and(|key| self.values.contains(&key))));
        let stays = stays.collect();
        filtered(batch, stays)
    }
}

/// The winners among copies.
#[derive(Debug)]
pub(crate) struct Winners {
    pub(super) prefixes: Arc<Prefixes>,
    /// The winners as [`Winners::new`] takes them.
    pub(super) batch: RecordBatch,
    /// The number of the winner of each key.
    by_key: HashMap<Key, usize>,
    rows: Rows,
    bids: Option<Bids>,
    _memory: MemoryReservation,
}

#[derive(Debug)]
struct Bids {
    bids: ArrayRef,
    are_other: BooleanArray,
}

impl Winners {
    /// Winners with the columns that name a row; and of bid requests, their bids.
    pub fn new(
        prefixes: Arc<Prefixes>,
        schema: &SchemaRef,
        winners: &[RecordBatch],
        runtime: &RuntimeEnv,
    ) -> Result<Winners> {
        let winners = concat_batches(schema, winners)?;
        let rows = Rows::of(&winners)?;
        let mut by_key = HashMap::with_capacity(winners.num_rows());
        for row in 0..winners.num_rows() {
            by_key.insert(key(rows.keys.value(row))?, row);
        }
        let bids = match winners.column_by_name(BID) {
            Some(bids) => {
                let are_other = column(&winners, HAS_OTHER_BID)?.as_boolean_opt();
                let are_other = are_other.ok_or_else(|| internal_datafusion_err!("{HAS_OTHER_BID} is no boolean"))?;
                Some(Bids { bids: bids.clone(), are_other: are_other.clone() })
            }
            None => None,
        };
        let memory = MemoryConsumer::new("winners of copies").register(&runtime.memory_pool);
        // They have to be in memory, whatever else is.
        let entry = size_of::<Key>() + size_of::<usize>() + 1;
        memory.grow(get_record_batch_memory_size(&winners) + by_key.capacity() * entry);
        Ok(Winners { prefixes, batch: winners, by_key, rows, bids, _memory: memory })
    }

    /// The number of the winner that a row is.
    fn winner(&self, rows: &Rows, row: usize) -> Result<Option<usize>> {
        let Some(winner) = self.by_key.get(&key(rows.keys.value(row))?).copied() else { return Ok(None) };
        Ok(rows.is_same(row, &self.rows, winner).then_some(winner))
    }

    /// The rows of a batch that win. `seen` are the winners of earlier batches: if a row is in the
    /// table twice, it wins once.
    pub(super) fn take(&self, batch: RecordBatch, seen: &Seen) -> Result<RecordBatch> {
        let rows = Rows::of(&batch)?;
        let mut stays = Vec::with_capacity(batch.num_rows());
        let mut others = Vec::new();
        for row in 0..batch.num_rows() {
            if !self.prefixes.contains(rows.keys.value(row)) {
                stays.push(true);
                continue;
            }
            let winner = self.winner(&rows, row)?.filter(|winner| seen.is_first(*winner));
            stays.push(winner.is_some());
            if let (Some(winner), Some(bids)) = (winner, &self.bids)
                && bids.are_other.value(winner)
            {
                others.push((row, winner));
            }
        }
        let batch = match &self.bids {
            Some(bids) if !others.is_empty() => with_other_bids(&batch, &bids.bids, &others)?,
            _ => batch,
        };
        filtered(batch, stays)
    }
}

/// The winners that were taken. The partitions of a plan share them.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<hashbrown::HashSet<usize>>);

impl Seen {
    fn is_first(&self, winner: usize) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(winner)
    }
}

/// The batch with the bids of other rows: `others` are the rows, and the places of their bids in
/// `bids`.
fn with_other_bids(batch: &RecordBatch, bids: &ArrayRef, others: &[(usize, usize)]) -> Result<RecordBatch> {
    let place = batch.schema().index_of(OWN_BID)?;
    let mut columns = batch.columns().to_vec();
    let bids = cast(bids, columns[place].data_type())?;
    let mut from: Vec<(usize, usize)> = (0..batch.num_rows()).map(|row| (0, row)).collect();
    others.iter().for_each(|(row, bid)| from[*row] = (1, *bid));
    columns[place] = interleave(&[columns[place].as_ref(), bids.as_ref()], &from)?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn filtered(batch: RecordBatch, stays: Vec<bool>) -> Result<RecordBatch> {
    if stays.iter().all(|stays| *stays) {
        return Ok(batch);
    }
    Ok(filter_record_batch(&batch, &BooleanArray::from(stays))?)
}

/// What names rows.
#[derive(Debug)]
struct Rows {
    keys: BinaryArray,
    times: TimestampMicrosecondArray,
    hashes: BinaryArray,
    ingested: TimestampMicrosecondArray,
    topics: StringArray,
    partitions: Int32Array,
    offsets: Int64Array,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Rows> {
        let wrong = || internal_datafusion_err!("the columns that name a row have other types");
        let times = |name: &str| -> Result<TimestampMicrosecondArray> {
            Ok(column(batch, name)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?.clone())
        };
        let source = column(batch, "source")?.as_struct_opt().ok_or_else(wrong)?;
        let field = |name: &str| source.column_by_name(name).ok_or_else(wrong);
        Ok(Rows {
            keys: binaries(column(batch, "event_key")?)?.clone(),
            times: times("event_time")?,
            hashes: binaries(column(batch, "content_hash")?)?.clone(),
            ingested: times("ingested_at")?,
            topics: field("topic")?.as_string_opt::<i32>().ok_or_else(wrong)?.clone(),
            partitions: field("partition")?.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?.clone(),
            offsets: field("offset")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.clone(),
        })
    }

    fn is_same(&self, row: usize, others: &Rows, other: usize) -> bool {
        fn value<T>(array: &dyn Array, row: usize, value: impl Fn(usize) -> T) -> Option<T> {
            array.is_valid(row).then(|| value(row))
        }
        macro_rules! equal {
            ($column:ident) => {
                value(&self.$column, row, |row| self.$column.value(row))
                    == value(&others.$column, other, |row| others.$column.value(row))
            };
        }
        equal!(times)
            && equal!(ingested)
            && equal!(offsets)
            && equal!(partitions)
            && equal!(hashes)
            && equal!(topics)
            && self.keys.value(row) == others.keys.value(other)
    }
}

fn key(bytes: &[u8]) -> Result<Key> {
    bytes.try_into().map_err(|_| internal_datafusion_err!("a key has {} bytes instead of {KEY_BYTES}", bytes.len()))
}

pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("there is no column {name}"))
}

pub(crate) fn binaries(column: &ArrayRef) -> Result<&BinaryArray> {
    column.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("{} is not bytes", column.data_type()))
}
