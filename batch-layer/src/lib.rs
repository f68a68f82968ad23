//! The batch layer: computes `Q` over the raw tables, and publishes it with one manifest.
//!
//! [`plan`] decides from facts what a run does. [`mod@run`] does it and publishes it: either
//! everything (`full`), or what has changed since the last run (`changes`). Readers see a run whole
//! or not at all: they read nothing of it before the manifest's commit. [`jobs`] keep the tables in
//! shape, [`quality`] says what is expected of them, and [`mod@schedule`] does all this at set
//! times.

pub mod settings;
pub mod plan;
pub mod run;
mod full;
mod changes;
mod fold;
mod slices;
pub mod jobs;
pub mod check;
mod compare;
pub mod quality;
pub mod quality_report;
pub mod timetable;
pub mod schedule;
pub mod status;
mod engine;
mod publish;
mod trace;
pub mod observer;
pub mod error;

pub use check::{CheckOptions, CheckReport, Recompute};
pub use error::BatchError;
pub use observer::{BatchObserver, Silent};
pub use plan::{Plan, Why};
pub use quality::{Gate, QualitySettings};
pub use quality_report::QualityReport;
pub use run::{PlanReport, RunReport, backfill, planned, run, run_checked};
pub use settings::BatchSettings;
