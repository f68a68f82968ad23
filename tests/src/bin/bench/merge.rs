//! Measures the merged views over a published batch and a tail.

use std::fs;

use anyhow::Result;

use crate::program::{Program, median};

/// Measures `campaign_kpis` over a published batch and a tail of a hundredth of its size.
pub fn campaign_kpis(events: usize, runs: usize) -> Result<()> {
    let program = Program::new("[lake]\nuri = \"lake\"\n")?;
    let tail = (events / 100).to_string();
    let count = events.to_string();
    program.run(&["generate", "--events", &count, "--seed", "1", "--days", "7", "--to-files", "truth"])?;
    program.new_lake("lake")?;
    let cost = program.run(&["ingest", "files", "truth/events"])?;
    println!("merge: {events} events ingested from files in {:.1} CPU-s", cost.cpu.as_secs_f64());
    fs::remove_dir_all(program.path("truth/events"))?;
    batch_run(&program, "over them, everything", &["--full"])?;
    let sql = "SELECT * FROM campaign_kpis";
    measure(&program, sql, "batch alone", runs)?;
    let start = ["--start", "2025-01-07T12:00:00Z"];
    program.run(&[&["generate", "--events", &tail, "--seed", "1", "--to-files", "new"], &start[..]].concat())?;
    program.run(&["ingest", "files", "new/events"])?;
    measure(&program, sql, &format!("with a tail of {tail}"), runs)?;
    measure(&program, "SELECT count(*) FROM clicks", &format!("clicks, with a tail of {tail}"), runs)?;
    batch_run(&program, &format!("over a tail of {tail}, only what has changed"), &[])?;
    batch_run(&program, "after which nothing has changed", &[])?;
    measure(&program, sql, "after the second run", runs)
}

fn batch_run(program: &Program, what: &str, options: &[&str]) -> Result<()> {
    let cost = program.run(&[&["batch", "run"], options].concat())?;
    println!(
        "merge: batch run {what}: {:.2} s, {:.1} CPU-s, resident at most {} MB",
        cost.elapsed.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.resident_bytes_max >> 20
    );
    Ok(())
}

fn measure(program: &Program, sql: &str, what: &str, runs: usize) -> Result<()> {
    let mut seconds = Vec::new();
    let mut read = 0;
    for _ in 0..runs {
        let cost = program.run(&["query", sql, "--format", "json"])?;
        seconds.push(cost.elapsed.as_secs_f64());
        read = read.max(cost.read_bytes);
    }
    println!("merge: {sql}, {what}: median {:.2} s, {:.1} MB read", median(seconds), read as f64 / 1e6);
    Ok(())
}
