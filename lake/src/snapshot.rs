//! Reads the tables at versions that belong together.
//!
//! A [`Snapshot`] holds the versions that the last published batch run covers and wrote (its
//! manifest), and the newest version of each raw table. The manifest is read first. Whatever is
//! published meanwhile, the raw versions are at or after the manifest's. So the tail is well
//! defined: the rows of the raw tables that the manifest does not cover.
//!
//! The tail of a raw table is the files that commits after the manifest's version have added as new
//! data. A compaction rewrites files without adding data (`dataChange: false`), so its files do not
//! count.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::catalogue::{self, Table};
use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionContext, cast, ident, lit};
use deltalake::logstore::LogStoreRef;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, path::Path};
use serde::Serialize;
use serde_json::Value;

use crate::error::LakeError;
use crate::manifest::Manifest;
use crate::reference::Reference;
use crate::storage::Lake;

mod named_files;

use named_files::NamedFiles;

/// The most log entries of a tail that are read at the same time.
const ENTRIES_AT_ONCE: usize = 16;

/// The tables of a lake at versions that belong together.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The lake.
    pub lake: Lake,
    /// The last published run, whatever its revision.
    pub latest: Option<Manifest>,
    /// The published run. `None`: there is none, or its revision is not this program's.
    pub manifest: Option<Manifest>,
    /// The newest version of each raw and reference table that exists, and of `batch/quality`.
    pub newest: BTreeMap<String, u64>,
    /// Reference data at the manifest's versions, or at the newest if nothing was published.
    pub reference: Arc<Reference>,
    /// The meaning of the manifest, or the configured one if nothing was published.
    pub meaning: Meaning,
}

impl Snapshot {
    /// Takes a snapshot of the tables as they are now. `configured` is the meaning if no run was
    /// published.
    pub async fn take(lake: &Lake, context: &SessionContext, configured: &Meaning) -> Result<Snapshot, LakeError> {
        lake.retry(|| Self::take_once(lake, context, configured)).await
    }

    async fn take_once(lake: &Lake, context: &SessionContext, configured: &Meaning) -> Result<Snapshot, LakeError> {
        let manifest = Manifest::latest(lake, context).await?;
        let mut newest = BTreeMap::new();
        let names = EventKind::ALL.map(EventKind::raw_table).into_iter().chain([
            catalogue::DEAD_LETTERS,
            catalogue::QUALITY,
            catalogue::CREATIVES,
            catalogue::CAMPAIGNS,
            catalogue::FX_RATES,
        ]);
        for name in names {
            if let Some(version) = lake.newest_version(name).await? {
                newest.insert(name.to_string(), version);
            }
        }
        let campaigns = match &manifest {
            Some(manifest) => manifest.version(catalogue::CAMPAIGNS),
            None => newest.get(catalogue::CAMPAIGNS).copied(),
        };
        let reference = Arc::new(lake.campaigns_at(context, campaigns).await?);
        let meaning = manifest.as_ref().map_or_else(|| configured.clone(), |manifest| manifest.meaning.clone());
        let latest = manifest.clone();
        let manifest = manifest.filter(|manifest| {
            if !manifest.is_current() {
                tracing::warn!(
                    run = manifest.run,
                    "another version of adlake has computed the published batch run, so its tables are not read; \
                     answers are computed from the raw tables, which takes longer, until `adlake batch run` has run"
                );
            }
            manifest.is_current()
        });
        Ok(Snapshot { lake: lake.clone(), latest, manifest, newest, reference, meaning })
    }

    /// The version of a table that the published run covers or wrote.
    pub fn published(&self, table: &str) -> Option<u64> {
        self.manifest.as_ref().and_then(|manifest| manifest.version(table))
    }

