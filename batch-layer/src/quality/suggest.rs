//! Proposes expectations from what a table holds: a start to be read and changed, not a truth.
//!
//! One scan counts rows, NULLs, different values, least and greatest values of all columns. Columns
//! that may be unique, and texts with few values, are looked at once more.

use std::fmt::Write;

use adlake_domain::catalogue;
use adlake_domain::settings::{Display, Meaning};
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::{VIEWS, Views};
use adlake_lake::{Lake, LakeError};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;

use super::expectation::identifier;
use crate::error::BatchError;
use crate::settings::BatchSettings;

/// The most different values of a column for which all are proposed.
const VALUES_MAX: usize = 20;
/// A value is proposed as one of a set only if a table has this many rows for each value.
const ROWS_PER_VALUE: u64 = 20;
/// Columns of random bytes and nested ones, and those that only say where a row came from.
const PASSED_OVER: [&str; 4] = ["source", "attributes", "enriched", "reach_sketch"];

/// What a column holds.
#[derive(Debug, Clone)]
struct Profile {
    name: String,
    data_type: DataType,
    values: u64,
    distinct: u64,
    least: Option<String>,
    greatest: Option<String>,
}

/// Expectations of a table or view as TOML, from the rows that it has now.
pub async fn suggest(
    lake: &Lake,
    meaning: &Meaning,
    settings: &BatchSettings,
    display: &Display,
    table: &str,
) -> Result<String, BatchError> {
    lake.retry(|| async {
        let context = settings.session.context()?;
        let snapshot = Snapshot::take(lake, &context, meaning).await?;
        let wanted = std::collections::BTreeSet::from([table.to_string()]);
        let views = Views::prepare(&context, &snapshot, display, &wanted).await?;
        views.register(&context)?;
        if !VIEWS.contains(&table) {
            let is_published = table.starts_with("batch/") && table != catalogue::QUALITY;
            let provider = match is_published {
                true => snapshot.published_table(table).await?,
                false => snapshot.newest_table(table).await?,
            };
            let missing = || {
                let views = VIEWS.join(", ");
                LakeError::NotFound(format!("there is no view or table {table:?} with rows; the views are {views}"))
            };
            let provider = provider.ok_or_else(missing)?;
            context.register_table(TableReference::bare(table), provider).map_err(LakeError::from)?;
        }
        proposed(&context, table).await
    })
    .await
}

async fn proposed(context: &SessionContext, table: &str) -> Result<String, BatchError> {
    let frame = context.table(TableReference::bare(table)).await?;
    let fields: Vec<(String, DataType)> = frame
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .filter(|(name, data_type)| {
            !PASSED_OVER.contains(&name.as_str()) && !data_type.is_nested() && *data_type != DataType::Binary
        })
        .collect();
    let mut aggregates = vec!["CAST(count(*) AS BIGINT) AS rows".to_string()];
    for (place, (name, _)) in fields.iter().enumerate() {
        let column = identifier(name);
        aggregates.push(format!("count({column}) AS v{place}"));
        aggregates.push(format!("approx_distinct(CAST({column} AS VARCHAR)) AS d{place}"));
        aggregates.push(format!("min({column}) AS l{place}"));
        aggregates.push(format!("max({column}) AS g{place}"));
    }
    let batches = rows(context, &format!("SELECT {} FROM {}", aggregates.join(", "), identifier(table))).await?;
    let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(String::new()) };
    let number = |place: usize| cell(row, place, 0).map(|cell| cell.and_then(|text| text.parse().ok()).unwrap_or(0));
    let all: u64 = number(0)?;
    let mut text = format!(
        "# Proposed by `adlake batch check --suggest {table}` from {all} rows. Read it, change it, and name the file \
         in quality.expectations.\n"
    );
    if all == 0 {
        text.push_str("# The table has no rows, so nothing is known of it.\n");
        return Ok(text);
    }
    entry(&mut text, table, None, "row_count", &["min = 1"]);
    for (place, (name, data_type)) in fields.into_iter().enumerate() {
        let at = 1 + 4 * place;
        let (least, greatest) = (cell(row, at + 2, 0)?, cell(row, at + 3, 0)?);
        let (values, distinct) = (number(at)?, number(at + 1)?);
        let profile = Profile { name, data_type, values, distinct, least, greatest };
        column(context, &mut text, table, all, &profile).await?;
    }
    Ok(text)
}

