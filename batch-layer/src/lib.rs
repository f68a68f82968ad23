//! The batch layer: `Q` over everything that is in the raw tables, published as one manifest.
//!
//! [`plan`] says what a run reads and writes; [`mod@run`] does it, table after table, and
//! publishes. Readers see a run whole or not at all: until the manifest's commit nothing of it is
//! read.

pub mod plan;
pub mod run;

pub use plan::{BatchSettings, Step};
pub use run::{BatchError, Progress, RunReport, Silent, run};
