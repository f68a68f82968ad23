//! Progress of long work. It is shown on stderr if that is a terminal and `--quiet` is not given.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress bars of the program, and the way for log lines to pass them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProgressBars {
    bars: MultiProgress,
    /// The file that log lines go to while a command uses the whole terminal.
    log: Arc<Mutex<Option<File>>>,
}

impl ProgressBars {
    /// Creates the bars. They are drawn unless `quiet` is set; indicatif draws nothing if stderr is
    /// no terminal.
    pub fn new(quiet: bool) -> ProgressBars {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        ProgressBars { bars: MultiProgress::with_draw_target(target), log: Arc::default() }
    }

    /// Writes log lines: to stderr above the bars, or to the file that replaces stderr.
    pub fn log(&self, lines: &[u8]) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure to write the log cannot be logged.
        let _ = match log.as_mut() {
            Some(file) => file.write_all(lines),
            None => self.bars.suspend(|| io::stderr().write_all(lines)),
        };
    }

    /// Sends log lines to a file, or back to stderr if `file` is `None`.
    pub fn log_to(&self, file: Option<File>) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// A bar for work of a known length.
    pub fn bar(&self, length: u64, unit: &str) -> ProgressBar {
        let template = format!("{{msg}} {{bar:30}} {{human_pos}}/{{human_len}} {unit} ({{per_sec}}, {{eta}} left)");
        self.add(ProgressBar::new(length), &template)
    }

    /// A spinner for work of an unknown length.
    pub fn spinner(&self, message: impl Into<Cow<'static, str>>) -> ProgressBar {
        let spinner = self.add(ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})");
        spinner.set_message(message);
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    fn add(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        let bar = self.bars.add(bar);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}
