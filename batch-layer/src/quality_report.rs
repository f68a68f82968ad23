//! The results of a check of expectations ([`crate::quality`]).

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The share of the rows that each value has.
pub(crate) type Shares = BTreeMap<String, f64>;

/// What happens if an expectation is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is told.
    #[default]
    Warn,
    /// It is told, and a batch run is not published.
    Fail,
}

impl Severity {
    /// Its name in TOML and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warn => "warn",
            Severity::Fail => "fail",
        }
    }
}

/// Whether an expectation is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is not, and stops publishing.
    Fail,
    /// It could not be evaluated.
    Error,
    /// It is not.
    Warn,
    /// It is.
    Pass,
}

impl Status {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Status::Fail => "fail",
            Status::Error => "error",
            Status::Warn => "warn",
            Status::Pass => "pass",
        }
    }
}

/// Rows that violate an expectation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Examples {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The values. `None`: NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// The result of an expectation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub expectation: String,
    pub kind: &'static str,
    pub table: String,
    pub column: Option<String>,
    #[serde(rename = "where")]
    pub filter: Option<String>,
    pub severity: Severity,
    pub status: Status,
    pub observed: Option<f64>,
    pub expected: String,
    pub checked_rows: u64,
    pub violating_rows: u64,
    pub note: Option<String>,
    pub owner: Option<String>,
    pub description: Option<String>,
    pub examples: Examples,
    #[serde(skip)]
    pub(crate) shares: Option<Shares>,
}

impl Outcome {
    /// Whether it stops publishing.
    pub fn is_stopping(&self) -> bool {
        self.severity == Severity::Fail && matches!(self.status, Status::Fail | Status::Error)
    }
}

/// What a check was for, and what became of the batch run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// There was no batch run.
    Check,
    /// All is well enough to be published.
    Publish,
    /// An expectation had failed, and somebody wanted it published.
    PublishAnyway,
    /// An expectation had failed.
    Refuse,
}

impl Decision {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Check => "check",
            Decision::Publish => "publish",
            Decision::PublishAnyway => "publish_anyway",
            Decision::Refuse => "refuse",
        }
    }
}

/// The results of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QualityReport {
    /// Its id.
    pub check_id: String,
    /// When it began.
    pub checked_at: DateTime<Utc>,
    /// The batch run whose tables were read, if there was one.
    pub run: Option<i64>,
    /// What it was for, and what became of the run.
    pub decision: Decision,
    /// Who published although an expectation had failed.
    pub decided_by: Option<String>,
    /// The results, the worst first.
    pub outcomes: Vec<Outcome>,
    /// The time that it took.
    pub elapsed: Duration,
}

impl QualityReport {
    /// The names of the expectations that stop publishing.
    pub fn stopping(&self) -> Vec<&str> {
        let stopping = self.outcomes.iter().filter(|outcome| outcome.is_stopping());
        stopping.map(|outcome| outcome.expectation.as_str()).collect()
    }

    /// How many results have a status.
    pub fn count(&self, status: Status) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.status == status).count()
    }
}
