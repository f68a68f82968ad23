//! Avro with a schema registry, end to end: the real registry over HTTP and TLS, its outages, and
//! schemas that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adlake_speed_layer::error::SpeedError;
use adlake_speed_layer::report::IngestReport;
use adlake_speed_layer::run::{KafkaRun, run_kafka};
use adlake_speed_layer::settings::{AvroSettings, SpeedSettings};
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::proxy::{Faults, Proxy};
use adlake_tests::registry::SchemaRegistry;
use adlake_tests::wait;
use anyhow::{Result, ensure};
use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::raw::Raw;

const BIDS: &str = "raw/bid_requests";
const DEAD_LETTERS: &str = "raw/dead_letters";
const DEADLINE: Duration = Duration::from_secs(60);

/// The first version: ids are numbers, and times are whole seconds.
const FIRST: &str = r#"{"type":"record","name":"ad.Bid","fields":[
    {"name":"auction","type":"int"},{"name":"user","type":"string"},{"name":"ts","type":"long"}]}"#;
/// The second version: ids are texts, times are milliseconds, a price may be missing, and a place
/// is a reference.
const SECOND: &str = r#"{"type":"record","name":"ad.Bid","fields":[
    {"name":"auction_id","type":"string"},{"name":"user_id","type":["null","string"],"default":null},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"price","type":["null","double"]},{"name":"device","type":["null","ad.Device"]}]}"#;
const DEVICE: &str = r#"{"type":"record","name":"ad.Device","fields":[
    {"name":"ua","type":"string"},{"name":"geo","type":"ad.Geo"}]}"#;
const GEO: &str = r#"{"type":"record","name":"ad.Geo","fields":[{"name":"country","type":"string"}]}"#;

fn settings(broker: &Broker, topic: &str, avro: AvroSettings) -> SpeedSettings {
    let mut settings = SpeedSettings::default();
    settings.kafka.brokers = broker.bootstrap().to_owned();
    settings.kafka.group = unique("group");
    settings.ingest.flush_interval = Duration::from_millis(100);
    settings.ingest.retry_pause_max = Duration::from_millis(500);
    settings.sources.impressions.topic = Some(String::new());
    settings.sources.interactions.topic = Some(String::new());
    let source = &mut settings.sources.bid_requests;
    source.topic = Some(topic.to_owned());
    for (field, name) in [("auction_id", "auction"), ("user_id", "user")] {
        source.fields.insert(field.to_owned(), vec![name.to_owned()]);
    }
    source.defaults.insert("user_id".to_owned(), "nobody".to_owned());
    source.avro = avro;
    settings
}

fn at(url: String) -> AvroSettings {
    AvroSettings {
        registry: Some(url.into()),
        registry_timeout: Some(Duration::from_secs(2)),
        ..AvroSettings::default()
    }
}

/// A datum, with the id of its schema before it.
fn framed(id: u32, schema: &str, value: Value) -> Result<Vec<u8>> {
    let schema = Schema::parse_str(schema)?;
    let datum = GenericDatumWriter::builder(&schema).build()?.write_value_to_vec(value)?;
    Ok([&[0][..], &id.to_be_bytes(), &datum].concat())
}

fn first(id: u32, n: i32) -> Result<Vec<u8>> {
    let value = Value::Record(vec![
        ("auction".to_owned(), Value::Int(n)),
        ("user".to_owned(), Value::String(format!("u{n}"))),
        ("ts".to_owned(), Value::Long(1_772_000_000 + i64::from(n))),
    ]);
    framed(id, FIRST, value)
}

fn second(id: u32, n: i32) -> Result<Vec<u8>> {
    let some = |value: Value| Value::Union(1, Box::new(value));
    let geo = Value::Record(vec![("country".to_owned(), Value::String("DEU".to_owned()))]);
    let device = Value::Record(vec![("ua".to_owned(), Value::String("x".to_owned())), ("geo".to_owned(), geo)]);
    let value = Value::Record(vec![
        ("auction_id".to_owned(), Value::String(n.to_string())),
        ("user_id".to_owned(), Value::Union(0, Box::new(Value::Null))),
        ("ts".to_owned(), Value::TimestampMillis((1_772_000_000 + i64::from(n)) * 1000)),
        ("price".to_owned(), some(Value::Double(1.25))),
        ("device".to_owned(), some(device)),
    ]);
    // The bytes are the same whether a type is defined in the schema or is a reference.
    let device = DEVICE.replace("\"ad.Geo\"", GEO);
    framed(id, &SECOND.replace("\"ad.Device\"", &device), value)
}

/// Registers both versions and returns their ids.
fn register(registry: &SchemaRegistry) -> Result<(u32, u32)> {
    let first = registry.register("bids-value", FIRST, &[])?;
    registry.register("geo", GEO, &[])?;
    registry.register("device", DEVICE, &[("ad.Geo", "geo", 1)])?;
    let second = registry.register("bids-2-value", SECOND, &[("ad.Device", "device", 1)])?;
    Ok((first, second))
}

async fn until_end(raw: &Raw, settings: &SpeedSettings) -> Result<IngestReport, SpeedError> {
    run_kafka(&raw.lake, settings, KafkaRun { until_end: true }, &(), CancellationToken::new()).await
}

type Task = JoinHandle<Result<IngestReport, SpeedError>>;

fn start(raw: &Raw, settings: &SpeedSettings) -> (CancellationToken, Task) {
    let cancel = CancellationToken::new();
    let (lake, settings, token) = (raw.lake.clone(), settings.clone(), cancel.clone());
    (cancel, tokio::spawn(async move { run_kafka(&lake, &settings, KafkaRun::default(), &(), token).await }))
}

