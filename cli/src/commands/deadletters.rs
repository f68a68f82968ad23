//! `adlake deadletters list | show | replay`: shows rejected records and replays them.

mod list;
mod replay;
mod show;
mod wanted;

use adlake_lake::Lake;
use anyhow::Result;
use clap::Subcommand;

use crate::arguments::Global;
use crate::progress::ProgressBars;

/// Rejected records.
#[derive(Debug, Subcommand)]
pub enum Deadletters {
    /// Count them by table and reason, or list them one by one
    List(list::List),
    /// One of them, with its bytes
    Show(show::Show),
    /// Decode them again, with today's configuration and reference data; the good ones become rows,
    /// once
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
