//! Where reading begins: every kind of first start, partitions that are added, and topics that
//! disappear while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adlake_lake::Lake;
use adlake_speed_layer::metrics::IngestObserver;
use adlake_speed_layer::report::IngestProgress;
use adlake_speed_layer::run::{KafkaRun, run_kafka};
use adlake_speed_layer::settings::{FirstStart, SpeedSettings};
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::wait;
use anyhow::{Result, ensure};
use tokio_util::sync::CancellationToken;

use crate::ingest_kafka::{DEADLINE, IMPRESSIONS, Running, arrived, configuration, impressions, settings, until_end};
use crate::raw::Raw;

/// For each partition: the number of rows, and the first and last offset.
async fn by_partition(raw: &Raw) -> Result<Vec<String>> {
    let sql = "select source['partition'], count(*), min(source['offset']), max(source['offset']) from t group by 1 \
        order by 1";
    raw.query(IMPRESSIONS, sql).await
}

/// Only good records.
fn good(from: usize, to: usize) -> Vec<String> {
    impressions(from, to).filter(|record| record.ends_with('}')).collect()
}

async fn stored(lake: &Lake, application: &str) -> Result<Option<i64>> {
    Ok(lake.appender(IMPRESSIONS).await?.stored(application).await?)
}

fn first_offset(settings: &mut SpeedSettings, topic: &str, partition: i32, offset: i64) {
    let of_topic = settings.kafka.first_offsets.entry(topic.to_owned()).or_default();
    of_topic.insert(partition.to_string(), offset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_at_given_offsets_happens_once() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("offsets");
    broker.create_topic(&topic, 3)?;
    for partition in 0..3 {
        broker.produce(&topic, Some(partition), good(0, 20))?;
    }
    let mut settings = settings(broker, &topic);
    first_offset(&mut settings, &topic, 0, 12);
    first_offset(&mut settings, &topic, 2, 20);
    until_end(&raw.lake, &settings).await?;
    // Partition 1 is not named, so it begins according to first_start.
    assert_eq!(by_partition(&raw).await?, ["0 8 12 19", "1 20 0 19"]);

    // Later, neither the offsets nor missing ones matter for a partition that the lake knows, even
    // if no record of it has come.
    for partition in 0..3 {
        broker.produce(&topic, Some(partition), good(20, 25))?;
    }
    first_offset(&mut settings, &topic, 0, 1_000);
    settings.kafka.first_offsets.get_mut(&topic).unwrap().remove("2");
    until_end(&raw.lake, &settings).await?;
    assert_eq!(by_partition(&raw).await?, ["0 13 12 24", "1 25 0 24", "2 5 20 24"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_the_broker_does_not_have_are_refused() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("outside");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, good(0, 20))?;
    broker.delete_records_before(&topic, 0, 5)?;
    for (partition, offset, part) in [(0, 21, "5 to 20"), (0, 4, "5 to 20"), (1, 0, "1 partitions")] {
        let mut settings = settings(broker, &topic);
        first_offset(&mut settings, &topic, partition, offset);
        let error = until_end(&raw.lake, &settings).await.unwrap_err().to_string();
        let key = format!("kafka.first_offsets.\"{topic}\".{partition}");
        ensure!(error.starts_with(&key) && error.contains(part), "{offset}: {error}");
    }
    assert_eq!(raw.count(IMPRESSIONS).await?, 0);
    Ok(())
}

fn next_millisecond() -> Result<()> {
    let now = chrono::Utc::now().timestamp_millis();
    wait::until(DEADLINE, "the next millisecond", || chrono::Utc::now().timestamp_millis() > now)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_at_a_time_is_remembered() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("time");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, Some(0), good(0, 10))?;
    // The broker's times have whole milliseconds. So the configured time is in a later millisecond
    // than the records before it, and in an earlier one than the records after it.
    next_millisecond()?;
    let time = chrono::Utc::now();
    next_millisecond()?;
    broker.produce(&topic, Some(0), good(10, 15))?;
    let mut settings = settings(broker, &topic);
    settings.kafka.first_start = FirstStart::At(time);
    until_end(&raw.lake, &settings).await?;
    assert_eq!(by_partition(&raw).await?, ["0 5 10 14"]);
    // Partition 1 had no record from that time on, so reading began at its end. It continues from
    // there, whatever the configured time is now.
    broker.produce(&topic, Some(1), good(15, 17))?;
    settings.kafka.first_start = FirstStart::At(chrono::Utc::now() + chrono::TimeDelta::days(1));
    until_end(&raw.lake, &settings).await?;
    assert_eq!(by_partition(&raw).await?, ["0 5 10 14", "1 2 0 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_lose_nothing() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("added");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, good(0, 20))?;
    let mut settings = settings(broker, &topic);
    settings.kafka.first_start = FirstStart::Latest;
    settings.kafka.metadata_interval = Duration::from_millis(300);
    let running = Running::start(&raw.lake, &settings);
    broker.produce(&topic, None, good(20, 21))?;
    // A partition is added during the run, and it has records before adlake knows of it.
    broker.add_partitions(&topic, 2)?;
    broker.produce(&topic, Some(1), good(30, 40))?;
    wait::until_async(DEADLINE, "all records of the added partition", async || {
        Ok(by_partition(&raw).await?.contains(&"1 10 0 9".to_owned()))
    })
    .await?;
    running.stop().await?;
    // Another is added while no run is active: the lake knows how many partitions there were.
    broker.add_partitions(&topic, 3)?;
    broker.produce(&topic, Some(2), good(40, 47))?;
    until_end(&raw.lake, &settings).await?;
    let after = by_partition(&raw).await?;
    ensure!(after.contains(&"2 7 0 6".to_owned()), "{after:?}");
    Ok(())
}

/// Counts the records that a run has read.
#[derive(Default)]
struct Reads(AtomicU64);

impl IngestObserver for Reads {
    fn update(&self, state: &IngestProgress) {
        self.0.store(state.records_read, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_while_it_is_read_stops_ingest() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("deleted");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, good(0, 40))?;
    let mut settings = settings(broker, &topic);
    settings.kafka.metadata_interval = Duration::from_millis(300);
    // Nothing is committed before the topic is deleted, and with it the only copy of what was read.
    settings.ingest.flush_interval = Duration::from_secs(600);
    let reads = Arc::new(Reads::default());
    let (lake, progress) = (raw.lake.clone(), reads.clone());
    let running = tokio::spawn(async move {
        run_kafka(&lake, &settings, KafkaRun::default(), &*progress, CancellationToken::new()).await
    });
    wait::until_async(DEADLINE, "the reading of 40 records", async || Ok(reads.0.load(Ordering::SeqCst) >= 40)).await?;
    assert_eq!(raw.count(IMPRESSIONS).await?, 0);
    broker.delete_topic(&topic)?;
    let error = tokio::time::timeout(DEADLINE, running).await??.unwrap_err().to_string();
    for part in [topic.as_str(), "was deleted", "kafka.cluster"] {
        ensure!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(raw.count(IMPRESSIONS).await?, 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_told_by_its_id() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("anew");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, good(0, 10))?;
    let mut settings = settings(broker, &topic);
    settings.kafka.cluster = Some("c".to_owned());
    until_end(&raw.lake, &settings).await?;
    assert_eq!(stored(&raw.lake, &format!("adlake:kafka:c:{topic}:partitions")).await?, Some(1));
    ensure!(stored(&raw.lake, &format!("adlake:kafka:c:{topic}:id")).await?.is_some(), "no id is stored");

    // The new topic has the offsets that come next, but with other records.
    broker.delete_topic(&topic)?;
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, good(100, 130))?;
    let error = until_end(&raw.lake, &settings).await.unwrap_err().to_string();
    ensure!(error.contains(&topic) && error.contains("created again"), "{error}");
    assert_eq!(raw.count(IMPRESSIONS).await?, 10);
    // As the error advises, another name for the cluster makes it another stream.
    settings.kafka.cluster = Some("d".to_owned());
    until_end(&raw.lake, &settings).await?;
    assert_eq!(raw.count(IMPRESSIONS).await?, 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_expire_before_a_sleeper_wakes_stop_it() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let (topic, group) = (unique("expired"), unique("group"));
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, good(0, 10))?;
    let adlake = Adlake::in_dir(raw.path());
    let adlake = adlake.config(&configuration(broker, &topic, &group, &raw.path().join("lake"), ""));
    let mut process = adlake.spawn(["ingest", "kafka"]);
    arrived(&raw, 10).await?;
    process.signal(libc::SIGSTOP)?;
    // A fetch that began before the process slept may still return records that have been deleted
    // since. One of these rounds is fetched later.
    for round in 1..=5 {
        broker.produce(&topic, None, good(round * 100, round * 100 + 10))?;
    }
    let end = broker.end_offsets(&topic)?[&0];
    broker.delete_records_before(&topic, 0, end - 2)?;
    process.signal(libc::SIGCONT)?;
    let status = process.wait_exit(DEADLINE)?;
    let said = process.stderr()?;
    assert_eq!(status.code(), Some(1), "{said}");
    for part in [topic.as_str(), "partition 0", "retention", &format!("{} to {end}", end - 2)] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    Ok(())
}
