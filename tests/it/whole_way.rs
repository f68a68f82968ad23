//! The whole system as users run it: generate, the real Kafka, ingest that is killed again and
//! again, and a batch run in the middle. Queries must equal the generator's truth, and other Delta
//! readers must see the same in every table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use adlake_domain::catalogue;
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::readers::{self, Seen};
use adlake_tests::s3::S3Server;
use adlake_tests::seed::seed;
use adlake_tests::wait;
use anyhow::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use tempfile::{TempDir, tempdir};

const DEADLINE: Duration = Duration::from_secs(120);
const KILLS: usize = 12;

/// A folder with a configuration that has topics of its own.
fn adlake(broker: &Broker) -> (TempDir, Adlake, [String; 3]) {
    let folder = tempdir().unwrap();
    let topics = ["impressions", "interactions", "bid_requests"].map(unique);
    let sources: String = ["impressions", "interactions", "bid_requests"]
        .iter()
        .zip(&topics)
        .map(|(kind, topic)| format!("[sources.{kind}]\ntopic = \"{topic}\"\n"))
        .collect();
    let config = format!(
        "[lake]\nuri = \"lake\"\n[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\n[ingest]\nflush_interval = \
         \"300ms\"\n{sources}",
        broker.bootstrap(),
        unique("group")
    );
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    (folder, adlake, topics)
}

pub fn number(value: &Value) -> i128 {
    // Decimals of money are compared in micros.
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let micros: i128 = format!("{fraction:0<6}")[..6].parse().unwrap();
    let whole: i128 = whole.parse().unwrap();
    if text.starts_with('-') { whole * 1_000_000 - micros } else { whole * 1_000_000 + micros }
}

/// Checks that `campaign_kpis` and `dead_letters` equal what the generator says it sent.
pub fn assert_truth(adlake: &Adlake, truth: &Value, moment: &str) {
    let rows = adlake.query_json("SELECT * FROM campaign_kpis");
    let found: BTreeMap<&str, &Map<String, Value>> =
        rows.iter().map(|row| (row["campaign_id"].as_str().unwrap(), row)).collect();
    let campaigns = truth["campaigns"].as_array().unwrap();
    assert!(!campaigns.is_empty());
    for campaign in campaigns {
        let id = campaign["campaign_id"].as_str().unwrap();
        let row = found.get(id).unwrap_or_else(|| panic!("{moment}: campaign {id} is not in campaign_kpis"));
        for column in [
            "impressions",
            "measurable_impressions",
            "viewable_impressions",
            "clicks",
            "conversions",
            "refunds",
            "gross_impressions",
            "gross_clicks",
            "gross_conversions",
            "bids",
            "wins",
            "unpriced_events",
            "view_time_ms",
        ] {
            assert_eq!(row[column].as_i64(), campaign[column].as_i64(), "{moment}: {column} of {id}");
        }
        let (reach, expected) = (row["reach"].as_i64().unwrap_or(0), campaign["reach"].as_i64().unwrap_or(0));
        // A sketch of more users than this is an estimate, with a standard error of 1.6%.
        let allowed = if expected > 4096 { expected * 7 / 100 } else { 0 };
        assert!((reach - expected).abs() <= allowed, "{moment}: reach of {id}: {reach}, not {expected}");
        let amounts = ["spend", "revenue", "gross_spend", "gross_revenue"];
        for (column, micros) in amounts.map(|column| (column, format!("{column}_micros"))) {
            assert_eq!(
                number(&row[column]),
                i128::from(campaign[micros].as_i64().unwrap()),
                "{moment}: {column} of {id}"
            );
        }
    }
    let mut rejected: BTreeMap<String, i64> = BTreeMap::new();
    for kind in ["impressions", "interactions", "bid_requests"] {
        for (reason, count) in truth[kind]["rejected"].as_object().unwrap() {
            *rejected.entry(reason.clone()).or_default() += count.as_i64().unwrap();
        }
    }
    let dead = adlake.query_json(
        "SELECT reason, count(*) AS n, count(DISTINCT source['topic'] || source['partition'] || '-' || \
         source['offset']) AS places \
         FROM dead_letters GROUP BY reason",
    );
    let found: BTreeMap<String, i64> =
        dead.iter().map(|row| (row["reason"].as_str().unwrap().to_owned(), row["n"].as_i64().unwrap())).collect();
    assert_eq!(found, rejected, "{moment}: dead letters");
    assert!(dead.iter().all(|row| row["n"] == row["places"]), "{moment}: a dead letter is there twice");
}

