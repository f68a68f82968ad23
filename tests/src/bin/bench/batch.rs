//! Measures the batch layer: a full run beside DuckDB doing the same work on the same raw files,
//! what later runs and queries cost beside it, and compaction beside mere reading and writing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use adlake_tests::setup;
use anyhow::{Context, Result, ensure};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::picture::{self, Line};
use crate::program::{Cost, Program, measure, median, thread_cpu};

const KPIS: &str = "SELECT * FROM campaign_kpis";
/// The traffic, without its size, keys, time and seed.
const GENERATE: [&str; 8] =
    ["generate", "--bid-requests", "0.55", "--duplicates", "0.02", "--late", "0.01", "--to-files"];
const HOURS: usize = 7 * 24;
const MIB: u64 = 1 << 20;

/// The most events of the tail over which `campaign_kpis` is measured.
const TAIL_MAX: usize = 200_000;

/// How many campaigns and users the events have.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub campaigns: u32,
    pub users: u32,
}

pub const KEYS: Keys = Keys { campaigns: 200, users: 100_000 };

/// What the batch layer costs over so many events.
struct Costs {
    events: usize,
    full: Cost,
    duckdb: Cost,
    incremental: Cost,
    last_hour: Cost,
    late_day: Cost,
}

/// Measures one size.
pub fn beside_duckdb(events: usize, runs: usize) -> Result<()> {
    costs(events, KEYS, runs)?;
    Ok(())
}

