//! Several workers on the same topics, runs until the end beside others, static group members, and
//! brokers that stop answering.

use std::path::Path;
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};

use crate::ingest_kafka::{
    DEAD_LETTERS, DEADLINE, IMPRESSIONS, Running, arrived, configuration, ensure_exactly_once, get, impressions,
    settings, until_end,
};
use crate::raw::Raw;

/// The sum of a metric over all labels.
fn sum(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

struct Worker {
    process: Process,
    port: u16,
}

impl Worker {
    fn start(folder: &Path, text: &str) -> Result<Worker> {
        let port = setup::free_port()?;
        let text = text.replace("[ingest]", &format!("[ingest]\nmetrics_listen = \"127.0.0.1:{port}\""));
        std::fs::create_dir_all(folder)?;
        Ok(Worker { process: Adlake::in_dir(folder).config(&text).spawn(["ingest", "kafka"]), port })
    }

    fn metrics(&self) -> Result<String> {
        get(self.port, "/metrics")
    }

    /// Waits until `count` records are ingested. Fails if the worker has ended.
    async fn arrived(&mut self, raw: &Raw, count: i64) -> Result<()> {
        let came = wait::until_async(DEADLINE, format!("{count} ingested records"), async || {
            ensure!(self.process.exited()?.is_none(), "ingest has ended");
            Ok(raw.count(IMPRESSIONS).await? + raw.count(DEAD_LETTERS).await? >= count)
        });
        came.await.with_context(|| self.process.logs())
    }

    /// Waits until the worker logs this text, from now on.
    fn says(&self, text: &str) -> Result<()> {
        let from = self.process.stderr()?.len();
        let says = || self.process.stderr().is_ok_and(|log| log.get(from..).is_some_and(|log| log.contains(text)));
        wait::until(DEADLINE, text, says).with_context(|| self.process.logs())
    }

    fn stop(&mut self) -> Result<()> {
        self.process.sigterm()?;
        let status = self.process.wait_exit(DEADLINE)?;
        ensure!(status.success(), "{status}\n{}", self.process.logs());
        Ok(())
    }
}

/// Two workers read the partitions of two topics, and both commit to both tables. The test measures
/// how often a worker finds the other's commit where its own should go. `ADLAKE_CONFLICTS_SECONDS`
/// and `ADLAKE_CONFLICTS_RATE` make it longer and faster.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_seldom_get_in_one_anothers_way() -> Result<()> {
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |text| text.parse());
    let (seconds, rate) = (number("ADLAKE_CONFLICTS_SECONDS", 12)?, number("ADLAKE_CONFLICTS_RATE", 4_000)?);
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let (impressions, interactions, group) = (unique("impressions"), unique("interactions"), unique("group"));
    for topic in [&impressions, &interactions] {
        broker.create_topic(topic, 4)?;
    }
    let text = format!(
        r#"
        [lake]
        uri = "{lake}"
        [kafka]
        brokers = "{brokers}"
        group = "{group}"
        [ingest]
        flush_interval = "1s"
        [sources.impressions]
        topic = "{impressions}"
        [sources.interactions]
        topic = "{interactions}"
        [sources.bid_requests]
        topic = ""
        "#,
        lake = raw.path().join("lake").display(),
        brokers = broker.bootstrap(),
    );
    let mut workers =
        [Worker::start(&raw.path().join("first"), &text)?, Worker::start(&raw.path().join("second"), &text)?];
    // Each worker has its share of partitions before the measurement begins.
    wait::until(DEADLINE, "4 of 8 partitions for each of two workers", || {
        let partitions = workers
            .iter()
            .map(|worker| worker.metrics().map_or(0, |text| text.matches("adlake_ingest_lag_records{").count()));
        partitions.eq([4, 4])
    })?;
    let generator = Adlake::in_dir(raw.path()).config(&text);
    let (rate_text, seconds_text) = (rate.to_string(), format!("{seconds}s"));
    let arguments = [
        "generate",
        "--to-kafka",
        broker.bootstrap(),
        "--rate",
        &rate_text,
        "--duration",
        &seconds_text,
        "--kinds",
        "impressions,interactions",
    ];
    generator.ok(arguments);
    let mut total = [0.0; 3];
    for worker in &mut workers {
        let metrics = worker.metrics().with_context(|| worker.process.logs())?;
        for (sum_of, name) in total.iter_mut().zip(["commits", "commit_conflicts", "superseded"]) {
            *sum_of += sum(&metrics, &format!("adlake_ingest_{name}_total"));
        }
        worker.stop()?;
    }
    let [commits, conflicts, superseded] = total;
    let share = conflicts / commits;
    println!(
        "two workers, {rate} events/s, {seconds} s: {commits} commits, {conflicts} conflicts ({:.1} %)",
        share * 100.0
    );
    // There are four commits a second on an idle machine. Other tests run beside this one.
    ensure!(commits >= seconds as f64, "{commits} commits are too few to tell");
    ensure!(superseded <= 4.0, "{superseded} batches were given up");
    // One more than the share, so that a single conflict in a short run does not fail the test.
    ensure!(conflicts <= 1.0 + commits * 0.05, "{conflicts} of {commits} commits");
    Ok(())
}

