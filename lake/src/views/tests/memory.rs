//! Bounds of memory: whatever spills, and wherever the rows of a materialized plan are, the answers
//! are the same.
//!
//! A plan is run with more and more memory, until it suffices. At this smallest bound its rows are
//! those of an unbounded run. Then it is run there without room on the disk. A plan that fails now
//! has spilled before. The tests name the plans that must spill.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::schema::raw_schema;
use adlake_domain::segments::Segments;
use adlake_domain::settings::{Display, Meaning, REVISION};
use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result};
use datafusion::prelude::{SessionContext, col};
use hashbrown::HashMap;

use super::*;
use crate::error::{LakeError, chain};
use crate::manifest::Manifest;
use crate::views::materialize::{conform, materialize};
use crate::views::plans::BatchTable;
use crate::views::{Day, Slice};

/// The rows of each raw table that the batch run covers, and those after it.
const COVERED: i64 = 24_000;
const NEWER: i64 = 12_000;
const HOUR: i64 = 3_600_000_000;

/// The bounds that are tried, the smallest first, in MiB.
const BOUNDS: [usize; 14] = [2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256];

/// Raw rows. Every fifth is a copy of an earlier event with other content. Most events of a user
/// are joined.
pub(super) fn raw_rows(kind: EventKind, numbers: std::ops::Range<i64>) -> RecordBatch {
    let numbers: Vec<i64> = numbers.collect();
    let event = |number: i64| if number % 5 == 0 { number / 3 } else { number };
    let time = |number: i64| event(number) * 7_919 % (72 * 3_600) * 1_000_000;
    let texts = |text: &dyn Fn(i64) -> String| {
        Arc::new(StringArray::from_iter_values(numbers.iter().map(|number| text(*number)))) as ArrayRef
    };
    let times = |time: &dyn Fn(i64) -> i64| {
        let times = TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|number| time(*number)));
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let schema = raw_schema(kind);
    let column = |name: &str, data_type: &DataType| match (name, data_type) {
        ("impression_id", _) if kind == EventKind::Impression => texts(&|number| format!("i{}", event(number))),
        ("event_id", _) => texts(&|number| format!("e{}", event(number))),
        ("auction_id", _) if kind == EventKind::BidRequest => texts(&|number| format!("a{}", event(number))),
        ("user_id", _) => texts(&|number| format!("user-{}", event(number) * 31 % 997)),
        ("campaign_id", _) => texts(&|number| format!("campaign-{}", event(number) % 7)),
        ("ad_creative_id", _) => texts(&|number| format!("creative-{}", event(number) % 61)),
        ("conversion_type", _) => {
            texts(&|number| (if event(number) % 3 == 0 { "click" } else { "purchase" }).to_owned())
        }
        ("country", DataType::Utf8) => texts(&|number| ["DE", "FR", "US"][(event(number) % 3) as usize].to_owned()),
        ("attributes", _) => texts(&|number| format!("{{\"text\":\"{number:0>200}\"}}")),
        ("event_time", _) => times(&time),
        ("ingested_at", _) => times(&|number| 100 * HOUR + number),
        ("content_hash", _) => {
            Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|number| format!("{number:016}")))) as ArrayRef
        }
        ("source", DataType::Struct(fields)) => {
            let source: Vec<ArrayRef> = vec![
                texts(&|_| "topic".to_owned()),
                Arc::new(Int32Array::from(vec![0; numbers.len()])),
                Arc::new(Int64Array::from(numbers.clone())),
            ];
            Arc::new(StructArray::new(fields.clone(), source, None)) as ArrayRef
        }
        ("event_date", _) => {
            let days = numbers.iter().map(|number| time(*number).div_euclid(24 * HOUR) as i32);
            Arc::new(Date32Array::from_iter_values(days)) as ArrayRef
        }
        (_, data_type) => new_null_array(data_type, numbers.len()),
    };
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

async fn append(lake: &Lake, kind: EventKind, from: Option<i64>, to: i64) {
    let mut appender = lake.appender(kind.raw_table()).await.unwrap();
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&raw_rows(kind, from.unwrap_or(0)..to)).unwrap();
    let advance = Advance { application: "stream".to_owned(), from, to };
    appender.commit(writer.finish().await.unwrap(), vec![advance]).await.unwrap();
    appender.close().await;
}

/// A session with `memory` bytes of memory and `disk` bytes to spill to. Its batches are small, so
/// that small bounds are of use.
fn session(memory: usize, disk: u64) -> SessionContext {
    let settings =
        SessionSettings { memory_bytes_max: memory, spill_bytes_max: disk, partitions: 2, ..Default::default() };
    let plain = settings.context().unwrap();
    let config = plain.copied_config();
    let mut config = config.with_batch_size(512);
    config.options_mut().execution.sort_spill_reservation_bytes = 32 << 10;
    crate::session::context(config, plain.runtime_env())
}