/// The costs that are shown, by name.
type Column = (&'static str, fn(&Costs) -> Cost);
const COLUMNS: [Column; 5] = [
    ("DuckDB, full", |costs| costs.duckdb),
    ("full run", |costs| costs.full),
    ("1% new", |costs| costs.incremental),
    ("last hour", |costs| costs.last_hour),
    ("late day", |costs| costs.late_day),
];

/// Measures a tenth, a fifth, a half and the whole of so many events. Prints a table, and draws it.
pub fn cost_against_data(events: usize, runs: usize) -> Result<()> {
    let mut sizes = Vec::new();
    for share in [10, 5, 2, 1] {
        let costs = costs(events / share, KEYS, runs)?;
        sizes.push((costs.events as f64 / 1e6, costs));
    }
    show_all("batch-sizes", "millions of events", &sizes)
}

/// Measures few, more and many campaigns, and then the same of users. Prints two tables, and draws
/// them.
pub fn cost_against_keys(events: usize, runs: usize) -> Result<()> {
    let (mut by_campaigns, mut by_users) = (Vec::new(), Vec::new());
    for campaigns in [20, 200, 2_000] {
        by_campaigns.push((f64::from(campaigns), costs(events, Keys { campaigns, ..KEYS }, runs)?));
    }
    for users in [10_000, 100_000, 1_000_000] {
        by_users.push((f64::from(users) / 1e3, costs(events, Keys { users, ..KEYS }, runs)?));
    }
    show_all("batch-campaigns", "campaigns", &by_campaigns)?;
    show_all("batch-users", "thousands of users", &by_users)
}

/// Prints a table of costs, and draws them, in the order of their `across`.
fn show_all(name: &str, across: &str, all: &[(f64, Costs)]) -> Result<()> {
    println!("{name}: CPU-s, and MB resident at most");
    println!("  {across:>20}{}", COLUMNS.map(|(name, _)| format!("{name:>20}")).concat());
    for (at, costs) in all {
        let cells = COLUMNS.map(|(_, of)| of(costs)).map(|cost| {
            let cell = format!("{:.1} ({})", cost.cpu.as_secs_f64(), cost.resident_bytes_max / MIB);
            format!("{cell:>20}")
        });
        println!("  {at:>20}{}", cells.concat());
    }
    let lines = COLUMNS.map(|(name, of)| Line {
        name,
        points: all.iter().map(|(at, costs)| (*at, of(costs).cpu.as_secs_f64())).collect(),
    });
    let file = std::env::current_exe()?.with_file_name(format!("{name}.svg"));
    fs::write(&file, picture::draw(across, "CPU seconds", &lines))?;
    println!("{name}: {}", file.display());
    Ok(())
}

fn costs(events: usize, keys: Keys, runs: usize) -> Result<Costs> {
    let bench = Bench::with_traffic("batch", events, keys, runs)?;
    let (full, duckdb) = bench.full_runs(runs)?;
    let nothing = bench.batch_run("nothing")?;
    bench.show("nothing new", &nothing, Target::seconds(nothing.elapsed, 0.3));
    bench.kpis("campaign_kpis", 0.5, u64::MAX, runs)?;
    let tail = (events / 100).min(TAIL_MAX);
    bench.add(5, tail, "2025-01-06", "2")?;
    bench.kpis(&format!("campaign_kpis, with a tail of {tail}"), 1.5, 1 << 30, runs)?;
    let part = |what: &str, seed, events, start: &str, days: &str, share: f64| -> Result<Cost> {
        if events > 0 {
            bench.add(seed, events, start, days)?;
        }
        let cost = bench.batch_run("incremental")?;
        let ratio = cost.cpu.as_secs_f64() / full.cpu.as_secs_f64();
        bench.show(what, &cost, Target::at_most("of a full run's CPU-s", ratio, share));
        Ok(cost)
    };
    let incremental = part("1% new, in the last two days", 2, events / 100 - tail, "2025-01-06", "2", 0.05)?;
    let last_hour = part("a new last hour", 3, events / HOURS, "2025-01-07T23:00:00Z", "0.0416", 0.03)?;
    let late_day = part("1% late, of a day a week ago", 4, events / 100, "2025-01-01", "1", 0.08)?;
    bench.compaction()?;
    Ok(Costs { events, full, duckdb, incremental, last_hour, late_day })
}

/// A figure and what it should be.
pub struct Target {
    what: &'static str,
    figure: f64,
    bound: f64,
    is_least: bool,
}

impl Target {
    pub fn at_most(what: &'static str, figure: f64, bound: f64) -> Target {
        Target { what, figure, bound, is_least: false }
    }

    pub fn at_least(what: &'static str, figure: f64, bound: f64) -> Target {
        Target { what, figure, bound, is_least: true }
    }

    fn seconds(elapsed: Duration, bound: f64) -> Target {
        Target::at_most("s", elapsed.as_secs_f64(), bound)
    }

    pub fn text(&self) -> String {
        let Target { what, figure, bound, is_least } = self;
        let is_met = if *is_least { figure >= bound } else { figure <= bound };
        let target = if *is_least { "at least" } else { "at most" };
        format!("{figure:.3} {what}, target {target} {bound}: {}", if is_met { "met" } else { "NOT MET" })
    }
}

/// Everything that is sent counts, as the peers count it. Refunds are conversions of a negative
/// value.
const CONFIG: &str = "\
[lake]
uri = \"lake\"
[conversions]
refund_types = []
[invalid]
bot = false
zero_size = false
";

/// A lake with its program.
pub struct Bench {
    pub program: Program,
    keys: Keys,
}

impl Bench {
    /// Creates a lake with so many events of a week. Begins the table of the benchmark `name`.
    pub fn with_lake(name: &str, events: usize, runs: usize) -> Result<Bench> {
        Bench::with_traffic(name, events, KEYS, runs)
    }

    /// The same, with other keys.
    pub fn with_traffic(name: &str, events: usize, keys: Keys, runs: usize) -> Result<Bench> {
        let bench = Bench { program: Program::new(CONFIG)?, keys };
        bench.generate("truth", events, "2025-01-01", "7", 1)?;
        bench.program.new_lake("lake")?;
        let ingest = bench.ingest("truth")?;
        let seconds = ingest.cpu.as_secs_f64();
        println!("{name}: {events} events, {keys:?}, ingested in {seconds:.1} CPU-s; {runs} runs");
        println!("  {:<44}{:>9}{:>9}{:>9}  beside", "", "s", "CPU-s", "MB");
        Ok(bench)
    }

    pub fn show(&self, what: &str, cost: &Cost, target: Target) {
        println!("{}  {}", line(what, cost), target.text());
    }

    fn generate(&self, folder: &str, events: usize, start: &str, days: &str, seed: u64) -> Result<()> {
        let (events, seed) = (events.max(1).to_string(), seed.to_string());
        let (campaigns, users) = (self.keys.campaigns.to_string(), self.keys.users.to_string());
        let options = [folder, "--events", &events, "--start", start, "--days", days, "--seed", &seed];
        let keys = ["--campaigns", &campaigns, "--users", &users];
        self.program.run(&[&GENERATE[..], &options[..], &keys[..]].concat()).map(|_| ())
    }

    /// Generates events and ingests them.
    pub fn add(&self, seed: u64, events: usize, start: &str, days: &str) -> Result<()> {
        let folder = format!("new-{seed}");
        self.generate(&folder, events, start, days, seed)?;
        self.ingest(&folder).map(|_| ())
    }

    /// Ingests generated events, and removes their files.
    fn ingest(&self, folder: &str) -> Result<Cost> {
        let events = format!("{folder}/events");
        let cost = self.program.run(&["ingest", "files", &events])?;
        fs::remove_dir_all(self.program.path(&events))?;
        Ok(cost)
    }

    /// A batch run, which must find the plan `expected`.
    pub fn batch_run(&self, expected: &str) -> Result<Cost> {
        let full: &[&str] = if expected == "full" { &["--full"] } else { &[] };
        let cost = self.program.run(&[&["batch", "run", "--format", "json"], full].concat())?;
        let plan = self.report()?["plan"]["what"].clone();
        ensure!(plan == expected, "the batch run was {plan}, not {expected}");
        Ok(cost)
    }

    /// What the last run of the program printed.
    pub fn report(&self) -> Result<Value> {
        let text = fs::read_to_string(self.program.path("stdout"))?;
        serde_json::from_str(&text).with_context(|| format!("the program printed {text}"))
    }

    /// Full runs of adlake and DuckDB in turn, after which their answers must be equal. Returns the
    /// runs with the median of the CPU time.
    fn full_runs(&self, runs: usize) -> Result<(Cost, Cost)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 0..runs {
            let (full, duckdb) = (self.batch_run("full")?, self.duckdb_run()?);
            println!("{}", line(&format!("run {run}: full"), &full));
            println!("{}  steps {}", line(&format!("run {run}: DuckDB"), &duckdb), self.steps()?);
            ours.push(full);
            theirs.push(duckdb);
        }
        let ratios = |of: fn(&Cost) -> Duration| -> Vec<f64> {
            ours.iter().zip(&theirs).map(|(our, their)| of(our).as_secs_f64() / of(their).as_secs_f64()).collect()
        };
        let (cpu, elapsed) = (median(ratios(|cost| cost.cpu)), median(ratios(|cost| cost.elapsed)));
        let (full, duckdb) = (middle(ours), middle(theirs));
        println!("{}", line("DuckDB, the median", &duckdb));
        self.show("full, the median", &full, Target::at_most("of DuckDB's CPU-s", cpu, 0.7));
        println!("  full: {elapsed:.3} of DuckDB's time");
        println!("  {}", self.compare()?);
        Ok((full, duckdb))
    }

    fn duckdb(&self, arguments: &[&Path]) -> Result<Command> {
        let mut command = Command::new(setup::python()?);
        command.args(["-I", "-B"]).arg(setup::scripts().join("duckdb/batch.py")).args(arguments);
        command.stdin(Stdio::null()).stdout(File::create(self.program.path("duckdb-stdout"))?);
        Ok(command)
    }

    fn duckdb_run(&self) -> Result<Cost> {
        let out = self.program.path("duckdb");
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        measure(self.duckdb(&[Path::new("run"), &self.program.path("lake"), &out])?).context("DuckDB")
    }

    /// The CPU seconds of DuckDB's steps.
    fn steps(&self) -> Result<String> {
        let steps: Value = serde_json::from_str(&fs::read_to_string(self.program.path("duckdb-stdout"))?)?;
        let steps = steps.as_object().context("no steps")?;
        Ok(steps.iter().map(|(name, step)| format!("{name} {}", step["cpu"])).collect::<Vec<_>>().join(", "))
    }

    /// Fails if the answers of DuckDB and adlake differ.
    fn compare(&self) -> Result<String> {
        let paths = [&adlake_tests::adlake::program()?, &self.program.path("lake"), &self.program.path("duckdb")];
        measure(self.duckdb(&[Path::new("compare"), paths[0], paths[1], paths[2]])?)
            .context("DuckDB and adlake answer differently")?;
        let equal: Value = serde_json::from_str(&fs::read_to_string(self.program.path("duckdb-stdout"))?)?;
        Ok(format!("all {} compared rows of answers are equal", equal["equal"]))
    }

    /// Measures `campaign_kpis` with all its columns.
    fn kpis(&self, what: &str, seconds: f64, bytes: u64, runs: usize) -> Result<()> {
        let query = || self.program.run(&["query", KPIS, "--format", "json"]);
        let costs = (0..runs).map(|_| query()).collect::<Result<Vec<_>>>()?;
        let elapsed = median(costs.iter().map(|cost| cost.elapsed.as_secs_f64()).collect());
        let resident = costs.iter().map(|cost| cost.resident_bytes_max).max().unwrap_or(0);
        self.show(what, &middle(costs), Target::at_most("s", elapsed, seconds));
        if bytes < u64::MAX {
            println!("    {}", Target::at_most("MB", (resident / MIB) as f64, (bytes / MIB) as f64).text());
        }
        Ok(())
    }

    /// Measures the rows per CPU-second of compaction beside those of reading the same files and
    /// writing their rows.
    fn compaction(&self) -> Result<()> {
        let before = self.raw_files()?;
        let cost = self.program.run(&["batch", "compact", "--format", "json"])?;
        let report = self.report()?;
        let tables = report["tables"].as_object().context("no tables")?;
        let rows: u64 = tables.values().filter_map(|table| table["rows"].as_u64()).sum();
        if rows == 0 {
            println!("{}  there was nothing to compact", line("compaction", &cost));
            return Ok(());
        }
        let written = self.raw_files()?;
        let folders: BTreeSet<&Path> = written.difference(&before).filter_map(|file| file.parent()).collect();
        let started = thread_cpu();
        let mut copied = 0;
        for folder in folders {
            let files: Vec<&PathBuf> = before.iter().filter(|file| file.parent() == Some(folder)).collect();
            copied += copy(&files)?;
        }
        let rate = rows as f64 / cost.cpu.as_secs_f64();
        let ceiling = copied as f64 / (thread_cpu() - started).as_secs_f64();
        let what = "of the rows per CPU-s of reading and writing";
        self.show("compaction", &cost, Target::at_least(what, rate / ceiling, 0.6));
        println!("    {rows} rows at {rate:.0} per CPU-s, reading and writing {copied} rows at {ceiling:.0}");
        Ok(())
    }

    /// The data files of the raw events.
    fn raw_files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for table in ["impressions", "interactions", "bid_requests"] {
            for day in fs::read_dir(self.program.path("lake/raw").join(table))? {
                let day = day?;
                if day.file_name().to_string_lossy().starts_with("event_date=") {
                    for file in fs::read_dir(day.path())? {
                        files.insert(file?.path());
                    }
                }
            }
        }
        Ok(files)
    }
}

pub fn line(what: &str, cost: &Cost) -> String {
    let (elapsed, cpu) = (cost.elapsed.as_secs_f64(), cost.cpu.as_secs_f64());
    format!("  {what:<44}{elapsed:>9.2}{cpu:>9.2}{:>9}", cost.resident_bytes_max / MIB)
}

/// The cost whose CPU time is the median.
pub fn middle(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.cpu);
    costs[costs.len() / 2]
}

/// Reads the files, and writes their rows into one file in memory, as compaction compresses it.
/// Returns how many there are.
fn copy(files: &[&PathBuf]) -> Result<usize> {
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    let mut rows = 0;
    for file in files {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.with_batch_size(8192).build()? {
            let batch = batch?;
            rows += batch.num_rows();
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let properties = WriterProperties::builder()
                        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
                        .set_max_row_group_row_count(Some(64 << 10))
                        .build();
                    none.insert(ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?)
                }
            };
            writer.write(&batch)?;
        }
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(rows)
}
