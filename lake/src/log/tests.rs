//! Tests of short logs, and of the log of a month.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::DEAD_LETTERS;
use arrow::array::{Array, ArrayRef, StringArray, StructArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::append::tests::{count, write};
use crate::{Advance, Appended, Appender, LogSettings, StorageSettings};

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { folder: tempfile::tempdir().unwrap() }
    }

    async fn lake(&self, log: LogSettings) -> Lake {
        let uri = self.folder.path().join("lake").to_string_lossy().into_owned();
        Lake::open(&StorageSettings { uri, log, ..StorageSettings::default() }).await.unwrap()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("lake").join(DEAD_LETTERS).join(FOLDER)
    }

    /// The versions whose entries exist.
    fn entries(&self) -> Vec<u64> {
        let names = std::fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut versions: Vec<u64> = names
            .filter_map(|name| name.to_str().unwrap().strip_suffix(".json").and_then(|name| name.parse().ok()))
            .collect();
        versions.sort_unstable();
        versions
    }

    /// Cleans the log up until the versions of its entries are as wanted. An entry is removed only
    /// once it is as old as the retention.
    async fn clean(&self, lake: &Lake, wanted: impl Fn(&[u64]) -> bool) {
        let begun = Instant::now();
        loop {
            lake.keep_log(DEAD_LETTERS).await.unwrap();
            let entries = self.entries();
            if wanted(&entries) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "clean-up leaves the versions {entries:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn often(retention_ms: u64) -> LogSettings {
    let retention = Duration::from_millis(retention_ms);
    LogSettings { checkpoint_interval: 10, checkpoint_percent_max: 100, retention }
}

async fn append(appender: &mut Appender, stream: &str, from: i64, rows: i64) -> Appended {
    let files = write(appender, from..from + rows).await;
    let from_stored = (from > 0).then_some(from);
    let advance = Advance { application: stream.to_string(), from: from_stored, to: from + rows };
    appender.commit(files, vec![advance]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_log_holds_all_there_is_to_know() {
    let fixture = Fixture::new();
    let lake = fixture.lake(often(1)).await;
    let mut appender = lake.appender(DEAD_LETTERS).await.unwrap();
    append(&mut appender, "idle", 0, 1).await;
    for n in 0..120 {
        assert!(matches!(append(&mut appender, "busy", n, 1).await, Appended::Committed { .. }), "{n}");
    }
    appender.close().await;
    assert!(lake.keep_log(DEAD_LETTERS).await.unwrap().is_some());
    let entries = fixture.entries();
    assert!(entries.len() <= 25 && *entries.first().unwrap() > 90, "{entries:?}");
    assert_eq!(entries.last(), Some(&121));
    assert!(entries.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole in {entries:?}");

    assert_eq!(lake.newest_version(DEAD_LETTERS).await.unwrap(), Some(121));
    let check = async |case: &str| {
        let mut fresh = lake.appender(DEAD_LETTERS).await.unwrap();
        assert_eq!(fresh.stored("idle").await.unwrap(), Some(1), "{case}");
        assert_eq!(fresh.stored("busy").await.unwrap(), Some(120), "{case}");
        assert_eq!(fresh.stored("unknown").await.unwrap(), None, "{case}");
        assert_eq!(count(&lake).await, 121, "{case}");
    };
    check("as it is").await;
    std::fs::write(fixture.log().join("_last_checkpoint"), "{").unwrap();
    check("with a damaged hint").await;
    std::fs::remove_file(fixture.log().join("_last_checkpoint")).unwrap();
    check("without the hint").await;
    assert_eq!(lake.newest_version(DEAD_LETTERS).await.unwrap(), Some(121));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_that_the_hint_names_is_kept() {
    let fixture = Fixture::new();
    let keeps = fixture.lake(often(3_600_000)).await;
    let mut appender = keeps.appender(DEAD_LETTERS).await.unwrap();
    let hint = fixture.log().join("_last_checkpoint");
    for n in 0..5 {
        append(&mut appender, "stream", n, 1).await;
    }
    keeps.keep_log(DEAD_LETTERS).await.unwrap();
    let older = std::fs::read(&hint).unwrap();
    for n in 5..8 {
        append(&mut appender, "stream", n, 1).await;
    }
    appender.close().await;
    keeps.keep_log(DEAD_LETTERS).await.unwrap();
    // The checkpoint of version 8 was written, but `_last_checkpoint` was not.
    std::fs::write(&hint, older).unwrap();
    let removes = fixture.lake(often(1)).await;
    fixture.clean(&removes, |entries| entries.first() == Some(&5)).await;
    assert_eq!(count(&removes).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_held_up_does_not_commit_into_a_gap() {
    let fixture = Fixture::new();
    let lake = fixture.lake(often(50)).await;
    let mut held_up = lake.appender(DEAD_LETTERS).await.unwrap();
    let mut other = lake.appender(DEAD_LETTERS).await.unwrap();
    for n in 0..60 {
        append(&mut other, "stream", n, 1).await;
    }
    other.close().await;
    // Version 1 is free again.
    fixture.clean(&lake, |entries| !entries.contains(&1)).await;
    // It still knows version 0 and no stored position. There is no entry of version 1 in its way.
    let done = append(&mut held_up, "stream", 0, 5).await;
    assert_eq!(done, Appended::Superseded { stored: vec![("stream".to_string(), Some(60))] });
    assert_eq!(append(&mut held_up, "another", 0, 5).await, Appended::Committed { version: 61 });
    assert_eq!(held_up.stored("stream").await.unwrap(), Some(60));
    assert_eq!(count(&lake).await, 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retention_nothing_is_removed() {
    let fixture = Fixture::new();
    let lake = fixture.lake(often(0)).await;
    let mut appender = lake.appender(DEAD_LETTERS).await.unwrap();
    for n in 0..25 {
        append(&mut appender, "stream", n, 1).await;
    }
    appender.close().await;
    lake.keep_log(DEAD_LETTERS).await.unwrap();
    assert_eq!(fixture.entries(), (0..=25).collect::<Vec<_>>());
    let state = lake.log_state(DEAD_LETTERS).await.unwrap().unwrap();
    assert_eq!((state.version, state.checkpoint), (25, Some(25)));
}

/// The log of a table that was written every second for a month: that many versions, and as many
/// files in its checkpoint.
fn synthesise(fixture: &Fixture, made: u64, version: u64, files: usize) {
    let log = fixture.log();
    let name = |version: u64| log.join(format!("{version:020}.checkpoint.parquet"));
    let checkpoint = std::fs::File::open(name(made)).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(checkpoint).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    let adds = batch.column_by_name("add").unwrap();
    let an_add = (0..batch.num_rows()).find(|&row| adds.is_valid(row)).unwrap();
    let place = batch.schema().index_of("add").unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(name(version)).unwrap(), batch.schema(), None).unwrap();
    let others: Vec<u32> = (0..batch.num_rows()).filter(|&row| adds.is_null(row)).map(|row| row as u32).collect();
    writer
        .write(&arrow::compute::take_record_batch(&batch, &arrow::array::UInt32Array::from(others)).unwrap())
        .unwrap();
    const ROWS: usize = 50_000;
    let same = arrow::array::UInt32Array::from(vec![an_add as u32; ROWS]);
    let same = arrow::compute::take_record_batch(&batch, &same).unwrap();
    for begin in (0..files).step_by(ROWS) {
        let rows = ROWS.min(files - begin);
        let part = same.slice(0, rows);
        let adds = part.column(place).as_any().downcast_ref::<StructArray>().unwrap();
        let mut fields: Vec<ArrayRef> = adds.columns().to_vec();
        let path = adds.column_names().iter().position(|name| *name == "path").unwrap();
        let paths = (begin..begin + rows).map(|n| format!("ingest_date=1970-01-01/part-{n:032x}.parquet"));
        fields[path] = arrow::compute::cast(&StringArray::from_iter_values(paths), fields[path].data_type()).unwrap();
        let adds = StructArray::try_new(adds.fields().clone(), fields, adds.nulls().cloned()).unwrap();
        let mut columns = part.columns().to_vec();
        columns[place] = Arc::new(adds);
        writer.write(&arrow::array::RecordBatch::try_new(part.schema(), columns).unwrap()).unwrap();
    }
    writer.close().unwrap();
    std::fs::write(log.join(format!("{version:020}.json")), "{\"commitInfo\":{\"timestamp\":0}}\n").unwrap();
    let hint = format!("{{\"version\":{version},\"size\":{files}}}");
    std::fs::write(log.join("_last_checkpoint"), hint).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_month_of_seconds_it_opens_and_appends_as_on_the_first_day() {
    const VERSION: u64 = 30 * 24 * 60 * 60;
    let fixture = Fixture::new();
    let settings = LogSettings { checkpoint_interval: 100, retention: Duration::ZERO, ..LogSettings::default() };
    let lake = fixture.lake(settings).await;
    let mut appender = lake.appender(DEAD_LETTERS).await.unwrap();
    let mut fresh = Vec::new();
    for n in 0..20 {
        let begun = Instant::now();
        append(&mut appender, "stream", n, 1).await;
        fresh.push(begun.elapsed());
    }
    appender.close().await;
    lake.keep_log(DEAD_LETTERS).await.unwrap();
    let begun = Instant::now();
    synthesise(&fixture, 20, VERSION, VERSION as usize);
    let size = std::fs::metadata(fixture.log().join(format!("{VERSION:020}.checkpoint.parquet"))).unwrap().len();
    println!("a checkpoint of {VERSION} files, {size} bytes, synthesised in {:?}", begun.elapsed());

    let begun = Instant::now();
    let mut appender = lake.appender(DEAD_LETTERS).await.unwrap();
    let opened = begun.elapsed();
    assert_eq!(appender.version(), VERSION);
    assert_eq!(appender.stored("stream").await.unwrap(), Some(20));
    let mut later = Vec::new();
    for n in 20..119 {
        let begun = Instant::now();
        append(&mut appender, "stream", n, 1).await;
        later.push(begun.elapsed());
    }
    let begun = Instant::now();
    let _ = lake.appender(DEAD_LETTERS).await.unwrap();
    let opened_with_tail = begun.elapsed();
    // Resets the peak of the resident memory. Only Linux has this file, and the peak is only
    // reported.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    // The hundredth commit starts a checkpoint. Commits go on beside it.
    let mut beside = Vec::new();
    for n in 119..139 {
        let begun = Instant::now();
        append(&mut appender, "stream", n, 1).await;
        beside.push(begun.elapsed());
    }
    let begun = Instant::now();
    appender.close().await;
    let waited = begun.elapsed();
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (fresh, later, beside) = (median(&mut fresh), median(&mut later), median(&mut beside));
    println!(
        "opened in {opened:?}, with 99 entries since in {opened_with_tail:?}; a commit takes {later:?} \
         (a fresh table: {fresh:?}, beside a checkpoint: {beside:?}); the next checkpoint took at least {waited:?}; \
         beside it at most {} MB were resident",
        resident_max_mb()
    );
    let last = last_checkpoint(lake.log_store(DEAD_LETTERS).unwrap().object_store(None).as_ref(), "").await;
    assert_eq!(last.unwrap().unwrap().version, VERSION + 100);
    let mut again = lake.appender(DEAD_LETTERS).await.unwrap();
    assert_eq!(again.stored("stream").await.unwrap(), Some(139));
    assert!(opened < Duration::from_secs(1) && opened_with_tail < Duration::from_secs(1));
    assert!(later < fresh * 5 + Duration::from_millis(20), "{later:?}, {fresh:?} on the first day");
}

/// The peak of this process's resident memory.
fn resident_max_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}
