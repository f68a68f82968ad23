//! Files that a process was writing into a folder when it died.
//!
//! The store of a folder writes each file under a name of its own, `NAME#NUMBER`, and then gives it
//! its name. It does not list the files that have no name yet. Nobody else knows of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use crate::error::LakeError;
use crate::storage::Lake;

/// The unfinished data files of a table that were last written before `since`, and their sizes. On
/// other stores there are none.
pub(super) async fn unfinished(
    lake: &Lake,
    table: &'static str,
    since: DateTime<Utc>,
) -> Result<Vec<(PathBuf, u64)>, LakeError> {
    let Ok(folder) = lake.table_url(table)?.to_file_path() else { return Ok(Vec::new()) };
    let since = SystemTime::from(since);
    let found = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        find(&folder, since, &mut found).map(|()| found)
    });
    let found = found.await.map_err(io::Error::other).and_then(|found| found);
    found.map_err(|error| wrong(table, error))
}

/// Removes them.
pub(super) async fn remove(table: &'static str, files: Vec<(PathBuf, u64)>) -> Result<(), LakeError> {
    for (path, _) in files {
        present(tokio::fs::remove_file(path).await).map_err(|error| wrong(table, error))?;
    }
    Ok(())
}

fn wrong(table: &str, error: io::Error) -> LakeError {
    LakeError::store(table, object_store::Error::Generic { store: "folder", source: Box::new(error) })
}

/// `None`: another process has removed it.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn find(folder: &Path, since: SystemTime, found: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Some(metadata) = present(entry.metadata())? else { continue };
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Names that begin with an underscore are the log's and the lease's.
        if metadata.is_dir() && !name.starts_with('_') {
            find(&entry.path(), since, found)?;
        } else if metadata.is_file() && is_unfinished(&name) && metadata.modified()? < since {
            found.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, number)| {
        name.ends_with(".parquet") && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_yet_is_found_if_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("event_date=2026-03-01");
        let log = folder.path().join("_delta_log");
        for folder in [&day, &log] {
            fs::create_dir(folder).unwrap();
            for name in ["a.parquet", "b.parquet#1", "c.parquet#", "d.parquet#x", "e#1.parquet", "f.json#1"] {
                fs::write(folder.join(name), "12345").unwrap();
            }
        }
        let search = |since: SystemTime| {
            let mut found = Vec::new();
            find(folder.path(), since, &mut found).unwrap();
            found
        };
        let hour = std::time::Duration::from_secs(3600);
        assert_eq!(search(SystemTime::now() + hour), [(day.join("b.parquet#1"), 5)]);
        assert_eq!(search(SystemTime::now() - hour), []);
        find(&folder.path().join("missing"), SystemTime::now(), &mut Vec::new()).unwrap();
    }
}