fn unbounded() -> SessionContext {
    session(2 << 30, 1 << 40)
}

/// The rows of an answer in an order of their own.
pub(super) fn sorted(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().filter(|column| !matches!(column.data_type(), DataType::Map(..)));
        let columns: Vec<ArrayRef> = columns.cloned().collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converted = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
        rows.extend(converted.iter().map(|row| row.as_ref().to_vec()));
    }
    rows.sort_unstable();
    rows
}

/// Whether work failed because its memory does not suffice.
fn is_exhausted(error: &LakeError) -> bool {
    matches!(error, LakeError::Query(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)))
}

/// Whether work failed because it had to spill and there was no room on the disk. Depending on what
/// spills, the error is of I/O or of resources. Its text is the same.
fn is_full_disk(error: &LakeError) -> bool {
    chain(error).contains("used disk space")
}

/// Checks that work has the `expected` rows at the smallest bound with which it succeeds. Returns
/// whether it needs the disk there. It may fail only for lack of memory, and then of disk.
async fn check<F>(what: &str, expected: &[RecordBatch], work: impl Fn(SessionContext) -> F) -> bool
where
    F: Future<Output = Result<Vec<RecordBatch>, LakeError>>,
{
    let expected = sorted(expected);
    assert!(!expected.is_empty(), "{what} has no rows");
    for mebibytes in BOUNDS {
        let bound = mebibytes << 20;
        let found = match work(session(bound, 1 << 40)).await {
            Ok(found) => found,
            Err(error) if is_exhausted(&error) => continue,
            Err(error) => panic!("{what} with {mebibytes} MiB of memory: {}", chain(&error)),
        };
        assert!(sorted(&found) == expected, "{what} has other rows with {mebibytes} MiB of memory");
        let spills = match work(session(bound, 1)).await {
            Ok(_) => false,
            Err(error) if is_full_disk(&error) => true,
            // At the edge it depends on the order of the threads whether the memory suffices.
            Err(error) if is_exhausted(&error) => continue,
            Err(error) => panic!("{what} with {mebibytes} MiB of memory and no disk: {}", chain(&error)),
        };
        println!("{what} needs {mebibytes} MiB of memory, spills: {spills}");
        return spills;
    }
    panic!("{what} does not run with {} MiB of memory", BOUNDS[BOUNDS.len() - 1]);
}

const TABLES: [(BatchTable, &str); 8] = [
    (BatchTable::Events(EventKind::Impression), "impressions"),
    (BatchTable::Events(EventKind::Interaction), "interactions"),
    (BatchTable::Events(EventKind::BidRequest), "bid_requests"),
    (BatchTable::Attributions, "attributions"),
    (BatchTable::Hourly, "hourly"),
    (BatchTable::Rollup, "rollup"),
    (BatchTable::Reach, "reach"),
    (BatchTable::Users, "users"),
];

/// The rows of a batch table, as a batch run computes them.
async fn compute(plans: &Plans, table: BatchTable) -> Result<Vec<RecordBatch>> {
    let all = Slice { range: 0..5 * 24 * HOUR, campaigns: None };
    let mut rows = Vec::new();
    match table {
        BatchTable::Events(kind) => {
            let _copies = plans.prepare_events(kind).await?;
            let plans = plans.sequential()?;
            for day in (0..3).map(Day) {
                rows.extend(plans.events_of(kind, day).await?.collect().await?);
            }
        }
        BatchTable::Attributions => {
            let order = ["event_date", "campaign_id"].into_iter().map(|column| col(column).sort(true, true)).collect();
            rows = plans.attributions("impressions", "interactions").await?.sort(order)?.collect().await?;
        }
        BatchTable::Hourly => rows = plans.hourly(&all).await?.collect().await?,
        BatchTable::Rollup => {
            for day in (0..5).map(Day) {
                rows.extend(plans.rollup("hourly", day).await?.collect().await?);
            }
        }
        BatchTable::Reach => rows = plans.reach(&all).await?.collect().await?,
        BatchTable::Users => {
            let (frame, _kept) = plans.user_segments(&Segments::default()).await?;
            rows = frame.collect().await?;
        }
    }
    rows.iter().map(|batch| conform(batch, &Plans::schema_of(table))).collect()
}

