//! Progress of long work, on stderr, where that is a terminal and nobody asked for quiet.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bars of the program, and the way of log lines past them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    bars: MultiProgress,
    /// Where log lines go while the whole terminal is taken.
    log: Arc<Mutex<Option<File>>>,
}

impl Progress {
    /// Bars, drawn unless `quiet`; indicatif draws nothing by itself where stderr is no terminal.
    pub fn new(quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Progress { bars: MultiProgress::with_draw_target(target), log: Arc::default() }
    }

    /// Writes log lines: to stderr, above the bars, or to the file that has taken stderr's place.
    pub fn log(&self, lines: &[u8]) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written has nowhere to be told.
        let _ = match log.as_mut() {
            Some(file) => file.write_all(lines),
            None => self.bars.suspend(|| io::stderr().write_all(lines)),
        };
    }

    /// Sends log lines to a file, or with `None` to stderr again.
    pub fn log_to(&self, file: Option<File>) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// A bar towards a known end.
    pub fn bar(&self, length: u64, unit: &str) -> ProgressBar {
        let template = format!("{{msg}} {{bar:30}} {{human_pos}}/{{human_len}} {unit} ({{per_sec}}, {{eta}} left)");
        self.add(ProgressBar::new(length), &template)
    }

    /// A spinner for work without a known end.
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
