//! Decides which of the found files are read: new files, files that have grown, and files that
//! could not be read or used before.

use std::io;
use std::time::{Duration, Instant};

use adlake_lake::error::chain;

use super::FilesSource;
use super::discover::{self, failed};
use super::file_list::Verdict;
use super::open::Digest;
use super::place::{At, Found};
use crate::error::SpeedError;

/// The first pause and the longest pause before a file that could not be read is tried again.
const REFUSED_MIN: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(5 * 60);

/// A file that could not be read. It is not tried again for a while.
#[derive(Debug)]
pub(super) struct Refused {
    tag: String,
    pub(super) pause: Duration,
    pub(super) until: Instant,
}

/// A watched file that ends within a record.
#[derive(Debug)]
pub(super) struct CutFile {
    found: Found,
    /// Since when the file has not changed.
    since: Instant,
    /// The file has not changed for so long that it is final.
    is_final: bool,
}

impl CutFile {
    pub fn new(found: &Found, is_final: bool) -> CutFile {
        CutFile { found: Found { whole: None, ..found.clone() }, since: Instant::now(), is_final }
    }
}

impl FilesSource {
    /// Whether the file may still grow beyond its present end. An object cannot: S3 shows it only
    /// when it is whole.
    pub(super) fn may_grow(&self, found: &Found) -> bool {
        if matches!(found.at, At::Object(..)) {
            return false;
        }
        let is_final = self.cut.get(&found.name).is_some_and(|cut| cut.is_final && cut.found.tag == found.tag);
        self.wanted.watch && !self.settings.files.final_after.is_zero() && !is_final
    }

    /// Queues the files that end within a record and have been left alone for so long that they are
    /// final.
    pub(super) fn admit_final(&mut self) {
        let final_after = self.settings.files.final_after;
        let is_due = |cut: &&mut CutFile| !cut.is_final && cut.since.elapsed() >= final_after;
        let mut due = Vec::new();
        for cut in self.cut.values_mut().filter(is_due) {
            cut.is_final = true;
            due.push(cut.found.clone());
        }
        for found in due {
            let application = discover::application(&found.name);
            let under_way = self.inputs.get(&application).is_some_and(|reading| !reading.done);
            if !under_way && !self.waiting_names.contains(&found.name) {
                tracing::info!(path = found.name, "the file has been left alone: it is final");
                self.wait(found);
            }
        }
    }

    /// Queues a file for reading, if it should be read.
    pub(super) fn admit(&mut self, found: Found) {
        let application = discover::application(&found.name);
        let under_way = self.inputs.get(&application).is_some_and(|reading| !reading.done);
        let is_refused = |refused: &Refused| refused.tag == found.tag && Instant::now() < refused.until;
        if under_way
            || self.waiting_names.contains(&found.name)
            || self.refused.get(&found.name).is_some_and(is_refused)
        {
            self.places.forget(&found);
            return;
        }
        if self.aside.get(&found.name) == Some(&found.tag) {
            // Neither the file nor what this run knows of it has changed.
            return;
        }
        match self.file_list.judge(&found, self.wanted.kind) {
            Verdict::Done if self.wanted.watch => {}
            Verdict::Done => self.metrics.consumed(found.bytes),
            Verdict::New => self.wait(found),
            Verdict::Cut if self.may_grow(&found) => {
                // Known from an earlier run, or unchanged since it was read.
                self.cut.entry(found.name.clone()).or_insert_with(|| CutFile::new(&found, false));
            }
            Verdict::Cut if self.wanted.watch && self.cut.contains_key(&found.name) => {}
            Verdict::Cut => self.wait(found),
            Verdict::Changed => self.report_changed(&found),
            Verdict::Begun(before) => match still_begins_with(&found, before) {
                Ok(same) => {
                    if !same {
                        self.replaced.insert(found.name.clone());
                    }
                    self.wait(found);
                }
                Err(error) => self.cannot_read(&found, error),
            },
            Verdict::Written(before) => match still_begins_with(&found, before) {
                Ok(true) if found.bytes > before.bytes => self.wait(found),
                Ok(true) => {
                    self.file_list.same(&found);
                    if self.file_list.judge(&found, self.wanted.kind) == Verdict::Cut {
                        if self.may_grow(&found) {
                            self.cut.insert(found.name.clone(), CutFile::new(&found, false));
                        } else {
                            self.wait(found);
                        }
                    }
                }
                Ok(false) => {
                    self.file_list.changed(&found);
                    self.report_changed(&found);
                }
                Err(error) => self.cannot_read(&found, error),
            },
        }
    }

