//! What a check has found so far.

use std::collections::BTreeSet;

use adlake_lake::LakeError;
use adlake_lake::error::chain;
use adlake_lake::manifest::Manifest;
use adlake_lake::retry::Retryable;
use adlake_lake::verify::{Finding, FindingKind, Skipped, Verification};
use adlake_lake::views::Day;
use adlake_lake::views::plans::BatchTable;
use chrono::{NaiveDate, TimeDelta};

use super::Recomputed;
use crate::compare::Differences;
use crate::error::BatchError;

/// What was found so far.
pub(super) struct Report {
    pub verified: Verification,
    pub recomputed: Recomputed,
    /// The batch tables that are wrong, or were not compared.
    pub wrong: BTreeSet<&'static str>,
}

impl Report {
    pub fn is_damaged(&self, table: &str) -> bool {
        self.verified.is_damaged(table)
    }

    pub fn skip(&mut self, what: &str, why: &str) {
        self.verified.skipped.push(Skipped { what: what.to_string(), why: why.to_string() });
    }

    /// Whether a table can be compared. It cannot if it is damaged or not published, or if a source
    /// is wrong.
    pub fn can_compare(&mut self, table: BatchTable, manifest: &Manifest, sources: &[&'static str]) -> bool {
        let names = sources.iter().copied().chain([table.name()]);
        let why = if let Some(name) = names.clone().find(|name| self.is_damaged(name) || self.wrong.contains(name)) {
            Some(format!("{name} is damaged, or was not compared"))
        } else {
            names.clone().find(|name| manifest.version(name).is_none()).map(|name| format!("the run names no {name}"))
        };
        let Some(why) = why else { return true };
        self.wrong.insert(table.name());
        // What a finding is about needs no second line.
        if !self.is_damaged(table.name()) {
            self.skip(table.name(), &format!("its rows were not compared: {why}"));
        }
        false
    }

    /// Takes the result of a comparison of a table, or of one of its days.
    pub fn take(&mut self, table: BatchTable, manifest: &Manifest, day: Option<Day>, compared: Compared) {
        let version = manifest.version(table.name());
        let on = day.map(|day| format!("on {}: ", date(day))).unwrap_or_default();
        let (kind, detail, remedy) = match compared {
            Ok(found) => {
                *self.recomputed.rows.entry(table.name().to_string()).or_default() += found.rows;
                if found.is_empty() {
                    return;
                }
                let remedy = "Run `adlake batch run --full`: it writes the table again.";
                (FindingKind::RowsDiffer, found.text(), remedy)
            }
            Err(detail) => {
                let remedy = "Run `adlake check-lake --deep`: it names the file that cannot be read.";
                (FindingKind::RowsUnreadable, format!("the rows cannot be compared: {detail}"), remedy)
            }
        };
        self.wrong.insert(table.name());
        self.verified.findings.push(Finding {
            kind,
            table: table.name().to_string(),
            file: None,
            version,
            detail: format!("{on}{detail}"),
            remedy: remedy.to_string(),
        });
    }
}

/// The result of one comparison. `Err`: why rows could not be read.
pub(super) type Compared = Result<Differences, String>;

/// Turns an error that tells of the lake into a result. An outage and a signal stay errors.
pub(super) fn certain<T>(result: Result<T, BatchError>) -> Result<Result<T, String>, BatchError> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(BatchError::Stopped) => Err(BatchError::Stopped),
        Err(error) if error.is_retryable() => Err(error),
        Err(BatchError::Lake(error @ (LakeError::Refused { .. } | LakeError::Configuration(_)))) => Err(error.into()),
        Err(error) => Ok(Err(chain(&error))),
    }
}

pub(super) fn date(day: Day) -> NaiveDate {
    NaiveDate::default() + TimeDelta::days(i64::from(day.0))
}
