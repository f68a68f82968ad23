//! From the state of the lake to what should be done about it. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use adlake_lake::job_notes::Outcome;
use adlake_speed_layer::source::kafka::survey::RECREATED;

use super::facts::{Facts, Firing, Lag};
use crate::options::duration;

/// What may pass without advice.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// How long ago the newest rows may have been ingested
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15m")]
    pub freshness_max: Duration,
    /// How old the published batch run may be while there are rows that it does not cover
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub run_age_max: Duration,
    /// How many records the lake may be behind a topic (with --lag)
    #[arg(long, value_name = "RECORDS", default_value_t = 100_000)]
    pub lag_max: i64,
    /// How many small files there may be that `adlake batch compact` would rewrite
    #[arg(long, value_name = "FILES", default_value_t = 1_000)]
    pub small_files_max: u64,
    /// How many files the log of a table may have
    #[arg(long, value_name = "FILES", default_value_t = 10_000)]
    pub log_files_max: u64,
    /// How many records of the window may be dead letters
    #[arg(long, value_name = "LETTERS", default_value_t = 1_000)]
    pub letters_max: u64,
    /// The window in which dead letters are counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub letters_window: Duration,
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// A limit is passed, or something has failed: act.
    Problem,
    /// Look at it when there is time.
    Warning,
}

/// What is the matter, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub urgency: Urgency,
    /// What it is about: lag, freshness, batch_run, ...
    pub about: &'static str,
    pub detail: String,
    pub remedy: String,
}

fn advice(urgency: Urgency, about: &'static str, detail: String, remedy: impl Into<String>) -> Advice {
    Advice { urgency, about, detail, remedy: remedy.into() }
}

/// What should be done, the most urgent first.
pub fn advise(facts: &Facts, limits: &Limits, now: DateTime<Utc>) -> Vec<Advice> {
    let mut all = Vec::new();
    all.extend(facts.lag.iter().flatten().filter_map(|lag| of_lag(lag, limits)));
    all.extend(of_freshness(facts, limits, now));
    all.extend(of_run(facts, limits, now));
    all.extend(of_jobs(facts));
    all.extend(of_letters(facts, limits));
    all.extend(of_files(facts, limits));
    all.extend(of_quality(facts));
    all.extend(of_alarms(facts));
    all.sort_by_key(|advice| advice.urgency);
    all
}

fn of_lag(lag: &Lag, limits: &Limits) -> Option<Advice> {
    let topic = &lag.topic;
    if lag.lost > 0 {
        let detail = format!("{topic}: the brokers no longer have {} records that were not ingested", lag.lost);
        let remedy = "ingest stops there until somebody decides: docs/runbooks/ingest-lag.md; lengthen the topic's \
                      retention";
        return Some(advice(Urgency::Problem, "lag", detail, remedy));
    }
    if lag.ahead > 0 {
        let detail = format!("the lake is {} records ahead of {topic}: it was deleted and created again", lag.ahead);
        return Some(advice(Urgency::Problem, "lag", detail, RECREATED));
    }
    if lag.records > limits.lag_max {
        let detail = format!("{topic}: {} records are not ingested yet", lag.records);
        let remedy = "is `adlake ingest kafka` running? If it is, and the lag grows, add workers up to the number of \
                      partitions: docs/runbooks/ingest-lag.md";
        return Some(advice(Urgency::Problem, "lag", detail, remedy));
    }
    (lag.never_read > 0).then(|| {
        let detail = format!("{topic}: {} partitions were never read", lag.never_read);
        advice(Urgency::Warning, "lag", detail, "start `adlake ingest kafka`; partitions without records are ordinary")
    })
}

fn of_freshness(facts: &Facts, limits: &Limits, now: DateTime<Utc>) -> Option<Advice> {
    let newest = facts.newest_ingested_at?;
    let age = (now - newest).to_std().unwrap_or_default();
    (age > limits.freshness_max).then(|| {
        let detail = format!("the newest rows were ingested {} ago", rounded(age));
        let remedy = "is `adlake ingest` running, and are records sent? `adlake status --lag` tells whether they wait \
                      in the topics: docs/runbooks/ingest-not-fresh.md";
        advice(Urgency::Problem, "freshness", detail, remedy)
    })
}

fn of_run(facts: &Facts, limits: &Limits, now: DateTime<Utc>) -> Option<Advice> {
    if facts.uncovered.is_empty() {
        return None;
    }
    let reason = match facts.recompute {
        Some(why) => format!("the next one has to compute everything: {why}"),
        None => format!("there are newer rows in {}", facts.uncovered.join(", ")),
    };
    let Some(published_at) = facts.published_at else {
        let remedy = "`adlake batch run`, or `adlake batch schedule` to run it at set times";
        return Some(advice(Urgency::Warning, "batch_run", "no batch run was published yet".to_owned(), remedy));
    };
    let age = (now - published_at).to_std().unwrap_or_default();
    (age > limits.run_age_max).then(|| {
        let detail = format!("the published run is {} old, and {reason}", rounded(age));
        let remedy = "`adlake batch run`; does its schedule work? docs/runbooks/batch-overdue.md";
        advice(Urgency::Problem, "batch_run", detail, remedy)
    })
}

