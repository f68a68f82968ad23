//! A store that fails, is slow, cuts connections, answers wrongly, and refuses requests.

use std::time::{Duration, Instant};

use adlake_tests::proxy::{Faults, Proxy};
use adlake_tests::s3::S3Server;
use adlake_tests::wait;
use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::check::exactly_once;
use super::site::Site;
use super::traffic::{Sender, Traffic};
use super::{DEADLINE, INGEST, RECORDS_PER_SECOND, knob, seed};

/// A lake whose workers reach the store through a proxy, which does no harm yet.
async fn site(seed: u64) -> Result<(Site, Proxy)> {
    let server = S3Server::start()?;
    let upstream = server.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(&upstream, seed, Faults::none())?;
    let mut environment: std::collections::BTreeMap<_, _> = server.storage_options().into_iter().collect();
    environment.insert("AWS_ENDPOINT_URL".to_owned(), proxy.endpoint());
    let uri = server.uri("lake");
    Ok((Site::at(tempfile::tempdir()?, uri, Some(server), environment).await?, proxy))
}

/// Waits until the proxy has given this answer `count` times more.
async fn answered(proxy: &Proxy, answer: &'static str, count: u64) -> Result<()> {
    let given = || proxy.tally().get(answer).copied().unwrap_or(0);
    let before = given();
    let what = format!("{count} requests that are answered by {answer:?}");
    wait::until_async(DEADLINE, &what, async || Ok(given() >= before + count)).await
}

/// Seeds with which ingest once ended. In one case the body of a listing was cut while a table was
/// loaded; in another, two creators of a table met.
const MET: [u64; 4] = [12, 13, 101, 86_958_853];

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_one_request_in_ten_costs_nothing() -> Result<()> {
    one_in_ten(seed()?, knob("ADLAKE_TEST_FAULT_SECONDS", 12)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_once_ended_ingest_does_not_again() -> Result<()> {
    // A run with the same seed is not the same run, because the timing differs. The seed of this
    // process chooses which one is repeated.
    let (met, seconds) = (knob("ADLAKE_TEST_MET", 1)?, knob("ADLAKE_TEST_FAULT_SECONDS", 12)?.min(30));
    let first = seed()? as usize;
    for place in (0..MET.len()).take(usize::try_from(met)?) {
        one_in_ten(MET[(first + place) % MET.len()], seconds).await?;
    }
    Ok(())
}

async fn one_in_ten(seed: u64, seconds: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed + 10);
    let (site, proxy) = site(random.random()).await?;
    proxy.set(Faults::one_in_ten());
    let started = Instant::now();
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(random.random()), RECORDS_PER_SECOND);
    let worker = site.worker("worker")?;
    let (mut kills, mut process) = (0, worker.spawn(INGEST));
    while started.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3_000))).await;
        // Ingest does not give up, and killing it makes no difference.
        ensure!(process.exited()?.is_none(), "seed {seed}: ingest has ended\n{}", process.logs());
        if random.random_bool(0.5) {
            process.kill9()?;
            kills += 1;
            process = worker.spawn(INGEST);
        }
    }
    let sent = sender.stop()?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", process.logs());
    let (requests, harmed) = proxy.counts();
    proxy.set(Faults::none());
    site.finish()?;
    let tally = exactly_once(&site, sent).await?;
    println!(
        "store through a proxy: seed {seed}, {requests} requests, {harmed} faults {:?}, {kills} kills, {tally}",
        proxy.tally()
    );
    ensure!(harmed * 20 > requests, "only {harmed} of {requests} requests were harmed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_out_is_waited_for_and_one_that_refuses_is_not() -> Result<()> {
    let seed = seed()? + 11;
    let (site, proxy) = site(seed).await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(seed), RECORDS_PER_SECOND);
    let worker = site.worker("worker")?;
    let mut process = worker.spawn(INGEST);
    site.commits(2, &mut process).await?;

    // The store answers nothing for a while. Afterwards the same process continues.
    proxy.set(Faults { refused: 1.0, ..Faults::none() });
    answered(&proxy, "503", 20).await?;
    proxy.set(Faults::none());
    site.commits(2, &mut process).await?;

    // The store refuses all changes, which does not pass by itself. Ingest ends and says what was
    // refused.
    proxy.set(Faults { read_only: true, ..Faults::none() });
    let status = process.wait_exit(DEADLINE)?;
    let text = process.stderr()?;
    ensure!(!status.success() && text.contains("refused") && text.contains("403"), "{status}: {text}");
    proxy.set(Faults::none());
    let mut process = worker.spawn(INGEST);
    site.commits(2, &mut process).await?;

    // For every commit the store says that the entry exists, but it does not. Ingest must neither
    // spin for ever nor give up.
    proxy.set(Faults { false_412: 1.0, ..Faults::none() });
    let (before, began) = (proxy.counts().0, Instant::now());
    answered(&proxy, "not done, 412", 6).await?;
    let (asked, lied) = (proxy.counts().0 - before, began.elapsed());
    proxy.set(Faults::none());
    site.commits(2, &mut process).await?;

    let sent = sender.stop()?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", process.logs());
    site.finish()?;
    let tally = exactly_once(&site, sent).await?;
    println!("store out, read-only, lying ({asked} requests in {lied:.1?}): seed {seed}, {:?}, {tally}", proxy.tally());
    // Attempts are paced by pauses, not by the store's answers.
    let most = 50.0 + 500.0 * lied.as_secs_f64();
    ensure!((asked as f64) < most, "{asked} requests in {lied:?} to a store that takes no commit");
    Ok(())
}
