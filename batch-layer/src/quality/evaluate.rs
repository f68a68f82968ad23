//! Evaluates expectations over one snapshot.
//!
//! The views and tables that they name are registered once. Column expectations of one table and
//! `where` are one scan. An expectation that cannot be planned (a column that is not there), or
//! that fails while it runs, is an error of its own: the others are evaluated all the same. An
//! outage is no result; it is retried, and then returned.

use std::collections::{BTreeMap, BTreeSet};

use adlake_domain::catalogue;
use adlake_domain::settings::Display;
use adlake_lake::LakeError;
use adlake_lake::retry::Retryable;
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::{VIEWS, Views};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Utc};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;

use super::expectation::{Check, Expectation, Source, identifier};
use super::plan::{self, Shape, Work};
use super::verdict::{Counted, Past, Verdict, verdict};
use crate::error::BatchError;
use crate::quality_report::{Examples, Outcome, Severity, Status};

/// The most characters of a value of an example.
const EXAMPLE_CHARACTERS_MAX: usize = 120;

/// What expectations are evaluated over.
pub(super) struct Evaluation<'a> {
    pub context: &'a SessionContext,
    pub snapshot: &'a Snapshot,
    pub display: &'a Display,
    pub examples_max: usize,
    pub now: DateTime<Utc>,
    /// By expectation: the results of earlier published runs, the newest first.
    pub past: &'a BTreeMap<String, Vec<Past>>,
}

/// An expectation and how it is evaluated.
struct Planned<'a> {
    expectation: &'a Expectation,
    shape: Shape,
    work: Work,
}

