//! `adlake demo`: the whole system in one process.
//!
//! ```text
//! a history: files -> ingest files -> a batch run, then
//! generator -> broker inside the process -> ingest kafka -> lake <- batch run every half minute
//!                                                            |
//!                                             live table <- merged campaign_kpis
//! ```
//!
//! At the end the stream stops, records in flight are committed, and the lake's answers are
//! compared with what was sent. The lake stays.

mod history;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adlake_batch_layer::{Gate, Silent, run_checked};
use adlake_domain::event::EventKind;
use adlake_lake::Lake;
use adlake_serving::QueryEngine;
use adlake_speed_layer::error::SpeedError;
use adlake_speed_layer::metrics::IngestObserver;
use adlake_speed_layer::report::{IngestProgress, IngestReport};
use adlake_speed_layer::run::{KafkaRun, run_kafka};
use adlake_speed_layer::settings::{IngestSettings, KafkaSettings, Sources};
use adlake_traffic::generator::Generator;
use adlake_traffic::incident::Story;
use adlake_traffic::plan::{Pace, Plan, kind_index};
use adlake_traffic::sink::Compression;
use adlake_traffic::sink::kafka::{KafkaSink, KafkaTarget};
use adlake_traffic::truth::Totals;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::commands::generate::options::incidents;
use crate::commands::{print, serve};
use crate::config::Settings;
use crate::demo::broker::Broker;
use crate::demo::check::{self, Line};
use crate::demo::dashboard::{Batch, COLUMNS, Dashboard};
use crate::demo::screen::Screen;
use crate::failure::{batch_error, query_error, speed_error, usage};
use crate::options::{Global, duration};
use crate::shutdown;

const PARTITIONS: i32 = 2;
const REDRAW_EVERY: Duration = Duration::from_secs(2);
/// Above this rate the in-process broker drops records before they are read.
const RATE_MAX: f64 = 20_000.0;
/// The longest time that the last records may take to be committed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Where logs go while the table is on the screen.
const LOG: &str = "demo.log";
/// The length of a demo that has no end.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The whole system in one process.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder for the lake, the reference data and the log
    #[arg(long, value_name = "DIR", default_value = "./adlake-demo")]
    dir: PathBuf,
    /// Records to send per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0)]
    rate: f64,
    /// Days of history that are generated, ingested and computed before the stream begins; 0: none.
    /// A lake that has events already gets no history
    #[arg(long, value_name = "DAYS", default_value_t = 60.0)]
    history: f64,
    /// Records of the history
    #[arg(
        long,
        value_name = "N",
        default_value_t = 600_000,
        value_parser = clap::value_parser!(u64).range(1..=100_000_000)
    )]
    history_events: u64,
    /// Stop after this long ("30s", "5m") [default: at Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    stop_after: Option<Duration>,
    /// Time between two batch runs
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    batch_every: Duration,
    /// The seed of campaigns, websites and users
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of distinct users
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..100_000_000)
    )]
    users: u32,
    /// Number of campaigns
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..10_000))]
    campaigns: u32,
    /// Where the dashboard is served [default: serve.listen, or another port if that one is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Plant an incident into the stream, as adlake generate does. For example
    /// bad_placement,campaign=0,website=20,size=0.8,from=+30s,for=1h: the click-through rate of a
    /// campaign falls half a minute after the stream begins. May be repeated
    #[arg(long = "incident", value_name = "INCIDENT")]
    incidents: Vec<String>,
    /// Print a line every few seconds instead of a live table
    #[arg(long)]
    plain: bool,
}

/// What the background tasks report to the table.
#[derive(Debug, Default)]
struct Facts {
    sent: AtomicU64,
    rows: AtomicU64,
    rejected: AtomicU64,
    batch: Mutex<Batch>,
}

impl IngestObserver for Facts {
    fn update(&self, state: &IngestProgress) {
        self.rows.store(state.rows, Ordering::Relaxed);
        self.rejected.store(state.rejected, Ordering::Relaxed);
    }
}

type Ingest = JoinHandle<Result<IngestReport, SpeedError>>;

