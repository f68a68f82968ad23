//! Measures what malformed records and many partitions cost, by running the same ingest side by
//! side.

use adlake_tests::kafka::Broker;
use anyhow::Result;

use crate::ceiling::Format;
use crate::ingest::Topic;
use crate::program::median;

/// Ingests JSON impressions in turn: unchanged, with one malformed in a hundred, in two hundred
/// partitions.
pub fn with_more_to_do(events: usize, runs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let topics = [
        ("4 partitions", Topic::fill(&broker, Format::Json, events, 4, "0")?),
        ("1% malformed", Topic::fill(&broker, Format::Json, events, 4, "0.01")?),
        ("200 partitions", Topic::fill(&broker, Format::Json, events, 200, "0")?),
    ];
    println!("compare: {events} JSON impressions, {runs} runs");
    let mut ratios: [Vec<f64>; 3] = Default::default();
    for run in 0..runs {
        let mut first = None;
        for ((name, topic), ratios) in topics.iter().zip(&mut ratios) {
            let (rate, cost) = topic.ingest()?;
            let ratio = rate / *first.get_or_insert(rate);
            ratios.push(ratio);
            println!(
                "  run {run}: {name}: {rate:.0} events per CPU-second ({:.1} s), {ratio:.3} of the first, resident at \
                 most {} MB",
                cost.elapsed.as_secs_f64(),
                cost.resident_bytes_max >> 20,
            );
        }
    }
    for ((name, _), ratios) in topics.iter().zip(ratios).skip(1) {
        println!("compare: {name}: median {:.3} of the rate without", median(ratios));
    }
    broker.stop()
}
