//! When jobs are due. This is decided from times alone, without a look at the clock or the lake.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde::{Deserialize, Serialize};

/// A job that is done at set times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// `adlake batch run`.
    Run,
    /// `adlake batch check`.
    Check,
    /// `adlake batch compact`.
    Compact,
    /// `adlake batch vacuum`.
    Vacuum,
    /// `adlake batch checkpoint`.
    Checkpoint,
}

impl Job {
    /// All jobs. Of those that are due at the same time, earlier ones are done first.
    pub const ALL: [Job; 5] = [Job::Run, Job::Check, Job::Compact, Job::Vacuum, Job::Checkpoint];

    /// The job's name, as in `adlake batch <name>`.
    pub fn name(self) -> &'static str {
        match self {
            Job::Run => "run",
            Job::Check => "check",
            Job::Compact => "compact",
            Job::Vacuum => "vacuum",
            Job::Checkpoint => "checkpoint",
        }
    }
}

/// What is done about times that have passed while the process was down or at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// The job is done once, as soon as possible, however many times have passed.
    #[default]
    Once,
    /// The job waits for its next time.
    Skip,
}

/// The times of one job.
#[derive(Debug, Clone)]
pub struct Times {
    /// The job.
    pub job: Job,
    /// Its times.
    pub cron: Cron,
    /// The zone in which they are meant.
    pub zone: Tz,
}

impl Times {
    /// The first time after `time`. `None`: there is none.
    fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&time.with_timezone(&self.zone), false).ok()?;
        Some(next.with_timezone(&Utc))
    }
}

#[derive(Debug)]
struct Entry {
    times: Times,
    /// The time of the expression that comes next.
    slot: Option<DateTime<Utc>>,
    /// When the job is done: at its slot, or later.
    at: Option<DateTime<Utc>>,
}

/// When each job is done next.
#[derive(Debug)]
pub struct Timetable {
    entries: Vec<Entry>,
    catch_up: CatchUp,
}

impl Timetable {
    /// The timetable of a process that starts at `now`. `last` tells when a job began last. Each
    /// job is done first at its next time, and `jitter` later.
    pub fn new(
        times: Vec<Times>,
        catch_up: CatchUp,
        now: DateTime<Utc>,
        last: impl Fn(Job) -> Option<DateTime<Utc>>,
        jitter: impl Fn() -> Duration,
    ) -> Timetable {
        let mut entries = Vec::new();
        for times in times {
            let missed = last(times.job).and_then(|last| times.after(last)).filter(|slot| *slot <= now);
            let (slot, at) = match missed {
                Some(_) if catch_up == CatchUp::Once => (Some(now), Some(now)),
                _ => {
                    let slot = times.after(now);
                    (slot, slot.map(|slot| slot + delta(jitter())))
                }
            };
            entries.push(Entry { times, slot, at });
        }
        entries.sort_by_key(|entry| entry.times.job);
        Timetable { entries, catch_up }
    }

    /// The job that is done next, and when.
    pub fn next(&self) -> Option<(Job, DateTime<Utc>)> {
        let due = self.entries.iter().filter_map(|entry| Some((entry.times.job, entry.at?)));
        due.min_by_key(|(job, at)| (*at, *job))
    }

    /// When each job is done next.
    pub fn all(&self) -> impl Iterator<Item = (Job, Option<DateTime<Utc>>)> {
        self.entries.iter().map(|entry| (entry.times.job, entry.at))
    }

    /// A job has ended at `now`: it is done again at its next time, and `jitter` later.
    pub fn ended(&mut self, job: Job, now: DateTime<Utc>, jitter: Duration) {
        let catch_up = self.catch_up;
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.times.job == job) else { return };
        let next = entry.slot.and_then(|slot| entry.times.after(slot));
        match next {
            Some(next) if next <= now && catch_up == CatchUp::Once => {
                // All times until now are caught up with at once.
                entry.slot = Some(now);
                entry.at = Some(now);
            }
            _ => {
                entry.slot = entry.times.after(entry.slot.map_or(now, |slot| slot.max(now)));
                entry.at = entry.slot.map(|slot| slot + delta(jitter));
            }
        }
    }

    /// Another process was at work: the job is tried again after `wait`, or at its next time if
    /// that is earlier.
    pub fn postponed(&mut self, job: Job, now: DateTime<Utc>, wait: Duration) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.times.job == job) else { return };
        let again = now + delta(wait);
        match entry.times.after(now).filter(|slot| *slot <= again) {
            Some(slot) => (entry.slot, entry.at) = (Some(slot), Some(slot)),
            None => entry.at = Some(again),
        }
    }
}

