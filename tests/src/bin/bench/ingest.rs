//! Measures ingest from Kafka to committed Delta, with validation, ids and enrichment switched on,
//! as users run it.

use std::fs;

use adlake_tests::kafka::{Broker, unique};
use anyhow::{Context, Result};

use crate::ceiling::{Format, Sample};
use crate::program::{Cost, Program, median};

/// How many records the ceiling reads.
const SAMPLE_RECORDS: usize = 1_000_000;

/// A topic full of records of one kind, and the program that is configured to read it.
pub struct Topic {
    pub program: Program,
    pub name: String,
    generate: Vec<String>,
    events: usize,
}

impl Topic {
    /// Creates the topic and fills it. `malformed` is a share.
    pub fn fill(broker: &Broker, format: Format, events: usize, partitions: i32, malformed: &str) -> Result<Topic> {
        let topic = Topic::empty(broker, format, events, partitions, malformed)?;
        let mut line: Vec<&str> = topic.generate.iter().map(String::as_str).collect();
        line.extend(["--to-kafka", broker.bootstrap(), "--truth", "truth"]);
        topic.program.run(&line)?;
        Ok(topic)
    }

    /// Creates the topic and everything that is needed to fill it, but no records.
    fn empty(broker: &Broker, format: Format, events: usize, partitions: i32, malformed: &str) -> Result<Topic> {
        let name = unique("bench");
        let mut config = format!("[kafka]\nbrokers = \"{}\"\n", broker.bootstrap());
        for other in [Format::Json, Format::Csv, Format::Avro] {
            let topic = if other == format { name.as_str() } else { "" };
            config.push_str(&format!("[sources.{}]\ntopic = \"{topic}\"\n", other.kind().table()));
        }
        let mut generate =
            ["generate", "--seed", "1", "--duplicates", "0", "--conflicts", "0"].map(str::to_owned).to_vec();
        generate.extend(["--kinds".to_owned(), format.kind().table().to_owned()]);
        generate.extend(["--events".to_owned(), events.to_string(), "--partitions".to_owned(), partitions.to_string()]);
        generate.extend(["--malformed".to_owned(), malformed.to_owned()]);
        Ok(Topic { program: Program::new(&config)?, name, generate, events })
    }

    /// Generates the first of the topic's records again, into memory.
    fn sample(&self, format: Format) -> Result<Sample> {
        let records = self.events.min(SAMPLE_RECORDS).to_string();
        let mut line: Vec<&str> = self.generate.iter().map(String::as_str).collect();
        let place = line.iter().position(|word| *word == "--events").context("no --events")?;
        line[place + 1] = &records;
        line.extend(["--to-files", "sample"]);
        self.program.run(&line)?;
        let sample = Sample::load(format, &self.program.path("sample/events"))?;
        fs::remove_dir_all(self.program.path("sample"))?;
        Ok(sample)
    }

    /// Reads the whole topic into a new lake, which is removed afterwards. Returns the events per
    /// CPU-second, and what the run cost.
    pub fn ingest(&self) -> Result<(f64, Cost)> {
        self.program.new_lake("lake")?;
        let cost = self.program.run(&["--lake", "lake", "ingest", "kafka", "--until-end"])?;
        fs::remove_dir_all(self.program.path("lake"))?;
        Ok((self.events as f64 / cost.cpu.as_secs_f64(), cost))
    }
}

/// Compares the events per CPU-second with those of the ceiling, on four partitions.
pub fn beside_the_ceiling(format: Format, events: usize, runs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let topic = Topic::fill(&broker, format, events, 4, "0")?;
    let sample = topic.sample(format)?;
    let (what, bytes) = (format.name(), sample.record_bytes());
    println!("ingest: {events} {what} of {bytes} bytes, 4 partitions, {runs} runs");
    let mut ratios = Vec::new();
    for run in 0..runs {
        let ceiling = sample.ceiling()?;
        let (rate, cost) = topic.ingest()?;
        let ratio = rate / ceiling;
        ratios.push(ratio);
        println!(
            "  run {run}: {rate:.0} events per CPU-second ({:.1} s, {:.1} CPU-s), ceiling {ceiling:.0}, ratio \
             {ratio:.3}, resident at most {} MB",
            cost.elapsed.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            cost.resident_bytes_max >> 20,
        );
    }
    println!("ingest: {what}: median ratio to the ceiling {:.3}", median(ratios));
    broker.stop()
}
