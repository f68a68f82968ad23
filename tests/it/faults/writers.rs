//! Many writers that commit to one table.

use std::time::{Duration, Instant};

use adlake_domain::schema::dead_letters_schema;
use adlake_lake::{Advance, Appended, Lake, StorageSettings, WriterSettings};
use anyhow::{Result, ensure};
use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, new_null_array};
use std::sync::Arc;
use tokio::task::JoinSet;

use super::site::DEAD_LETTERS;
use crate::raw::Raw;

const WRITERS: usize = 10;
const COMMITS: i64 = 200;
const TIME_MAX: Duration = Duration::from_secs(120);

/// One row that names its writer.
fn row(writer: usize, step: i64) -> Result<RecordBatch> {
    let schema = dead_letters_schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "reason" => Arc::new(StringArray::from(vec![format!("{writer}-{step}")])) as ArrayRef,
            "ingest_date" => Arc::new(Date32Array::from(vec![0])),
            _ => new_null_array(field.data_type(), 1),
        })
        .collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// A writer with a lake of its own, and so with its own state of the table.
async fn write(uri: String, writer: usize) -> Result<u64> {
    let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await?;
    let mut appender = lake.appender(DEAD_LETTERS).await?;
    let mut last = 0;
    for step in 0..COMMITS {
        let mut file = appender.writer(&WriterSettings::default());
        file.write(&row(writer, step)?)?;
        let files = file.finish().await?;
        let from = (step > 0).then_some(step);
        let advances = vec![Advance { application: format!("writer-{writer}"), from, to: step + 1 }];
        match appender.commit(files, advances).await? {
            Appended::Committed { version } => {
                ensure!(version > last, "version {version} after {last}");
                last = version;
            }
            Appended::Superseded { stored } => anyhow::bail!("writer {writer} step {step}: {stored:?}"),
        }
    }
    appender.close().await;
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_writers_land_two_thousand_commits() -> Result<()> {
    let raw = Raw::new().await?;
    let uri = raw.path().join("lake").display().to_string();
    raw.lake.create_tables().await?;
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(uri.clone(), writer));
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let took = started.elapsed();
    let commits = WRITERS as i64 * COMMITS;
    assert_eq!(raw.lake.newest_version(DEAD_LETTERS).await?, Some(commits as u64));
    let counts = raw.query(DEAD_LETTERS, "select count(*), count(distinct reason) from t").await?;
    assert_eq!(counts, [format!("{commits} {commits}")]);
    println!(
        "{WRITERS} writers: {commits} commits, lost 0, doubled 0, {took:.1?}, {:.0} commits/s",
        commits as f64 / took.as_secs_f64()
    );
    ensure!(took < TIME_MAX, "it took {took:?}");
    Ok(())
}
