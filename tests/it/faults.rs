//! The proof under faults. Processes are killed or frozen, connections are cut, disks fill up,
//! clocks are turned back. Even so, each record that was sent is in its raw table once, or in the
//! dead letters once with the bytes that were sent, and positions only grow. The tests are seeded,
//! and each prints its tally.
//!
//! Each run draws a new seed and prints it; `ADLAKE_TEST_SEED` repeats a run. `ADLAKE_TEST_KILLS`,
//! `ADLAKE_TEST_BATCH_KILLS`, `ADLAKE_TEST_SERVER_KILLS`, `ADLAKE_TEST_BESIDE_EVENTS`,
//! `ADLAKE_TEST_FAULT_SECONDS`, `ADLAKE_TEST_SWEEP_SECONDS`, `ADLAKE_TEST_FREEZES` and
//! `ADLAKE_TEST_CHANGES` make a run longer or shorter (`make soak`). With `ADLAKE_TEST_VERBOSE`,
//! each kill is printed.

use std::time::Duration;

use adlake_tests::seed::{knob, seed};

mod batch_beside_ingest;
mod batch_events;
mod batch_kills;
mod batch_runs;
mod batch_site;
mod batch_store;
mod batch_vacuum;
mod check;
mod crash;
mod disk;
mod each_request;
mod server;
mod site;
mod store;
mod traffic;
mod workers;
mod writers;

/// The longest time that a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(120);
/// The arguments of a worker.
const INGEST: [&str; 2] = ["ingest", "kafka"];
/// The rate at which records are sent during a test.
const RECORDS_PER_SECOND: u32 = 400;
