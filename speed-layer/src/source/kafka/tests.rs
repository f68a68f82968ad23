//! The Kafka source against an in-process mock broker, which can be told to misbehave.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::json;

use super::*;
use crate::source::{Event, Handle, TopicMarks};

const TOPIC: &str = "t";
const TIMEOUT: Duration = Duration::from_secs(40);

struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    fn new(partitions: i32) -> Broker {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        Broker { cluster }
    }

    fn produce(&self, partition: i32, payloads: &[&str]) {
        let mut config = ClientConfig::new();
        let producer: BaseProducer =
            config.set("bootstrap.servers", self.cluster.bootstrap_servers()).create().unwrap();
        for payload in payloads {
            let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
    }

    fn open(&self, first_start: &str) -> Handle {
        self.open_with(&settings(&self.cluster.bootstrap_servers(), first_start), 1 << 20)
    }

    fn open_with(&self, settings: &SpeedSettings, room_bytes: usize) -> Handle {
        let source = KafkaSource::connect(settings, false, &CancellationToken::new()).unwrap();
        Handle::spawn(Box::new(source), room_bytes).unwrap()
    }
}

fn settings(brokers: &str, first_start: &str) -> SpeedSettings {
    serde_json::from_value(json!({
        "kafka": {"brokers": brokers, "cluster": "c", "first_start": first_start},
        "sources": {"impressions": {"topic": TOPIC}, "interactions": {"topic": ""}, "bid_requests": {"topic": ""}},
    }))
    .unwrap()
}

/// Collects events until `take` makes a value of them.
async fn awaited<T>(handle: &mut Handle, what: &str, mut take: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = take(handle.next().await.expect("the source has ended")) {
                return found;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, found).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn assigned(handle: &mut Handle, partitions: usize) -> Vec<Arc<Stream>> {
    let mut streams = Vec::new();
    awaited(handle, "the assignment", |event| {
        if let Event::Assigned(more) = event {
            streams.extend(more);
        }
        (streams.len() == partitions).then(|| std::mem::take(&mut streams))
    })
    .await
}

/// Starts streams of which the lake has nothing.
fn start(handle: &Handle, streams: &[Arc<Stream>], generation: u64) {
    let start = |stream: &Arc<Stream>| {
        let (stream, marks) = (stream.clone(), TopicMarks::default());
        Start { stream, stored: None, marks, generation }
    };
    handle.commander().tell(Command::Start(streams.iter().map(start).collect()));
}

/// The payloads of the next records, and the partition they belong to.
async fn records(handle: &mut Handle) -> (i32, Vec<String>) {
    awaited(handle, "records", |event| {
        let Event::Records(records) = event else { return None };
        let payloads = records.chunk.records_from(0);
        let payloads = payloads.map(|(record, _)| String::from_utf8(record.payload.to_vec()).unwrap());
        Some((records.stream.partition, payloads.collect()))
    })
    .await
}

async fn started(handle: &mut Handle, wanted: u64) -> i64 {
    awaited(handle, "the start", |event| match event {
        Event::Started { generation, position, .. } if generation == wanted => Some(position),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_keeps_no_other_waiting() {
    let broker = Broker::new(2);
    broker.produce(0, &["a", "b"]);
    broker.produce(1, &["c"]);
    let mut handle = broker.open("earliest");
    broker.cluster.partition_leader(TOPIC, 1, None).unwrap();
    let streams = assigned(&mut handle, 2).await;
    start(&handle, &streams, 1);
    assert_eq!(records(&mut handle).await, (0, vec!["a".to_owned(), "b".to_owned()]));
    broker.cluster.partition_leader(TOPIC, 1, Some(1)).unwrap();
    assert_eq!(records(&mut handle).await, (1, vec!["c".to_owned()]), "it follows once it has a leader");
    drop(streams);
    handle.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_partition_was_begun_is_where_it_begins_again() {
    let broker = Broker::new(1);
    broker.produce(0, &["a", "b", "c"]);
    let mut handle = broker.open("latest");
    let streams = assigned(&mut handle, 1).await;
    start(&handle, &streams, 1);
    assert_eq!(started(&mut handle, 1).await, 3);
    broker.produce(0, &["d", "e"]);
    assert_eq!(records(&mut handle).await.1[0], "d");
    // Nothing was committed when the stream is started again. By now "latest" is another offset,
    // and "d" would be lost there.
    start(&handle, &streams, 2);
    assert_eq!(started(&mut handle, 2).await, 3);
    drop(streams);
    handle.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_grows_while_there_is_no_room() {
    let broker = Broker::new(1);
    let payload = "x".repeat(2_000);
    let produce = |count: usize| broker.produce(0, &vec![payload.as_str(); count]);
    produce(20);
    let mut settings = settings(&broker.cluster.bootstrap_servers(), "earliest");
    // librdkafka holds a few records and then fetches no more, nor do the first records leave room.
    settings.kafka.fetch_bytes_max = 1024;
    let mut handle = broker.open_with(&settings, 1);
    let streams = assigned(&mut handle, 1).await;
    start(&handle, &streams, 1);
    let held = awaited(&mut handle, "records", |event| match event {
        Event::Records(records) => Some(records),
        _ => None,
    })
    .await;
    produce(300);
    let mut lag = 0;
    awaited(&mut handle, "a lag that has grown", |event| {
        if let Event::Behind(streams) = event {
            lag = streams.iter().map(|(_, records)| *records).max().unwrap_or(lag);
        }
        (lag >= 300).then_some(())
    })
    .await;
    drop((held, streams));
    handle.close().await.unwrap();
}

#[test]
fn a_broker_that_does_not_answer_is_given_up_when_it_is_not_wanted_any_more() {
    let (cancel, started) = (CancellationToken::new(), Instant::now());
    let settings = settings("127.0.0.1:1", "latest");
    assert!(settings.kafka.start_timeout > Duration::from_secs(20));
    let connecting = {
        let cancel = cancel.clone();
        std::thread::spawn(move || KafkaSource::connect(&settings, false, &cancel))
    };
    std::thread::sleep(Duration::from_millis(200));
    assert!(!connecting.is_finished());
    cancel.cancel();
    let error = connecting.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("no answer from 127.0.0.1:1"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_leaves_soon_although_its_broker_is_gone() {
    let broker = Broker::new(1);
    broker.produce(0, &["a"]);
    let mut handle = broker.open("earliest");
    let streams = assigned(&mut handle, 1).await;
    start(&handle, &streams, 1);
    records(&mut handle).await;
    drop(broker);
    // Nobody answers this commit.
    handle.commander().tell(Command::Acknowledge(vec![(streams[0].clone(), 1)]));
    let started = Instant::now();
    drop(streams);
    handle.close().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
