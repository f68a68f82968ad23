//! The built program watches landing folders and prefixes. Each record is ingested once, and
//! nothing of a file before the file is complete.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use adlake_lake::{Lake, StorageSettings};
use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::s3::S3Server;
use adlake_tests::setup;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use object_store::{ObjectStoreExt, path::Path as Key};
use serde_json::Value;

use crate::raw::Raw;

const DEADLINE: Duration = Duration::from_secs(60);
const IMPRESSIONS: &str = "raw/impressions";
const WATCHFUL: &str = "[files]\nsettle = \"1500ms\"\npoll_interval = \"100ms\"\nsweep_interval = \
    \"3s\"\n[ingest]\nflush_interval = \"100ms\"\n";

fn lines(from: usize, to: usize) -> String {
    let line = |n: usize| {
        format!(
            "{{\"ad_creative_id\":\"c{}\",\"user_id\":\"u{n}\",\"timestamp\":\"2026-03-{:02} \
             10:00:00\",\"website\":\"example.com\"}}\n",
            n % 10,
            1 + n % 20
        )
    };
    (from..to).map(line).collect()
}

async fn arrived(raw: &Raw, table: &str, rows: i64) -> Result<Duration> {
    let begun = Instant::now();
    wait::until_async(DEADLINE, &format!("{rows} rows in {table}"), async || {
        let found = raw.count(table).await?;
        ensure!(found <= rows, "{table} has {found} rows, more than {rows}");
        Ok(found == rows)
    })
    .await?;
    Ok(begun.elapsed())
}

/// Waits until the program logs this text.
fn says(process: &Process, text: &str) -> Result<()> {
    let said =
        wait::value(DEADLINE, &format!("{text:?} in the log"), || Ok(process.stderr()?.contains(text).then_some(())));
    said.with_context(|| process.logs())
}

async fn of_file(raw: &Raw, name: &str) -> Result<i64> {
    raw.number(IMPRESSIONS, &format!("select count(*) from t where source['topic'] like '%{name}'")).await
}

/// Ends a run by SIGTERM. Returns its exit code and its report.
fn stop(mut process: Process) -> Result<(Option<i32>, Value)> {
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let text = process.stdout()?;
    let report = serde_json::from_str(&text).with_context(|| format!("{status}: {text}\n{}", process.logs()))?;
    Ok((status.code(), report))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landing_folder_is_followed() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("landing");
    fs::create_dir(&folder)?;
    fs::write(folder.join("impressions-0.ndjson"), lines(0, 100))?;
    // Links to nowhere and links back to the folder do not affect other files.
    symlink("nowhere", folder.join("impressions-nowhere.ndjson"))?;
    symlink(".", folder.join("again"))?;
    let adlake = Adlake::in_dir(raw.path()).config(&format!("[lake]\nuri = \"lake\"\n{WATCHFUL}"));
    let landing = folder.display().to_string();
    let process = adlake.spawn(["ingest", "files", &landing, "--watch", "--format", "json"]);
    arrived(&raw, IMPRESSIONS, 100).await?;
    fs::write(folder.join("impressions-1.ndjson"), lines(100, 200))?;
    let first = arrived(&raw, IMPRESSIONS, 200).await?;
    fs::create_dir_all(folder.join("2026/03"))?;
    let clicks = "timestamp,user_id,campaign_id,conversion_type\n2026-03-01 10:00:00,u1,k1,click\n";
    fs::write(folder.join("2026/03/clicks.csv"), clicks)?;
    let second = arrived(&raw, "raw/interactions", 1).await?;
    println!("a new file was in {first:?} after it was written, one in a new folder {second:?} (settle 1.5 s)");

    // One file is written in pieces, cut anywhere, under its final name. Another has a temporary
    // name until it is complete.
    let whole = lines(200, 300);
    let mut slow = OpenOptions::new().create(true).append(true).open(folder.join("impressions-2.ndjson"))?;
    let mut hidden = OpenOptions::new().create(true).append(true).open(folder.join("impressions-3.ndjson.tmp"))?;
    hidden.write_all(lines(300, 400).as_bytes())?;
    for piece in whole.as_bytes().chunks(whole.len() / 15 + 1) {
        assert_eq!(of_file(&raw, "impressions-2.ndjson").await?, 0, "a file that is being written was read");
        slow.write_all(piece)?;
        // The pieces come faster than `files.settle`, so the file never looks complete.
        std::thread::sleep(Duration::from_millis(150));
    }
    arrived(&raw, IMPRESSIONS, 300).await?;
    assert_eq!(of_file(&raw, "tmp").await?, 0);
    fs::rename(folder.join("impressions-3.ndjson.tmp"), folder.join("impressions-3.ndjson"))?;
    arrived(&raw, IMPRESSIONS, 400).await?;
    // A file that grows is read further.
    let mut grows = OpenOptions::new().append(true).open(folder.join("impressions-1.ndjson"))?;
    grows.write_all(lines(400, 450).as_bytes())?;
    arrived(&raw, IMPRESSIONS, 450).await?;
    // A file that is rewritten is reported and not read.
    fs::write(folder.join("impressions-0.ndjson"), lines(1_000, 1_200))?;
    says(&process, "impressions-0.ndjson")?;
    fs::write(folder.join("impressions-4.ndjson"), lines(450, 500))?;
    arrived(&raw, IMPRESSIONS, 500).await?;
    assert_eq!(of_file(&raw, "impressions-0.ndjson").await?, 100);
    assert_eq!(raw.number(IMPRESSIONS, "select count(distinct user_id) from t").await?, 500);
    assert_eq!(raw.count("raw/dead_letters").await?, 0);
    let (code, report) = stop(process)?;
    assert_eq!(code, Some(1), "a changed file is a failure: {report}");
    assert_eq!(report["changed_files"].as_array().map(Vec::len), Some(1), "{report}");

    // Finished files are not opened again, and changed files are reported again.
    let listed = "select status, count(distinct path) from t where status <> 'begun' group by 1 order by 1";
    assert_eq!(raw.query("raw/files", listed).await?, ["changed 1", "ingested 6"]);
    let again = adlake.run(["ingest", "files", &landing, "--format", "json"]);
    ensure!(!again.status.success() && again.stderr.contains("impressions-nowhere"), "{}", again.stderr);
    fs::remove_file(folder.join("impressions-nowhere.ndjson"))?;
    let again = adlake.run(["ingest", "files", &landing, "--format", "json"]);
    let report: Value = serde_json::from_str(&again.stdout).with_context(|| again.stderr.clone())?;
    assert_eq!((again.status.code(), &report["records_read"]), (Some(1), &Value::from(0)), "{report}");
    Ok(())
}

