//! `kill -9` of the batch layer's jobs while events come in and a reader asks: at random moments,
//! and at named ones. Every answer is that of a state of the inputs. In the end all views equal
//! those of a clean lake, and vacuum leaves nothing of the dead.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::failpoint::{
    self, AFTER_PUT, BATCH_TABLE_WRITTEN, BEFORE_PUBLISH, BEFORE_PUT, CHECKPOINT, FILE_DELETED, FILE_UPLOADED,
    LEASE_TAKEN,
};
use adlake_tests::adlake::Adlake;
use anyhow::{Result, bail, ensure};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::batch_site::{BatchSite, ingest, is_leased, read, until_leased};
use super::site::Place;
use super::{DEADLINE, knob, seed};

/// How long files are kept for readers. Queries of this test take less, even on a busy machine.
const RETENTION: Duration = Duration::from_secs(10);
/// So often a job may end before the moment of its death comes.
const ATTEMPTS: usize = 25;

/// A job, and the moments at which it is killed, each with the highest hit that is drawn.
struct Job {
    line: &'static [&'static str],
    moments: &'static [(&'static str, u32)],
}

/// The moments of a run, which writes seven tables and the manifest.
const OF_RUNS: &[(&str, u32)] = &[
    (LEASE_TAKEN, 1),
    (FILE_UPLOADED, 10),
    (BEFORE_PUT, 8),
    (AFTER_PUT, 8),
    (CHECKPOINT, 1),
    (BATCH_TABLE_WRITTEN, 7),
    (BEFORE_PUBLISH, 1),
];

const JOBS: [Job; 4] = [
    Job { line: &["batch", "run"], moments: OF_RUNS },
    Job { line: &["batch", "run", "--full"], moments: OF_RUNS },
    Job {
        line: &["batch", "compact"],
        moments: &[(LEASE_TAKEN, 1), (FILE_UPLOADED, 9), (BEFORE_PUT, 13), (AFTER_PUT, 13), (BEFORE_PUBLISH, 1)],
    },
    Job { line: &["batch", "vacuum"], moments: &[(LEASE_TAKEN, 1), (FILE_DELETED, 30)] },
];

/// When a process dies.
#[derive(Debug, Clone)]
enum Moment {
    /// This share of the job's usual time after its start.
    Random(f64),
    /// At a failpoint, at one of its hits.
    Named(&'static str, u32),
}

impl Moment {
    fn draw(job: &Job, is_named: bool, random: &mut ChaCha8Rng) -> Result<Moment> {
        if !is_named {
            return Ok(Moment::Random(random.random_range(0.0..1.1)));
        }
        let Some((place, most)) = job.moments.choose(random) else { bail!("{:?} has no moments", job.line) };
        Ok(Moment::Named(place, random.random_range(1..=*most)))
    }

    fn name(&self) -> &'static str {
        match self {
            Moment::Random(_) => "random",
            Moment::Named(place, _) => place,
        }
    }
}

/// Starts a job that dies at a moment. Returns whether it did; else it has ended well before.
async fn dies(site: &BatchSite, adlake: &Adlake, job: &Job, moment: &Moment, usual: Duration) -> Result<bool> {
    site.lease_is_free().await?;
    let rule;
    let adlake = match moment {
        Moment::Named(place, hit) => {
            let armed = site.program(&format!("armed-{}", rand::random::<u64>()), RETENTION)?;
            rule = armed.env(failpoint::VARIABLE, format!("{place}=kill@{hit}"));
            &rule
        }
        Moment::Random(_) => adlake,
    };
    let mut process = adlake.spawn(job.line);
    if let Moment::Random(share) = moment {
        tokio::time::sleep(usual.mul_f64(*share)).await;
        // It fails if the process has ended already.
        let _ = process.signal(libc::SIGKILL);
    }
    let status = process.wait_exit(DEADLINE)?;
    if status.signal() == Some(libc::SIGKILL) {
        return Ok(true);
    }
    ensure!(status.success(), "{:?} to be killed at {moment:?} ended: {status}: {}", job.line, process.logs());
    Ok(false)
}

