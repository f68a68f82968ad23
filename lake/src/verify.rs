//! Verifies a lake: the logs, the data files, and what the manifests name. Nothing is written.
//!
//! What is wrong is a [`Finding`], and the verification goes on after it. Damage is listed once:
//! what cannot be looked at because of a finding is in [`Verification::skipped`]. A store that does
//! not answer is no damage but an error.
//!
//! 1. [`table_log`]: each table's log has all entries since a checkpoint, and can be parsed.
//! 2. The files of the newest version and of the version that the last published run names are
//!    there and can be read ([`data_file`]).
//! 3. Earlier runs: whether their versions and files are there, so that they can be published
//!    again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::catalogue::{self, MANIFEST, Table};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::task::{Id, JoinSet};

use crate::error::{LakeError, chain};
use crate::live::LiveFile;
use crate::manifest::Manifest;
use crate::storage::Lake;

mod finding;
mod table_log;
mod data_file;

pub use finding::{Finding, FindingKind};

/// The most files whose footers are read at the same time.
const FOOTERS_AT_ONCE: usize = 16;

/// What is verified.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Whether every column of every file is decoded.
    pub deep: bool,
    /// How many files are decoded at the same time.
    pub workers: usize,
    /// Runs that were published within this time have to be whole (`batch.vacuum_retention`).
    pub retention: Duration,
    /// At most so many runs before the last one are looked at.
    pub runs_max: usize,
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Tables.
    pub tables: u64,
    /// Entries of logs that were parsed.
    pub log_entries: u64,
    /// Checkpoints that were decoded.
    pub checkpoints: u64,
    /// Data files whose size and footer were compared with the log.
    pub files: u64,
    /// The bytes of these files, as the log says.
    pub file_bytes: u64,
    /// Rows that were decoded (`--deep`).
    pub decoded_rows: u64,
    /// Published runs.
    pub runs: u64,
}

/// What was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// A table, or a part of the verification.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A published run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunState {
    /// Its number.
    pub run: i64,
    /// When it was published.
    pub published_at: String,
    /// Whether its tables can be published again (`adlake batch rollback`).
    pub can_be_published_again: bool,
    /// What it lacks, if it cannot.
    pub detail: Option<String>,
}

/// The result of a verification.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
    /// The runs that were looked at, the last one first.
    pub runs: Vec<RunState>,
    /// What was not looked at, and why.
    pub skipped: Vec<Skipped>,
    /// The last published run, if the manifest can be read.
    pub manifest: Option<Manifest>,
}

impl Verification {
    /// Whether something is wrong with a table.
    pub fn is_damaged(&self, table: &str) -> bool {
        self.findings.iter().any(|finding| finding.table == table)
    }

    fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(Skipped { what: what.to_string(), why: why.to_string() });
    }
}

impl Lake {
    /// Verifies all tables. `begin` is told which table is looked at. If there is no table at all,
    /// the error is [`LakeError::NotFound`].
    pub fn verify<'a>(
        &'a self,
        context: &'a SessionContext,
        options: &'a VerifyOptions,
        begin: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Verification, LakeError>> {
        // The boxed future is compiled in this crate, and not again in every program that awaits
        // it.
        Box::pin(self.verify_now(context, options, begin))
    }