/// Kills ingest repeatedly while it reads one large file, and lets it finish at last.
async fn kill_in_the_middle(adlake: &Adlake, raw: &Raw, path: &str, records: i64) -> Result<()> {
    let mut kills = 0;
    let mut before = 0;
    while kills < 3 {
        let mut process = adlake.spawn(["ingest", "files", path, "--watch"]);
        let begun = Instant::now();
        let found = loop {
            let found = raw.count(IMPRESSIONS).await?;
            if found > before {
                break found;
            }
            ensure!(begun.elapsed() < DEADLINE, "no more than {found} rows\n{}", process.logs());
        };
        process.kill9()?;
        ensure!(found < records, "all of it was in before the kill: {found}");
        before = raw.count(IMPRESSIONS).await?;
        kills += 1;
    }
    adlake.ok(["ingest", "files", path]);
    let sql = "select count(*), count(distinct source['offset']), max(source['offset']) from t";
    assert_eq!(raw.query(IMPRESSIONS, sql).await?, [format!("{records} {records} {}", records - 1)]);
    println!("{records} records, killed {kills} times, the last time with {before} in: each is in once");
    Ok(())
}

const FEW_AT_A_TIME: &str = "[ingest]\nflush_rows = 20000\nqueue_bytes_max = 1048576\n";

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_large_file() -> Result<()> {
    let raw = Raw::new().await?;
    let adlake = Adlake::in_dir(raw.path()).config(&format!("[lake]\nuri = \"lake\"\n{FEW_AT_A_TIME}"));
    let path = raw.path().join("impressions.ndjson.zst");
    fs::write(&path, zstd::encode_all(lines(0, 600_000).as_bytes(), 1)?)?;
    kill_in_the_middle(&adlake, &raw, &path.display().to_string(), 600_000).await
}

/// A lake and a landing prefix on the same server.
struct OnS3 {
    s3: S3Server,
    raw: Raw,
    adlake: Adlake,
}

impl OnS3 {
    async fn new(config: &str) -> Result<OnS3> {
        let s3 = S3Server::start()?;
        let folder = tempfile::tempdir()?;
        let options: BTreeMap<String, String> = s3.storage_options().into_iter().collect();
        let settings = StorageSettings {
            uri: s3.uri("lake"),
            options: options.clone().into_iter().collect(),
            ..StorageSettings::default()
        };
        let lake = Lake::open(&settings).await?;
        let quoted: String = options.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
        let text = format!("[lake]\nuri = \"{}\"\n[lake.options]\n{quoted}{config}", s3.uri("lake"));
        let adlake = Adlake::in_dir(folder.path()).config(&text);
        Ok(OnS3 { s3, raw: Raw { folder, lake }, adlake })
    }

