//! Whether a table's log is whole: from a checkpoint on no entry is missing, and the checkpoint and
//! the entries can be parsed.
//!
//! The checkpoint is the newest one at or before the version that the last published run names, or
//! the newest of all. So the published version can be read, and the entries after it can be
//! followed. Older entries may be removed by upkeep.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use deltalake::logstore::LogStoreRef;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde_json::Value;

use super::data_file::{Unreadable, unreadable};
use super::finding::{Finding, FindingKind};
use crate::error::LakeError;
use crate::log::{FOLDER, StoredFile, checkpoint_paths, entry_path, failed, last_checkpoint, parse_name, parse_part};
use crate::storage::Lake;

/// The most log entries that are read at the same time.
const ENTRIES_AT_ONCE: usize = 16;
/// Rows of a checkpoint that are decoded at a time.
const CHECKPOINT_ROWS: usize = 8 << 10;

/// The result for one log.
#[derive(Debug, Default)]
pub(super) struct LogCheck {
    /// The newest version. `None`: there is no such table.
    pub newest: Option<u64>,
    pub findings: Vec<Finding>,
    /// The entries that were parsed.
    pub entries: u64,
    /// The checkpoints that were decoded.
    pub checkpoints: u64,
}

/// Checks the log of a table. `published` is a version that has to be readable.
pub(super) async fn check(lake: &Lake, table: &str, published: Option<u64>) -> Result<LogCheck, LakeError> {
    let log_store = lake.log_store(table)?;
    let look = || async { look(&log_store, table, published).await };
    let mut looked = lake.retry(look).await?;
    if !looked.missing.is_empty() {
        // Upkeep may have removed old entries while they were listed.
        looked = lake.retry(look).await?;
    }
    let mut done = LogCheck { newest: looked.newest, ..LogCheck::default() };
    if looked.newest.is_none() {
        return Ok(done);
    }
    done.findings.extend(looked.wrong);
    done.findings.extend(looked.missing.into_iter().map(|gap| missing_entries(table, &gap)));
    let store = log_store.object_store(None);
    for (version, parts) in looked.checkpoints {
        done.checkpoints += 1;
        for path in checkpoint_paths(version, parts) {
            if let Some(detail) = lake.retry(|| decode(&store, table, &path)).await? {
                let kind = FindingKind::CheckpointUnreadable;
                done.findings.push(Finding::of_log(kind, table, path.as_ref(), version, detail));
            }
        }
    }
    // The last checkpoint may be the newest version.
    let there: Vec<u64> = looked.entries.range(looked.first..).copied().collect();
    let parsed = futures::stream::iter(there).map(|version| {
        let store = store.clone();
        async move { lake.retry(|| read_entry(store.as_ref(), table, version)).await }
    });
    let mut parsed = parsed.buffered(ENTRIES_AT_ONCE);
    while let Some(finding) = parsed.try_next().await? {
        done.entries += 1;
        done.findings.extend(finding);
    }
    Ok(done)
}

/// What a listing of a log tells.
#[derive(Debug, Default)]
struct Looked {
    newest: Option<u64>,
    /// All entries.
    entries: BTreeSet<u64>,
    /// The first entry that has to be there.
    first: u64,
    /// Runs of entries that are not there.
    missing: Vec<RangeInclusive<u64>>,
    /// The checkpoints that are to be decoded, and their parts.
    checkpoints: BTreeMap<u64, Option<u64>>,
    wrong: Vec<Finding>,
}