    fn cannot_read(&mut self, found: &Found, error: io::Error) {
        self.leave(found, &failed(found.path(), "cannot be read", Some(error)), 0);
    }

    /// Leaves a file that cannot be read or used; the other files go on. While files are watched, a
    /// file that cannot be read is tried again, after a pause that doubles each time. Any other is
    /// set aside until it is written again, or another run finds it. `taken` is how many of its
    /// records were delivered before.
    pub(super) fn leave(&mut self, found: &Found, error: &SpeedError, taken: i64) {
        let is_unreadable = matches!(error, SpeedError::File { source: Some(_), .. });
        if !(self.wanted.watch && is_unreadable) {
            return self.set_aside(found, error, taken);
        }
        let before = self.refused.get(&found.name).filter(|refused| refused.tag == found.tag);
        let pause = before.map_or(REFUSED_MIN, |refused| (refused.pause * 2).min(REFUSED_MAX));
        tracing::warn!(
            path = found.name,
            error = chain(error),
            records_taken = taken,
            ?pause,
            "the file cannot be read now; it is tried again"
        );
        let refused = Refused { tag: found.tag.clone(), pause, until: Instant::now() + pause };
        self.refused.insert(found.name.clone(), refused);
        self.places.forget(found);
    }

    /// Reports something in a folder that cannot be looked at, so that nobody knows what it is.
    pub(super) fn cannot_look_at(&mut self, error: &SpeedError) {
        let SpeedError::File { path, .. } = error else { return };
        let (path, reason) = (path.to_string_lossy(), reason(error));
        tracing::error!(path = &*path, reason, "the path is set aside: nothing in it is read");
        self.metrics.file_set_aside(&path, &reason);
    }

    fn set_aside(&mut self, found: &Found, error: &SpeedError, taken: i64) {
        let mut reason = reason(error);
        if taken > 0 {
            reason += &format!("; its first {taken} records are taken, and the next run goes on after them");
            tracing::error!(path = found.name, reason, "the file is set aside: the rest of it is not taken");
        } else {
            tracing::error!(path = found.name, reason, "the file is set aside: nothing of it is taken");
        }
        self.file_list.set_aside(found, &reason);
        self.metrics.file_set_aside(&found.name, &reason);
        self.aside.insert(found.name.clone(), found.tag.clone());
    }

    /// Notes that a file can be used. If it was set aside before, it no longer is.
    pub(super) fn is_usable(&mut self, found: &Found) {
        if self.aside.remove(&found.name).is_some() {
            self.metrics.file_taken_up(&found.name);
        }
    }

    fn wait(&mut self, found: Found) {
        if self.cut.get(&found.name).is_some_and(|cut| cut.found.tag != found.tag) {
            self.cut.remove(&found.name);
        }
        self.waiting_names.insert(found.name.clone());
        self.waiting.push_back(found);
    }

    pub(super) fn report_changed(&mut self, found: &Found) {
        if self.reported.insert(found.name.clone()) {
            tracing::error!(
                path = found.name,
                "the file has changed since it was ingested, and is not read: its beginning differs, or its last \
                 record goes on; to ingest the new content, give it another name"
            );
            self.metrics.file_changed(&found.name);
        }
    }
}

/// What is wrong with a file, without the file's name.
fn reason(error: &SpeedError) -> String {
    match error {
        SpeedError::File { message, source: Some(source), .. } => format!("{message}: {source}"),
        SpeedError::File { message, .. } => message.clone(),
        other => chain(other),
    }
}

/// Whether a file still begins with what was read of it.
fn still_begins_with(found: &Found, before: Digest) -> io::Result<bool> {
    if found.bytes < before.bytes {
        return Ok(false);
    }
    Ok(Digest::of(found.stored()?, before.bytes)? == before)
}
