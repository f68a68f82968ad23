//! The `[quality]` section.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which expectations a batch run checks before it publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InRuns {
    /// Those that can stop it.
    #[default]
    Fail,
    /// All.
    All,
    /// None.
    None,
}

/// The `[quality]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QualitySettings {
    /// A file with expectations, or a folder whose `.toml` files hold them. Empty: the built-in
    /// ones.
    pub expectations: PathBuf,
    /// Which of them a batch run checks before it publishes.
    pub in_runs: InRuns,
    /// The most violating rows of an expectation that a report shows.
    pub examples_max: usize,
}

impl Default for QualitySettings {
    fn default() -> Self {
        QualitySettings { expectations: PathBuf::new(), in_runs: InRuns::default(), examples_max: 5 }
    }
}