fn delta(time: Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn times(job: Job, cron: &str, zone: Tz) -> Times {
        Times { job, cron: Cron::from_str(cron).unwrap(), zone }
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn table(catch_up: CatchUp, now: &str, last: Option<&str>) -> Timetable {
        let quarters = times(Job::Run, "*/15 * * * *", Tz::UTC);
        Timetable::new(vec![quarters], catch_up, at(now), |_| last.map(at), || Duration::ZERO)
    }

    fn next(table: &Timetable) -> String {
        let (_, at) = table.next().unwrap();
        at.format("%H:%M:%S").to_string()
    }

    #[test]
    fn a_job_is_due_at_its_times() {
        let mut table = table(CatchUp::Once, "2026-03-01T10:03:00Z", None);
        assert_eq!(next(&table), "10:15:00");
        let (quarters, now) = (times(Job::Run, "*/15 * * * *", Tz::UTC), at("2026-03-01T10:03:00Z"));
        let late = Timetable::new(vec![quarters], CatchUp::Once, now, |_| None, || Duration::from_secs(7));
        assert_eq!(next(&late), "10:15:07");
        table.ended(Job::Run, at("2026-03-01T10:16:20Z"), Duration::ZERO);
        assert_eq!(next(&table), "10:30:00");
        table.ended(Job::Run, at("2026-03-01T10:30:20Z"), Duration::from_secs(12));
        assert_eq!(next(&table), "10:45:12");
        // The jitter does not add up.
        table.ended(Job::Run, at("2026-03-01T10:46:20Z"), Duration::ZERO);
        assert_eq!(next(&table), "11:00:00");
    }

    #[test]
    fn times_that_have_passed_are_caught_up_with_once_or_not_at_all() {
        let started = |catch_up, last| next(&table(catch_up, "2026-03-01T10:03:00Z", last));
        // The process was down.
        assert_eq!(started(CatchUp::Once, Some("2026-03-01T08:00:10Z")), "10:03:00");
        assert_eq!(started(CatchUp::Skip, Some("2026-03-01T08:00:10Z")), "10:15:00");
        // It was not down at any of the times.
        assert_eq!(started(CatchUp::Once, Some("2026-03-01T10:00:10Z")), "10:15:00");
        // A job took longer than the time between two.
        let long = |catch_up| {
            let mut table = table(catch_up, "2026-03-01T10:03:00Z", None);
            table.ended(Job::Run, at("2026-03-01T11:02:00Z"), Duration::ZERO);
            let first = next(&table);
            table.ended(Job::Run, at("2026-03-01T11:02:30Z"), Duration::ZERO);
            (first, next(&table))
        };
        assert_eq!(long(CatchUp::Once), ("11:02:00".to_string(), "11:15:00".to_string()));
        assert_eq!(long(CatchUp::Skip), ("11:15:00".to_string(), "11:30:00".to_string()));
    }

    #[test]
    fn a_job_that_another_process_holds_up_is_tried_again() {
        let mut table = table(CatchUp::Once, "2026-03-01T10:03:00Z", None);
        table.postponed(Job::Run, at("2026-03-01T10:15:01Z"), Duration::from_secs(60));
        assert_eq!(next(&table), "10:16:01");
        table.postponed(Job::Run, at("2026-03-01T10:29:30Z"), Duration::from_secs(60));
        assert_eq!(next(&table), "10:30:00");
        table.ended(Job::Run, at("2026-03-01T10:31:00Z"), Duration::ZERO);
        assert_eq!(next(&table), "10:45:00");
    }

    #[test]
    fn of_two_jobs_at_the_same_time_the_run_is_first() {
        let all = Job::ALL.into_iter().rev().map(|job| times(job, "0 3 * * *", Tz::UTC)).collect();
        let mut table = Timetable::new(all, CatchUp::Once, at("2026-03-01T02:00:00Z"), |_| None, || Duration::ZERO);
        for job in Job::ALL {
            assert_eq!(table.next().unwrap(), (job, at("2026-03-01T03:00:00Z")));
            table.ended(job, at("2026-03-01T03:10:00Z"), Duration::ZERO);
        }
        assert_eq!(table.next().unwrap(), (Job::Run, at("2026-03-02T03:00:00Z")));
    }

    /// On 2026-03-29 clocks in Berlin go from 2:00 to 3:00; on 2026-10-25 from 3:00 to 2:00.
    #[test]
    fn every_day_has_one_nightly_run_whatever_the_clocks_do() {
        let check = |from: &str, days: usize| {
            let nightly = times(Job::Run, "30 2 * * *", Tz::Europe__Berlin);
            let mut table = Timetable::new(vec![nightly], CatchUp::Once, at(from), |_| None, || Duration::ZERO);
            let mut found = Vec::new();
            for _ in 0..days {
                let (job, at) = table.next().unwrap();
                found.push(at.with_timezone(&Tz::Europe__Berlin).format("%d %H:%M").to_string());
                table.ended(job, at + TimeDelta::seconds(5), Duration::ZERO);
            }
            found
        };
        assert_eq!(check("2026-03-27T12:00:00Z", 3), ["28 02:30", "29 03:00", "30 02:30"]);
        assert_eq!(check("2026-10-23T12:00:00Z", 3), ["24 02:30", "25 02:30", "26 02:30"]);
    }

    #[test]
    fn times_that_never_come_are_no_times() {
        let never = times(Job::Run, "0 0 30 2 *", Tz::UTC);
        let table = Timetable::new(vec![never], CatchUp::Once, at("2026-03-01T02:00:00Z"), |_| None, || Duration::ZERO);
        assert_eq!(table.next(), None);
    }
}
