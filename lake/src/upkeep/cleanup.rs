//! Removes files of a log that no reader needs any more.
//!
//! What stays is the newest checkpoint that is older than the retention, and everything after it.
//! So every version that was the newest within the retention can still be read, and the entries
//! since can be followed one by one. Two more versions stay readable, however old they are:
//!
//! - The version that the published batch run covers or wrote. The newer rows are found by the
//!   entries after it.
//! - The version that `_last_checkpoint` names. It is older than the newest checkpoint if a
//!   checkpoint was written and its name was not. A reader that finds the name without the
//!   checkpoint cannot read the table.
//!
//! Files are removed a thousand at a time, the oldest versions first. All of them precede a
//! checkpoint that stays, so a clean-up may stop anywhere.

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::error::LakeError;
use crate::log::{FOLDER, failed, last_checkpoint, parse_name};
use crate::manifest::Manifest;
use crate::storage::Lake;

/// Files removed by one request, if the store takes several.
const FILES_AT_ONCE: usize = 1000;
/// The most files that one clean-up removes if the store lists in order. The next clean-up removes
/// the others.
const FILES_MAX: usize = 50_000;

/// A file of the log that is old enough.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Old {
    version: u64,
    /// The rest of its name.
    rest: Box<str>,
}

/// Removes the files that no reader needs. Returns how many.
pub(super) async fn clean(lake: &Lake, table: &str) -> Result<u64, LakeError> {
    if lake.log_settings().retention.is_zero() {
        return Ok(0);
    }
    let Ok(retention) = chrono::TimeDelta::from_std(lake.log_settings().retention) else { return Ok(0) };
    let Some(before) = Utc::now().checked_sub_signed(retention) else { return Ok(0) };
    let context = datafusion::prelude::SessionContext::new();
    let published = match table {
        adlake_domain::catalogue::MANIFEST => None,
        _ => Manifest::latest(lake, &context).await?.and_then(|manifest| manifest.version(table)),
    };
    let log_store = lake.log_store(table)?;
    let store = log_store.object_store(None);
    // Read it before the listing: the version that it names only grows.
    let hint = last_checkpoint(store.as_ref(), table).await?.map(|hint| hint.version);
    let needed = published.into_iter().chain(hint).min();
    let ordered = log_store.root_url().scheme() == "s3";
    let mut listed = store.list(Some(&Path::from(FOLDER)));
    let mut old = Vec::new();
    while let Some(meta) = listed.try_next().await.map_err(|error| failed(table, error))? {
        match old_file(&meta, before) {
            Some(file) => old.push(file),
            // The entries after this one are younger.
            None if ordered && parse_name(&meta.location).is_some_and(|(_, rest)| rest == "json") => break,
            None => {}
        }
        if ordered && old.len() >= FILES_MAX {
            break;
        }
    }
    let unneeded = unneeded(old, needed);
    let count = unneeded.len() as u64;
    for files in unneeded.chunks(FILES_AT_ONCE) {
        let paths: Vec<_> =
            files.iter().map(|file| Ok(Path::from(format!("{FOLDER}/{:020}.{}", file.version, file.rest)))).collect();
        let mut removed = store.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(result) = removed.next().await {
            match result {
                // Another process may clean up at the same time.
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(table, error)),
            }
        }
    }
    Ok(count)
}

fn old_file(meta: &ObjectMeta, before: DateTime<Utc>) -> Option<Old> {
    if meta.last_modified > before {
        return None;
    }
    let (version, rest) = parse_name(&meta.location)?;
    Some(Old { version, rest: rest.into() })
}

/// The old files of versions before the newest old checkpoint, the oldest first. `needed` is a
/// version that has to stay readable.
fn unneeded(mut old: Vec<Old>, needed: Option<u64>) -> Vec<Old> {
    let bases = old.iter().filter(|file| &*file.rest == "checkpoint.parquet").map(|file| file.version);
    let base = bases.filter(|version| needed.is_none_or(|needed| *version <= needed)).max();
    let Some(base) = base else { return Vec::new() };
    old.retain(|file| file.version < base);
    old.sort_unstable();
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u64, rest: &str) -> Old {
        Old { version, rest: rest.into() }
    }

    #[test]
    fn everything_from_the_newest_old_checkpoint_on_stays() {
        let log = || {
            let mut files: Vec<Old> = (0..=25).map(|version| file(version, "json")).collect();
            files.extend([10, 20].map(|version| file(version, "checkpoint.parquet")));
            files
        };
        let check = |old: Vec<Old>, published: Option<u64>, expected: Option<u64>| {
            let removed = unneeded(old, published);
            assert_eq!(removed.last().map(|file| file.version), expected, "published {published:?}");
            assert!(removed.is_sorted());
        };
        check(log(), None, Some(19));
        check(log(), Some(20), Some(19));
        check(log(), Some(19), Some(9));
        check(log(), Some(9), None);
        check(log().into_iter().filter(|file| &*file.rest == "json").collect(), None, None);
        // A checkpoint that is not old enough is not in the list: its entries stay.
        check((0..=15).map(|version| file(version, "json")).collect(), None, None);
        assert_eq!(unneeded(log(), None).len(), 21, "twenty entries and the older checkpoint");
    }
}
