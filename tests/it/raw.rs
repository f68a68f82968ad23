//! A lake in a folder of its own, and the content of its raw tables.

use std::path::Path;

use adlake_lake::{Lake, StorageSettings};
use anyhow::{Context, Result};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use tempfile::TempDir;

/// A lake. At the end of the test it is removed with its folder.
pub struct Raw {
    pub folder: TempDir,
    pub lake: Lake,
}

impl Raw {
    pub async fn new() -> Result<Raw> {
        let folder = tempfile::tempdir()?;
        let uri = folder.path().join("lake").display().to_string();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await?;
        Ok(Raw { folder, lake })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The answer to a query of one table, which is called `t`. Each row is a line, and spaces
    /// separate its cells. If there is no table, there are no lines.
    pub async fn query(&self, table: &str, sql: &str) -> Result<Vec<String>> {
        let Some(version) = self.lake.newest_version(table).await? else { return Ok(Vec::new()) };
        let context = SessionContext::new();
        context.register_table("t", self.lake.provider(table, version).await?)?;
        let mut lines = Vec::new();
        for batch in context.sql(sql).await?.collect().await? {
            let options = FormatOptions::default();
            let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                lines.push(cells.join(" "));
            }
        }
        Ok(lines)
    }

    /// The answer if it is a single number; 0 if there is no table.
    pub async fn number(&self, table: &str, sql: &str) -> Result<i64> {
        match self.query(table, sql).await?.first() {
            Some(line) => line.parse().with_context(|| format!("{sql}: {line}")),
            None => Ok(0),
        }
    }

    /// The number of rows of a table.
    pub async fn count(&self, table: &str) -> Result<i64> {
        self.number(table, "select count(*) from t").await
    }
}
