//! The jobs beside the run: compaction, vacuum, checkpoints, rollback.
//!
//! Each can be repeated, and stopped at any moment. Jobs that write batch tables take the lease, so
//! that one works at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_lake::lease::Lease;
use adlake_lake::manifest::Manifest;
use adlake_lake::vacuum::{Vacuumed, VacuumedLake};
use adlake_lake::views::plans::BatchTable;
use adlake_lake::views::{Day, Plans};
use adlake_lake::{Lake, LakeError, LiveFile};
use datafusion::prelude::SessionContext;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Written};
use crate::error::BatchError;
use crate::observer::Silent;
use crate::publish::{Publication, publish};
use crate::settings::BatchSettings;
use crate::trace;

/// A day of a batch table is compacted if it has more small files than this.
const SMALL_FILES_MAX: usize = 4;
/// At most so many times the size of a file is rewritten by one commit of a raw table.
const FILES_AT_ONCE: u64 = 8;

/// The result of a compaction.
#[derive(Debug, Clone, Serialize)]
pub struct CompactReport {
    /// By table: what was rewritten.
    pub tables: BTreeMap<String, CompactedTable>,
    /// The run that was published, if batch tables were rewritten.
    pub run: Option<i64>,
    /// Why tables were left as they are, if they were.
    pub note: Option<String>,
    /// The time that it took.
    pub elapsed: Duration,
}

/// What was rewritten of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactedTable {
    /// The files before.
    pub files_before: u64,
    /// The files after.
    pub files_after: u64,
    /// The rows that were rewritten.
    pub rows: u64,
}

/// Rewrites small files into large ones: of raw tables those that the published run covers, of
/// batch tables days with many. With `dry_run` it only tells which.
pub async fn compact(
    lake: &Lake,
    settings: &BatchSettings,
    dry_run: bool,
    cancel: &CancellationToken,
) -> Result<CompactReport, BatchError> {
    let began = Instant::now();
    settings.check()?;
    let context = settings.session.context()?;
    let lease = lake.lease("batch compact", settings.lease_time).await?;
    let work = async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(BatchError::Stopped),
            () = lease.lost() => Err(BatchError::lost()),
            done = compact_leased(lake, settings, &context, dry_run, cancel, &lease) => done,
        }
    };
    let done = trace::job("batch compact", Box::pin(work)).await;
    lease.release().await;
    done.map(|report| CompactReport { elapsed: began.elapsed(), ..report })
}

/// By table: how many files [`compact`] would rewrite. Unlike its dry run, this takes no lease, and
/// writes nothing. Tables with nothing to rewrite are left out.
pub async fn compactable(lake: &Lake, settings: &BatchSettings) -> Result<BTreeMap<String, u64>, BatchError> {
    settings.check()?;
    let context = settings.session.context()?;
    let mut tables = BTreeMap::new();
    let Some(manifest) = Manifest::latest(lake, &context).await? else { return Ok(tables) };
    for kind in EventKind::ALL {
        let done = compact_raw(lake, settings, &context, kind, &manifest, true).await?;
        tables.insert(kind.raw_table().to_string(), done.files_before);
    }
    for table in BatchTable::ALL.into_iter().filter(|_| manifest.is_current()) {
        let Some(version) = manifest.version(table.name()) else { continue };
        let mut days = small_files(lake.files_at(table.name(), version).await?, settings);
        days.retain(|_, files| files.len() > SMALL_FILES_MAX);
        tables.insert(table.name().to_string(), days.values().map(|files| files.len() as u64).sum());
    }
    tables.retain(|_, files| *files > 0);
    Ok(tables)
}

async fn compact_leased(
    lake: &Lake,
    settings: &BatchSettings,
    context: &SessionContext,
    dry_run: bool,
    cancel: &CancellationToken,
    lease: &Lease,
) -> Result<CompactReport, BatchError> {
    let mut report = CompactReport { tables: BTreeMap::new(), run: None, note: None, elapsed: Duration::ZERO };
    let Some(manifest) = Manifest::latest(lake, context).await? else {
        report.note = Some("no batch run was published yet: only files that a run covers are compacted".to_string());
        return Ok(report);
    };
    for kind in EventKind::ALL {
        let compacts = compact_raw(lake, settings, context, kind, &manifest, dry_run);
        let done = trace::table(kind.raw_table(), Box::pin(compacts)).await?;
        if done != CompactedTable::default() {
            report.tables.insert(kind.raw_table().to_string(), done);
        }
    }
    if !manifest.is_current() {
        report.note = Some("another version of adlake has written the batch tables; they were left as they are".into());
        return Ok(report);
    }
    let engine = Engine {
        lake: lake.clone(),
        plans: Plans::new(context.clone(), &manifest.meaning, Arc::default()),
        meaning: manifest.meaning.clone(),
        settings: settings.clone(),
        observer: Arc::new(Silent),
        cancel: cancel.clone(),
    };
    let mut versions = manifest.versions.clone();
    for table in BatchTable::ALL {
        let compacts = compact_batch(&engine, table, &manifest, dry_run);
        if let Some((version, done)) = trace::table(table.name(), Box::pin(compacts)).await? {
            versions.insert(table.name().to_string(), version);
            report.tables.insert(table.name().to_string(), done);
        }
    }
    if !dry_run && versions != manifest.versions {
        let publication = Publication { versions, meaning: manifest.meaning, revision: manifest.revision };
        let next = publication.manifest(Some(manifest.run));
        report.run = Some(publish(lake, lease, Some(manifest.run), next).await?);
    }
    Ok(report)
}

