//! The benchmarks behind `docs/performance.md`: `make bench`, or `bench ingest|merge|all [--events N] [--runs N]`.
//!
//! Figures are ratios of two things measured in the same run on the same machine: CPU seconds of the ingest process beside those of the
//! ceiling (arrow-json into columns and Parquet zstd(1) out of them, of the same rows, one thread, nothing else).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use adlake_domain::schema;
use adlake_tests::kafka::{Broker, unique};
use anyhow::{Context, Result, bail, ensure};
use arrow::datatypes::Schema;
use arrow::json::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

const BATCH_ROWS: usize = 8192;
/// Rows of a file of the ceiling.
const FILE_ROWS: usize = 1_000_000;

struct Options {
    what: String,
    events: usize,
    runs: usize,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options { what: "all".to_string(), events: 0, runs: 3 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a number"));
        match argument.as_str() {
            "--events" => options.events = value()?.parse().context("--events")?,
            "--runs" => options.runs = value()?.parse().context("--runs")?,
            "ingest" | "merge" | "all" => options.what = argument,
            other => bail!("{other:?} is none of ingest, merge, all, --events N, --runs N"),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<()> {
    let events = |default: usize| if options.events > 0 { options.events } else { default };
    if options.what != "merge" {
        ingest(events(5_000_000), options.runs)?;
    }
    if options.what != "ingest" {
        merge(events(10_000_000), options.runs)?;
    }
    Ok(())
}

/// The program, in a folder of its own.
struct Program {
    program: PathBuf,
    folder: TempDir,
}

/// What a run of it took.
struct Cost {
    elapsed: Duration,
    cpu: Duration,
    resident_bytes_max: u64,
    read_bytes: u64,
}

impl Program {
    fn new(config: &str) -> Result<Program> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("adlake.toml"), config)?;
        Ok(Program { program: adlake_tests::adlake::program()?, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Result<Cost> {
        let before = children_cpu();
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .args(arguments)
            .arg("--quiet")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(self.path("stdout"))?)
            .spawn()?;
        let (mut resident, mut read) = (0, 0);
        let status = loop {
            resident = resident.max(field(child.id(), "status", "VmHWM:").unwrap_or(0) * 1024);
            read = read.max(field(child.id(), "io", "rchar:").unwrap_or(0));
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        ensure!(status.success(), "adlake {arguments:?}: {status}");
        let (elapsed, cpu) = (started.elapsed(), children_cpu() - before);
        Ok(Cost { elapsed, cpu, resident_bytes_max: resident, read_bytes: read })
    }
}

fn field(process: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// CPU time of the children that have ended.
fn children_cpu() -> Duration {
    // SAFETY: getrusage only writes the struct that it is given, for which all zeroes is a value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn thread_cpu() -> Duration {
    // SAFETY: clock_gettime only writes the struct that it is given.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Kafka to committed Delta, JSON impressions, four partitions.
fn ingest(events: usize, runs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let topic = unique("bench");
    let config = format!(
        "[kafka]\nbrokers = \"{}\"\n[sources.impressions]\ntopic = \"{topic}\"\n[sources.interactions]\ntopic = \"\"\n[sources.bid_requests]\ntopic = \"\"\n",
        broker.bootstrap()
    );
    let program = Program::new(&config)?;
    let count = events.to_string();
    let clean = ["--malformed", "0", "--duplicates", "0", "--conflicts", "0", "--bid-requests", "0"];
    let mut line = vec!["generate", "--kinds", "impressions", "--events", &count, "--seed", "1", "--partitions", "4"];
    line.extend(clean);
    let mut to_kafka = line.clone();
    to_kafka.extend(["--to-kafka", broker.bootstrap(), "--truth", "truth"]);
    program.run(&to_kafka)?;
    let sample = events.min(FILE_ROWS).to_string();
    line[4] = &sample;
    line.extend(["--to-files", "sample"]);
    program.run(&line)?;
    let lines = lines_of(&program.path("sample/events"))?;
    let bytes = lines.iter().map(Vec::len).sum::<usize>() as f64 / lines.len() as f64;
    println!("ingest: {events} JSON impressions of {bytes:.0} bytes, 4 partitions, {runs} runs");
    let mut ratios = Vec::new();
    for run in 0..runs {
        let lake = format!("lake-{run}");
        for kind in ["creatives", "campaigns"] {
            program.run(&["--lake", &lake, "ref", "load", kind, &format!("truth/{kind}.csv")])?;
        }
        let ceiling = ceiling(&lines)?;
        let cost = program.run(&["--lake", &lake, "ingest", "kafka", "--until-end"])?;
        let rate = events as f64 / cost.cpu.as_secs_f64();
        ratios.push(rate / ceiling);
        println!(
            "  run {run}: ingest {rate:.0} events per CPU-second ({:.1} s, {:.1} CPU-s), ceiling {ceiling:.0}, ratio {:.3}, resident at most {} MB",
            cost.elapsed.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            rate / ceiling,
            cost.resident_bytes_max >> 20,
        );
        fs::remove_dir_all(program.path(&lake))?;
    }
    println!("ingest: median ratio to the ceiling {:.3}", median(ratios));
    broker.stop()
}

fn lines_of(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        for line in BufReader::new(File::open(entry?.path())?).split(b'\n') {
            lines.push(line?);
        }
    }
    Ok(lines)
}

/// Rows per CPU-second of one thread: arrow-json into columns, Parquet zstd(1) out of them.
fn ceiling(lines: &[Vec<u8>]) -> Result<f64> {
    let schema = Arc::new(Schema::new(
        schema::content_fields(EventKind::Impression)
            .into_iter()
            .map(|field| if field.name() == "event_time" { field.with_name("timestamp") } else { field })
            .collect::<Vec<_>>(),
    ));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let started = thread_cpu();
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    let mut rows = 0;
    for batch in lines.chunks(BATCH_ROWS) {
        for line in batch {
            let read = decoder.decode(line)?;
            ensure!(read == line.len(), "the ceiling's decoder stopped early");
        }
        if let Some(batch) = decoder.flush()? {
            rows += batch.num_rows();
            writer.write(&batch)?;
        }
    }
    writer.close()?;
    ensure!(rows == lines.len(), "the ceiling decoded {rows} of {} rows", lines.len());
    Ok(rows as f64 / (thread_cpu() - started).as_secs_f64())
}

/// `campaign_kpis` over a published batch and a tail of 100,000 events.
fn merge(events: usize, runs: usize) -> Result<()> {
    let program = Program::new("[lake]\nuri = \"lake\"\n")?;
    let tail = (events / 100).to_string();
    let count = events.to_string();
    program.run(&["generate", "--events", &count, "--seed", "1", "--days", "7", "--to-files", "past"])?;
    for kind in ["creatives", "campaigns"] {
        program.run(&["ref", "load", kind, &format!("past/{kind}.csv")])?;
    }
    let cost = program.run(&["ingest", "files", "past/events"])?;
    println!("merge: {events} events ingested from files in {:.1} CPU-s", cost.cpu.as_secs_f64());
    fs::remove_dir_all(program.path("past/events"))?;
    let cost = program.run(&["batch", "run", "--full"])?;
    println!(
        "merge: batch run over them in {:.1} s, {:.1} CPU-s, resident at most {} MB",
        cost.elapsed.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.resident_bytes_max >> 20
    );
    let sql = "SELECT * FROM campaign_kpis";
    measure(&program, sql, "batch alone", runs)?;
    program.run(&[
        "generate",
        "--events",
        &tail,
        "--seed",
        "1",
        "--start",
        "2025-01-07T12:00:00Z",
        "--to-files",
        "new",
    ])?;
    program.run(&["ingest", "files", "new/events"])?;
    measure(&program, sql, &format!("with a tail of {tail}"), runs)?;
    measure(&program, "SELECT count(*) FROM clicks", &format!("clicks, with a tail of {tail}"), runs)
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