async fn look(log_store: &LogStoreRef, table: &str, published: Option<u64>) -> Result<Looked, LakeError> {
    let store = log_store.object_store(None);
    // Read it before the listing: the version that it names only grows.
    let hint = last_checkpoint(store.as_ref(), table).await?;
    let mut entries = BTreeSet::new();
    let mut parts: BTreeMap<(u64, Option<u64>), u64> = BTreeMap::new();
    let mut has_hint = false;
    let mut listed = store.list(Some(&Path::from(FOLDER)));
    while let Some(meta) = listed.try_next().await.map_err(|error| failed(table, error))? {
        has_hint |= meta.location.filename() == Some("_last_checkpoint");
        let Some((version, rest)) = parse_name(&meta.location) else { continue };
        if rest == "json" {
            entries.insert(version);
        } else if let Some(of) = parse_part(rest) {
            *parts.entry((version, of)).or_default() += 1;
        }
    }
    let whole = parts.into_iter().filter(|((_, of), count)| of.is_none_or(|of| of == *count));
    let mut whole: BTreeMap<u64, Option<u64>> = whole.map(|(key, _)| key).collect();
    let mut wrong = Vec::new();
    match &hint {
        // The files of these have random names.
        Some(hint) if hint.is_v2() => {}
        Some(hint) if !whole.contains_key(&hint.version) => {
            let path = checkpoint_paths(hint.version, hint.parts).into_iter().next().unwrap_or_default();
            let detail = "_last_checkpoint names this checkpoint, but it is not there".to_string();
            let kind = FindingKind::CheckpointMissing;
            wrong.push(Finding::of_log(kind, table, path.as_ref(), hint.version, detail));
        }
        Some(hint) => {
            whole.insert(hint.version, hint.parts);
        }
        None if has_hint => {
            let file = format!("{FOLDER}/_last_checkpoint");
            let version = whole.keys().next_back().copied().unwrap_or_default();
            let detail = "the file cannot be parsed; readers list the whole log instead".to_string();
            let kind = FindingKind::CheckpointUnreadable;
            let finding = Finding::of_log(kind, table, &file, version, detail);
            let remedy = "Remove the file. The next checkpoint writes it again.".to_string();
            wrong.push(Finding { remedy, ..finding });
        }
        None => {}
    }
    let last = hint.as_ref().map(|hint| hint.version);
    let (first, base) = first_needed(&entries, &whole.keys().copied().collect(), last, published);
    let newest = entries.iter().next_back().max(whole.keys().next_back()).copied().max(last);
    let missing = newest.map(|newest| gaps(&entries, first..=newest)).unwrap_or_default();
    // Only the checkpoints that readers begin with.
    let last_whole = whole.keys().next_back().copied();
    let checkpoints = whole.into_iter().filter(|(version, _)| Some(*version) == base || Some(*version) == last_whole);
    let checkpoints = checkpoints.collect();
    Ok(Looked { newest, entries, first, missing, checkpoints, wrong })
}

/// The first entry that has to be there, and the checkpoint before it.
fn first_needed(
    entries: &BTreeSet<u64>,
    whole: &BTreeSet<u64>,
    last: Option<u64>,
    published: Option<u64>,
) -> (u64, Option<u64>) {
    let last = last.or(whole.iter().next_back().copied());
    let Some(last) = last else { return (0, None) };
    let needed = published.map_or(last, |published| published.min(last));
    let base = whole.range(..=needed).next_back().copied();
    match base {
        Some(base) => (base + 1, Some(base)),
        // No checkpoint is older, so the log has to go back to its beginning, unless that was
        // removed. Then the needed version is gone. It is reported when it is read.
        None if entries.contains(&0) => (0, None),
        None => match whole.iter().next() {
            Some(oldest) => (oldest + 1, Some(*oldest)),
            None => (last + 1, None),
        },
    }
}

/// The runs of numbers of a range that are not there.
fn gaps(there: &BTreeSet<u64>, range: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
    let mut gaps = Vec::new();
    if range.is_empty() {
        return gaps;
    }
    let mut next = *range.start();
    for found in there.range(range.clone()) {
        if *found > next {
            gaps.push(next..=found - 1);
        }
        next = found + 1;
    }
    if next <= *range.end() {
        gaps.push(next..=*range.end());
    }
    gaps
}

fn missing_entries(table: &str, gap: &RangeInclusive<u64>) -> Finding {
    let (first, last) = (*gap.start(), *gap.end());
    let detail = match last - first {
        0 => format!("the log entry of version {first} is not there, but later ones are"),
        more => format!("the log entries of versions {first} to {last} ({}) are not there", more + 1),
    };
    Finding::of_log(FindingKind::LogEntryMissing, table, entry_path(first).as_ref(), first, detail)
}

async fn read_entry(store: &dyn ObjectStore, table: &str, version: u64) -> Result<Option<Finding>, LakeError> {
    let path = entry_path(version);
    let read = async { store.get(&path).await?.bytes().await };
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(Some(missing_entries(table, &(version..=version)))),
        Err(error) => return Err(failed(table, error)),
    };
    Ok(parse_entry(&bytes).err().map(|detail| {
        let detail = format!("the log entry cannot be parsed: {detail}");
        Finding::of_log(FindingKind::LogEntryUnreadable, table, path.as_ref(), version, detail)
    }))
}

