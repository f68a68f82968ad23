//! Data quality: expectations of the tables and views, and whether they are met.
//!
//! [`parse`] reads expectations from TOML. `plan` makes SQL of them: all column expectations of one
//! table and `where` share one scan. [`mod@evaluate`] runs it over one snapshot. `verdict` decides,
//! without I/O, from what was counted. [`results`] are the rows of `batch/quality`. [`gate`] stands
//! before the manifest's commit of a batch run. [`html`] is the report for people, and
//! [`mod@suggest`] proposes expectations from what a table holds.

pub mod expectation;
pub mod parse;
mod plan;
mod verdict;
pub mod results;
pub mod evaluate;
pub mod html;
pub mod gate;
pub mod suggest;
pub mod settings;

pub use expectation::Expectation;
pub use gate::{Gate, check};
pub use settings::QualitySettings;

#[cfg(test)]
mod tests;
