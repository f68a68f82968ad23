//! Watches folders on this machine without looking at every file every time.
//!
//! A folder whose modification time is unchanged has no new files, and is not listed. Files that
//! changed a short time ago are looked at every time, since they may still grow. All others are
//! looked at in a full sweep, once in a while. A file is reported once it has been left alone for
//! `files.settle`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use xxhash_rust::xxh3::xxh3_128;

use super::discover::{self, failed};
use super::passed_over::{PassedOver, by_convention, by_extension};
use super::place::Found;
use crate::error::SpeedError;
use crate::settings::FilesSettings;

/// File system clocks are coarse. A folder that changed this short a time before it was listed is
/// listed again.
const COARSE: Duration = Duration::from_secs(3);
/// Files that changed this short a time ago are looked at every time ...
const RECENT: Duration = Duration::from_secs(10 * 60);
/// ... unless there are more of them.
const RECENT_MAX: usize = 10_000;

/// Files, folders and patterns.
#[derive(Debug)]
pub struct Folders {
    paths: Vec<String>,
    any_name: bool,
    settings: FilesSettings,
    passed_over: PassedOver,
    /// Every folder under the named ones, with its modification time when it was last listed.
    folders: HashMap<PathBuf, Option<SystemTime>>,
    /// Files that were seen, by the hash of their paths.
    seen: HashSet<u128>,
    /// Files that may still be being written.
    unsettled: HashMap<PathBuf, LastSeen>,
    /// Files that were reported and may grow.
    recent: HashMap<PathBuf, LastSeen>,
    swept: Instant,
}

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastSeen {
    bytes: u64,
    tag: String,
    since: Instant,
}

impl LastSeen {
    fn at(found: &Found) -> LastSeen {
        LastSeen { bytes: found.bytes, tag: found.tag.clone(), since: Instant::now() }
    }

    fn matches(&self, found: &Found) -> bool {
        self.bytes == found.bytes && self.tag == found.tag
    }
}

impl Folders {
    pub fn new(paths: Vec<String>, any_name: bool, settings: FilesSettings, passed_over: PassedOver) -> Folders {
        Folders {
            paths,
            any_name,
            settings,
            passed_over,
            folders: HashMap::new(),
            seen: HashSet::new(),
            unsettled: HashMap::new(),
            recent: HashMap::new(),
            swept: Instant::now(),
        }
    }

    /// Everything there is now, and what cannot be looked at. It is an error if a named path does
    /// not exist.
    pub fn once(&mut self) -> Result<(Vec<Found>, Vec<SpeedError>), SpeedError> {
        let (mut found, mut problems) = (BTreeSet::new(), Vec::new());
        for path in &self.paths {
            let unexpected = self.passed_over.unexpected();
            let mut here = BTreeSet::new();
            discover::find(path, self.any_name, Some(&mut problems), &self.passed_over, &mut here)?;
            self.passed_over.looked_through(path, here.len(), unexpected);
            found.append(&mut here);
        }
        let mut files = Vec::new();
        for path in found {
            match Found::local(path.clone()) {
                Ok(file) => files.push(file),
                Err(error) => problems.push(failed(&path, "cannot be read", Some(error))),
            }
        }
        Ok((files, problems))
    }

    /// Begins to watch. Returns the files that are there and settled. It is an error if a named
    /// path does not exist; a pattern may match later.
    pub fn begin(&mut self) -> Result<Vec<Found>, SpeedError> {
        for path in self.paths.iter().filter(|path| !is_pattern(path)) {
            let path = discover::literal(path);
            fs::metadata(path).map_err(|error| failed(path, "cannot be watched", Some(error)))?;
        }
        Ok(self.sweep())
    }

    /// Looks at everything there is. What cannot be looked at is passed over until the next time.
    fn sweep(&mut self) -> Vec<Found> {
        self.swept = Instant::now();
        let mut found = BTreeSet::new();
        for path in &self.paths {
            // A pattern may match nothing at the moment, and a named file may have been moved away.
            if let Err(error) = discover::find(path, self.any_name, None, &self.passed_over, &mut found) {
                tracing::debug!(%error, "a path cannot be read now; it is tried again at the next sweep");
            }
        }
        let mut found_files = Vec::new();
        for path in found {
            if let Ok(file) = Found::local(path.clone()) {
                self.look(path, file, &mut found_files);
            }
        }
        let mut noted = HashSet::new();
        for path in self.paths.clone() {
            let path = discover::literal(&path);
            if path.is_dir()
                && let Ok(path) = path.canonicalize()
            {
                self.note_folders(&path, &mut noted);
            }
        }
        self.folders.retain(|folder, _| noted.contains(folder));
        found_files
    }

    /// Makes the next poll report a file again.
    pub fn forget(&mut self, path: &Path) {
        if self.recent.remove(path).is_some() {
            self.unsettled.insert(path.to_owned(), LastSeen { bytes: 0, tag: String::new(), since: Instant::now() });
        }
    }

