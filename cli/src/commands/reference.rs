//! `adlake ref load creatives | campaigns | fx_rates FILE`: reference data.

pub mod columns;
pub mod rows;

use std::path::{Path, PathBuf};

use adlake_domain::catalogue;
use adlake_lake::{Lake, LoadMode, LoadReport, ReferenceKind};
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tracing::warn;

use crate::commands::{ReportFormat, report};
use crate::options::Global;
use crate::progress::ProgressBars;

/// Reference data.
#[derive(Debug, Subcommand)]
pub enum Reference {
    /// Load a file into a table of reference data
    Load(Load),
}

/// Load a file.
#[derive(Debug, Args)]
#[command(
    after_help = "A running ingest uses new creatives and exchange rates within a minute. Campaigns take effect \
        with the next batch run."
)]
pub struct Load {
    /// The table, with the columns that it takes
    #[arg(value_enum)]
    table: Table,
    /// The file: CSV with a header, JSON (an array), NDJSON or Parquet, according to its extension
    file: PathBuf,
    /// Keep the rows whose keys are not in the file (the default)
    #[arg(long, conflicts_with = "replace")]
    upsert: bool,
    /// Replace the whole table
    #[arg(long)]
    replace: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A table of reference data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Table {
    /// ad_creative_id (or creative_id, id), campaign_id, name, format
    Creatives,
    /// campaign_id (or id), advertiser_id, name, advertiser_name, budget_micros, target_cpa_micros,
    /// target_roas, start_date, end_date
    Campaigns,
    /// day (or date), currency, rate (units of the account currency for one unit of the currency)
    FxRates,
}

/// What was loaded.
#[derive(Debug, Serialize)]
pub struct Loaded {
    table: &'static str,
    #[serde(flatten)]
    report: LoadReport,
    /// Rows that repeat an earlier row of the file.
    repeated_rows: usize,
    /// Columns of the file that the table does not have. They are ignored.
    unknown_columns: Vec<String>,
}

impl Reference {
    /// Runs the command.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let Reference::Load(load) = self;
        let settings = global.load()?.settings;
        let kind = match load.table {
            Table::Creatives => ReferenceKind::Creatives,
            Table::Campaigns => ReferenceKind::Campaigns,
            Table::FxRates => ReferenceKind::FxRates,
        };
        let mode = if load.replace { LoadMode::Replace } else { LoadMode::Upsert };
        let lake = Lake::open(&settings.lake).await?;
        let spinner = progress.spinner(format!("loading {}", load.file.display()));
        let loaded = load_file(&lake, kind, &load.file, mode).await;
        spinner.finish_and_clear();
        report(load.format, &loaded?, |loaded| {
            let LoadReport { rows, total, version } = loaded.report;
            format!("loaded {rows} rows into {}: {total} rows, version {version}\n", loaded.table)
        })
    }
}

/// Loads one file.
pub async fn load_file(lake: &Lake, kind: ReferenceKind, file: &Path, mode: LoadMode) -> Result<Loaded> {
    let table = catalogue::table(kind.table()).with_context(|| format!("there is no table {}", kind.table()))?;
    let columns = columns::Columns::new(kind, table.schema);
    let (path, known) = (file.to_owned(), columns.names());
    let read = tokio::task::spawn_blocking(move || rows::read(&path, &columns))
        .await
        .context("the thread that reads the file has panicked")??;
    let unknown_columns: Vec<String> = read.unknown_columns.into_iter().collect();
    if !unknown_columns.is_empty() {
        let columns = unknown_columns.join(", ");
        warn!(file = %file.display(), columns, known, "the table lacks some columns of the file; they are ignored");
    }
    if let Some(first) = read.repeated.first() {
        warn!(file = %file.display(), rows = read.repeated.len(), first, "the file repeats rows; each counts once");
    }
    let report = lake.load_reference(kind, vec![read.rows], mode).await?;
    Ok(Loaded { table: kind.table(), report, repeated_rows: read.repeated.len(), unknown_columns })
}
