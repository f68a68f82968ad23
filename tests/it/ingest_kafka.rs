//! From Kafka to raw tables with a real broker: each record is once in its table or once in the
//! dead letters, whatever fails during the run.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use adlake_lake::Lake;
use adlake_speed_layer::error::SpeedError;
use adlake_speed_layer::report::IngestReport;
use adlake_speed_layer::run::{KafkaRun, run_kafka};
use adlake_speed_layer::settings::{FirstStart, SpeedSettings};
use adlake_speed_layer::source::Source;
use adlake_speed_layer::source::conformance::{Fixture, suite};
use adlake_speed_layer::source::kafka::KafkaSource;
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::setup;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::raw::Raw;

pub const DEADLINE: Duration = Duration::from_secs(120);
pub const IMPRESSIONS: &str = "raw/impressions";
pub const DEAD_LETTERS: &str = "raw/dead_letters";

/// Impressions with these numbers. Every hundredth is malformed.
pub fn impressions(from: usize, to: usize) -> impl Iterator<Item = String> {
    (from..to).map(|n| {
        if n % 100 == 50 {
            return format!("{{\"user_id\": \"u{n}\", \"cut");
        }
        format!(
            concat!(
                r#"{{"ad_creative_id":"c{}","user_id":"u{n}","#,
                r#""timestamp":"2026-03-{:02}T10:00:00Z","website":"example.com"}}"#
            ),
            n % 10,
            1 + n % 20,
            n = n
        )
    })
}

pub fn malformed(from: usize, to: usize) -> i64 {
    (from..to).filter(|n| n % 100 == 50).count() as i64
}

/// Settings that read only impressions, from a topic of their own.
pub fn settings(broker: &Broker, topic: &str) -> SpeedSettings {
    let mut settings = SpeedSettings::default();
    settings.kafka.brokers = broker.bootstrap().to_owned();
    settings.kafka.group = unique("group");
    settings.ingest.flush_interval = Duration::from_millis(100);
    settings.sources.impressions.topic = Some(topic.to_owned());
    settings.sources.interactions.topic = Some(String::new());
    settings.sources.bid_requests.topic = Some(String::new());
    settings
}

pub async fn until_end(lake: &Lake, settings: &SpeedSettings) -> Result<IngestReport, SpeedError> {
    run_kafka(lake, settings, KafkaRun { until_end: true }, &(), CancellationToken::new()).await
}

/// An ingest run that goes on until it is stopped.
pub struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<IngestReport, SpeedError>>,
}

impl Running {
    pub fn start(lake: &Lake, settings: &SpeedSettings) -> Running {
        let cancel = CancellationToken::new();
        let (lake, settings, token) = (lake.clone(), settings.clone(), cancel.clone());
        let task = tokio::spawn(async move { run_kafka(&lake, &settings, KafkaRun::default(), &(), token).await });
        Running { cancel, task }
    }

    pub async fn stop(self) -> Result<IngestReport> {
        self.cancel.cancel();
        Ok(self.task.await??)
    }
}

/// Waits until `count` records of the impressions' topic are ingested, rows and dead letters
/// together.
pub async fn arrived(raw: &Raw, count: i64) -> Result<()> {
    wait::until_async(DEADLINE, &format!("{count} ingested records"), async || {
        Ok(raw.count(IMPRESSIONS).await? + raw.count(DEAD_LETTERS).await? >= count)
    })
    .await
}

/// Checks that each record of the topic is ingested once, and into the right table.
pub async fn ensure_exactly_once(raw: &Raw, records: usize) -> Result<()> {
    let of = "select count(*), count(distinct source['partition'] * 1000000000 + source['offset']) from t";
    let bad = malformed(0, records);
    let good = records as i64 - bad;
    assert_eq!(raw.query(IMPRESSIONS, of).await?, [format!("{good} {good}")]);
    assert_eq!(raw.number(IMPRESSIONS, "select count(distinct user_id) from t").await?, good);
    assert_eq!(raw.query(DEAD_LETTERS, of).await?, [format!("{bad} {bad}")]);
    Ok(())
}

struct Topic {
    settings: SpeedSettings,
    expected: HashMap<String, Vec<Vec<u8>>>,
}

impl Fixture for Topic {
    fn open(&self) -> Result<Box<dyn Source>, SpeedError> {
        let mut settings = self.settings.clone();
        settings.kafka.group = unique("conformance");
        Ok(Box::new(KafkaSource::connect(&settings, true, &CancellationToken::new())?))
    }

