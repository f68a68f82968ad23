//! Finds the values that occur several times in a column of integers. The integers are prefixes of
//! keys, which are hashes, so they are spread evenly.
//!
//! Each partition of the plan sorts its values into buckets by their first byte. Then the buckets
//! are sorted one after the other, and equal neighbours are the repeated values. This takes eight
//! bytes a value. What the session's memory does not hold goes to temporary files, bucket by
//! bucket.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, SpillWriter};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt;

const BUCKETS: usize = 256;
/// Memory is reserved in steps of this size.
const STEP_BYTES: usize = 1 << 20;

/// The schema of the result.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("prefix", DataType::Int64, true)]))
}

/// The values of the frame's only column that occur several times, each once.
pub(crate) async fn repeated(context: &SessionContext, frame: DataFrame) -> Result<RecordBatch> {
    let runtime = context.runtime_env();
    let mut running = Vec::new();
    for stream in frame.execute_stream_partitioned().await? {
        running.push(tokio::spawn(distribute(stream, runtime.clone())));
    }
    let mut parts = Vec::new();
    for task in running {
        parts.push(task.await.map_err(|error| DataFusionError::External(Box::new(error)))??);
    }
    let found = tokio::task::spawn_blocking(move || find(parts, &runtime));
    let found = found.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
    let column: ArrayRef = Arc::new(Int64Array::from(found));
    Ok(RecordBatch::try_new(schema(), vec![column])?)
}

async fn distribute(mut stream: SendableRecordBatchStream, runtime: Arc<RuntimeEnv>) -> Result<Buckets> {
    let mut buckets = Buckets::new(runtime);
    while let Some(batch) = stream.next().await.transpose()? {
        let values = batch.column(0).as_primitive_opt::<Int64Type>();
        let values = values.ok_or_else(|| internal_datafusion_err!("prefixes are no integers"))?;
        buckets.reserve(values.len())?;
        values.iter().flatten().for_each(|value| buckets.in_memory[bucket_of(value)].push(value));
    }
    Ok(buckets)
}

fn bucket_of(value: i64) -> usize {
    usize::from(value.to_be_bytes()[0])
}

/// A temporary file of a bucket's values.
struct BucketFile {
    file: Arc<dyn SpillFile>,
    writer: Box<dyn SpillWriter>,
}

/// The values of one partition.
struct Buckets {
    in_memory: Vec<Vec<i64>>,
    on_disk: Vec<Option<BucketFile>>,
    memory: MemoryReservation,
    /// How many more values the reservation holds.
    free: usize,
    runtime: Arc<RuntimeEnv>,
}

impl Buckets {
    fn new(runtime: Arc<RuntimeEnv>) -> Buckets {
        let memory = MemoryConsumer::new("prefixes of keys").with_can_spill(true).register(&runtime.memory_pool);
        Buckets {
            in_memory: vec![Vec::new(); BUCKETS],
            on_disk: (0..BUCKETS).map(|_| None).collect(),
            memory,
            free: 0,
            runtime,
        }
    }

    /// Makes room for more values, if need be by writing what there is to files.
    fn reserve(&mut self, values: usize) -> Result<()> {
        if self.free < values {
            // A vector that grows has up to twice the room that it needs.
            let bytes = (2 * values * size_of::<i64>()).max(STEP_BYTES);
            if self.memory.try_grow(bytes).is_err() {
                self.spill()?;
                self.memory.try_grow(bytes)?;
            }
            self.free += bytes / (2 * size_of::<i64>());
        }
        self.free -= values;
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        for (values, file) in self.in_memory.iter_mut().zip(&mut self.on_disk) {
            if values.is_empty() {
                continue;
            }
            if file.is_none() {
                let created = self.runtime.disk_manager.create_tmp_file("prefixes of keys")?;
                // The writer counts what it writes against the session's limit.
                let writer = created.open_writer()?;
                *file = Some(BucketFile { file: created, writer });
            }
            if let Some(BucketFile { writer, .. }) = file {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                writer.write_all(&bytes)?;
            }
            *values = Vec::new();
        }
        self.memory.free();
        self.free = 0;
        Ok(())
    }

    /// Moves the values of a bucket to `values`.
    fn take(&mut self, bucket: usize, values: &mut Vec<i64>) -> Result<()> {
        values.append(&mut std::mem::take(&mut self.in_memory[bucket]));
        if let Some(BucketFile { file, mut writer }) = self.on_disk[bucket].take() {
            writer.finish()?;
            let mut reader = BufReader::new(File::open(path_of(file.as_ref())?)?);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            let read = bytes.chunks_exact(size_of::<i64>());
            values.extend(read.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap_or_default())));
        }
        Ok(())
    }
}

fn path_of(file: &dyn SpillFile) -> Result<&Path> {
    file.path().ok_or_else(|| internal_datafusion_err!("a temporary file has no path"))
}

fn find(mut parts: Vec<Buckets>, runtime: &RuntimeEnv) -> Result<Vec<i64>> {
    let memory = MemoryConsumer::new("repeated keys").register(&runtime.memory_pool);
    let mut found = Vec::new();
    let mut values = Vec::new();
    for bucket in 0..BUCKETS {
        values.clear();
        for part in &mut parts {
            part.take(bucket, &mut values)?;
        }
        values.sort_unstable();
        let before = found.len();
        for (place, pair) in values.windows(2).enumerate() {
            let is_new = place == 0 || values[place - 1] != pair[0];
            if pair[0] == pair[1] && is_new {
                found.push(pair[0]);
            }
        }
        // The result has to be in memory, whatever else is.
        memory.grow((found.len() - before) * size_of::<i64>());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use datafusion::datasource::MemTable;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::session::SessionSettings;

    /// Values of which about a third occur several times, in several partitions.
    ///
    /// Whether they are found within these limits. If so, they are the right ones.
    fn is_found(values: usize, memory_bytes_max: usize, spill_bytes_max: u64) -> bool {
        let seed = rand::rng().random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let distinct: Vec<i64> = (0..values).map(|_| random.random()).collect();
        let rows: Vec<i64> = (0..values).map(|_| distinct[random.random_range(0..values)]).collect();
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        let mut expected: Vec<i64> = sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        expected.dedup();
        let batches: Vec<Vec<RecordBatch>> = rows
            .chunks(values / 3)
            .map(|part| {
                part.chunks(1_000)
                    .map(|rows| {
                        let column: ArrayRef = Arc::new(Int64Array::from(rows.to_vec()));
                        RecordBatch::try_new(schema(), vec![column]).unwrap()
                    })
                    .collect()
            })
            .collect();
        let limits = SessionSettings { memory_bytes_max, spill_bytes_max, ..SessionSettings::default() };
        let context = limits.context().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let found = runtime.block_on(async {
            let table = MemTable::try_new(schema(), batches).unwrap();
            repeated(&context, context.read_table(Arc::new(table)).unwrap()).await
        });
        let Ok(found) = found else { return false };
        let mut found = found.column(0).as_primitive::<Int64Type>().values().to_vec();
        found.sort_unstable();
        assert_eq!(found, expected);
        true
    }

    #[test]
    fn values_that_occur_several_times_are_found_once() {
        assert!(is_found(100_000, 64 << 20, 0), "no file is needed");
    }

    #[test]
    fn more_values_than_memory_are_spilled() {
        assert!(is_found(1_000_000, 8 << 20, 64 << 20));
        assert!(!is_found(1_000_000, 8 << 20, 1 << 20), "more was spilled than the limit allows, or nothing");
    }
}