impl Evaluation<'_> {
    /// The results, the worst first.
    pub async fn outcomes(&self, expectations: &[Expectation]) -> Result<Vec<Outcome>, BatchError> {
        // The views' temporary files are there until the last expectation is evaluated.
        let _views = self.register(expectations).await?;
        let mut outcomes = Vec::new();
        let mut scans: BTreeMap<&Source, Vec<Planned<'_>>> = BTreeMap::new();
        for expectation in expectations {
            match self.planned(expectation).await {
                Ok(planned) if matches!(planned.work, Work::Scan(_)) => {
                    scans.entry(&expectation.source).or_default().push(planned);
                }
                Ok(planned) => {
                    let counted = self.count(&planned).await;
                    outcomes.push(self.outcome(&planned, counted).await?);
                }
                Err(error) => outcomes.push(failed(expectation, error)?),
            }
        }
        for (source, planned) in scans {
            let counted = match self.scan(source, &planned).await {
                Ok(counted) => counted.into_iter().map(Ok).collect(),
                Err(error) if is_outage(&error) => return Err(error.into()),
                // One of them fails, and it is not told which.
                Err(_) => {
                    let mut each = Vec::new();
                    for planned in &planned {
                        each.push(self.count(planned).await);
                    }
                    each
                }
            };
            for (planned, counted) in planned.iter().zip(counted) {
                outcomes.push(self.outcome(planned, counted).await?);
            }
        }
        outcomes.sort_by(|a, b| (a.status, &a.expectation).cmp(&(b.status, &b.expectation)));
        Ok(outcomes)
    }

    /// Registers the views and tables that the expectations name.
    async fn register(&self, expectations: &[Expectation]) -> Result<Views, BatchError> {
        let mut names = BTreeSet::new();
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        for text in expectations.iter().flat_map(statements) {
            // A statement that cannot be read is told as the result of its expectation.
            let Ok(statement) = state.sql_to_statement(&text, &dialect) else { continue };
            let Ok(references) = state.resolve_table_references(&statement) else { continue };
            names.extend(references.iter().map(|reference| reference.table().to_string()));
        }
        let views = Views::prepare(self.context, self.snapshot, self.display, &names).await?;
        views.register(self.context)?;
        for name in names.iter().filter(|name| !VIEWS.contains(&name.as_str())) {
            let is_published = name.starts_with("batch/") && name != catalogue::QUALITY;
            let table = match is_published {
                true => self.snapshot.published_table(name).await?,
                false => self.snapshot.newest_table(name).await?,
            };
            if let Some(table) = table {
                self.context.register_table(TableReference::bare(name.as_str()), table).map_err(LakeError::from)?;
            }
        }
        Ok(views)
    }

    async fn planned<'a>(&self, expectation: &'a Expectation) -> Result<Planned<'a>, DataFusionError> {
        let mut shape = Shape::default();
        if !expectation.source.table.is_empty() {
            let table = self.context.table(TableReference::bare(expectation.source.table.as_str())).await?;
            let field = |name: &str| table.schema().fields().iter().find(|field| field.name() == name).cloned();
            shape.columns = table.schema().fields().iter().map(|field| field.name().clone()).collect();
            let column = expectation.column.as_deref().and_then(field);
            shape.is_number = column.is_some_and(|field| field.data_type().is_numeric());
        }
        let work = plan::work(expectation, &shape);
        // Errors of the plan are told before anything is read.
        self.frame(&sql(&expectation.source, &work)).await?;
        Ok(Planned { expectation, shape, work })
    }

    async fn frame(&self, sql: &str) -> Result<datafusion::prelude::DataFrame, DataFusionError> {
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        self.context.sql_with_options(sql, reads).await
    }

    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.frame(sql).await?.collect().await
    }

    /// Evaluates expectations of the same rows in one scan.
    async fn scan(&self, source: &Source, planned: &[Planned<'_>]) -> Result<Vec<Counted>, DataFusionError> {
        let aggregates: Vec<String> = planned.iter().flat_map(|planned| list(&planned.work)).collect();
        let numbers = numbers(&self.rows(&sql(source, &Work::Scan(aggregates))).await?)?;
        let mut left = numbers.as_slice();
        Ok(planned
            .iter()
            .map(|planned| {
                let own = list(&planned.work).len().min(left.len());
                let (own, others) = left.split_at(own);
                left = others;
                Counted::Numbers(own.to_vec())
            })
            .collect())
    }

    /// Evaluates one expectation.
    async fn count(&self, planned: &Planned<'_>) -> Result<Counted, DataFusionError> {
        let batches = self.rows(&sql(&planned.expectation.source, &planned.work)).await?;
        if !matches!(planned.work, Work::Shares(_)) {
            return Ok(Counted::Numbers(numbers(&batches)?));
        }
        let mut rows = BTreeMap::new();
        for batch in &batches {
            let values = cast(batch.column(0), &DataType::Utf8)?;
            let counts = cast(batch.column(1), &DataType::Float64)?;
            let counts = counts.as_primitive::<Float64Type>();
            for (value, count) in values.as_string::<i32>().iter().zip(counts) {
                rows.insert(value.unwrap_or("NULL").to_string(), count.unwrap_or(0.0));
            }
        }
        Ok(Counted::Rows(rows))
    }

    async fn outcome(
        &self,
        planned: &Planned<'_>,
        counted: Result<Counted, DataFusionError>,
    ) -> Result<Outcome, BatchError> {
        let expectation = planned.expectation;
        let counted = match counted {
            Ok(counted) => counted,
            Err(error) => return failed(expectation, error),
        };
        let past = self.past.get(&expectation.name).map_or(&[][..], Vec::as_slice);
        let verdict = verdict(expectation, &counted, past, self.now);
        let wanted = match verdict.violating > 0 && self.examples_max > 0 {
            true => plan::examples(expectation, &planned.shape, self.examples_max),
            false => None,
        };
        let examples = match wanted {
            Some(sql) => match self.rows(&sql).await {
                Ok(batches) => examples(&batches)?,
                Err(error) if is_outage(&error) => return Err(error.into()),
                // What was counted stands.
                Err(error) => {
                    tracing::warn!(expectation = expectation.name, %error, "there are no examples");
                    Examples::default()
                }
            },
            None => Examples::default(),
        };
        let status = match (verdict.is_met, expectation.severity) {
            (true, _) => Status::Pass,
            (false, Severity::Warn) => Status::Warn,
            (false, Severity::Fail) => Status::Fail,
        };
        Ok(told(expectation, status, verdict, examples))
    }
}