async fn arrived(raw: &Raw, count: i64) -> Result<()> {
    wait::until_async(DEADLINE, &format!("{count} ingested records"), async || {
        Ok(raw.count(BIDS).await? + raw.count(DEAD_LETTERS).await? >= count)
    })
    .await
}

/// Waits until ingest has asked the registry again `times` times, without an answer.
async fn asked(proxy: &Proxy, times: u64) -> Result<()> {
    let before = proxy.counts().0;
    let what = format!("{times} requests to the registry");
    wait::until_async(DEADLINE, &what, async || Ok(proxy.counts().0 >= before + times)).await
}

/// Forwards connections to a port, and counts them. Returns its own port.
async fn relay(to: u16) -> Result<(u16, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (port, connections) = (listener.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok((port, connections))
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_references_outages_and_tls_with_the_real_registry() -> Result<()> {
    let (broker, raw) = (Broker::shared(), Raw::new().await?);
    let registry = SchemaRegistry::start()?;
    let (one, two) = register(&registry)?;
    // The proxy counts the requests, also those that the registry does not answer.
    let proxy = Proxy::start(&registry.address(), 0, Faults::none())?;
    let topic = unique("versions");
    broker.create_topic(&topic, 1)?;

    // Two versions in turn, an unknown id, and bytes that are no datum of the schema that they
    // name.
    let mut records = Vec::new();
    for n in 0..100 {
        records.push(if n % 2 == 0 { first(one, n)? } else { second(two, n)? });
    }
    let unknown = first(4_000_000, 1)?;
    let cut = {
        let whole = first(one, 7)?;
        whole[..whole.len() - 3].to_vec()
    };
    records.insert(50, unknown.clone());
    records.insert(60, cut.clone());
    broker.produce(&topic, Some(0), &records)?;
    let settings =
        settings(broker, &topic, at(registry.url().replace(&registry.address(), &proxy.endpoint()["http://".len()..])));
    let report = until_end(&raw, &settings).await?;
    assert_eq!((report.rows[BIDS], report.rejected["unknown_schema"], report.rejected["invalid_avro"]), (100, 1, 1));
    let letters = raw
        .query(DEAD_LETTERS, "select source['offset'], encode(arrow_cast(payload, 'Binary'), 'hex') from t order by 1")
        .await?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(letters, [format!("50 {}", hex(&unknown)), format!("60 {}", hex(&cut))]);
    let rows = "select auction_id, user_id, event_time, bid_price, device['geo']['country'] from t \
                where auction_id in ('6', '7') order by 1";
    assert_eq!(
        raw.query(BIDS, rows).await?,
        ["6 u6 2026-02-25T06:13:26Z  ", "7 nobody 2026-02-25T06:13:27Z 1.250000000000 DEU"]
    );

    // The registry hangs. Records with a known schema are ingested, records with an unknown one
    // wait, and none becomes a dead letter.
    let (cancel, task) = start(&raw, &settings);
    broker.produce(&topic, Some(0), [first(one, 100)?])?;
    arrived(&raw, 103).await?;
    registry.freeze()?;
    broker.produce(&topic, Some(0), [first(one, 101)?])?;
    arrived(&raw, 104).await?;
    broker.produce(&topic, Some(0), [second(two, 102)?, first(one, 103)?])?;
    asked(&proxy, 2).await?;
    assert_eq!((raw.count(BIDS).await?, raw.count(DEAD_LETTERS).await?), (102, 2));
    // If it is stopped in the meantime, it says what is not done, and the next run does it.
    cancel.cancel();
    let unfinished = task.await?.unwrap_err().to_string();
    ensure!(
        unfinished.contains("The next run reads them again") && unfinished.contains("/schemas/ids/"),
        "{unfinished}"
    );
    registry.kill9()?;
    let (cancel, task) = start(&raw, &settings);
    asked(&proxy, 2).await?;
    assert_eq!((raw.count(BIDS).await?, raw.count(DEAD_LETTERS).await?), (102, 2));
    registry.restart()?;
    arrived(&raw, 106).await?;
    cancel.cancel();
    task.await??;
    let all = "select count(*), count(distinct source['offset']), count(distinct auction_id) from t";
    assert_eq!(raw.query(BIDS, all).await?, ["104 104 104"]);
    println!("registry: 2 versions, 1 frozen and 1 killed registry: 104 rows, 2 dead letters of 106 records");

    // Over TLS, with the certificate and without it.
    let topic = unique("tls");
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, Some(0), [second(two, 1)?])?;
    let raw = Raw::new().await?;
    let (port, connections) = relay(registry.tls_port()).await?;
    let url = registry.tls_url().replace(&registry.tls_port().to_string(), &port.to_string());
    let untrusted = super::schemas::settings(broker, &topic, at(url));
    let (cancel, task) = start(&raw, &untrusted);
    let twice = async || Ok(connections.load(Ordering::SeqCst) >= 2);
    wait::until_async(DEADLINE, "a second connection to the registry without its certificate", twice).await?;
    assert_eq!(raw.count(BIDS).await? + raw.count(DEAD_LETTERS).await?, 0);
    cancel.cancel();
    let unfinished = task.await?.unwrap_err().to_string();
    ensure!(unfinished.contains("certificate"), "{unfinished}");
    let trusted = AvroSettings { registry_ca_file: Some(registry.ca_file()), ..at(registry.tls_url()) };
    let report = until_end(&raw, &super::schemas::settings(broker, &topic, trusted)).await?;
    assert_eq!(report.rows[BIDS], 1);
    Ok(())
}
