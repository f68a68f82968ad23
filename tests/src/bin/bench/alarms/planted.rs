//! Faults in generated traffic, end to end.

use std::fs;

use adlake_domain::time::{DAY, HOUR};
use anyhow::{Context, Result};
use chrono::DateTime;
use serde_json::Value;

use super::{Fault, Score, Told, rules};
use crate::batch::{Target, line};
use crate::program::Program;

/// A Monday. From the first fault on there are Christmas and New Year's Day.
const START: &str = "2025-11-03";
const DAYS: i64 = 60;
const CAMPAIGNS: usize = 3;
/// The first day that is judged, as three weeks are the least baseline, and the first that is not:
/// the events end a little before the days do.
const JUDGED: (i64, i64) = (21, 58);
/// Budgets are not kept by design: some campaigns are ahead of theirs, and some behind.
const NOT_JUDGED: &str = "over_budget";
/// The day of the first fault, and the days from one to the next of a campaign.
const FIRST_DAY: f64 = 28.375;
const STEP_DAYS: f64 = 3.5;

/// What is planted into each campaign: its name, the incident with its length in hours, and the
/// rules that are meant to find it.
type Kind = (&'static str, &'static str, i64, &'static [&'static str]);
const KINDS: [Kind; 7] = [
    ("CTR falls by 10%", "ctr_drop,size=0.1", 24, &["ctr_drop"]),
    ("CTR falls by 20%", "ctr_drop,size=0.2", 24, &["ctr_drop"]),
    // Clicks become dearer too.
    ("CTR falls by 40%", "ctr_drop,size=0.4", 24, &["ctr_drop", "cpc_spike", "cpa_spike"]),
    ("a currency mistake: costs are twice as high", "cost_factor,size=2", 24, &["cpc_spike", "cpa_spike"]),
    ("a feed stops: no events", "silence", 6, &["ctr_drop", "conversions_silent"]),
    ("a feed stops: no clicks and conversions", "silence,kind=interactions", 6, SILENT),
    ("half of the records come twice", "duplicates,size=0.5", 24, &[]),
];
const SILENT: &[&str] = &["ctr_drop", "conversions_silent", "cpc_spike", "cpa_spike"];
/// What concerns all campaigns. Most sites send no user agent, shops do: the clicks of the robots
/// are known to be invalid, and most of their impressions are not, so the rate does fall.
const BOTS: &str = "a bot burst: a third of the opportunities";

/// Generates, ingests, runs a batch, and replays each rule.
pub fn end_to_end(events: usize, _runs: usize) -> Result<()> {
    let (start, faults, incidents) = story()?;
    let program = Program::new("[lake]\nuri = \"lake\"\n")?;
    let (count, campaigns, days) = (events.to_string(), CAMPAIGNS.to_string(), DAYS.to_string());
    let mut arguments = vec!["generate", "--to-files", "truth", "--events", &count, "--start", START, "--days", &days];
    arguments.extend(["--campaigns", &campaigns, "--users", "2000000", "--seasons"]);
    arguments.extend(["--kinds", "impressions,interactions"]);
    for incident in &incidents {
        arguments.extend(["--incident", incident.as_str()]);
    }
    program.run(&arguments)?;
    program.new_lake("lake")?;
    let ingest = program.run(&["ingest", "files", "truth/events"])?;
    fs::remove_dir_all(program.path("truth/events"))?;
    println!("alarms: {events} events of {DAYS} days from {START}, {CAMPAIGNS} campaigns, end to end");
    println!("{}", line("ingested", &ingest));
    println!("{}", line("the batch run", &program.run(&["batch", "run"])?));
    let all = rules()?;
    let mut told = Vec::new();
    let from = text(start + JUDGED.0 * DAY)?;
    let to = text(start + JUDGED.1 * DAY)?;
    for rule in all.iter().filter(|rule| rule.name != NOT_JUDGED) {
        program.run(&["alarms", "test", &rule.name, "--from", &from, "--to", &to, "--format", "json"])?;
        let rows: Value = serde_json::from_str(&fs::read_to_string(program.path("stdout"))?)?;
        for row in rows.as_array().context("no list of transitions")? {
            if row["told"] == true && row["state"] != "OK" {
                told.push(Told {
                    rule: rule.name.clone(),
                    campaign: row["group"]["campaign_id"].as_str().unwrap_or_default().to_owned(),
                    at: DateTime::parse_from_rfc3339(row["at"].as_str().context("no time")?)?.timestamp_micros(),
                });
            }
        }
    }
    show(&faults, &told)
}

fn show(faults: &[Fault], told: &[Told]) -> Result<()> {
    let mut score = Score::default();
    score.add(&rules()?, faults, told);
    score.print(|name| faults.iter().any(|fault| fault.name == name && !fault.rules.is_empty()));
    for wrong in &score.wrong {
        let at = text(wrong.at)?;
        println!("    told without a fault: {} of {} at {at}", wrong.rule, wrong.campaign);
    }
    let months = CAMPAIGNS as f64 * (JUDGED.1 - JUDGED.0) as f64 / 30.4;
    println!("  precision {:.3}: {} of {} were right", score.precision(), score.right, told.len());
    let wrong = score.wrong.len() as f64 / months;
    println!("  {}", Target::at_most("false alarms a campaign and month", wrong, 1.0).text());
    Ok(())
}

/// The start, the faults, and as `--incident` takes them.
fn story() -> Result<(i64, Vec<Fault>, Vec<String>)> {
    let start = DateTime::parse_from_rfc3339(&format!("{START}T00:00:00Z"))?.timestamp_micros();
    let (mut faults, mut incidents) = (Vec::new(), Vec::new());
    let begins = |slot: usize| start + ((FIRST_DAY + STEP_DAYS * slot as f64) * DAY as f64) as i64;
    for campaign in 0..CAMPAIGNS {
        let mut add = |name: &str, slot, hours: i64, rules| {
            let (from, to) = (begins(slot), begins(slot) + hours * HOUR);
            faults.push(Fault { name: name.to_owned(), campaign: Some(format!("c-{campaign:04}")), from, to, rules });
        };
        for (place, (name, incident, hours, rules)) in KINDS.into_iter().enumerate() {
            // Not all at the same time.
            let slot = (place + 3 * campaign) % KINDS.len();
            add(name, slot, hours, rules);
            let from = text(begins(slot))?;
            incidents.push(format!("{incident},campaign={campaign},from={from},for={hours}h"));
        }
        add(BOTS, KINDS.len(), 24, KINDS[2].3);
    }
    incidents.push(format!("bot_burst,size=0.33,from={},for=24h", text(begins(KINDS.len()))?));
    Ok((start, faults, incidents))
}

fn text(at: i64) -> Result<String> {
    let time = DateTime::from_timestamp_micros(at).context("no time")?;
    Ok(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
