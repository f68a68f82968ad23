//! Workers that join, leave, die, and resume after others have taken their place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adlake_tests::kafka::unique;
use adlake_tests::process::Process;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::check::exactly_once;
use super::site::{IMPRESSIONS, PARTITIONS, Place, Site};
use super::traffic::{Sender, Traffic};
use super::{DEADLINE, INGEST, RECORDS_PER_SECOND, knob, seed};

/// The workers' session timeout.
const SESSION: Duration = Duration::from_secs(6);

/// The last committed offset of each partition.
async fn stored(site: &Site) -> Result<BTreeMap<i32, i64>> {
    let sql = "select source['partition'], max(source['offset']) from t group by 1";
    let mut stored = BTreeMap::new();
    for line in site.raw.query(IMPRESSIONS, sql).await? {
        let (partition, offset) =
            line.split_once(' ').with_context(|| format!("not a partition and an offset: {line:?}"))?;
        stored.insert(partition.parse()?, offset.parse()?);
    }
    Ok(stored)
}

/// Waits until every partition has made progress.
async fn all_partitions_go_on(site: &Site, processes: &mut [&mut Process]) -> Result<()> {
    let before = stored(site).await?;
    wait::until_async(DEADLINE, &format!("later positions than {before:?} in all partitions"), async || {
        for process in processes.iter_mut() {
            ensure!(process.exited()?.is_none(), "a worker has ended\n{}", process.logs());
        }
        let now = stored(site).await?;
        Ok((0..PARTITIONS).all(|partition| now.get(&partition) > before.get(&partition)))
    })
    .await
}

async fn stop(mut process: Process) -> Result<()> {
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    // A process that has hardly begun does not handle signals yet, and has nothing to clean up.
    let begun = process.stderr()?.contains("partitions assigned");
    ensure!(status.success() || !begun, "{status}\n{}", process.logs());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_from_the_dead_doubles_nothing() -> Result<()> {
    let seed = seed()? + 20;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = Site::new(Place::Folder).await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(random.random()), RECORDS_PER_SECOND);
    // The worker pauses before each PUT. So it is most likely frozen between comparing positions
    // and committing them.
    let slow = format!("{}=sleep:150", adlake_lake::failpoint::BEFORE_PUT);
    let spawn = |name: &str| -> Result<Process> {
        Ok(site.dynamic_worker(name)?.env(adlake_lake::failpoint::VARIABLE, slow.as_str()).spawn(INGEST))
    };
    let (mut first, mut second) = (spawn("first")?, spawn("second")?);
    let (wanted, mut freezes, mut tries) = (knob("ADLAKE_TEST_FREEZES", 2)?, 0, 0);
    while freezes < wanted {
        ensure!(tries < 10 * wanted, "the group gives nothing to one of two workers\n{}", first.logs());
        tries += 1;
        all_partitions_go_on(&site, &mut [&mut first, &mut second]).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        first.signal(libc::SIGSTOP)?;
        let frozen = Instant::now();
        all_partitions_go_on(&site, &mut [&mut second]).await?;
        let missed = frozen.elapsed();
        first.signal(libc::SIGCONT)?;
        // If the frozen worker had no partitions, nothing stops without it. If it had some, its
        // session has expired by now, and the other worker reads its partitions.
        if missed > SESSION / 2 {
            freezes += 1;
            std::mem::swap(&mut first, &mut second);
        }
    }
    all_partitions_go_on(&site, &mut [&mut first, &mut second]).await?;
    let sent = sender.stop()?;
    stop(first).await?;
    stop(second).await?;
    site.finish()?;
    let tally = exactly_once(&site, sent).await?;
    println!("zombies: seed {seed}, {freezes} workers frozen past their session and woken, {tally}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_join_and_leave_mid_stream() -> Result<()> {
    const WORKERS_MAX: usize = 3;
    let changes = knob("ADLAKE_TEST_CHANGES", 12)?;
    let seed = seed()? + 21;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = Site::new(Place::Folder).await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(random.random()), RECORDS_PER_SECOND);
    let mut workers = vec![site.dynamic_worker(&unique("worker"))?.spawn(INGEST)];
    let (mut joined, mut left, mut killed) = (1, 0, 0);
    for _ in 0..changes {
        let newest = workers.len() - 1;
        site.commits(3, &mut workers[newest]).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        let joins = workers.len() == 1 || (workers.len() < WORKERS_MAX && random.random_bool(0.6));
        if joins {
            workers.push(site.dynamic_worker(&unique("worker"))?.spawn(INGEST));
            joined += 1;
            continue;
        }
        let mut gone = workers.swap_remove(random.random_range(0..workers.len()));
        // The group waits for a killed worker until its session expires. So this happens seldom, or
        // the test takes long.
        if killed == 0 && random.random_bool(0.3) {
            gone.kill9()?;
            killed += 1;
        } else {
            stop(gone).await?;
            left += 1;
        }
    }
    let sent = sender.stop()?;
    for worker in workers {
        stop(worker).await?;
        left += 1;
    }
    site.finish()?;
    let tally = exactly_once(&site, sent).await?;
    println!("workers: seed {seed}, {joined} joined, {left} left, {killed} killed, {tally}");
    Ok(())
}
