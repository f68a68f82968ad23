//! The manifest: what a published batch run covers, and what it wrote.
//!
//! One commit to `batch/manifest` publishes a run ([`mod@crate::publish`]). Before it, readers see
//! nothing of the run. After it they see all of it, at the versions that the manifest names.
//!
//! A manifest says by which revision of the rules its tables were computed. Tables of another
//! revision are not merged with newer rows. Until the next batch run, answers are computed from the
//! raw tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::batch_schema::manifest_schema;
use adlake_domain::catalogue::{self, MANIFEST};
use adlake_domain::settings::{Meaning, REVISION};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;

use crate::error::LakeError;
use crate::live::LiveFile;
use crate::storage::Lake;

/// A published run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its id.
    pub run_id: String,
    /// Its number. Numbers only grow.
    pub run: i64,
    /// When it was published, in microseconds UTC.
    pub published_at: i64,
    /// The versions of the raw and ref tables that the run covers, and of the batch tables that it
    /// wrote.
    pub versions: BTreeMap<String, u64>,
    /// The meaning that the run computed with.
    pub meaning: Meaning,
    /// The [`REVISION`] of the program that ran. 1 for programs that did not store it yet.
    pub revision: i64,
}

impl Manifest {
    /// The version of a table.
    pub fn version(&self, table: &str) -> Option<u64> {
        self.versions.get(table).copied()
    }

    /// Whether this program would write the same batch tables. Only then they can be merged with
    /// newer rows.
    pub fn is_current(&self) -> bool {
        self.revision == REVISION
    }

    /// The newest published run. `None`: none was published.
    pub fn latest<'a>(
        lake: &'a Lake,
        context: &'a SessionContext,
    ) -> BoxFuture<'a, Result<Option<Manifest>, LakeError>> {
        // The boxed future is compiled in this crate, and not again in every program that awaits
        // it.
        Box::pin(lake.retry(move || Self::read_latest(lake, context)))
    }

    async fn read_latest(lake: &Lake, context: &SessionContext) -> Result<Option<Manifest>, LakeError> {
        let Some(version) = lake.newest_version(MANIFEST).await? else { return Ok(None) };
        let files = lake.files_at(MANIFEST, version).await?;
        if files.iter().any(LiveFile::has_deletions) {
            return Ok(Self::all(lake, context).await?.pop());
        }
        // Each run has a file, so only the newest is read. A file that does not tell its runs may
        // have the newest.
        let newest = files.iter().filter_map(last_run).max();
        let files = files.iter().filter(|file| last_run(file).is_none_or(|last| Some(last) == newest));
        let store = lake.log_store(MANIFEST)?;
        let table = catalogue::table(MANIFEST).ok_or_else(|| LakeError::NotFound(MANIFEST.to_string()))?;
        let mut latest: Option<Manifest> = None;
        for file in files {
            for batch in file.open(lake, &store, &table).await?.rows()? {
                let batch = batch?;
                for row in 0..batch.num_rows() {
                    let run = read(&batch.slice(row, 1))?;
                    if latest.as_ref().is_none_or(|latest| latest.run < run.run) {
                        latest = Some(run);
                    }
                }
            }
        }
        Ok(latest)
    }

    /// Those of all runs, which are ordered by number, that a reader may use who began after
    /// `since`: each that was the last one at that time or later.
    pub(crate) fn used_since(runs: &[Manifest], since: i64) -> &[Manifest] {
        let older = runs.iter().take_while(|run| run.published_at < since).count();
        &runs[older.saturating_sub(1)..]
    }

    /// Removes from the manifest table the runs that were not the last one at `since` or later.
    /// Returns how many. With `dry_run` it only counts them.
    pub(crate) async fn forget(lake: &Lake, runs: &[Manifest], since: i64, dry_run: bool) -> Result<u64, LakeError> {
        let Some(first_kept) = Self::used_since(runs, since).first().map(|run| run.run) else { return Ok(0) };
        let forgotten = runs.iter().filter(|run| run.run < first_kept).count() as u64;
        if forgotten == 0 || dry_run {
            return Ok(forgotten);
        }
        let Some(version) = lake.newest_version(MANIFEST).await? else { return Ok(0) };
        let replacer = lake.replacer_from(MANIFEST, version).await?;
        let is_kept = |file: &&LiveFile| last_run(file).is_none_or(|last| last >= first_kept);
        let kept: Vec<LiveFile> = replacer.base().iter().filter(is_kept).cloned().collect();
        if kept.len() == replacer.base().len() {
            return Ok(0);
        }
        replacer.commit_keeping(&kept, Vec::new()).await?;
        Ok(forgotten)
    }

    /// All published runs that the manifest table still has.
    pub async fn all(lake: &Lake, context: &SessionContext) -> Result<Vec<Manifest>, LakeError> {
        lake.retry(|| async {
            let Some(version) = lake.newest_version(MANIFEST).await? else { return Ok(Vec::new()) };
            let batches = context.read_table(lake.provider(MANIFEST, version).await?)?.collect().await?;
            let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
            let mut runs = rows.map(|row| read(&row)).collect::<Result<Vec<_>, _>>()?;
            runs.sort_by_key(|run| run.run);
            Ok(runs)
        })
        .await
    }

    pub(crate) fn to_batch(&self) -> Result<RecordBatch, LakeError> {
        let schema = manifest_schema();
        let wrong = |error: arrow::error::ArrowError| LakeError::rows(MANIFEST, error);
        let DataType::List(element) = schema.field_with_name("versions").map_err(wrong)?.data_type().clone() else {
            return Err(LakeError::rows(MANIFEST, "versions is not a list"));
        };
        let DataType::Struct(fields) = element.data_type().clone() else {
            return Err(LakeError::rows(MANIFEST, "versions holds no structs"));
        };
        let names = StringArray::from_iter_values(self.versions.keys());
        let numbers = Int64Array::from_iter_values(self.versions.values().map(|version| *version as i64));
        let values = StructArray::try_new(fields, vec![Arc::new(names), Arc::new(numbers)], None).map_err(wrong)?;
        let offsets = OffsetBuffer::from_lengths([self.versions.len()]);
        let versions = ListArray::try_new(element, offsets, Arc::new(values), None).map_err(wrong)?;
        let meaning = serde_json::to_string(&self.meaning).map_err(|error| LakeError::rows(MANIFEST, error))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![self.run_id.clone()])),
            Arc::new(Int64Array::from(vec![self.run])),
            Arc::new(TimestampMicrosecondArray::from(vec![self.published_at]).with_timezone("UTC")),
            Arc::new(versions),
            Arc::new(StringArray::from(vec![meaning])),
            Arc::new(StringArray::from(vec![self.meaning.hash()])),
            Arc::new(Int64Array::from(vec![self.revision])),
        ];
        RecordBatch::try_new(schema, columns).map_err(wrong)
    }
}

