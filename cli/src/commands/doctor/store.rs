//! The lake's store: what may be done there, by trying, and its clock.

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_lake::error::chain;
use adlake_lake::probe::{Attempt, Needs, Probe};
use adlake_lake::{Lake, LakeError};

use super::Part;
use super::finding::{Area, Finding};
use crate::failure::line;

/// S3 refuses with this code requests whose time differs by more than a quarter of an hour.
const SKEWED: &str = "RequestTimeTooSkewed";
/// What to do about a clock that is wrong.
const SYNCHRONISE: &str = "synchronise this machine's clock (chrony, or the time service of the cloud): leases, \
                           freshness and signatures depend on it";

/// Folders of the lake, and what a part needs there. Probes are written beside the tables, or where
/// the part's role lets it write at all.
fn needs(part: Part, serves_alarms: bool) -> Vec<(&'static str, Needs)> {
    match part {
        Part::Speed => vec![("raw/_doctor", Needs::Write), ("ref", Needs::Read), ("batch/manifest", Needs::Read)],
        Part::Batch => vec![("raw", Needs::Read), ("batch/manifest/_lease", Needs::Delete)],
        Part::Serving if serves_alarms => {
            vec![("raw", Needs::Read), ("batch", Needs::Read), ("batch/alarms/_lease", Needs::Delete)]
        }
        Part::Serving => vec![("raw", Needs::Read), ("batch", Needs::Read)],
        Part::All | Part::Maintenance => {
            vec![("raw/_doctor", Needs::Delete), ("batch/_doctor", Needs::Delete), ("ref/_doctor", Needs::Delete)]
        }
    }
}

/// Tries what a part needs.
pub async fn examine(
    lake: &Lake,
    part: Part,
    serves_alarms: bool,
    (timeout, clock_tolerance): (Duration, Duration),
    findings: &mut Vec<Finding>,
) {
    let mut clocks = BTreeMap::new();
    for (folder, needs) in needs(part, serves_alarms) {
        let subject = format!("{}{folder}", lake.root());
        match lake.probe(folder, needs, timeout).await {
            Ok(probe) => {
                clocks.extend(probe.clock_ahead_ms.map(|ahead| (ahead.abs(), ahead)));
                findings.push(judge(&subject, probe));
            }
            Err(error) => {
                findings.push(Finding::error(Area::Store, subject, line(&error.into()), "see lake.uri"));
            }
        }
    }
    // The nearest one: a write that took long looks like a clock that is behind.
    if let Some((_, ahead)) = clocks.first_key_value() {
        findings.push(clock(*ahead, clock_tolerance));
    }
}

/// The first attempt that failed, or what may be done.
fn judge(subject: &str, probe: Probe) -> Finding {
    let mut done = Vec::new();
    for (attempt, result) in probe.attempts {
        let (what, permission) = words(attempt);
        match result {
            Ok(()) => done.push(what),
            Err(error) => {
                let is_skewed = chain(&error).contains(SKEWED);
                let remedy = match (&error, attempt) {
                    _ if is_skewed => SYNCHRONISE.to_owned(),
                    (LakeError::Unavailable { .. }, _) => {
                        "is the store up, and may this machine reach it? See lake.uri, lake.options and AWS_*"
                            .to_owned()
                    }
                    (_, Attempt::WriteOnce) => permission.to_owned(),
                    _ => format!("{permission} (docs/aws.md has the policy of each part)"),
                };
                let detail = format!("cannot {what}: {}", line(&error.into()));
                return Finding::error(Area::Store, subject, detail, remedy);
            }
        }
    }
    Finding::ok(Area::Store, subject, format!("could {}", done.join(", ")))
}

/// What was tried, and what is needed for it.
fn words(attempt: Attempt) -> (&'static str, &'static str) {
    match attempt {
        Attempt::List => ("list", "allow s3:ListBucket on this prefix, or reading of the folder"),
        Attempt::Write => ("write", "allow s3:PutObject and the key's kms:GenerateDataKey, or writing to the folder"),
        Attempt::WriteOnce => (
            "write only what is not there",
            "use a store that honours If-None-Match: two writers could overwrite each other's commits in this one",
        ),
        Attempt::Read => ("read", "allow s3:GetObject and the key's kms:Decrypt, or reading of the folder"),
        Attempt::Delete => ("delete", "allow s3:DeleteObject here, or examine the right part with --part"),
    }
}

fn clock(ahead_ms: i64, tolerance: Duration) -> Finding {
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    let detail = format!("the store's clock is {:.1} s {side} this machine's", apart.as_secs_f64());
    if apart <= tolerance {
        return Finding::ok(Area::Clock, "clock", "agrees with the store's");
    }
    Finding::warning(Area::Clock, "clock", detail, SYNCHRONISE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Level;

    fn refused() -> LakeError {
        LakeError::Refused { subject: "raw".to_owned(), source: "403".into() }
    }

    #[test]
    fn the_first_failure_is_told_with_its_permission() {
        let probe = |attempts| Probe { attempts, clock_ahead_ms: None };
        let fine = judge("raw", probe(vec![(Attempt::List, Ok(())), (Attempt::Read, Ok(()))]));
        assert_eq!((fine.level, fine.detail.as_str()), (Level::Ok, "could list, read"));
        let check = |attempt, error, part: &str| {
            let found = judge("raw", probe(vec![(Attempt::List, Ok(())), (attempt, Err(error))]));
            assert!(found.level == Level::Error && found.remedy.as_ref().unwrap().contains(part), "{found:?}");
        };
        check(Attempt::Write, refused(), "s3:PutObject");
        check(Attempt::WriteOnce, refused(), "If-None-Match");
        check(Attempt::Delete, refused(), "s3:DeleteObject");
        let outage = LakeError::Unavailable { subject: "raw".to_owned(), source: "timed out".into() };
        check(Attempt::Read, outage, "is the store up");
        let skewed = "status code: 403, <Code>RequestTimeTooSkewed</Code>".into();
        check(Attempt::Read, LakeError::Refused { subject: "raw".to_owned(), source: skewed }, "this machine's clock");
    }

    #[test]
    fn parts_need_what_their_roles_have() {
        let writes = |part, alarms| needs(part, alarms).iter().filter(|(_, needs)| *needs > Needs::Read).count();
        assert_eq!((writes(Part::Serving, false), writes(Part::Serving, true)), (0, 1));
        assert!(needs(Part::Speed, true).iter().all(|(_, needs)| *needs < Needs::Delete));
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let check = |ahead, level| assert_eq!(clock(ahead, Duration::from_secs(5)).level, level, "{ahead}");
        check(0, Level::Ok);
        check(5_000, Level::Ok);
        check(5_001, Level::Warning);
        check(-6_000, Level::Warning);
        assert!(clock(-6_000, Duration::ZERO).detail.contains("6.0 s behind"));
    }
}
