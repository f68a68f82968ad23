//! The plans on a few rows; the property test of the merge against an oracle is in the `tests`
//! crate.

use std::sync::Arc;

use adlake_domain::schema::raw_schema;
use adlake_domain::settings::{Display, Meaning};
use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;

use super::*;
use crate::session::SessionSettings;
use crate::snapshot::Snapshot;
use crate::{Advance, Lake, StorageSettings, WriterSettings};

mod codec;
mod memory;

fn impressions(rows: &[(&str, &str, i64)]) -> RecordBatch {
    let schema = raw_schema(EventKind::Impression);
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match (field.name().as_str(), field.data_type()) {
            ("impression_id", _) => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef,
            ("user_id", _) => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
            ("campaign_id", _) => Arc::new(StringArray::from(vec!["c"; rows.len()])),
            ("event_time" | "ingested_at", _) => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2)).with_timezone("UTC"))
            }
            ("content_hash", _) => Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.0))),
            ("event_date", DataType::Date32) => Arc::new(Date32Array::from(vec![0; rows.len()])),
            (_, data_type) => new_null_array(data_type, rows.len()),
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

#[tokio::test]
async fn every_view_answers_before_any_batch_run() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().to_string_lossy().into_owned();
    let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
    lake.create_tables().await.unwrap();
    let mut appender = lake.appender("raw/impressions").await.unwrap();
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&impressions(&[("i1", "u1", 5), ("i2", "u2", 6), ("i1", "u3", 4)])).unwrap();
    let files = writer.finish().await.unwrap();
    let advance = Advance { application: "a".into(), from: None, to: 3 };
    appender.commit(files, vec![advance]).await.unwrap();

    let context = SessionSettings::default().context().unwrap();
    let snapshot = Snapshot::take(&lake, &context, &Meaning::default()).await.unwrap();
    let wanted = VIEWS.map(String::from).into_iter().collect();
    let views = Views::prepare(&context, &snapshot, &Display::default(), &wanted).await.unwrap();
    views.register(&context).unwrap();
    for view in VIEWS {
        context.sql(&format!("SELECT * FROM {view}")).await.unwrap().collect().await.unwrap();
    }
    let sql = "SELECT i.user_id, k.impressions, k.reach FROM impressions i, campaign_kpis k ORDER BY 1";
    let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
    let expected = "\
+---------+-------------+-------+
| user_id | impressions | reach |
+---------+-------------+-------+
| u2      | 2           | 2     |
| u3      | 2           | 2     |
+---------+-------------+-------+";
    assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), expected);
}
