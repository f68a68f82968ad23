//! Claims, under every order of events that two concurrent replays can produce.

use std::sync::Arc;

use adlake_domain::catalogue::{self, DEAD_LETTERS};
use adlake_domain::event::EventKind;
use adlake_domain::schema;
use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;

use super::claims::{CALLED_OFF, Claim, LetterClaims, PickLimits, ROWS_ARE_IN, Verdict, transaction};
use super::{LetterFilter, LetterState};
use crate::{Advance, Appended, Lake, StorageSettings, WriterSettings};

const ALL: PickLimits = PickLimits { rows: 1000, bytes: 1 << 20 };
const KIND: EventKind = EventKind::Impression;

fn letters(offsets: std::ops::Range<i64>, day: i32) -> RecordBatch {
    let rows = (offsets.end - offsets.start) as usize;
    let text = |value: &str| Arc::new(StringArray::from(vec![value; rows])) as ArrayRef;
    let none = |kind: &DataType| new_null_array(kind, rows);
    let numbers: Vec<i64> = offsets.collect();
    let source: Vec<ArrayRef> =
        vec![text("topic"), Arc::new(Int32Array::from(vec![0; rows])), Arc::new(Int64Array::from(numbers))];
    let at = TimestampMicrosecondArray::from(vec![i64::from(day) * 86_400_000_000; rows]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        text(KIND.table()),
        Arc::new(BinaryArray::from(vec![&b"{}"[..]; rows])),
        none(&DataType::Binary),
        text("missing_field"),
        text("website"),
        Arc::new(StructArray::new(schema::source_fields(), source, None)),
        none(&schema::timestamp()),
        Arc::new(at),
        none(&DataType::Utf8),
        none(&DataType::Utf8),
        none(&DataType::Utf8),
        none(&DataType::Utf8),
        none(&schema::timestamp()),
        Arc::new(Date32Array::from(vec![day; rows])),
    ];
    RecordBatch::try_new(schema::dead_letters_schema(), columns).unwrap()
}

struct Fixture {
    _folder: tempfile::TempDir,
    lake: Lake,
}

impl Fixture {
    async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().display().to_string();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        Fixture { _folder: folder, lake }
    }

    async fn append(&self, batch: &RecordBatch) {
        let mut appender = self.lake.appender(DEAD_LETTERS).await.unwrap();
        let mut writer = appender.writer(&WriterSettings::default());
        writer.write(batch).unwrap();
        let files = writer.finish().await.unwrap();
        assert!(matches!(appender.commit(files, Vec::new()).await.unwrap(), Appended::Committed { .. }));
    }

    async fn claims(&self) -> LetterClaims {
        self.lake.letter_claims().await.unwrap().unwrap()
    }

    /// Picks all letters and claims them, each with its verdict.
    async fn claim(&self, run: &str, verdict: impl Fn(usize) -> Verdict) -> usize {
        let mut claims = self.claims().await;
        let Some(picked) = claims.pick(&LetterFilter::default(), run, ALL).await.unwrap() else { return 0 };
        let verdicts: Vec<Verdict> = (0..picked.len()).map(verdict).collect();
        let count = picked.len();
        assert!(claims.claim(picked, &format!("{run}-1"), &verdicts, 7).await.unwrap());
        count
    }

    async fn decide(&self, claim: &str, to: i64) -> Appended {
        let mut appender = self.lake.appender(KIND.raw_table()).await.unwrap();
        let advance = Advance { application: transaction(claim), from: None, to };
        appender.commit(Vec::new(), vec![advance]).await.unwrap()
    }

    async fn count(&self, filter: LetterFilter) -> usize {
        let context = SessionContext::new();
        self.lake.dead_letters(&context, &filter).await.unwrap().count().await.unwrap()
    }

    async fn in_state(&self, state: LetterState) -> usize {
        self.count(LetterFilter { state: Some(state), ..LetterFilter::default() }).await
    }
}

