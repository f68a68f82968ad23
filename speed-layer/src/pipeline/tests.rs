//! Tests the pipeline with a scripted source and a scripted registry.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use adlake_decode::record::StreamFormat;
use adlake_lake::StorageSettings;
use serde_json::json;

use super::*;
use crate::record::{Chunk, Stream};
use crate::registry::tests::Script;
use crate::source::{Next, Port};

const TOPIC: &str = "t";
/// The longest wait for a condition.
const DEADLINE: Duration = Duration::from_secs(20);
const ROOM: usize = 64 << 10;
/// Records up to this position, delivered at once, need more memory than there is room for.
const MANY: i64 = 2_000;
const SCHEMA: &str = r#"{"type": "record", "name": "I", "fields": [
    {"name": "ad_creative_id", "type": "string"}, {"name": "user_id", "type": "string"},
    {"name": "timestamp", "type": "string"}, {"name": "website", "type": "string"}]}"#;

/// What a scripted source does after a stream has been started.
#[derive(Debug, Clone)]
enum Act {
    /// Sends a record with a schema id at each of these positions.
    Records(std::ops::Range<i64>, u32),
    Passed(i64),
    /// Waits until this many rows are committed.
    AwaitRows(u64),
    /// Waits until the registry is asked for this schema.
    AwaitRequest(u32),
    /// There must be no room for more records now.
    Full,
    /// Changes the type of a column of the table, as another process might.
    Alter(PathBuf),
    /// Waits until there is room for more records, because others were dropped.
    AwaitRoom,
    /// Cancels the run. What follows is sent before any command is read.
    Cancel,
    Done,
}