/// The files of each day that are smaller than half of what they could be.
fn small_files(files: Vec<LiveFile>, settings: &BatchSettings) -> BTreeMap<Day, Vec<LiveFile>> {
    let mut days: BTreeMap<Day, Vec<LiveFile>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.bytes < settings.file_bytes_max as u64 / 2) {
        if let Some(day) = file.day() {
            days.entry(Day(day)).or_default().push(file);
        }
    }
    days
}

async fn compact_raw(
    lake: &Lake,
    settings: &BatchSettings,
    context: &SessionContext,
    kind: EventKind,
    manifest: &Manifest,
    dry_run: bool,
) -> Result<CompactedTable, BatchError> {
    let name = kind.raw_table();
    let mut done = CompactedTable::default();
    let (Some(covered), Some(newest)) = (manifest.version(name), lake.newest_version(name).await?) else {
        return Ok(done);
    };
    let covered: BTreeSet<String> = lake.files_at(name, covered).await?.into_iter().map(|file| file.path).collect();
    let mut live = lake.files_at(name, newest).await?;
    live.retain(|file| covered.contains(&file.path));
    let table = catalogue::table(name).ok_or_else(|| LakeError::NotFound(name.to_string()))?;
    let bytes_max = FILES_AT_ONCE * settings.file_bytes_max as u64;
    for files in small_files(live, settings).into_values() {
        for files in bins(files, bytes_max) {
            if files.len() < 2 {
                continue;
            }
            done.files_before += files.len() as u64;
            if dry_run {
                done.rows += files.iter().filter_map(|file| file.rows).sum::<u64>();
                continue;
            }
            let writer = settings.writer();
            let rewrite = || lake.compact(context, &table, &files, &writer);
            match lake.retry(rewrite).await? {
                Some(compacted) => {
                    done.files_after += compacted.files;
                    done.rows += compacted.rows;
                }
                None => done.files_before -= files.len() as u64,
            }
        }
    }
    Ok(done)
}

/// Cuts a list of files into parts of at most `bytes_max`.
fn bins(files: Vec<LiveFile>, bytes_max: u64) -> Vec<Vec<LiveFile>> {
    let mut bins: Vec<Vec<LiveFile>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        match bins.last_mut() {
            Some(bin) if bytes + file.bytes <= bytes_max => {
                bytes += file.bytes;
                bin.push(file);
            }
            _ => {
                bytes = file.bytes;
                bins.push(vec![file]);
            }
        }
    }
    bins
}

/// Rewrites the small files of those days of a batch table that have many. `None`: there is no such
/// day.
async fn compact_batch(
    engine: &Engine,
    table: BatchTable,
    manifest: &Manifest,
    dry_run: bool,
) -> Result<Option<(u64, CompactedTable)>, BatchError> {
    let Some(version) = manifest.version(table.name()) else { return Ok(None) };
    let replacer = engine.lake.replacer_from(table.name(), version).await?;
    let mut days = small_files(replacer.base().to_vec(), &engine.settings);
    days.retain(|_, files| files.len() > SMALL_FILES_MAX);
    if days.is_empty() {
        return Ok(None);
    }
    let old: BTreeSet<String> = days.values().flatten().map(|file| file.path.clone()).collect();
    let mut done = CompactedTable { files_before: old.len() as u64, ..CompactedTable::default() };
    if dry_run {
        done.rows = days.values().flatten().filter_map(|file| file.rows).sum();
        return Ok(Some((version, done)));
    }
    let kept: Vec<LiveFile> = replacer.base().iter().filter(|file| !old.contains(&file.path)).cloned().collect();
    let rewritten = engine
        .each(days.into_iter().collect(), move |engine, (day, files)| async move {
            let replacer = engine.lake.replacer_from(table.name(), version).await?;
            let paths = files.into_iter().map(|file| file.path).collect();
            let definition = replacer.table();
            let rows = engine.lake.rows_of_files(engine.plans.context(), definition, paths, day.0).await?;
            engine.plans.register("files", rows)?;
            let frame = engine.plans.sql(&format!("SELECT * FROM files ORDER BY {}", table.order())).await?;
            engine.write(&replacer, table, frame).await
        })
        .await?;
    let all: Written = rewritten.into_iter().collect();
    (done.files_after, done.rows) = (all.files.len() as u64, all.rows);
    let commit = || async {
        let replacer = engine.lake.replacer_from(table.name(), version).await?;
        replacer.commit_keeping(&kept, all.files.clone()).await
    };
    Ok(Some((engine.lake.retry(commit).await?, done)))
}

