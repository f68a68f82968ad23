//! Transactions: aborted records are never ingested, but their offsets, and those of transaction
//! markers, count as progress.

use adlake_tests::kafka::transactions::Transactions;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::seed::seed;
use adlake_tests::wait;
use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::ingest_kafka::{DEAD_LETTERS, DEADLINE, IMPRESSIONS, Running, arrived, settings, until_end};
use crate::raw::Raw;

fn record(user: &str) -> String {
    format!(r#"{{"ad_creative_id":"c","user_id":"{user}","timestamp":"2026-03-01T10:00:00Z","website":"example.com"}}"#)
}

/// The positions stored in the lake, by partition.
async fn positions(raw: &Raw, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>> {
    let mut appender = raw.lake.appender(IMPRESSIONS).await?;
    let applications: Vec<String> = (0..partitions).map(|n| format!("adlake:kafka:c:{topic}:{n}")).collect();
    Ok(appender.stored_all(&applications).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_never_land_and_gaps_are_progress() -> Result<()> {
    const PARTITIONS: i32 = 3;
    let seed = seed()? + 40;
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("transactions");
    broker.create_topic(&topic, PARTITIONS)?;
    let mut settings = settings(broker, &topic);
    settings.kafka.cluster = Some("c".to_owned());
    let running = Running::start(&raw.lake, &settings);

    // Two producers with overlapping transactions, on partitions in turn: commits, aborts,
    // malformed records.
    let mut random = StdRng::seed_from_u64(seed);
    let producers = [Transactions::of(broker, &unique("a"))?, Transactions::of(broker, &unique("b"))?];
    let (mut committed, mut aborted, mut malformed) = (0, 0, 0);
    for round in 0..40 {
        for producer in &producers {
            producer.begin()?;
        }
        for (number, producer) in producers.iter().enumerate() {
            let commits = random.random_bool(0.5);
            let word = if commits { "kept" } else { "aborted" };
            let count = random.random_range(1..8);
            for n in 0..count {
                producer.send(
                    &topic,
                    random.random_range(0..PARTITIONS),
                    [record(&format!("{word}-{round}-{number}-{n}"))],
                )?;
            }
            if commits {
                committed += count;
            } else {
                aborted += count;
                // A malformed record that is never committed does not count.
                producer.send(&topic, 0, ["{"])?;
            }
            if commits && round % 10 == 0 {
                malformed += 1;
                producer.send(&topic, 1, ["{"])?;
            }
            if commits { producer.commit()? } else { producer.abort()? }
        }
    }
    arrived(&raw, committed + malformed).await?;
    // Every partition ends with a marker, and the lake's position reaches it although it is no
    // record.
    let ends: Vec<Option<i64>> = broker.end_offsets(&topic)?.into_values().map(Some).collect();
    let what = format!("the positions {ends:?} in the lake");
    wait::until_async(DEADLINE, &what, async || Ok(positions(&raw, &topic, PARTITIONS).await? == ends)).await?;
    running.stop().await?;
    assert_eq!(raw.count(IMPRESSIONS).await?, committed);
    assert_eq!(
        raw.number(IMPRESSIONS, "select count(distinct user_id) from t where user_id like 'kept%'").await?,
        committed
    );
    assert_eq!(raw.count(DEAD_LETTERS).await?, malformed);
    assert_eq!(broker.committed_offsets(&settings.kafka.group, &topic)?, broker.end_offsets(&topic)?);
    println!(
        "transactions, seed {seed}: 80, committed records {committed}, of them landed {committed}; aborted records \
         {aborted}, landed 0"
    );

    // Nothing is left to read, and the run ends at once.
    assert_eq!(until_end(&raw.lake, &settings).await?.commits, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_records_is_come_to() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("marks");
    broker.create_topic(&topic, 2)?;
    let mut settings = settings(broker, &topic);
    settings.kafka.cluster = Some("c".to_owned());
    let producer = Transactions::of(broker, &unique("id"))?;
    // Partition 0 holds only records that were rolled back; partition 1 ends with such records.
    producer.begin()?;
    producer.send(&topic, 1, (0..5).map(|n| record(&format!("u{n}"))))?;
    producer.commit()?;
    producer.begin()?;
    for partition in 0..2 {
        producer.send(&topic, partition, (0..20).map(|n| record(&format!("aborted{n}"))))?;
    }
    producer.abort()?;
    until_end(&raw.lake, &settings).await?;
    assert_eq!(raw.count(IMPRESSIONS).await?, 5);
    assert_eq!(positions(&raw, &topic, 2).await?, [Some(21), Some(27)]);
    assert_eq!(until_end(&raw.lake, &settings).await?.commits, 0);

    // Ingest does not wait for an open transaction: its records do not exist yet. They are ingested
    // when the transaction is committed.
    producer.begin()?;
    producer.send(&topic, 1, (5..9).map(|n| record(&format!("u{n}"))))?;
    assert_eq!(until_end(&raw.lake, &settings).await?.commits, 0);
    producer.commit()?;
    assert_eq!(until_end(&raw.lake, &settings).await?.rows[IMPRESSIONS], 4);
    assert_eq!(positions(&raw, &topic, 2).await?, [Some(21), Some(32)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_to_the_end_ends_while_records_keep_coming() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("coming");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, (0..1_000).map(|n| record(&format!("u{n}"))))?;
    let ends = broker.end_offsets(&topic)?;
    let stop = tokio_util::sync::CancellationToken::new();
    let producing = {
        let (topic, stop) = (topic.clone(), stop.clone());
        tokio::task::spawn_blocking(move || -> Result<()> {
            while !stop.is_cancelled() {
                broker.produce(&topic, None, (0..50).map(|n| record(&format!("later{n}"))))?;
            }
            Ok(())
        })
    };
    let settings = settings(broker, &topic);
    let report = tokio::time::timeout(DEADLINE, until_end(&raw.lake, &settings)).await;
    stop.cancel();
    producing.await??;
    let read = report??.records_read;
    let then: i64 = ends.values().sum();
    let now: i64 = broker.end_offsets(&topic)?.values().sum();
    ensure!((then..now).contains(&i64::try_from(read)?), "{read} of {then} to {now} records were read");
    assert_eq!(raw.count(IMPRESSIONS).await?, i64::try_from(read)?);
    Ok(())
}
