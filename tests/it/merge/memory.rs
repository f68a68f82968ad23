//! Little memory: what does not fit is spilled to disk, and the answers are the same.
//!
//! `ADLAKE_TEST_MEMORY_MIB` and `ADLAKE_TEST_MEMORY_TIMES` try other amounts of memory and of rows.

use adlake_domain::settings::Meaning;
use adlake_lake::session::SessionSettings;
use adlake_tests::history::{ReferenceData, Rows, history};
use adlake_tests::oracle::VIEWS;
use adlake_tests::oracle::compare::difference;
use adlake_tests::seed::knob;
use anyhow::{Result, anyhow, ensure};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::lake::TestLake;

/// The seed of the rows. They are the same in each run, so that they exceed the memory in each.
const SEED: u64 = 1;
/// A history with fewer rows is drawn again.
const ROWS_MIN: usize = 100;
/// How often the rows are repeated, each time as the events of other users.
const TIMES: u64 = 100;
/// The memory of the queries that must spill, in MiB. With half of it they fail: each sort reserves
/// 10 MiB for its merge, and the share that is left for each must hold one batch of rows.
const SPILLING_MIB: u64 = 48;

fn limited(mib: u64) -> SessionSettings {
    SessionSettings { memory_bytes_max: (mib as usize) << 20, partitions: 2, ..SessionSettings::default() }
}

/// Whether a query failed because it had to spill and there was no room on the disk.
fn is_full_disk(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("used disk space")
}

fn drawn() -> Result<Rows> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&SEED.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    loop {
        let tree = history(super::HAPPENINGS_MAX).new_tree(&mut runner);
        let rows = tree.map_err(|reason| anyhow!("no history can be drawn: {reason}"))?.current().rows();
        if rows.impressions.len() + rows.interactions.len() + rows.bid_requests.len() >= ROWS_MIN {
            return Ok(rows);
        }
    }
}

/// Half of the rows are batched, the others are merged. The other lake has enough memory, and all
/// its rows are batched.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_when_queries_spill() -> Result<()> {
    let (batched, tail) = drawn()?.halves();
    let times = knob("ADLAKE_TEST_MEMORY_TIMES", TIMES)? as usize;
    let session = limited(knob("ADLAKE_TEST_MEMORY_MIB", SPILLING_MIB)?);
    let (batched, tail) = (batched.repeated(times), tail.repeated(times));
    let (meaning, reference) = (Meaning::default(), ReferenceData::variant(0));

    let mut whole = TestLake::create(&meaning).await?;
    whole.load(&reference).await?;
    whole.append(&batched).await?;
    whole.append(&tail).await?;
    whole.batch(true).await?;

    let mut small = TestLake::create_limited(&meaning, session.clone()).await?;
    small.load(&reference).await?;
    small.append(&batched).await?;
    small.batch(true).await?;
    small.append(&tail).await?;
    let mut rows = 0;
    for view in VIEWS {
        let answer = small.answer(view).await?;
        let difference = difference(view, &whole.answer(view).await?.rows, &answer);
        ensure!(difference.is_none(), "with little memory, {view} differs: {}", difference.unwrap_or_default());
        rows += answer.rows.len();
    }

    // With no room on the disk some views cannot be answered, so they were spilled.
    small.limit(SessionSettings { spill_bytes_max: 1, ..session }).await?;
    let mut spilled = Vec::new();
    for view in VIEWS {
        match small.answer(view).await {
            Err(error) if is_full_disk(&error) => spilled.push(view),
            Err(error) => return Err(error.context(format!("{view}, with no room to spill"))),
            Ok(_) => {}
        }
    }
    println!("little memory: {rows} rows of {} views are the same; spilled were {spilled:?}", VIEWS.len());
    ensure!(!spilled.is_empty(), "no view was spilled: the test needs more rows or less memory");
    Ok(())
}
