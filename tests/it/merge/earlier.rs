//! A lake that an earlier adlake has written. Its batch tables have other columns and follow other
//! rules, and a manifest names them.

use std::path::Path;
use std::sync::Arc;

use adlake_batch_layer::Plan;
use adlake_domain::batch_schema::wide;
use adlake_domain::catalogue::{self, Table};
use adlake_domain::event::EventKind;
use adlake_domain::settings::{Meaning, REVISION};
use adlake_lake::manifest::Manifest;
use adlake_lake::session::SessionSettings;
use adlake_tests::history::{ReferenceData, Rows, START};
use adlake_tests::oracle::VIEWS;
use adlake_tests::oracle::raw::{RawImpression, RawInteraction, Source};
use adlake_tests::oracle::value::Value;
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::DeltaTable;

use super::lake::TestLake;

fn source(offset: i64) -> Source {
    Source { topic: "topic".to_string(), partition: 0, offset }
}

fn text(value: &str) -> Option<String> {
    Some(value.to_string())
}

fn impression(id: &str, user: &str, time: i64, offset: i64) -> RawImpression {
    RawImpression {
        impression_id: text(id),
        user_id: text(user),
        campaign_id: text("c1"),
        event_time: time,
        enriched_cost_micros: Some(5),
        source: source(offset),
        ..RawImpression::default()
    }
}

fn click(id: &str, user: &str, time: i64, offset: i64) -> RawInteraction {
    RawInteraction {
        event_id: text(id),
        user_id: text(user),
        campaign_id: text("c1"),
        conversion_type: text("click"),
        event_time: time,
        source: source(offset),
        ..RawInteraction::default()
    }
}

/// The schema as the first adlake had it: 64 bits for every sum, and whole seconds.
fn earlier_schema(table: &Table) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let name = match field.name().as_str() {
            name if name.starts_with("seconds_") => name.trim_end_matches("_micros"),
            name => name,
        };
        let data_type = if *field.data_type() == wide() { DataType::Int64 } else { field.data_type().clone() };
        Field::new(name, data_type, true)
    };
    let fields = table.schema.fields().iter().filter(|field| field.name() != "revision");
    Arc::new(Schema::new(fields.map(field).collect::<Vec<_>>()))
}

/// Writes a table with the earlier schema, and a row that today's rules never produce.
async fn write_earlier(folder: &Path, name: &str) {
    let schema = earlier_schema(&catalogue::table(name).unwrap());
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "event_date" => Arc::new(Date32Array::from(vec![20_749])),
            "campaign_id" => Arc::new(StringArray::from(vec!["c1"])),
            "events" | "impressions" | "cost_micros" => Arc::new(Int64Array::from(vec![777])),
            _ => new_null_array(field.data_type(), 1),
        }
    });
    let rows = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    let url = deltalake::ensure_table_uri(path.to_string_lossy()).unwrap();
    let table = DeltaTable::try_from_url(url).await.unwrap();
    table.write(vec![rows]).with_partition_columns(vec!["event_date"]).await.unwrap();
}

