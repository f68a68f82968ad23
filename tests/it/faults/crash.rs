//! `kill -9` while records keep coming: at random moments, and at every failpoint.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use adlake_lake::failpoint::{self, PLACES};
use adlake_tests::process::Process;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::check::exactly_once;
use super::site::{Place, Site};
use super::traffic::{Sender, Traffic};
use super::{DEADLINE, INGEST, RECORDS_PER_SECOND, knob, seed};

/// How a process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// This long after its start, whatever it is doing then.
    Early(Duration),
    /// This long after its first commit.
    Working(Duration),
    /// At a failpoint; the text is its rule.
    Named(&'static str, String),
}

/// The ends of `kills` processes: every failpoint in turn, then as many random moments, and so on.
/// They are shuffled.
fn ends(kills: u64, random: &mut ChaCha8Rng) -> Vec<End> {
    let mut ends: Vec<End> = (0..kills)
        .map(|kill| match PLACES.get(kill as usize % (2 * PLACES.len())) {
            Some(place) => End::Named(place, rule(place, random)),
            None if random.random_bool(0.3) => End::Early(Duration::from_millis(random.random_range(0..800))),
            None => End::Working(Duration::from_millis(random.random_range(0..300))),
        })
        .collect();
    ends.shuffle(random);
    ends
}

fn rule(place: &str, random: &mut ChaCha8Rng) -> String {
    match place {
        // A checkpoint comes once in a hundred commits. The kill comes within it, or just after it.
        failpoint::CHECKPOINT => format!("{place}=kill:{}", random.random_range(0..25)),
        // This happens once in a process.
        failpoint::ASSIGNED | failpoint::REVOKED => format!("{place}=kill"),
        _ => format!("{place}=kill@{}", random.random_range(1..6)),
    }
}

async fn live(site: &mut Site, end: &End) -> Result<()> {
    let worker = site.worker("worker")?;
    match end {
        End::Early(after) => {
            let mut process = worker.spawn(INGEST);
            tokio::time::sleep(*after).await;
            process.kill9()
        }
        End::Working(after) => {
            let mut process = worker.spawn(INGEST);
            site.commits(1, &mut process).await?;
            tokio::time::sleep(*after).await;
            process.kill9()
        }
        End::Named(place, rule) => {
            let mut process = worker.env(failpoint::VARIABLE, rule).spawn(INGEST);
            if *place != failpoint::REVOKED {
                return killed_itself(&mut process, rule).await;
            }
            // Partitions are revoked when another worker joins. That worker is killed while it
            // takes them.
            site.commits(1, &mut process).await?;
            let mut other = site.worker("other")?.spawn(INGEST);
            killed_itself(&mut process, rule).await?;
            other.kill9()?;
            site.group = adlake_tests::kafka::unique("group");
            Ok(())
        }
    }
}

async fn killed_itself(process: &mut Process, rule: &str) -> Result<()> {
    let ended = wait::value_async(DEADLINE, &format!("the end of ingest by {rule}"), async || process.exited()).await;
    let status = ended.with_context(|| process.logs())?;
    ensure!(status.signal() == Some(libc::SIGKILL), "{rule}: {status}\n{}", process.logs());
    Ok(())
}

async fn crash(place: Place, seed: u64) -> Result<()> {
    let kills = knob("ADLAKE_TEST_KILLS", 60)? / 2;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut site = Site::new(place).await?;
    let started = Instant::now();
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(random.random()), RECORDS_PER_SECOND);
    let ends = ends(kills, &mut random);
    let named = ends.iter().filter(|end| matches!(end, End::Named(..))).count();
    for end in &ends {
        let began = Instant::now();
        live(&mut site, end).await?;
        if std::env::var_os("ADLAKE_TEST_VERBOSE").is_some() {
            println!("crash on {place:?}: {end:?} in {:.1?}", began.elapsed());
        }
    }
    let sent = sender.stop()?;
    site.finish()?;
    let tally = exactly_once(&site, sent).await?;
    println!(
        "crash on {place:?}: seed {seed}, {} kills ({named} at named places), {tally}, {:.0?}",
        ends.len(),
        started.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing_in_a_folder() -> Result<()> {
    crash(Place::Folder, seed()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing_on_s3() -> Result<()> {
    crash(Place::S3, seed()? + 1).await
}
