//! Thousands of commits, with checkpoints and log clean-up beside them: every reader of the table
//! sees the same rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_domain::schema::dead_letters_schema;
use adlake_lake::{Advance, Appended, Appender, Lake, LogSettings, StorageSettings, WriterSettings};
use adlake_tests::readers::{COUNT, assert_agree};
use adlake_tests::s3::S3Server;
use adlake_tests::wait;
use anyhow::{Result, ensure};
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::DataType;

const DEADLINE: Duration = Duration::from_secs(60);

fn row(offset: i64) -> Result<RecordBatch> {
    let schema = dead_letters_schema();
    let column = |field: &arrow::datatypes::FieldRef| match (field.name().as_str(), field.data_type()) {
        ("source", DataType::Struct(fields)) => {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec!["topic"])),
                new_null_array(&DataType::Int32, 1),
                Arc::new(Int64Array::from(vec![offset])),
            ];
            Arc::new(StructArray::new(fields.clone(), columns, None)) as ArrayRef
        }
        ("ingest_date", _) => Arc::new(Date32Array::from(vec![(offset % 3) as i32])),
        (_, data_type) => new_null_array(data_type, 1),
    };
    Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
}

/// Commits one row at a time, as a stream of its own. Returns how long each commit took.
async fn feed(lake: Lake, stream: &'static str, commits: i64) -> Result<Vec<Duration>> {
    let mut appender: Appender = lake.appender(DEAD_LETTERS).await?;
    let mut took = Vec::new();
    for n in 0..commits {
        let begun = Instant::now();
        let mut writer = appender.writer(&WriterSettings::default());
        writer.write(&row(n)?)?;
        let files = writer.finish().await?;
        let advance = Advance { application: stream.to_owned(), from: (n > 0).then_some(n), to: n + 1 };
        let done = appender.commit(files, vec![advance]).await?;
        ensure!(matches!(done, Appended::Committed { .. }), "{stream} {n}: {done:?}");
        took.push(begun.elapsed());
    }
    appender.close().await;
    Ok(took)
}

async fn feed_by_two(uri: &str, options: BTreeMap<String, String>, commits: i64) -> Result<Lake> {
    // Every entry is soon old enough to be removed, and a checkpoint may take all the time it
    // needs.
    let retention = Duration::from_millis(500);
    let log = LogSettings { checkpoint_interval: 25, checkpoint_percent_max: 100, retention };
    let lake = Lake::open(&StorageSettings {
        uri: uri.to_owned(),
        options: options.into_iter().collect(),
        log,
        ..StorageSettings::default()
    })
    .await?;
    lake.create_tables().await?;
    let begun = Instant::now();
    let (one, other) = (lake.clone(), lake.clone());
    let one = tokio::spawn(async move { feed(one, "one", commits).await });
    let other = tokio::spawn(async move { feed(other, "other", commits).await });
    let mut took = one.await??;
    took.extend(other.await??);
    took.sort_unstable();
    // Entries are removed once they are as old as the retention.
    let state = wait::value_async(DEADLINE, "a log that is cleaned up", async || {
        lake.keep_log(DEAD_LETTERS).await?;
        Ok(lake.log_state(DEAD_LETTERS).await?.filter(|state| state.files < commits as u64))
    });
    let state = state.await?;
    println!(
        "{} commits by two writers in {:?}: half within {:?}, all within {:?}; the log: {state:?}",
        took.len(),
        begun.elapsed(),
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert_eq!(state.version, 2 * commits as u64);
    assert_eq!(state.checkpoint, Some(state.version));

    let begun = Instant::now();
    let mut fresh = lake.appender(DEAD_LETTERS).await?;
    println!("opened in {:?}", begun.elapsed());
    assert_eq!(fresh.stored("one").await?, Some(commits));
    assert_eq!(fresh.stored("other").await?, Some(commits));
    Ok(lake)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_see_every_row_of_a_log_that_was_cleaned_up() -> Result<()> {
    const COMMITS: i64 = 1_000;
    let folder = tempfile::tempdir()?;
    let uri = folder.path().join("lake");
    feed_by_two(&uri.to_string_lossy(), BTreeMap::new(), COMMITS).await?;
    let seen = assert_agree(&uri.join(DEAD_LETTERS), &["source.offset"]);
    assert_eq!(seen[COUNT], (2 * COMMITS).to_string());
    assert_eq!(seen["source.offset"], (COMMITS * (COMMITS - 1)).to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_s3() -> Result<()> {
    const COMMITS: i64 = 100;
    let s3 = S3Server::start()?;
    let lake = feed_by_two(&s3.uri("lake"), s3.storage_options().into_iter().collect(), COMMITS).await?;
    let version = lake.newest_version(DEAD_LETTERS).await?;
    assert_eq!(version, Some(2 * COMMITS as u64));
    let context = datafusion::prelude::SessionContext::new();
    let rows = context.read_table(lake.provider(DEAD_LETTERS, 2 * COMMITS as u64).await?)?.count().await?;
    assert_eq!(rows, 2 * COMMITS as usize);
    Ok(())
}
