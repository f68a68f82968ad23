//! Asks the server a dashboard's questions one after another, and DuckDB and ClickHouse the same in
//! SQL over the batch tables (`tests/setup/serve/beside.py`). The answers have to be equal.
//!
//! The server's times are its client's: they have HTTP and JSON in them, those of the peers none.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use adlake_tests::setup;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::batch::{Bench, Target};
use crate::program::median;
use crate::questions::{ask, question};

const QUESTIONS: usize = 12;
/// How often all campaigns are asked about, and how many single campaigns.
const REPEATS: usize = 7;
const FASTER: f64 = 5.0;
/// The question about reach: nobody's estimate is that of another.
const REACH: usize = 11;

/// Seconds of a question: about all campaigns, and about one.
type Seconds = [f64; 2];

/// Shows how much faster the server answers than each peer. Fails if an answer differs.
pub async fn peers(bench: &Bench, client: &reqwest::Client, base: &str, campaigns: &[String]) -> Result<()> {
    let some: Vec<&String> = campaigns.iter().step_by((campaigns.len() / REPEATS).max(1)).take(REPEATS).collect();
    let (mut ours, mut answers) = (Vec::new(), Vec::new());
    for number in 0..QUESTIONS {
        let asked = question(number);
        answers.push(ask(client, base, &asked).await?);
        let mut everything = Vec::new();
        for repeat in 0..REPEATS {
            // An answer that is given again is none that was computed, so each differs.
            let mut asked = asked.clone();
            asked["limit"] = json!(asked["limit"].as_u64().unwrap_or(1_000) + 1 + repeat as u64);
            everything.push(seconds(client, base, &asked).await?);
        }
        let mut one = Vec::new();
        for campaign in &some {
            let mut asked = asked.clone();
            asked["filters"] = json!(["=", "campaign_id", campaign]);
            one.push(seconds(client, base, &asked).await?);
        }
        ours.push([median(everything), median(one)]);
    }
    let asked = bench.program.path("asked.json");
    fs::write(&asked, json!({"campaigns": some, "repeats": REPEATS}).to_string())?;
    for (name, python) in [("duckdb", setup::python()?), ("chdb", setup::clickhouse()?)] {
        let theirs = answers_of(name, &python, &bench.program.path("lake"), &asked)?;
        for (number, (our, their)) in answers.iter().zip(&theirs).enumerate() {
            let equal = if number == REACH { same_impressions(our, their) } else { same(number, our, their) };
            ensure!(equal?, "question {number}: {name} has {their}, adlake has {our}");
        }
        show(name, &ours, &times(&theirs)?);
    }
    Ok(())
}

async fn seconds(client: &reqwest::Client, base: &str, asked: &Value) -> Result<f64> {
    let started = Instant::now();
    let answer = ask(client, base, asked).await?;
    let elapsed = started.elapsed().as_secs_f64();
    ensure!(answer["meta"]["source"] == "memory", "{asked} was not answered from memory");
    Ok(elapsed)
}

fn answers_of(name: &str, python: &Path, lake: &Path, asked: &Path) -> Result<Vec<Value>> {
    let script = setup::scripts().join("serve/beside.py");
    let mut command = Command::new(python);
    command.args(["-I", "-B"]).arg(script).arg(name).args([lake, asked]);
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(done.status.success(), "{name}: {}", done.status);
    let answers: Vec<Value> = serde_json::from_slice(&done.stdout)?;
    ensure!(answers.len() == QUESTIONS, "{name} answered {} questions", answers.len());
    Ok(answers)
}

fn times(answers: &[Value]) -> Result<Vec<Seconds>> {
    let of = |answer: &Value, scope: &str| -> Result<f64> {
        let times = answer[scope].as_array().context("no times")?;
        Ok(median(times.iter().filter_map(Value::as_f64).collect()))
    };
    answers.iter().map(|answer| Ok([of(answer, "all")?, of(answer, "one")?])).collect()
}

fn show(name: &str, ours: &[Seconds], theirs: &[Seconds]) {
    println!("  {name}: ms of each question, all campaigns and one (adlake's in brackets)");
    for (number, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let [all, one] = [0, 1].map(|scope| format!("{:.1} ({:.1})", their[scope] * 1e3, our[scope] * 1e3));
        println!("    {number:>2}{all:>18}{one:>18}");
    }
    for (scope, what) in ["all campaigns", "one campaign"].iter().enumerate() {
        let sum = |of: &[Seconds]| of.iter().map(|seconds| seconds[scope]).sum::<f64>();
        let least = ours.iter().zip(theirs).map(|(our, their)| their[scope] / our[scope]).fold(f64::MAX, f64::min);
        println!(
            "    {what}, all twelve: {}",
            Target::at_least("times faster", sum(theirs) / sum(ours), FASTER).text()
        );
        println!("    {what}, the closest question: {}", Target::at_least("times faster", least, FASTER).text());
    }
}

/// Whether the rows are equal. Those of a comparison stand one below the other in the peer's.
fn same(number: usize, our: &Value, their: &Value) -> Result<bool> {
    let columns = our["columns"].as_array().context("no columns")?;
    let kinds: Vec<&str> = columns.iter().filter_map(|column| column["type"].as_str()).collect();
    let list = |rows: &Value| rows.as_array().cloned().context("no rows");
    let (mut ours, mut theirs) = (list(&our["rows"])?, list(&their["rows"])?);
    if number == 0 {
        ours.extend(list(&our["compare"]["rows"])?);
        for row in &mut theirs {
            row.as_array_mut().context("no row")?.remove(0);
        }
    }
    // Without an order, each has its own.
    if question(number)["order"].is_null() && ours.len() > 2 {
        ours.sort_by_key(|row| row[0].to_string());
        theirs.sort_by_key(|row| row[0].to_string());
    }
    let equal = |our: &Value, their: &Value| {
        kinds.iter().enumerate().all(|(at, kind)| is_equal(kind, &our[at], &their[at]))
            && their.as_array().is_some_and(|row| row.len() == kinds.len())
    };
    Ok(ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(our, their)| equal(our, their)))
}

fn same_impressions(our: &Value, their: &Value) -> Result<bool> {
    let impressions = our["rows"][0][2].as_i64().context("no impressions")?;
    Ok(whole(&their["rows"][0][1]) == Some(impressions.into()))
}

/// Whether a value of adlake's is a peer's. Peers have money in micros and times in seconds.
fn is_equal(kind: &str, our: &Value, their: &Value) -> bool {
    match kind {
        _ if our.is_null() || their.is_null() => our.is_null() && their.is_null(),
        "integer" => whole(our).is_some() && whole(our) == whole(their),
        "decimal" => {
            let micros = our.as_str().and_then(|text| text.replace('.', "").parse::<i128>().ok());
            micros.is_some() && micros == whole(their)
        }
        "number" => match (our.as_f64(), their.as_f64()) {
            (Some(our), Some(their)) => (our - their).abs() <= 1e-9 * our.abs(),
            _ => false,
        },
        "time" => {
            let time = our.as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
            time.is_some_and(|time| whole(their) == Some(time.timestamp().into()))
        }
        _ => our == their,
    }
}

/// A whole number, or the text of one.
fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_str()?.parse().ok())
}
