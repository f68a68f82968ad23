//! A lake for the tests of the batch layer, with everything that goes on beside the jobs: events
//! come in round by round, and a reader compares each answer with what it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adlake_domain::catalogue;
use adlake_lake::manifest::Manifest;
use adlake_lake::{Lake, StorageSettings};
use adlake_tests::adlake::{Adlake, Output};
use adlake_tests::oracle::VIEWS;
use adlake_tests::s3::S3Server;
use adlake_tests::wait;
use anyhow::{Context, Result, anyhow, bail, ensure};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;

use super::DEADLINE;
use super::batch_events::{Events, QUESTION, State, parse};
use super::site::Place;
use crate::raw::Raw;

/// How long a process that was killed keeps the lease.
pub const LEASE: Duration = Duration::from_secs(1);
/// How long the store's and this process's clocks may take to agree that a lease has expired.
const LEASE_MARGIN: Duration = Duration::from_millis(300);
/// The least time between two rounds.
const ROUND: Duration = Duration::from_millis(700);
/// The exit code of a failure that is none of the configuration.
pub const FAILURE: i32 = 1;

/// A lake, the events that are sent to it, and the program on it.
pub struct BatchSite {
    pub raw: Raw,
    pub s3: Option<S3Server>,
    pub events: Mutex<Events>,
    uri: String,
    environment: BTreeMap<String, String>,
    /// How many rounds ingest has begun with, and how many are in for certain.
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl BatchSite {
    pub async fn new(place: Place, seed: u64) -> Result<BatchSite> {
        let folder = tempfile::tempdir()?;
        let s3 = match place {
            Place::Folder => None,
            Place::S3 => Some(S3Server::start()?),
        };
        let uri = s3.as_ref().map_or_else(|| folder.path().join("lake").display().to_string(), |s3| s3.uri("lake"));
        let environment = s3.iter().flat_map(S3Server::storage_options).collect();
        let options = s3.iter().flat_map(S3Server::storage_options).collect();
        let lake = Lake::open(&StorageSettings { uri: uri.clone(), options, ..StorageSettings::default() }).await?;
        let events = Mutex::new(Events::new(&folder.path().join("events"), seed)?);
        let (begun, ended) = Default::default();
        Ok(BatchSite { raw: Raw { folder, lake }, s3, events, uri, environment, begun, ended })
    }

    /// The program on this lake. Its logs go to a folder of its own.
    pub fn program(&self, name: &str, retention: Duration) -> Result<Adlake> {
        self.program_at(name, &self.uri, retention)
    }

    fn program_at(&self, name: &str, uri: &str, retention: Duration) -> Result<Adlake> {
        let folder = self.raw.path().join(name);
        fs::create_dir_all(&folder)?;
        let adlake = Adlake::in_dir(&folder).config(&format!(
            "[lake]\nuri = \"{uri}\"\n[lake.log]\ncheckpoint_interval = 10\n\
             [batch]\nlease_time = \"{}s\"\nvacuum_retention = \"{}s\"\n",
            LEASE.as_secs(),
            retention.as_secs()
        ));
        Ok(self.environment.iter().fold(adlake, |adlake, (key, value)| adlake.env(key, value)))
    }

    pub fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ingests one more round.
    pub fn ingest_round(&self, adlake: &Adlake) -> Result<()> {
        let files = {
            let mut events = self.events();
            self.begun.fetch_add(1, Ordering::SeqCst);
            events.write_round()?
        };
        let mut line = ["ingest", "files", "--quiet"].map(String::from).to_vec();
        line.extend(files);
        let output = adlake.run(&line);
        ensure!(output.status.success(), "ingest: {}: {}{}", output.status, output.stdout, output.stderr);
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Asks all views at once. Fails unless the answer is that of one state, which holds at least
    /// what was in when the query began, and at most what was sent when it ended.
    pub fn ask(&self, adlake: &Adlake) -> Result<State> {
        let least = State::of(self.ended.load(Ordering::SeqCst));
        let output = adlake.run(["query", QUESTION, "--format", "json", "--quiet"]);
        let most = State::of(self.begun.load(Ordering::SeqCst));
        ensure!(output.status.success(), "a query failed: {}: {}", output.status, output.stderr);
        let rows = serde_json::from_str::<Vec<_>>(&output.stdout).with_context(|| output.stdout.clone())?;
        let state = self.events().state_of(&parse(&rows)?)?;
        ensure!(state.is_at_least(&least), "{least:?} was in before the query, and its answer is of {state:?}");
        ensure!(most.is_at_least(&state), "only {most:?} was sent, and the answer is of {state:?}");
        Ok(state)
    }

    /// Waits until no living or dead process holds the lease.
    pub async fn lease_is_free(&self) -> Result<()> {
        wait::until_async(DEADLINE, "the lease to expire", async || {
            let Some(lease) = self.raw.lake.lease_state().await? else { return Ok(true) };
            let age = chrono::Utc::now().signed_duration_since(lease.at).to_std().unwrap_or_default();
            Ok(lease.released || age > LEASE + LEASE_MARGIN)
        })
        .await
    }

    /// Compares every view with that of a lake into which the same files were ingested at once, and
    /// which one full run has covered. Returns the number of rows.
    pub fn equals_a_clean_lake(&self) -> Result<usize> {
        let clean = match &self.s3 {
            Some(server) => server.uri("clean"),
            None => self.raw.path().join("clean").display().to_string(),
        };
        let clean = self.program_at("clean-program", &clean, Duration::from_secs(3600))?;
        let folder = self.events().folder().display().to_string();
        clean.ok(["ingest", "files", &folder, "--quiet"]);
        clean.ok(["batch", "run", "--full", "--quiet"]);
        let found = self.program("compared", Duration::from_secs(3600))?;
        let mut rows = 0;
        for view in VIEWS {
            let (found, expected) = (view_rows(&found, view)?, view_rows(&clean, view)?);
            // All of these events are valid.
            let may_be_empty = view == "invalid_traffic";
            ensure!(may_be_empty || !expected.is_empty(), "{view} of the clean lake is empty");
            if found != expected {
                let differs =
                    |a: &[String], b: &[String]| a.iter().filter(|row| !b.contains(row)).take(5).cloned().collect();
                let (more, less): (Vec<String>, Vec<String>) = (differs(&found, &expected), differs(&expected, &found));
                bail!("{view} differs from that of a clean lake\nmore: {more:#?}\nless: {less:#?}");
            }
            rows += expected.len();
        }
        Ok(rows)
    }

    /// Checks that every data file in the store is one that the newest version of its table or the
    /// last run names, and that all of these are there. Returns their number.
    pub async fn no_orphans(&self) -> Result<usize> {
        let lake = &self.raw.lake;
        let store = self.store()?;
        let last = Manifest::latest(lake, &SessionContext::new()).await?.context("no batch run is published")?;
        let mut files = 0;
        for table in catalogue::tables() {
            let Some(newest) = lake.newest_version(table.name).await? else { continue };
            let mut needed = BTreeSet::new();
            for version in last.version(table.name).into_iter().chain([newest]) {
                needed.extend(lake.files_at(table.name, version).await?.into_iter().map(|file| file.path));
            }
            let prefix = object_store::path::Path::from(table.name);
            let listed: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
            let there: BTreeSet<String> = listed
                .iter()
                .filter_map(|file| file.location.as_ref().strip_prefix(table.name)?.strip_prefix('/'))
                .filter(|path| !path.starts_with('_'))
                .map(str::to_owned)
                .collect();
            ensure!(there == needed, "{}: there is {there:#?}, needed is {needed:#?}", table.name);
            files += there.len();
        }
        if self.s3.is_none() {
            let lake = Path::new(&self.uri);
            let unfinished = unfinished_files(lake)?;
            ensure!(unfinished.is_empty(), "vacuum has left unfinished files: {unfinished:#?}");
        }
        Ok(files)
    }

    fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        Ok(match &self.s3 {
            Some(server) => Arc::new(PrefixStore::new(server.store()?, "lake")),
            None => Arc::new(LocalFileSystem::new_with_prefix(Path::new(&self.uri))?),
        })
    }
}

/// The rows of a view, in order, without the columns that tell when and from which of several equal
/// records they come.
fn view_rows(adlake: &Adlake, view: &str) -> Result<Vec<String>> {
    let rows = adlake.query_json(&format!("SELECT * FROM {view}"));
    let mut rows: Vec<String> = rows
        .into_iter()
        .map(|mut row| {
            row.remove("source");
            row.remove("ingested_at");
            serde_json::to_string(&row)
        })
        .collect::<Result<_, _>>()?;
    rows.sort();
    Ok(rows)
}

/// The files of tables that a store of a folder does not list, because they are not complete.
fn unfinished_files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('_') {
                found.extend(unfinished_files(&path)?);
            }
        } else if !name.ends_with(".parquet") {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

/// Runs a job to its end. While the lease of a dead process holds, the job is tried again.
pub fn until_leased(adlake: &Adlake, line: &[&str]) -> Result<Output> {
    wait::value(DEADLINE, &format!("{line:?} to get the lease"), || {
        let output = adlake.run(line);
        Ok((!is_leased(&output)).then_some(output))
    })
}

/// Whether a job was refused because another process holds the lease.
pub fn is_leased(output: &Output) -> bool {
    output.status.code() == Some(FAILURE) && output.stderr.contains("holds the batch lease")
}

/// A thread that does something again and again until it is stopped, or until it fails.
pub struct Loop<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

impl<T: Default + Send + 'static> Loop<T> {
    pub fn start(mut step: impl FnMut(&mut T) -> Result<()> + Send + 'static) -> Loop<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut tally = T::default();
            while !stopped.load(Ordering::Relaxed) {
                step(&mut tally)?;
            }
            Ok(tally)
        });
        Loop { stop, thread }
    }

    /// Whether it has failed.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it. Returns its tally.
    pub fn stop(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a thread of the test panicked"))?
    }
}

