//! `adlake catalog sync`: tells catalogues which Delta tables the lake has, and with which columns.
//!
//! The Delta logs are the truth, and a catalogue is told of it. A table that adlake has not made
//! for this lake is left alone, whatever its name. No table is removed.

mod glue;
mod hive;

use std::path::PathBuf;

use adlake_domain::catalogue;
use adlake_lake::{Lake, LakeError};
use anyhow::{Context, Result, bail};
use arrow::datatypes::SchemaRef;
use clap::{Args, Subcommand};
use serde::Serialize;
use url::Url;

use self::glue::{Change, Glue, change};
use crate::commands::{ReportFormat, print, report};
use crate::config::CatalogSettings;
use crate::failure::usage;
use crate::options::Global;

/// Catalogues of other programs.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Make the tables of a Glue database those of the lake, or write a DDL for Hive; without
    /// --apply, only show what would be changed in Glue
    Sync(Sync),
}

/// Tell a catalogue of the tables.
#[derive(Debug, Args)]
pub struct Sync {
    /// The database of AWS Glue, which must exist [default: catalog.glue_database, unless --ddl is
    /// given]
    #[arg(long, value_name = "DATABASE")]
    glue: Option<String>,
    /// Write a DDL for Hive to this file; - is stdout
    #[arg(long, value_name = "FILE")]
    ddl: Option<PathBuf>,
    /// What the names of the tables begin with [default: catalog.prefix]
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Change the catalogue
    #[arg(long)]
    apply: bool,
    /// Take over a table that something else has made, like a crawler, if it has the location of
    /// the lake's table
    #[arg(long)]
    adopt: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A table as catalogues are told of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in the catalogue: lower case, without slashes.
    pub name: String,
    pub description: &'static str,
    /// Its folder, without a slash at the end.
    pub location: String,
    /// Its columns as its log has them.
    pub schema: SchemaRef,
    pub partition_columns: Vec<String>,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct Done {
    database: String,
    applied: bool,
    tables: Vec<DoneTable>,
}

#[derive(Debug, Serialize)]
struct DoneTable {
    table: String,
    #[serde(flatten)]
    change: Change,
}

impl Catalog {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<()> {
        let Catalog::Sync(sync) = self;
        sync.run(global).await
    }
}

impl Sync {
    async fn run(&self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        let configured = Some(&settings.catalog.glue_database).filter(|name| !name.is_empty() && self.ddl.is_none());
        let database = self.glue.as_ref().or(configured);
        if database.is_none() && self.ddl.is_none() {
            return Err(usage("give --glue DATABASE (or set catalog.glue_database), --ddl FILE, or both"));
        }
        let to_stdout = self.ddl.as_ref().is_some_and(|file| file.as_os_str() == "-");
        if database.is_some() && to_stdout {
            return Err(usage("--ddl -: the report about Glue goes to stdout already: name a file"));
        }
        let lake = Lake::open(&settings.lake).await?;
        let entries = entries(&lake, self.prefix.as_deref().unwrap_or(&settings.catalog.prefix)).await?;
        if let Some(file) = &self.ddl {
            let text = hive::ddl(&entries);
            match to_stdout {
                true => print(&text)?,
                false => {
                    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
                }
            }
        }
        let Some(database) = database else { return Ok(()) };
        let done = sync_glue(database, lake.root(), &entries, self.apply, self.adopt).await?;
        report(self.format, &done, text)?;
        done.check()
    }
}

impl Done {
    /// Fails if tables were left alone.
    fn check(&self) -> Result<()> {
        let others: Vec<&str> = self
            .tables
            .iter()
            .filter(|table| matches!(table.change, Change::NotOurs { .. }))
            .map(|table| table.table.as_str())
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        bail!(
            "{}: left alone, because adlake has not made them for this lake: {}. Use another database, a prefix \
             (catalog.prefix), or take them over: adlake catalog sync --adopt",
            self.database,
            others.join(", ")
        )
    }
}

/// Makes the tables of the configured database those of the lake, if one is configured.
pub async fn keep(lake: &Lake, settings: &CatalogSettings) -> Result<()> {
    if settings.glue_database.is_empty() {
        return Ok(());
    }
    let entries = entries(lake, &settings.prefix).await?;
    let done = sync_glue(&settings.glue_database, lake.root(), &entries, true, false).await?;
    for DoneTable { table, change } in &done.tables {
        match change {
            Change::None | Change::NotOurs { .. } => {}
            Change::Create => tracing::info!(database = done.database, table, "the table was added to Glue"),
            Change::Update { why } => tracing::info!(database = done.database, table, why, "Glue's table was changed"),
        }
    }
    done.check()
}

/// Compares the tables of a database with those of the lake, and changes them if it is told to.
async fn sync_glue(database: &str, root: &Url, entries: &[Entry], apply: bool, adopt: bool) -> Result<Done> {
    if !matches!(root.scheme(), "s3" | "s3a") {
        let why = "is not on S3, where those who read Glue look for tables";
        return Err(usage(format!("Glue: the lake {root} {why}")));
    }
    let glue = Glue::connect().await?;
    glue.find_database(database).await?;
    let mut done = Done { database: database.to_owned(), applied: apply, tables: Vec::new() };
    for entry in entries {
        let found = glue.table(database, &entry.name).await?;
        let wanted = glue::table_input(entry, root);
        let change = change(&wanted, found.as_ref(), adopt);
        if apply {
            match (&change, &found) {
                (Change::Create, _) => glue.create(database, &wanted).await?,
                (Change::Update { .. }, Some(found)) => glue.update(database, &glue::merged(wanted, found)).await?,
                _ => {}
            }
        }
        done.tables.push(DoneTable { table: entry.name.clone(), change });
    }
    Ok(done)
}

/// The tables that the lake has.
async fn entries(lake: &Lake, prefix: &str) -> Result<Vec<Entry>> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !prefix.chars().all(is_name) {
        let why = "not every catalogue takes names of other than lower-case letters, digits and _";
        return Err(usage(format!("the prefix {prefix:?} (catalog.prefix, --prefix): {why}")));
    }
    let mut entries = Vec::new();
    for table in catalogue::tables() {
        let Some(columns) = lake.stored_columns(table.name).await? else { continue };
        entries.push(Entry {
            name: format!("{prefix}{}", table.name.replace('/', "_")),
            description: table.description,
            location: lake.table_url(table.name)?.as_str().trim_end_matches('/').replacen("s3a://", "s3://", 1),
            schema: columns.schema,
            partition_columns: columns.partition_columns,
        });
    }
    if entries.is_empty() {
        let detail = format!("there is no lake at {}: create one with `adlake ingest` or `adlake demo`", lake.root());
        return Err(LakeError::NotFound(detail).into());
    }
    Ok(entries)
}

