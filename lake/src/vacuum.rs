//! Removes data files that no reader needs any more.
//!
//! A file stays if one of these holds:
//!
//! - The newest version of its table has it.
//! - A published run names a version that has it, and the run is the last one, or was the last one
//!   within the retention. A query reads the tables at the versions of the run that is the last one
//!   when it begins. A run can also be published again.
//! - It belongs to the tail of the last run. After a rollback, the tail may hold files that
//!   compaction has replaced.
//! - It was removed from the table within the retention. A reader may have begun before.
//! - It was written within the retention. It may belong to a commit that is under way.
//!
//! Runs that are neither the last one nor were it within the retention are removed from the
//! manifest table. Their files are not kept, and readers of the manifest need not read past them.
//!
//! Everything else goes, also what runs that died have left behind. The files are listed before the
//! table is read: what is committed in between is in the newest version.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::catalogue;
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use serde::Serialize;

use crate::error::LakeError;
use crate::failpoint;
use crate::live::files_of;
use crate::manifest::Manifest;
use crate::storage::Lake;

mod unfinished;

/// What was removed from a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VacuumedLake {
    /// How many runs were removed from the manifest table.
    pub runs: u64,
    /// The files.
    pub tables: Vec<Vacuumed>,
}

/// What was removed from a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// The table.
    pub table: &'static str,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Lake {
    /// Removes the files of all tables that no reader needs. With `dry_run` it only counts them.
    pub async fn vacuum(&self, retention: Duration, dry_run: bool) -> Result<VacuumedLake, LakeError> {
        let since = chrono::TimeDelta::from_std(retention).ok().and_then(|time| Utc::now().checked_sub_signed(time));
        let since = since.unwrap_or(DateTime::<Utc>::MIN_UTC);
        let runs = Manifest::all(self, &SessionContext::new()).await?;
        let since_micros = since.timestamp_micros();
        let forgotten = self.retry(|| Manifest::forget(self, &runs, since_micros, dry_run)).await?;
        let mut tables = Vec::new();
        for table in catalogue::tables() {
            if self.newest_version(table.name).await?.is_none() {
                continue;
            }
            let vacuum = || self.vacuum_table(&runs, table.name, since, dry_run);
            tables.push(self.retry(vacuum).await?);
        }
        Ok(VacuumedLake { runs: forgotten, tables })
    }

    async fn vacuum_table(
        &self,
        runs: &[Manifest],
        table: &'static str,
        since: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Vacuumed, LakeError> {
        let store = self.log_store(table)?.object_store(None);
        let listed = data_files(store.as_ref(), table).await?;
        let old: Vec<ObjectMeta> = listed.into_iter().filter(|file| file.last_modified < since).collect();
        let unfinished = unfinished::unfinished(self, table, since).await?;
        let mut done = Vacuumed { table, files: 0, bytes: 0 };
        done.files += unfinished.len() as u64;
        done.bytes += unfinished.iter().map(|(_, bytes)| bytes).sum::<u64>();
        if !dry_run {
            unfinished::remove(table, unfinished).await?;
        }
        if old.is_empty() {
            return Ok(done);
        }
        let needed = self.needed(runs, table, since).await?;
        let unneeded: Vec<ObjectMeta> = old.into_iter().filter(|file| !needed.contains(&file.location)).collect();
        done.files += unneeded.len() as u64;
        done.bytes += unneeded.iter().map(|file| file.size).sum::<u64>();
        if !dry_run {
            delete(&store, table, unneeded).await?;
        }
        Ok(done)
    }

    /// The files of a table that a reader may need.
    async fn needed(
        &self,
        runs: &[Manifest],
        table: &'static str,
        since: DateTime<Utc>,
    ) -> Result<HashSet<Path>, LakeError> {
        let wrong = |error| LakeError::table(table, error);
        let mut loaded = self.delta_table(table)?;
        loaded.load().await.map_err(wrong)?;
        let snapshot = loaded.snapshot().map_err(wrong)?;
        let newest = snapshot.version();
        let mut needed: HashSet<Path> = files_of(snapshot).iter().map(|file| file.object().clone()).collect();
        let log_store = loaded.log_store();
        let removed: Vec<_> = snapshot.all_tombstones(log_store.as_ref()).try_collect().await.map_err(wrong)?;
        for file in removed {
            // A file without a time of removal may have been removed just now.
            let is_recent =
                file.deletion_timestamp().and_then(DateTime::from_timestamp_millis).is_none_or(|at| at >= since);
            if is_recent {
                needed.insert(Path::from(file.path().as_ref()));
            }
        }
        if table == catalogue::MANIFEST {
            return Ok(needed);
        }
        let last = runs.last().map(|run| run.run);
        let mut versions: Vec<u64> = Manifest::used_since(runs, since.timestamp_micros())
            .iter()
            .filter_map(|run| run.version(table))
            .filter(|version| *version != newest)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        if let Some(covered) = runs.last().and_then(|run| run.version(table)) {
            needed.extend(self.tail_objects(table, covered).await?);
        }
        for version in versions {
            match self.files_at(table, version).await {
                Ok(files) => needed.extend(files.iter().map(|file| file.object().clone())),
                // The log of an old version may be cleaned up. Only the last run's must be there.
                Err(error) if runs.iter().any(|run| Some(run.run) == last && run.version(table) == Some(version)) => {
                    return Err(error);
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => tracing::debug!(table, version, %error, "a published version cannot be read any more"),
            }
        }
        Ok(needed)
    }
}

/// The data files in a table's folder, whether the table has them or not.
async fn data_files(store: &dyn ObjectStore, table: &str) -> Result<Vec<ObjectMeta>, LakeError> {
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.map_err(|error| LakeError::store(table, error))?;
    // Names that begin with an underscore are the log's and the lease's.
    let is_data = |file: &ObjectMeta| !file.location.parts().any(|part| part.as_ref().starts_with('_'));
    Ok(all.into_iter().filter(|file| is_data(file) && file.location.as_ref().ends_with(".parquet")).collect())
}

async fn delete(store: &Arc<dyn ObjectStore>, table: &str, files: Vec<ObjectMeta>) -> Result<(), LakeError> {
    let paths: Vec<_> = files.into_iter().map(|file| Ok(file.location)).collect();
    let mut removed = store.delete_stream(futures::stream::iter(paths).boxed());
    while let Some(result) = removed.next().await {
        match result {
            // Another process may remove them at the same time.
            Ok(_) | Err(object_store::Error::NotFound { .. }) => failpoint::hit(failpoint::FILE_DELETED),
            Err(error) => return Err(LakeError::store(table, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use adlake_domain::settings::{Meaning, REVISION};

    use super::*;

    #[test]
    fn runs_that_were_the_last_within_the_retention_are_kept() {
        let run = |run: i64, published_at: i64| Manifest {
            run_id: run.to_string(),
            run,
            published_at,
            versions: BTreeMap::new(),
            meaning: Meaning::default(),
            revision: REVISION,
        };
        let runs = [run(1, 10), run(2, 20), run(3, 30)];
        let check = |runs: &[Manifest], since: i64, expected: &[i64]| {
            let used: Vec<i64> = Manifest::used_since(runs, since).iter().map(|run| run.run).collect();
            assert_eq!(used, expected, "since {since}");
        };
        check(&[], 15, &[]);
        check(&runs, 5, &[1, 2, 3]);
        // A reader that began at 15 reads run 1, and one that began at 25 reads run 2.
        check(&runs, 15, &[1, 2, 3]);
        check(&runs, 25, &[2, 3]);
        check(&runs, 35, &[3]);
    }
}
