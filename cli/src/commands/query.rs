//! `adlake query "SQL"`: the merged views from the command line.

use std::io::Read;
use std::path::PathBuf;

use adlake_lake::Lake;
use adlake_serving::QueryEngine;
use anyhow::{Context, Error, Result};
use arrow::record_batch::RecordBatch;
use clap::Args;
use futures::StreamExt;
use tracing::Instrument;

use crate::config::Settings;
use crate::failure::{query_error, usage};
use crate::options::Global;
use crate::output::{Format, writer};

/// A question in SQL.
#[derive(Debug, Args)]
pub struct Query {
    /// The SQL statement; - reads it from stdin
    #[arg(value_name = "SQL", required_unless_present = "file")]
    sql: Option<String>,
    /// Read the statement from this file
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    file: Option<PathBuf>,
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Query {
    /// Writes the answer to stdout, row by row.
    pub async fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        let sql = self.statement()?;
        let span = adlake_telemetry::span!("query");
        let done = self.answer(&settings, &sql).instrument(span.clone()).await;
        if let Err(error) = &done {
            adlake_telemetry::fail(&span, error);
        }
        done
    }

    async fn answer(&self, settings: &Settings, sql: &str) -> Result<()> {
        let engine = engine(settings).await?;
        let mut rows = engine.query(sql).await.map_err(query_error)?;
        let stdout = std::io::stdout();
        let mut writer = writer(self.format, &rows.schema(), stdout.lock())?;
        while let Some(batch) = rows.next().await {
            let batch: RecordBatch = batch.map_err(|error| Error::new(adlake_lake::LakeError::from(error)))?;
            writer.write(&batch)?;
        }
        writer.finish()
    }

    fn statement(&self) -> Result<String> {
        let text = match (&self.file, self.sql.as_deref()) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(|error| usage(format!("cannot read {}: {error}", file.display())))?,
            (None, Some("-")) => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read the statement from stdin")?;
                text
            }
            (None, sql) => sql.unwrap_or_default().to_owned(),
        };
        let text = text.trim().trim_end_matches(';').trim_end();
        if text.is_empty() {
            return Err(usage("the statement is empty: try adlake query \"SELECT * FROM campaign_kpis\""));
        }
        Ok(text.to_owned())
    }
}

/// The engine over the configured lake.
pub async fn engine(settings: &Settings) -> Result<QueryEngine> {
    let lake = Lake::open(&settings.lake).await?;
    QueryEngine::open(&lake, &settings.query, &settings.meaning(), &settings.display()).await.map_err(query_error)
}
