//! Exactly-once append against real tables in a folder.

use std::sync::Arc;

use adlake_domain::schema::dead_letters_schema;
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::DataType;

use super::*;
use crate::StorageSettings;

async fn lake() -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().join("lake").to_string_lossy().into_owned();
    let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
    (folder, lake)
}

pub(crate) fn rows(offsets: std::ops::Range<i64>) -> RecordBatch {
    let schema = dead_letters_schema();
    let count = (offsets.end - offsets.start) as usize;
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match (field.name().as_str(), field.data_type()) {
            ("source", DataType::Struct(fields)) => Arc::new(StructArray::new(
                fields.clone(),
                vec![
                    Arc::new(StringArray::from(vec!["topic"; count])),
                    new_null_array(&DataType::Int32, count),
                    Arc::new(Int64Array::from_iter_values(offsets.clone())),
                ],
                None,
            )) as ArrayRef,
            ("ingest_date", _) => Arc::new(Date32Array::from_iter_values(offsets.clone().map(|o| (o % 2) as i32))),
            (_, data_type) => new_null_array(data_type, count),
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

pub(crate) async fn write(appender: &Appender, offsets: std::ops::Range<i64>) -> Vec<DataFile> {
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&rows(offsets)).unwrap();
    writer.finish().await.unwrap()
}

fn advance(from: Option<i64>, to: i64) -> Vec<Advance> {
    vec![Advance { application: "stream".to_string(), from, to }]
}

pub(crate) async fn count(lake: &Lake) -> usize {
    let mut table = lake.delta_table(catalogue::DEAD_LETTERS).unwrap();
    table.load().await.unwrap();
    let files = table.snapshot().unwrap().log_data();
    files.iter().map(|file| file.num_records().unwrap()).sum()
}

#[tokio::test]
async fn a_position_that_moved_supersedes() {
    let (_folder, lake) = lake().await;
    let mut first = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    let mut second = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    assert_eq!(second.stored("stream").await.unwrap(), None);
    let files = write(&first, 0..10).await;
    assert_eq!(files.len(), 2, "a file per partition");
    let done = first.commit(files, advance(None, 10)).await.unwrap();
    assert_eq!(done, Appended::Committed { version: 1 });
    // The second appender still knows no stored position. Its rows must not be committed.
    let files = write(&second, 0..5).await;
    let done = second.commit(files, advance(None, 5)).await.unwrap();
    assert_eq!(done, Appended::Superseded { stored: vec![("stream".to_string(), Some(10))] });
    let done = second.commit(write(&second, 10..12).await, advance(Some(10), 12)).await.unwrap();
    assert_eq!(done, Appended::Committed { version: 2 });
    assert_eq!(first.stored("stream").await.unwrap(), Some(12));
    assert_eq!(count(&lake).await, 12);
}

#[tokio::test]
async fn positions_advance_without_rows_and_never_go_back() {
    let (_folder, lake) = lake().await;
    let mut appender = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    appender.commit(Vec::new(), advance(None, 7)).await.unwrap();
    assert!(appender.commit(Vec::new(), advance(Some(7), 6)).await.is_err());
    let mut fresh = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    assert_eq!(fresh.stored("stream").await.unwrap(), Some(7));
    assert_eq!(fresh.stored("another").await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found() {
    let (_folder, lake) = lake().await;
    let mut appender = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    let files = write(&appender, 0..3).await;
    // The state after a lost answer: the commit is in, but the appender does not know it.
    appender.commit(files.clone(), advance(None, 3)).await.unwrap();
    let mut unaware = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
    unaware.version = 0;
    unaware.positions.insert("stream".to_string(), None);
    let done = unaware.commit(files, advance(None, 3)).await.unwrap();
    assert_eq!(done, Appended::Superseded { stored: vec![("stream".to_string(), Some(3))] });
    assert_eq!(count(&lake).await, 3);
}

#[tokio::test]
async fn many_writers_each_land_everything_once() {
    let (_folder, lake) = lake().await;
    lake.create_tables().await.unwrap();
    let writers = (0..6).map(|writer| {
        let lake = lake.clone();
        tokio::spawn(async move {
            let mut appender = lake.appender(catalogue::DEAD_LETTERS).await.unwrap();
            for step in 0..20 {
                let advances = vec![Advance {
                    application: format!("stream-{writer}"),
                    from: (step > 0).then_some(step),
                    to: step + 1,
                }];
                let files = write(&appender, step..step + 1).await;
                let done = appender.commit(files, advances).await.unwrap();
                assert!(matches!(done, Appended::Committed { .. }), "{done:?}");
            }
            appender.close().await;
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(count(&lake).await, 120);
}
