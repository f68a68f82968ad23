//! `adlake status`: the tables of the lake, their versions, logs and rows, freshness, the published
//! batch run; and what should be done.

mod advice;
mod facts;

use adlake_batch_layer::jobs::compactable;
use adlake_batch_layer::planned;
use adlake_domain::catalogue;
use adlake_lake::manifest::Manifest;
use adlake_lake::{Lake, LakeError};
use adlake_serving::QueryEngine;
use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::Args;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde::Serialize;

use self::advice::{Advice, Limits, Urgency, advise};
use self::facts::Facts;
use crate::commands::{ReportFormat, report};
use crate::failure::{NotMet, batch_error, query_error};
use crate::options::Global;
use crate::output::cell;

/// The state of the lake.
#[derive(Debug, Args)]
pub struct Status {
    /// The format of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
    /// Also ask the brokers how many records are not ingested yet
    #[arg(long)]
    lag: bool,
    /// Fail with exit code 3 if there is a problem: for schedulers and probes
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    limits: Limits,
}

/// The state of the lake.
#[derive(Debug, Serialize)]
struct State {
    lake: String,
    tables: Vec<Table>,
    /// Absent before the first run.
    batch_run: Option<Run>,
    /// The rows of the view `freshness`.
    freshness: Vec<serde_json::Map<String, serde_json::Value>>,
    /// What the advice is made from.
    facts: Facts,
    /// What should be done, the most urgent first.
    advice: Vec<Advice>,
}

#[derive(Debug, Serialize)]
struct Table {
    table: &'static str,
    /// Absent if there is no such table.
    version: Option<u64>,
    rows: Option<usize>,
    /// The table version that the published batch run covers or wrote.
    published_version: Option<u64>,
    /// The version of the last checkpoint.
    checkpoint: Option<u64>,
    /// The number of files in the log.
    log_files: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Run {
    run: i64,
    run_id: String,
    published_at: String,
}

impl Status {
    /// Reads the state and prints it. A place without a lake is an error.
    pub async fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        let context = settings.query.session.context()?;
        let manifest = Manifest::latest(&lake, &context).await?;
        let tables = tables(&lake, &context, manifest.as_ref()).await?;
        if tables.iter().all(|table| table.version.is_none()) {
            let detail =
                format!("there is no lake at {}: create one with `adlake ingest` or `adlake demo`", lake.root());
            return Err(LakeError::NotFound(detail).into());
        }
        let log_files = tables.iter().filter_map(|table| Some((table.table.to_owned(), table.log_files?)));
        let mut facts = Facts { log_files: log_files.collect(), ..Facts::default() };
        // Which rows are new does not depend on the configuration here: a run of another one may be
        // published.
        let meaning = manifest.as_ref().map_or_else(|| settings.meaning(), |manifest| manifest.meaning.clone());
        let next = planned(&lake, &meaning, &settings.batch, false).await.map_err(batch_error)?;
        facts.take_run(manifest.as_ref(), next);
        let raw_is_there = tables.iter().any(|table| table.version.is_some() && table.table.starts_with("raw/"));
        let mut freshness = Vec::new();
        if raw_is_there {
            let (meaning, display) = (settings.meaning(), settings.display());
            let engine = QueryEngine::open(&lake, &settings.query, &meaning, &display).await.map_err(query_error)?;
            freshness = rows(&engine, "SELECT * FROM freshness").await?;
            facts.newest_ingested_at = freshness.iter().filter_map(|row| time(&row["newest_ingested_at"])).max();
            facts.take_quality(&engine).await?;
        }
        let version_of = |name: &str| tables.iter().find(|table| table.table == name).and_then(|table| table.version);
        if let Some(version) = version_of(catalogue::ALARMS) {
            facts.take_alarms(&lake, &settings, version).await?;
        }
        facts.small_files = compactable(&lake, &settings.batch).await.map_err(batch_error)?;
        facts.take_letters(&lake, &context, self.limits.letters_window).await?;
        facts.jobs = lake.job_notes().await?;
        if self.lag {
            facts.take_lag(&lake, &settings).await?;
        }
        let batch_run = manifest.map(|manifest| Run {
            run: manifest.run,
            run_id: manifest.run_id,
            published_at: chrono::DateTime::from_timestamp_micros(manifest.published_at)
                .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
                .unwrap_or_default(),
        });
        let advice = advise(&facts, &self.limits, Utc::now());
        let problems = advice.iter().filter(|advice| advice.urgency == Urgency::Problem).count();
        let state = State { lake: lake.root().to_string(), tables, batch_run, freshness, facts, advice };
        report(self.format, &state, text)?;
        match problems {
            1 if self.check => Err(NotMet("there is a problem".to_owned()).into()),
            2.. if self.check => Err(NotMet(format!("there are {problems} problems")).into()),
            _ => Ok(()),
        }
    }
}