    /// A table as the published run wrote it (batch) or covers it (raw). `None`: not published.
    pub async fn published_table(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>, LakeError> {
        match self.published(table) {
            Some(version) => Ok(Some(self.lake.known_columns(table, version).await?)),
            None => Ok(None),
        }
    }

    /// A table at the newest version of the snapshot. `None`: there is no such table.
    pub async fn newest_table(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>, LakeError> {
        match self.newest.get(table) {
            Some(version) => Ok(Some(self.lake.provider(table, *version).await?)),
            None => Ok(None),
        }
    }

    /// The rows of a raw table that the published run does not cover. `None`: there are none.
    ///
    /// The rows have the table's schema without `event_date`.
    pub async fn tail(
        &self,
        context: &SessionContext,
        kind: EventKind,
    ) -> Result<Option<Arc<dyn TableProvider>>, LakeError> {
        let table = kind.raw_table();
        let Some(&newest) = self.newest.get(table) else { return Ok(None) };
        let after = self.published(table);
        if after.is_some_and(|after| after >= newest) {
            return Ok(None);
        }
        self.lake.retry(|| self.tail_files(context, kind, after, newest)).await
    }

    /// How much of a raw table the published run does not cover, or how much there is of it.
    pub async fn amount(&self, kind: EventKind, all: bool) -> Result<Amount, LakeError> {
        let table = kind.raw_table();
        let Some(&newest) = self.newest.get(table) else { return Ok(Amount::default()) };
        let mut amount = Amount::default();
        match self.published(table).filter(|_| !all) {
            Some(after) if after >= newest => {}
            Some(after) => {
                let log_store = self.lake.log_store(table)?;
                let added = || self.lake.added_files(&log_store, table, after + 1, newest);
                for file in self.lake.retry(added).await? {
                    amount.files += 1;
                    amount.bytes += file.bytes;
                    amount.rows += file.rows;
                }
            }
            None => {
                for file in self.lake.files_at(table, newest).await? {
                    amount.files += 1;
                    amount.bytes += file.bytes;
                    amount.rows += file.rows.unwrap_or_default();
                }
            }
        }
        Ok(amount)
    }

    async fn tail_files(
        &self,
        context: &SessionContext,
        kind: EventKind,
        after: Option<u64>,
        newest: u64,
    ) -> Result<Option<Arc<dyn TableProvider>>, LakeError> {
        let table = kind.raw_table();
        let log_store = self.lake.log_store(table)?;
        // Without a published run the tail is the whole table. Its early log entries may be removed
        // already.
        let files = match after {
            Some(after) => {
                let added = self.lake.added_files(&log_store, table, after + 1, newest).await?;
                added.into_iter().map(|file| file.path).collect()
            }
            None => self.lake.active_files(table, newest).await?,
        };
        if files.is_empty() {
            return Ok(None);
        }
        let provider = parquet_files(context, &self.lake, table, files, file_schema(kind))?;
        Ok(Some(provider))
    }
}

impl Lake {
    /// The rows of some files of one day of a table, with all columns of `table`.
    pub async fn rows_of_files(
        &self,
        context: &SessionContext,
        table: &Table,
        paths: Vec<String>,
        day: i32,
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        let partition = table.partition_columns.first().copied().unwrap_or_default();
        let fields: Vec<_> = table.schema.fields().iter().filter(|field| field.name() != partition).cloned().collect();
        let rows = parquet_files(context, self, table.name, paths, Arc::new(Schema::new(fields)))?;
        let columns = table.schema.fields().iter().map(|field| match field.name() {
            name if name == partition => cast(lit(day), DataType::Date32).alias(name),
            name => ident(name),
        });
        let columns: Vec<_> = columns.collect();
        Ok(context.read_table(rows)?.select(columns)?.into_view())
    }

    /// Fails unless all files are there that readers need if a run publishes this version of a
    /// table. The error names the first that is not.
    pub async fn check_files(&self, table: &str, version: u64) -> Result<(), LakeError> {
        let store = self.log_store(table)?.object_store(None);
        let files = self.files_at(table, version).await?;
        let mut objects: Vec<Path> = files.iter().map(|file| file.object().clone()).collect();
        objects.extend(self.tail_objects(table, version).await?);
        for object in objects {
            let look = || async {
                let found = store.head(&object).await;
                found.map_err(|error| LakeError::store(format!("{table}/{object} (version {version})"), error))
            };
            self.retry(look).await?;
        }
        Ok(())
    }

    /// The files of the tail that a raw table has if the published run covers this version. The
    /// newest version may have other files in place of them. Other tables have no tail.
    pub(crate) async fn tail_objects(&self, table: &str, covered: u64) -> Result<Vec<Path>, LakeError> {
        if EventKind::ALL.iter().all(|kind| kind.raw_table() != table) {
            return Ok(Vec::new());
        }
        let Some(newest) = self.newest_version(table).await? else { return Ok(Vec::new()) };
        let log_store = self.log_store(table)?;
        let added = self.retry(|| self.added_files(&log_store, table, covered + 1, newest)).await?;
        Ok(added.iter().map(|file| Path::from(file.path.as_str())).collect())
    }

    /// The files that commits from a version to another have added as new data.
    async fn added_files(
        &self,
        log_store: &LogStoreRef,
        table: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<Added>, LakeError> {
        let entries = futures::stream::iter(from..=to).map(|version| {
            let log_store = log_store.clone();
            async move {
                let entry = log_store.read_commit_entry(version).await;
                let entry = entry.map_err(|error| LakeError::table(table, error))?;
                let entry = entry.ok_or_else(|| {
                    LakeError::Corrupt(format!(
                        "{table}: log version {version} was removed, and the published batch run does not \
                         cover it; run `adlake batch run --full`"
                    ))
                })?;
                added(table, version, &entry)
            }
        });
        let added: Vec<Vec<Added>> = entries.buffered(ENTRIES_AT_ONCE).try_collect().await?;
        Ok(added.into_iter().flatten().collect())
    }

    async fn active_files(&self, table: &str, version: u64) -> Result<Vec<String>, LakeError> {
        let mut loaded = self.delta_table(table)?;
        loaded.load_version(version).await.map_err(|error| LakeError::table(table, error))?;
        let snapshot = loaded.snapshot().map_err(|error| LakeError::table(table, error))?;
        Ok(snapshot.log_data().iter().map(|file| file.path().to_string()).collect())
    }
}

/// A file that a commit has added.
struct Added {
    path: String,
    bytes: u64,
    rows: u64,
}

/// How much there is to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows, as far as their statistics tell.
    pub rows: u64,
}

/// The files that a commit has added as new data.
fn added(table: &str, version: u64, entry: &[u8]) -> Result<Vec<Added>, LakeError> {
    let mut files = Vec::new();
    for line in entry.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let wrong = |error| LakeError::Corrupt(format!("{table}: log version {version}: {error}"));
        let action: Value = serde_json::from_slice(line).map_err(wrong)?;
        let Some(add) = action.get("add") else { continue };
        if add.get("dataChange").and_then(Value::as_bool) == Some(false) {
            continue;
        }
        if let Some(path) = add.get("path").and_then(Value::as_str) {
            let bytes = add.get("size").and_then(Value::as_u64).unwrap_or_default();
            let stats =
                add.get("stats").and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
            let rows = stats.and_then(|stats| stats.get("numRecords").and_then(Value::as_u64)).unwrap_or_default();
            files.push(Added { path: path.to_string(), bytes, rows });
        }
    }
    Ok(files)
}

/// The columns in a raw table's files: all but the partition column.
fn file_schema(kind: EventKind) -> SchemaRef {
    let schema = adlake_domain::schema::raw_schema(kind);
    let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != "event_date").cloned().collect();
    Arc::new(Schema::new(fields))
}

fn parquet_files(
    context: &SessionContext,
    lake: &Lake,
    table: &str,
    files: Vec<String>,
    schema: SchemaRef,
) -> Result<Arc<dyn TableProvider>, LakeError> {
    lake.delta_table(table)?
        .update_datafusion_session(&context.state())
        .map_err(|error| LakeError::table(table, error))?;
    // Full URLs, because a store of the table's own folder names its files by their paths from the
    // root.
    let root = lake.table_url(table)?;
    let urls: Vec<String> = files.iter().map(|file| format!("{root}{file}")).collect();
    Ok(Arc::new(NamedFiles::new(context, table, &urls, schema)?))
}