/// A lake that holds `BEFORE` records of a topic with four partitions, and the configuration of
/// workers. The topic has `RECORDS` records.
struct Drained {
    raw: Raw,
    text: String,
}

const BEFORE: usize = 100;
const RECORDS: usize = 2_000;
const SHORT_SESSION: &str = "\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"500\"";
const DRAIN: [&str; 3] = ["ingest", "kafka", "--until-end"];

impl Drained {
    /// `properties` are librdkafka's, of all workers.
    async fn new(properties: &str) -> Result<Drained> {
        let (broker, raw) = (Broker::shared(), Raw::new().await?);
        let topic = unique("drained");
        broker.create_topic(&topic, 4)?;
        broker.produce(&topic, None, impressions(0, BEFORE))?;
        // The tables exist before the workers start.
        until_end(&raw.lake, &settings(broker, &topic)).await?;
        broker.produce(&topic, None, impressions(BEFORE, RECORDS))?;
        let text =
            configuration(broker, &topic, &unique("group"), &raw.path().join("lake"), "revoke_deadline = \"500ms\"");
        Ok(Drained { raw, text: text.replace("\"session.timeout.ms\" = \"6000\"", properties) })
    }

    /// Starts a worker that takes `pause_ms` for each commit, and waits until it holds all
    /// partitions. Then starts a run until the end, and waits until it holds half of them.
    fn start(&self, pause_ms: u64) -> Result<(Process, Process)> {
        let program = |name: &str| -> Result<Adlake> {
            let folder = self.raw.path().join(name);
            std::fs::create_dir_all(&folder)?;
            Ok(Adlake::in_dir(&folder).config(&self.text))
        };
        let pause = format!("{}=sleep:{pause_ms}", adlake_lake::failpoint::BEFORE_PUT);
        let mut worker = program("worker")?.env(adlake_lake::failpoint::VARIABLE, pause).spawn(["ingest", "kafka"]);
        let holds = |process: &mut Process, partitions: usize| {
            let text = format!("partitions assigned partitions={partitions}");
            let held = wait::value(DEADLINE, &text, || {
                let held = process.stderr()?.contains(&text);
                ensure!(held || process.exited()?.is_none(), "it has ended before: {text}");
                Ok(held.then_some(()))
            });
            held.with_context(|| process.logs())
        };
        holds(&mut worker, 4)?;
        let mut drain = program("drain")?.spawn(DRAIN);
        holds(&mut drain, 2)?;
        Ok((worker, drain))
    }
}

/// The group keeps the partitions of a killed worker until its session times out. A run until the
/// end that begins before that does not take them for read.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_until_the_end_waits_for_the_partitions_of_a_killed_worker() -> Result<()> {
    ensure_waits_for_a_killed_worker(SHORT_SESSION).await
}

/// Here the broker sets the session timeout: 45 s.
#[tokio::test(flavor = "multi_thread")]
async fn it_also_waits_for_them_where_the_broker_hands_out_partitions() -> Result<()> {
    ensure_waits_for_a_killed_worker("\"group.protocol\" = \"consumer\"").await
}

async fn ensure_waits_for_a_killed_worker(properties: &str) -> Result<()> {
    let drained = Drained::new(properties).await?;
    // The worker commits nothing as long as it lives.
    let (mut worker, mut drain) = drained.start(3_600_000)?;
    worker.kill9()?;
    let killed = Instant::now();
    let status = drain.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", drain.logs());
    println!("drained {:?} after the other worker was killed", killed.elapsed());
    ensure_exactly_once(&drained.raw, RECORDS).await
}

/// The other worker is alive, and its commits are slow. When the run ends, they are in the lake.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_until_the_end_waits_for_the_commits_of_a_slow_worker() -> Result<()> {
    let drained = Drained::new(SHORT_SESSION).await?;
    let (mut worker, mut drain) = drained.start(2_000)?;
    let status = drain.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", drain.logs());
    ensure!(worker.exited()?.is_none(), "the other worker has ended\n{}", worker.logs());
    ensure!(!drain.stderr()?.contains("still reading"), "{}", drain.logs());
    ensure_exactly_once(&drained.raw, RECORDS).await?;
    worker.kill9()
}

