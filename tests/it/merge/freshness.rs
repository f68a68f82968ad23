//! `freshness` is exact to the microsecond, although it comes from the tables' logs, whose
//! statistics are truncated to milliseconds.

use adlake_domain::settings::Meaning;
use adlake_tests::history::{Rows, START};
use adlake_tests::oracle::raw::{RawImpression, Source};
use adlake_tests::oracle::value::Value;

use super::lake::TestLake;

async fn assert_fresh(lake: &TestLake, rows: &[RawImpression], moment: &str) {
    let sql =
        "SELECT raw_rows, newest_event_time, newest_ingested_at FROM freshness WHERE \"table\" = 'raw/impressions'";
    let answer = lake.query(sql).await.unwrap();
    assert_eq!(answer.rows.len(), 1, "{moment}");
    let time = |time: Option<i64>| time.map_or(Value::Null, Value::Time);
    for (column, expected) in [
        ("raw_rows", Value::Int(rows.len() as i128)),
        ("newest_event_time", time(rows.iter().map(|row| row.event_time).max())),
        ("newest_ingested_at", time(rows.iter().map(|row| row.ingested_at).max())),
    ] {
        assert_eq!(answer.rows[0][column], expected, "{moment}: {column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_exact_without_a_scan() {
    let mut lake = TestLake::create(&Meaning::default()).await.unwrap();
    let mut all: Vec<RawImpression> = Vec::new();
    assert_fresh(&lake, &all, "empty").await;
    // The newest times differ by less than the statistics show. They come in either order, and in
    // files of different dates.
    for (number, (event_time, ingested_at)) in [
        (START + 999, 5_000),
        (START + 1_000, 5_001),
        (START + 998, 5_999),
        (START - 86_400_000_000, 5_998),
        (START + 1_001, 4_000),
        (START + 5, 6_000),
    ]
    .into_iter()
    .enumerate()
    {
        let row = RawImpression {
            impression_id: Some(format!("i{number}")),
            campaign_id: Some("c1".to_string()),
            event_time,
            ingested_at: START + ingested_at,
            source: Source { topic: "topic".to_string(), partition: 0, offset: number as i64 },
            ..RawImpression::default()
        };
        all.push(row.clone());
        lake.append(&Rows { impressions: vec![row], ..Rows::default() }).await.unwrap();
        assert_fresh(&lake, &all, &format!("after {number}")).await;
    }
    // Another writer has written the files and their statistics.
    lake.compact().await.unwrap();
    assert_fresh(&lake, &all, "compacted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_a_constant_column_takes_its_row_away() {
    let lake = TestLake::create(&Meaning::default()).await.unwrap();
    for (sql, rows) in [
        ("SELECT * FROM freshness WHERE \"table\" = 'raw/interactions'", 1),
        ("SELECT * FROM freshness WHERE \"table\" = 'raw/nothing'", 0),
        ("SELECT * FROM freshness", 3),
        ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'b'", 0),
        ("SELECT * FROM (SELECT 'a' AS t, count(*) AS n FROM clicks) WHERE t = 'a'", 1),
        ("SELECT 'a' AS t, sum(impressions) FROM campaign_daily HAVING 1 = 2", 0),
    ] {
        assert_eq!(lake.query(sql).await.unwrap().rows.len(), rows, "{sql}");
    }
}