impl Demo {
    /// Runs until a signal comes or the time is up.
    pub async fn run(self, global: &Global, progress: &crate::progress::ProgressBars) -> Result<()> {
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            return Err(usage(format!(
                "--rate is {}: give more than 0 and at most {RATE_MAX} records a second; for more, send with adlake \
                 generate to a Kafka of your own",
                self.rate
            )));
        }
        let broker = Broker::start()?;
        let settings = self.settings(global, &broker)?;
        let lake = Lake::open(&settings.lake).await?;
        lake.create_tables().await?;
        if !(0.0..=3_660.0).contains(&self.history) {
            return Err(usage(format!("--history is {}: give days from 0 to 3660", self.history)));
        }
        let (schema_text, schema) = history::bid_schema()?;
        let now = chrono::Utc::now().timestamp_micros();
        // Without a history, the budgets of the reference data follow from the stream.
        let stream = self.plan(&settings)?;
        let has_history = self.history > 0.0;
        let past = if has_history { history::plan(&stream, self.history, self.history_events, now)? } else { stream };
        let past = Generator::new(past, &schema, false)?;
        history::load_reference(&lake, &self.dir.join("reference"), &past).await?;
        for kind in EventKind::ALL {
            broker.create_topic(settings.sources.of(kind).topic(kind), PARTITIONS)?;
        }
        let (meaning, display) = (settings.meaning(), settings.display());
        let gate = Gate::new(&settings.quality, &display).map_err(batch_error)?;
        let engine = QueryEngine::open(&lake, &settings.query, &meaning, &display);
        let engine = engine.await.map_err(query_error)?;
        let began_empty = check::is_empty(&engine).await?;

