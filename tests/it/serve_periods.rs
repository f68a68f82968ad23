//! Ranges, buckets, zones and comparisons of `adlake serve`, and its addresses for one campaign:
//! each answer is what the rows of `adlake query` add up to, by a calendar of this test's own.

mod calendar;
mod hours;
mod invalid;

use std::collections::BTreeMap;
use std::path::Path;

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Timelike, Utc};
use chrono_tz::{Africa, America, Europe, Tz};
use serde_json::{Value, json};

use self::calendar::{Grain, How, before, bucket, buckets, midnight};
use self::hours::{Hours, METRICS, Sums, cells, micros, nanos};
use crate::serve::{Server, config};

/// The key of a group: its bucket and its campaign.
type Key = (Option<DateTime<Utc>>, Option<String>);

/// The zones whose days are asked for. In Cairo clocks change at midnight, so a day has none.
const ZONES: [Tz; 4] = [Tz::UTC, Europe::Berlin, America::New_York, Africa::Cairo];

/// Two years whose clocks change, and the last days. Half of it is published, half has come since.
fn fill(adlake: &Adlake, folder: &Path) -> Result<()> {
    let recent = (Utc::now() - TimeDelta::days(12)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let parts = [
        ("2024-03-15", "48", "5000"),
        ("2025-03-15", "48", "5000"),
        ("2024-10-20", "20", "3000"),
        ("2025-10-18", "22", "3000"),
        (recent.as_str(), "12", "3000"),
    ];
    for (place, (start, days, events)) in parts.into_iter().enumerate() {
        let (name, seed) = (format!("part{place}"), (place + 1).to_string());
        let generate = ["generate", "--to-files", &name, "--seed", &seed, "--events", events, "--start", start];
        let world = ["--days", days, "--campaigns", "6", "--ctr", "0.2", "--cvr", "0.5", "--users", "400", "--quiet"];
        adlake.ok([&generate[..], &world].concat());
        if place == 0 {
            for kind in ["creatives", "campaigns"] {
                adlake.ok(["ref", "load", kind, &format!("{name}/{kind}.csv"), "--quiet"]);
            }
        }
        adlake.ok(["ingest", "files", &format!("{name}/events"), "--quiet"]);
        if place == 2 {
            invalid::ingest(adlake, folder, "small")?;
            adlake.ok(["batch", "run", "--quiet"]);
        }
    }
    invalid::ingest(adlake, folder, "small-since")
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_buckets_and_comparisons_are_those_of_the_calendar() -> Result<()> {
    for report_zone in ["UTC", "Europe/Berlin"] {
        let folder = tempfile::tempdir()?;
        let more = format!("[report]\ntime_zone = \"{report_zone}\"\n");
        let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), &more));
        fill(&adlake, folder.path())?;
        let hours = Hours::of(&adlake)?;
        let server = Server::start(adlake).await?;
        let mut asked = 0;
        for zone in ZONES {
            for (from, to) in [
                ("2025-03-27", "2025-04-03"),
                ("2025-04-20", "2025-04-29"),
                ("2025-10-24", "2025-11-04"),
                ("2025-03-30", "2025-03-31"),
            ] {
                let range = (from.parse()?, to.parse()?);
                for grain in [None, Some(Grain::Day), Some(Grain::Week), Some(Grain::Month)] {
                    check_buckets(&server, &hours, zone, range, grain).await?;
                    for how in How::ALL {
                        check_comparison(&server, &hours, zone, range, grain, how).await?;
                        asked += 1;
                    }
                }
            }
        }
        check_to_date(&server, &hours).await?;
        refusals(&server).await?;
        if report_zone == "UTC" {
            shortcuts(&server, &hours).await?;
        }
        println!("{report_zone}: {asked} comparisons");
    }
    Ok(())
}

fn question(zone: Tz, (from, to): (NaiveDate, NaiveDate), grain: Option<Grain>, grouped: bool) -> Value {
    let dimensions = if grouped { json!(["campaign_id"]) } else { json!([]) };
    json!({"metrics": METRICS, "dimensions": dimensions, "totals": true, "limit": 10_000,
           "time": {"range": [from.to_string(), to.to_string()], "zone": zone.name(), "grain": grain.map(Grain::name)}})
}