fn of_jobs(facts: &Facts) -> impl Iterator<Item = Advice> {
    facts.jobs.iter().filter(|note| note.outcome == Outcome::Failed).map(|note| {
        let error = note.error.as_deref().unwrap_or("for an unknown reason");
        let detail = format!("the last `batch {}` failed at {}: {error}", note.job, note.ended.format("%F %T UTC"));
        let remedy = format!("see docs/runbooks/batch-failed.md, then `adlake batch {}`", note.job);
        advice(Urgency::Problem, "jobs", detail, remedy)
    })
}

fn of_letters(facts: &Facts, limits: &Limits) -> Option<Advice> {
    let letters: u64 = facts.dead_letters.values().sum();
    let urgency = if letters > limits.letters_max { Urgency::Problem } else { Urgency::Warning };
    (letters > 0).then(|| {
        let reasons: Vec<String> = facts.dead_letters.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let window = rounded(limits.letters_window);
        let detail = format!("{letters} records of the last {window} are dead letters ({})", reasons.join(", "));
        let remedy = "`adlake deadletters list`, correct the configuration or the sender, then `adlake deadletters \
                      replay`: docs/runbooks/dead-letters.md";
        advice(urgency, "dead_letters", detail, remedy)
    })
}

fn of_files(facts: &Facts, limits: &Limits) -> Vec<Advice> {
    let mut all = Vec::new();
    let small: u64 = facts.small_files.values().sum();
    if small > limits.small_files_max {
        let (table, files) = facts.small_files.iter().max_by_key(|(_, files)| **files).unzip();
        let most = table.zip(files).map(|(table, files)| format!(", {files} of them in {table}")).unwrap_or_default();
        let detail = format!("{small} small files slow down queries{most}");
        all.push(advice(Urgency::Warning, "small_files", detail, "`adlake batch compact`, at set times"));
    }
    for (table, files) in facts.log_files.iter().filter(|(_, files)| **files > limits.log_files_max) {
        let detail = format!("the log of {table} has {files} files");
        let remedy = "`adlake batch checkpoint`, at set times; see lake.log.checkpoint_interval and lake.log.retention";
        all.push(advice(Urgency::Warning, "log_files", detail, remedy));
    }
    all
}

fn of_quality(facts: &Facts) -> impl Iterator<Item = Advice> {
    facts.quality.iter().map(|unmet| {
        let urgency = if unmet.status == "warn" { Urgency::Warning } else { Urgency::Problem };
        let refused = if unmet.decision == "refuse" { ", and the run was not published" } else { "" };
        let detail = format!("expectation {} of {}: {}{refused}", unmet.expectation, unmet.table, unmet.status);
        let remedy = "`adlake batch check` shows the rows; see docs/quality.md";
        advice(urgency, "quality", detail, remedy)
    })
}

fn of_alarms(facts: &Facts) -> impl Iterator<Item = Advice> {
    facts.alarms.iter().map(|alarm| {
        let Firing { rule, group, state, severity, why, acked_by } = alarm;
        let (urgency, remedy) = match acked_by {
            Some(name) => (Urgency::Warning, format!("{name} looks after it; `adlake alarms list` names its runbook")),
            None => {
                let urgency = if *severity == "critical" { Urgency::Problem } else { Urgency::Warning };
                let remedy = "`adlake alarms list` names its runbook; `adlake alarms ack` takes it over";
                (urgency, remedy.to_owned())
            }
        };
        let name = if group.is_empty() { rule.clone() } else { format!("{rule} {group}") };
        advice(urgency, "alarms", format!("alarm {name} is {state}: {why}"), remedy)
    })
}

