//! Measures a full batch run beside Spark with Delta, which does most of the same work on the same
//! raw tables.
//!
//! `tests/setup/spark/batch.py` says what Spark leaves out. That only favours Spark. The start of
//! Spark is part of its time, as the start of adlake is part of adlake's.

use std::fs;
use std::time::Duration;

use adlake_tests::{readers, spark};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::batch::{Bench, Target, line, middle};
use crate::program::{Cost, median};
use crate::spark::measure_script;

/// How many times faster adlake has to be.
const TIMES: f64 = 5.0;

/// What Spark's tables must hold: a query whose columns are named as the figures of the table.
const ANSWERS: [(&str, &str); 5] = [
    ("impressions", "SELECT count(*) AS \"count(*)\" FROM impressions"),
    ("interactions", "SELECT (SELECT count(*) FROM clicks) + (SELECT count(*) FROM conversions) AS \"count(*)\""),
    ("bid_requests", "SELECT count(*) AS \"count(*)\" FROM bid_requests"),
    (
        "campaign_hourly",
        "SELECT sum(impressions) AS impressions, sum(clicks) AS clicks, sum(conversions) AS conversions, sum(wins) AS \
         wins, CAST(sum(spend) * 1000000 AS DECIMAL(38, 0)) AS cost_micros, CAST(sum(revenue) * 1000000 AS \
         DECIMAL(38, 0)) AS revenue_micros, CAST(sum(seconds_to_click) * 1000000 AS DECIMAL(38, 0)) AS \
         seconds_to_click_micros, CAST(sum(seconds_to_conversion) * 1000000 AS DECIMAL(38, 0)) AS \
         seconds_to_conversion_micros, CAST(sum(attributed_revenue_last_touch) * 1000000 AS DECIMAL(38, 0)) AS \
         attributed_revenue_last_touch_micros FROM campaign_hourly",
    ),
    (
        "campaign_hourly",
        "SELECT CAST(sum(clearing_price) * 1000000 AS DECIMAL(38, 0)) AS clearing_price_micros FROM bid_requests \
         WHERE won",
    ),
];

/// Full runs of adlake and Spark in turn, after which their answers must be equal.
pub fn beside_spark(events: usize, runs: usize) -> Result<()> {
    let bench = Bench::with_lake("batch-spark", events, runs)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let full = bench.batch_run("full")?;
        println!("{}", line(&format!("run {run}: full"), &full));
        let (spark, steps) = spark_run(&bench)?;
        println!("{}  seconds {steps}", line(&format!("run {run}: Spark"), &spark));
        ours.push(full);
        theirs.push(spark);
    }
    let equal = compare(&bench)?;
    let times = |of: fn(&Cost) -> Duration| -> f64 {
        median(ours.iter().zip(&theirs).map(|(our, their)| of(their).as_secs_f64() / of(our).as_secs_f64()).collect())
    };
    let (cpu, elapsed) = (times(|cost| cost.cpu), times(|cost| cost.elapsed));
    println!("{}", line("Spark, the median", &middle(theirs)));
    bench.show("full, the median", &middle(ours), Target::at_least("times less CPU-s than Spark", cpu, TIMES));
    println!("    {}", Target::at_least("times faster than Spark", elapsed, TIMES).text());
    println!("  all {equal} compared answers are equal");
    Ok(())
}

/// Computes Spark's tables anew. Returns what it costs, and the seconds of each step.
fn spark_run(bench: &Bench) -> Result<(Cost, String)> {
    let folder = bench.program.path("spark");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let mut command = spark::submit("batch.py", "4g", &folder)?;
    command.arg(bench.program.path("lake")).arg(folder.join("tables"));
    let (cost, steps) = measure_script(command, &folder)?;
    let steps: Value = serde_json::from_str(&steps).with_context(|| format!("Spark printed {steps}"))?;
    let steps = steps.as_object().context("no steps")?;
    Ok((cost, steps.iter().map(|(name, seconds)| format!("{name} {seconds}")).collect::<Vec<_>>().join(", ")))
}

/// Fails if Spark's tables hold something else than adlake answers. Returns how many figures are
/// equal.
fn compare(bench: &Bench) -> Result<usize> {
    let mut equal = 0;
    for (table, sql) in ANSWERS {
        bench.program.run(&["query", sql, "--format", "json"])?;
        let rows = bench.report()?;
        let row = rows[0].as_object().with_context(|| format!("no row for {sql}"))?;
        let columns: Vec<&str> = row.keys().map(String::as_str).filter(|name| *name != readers::COUNT).collect();
        let path = bench.program.path("spark/tables").join(table);
        for (reader, found) in readers::sums(&path, &columns)? {
            for (column, answer) in row {
                let (theirs, answer) = (found.get(column), answer.to_string());
                ensure!(
                    theirs == Some(&answer),
                    "{column} of {table}: adlake answers {answer}, Spark has written {theirs:?} ({reader})"
                );
            }
        }
        equal += row.len();
    }
    Ok(equal)
}
