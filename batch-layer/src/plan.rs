//! What a run has to do. This is decided from facts alone, without a look at the lake.

use std::collections::BTreeMap;

use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use chrono::NaiveDate;
use serde::Serialize;

/// What is known before a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The newest versions of the tables that a run covers.
    pub newest: BTreeMap<String, u64>,
    /// The last published run.
    pub published: Option<Published>,
    /// Whether everything is to be computed, whatever has changed.
    pub is_full_wanted: bool,
    /// The raw tables with rows that the published run does not cover, and how many.
    pub new: BTreeMap<String, u64>,
    /// All rows of the raw tables.
    pub all_rows: u64,
}

/// What is known of the last published run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub run: i64,
    /// The versions that it covers and wrote.
    pub versions: BTreeMap<String, u64>,
    /// Whether this program computes by the same rules.
    pub is_current: bool,
    /// Whether the configuration that gives meanings is the same.
    pub is_same_meaning: bool,
    /// Whether the campaigns belong to the same advertisers.
    pub is_same_advertisers: bool,
    /// Whether the log still has all entries of the raw tables since the run.
    pub is_log_complete: bool,
}

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Plan {
    /// Nothing.
    Nothing {
        /// The published run, which is up to date.
        run: i64,
    },
    /// What new rows change is computed, and applied to the published tables.
    Incremental {
        /// The published run.
        run: i64,
        /// The raw tables with new rows.
        tables: Vec<String>,
    },
    /// Some days are computed anew, from the rows that the published run covers.
    Backfill {
        /// The published run.
        run: i64,
        /// The first day.
        from: NaiveDate,
        /// The last day.
        to: NaiveDate,
    },
    /// Everything is computed.
    Full {
        /// Why.
        why: Why,
    },
}

/// Why everything is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was asked for.
    Wanted,
    /// No run was published yet.
    First,
    /// Another version of adlake has published the last run, by other rules.
    OtherRules,
    /// The configuration gives events other meanings.
    OtherMeaning,
    /// Campaigns belong to other advertisers than before.
    OtherAdvertisers,
    /// Most rows are new, so that everything costs less than the changes.
    MostIsNew,
    /// Entries of a raw table's log were removed, so that it is not known which rows are new.
    LogRemoved,
}

impl Why {
    /// The reason in a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Why::Wanted => "it was asked for",
            Why::First => "no batch run was published yet",
            Why::OtherRules => "another version of adlake has published the last run, by other rules",
            Why::OtherMeaning => "the configuration gives events other meanings than in the last run",
            Why::OtherAdvertisers => "campaigns belong to other advertisers than in the last run",
            Why::MostIsNew => "most rows are new since the last run",
            Why::LogRemoved => "log entries since the last run were removed, so that it is not known what is new",
        }
    }
}

/// Changes by fewer rows are always computed as changes.
const FEW_ROWS: u64 = 1_000_000;

/// The tables whose versions a run covers. The run reads each at one version from beginning to end.
pub fn covered() -> Vec<&'static str> {
    let raw = EventKind::ALL.map(EventKind::raw_table);
    raw.into_iter().chain([catalogue::CREATIVES, catalogue::CAMPAIGNS, catalogue::FX_RATES]).collect()
}

/// Decides what a run does.
pub fn plan(facts: &Facts) -> Plan {
    let full = |why| Plan::Full { why };
    if facts.is_full_wanted {
        return full(Why::Wanted);
    }
    let Some(published) = &facts.published else { return full(Why::First) };
    if !published.is_current {
        return full(Why::OtherRules);
    }
    if !published.is_same_meaning {
        return full(Why::OtherMeaning);
    }
    if !published.is_same_advertisers {
        return full(Why::OtherAdvertisers);
    }
    if !published.is_log_complete {
        return full(Why::LogRemoved);
    }
    let tables: Vec<String> = facts.new.keys().cloned().collect();
    if tables.is_empty() {
        return Plan::Nothing { run: published.run };
    }
    let new_rows: u64 = facts.new.values().sum();
    if new_rows >= FEW_ROWS && new_rows > facts.all_rows / 3 * 2 {
        return full(Why::MostIsNew);
    }
    Plan::Incremental { run: published.run, tables }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let versions: BTreeMap<String, u64> = covered().into_iter().map(|table| (table.to_string(), 3)).collect();
        let published = Published {
            run: 7,
            versions: versions.clone(),
            is_current: true,
            is_same_meaning: true,
            is_same_advertisers: true,
            is_log_complete: true,
        };
        Facts {
            newest: versions,
            published: Some(published),
            is_full_wanted: false,
            new: BTreeMap::new(),
            all_rows: 12,
        }
    }

    #[test]
    fn a_run_does_what_has_changed() {
        assert_eq!(plan(&facts()), Plan::Nothing { run: 7 });
        let check = |change: fn(&mut Facts), expected: Plan| {
            let mut facts = facts();
            change(&mut facts);
            assert_eq!(plan(&facts), expected);
        };
        // A newer version alone does not count: it may be a compaction.
        let mut facts = facts();
        facts.newest.insert("raw/interactions".to_string(), 4);
        assert_eq!(plan(&facts), Plan::Nothing { run: 7 });
        let newer = |facts: &mut Facts, rows: u64| facts.new.insert("raw/interactions".to_string(), rows);
        newer(&mut facts, 5);
        assert_eq!(plan(&facts), Plan::Incremental { run: 7, tables: vec!["raw/interactions".to_string()] });
        newer(&mut facts, 8_000_000);
        facts.all_rows = 12_000_000;
        assert_eq!(plan(&facts), Plan::Incremental { run: 7, tables: vec!["raw/interactions".to_string()] });
        newer(&mut facts, 9_000_000);
        assert_eq!(plan(&facts), Plan::Full { why: Why::MostIsNew });
        // Creatives and rates are applied at ingest. Of campaigns only the advertisers count.
        check(
            |facts| {
                for table in [catalogue::CREATIVES, catalogue::CAMPAIGNS, catalogue::FX_RATES] {
                    facts.newest.insert(table.to_string(), 4);
                }
            },
            Plan::Nothing { run: 7 },
        );
        let full = |why| Plan::Full { why };
        check(|facts| facts.is_full_wanted = true, full(Why::Wanted));
        check(|facts| facts.published = None, full(Why::First));
        let published = |change: fn(&mut Published), why: Why| {
            let mut facts = super::tests::facts();
            facts.published.as_mut().into_iter().for_each(change);
            assert_eq!(plan(&facts), full(why));
        };
        published(|run| run.is_current = false, Why::OtherRules);
        published(|run| run.is_same_meaning = false, Why::OtherMeaning);
        published(|run| run.is_same_advertisers = false, Why::OtherAdvertisers);
        published(|run| run.is_log_complete = false, Why::LogRemoved);
    }
}
