use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use adlake_tests::history::{Rows, START};
use adlake_tests::oracle::raw::RawImpression;
use super::lake::TestLake;
#[tokio::test(flavor = "multi_thread")]
async fn debug() {
    let meaning = Meaning::default();
    let mut lake = TestLake::create(&meaning).await.unwrap();
    let row = RawImpression { user_id: Some("u".into()), impression_id: Some("i".into()), event_time: START, ..Default::default() };
    lake.append(&Rows { impressions: vec![row], ..Rows::default() }).await.unwrap();
    let context = adlake_lake::session::SessionSettings::default().context().unwrap();
    let pinned = adlake_lake::snapshot::Pinned::now(lake.lake(), &context, &meaning).await.unwrap();
    println!("{:?}", pinned.newest);
    let newest = pinned.newest_table("raw/impressions").await.unwrap().unwrap();
    println!("newest {}", context.read_table(newest).unwrap().count().await.unwrap());
    let tail = pinned.tail(&context, EventKind::Impression).await.unwrap().unwrap();
    let frame = context.read_table(tail.clone()).unwrap();
    println!("{}", frame.clone().create_physical_plan().await.map(|p| datafusion::physical_plan::displayable(p.as_ref()).indent(true).to_string()).unwrap());
    println!("tail {}", frame.count().await.unwrap());
    let plans = adlake_lake::views::Plans::new(context.clone(), &meaning, Default::default());
    plans.register("tail", tail).unwrap();
    plans.define("dated", "SELECT *, CAST(event_time AS DATE) AS event_date FROM tail").await.unwrap();
    println!("dated {}", plans.sql("SELECT * FROM dated").await.unwrap().count().await.unwrap());
    let keyed = plans.keyed(EventKind::Impression, "dated").await.unwrap();
    plans.register("all_keyed", keyed.clone().into_view()).unwrap();
    println!("keyed {}", keyed.count().await.unwrap());
    let d = plans.deduplicated(EventKind::Impression, "all_keyed").await.unwrap();
    println!("{}", d.clone().create_physical_plan().await.map(|p| datafusion::physical_plan::displayable(p.as_ref()).indent(true).to_string()).unwrap());
    println!("deduped {}", d.count().await.unwrap());
}
