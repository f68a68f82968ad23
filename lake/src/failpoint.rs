//! Named places in the code where a test kills the process or lets it wait. So the crash tests
//! reach moments that chance seldom hits.
//!
//! Only the environment variable `ADLAKE_FAILPOINTS` arms them. It is read once. It holds rules of
//! the form `place=action@hit`, separated by commas. The actions are:
//!
//! - `kill`: the process sends itself SIGKILL, and no destructor runs.
//! - `kill:MS`: the same after MS milliseconds, while the process goes on.
//! - `sleep:MS`: the thread sleeps for MS milliseconds.
//!
//! Without `@hit` a rule acts at the first hit. `kill` acts once, `sleep` acts at that hit and at
//! every later one. If nothing is armed, a place costs one relaxed load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The environment variable with the rules.
pub const VARIABLE: &str = "ADLAKE_FAILPOINTS";

/// Before the PUT of a commit's entry.
pub const BEFORE_PUT: &str = "before-put";
/// After the PUT of a commit's entry, before its answer is looked at.
pub const AFTER_PUT: &str = "after-put";
/// A data file is uploaded, but not committed.
pub const FILE_UPLOADED: &str = "file-uploaded";
/// In the background, before a checkpoint is written.
pub const CHECKPOINT: &str = "checkpoint";
/// Dead letters are uploaded, but not committed.
pub const BEFORE_DEAD_LETTERS: &str = "before-dead-letters";
/// Dead letters are committed, but not the rows beside them.
pub const AFTER_DEAD_LETTERS: &str = "after-dead-letters";
/// Rows are committed, but the pipeline and the consumer group do not know it yet.
pub const BEFORE_ACKNOWLEDGE: &str = "before-acknowledge";
/// The consumer group was told of a commit, but has not answered yet.
pub const AFTER_ACKNOWLEDGE: &str = "after-acknowledge";
/// The consumer group assigns partitions to this process.
pub const ASSIGNED: &str = "assigned";
/// The consumer group revokes partitions. Rows read from them are not committed yet.
pub const REVOKED: &str = "revoked";

/// The lease of the batch layer is taken.
pub const LEASE_TAKEN: &str = "lease-taken";
/// A batch table is written, but the run is not published.
pub const BATCH_TABLE_WRITTEN: &str = "batch-table-written";
/// All batch tables are written, but the run is not published.
pub const BEFORE_PUBLISH: &str = "before-publish";
/// Vacuum has deleted a file. Others may follow.
pub const FILE_DELETED: &str = "file-deleted";

/// All places of ingest.
pub const PLACES: [&str; 10] = [
    BEFORE_PUT,
    AFTER_PUT,
    FILE_UPLOADED,
    CHECKPOINT,
    BEFORE_DEAD_LETTERS,
    AFTER_DEAD_LETTERS,
    BEFORE_ACKNOWLEDGE,
    AFTER_ACKNOWLEDGE,
    ASSIGNED,
    REVOKED,
];

/// The places of the batch layer alone. Its jobs reach those of commits, files and checkpoints too.
pub const BATCH_PLACES: [&str; 4] = [LEASE_TAKEN, BATCH_TABLE_WRITTEN, BEFORE_PUBLISH, FILE_DELETED];

/// Whether a place must look for rules: until they are read, and always if there are any.
static MAY_BE_ARMED: AtomicBool = AtomicBool::new(true);
static RULES: OnceLock<Vec<Rule>> = OnceLock::new();

#[derive(Debug)]
struct Rule {
    place: String,
    action: Action,
    /// The number of the hit at which the rule acts.
    at: u32,
    hits: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    KillAfter(Duration),
    Sleep(Duration),
}

/// To be called when the process reaches a place.
#[inline]
pub fn hit(place: &'static str) {
    if MAY_BE_ARMED.load(Ordering::Relaxed) {
        look_up(place);
    }
}

#[cold]
fn look_up(place: &'static str) {
    let rules = RULES.get_or_init(|| std::env::var(VARIABLE).map_or_else(|_| Vec::new(), |text| parse(&text)));
    if rules.is_empty() {
        MAY_BE_ARMED.store(false, Ordering::Relaxed);
    }
    for rule in rules.iter().filter(|rule| rule.place == place) {
        let hits = rule.hits.fetch_add(1, Ordering::Relaxed) + 1;
        match rule.action {
            Action::Kill if hits == rule.at => kill(),
            Action::KillAfter(delay) if hits == rule.at => {
                thread::spawn(move || {
                    thread::sleep(delay);
                    kill();
                });
            }
            Action::Sleep(delay) if hits >= rule.at => thread::sleep(delay),
            Action::Kill | Action::KillAfter(_) | Action::Sleep(_) => {}
        }
    }
}

/// Parses the rules. Logs an error for each that is malformed.
fn parse(text: &str) -> Vec<Rule> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    rules
        .filter_map(|text| {
            let rule = parse_rule(text);
            if rule.is_none() {
                tracing::error!(
                    variable = VARIABLE,
                    rule = text,
                    "is not a rule: place=kill, kill:MS or sleep:MS, then @hit"
                );
            }
            rule
        })
        .collect()
}

fn parse_rule(text: &str) -> Option<Rule> {
    let (place, rest) = text.split_once('=')?;
    let (action, at) = match rest.split_once('@') {
        Some((action, at)) => (action, at.parse().ok().filter(|at| *at > 0)?),
        None => (rest, 1),
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        Some((name, ms)) => {
            let delay = Duration::from_millis(ms.parse().ok()?);
            match name {
                "kill" => Action::KillAfter(delay),
                "sleep" => Action::Sleep(delay),
                _ => return None,
            }
        }
        None => return None,
    };
    let place = PLACES.iter().chain(&BATCH_PLACES).find(|known| **known == place)?.to_string();
    Some(Rule { place, action, at, hits: AtomicU32::new(0) })
}

/// Ends the process as `kill -9` does.
fn kill() {
    // SAFETY: kill(2) and getpid(2) only take and return integers. No memory of this process is
    // touched.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    // The signal may take effect a moment later. Nothing more may happen here.
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_nonsense_is_left_out() {
        let check = |text: &str, expected: &[(&str, Action, u32)]| {
            let rules = parse(text);
            let found: Vec<_> = rules.iter().map(|rule| (rule.place.as_str(), rule.action, rule.at)).collect();
            assert_eq!(found, expected, "{text}");
        };
        let ms = Duration::from_millis;
        check("", &[]);
        check("before-put=kill", &[(BEFORE_PUT, Action::Kill, 1)]);
        check(
            "after-put=kill@3, checkpoint=kill:7 ,revoked=sleep:250@2",
            &[
                (AFTER_PUT, Action::Kill, 3),
                (CHECKPOINT, Action::KillAfter(ms(7)), 1),
                (REVOKED, Action::Sleep(ms(250)), 2),
            ],
        );
        for place in PLACES.into_iter().chain(BATCH_PLACES) {
            check(&format!("{place}=kill@2"), &[(place, Action::Kill, 2)]);
        }
        check("nowhere=kill,before-put=boom,before-put,before-put=kill@0,before-put=sleep:x", &[]);
    }

    #[test]
    fn nothing_happens_where_nothing_is_armed() {
        for place in PLACES.into_iter().chain(BATCH_PLACES) {
            hit(place);
        }
        assert!(!MAY_BE_ARMED.load(Ordering::Relaxed));
    }
}