    async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.s3.store()?.put(&Key::from(key), bytes.into().into()).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_large_object() -> Result<()> {
    let on = OnS3::new(FEW_AT_A_TIME).await?;
    on.put("landing/impressions.ndjson", lines(0, 400_000)).await?;
    kill_in_the_middle(&on.adlake, &on.raw, &on.s3.uri("landing"), 400_000).await
}

/// An object is whole when it is seen, so its last row is taken at once, line end or not. What is
/// cut off is a dead letter, and comes in when a whole object takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_final_as_soon_as_it_is_seen() -> Result<()> {
    let on = OnS3::new("[files]\npoll_interval = \"100ms\"\nsweep_interval = \"1s\"\n").await?;
    let rows = "timestamp,user_id,campaign_id,conversion_type\n2026-03-01 10:00:00,u1,k,click";
    on.put("landing/clicks.csv", rows).await?;
    on.put("landing/impressions.ndjson", format!("{}{{\"ad_creative_id\":", lines(0, 3))).await?;
    let process = on.adlake.spawn(["ingest", "files", &on.s3.uri("landing"), "--watch", "--format", "json"]);
    arrived(&on.raw, "raw/interactions", 1).await.with_context(|| process.logs())?;
    arrived(&on.raw, "raw/dead_letters", 1).await.with_context(|| process.logs())?;
    on.put("landing/impressions.ndjson", lines(0, 5)).await?;
    arrived(&on.raw, IMPRESSIONS, 5).await.with_context(|| process.logs())?;
    let (code, report) = stop(process)?;
    let expected = (Some(0), &serde_json::json!({ "truncated": 1 }), &serde_json::json!([]));
    assert_eq!((code, &report["rejected"], &report["cut_files"]), expected, "{report}");
    assert_eq!(on.raw.query(IMPRESSIONS, "select count(distinct user_id) from t").await?, ["5"]);
    Ok(())
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("no connection to the metrics")?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn listings(port: u16) -> Result<u64> {
    let text = get(port, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix("adlake_ingest_listings_total "));
    line.with_context(|| text.clone())?.trim().parse().context("the metric is not a number")
}

/// Creates empty objects, which are never read, in folders of a thousand each. They are files, as
/// the server itself would write them.
fn many_objects(bucket: &Path, count: usize) -> Result<()> {
    for n in 0..count {
        let folder = bucket.join(format!("landing/2026/11/{:03}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(format!("impressions-{:05}.ndjson", 2 * (n % 1000))), "")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_a_hundred_thousand_objects_is_not_listed_again_and_again() -> Result<()> {
    const OBJECTS: usize = 100_000;
    const POLL: Duration = Duration::from_millis(100);
    let port = setup::free_port()?;
    let config = format!(
        "[files]\npoll_interval = \"100ms\"\nsweep_interval = \"5m\"\n\
         [ingest]\nflush_interval = \"100ms\"\nmetrics_listen = \"127.0.0.1:{port}\"\n"
    );
    let on = OnS3::new(&config).await?;
    many_objects(&on.s3.bucket_folder(), OBJECTS)?;
    on.put("landing/2026/11/050/impressions-00001.ndjson", lines(0, 10)).await?;
    let landing = on.s3.uri("landing/");
    let process = on.adlake.spawn(["ingest", "files", &landing, "--watch", "--format", "json"]);
    arrived(&on.raw, IMPRESSIONS, 10).await.with_context(|| process.logs())?;
    let whole = listings(port)?;
    let begun = Instant::now();
    // One object sorts after all others. The next is between others, but in the folder that
    // received an object last.
    on.put("landing/2026/11/099/impressions-99999.ndjson", lines(10, 20)).await?;
    let last = arrived(&on.raw, IMPRESSIONS, 20).await?;
    on.put("landing/2026/11/050/impressions-99999.ndjson", lines(20, 30)).await?;
    let between = arrived(&on.raw, IMPRESSIONS, 30).await?;
    // Some polls find nothing new. Each makes a request at least.
    let before = listings(port)?;
    wait::value(DEADLINE, "polls of a folder without new objects", || {
        Ok((listings(port)? >= before + 5).then_some(()))
    })?;
    let requests = listings(port)? - whole;
    let polls = begun.elapsed().as_millis() / POLL.as_millis() + 1;
    println!(
        "{OBJECTS} objects: {whole} listings at first, then {requests} in {polls} polls; an object after all others \
         was in \
         {last:?} after it was put, one in between {between:?}"
    );
    assert!(whole >= OBJECTS as u64 / 1000);
    assert!(u128::from(requests) <= polls * 6, "{requests} listings in {polls} polls");
    // An object in an older folder is found when the sweep reaches the folder.
    on.put("landing/2026/11/000/impressions-00001.ndjson", lines(30, 40)).await?;
    let swept = arrived(&on.raw, IMPRESSIONS, 40).await?;
    println!("an object in an old folder was in {swept:?} after it was put");
    // A changed object is reported and not read.
    on.put("landing/2026/11/050/impressions-99999.ndjson", lines(500, 520)).await?;
    says(&process, "050/impressions-99999.ndjson")?;
    let (code, report) = stop(process)?;
    assert_eq!((code, report["changed_files"].as_array().map(Vec::len)), (Some(1), Some(1)), "{report}");
    assert_eq!(on.raw.count(IMPRESSIONS).await?, 40);
    Ok(())
}
