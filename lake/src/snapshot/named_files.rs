//! Rows of Parquet files that are given by name.
//!
//! All of them must be there. DataFusion takes the name of a file that is missing for a folder
//! without files, and passes over it: answers would lack rows, and a compaction would lose them.
//! Here such a scan fails.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::options::ReadOptions;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use crate::error::LakeError;

/// Files of a table.
#[derive(Debug)]
pub(super) struct NamedFiles {
    table: String,
    count: usize,
    listing: ListingTable,
}

impl NamedFiles {
    /// The files with these URLs, which have the columns of `schema`.
    pub fn new(context: &SessionContext, table: &str, urls: &[String], schema: SchemaRef) -> Result<NamedFiles> {
        let options = ParquetReadOptions::default().table_partition_cols(Vec::new());
        let options = options.to_listing_options(&context.copied_config(), context.copied_table_options());
        let paths = urls.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>>>()?;
        let config = ListingTableConfig::new_with_multi_paths(paths).with_listing_options(options).with_schema(schema);
        let cache = context.runtime_env().cache_manager.get_file_statistic_cache();
        let listing = ListingTable::try_new(config)?.with_cache(cache);
        Ok(NamedFiles { table: table.to_owned(), count: urls.len(), listing })
    }
}

#[async_trait]
impl TableProvider for NamedFiles {
    fn schema(&self) -> SchemaRef {
        self.listing.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // With a limit, the listing could end before the last file.
        let plan = self.listing.scan(state, projection, filters, None).await?;
        let found = files_of(plan.as_ref());
        if found != self.count {
            let missing = format!("{} of {} files of {}", self.count.saturating_sub(found), self.count, self.table);
            return Err(DataFusionError::External(Box::new(LakeError::NotFound(format!(
                "{missing} that its log names are not in the store"
            )))));
        }
        Ok(plan)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.listing.supports_filters_pushdown(filters)
    }
}

/// The number of files that a scan reads.
fn files_of(plan: &dyn ExecutionPlan) -> usize {
    let scan = (plan as &dyn Any).downcast_ref::<DataSourceExec>();
    let config = scan.and_then(|scan| (scan.data_source().as_ref() as &dyn Any).downcast_ref::<FileScanConfig>());
    config.map_or(0, |config| config.file_groups.iter().map(|group| group.len()).sum())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use arrow::array::{Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::session::SessionSettings;

    #[tokio::test]
    async fn a_file_that_is_missing_is_no_file_without_rows() {
        let folder = tempfile::tempdir().unwrap();
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        let urls: Vec<String> = ["a", "b", "c"]
            .map(|name| {
                let path = folder.path().join(format!("{name}.parquet"));
                let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), None).unwrap();
                writer.write(&rows).unwrap();
                writer.close().unwrap();
                format!("file://{}", path.display())
            })
            .to_vec();
        let context = SessionSettings::default().context().unwrap();
        let count = async |limit: Option<usize>| {
            let files = NamedFiles::new(&context, "raw/impressions", &urls, rows.schema())?;
            let frame = context.read_table(Arc::new(files))?.limit(0, limit)?;
            frame.count().await
        };
        assert_eq!(count(None).await.unwrap(), 6);
        assert_eq!(count(Some(1)).await.unwrap(), 1);
        std::fs::remove_file(folder.path().join("b.parquet")).unwrap();
        for limit in [None, Some(1)] {
            let error = count(limit).await.unwrap_err().to_string();
            assert!(error.contains("1 of 3 files of raw/impressions"), "{error}");
        }
    }
}
