//! The plans of a batch run, written as bytes and run by another session, give the same rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use adlake_domain::settings::Meaning;
use arrow::array::{AsArray, RecordBatch};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionContext};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use hashbrown::HashMap;
use parquet::arrow::ArrowWriter;

use super::memory::{raw_rows, sorted};
use super::*;
use crate::operators::codec::OperatorCodec;
use crate::operators::copies::{Prefixes, Values};
use crate::operators::take::{self, Taken};
use crate::views::materialize::conform;
use crate::views::plans::BatchTable;
use crate::views::{Day, Slice};

const HOUR: i64 = 3_600_000_000;
const ROWS: i64 = 3_000;

fn plans() -> Plans {
    let settings = SessionSettings { partitions: 2, ..SessionSettings::default() };
    Plans::new(settings.context().unwrap(), &Meaning::default(), Arc::new(HashMap::new()))
}

/// A session that plans are sent to, and the names of the operators that were.
struct Elsewhere {
    context: SessionContext,
    sent: BTreeSet<String>,
}

impl Elsewhere {
    /// Runs a plan here and elsewhere. Returns its rows, which are the same.
    async fn run(&mut self, frame: DataFrame) -> Vec<RecordBatch> {
        let here = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.unwrap();
        self.sent.extend(own_operators(plan.as_ref()).iter().map(|line| name(line).to_owned()));
        let bytes = physical_plan_to_bytes_with_extension_codec(plan.clone(), &OperatorCodec).unwrap();
        let there = self.context.task_ctx();
        let read = physical_plan_from_bytes_with_extension_codec(&bytes, &there, &OperatorCodec).unwrap();
        // DataFusion may put a projection below a union.
        assert_eq!(own_operators(plan.as_ref()), own_operators(read.as_ref()));
        let expected = collect(plan, here).await.unwrap();
        let found = collect(read, there).await.unwrap();
        assert!(!sorted(&expected).is_empty());
        assert!(sorted(&found) == sorted(&expected), "the rows differ");
        found
    }
}

const OPERATORS: [&str; 6] =
    ["AttributionExec", "ExplodeExec", "SortedExec", "TakeCopiesExec", "TakeRowsExec", "TakeWinnersExec"];

/// What `EXPLAIN` shows of adlake's operators in a plan, from the outermost on.
fn own_operators(plan: &dyn ExecutionPlan) -> Vec<String> {
    let line = displayable(plan).one_line().to_string().trim().to_owned();
    let own = OPERATORS.contains(&name(&line)).then_some(line);
    let below = plan.children().into_iter().flat_map(|child| own_operators(child.as_ref()));
    own.into_iter().chain(below).collect()
}

fn name(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// Registers rows as a table of one Parquet file: a table of a Delta log cannot be sent.
async fn register(plans: &Plans, folder: &Path, name: &str, rows: &[RecordBatch]) {
    let path = folder.join(format!("{name}.parquet"));
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), rows[0].schema(), None).unwrap();
    rows.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let frame = plans.context().read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    plans.register(name, frame.into_view()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_are_sent_elsewhere_give_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let plans = plans();
    let mut elsewhere = Elsewhere { context: self::plans().context().clone(), sent: BTreeSet::new() };
    let all = Slice { range: 0..5 * 24 * HOUR, campaigns: None };
    for (kind, name) in [
        (EventKind::Impression, "impressions"),
        (EventKind::Interaction, "interactions"),
        (EventKind::BidRequest, "bid_requests"),
    ] {
        register(&plans, folder.path(), &format!("raw_{name}"), &[raw_rows(kind, 0..ROWS)]).await;
        let _copies = plans.prepare_events(kind).await.unwrap();
        let mut events = Vec::new();
        for day in (0..3).map(Day) {
            let frame = plans.sequential().unwrap().events_of(kind, day).await.unwrap();
            events.extend(elsewhere.run(frame).await);
        }
        let schema = Plans::schema_of(BatchTable::Events(kind));
        let events: Vec<_> = events.iter().map(|batch| conform(batch, &schema).unwrap()).collect();
        register(&plans, folder.path(), name, &events).await;
    }
    let attributions = plans.attributions("impressions", "interactions").await.unwrap();
    let attributions = elsewhere.run(attributions).await;
    register(&plans, folder.path(), "attributions", &attributions).await;
    let plans = plans.sequential().unwrap();
    elsewhere.run(plans.hourly(&all).await.unwrap()).await;
    elsewhere.run(plans.reach(&all).await.unwrap()).await;

    let keyed = plans.keyed(EventKind::BidRequest, "raw_bid_requests").await.unwrap();
    let some = keyed.clone().limit(0, Some(100)).unwrap().collect().await.unwrap();
    let keys = some[0].column_by_name("event_key").unwrap().as_binary::<i32>();
    let prefixes = "SELECT DISTINCT key_prefix(event_key) AS prefix FROM keyed LIMIT 50";
    plans.register("keyed", keyed.clone().into_view()).unwrap();
    let prefixes = plans.sql(prefixes).await.unwrap().collect().await.unwrap();
    let runtime = plans.context().runtime_env();
    for taken in [
        Taken::Copies(Arc::new(Prefixes::new(&prefixes[0], &runtime).unwrap())),
        Taken::Having(take::EVENT_KEY, Arc::new(Values::new(keys, &runtime).unwrap())),
    ] {
        let plan = take::plan(keyed.logical_plan().clone(), taken).unwrap();
        elsewhere.run(DataFrame::new(plans.context().state(), plan)).await;
    }
    assert_eq!(elsewhere.sent, OPERATORS.map(str::to_owned).into(), "what was not sent proves nothing");
}
