//! The benchmarks behind `docs/performance.md`: `make bench`, or `bench [WHAT ...] [--events N]
//! [--runs N]`.
//!
//! Every figure is a ratio of two things measured in the same run on the same machine. One is the
//! CPU seconds of the ingest process, or of a batch run. The other is those of the [`ceiling`], of
//! the same ingest with more to do, of Spark on the same topic or the same tables, or of DuckDB on
//! the same files.

mod alarms;
mod batch;
mod batch_spark;
mod ceiling;
mod compare;
mod freshness;
mod ingest;
mod merge;
mod picture;
mod program;
mod questions;
mod serve;
mod serve_beside;
mod spark;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::ceiling::Format;

/// Measures something. The arguments are the number of events and the number of runs.
type Measure = fn(usize, usize) -> Result<()>;

/// The benchmarks: name, default number of events (or campaigns that are drawn), function.
const BENCHMARKS: [(&str, usize, Measure); 15] = [
    ("json", 20_000_000, |events, runs| ingest::beside_the_ceiling(Format::Json, events, runs)),
    ("csv", 5_000_000, |events, runs| ingest::beside_the_ceiling(Format::Csv, events, runs)),
    ("avro", 2_000_000, |events, runs| ingest::beside_the_ceiling(Format::Avro, events, runs)),
    ("compare", 5_000_000, compare::with_more_to_do),
    ("freshness", 1_200_000, freshness::from_produce_to_query),
    ("spark", 5_000_000, spark::beside_structured_streaming),
    ("merge", 10_000_000, merge::campaign_kpis),
    ("batch", 5_000_000, batch::beside_duckdb),
    ("batch-spark", 5_000_000, batch_spark::beside_spark),
    ("batch-sizes", 10_000_000, batch::cost_against_data),
    ("serve", 5_000_000, serve::under_load),
    ("batch-keys", 2_000_000, batch::cost_against_keys),
    ("alarms", 30_000_000, alarms::end_to_end),
    ("alarms-drawn", 100, alarms::beside_others),
    ("alarms-evaluation", 6_000_000, alarms::of_many_campaigns),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut wanted, mut events, mut runs) = (Vec::new(), None, 3);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments
                .next()
                .and_then(|text| text.parse::<usize>().ok())
                .with_context(|| format!("{argument} wants a number"))
        };
        match argument.as_str() {
            "--events" => events = Some(number()?),
            "--runs" => runs = number()?.max(1),
            name if BENCHMARKS.iter().any(|(known, ..)| *known == name) => wanted.push(argument),
            other => {
                let names: Vec<&str> = BENCHMARKS.iter().map(|(name, ..)| *name).collect();
                bail!("{other:?} is none of {}, --events N, --runs N", names.join(", "));
            }
        }
    }
    for (name, usual, measure) in BENCHMARKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(events.unwrap_or(usual), runs).with_context(|| format!("the benchmark {name}"))?;
        }
    }
    Ok(())
}