/// The rows of an answer by their keys.
fn keyed(rows: &Value, grain: Option<Grain>, grouped: bool) -> Result<BTreeMap<Key, Sums>> {
    let mut all = BTreeMap::new();
    for row in rows.as_array().context("no rows")? {
        let (key, sums) = key_of(row, grain, grouped)?;
        ensure!(all.insert(key, sums).is_none(), "{row} is there twice");
    }
    Ok(all)
}

fn key_of(row: &Value, grain: Option<Grain>, grouped: bool) -> Result<(Key, Sums)> {
    let row = row.as_array().context("no row")?;
    let mut cells_of_row = row.iter();
    let mut next = || cells_of_row.next().context("a short row");
    let time = match grain {
        Some(_) => Some(next()?.as_str().context("no time")?.parse()?),
        None => None,
    };
    let campaign = if grouped { next()?.as_str().map(String::from) } else { None };
    Ok(((time, campaign), cells(&row[row.len() - METRICS.len()..])?))
}

async fn check_buckets(
    server: &Server,
    hours: &Hours,
    zone: Tz,
    range: (NaiveDate, NaiveDate),
    grain: Option<Grain>,
) -> Result<()> {
    let ends = (midnight(range.0, zone), midnight(range.1, zone));
    for grouped in [false, true] {
        let asked = question(zone, range, grain, grouped);
        let answer = server.ask(&asked).await?;
        let expected = hours.sums(ends, |hour| {
            (grain.map(|grain| bucket(hour.at, grain, zone)), hour.campaign.clone().filter(|_| grouped))
        });
        ensure!(expected.len() > usize::from(grouped), "nothing is asked: {asked}");
        let found = keyed(&answer["rows"], grain, grouped)?;
        ensure!(found == expected, "{asked}: {found:?} is not {expected:?}");
        let totals = answer["totals"].as_array().context("no totals")?;
        let total = hours.sums(ends, |_| ()).remove(&()).unwrap_or_default();
        ensure!(cells(&totals[totals.len() - METRICS.len()..])? == total, "{asked}: {totals:?} is not {total:?}");
    }
    // All buckets of the range, those without events too, in their order.
    if let Some(grain) = grain {
        let mut asked = question(zone, range, Some(grain), false);
        asked["time"]["fill"] = json!(true);
        let answer = server.ask(&asked).await?;
        let mut starts = Vec::new();
        for row in answer["rows"].as_array().context("no rows")? {
            starts.push(key_of(row, Some(grain), false)?.0.0.context("no bucket")?);
        }
        let expected = buckets(range, grain, zone);
        ensure!(starts == expected, "{asked}: {starts:?} is not {expected:?}");
    }
    Ok(())
}

async fn check_comparison(
    server: &Server,
    hours: &Hours,
    zone: Tz,
    range: (NaiveDate, NaiveDate),
    grain: Option<Grain>,
    how: How,
) -> Result<()> {
    let mut asked = question(zone, range, grain, true);
    asked["compare"] = json!(how.name());
    let answer = server.ask(&asked).await?;
    let compare = &answer["compare"];
    let moved = |date: NaiveDate| before(date, how, range);
    let ends = (midnight(moved(range.0)?, zone), midnight(moved(range.1)?, zone));
    ensure!(instants(&compare["range"])? == ends, "{asked}: {} is not {ends:?}", compare["range"]);
    let own = (midnight(range.0, zone), midnight(range.1, zone));
    ensure!(instants(&compare["to_date"])? == own, "{asked}: {}", compare["to_date"]);
    let then = hours.sums(ends, |hour| (grain.map(|grain| bucket(hour.at, grain, zone)), hour.campaign.clone()));
    let rows = answer["rows"].as_array().context("no rows")?;
    let others = compare["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == others.len() && compare["current"] == answer["rows"], "{asked}: {compare}");
    for (row, other) in rows.iter().zip(others) {
        let ((time, campaign), _) = key_of(row, grain, true)?;
        let earlier = match (time, grain) {
            (Some(time), Some(grain)) => {
                Some(bucket(midnight(moved(time.with_timezone(&zone).date_naive())?, zone), grain, zone))
            }
            _ => None,
        };
        let expected = then.get(&(earlier, campaign)).copied();
        let found = if other.is_null() { None } else { Some(key_of(other, grain, true)?.1) };
        ensure!(found == expected, "{asked}: {row} is compared with {other}, not {expected:?}");
    }
    let totals = compare["totals"].as_array().context("no totals")?;
    let total = hours.sums(ends, |_| ()).remove(&()).unwrap_or_default();
    ensure!(cells(&totals[totals.len() - METRICS.len()..])? == total, "{asked}: {totals:?} is not {total:?}");
    Ok(())
}

fn instants(range: &Value) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    let at = |place: usize| -> Result<DateTime<Utc>> { Ok(range[place].as_str().context("no time")?.parse()?) };
    Ok((at(0)?, at(1)?))
}