struct Scripted {
    acts: Vec<(i32, Act)>,
    cancel: CancellationToken,
    metrics: Metrics,
    registry: Arc<Script>,
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rows(metrics: &Metrics) -> u64 {
    metrics.report().rows.values().sum()
}

/// Whether the registry was asked for a schema.
fn is_asked_for(registry: &Script, id: u32) -> bool {
    registry.asked.lock().unwrap().iter().any(|path| path.ends_with(&format!("/{id}")))
}

/// The partition that stands for the topic of clicks, in CSV.
const CLICKS: i32 = 9;

fn stream(partition: i32) -> Arc<Stream> {
    if partition == CLICKS {
        return Arc::new(Stream {
            kind: EventKind::Interaction,
            source: "clicks".to_owned(),
            partition: 0,
            application: application(CLICKS),
            format: StreamFormat::CSV,
        });
    }
    Arc::new(Stream {
        kind: EventKind::Impression,
        source: TOPIC.to_owned(),
        partition,
        application: application(partition),
        format: StreamFormat::AvroMessage,
    })
}

fn application(partition: i32) -> String {
    Stream::partition_application("c", TOPIC, partition)
}

/// An impression in Confluent framing, or a click.
fn payload(partition: i32, position: i64, id: u32) -> Vec<u8> {
    if partition == CLICKS {
        return format!("2026-03-01T10:00:00Z,u-{position},cmp-1,click").into_bytes();
    }
    let mut bytes = [&[0][..], &id.to_be_bytes()].concat();
    for text in ["cr-1", &format!("u-{partition}-{position}"), "2026-03-01T10:00:00Z", "example.com"] {
        bytes.push((text.len() * 2) as u8);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

impl Source for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn run(self: Box<Self>, port: &mut Port) -> Result<(), SpeedError> {
        let mut partitions: Vec<i32> = self.acts.iter().map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        port.tell(Event::Assigned(partitions.iter().map(|partition| stream(*partition)).collect()));
        let mut generations = HashMap::new();
        while generations.len() < partitions.len() {
            match port.next_command(Duration::from_millis(20)) {
                Next::Command(Command::Start(starts)) => {
                    for start in starts {
                        let is_ours = |partition: &&i32| stream(**partition) == start.stream;
                        let partition = *partitions.iter().find(is_ours).unwrap();
                        let position = start.stored.unwrap_or(0);
                        generations.insert(partition, start.generation);
                        let (stream, generation) = (start.stream, start.generation);
                        port.tell(Event::Started { stream, generation, position });
                    }
                }
                Next::Closed => return Ok(()),
                _ => {}
            }
        }
        for (partition, act) in self.acts {
            let (stream, generation) = (stream(partition), generations[&partition]);
            match act {
                Act::Records(positions, id) => {
                    let mut chunk = Chunk::new(partition);
                    for position in positions {
                        assert!(chunk.push(position, None, None, &payload(partition, position, id)));
                    }
                    port.deliver(&stream, generation, chunk);
                }
                Act::Passed(position) => port.tell(Event::Passed { stream, generation, position }),
                Act::AwaitRows(wanted) => {
                    until(&format!("{wanted} rows are committed"), || rows(&self.metrics) >= wanted);
                }
                Act::AwaitRequest(id) => {
                    until(&format!("schema {id} is asked for"), || is_asked_for(&self.registry, id));
                }
                Act::Full => assert!(!port.has_room(Duration::ZERO), "there is room"),
                Act::Alter(log) => alter(&log),
                Act::AwaitRoom => assert!(port.has_room(DEADLINE), "there is no room"),
                Act::Cancel => self.cancel.cancel(),
                Act::Done => port.tell_done(),
            }
        }
        loop {
            match port.next_command(Duration::from_millis(20)) {
                Next::Command(Command::Stop) => port.tell_done(),
                Next::Closed => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Commits metadata in which `user_id` is a number.
fn alter(log: &Path) {
    let mut versions: Vec<PathBuf> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    versions.sort();
    let texts: Vec<String> = versions.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let metadata = texts.iter().flat_map(|text| text.lines()).rfind(|line| line.contains("\"metaData\"")).unwrap();
    let name = r#"\"name\":\"user_id\",\"type\":"#;
    let altered = metadata.replace(&format!(r#"{name}\"string\""#), &format!(r#"{name}\"long\""#));
    assert_ne!(altered, metadata, "the metadata is written in another way: {metadata}");
    fs::write(log.join(format!("{:020}.json", versions.len())), altered).unwrap();
}

struct Ran {
    result: Result<(), SpeedError>,
    rows: u64,
    /// The stored position by partition.
    stored: Vec<Option<i64>>,
}

/// Runs the script with a registry and its address, on the lake in a folder.
async fn run_scripted(
    folder: &tempfile::TempDir,
    (script, registry): (Arc<Script>, String),
    flush_interval: &str,
    acts: Vec<(i32, Act)>,
) -> Ran {
    let uri = folder.path().to_string_lossy().into_owned();
    let lake = Lake::open(&StorageSettings { uri, ..Default::default() }).await.unwrap();
    let settings: SpeedSettings = serde_json::from_value(json!({
        "sources": {
            "impressions": {"topic": TOPIC, "format": "avro", "avro": {"registry": registry}},
            "interactions": {"topic": "clicks"}
        },
        "ingest": {"flush_interval": flush_interval, "retry_pause_max": "200ms", "queue_bytes_max": ROOM},
    }))
    .unwrap();
    let metrics = Metrics::default();
    let cancel = CancellationToken::new();
    let partitions: BTreeSet<i32> = acts.iter().map(|(partition, _)| *partition).collect();
    let source = Scripted { acts, cancel: cancel.clone(), metrics: metrics.clone(), registry: script };
    let dependencies = Dependencies {
        lake: &lake,
        settings: &settings,
        plans: Arc::new(DecodePlans::open(&lake, &settings).await.unwrap()),
        metrics: metrics.clone(),
        progress: &(),
        bytes_total: None,
        cancel,
    };
    let run = run(Box::new(source), dependencies);
    let result = tokio::time::timeout(Duration::from_secs(30), run).await.expect("it does not end");
    let mut stored = Vec::new();
    for partition in partitions {
        stored.push(match lake.appender(stream(partition).kind.raw_table()).await {
            Ok(mut appender) => appender.stored_all(&[application(partition)]).await.unwrap()[0],
            // The table has been altered.
            Err(_) => None,
        });
    }
    Ran { result, rows: rows(&metrics), stored }
}

fn schema_answer() -> String {
    json!({"schema": SCHEMA}).to_string()
}

/// A registry that returns the first schema and does not answer for the second.
fn without_the_second() -> Script {
    Script::default().with("/schemas/ids/1", &[(200, &schema_answer())]).with("/schemas/ids/2", &[(503, "")])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_waits_for_the_records_before_it() {
    let registry =
        Script::default().with("/schemas/ids/1", &[(503, ""), (503, ""), (200, &schema_answer())]).serve().await;
    let folder = tempfile::tempdir().unwrap();
    // A transaction marker follows records whose schema is not known yet. Then more of both follow.
    let acts = vec![
        (0, Act::Records(0..5, 1)),
        (0, Act::Passed(6)),
        (0, Act::Records(6..8, 1)),
        (0, Act::Passed(9)),
        (0, Act::Done),
    ];
    let ran = run_scripted(&folder, registry, "50ms", acts).await;
    ran.result.unwrap();
    assert_eq!((ran.rows, ran.stored), (7, vec![Some(9)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_behind_records_that_were_given_up() {
    let registry = without_the_second().serve().await;
    let folder = tempfile::tempdir().unwrap();
    // The run is stopped while records of one stream wait for the registry. When they are given up,
    // there is room again. The records that follow them have a known schema.
    let acts = vec![
        (0, Act::Records(0..3, 1)),
        (0, Act::AwaitRows(3)),
        (0, Act::Records(3..MANY, 2)),
        (1, Act::Records(0..4, 1)),
        (0, Act::AwaitRequest(2)),
        (0, Act::Full),
        (0, Act::Cancel),
        (0, Act::AwaitRoom),
        (0, Act::Records(MANY..MANY + 3, 1)),
        (0, Act::Passed(MANY + 6)),
        (1, Act::Records(4..5, 1)),
    ];
    let ran = run_scripted(&folder, registry, "50ms", acts).await;
    let error = ran.result.unwrap_err();
    assert!(matches!(error, SpeedError::Unfinished(_)), "{error}");
    assert_eq!((ran.rows, ran.stored), (3, vec![Some(3), None]));
    // The next run ingests all of it, once the registry answers.
    let registry = Script::default()
        .with("/schemas/ids/1", &[(200, &schema_answer())])
        .with("/schemas/ids/2", &[(200, &schema_answer())])
        .serve()
        .await;
    let acts = vec![
        (0, Act::Records(3..MANY, 2)),
        (1, Act::Records(0..4, 1)),
        (0, Act::Records(MANY..MANY + 3, 1)),
        (0, Act::Done),
    ];
    let ran = run_scripted(&folder, registry, "50ms", acts).await;
    ran.result.unwrap();
    assert_eq!((ran.rows, ran.stored), (MANY as u64 + 4, vec![Some(MANY + 3), Some(4)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_table_gives_back_the_room_of_what_waits() {
    let registry = without_the_second().serve().await;
    let folder = tempfile::tempdir().unwrap();
    let acts = vec![
        (0, Act::Records(0..3, 1)),
        // The registry must be asked for the first schema alone, so that these records are taken.
        // The next ones wait for a schema that the registry does not return.
        (0, Act::AwaitRequest(1)),
        (0, Act::Records(3..MANY, 2)),
        (0, Act::AwaitRequest(2)),
        (0, Act::Full),
        (0, Act::Alter(folder.path().join("raw/impressions/_delta_log"))),
        (0, Act::AwaitRoom),
        (CLICKS, Act::Records(0..3, 0)),
        (CLICKS, Act::Done),
    ];
    let ran = run_scripted(&folder, registry, "5s", acts).await;
    let error = ran.result.unwrap_err();
    assert!(error.stops_table(), "{error}");
    assert_eq!((ran.rows, ran.stored), (3, vec![None, Some(3)]));
}
