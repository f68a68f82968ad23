//! What a run tells its user: its progress while it runs, and the report at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The progress of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct IngestProgress {
    /// Records read from the source.
    pub records_read: u64,
    /// Bytes of files read, as stored. 0 for Kafka.
    pub bytes_read: u64,
    /// Bytes of all files, as stored. `None` for Kafka.
    pub bytes_total: Option<u64>,
    /// Rows committed.
    pub rows: u64,
    /// Dead letters committed.
    pub rejected: u64,
    /// Records at the broker that are not read yet. `None` where this is unknown.
    pub behind: Option<u64>,
}

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IngestReport {
    /// The number of records read, including those that were read again.
    pub records_read: u64,
    /// The number of files found at the beginning.
    pub files: Option<usize>,
    /// Files whose beginning differs from what was ingested of them. They were not read.
    pub changed_files: Vec<String>,
    /// Files in folders and prefixes that were not read, by reason.
    pub passed_over: BTreeMap<PassedOverReason, PassedOverFiles>,
    /// Given paths of which no file was read, although there are some.
    pub paths_without_files: Vec<String>,
    /// Files that cannot be used as they are, and why. Nothing of them is taken.
    pub set_aside: BTreeMap<String, String>,
    /// Watched files that end within a record. The record is taken once it is whole.
    pub cut_files: Vec<String>,
    /// The number of lines skipped before the headers of CSV files.
    pub preamble_lines: u64,
    /// Rows committed, by table.
    pub rows: BTreeMap<String, u64>,
    /// Dead letters committed, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// By table and field: rows committed in which the field was sent in the wrong shape. The value
    /// is kept in `attributes`.
    pub shape_mismatches: BTreeMap<String, u64>,
    /// The number of commits.
    pub commits: u64,
    /// The duration of the run.
    pub seconds: f64,
}

/// How many files per reason are named in the report and in the log.
pub(crate) const EXAMPLES_MAX: usize = 5;

/// Why a file is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassedOverReason {
    /// Its name, or that of a folder that it is in, begins with `.` or `_`.
    Hidden,
    /// Its name ends with `.tmp`, `.partial` or `.inprogress`.
    HalfWritten,
    /// It is an archive that holds other files.
    Archive,
    /// Its extension is not one that is read.
    UnknownExtension,
}

/// Files that were passed over for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PassedOverFiles {
    /// How many.
    pub count: u64,
    /// The names of the first ones.
    pub examples: Vec<String>,
}

impl PassedOverReason {
    /// Explains to people what is wrong with such files, and what to do.
    pub fn explanation(self) -> &'static str {
        match self {
            PassedOverReason::Hidden => "hidden by convention: the name begins with . or _",
            PassedOverReason::HalfWritten => {
                "half-written by convention: the name ends with .tmp, .partial or .inprogress"
            }
            PassedOverReason::Archive => "archives are not read: unpack them",
            PassedOverReason::UnknownExtension => {
                "the extension is not known: name the file itself, or give --file-format for all of a folder"
            }
        }
    }

    /// Whether such a file may be data that somebody waits for in vain. The other names say
    /// themselves that the files are not meant to be read.
    pub fn is_unexpected(self) -> bool {
        matches!(self, PassedOverReason::Archive | PassedOverReason::UnknownExtension)
    }
}

impl PassedOverFiles {
    /// Counts one more file.
    pub(crate) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(name.to_owned());
        }
    }
}
