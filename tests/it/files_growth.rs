//! Files that are not complete yet. A record that the end of the file cuts off is ingested when it
//! is complete, or becomes a dead letter when the file is final.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use adlake_tests::adlake::{Adlake, Output};
use adlake_tests::process::Process;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::raw::Raw;

const IMPRESSIONS: &str = "raw/impressions";
const DEAD_LETTERS: &str = "raw/dead_letters";
const RECORDS: usize = 2_000;
const DEADLINE: Duration = Duration::from_secs(60);
const LAKE: &str = "[lake]\nuri = \"lake\"\n[files]\nsettle = \"300ms\"\npoll_interval = \"50ms\"\n\
                    [ingest]\nflush_interval = \"50ms\"\n";

fn line(n: usize) -> String {
    format!(
        "{{\"ad_creative_id\":\"c{}\",\"user_id\":\"u{n}\",\"timestamp\":\"2026-03-{:02} \
         10:00:00\",\"website\":\"example.com\"}}\n",
        n % 10,
        1 + n % 20
    )
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(line).collect()
}

struct Growing {
    raw: Raw,
    adlake: Adlake,
    file: PathBuf,
}

impl Growing {
    async fn new(name: &str) -> Result<Growing> {
        let raw = Raw::new().await?;
        fs::create_dir(raw.path().join("landing"))?;
        let (adlake, file) = (Adlake::in_dir(raw.path()).config(LAKE), raw.path().join("landing").join(name));
        Ok(Growing { adlake, file, raw })
    }

    fn write(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(&self.file, bytes)?)
    }

    fn append(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(OpenOptions::new().append(true).open(&self.file)?.write_all(bytes.as_ref())?)
    }

    fn run(&self) -> Result<(Output, Value)> {
        let output = self.adlake.run(["ingest", "files", &self.file.display().to_string(), "--format", "json"]);
        let report = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        Ok((output, report))
    }

    /// A run that succeeds. Returns its rows, and its dead letters by reason.
    fn ingest(&self) -> Result<(Value, Value)> {
        let (output, report) = self.run()?;
        ensure!(output.status.success(), "{}", output.stderr);
        Ok((report["rows"].clone(), report["rejected"].clone()))
    }

    fn watch(&self) -> Result<Process> {
        let folder = self.file.parent().context("the file is in no folder")?.display().to_string();
        Ok(self.adlake.spawn(["ingest", "files", &folder, "--watch", "--format", "json"]))
    }

    async fn arrived(&self, table: &str, rows: i64) -> Result<()> {
        let what = format!("{rows} rows in {table}");
        wait::until_async(DEADLINE, &what, async || Ok(self.raw.count(table).await? == rows)).await
    }

    /// Checks that records 0 to `count` are ingested, each once.
    async fn has_each_once(&self, count: usize) -> Result<()> {
        let sql =
            "select count(*), count(distinct user_id), count(distinct source['offset']), max(source['offset']) from t";
        assert_eq!(self.raw.query(IMPRESSIONS, sql).await?, [format!("{count} {count} {count} {}", count - 1)]);
        Ok(())
    }
}

