//! Checks what must hold after the faults. It compares the tables with the topic, record by record
//! and byte by byte, and walks the history of the log.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde_json::Value;

use super::site::{DEAD_LETTERS, IMPRESSIONS, Site};
use super::traffic::user;

/// What was found. [`exactly_once`] creates it, and fails if it differs from what was sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub records: usize,
    pub rows: usize,
    pub dead_letters: usize,
    pub commits: usize,
    pub lost: usize,
    pub doubled: usize,
    pub changed: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records, {} rows, {} dead letters, {} commits, lost {}, doubled {}, changed {}",
            self.records, self.rows, self.dead_letters, self.commits, self.lost, self.doubled, self.changed
        )
    }
}

type Position = (i32, i64);

/// Checks that each record of the topic is in one table once, as it was sent, and that positions
/// grew with every commit, up to the topic's end.
pub async fn exactly_once(site: &Site, sent: u64) -> Result<Tally> {
    let mut expected = HashMap::new();
    for (partition, payloads) in site.broker.records(&site.topic)? {
        expected.extend(payloads.into_iter().zip(0_i64..).map(|(payload, offset)| ((partition, offset), payload)));
    }
    ensure!(expected.len() as u64 == sent, "{sent} records were sent, the topic holds {}", expected.len());

    let place = "source['partition'], source['offset']";
    let rows = site.raw.query(IMPRESSIONS, &format!("select {place}, user_id from t")).await?;
    let letters = format!("select {place}, encode(arrow_cast(payload, 'Binary'), 'hex') from t");
    let letters = site.raw.query(DEAD_LETTERS, &letters).await?;

    let mut tally =
        Tally { records: expected.len(), rows: rows.len(), dead_letters: letters.len(), ..Tally::default() };
    let mut found: HashMap<Position, usize> = HashMap::new();
    for (lines, is_row) in [(&rows, true), (&letters, false)] {
        for line in lines {
            let (position, text) = parse(line)?;
            *found.entry(position).or_default() += 1;
            let as_sent = expected.get(&position).is_some_and(|payload| match (user(payload), is_row) {
                (Some(user), true) => user == text,
                (None, false) => hex(payload) == text,
                _ => false,
            });
            tally.changed += usize::from(!as_sent);
        }
    }
    tally.lost = expected.keys().filter(|position| !found.contains_key(position)).count();
    tally.doubled = found.values().map(|times| times - 1).sum();

    let ends = site.broker.end_offsets(&site.topic)?;
    let mut history = positions(site, IMPRESSIONS).await?;
    tally.commits = history.commits;
    for (partition, end) in ends.into_iter().filter(|(_, end)| *end > 0) {
        let suffix = format!(":{}:{partition}", site.topic);
        let last = history.last.iter().find(|(application, _)| application.ends_with(&suffix)).map(|(_, last)| *last);
        ensure!(last == Some(end), "partition {partition} ends at {end}, the table at {last:?}");
    }
    history = positions(site, DEAD_LETTERS).await?;
    tally.commits += history.commits;
    if tally.lost + tally.doubled + tally.changed > 0 {
        let is_wrong = |position: &&Position| found.get(position) != Some(&1);
        let mut wrong: Vec<_> = expected.keys().filter(is_wrong).collect();
        wrong.sort();
        let text: Vec<String> = wrong
            .into_iter()
            .take(20)
            .map(|position| {
                let payload = String::from_utf8_lossy(&expected[position]);
                format!("{position:?}: {} times: {payload:?}", found.get(position).unwrap_or(&0))
            })
            .collect();
        bail!("{tally}\n{}", text.join("\n"));
    }
    Ok(tally)
}

fn parse(line: &str) -> Result<(Position, &str)> {
    let mut parts = line.splitn(3, ' ');
    let mut part = || parts.next().with_context(|| format!("not a position and a text: {line:?}"));
    let position = (part()?.parse()?, part()?.parse()?);
    Ok((position, part()?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct History {
    commits: usize,
    /// The last position of each application.
    last: BTreeMap<String, i64>,
}

/// Walks the log of a table. Every version must be there, and no position may stay equal or go
/// back.
async fn positions(site: &Site, table: &str) -> Result<History> {
    let store = site.store()?;
    let log = object_store::path::Path::from(format!("{table}/_delta_log"));
    let entries: Vec<_> = store.list(Some(&log)).try_collect().await?;
    let mut versions = BTreeMap::new();
    for entry in entries {
        let name = entry.location.filename().unwrap_or_default();
        if let Some(version) = name.strip_suffix(".json").and_then(|version| version.parse::<usize>().ok()) {
            versions.insert(version, entry.location);
        }
    }
    let mut history = History { commits: versions.len(), last: BTreeMap::new() };
    for (expected, (version, location)) in versions.into_iter().enumerate() {
        ensure!(version == expected, "{table}: version {expected} is missing");
        let bytes = store.get(&location).await?.bytes().await?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).with_context(|| format!("{table} version {version}"))?;
            let Some(transaction) = action.get("txn") else { continue };
            let application = transaction["appId"].as_str().context("a txn without appId")?.to_owned();
            let position = transaction["version"].as_i64().context("a txn without version")?;
            let before = history.last.insert(application.clone(), position);
            ensure!(
                before.is_none_or(|before| before < position),
                "{table} version {version}: {application} goes from {before:?} to {position}"
            );
        }
    }
    Ok(history)
}
