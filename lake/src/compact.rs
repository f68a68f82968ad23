//! Rewrites small files of a raw table into large ones, ordered by campaign and time.
//!
//! The rows stay the same, so the commit says that it changes no data: the tail, which is what
//! commits have added as new data, does not grow. Only files that the published run covers are
//! rewritten. Appenders do not wait for it: an append that was faster is no conflict.

use adlake_domain::catalogue::Table;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::error::LakeError;
use crate::live::LiveFile;
use crate::rewrite::Exchanged;
use crate::snapshot::parquet_files;
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
        let partition = table.partition_columns.first().copied().unwrap_or_default();
        let schema = rewriter.schema();
        let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != partition).cloned().collect();
        let in_files = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        let paths = old.iter().map(|file| file.path.clone()).collect();
        let rows = parquet_files(context, self, table.name, paths, in_files).await?;
        let columns: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| match field.name() {
                name if name == partition => format!("CAST({day} AS DATE) AS \"{name}\""),
                name => format!("\"{name}\""),
            })
            .collect();
        let name = format!("compacted_{}", uuid::Uuid::new_v4().simple());
        context.register_table(&name, rows)?;
        let sql = format!(
            "SELECT {} FROM {name} ORDER BY campaign_id NULLS FIRST, event_time NULLS FIRST",
            columns.join(", ")
        );
        let mut stream = context.sql(&sql).await?.execute_stream().await?;
        context.deregister_table(&name)?;
        let mut writer = rewriter.writer(settings);
        let mut files = Vec::new();
        while let Some(batch) = stream.next().await.transpose()? {
            writer.write(&crate::views::conform(&batch, &schema)?)?;
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
