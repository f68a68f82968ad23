//! The `[batch]` section.

use std::str::FromStr;
use std::time::Duration;

use adlake_domain::segments::Segments;
use adlake_lake::session::SessionSettings;
use adlake_lake::{Encoder, LakeError, WriterSettings};
use chrono_tz::Tz;
use croner::Cron;
use serde::{Deserialize, Serialize};

use crate::timetable::{CatchUp, Job, Times};

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
    /// When `adlake batch schedule` does which job.
    pub schedule: ScheduleSettings,
    /// The rules of `batch/user_segments`, which are a section of their own.
    #[serde(skip)]
    pub segments: Segments,
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
            schedule: ScheduleSettings::default(),
            segments: Segments::default(),
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
        self.schedule.times().map(|_| ())
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
            encoder: Encoder::Fast,
        }
    }
}

/// The `[batch.schedule]` section. The times are cron expressions with five fields, or six with the
/// seconds first. Empty: never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    /// The times of `batch run`.
    pub run: String,
    /// The times of `batch check`.
    pub check: String,
    /// The times of `batch compact`.
    pub compact: String,
    /// The times of `batch vacuum`.
    pub vacuum: String,
    /// The times of `batch checkpoint`.
    pub checkpoint: String,
    /// The zone of the times.
    pub time_zone: String,
    /// A job begins up to this long after its time, by chance.
    #[serde(with = "humantime_serde")]
    pub jitter: Duration,
    /// What is done about times that have passed.
    pub catch_up: CatchUp,
    /// Where `/healthz` is served. Empty: nowhere.
    pub listen: String,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        ScheduleSettings {
            run: "*/15 * * * *".to_string(),
            check: String::new(),
            compact: "10 2 * * *".to_string(),
            vacuum: "40 2 * * *".to_string(),
            checkpoint: "50 2 * * *".to_string(),
            time_zone: "UTC".to_string(),
            jitter: Duration::from_secs(10),
            catch_up: CatchUp::Once,
            listen: String::new(),
        }
    }
}

impl ScheduleSettings {
    /// The times of the jobs that have any. The error names the key.
    pub(crate) fn times(&self) -> Result<Vec<Times>, LakeError> {
        let wrong = |key: &str, detail: String| LakeError::Configuration(format!("batch.schedule.{key}: {detail}"));
        let zone = Tz::from_str(&self.time_zone)
            .map_err(|_| wrong("time_zone", format!("{:?} is no zone's IANA name", self.time_zone)))?;
        let mut times = Vec::new();
        for job in Job::ALL {
            let text = match job {
                Job::Run => &self.run,
                Job::Check => &self.check,
                Job::Compact => &self.compact,
                Job::Vacuum => &self.vacuum,
                Job::Checkpoint => &self.checkpoint,
            };
            if !text.trim().is_empty() {
                let cron = Cron::from_str(text)
                    .map_err(|error| wrong(job.name(), format!("{text:?} is no cron expression: {error}")))?;
                times.push(Times { job, cron, zone });
            }
        }
        Ok(times)
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

    #[test]
    fn times_that_cannot_be_are_named_by_their_key() {
        assert_eq!(ScheduleSettings::default().times().unwrap().len(), 4);
        let none = ScheduleSettings { run: " ".into(), compact: String::new(), ..ScheduleSettings::default() };
        assert_eq!(none.times().unwrap().iter().map(|times| times.job).collect::<Vec<_>>(), &Job::ALL[3..]);
        let check = |settings: ScheduleSettings, expected: &str| {
            let error = settings.times().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        let wrong = ScheduleSettings { vacuum: "61 * * * *".into(), ..ScheduleSettings::default() };
        check(wrong, "batch.schedule.vacuum: \"61 * * * *\" is no cron expression: ");
        let wrong = ScheduleSettings { time_zone: "Europe/Bielefeld".into(), ..ScheduleSettings::default() };
        check(wrong, "batch.schedule.time_zone: \"Europe/Bielefeld\" is no zone's IANA name");
    }
}
