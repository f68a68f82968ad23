//! The merge. At every moment of a lake's history, every view answers what a computation from
//! scratch answers, and what the oracle answers.
//!
//! Every run draws new histories, and prints the seed of the first; the others have the seeds after
//! it. `ADLAKE_TEST_SEED` repeats a run. `ADLAKE_TEST_HISTORIES` sets how many histories there are
//! (`make soak`: hundreds). A failure prints its seed and the smallest history that fails. Queries
//! over so few rows do not spill: [`memory`] is about that.

mod api;
mod cases;
mod earlier;
mod files;
mod freshness;
mod lake;
mod memory;
mod reach;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adlake_batch_layer::Plan;
use adlake_domain::credit::Model;
use adlake_domain::settings::{Display, Meaning, SpendSource};
use adlake_lake::views::plans::BatchTable;
use adlake_tests::history::{History, ReferenceData, Rows, Step, history};
use adlake_tests::oracle::compare::difference;
use adlake_tests::oracle::{self, Input, VIEWS};
use adlake_tests::seed::{VARIABLE, knob, seed};
use anyhow::{Result, ensure};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use lake::TestLake;

/// The histories of `make test`.
const HISTORIES: u64 = 12;
/// The longest time for which a failing history is shrunk.
const SHRINK_TIME_MAX: Duration = Duration::from_secs(120);
const HAPPENINGS_MAX: usize = 10;
/// The views that are checked after every step. The others are made of the same parts and are
/// checked at the end.
const EVERY_STEP: [&str; 6] =
    ["impressions", "bid_requests", "attributions", "campaign_hourly", "campaign_daily", "invalid_traffic"];

/// How many incremental runs the histories had.
static INCREMENTAL: AtomicUsize = AtomicUsize::new(0);

#[test]
fn random_histories_answer_as_recomputed_from_scratch() {
    let histories = knob("ADLAKE_TEST_HISTORIES", HISTORIES).unwrap();
    let first = seed().unwrap();
    let began = Instant::now();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in first..first + histories {
        let started = Instant::now();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_time: SHRINK_TIME_MAX.as_millis() as u32,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let result = TestRunner::new_with_rng(config, rng).run(&history(HAPPENINGS_MAX), |history| {
            runtime.block_on(run(&history)).map_err(|error| TestCaseError::fail(format!("{error:?}")))
        });
        match result {
            Ok(()) => println!("history of seed {seed}: {:.1} s", started.elapsed().as_secs_f64()),
            Err(TestError::Fail(reason, history)) => {
                panic!("repeat with {VARIABLE}={seed} ADLAKE_TEST_HISTORIES=1\n{reason}\n{}", steps(&history))
            }
            Err(other) => panic!("history of seed {seed}: {other}"),
        }
    }
    let (after, took) = (first + histories, began.elapsed());
    let incremental = INCREMENTAL.load(Ordering::Relaxed);
    assert!(incremental > 0, "no run was incremental, so nothing is known of such runs");
    println!(
        "merge: {histories} histories of the seeds {first} to {after} (exclusive), {incremental} incremental runs, \
         none fails, {took:.0?}"
    );
}

/// Formats a shrunk history, with a line for each step and row. Fields that are NULL are left out.
fn steps(history: &History) -> String {
    let told = |step: &Step| {
        let text = format!("{step:?}").replace("Raw", "\n  Raw");
        text.split(", ").filter(|field| !field.ends_with(": None")).collect::<Vec<_>>().join(", ") + "\n"
    };
    format!("{:?}\n{}", history.meaning(), history.steps().iter().map(told).collect::<String>())
}

/// The reference data and the meaning in force. They take effect with a batch run, or at once
/// before the first run.
#[derive(Clone)]
struct InForce {
    reference: ReferenceData,
    meaning: Meaning,
}

