//! What the lake's store lets this process do, found by trying; how far its clock is from ours; and
//! which features the tables use.
//!
//! A probe works in a folder beside the tables, so no table notices it. Where this process may not
//! delete, the object of the probe has a fixed name and stays: the next probe overwrites it, so
//! there is never more than one.

use std::time::Duration;

use adlake_domain::catalogue::Table;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::error::LakeError;
use crate::evolve::described;
use crate::log;
use crate::shape::Fit;
use crate::storage::Lake;
use crate::views::plans::BatchTable;

/// The name of a probe's object where it cannot be deleted.
const KEPT: &str = "probe";
const TEXT: &[u8] = b"adlake doctor tried whether it may write here\n";

/// What a process has to be able to do in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Needs {
    /// List and read.
    Read,
    /// Also create objects.
    Write,
    /// Also delete them.
    Delete,
}

/// Something that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// List the objects of a folder.
    List,
    /// Create an object.
    Write,
    /// Be refused to create an object that is there: commits rely on it.
    WriteOnce,
    /// Read an object.
    Read,
    /// Delete an object.
    Delete,
}

/// What came of a probe.
#[derive(Debug, Default)]
pub struct Probe {
    /// In the order of [`Attempt`]'s variants. What needs an object that could not be written is
    /// left out.
    pub attempts: Vec<(Attempt, Result<(), LakeError>)>,
    /// How many milliseconds the store's clock is ahead of this machine's, if it is known. Many
    /// stores tell whole seconds.
    pub clock_ahead_ms: Option<i64>,
}

/// The features of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFeatures {
    /// The version that was looked at: the newest.
    pub version: u64,
    /// Delta's version of the reader's protocol.
    pub reader_version: u64,
    /// Delta's version of the writer's protocol.
    pub writer_version: u64,
    /// The names of table features, sorted.
    pub features: Vec<String>,
    /// Columns that this program writes, and that the table does not have yet. It gets them with
    /// the next write.
    pub lacking: Vec<String>,
    /// Why this program cannot write the table.
    pub problem: Option<String>,
}

impl Lake {
    /// Tries what a process needs in a folder under the lake's root. Each attempt may take
    /// `timeout`.
    pub async fn probe(&self, folder: &str, needs: Needs, timeout: Duration) -> Result<Probe, LakeError> {
        let store = self.log_store(folder)?.object_store(None);
        let prober = Prober { store: store.as_ref(), folder, timeout };
        let mut probe = Probe::default();
        let listed = prober.limited(prober.first_object()).await;
        let first = listed.as_ref().ok().cloned().flatten();
        probe.attempts.push((Attempt::List, listed.map(drop)));
        if needs == Needs::Read {
            if let Some(first) = first {
                let read = store.get_range(&first.location, 0..1).map_ok(drop);
                probe.attempts.push((Attempt::Read, prober.limited(read).await));
            }
            return Ok(probe);
        }
        // A role that may not delete would leave one more object of its own name at each probe. So
        // the deletion of the object that may have stayed is tried first.
        let mut path = Path::from(KEPT);
        let mut refused = None;
        if needs == Needs::Delete {
            refused = prober.limited(prober.delete(&path)).await.err();
            if refused.is_none() {
                path = Path::from(format!("{KEPT}-{}", Uuid::new_v4()));
            }
        }
        let is_written = prober.write(&path, &mut probe).await;
        if is_written && needs == Needs::Delete {
            let deleted = match refused {
                Some(error) => Err(error),
                None => prober.limited(prober.delete(&path)).await,
            };
            probe.attempts.push((Attempt::Delete, deleted));
        }
        Ok(probe)
    }

    /// The features of a table. `None`: there is no such table.
    pub async fn table_features(&self, table: &Table) -> Result<Option<TableFeatures>, LakeError> {
        self.retry(|| self.read_features(table)).await
    }