    async fn verify_now(
        &self,
        context: &SessionContext,
        options: &VerifyOptions,
        begin: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Verification, LakeError> {
        let mut verifier = Verifier {
            lake: self,
            options,
            done: Verification::default(),
            newest: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        let Some(manifest) = catalogue::table(MANIFEST) else { return Ok(verifier.done) };
        begin(MANIFEST);
        verifier.table(&manifest, None).await?;
        let runs = verifier.runs(context).await?;
        let last = runs.first();
        for table in catalogue::tables() {
            if table.name != MANIFEST {
                begin(table.name);
                verifier.table(&table, last).await?;
            }
        }
        if verifier.newest.is_empty() && verifier.done.findings.is_empty() {
            let root = self.root();
            return Err(LakeError::NotFound(format!("there is no lake at {root}: create one with `adlake ingest`")));
        }
        begin(MANIFEST);
        verifier.earlier(&runs).await?;
        verifier.done.manifest = runs.into_iter().next();
        Ok(verifier.done)
    }
}

/// A verification that is under way.
struct Verifier<'a> {
    lake: &'a Lake,
    options: &'a VerifyOptions,
    done: Verification,
    /// The newest version of each table whose log is whole.
    newest: BTreeMap<&'static str, u64>,
    /// By table: the files that were looked at, and whether they are whole.
    known: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Verifier<'_> {
    /// Looks at a table's log, and at the files of its newest version and of the version that the
    /// last run names.
    async fn table(&mut self, table: &Table, last: Option<&Manifest>) -> Result<(), LakeError> {
        let published = last.and_then(|run| run.version(table.name));
        let log = table_log::check(self.lake, table.name, published).await?;
        self.done.checked.log_entries += log.entries;
        self.done.checked.checkpoints += log.checkpoints;
        let is_whole = log.findings.is_empty();
        self.done.findings.extend(log.findings);
        let run = last.map_or(0, |run| run.run);
        let Some(newest) = log.newest else {
            if let Some(version) = published {
                self.done.findings.push(Finding::no_version(table.name, version, run, None));
            }
            return Ok(());
        };
        self.done.checked.tables += 1;
        if !is_whole {
            self.done.skip(table.name, "its log is damaged, so it is not known which files it has");
            return Ok(());
        }
        self.newest.insert(table.name, newest);
        let mut versions = vec![newest];
        match published {
            Some(version) if version > newest => {
                self.done.findings.push(Finding::no_version(table.name, version, run, Some(newest)));
            }
            Some(version) if version != newest => versions.push(version),
            _ => {}
        }
        for version in versions {
            match self.lake.files_at(table.name, version).await {
                Ok(files) => self.files(table, version, files).await?,
                Err(error) if is_certain(&error) => {
                    self.done.findings.push(Finding::unreadable_version(table.name, version, &chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at those files of a version that were not looked at yet.
    async fn files(&mut self, table: &Table, version: u64, files: Vec<LiveFile>) -> Result<(), LakeError> {
        let known = self.known.entry(table.name.to_string()).or_default();
        let new: Vec<LiveFile> = files.into_iter().filter(|file| !known.contains_key(&file.path)).collect();
        let at_once = if self.options.deep { self.options.workers.max(1) } else { FOOTERS_AT_ONCE };
        let (lake, deep, shared) = (self.lake.clone(), self.options.deep, Arc::new(table.clone()));
        let look = move |file: LiveFile| {
            let (lake, table) = (lake.clone(), shared.clone());
            async move { lake.retry(|| data_file::check(&lake, &table, version, &file, deep)).await }
        };
        self.done.checked.files += new.len() as u64;
        self.done.checked.file_bytes += new.iter().map(|file| file.bytes).sum::<u64>();
        for (file, looked) in each(new, at_once, look).await? {
            let (finding, rows) = match looked {
                Ok(looked) => (looked.finding, looked.rows),
                // The decoder met what it did not expect.
                Err(detail) => (Some(Finding::unreadable_file(table.name, &file.path, version, &detail)), 0),
            };
            known.insert(file.path, finding.is_none());
            self.done.findings.extend(finding);
            self.done.checked.decoded_rows += rows;
        }
        Ok(())
    }

    /// The published runs, the last one first.
    async fn runs(&mut self, context: &SessionContext) -> Result<Vec<Manifest>, LakeError> {
        if self.done.is_damaged(MANIFEST) {
            self.done.skip("published runs", "batch/manifest is damaged");
            return Ok(Vec::new());
        }
        let mut runs = match Manifest::all(self.lake, context).await {
            Ok(runs) => runs,
            Err(error) if is_certain(&error) => {
                self.done.findings.push(Finding::manifest(self.newest.get(MANIFEST).copied(), chain(&error)));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let twice = runs.windows(2).filter(|pair| pair[0].run == pair[1].run).map(|pair| pair[0].run);
        for run in twice.collect::<BTreeSet<_>>() {
            let detail = format!("run {run} is in the manifest more than once");
            self.done.findings.push(Finding::manifest(self.newest.get(MANIFEST).copied(), detail));
        }
        runs.reverse();
        Ok(runs)
    }

    /// Looks whether earlier runs can be published again.
    async fn earlier(&mut self, runs: &[Manifest]) -> Result<(), LakeError> {
        let since = TimeDelta::from_std(self.options.retention).ok().and_then(|age| Utc::now().checked_sub_signed(age));
        let since = since.unwrap_or(DateTime::<Utc>::MIN_UTC).timestamp_micros();
        for (place, run) in runs.iter().take(self.options.runs_max.saturating_add(1)).enumerate() {
            let is_needed = place > 0 && run.published_at >= since;
            let mut lacks = None;
            for (table, version) in &run.versions {
                let lack = self.lack(run, table, *version, is_needed).await?;
                lacks = lacks.or(lack);
            }
            self.done.checked.runs += 1;
            self.done.runs.push(RunState {
                run: run.run,
                published_at: DateTime::from_timestamp_micros(run.published_at)
                    .map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
                    .unwrap_or_default(),
                can_be_published_again: lacks.is_none(),
                detail: lacks,
            });
        }
        Ok(())
    }

    /// What a version of a table lacks for the run that names it. If the run `is_needed`, what is
    /// damaged is a finding.
    async fn lack(
        &mut self,
        run: &Manifest,
        name: &str,
        version: u64,
        is_needed: bool,
    ) -> Result<Option<String>, LakeError> {
        let Some(newest) = self.newest.get(name).copied() else {
            return Ok(Some(format!("the log of {name} is damaged, or not there")));
        };
        if version > newest {
            if is_needed {
                self.done.findings.push(Finding::no_version(name, version, run.run, Some(newest)));
            }
            return Ok(Some(format!("{name} has no version {version}")));
        }
        let files = match self.lake.files_at(name, version).await {
            Ok(files) => files,
            // Entries and checkpoints of old versions are removed from the log.
            Err(error) if is_certain(&error) => {
                return Ok(Some(format!("version {version} of {name} is not in the log any more")));
            }
            Err(error) => return Err(error),
        };
        let known = self.known.entry(name.to_string()).or_default();
        let new: Vec<LiveFile> = files.iter().filter(|file| !known.contains_key(&file.path)).cloned().collect();
        let (lake, table) = (self.lake.clone(), Arc::<str>::from(name));
        let look = move |file: LiveFile| {
            let (lake, table) = (lake.clone(), table.clone());
            async move { lake.retry(|| data_file::find(&lake, &table, version, &file)).await }
        };
        for (file, looked) in each(new, FOOTERS_AT_ONCE, look).await? {
            let finding = looked.unwrap_or_default();
            known.insert(file.path, finding.is_none());
            self.done.findings.extend(finding.filter(|_| is_needed));
        }
        let gone = files.iter().find(|file| known.get(&file.path) == Some(&false));
        Ok(gone.map(|file| format!("{name}/{} is damaged, or not there", file.path)))
    }
}

/// Whether an error tells of the lake, and not of an outage or a refusal.
fn is_certain(error: &LakeError) -> bool {
    !error.is_retryable() && !matches!(error, LakeError::Refused { .. } | LakeError::Configuration(_))
}

/// Does some work for each file, so many at a time, each in a task of its own. The results come in
/// the order of the files. `Err`: the work has panicked.
async fn each<Work, Output>(
    files: Vec<LiveFile>,
    at_once: usize,
    work: impl Fn(LiveFile) -> Work,
) -> Result<Vec<(LiveFile, Result<Output, String>)>, LakeError>
where
    Work: Future<Output = Result<Output, LakeError>> + Send + 'static,
    Output: Send + 'static,
{
    let mut waiting = files.iter().enumerate();
    let mut running = JoinSet::new();
    let mut done = BTreeMap::new();
    let mut places: HashMap<Id, usize> = HashMap::new();
    loop {
        while running.len() < at_once
            && let Some((place, file)) = waiting.next()
        {
            let task = running.spawn(work(file.clone()));
            places.insert(task.id(), place);
        }
        let Some(next) = running.join_next_with_id().await else { break };
        let (id, output) = match next {
            Ok((id, output)) => (id, Ok(output?)),
            Err(error) => (error.id(), Err(format!("the reader failed: {error}"))),
        };
        if let Some(place) = places.remove(&id) {
            done.insert(place, output);
        }
    }
    Ok(files.into_iter().enumerate().filter_map(|(place, file)| Some((file, done.remove(&place)?))).collect())
}
