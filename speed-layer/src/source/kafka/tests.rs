//! The source at work on librdkafka's own mock of a broker, where what goes wrong within a client can be brought about.

use std::collections::BTreeMap;
use std::sync::mpsc as blocking;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tokio::sync::mpsc;

use super::*;
use crate::source::{Budget, Event, TopicMarks};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
const DEADLINE: Duration = Duration::from_secs(60);

/// A source, turned by hand, with somebody who answers it as the pipeline does.
struct Turned {
    cluster: MockCluster<'static, DefaultProducerContext>,
    source: KafkaSource,
    port: Port,
    commands: blocking::Sender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    generations: u64,
    /// By partition: the offsets of the records that came, since whatever start.
    came: BTreeMap<i32, Vec<i64>>,
    stalled: Vec<i32>,
    revoked: usize,
}

impl Turned {
    fn new() -> Turned {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        let mut settings = SpeedSettings::default();
        settings.kafka.brokers = cluster.bootstrap_servers();
        settings.kafka.cluster = Some("mock".to_owned());
        settings.kafka.stall_timeout = Duration::from_millis(800);
        settings.sources.impressions.topic = Some(TOPIC.to_owned());
        settings.sources.interactions.topic = Some(String::new());
        settings.sources.bid_requests.topic = Some(String::new());
        let source = KafkaSource::connect(&settings, false).unwrap();
        source.subscribe().unwrap();
        let (commands, receiver) = blocking::channel();
        let (sender, events) = mpsc::unbounded_channel();
        let port = Port { commands: receiver, events: sender, budget: Arc::new(Budget::new(1 << 20)), starts: 0 };
        let (came, stalled) = (BTreeMap::new(), Vec::new());
        Turned { cluster, source, port, commands, events, generations: 0, came, stalled, revoked: 0 }
    }

    fn produce(&self, count: usize) {
        let mut config = ClientConfig::new();
        let producer: BaseProducer =
            config.set("bootstrap.servers", self.cluster.bootstrap_servers()).create().unwrap();
        for partition in 0..PARTITIONS {
            for n in 0..count {
                let payload = format!("{n}");
                let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&payload);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
        }
        producer.flush(DEADLINE).unwrap();
    }

    /// Turns the source until so many records of each partition have come.
    fn until(&mut self, count: i64) {
        let started = Instant::now();
        let expected: Vec<i64> = (0..count).collect();
        while !(0..PARTITIONS).all(|partition| self.came.get(&partition) == Some(&expected)) {
            assert!(started.elapsed() < DEADLINE, "{:?}, stalled: {:?}", self.came, self.stalled);
            assert!(self.source.turn(&mut self.port).unwrap());
            while let Ok(event) = self.events.try_recv() {
                self.answer(event);
            }
        }
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Assigned(streams) => {
                let starts = streams.into_iter().map(|stream| {
                    self.generations += 1;
                    let stored = self.came.get(&stream.partition).and_then(|came| Some(came.last()? + 1));
                    Start { stream, stored, marks: TopicMarks::default(), generation: self.generations }
                });
                let starts: Vec<Start> = starts.collect();
                self.commands.send(Command::Start(starts)).unwrap();
            }
            Event::Revoked(streams) => {
                self.revoked += streams.len();
                self.commands.send(Command::Release(streams)).unwrap();
            }
            Event::Records(records) => {
                let came = self.came.entry(records.stream.partition).or_default();
                came.extend(records.chunk.records_from(0).map(|(record, _)| record.offset));
            }
            Event::Stalled(stream) => self.stalled.push(stream.partition),
            _ => {}
        }
    }

    /// Makes a partition silent, as librdkafka does to one that has lost its way to us: nothing of it comes, and nobody is told.
    fn silence(&self, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(TOPIC, partition);
        self.source.consumer.pause(&list).unwrap();
    }
}

#[test]
fn a_partition_that_stalls_is_taken_anew() {
    let mut turned = Turned::new();
    turned.produce(10);
    turned.until(10);
    turned.silence(1);
    turned.produce(5);
    turned.until(15);
    assert!(
        turned.stalled.iter().all(|partition| *partition == 1) && !turned.stalled.is_empty(),
        "{:?}",
        turned.stalled
    );
    let again = turned.stalled.len();
    turned.produce(5);
    turned.until(20);
    assert_eq!(turned.stalled.len(), again, "it stalls no more");
}

#[test]
fn a_group_is_joined_again_where_that_does_not_help() {
    let mut turned = Turned::new();
    turned.produce(10);
    turned.until(10);
    turned.silence(0);
    for slot in &mut turned.source.slots {
        slot.remedies = 1;
    }
    turned.produce(5);
    turned.until(15);
    assert!(turned.stalled.contains(&0), "{:?}", turned.stalled);
    assert!(turned.revoked > 0 || turned.stalled.len() > 1, "the group was not left");
    turned.produce(5);
    turned.until(20);
}

#[test]
fn a_partition_that_has_nothing_more_is_left_alone() {
    let mut turned = Turned::new();
    turned.produce(3);
    turned.until(3);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        assert!(turned.source.turn(&mut turned.port).unwrap());
    }
    while let Ok(event) = turned.events.try_recv() {
        assert!(!matches!(event, Event::Stalled(_) | Event::Revoked(_)), "{event:?}");
    }
}
