//! From SQL to rows: take a snapshot, prepare the views that the statement names, plan it, run it.
//!
//! Every query sees one snapshot: the manifest is read first, then the newest raw versions.
//! Statements can only read.

use std::collections::BTreeSet;

use adlake_domain::settings::{Display, Meaning};
use adlake_lake::retry::Retryable;
use adlake_lake::session::SessionSettings;
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::{VIEWS, Views};
use adlake_lake::{Lake, LakeError};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The `[query]` section.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Limits for memory, disk and parallelism.
    pub session: SessionSettings,
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong. The user must change it.
    #[error("{0}")]
    Statement(String),
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

impl Retryable for QueryError {
    fn is_retryable(&self) -> bool {
        matches!(self, QueryError::Lake(error) if error.is_retryable())
    }

    fn into_outage(self) -> Self {
        match self {
            QueryError::Lake(error) => QueryError::Lake(error.into_outage()),
            // The statement may be right: the store may have failed to list what it asks for.
            QueryError::Statement(detail) => {
                QueryError::Lake(LakeError::Unavailable { subject: "the lake".to_owned(), source: detail.into() })
            }
        }
    }
}

/// Answers SQL over one lake.
#[derive(Debug, Clone)]
pub struct QueryEngine {
    lake: Lake,
    session: SessionSettings,
    meaning: Meaning,
    display: Display,
}

impl QueryEngine {
    /// An engine over a lake. `meaning` is used until a batch run is published.
    pub fn open<'a>(
        lake: &'a Lake,
        settings: &'a QuerySettings,
        meaning: &'a Meaning,
        display: &'a Display,
    ) -> BoxFuture<'a, Result<QueryEngine, QueryError>> {
        Box::pin(Self::open_now(lake, settings, meaning, display))
    }

    async fn open_now(
        lake: &Lake,
        settings: &QuerySettings,
        meaning: &Meaning,
        display: &Display,
    ) -> Result<QueryEngine, QueryError> {
        let engine = QueryEngine {
            lake: lake.clone(),
            session: settings.session.clone(),
            meaning: meaning.clone(),
            display: display.clone(),
        };
        let snapshot = Snapshot::take(lake, &engine.session.context()?, meaning).await?;
        if snapshot.newest.is_empty() {
            let detail = format!("there is no lake at {}; `adlake ingest` or `adlake demo` makes one", lake.root());
            return Err(LakeError::NotFound(detail).into());
        }
        Ok(engine)
    }

    /// The rows that answer a statement, as of now. A failing store is retried until the first rows
    /// arrive.
    pub fn query<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<SendableRecordBatchStream, QueryError>> {
        // The boxed future is compiled in this crate, and not again in every program that awaits
        // it.
        Box::pin(self.lake.retry(move || self.answer(sql)))
    }

    async fn answer(&self, sql: &str) -> Result<SendableRecordBatchStream, QueryError> {
        let context = self.session.context()?;
        let wanted = wanted_views(&context, sql)?;
        let snapshot = Snapshot::take(&self.lake, &context, &self.meaning).await?;
        let views = Views::prepare(&context, &snapshot, &self.display, &wanted).await?;
        views.register(&context)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = context.sql_with_options(sql, reads).await.map_err(statement_error)?;
        let mut stream = frame.execute_stream().await.map_err(statement_error)?;
        let schema = stream.schema();
        // Before the first rows arrive nothing was returned, so the query can still be retried.
        let first = stream.next().await.transpose().map_err(statement_error)?;
        let rows = futures::stream::iter(first.map(Ok)).chain(stream);
        // Keeps the views' temporary files until the last row is read.
        let guarded = rows.map(move |batch| {
            let _held = &views;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, guarded)))
    }
}

/// The views that a statement names. All of them if it queries the information schema.
fn wanted_views(context: &SessionContext, sql: &str) -> Result<BTreeSet<String>, QueryError> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(statement_error)?;
    // A statement that does not read needs no views. Planning it gives the right error.
    let text = statement.to_string();
    let verb = text.trim_start_matches('(').split_whitespace().next().unwrap_or_default().to_uppercase();
    if matches!(verb.as_str(), "CREATE" | "DROP" | "ALTER" | "TRUNCATE") {
        return Ok(BTreeSet::new());
    }
    let references = state.resolve_table_references(&statement).map_err(statement_error)?;
    let mut wanted = BTreeSet::new();
    for reference in references {
        if reference.schema() == Some("information_schema") {
            wanted.extend(VIEWS.map(String::from));
            continue;
        }
        let name = reference.table();
        if !VIEWS.contains(&name) {
            return Err(QueryError::Statement(format!(
                "there is no view {name:?}; the views are {}",
                VIEWS.join(", ")
            )));
        }
        wanted.insert(name.to_string());
    }
    Ok(wanted)
}

/// Errors of planning belong to the statement. All others belong to the lake.
fn statement_error(error: DataFusionError) -> QueryError {
    match error.find_root() {
        DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_) => QueryError::Statement(error.strip_backtrace()),
        _ => QueryError::Lake(error.into()),
    }
}
