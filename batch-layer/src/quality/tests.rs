//! Every type of expectation, met and not met, over a small lake of reference data.

use std::sync::Arc;

use adlake_domain::batch_schema::{campaigns_schema, creatives_schema};
use adlake_domain::catalogue::{CAMPAIGNS, CREATIVES, QUALITY};
use adlake_domain::settings::{Display, Meaning};
use adlake_lake::{Lake, StorageSettings, WriterSettings};
use arrow::array::{ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, check};
use super::results;
use super::settings::QualitySettings;
use super::suggest::suggest;
use crate::quality_report::{Decision, Outcome, QualityReport, Status};
use crate::settings::BatchSettings;

/// A lake with four campaigns and five creatives.
async fn lake(folder: &tempfile::TempDir) -> Lake {
    let uri = folder.path().join("lake").to_string_lossy().into_owned();
    let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
    lake.create_tables().await.unwrap();
    let texts = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let numbers = |values: &[Option<i64>]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let today = (chrono::Utc::now().date_naive() - chrono::NaiveDate::default()).num_days() as i32;
    let campaigns = vec![
        texts(&[Some("c1"), Some("c2"), Some("c3"), Some("c4")]),
        texts(&[Some("a1"), Some("a1"), Some("a2"), None]),
        texts(&[Some("Spring"), Some("Summer"), Some("autumn"), Some("Spring")]),
        texts(&[None; 4]),
        numbers(&[Some(10), Some(20), Some(-5), None]),
        numbers(&[Some(1), Some(1), Some(1), Some(1)]),
        Arc::new(Float64Array::from(vec![Some(0.5), Some(1.5), None, None])),
        Arc::new(Date32Array::from(vec![Some(today - 30), Some(today - 10), None, None])),
        Arc::new(Date32Array::from(vec![None; 4])),
    ];
    replace(&lake, CAMPAIGNS, campaigns_schema(), campaigns).await;
    let creatives = vec![
        texts(&[Some("k1"), Some("k2"), Some("k3"), Some("k4"), Some("k5")]),
        texts(&[Some("c1"), Some("c1"), Some("c2"), Some("c9"), None]),
        texts(&[Some("One"), Some("Two"), Some("Three"), Some("Four"), Some("Five")]),
        texts(&[Some("banner"), Some("banner"), Some("video"), Some("Video"), None]),
    ];
    replace(&lake, CREATIVES, creatives_schema(), creatives).await;
    lake
}

async fn replace(lake: &Lake, table: &str, schema: SchemaRef, columns: Vec<ArrayRef>) {
    let replacer = lake.replacer(table).await.unwrap();
    let mut writer = replacer.writer(&WriterSettings::default());
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    let files = writer.finish().await.unwrap();
    replacer.commit(files).await.unwrap();
}