/// The result of a vacuum.
#[derive(Debug, Clone, Serialize)]
pub struct VacuumReport {
    /// How many runs were removed from the manifest table.
    pub runs: u64,
    /// What was removed from each table.
    pub tables: Vec<Vacuumed>,
    /// Whether it was only counted.
    pub dry_run: bool,
    /// The time that it took.
    pub elapsed: Duration,
}

/// Removes files that no reader needs ([`adlake_lake::vacuum`]). With `dry_run` it only counts
/// them.
pub async fn vacuum(
    lake: &Lake,
    settings: &BatchSettings,
    dry_run: bool,
    cancel: &CancellationToken,
) -> Result<VacuumReport, BatchError> {
    let began = Instant::now();
    settings.check()?;
    // A rollback looks whether the files of an earlier run are there. They must not go meanwhile.
    let lease = lake.lease("batch vacuum", settings.lease_time).await?;
    let work = async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(BatchError::Stopped),
            () = lease.lost() => Err(BatchError::lost()),
            done = lake.vacuum(settings.vacuum_retention, dry_run) => done.map_err(BatchError::Lake),
        }
    };
    let done = trace::job("batch vacuum", Box::pin(work)).await;
    lease.release().await;
    let VacuumedLake { runs, tables } = done?;
    Ok(VacuumReport { runs, tables, dry_run, elapsed: began.elapsed() })
}

/// Writes checkpoints of all tables, and removes old entries of their logs. Returns how many files
/// of each table's log were removed.
pub async fn checkpoint(lake: &Lake) -> Result<BTreeMap<String, u64>, BatchError> {
    let work = async {
        let mut removed = BTreeMap::new();
        for table in catalogue::tables() {
            if let Some(files) = lake.keep_log(table.name).await? {
                removed.insert(table.name.to_string(), files);
            }
        }
        Ok(removed)
    };
    trace::job("batch checkpoint", Box::pin(work)).await
}

/// The result of a rollback.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackReport {
    /// The run whose tables are published again.
    pub to: i64,
    /// The number under which they are published.
    pub run: i64,
}

/// Publishes the tables of an earlier run again, as a new run. What came since is tail again, so
/// that answers stay exact.
pub async fn rollback(lake: &Lake, settings: &BatchSettings, to: i64) -> Result<RollbackReport, BatchError> {
    let context = settings.session.context()?;
    let lease = lake.lease("batch rollback", settings.lease_time).await?;
    let done = trace::job("batch rollback", Box::pin(rollback_leased(lake, &context, to, &lease))).await;
    lease.release().await;
    done
}

async fn rollback_leased(
    lake: &Lake,
    context: &SessionContext,
    to: i64,
    lease: &Lease,
) -> Result<RollbackReport, BatchError> {
    let runs = Manifest::all(lake, context).await?;
    let known = || match (runs.first(), runs.last()) {
        (Some(first), Some(last)) if first.run == last.run => format!("the manifest knows run {} alone", last.run),
        (Some(first), Some(last)) => format!("the manifest knows runs {} to {}", first.run, last.run),
        _ => "no batch run was published yet".to_string(),
    };
    let (Some(target), Some(last)) = (runs.iter().find(|run| run.run == to), runs.last()) else {
        return Err(LakeError::NotFound(format!("there is no batch run {to}: {}", known())).into());
    };
    for (table, version) in &target.versions {
        lake.check_files(table, *version).await?;
    }
    let Manifest { versions, meaning, revision, .. } = target.clone();
    let next = Publication { versions, meaning, revision }.manifest(Some(last.run));
    let run = publish(lake, lease, Some(last.run), next).await?;
    Ok(RollbackReport { to, run })
}
