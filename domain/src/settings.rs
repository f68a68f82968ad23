//! The configuration that gives events their meaning. What `Q` computes depends only on it and on
//! the rows.
//!
//! Every manifest stores the [`Meaning`] with its hash, and merged answers use the manifest's. So
//! the batch layer and the serving layer never use different meanings. [`Display`] only chooses
//! what is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::invalid::Invalid;
use crate::segments::Segments;

/// The revision of this program's rules. It is raised whenever the same rows and the same
/// [`Meaning`] give other batch tables, in rows or in columns. Batch tables of another revision are
/// not merged with newer rows.
pub const REVISION: i64 = 4;

/// Everything in the configuration that changes what the batch layer computes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meaning {
    /// How interactions are joined to touchpoints.
    pub attribution: Attribution,
    /// Which ids count as absent.
    pub identity: Identity,
    /// Which interactions are clicks, and which conversions count.
    pub conversions: Conversions,
    /// Which traffic is invalid.
    pub invalid: Invalid,
    /// The calendar of the reports.
    pub report: Report,
}

impl Meaning {
    /// Refuses what contradicts itself. The message names the key.
    pub fn check(&self) -> Result<(), String> {
        self.conversions.check()?;
        self.invalid.check()
    }

    /// Thirty-two hex digits. They are equal if and only if the configurations are.
    pub fn hash(&self) -> String {
        // serde_json writes struct fields in declaration order and sets in order, so the text is
        // canonical.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }
}

/// How interactions are joined to touchpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attribution {
    /// The longest time from an impression to a click that belongs to it.
    #[serde(with = "humantime_serde")]
    pub click_to_impression_window: Duration,
    /// The longest time from a click to a conversion that belongs to it.
    #[serde(with = "humantime_serde")]
    pub click_through_window: Duration,
    /// The longest time from an impression to a conversion without clicks that belongs to it.
    #[serde(with = "humantime_serde")]
    pub view_through_window: Duration,
    /// The half-life of the time decay model.
    #[serde(with = "humantime_serde")]
    pub half_life: Duration,
    /// The most touchpoints of a conversion that count. The latest ones do.
    pub touchpoints_max: usize,
    /// Whether touchpoints are matched by advertiser, by campaign, or not at all.
    pub scope: Scope,
}

impl Default for Attribution {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Attribution {
            click_to_impression_window: hours(24),
            click_through_window: hours(7 * 24),
            view_through_window: hours(24),
            half_life: hours(7 * 24),
            touchpoints_max: 100,
            scope: Scope::Auto,
        }
    }
}

/// What a conversion and its touchpoints must have in common beside the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The advertiser if `ref/campaigns` knows it, else the campaign.
    #[default]
    Auto,
    /// The advertiser only.
    Advertiser,
    /// The campaign only.
    Campaign,
    /// Nothing: every touchpoint of the user counts. For advertisers whose site conversions have no
    /// campaign. Clicks are still joined by campaign, and identity still uses the advertiser.
    Account,
}

/// Which ids count as absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Values that mean "no value", compared exactly.
    pub null_values: BTreeSet<String>,
}

impl Default for Identity {
    fn default() -> Self {
        let values = [
            "",
            "0",
            "-1",
            "null",
            "NULL",
            "none",
            "None",
            "nil",
            "undefined",
            "unknown",
            "Unknown",
            "UNKNOWN",
            "N/A",
            "n/a",
            "nan",
            "NaN",
            "(not set)",
            "-",
            "00000000-0000-0000-0000-000000000000",
            "00000000000000000000000000000000",
        ];
        Identity { null_values: values.into_iter().map(String::from).collect() }
    }
}

/// Which interactions are clicks, and which conversions count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conversions {
    /// Values of `conversion_type` that are clicks. Compared trimmed and lower-cased, as all types.
    pub click_types: BTreeSet<String>,
    /// Values of `conversion_type` that are primary. Empty: every type that is neither a click nor
    /// a refund.
    pub primary_types: BTreeSet<String>,
    /// Values of `conversion_type` that are refunds.
    pub refund_types: BTreeSet<String>,
    /// The longest time from a conversion to a refund of it.
    #[serde(with = "humantime_serde")]
    pub refund_window: Duration,
}