fn dead(_: usize) -> Verdict {
    Verdict::Dead { reason: "bad_type".to_owned(), detail: "no".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_goes_its_way() {
    let fixture = Fixture::new().await;
    fixture.append(&letters(0..10, 20_000)).await;
    fixture.append(&letters(10..14, 20_001)).await;
    let claimed = fixture.claim("run", |place| if place < 12 { Verdict::Row } else { dead(place) }).await;
    assert_eq!(claimed, 14);
    let claims = fixture.claims().await;
    assert_eq!(claims.open().await.unwrap(), [Claim { id: "run-1".to_owned(), kind: KIND }]);
    assert!(fixture.claims().await.pick(&LetterFilter::default(), "run", ALL).await.unwrap().is_none());
    // Another run sees the letters that were rejected again, and none that is claimed.
    let other = fixture.claims().await.pick(&LetterFilter::default(), "other", ALL).await.unwrap().unwrap();
    assert_eq!(other.len(), 2);
    assert!(matches!(fixture.decide("run-1", ROWS_ARE_IN).await, Appended::Committed { .. }));
    assert_eq!(claims.settle("run-1", true, 8).await.unwrap(), 12);
    assert_eq!(claims.settle("run-1", true, 9).await.unwrap(), 0, "somebody was first");
    assert_eq!((fixture.in_state(LetterState::Replayed).await, fixture.in_state(LetterState::Open).await), (12, 2));
    assert_eq!(claims.open().await.unwrap(), []);
    assert_eq!(fixture.count(LetterFilter::default()).await, 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rows_and_calling_off_one_is_in() {
    let fixture = Fixture::new().await;
    fixture.append(&letters(0..5, 20_000)).await;
    fixture.claim("slow", |_| Verdict::Row).await;
    assert!(matches!(fixture.decide("slow-1", CALLED_OFF).await, Appended::Committed { .. }));
    let Appended::Superseded { stored } = fixture.decide("slow-1", ROWS_ARE_IN).await else { panic!("it came in") };
    assert_eq!(stored[0].1, Some(CALLED_OFF));
    assert_eq!(fixture.claims().await.settle("slow-1", false, 8).await.unwrap(), 5);
    // The letters are free again for every run, also for the slow one.
    assert_eq!(fixture.claim("next", |_| Verdict::Row).await, 5);
    fixture.decide("next-1", ROWS_ARE_IN).await;
    let Appended::Superseded { stored } = fixture.decide("next-1", CALLED_OFF).await else { panic!("called off") };
    assert_eq!(stored[0].1, Some(ROWS_ARE_IN));
    assert_eq!(fixture.claims().await.settle("next-1", true, 8).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_claims_nothing_and_appends_do_no_harm() {
    let fixture = Fixture::new().await;
    fixture.append(&letters(0..5, 20_000)).await;
    let (mut first, mut second) = (fixture.claims().await, fixture.claims().await);
    let filter = LetterFilter::default();
    let one = first.pick(&filter, "first", ALL).await.unwrap().unwrap();
    let two = second.pick(&filter, "second", ALL).await.unwrap().unwrap();
    fixture.append(&letters(5..7, 20_000)).await;
    assert!(first.claim(one, "first-1", &[const { Verdict::Row }; 5], 7).await.unwrap());
    assert!(!second.claim(two, "second-1", &[const { Verdict::Row }; 5], 7).await.unwrap());
    let two = second.pick(&filter, "second", ALL).await.unwrap().unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(fixture.count(filter).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_picked_is_bounded_and_filtered() {
    let fixture = Fixture::new().await;
    fixture.append(&letters(0..10, 20_000)).await;
    fixture.append(&letters(10..20, 20_002)).await;
    let check = async |filter: LetterFilter, limits: PickLimits, expected: usize| {
        let picked = fixture.claims().await.pick(&filter, "run", limits).await.unwrap();
        assert_eq!(picked.map_or(0, |picked| picked.len()), expected, "{filter:?}");
        assert_eq!(fixture.count(filter).await.min(limits.rows).min(limits.bytes / 2), expected);
    };
    let day = 86_400_000_000;
    let none = LetterFilter::default;
    check(none(), ALL, 20).await;
    check(none(), PickLimits { rows: 3, ..ALL }, 3).await;
    check(none(), PickLimits { bytes: 8, ..ALL }, 4).await;
    check(LetterFilter { since: Some(20_001 * day), ..none() }, ALL, 10).await;
    check(LetterFilter { until: Some(20_002 * day), ..none() }, ALL, 10).await;
    check(LetterFilter { reasons: vec!["other".to_owned()], ..none() }, ALL, 0).await;
    check(LetterFilter { topics: vec!["x".to_owned(), "topic".to_owned()], ..none() }, ALL, 20).await;
    check(LetterFilter { kinds: vec![EventKind::BidRequest], ..none() }, ALL, 0).await;
    check(LetterFilter { partition: Some(0), offset: Some(7), ..none() }, ALL, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_others_are_kept() {
    use arrow::datatypes::Field;
    let fixture = Fixture::new().await;
    fixture.append(&letters(0..3, 20_000)).await;
    // The table as if another writer had added a column and written a row with it.
    let table = catalogue::table(DEAD_LETTERS).unwrap().with_columns(&[Field::new("ticket", DataType::Utf8, true)]);
    let mut appender =
        fixture.lake.appender_with(DEAD_LETTERS, &[Field::new("ticket", DataType::Utf8, true)]).await.unwrap();
    let batch = letters(3..4, 20_000);
    let columns = batch.columns().iter().cloned().chain([Arc::new(StringArray::from(vec!["T"])) as ArrayRef]);
    let batch = RecordBatch::try_new(table.schema, columns.collect()).unwrap();
    let mut writer = appender.writer(&WriterSettings::default());
    writer.write(&batch).unwrap();
    appender.commit(writer.finish().await.unwrap(), Vec::new()).await.unwrap();
    assert_eq!(fixture.claim("run", dead).await, 4);
    let context = SessionContext::new();
    let rows = fixture.lake.dead_letters(&context, &LetterFilter::default()).await.unwrap();
    let kept = rows.filter(datafusion::prelude::col("ticket").is_not_null()).unwrap();
    assert_eq!(kept.count().await.unwrap(), 1);
}
