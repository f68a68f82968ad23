//! Rewrites small files of a raw table into large ones, ordered by campaign and time.
//!
//! The rows stay the same, so the commit says that it changes no data: the tail, which is what
//! commits have added as new data, does not grow. Only files that the published run covers are
//! rewritten. Appenders do not wait for it: an append that was faster is no conflict.

use adlake_domain::catalogue::Table;
use datafusion::prelude::{SessionContext, ident};
use futures::StreamExt;

use crate::error::LakeError;
use crate::live::LiveFile;
use crate::rewrite::Exchanged;
use crate::storage::Lake;
use crate::write::WriterSettings;

/// The outcome of a rewriting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The new version of the table.
    pub version: u64,
    /// The rows that were rewritten.
    pub rows: u64,
    /// The files that were written in place of the old ones.
    pub files: u64,
}

impl Lake {
    /// Rewrites files of one date into files of the size that `settings` ask for. `None`: another
    /// process has changed the table meanwhile, and nothing was done.
    pub async fn compact(
        &self,
        context: &SessionContext,
        table: &Table,
        old: &[LiveFile],
        settings: &WriterSettings,
    ) -> Result<Option<Compacted>, LakeError> {
        let rewriter = self.rewriter(table).await?;
        let old: Vec<LiveFile> = old.to_vec();
        let is_there = |file: &LiveFile| rewriter.files().iter().any(|live| live.path == file.path);
        if old.is_empty() || !old.iter().all(is_there) {
            return Ok(None);
        }
        let Some(day) = old.first().and_then(LiveFile::day) else { return Ok(None) };
        let paths = old.iter().map(|file| file.path.clone()).collect();
        let rows = self.rows_of_files(context, rewriter.table(), paths, day).await?;
        let order = ["campaign_id", "event_time"].map(|column| ident(column).sort(true, true));
        let mut stream = context.read_table(rows)?.sort(order.to_vec())?.execute_stream().await?;
        let mut writer = rewriter.writer(settings);
        let mut files = Vec::new();
        while let Some(batch) = stream.next().await.transpose()? {
            writer.write(&crate::views::conform(&batch, &rewriter.table().schema)?)?;
            writer.upload_closed(&mut files).await?;
        }
        let rows = writer.rows() as u64;
        files.extend(writer.finish().await?);
        let count = files.len() as u64;
        match rewriter.exchange(&old, files, false).await? {
            Exchanged::Committed { version } => Ok(Some(Compacted { version, rows, files: count })),
            Exchanged::Stale => Ok(None),
        }
    }
}