async fn checked(lake: &Lake, folder: &tempfile::TempDir, expectations: &str, record: bool) -> QualityReport {
    let path = folder.path().join("expectations.toml");
    std::fs::write(&path, expectations).unwrap();
    let settings = QualitySettings { expectations: path, ..QualitySettings::default() };
    let gate = Gate::new(&settings, &Display::default()).unwrap();
    let (meaning, batch) = (Meaning::default(), BatchSettings::default());
    check(lake, &meaning, &batch, &gate, record, &CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn each_type_is_met_and_not_met() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    let (campaigns, creatives) = ("table = \"ref/campaigns\"\n", "table = \"ref/creatives\"\n");
    let other = "other_table = \"ref/campaigns\"\nother_where = \"campaign_id <> 'c3'\"\n";
    // The text, then the status, the rows that were checked, and those that violate it.
    let cases = [
        (format!("{campaigns}type = \"not_null\"\ncolumn = \"campaign_id\""), Status::Pass, 4, 0),
        (format!("{campaigns}type = \"not_null\"\ncolumn = \"advertiser_id\""), Status::Warn, 4, 1),
        (
            format!("{campaigns}type = \"not_null\"\ncolumn = \"advertiser_id\"\nwhere = \"campaign_id < 'c4'\""),
            Status::Pass,
            3,
            0,
        ),
        (format!("{campaigns}type = \"not_null\"\ncolumn = \"advertiser_id\"\nmax_rows = 1"), Status::Pass, 4, 1),
        (format!("{campaigns}type = \"unique\"\ncolumn = \"campaign_id\""), Status::Pass, 4, 0),
        (format!("{campaigns}type = \"unique\"\ncolumn = \"name\"\nseverity = \"fail\""), Status::Fail, 4, 1),
        (format!("{campaigns}type = \"unique\"\ncolumns = [\"name\", \"campaign_id\"]"), Status::Pass, 4, 0),
        (
            format!("{creatives}type = \"accepted_values\"\ncolumn = \"format\"\nvalues = [\"banner\", \"video\"]"),
            Status::Warn,
            4,
            1,
        ),
        (
            format!("{campaigns}type = \"accepted_values\"\ncolumn = \"budget_micros\"\nvalues = [10, 20, -5]"),
            Status::Pass,
            3,
            0,
        ),
        (format!("{campaigns}type = \"range\"\ncolumn = \"budget_micros\"\nmin = 0"), Status::Warn, 3, 1),
        (format!("{campaigns}type = \"range\"\ncolumn = \"target_roas\"\nmin = 0.5\nmax = 1.5"), Status::Pass, 2, 0),
        (format!("{campaigns}type = \"range\"\ncolumn = \"start_date\"\nmin = \"2020-01-01\""), Status::Pass, 2, 0),
        (format!("{campaigns}type = \"regex\"\ncolumn = \"name\"\npattern = \"^[A-Z]\""), Status::Warn, 4, 1),
        (format!("{campaigns}type = \"regex\"\ncolumn = \"campaign_id\"\npattern = '^c\\d$'"), Status::Pass, 4, 0),
        (
            format!("{creatives}type = \"relationship\"\ncolumn = \"campaign_id\"\nto = \"ref/campaigns\""),
            Status::Warn,
            4,
            1,
        ),
        (
            format!(
                "{campaigns}type = \"relationship\"\ncolumn = \"campaign_id\"\nto = \"ref/creatives\"\n\
                 max_fraction = 0.5"
            ),
            Status::Pass,
            4,
            2,
        ),
        (
            format!(
                "{creatives}type = \"relationship\"\ncolumn = \"name\"\nto = \"ref/fx_rates\"\nto_column = \"currency\""
            ),
            Status::Warn,
            5,
            5,
        ),
        (
            format!(
                "{creatives}type = \"relationship\"\ncolumn = \"name\"\nto = \"ref/fx_rates\"\n\
                 to_column = \"currency\"\ntarget_may_be_empty = true"
            ),
            Status::Pass,
            0,
            0,
        ),
        (format!("{campaigns}type = \"row_count\"\nmin = 4\nmax = 4"), Status::Pass, 4, 0),
        (format!("{campaigns}type = \"row_count\"\nmin = 5"), Status::Warn, 4, 0),
        (format!("{campaigns}type = \"freshness\"\ncolumn = \"start_date\"\nmax_age = \"12days\""), Status::Pass, 4, 0),
        (format!("{campaigns}type = \"freshness\"\ncolumn = \"start_date\"\nmax_age = \"9days\""), Status::Warn, 4, 0),
        (format!("{campaigns}type = \"freshness\"\ncolumn = \"end_date\"\nmax_age = \"9days\""), Status::Warn, 4, 0),
        (format!("{campaigns}type = \"completeness\"\ncolumn = \"budget_micros\"\nmin = 0.75"), Status::Pass, 4, 1),
        (format!("{campaigns}type = \"completeness\"\ncolumn = \"target_roas\"\nmin = 0.75"), Status::Warn, 4, 2),
        (format!("{creatives}type = \"discrepancy\"\nmax_difference = 0.2\n{other}"), Status::Warn, 1, 1),
        (format!("{creatives}type = \"discrepancy\"\nmax_difference = 0.4\n{other}"), Status::Pass, 1, 0),
        (
            // c1 has two creatives and one campaign, c3, c4, c9 and NULL are on one side alone.
            format!("{creatives}type = \"discrepancy\"\nmax_difference = 0.4\nby = [\"campaign_id\"]\n{other}"),
            Status::Warn,
            5,
            4,
        ),
        (
            format!(
                "{creatives}type = \"discrepancy\"\nmax_difference = 0.5\nby = [\"campaign_id\"]\nmin_measure = 2.0\n\
                 {other}"
            ),
            Status::Pass,
            1,
            0,
        ),
        (
            "type = \"sql\"\nsql = \"SELECT * FROM \\\"ref/campaigns\\\" WHERE budget_micros < 0 -- debts\""
                .to_string(),
            Status::Warn,
            1,
            1,
        ),
        ("type = \"sql\"\nsql = \"SELECT 1 FROM impressions;\"".to_string(), Status::Pass, 0, 0),
        (format!("{campaigns}type = \"not_null\"\ncolumn = \"colour\""), Status::Error, 0, 0),
        ("type = \"sql\"\nsql = \"DROP TABLE x\"".to_string(), Status::Error, 0, 0),
        ("type = \"sql\"\nsql = \"SELECT 1 FROM nowhere\"".to_string(), Status::Error, 0, 0),
        (format!("{campaigns}type = \"range\"\ncolumn = \"name\"\nmin = 5"), Status::Error, 0, 0),
    ];
    let texts =
        cases.iter().enumerate().map(|(place, (text, ..))| format!("[[expectation]]\nname = \"e{place}\"\n{text}\n"));
    let report = checked(&lake, &folder, &texts.collect::<Vec<_>>().join("\n"), true).await;
    let found = |name: &str| report.outcomes.iter().find(|outcome| outcome.expectation == name).unwrap();
    for (place, (text, status, checked_rows, violating_rows)) in cases.iter().enumerate() {
        let Outcome { status: told, checked_rows: checked, violating_rows: violating, note, examples, .. } =
            found(&format!("e{place}"));
        assert_eq!((told, checked, violating), (status, checked_rows, violating_rows), "{text}: {note:?}");
        if *violating > 0 {
            assert!(!examples.rows.is_empty(), "{text} has no examples");
        }
        if *status == Status::Error {
            assert!(note.as_ref().is_some_and(|note| note.len() > 10), "{text}: {note:?}");
        }
    }
    // The worst come first.
    let order: Vec<Status> = report.outcomes.iter().map(|outcome| outcome.status).collect();
    assert!(order.is_sorted() && order[0] == Status::Fail);
    assert_eq!(report.stopping(), ["e5"]);
    let example = &found("e1").examples;
    assert_eq!(example.columns, ["advertiser_id", "campaign_id"]);
    assert_eq!(example.rows, [[None, Some("c4".to_string())]]);

    // The results are in the lake, and the view has them.
    let view = checked(&lake, &folder, "[[expectation]]\ntype = \"row_count\"\ntable = \"quality\"\nmin = 36\n", false);
    let view = view.await;
    assert_eq!((view.outcomes[0].checked_rows, view.outcomes[0].status), (cases.len() as u64, Status::Warn));
}

#[tokio::test]
async fn drift_is_measured_against_published_runs() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    let texts = ["mean", "sum", "null_fraction", "distinct", "rows", "values"].map(|measure| {
        let column = if measure == "rows" { "" } else { "column = \"budget_micros\"\n" };
        format!(
            "[[expectation]]\nname = \"{measure}\"\ntype = \"drift\"\ntable = \"ref/campaigns\"\n{column}\
             measure = \"{measure}\"\nmin_runs = 2\nruns = 3\n"
        )
    });
    let kinds = texts.join("\n")
        + "[[expectation]]\nname = \"formats\"\ntype = \"drift\"\ntable = \"ref/creatives\"\n\
         column = \"format\"\nmeasure = \"values\"\nmin_runs = 2\n";
    // Only what a run has published is compared with.
    for decision in [Decision::Publish, Decision::Check, Decision::Refuse, Decision::PublishAnyway] {
        let mut report = checked(&lake, &folder, &kinds, false).await;
        assert!(report.outcomes.iter().all(|outcome| outcome.status == Status::Pass));
        assert!(report.outcomes.iter().all(|outcome| outcome.note.as_ref().unwrap().contains("are needed")));
        report.decision = decision;
        results::append(&lake, &report).await.unwrap();
    }
    let same = checked(&lake, &folder, &kinds, false).await;
    let notes: Vec<_> =
        same.outcomes.iter().map(|outcome| (&outcome.expectation, outcome.status, &outcome.note)).collect();
    assert!(notes.iter().all(|(_, status, _)| *status == Status::Pass), "{notes:?}");
    assert!(!notes.iter().any(|(.., note)| note.as_ref().is_some_and(|note| note.contains("needed"))), "{notes:?}");

    // One campaign with another budget, instead of four; and creatives of another format.
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let number = Arc::new(Int64Array::from(vec![9_000_000])) as ArrayRef;
    let days = Arc::new(Date32Array::from(vec![None])) as ArrayRef;
    let (none, roas) = (text("x"), Arc::new(Float64Array::from(vec![1.0])) as ArrayRef);
    let row = vec![text("c1"), none.clone(), none.clone(), none, number.clone(), number, roas, days.clone(), days];
    replace(&lake, CAMPAIGNS, campaigns_schema(), row).await;
    let row = ["k1", "c1", "One", "native"].map(text).to_vec();
    replace(&lake, CREATIVES, creatives_schema(), row).await;
    let moved = checked(&lake, &folder, &kinds, false).await;
    // The share of NULL goes from a quarter to none, which is within the limit of 50 points.
    for outcome in &moved.outcomes {
        let expected = if outcome.expectation == "null_fraction" { Status::Pass } else { Status::Warn };
        assert_eq!(outcome.status, expected, "{outcome:?}");
    }
}

