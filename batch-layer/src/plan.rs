//! What a run reads and writes. This is decided from the versions alone.

use std::collections::BTreeMap;

use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_lake::session::SessionSettings;
use adlake_lake::views::plans::BatchTable;
use adlake_lake::{LakeError, WriterSettings};
use serde::{Deserialize, Serialize};

/// The `[batch]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Limits for memory, disk and parallelism.
    pub session: SessionSettings,
    /// The level of zstd for the written files.
    pub compression_level: i32,
    /// A file with this many encoded bytes is closed, and a new one begun.
    pub file_bytes_max: usize,
    /// The most rows of a row group.
    pub row_group_rows: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            session: SessionSettings::default(),
            compression_level: 3,
            file_bytes_max: 128 << 20,
            row_group_rows: 256 << 10,
        }
    }
}

impl BatchSettings {
    /// Refuses impossible settings. The error names the key.
    pub fn check(&self) -> Result<(), LakeError> {
        let wrong = |key: &str, message: &str| Err(LakeError::Configuration(format!("batch.{key}: {message}")));
        if !(1..=22).contains(&self.compression_level) {
            return wrong("compression_level", "must be a level of zstd: 1 to 22");
        }
        if self.file_bytes_max == 0 {
            return wrong("file_bytes_max", "must be at least 1");
        }
        if self.row_group_rows == 0 {
            return wrong("row_group_rows", "must be at least 1");
        }
        Ok(())
    }

    pub(crate) fn writer(&self) -> WriterSettings {
        WriterSettings {
            compression_level: self.compression_level,
            row_group_rows: self.row_group_rows,
            file_bytes_max: self.file_bytes_max,
            ordered: true,
            ..WriterSettings::default()
        }
    }
}

/// One table that a run writes. The order counts: later steps read what earlier ones have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(pub BatchTable);

/// The steps of a full run.
pub fn full() -> Vec<Step> {
    EventKind::ALL
        .map(BatchTable::Events)
        .into_iter()
        .chain([BatchTable::Attributions, BatchTable::Hourly, BatchTable::Reach])
        .map(Step)
        .collect()
}

/// The tables whose versions a run covers. The run reads each at one version from beginning to end.
pub fn covered() -> Vec<&'static str> {
    let raw = EventKind::ALL.map(EventKind::raw_table);
    raw.into_iter().chain([catalogue::CREATIVES, catalogue::CAMPAIGNS, catalogue::FX_RATES]).collect()
}

/// The order in which the rows of a table are written. The partition comes first, so that only one
/// is open at a time.
pub fn order(table: BatchTable) -> Vec<&'static str> {
    let clustered = catalogue::table(table.name()).map(|table| table.clustered_by).unwrap_or_default();
    std::iter::once("event_date").chain(clustered.iter().copied()).collect()
}

/// Whether nothing has changed since a published run: the versions and the meaning are the same.
pub fn unchanged(covered: &BTreeMap<String, u64>, published: &BTreeMap<String, u64>, same_meaning: bool) -> bool {
    same_meaning && covered.iter().all(|(table, version)| published.get(table) == Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_after_what_it_is_made_from() {
        let steps = full();
        let place = |table: BatchTable| steps.iter().position(|step| step.0 == table).unwrap();
        for kind in EventKind::ALL {
            assert!(place(BatchTable::Events(kind)) < place(BatchTable::Attributions));
        }
        assert!(place(BatchTable::Attributions) < place(BatchTable::Hourly));
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        BatchSettings::default().check().unwrap();
        let check = |change: fn(&mut BatchSettings), key: &str| {
            let mut settings = BatchSettings::default();
            change(&mut settings);
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        check(|s| s.compression_level = 0, "batch.compression_level");
        check(|s| s.compression_level = 23, "batch.compression_level");
        check(|s| s.file_bytes_max = 0, "batch.file_bytes_max");
        check(|s| s.row_group_rows = 0, "batch.row_group_rows");
    }

    #[test]
    fn any_new_version_is_a_change() {
        let versions = |n: u64| BTreeMap::from([("raw/impressions".to_string(), n)]);
        assert!(unchanged(&versions(3), &versions(3), true));
        assert!(!unchanged(&versions(4), &versions(3), true));
        assert!(!unchanged(&versions(3), &versions(3), false));
        assert!(!unchanged(&versions(3), &BTreeMap::new(), true));
    }
}