fn rows(count: usize) -> Value {
    if count == 0 { json!({}) } else { json!({ IMPRESSIONS: count }) }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_compressed_file_and_then_the_whole_of_it() -> Result<()> {
    let growing = Growing::new("impressions.ndjson.gz").await?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines(0, RECORDS).as_bytes())?;
    let whole = gzip.finish()?;
    growing.write(&whole[..whole.len() / 2])?;
    let (_, rejected) = growing.ingest()?;
    assert_eq!(rejected, json!({ "truncated": 1 }));
    let half = growing.raw.count(IMPRESSIONS).await?;
    ensure!(half > 100 && half < RECORDS as i64, "{half} records of the half");
    // The letter holds the part of the record that is there, at the record's position.
    let letter = "select source['offset'], arrow_cast(payload, 'Utf8'), format from t";
    let letters = growing.raw.query(DEAD_LETTERS, letter).await?;
    let begins = line(half as usize);
    let kept = letters[0].strip_prefix(&format!("{half} ")).and_then(|rest| rest.strip_suffix(" fragment"));
    ensure!(letters.len() == 1 && kept.is_some_and(|kept| begins.starts_with(kept)), "{letters:?}, {begins}");
    // Reading the unchanged file again adds nothing, even if only the positions are known.
    for _ in 0..2 {
        assert_eq!(growing.ingest()?, (rows(0), json!({})));
        fs::remove_dir_all(growing.raw.path().join("lake/raw/files"))?;
    }
    assert_eq!(growing.raw.count(DEAD_LETTERS).await?, 1);
    growing.write(&whole)?;
    assert_eq!(growing.ingest()?, (rows(RECORDS - half as usize), json!({})));
    growing.has_each_once(RECORDS).await?;
    assert_eq!(growing.ingest()?, (rows(0), json!({})));
    assert_eq!(growing.raw.count(DEAD_LETTERS).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_final_again_and_again_has_a_letter_for_each_end() -> Result<()> {
    let growing = Growing::new("impressions.ndjson").await?;
    let text = lines(0, 30);
    let cut = |n: usize, more: usize| &text[..lines(0, n).len() + more];
    // Only a beginning; a little more of it; then it is complete, with a few others, and another
    // beginning.
    let steps = [(0, 5, 0, 1), (0, 9, 0, 1), (0, 9, 0, 0), (5, 7, 5, 1), (5, 7, 0, 0), (6, 0, 1, 0), (20, 1, 14, 1)];
    for (n, more, new, letters) in steps {
        growing.write(cut(n, more))?;
        let rejected = if letters == 0 { json!({}) } else { json!({ "truncated": letters }) };
        assert_eq!(growing.ingest()?, (rows(new), rejected), "{n} and {more} bytes");
    }
    growing.write(&text)?;
    assert_eq!(growing.ingest()?, (rows(10), json!({})));
    growing.has_each_once(30).await?;
    let offsets = growing.raw.query(DEAD_LETTERS, "select source['offset'] from t order by 1").await?;
    assert_eq!(offsets, ["0", "0", "5", "20"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_letter_and_the_rows() -> Result<()> {
    let mut growing = Growing::new("impressions.ndjson").await?;
    growing.write(format!("{}{{\"ad_creative_id\":", lines(0, 50)))?;
    growing.adlake = growing.adlake.env("ADLAKE_FAILPOINTS", "after-dead-letters=kill");
    let killed = growing.adlake.run(["ingest", "files", &growing.file.display().to_string()]);
    ensure!(!killed.status.success(), "it was not killed");
    assert_eq!((growing.raw.count(IMPRESSIONS).await?, growing.raw.count(DEAD_LETTERS).await?), (0, 1));
    growing.adlake = growing.adlake.env("ADLAKE_FAILPOINTS", "");
    assert_eq!(growing.ingest()?, (rows(50), json!({})));
    growing.write(lines(0, 51))?;
    assert_eq!(growing.ingest()?, (rows(1), json!({})));
    growing.has_each_once(51).await?;
    assert_eq!(growing.raw.count(DEAD_LETTERS).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_waits_for_the_whole_record() -> Result<()> {
    let growing = Growing::new("impressions.ndjson").await?;
    let next = line(20);
    growing.write(format!("{}{}", lines(0, 20), &next[..30]))?;
    let mut process = growing.watch()?;
    growing.arrived(IMPRESSIONS, 20).await.with_context(|| process.logs())?;
    growing.append(&next[30..])?;
    growing.arrived(IMPRESSIONS, 21).await.with_context(|| process.logs())?;
    growing.append(&line(21)[..40])?;
    let said = wait::value(DEADLINE, "the second report of a file that ends within a record", || {
        Ok((process.stderr()?.matches("ends within a record").count() == 2).then_some(()))
    });
    said.with_context(|| process.logs())?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let report: Value = serde_json::from_str(&process.stdout()?)?;
    assert_eq!((status.code(), report["cut_files"].as_array().map(Vec::len)), (Some(0), Some(1)), "{report}");
    assert_eq!((&report["rejected"], growing.raw.count(DEAD_LETTERS).await?), (&json!({}), 0));
    // The file is declared final, so its cut end becomes a letter. Once the record is complete, it
    // is still ingested.
    assert_eq!(growing.ingest()?, (rows(0), json!({ "truncated": 1 })));
    growing.append(&line(21)[40..])?;
    assert_eq!(growing.ingest()?, (rows(1), json!({})));
    growing.has_each_once(22).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_line_without_a_line_end_is_taken_and_must_not_go_on() -> Result<()> {
    let growing = Growing::new("impressions.ndjson").await?;
    let text = lines(0, 3);
    growing.write(text.trim_end())?;
    assert_eq!(growing.ingest()?, (rows(3), json!({})));
    growing.append("\n")?;
    assert_eq!(growing.ingest()?, (rows(0), json!({})));
    growing.write(format!("{}\n{}", text.trim_end(), line(3).trim_end()))?;
    assert_eq!(growing.ingest()?, (rows(1), json!({})));
    // A JSON value ends with its bracket. What follows on its line is something else.
    growing.append(format!(" and more\n{}", line(4)))?;
    assert_eq!(growing.ingest()?, (rows(1), json!({ "invalid_json": 1 })));
    assert_eq!(growing.ingest()?, (rows(0), json!({})));
    let users = "select count(*), count(distinct user_id), max(source['offset']) from t";
    assert_eq!(growing.raw.query(IMPRESSIONS, users).await?, ["5 5 5"]);
    Ok(())
}

/// A row of CSV may continue. Then what follows belongs to the record that is already ingested.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_row_without_a_line_end_is_taken_and_must_not_go_on() -> Result<()> {
    let raw = Raw::new().await?;
    let path = raw.path().join("clicks.csv");
    let row = |n: usize| format!("2026-03-01 10:00:00,u{n},k,click\n");
    let text = format!("timestamp,user_id,campaign_id,conversion_type\n{}{}", row(0), row(1));
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let run = || -> Result<(Option<i32>, Value)> {
        let output = adlake.run(["ingest", "files", "clicks.csv", "--format", "json"]);
        Ok((output.status.code(), serde_json::from_str(&output.stdout)?))
    };
    fs::write(&path, text.trim_end())?;
    let (code, report) = run()?;
    assert_eq!((code, &report["rows"]), (Some(0), &json!({ "raw/interactions": 2 })), "{report}");
    fs::write(&path, format!("{}ed\n{}", text.trim_end(), row(2)))?;
    for _ in 0..2 {
        let (code, report) = run()?;
        let changed = report["changed_files"].as_array().map(Vec::len);
        assert_eq!((code, changed, &report["rows"]), (Some(1), Some(1), &json!({})), "{report}");
    }
    assert_eq!(raw.count("raw/interactions").await?, 2);
    Ok(())
}

const INTERACTIONS: &str = "raw/interactions";
const HEADER: &str = "timestamp,user_id,campaign_id,conversion_type,order_id,value\n";

fn purchase(user: &str, order: &str, value: &str) -> String {
    format!("2026-03-01 10:00:00,{user},k,purchase,{order},{value}\n")
}

/// A row that may continue is not ingested while the file is watched: half a number is also a
/// number, and the first line of a cell with several lines is also a line.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_takes_no_row_that_may_go_on() -> Result<()> {
    let growing = Growing::new("purchases.csv").await?;
    let rows = async |expected: &[&str]| {
        let sql = "select user_id, order_id, value from t order by source['offset']";
        assert_eq!(growing.raw.query(INTERACTIONS, sql).await.unwrap(), expected);
    };
    growing.write(format!("{HEADER}{}{}", purchase("u0", "o0", "1"), purchase("u1", "o1", "12.3").trim_end()))?;
    let mut process = growing.watch()?;
    growing.arrived(INTERACTIONS, 1).await.with_context(|| process.logs())?;
    growing.append("4\n")?;
    growing.arrived(INTERACTIONS, 2).await.with_context(|| process.logs())?;
    let third = purchase("u2", "\"o2\nof two lines\"", "3");
    let cut = third.find("of two").context("the file lacks its second line")?;
    growing.append(format!("{}{}", purchase("u9", "o9", "9"), &third[..cut]))?;
    growing.arrived(INTERACTIONS, 3).await.with_context(|| process.logs())?;
    growing.append(&third[cut..])?;
    growing.arrived(INTERACTIONS, 4).await.with_context(|| process.logs())?;
    let (one, two) = ("u0 o0 1.000000000000", "u1 o1 12.340000000000");
    rows(&[one, two, "u9 o9 9.000000000000", "u2 o2\nof two lines 3.000000000000"]).await;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let report: Value = serde_json::from_str(&process.stdout()?)?;
    assert_eq!((status.code(), &report["rejected"], &report["cut_files"]), (Some(0), &json!({}), &json!([])));
    Ok(())
}

/// A watched file that does not change any more becomes final. Then a last row without a line end
/// is a row, and a record that is cut off is a letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_that_is_left_alone_is_final() -> Result<()> {
    let mut growing = Growing::new("purchases.csv").await?;
    growing.adlake = growing.adlake.config(&LAKE.replace("[files]\n", "[files]\nfinal_after = \"1s\"\n"));
    let impressions = growing.file.with_file_name("impressions.ndjson");
    let next = line(3);
    growing.write(format!("{HEADER}{}{}", purchase("u0", "o0", "1"), purchase("u1", "o1", "2").trim_end()))?;
    fs::write(&impressions, format!("{}{}", lines(0, 3), &next[..30]))?;
    let mut process = growing.watch()?;
    growing.arrived(INTERACTIONS, 2).await.with_context(|| process.logs())?;
    growing.arrived(DEAD_LETTERS, 1).await.with_context(|| process.logs())?;
    growing.arrived(IMPRESSIONS, 3).await.with_context(|| process.logs())?;
    // The whole record is ingested all the same, and the file of rows may grow by further rows.
    OpenOptions::new().append(true).open(&impressions)?.write_all(&next.as_bytes()[30..])?;
    growing.append(format!("\n{}", purchase("u2", "o2", "3")))?;
    growing.arrived(IMPRESSIONS, 4).await.with_context(|| process.logs())?;
    growing.arrived(INTERACTIONS, 3).await.with_context(|| process.logs())?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let report: Value = serde_json::from_str(&process.stdout()?)?;
    let rejected = json!({ "truncated": 1 });
    assert_eq!((status.code(), &report["rejected"], &report["cut_files"]), (Some(0), &rejected, &json!([])));
    assert_eq!(growing.raw.count(DEAD_LETTERS).await?, 1);
    growing.has_each_once(4).await
}