/// Writes what is proposed for a column.
async fn column(
    context: &SessionContext,
    text: &mut String,
    table: &str,
    all: u64,
    profile: &Profile,
) -> Result<(), BatchError> {
    let Profile { name, data_type, values, distinct, least, greatest } = profile;
    let column = Some(name.as_str());
    if *values == 0 {
        let _ = writeln!(text, "\n# {name}: all values are NULL.");
        return Ok(());
    }
    if *values == all {
        entry(text, table, column, "not_null", &[]);
    } else {
        // A little less than today, so that tomorrow is not reported.
        let share = *values as f64 / all as f64;
        let min = ((share - 0.02).max(0.0) * 100.0).floor() / 100.0;
        if min > 0.0 {
            entry(text, table, column, "completeness", &[&format!("min = {min:?}")]);
        }
    }
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let few = *distinct as usize <= VALUES_MAX && *values >= distinct * ROWS_PER_VALUE;
    if is_text && few {
        let quoted = identifier(name);
        let sql = format!(
            "SELECT DISTINCT {quoted} FROM {} WHERE {quoted} IS NOT NULL ORDER BY 1 LIMIT {}",
            identifier(table),
            VALUES_MAX + 1
        );
        let mut found = Vec::new();
        for batch in rows(context, &sql).await? {
            for row in 0..batch.num_rows() {
                found.extend(cell(&batch, 0, row)?.map(|value| toml_text(&value)));
            }
        }
        if found.len() <= VALUES_MAX {
            let values = format!("values = [{}]", found.join(", "));
            entry(text, table, column, "accepted_values", &[&values, "max_fraction = 0.001"]);
        }
    }
    if data_type.is_numeric() {
        let limits: Vec<String> = [("min", least), ("max", greatest)]
            .into_iter()
            .filter_map(|(key, limit)| {
                let limit: f64 = limit.as_deref()?.parse().ok()?;
                let limit = if key == "min" && limit >= 0.0 { 0.0 } else { limit };
                Some(format!("{key} = {}", number_text(limit)))
            })
            .collect();
        let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
        entry(text, table, column, "range", &limits);
    }
    // The sketch is off by a few percent, so it is counted exactly.
    if (is_text || data_type.is_integer()) && *values >= 100 && *distinct as f64 > *values as f64 * 0.9 {
        let quoted = identifier(name);
        let sql = format!("SELECT count(DISTINCT {quoted}) AS n FROM {}", identifier(table));
        let exact = rows(context, &sql).await?;
        let exact = exact.first().map(|batch| cell(batch, 0, 0)).transpose()?.flatten();
        if exact.and_then(|text| text.parse::<u64>().ok()) == Some(*values) {
            entry(text, table, column, "unique", &[]);
        }
    }
    if matches!(data_type, DataType::Timestamp(..)) && ["event_time", "ingested_at", "hour"].contains(&name.as_str()) {
        let newest = greatest.as_deref().unwrap_or_default();
        let _ = writeln!(text, "\n# The newest is {newest}.");
        entry(text, table, column, "freshness", &["max_age = \"24h\""]);
    }
    Ok(())
}

fn entry(text: &mut String, table: &str, column: Option<&str>, kind: &str, lines: &[&str]) {
    let _ = write!(text, "\n[[expectation]]\ntype = \"{kind}\"\ntable = {}\n", toml_text(table));
    if let Some(column) = column {
        let _ = writeln!(text, "column = {}", toml_text(column));
    }
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("severity = \"warn\"\n");
}

/// A text as TOML.
fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { format!("{number:?}") }
}

async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, BatchError> {
    Ok(context.sql(sql).await?.collect().await?)
}

fn cell(batch: &RecordBatch, place: usize, row: usize) -> Result<Option<String>, BatchError> {
    let column = batch.column(place);
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default());
    let formatter = formatter.map_err(|error| BatchError::rows("suggestions", error))?;
    Ok((!column.is_null(row)).then(|| formatter.value(row).to_string()))
}