    /// The files that may be new.
    pub fn poll(&mut self) -> Vec<Found> {
        if self.paths.is_empty() {
            return Vec::new();
        }
        if self.swept.elapsed() >= self.settings.sweep_interval {
            return self.sweep();
        }
        let mut found_files = Vec::new();
        for pattern in self.paths.clone().iter().filter(|path| is_pattern(path)) {
            let mut found = BTreeSet::new();
            if discover::find(pattern, self.any_name, None, &self.passed_over, &mut found).is_ok() {
                self.look_at_new(found, &mut found_files);
            }
        }
        let changed: Vec<PathBuf> = self
            .folders
            .iter()
            .filter(|(path, listed)| listed.is_none() || changed_at(path) != **listed)
            .map(|(path, _)| path.clone())
            .collect();
        for folder in changed {
            self.list(&folder, &mut found_files);
        }
        for path in self.unsettled.keys().chain(self.recent.keys()).cloned().collect::<BTreeSet<_>>() {
            match Found::local(path.clone()) {
                Ok(file) => self.look(path, file, &mut found_files),
                // The file was removed, or can no longer be seen.
                Err(_) => {
                    self.unsettled.remove(&path);
                    self.recent.remove(&path);
                }
            }
        }
        found_files
    }

    /// Looks at a file. Reports it if it is settled and differs from what was reported before.
    fn look(&mut self, path: PathBuf, file: Found, found_files: &mut Vec<Found>) {
        self.seen.insert(xxh3_128(file.name.as_bytes()));
        if self.recent.get(&path).is_some_and(|before| before.matches(&file)) {
            if !is_recent(&file, RECENT) {
                self.recent.remove(&path);
            }
            return;
        }
        let settled = match self.unsettled.get(&path) {
            Some(before) if before.matches(&file) => before.since.elapsed() >= self.settings.settle,
            Some(_) => false,
            // Seen for the first time, and unchanged for so long that no file server's clock can be
            // that wrong.
            None => !is_recent(&file, RECENT),
        };
        if settled {
            self.unsettled.remove(&path);
            if is_recent(&file, RECENT) && self.recent.len() < RECENT_MAX {
                self.recent.insert(path, LastSeen::at(&file));
            }
            found_files.push(file);
        } else if self.unsettled.get(&path).is_none_or(|before| !before.matches(&file)) {
            self.unsettled.insert(path, LastSeen::at(&file));
        }
    }

    fn look_at_new(&mut self, paths: impl IntoIterator<Item = PathBuf>, found_files: &mut Vec<Found>) {
        for path in paths {
            let is_new = !self.seen.contains(&xxh3_128(path.to_string_lossy().as_bytes()));
            if is_new && let Ok(file) = Found::local(path.clone()) {
                self.look(path, file, found_files);
            }
        }
    }

    /// Lists a folder that has changed, and the new folders in it.
    fn list(&mut self, folder: &Path, found_files: &mut Vec<Found>) {
        let changed = changed_at(folder);
        let Ok(entries) = fs::read_dir(folder) else {
            // The folder was removed with everything in it.
            self.folders.remove(folder);
            return;
        };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some(reason) = by_convention(&name) {
                self.passed_over.note(&folder.join(&*name).to_string_lossy(), reason);
                continue;
            }
            let (path, is_folder) = followed(&entry);
            if is_folder {
                if !self.folders.contains_key(&path) {
                    self.list(&path, found_files);
                }
                continue;
            }
            match by_extension(&name).filter(|_| !self.any_name) {
                None => files.push(path),
                Some(reason) => self.passed_over.note(&folder.join(&*name).to_string_lossy(), reason),
            }
        }
        let settled = changed.filter(|at| at.elapsed().is_ok_and(|age| age >= COARSE));
        self.folders.insert(folder.to_owned(), settled);
        self.look_at_new(files, found_files);
    }

    /// Notes the folders under a folder whose files are known.
    fn note_folders(&mut self, folder: &Path, noted: &mut HashSet<PathBuf>) {
        // A link may lead back to a folder above it.
        if !noted.insert(folder.to_owned()) {
            return;
        }
        let changed = changed_at(folder).filter(|at| at.elapsed().is_ok_and(|age| age >= COARSE));
        self.folders.insert(folder.to_owned(), changed);
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let (path, is_folder) = followed(&entry);
            if is_folder && by_convention(&entry.file_name().to_string_lossy()).is_none() {
                self.note_folders(&path, noted);
            }
        }
    }
}

/// The canonical path of an entry in a folder whose path is canonical, and whether the entry is a
/// folder. Links are followed.
fn followed(entry: &fs::DirEntry) -> (PathBuf, bool) {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => (entry.path(), kind.is_dir()),
        _ => {
            let path = entry.path().canonicalize().unwrap_or_else(|_| entry.path());
            let is_folder = path.is_dir();
            (path, is_folder)
        }
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn changed_at(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).ok()?.modified().ok()
}

/// Whether a file was changed within this time, as far as its clock tells.
fn is_recent(file: &Found, within: Duration) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let modified = file.modified.map_or(0, |micros| u128::try_from(micros).unwrap_or(0));
    now.as_micros().saturating_sub(modified) < within.as_micros()
}