fn time(value: &serde_json::Value) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(value.as_str()?).ok()?.with_timezone(&Utc))
}

async fn tables(lake: &Lake, context: &SessionContext, manifest: Option<&Manifest>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for table in catalogue::tables() {
        let log = lake.log_state(table.name).await?;
        let version = log.as_ref().map(|log| log.version);
        let rows = match version {
            Some(version) => {
                let provider = lake.provider(table.name, version).await?;
                let frame = context.read_table(provider).map_err(LakeError::from)?;
                Some(frame.count().await.map_err(LakeError::from)?)
            }
            None => None,
        };
        let published_version = manifest.and_then(|manifest| manifest.version(table.name));
        let checkpoint = log.as_ref().and_then(|log| log.checkpoint);
        let log_files = log.map(|log| log.files);
        tables.push(Table { table: table.name, version, rows, published_version, checkpoint, log_files });
    }
    Ok(tables)
}

/// The rows of an answer as JSON.
async fn rows(engine: &QueryEngine, sql: &str) -> Result<Vec<serde_json::Map<String, serde_json::Value>>> {
    let stream = engine.query(sql).await.map_err(query_error)?;
    let schema = stream.schema();
    let batches: Vec<_> = stream.try_collect().await.map_err(LakeError::from)?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let mut object = serde_json::Map::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let mut text = String::new();
                cell::json(&mut text, column, row);
                object.insert(field.name().clone(), serde_json::from_str(&text)?);
            }
            rows.push(object);
        }
    }
    Ok(rows)
}

fn text(state: &State) -> String {
    let mut text = format!("lake {}\n", state.lake);
    match &state.batch_run {
        Some(run) => text.push_str(&format!("batch run {} published at {}\n", run.run, run.published_at)),
        None => text.push_str("no batch run published yet\n"),
    }
    let [table, version, published] = ["table", "version", "published"];
    let [checkpoint, log, rows] = ["checkpoint", "log files", "rows"];
    text.push_str(&format!("\n{table:<24}  {version:>8}  {published:>9}  {checkpoint:>10}  {log:>9}  {rows:>14}\n"));
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    for table in &state.tables {
        let rows = number(table.rows.map(|rows| rows as u64));
        let (version, published) = (number(table.version), number(table.published_version));
        let (checkpoint, log) = (number(table.checkpoint), number(table.log_files));
        text.push_str(&format!(
            "{:<24}  {version:>8}  {published:>9}  {checkpoint:>10}  {log:>9}  {rows:>14}\n",
            table.table
        ));
    }
    if !state.freshness.is_empty() {
        text.push_str("\nfreshness\n");
        for row in &state.freshness {
            let cells: Vec<String> = row
                .iter()
                .map(|(name, value)| match value {
                    serde_json::Value::String(value) => format!("{name} {value}"),
                    value => format!("{name} {value}"),
                })
                .collect();
            text.push_str(&format!("  {}\n", cells.join(", ")));
        }
    }
    for lag in state.facts.lag.iter().flatten() {
        text.push_str(&format!("\nlag of {}: {} records", lag.topic, lag.records));
    }
    text.push_str(if state.advice.is_empty() { "\nnothing is to be done\n" } else { "\nto be done\n" });
    for Advice { urgency, detail, remedy, .. } in &state.advice {
        let urgency = if *urgency == Urgency::Problem { "PROBLEM" } else { "warning" };
        text.push_str(&format!("  {urgency}  {detail}\n           -> {remedy}\n"));
    }
    text
}