/// A week that is still running is compared with as much of the one before.
async fn check_to_date(server: &Server, hours: &Hours) -> Result<()> {
    let today = Utc::now().date_naive();
    let week = Days::new(6);
    let range = (today - week, today + Days::new(1));
    for how in How::ALL {
        let mut asked = question(Tz::UTC, range, None, true);
        asked["compare"] = json!(how.name());
        let answer = server.ask(&asked).await?;
        let compare = &answer["compare"];
        let as_of: DateTime<Utc> = answer["meta"]["as_of"].as_str().context("no time")?.parse()?;
        let now = as_of.date_naive().and_hms_opt(as_of.hour(), 0, 0).context("no hour")?.and_utc();
        // If a day has begun since, the range is over.
        let over = now.min(midnight(range.1, Tz::UTC));
        let from = midnight(range.0, Tz::UTC);
        ensure!(instants(&compare["to_date"])? == (from, over), "{how:?}: {compare} at {now}");
        let moved = |at: DateTime<Utc>| -> Result<DateTime<Utc>> {
            Ok(midnight(before(at.date_naive(), how, range)?, Tz::UTC) + (at - midnight(at.date_naive(), Tz::UTC)))
        };
        let ends = (moved(from)?, moved(over)?);
        ensure!(instants(&compare["range"])? == ends, "{how:?}: {compare} at {now}");
        let by_campaign = |ends| hours.sums(ends, |hour| hour.campaign.clone());
        let (then, current) = (by_campaign(ends), by_campaign((from, over)));
        let rows = answer["rows"].as_array().context("no rows")?;
        ensure!(rows.len() > 3, "{answer}");
        for (place, row) in rows.iter().enumerate() {
            let ((_, campaign), _) = key_of(row, None, true)?;
            for (name, figures) in [("rows", &then), ("current", &current)] {
                let other = &compare[name][place];
                let found = if other.is_null() { None } else { Some(key_of(other, None, true)?.1) };
                ensure!(found == figures.get(&campaign).copied(), "{how:?} {name}: {other} for {campaign:?}");
            }
        }
    }
    Ok(())
}

/// Zones whose days do not begin with an hour of the report zone are refused, whatever asks.
async fn refusals(server: &Server) -> Result<()> {
    for zone in ["Asia/Kathmandu", "Canada/Newfoundland", "Asia/Kolkata"] {
        let time = json!({"range": ["2025-03-27", "2025-04-03"], "grain": "week", "zone": zone});
        let response = server.post(&json!({"metrics": ["clicks"], "time": time}), None, &[]).await?;
        let (status, problem) = Server::problem(response).await?;
        ensure!(status == 422 && problem["code"] == "bad_zone", "{zone}: {status} {problem}");
        let path = format!("/v1/campaigns/all/timeseries?grain=day&zone={zone}");
        let (status, problem) = Server::problem(server.get(&path, None).await?).await?;
        ensure!(status == 422 && problem["code"] == "bad_zone", "{zone}: {status} {problem}");
    }
    Ok(())
}

