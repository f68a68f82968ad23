//! Tests of the harness itself: the servers and readers that it starts do what the other tests rely
//! on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use adlake_tests::kafka::{Broker, unique};
use adlake_tests::s3::S3Server;
use adlake_tests::{readers, setup};
use anyhow::{Result, ensure};
use object_store::path::Path as ObjectPath;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

fn payloads(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("record {number}")).collect()
}

fn all_records(broker: &Broker, topic: &str) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for payload in broker.records(topic)?.into_values().flatten() {
        all.push(String::from_utf8(payload)?);
    }
    all.sort();
    Ok(all)
}

fn sorted(mut payloads: Vec<String>) -> Vec<String> {
    payloads.sort();
    payloads
}

#[test]
fn kafka_keeps_what_is_produced_per_partition() -> Result<()> {
    let broker = Broker::shared();
    let topic = unique("produce");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, Some(0), payloads(0, 3))?;
    broker.produce(&topic, Some(1), payloads(3, 8))?;
    assert_eq!(broker.end_offsets(&topic)?, BTreeMap::from([(0, 3), (1, 5)]));
    let records = broker.records(&topic)?;
    assert_eq!(records[&0], payloads(0, 3).into_iter().map(String::into_bytes).collect::<Vec<_>>());
    assert_eq!(records[&1].len(), 5);

    broker.delete_records_before(&topic, 1, 4)?;
    assert_eq!(broker.records(&topic)?[&1], [b"record 7"]);

    broker.delete_topic(&topic)?;
    assert!(broker.end_offsets(&topic).is_err());
    broker.create_topic(&topic, 1)?;
    assert_eq!(broker.end_offsets(&topic)?, BTreeMap::from([(0, 0)]));
    Ok(())
}

#[test]
fn kafka_spreads_records_without_a_partition() -> Result<()> {
    let broker = Broker::shared();
    let topic = unique("spread");
    broker.create_topic(&topic, 4)?;
    broker.produce(&topic, None, payloads(0, 1_000))?;
    assert!(broker.end_offsets(&topic)?.values().all(|end| *end > 0));
    assert_eq!(all_records(broker, &topic)?, sorted(payloads(0, 1_000)));
    Ok(())
}

#[test]
fn kafka_tells_what_a_group_has_committed() -> Result<()> {
    let broker = Broker::shared();
    let (topic, group) = (unique("committed"), unique("group"));
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, Some(1), payloads(0, 10))?;
    assert_eq!(broker.committed_offsets(&group, &topic)?, BTreeMap::new());
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 1, Offset::Offset(7))?;
    broker.consumer(&group)?.commit(&offsets, CommitMode::Sync)?;
    assert_eq!(broker.committed_offsets(&group, &topic)?, BTreeMap::from([(1, 7)]));
    Ok(())
}

#[test]
fn the_console_producer_produces_a_record_per_line() -> Result<()> {
    let broker = Broker::shared();
    let topic = unique("console");
    broker.create_topic(&topic, 1)?;
    broker.console_producer(&topic, &[r#"{"user_id": "ünïcode"}"#, "b,\"2\",", "c"])?;
    assert_eq!(all_records(broker, &topic)?, ["b,\"2\",", "c", r#"{"user_id": "ünïcode"}"#]);
    Ok(())
}

#[test]
fn a_killed_broker_comes_back_with_its_data() -> Result<()> {
    let broker = Broker::start()?;
    let topic = unique("killed");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, payloads(0, 500))?;
    let bootstrap = broker.bootstrap().to_owned();
    broker.kill9()?;
    assert!(broker.kill9().is_err(), "a killed broker cannot be killed");
    assert!(std::net::TcpStream::connect(&bootstrap).is_err(), "the broker is still listening");
    broker.restart()?;
    assert_eq!(broker.bootstrap(), bootstrap);
    assert_eq!(all_records(&broker, &topic)?, sorted(payloads(0, 500)));
    broker.produce(&topic, None, payloads(500, 600))?;
    broker.stop()?;
    broker.restart()?;
    assert_eq!(all_records(&broker, &topic)?, sorted(payloads(0, 600)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_conditional_puts_one_wins() -> Result<()> {
    const ROUNDS: usize = 50;
    const RACERS: usize = 4;

    let server = S3Server::start()?;
    let store = Arc::new(server.store()?);
    for round in 0..ROUNDS {
        let path = ObjectPath::from(format!("race/_delta_log/{round:020}.json"));
        let start = Arc::new(Barrier::new(RACERS));
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (store, path, start) = (Arc::clone(&store), path.clone(), Arc::clone(&start));
            racers.spawn(async move {
                start.wait().await;
                let put = store.put_opts(&path, racer.to_string().into(), PutOptions::from(PutMode::Create)).await;
                (racer, put)
            });
        }
        let mut winners = Vec::new();
        while let Some(ended) = racers.join_next().await {
            match ended? {
                (racer, Ok(_)) => winners.push(racer.to_string()),
                (_, Err(StoreError::AlreadyExists { .. })) => {}
                (racer, Err(error)) => panic!("round {round}, racer {racer}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(store.get(&path).await?.bytes().await?, winners[0].as_bytes(), "round {round}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_outlive_an_outage_of_the_store() -> Result<()> {
    let server = S3Server::start()?;
    let store = server.store()?;
    let path = ObjectPath::from("a/b");
    store.put(&path, "kept".into()).await?;
    server.kill9()?;
    assert!(std::net::TcpStream::connect(server.endpoint().trim_start_matches("http://")).is_err());
    server.restart()?;
    assert_eq!(store.get(&path).await?.bytes().await?, "kept");
    Ok(())
}

/// Two commits to a partitioned table, of which the second replaces a partition. A reader that
/// ignores the log sees other sums.
const WRITE_TABLE: &str = r#"
import sys, pyarrow as pa, deltalake
from decimal import Decimal
def rows(day, values):
    return pa.table({
        "day": [day] * len(values),
        "clicks": pa.array(values, pa.int64()),
        "spend": pa.array([None if v is None else Decimal(v) * Decimal("1.25") for v in values], pa.decimal128(38, 6)),
        "enriched": pa.array([{"cost_micros": v} for v in values], pa.struct([("cost_micros", pa.int64())])),
    })
first = pa.concat_tables([rows("a", [1, 2, None]), rows("b", [1000])])
deltalake.write_deltalake(sys.argv[1], first, partition_by=["day"])
deltalake.write_deltalake(sys.argv[1], rows("b", [-4, 10]), mode="overwrite", predicate="day = 'b'")
"#;

fn write_table(table: &Path) -> Result<()> {
    let written = Command::new(setup::python()?).args(["-I", "-c", WRITE_TABLE]).arg(table).output()?;
    ensure!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    Ok(())
}

#[test]
fn independent_readers_agree_on_a_delta_table() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let table = directory.path().join("table");
    write_table(&table)?;
    let sums = readers::sums(&table, &["clicks"])?;
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["deltalake", "duckdb", "polars"]);
    let agreed = readers::assert_agree(&table, &["clicks", "spend", "enriched.cost_micros"]);
    let expected = [(readers::COUNT, "5"), ("clicks", "9"), ("enriched.cost_micros", "9"), ("spend", "11.25")];
    assert_eq!(agreed, expected.map(|(column, sum)| (column.to_owned(), sum.to_owned())).into());
    assert!(readers::sums(&table, &["no_such_column"]).is_err());
    Ok(())
}