async fn columns_of(lake: &TestLake, table: &str, version: u64) -> SchemaRef {
    let mut table = deltalake::open_table(lake.lake().table_url(table).unwrap()).await.unwrap();
    table.load_version(version).await.unwrap();
    table.snapshot().unwrap().snapshot().arrow_schema()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_adlake_has_published_is_not_merged_with_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    for table in [catalogue::CAMPAIGN_HOURLY, catalogue::ATTRIBUTIONS] {
        write_earlier(folder.path(), table).await;
    }
    let (meaning, reference) = (Meaning::default(), ReferenceData::variant(0));
    let mut lake = TestLake::create_in(folder, &meaning).await.unwrap();
    lake.load(&reference).await.unwrap();
    let impressions = vec![impression("i1", "u1", START, 1)];
    let rows = Rows { impressions, interactions: vec![click("e1", "u1", START + 1_500_001, 2)], ..Rows::default() };
    lake.append(&rows).await.unwrap();
    let mut versions = std::collections::BTreeMap::new();
    for kind in EventKind::ALL {
        let version = lake.lake().newest_version(kind.raw_table()).await.unwrap().unwrap();
        versions.extend([(kind.raw_table().to_string(), version), (kind.batch_table().to_string(), 0)]);
    }
    for table in [catalogue::CAMPAIGN_HOURLY, catalogue::ATTRIBUTIONS, catalogue::CAMPAIGN_REACH] {
        versions.insert(table.to_string(), 0);
    }
    let campaigns = lake.lake().newest_version(catalogue::CAMPAIGNS).await.unwrap().unwrap();
    versions.insert(catalogue::CAMPAIGNS.to_string(), campaigns);
    let earlier = Manifest {
        run_id: "earlier".to_string(),
        run: 1,
        published_at: START,
        versions,
        meaning: meaning.clone(),
        revision: 1,
    };
    earlier.publish(lake.lake(), None).await.unwrap();

    let input = super::input(&rows, &reference, &meaning);
    super::check(&lake, &input, &VIEWS).await.unwrap();
    let covered = lake.query("SELECT DISTINCT published_version AS v FROM freshness").await.unwrap();
    assert_eq!(covered.rows.len(), 1);
    assert_eq!(covered.rows[0]["v"], Value::Null);

    // No rows have arrived since, but the rules have changed.
    lake.batch(false).await.unwrap();
    super::check(&lake, &input, &VIEWS).await.unwrap();
    let published = published(&lake).await;
    assert_eq!((published.run, published.revision), (2, REVISION));
    let covered = lake.query("SELECT count(published_version) AS n FROM freshness").await.unwrap();
    assert_eq!(covered.rows[0]["n"], Value::Int(3));

    let newest = published.version(catalogue::CAMPAIGN_HOURLY).unwrap();
    let now = columns_of(&lake, catalogue::CAMPAIGN_HOURLY, newest).await;
    assert_eq!(*now.field_with_name("cost_micros").unwrap().data_type(), wide());
    assert!(now.field_with_name("seconds_to_click_micros").is_ok() && now.field_with_name("seconds_to_click").is_err());
    let then = columns_of(&lake, catalogue::CAMPAIGN_HOURLY, 0).await;
    assert_eq!(*then.field_with_name("cost_micros").unwrap().data_type(), DataType::Int64);
}

/// The newest published run.
async fn published(lake: &TestLake) -> Manifest {
    let context = SessionSettings::default().context().unwrap();
    Manifest::latest(lake.lake(), &context).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_the_table_of_users_is_merged_and_the_next_one_has_it() {
    let (meaning, reference) = (Meaning::default(), ReferenceData::variant(0));
    let mut lake = TestLake::create(&meaning).await.unwrap();
    lake.load(&reference).await.unwrap();
    let second = 1_000_000;
    let mut all = Rows {
        impressions: vec![impression("i1", "u1", START, 1), impression("i2", "u2", START + 9 * second, 2)],
        interactions: vec![click("e1", "u1", START + 2 * second, 3)],
        ..Rows::default()
    };
    lake.append(&all).await.unwrap();
    lake.batch(false).await.unwrap();

    // The same run, as an adlake has published it that did not write the table.
    let mut earlier = published(&lake).await;
    assert!(earlier.versions.remove(catalogue::USER_SEGMENTS).is_some());
    let run = earlier.run;
    (earlier.run, earlier.run_id) = (run + 1, "earlier".to_string());
    earlier.publish(lake.lake(), Some(run)).await.unwrap();
    super::check(&lake, &super::input(&all, &reference, &meaning), &VIEWS).await.unwrap();

    // An earlier copy takes the first event from one user and gives it to another.
    let later = Rows {
        impressions: vec![impression("i1", "u3", START - second, 0), impression("i3", "u2", START + second, 4)],
        interactions: vec![click("e2", "u2", START + 10 * second, 5)],
        ..Rows::default()
    };
    lake.append(&later).await.unwrap();
    all.extend(&later);
    let input = super::input(&all, &reference, &meaning);
    super::check(&lake, &input, &VIEWS).await.unwrap();

    // The run after it adds to what was published, and makes the table of all users.
    let done = lake.run_during(false, &Rows::default()).await.unwrap();
    assert!(matches!(done.plan, Plan::Incremental { .. }), "{:?}", done.plan);
    assert!(published(&lake).await.version(catalogue::USER_SEGMENTS).is_some());
    super::check(&lake, &input, &VIEWS).await.unwrap();
    super::check_runs(&mut lake).await.unwrap();
}
