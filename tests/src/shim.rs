//! Disks that fill up or become read-only, and a wall clock that is turned back, for one program
//! under test only. A small library (`shim.c`, built with `cc`) is preloaded into the program and
//! controlled through memory that both sides map.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;

const BUILD_DEADLINE: Duration = Duration::from_secs(60);

/// Controls what a program that was started with [`Shim::environment`] sees.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    control: PathBuf,
    file: File,
    folder: PathBuf,
}

/// The index of a field in `struct control`.
#[derive(Debug, Clone, Copy)]
enum Field {
    ClockOffsetMs = 0,
    SpaceBytes = 1,
    ReadOnly = 2,
    Refusals = 3,
}

impl Shim {
    /// Builds the library in `directory`, for files under `folder`. At first it changes nothing.
    pub fn new(directory: &Path, folder: &Path) -> Result<Shim> {
        let source = directory.join("shim.c");
        let library = directory.join("shim.so");
        fs::write(&source, include_str!("shim/shim.c"))?;
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").stdin(Stdio::null());
        let mut cc = Process::start("cc", command, directory)
            .context("cannot start the C compiler, which the build needs as well")?;
        let status = cc.wait_exit(BUILD_DEADLINE)?;
        ensure!(status.success(), "the shim does not compile: {status}\n{}", cc.logs());
        let control = directory.join("shim.control");
        fs::write(&control, [0_u8; 32])?;
        let file = File::options().read(true).write(true).open(&control)?;
        let shim = Shim { library, control, file, folder: folder.to_owned() };
        shim.set_space(None)?;
        Ok(shim)
    }

    /// The environment for the program under test.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("ADLAKE_SHIM", self.control.display().to_string()),
            ("ADLAKE_SHIM_FOLDER", self.folder.display().to_string()),
        ]
    }

    /// Sets the wall clock this many milliseconds ahead (or back, if negative).
    pub fn set_clock_offset_ms(&self, offset_ms: i64) -> Result<()> {
        self.set(Field::ClockOffsetMs, offset_ms)
    }

    /// Leaves this many bytes of space on the disk; `None` means no limit.
    pub fn set_space(&self, bytes: Option<u32>) -> Result<()> {
        self.set(Field::SpaceBytes, bytes.map_or(-1, i64::from))
    }

    /// Makes the folder read-only, or writable again.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        self.set(Field::ReadOnly, i64::from(read_only))
    }

    /// How often the library has refused an operation.
    pub fn refusals(&self) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8 * Field::Refusals as u64)?;
        Ok(i64::from_ne_bytes(bytes))
    }

    fn set(&self, field: Field, value: i64) -> Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), 8 * field as u64)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_what_was_set() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("disk");
        fs::create_dir(&folder).unwrap();
        let shim = Shim::new(directory.path(), &folder).unwrap();
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).envs(shim.environment()).current_dir(directory.path());
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        let path = folder.join("file").display().to_string();
        assert!(run(&format!("echo 12345678 > {path}")).0);
        shim.set_space(Some(4)).unwrap();
        assert!(!run(&format!("echo 12345678 > {path}")).0);
        assert_eq!(fs::read(&path).unwrap(), b"1234", "what fits is written");
        assert!(run("echo 12345678 > elsewhere").0);
        shim.set_space(None).unwrap();
        shim.set_read_only(true).unwrap();
        assert!(!run(&format!("echo 1 > {path}")).0);
        assert!(run(&format!("cat {path}")).0);
        assert_eq!(shim.refusals().unwrap(), 2);
        shim.set_clock_offset_ms(-10 * 365 * 24 * 3_600_000).unwrap();
        let year: i32 = run("date +%Y").1.parse().unwrap();
        assert!((2015..2030).contains(&year) && year < run_year(), "{year}");
    }

    fn run_year() -> i32 {
        use chrono::Datelike;
        chrono::Utc::now().year() - 8
    }
}
