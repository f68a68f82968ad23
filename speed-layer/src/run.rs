//! The entry points of the program: a run over Kafka topics, and a run over files.
//!
//! A run ends when its source ends or when it is cancelled. When it is cancelled, the source is
//! stopped, what was read is committed, and the consumer group is left. In either case the report
//! counts exactly what is in the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::Lake;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::metrics::{IngestObserver, Metrics};
use crate::pipeline::{self, Dependencies};
use crate::plans::{self, DecodePlans};
use crate::report::{IngestReport, PassedOverFiles, PassedOverReason};
use crate::settings::SpeedSettings;
use crate::source::Source;
use crate::source::files::{FilesSource, FilesWanted, Preview, SourceContext, preview};
use crate::source::kafka::KafkaSource;

/// How often newer reference data is looked for.
const REFERENCE_INTERVAL: Duration = Duration::from_secs(60);

/// Options for reading Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaRun {
    /// Ends the run at the end offsets that the partitions have when it begins.
    pub until_end: bool,
}

/// The files to read, and the kind of event they hold.
pub type FilesRun = FilesWanted;

/// Ingests the configured topics until cancelled, or until their end.
pub fn run_kafka<'a>(
    lake: &'a Lake,
    settings: &'a SpeedSettings,
    options: KafkaRun,
    observer: &'a dyn IngestObserver,
    cancel: CancellationToken,
) -> BoxFuture<'a, Result<IngestReport, SpeedError>> {
    // Boxing the future compiles it once here, not again in every program that awaits it.
    Box::pin(async move {
        plans::check(settings)?;
        let connect = {
            let (settings, cancel) = (settings.clone(), cancel.clone());
            move |_| Ok((KafkaSource::connect(&settings, options.until_end, &cancel)?, None))
        };
        run(lake, settings, connect, observer, cancel).await
    })
}

/// Ingests files to their ends. Each record is ingested once, however often this is called. Watched
/// files are ingested until cancelled.
pub fn run_files<'a>(
    lake: &'a Lake,
    settings: &'a SpeedSettings,
    options: FilesRun,
    observer: &'a dyn IngestObserver,
    cancel: CancellationToken,
) -> BoxFuture<'a, Result<IngestReport, SpeedError>> {
    Box::pin(async move {
        plans::check(settings)?;
        let open = {
            let settings = settings.clone();
            let lake = lake.clone();
            move |metrics| {
                let context = SourceContext {
                    store_options: lake.storage_options().clone(),
                    lake: Some(lake),
                    runtime: Some(tokio::runtime::Handle::current()),
                    metrics,
                };
                let source = FilesSource::open(&options, &settings, &context)?;
                let files = (source.files(), (!options.watch).then_some(source.bytes()));
                Ok((source, Some(files)))
            }
        };
        run(lake, settings, open, observer, cancel).await
    })
}

/// What ingest would do with files. Nothing is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PreviewReport {
    /// The files that would be read.
    pub files: Vec<Preview>,
    /// Files in folders and prefixes that would not be read, by reason.
    pub passed_over: BTreeMap<PassedOverReason, PassedOverFiles>,
    /// Given paths of which no file would be read, although there are some.
    pub paths_without_files: Vec<String>,
}

/// Examines files without ingesting them. Reads the lake's reference data, and writes nothing.
pub fn preview_files<'a>(
    lake: &'a Lake,
    settings: &'a SpeedSettings,
    options: FilesRun,
) -> BoxFuture<'a, Result<PreviewReport, SpeedError>> {
    Box::pin(async move {
        plans::check(settings)?;
        let plans = DecodePlans::open(lake, settings).await?;
        let metrics = Metrics::default();
        let context = SourceContext {
            store_options: lake.storage_options().clone(),
            lake: None,
            runtime: Some(tokio::runtime::Handle::current()),
            metrics: metrics.clone(),
        };
        let settings = settings.clone();
        let previewed = tokio::task::spawn_blocking(move || preview(&options, &settings, &context, &plans)).await;
        let files = previewed.map_err(|_| SpeedError::Ended("the preview"))??;
        let IngestReport { passed_over, paths_without_files, .. } = metrics.report();
        Ok(PreviewReport { files, passed_over, paths_without_files })
    })
}

