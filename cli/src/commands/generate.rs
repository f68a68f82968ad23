//! `adlake generate`: synthetic traffic to files or to Kafka, with the truth about it.

pub mod options;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use adlake_traffic::generator::{Generator, kind_names};
use adlake_traffic::plan::Plan;
use adlake_traffic::reference;
use adlake_traffic::sink::files::FileSink;
use adlake_traffic::sink::kafka::{KafkaSink, KafkaTarget};
use adlake_traffic::sink::{Compression, Sink};
use anyhow::{Context, Result};
use apache_avro::Schema;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use tracing::info;

use crate::commands::generate::options::TrafficOptions;
use crate::commands::{ReportFormat, report};
use crate::failure::usage;
use crate::options::Global;
use crate::progress::ProgressBars;
use crate::shutdown;

/// The folder of the truth if none is named.
const TRUTH_FOLDER: &str = "adlake-generated";
/// The folder of the events, inside the folder of `--to-files`. What lies beside it is no event,
/// and must not be ingested.
const EVENTS_FOLDER: &str = "events";

/// Synthetic traffic.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("sink").required(true).args(["to_files", "to_kafka"])))]
pub struct Generate {
    /// Write to files: the events to DIR/events, the truth and the reference data to DIR
    #[arg(long, value_name = "DIR", help_heading = "Where to")]
    to_files: Option<PathBuf>,
    /// Send to Kafka at these brokers (host:port, comma-separated); the topics are those of
    /// sources.*.topic, the client's properties those of kafka.properties
    #[arg(long, value_name = "BOOTSTRAP", help_heading = "Where to")]
    to_kafka: Option<String>,
    /// How files, or Kafka's batches of records, are compressed
    #[arg(
        long,
        default_value_t,
        value_parser = PossibleValuesParser::new(Compression::NAMES).try_map(|name| name.parse::<Compression>()),
        help_heading = "Where to"
    )]
    compression: Compression,
    /// Begin a new file after this many records
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Where to"
    )]
    records_per_file: u64,
    /// Partitions of a topic that does not exist and is created
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        value_parser = clap::value_parser!(i32).range(1..10_000),
        help_heading = "Where to"
    )]
    partitions: i32,
    /// Folder for truth.json, creatives.csv, campaigns.csv and fx_rates.csv [default: DIR of
    /// --to-files, else adlake-generated]
    #[arg(long, value_name = "DIR", help_heading = "Where to")]
    truth: Option<PathBuf>,
    /// Write only the reference data, and send no events
    #[arg(long, help_heading = "Where to")]
    reference_only: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
    #[command(flatten)]
    traffic: TrafficOptions,
}

/// What was sent.
#[derive(Debug, Serialize)]
struct Sent {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    truth: Option<PathBuf>,
}

impl Generate {
    /// Generates until everything is sent or a signal comes. The truth covers what was sent.
    pub async fn run(self, global: &Global, progress: &ProgressBars) -> Result<()> {
        let settings = global.load()?.settings;
        let plan = self.traffic.plan(&settings.account.currency, chrono::Utc::now().timestamp_micros())?;
        let folder = match (&self.truth, &self.to_files) {
            (Some(folder), _) | (None, Some(folder)) => folder.clone(),
            (None, None) => PathBuf::from(TRUTH_FOLDER),
        };
        let schema_text = adlake_speed_layer::decode::bid_request_avro_schema();
        let schema = Schema::parse_str(schema_text).context("the schema of bid requests does not parse")?;
        let mut generator = Generator::new(plan.clone(), &schema, self.to_kafka.is_some())?;
        reference::write(&folder, &plan, generator.world())?;
        if self.reference_only {
            let sent = Sent { records: 0, bytes: 0, seconds: 0.0, records_per_second: 0.0, truth: None };
            return report(self.format, &sent, |_| format!("wrote the reference data to {}\n", folder.display()));
        }
        let mut sink: Box<dyn Sink + Send> = match (&self.to_files, &self.to_kafka) {
            (Some(files), _) => {
                let events = files.join(EVENTS_FOLDER);
                Box::new(FileSink::create(&events, self.compression, self.records_per_file, schema_text, plan.seed)?)
            }
            (None, Some(brokers)) => {
                let target = KafkaTarget {
                    brokers: brokers.clone(),
                    topics: EventKind::ALL.map(|kind| settings.sources.of(kind).topic(kind).to_owned()),
                    partitions: self.partitions,
                    compression: self.compression,
                    properties: settings
                        .kafka
                        .properties
                        .expose()
                        .map(|(key, value)| (key.into(), value.into()))
                        .collect(),
                };
                for (kind, (sent, topic)) in EventKind::ALL.iter().zip(plan.kinds.iter().zip(&target.topics)) {
                    if *sent && topic.is_empty() {
                        return Err(usage(format!(
                            "sources.{kind}.topic is empty: name a topic there, or leave {kind} out of --kinds"
                        )));
                    }
                }
                target.create_topics(plan.kinds).await?;
                Box::new(KafkaSink::create(&target)?)
            }
            (None, None) => return Err(usage("give --to-files DIR or --to-kafka BOOTSTRAP")),
        };
        let cancel = shutdown::on_signal()?;
        let bar = progress.bar(plan.events, "records");
        bar.set_message("generating");
        let rate = self.traffic.rate;
        let (mut generator, sent, ran) = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let mut sent = (0, 0);
            let ran = generator.run(sink.as_mut(), rate, &cancel, &mut |records, bytes| {
                sent = (records, bytes);
                bar.set_position(records);
            });
            bar.finish_and_clear();
            (generator, (sent, started.elapsed()), ran)
        })
        .await
        .context("the generator has panicked")?;
        ran?;
        let truth = write_truth(&folder, &mut generator)?;
        let ((records, bytes), elapsed) = sent;
        info!(records, bytes, truth = %truth.display(), "generated");
        let sent = sent_report(records, bytes, elapsed, truth);
        report(self.format, &sent, |sent| text(sent, &plan))
    }
}

fn write_truth(folder: &Path, generator: &mut Generator) -> Result<PathBuf> {
    let path = folder.join("truth.json");
    std::fs::write(&path, generator.truth_json()?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn sent_report(records: u64, bytes: u64, elapsed: Duration, truth: PathBuf) -> Sent {
    let seconds = elapsed.as_secs_f64();
    Sent { records, bytes, seconds, records_per_second: records as f64 / seconds.max(1e-9), truth: Some(truth) }
}

fn text(sent: &Sent, plan: &Plan) -> String {
    let truth = sent.truth.as_ref().map(|path| format!("; the truth is in {}", path.display())).unwrap_or_default();
    format!(
        "sent {} records ({}), {:.1} MB, in {:.1} s: {:.0} a second{truth}\n",
        sent.records,
        kind_names(plan.kinds).join(", "),
        sent.bytes as f64 / 1e6,
        sent.seconds,
        sent.records_per_second,
    )
}