/// With the seeds 446733697 and 3893710840 (`ADLAKE_TEST_SEED` is 50 less), the last run ended
/// while the group still kept partitions for killed workers. `kafka_workers` tests that by itself.
#[test]
fn answers_equal_the_truth_though_ingest_is_killed_a_dozen_times() -> Result<()> {
    let broker = Broker::shared();
    let (folder, adlake, topics) = adlake(broker);
    for topic in &topics {
        broker.create_topic(topic, 4)?;
    }
    let seed = seed()? + 50;
    let generate = |more: &[&str]| {
        let mut line: Vec<String> =
            ["generate", "--events", "60000", "--truth", "truth", "--quiet"].map(String::from).to_vec();
        line.extend(["--seed".to_owned(), seed.to_string()]);
        line.extend(["--to-kafka", broker.bootstrap()].map(String::from));
        line.extend(more.iter().map(ToString::to_string));
        line
    };
    adlake.ok(generate(&["--reference-only"]));
    adlake.ok(["ref", "load", "creatives", "truth/creatives.csv", "--quiet"]);
    adlake.ok(["ref", "load", "campaigns", "truth/campaigns.csv", "--quiet"]);

    println!("whole way: {KILLS} kills, seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut generating = adlake.spawn(generate(&["--rate", "3000"]));
    let started = Instant::now();
    for kill in 0..KILLS {
        let mut ingest = adlake.spawn(["ingest", "kafka", "--quiet"]);
        let alive = Duration::from_millis(random.random_range(500..2500));
        let killed_at = Instant::now() + alive;
        wait::until(DEADLINE, "the moment to kill", || Instant::now() >= killed_at)?;
        if kill == KILLS / 2 {
            // On a busy machine, all earlier processes may have been killed before they committed
            // anything.
            wait::until(DEADLINE, "something in the middle", || {
                !adlake.query_json("SELECT * FROM campaign_kpis").is_empty()
            })?;
        }
        assert!(ingest.exited()?.is_none(), "ingest ended by itself: {}", ingest.logs());
        ingest.kill9()?;
        if kill == KILLS / 2 {
            adlake.ok(["batch", "run", "--full", "--quiet"]);
            assert!(!adlake.query_json("SELECT * FROM campaign_kpis").is_empty(), "a batch run has lost what came");
        }
    }
    let status = generating.wait_exit(DEADLINE)?;
    assert!(status.success(), "{}", generating.logs());
    println!("whole way: generated and killed for {:?}", started.elapsed());
    adlake.ok(["ingest", "kafka", "--until-end", "--quiet"]);

    let truth: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("truth/truth.json"))?)?;
    let sent = truth["records"].as_i64().unwrap();
    let landed = adlake.query_json("SELECT sum(raw_rows) AS n FROM freshness")[0]["n"].as_i64().unwrap()
        + adlake.query_json("SELECT count(*) AS n FROM dead_letters")[0]["n"].as_i64().unwrap();
    println!("whole way: {sent} records sent, {landed} landed, {KILLS} kills");
    assert_eq!(landed, sent, "records lost or doubled");
    assert_truth(&adlake, &truth, "before the last batch run");
    adlake.ok(["batch", "run", "--full", "--quiet"]);
    assert_truth(&adlake, &truth, "after the last batch run");
    every_reader_agrees(&folder.path().join("lake"));
    Ok(())
}

/// A lake behind an S3 API, filled from files and queried before and after a batch run.
#[test]
fn answers_equal_the_truth_on_s3() -> Result<()> {
    let server = S3Server::start()?;
    let folder = tempdir()?;
    let adlake = Adlake::in_dir(folder.path())
        .config(&format!("[lake]\nuri = \"{}\"\n", server.uri("lake")))
        .envs(server.environment());
    let seed = (seed()? + 51).to_string();
    adlake.ok(["generate", "--seed", &seed, "--events", "20000", "--to-files", "sent", "--quiet"]);
    for kind in ["creatives", "campaigns"] {
        adlake.ok(["ref", "load", kind, &format!("sent/{kind}.csv"), "--quiet"]);
    }
    let truth: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("sent/truth.json"))?)?;
    for moment in ["before a batch run", "read again"] {
        adlake.ok(["ingest", "files", "sent/events", "--quiet"]);
        assert_truth(&adlake, &truth, moment);
    }
    adlake.ok(["batch", "run", "--full", "--quiet"]);
    assert_truth(&adlake, &truth, "after a batch run");
    Ok(())
}

/// Opens every table of a lake that has rows of all kinds with Python deltalake, DuckDB and Polars.
/// Counts and sums must be the same. Returns them.
pub fn every_reader_agrees(lake: &Path) -> Vec<Seen> {
    let seen = as_every_reader_sees(lake);
    let filled = seen.iter().filter(|seen| seen.figures[readers::COUNT] != "0").count();
    assert!(filled >= 13, "only {filled} tables have rows");
    seen
}

