//! Tables at a version, as DataFusion reads them.

use std::sync::Arc;

use adlake_domain::catalogue;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use datafusion::prelude::{SessionContext, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;

use crate::error::LakeError;
use crate::log::newest_version;
use crate::storage::Lake;

/// The columns of a table as its log describes them.
#[derive(Debug, Clone)]
pub struct StoredColumns {
    /// All columns in the log's order, with its comments as metadata `comment`.
    pub schema: SchemaRef,
    /// The partition columns among them.
    pub partition_columns: Vec<String>,
}

impl Lake {
    /// The columns of the newest version of a table. `None`: there is no such table.
    pub async fn stored_columns(&self, table: &str) -> Result<Option<StoredColumns>, LakeError> {
        self.retry(|| async {
            let Some(version) = newest_version(&self.log_store(table)?, table).await? else { return Ok(None) };
            let wrong = |error| LakeError::table(table, error);
            let mut loaded = self.delta_table(table)?;
            loaded.load_version(version).await.map_err(wrong)?;
            let state = loaded.snapshot().map_err(wrong)?;
            let partition_columns = state.metadata().partition_columns().to_vec();
            Ok(Some(StoredColumns { schema: state.snapshot().arrow_schema(), partition_columns }))
        })
        .await
    }

    /// A table at a version, as a DataFusion provider. It has the columns of the catalogue in their
    /// order, then those that others have added. Columns that the table did not have at that
    /// version are NULL.
    pub fn provider<'a>(
        &'a self,
        table: &'a str,
        version: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>, LakeError>> {
        // The boxed future is compiled in this crate, and not again in every program that awaits
        // it.
        Box::pin(self.retry(move || self.arranged(table, version, true)))
    }

    /// The same without the columns that others have added.
    pub async fn known_columns(&self, table: &str, version: u64) -> Result<Arc<dyn TableProvider>, LakeError> {
        self.retry(|| self.arranged(table, version, false)).await
    }

    async fn arranged(&self, table: &str, version: u64, all: bool) -> Result<Arc<dyn TableProvider>, LakeError> {
        let mut loaded = self.delta_table(table)?;
        loaded.load_version(version).await.map_err(|error| LakeError::table(table, error))?;
        let provider: Arc<dyn TableProvider> = loaded.table_provider().with_session(self.scan_session()).await?;
        let Some(known) = catalogue::table(table) else { return Ok(provider) };
        let found = provider.schema();
        let names = known.schema.fields().iter().map(|field| field.name());
        let others = found.fields().iter().filter(|field| known.schema.field_with_name(field.name()).is_err());
        let wanted: Vec<&String> = names.chain(others.filter(|_| all).map(|field| field.name())).collect();
        if found.fields().iter().map(|field| field.name()).eq(wanted.iter().copied()) {
            return Ok(provider);
        }
        let columns =
            wanted.into_iter().map(|name| match (found.field_with_name(name), known.schema.field_with_name(name)) {
                (Err(_), Ok(field)) => cast(lit(ScalarValue::Null), field.data_type().clone()).alias(name),
                _ => ident(name),
            });
        let columns: Vec<Expr> = columns.collect();
        let rows = SessionContext::new_with_state(self.scan_session().as_ref().clone()).read_table(provider)?;
        Ok(rows.select(columns)?.into_view())
    }
}