/// What a reader has seen.
#[derive(Debug, Default)]
pub struct Reading {
    pub queries: usize,
    /// How many of the answers were of a newer state than the one before.
    pub newer: usize,
    /// Queries that failed, and that took longer than the retention.
    pub late: usize,
    last: Option<State>,
}

/// Ingests round after round.
pub fn ingest(site: &Arc<BatchSite>, retention: Duration) -> Result<Loop<usize>> {
    let (site, adlake) = (site.clone(), site.program("ingest", retention)?);
    Ok(Loop::start(move |rounds| {
        let began = Instant::now();
        site.ingest_round(&adlake)?;
        *rounds += 1;
        thread::sleep(ROUND.saturating_sub(began.elapsed()));
        Ok(())
    }))
}

/// Asks again and again. No answer may be of an older state than the one before.
pub fn read(site: &Arc<BatchSite>, retention: Duration) -> Result<Loop<Reading>> {
    let (site, adlake) = (site.clone(), site.program("reader", retention)?);
    Ok(Loop::start(move |reading: &mut Reading| {
        let began = Instant::now();
        let state = match site.ask(&adlake) {
            Ok(state) => state,
            // Files are kept for readers that take no longer than this.
            Err(error) if began.elapsed() > retention => {
                println!("a query took {:?}: {error:#}", began.elapsed());
                reading.late += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(last) = &reading.last {
            ensure!(state.is_at_least(last), "an answer is of {state:?}, after one of {last:?}");
        }
        reading.newer += usize::from(reading.last.is_some_and(|last| last != state));
        reading.queries += 1;
        reading.last = Some(state);
        Ok(())
    }))
}
