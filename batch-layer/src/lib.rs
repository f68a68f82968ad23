//! The batch layer: computes `Q` over the whole raw tables, and publishes it with one manifest.
//!
//! [`plan`] says what a run reads and writes. [`mod@run`] does it, one table after the other, and
//! publishes the run. Readers see a run whole or not at all: they read nothing of it before the
//! manifest's commit.

pub mod plan;
pub mod run;

pub use plan::{BatchSettings, Step};
pub use run::{BatchError, BatchObserver, RunReport, Silent, run};