        let stop = shutdown::on_signal()?;
        let mut before = Totals::default();
        if began_empty && has_history {
            let spinner = progress.spinner("making a history: generating, ingesting, a batch run");
            let folder = history::folder(&self.dir);
            let made = history::load(&lake, &settings, &folder, past, schema_text, &Facts::default(), &stop).await;
            spinner.finish_and_clear();
            match made {
                Err(_) if stop.is_cancelled() => return Ok(()),
                made => {
                    let made = made?;
                    let (records, seconds) = (made.totals.records, made.elapsed.as_secs_f64());
                    info!("a history of {} days, {records} records, was made in {seconds:.1} s", self.history);
                    before = made.totals;
                }
            }
        }
        // The stream's event time begins now, after the history.
        let generator = Generator::new(self.plan(&settings)?, &schema, true)?;
        let facts = Arc::new(Facts::default());
        let names = generator.world().campaigns.iter().map(|campaign| (campaign.id.clone(), campaign.name.clone()));
        let names: HashMap<String, String> = names.collect();
        let started = Instant::now();
        let ingest_stop = CancellationToken::new();
        let mut ingest = start_ingest(&lake, &settings, &facts, ingest_stop.clone());
        let generating = self.start_generator(&broker, &settings, generator, &facts, stop.clone())?;
        let (address, server) = self.start_server(&lake, &settings, stop.clone()).await?;
        info!("the dashboard is at {address}");
        let batch = start_batch(&lake, &settings, gate, &facts, self.batch_every, started, stop.clone());
        if let Some(after) = self.stop_after {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                stop.cancel();
            });
        }

        let mut screen = Screen::open(self.plain)?;
        if screen.is_terminal() {
            let path = self.dir.join(LOG);
            progress.log_to(Some(File::create(&path).with_context(|| format!("cannot write {}", path.display()))?));
        }
        let mut dashboard = Dashboard {
            lake: settings.lake.uri.clone(),
            address,
            currency: settings.account.currency.clone(),
            names,
            ..Dashboard::default()
        };
        let watched = watch(&mut dashboard, &mut screen, &engine, &facts, &mut ingest, started, &stop).await;
        stop.cancel();
        screen.close()?;
        progress.log_to(None);
        let spinner = progress.spinner("draining: committing what was sent");
        let generator = generating.await.context("the generator has panicked")??;
        batch.await.context("the batch run has panicked")?;
        server.await.context("the server has panicked")??;
        if watched.is_ok() {
            drained(&facts, generator.totals().records, &ingest).await;
        }
        ingest_stop.cancel();
        if let Some(ended) = watched? {
            // Ingest does not end by itself unless it fails.
            let report = ended?;
            return Err(anyhow!("ingest ended by itself after {} records", report.records_read));
        }
        let report = ingest.await.context("ingest has panicked")?.map_err(speed_error)?;
        info!(records = report.records_read, commits = report.commits, "ingest stopped");
        refresh(&mut dashboard, &engine, &facts, started).await?;
        spinner.finish_and_clear();
        let checked =
            if began_empty { check::compare(&engine, &generator.totals().plus(before)).await? } else { Vec::new() };
        drop(broker);
        print(&self.closing_text(&dashboard, &checked))?;
        match checked.iter().find(|line| line.answered != line.sent) {
            Some(line) => {
                Err(anyhow!("{}: the lake answers {}, but {} were sent", line.name, line.answered, line.sent))
            }
            None => Ok(()),
        }
    }

    /// Takes meanings and limits from the configuration. Broker, sources and lake are the demo's
    /// own.
    fn settings(&self, global: &Global, broker: &Broker) -> Result<Settings> {
        let mut settings = global.load()?.settings;
        if global.lake.is_none() {
            settings.lake.uri = self.lake_folder().display().to_string();
            settings.lake.options.clear();
        }
        history::watch(&mut settings.alarms, &self.dir)?;
        settings.sources = Sources::default();
        settings.ingest = IngestSettings::default();
        settings.kafka = KafkaSettings {
            brokers: broker.address(),
            // The broker of each run begins at offset 0, so its partitions are not those of earlier
            // runs.
            cluster: Some(format!("demo-{}", chrono::Utc::now().timestamp_micros())),
            ..KafkaSettings::default()
        };
        Ok(settings)
    }

    fn lake_folder(&self) -> PathBuf {
        self.dir.join("lake")
    }

    fn plan(&self, settings: &Settings) -> Result<Plan> {
        let now = chrono::Utc::now().timestamp_millis() * 1_000;
        let lasts = self.stop_after.unwrap_or(LONGEST);
        let mut plan = Plan {
            seed: self.seed,
            // A second demo on the same lake must send other events.
            id_seed: now as u64,
            events: ((lasts.as_secs_f64() * self.rate) as u64).max(1),
            start: now,
            pace: Pace::PerSecond(self.rate),
            kinds: [true; 3],
            users: self.users,
            campaigns: self.campaigns,
            websites: 100,
            bid_requests: 1.0,
            ctr: 0.04,
            cvr: 0.15,
            // Conversions follow soon enough to be seen in a demo.
            conversion_delay: 15.0 * 1e6,
            duplicates: 0.01,
            conflicts: 0.001,
            late: 0.0,
            malformed: 0.01,
            bots: 0.005,
            without_id: 0.005,
            split_outcomes: 0.1,
            currencies: vec![settings.account.currency.to_ascii_uppercase()],
            seasons: false,
            story: Story::default(),
        };
        plan.story = history::live_story(&plan, now)?;
        plan.story.0.extend(incidents(&self.incidents, now, plan.campaigns, plan.websites)?);
        Ok(plan)
    }

    /// Serves the dashboard. Returns its address.
    async fn start_server(
        &self,
        lake: &Lake,
        settings: &Settings,
        stop: CancellationToken,
    ) -> Result<(String, JoinHandle<std::io::Result<()>>)> {
        let wanted = self.listen.as_deref();
        let opened = match serve::open(settings, lake, wanted.unwrap_or(&settings.serve.listen)).await {
            // Whoever names an address wants no other.
            Err(error) if wanted.is_none() && is_taken(&error) => serve::open(settings, lake, "127.0.0.1:0").await,
            opened => opened,
        };
        let (listener, served) = opened?;
        let address = format!("{}://{}", settings.serve.scheme(), listener.local_addr()?);
        Ok((address, tokio::spawn(adlake_serving::http::serve(listener, served, stop))))
    }

    fn start_generator(
        &self,
        broker: &Broker,
        settings: &Settings,
        mut generator: Generator,
        facts: &Arc<Facts>,
        stop: CancellationToken,
    ) -> Result<JoinHandle<Result<Generator>>> {
        let mut topics: [String; 3] = Default::default();
        for kind in EventKind::ALL {
            topics[kind_index(kind)] = settings.sources.of(kind).topic(kind).to_owned();
        }
        let mut sink = KafkaSink::create(&KafkaTarget {
            brokers: broker.address(),
            topics,
            partitions: PARTITIONS,
            compression: Compression::None,
            properties: Default::default(),
        })?;
        let (facts, rate) = (facts.clone(), self.rate);
        Ok(tokio::task::spawn_blocking(move || {
            generator.run(&mut sink, rate, &stop, &mut |records, _| facts.sent.store(records, Ordering::Relaxed))?;
            Ok(generator)
        }))
    }

    fn closing_text(&self, dashboard: &Dashboard, checked: &[Line]) -> String {
        let mut text = dashboard.table(usize::MAX).join("\n");
        text.push('\n');
        if !checked.is_empty() && checked.iter().all(|line| line.answered == line.sent) {
            let equal: Vec<String> = checked.iter().map(|line| format!("{} {}", line.answered, line.name)).collect();
            text.push_str(&format!("\nThe lake answers exactly what was sent: {}.\n", equal.join(", ")));
        }
        let lake = &dashboard.lake;
        text.push_str(&format!(
            "\nThe lake is in {lake}. Try next:\n\
             \x20 adlake --lake {lake} status\n\
             \x20 adlake --lake {lake} serve\n\
             \x20 adlake --lake {lake} query \"SELECT * FROM campaign_kpis ORDER BY spend DESC LIMIT 10\"\n\
             \x20 adlake --lake {lake} query \"SELECT * FROM funnel WHERE campaign_id = 'c-0000'\"\n\
             \x20 adlake --lake {lake} query \"SELECT reason, count(*) FROM dead_letters GROUP BY reason\" --format \
             json\n\
             \x20 adlake --lake {lake} batch run --full\n"
        ));
        text
    }
}

