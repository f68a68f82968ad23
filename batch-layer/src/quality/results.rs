//! The rows of `batch/quality`: written once per check, read for comparisons with earlier runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::batch_schema::quality_schema;
use adlake_domain::catalogue::QUALITY;
use adlake_lake::{Lake, LakeError, WriterSettings};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::prelude::SessionContext;

use super::expectation::{Check, Expectation};
use super::verdict::Past;
use crate::error::BatchError;
use crate::quality_report::{Outcome, QualityReport};

/// When the table has more files than this, they are rewritten into one.
pub(super) const FILES_MAX: usize = 200;

/// Appends the results of a check.
pub async fn append(lake: &Lake, report: &QualityReport) -> Result<(), BatchError> {
    if report.outcomes.is_empty() {
        return Ok(());
    }
    let rows = rows(report)?;
    lake.retry(|| async {
        let mut appender = lake.appender(QUALITY).await?;
        let mut writer = appender.writer(&WriterSettings::default());
        writer.write(&rows)?;
        let files = writer.finish().await?;
        appender.commit(files, Vec::new()).await
    })
    .await?;
    Ok(())
}

/// Rewrites the table into one file if it has many. A check that appends meanwhile wins, and the
/// next one rewrites.
pub(super) async fn tidy(lake: &Lake, context: &SessionContext) -> Result<(), BatchError> {
    let Some(version) = lake.newest_version(QUALITY).await? else { return Ok(()) };
    if lake.files_at(QUALITY, version).await?.len() <= FILES_MAX {
        return Ok(());
    }
    let replacer = lake.replacer_from(QUALITY, version).await?;
    let table = lake.provider(QUALITY, version).await?;
    let batches = context.read_table(table).map_err(LakeError::from)?.collect().await.map_err(LakeError::from)?;
    let mut writer = replacer.writer(&WriterSettings::default());
    let schema = quality_schema();
    for batch in &batches {
        // The fields of a table that is read carry their comments.
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>();
        let rows = columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns));
        writer.write(&rows.map_err(|error| BatchError::rows(QUALITY, error))?)?;
    }
    let files = writer.finish().await?;
    match replacer.commit(files).await {
        Ok(_) | Err(LakeError::Superseded(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// By expectation of drift: the results of the runs that were published last, the newest first.
pub(super) async fn past(
    lake: &Lake,
    context: &SessionContext,
    expectations: &[Expectation],
) -> Result<BTreeMap<String, Vec<Past>>, BatchError> {
    let mut past: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    let drifts = expectations.iter().filter(|one| matches!(one.check, Check::Drift { .. }));
    let wanted: BTreeMap<&str, usize> = drifts
        .map(|one| match one.check {
            Check::Drift { runs, .. } => (one.name.as_str(), runs),
            _ => (one.name.as_str(), 0),
        })
        .collect();
    let (Some(version), false) = (lake.newest_version(QUALITY).await?, wanted.is_empty()) else { return Ok(past) };
    let table = lake.provider(QUALITY, version).await?;
    // A check of its own may be repeated over the same rows, and what was refused is no model.
    let condition = "kind = 'drift' AND status <> 'error' AND decision IN ('publish', 'publish_anyway')";
    let frame = context.read_table(table).map_err(LakeError::from)?;
    let condition = frame.parse_sql_expr(condition).map_err(LakeError::from)?;
    let frame = frame.filter(condition).map_err(LakeError::from)?;
    let frame = frame.select_columns(&["expectation", "observed", "distribution", "checked_at"]);
    let newest = datafusion::prelude::col("checked_at").sort(false, false);
    let sorted = frame.and_then(|frame| frame.sort(vec![newest])).map_err(LakeError::from)?;
    let batches = sorted.collect().await.map_err(LakeError::from)?;
    for batch in &batches {
        let text = |place: usize| {
            let column = arrow::compute::cast(batch.column(place), &DataType::Utf8);
            column.map_err(|error| BatchError::rows(QUALITY, error))
        };
        let (names, shares) = (text(0)?, text(2)?);
        let observed = batch.column(1).as_primitive_opt::<Float64Type>();
        for row in 0..batch.num_rows() {
            let name = names.as_string::<i32>().value(row);
            let Some(runs) = wanted.get(name) else { continue };
            let results = past.entry(name.to_string()).or_default();
            if results.len() < *runs {
                let shares = shares.as_string::<i32>();
                results.push(Past {
                    observed: observed.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
                    shares: shares.is_valid(row).then(|| serde_json::from_str(shares.value(row)).ok()).flatten(),
                });
            }
        }
    }
    Ok(past)
}

fn rows(report: &QualityReport) -> Result<RecordBatch, BatchError> {
    let outcomes = &report.outcomes;
    let count = outcomes.len();
    let texts = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let same = |value: Option<&str>| texts(vec![value.map(str::to_string); count]);
    let shares = |outcome: &Outcome| {
        outcome.shares.as_ref().map(serde_json::to_string).transpose().map_err(|error| BatchError::rows(QUALITY, error))
    };
    let columns: Vec<ArrayRef> = vec![
        same(Some(&report.check_id)),
        Arc::new(
            TimestampMicrosecondArray::from(vec![report.checked_at.timestamp_micros(); count]).with_timezone("UTC"),
        ),
        Arc::new(Int64Array::from(vec![report.run; count])),
        same(Some(report.decision.name())),
        same(report.decided_by.as_deref()),
        texts(outcomes.iter().map(|outcome| Some(outcome.expectation.clone())).collect()),
        texts(outcomes.iter().map(|outcome| Some(outcome.kind.to_string())).collect()),
        texts(outcomes.iter().map(|outcome| Some(outcome.table.clone()).filter(|name| !name.is_empty())).collect()),
        texts(outcomes.iter().map(|outcome| outcome.column.clone()).collect()),
        texts(outcomes.iter().map(|outcome| Some(outcome.severity.name().to_string())).collect()),
        texts(outcomes.iter().map(|outcome| Some(outcome.status.name().to_string())).collect()),
        Arc::new(Float64Array::from(outcomes.iter().map(|outcome| outcome.observed).collect::<Vec<_>>())),
        texts(outcomes.iter().map(|outcome| Some(outcome.expected.clone())).collect()),
        Arc::new(Int64Array::from(outcomes.iter().map(|outcome| outcome.checked_rows as i64).collect::<Vec<_>>())),
        Arc::new(Int64Array::from(outcomes.iter().map(|outcome| outcome.violating_rows as i64).collect::<Vec<_>>())),
        texts(outcomes.iter().map(|outcome| outcome.note.clone()).collect()),
        texts(outcomes.iter().map(shares).collect::<Result<_, _>>()?),
        texts(outcomes.iter().map(|outcome| outcome.owner.clone()).collect()),
        texts(outcomes.iter().map(|outcome| outcome.description.clone()).collect()),
    ];
    RecordBatch::try_new(quality_schema(), columns).map_err(|error| BatchError::rows(QUALITY, error))
}
