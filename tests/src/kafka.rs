//! A real Apache Kafka: a KRaft broker of one node in a directory of its own. It is killed when the
//! test process ends, or earlier.
//!
//! `ADLAKE_TEST_KAFKA=host:port` replaces the shared broker by a running cluster. Tests give their
//! topics unique names ([`unique`]). They kill and restart only brokers of their own
//! ([`Broker::start`]), never the shared one. [`Broker::start_secured`] starts a broker that also
//! has listeners with authentication ([`secured`]).

mod client;
pub mod secured;
pub mod transactions;

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::Rng;
use rand::distr::Alphanumeric;
use rdkafka::consumer::Consumer;
use tempfile::TempDir;

use crate::process::Process;
use crate::{setup, wait};

const START_ATTEMPTS: usize = 3;
/// A broker is ready in 3 s on an idle machine. A build that runs beside the tests must not fail
/// them.
const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const TOOL_DEADLINE: Duration = Duration::from_secs(90);
/// Classes of the tests, in the directory of a broker.
const CLASSES: &str = "classes";
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// A Kafka cluster: one broker that the tests own, or a cluster that was already running.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    own: Option<Mutex<Own>>,
}

/// A broker that the tests own. Its process is killed before its directory is removed.
#[derive(Debug)]
struct Own {
    process: Option<Process>,
    directory: TempDir,
}

/// Makes `prefix` unique, because topics and groups of several tests share one broker.
pub fn unique(prefix: &str) -> String {
    let suffix: String = rand::rng().sample_iter(Alphanumeric).take(10).map(char::from).collect();
    format!("{prefix}-{suffix}")
}

impl Broker {
    /// Starts a broker of the test's own, which may be killed and restarted.
    pub fn start() -> Result<Self> {
        Self::start_own()
    }

    /// The cluster of `ADLAKE_TEST_KAFKA`, else a new broker.
    fn given_or_own() -> Result<Self> {
        let Ok(bootstrap) = env::var("ADLAKE_TEST_KAFKA") else { return Self::start_own() };
        let broker = Self { bootstrap, own: None };
        broker.wait_ready(None)?;
        Ok(broker)
    }

