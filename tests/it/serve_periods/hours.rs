//! The rows of `campaign_hourly`, as `adlake query` shows them.

use std::collections::{BTreeMap, BTreeSet};

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// The metrics of the questions.
pub const METRICS: [&str; 5] = ["impressions", "clicks", "conversions", "spend", "revenue"];

/// Their sums, in billionths.
pub type Sums = [i128; METRICS.len()];

/// An hour of a campaign.
pub struct Hour {
    pub at: DateTime<Utc>,
    pub campaign: Option<String>,
    sums: Sums,
}

/// All hours of all campaigns.
pub struct Hours(Vec<Hour>);

impl Hours {
    pub fn of(adlake: &Adlake) -> Result<Hours> {
        let sums = METRICS.map(|name| format!("CAST(sum({name}) AS VARCHAR) AS {name}")).join(", ");
        let sql = format!("SELECT hour, campaign_id, {sums} FROM campaign_hourly GROUP BY hour, campaign_id");
        let mut hours = Vec::new();
        for row in adlake.query_json(&sql) {
            let mut sums = Sums::default();
            for (sum, name) in sums.iter_mut().zip(METRICS) {
                *sum = nanos(&row[name])?;
            }
            let at = row["hour"].as_str().context("no hour")?.parse()?;
            hours.push(Hour { at, campaign: row["campaign_id"].as_str().map(String::from), sums });
        }
        ensure!(hours.len() > 1_000, "{} hours", hours.len());
        Ok(Hours(hours))
    }

    /// The campaigns that are known.
    pub fn campaigns(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(|hour| hour.campaign.clone()).collect()
    }

    /// The sums of a range by keys.
    pub fn sums<K: Ord>(
        &self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        key: impl Fn(&Hour) -> K,
    ) -> BTreeMap<K, Sums> {
        let mut all: BTreeMap<K, Sums> = BTreeMap::new();
        for hour in self.0.iter().filter(|hour| hour.at >= from && hour.at < to) {
            let into = all.entry(key(hour)).or_default();
            into.iter_mut().zip(hour.sums).for_each(|(into, sum)| *into += sum);
        }
        all
    }
}

/// The cells of the metrics of a row.
pub fn cells(row: &[Value]) -> Result<Sums> {
    let mut sums = Sums::default();
    ensure!(row.len() == sums.len(), "{row:?}");
    for (sum, cell) in sums.iter_mut().zip(row) {
        *sum = nanos(cell)?;
    }
    Ok(sums)
}

/// A number, as text or not, in billionths. No sum at all is zero.
pub fn nanos(value: &Value) -> Result<i128> {
    if value.is_null() {
        return Ok(0);
    }
    let text = value.as_str().map_or_else(|| value.to_string(), String::from);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    ensure!(fraction.len() <= 9, "{text} has more than nine digits");
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let whole: i128 = whole.parse().with_context(|| text.clone())?;
    let fraction: i128 = format!("{fraction:0<9}").parse().with_context(|| text.clone())?;
    Ok(whole * 1_000_000_000 + sign * fraction)
}

/// The same in millionths.
pub fn micros(value: &Value) -> Result<i128> {
    Ok(nanos(value)? / 1_000)
}