/// Whether an entry holds actions, one a line, and its files have paths and sizes.
fn parse_entry(bytes: &[u8]) -> Result<(), String> {
    let mut actions = 0;
    for (place, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |detail: &str| Err(format!("line {}: {detail}", place + 1));
        let action = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(action)) => action,
            Ok(_) => return wrong("not an object"),
            Err(error) => return wrong(&error.to_string()),
        };
        for name in ["add", "remove"] {
            let Some(file) = action.get(name).filter(|file| !file.is_null()) else { continue };
            if file.get("path").and_then(Value::as_str).is_none() {
                return wrong(&format!("{name} names no path"));
            }
            if name == "add" && file.get("size").and_then(Value::as_u64).is_none() {
                return wrong("add names no size");
            }
        }
        actions += 1;
    }
    if actions == 0 { Err("it is empty".to_string()) } else { Ok(()) }
}

/// Decodes a file of a checkpoint. `Some`: what is wrong with it.
async fn decode(
    store: &std::sync::Arc<dyn ObjectStore>,
    table: &str,
    path: &Path,
) -> Result<Option<String>, LakeError> {
    let size = match store.head(path).await {
        Ok(meta) => meta.size,
        Err(object_store::Error::NotFound { .. }) => return Ok(Some("the checkpoint is not there".to_string())),
        Err(error) => return Err(failed(table, error)),
    };
    let reader = StoredFile { store: store.clone(), path: path.clone(), size };
    let decoded = async {
        let rows = ParquetRecordBatchStreamBuilder::new(reader).await?.with_batch_size(CHECKPOINT_ROWS);
        let mut rows = rows.build()?;
        while rows.try_next().await?.is_some() {}
        Ok(())
    };
    match decoded.await.map_err(|error| unreadable(&format!("{table}/{path}"), error)) {
        Ok(()) => Ok(None),
        Err(Unreadable::Gone) => Ok(Some("the checkpoint is not there".to_string())),
        Err(Unreadable::Damaged(detail)) => Ok(Some(format!("the checkpoint cannot be read: {detail}"))),
        Err(Unreadable::Store(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found() {
        let check = |there: &[u64], range: RangeInclusive<u64>, expected: &[(u64, u64)]| {
            let found = gaps(&there.iter().copied().collect(), range);
            assert_eq!(found, expected.iter().map(|(first, last)| *first..=*last).collect::<Vec<_>>());
        };
        check(&[0, 1, 2], 0..=2, &[]);
        check(&[0, 2, 5], 0..=5, &[(1, 1), (3, 4)]);
        check(&[1, 2], 0..=4, &[(0, 0), (3, 4)]);
        check(&[], 3..=4, &[(3, 4)]);
        // The checkpoint is the newest version.
        check(&[0, 1], RangeInclusive::new(5, 4), &[]);
    }

    #[test]
    fn the_log_is_needed_from_a_checkpoint_on_that_the_published_run_can_begin_with() {
        let check = |entries: RangeInclusive<u64>, whole: &[u64], published: Option<u64>, expected| {
            let whole: BTreeSet<u64> = whole.iter().copied().collect();
            let last = whole.iter().next_back().copied();
            assert_eq!(first_needed(&entries.collect(), &whole, last, published), expected);
        };
        check(0..=5, &[], None, (0, None));
        check(0..=25, &[10, 20], None, (21, Some(20)));
        check(0..=25, &[10, 20], Some(15), (11, Some(10)));
        check(0..=25, &[10, 20], Some(25), (21, Some(20)));
        check(0..=25, &[10, 20], Some(5), (0, None));
        check(15..=25, &[20], Some(5), (21, Some(20)));
        // The checkpoint that `_last_checkpoint` names is not there.
        assert_eq!(first_needed(&(15..=25).collect(), &BTreeSet::new(), Some(20), None), (21, None));
    }

    #[test]
    fn entries_are_actions_one_a_line() {
        for good in [
            "{\"commitInfo\":{}}\n",
            "{\"add\":{\"path\":\"a\",\"size\":1}}\n{\"remove\":{\"path\":\"b\"}}",
            "{\"somethingNew\":{}}\n\n",
        ] {
            assert_eq!(parse_entry(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            ["", "\n", "garbage", "{\"add\":{\"path\":\"a\"}}", "{\"add\":{\"size\":1}}", "{\"commitInfo\":{", "7"]
        {
            assert!(parse_entry(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
