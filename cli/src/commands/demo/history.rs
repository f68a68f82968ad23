//! The history of the demo: two months of events before the stream begins, with incidents in them,
//! so that comparisons mean something and there is something to find.
//!
//! The history goes the way of any batch of files: generated, ingested, computed by a batch run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_batch_layer::Silent;
use adlake_lake::{Lake, LoadMode, ReferenceKind};
use adlake_serving::alarms::settings::AlarmSettings;
use adlake_speed_layer::metrics::IngestObserver;
use adlake_speed_layer::run::{FilesRun, run_files};
use adlake_traffic::clock::DAY;
use adlake_traffic::generator::Generator;
use adlake_traffic::incident::{IncidentText, Story};
use adlake_traffic::plan::{Pace, Plan};
use adlake_traffic::reference;
use adlake_traffic::sink::Compression;
use adlake_traffic::sink::files::FileSink;
use adlake_traffic::truth::Totals;
use anyhow::{Context, Result};
use apache_avro::Schema;
use tokio_util::sync::CancellationToken;

use crate::commands::reference as reference_command;
use crate::config::Settings;
use crate::failure::{speed_error, usage};

/// The incidents of a history of sixty days. Their times shrink with a shorter history.
const INCIDENTS: [&str; 6] = [
    "ctr_fade,campaign=3,size=0.7,from=+39d,for=21d",
    "launch,campaign=5,from=+50d",
    "bot_burst,website=0,size=0.6,from=+51d,for=8h",
    "cost_factor,campaign=2,size=8,from=+46d,for=1d",
    "cvr_drop,campaign=1,size=0.8,from=+55d,for=2d",
    "ctr_drop,campaign=0,website=1,size=0.7,from=+58d,for=2d",
];
/// The incidents of the stream.
const LIVE_INCIDENTS: [&str; 2] =
    ["late_feed,website=2,from=+15s,for=45s", "bot_burst,website=0,size=0.5,from=+60s,for=60s"];
const STORY_DAYS: f64 = 60.0;

/// The rules of the demo, and where they are written to.
const ALARMS: &str = include_str!("alarms.toml");
/// No name that a user would choose: the file is written anew by each demo.
const ALARMS_FILE: &str = "demo-alarms.toml";
const ALARMS_INTERVAL: Duration = Duration::from_secs(5);
const ALARMS_RESEND_INTERVAL: Duration = Duration::from_secs(15);

/// The incidents of the stream that begins at `start`.
pub fn live_story(plan: &Plan, start: i64) -> Result<Story> {
    planted(&LIVE_INCIDENTS, plan, start, 1.0)
}

/// Adds the alarm of the demo to the built-in ones, unless there are rules of the user's. Its
/// history has few events an hour, so this one looks at a day. And a demo is not waited for.
pub fn watch(alarms: &mut AlarmSettings, folder: &Path) -> Result<()> {
    alarms.interval = alarms.interval.min(ALARMS_INTERVAL);
    alarms.resend_interval = alarms.resend_interval.min(ALARMS_RESEND_INTERVAL);
    if !alarms.rules.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    alarms.rules = folder.join(ALARMS_FILE);
    fs::write(&alarms.rules, ALARMS).with_context(|| format!("cannot write {}", alarms.rules.display()))
}

/// Loads the reference data before the first event comes, because the enrichment of an event does
/// not change later.
pub async fn load_reference(lake: &Lake, folder: &Path, generator: &Generator) -> Result<()> {
    reference::write(folder, generator.plan(), generator.world())?;
    for (kind, file) in [(ReferenceKind::Creatives, "creatives.csv"), (ReferenceKind::Campaigns, "campaigns.csv")] {
        reference_command::load_file(lake, kind, &folder.join(file), LoadMode::Upsert).await?;
    }
    Ok(())
}

/// The plan of the history that ends at `now` (µs). The world is that of the stream's plan.
pub fn plan(stream: &Plan, days: f64, events: u64, now: i64) -> Result<Plan> {
    let span = (days * DAY as f64) as i64;
    let mut plan = Plan {
        id_seed: stream.id_seed.wrapping_add(1),
        events,
        start: (now - span).div_euclid(1_000) * 1_000,
        pace: Pace::Span(span),
        bid_requests: 1.0,
        // Conversions take hours, as they do in life.
        conversion_delay: 3.0 * 3_600e6,
        late: 0.02,
        seasons: true,
        ..stream.clone()
    };
    plan.story = planted(&INCIDENTS, &plan, plan.start, days / STORY_DAYS)?;
    Ok(plan)
}

fn planted(incidents: &[&str], plan: &Plan, start: i64, scale: f64) -> Result<Story> {
    let mut story = Story::default();
    for text in incidents {
        let mut incident = text.parse::<IncidentText>().map_err(|error| usage(error.to_string()))?.planted(start);
        let scaled = |time: i64| start + ((time - start) as f64 * scale) as i64;
        (incident.from, incident.to) = (scaled(incident.from), scaled(incident.to));
        let exists = |number: Option<u32>, count: u32| number.is_none_or(|number| number < count);
        if exists(incident.campaign, plan.campaigns) && exists(incident.website, plan.websites) {
            story.0.push(incident);
        }
    }
    Ok(story)
}

/// What the history holds, and how long it took.
#[derive(Debug)]
pub struct History {
    pub totals: Totals,
    pub elapsed: Duration,
}

/// Generates the history, ingests it, and computes it.
pub async fn load(
    lake: &Lake,
    settings: &Settings,
    folder: &Path,
    mut generator: Generator,
    schema: &str,
    observer: &dyn IngestObserver,
    stop: &CancellationToken,
) -> Result<History> {
    let started = Instant::now();
    remove(folder)?;
    let (target, schema, cancel) = (folder.to_owned(), schema.to_owned(), stop.clone());
    let generated = tokio::task::spawn_blocking(move || {
        let seed = generator.plan().seed;
        let mut sink = FileSink::create(&target, Compression::None, u64::MAX, &schema, seed)?;
        generator.run(&mut sink, 0.0, &cancel, &mut |_, _| {})?;
        anyhow::Ok(generator.totals())
    });
    let totals = generated.await.context("the generator has panicked")??;
    let files = FilesRun { paths: vec![folder.display().to_string()], watch: false, kind: None, format: None };
    run_files(lake, &settings.speed(), files, observer, stop.clone()).await.map_err(speed_error)?;
    adlake_batch_layer::run(lake, &settings.meaning(), &settings.batch, false, Arc::new(Silent), stop).await?;
    remove(folder)?;
    Ok(History { totals, elapsed: started.elapsed() })
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The folder of the generated files, while they are ingested.
pub fn folder(demo: &Path) -> PathBuf {
    demo.join("history")
}

/// The schema of bid requests.
pub fn bid_schema() -> Result<(&'static str, Schema)> {
    let text = adlake_speed_layer::decode::bid_request_avro_schema();
    Ok((text, Schema::parse_str(text).context("the schema of bid requests does not parse")?))
}

#[cfg(test)]
mod tests {
    use adlake_serving::alarms::{rule::read, rule_test};
    use adlake_serving::metrics::Catalogues;

    use super::*;

    #[test]
    fn the_tests_of_the_rules_pass() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        watch(&mut settings.alarms, folder.path()).unwrap();
        let catalogues = Catalogues::new(&settings.display());
        let rules = read::read(Some(&settings.alarms.rules), false, catalogues.of(None)).unwrap();
        let (count, failed) = rule_test::run(&rules);
        assert!(count == 1 && failed.is_empty(), "{count}: {failed:#?}");
    }
}