#[tokio::test]
async fn proposals_are_met_by_the_table_that_they_are_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    let many: Vec<String> = (0..200).map(|n| format!("k'{n}")).collect();
    let formats: Vec<Option<&str>> = (0..200).map(|n| (n % 10 > 0).then_some(["banner", "vi\"deo"][n % 2])).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(many.clone())),
        Arc::new(StringArray::from(vec![None::<&str>; 200])),
        Arc::new(StringArray::from(many)),
        Arc::new(StringArray::from(formats)),
    ];
    replace(&lake, CREATIVES, creatives_schema(), columns).await;
    let (meaning, batch, display) = (Meaning::default(), BatchSettings::default(), Display::default());
    let mut all = String::new();
    for table in [CREATIVES, CAMPAIGNS, "campaign_kpis"] {
        all += &suggest(&lake, &meaning, &batch, &display, table).await.unwrap();
    }
    for expected in ["values = [\"banner\", 'vi\"deo']", "min = 0.88", "type = \"unique\"", "max = 20", "no rows"] {
        assert!(all.contains(expected), "{expected} is not in {all}");
    }
    let report = checked(&lake, &folder, &all, false).await;
    assert!(report.outcomes.len() > 10);
    assert!(report.outcomes.iter().all(|outcome| outcome.status == Status::Pass), "{report:?}");
    let error = suggest(&lake, &meaning, &batch, &display, "nowhere").await.unwrap_err().to_string();
    assert!(error.contains("there is no view or table \"nowhere\""), "{error}");
}

#[tokio::test]
async fn many_files_of_results_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    let text = "[[expectation]]\ntype = \"row_count\"\ntable = \"ref/campaigns\"\nmin = 1\n";
    let report = checked(&lake, &folder, text, false).await;
    for _ in 0..=results::FILES_MAX {
        results::append(&lake, &report).await.unwrap();
    }
    checked(&lake, &folder, text, true).await;
    let version = lake.newest_version(QUALITY).await.unwrap().unwrap();
    assert_eq!(lake.files_at(QUALITY, version).await.unwrap().len(), 1);
    let context = BatchSettings::default().session.context().unwrap();
    let table = lake.provider(QUALITY, version).await.unwrap();
    let rows = context.read_table(table).unwrap().collect().await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), results::FILES_MAX + 2);
    assert_eq!(rows[0].column_by_name("checked_rows").unwrap().as_primitive::<Int64Type>().value(0), 4);
}
