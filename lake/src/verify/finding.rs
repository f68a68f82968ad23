//! What can be wrong with a lake, and what to do about it.

use adlake_domain::catalogue::MANIFEST;
use serde::Serialize;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Entries of a log are not there.
    LogEntryMissing,
    /// An entry of a log cannot be parsed.
    LogEntryUnreadable,
    /// The checkpoint that a log names is not there.
    CheckpointMissing,
    /// A checkpoint, or the file that names the last one, cannot be read.
    CheckpointUnreadable,
    /// A table cannot be read at a version, although its log can be parsed.
    VersionUnreadable,
    /// A published run names a version that a table does not have.
    VersionMissing,
    /// The list of published runs cannot be read, or is wrong.
    ManifestWrong,
    /// A data file is not there.
    FileMissing,
    /// A data file has another size than the log says.
    FileSize,
    /// A data file cannot be read.
    FileUnreadable,
    /// A data file has another number of rows than the log says.
    FileRows,
    /// A data file has rows of another date than its partition.
    FilePartition,
    /// The rows of a data file of a batch table are not in the table's order.
    FileOrder,
    /// Published rows are not those that the raw tables give.
    RowsDiffer,
    /// Rows could not be compared, because something could not be read.
    RowsUnreadable,
}

/// Something that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The table.
    pub table: String,
    /// The file, relative to the table's folder, if it is about one.
    pub file: Option<String>,
    /// The version of the table.
    pub version: Option<u64>,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// Something that is wrong with a file at a version. The remedy is to restore or recompute it.
    pub(super) fn of_file(kind: FindingKind, table: &str, file: &str, version: u64, detail: String) -> Finding {
        Finding {
            kind,
            table: table.to_string(),
            file: Some(file.to_string()),
            version: Some(version),
            detail,
            remedy: file_remedy(table),
        }
    }

    /// A file that cannot be read.
    pub(super) fn unreadable_file(table: &str, file: &str, version: u64, detail: &str) -> Finding {
        Finding::of_file(
            FindingKind::FileUnreadable,
            table,
            file,
            version,
            format!("the file cannot be read: {detail}"),
        )
    }

    /// Something that is wrong with a file of the log.
    pub(super) fn of_log(kind: FindingKind, table: &str, file: &str, version: u64, detail: String) -> Finding {
        Finding { remedy: log_remedy(table), ..Finding::of_file(kind, table, file, version, detail) }
    }

    /// A run names a version that is not there.
    pub(super) fn no_version(table: &str, version: u64, run: i64, newest: Option<u64>) -> Finding {
        let detail = match newest {
            Some(newest) => format!("batch run {run} names version {version}, but the newest version is {newest}"),
            None => format!("batch run {run} names version {version}, but the table is not there"),
        };
        Finding {
            kind: FindingKind::VersionMissing,
            table: table.to_string(),
            file: None,
            version: Some(version),
            detail,
            remedy: "Run `adlake batch rollback --to RUN` with a run that can be published again, or \
                     `adlake batch run --full`."
                .to_string(),
        }
    }

    /// A table cannot be read at a version.
    pub(super) fn unreadable_version(table: &str, version: u64, detail: &str) -> Finding {
        Finding {
            kind: FindingKind::VersionUnreadable,
            table: table.to_string(),
            file: None,
            version: Some(version),
            detail: format!("the table cannot be read at this version: {detail}"),
            remedy: log_remedy(table),
        }
    }

    /// The list of published runs is wrong.
    pub(super) fn manifest(version: Option<u64>, detail: String) -> Finding {
        Finding {
            kind: FindingKind::ManifestWrong,
            table: MANIFEST.to_string(),
            file: None,
            version,
            detail,
            remedy: log_remedy(MANIFEST),
        }
    }
}

/// What to do about a damaged data file.
fn file_remedy(table: &str) -> String {
    let restore = "Restore the file from a backup or from an older version of the object.";
    if table == MANIFEST {
        format!("{restore} If there is none, remove the folder {table} and run `adlake batch run --full`.")
    } else if table.starts_with("batch/") {
        "Run `adlake batch run --full`: it writes the table again.".to_string()
    } else if table.starts_with("ref/") {
        format!("{restore} If there is none, load the table again with `adlake ref load`.")
    } else {
        format!("{restore} The lake has its rows nowhere else.")
    }
}

/// What to do about a damaged log.
fn log_remedy(table: &str) -> String {
    let restore = "Restore the file of the log from a backup or from an older version of the object.";
    if table.starts_with("batch/") {
        format!("{restore} If there is none, remove the folder {table} and run `adlake batch run --full`.")
    } else if table.starts_with("ref/") {
        format!("{restore} If there is none, remove the folder {table} and load it again with `adlake ref load`.")
    } else {
        format!("{restore} If there is none, ingest into a new lake.")
    }
}
