//! The proof under faults: whatever is killed, cut off, full, frozen or turned back, each record that was sent is in its raw table
//! once, or in the dead letters once with the bytes that were sent, and positions only grow. Seeded; each test says its tally.
//!
//! Each run draws a new seed and tells it; `ADLAKE_TEST_SEED` repeats one. `ADLAKE_TEST_KILLS`, `ADLAKE_TEST_FAULT_SECONDS`,
//! `ADLAKE_TEST_SWEEP_SECONDS`, `ADLAKE_TEST_FREEZES` and `ADLAKE_TEST_CHANGES` make it a longer or shorter run (`make soak`); with
//! `ADLAKE_TEST_VERBOSE` each kill is told.

use std::time::Duration;

use adlake_tests::seed::seed;
use anyhow::{Context, Result};

mod check;
mod crash;
mod disk;
mod each_request;
mod site;
mod store;
mod traffic;
mod workers;
mod writers;

/// How long anything may take that is waited for.
const DEADLINE: Duration = Duration::from_secs(120);
/// What a worker is told to do.
const INGEST: [&str; 2] = ["ingest", "kafka"];
/// How fast records are sent meanwhile.
const RECORDS_PER_SECOND: u32 = 400;

/// A number of the environment, or what `make test` takes.
fn knob(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}, not a number")),
        Err(_) => Ok(default),
    }
}