/// Whether an address could not be listened on because another program does.
fn is_taken(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn start_ingest(lake: &Lake, settings: &Settings, facts: &Arc<Facts>, stop: CancellationToken) -> Ingest {
    let (lake, settings, facts) = (lake.clone(), settings.speed(), facts.clone());
    tokio::spawn(async move { run_kafka(&lake, &settings, KafkaRun::default(), facts.as_ref(), stop).await })
}

/// Runs the batch layer again and again. If a run fails, the failure is shown and the run is tried
/// again.
fn start_batch(
    lake: &Lake,
    settings: &Settings,
    gate: Gate,
    facts: &Arc<Facts>,
    every: Duration,
    started: Instant,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let (lake, settings, facts) = (lake.clone(), settings.clone(), facts.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let tell = |change: &dyn Fn(&mut Batch)| {
                change(&mut facts.batch.lock().unwrap_or_else(PoisonError::into_inner));
            };
            tell(&|batch| batch.running = true);
            let (meaning, observer) = (settings.meaning(), Arc::new(Silent));
            let ran = run_checked(&lake, &meaning, &settings.batch, false, &gate, observer, &stop).await;
            tell(&|batch| {
                batch.running = false;
                match &ran {
                    Ok(report) if report.published => {
                        batch.failure = None;
                        batch.last = Some((report.run, report.elapsed, started.elapsed()));
                    }
                    Ok(_) => batch.failure = None,
                    Err(_) if stop.is_cancelled() => {}
                    Err(error) => batch.failure = Some(error.to_string()),
                }
            });
            if let (Err(error), false) = (ran, stop.is_cancelled()) {
                warn!(error = %error, "the batch run failed; the next run tries again");
            }
        }
    })
}

/// Shows the dashboard until the demo is stopped. If ingest ends before that, returns its result.
async fn watch(
    dashboard: &mut Dashboard,
    screen: &mut Screen,
    engine: &QueryEngine,
    facts: &Facts,
    ingest: &mut Ingest,
    started: Instant,
    stop: &CancellationToken,
) -> Result<Option<Result<IngestReport>>> {
    let mut ticks = tokio::time::interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            ended = &mut *ingest => {
                return Ok(Some(ended.context("ingest has panicked")?.map_err(speed_error)));
            }
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            refreshed = refresh(dashboard, engine, facts, started) => refreshed?,
        }
        screen.show(dashboard)?;
    }
}

/// Brings the dashboard up to date.
async fn refresh(dashboard: &mut Dashboard, engine: &QueryEngine, facts: &Facts, started: Instant) -> Result<()> {
    let asked = Instant::now();
    let sql = format!("SELECT {} FROM campaign_kpis ORDER BY spend DESC, campaign_id", COLUMNS.join(", "));
    let kpis = check::rows(engine, &sql).await?;
    let query = asked.elapsed();
    let newest = check::rows(engine, "SELECT max(newest_event_time) FROM freshness").await?;
    let elapsed = started.elapsed();
    let (rows, rejected) = (facts.rows.load(Ordering::Relaxed), facts.rejected.load(Ordering::Relaxed));
    let since = elapsed.saturating_sub(dashboard.elapsed).as_secs_f64();
    let committed = (rows + rejected).saturating_sub(dashboard.rows + dashboard.rejected);
    dashboard.ingest_rate = if since > 0.0 { committed as f64 / since } else { 0.0 };
    dashboard.freshness = newest.into_iter().flatten().flatten().next().and_then(|time| {
        let time = chrono::DateTime::parse_from_rfc3339(&time).ok()?;
        // The newest event may lie a moment ahead of this clock. Its age is then 0.
        Some((chrono::Utc::now() - time.to_utc()).to_std().unwrap_or_default())
    });
    dashboard.sent = facts.sent.load(Ordering::Relaxed);
    (dashboard.rows, dashboard.rejected, dashboard.elapsed) = (rows, rejected, elapsed);
    dashboard.batch = facts.batch.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (dashboard.kpis, dashboard.query) = (kpis, query);
    Ok(())
}

/// Waits until every record sent is committed, as a row or as a dead letter, but not beyond the
/// deadline.
async fn drained(facts: &Facts, sent: u64, ingest: &Ingest) {
    let deadline = Instant::now() + DRAIN_DEADLINE;
    while Instant::now() < deadline && !ingest.is_finished() {
        if facts.rows.load(Ordering::Relaxed) + facts.rejected.load(Ordering::Relaxed) >= sent {
            return;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
    warn!(records = sent, "not everything that was sent is committed yet");
}