fn text(done: &Done) -> String {
    let mut text = String::new();
    for DoneTable { table, change } in &done.tables {
        let (what, why) = match change {
            Change::None => ("keep", None),
            Change::Create => ("create", None),
            Change::Update { why } => ("update", Some(why)),
            Change::NotOurs { why } => ("leave alone (not ours)", Some(why)),
        };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        text.push_str(&format!("{what}: {}.{table}{why}\n", done.database));
    }
    let is_change = |table: &&DoneTable| matches!(table.change, Change::Create | Change::Update { .. });
    let changes = done.tables.iter().filter(is_change).count();
    let end = match (changes, done.applied) {
        (0, _) => "nothing to do\n",
        (_, true) => "done\n",
        (_, false) => "nothing was changed: --apply does it\n",
    };
    text + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_what_was_left_alone() {
        let table = |name: &str, change| DoneTable { table: name.to_owned(), change };
        let mut done = Done {
            database: "lake".to_owned(),
            applied: false,
            tables: vec![table("a", Change::Create), table("b", Change::None)],
        };
        assert_eq!(text(&done), "create: lake.a\nkeep: lake.b\nnothing was changed: --apply does it\n");
        assert!(done.check().is_ok());
        done.applied = true;
        done.tables.push(table("c", Change::NotOurs { why: "theirs".to_owned() }));
        assert!(text(&done).ends_with("leave alone (not ours): lake.c: theirs\ndone\n"), "{}", text(&done));
        let error = done.check().unwrap_err().to_string();
        assert!(
            error.starts_with("lake: left alone") && error.contains(": c.") && error.contains("--adopt"),
            "{error}"
        );
    }
}