/// The other worker is alive, and does not come to the end. The run ends without it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_until_the_end_does_not_wait_for_ever_for_a_worker_that_lives() -> Result<()> {
    let drained = Drained::new(SHORT_SESSION).await?;
    let (mut worker, mut drain) = drained.start(3_600_000)?;
    let status = drain.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", drain.logs());
    ensure!(drain.stderr()?.contains("other workers of the group are still reading"), "{}", drain.logs());
    let landed = drained.raw.count(IMPRESSIONS).await? + drained.raw.count(DEAD_LETTERS).await?;
    ensure!((BEFORE as i64 + 1..RECORDS as i64).contains(&landed), "{landed} records");
    worker.kill9()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_known_comes_back_to_its_partitions() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("static");
    broker.create_topic(&topic, 2)?;
    broker.produce(&topic, None, impressions(0, 500))?;
    let mut settings = settings(broker, &topic);
    // The session timeout is long: if the group did not recognize the member, it would wait that
    // long.
    for (key, value) in [("group.instance.id", "worker-1"), ("session.timeout.ms", "45000")] {
        settings.kafka.properties.insert(key.to_owned(), value.to_owned());
    }
    let running = Running::start(&raw.lake, &settings);
    arrived(&raw, 500).await?;
    running.stop().await?;
    broker.produce(&topic, None, impressions(500, 1_000))?;
    let started = Instant::now();
    until_end(&raw.lake, &settings).await?;
    ensure!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    ensure_exactly_once(&raw, 1_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_is_waited_for() -> Result<()> {
    let (broker, raw) = (Broker::start()?, Raw::new().await?);
    let topic = unique("silent");
    broker.create_topic(&topic, 3)?;
    broker.produce(&topic, None, impressions(0, 1_000))?;
    let text = configuration(&broker, &topic, &unique("group"), &raw.path().join("lake"), "")
        .replace("[kafka.properties]", "stall_timeout = \"500ms\"\n[kafka.properties]");
    let mut worker = Worker::start(&raw.path().join("worker"), &text)?;
    worker.arrived(&raw, 1_000).await?;
    // The broker keeps its connections but answers nothing, until the worker has asked what the
    // broker has and got no answer.
    broker.freeze()?;
    worker.says("the broker does not tell their watermarks")?;
    broker.thaw()?;
    broker.produce(&topic, None, impressions(1_000, 2_000))?;
    worker.arrived(&raw, 2_000).await?;
    broker.kill9()?;
    worker.says("BrokerTransportFailure")?;
    broker.restart()?;
    broker.produce(&topic, None, impressions(2_000, 3_000))?;
    worker.arrived(&raw, 3_000).await?;
    worker.stop()?;
    ensure_exactly_once(&raw, 3_000).await
}

/// The broker holds an answer back until it is long enough. So it has more records, but none
/// arrive, and the worker sees a stalled partition. The worker reassigns the partition again and
/// again, but no record is lost or doubled, and reading goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_stalls_is_taken_anew_and_loses_nothing() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let topic = unique("stalled");
    broker.create_topic(&topic, 1)?;
    // An answer that is too small is held back for a second, which is longer than a partition may
    // be silent.
    let text = configuration(broker, &topic, &unique("group"), &raw.path().join("lake"), "").replace(
        "[kafka.properties]",
        "stall_timeout = \"300ms\"\n[kafka.properties]\n\"fetch.min.bytes\" = \"20000\"\n\"fetch.wait.max.ms\" = \
         \"1000\"",
    );
    let mut worker = Worker::start(&raw.path().join("worker"), &text)?;
    // The partition is first reassigned, and then the worker joins the group again.
    let started = Instant::now();
    let mut sent = 0;
    let stalls = wait::value(2 * DEADLINE, "two stalls of a partition", || {
        broker.produce(&topic, None, impressions(sent, sent + 1))?;
        sent += 1;
        let stalls = worker.metrics().map_or(0.0, |text| sum(&text, "adlake_ingest_stalls_total"));
        Ok((stalls >= 2.0).then_some(stalls))
    });
    let stalls = stalls.with_context(|| worker.process.logs())?;
    let stalled = started.elapsed();
    broker.produce(&topic, None, impressions(sent, sent + 2_000))?;
    worker.arrived(&raw, sent as i64 + 2_000).await?;
    let came = started.elapsed() - stalled;
    worker.stop()?;
    println!(
        "a partition stalled: {stalls} remedies in {stalled:?}, {sent} records; then 2000 in {came:?}, lost 0, doubled \
         0"
    );
    ensure_exactly_once(&raw, sent + 2_000).await
}