/// Does a job as soon as the lease of the last process that died has expired. Returns the time that
/// it took.
async fn ends_well(site: &BatchSite, adlake: &Adlake, job: &Job) -> Result<Duration> {
    site.lease_is_free().await?;
    let began = Instant::now();
    let output = until_leased(adlake, job.line)?;
    ensure!(output.status.success(), "{:?}: {}: {}", job.line, output.status, output.stderr);
    Ok(began.elapsed())
}

async fn kills(place: Place, seed: u64) -> Result<()> {
    let kills = knob("ADLAKE_TEST_BATCH_KILLS", 8)? as usize;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let site = Arc::new(BatchSite::new(place, random.random()).await?);
    let adlake = site.program("jobs", RETENTION)?;
    let started = Instant::now();
    site.ingest_round(&adlake)?;
    let (ingesting, reading) = (ingest(&site, RETENTION)?, read(&site, RETENTION)?);

    let mut usual = JOBS.map(|_| Duration::from_secs(1));
    let end = |kill: usize| (kill % JOBS.len(), (kill / JOBS.len()).is_multiple_of(2));
    let mut ends: Vec<(usize, bool)> = (0..kills).map(end).collect();
    ends.shuffle(&mut random);
    let mut tally: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    let mut clean = 0;
    for (which, is_named) in ends {
        let target = &JOBS[which];
        let mut attempts = 0;
        let moment = loop {
            ensure!(!ingesting.has_ended() && !reading.has_ended(), "a thread beside the jobs has ended");
            attempts += 1;
            ensure!(attempts < ATTEMPTS, "{:?} did not reach any of its moments", target.line);
            let moment = Moment::draw(target, is_named, &mut random)?;
            if dies(&site, &adlake, target, &moment, usual[which]).await? {
                break moment;
            }
            // A compaction has nothing to do until a run covers more.
            usual[0] = ends_well(&site, &adlake, &JOBS[0]).await?;
            clean += 1;
        };
        if std::env::var_os("ADLAKE_TEST_VERBOSE").is_some() {
            println!("{:.1?}: {:?} died at {moment:?}, attempt {attempts}", started.elapsed(), target.line);
        }
        *tally.entry((target.line[1..].join(" "), moment.name())).or_default() += 1;
        // Whoever comes next finds what the dead one has left.
        if random.random_bool(0.5) {
            let next = *[0, 0, 2, 3].choose(&mut random).unwrap_or(&0);
            usual[next] = ends_well(&site, &adlake, &JOBS[next]).await?;
            clean += 1;
        }
    }
    let (rounds, reading) = (ingesting.stop()?, reading.stop()?);
    let killed = started.elapsed();

    let output = until_leased(&adlake, &["batch", "run"])?;
    ensure!(output.status.success() && !is_leased(&output), "the last run: {}", output.stderr);
    site.ask(&adlake)?;
    let all = site.program("vacuum-all", Duration::ZERO)?;
    // The first removes old runs from the manifest, and the second their files.
    all.ok(["batch", "vacuum", "--quiet"]);
    all.ok(["batch", "vacuum", "--quiet"]);
    let files = site.no_orphans().await?;
    site.ask(&adlake)?;
    let rows = site.equals_a_clean_lake()?;
    println!(
        "batch kills on {place:?}: seed {seed}, {kills} kills {tally:?}, {clean} clean jobs between, {} rounds, \
         {} answers compared ({} newer than the one before, {} late), {rows} rows of views equal, {files} files, no \
         orphan, {killed:.0?} + {:.0?}",
        rounds + 1,
        reading.queries,
        reading.newer,
        reading.late,
        started.elapsed() - killed
    );
    ensure!(reading.queries * 2 >= kills && reading.newer > 1, "the reader has seen too little: {reading:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_killed_change_no_answer_in_a_folder() -> Result<()> {
    kills(Place::Folder, seed()? + 20).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_killed_change_no_answer_on_s3() -> Result<()> {
    kills(Place::S3, seed()? + 21).await
}
