//! Child processes that the tests own. None of them outlives the test process, even if that is
//! killed.
//!
//! A [`Process`] is killed when it is dropped. If the test process itself is killed, the kernel
//! kills its children (`PR_SET_PDEATHSIG`). To the kernel, the "parent" is the *thread* that
//! forked, and a test's thread ends with the test. So one thread that lasts as long as the process
//! forks every child.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wait;

const LOG_TAIL_BYTES: usize = 8_000;
const REAP_DEADLINE: Duration = Duration::from_secs(30);

/// A running child process. Its standard output and error are kept in files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with its standard input unchanged. Its output is appended to
    /// `<name>.stdout` and `<name>.stderr` in `logs`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let stdout = logs.join(format!("{name}.stdout"));
        let stderr = logs.join(format!("{name}.stderr"));
        command.stdout(append(&stdout)?).stderr(append(&stderr)?);
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if the process has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Sends `signal`. Fails if the process has already ended.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        if let Some(status) = self.exited()? {
            bail!("{} has ended already: {status}\n{}", self.name, self.logs());
        }
        let id = libc::pid_t::try_from(self.child.id()).context("process id out of range")?;
        // SAFETY: kill(2) takes two integers. The child has not been reaped, so its id is still its
        // own.
        let result = unsafe { libc::kill(id, signal) };
        ensure!(result == 0, "cannot signal {}: {}", self.name, io::Error::last_os_error());
        Ok(())
    }

    /// Asks the process to end (SIGTERM); see [`Process::wait_exit`].
    pub fn sigterm(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Kills the process (SIGKILL) and waits until it is gone. Fails if it had ended by itself.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        let status = self.wait_exit(REAP_DEADLINE)?;
        ensure!(
            status.signal() == Some(libc::SIGKILL),
            "{} ended by itself before it was killed: {status}\n{}",
            self.name,
            self.logs()
        );
        Ok(())
    }

    /// Waits until the process has ended. If it does not end, the error contains its logs.
    pub fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::value(deadline, &what, || self.exited()).with_context(|| self.logs())
    }

    /// What the process has written to its standard output.
    pub fn stdout(&self) -> Result<String> {
        read(&self.stdout)
    }

    /// What the process has written to its standard error.
    pub fn stderr(&self) -> Result<String> {
        read(&self.stderr)
    }

    /// The file of its standard error.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// The ends of both outputs, for messages about a failure.
    pub fn logs(&self) -> String {
        format!("{}{}", tail(&self.name, "stdout", &self.stdout), tail(&self.name, "stderr", &self.stderr))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is already gone, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(name: &str, stream: &str, path: &Path) -> String {
    let text = read(path).unwrap_or_else(|error| format!("{error:#}"));
    if text.is_empty() {
        return String::new();
    }
    let mut from = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("--- {stream} of {name}:\n{}\n", &text[from..])
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` from the thread that lasts, so that it dies with this process.
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();

    die_with_parent(&mut command);
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // The requester waits for the reply. If it were gone, dropping the child would be
                // enough.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let sender = spawner.lock().map_err(|_| io::Error::other("the spawning thread is gone"))?.clone();
    sender.send((command, reply)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    answer.recv().map_err(io::Error::other)?
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl(2) and getppid(2).
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above took effect.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, logs: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("shell", command, logs).unwrap()
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let logs = tempfile::tempdir().unwrap();
        let directory = logs.path().to_owned();
        let mut process = thread::spawn(move || shell("echo ready; exec sleep 60", &directory)).join().unwrap();
        wait::until(Duration::from_secs(10), "the child's first line", || process.stdout().unwrap().contains("ready"))
            .unwrap();
        assert_eq!(process.exited().unwrap(), None);
        process.kill9().unwrap();
        assert!(process.kill9().is_err());
    }

    #[test]
    fn exit_status_and_output_are_kept() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("echo out; echo err >&2; exit 7", logs.path());
        let status = process.wait_exit(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(7));
        assert_eq!((process.stdout().unwrap().as_str(), process.stderr().unwrap().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn dropping_kills() {
        let logs = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 60", logs.path());
        let id = libc::pid_t::try_from(process.id()).unwrap();
        drop(process);
        // SAFETY: signal 0 only asks whether the process exists.
        assert_eq!(unsafe { libc::kill(id, 0) }, -1);
    }
}
