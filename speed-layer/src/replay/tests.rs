//! Replays the letters of a small lake. Kills and races are tested end to end.

use std::fs;

use adlake_lake::ReferenceKind;
use adlake_lake::reference::LoadMode;
use arrow::array::StringArray;

use super::*;
use crate::run::{FilesRun, run_files};
use crate::testing::Fixture;

impl Fixture {
    /// Ingests a file, and returns the number of dead letters by reason.
    async fn ingest_file(&self, name: &str, content: String) -> BTreeMap<String, u64> {
        let path = self.input(name);
        fs::write(&path, content).unwrap();
        let wanted = FilesRun { paths: vec![path.to_string_lossy().into_owned()], ..FilesRun::default() };
        run_files(&self.lake, &self.settings, wanted, &(), CancellationToken::new()).await.unwrap().rejected
    }

    async fn replay(&self, options: ReplayOptions) -> ReplayReport {
        replay(&self.lake, &self.settings, options, &|_| (), CancellationToken::new()).await.unwrap()
    }
}

fn reasons(reasons: &[(&str, u64)]) -> BTreeMap<String, u64> {
    reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_of_a_file_is_found_in_whichever_batch_it_is() {
    const ROWS: u64 = 20_000;
    let mut fixture = Fixture::new().await;
    fixture.settings.sources.interactions.csv.header = Some(false);
    let rows: String = (0..ROWS).map(|n| format!("u{n},click,k,2026-03-01 10:00:00\n")).collect();
    let content = format!("user_id,conversion_type,campaign_id,timestamp\n{rows}");
    assert_eq!(fixture.ingest_file("clicks.csv", content).await, reasons(&[("bad_timestamp", ROWS + 1)]));

    fixture.settings.sources.interactions.csv.header = None;
    // Fewer rows than a batch of the dry run has, and fewer than there are letters.
    fixture.settings.ingest.flush_rows = 3_000;
    let tried = fixture.replay(ReplayOptions { dry_run: true, ..ReplayOptions::default() }).await;
    assert_eq!((tried.letters, tried.replayed), (ROWS + 1, ROWS));
    assert_eq!(tried.rejected, reasons(&[("header", 1)]));
    let done = fixture.replay(ReplayOptions::default()).await;
    assert_eq!((done.letters, done.replayed, done.rejected), (tried.letters, tried.replayed, tried.rejected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_filtered_out_counts_all_the_same() {
    let mut fixture = Fixture::new().await;
    fixture.settings.sources.interactions.csv.header = Some(false);
    let content = "user_id,conversion_type,campaign_id,timestamp\n,click,k,2026-03-01 10:00:00\n";
    let rejected = fixture.ingest_file("clicks.csv", content.to_owned()).await;
    assert_eq!(rejected, reasons(&[("bad_timestamp", 1), ("missing_field", 1)]));
    fixture.settings.sources.interactions.csv.header = None;
    let filter = LetterFilter { reasons: vec!["missing_field".to_owned()], ..LetterFilter::default() };
    for dry_run in [true, false] {
        let report = fixture.replay(ReplayOptions { filter: filter.clone(), dry_run, limit: None }).await;
        assert_eq!((report.letters, report.replayed), (1, 1), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_only_its_rate_makes_small_is_replayed_once_there_is_a_rate() {
    let fixture = Fixture::new().await;
    let content = "timestamp,user_id,campaign_id,conversion_type,value,currency\n\
                   2026-03-01 10:00:00,u,k,buy,20000000000,IDR\n\
                   2026-03-01 10:00:00,u,k,buy,200000000000000,IDR\n";
    assert_eq!(fixture.ingest_file("conversions.csv", content.to_owned()).await, reasons(&[("no_fx_rate", 2)]));
    let column = |name: &str, value: &str| (name.to_owned(), Arc::new(StringArray::from(vec![value])) as _);
    let rates = [column("day", "2026-03-01"), column("currency", "IDR"), column("rate", "0.00006")];
    let rates = RecordBatch::try_from_iter(rates).unwrap();
    fixture.lake.load_reference(ReferenceKind::FxRates, vec![rates], LoadMode::Replace).await.unwrap();
    for dry_run in [true, false] {
        let report = fixture.replay(ReplayOptions { dry_run, ..ReplayOptions::default() }).await;
        assert_eq!((report.letters, report.replayed), (2, 1), "{report:?}");
        assert_eq!(report.rejected, reasons(&[("out_of_range", 1)]));
    }
}