    async fn read_features(&self, table: &Table) -> Result<Option<TableFeatures>, LakeError> {
        let log_store = self.log_store(table.name)?;
        let Some(version) = log::newest_version(&log_store, table.name).await? else { return Ok(None) };
        let described = described(&log_store, table.name, version).await?;
        let number = |key: &str| described.protocol[key].as_u64().unwrap_or_default();
        let names = |key: &str| described.protocol[key].as_array().cloned().unwrap_or_default();
        let mut features: Vec<String> = ["readerFeatures", "writerFeatures"]
            .into_iter()
            .flat_map(names)
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        features.sort();
        features.dedup();
        let (lacking, problem) = match described.fit(table) {
            Ok(Fit::Fits) => (Vec::new(), None),
            Ok(Fit::Lacks { columns, .. }) => (columns, None),
            // A batch run writes the table anew, with the columns that it has to have.
            Err(_) if is_renewed(table) && described.renewed(table).is_ok() => (Vec::new(), None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let (reader_version, writer_version) = (number("minReaderVersion"), number("minWriterVersion"));
        Ok(Some(TableFeatures { version, reader_version, writer_version, features, lacking, problem }))
    }

    /// The stored positions of streams in the newest version of a table. Unlike an appender, this
    /// writes nothing, whatever the state of the table. `None` for a stream without a position.
    pub async fn positions(&self, table: &str, applications: &[String]) -> Result<Vec<Option<i64>>, LakeError> {
        self.retry(|| self.read_positions(table, applications)).await
    }

    async fn read_positions(&self, table: &str, applications: &[String]) -> Result<Vec<Option<i64>>, LakeError> {
        let log_store = self.log_store(table)?;
        let Some(version) = log::newest_version(&log_store, table).await? else {
            return Ok(vec![None; applications.len()]);
        };
        let wrong = |error| LakeError::table(table, error);
        let mut loaded = self.delta_table(table)?;
        loaded.load_version(version).await.map_err(wrong)?;
        let snapshot = loaded.snapshot().map_err(wrong)?;
        let mut positions = Vec::with_capacity(applications.len());
        for application in applications {
            positions.push(snapshot.transaction_version(log_store.as_ref(), application).await.map_err(wrong)?);
        }
        Ok(positions)
    }
}

/// Whether the batch layer replaces the table's columns together with its rows.
fn is_renewed(table: &Table) -> bool {
    BatchTable::ALL.iter().any(|batch_table| batch_table.name() == table.name)
}

/// Tries things in one folder.
struct Prober<'a> {
    store: &'a dyn ObjectStore,
    folder: &'a str,
    timeout: Duration,
}

impl Prober<'_> {
    async fn limited<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, LakeError> {
        let subject = || self.folder.to_owned();
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|error| LakeError::store(subject(), error)),
            Err(_) => {
                let source = format!("no answer within {:?}", self.timeout).into();
                Err(LakeError::Unavailable { subject: subject(), source })
            }
        }
    }

    /// One of the objects that are not empty.
    async fn first_object(&self) -> object_store::Result<Option<ObjectMeta>> {
        let mut listed = self.store.list(None);
        while let Some(object) = listed.next().await.transpose()? {
            if object.size > 0 {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    /// Deletes an object, if it is there.
    async fn delete(&self, path: &Path) -> object_store::Result<()> {
        match self.store.delete(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Writes an object, tries to write it again, and reads it. `false`: it could not be written.
    async fn write(&self, path: &Path, probe: &mut Probe) -> bool {
        let create = || self.store.put_opts(path, TEXT.to_vec().into(), PutOptions::from(PutMode::Create));
        let mut began = Utc::now();
        let mut written = self.limited(is_new(create())).await;
        if matches!(written, Ok(false)) {
            // It has stayed from an earlier probe. It tells whether this process may write, and the
            // store's clock, only if it is written now.
            began = Utc::now();
            let put = self.store.put(path, TEXT.to_vec().into()).map_ok(|_| true);
            written = self.limited(put).await;
        }
        let ended = Utc::now();
        let is_there = written.is_ok();
        probe.attempts.push((Attempt::Write, written.map(drop)));
        if !is_there {
            return false;
        }
        let again = self.limited(is_new(create())).await;
        let again = again.and_then(|is_new| if is_new { Err(overwritten(self.folder)) } else { Ok(()) });
        probe.attempts.push((Attempt::WriteOnce, again));
        let read = self.limited(async {
            let got = self.store.get(path).await?;
            let modified = got.meta.last_modified;
            got.bytes().await.map(|_| modified)
        });
        let read = read.await;
        if let Ok(modified) = &read {
            probe.clock_ahead_ms = Some(clock_ahead_ms(*modified, began, ended));
        }
        probe.attempts.push((Attempt::Read, read.map(drop)));
        true
    }
}

/// Whether an object was created. `false`: it was there already.
async fn is_new<T>(creating: impl Future<Output = object_store::Result<T>>) -> object_store::Result<bool> {
    match creating.await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn overwritten(folder: &str) -> LakeError {
    let detail = "it overwrites an object although it was told not to (If-None-Match: *)";
    LakeError::Refused { subject: folder.to_owned(), source: detail.into() }
}

/// How far a time that the store has given to an object is from the time in which it was written
/// by our clock. 0: it may be the same time, as stores give whole seconds.
fn clock_ahead_ms(modified: DateTime<Utc>, began: DateTime<Utc>, ended: DateTime<Utc>) -> i64 {
    let earliest = began - chrono::TimeDelta::seconds(1);
    if modified > ended {
        (modified - ended).num_milliseconds()
    } else if modified < earliest {
        (modified - earliest).num_milliseconds()
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageSettings;
    use adlake_domain::catalogue;

    const TIMEOUT: Duration = Duration::from_secs(10);

    async fn lake(folder: &std::path::Path) -> Lake {
        let uri = folder.to_string_lossy().into_owned();
        Lake::open(&StorageSettings { uri, retry_for: Duration::ZERO, ..StorageSettings::default() }).await.unwrap()
    }

    fn names(probe: &Probe) -> Vec<(Attempt, bool)> {
        probe.attempts.iter().map(|(attempt, result)| (*attempt, result.is_ok())).collect()
    }

    #[tokio::test]
    async fn a_probe_leaves_only_what_it_may_not_delete() {
        use Attempt::{Delete, List, Read, Write, WriteOnce};
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(folder.path()).await;
        let files = || std::fs::read_dir(folder.path().join("raw/_doctor")).unwrap().count();
        let mut expected = vec![(List, true), (Write, true), (WriteOnce, true), (Read, true), (Delete, true)];
        let probe = lake.probe("raw/_doctor", Needs::Delete, TIMEOUT).await.unwrap();
        assert_eq!((names(&probe), probe.clock_ahead_ms, files()), (expected.clone(), Some(0), 0));
        expected.pop();
        for _ in 0..2 {
            let probe = lake.probe("raw/_doctor", Needs::Write, TIMEOUT).await.unwrap();
            assert_eq!((names(&probe), probe.clock_ahead_ms, files()), (expected.clone(), Some(0), 1));
            // What stays is old when the next probe comes.
            let kept = std::fs::File::options().write(true).open(folder.path().join("raw/_doctor/probe")).unwrap();
            kept.set_modified(std::time::SystemTime::now() - Duration::from_secs(3_600)).unwrap();
        }
        let probe = lake.probe("raw", Needs::Read, TIMEOUT).await.unwrap();
        assert_eq!(names(&probe), [(List, true), (Read, true)]);
        let probe = lake.probe("batch", Needs::Read, TIMEOUT).await.unwrap();
        assert_eq!(names(&probe), [(List, true)]);
        // Whoever may delete removes what has stayed.
        lake.probe("raw/_doctor", Needs::Delete, TIMEOUT).await.unwrap();
        assert_eq!(files(), 0);
    }

    #[tokio::test]
    async fn a_batch_table_of_other_columns_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(folder.path()).await;
        for (name, is_problem) in [(BatchTable::Hourly.name(), false), ("raw/impressions", true)] {
            let table = catalogue::table(name).unwrap();
            lake.create_table(&table).await.unwrap();
            let log = folder.path().join(name).join("_delta_log");
            let first = std::fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
            let metadata = first.lines().find(|line| line.contains("\"metaData\"")).unwrap();
            let mut metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
            let schema = metadata["metaData"]["schemaString"].as_str().unwrap();
            let other = schema.replacen("\"type\":\"string\"", "\"type\":\"long\"", 1);
            assert_ne!(schema, other);
            metadata["metaData"]["schemaString"] = other.into();
            std::fs::write(log.join("00000000000000000001.json"), format!("{metadata}\n")).unwrap();
            let features = lake.table_features(&table).await.unwrap().unwrap();
            assert_eq!((features.version, features.problem.is_some()), (1, is_problem), "{name}: {features:?}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_told() {
        let folder = tempfile::tempdir().unwrap();
        // A file where a folder would be made: not even root can write there.
        std::fs::write(folder.path().join("raw"), "x").unwrap();
        let probe = lake(folder.path()).await.probe("raw/_doctor", Needs::Delete, TIMEOUT).await.unwrap();
        let (attempt, result) = probe.attempts.last().unwrap();
        assert!(*attempt == Attempt::Write && result.is_err(), "{:?}", probe.attempts);
    }

    #[test]
    fn clocks_that_may_be_the_same_are_the_same() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_000_000 + ms).unwrap();
        let check = |modified: i64, expected: i64| assert_eq!(clock_ahead_ms(at(modified), at(900), at(950)), expected);
        check(0, 0);
        check(950, 0);
        check(2_000, 1_050);
        check(-200, -100);
        check(-3_600_000, -3_599_900);
    }

    #[tokio::test]
    async fn features_and_positions_are_read_without_writing() {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake(folder.path()).await;
        let table = catalogue::table("raw/impressions").unwrap();
        assert_eq!(lake.table_features(&table).await.unwrap(), None);
        let streams = ["a".to_owned(), "b".to_owned()];
        assert_eq!(lake.positions(table.name, &streams).await.unwrap(), [None, None]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut appender = lake.appender(table.name).await.unwrap();
        let advance = crate::Advance { application: "b".to_owned(), from: None, to: 7 };
        appender.commit(Vec::new(), vec![advance]).await.unwrap();
        assert_eq!(lake.positions(table.name, &streams).await.unwrap(), [None, Some(7)]);
        let features = lake.table_features(&table).await.unwrap().unwrap();
        assert_eq!((features.version, features.reader_version, features.writer_version), (1, 1, 2));
        assert!(features.lacking.is_empty() && features.problem.is_none() && features.features.is_empty());

        // Another program switches on a feature that adlake cannot write.
        let entry = folder.path().join("raw/impressions/_delta_log/00000000000000000002.json");
        let protocol = serde_json::json!({"protocol": {
            "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["domainMetadata", "rowTracking"],
        }});
        std::fs::write(entry, format!("{protocol}\n")).unwrap();
        let features = lake.table_features(&table).await.unwrap().unwrap();
        assert_eq!(features.features, ["domainMetadata", "rowTracking"]);
        assert!(features.problem.is_some(), "{features:?}");
    }
}