/// The greatest number of a run in a file, if its statistics tell.
fn last_run(file: &LiveFile) -> Option<i64> {
    let stats: serde_json::Value = serde_json::from_str(file.stats.as_deref()?).ok()?;
    stats.get("maxValues")?.get("run")?.as_i64()
}

fn read(batch: &RecordBatch) -> Result<Manifest, LakeError> {
    let wrong = |detail: &str| LakeError::Corrupt(format!("{MANIFEST}: {detail}"));
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| wrong(&format!("column {name} is missing")));
    let text = |name: &str| -> Result<String, LakeError> {
        let column = arrow::compute::cast(column(name)?, &DataType::Utf8).map_err(|error| wrong(&error.to_string()))?;
        Ok(column.as_string::<i32>().value(0).to_string())
    };
    let run = column("run")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("run is not an integer"))?.value(0);
    let published_at = column("published_at")?
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| wrong("published_at is not a time"))?
        .value(0);
    let versions = column("versions")?.as_list_opt::<i32>().ok_or_else(|| wrong("versions is not a list"))?.value(0);
    let versions = versions.as_struct_opt().ok_or_else(|| wrong("versions holds no structs"))?;
    let names = arrow::compute::cast(versions.column(0), &DataType::Utf8).map_err(|error| wrong(&error.to_string()))?;
    let numbers =
        versions.column(1).as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("a version is not an integer"))?;
    let versions = names
        .as_string::<i32>()
        .iter()
        .zip(numbers)
        .filter_map(|(name, number)| Some((name?.to_string(), u64::try_from(number?).ok()?)))
        .collect();
    let meaning = serde_json::from_str(&text("meaning")?).map_err(|error| wrong(&format!("meaning: {error}")))?;
    let revision = match column("revision")?.as_primitive_opt::<Int64Type>() {
        Some(revisions) if revisions.is_valid(0) => revisions.value(0),
        Some(_) => 1,
        None => return Err(wrong("revision is not an integer")),
    };
    Ok(Manifest { run_id: text("run_id")?, run, published_at, versions, meaning, revision })
}