/// The addresses below a campaign, with and without a range.
async fn shortcuts(server: &Server, hours: &Hours) -> Result<()> {
    let get = async |path: &str| -> Result<Value> {
        let (status, answer) = Server::json(server.get(path, None).await?).await?;
        ensure!(status == 200, "{path}: {status} {answer}");
        Ok(answer)
    };
    let campaigns = hours.campaigns();
    ensure!(campaigns.len() > 3, "{campaigns:?}");
    for (parameters, condition) in [
        (String::new(), "true".to_owned()),
        (
            "from=2025-03-27&to=2025-04-03".to_owned(),
            "{} >= '2025-03-27T00:00:00Z' AND {} < '2025-04-03T00:00:00Z'".to_owned(),
        ),
    ] {
        for id in campaigns.iter().take(3).map(String::as_str).chain(["all"]) {
            let path = |below: &str| format!("/v1/campaigns/{id}{below}?{parameters}");
            let is_own = |column: &str| if id == "all" { "true".into() } else { format!("{column} = '{id}'") };
            let within = |column: &str| condition.replace("{}", column);
            let all = get(&path("")).await?;
            let columns = all["columns"].as_array().context("no columns")?;
            let additive: Vec<(usize, &str)> = columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column["type"] != "number")
                .filter_map(|(place, column)| Some((place, column["name"].as_str()?)))
                .filter(|(_, name)| *name != "reach")
                .collect();
            ensure!(additive.len() > 25, "{columns:?}");
            let sums: Vec<String> =
                additive.iter().map(|(_, name)| format!("CAST(sum({name}) AS VARCHAR) AS {name}")).collect();
            let (own, hour) = (is_own("campaign_id"), within("hour"));
            let from = format!("FROM campaign_hourly WHERE {own} AND {hour}");
            let expected = server.adlake.query_json(&format!("SELECT {} {from}", sums.join(", "))).remove(0);
            for (place, name) in &additive {
                let (found, expected) = (&all["rows"][0][*place], &expected[*name]);
                ensure!(nanos(found)? == nanos(expected)?, "{} {name}: {found} is not {expected}", path(""));
            }

            // The funnel, and the rates from stage to stage.
            let funnel = get(&path("/funnel")).await?;
            let mut last: Option<i64> = None;
            for (stage, sum) in [
                ("bids", "bids"),
                ("wins", "wins"),
                ("impressions", "impressions"),
                ("viewable", "viewable_impressions"),
                ("clicks", "clicks"),
                ("conversions", "conversions"),
            ] {
                let found = funnel["stages"].as_array().into_iter().flatten().find(|found| found["stage"] == stage);
                let found = found.with_context(|| format!("no stage {stage}: {funnel}"))?;
                let count = i64::try_from(nanos(&expected[sum])? / 1_000_000_000)?;
                ensure!(found["events"] == count, "{} {stage}: {found} is not {count}", path("/funnel"));
                let rate = last.filter(|last| *last != 0).map(|last| count as f64 / last as f64);
                // The reader of JSON rounds the last digit as it likes.
                let is_rate = match (found["rate"].as_f64(), rate) {
                    (Some(found), Some(rate)) => (found - rate).abs() < 1e-12,
                    (found, rate) => found.is_none() && rate.is_none(),
                };
                ensure!(is_rate, "{} {stage}: {found} is not {rate:?}", path("/funnel"));
                last = Some(count);
            }

            // The models side by side.
            let models = get(&path("/attribution")).await?;
            let rows = models["rows"].as_array().context("no rows")?;
            ensure!(rows.len() == 5, "{models}");
            for row in rows {
                let model = row[0].as_str().context("no model")?;
                for (place, what) in [(1, "conversions"), (2, "revenue")] {
                    let expected = &expected[&format!("attributed_{what}_{model}")];
                    ensure!(nanos(&row[place])? == nanos(expected)?, "{id} {what} {row} is not {expected}");
                }
            }

            let (own, day) = (is_own("campaign_id"), within("day"));
            let answer = get(&path("/invalid_traffic")).await?;
            invalid::check(&server.adlake, &answer, &format!("{own} AND {day}"), !parameters.is_empty())?;

            // By country and region.
            let places = get(&path("/geography")).await?;
            let sql = format!(
                "SELECT country, region, CAST(sum(impressions) AS VARCHAR) AS impressions, CAST(sum(spend) AS VARCHAR) \
                 AS spend {from} GROUP BY country, region"
            );
            let mut expected = BTreeMap::new();
            for row in server.adlake.query_json(&sql) {
                let place = (row["country"].as_str().map(String::from), row["region"].as_str().map(String::from));
                expected.insert(place, (nanos(&row["impressions"])?, nanos(&row["spend"])?));
            }
            let mut found = BTreeMap::new();
            for row in places["rows"].as_array().context("no rows")? {
                let place = (row[0].as_str().map(String::from), row[1].as_str().map(String::from));
                found.insert(place, (nanos(&row[2])?, nanos(&row[5])?));
            }
            ensure!(found == expected && found.len() > 5, "{}: {found:?} is not {expected:?}", path("/geography"));

            // The time from the last touch to the conversion.
            let delays = get(&path("/time_to_conversion")).await?;
            let (own, time) = (is_own("touchpoint_campaign_id"), within("interaction_time"));
            let sql = format!(
                "SELECT CAST(seconds_between AS VARCHAR) AS seconds FROM attributions WHERE interaction_type = \
                 'conversion' AND last_touch AND {own} AND {time}"
            );
            let mut seconds = Vec::new();
            for row in server.adlake.query_json(&sql) {
                seconds.push(micros(&row["seconds"])?);
            }
            let mut counted = 0;
            for bucket in delays["buckets"].as_array().context("no buckets")? {
                let end = |name: &str| bucket[name].as_i64().map(|seconds| i128::from(seconds) * 1_000_000);
                let (from, to) = (end("from_seconds").context("no beginning")?, end("to_seconds"));
                let expected = seconds.iter().filter(|at| **at >= from && to.is_none_or(|to| **at < to)).count();
                ensure!(bucket["conversions"] == expected, "{}: {bucket} is not {expected}", path(""));
                counted += expected;
            }
            ensure!(counted == seconds.len() && (id != "all" || counted > 3), "{counted} of {}", seconds.len());
        }
    }
    series(server, hours).await
}