    fn expected(&self) -> HashMap<String, Vec<Vec<u8>>> {
        self.expected.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_its_contract() -> Result<()> {
    let broker = Broker::shared();
    let topic = unique("conformance");
    broker.create_topic(&topic, 3)?;
    let mut expected = HashMap::new();
    for partition in 0..3 {
        // More records than one read returns.
        let records: Vec<Vec<u8>> =
            (0..6000).map(|n| format!("{partition} {n} {}", "x".repeat(1000)).into_bytes()).collect();
        broker.produce(&topic, Some(partition), &records)?;
        expected.insert(format!("adlake:kafka:tested:{topic}:{partition}"), records);
    }
    let mut settings = settings(broker, &topic);
    settings.kafka.cluster = Some("tested".to_owned());
    suite(&Topic { settings, expected }).await.map_err(anyhow::Error::msg)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_in_once_and_the_group_knows() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("once");
    broker.create_topic(&topic, 4)?;
    broker.produce(&topic, None, impressions(0, 5_000))?;
    let settings = settings(broker, &topic);
    let report = until_end(&raw.lake, &settings).await?;
    assert_eq!(report.rejected.values().sum::<u64>() as i64, malformed(0, 5_000));
    ensure_exactly_once(&raw, 5_000).await?;
    assert_eq!(broker.committed_offsets(&settings.kafka.group, &topic)?, broker.end_offsets(&topic)?);

    // Without new records, nothing is written.
    let version = raw.lake.newest_version(IMPRESSIONS).await?;
    assert_eq!(until_end(&raw.lake, &settings).await?.commits, 0);
    assert_eq!(raw.lake.newest_version(IMPRESSIONS).await?, version);

    // Positions come from the lake alone: another group continues, and reads nothing again.
    broker.produce(&topic, None, impressions(5_000, 6_000))?;
    let mut other = settings.clone();
    other.kafka.group = unique("other");
    assert_eq!(until_end(&raw.lake, &other).await?.records_read, 1_000);
    ensure_exactly_once(&raw, 6_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_bad_records_only_advances() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("bad");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, ["{", "", "[1]", "\u{0}"])?;
    let settings = settings(broker, &topic);
    assert_eq!(until_end(&raw.lake, &settings).await?.commits, 1);
    assert_eq!(raw.count(DEAD_LETTERS).await?, 4);
    assert_eq!(raw.count(IMPRESSIONS).await?, 0);
    assert_eq!(until_end(&raw.lake, &settings).await?.records_read, 0);
    assert_eq!(raw.count(DEAD_LETTERS).await?, 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_topic_becomes_visible_in_time() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("quiet");
    broker.create_topic(&topic, 2)?;
    let running = Running::start(&raw.lake, &settings(broker, &topic));
    broker.produce(&topic, None, impressions(0, 1))?;
    arrived(&raw, 1).await?;
    let sent = Instant::now();
    broker.produce(&topic, None, impressions(1, 2))?;
    arrived(&raw, 2).await?;
    let took = sent.elapsed();
    running.stop().await?;
    ensure!(took < Duration::from_secs(3), "it took {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_at_the_end_is_remembered() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("latest");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 20))?;
    let mut settings = settings(broker, &topic);
    settings.kafka.first_start = FirstStart::Latest;
    assert_eq!(until_end(&raw.lake, &settings).await?.records_read, 0);
    // Although nothing was read, the next start does not skip records that come now.
    broker.produce(&topic, None, impressions(20, 30))?;
    assert_eq!(until_end(&raw.lake, &settings).await?.records_read, 10);
    assert_eq!(raw.count(IMPRESSIONS).await?, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_a_topic_and_take_over_from_one_another() -> Result<()> {
    consumers_share_a_topic(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_all_partitions_are_handed_out_anew() -> Result<()> {
    consumers_share_a_topic(&[("partition.assignment.strategy", "range")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_the_broker_hands_out_partitions() -> Result<()> {
    consumers_share_a_topic(&[("group.protocol", "consumer")]).await
}

async fn consumers_share_a_topic(properties: &[(&str, &str)]) -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("shared");
    broker.create_topic(&topic, 6)?;
    let mut settings = settings(broker, &topic);
    for (key, value) in properties {
        settings.kafka.properties.insert(*key, *value);
    }
    let step = 5_000;
    let mut sent = 0;
    let mut send = |broker: &Broker| -> Result<i64> {
        broker.produce(&topic, None, impressions(sent, sent + step))?;
        sent += step;
        Ok(sent as i64)
    };
    let first = Running::start(&raw.lake, &settings);
    arrived(&raw, send(broker)?).await?;
    // Records keep coming while partitions move between workers.
    let second = Running::start(&raw.lake, &settings);
    arrived(&raw, send(broker)?).await?;
    let third = Running::start(&raw.lake, &settings);
    send(broker)?;
    first.stop().await?;
    arrived(&raw, send(broker)?).await?;
    third.stop().await?;
    arrived(&raw, send(broker)?).await?;
    let report = second.stop().await?;
    ensure!(report.commits > 0, "the second consumer had no part in it");
    ensure_exactly_once(&raw, sent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_costs_no_record_of_a_partition_read_to_its_end() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("trickle");
    broker.create_topic(&topic, 4)?;
    let settings = settings(broker, &topic);
    let mut sent = 0;
    // So few records that all partitions are read to their ends whenever the group changes.
    let mut trickle = async || -> Result<()> {
        for _ in 0..10 {
            broker.produce(&topic, None, impressions(sent, sent + 8))?;
            sent += 8;
            arrived(&raw, sent as i64).await?;
        }
        Ok(())
    };
    let stays = Running::start(&raw.lake, &settings);
    trickle().await?;
    for _ in 0..2 {
        let comes_and_goes = Running::start(&raw.lake, &settings);
        trickle().await?;
        comes_and_goes.stop().await?;
        trickle().await?;
    }
    stays.stop().await?;
    ensure_exactly_once(&raw, sent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_records_stop_ingest_and_say_so() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("lost");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, impressions(0, 10))?;
    let settings = settings(broker, &topic);
    until_end(&raw.lake, &settings).await?;
    // The records up to the stored position are deleted: nothing is lost.
    broker.delete_records_before(&topic, 0, 10)?;
    until_end(&raw.lake, &settings).await?;

    broker.produce(&topic, None, impressions(10, 20))?;
    broker.delete_records_before(&topic, 0, 15)?;
    let error = until_end(&raw.lake, &settings).await.unwrap_err().to_string();
    for part in [topic.as_str(), "partition 0", "offset 10", "15 to 20", "retention"] {
        ensure!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(raw.count(IMPRESSIONS).await?, 10);

    broker.delete_topic(&topic)?;
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, None, impressions(0, 3))?;
    let error = until_end(&raw.lake, &settings).await.unwrap_err().to_string();
    for part in [topic.as_str(), "offset 10", "0 to 3", "created again"] {
        ensure!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(raw.count(IMPRESSIONS).await?, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_at_once() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("missing");
    let error = until_end(&raw.lake, &settings(broker, &topic)).await.unwrap_err().to_string();
    ensure!(error.contains("sources.impressions.topic") && error.contains(&topic), "{error}");
    let mut nowhere = settings(broker, &topic);
    nowhere.kafka.brokers = format!("127.0.0.1:{}", setup::free_port()?);
    nowhere.kafka.start_timeout = Duration::from_secs(2);
    let error = until_end(&raw.lake, &nowhere).await.unwrap_err().to_string();
    ensure!(error.contains(&nowhere.kafka.brokers), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_is_waited_for() -> Result<()> {
    let (broker, raw) = (Broker::start()?, Raw::new().await?);
    let topic = unique("killed");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 1_000))?;
    let running = Running::start(&raw.lake, &settings(&broker, &topic));
    arrived(&raw, 1_000).await?;
    broker.kill9()?;
    broker.restart()?;
    broker.produce(&topic, None, impressions(1_000, 2_000))?;
    arrived(&raw, 2_000).await?;
    running.stop().await?;
    ensure_exactly_once(&raw, 2_000).await
}

pub fn configuration(broker: &Broker, topic: &str, group: &str, lake: &Path, more: &str) -> String {
    format!(
        r#"
        [lake]
        uri = "{lake}"
        [kafka]
        brokers = "{brokers}"
        group = "{group}"
        [kafka.properties]
        "session.timeout.ms" = "6000"
        [ingest]
        flush_interval = "50ms"
        {more}
        [sources.impressions]
        topic = "{topic}"
        [sources.interactions]
        topic = ""
        [sources.bid_requests]
        topic = ""
        "#,
        lake = lake.display(),
        brokers = broker.bootstrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_in_order_and_metrics_tell() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let (topic, group) = (unique("signal"), unique("group"));
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 2_000))?;
    let port = setup::free_port()?;
    let more = format!("metrics_listen = \"127.0.0.1:{port}\"");
    let adlake = Adlake::in_dir(raw.path());
    let adlake = adlake.config(&configuration(broker, &topic, &group, &raw.path().join("lake"), &more));
    let mut process = adlake.spawn(["ingest", "kafka"]);
    arrived(&raw, 2_000).await?;

    let metrics = wait::value(DEADLINE, "the lag in the metrics", || {
        let text = get(port, "/metrics")?;
        Ok(text.contains("adlake_ingest_lag_records{").then_some(text))
    })?;
    for line in [
        "adlake_ingest_rows_total{table=\"raw/impressions\"} 1980",
        "adlake_ingest_rejected_total{table=\"raw/impressions\"",
        "adlake_ingest_commit_seconds_count{table=\"raw/impressions\"}",
        "adlake_ingest_lag_records{",
        "adlake_ingest_freshness_seconds{table=\"raw/impressions\"}",
        "adlake_ingest_resident_bytes",
    ] {
        ensure!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    ensure!(get(port, "/healthz")?.contains("200 OK"), "not healthy");

    broker.produce(&topic, None, impressions(2_000, 3_000))?;
    process.sigterm()?;
    let status = process.wait_exit(Duration::from_secs(30))?;
    ensure!(status.success(), "{status}\n{}", process.logs());
    // Everything that was read is committed, and the group's offsets say exactly that.
    let stored = raw.number(IMPRESSIONS, "select count(*) from t").await? + raw.count(DEAD_LETTERS).await?;
    let committed: i64 = broker.committed_offsets(&group, &topic)?.values().sum();
    assert_eq!(stored, committed);
    adlake.ok(["ingest", "kafka", "--until-end"]);
    ensure_exactly_once(&raw, 3_000).await
}

pub fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("no connection to the metrics")?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