/// Runs a history on a lake, and checks its views after each step. At the end it also checks a lake
/// that has seen nothing but the rows, before and after a batch run from scratch.
async fn run(history: &History) -> Result<()> {
    let mut newest = InForce { reference: ReferenceData::variant(0), meaning: history.meaning() };
    let mut lake = TestLake::create(&newest.meaning).await?;
    lake.load(&newest.reference).await?;
    let mut all = Rows::default();
    let mut published: Option<InForce> = None;
    for (number, step) in history.steps().into_iter().enumerate() {
        match step {
            Step::Append(rows) => {
                lake.append(&rows).await?;
                all.extend(&rows);
            }
            Step::Batch { full, during } => {
                let done = lake.run_during(full, &during).await?;
                if matches!(done.plan, Plan::Incremental { .. }) {
                    INCREMENTAL.fetch_add(1, Ordering::Relaxed);
                }
                all.extend(&during);
                published = Some(newest.clone());
            }
            Step::Restart => lake.restart().await?,
            Step::Reference(reference) => {
                lake.load(&reference).await?;
                newest.reference = reference;
            }
            Step::Meaning(meaning) => {
                lake.mean(&meaning).await?;
                newest.meaning = meaning;
            }
            Step::Compaction => lake.compact().await?,
        }
        let in_force = published.as_ref().unwrap_or(&newest);
        let input = input(&all, &in_force.reference, &in_force.meaning);
        let step = format!("after step {number}");
        check(&lake, &input, &EVERY_STEP).await.map_err(|error| error.context(step.clone()))?;
        // A server follows in the steps between as well, and what it holds then is what comes next.
        if number % 2 == 1 {
            lake.check_api(&oracle::views(&input), &EVERY_STEP).await.map_err(|error| error.context(step))?;
        }
    }
    let InForce { reference, meaning } = published.unwrap_or(newest);
    let input = input(&all, &reference, &meaning);
    check(&lake, &input, &VIEWS).await.map_err(|error| error.context("the merged answer, at the end"))?;
    lake.check_api(&oracle::views(&input), &VIEWS).await.map_err(|error| error.context("at the end"))?;
    let mut scratch = TestLake::create(&meaning).await?;
    scratch.load(&reference).await?;
    scratch.append(&all).await?;
    check(&scratch, &input, &EVERY_STEP)
        .await
        .map_err(|error| error.context("all rows in one lake, before its batch run"))?;
    scratch.batch(true).await?;
    // All columns are equal, including sketches.
    for view in VIEWS {
        let (recomputed, merged) = (scratch.answer(view).await?, lake.answer(view).await?);
        let difference = difference(view, &recomputed.rows, &merged);
        ensure!(difference.is_none(), "merged is not as recomputed: {}", difference.unwrap_or_default());
    }
    // Settings of the display take effect at once.
    let display = Display { default_model: Model::Linear, spend_source: SpendSource::Bids, ..Display::default() };
    lake.show(&display).await?;
    check(&lake, &Input { display, ..input }, &["campaign_daily"])
        .await
        .map_err(|error| error.context("with other settings of the display"))?;
    check_runs(&mut lake).await
}

/// Compares the tables that many runs have changed with those of one run over all rows.
async fn check_runs(lake: &mut TestLake) -> Result<()> {
    lake.batch(false).await?;
    let again = lake.run_during(false, &Rows::default()).await?;
    ensure!(!again.published, "a run after which nothing has changed did {:?}", again.plan);
    let mut incremental = Vec::new();
    for table in BatchTable::ALL.map(BatchTable::name) {
        incremental.push((table, lake.table(table).await?));
    }
    lake.batch(true).await?;
    for (table, incremental) in incremental {
        let name = table.trim_start_matches("batch/");
        let difference = difference(name, &lake.table(table).await?.rows, &incremental);
        ensure!(difference.is_none(), "incremental is not as recomputed: {}", difference.unwrap_or_default());
    }
    Ok(())
}

/// The input of the oracle for the default display.
fn input(rows: &Rows, reference: &ReferenceData, meaning: &Meaning) -> Input {
    let rows = rows.clone();
    Input {
        impressions: rows.impressions,
        interactions: rows.interactions,
        bid_requests: rows.bid_requests,
        advertisers: reference.advertisers.clone(),
        meaning: meaning.clone(),
        display: Display::default(),
    }
}

/// Compares these views of the lake with the oracle.
async fn check(lake: &TestLake, input: &Input, views: &[&str]) -> Result<()> {
    let expected = oracle::views(input);
    for view in views {
        let difference = difference(view, &expected[view], &lake.answer(view).await?);
        ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
    Ok(())
}
