//! Shows the dashboard. On a terminal it uses the whole screen and redraws it in place; otherwise
//! it writes a line every few seconds.

use std::io::{IsTerminal, Stdout, Write, stdout};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, size,
};
use crossterm::{execute, queue};

use crate::demo::dashboard::Dashboard;

/// How often a line is written if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
const HEIGHT: u16 = 24;

/// The place where the dashboard is shown.
pub struct Screen {
    out: Stdout,
    terminal: bool,
    last_line: Option<Instant>,
}

impl Screen {
    /// Takes over the terminal, if there is one and `plain` is not set.
    pub fn open(plain: bool) -> Result<Screen> {
        let mut out = stdout();
        let terminal = !plain && out.is_terminal();
        if terminal {
            execute!(out, EnterAlternateScreen, Hide, DisableLineWrap)?;
        }
        Ok(Screen { out, terminal, last_line: None })
    }

    /// Whether the demo uses the whole terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows the dashboard.
    pub fn show(&mut self, dashboard: &Dashboard) -> Result<()> {
        if !self.terminal {
            if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                self.last_line = Some(Instant::now());
                writeln!(self.out, "{}", dashboard.line())?;
            }
            return Ok(());
        }
        let (_, height) = size().unwrap_or((80, HEIGHT));
        queue!(self.out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        for line in dashboard.lines(usize::from(height)) {
            queue!(self.out, Print(line), Clear(ClearType::UntilNewLine), Print("\r\n"))?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        Ok(self.out.flush()?)
    }

    /// Gives the terminal back.
    pub fn close(&mut self) -> Result<()> {
        if self.terminal {
            self.terminal = false;
            execute!(self.out, EnableLineWrap, Show, LeaveAlternateScreen)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // An error of the terminal at the very end cannot be shown anywhere.
        let _ = self.close();
    }
}
