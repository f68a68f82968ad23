//! `adlake deadletters list`: counts dead letters per reason, or lists them one by one.

use adlake_lake::letters::LetterState;
use adlake_lake::{Lake, LakeError};
use anyhow::Result;
use clap::{Args, ValueEnum};
use futures::StreamExt;

use super::filter::FilterOptions;
use crate::config::Settings;
use crate::output::{Format, writer};

/// Count or list dead letters.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: FilterOptions,
    /// Only the letters in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// List the letters one by one, the newest first, instead of counting them
    #[arg(long)]
    rows: bool,
    /// List at most this many lines [default: 100 with --rows, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The format of the list
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Not a row yet: never replayed, claimed by a replay, or rejected again by one
    Open,
    /// A row now: a replay has accepted it
    Replayed,
}

/// The number of rows if the user does not give one.
const ROWS: usize = 100;

/// Per table, topic and reason.
const COUNTS: &str = "SELECT kind, source['topic'] AS topic, reason, count(*) AS letters, \
    count(*) FILTER (WHERE replay_outcome = 'replayed') AS replayed, \
    count(*) FILTER (WHERE replay_outcome IS NOT NULL AND replay_outcome <> 'replayed') AS rejected_again, \
    count(*) FILTER (WHERE replay_id IS NOT NULL AND replay_outcome IS NULL) AS claimed, \
    min(ingested_at) AS first_at, max(ingested_at) AS last_at \
    FROM letters GROUP BY 1, 2, 3 ORDER BY letters DESC, kind, topic, reason";

const LETTERS: &str = "SELECT ingested_at, kind, source['topic'] AS topic, source['partition'] AS \"partition\", \
    source['offset'] AS \"offset\", reason, detail, octet_length(encode(payload, 'hex')) / 2 AS bytes, replay_outcome, \
    replay_detail, replayed_at \
    FROM letters ORDER BY ingested_at DESC, topic, \"partition\", \"offset\"";

impl List {
    /// Writes it to stdout.
    pub async fn run(self, lake: &Lake, settings: &Settings) -> Result<()> {
        let state = self.state.map(|state| match state {
            State::Open => LetterState::Open,
            State::Replayed => LetterState::Replayed,
        });
        let context = settings.query.session.context()?;
        let letters = lake.dead_letters(&context, &self.filter.filter(state)).await?;
        context.register_table("letters", letters.into_view()).map_err(LakeError::from)?;
        let (sql, limit) = match self.rows {
            true => (LETTERS, Some(self.limit.unwrap_or(ROWS))),
            false => (COUNTS, self.limit),
        };
        let lines = context.sql(sql).await.map_err(LakeError::from)?;
        let lines = lines.limit(0, limit).map_err(LakeError::from)?;
        let mut batches = lines.execute_stream().await.map_err(LakeError::from)?;
        let stdout = std::io::stdout();
        let mut writer = writer(self.format, &batches.schema(), stdout.lock())?;
        while let Some(batch) = batches.next().await {
            writer.write(&batch.map_err(LakeError::from)?)?;
        }
        writer.finish()
    }
}
