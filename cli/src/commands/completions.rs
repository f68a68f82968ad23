//! `adlake completions SHELL`.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::commands::print;

/// Completions for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to write the script for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Writes them to stdout.
    pub fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "adlake", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}
