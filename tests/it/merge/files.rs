//! Which files of the cube an incremental run leaves as they are.

use std::collections::BTreeMap;

use adlake_domain::catalogue;
use adlake_domain::settings::Meaning;
use adlake_lake::manifest::Manifest;
use adlake_lake::session::SessionSettings;
use adlake_tests::history::{ReferenceData, Rows, START};
use adlake_tests::oracle::VIEWS;
use adlake_tests::oracle::raw::{RawImpression, Source};

use super::lake::TestLake;

const CAMPAIGNS: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];

fn impressions(campaigns: &[&str], first: i64) -> Rows {
    let impression = |(offset, campaign): (i64, &&str)| RawImpression {
        impression_id: Some(format!("i{offset}")),
        user_id: Some("u1".to_string()),
        campaign_id: Some(campaign.to_string()),
        event_time: START,
        enriched_cost_micros: Some(5),
        source: Source { topic: "topic".to_string(), partition: 0, offset },
        ..RawImpression::default()
    };
    Rows { impressions: (first..).zip(campaigns).map(impression).collect(), ..Rows::default() }
}

/// The files of the published cube, with the campaigns of each.
async fn files(lake: &TestLake) -> BTreeMap<String, Vec<String>> {
    let context = SessionSettings::default().context().unwrap();
    let published = Manifest::latest(lake.lake(), &context).await.unwrap().unwrap();
    let version = published.version(catalogue::CAMPAIGN_HOURLY).unwrap();
    let replacer = lake.lake().replacer_from(catalogue::CAMPAIGN_HOURLY, version).await.unwrap();
    let mut files = BTreeMap::new();
    for file in lake.lake().files_at(catalogue::CAMPAIGN_HOURLY, version).await.unwrap() {
        let mut campaigns = Vec::new();
        for batch in replacer.open(&file).await.unwrap().rows().unwrap() {
            let batch = batch.unwrap();
            let column = arrow::array::AsArray::as_string::<i32>(batch.column_by_name("campaign_id").unwrap());
            campaigns.extend(column.iter().map(|campaign| campaign.unwrap_or("-").to_string()));
        }
        files.insert(file.path.clone(), campaigns);
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_cube_that_no_change_meets_stay() {
    let (meaning, reference) = (Meaning::default(), ReferenceData::variant(0));
    let mut lake = TestLake::create(&meaning).await.unwrap();
    lake.load(&reference).await.unwrap();
    let first = impressions(&CAMPAIGNS, 0);
    lake.append(&first).await.unwrap();
    lake.batch_in_slices(1).await.unwrap();
    let before = files(&lake).await;
    assert_eq!(before.len(), CAMPAIGNS.len(), "{before:?}");

    // One more of a campaign, and one of a campaign between two others.
    let more = impressions(&["c3", "c4a"], 100);
    lake.append(&more).await.unwrap();
    lake.batch_in_slices(1).await.unwrap();
    let after = files(&lake).await;
    let stay: Vec<&String> = before.keys().filter(|path| after.contains_key(*path)).collect();
    let campaigns: Vec<&str> = stay.iter().flat_map(|path| &before[*path]).map(String::as_str).collect();
    let mut sorted = campaigns.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["c1", "c2", "c5"]);
    let mut new: Vec<&Vec<String>> =
        after.iter().filter(|(path, _)| !before.contains_key(*path)).map(|(_, campaigns)| campaigns).collect();
    new.sort();
    assert_eq!(new, [&vec!["c3".to_string()], &vec!["c4".to_string(), "c4a".to_string()]]);
    let mut all = first;
    all.impressions.extend(more.impressions);
    let input = super::input(&all, &reference, &meaning);
    super::check(&lake, &input, &VIEWS).await.unwrap();
}
