//! The program under measurement, and what a run of it costs.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The program in a folder of its own.
pub struct Program {
    program: PathBuf,
    folder: TempDir,
}

/// What a run costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub elapsed: Duration,
    /// CPU time of the process and its children.
    pub cpu: Duration,
    pub resident_bytes_max: u64,
    pub read_bytes: u64,
}

impl Program {
    /// `adlake` with this configuration.
    pub fn new(config: &str) -> Result<Program> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("adlake.toml"), config)?;
        Ok(Program { program: adlake_tests::adlake::program()?, folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that runs the program in its folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--quiet").current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end. Its output is kept in `stdout`.
    pub fn run(&self, arguments: &[&str]) -> Result<Cost> {
        let mut command = self.command(arguments);
        command.stdout(File::create(self.path("stdout"))?);
        measure(command).with_context(|| format!("adlake {arguments:?}"))
    }

    /// Creates a lake with the reference data that `generate` wrote into `truth`.
    pub fn new_lake(&self, lake: &str) -> Result<()> {
        for kind in ["creatives", "campaigns"] {
            self.run(&["--lake", lake, "ref", "load", kind, &format!("truth/{kind}.csv")])?;
        }
        Ok(())
    }
}

/// Runs a command to its end, which has to be a success.
pub fn measure(mut command: Command) -> Result<Cost> {
    let before = children_cpu();
    let started = Instant::now();
    let mut child: Child = command.spawn()?;
    let (mut resident, mut read) = (0, 0);
    let status = loop {
        resident = resident.max(field(child.id(), "status", "VmHWM:").unwrap_or(0) * 1024);
        read = read.max(field(child.id(), "io", "rchar:").unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(LOOK_INTERVAL),
        }
    };
    ensure!(status.success(), "{status}");
    let (elapsed, cpu) = (started.elapsed(), children_cpu() - before);
    Ok(Cost { elapsed, cpu, resident_bytes_max: resident, read_bytes: read })
}

/// Watches the most memory that a process has resident.
pub struct Resident {
    most: Arc<AtomicU64>,
}

impl Resident {
    /// Watches a process until it ends.
    pub fn watch(process: u32) -> Resident {
        let most: Arc<AtomicU64> = Arc::default();
        let found = most.clone();
        std::thread::spawn(move || {
            while let Some(kilobytes) = field(process, "status", "VmHWM:") {
                found.store(kilobytes * 1024, Ordering::Relaxed);
                std::thread::sleep(LOOK_INTERVAL);
            }
        });
        Resident { most }
    }

    /// The most until now, in bytes.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

fn field(process: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// CPU time of the children that have ended.
fn children_cpu() -> Duration {
    // SAFETY: getrusage only writes the struct that it is given, and all zeroes is a valid value of
    // it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    // SAFETY: clock_gettime only writes the struct that it is given.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The quantile: the value below which a share of `at` of the values lies.
pub fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = ((values.len() as f64 * at) as usize).min(values.len().saturating_sub(1));
    values.get(place).copied().unwrap_or(f64::NAN)
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}