/// Opens a source on a thread where blocking does no harm. Runs the pipeline over it, beside the
/// refresh of reference data.
async fn run<S: Source>(
    lake: &Lake,
    settings: &SpeedSettings,
    open: impl FnOnce(Metrics) -> Result<(S, Option<(usize, Option<u64>)>), SpeedError> + Send + 'static,
    observer: &dyn IngestObserver,
    cancel: CancellationToken,
) -> Result<IngestReport, SpeedError> {
    let started = Instant::now();
    let metrics = observer.metrics();
    let opened = {
        let metrics = metrics.clone();
        tokio::task::spawn_blocking(move || open(metrics))
    };
    let opened = tokio::select! {
        opened = opened => opened,
        // At the start there is nothing to commit, so a stop waits for nobody who does not answer.
        () = cancel.cancelled() => return Ok(metrics.report()),
    };
    let (source, files) = opened.map_err(|_| SpeedError::Ended("the source"))??;
    let beside = CancellationToken::new();
    let _end_beside = beside.clone().drop_guard();
    let plans = tokio::select! {
        plans = DecodePlans::open(lake, settings) => Arc::new(plans?),
        // Nor is there anything to commit yet.
        () = cancel.cancelled() => return Ok(metrics.report()),
    };
    tokio::spawn(plans.clone().keep_fresh(lake.clone(), REFERENCE_INTERVAL, beside));
    let dependencies = Dependencies {
        lake,
        settings,
        plans,
        metrics: metrics.clone(),
        progress: observer,
        bytes_total: files.and_then(|(_, bytes)| bytes),
        cancel,
    };
    pipeline::run(Box::new(source), dependencies).await?;
    let mut report = metrics.report();
    report.files = files.map(|(files, _)| files);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use adlake_domain::catalogue::{DEAD_LETTERS, FILES};
    use adlake_domain::event::EventKind;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::report::IngestProgress;
    use crate::testing::Fixture;

    impl Fixture {
        async fn ingest(&self) -> IngestReport {
            self.try_ingest(&(), CancellationToken::new()).await.unwrap()
        }

        async fn try_ingest(
            &self,
            observer: &dyn IngestObserver,
            cancel: CancellationToken,
        ) -> Result<IngestReport, SpeedError> {
            let paths = vec![self.folder.path().join("in").to_string_lossy().into_owned()];
            let wanted = FilesWanted { paths, ..FilesWanted::default() };
            run_files(&self.lake, &self.settings, wanted, observer, cancel).await
        }

        /// The formatted result of a query of one table, called `t`, without the frame.
        async fn query(&self, table: &str, sql: &str) -> Vec<String> {
            let version = self.lake.newest_version(table).await.unwrap().unwrap();
            let context = SessionContext::new();
            context.register_table("t", self.lake.provider(table, version).await.unwrap()).unwrap();
            let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
            let text = pretty_format_batches(&batches).unwrap().to_string();
            let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
            rows.map(|line| line.split_whitespace().filter(|word| *word != "|").collect::<Vec<_>>().join(" ")).collect()
        }
    }

    fn impression(n: usize) -> String {
        format!(
            "{{\"ad_creative_id\":\"c{}\",\"user_id\":\"u{n}\",\"timestamp\":\"2026-03-0{} \
            10:00:00\",\"website\":\"example.com\"}}",
            n % 10,
            1 + n % 3
        )
    }

    fn write(path: &Path, bytes: impl AsRef<[u8]>) {
        fs::write(path, bytes).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_come_in_once_and_bad_records_cost_nobody_else() {
        let fixture = Fixture::new().await;
        let good: Vec<String> = (0..100).map(impression).collect();
        write(
            &fixture.input("impressions.json"),
            format!("[{}, {{\"user_id\": 1}}, {}", good[..50].join(","), good[50..].join(",")),
        );
        let clicks = "timestamp,user_id,campaign_id,conversion_type\n\
                      2026-03-01 10:00:00,u1,k1,click\n\
                      not a time,u2,k1,click\n\
                      2026-03-01 10:00:01,u3,k1,purchase\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, clicks.as_bytes()).unwrap();
        write(&fixture.input("clicks.csv.gz"), gzip.finish().unwrap());
        write(&fixture.input("bids.avro"), bids(7));

        let report = fixture.ingest().await;
        assert_eq!(report.files, Some(3));
        let rows = |impressions: u64, interactions: u64, bids: u64| {
            let tables =
                [("raw/impressions", impressions), ("raw/interactions", interactions), ("raw/bid_requests", bids)];
            tables
                .into_iter()
                .filter(|(_, rows)| *rows > 0)
                .map(|(table, rows)| (table.to_owned(), rows))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(report.rows, rows(100, 2, 7));
        assert_eq!(report.rejected.values().sum::<u64>(), 3, "{:?}", report.rejected);
        assert_eq!(
            fixture.query("raw/impressions", "select count(*), count(distinct user_id) from t").await,
            ["100 100"]
        );
        let dead = fixture.query(DEAD_LETTERS, "select kind, reason, source['offset'] from t order by 1, 3").await;
        assert_eq!(dead, ["impressions missing_field 50", "impressions truncated 101", "interactions bad_timestamp 1"]);

        let again = fixture.ingest().await;
        assert_eq!((again.rows, again.rejected, again.commits), (BTreeMap::new(), BTreeMap::new(), 0));

        // A file that has grown is read from where it ended before.
        let lines = |count: usize| (0..count).map(|n| impression(n) + "\n").collect::<String>();
        write(&fixture.input("more-impressions.ndjson"), lines(10));
        assert_eq!(fixture.ingest().await.rows, rows(10, 0, 0));
        write(&fixture.input("more-impressions.ndjson"), lines(14));
        assert_eq!(fixture.ingest().await.rows, rows(4, 0, 0));
        // A file that was replaced by a shorter or a different one is reported each time, and never
        // read.
        let other = |count: usize| (100..100 + count).map(|n| impression(n) + "\n").collect::<String>();
        for content in [lines(3), other(14), other(20)] {
            write(&fixture.input("more-impressions.ndjson"), content);
            for _ in 0..2 {
                let report = fixture.ingest().await;
                assert_eq!((report.commits, report.changed_files.len()), (0, 1), "{report:?}");
                assert!(report.changed_files[0].ends_with("more-impressions.ndjson"));
            }
        }
        // The file has its former content again, and grows.
        write(&fixture.input("more-impressions.ndjson"), lines(16));
        let report = fixture.ingest().await;
        assert_eq!((report.rows, report.changed_files), (rows(2, 0, 0), Vec::new()));
        // Without the list of finished files, only positions are left.
        fs::remove_dir_all(fixture.folder.path().join("lake").join(FILES)).unwrap();
        assert_eq!(fixture.ingest().await.commits, 0);
        fs::remove_dir_all(fixture.folder.path().join("lake").join(FILES)).unwrap();
        write(&fixture.input("more-impressions.ndjson"), lines(3));
        let report = fixture.ingest().await;
        assert_eq!((report.commits, report.changed_files.len()), (0, 1), "{report:?}");
    }

    fn bids(count: usize) -> Vec<u8> {
        use apache_avro::types::Record;
        let schema = apache_avro::Schema::parse_str(
            r#"{"type": "record", "name": "Bid", "fields": [
                {"name": "auction_id", "type": "string"}, {"name": "user_id", "type": "long"},
                {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
        )
        .unwrap();
        let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), apache_avro::Codec::Snappy).unwrap();
        for n in 0..count {
            let mut record = Record::new(&schema).unwrap();
            record.put("auction_id", format!("a{n}"));
            record.put("user_id", n as i64);
            record.put("timestamp", apache_avro::types::Value::TimestampMillis(1_772_000_000_000));
            writer.append_value(record).unwrap();
        }
        writer.into_inner().unwrap()
    }

    /// Cancels the run once some rows are committed.
    struct CancelsEarly {
        cancel: CancellationToken,
        seen: AtomicBool,
    }

    impl IngestObserver for CancelsEarly {
        fn update(&self, state: &IngestProgress) {
            if state.records_read > 0 {
                self.seen.store(true, Ordering::SeqCst);
                self.cancel.cancel();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_that_was_stopped_is_taken_up_where_it_was() {
        let mut fixture = Fixture::new().await;
        // Small batches, so that the run is stopped in the middle.
        fixture.settings.ingest.flush_rows = 10_000;
        fixture.settings.ingest.queue_bytes_max = 1 << 20;
        const RECORDS: usize = 300_000;
        let lines: String =
            (0..RECORDS).map(|n| if n % 1000 == 7 { "{\"bad\"\n".to_owned() } else { impression(n) + "\n" }).collect();
        write(&fixture.input("impressions.ndjson.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap());
        let (mut rows, mut rejected, mut stopped) = (0, 0, 0);
        loop {
            let cancel = CancellationToken::new();
            let progress = CancelsEarly { cancel: cancel.clone(), seen: AtomicBool::new(false) };
            let report = fixture.try_ingest(&progress, cancel).await.unwrap();
            rows += report.rows.values().sum::<u64>();
            rejected += report.rejected.values().sum::<u64>();
            if !progress.seen.load(Ordering::SeqCst) || stopped > 100 {
                break;
            }
            stopped += 1;
        }
        assert!(stopped >= 2, "it was stopped {stopped} times");
        assert_eq!((rows, rejected), ((RECORDS - 300) as u64, 300));
        let sql = "select count(*), count(distinct source['offset']), max(source['offset']) from t";
        assert_eq!(fixture.query(EventKind::Impression.raw_table(), sql).await, ["299700 299700 299999"]);
        assert_eq!(fixture.query(DEAD_LETTERS, sql).await, ["300 300 299007"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_takes_the_place_of_one_that_is_half_in_is_set_aside() {
        let mut fixture = Fixture::new().await;
        fixture.settings.ingest.flush_rows = 10_000;
        fixture.settings.ingest.queue_bytes_max = 1 << 20;
        const RECORDS: usize = 300_000;
        let path = fixture.input("impressions.ndjson");
        let lines = |from: usize| (from..from + RECORDS).map(|n| impression(n) + "\n").collect::<String>();
        write(&path, lines(0));
        let cancel = CancellationToken::new();
        let progress = CancelsEarly { cancel: cancel.clone(), seen: AtomicBool::new(false) };
        let half = fixture.try_ingest(&progress, cancel).await.unwrap().rows.values().sum::<u64>();
        assert!(half > 0 && half < RECORDS as u64, "{half} rows");
        // Other records under the same numbers. Their second half must not be taken for that of the
        // first file.
        write(&path, lines(RECORDS));
        for _ in 0..2 {
            let report = fixture.ingest().await;
            assert_eq!((report.commits, report.changed_files.len()), (0, 1), "{report:?}");
        }
        // The file has its former content again, and the rest of it is read.
        write(&path, lines(0));
        assert_eq!(fixture.ingest().await.rows.values().sum::<u64>(), RECORDS as u64 - half);
        // Nothing of this file is in the lake, although reading it had begun. Its current content
        // is read.
        fs::remove_dir_all(fixture.folder.path().join("lake").join(EventKind::Impression.raw_table())).unwrap();
        write(&path, lines(RECORDS));
        fs::remove_dir_all(fixture.folder.path().join("lake").join(FILES)).unwrap();
        assert_eq!(fixture.ingest().await.rows.values().sum::<u64>(), RECORDS as u64);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_to_read_is_no_error() {
        let fixture = Fixture::new().await;
        let report = fixture.ingest().await;
        assert_eq!((report.files, report.commits), (Some(0), 0));
    }
}
