//! Files in a folder or prefix that are not read. They are not even opened: their names say that
//! they should not or cannot be read.
//!
//! Each is counted once and shown in the report, since a user who finds no rows has to learn why.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128;

use super::discover;
use crate::metrics::Metrics;
use crate::report::{EXAMPLES_MAX, PassedOverReason};

/// Why a file or folder of this name is passed over, unless the user named it.
pub(super) fn by_convention(name: &str) -> Option<PassedOverReason> {
    let name = name.to_ascii_lowercase();
    if name.starts_with(['.', '_']) {
        Some(PassedOverReason::Hidden)
    } else if [".tmp", ".partial", ".inprogress"].iter().any(|end| name.ends_with(end)) {
        Some(PassedOverReason::HalfWritten)
    } else {
        None
    }
}

/// Why a file of this name is passed over, if nothing tells its format.
pub(super) fn by_extension(name: &str) -> Option<PassedOverReason> {
    if discover::extension(name).is_some() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let extension = discover::uncompressed(&name).rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_archive = matches!(extension, "zip" | "tar" | "tgz" | "tbz2" | "txz" | "7z" | "rar");
    Some(if is_archive { PassedOverReason::Archive } else { PassedOverReason::UnknownExtension })
}

/// What a file is, by its first bytes, if it is never read whatever its name.
pub(super) fn by_content(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'P', b'K', 3, 4, ..] => Some("a zip archive: unpack it, and ingest what is in it"),
        [b'P', b'A', b'R', b'1', ..] => Some("a Parquet file: convert it to JSON, CSV or Avro"),
        [b'O', b'R', b'C', ..] if head.get(3).is_some_and(|byte| !byte.is_ascii_graphic() && *byte != b' ') => {
            Some("an ORC file: convert it to JSON, CSV or Avro")
        }
        _ => None,
    }
}

/// Remembers files that are passed over, each once. Clones share what they know.
#[derive(Debug, Clone)]
pub(super) struct PassedOver {
    /// Files that were noted before, by the hashes of their names.
    seen: Arc<Mutex<HashSet<u128>>>,
    metrics: Metrics,
}

impl PassedOver {
    pub fn new(metrics: Metrics) -> PassedOver {
        PassedOver { seen: Arc::default(), metrics }
    }

    /// Notes that a file is passed over. `name` is its canonical path or its URI.
    pub fn note(&self, name: &str, reason: PassedOverReason) {
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(xxh3_128(name.as_bytes())) {
            return;
        }
        let count = self.metrics.file_passed_over(name, reason);
        if count > EXAMPLES_MAX as u64 {
            return;
        }
        let why = reason.explanation();
        if reason.is_unexpected() {
            tracing::warn!(path = name, why, "the file is passed over");
        } else {
            tracing::info!(path = name, why, "the file is passed over");
        }
        if count == EXAMPLES_MAX as u64 {
            tracing::info!(why, "further files that are passed over for this are counted in the report");
        }
    }

    /// Notes that a path was looked through for the first time. `unexpected` is what
    /// [`PassedOver::unexpected`] returned before.
    pub fn looked_through(&self, path: &str, files: usize, unexpected: u64) {
        if files == 0 && self.unexpected() > unexpected {
            self.metrics.path_without_files(path);
            tracing::warn!(path, "no file is read: all that are there are passed over");
        }
    }

    /// How many passed-over files somebody may wait for in vain.
    pub fn unexpected(&self) -> u64 {
        self.metrics.files_passed_over_unexpectedly()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PassedOverFiles;

    #[test]
    fn tells_why_from_names() {
        use PassedOverReason::*;
        let check = |name: &str, convention: Option<PassedOverReason>, extension: Option<PassedOverReason>| {
            assert_eq!((by_convention(name), by_extension(name)), (convention, extension), "{name}");
        };
        check("a.json", None, None);
        check("a.csv.bz2", None, None);
        check(".a.json", Some(Hidden), None);
        check("_SUCCESS", Some(Hidden), Some(UnknownExtension));
        check("a.json.TMP", Some(HalfWritten), Some(UnknownExtension));
        check("a.inprogress", Some(HalfWritten), Some(UnknownExtension));
        check("a.parquet", None, Some(UnknownExtension));
        check("a", None, Some(UnknownExtension));
        check("a.gz", None, Some(UnknownExtension));
        check("a.ZIP", None, Some(Archive));
        check("a.tar.gz", None, Some(Archive));
        check("a.json.zip", None, Some(Archive));
    }

    #[test]
    fn each_file_is_told_once_and_some_by_name() {
        let metrics = Metrics::default();
        let passed = PassedOver::new(metrics.clone());
        for _ in 0..2 {
            for n in 0..8 {
                passed.note(&format!("in/{n}.parquet"), PassedOverReason::UnknownExtension);
            }
            passed.clone().note("in/_SUCCESS", PassedOverReason::Hidden);
        }
        passed.looked_through("in", 0, 0);
        passed.looked_through("other", 0, passed.unexpected());
        passed.looked_through("full", 1, 0);
        let report = metrics.report();
        let told = |reason| &report.passed_over[&reason];
        assert_eq!(report.passed_over.len(), 2);
        assert_eq!(
            told(PassedOverReason::Hidden),
            &PassedOverFiles { count: 1, examples: vec!["in/_SUCCESS".to_owned()] }
        );
        assert_eq!(told(PassedOverReason::UnknownExtension).count, 8);
        assert_eq!(told(PassedOverReason::UnknownExtension).examples.len(), EXAMPLES_MAX);
        assert_eq!(report.paths_without_files, ["in"]);
    }
}