/// The same of a lake in which tables may be empty.
pub fn as_every_reader_sees(lake: &Path) -> Vec<Seen> {
    let mut seen = Vec::new();
    for table in catalogue::tables() {
        let columns: &[&str] = match table.name {
            "raw/impressions" => &[
                "cost_micros",
                "view_time_ms",
                "enriched.cost_micros",
                "source.offset",
                "ad_creative_id",
                "user_id",
                "website",
                "user_agent",
                "ip",
                "attributes",
                "enriched.advertiser_id",
                "enriched.region",
                "source.topic",
            ],
            "raw/interactions" => &[
                "value",
                "enriched.value_micros",
                "campaign_id",
                "conversion_type",
                "impression_id",
                "currency",
                "enriched.country",
                "enriched.season",
            ],
            "raw/bid_requests" => &[
                "bid_price",
                "enriched.bid_price_micros",
                "imp_id",
                "site.domain",
                "device.ua",
                "device.geo.country",
                "enriched.device_type",
            ],
            "batch/impressions" => &["cost_micros", "campaign_id", "user_id", "website"],
            "batch/interactions" => &["value_micros"],
            "batch/bid_requests" => &["clearing_price_micros"],
            "batch/attributions" => &["seconds_between_micros", "credit_linear_billionths"],
            "raw/dead_letters" => &["kind", "reason", "detail", "format", "replay_outcome", "source.topic"],
            "batch/campaign_hourly" | "batch/campaign_rollup" => &["impressions", "cost_micros", "revenue_micros"],
            _ => &[],
        };
        let table = lake.join(table.name);
        let figures = readers::assert_agree(&table, columns);
        seen.push(Seen { table, figures });
    }
    seen
}

/// Required by the contract: done by hand, with Kafka's own console producer.
#[test]
fn a_duplicate_a_late_click_and_a_malformed_record_show_up_within_seconds() -> Result<()> {
    let broker = Broker::shared();
    let (_folder, adlake, topics) = adlake(broker);
    for topic in &topics {
        broker.create_topic(topic, 1)?;
    }
    let mut ingest = adlake.spawn(["ingest", "kafka", "--quiet"]);
    let impression = concat!(
        r#"{"impression_id":"i1","ad_creative_id":"k1","campaign_id":"c1","#,
        r#""user_id":"u1","timestamp":"2026-05-01T10:00:00Z","website":"example.com","cost_micros":1500}"#
    );
    broker.console_producer(&topics[0], &[impression, impression, r#"{"ad_creative_id":"#])?;
    // The record is sent long after the day of its impression: late events are never dropped.
    broker.console_producer(&topics[1], &["2026-05-01T10:00:30Z,u1,c1,click"])?;
    let sent = Instant::now();
    let kpis = || {
        adlake.query_json(
            "SELECT impressions, clicks, ctr, spend, reach, seconds_to_click FROM campaign_kpis WHERE \
            campaign_id = 'c1'",
        )
    };
    let complete =
        |rows: &[Map<String, Value>]| rows.first().is_some_and(|row| row["clicks"] == 1 && row["impressions"] == 1);
    wait::until(Duration::from_secs(30), "the impression and its click", || complete(&kpis()))?;
    println!("by hand: visible {:?} after it was sent", sent.elapsed());
    // It takes three seconds on an idle machine. Other tests run beside this one.
    assert!(sent.elapsed() < Duration::from_secs(10), "visible only after {:?}", sent.elapsed());
    let check = |moment: &str| {
        let row = &kpis()[0];
        assert_eq!((row["impressions"].as_i64(), row["reach"].as_i64()), (Some(1), Some(1)), "{moment}");
        assert_eq!((row["ctr"].as_f64(), number(&row["seconds_to_click"])), (Some(1.0), 30_000_000), "{moment}");
        assert_eq!(number(&row["spend"]), 1500, "{moment}");
        let dead = adlake.query_json("SELECT reason, arrow_cast(payload, 'Utf8') AS payload FROM dead_letters");
        assert_eq!(dead.len(), 1, "{moment}");
        assert_eq!(dead[0]["payload"], r#"{"ad_creative_id":"#, "{moment}");
        assert_eq!(dead[0]["reason"], "invalid_json", "{moment}");
    };
    check("before any batch run");
    adlake.ok(["batch", "run", "--full", "--quiet"]);
    check("after a batch run");
    ingest.sigterm()?;
    let status = ingest.wait_exit(DEADLINE)?;
    assert_eq!(status.code(), Some(0), "{}", ingest.logs());
    Ok(())
}