/// The time series of a campaign in days and weeks of a zone, without gaps.
async fn series(server: &Server, hours: &Hours) -> Result<()> {
    let range: (NaiveDate, NaiveDate) = ("2025-10-18".parse()?, "2025-11-06".parse()?);
    for zone in ZONES {
        for grain in [Grain::Day, Grain::Week, Grain::Month] {
            for id in hours.campaigns().into_iter().take(3) {
                let path = format!(
                    "/v1/campaigns/{id}/timeseries?metrics={}&grain={}&zone={}&from={}&to={}",
                    METRICS.join(","),
                    grain.name(),
                    zone.name(),
                    range.0,
                    range.1
                );
                let (status, answer) = Server::json(server.get(&path, None).await?).await?;
                ensure!(status == 200, "{path}: {status} {answer}");
                let ends = (midnight(range.0, zone), midnight(range.1, zone));
                let own = hours.sums(ends, |hour| (hour.campaign.clone(), bucket(hour.at, grain, zone)));
                let expected: Vec<(DateTime<Utc>, Sums)> = buckets(range, grain, zone)
                    .into_iter()
                    .map(|start| (start, own.get(&(Some(id.clone()), start)).copied().unwrap_or_default()))
                    .collect();
                let mut found = Vec::new();
                for row in answer["rows"].as_array().context("no rows")? {
                    let ((time, _), sums) = key_of(row, Some(grain), false)?;
                    found.push((time.context("no bucket")?, sums));
                }
                ensure!(found == expected, "{path}: {found:?} is not {expected:?}");
            }
        }
    }
    Ok(())
}