/// What an interaction is, by its `conversion_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InteractionType {
    /// A click.
    Click,
    /// A conversion. `is_primary`: it counts.
    Conversion {
        /// Whether the type is primary.
        is_primary: bool,
    },
    /// A refund: it takes back (a part of) the value of a conversion.
    Refund,
}

/// The types of interactions of a configuration, in a form in which they are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InteractionTypes {
    clicks: BTreeSet<String>,
    primary: BTreeSet<String>,
    refunds: BTreeSet<String>,
}

impl InteractionTypes {
    /// What a `conversion_type` stands for. NULL is the empty text.
    pub fn of(&self, conversion_type: &str) -> InteractionType {
        let name = normal(conversion_type);
        if self.clicks.contains(&name) {
            InteractionType::Click
        } else if self.refunds.contains(&name) {
            InteractionType::Refund
        } else {
            InteractionType::Conversion { is_primary: self.primary.is_empty() || self.primary.contains(&name) }
        }
    }
}

impl Conversions {
    /// The types, to be looked up.
    pub fn types(&self) -> InteractionTypes {
        let normal = |types: &BTreeSet<String>| types.iter().map(|name| normal(name)).collect();
        let [clicks, primary, refunds] = [&self.click_types, &self.primary_types, &self.refund_types].map(normal);
        InteractionTypes { clicks, primary, refunds }
    }

    /// Refuses a type that is in two lists.
    pub fn check(&self) -> Result<(), String> {
        let types = self.types();
        let lists = [
            ("conversions.click_types", &types.clicks),
            ("conversions.primary_types", &types.primary),
            ("conversions.refund_types", &types.refunds),
        ];
        for (place, (list, names)) in lists.iter().enumerate() {
            for (other, others) in &lists[place + 1..] {
                if let Some(name) = names.intersection(others).next() {
                    return Err(format!("{other}: {name:?} is in {list} too; a type can be in one of them only"));
                }
            }
        }
        Ok(())
    }
}

/// The name of a type as it is compared.
fn normal(conversion_type: &str) -> String {
    conversion_type.trim().to_lowercase()
}

impl Default for Conversions {
    fn default() -> Self {
        let types = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        Conversions {
            click_types: types(&["click"]),
            primary_types: BTreeSet::new(),
            refund_types: types(&["refund", "chargeback"]),
            refund_window: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// The calendar of the reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// The zone whose hours and days the cubes use.
    pub time_zone: chrono_tz::Tz,
}

impl Default for Report {
    fn default() -> Self {
        Report { time_zone: chrono_tz::Tz::UTC }
    }
}

/// Chooses which of the computed values are shown. A change takes effect at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Display {
    /// The model behind `attributed_conversions` and `attributed_revenue` without a suffix.
    pub default_model: crate::credit::Model,
    /// Where `spend` comes from.
    pub spend_source: SpendSource,
    /// The rules of `user_segments`.
    pub segments: Segments,
}

/// The source of `spend`. It is never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendSource {
    /// The impressions' `cost_micros`.
    #[default]
    Impressions,
    /// The clearing prices (CPM) of the won bids.
    Bids,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_changes_with_any_setting() {
        let plain = Meaning::default();
        let mut changed = plain.clone();
        changed.attribution.touchpoints_max = 99;
        assert_ne!(plain.hash(), changed.hash());
        assert_eq!(plain.hash(), Meaning::default().hash());
    }

    #[test]
    fn types_are_compared_trimmed_and_lower_cased() {
        let mut conversions = Conversions { primary_types: ["Purchase".to_string()].into(), ..Conversions::default() };
        let types = conversions.types();
        for (sent, expected) in [
            (" CLICK", InteractionType::Click),
            ("purchase ", InteractionType::Conversion { is_primary: true }),
            ("signup", InteractionType::Conversion { is_primary: false }),
            ("Chargeback", InteractionType::Refund),
        ] {
            assert_eq!(types.of(sent), expected, "{sent}");
        }
        assert_eq!(conversions.check(), Ok(()));
        conversions.click_types.insert("REFUND ".to_string());
        assert!(conversions.check().unwrap_err().contains("\"refund\" is in conversions.click_types too"));
    }

    #[test]
    fn survives_json() {
        let text = serde_json::to_string(&Meaning::default()).unwrap();
        assert_eq!(serde_json::from_str::<Meaning>(&text).unwrap(), Meaning::default());
    }
}