/// Statements that name every table of an expectation.
fn statements(expectation: &Expectation) -> Vec<String> {
    let of = |source: &Source| format!("SELECT 1 FROM {}", source.sql());
    match &expectation.check {
        Check::Sql { query } => vec![query.trim().trim_end_matches(';').to_string()],
        Check::Relationship { to, .. } => {
            vec![of(&expectation.source), format!("SELECT 1 FROM {}", identifier(to))]
        }
        Check::Discrepancy { other, .. } => vec![of(&expectation.source), of(other)],
        _ => vec![of(&expectation.source)],
    }
}

fn list(work: &Work) -> Vec<String> {
    match work {
        Work::Scan(aggregates) => aggregates.clone(),
        _ => Vec::new(),
    }
}

fn sql(source: &Source, work: &Work) -> String {
    match work {
        Work::Query(sql) | Work::Shares(sql) => sql.clone(),
        Work::Scan(aggregates) => {
            let named: Vec<String> =
                aggregates.iter().enumerate().map(|(place, aggregate)| format!("{aggregate} AS a{place}")).collect();
            format!("SELECT {} FROM {}", named.join(", "), source.sql())
        }
    }
}

/// The numbers of a row.
fn numbers(batches: &[RecordBatch]) -> Result<Vec<Option<f64>>, DataFusionError> {
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
    let number = |column: &arrow::array::ArrayRef| {
        let column = cast(column, &DataType::Float64)?;
        let column = column.as_primitive::<Float64Type>();
        Ok((!column.is_null(0)).then(|| column.value(0)))
    };
    batch.columns().iter().map(number).collect()
}

fn is_outage(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ObjectStore(_) | DataFusionError::External(_))
        || matches!(error.find_root(), DataFusionError::IoError(_))
}

/// The result of an expectation that could not be evaluated. An outage is returned as such.
fn failed(expectation: &Expectation, error: DataFusionError) -> Result<Outcome, BatchError> {
    let text = error.strip_backtrace();
    let outage = is_outage(&error);
    let wrapped = BatchError::from(error);
    if outage || wrapped.is_retryable() {
        return Err(wrapped);
    }
    let text: Vec<&str> = text.split_whitespace().collect();
    let verdict = Verdict { note: Some(text.join(" ")), ..Verdict::default() };
    Ok(told(expectation, Status::Error, verdict, Examples::default()))
}

fn told(expectation: &Expectation, status: Status, verdict: Verdict, examples: Examples) -> Outcome {
    Outcome {
        expectation: expectation.name.clone(),
        kind: expectation.kind(),
        table: expectation.source.table.clone(),
        column: expectation.columns(),
        filter: expectation.source.filter.clone(),
        severity: expectation.severity,
        status,
        observed: verdict.observed,
        expected: expectation.expected(),
        checked_rows: verdict.checked,
        violating_rows: verdict.violating,
        note: verdict.note,
        owner: expectation.owner.clone(),
        description: expectation.description.clone(),
        examples,
        shares: verdict.shares,
    }
}

fn examples(batches: &[RecordBatch]) -> Result<Examples, BatchError> {
    let mut found = Examples::default();
    let options = FormatOptions::default();
    for batch in batches {
        found.columns = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        let wrong = |error| BatchError::rows("examples", error);
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let formatters: Vec<ArrayFormatter<'_>> = formatters.collect::<Result<_, _>>().map_err(wrong)?;
        for row in 0..batch.num_rows() {
            let cells = formatters.iter().zip(batch.columns());
            let cells = cells.map(|(formatter, column)| (!column.is_null(row)).then(|| cut(&formatter.value(row))));
            found.rows.push(cells.collect());
        }
    }
    Ok(found)
}

fn cut(value: &impl std::fmt::Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(EXAMPLE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
