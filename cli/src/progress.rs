//! Progress of long work, on stderr, where that is a terminal and nobody asked for quiet.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bars of the program; cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// Bars, drawn unless `quiet`; indicatif draws nothing by itself where stderr is no terminal.
    pub fn new(quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Progress { bars: MultiProgress::with_draw_target(target) }
    }

    /// Does something that writes to the terminal, with the bars out of the way.
    pub fn aside(&self, write: impl FnOnce()) {
        self.bars.suspend(write);
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
