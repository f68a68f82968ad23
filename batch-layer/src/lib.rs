//! The batch layer: computes `Q` over the raw tables, and publishes it with one manifest.
//!
//! [`plan`] decides from facts what a run does. [`mod@run`] does it and publishes it: either
//! everything ([`full`]), or what has changed since the last run ([`changes`]). Readers see a run
//! whole or not at all: they read nothing of it before the manifest's commit.

pub mod settings;
pub mod plan;
pub mod run;
mod full;
pub mod jobs;
mod changes;
mod slices;
mod engine;

pub use plan::{Plan, Why};
pub use run::{BatchError, BatchObserver, PlanReport, RunReport, Silent, planned, run};
pub use settings::BatchSettings;
