//! `adlake completions SHELL`.

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::commands::print;

/// Completions for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to write the script for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Writes the completions of the command line to stdout.
    pub fn run(&self, mut command_line: Command) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command_line, "adlake", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}
