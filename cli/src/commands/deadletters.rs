//! `adlake deadletters list | show | replay`: shows rejected records and replays them.

mod filter;
mod list;
mod show;
mod replay;

use adlake_lake::Lake;
use anyhow::Result;
use clap::Subcommand;

use crate::options::Global;
use crate::progress::ProgressBars;

/// Rejected records.
#[derive(Debug, Subcommand)]
pub enum Deadletters {
    /// Count dead letters by table, topic and reason, or list them one by one
    List(list::List),
    /// Show one dead letter with the bytes that were sent
    Show(show::Show),
    /// Decode dead letters again, with today's configuration and reference data; those that are
    /// accepted become rows, once
    Replay(replay::Replay),
}

impl Deadletters {
    /// Runs the command.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        match self {
            Deadletters::List(list) => list.run(&lake, &settings).await,
            Deadletters::Show(show) => show.run(&lake, &settings).await,
            Deadletters::Replay(replay) => replay.run(&lake, &settings, progress).await,
        }
    }
}
