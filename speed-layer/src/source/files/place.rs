//! The places where files are found: folders, patterns and files of this machine, and prefixes of
//! S3.
//!
//! A place is looked through as a whole once. After that, a watcher polls for what may be new
//! ([`Places::poll`]), which costs little however much is there. A poll may report files that are
//! known already, so the caller must compare.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::folder::Folders;
use super::open::Content;
use super::passed_over::{PassedOver, by_extension};
use super::s3::{ObjectReader, Prefix, S3};
use super::{FilesWanted, SourceContext};
use crate::error::SpeedError;
use crate::settings::{FilesSettings, SpeedSettings};

/// A file as it was when it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its canonical path or its URI, which also names its stream.
    pub name: String,
    /// How it is opened.
    pub at: At,
    /// Its length as stored.
    pub bytes: u64,
    /// When it was last changed, in microseconds since the epoch.
    pub modified: Option<i64>,
    /// A tag that differs whenever the file was written in between: an ETag, or the modification
    /// time.
    pub tag: String,
    /// The whole file, if it is small and was fetched already.
    pub whole: Option<Bytes>,
}

/// How a file is opened.
#[derive(Debug, Clone)]
pub enum At {
    /// A file of this machine.
    Local(PathBuf),
    /// An object in a bucket.
    Object(Arc<S3>, String),
    /// These bytes, after which the system returns an error.
    #[cfg(test)]
    Breaks(Vec<u8>),
}

impl Found {
    /// Looks at a file of this machine by its canonical path.
    pub fn local(path: PathBuf) -> io::Result<Found> {
        let metadata = std::fs::metadata(&path)?;
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.and_then(|since| i64::try_from(since.as_micros()).ok());
        // In nanoseconds, which tell more than microseconds.
        let tag = since.map_or_else(String::new, |since| since.as_nanos().to_string());
        let name = path.to_string_lossy().into_owned();
        Ok(Found { name, at: At::Local(path), bytes: metadata.len(), modified, tag, whole: None })
    }

    /// The decompressed content of the file.
    pub fn content(&self) -> io::Result<Content> {
        Content::over(self.stored()?)
    }

    /// The file's bytes as stored, up to the length that it had when it was found. What was written
    /// after that may be half a record so far.
    pub fn stored(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match (&self.whole, &self.at) {
            (Some(bytes), _) => Box::new(io::Cursor::new(bytes.clone())),
            (None, At::Local(path)) => Box::new(std::fs::File::open(path)?.take(self.bytes)),
            (None, At::Object(s3, key)) => Box::new(ObjectReader::new(s3.clone(), key, &self.tag, self.bytes)),
            #[cfg(test)]
            (None, At::Breaks(bytes)) => Box::new(io::Cursor::new(bytes.clone()).chain(tests::Fails)),
        })
    }

    /// The last part of its name.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Its path as errors show it.
    pub fn path(&self) -> &Path {
        Path::new(&self.name)
    }
}

/// All places that are read.
#[derive(Debug)]
pub struct Places {
    folders: Folders,
    prefixes: Vec<Prefix>,
    any_name: bool,
    passed_over: PassedOver,
    problems: Vec<SpeedError>,
}

impl Places {
    /// Looks through all places. Blocks.
    pub fn open(
        wanted: &FilesWanted,
        settings: &SpeedSettings,
        context: &SourceContext,
    ) -> Result<(Places, Vec<Found>), SpeedError> {
        let any_name = wanted.format.is_some();
        let is_object = |path: &&String| path.starts_with("s3://") || path.starts_with("s3a://");
        let (objects, local): (Vec<&String>, Vec<&String>) = wanted.paths.iter().partition(is_object);
        let mut found = Vec::new();
        let passed_over = PassedOver::new(context.metrics.clone());
        let local = local.into_iter().cloned().collect();
        let mut folders = Folders::new(local, any_name, settings.files.clone(), passed_over.clone());
        let (local, problems) = if wanted.watch { (folders.begin()?, Vec::new()) } else { folders.once()? };
        found.extend(local);
        let mut prefixes: Vec<Prefix> = Vec::new();
        for uri in objects {
            prefixes.push(Prefix::open(uri, &settings.files, context, passed_over.clone())?);
        }
        let mut places = Places { folders, prefixes, any_name, passed_over, problems };
        for prefix in &mut places.prefixes {
            let unexpected = places.passed_over.unexpected();
            let mut listed = prefix.all()?;
            listed.retain(|file| is_wanted(file, any_name, prefix.is_named(file), &places.passed_over));
            places.passed_over.looked_through(&prefix.uri(), listed.len(), unexpected);
            found.append(&mut listed);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        Ok((places, found))
    }

    /// What could not be looked at when everything was looked through.
    pub fn take_problems(&mut self) -> Vec<SpeedError> {
        std::mem::take(&mut self.problems)
    }

    /// The files that may be new. What cannot be looked at now is looked at the next time.
    pub fn poll(&mut self) -> Vec<Found> {
        let mut found = self.folders.poll();
        for prefix in &mut self.prefixes {
            let mut listed = Vec::new();
            // What was listed before the failure is not listed again soon, so it is used.
            if let Err(error) = prefix.poll(&mut listed) {
                tracing::warn!(%error, "cannot look for new objects; trying again");
            }
            listed.retain(|file| is_wanted(file, self.any_name, prefix.is_named(file), &self.passed_over));
            found.append(&mut listed);
        }
        found
    }

    /// Makes a later poll report a file again that was reported and not taken.
    pub fn forget(&mut self, file: &Found) {
        if let At::Local(path) = &file.at {
            self.folders.forget(path);
        }
    }

    /// Fetches small files ahead, several at a time.
    pub fn fetch_small(&self, files: &mut [Found]) {
        if let Some(prefix) = self.prefixes.first() {
            prefix.s3().fetch_small(files);
        }
    }
}

fn is_wanted(file: &Found, any_name: bool, named: bool, passed_over: &PassedOver) -> bool {
    match by_extension(file.file_name()).filter(|_| !named && !any_name) {
        None => true,
        Some(reason) => {
            passed_over.note(&file.name, reason);
            false
        }
    }
}

/// How often the places are polled.
pub fn poll_interval(settings: &FilesSettings) -> Duration {
    settings.poll_interval.max(Duration::from_millis(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that fails like a damaged disk.
    #[derive(Debug)]
    pub struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
}
