//! Reach beyond the size of a sketch: it is close to the truth, and the sketch has the same bytes
//! however the users are combined.

use adlake_domain::settings::Meaning;
use adlake_tests::history::{ReferenceData, Rows, START};
use adlake_tests::oracle::compare::assert_same;
use adlake_tests::oracle::raw::{RawImpression, Source};
use adlake_tests::oracle::value::Value;

use super::lake::TestLake;

const DAY: i64 = 86_400_000_000;

/// 7,500 users see campaign c1, the first 5,000 of them on the first day and the last 5,000 on the
/// second.
fn rows() -> Vec<RawImpression> {
    let mut rows = Vec::new();
    for day in 0..2 {
        for user in day * 2_500..day * 2_500 + 5_000 {
            let offset = rows.len() as i64;
            rows.push(RawImpression {
                ad_creative_id: Some("r1".to_string()),
                website: Some("a.example".to_string()),
                campaign_id: Some("c1".to_string()),
                user_id: Some(format!("user-{user}")),
                impression_id: Some(format!("i{offset}")),
                event_time: START + day * DAY + offset,
                source: Source { topic: "topic".to_string(), partition: 0, offset },
                ingested_at: START + 3 * DAY,
                ..RawImpression::default()
            });
        }
    }
    rows
}

fn reach_of(rows: &[adlake_tests::oracle::value::Row]) -> Vec<i128> {
    let mut reaches: Vec<i128> = rows
        .iter()
        .map(|row| match row["reach"] {
            Value::Int(reach) => reach,
            ref other => panic!("reach is {other}"),
        })
        .collect();
    reaches.sort_unstable();
    reaches
}

#[tokio::test(flavor = "multi_thread")]
async fn large_reach_is_close_and_the_same_merged_and_recomputed() {
    let meaning = Meaning::default();
    let (even, odd): (Vec<_>, Vec<_>) = rows().into_iter().partition(|row| row.source.offset % 2 == 0);
    let [even, odd] = [even, odd].map(|impressions| Rows { impressions, ..Rows::default() });
    let mut lake = TestLake::create(&meaning).await.unwrap();
    lake.load(&ReferenceData::variant(0)).await.unwrap();
    lake.append(&even).await.unwrap();
    lake.batch(false).await.unwrap();
    lake.append(&odd).await.unwrap();
    let merged = [lake.answer("campaign_daily").await.unwrap(), lake.answer("campaign_kpis").await.unwrap()];
    lake.batch(true).await.unwrap();
    let full = [lake.answer("campaign_daily").await.unwrap(), lake.answer("campaign_kpis").await.unwrap()];
    for (view, (merged, full)) in ["campaign_daily", "campaign_kpis"].into_iter().zip(merged.iter().zip(&full)) {
        assert_same(view, &full.rows, merged);
    }
    for (found, truth) in [(reach_of(&full[0].rows), vec![5_000, 5_000]), (reach_of(&full[1].rows), vec![7_500])] {
        assert_eq!(found.len(), truth.len());
        for (found, truth) in found.into_iter().zip(truth) {
            assert!((found - truth).abs() * 20 <= truth, "reach {found} of {truth} users");
        }
    }
    let union = lake.query("SELECT reach(reach_sketch) AS reach FROM campaign_daily").await.unwrap();
    assert_eq!(reach_of(&union.rows), reach_of(&full[1].rows));
}
