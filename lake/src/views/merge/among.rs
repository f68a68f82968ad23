//! Whether a row's key is one of many. A hash join would say so too, but this is asked of each
//! published event, and nearly all keys are not among them: bits that stay in the processor's cache
//! tell that of most. As a function it is also evaluated where a file is read, so the other
//! columns are decoded for the rows that are found alone.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use hashbrown::HashSet;

use crate::views::arguments::binaries;

/// Bits for each key. Of the keys that are not among them, one in so many passes.
const BITS_PER_KEY: usize = 16;
/// What a key takes in a set that has just grown: itself, and two places of its address.
const BYTES_PER_KEY: usize = 16 + 16 + 2 * (size_of::<Box<[u8]>>() + 1);
/// The most bits: 512 KiB.
const BITS_MAX: usize = 1 << 22;

/// Keys of events. They are hashes, so their bytes are bits of a filter as they are.
#[derive(Debug)]
pub(super) struct Among {
    bits: Vec<u64>,
    /// How far the first bytes of a key are shifted to be the place of its bit.
    shift: u32,
    keys: HashSet<Box<[u8]>>,
    _memory: MemoryReservation,
}

impl Among {
    /// The keys in the first column of these rows. `None`: the session's memory has no room for
    /// them.
    pub(super) async fn of(mut rows: SendableRecordBatchStream, context: &SessionContext) -> Result<Option<Among>> {
        let memory = MemoryConsumer::new("keys to look up").register(&context.runtime_env().memory_pool);
        let mut keys: HashSet<Box<[u8]>> = HashSet::new();
        while let Some(batch) = rows.next().await.transpose()? {
            if memory.try_grow(batch.num_rows() * BYTES_PER_KEY).is_err() {
                return Ok(None);
            }
            let column = batch.column(0).as_binary_opt::<i32>();
            let column =
                column.ok_or_else(|| exec_datafusion_err!("expected keys, found {}", batch.column(0).data_type()))?;
            for key in column.iter().flatten() {
                keys.get_or_insert_with(key, |key: &[u8]| key.into());
            }
        }
        let places = (keys.len() * BITS_PER_KEY).clamp(64, BITS_MAX).next_power_of_two();
        memory.grow(places / 8);
        let shift = u64::BITS - places.trailing_zeros();
        let mut among = Among { bits: vec![0; places / 64], shift, keys: HashSet::new(), _memory: memory };
        for key in &keys {
            let place = among.place(key);
            among.bits[place / 64] |= 1 << (place % 64);
        }
        among.keys = keys;
        Ok(Some(among))
    }

    fn place(&self, key: &[u8]) -> usize {
        let first = key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        (first >> self.shift) as usize
    }

    fn holds(&self, key: &[u8]) -> bool {
        let place = self.place(key);
        self.bits[place / 64] >> (place % 64) & 1 == 1 && self.keys.contains(key)
    }

    /// Registers a function of this name, which says whether a key is among them.
    pub(super) fn register(self, name: &str, context: &SessionContext) {
        let among = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let keys = binaries(&arrays[0])?;
            let holds: BooleanArray = match keys.null_count() {
                0 => (0..keys.len()).map(|row| Some(self.holds(keys.value(row)))).collect(),
                _ => keys.iter().map(|key| Some(key.is_some_and(|key| self.holds(key)))).collect(),
            };
            Ok(ColumnarValue::Array(Arc::new(holds)))
        };
        let types = vec![DataType::Binary];
        context.register_udf(create_udf(name, types, DataType::Boolean, Volatility::Immutable, Arc::new(among)));
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionConfig;

    use super::*;

    fn key(number: u64) -> Vec<u8> {
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        [hash.to_be_bytes(), number.to_be_bytes()].concat()
    }

    async fn among(keys: impl Iterator<Item = Option<Vec<u8>>>, context: &SessionContext) -> Option<Among> {
        let keys: ArrayRef = Arc::new(keys.collect::<BinaryArray>());
        let rows = RecordBatch::try_from_iter([("event_key", keys)]).unwrap();
        let rows = SessionContext::new().read_batch(rows).unwrap();
        Among::of(rows.execute_stream().await.unwrap(), context).await.unwrap()
    }

    #[tokio::test]
    async fn the_keys_are_among_them_and_no_other_is() {
        let context = SessionContext::new();
        let given = (0..10_000).map(|number| (number % 7 != 0).then(|| key(number)));
        let some = among(given, &context).await.unwrap();
        for number in 0..100_000 {
            assert_eq!(some.holds(&key(number)), number < 10_000 && number % 7 != 0, "{number}");
        }
        // The bits leave few others to the set.
        let passes = |number: &u64| {
            let place = some.place(&key(*number));
            some.bits[place / 64] >> (place % 64) & 1 == 1
        };
        assert!((10_000..100_000).filter(passes).count() < 9_000);
        // The same first bytes, and none at all.
        let mut other = key(1);
        other[15] ^= 1;
        assert!(!some.holds(&other));
        assert!(!some.holds(&[]));
        assert!(!among(std::iter::empty(), &context).await.unwrap().holds(&key(1)));
    }

    #[tokio::test]
    async fn without_room_there_are_none() {
        let pool = Arc::new(GreedyMemoryPool::new(1_000));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        assert!(among((0..1_000).map(|number| Some(key(number))), &context).await.is_none());
    }
}
