//! The `[batch]` section.

use std::time::Duration;

use adlake_lake::session::SessionSettings;
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
    /// About how many events are aggregated at once. The events of one campaign in one hour are
    /// never taken apart.
    pub slice_events: u64,
    /// A process that writes batch tables and is not heard of for this long may be superseded by
    /// another.
    #[serde(with = "humantime_serde")]
    pub lease_time: Duration,
    /// Data files that were removed from their tables longer ago than this are deleted by `adlake
    /// batch vacuum`. It must be longer than the longest query, and than the longest run.
    #[serde(with = "humantime_serde")]
    pub vacuum_retention: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            session: SessionSettings::default(),
            compression_level: 3,
            file_bytes_max: 128 << 20,
            row_group_rows: 64 << 10,
            slice_events: 200_000,
            lease_time: Duration::from_secs(60),
            vacuum_retention: Duration::from_secs(7 * 24 * 60 * 60),
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
        if self.lease_time < Duration::from_secs(1) {
            return wrong("lease_time", "must be at least 1s");
        }
        if self.slice_events == 0 {
            return wrong("slice_events", "must be at least 1");
        }
        Ok(())
    }

    /// How many parts of the work run beside each other.
    pub(crate) fn workers(&self) -> usize {
        match self.session.partitions {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            partitions => partitions,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        check(|s| s.slice_events = 0, "batch.slice_events");
        check(|s| s.lease_time = Duration::ZERO, "batch.lease_time");
    }
}