    /// The broker that the tests of this process share. When the process exits, the broker is
    /// stopped and its directory is removed.
    pub fn shared() -> &'static Self {
        shared().get_or_init(|| Self::given_or_own().map_err(|error| format!("{error:#}"))).as_ref().unwrap_or_else(
            |error| {
                panic!("the shared Kafka broker did not start: {error}");
            },
        )
    }

    /// Starts a broker that has a plain listener and those of [`secured::Secured`]. It is always a
    /// new broker.
    pub fn start_secured() -> Result<(Self, secured::Secured)> {
        let mut last = anyhow!("not tried");
        for _ in 0..START_ATTEMPTS {
            let secured = secured::Secured::new()?;
            match Self::try_start_own(Some(&secured)) {
                Ok(broker) => return Ok((broker, secured)),
                Err(error) if format!("{error:#}").contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Where clients connect: `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kills the broker (SIGKILL). Acknowledged records are in its directory; see
    /// [`Broker::restart`].
    pub fn kill9(&self) -> Result<()> {
        let mut own = self.own()?;
        let mut process = own.process.take().context("the broker is not running")?;
        process.kill9()
    }

    /// Freezes the broker (SIGSTOP): its connections stay open, but it answers nothing until
    /// [`Broker::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.own()?.process.as_mut().context("the broker is not running")?.signal(libc::SIGSTOP)
    }

    /// Resumes a frozen broker. Returns when every partition has a leader.
    pub fn thaw(&self) -> Result<()> {
        let mut own = self.own()?;
        let process = own.process.as_mut().context("the broker is not running")?;
        process.signal(libc::SIGCONT)?;
        self.wait_ready(Some(process))
    }

    /// Stops the broker in an orderly way (SIGTERM).
    pub fn stop(&self) -> Result<()> {
        let mut own = self.own()?;
        let mut process = own.process.take().context("the broker is not running")?;
        process.sigterm()?;
        process.wait_exit(STOP_DEADLINE)?;
        Ok(())
    }

    /// Starts the broker again with the same port and data; stops it first if it runs. Returns when
    /// every partition has a leader.
    pub fn restart(&self) -> Result<()> {
        if self.own()?.process.is_some() {
            self.stop()?;
        }
        let mut own = self.own()?;
        let process = run(own.directory.path())?;
        let process = own.process.insert(process);
        self.wait_ready(Some(process))
    }

    /// Passes `lines` to Kafka's own console producer, which sends one record for each.
    pub fn console_producer<L: AsRef<str>>(&self, topic: &str, lines: &[L]) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let input = directory.path().join("lines");
        let text: String = lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
        fs::write(&input, text)?;

        let mut command = java(&["-Xmx128m"], "org.apache.kafka.tools.ConsoleProducer", None)?;
        command.args(["--bootstrap-server", &self.bootstrap, "--topic", topic, "--max-block-ms", "20000"]);
        command.stdin(fs::File::open(&input)?);
        let mut producer = Process::start("console-producer", command, directory.path())?;
        let status = producer.wait_exit(TOOL_DEADLINE)?;
        // If a delivery fails, the producer only logs it, and its exit code is 0 all the same.
        ensure!(
            status.success() && !producer.logs().contains("ERROR"),
            "the console producer failed: {status}\n{}",
            producer.logs()
        );
        Ok(())
    }

    fn start_own() -> Result<Self> {
        let mut last = anyhow!("not tried");
        // A port that was free may be taken by the time the broker binds it.
        for _ in 0..START_ATTEMPTS {
            match Self::try_start_own(None) {
                Ok(broker) => return Ok(broker),
                Err(error) if format!("{error:#}").contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn try_start_own(secured: Option<&secured::Secured>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("adlake-kafka-").tempdir()?;
        let port = setup::free_port()?;
        let controller_port = loop {
            let other = setup::free_port()?;
            if other != port {
                break other;
            }
        };
        let properties = properties(directory.path(), port, controller_port, secured);
        fs::write(directory.path().join("server.properties"), properties)?;
        if secured.is_some() {
            secured::compile_validator(&directory.path().join(CLASSES))?;
        }
        format_storage(directory.path(), secured)?;
        let process = run(directory.path())?;
        let own = Mutex::new(Own { process: Some(process), directory });
        let broker = Self { bootstrap: format!("127.0.0.1:{port}"), own: Some(own) };
        broker.wait_ready(broker.own()?.process.as_mut())?;
        Ok(broker)
    }

    fn own(&self) -> Result<MutexGuard<'_, Own>> {
        let own = self.own.as_ref().with_context(|| {
            format!(
                "the broker at {} is not ours (ADLAKE_TEST_KAFKA): it can be neither stopped nor restarted",
                self.bootstrap
            )
        })?;
        own.lock().map_err(|_| anyhow!("a test panicked while it held the broker"))
    }

    /// Waits until a metadata request shows a broker and a leader for every partition. Fails at
    /// once if `process` ends.
    fn wait_ready(&self, mut process: Option<&mut Process>) -> Result<()> {
        let consumer = self.consumer("adlake-tests-metadata")?;
        let what = format!("the Kafka broker at {}", self.bootstrap);
        let waited = wait::value(START_DEADLINE, &what, || {
            if let Some(process) = process.as_deref_mut()
                && let Some(status) = process.exited()?
            {
                bail!("the Kafka broker ended: {status}");
            }
            let Ok(metadata) = consumer.fetch_metadata(None, POLL_TIMEOUT) else { return Ok(None) };
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let ready = !metadata.brokers().is_empty() && partitions.all(|partition| partition.leader() >= 0);
            Ok(ready.then_some(()))
        });
        waited.with_context(|| process.map_or_else(String::new, |process| process.logs()))
    }
}

type Shared = OnceLock<Result<Broker, String>>;

fn shared() -> &'static Shared {
    static SHARED: Shared = OnceLock::new();
    static STOP_AT_EXIT: OnceLock<()> = OnceLock::new();

    extern "C" fn stop_shared() {
        // A static is never dropped, so the shared broker's process and directory are cleaned up
        // here.
        if let Some(Ok(broker)) = SHARED.get()
            && let Some(Ok(mut own)) = broker.own.as_ref().map(Mutex::lock)
        {
            drop(own.process.take());
            // A directory that cannot be removed stays behind. The process is exiting, so there is
            // nobody to report it to.
            let _ = fs::remove_dir_all(own.directory.path());
        }
    }
    STOP_AT_EXIT.get_or_init(|| {
        // SAFETY: atexit(3) takes a function without arguments, which neither unwinds nor exits.
        let registered = unsafe { libc::atexit(stop_shared) };
        assert_eq!(registered, 0, "no exit handler can be registered");
    });
    &SHARED
}

/// A Java program of Kafka. A broker also has the classes that were compiled in its directory.
fn java(options: &[&str], class: &str, broker: Option<&Path>) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).args(options);
    let more = broker.map(|directory| format!(":{}", directory.join(CLASSES).display())).unwrap_or_default();
    command.arg("-cp").arg(setup::kafka_class_path()? + &more).arg(class).stdin(Stdio::null());
    Ok(command)
}

fn format_storage(directory: &Path, secured: Option<&secured::Secured>) -> Result<()> {
    // A Kafka uuid is 16 bytes in base64url: 22 characters, the last of which holds two bits.
    let uuid: String = rand::rng().sample_iter(Alphanumeric).take(21).map(char::from).chain(['A']).collect();
    let mut command = java(&["-Xmx128m"], "kafka.tools.StorageTool", None)?;
    command.args(["format", "-t", &uuid, "-c"]).arg(directory.join("server.properties"));
    command.args(secured.into_iter().flat_map(secured::Secured::format_arguments));
    let mut format = Process::start("format", command, directory)?;
    let status = format.wait_exit(TOOL_DEADLINE)?;
    ensure!(status.success(), "cannot format the broker's storage: {status}\n{}", format.logs());
    Ok(())
}

fn run(directory: &Path) -> Result<Process> {
    let mut command = java(&["-Xmx256m", "-Dlog4j2.level=INFO"], "kafka.Kafka", Some(directory))?;
    command.arg(directory.join("server.properties"));
    Process::start("kafka", command, directory)
}

fn properties(directory: &Path, port: u16, controller_port: u16, secured: Option<&secured::Secured>) -> String {
    let (listeners, protocols, more) = match secured {
        Some(secured) => (secured.listeners(), secured::PROTOCOLS, secured.properties()),
        None => (String::new(), "", String::new()),
    };
    let log_directory = directory.join("data");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
{more}",
        log_directory.display()
    )
}