/// A duration in whole seconds, as people write it.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use adlake_lake::job_notes::JobNote;
    use chrono::TimeDelta;
    use clap::Parser;

    use super::*;
    use crate::commands::status::facts::Unmet;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
    }

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn check(facts: &Facts, args: &[&str], expected: &[(Urgency, &str, &str)]) {
        let limits = Line::parse_from([&["x"], args].concat()).limits;
        let advice = advise(facts, &limits, now());
        let found: Vec<_> = advice.iter().map(|advice| (advice.urgency, advice.about)).collect();
        let wanted: Vec<_> = expected.iter().map(|(urgency, about, _)| (*urgency, *about)).collect();
        assert_eq!(found, wanted, "{advice:?}");
        for (advice, (_, _, part)) in advice.iter().zip(expected) {
            assert!(advice.detail.contains(part) && !advice.remedy.is_empty(), "{part}: {advice:?}");
        }
    }

    #[test]
    fn a_lake_that_is_well_needs_nothing() {
        check(&Facts::default(), &[], &[]);
        let facts = Facts {
            newest_ingested_at: Some(now() - TimeDelta::minutes(15)),
            published_at: Some(now() - TimeDelta::minutes(60)),
            uncovered: vec!["raw/impressions".to_owned()],
            lag: Some(vec![Lag { topic: "t".to_owned(), records: 100_000, ..Lag::default() }]),
            small_files: BTreeMap::from([("raw/impressions".to_owned(), 1_000)]),
            log_files: BTreeMap::from([("raw/impressions".to_owned(), 10_000)]),
            ..Facts::default()
        };
        check(&facts, &[], &[]);
        // A run that covers everything may be of any age.
        check(&Facts { published_at: Some(DateTime::UNIX_EPOCH), ..Facts::default() }, &[], &[]);
    }

    #[test]
    fn each_limit_is_passed_with_its_advice() {
        use Urgency::{Problem, Warning};
        let lag = |records, lost, ahead, never_read| Facts {
            lag: Some(vec![Lag { topic: "t".to_owned(), records, lost, ahead, never_read }]),
            ..Facts::default()
        };
        check(&lag(100_001, 0, 0, 3), &[], &[(Problem, "lag", "100001 records")]);
        check(&lag(11, 0, 0, 0), &["--lag-max", "10"], &[(Problem, "lag", "11 records")]);
        check(&lag(0, 4, 0, 0), &[], &[(Problem, "lag", "no longer have 4 records")]);
        check(&lag(0, 0, 7, 0), &[], &[(Problem, "lag", "7 records ahead of t")]);
        check(&lag(0, 0, 0, 2), &[], &[(Warning, "lag", "2 partitions")]);

        let uncovered = vec!["raw/impressions".to_owned()];
        let stale = Facts {
            newest_ingested_at: Some(now() - TimeDelta::minutes(16)),
            published_at: Some(now() - TimeDelta::minutes(61)),
            uncovered: uncovered.clone(),
            ..Facts::default()
        };
        check(&stale, &[], &[(Problem, "freshness", "16m ago"), (Problem, "batch_run", "raw/impressions")]);
        check(&stale, &["--freshness-max", "1h", "--run-age-max", "2h"], &[]);
        let other_rules = Facts { newest_ingested_at: None, recompute: Some("of other rules"), ..stale };
        check(&other_rules, &[], &[(Problem, "batch_run", "compute everything: of other rules")]);
        check(&Facts { uncovered, ..Facts::default() }, &[], &[(Warning, "batch_run", "no batch run")]);

        let letters = |n| Facts { dead_letters: BTreeMap::from([("bad_json".to_owned(), n)]), ..Facts::default() };
        check(&letters(1_000), &[], &[(Warning, "dead_letters", "1000 bad_json")]);
        check(&letters(1_001), &[], &[(Problem, "dead_letters", "last 1day")]);

        let files = Facts {
            small_files: BTreeMap::from([("a".to_owned(), 400), ("b".to_owned(), 601)]),
            log_files: BTreeMap::from([("a".to_owned(), 10_001), ("b".to_owned(), 1)]),
            ..Facts::default()
        };
        check(&files, &[], &[(Warning, "small_files", "601 of them in b"), (Warning, "log_files", "log of a ")]);
    }

    #[test]
    fn what_failed_comes_before_what_warns() {
        use Urgency::{Problem, Warning};
        let note = |job: &str, outcome, error: Option<&str>| JobNote {
            job: job.to_owned(),
            began: now(),
            ended: now(),
            outcome,
            error: error.map(str::to_owned),
        };
        let unmet = |status: &str, decision: &str| Unmet {
            expectation: "clicks".to_owned(),
            table: "events".to_owned(),
            status: status.to_owned(),
            decision: decision.to_owned(),
        };
        let firing = |severity, acked_by: Option<&str>| Firing {
            rule: "ctr_drop".to_owned(),
            group: "campaign_id=c1".to_owned(),
            state: "FIRING",
            severity,
            why: "down".to_owned(),
            acked_by: acked_by.map(str::to_owned),
        };
        let facts = Facts {
            jobs: vec![note("run", Outcome::Failed, Some("no room")), note("compact", Outcome::Stopped, None)],
            quality: vec![unmet("warn", "publish"), unmet("fail", "refuse"), unmet("error", "publish")],
            alarms: vec![firing("warning", None), firing("critical", None), firing("critical", Some("ada"))],
            ..Facts::default()
        };
        let expected = [
            (Problem, "jobs", "no room"),
            (Problem, "quality", "was not published"),
            (Problem, "quality", "error"),
            (Problem, "alarms", "ctr_drop campaign_id=c1"),
            (Warning, "quality", "warn"),
            (Warning, "alarms", "down"),
            (Warning, "alarms", "is FIRING"),
        ];
        check(&facts, &[], &expected);
    }
}
