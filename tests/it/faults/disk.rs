//! A full disk, a read-only folder, and a clock that is turned back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use adlake_tests::process::Process;
use adlake_tests::shim::Shim;
use adlake_tests::wait;
use anyhow::{Result, ensure};

use super::check::exactly_once;
use super::site::Site;
use super::traffic::{Sender, Traffic};
use super::{DEADLINE, INGEST, RECORDS_PER_SECOND, seed};

/// A lake on a disk whose space the shim controls.
async fn site() -> Result<(Site, Shim)> {
    let folder = tempfile::tempdir()?;
    let lake = folder.path().join("lake");
    let shim = Shim::new(folder.path(), &lake)?;
    let environment: BTreeMap<_, _> =
        shim.environment().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let uri = lake.display().to_string();
    Ok((Site::at(folder, uri, None, environment).await?, shim))
}

async fn stop_and_check(site: &Site, sender: Sender, mut process: Process, what: &str) -> Result<()> {
    let sent = sender.stop()?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", process.logs());
    site.finish()?;
    let tally = exactly_once(site, sent).await?;
    println!("{what}, {tally}");
    Ok(())
}

/// Waits until the process logs this text again, after the first `from` bytes of its log.
async fn says(process: &Process, text: &str, from: usize) -> Result<usize> {
    wait::until(DEADLINE, text, || {
        process.stderr().is_ok_and(|log| log.get(from..).is_some_and(|log| log.contains(text)))
    })?;
    Ok(process.stderr()?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_pauses_ingest_until_there_is_room() -> Result<()> {
    let seed = seed()? + 30;
    let (site, shim) = site().await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(seed), RECORDS_PER_SECOND);
    let mut process = site.worker("worker")?.spawn(INGEST);
    let mut log = 0;
    // The disk becomes full in the middle of a file, of a commit, or of a checkpoint, as it
    // happens.
    for space in [0, 700, 3_000, 20_011, 50_021] {
        site.commits(2, &mut process).await?;
        shim.set_space(Some(space))?;
        log = says(&process, "No space left", log).await?;
        ensure!(process.exited()?.is_none(), "ingest has ended\n{}", process.logs());
        shim.set_space(None)?;
    }
    site.commits(2, &mut process).await?;
    let what = format!("disk full: seed {seed}, 5 times, {} writes refused", shim.refusals()?);
    stop_and_check(&site, sender, process, &what).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_becomes_read_only_is_waited_for() -> Result<()> {
    let seed = seed()? + 31;
    let (site, shim) = site().await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(seed), RECORDS_PER_SECOND);
    let mut process = site.worker("worker")?.spawn(INGEST);
    let mut log = 0;
    for _ in 0..3 {
        site.commits(2, &mut process).await?;
        shim.set_read_only(true)?;
        log = says(&process, "Read-only file system", log).await?;
        ensure!(process.exited()?.is_none(), "ingest has ended\n{}", process.logs());
        shim.set_read_only(false)?;
    }
    site.commits(2, &mut process).await?;
    let what = format!("read-only folder: seed {seed}, 3 times, {} changes refused", shim.refusals()?);
    stop_and_check(&site, sender, process, &what).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_turned_back_costs_nothing() -> Result<()> {
    const HOUR_MS: i64 = 3_600_000;
    let seed = seed()? + 32;
    let (site, shim) = site().await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(seed), RECORDS_PER_SECOND);
    let mut process = site.worker("worker")?.spawn(INGEST);
    for offset in [0, -2 * HOUR_MS, HOUR_MS, -30 * 24 * HOUR_MS, 0, -1_000] {
        shim.set_clock_offset_ms(offset)?;
        site.commits(3, &mut process).await?;
    }
    // The rows contain the time of ingest by the clock that was turned back.
    let back = "select count(*) from t where ingested_at < now() - interval '1 day'";
    ensure!(site.raw.number(super::site::IMPRESSIONS, back).await? > 0, "the clock was not turned back");
    process.kill9()?;
    let process = site.worker("worker")?.spawn(INGEST);
    stop_and_check(&site, sender, process, &format!("clock: seed {seed}, turned 5 times")).await
}

/// A real file system of its own, if this process may mount one.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn try_new(path: &'a Path) -> Result<Option<Mounted<'a>>> {
        fs::create_dir_all(path)?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(path).output();
        Ok(mount.is_ok_and(|output| output.status.success()).then_some(Mounted(path)))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_is_really_full_is_no_other() -> Result<()> {
    let seed = seed()? + 33;
    let folder = tempfile::tempdir()?;
    let disk = folder.path().join("disk");
    let Some(mounted) = Mounted::try_new(&disk)? else {
        // Without the right to mount, `a_full_disk_pauses_ingest_until_there_is_room` covers this
        // case.
        println!("disk full: no file system can be mounted here; the preloaded one has shown it");
        return Ok(());
    };
    let uri = disk.join("lake").display().to_string();
    let site = Site::at(folder, uri, None, BTreeMap::new()).await?;
    let sender = Sender::start(site.broker, &site.topic, Traffic::new(seed), RECORDS_PER_SECOND);
    let mut process = site.worker("worker")?.spawn(INGEST);
    site.commits(2, &mut process).await?;
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![0; 6 << 20]).expect_err("there is no such space");
    says(&process, "No space left", 0).await?;
    ensure!(process.exited()?.is_none(), "ingest has ended\n{}", process.logs());
    fs::remove_file(&ballast)?;
    site.commits(2, &mut process).await?;
    stop_and_check(&site, sender, process, &format!("file system full: seed {seed}")).await
}
