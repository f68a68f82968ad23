//! Invalid traffic of a campaign, beside the rows of the view.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::hours::nanos;

/// When impressions without a size are: at the first and the last moment of the range that is asked
/// for, and at the moments beside them.
const TIMES: [&str; 4] =
    ["2025-03-26T23:59:59.999Z", "2025-03-27T00:00:00Z", "2025-04-02T23:59:59.999Z", "2025-04-03T00:00:00Z"];
/// How often they are ingested.
const INGESTS: i128 = 2;

/// The events and their cost in billionths, by kind and reason.
type Sums = BTreeMap<(String, String), (i128, i128)>;

/// Ingests impressions without a size of the first campaigns.
pub fn ingest(adlake: &Adlake, folder: &Path, name: &str) -> Result<()> {
    let mut lines = String::new();
    for campaign in 0..3 {
        for (place, at) in TIMES.iter().enumerate() {
            let event = json!({"impression_id": format!("{name}-{campaign}-{place}"), "user_id": name,
                               "timestamp": at, "campaign_id": format!("c-{campaign:04}"),
                               "ad_creative_id": format!("cr-{campaign:04}-0"), "website": "small.example",
                               "cost_micros": 1_000 + 10 * campaign + place, "width": 0, "height": 250});
            writeln!(lines, "{event}")?;
        }
    }
    fs::create_dir(folder.join(name))?;
    fs::write(folder.join(name).join("impressions.ndjson"), lines)?;
    adlake.ok(["ingest", "files", name, "--quiet"]);
    Ok(())
}

/// Compares an answer with the rows of the view on which `condition` is true.
pub fn check(adlake: &Adlake, answer: &Value, condition: &str, is_cut: bool) -> Result<()> {
    let sql = format!(
        "SELECT kind, reason, CAST(sum(events) AS VARCHAR) AS events, CAST(sum(cost) AS VARCHAR) AS cost \
         FROM invalid_traffic WHERE {condition} GROUP BY kind, reason"
    );
    let mut expected = Sums::new();
    for row in adlake.query_json(&sql) {
        add(&mut expected, &row)?;
    }
    let mut found = Sums::new();
    for row in answer["reasons"].as_array().context("no reasons")? {
        add(&mut found, row.as_object().context("no row")?)?;
    }
    ensure!(found == expected, "{condition}: {found:?} is not {expected:?}");
    let sizes = found.get(&("impression".to_owned(), "zero_size".to_owned())).map_or(0, |(events, _)| *events);
    let times = if is_cut { 2 } else { TIMES.len() as i128 };
    ensure!(sizes >= INGESTS * times * 1_000_000_000, "{condition}: {found:?}");
    Ok(())
}

fn add(sums: &mut Sums, row: &Map<String, Value>) -> Result<()> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(String::from).with_context(|| format!("{row:?}"));
    let number = |name: &str| nanos(row.get(name).unwrap_or(&Value::Null));
    let before = sums.insert((text("kind")?, text("reason")?), (number("events")?, number("cost")?));
    ensure!(before.is_none(), "{row:?} is there twice");
    Ok(())
}