/// Plans over the raw tables and those batch tables that are written already.
async fn plans(lake: &Lake, context: SessionContext, written: &BTreeMap<String, u64>) -> Plans {
    let plans = Plans::new(context, &Meaning::default(), Arc::new(HashMap::new()));
    for kind in EventKind::ALL {
        let version = lake.newest_version(kind.raw_table()).await.unwrap().unwrap();
        let rows = lake.known_columns(kind.raw_table(), version).await.unwrap();
        plans.register(&format!("raw_{}", kind.table()), rows).unwrap();
    }
    for (table, name) in TABLES {
        if let Some(version) = written.get(table.name()) {
            plans.register(name, lake.known_columns(table.name(), *version).await.unwrap()).unwrap();
        }
    }
    plans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_runs_and_merged_queries_give_the_same_rows_when_they_spill() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().to_string_lossy().into_owned();
    let lake = &Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
    lake.create_tables().await.unwrap();
    let mut versions = BTreeMap::new();
    for kind in EventKind::ALL {
        append(lake, kind, None, COVERED).await;
        versions.insert(kind.raw_table().to_owned(), 1);
    }
    let mut spilled = Vec::new();
    let mut written = BTreeMap::new();
    for (table, _) in TABLES {
        let so_far = &written;
        let run = |context: SessionContext| async move {
            let plans = plans(lake, context, so_far).await;
            Ok(compute(&plans, table).await?)
        };
        let rows = run(unbounded()).await.unwrap();
        // The cubes have so few groups that their rows fit into any memory.
        let has_many_rows = matches!(table, BatchTable::Events(_) | BatchTable::Attributions);
        if has_many_rows && check(table.name(), &rows, run).await {
            spilled.push(table.name());
        }
        let replacer = lake.replacer(table.name()).await.unwrap();
        let mut writer = replacer.writer(&WriterSettings::default());
        rows.iter().for_each(|batch| writer.write(batch).unwrap());
        let version = replacer.commit(writer.finish().await.unwrap()).await.unwrap();
        written.insert(table.name().to_owned(), version);
    }
    let expected = ["batch/impressions", "batch/interactions", "batch/bid_requests", "batch/attributions"];
    assert_eq!(spilled, expected, "what did not spill proves nothing");
    versions.extend(written);
    let manifest = Manifest {
        run_id: "run".to_owned(),
        run: 1,
        published_at: 0,
        versions,
        meaning: Meaning::default(),
        revision: REVISION,
    };
    manifest.publish(lake, None).await.unwrap();

    for kind in EventKind::ALL {
        append(lake, kind, Some(COVERED), COVERED + NEWER).await;
    }
    let mut spilled = Vec::new();
    for view in ["impressions", "bid_requests", "conversions", "attributions", "campaign_hourly", "campaign_kpis"] {
        let query = |context: SessionContext, materialized_bytes_max: usize| async move {
            let snapshot = Snapshot::take(lake, &context, &Meaning::default()).await?;
            let wanted = [view.to_owned()].into();
            let display = Display::default();
            let views = Views::prepare_within(&context, &snapshot, &display, &wanted, materialized_bytes_max).await?;
            views.register(&context)?;
            let rows = context.sql(&format!("SELECT * FROM {view}")).await?.collect().await?;
            Ok::<_, LakeError>(rows)
        };
        let expected = query(unbounded(), usize::MAX).await.unwrap();
        let in_files = query(unbounded(), 0).await.unwrap();
        assert!(sorted(&in_files) == sorted(&expected), "{view} has other rows when its plans are in files");
        if check(view, &expected, |context| query(context, 0)).await {
            spilled.push(view);
        }
    }
    // Views of events may not: their winners are decided on so few columns that they fit into any
    // memory.
    let expected = ["conversions", "attributions", "campaign_hourly", "campaign_kpis"];
    assert!(expected.iter().all(|view| spilled.contains(view)), "what did not spill proves nothing: {spilled:?}");
}

#[tokio::test]
async fn a_materialized_plan_has_the_same_rows_in_memory_and_in_a_file() {
    let context = unbounded();
    let sql = "SELECT value AS number, CAST(value AS VARCHAR) AS text FROM generate_series(1, 5000)";
    let check = async |memory_bytes_max: usize, in_file: bool| {
        let frame = context.sql(sql).await.unwrap();
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let stream = frame.execute_stream().await.unwrap();
        let rows = materialize(&context, stream, schema, memory_bytes_max).await.unwrap();
        assert_eq!((rows.count, rows.kept.is_spilled()), (5_000, in_file), "{memory_bytes_max}");
        let read = context.read_table(rows.table).unwrap();
        // Twice, because several readers may read them.
        for _ in 0..2 {
            let found = read.clone().collect().await.unwrap();
            let expected = context.sql(sql).await.unwrap().collect().await.unwrap();
            assert!(sorted(&found) == sorted(&expected), "{memory_bytes_max}");
        }
    };
    check(0, true).await;
    check(20_000, true).await;
    check(usize::MAX, false).await;
}
