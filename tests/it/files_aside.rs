//! Files that cannot be read as they are. They are set aside with the reason and do not affect
//! other files. Once the reason is fixed, they are ingested.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use adlake_tests::adlake::{Adlake, Output};
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::raw::Raw;

const IMPRESSIONS: &str = "raw/impressions";
const INTERACTIONS: &str = "raw/interactions";
const BIDS: &str = "raw/bid_requests";
const DEAD_LETTERS: &str = "raw/dead_letters";
const LAKE: &str = "[lake]\nuri = \"lake\"\n";
const DEADLINE: Duration = Duration::from_secs(60);

/// A lake with a folder of files to ingest.
struct Landing {
    raw: Raw,
    folder: PathBuf,
}

impl Landing {
    async fn new() -> Result<Landing> {
        let raw = Raw::new().await?;
        let folder = raw.path().join("landing");
        fs::create_dir(&folder)?;
        Ok(Landing { raw, folder })
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.folder.join(name), bytes)?)
    }

    fn adlake(&self) -> Adlake {
        configured(Adlake::in_dir(self.raw.path()), "")
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    fn ingest(&self, adlake: &Adlake, more: &[&str]) -> Result<(Output, Value)> {
        let path = self.path();
        let arguments = ["ingest", "files", &path, "--format", "json"];
        let output = adlake.run(arguments.iter().chain(more));
        let report = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        Ok((output, report))
    }
}

/// Changes the configuration for later runs. All runs in a folder belong to one program, which
/// numbers them.
fn configured(adlake: Adlake, more: &str) -> Adlake {
    adlake.config(&format!("{LAKE}{more}"))
}

/// The names of the files that a report lists as set aside.
fn set_aside(report: &Value) -> Vec<String> {
    let names = report["set_aside"].as_object().into_iter().flat_map(|files| files.keys());
    names.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

const HEADER: &str = "timestamp,user_id,campaign_id,conversion_type";

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_found_below_what_an_export_puts_before_it() -> Result<()> {
    let landing = Landing::new().await?;
    landing.write(
        "clicks-sep.csv",
        "sep=;\r\nuser_id;timestamp;campaign_id;conversion_type\r\nu1;2026-03-01 10:00:00;k;click\r\n",
    )?;
    landing.write("clicks-comma.csv", format!("sep=,\n{HEADER}\n2026-03-01 10:00:00,u2,k,click\n"))?;
    let report = format!(
        "Report name,My \"report\nDate range,2026-03-01 to 2026-03-31\n\n{HEADER}\n2026-03-01 \
         10:00:00,u3,k,click\nTotal,,,1\n"
    );
    landing.write("clicks-report.csv", report)?;
    let few = format!("{HEADER},source,medium,term,content,price_eur\n2026-03-01 10:00:00,u4,k,purchase,s,m,t,c,9.5\n");
    landing.write("conversions-few-names-known.csv", few)?;
    landing.write("clicks-header-only.csv", HEADER)?;
    landing.write("clicks-empty.csv", "")?;
    let adlake = landing.adlake();
    let (output, report) = landing.ingest(&adlake, &[])?;
    ensure!(output.status.success(), "{}", output.stderr);
    assert_eq!(report["rows"], json!({ INTERACTIONS: 4 }));
    assert_eq!((&report["preamble_lines"], &report["set_aside"]), (&json!(4), &json!({})), "{report}");
    let sql = "select user_id, conversion_type, order_id, value, attributes from t order by 1";
    let expected = [
        "u1 click   ",
        "u2 click   ",
        "u3 click   ",
        r#"u4 purchase   {"source":"s","medium":"m","term":"t","content":"c","price_eur":"9.5"}"#,
    ];
    assert_eq!(landing.raw.query(INTERACTIONS, sql).await?, expected);
    let letters = "select arrow_cast(payload, 'Utf8'), source['offset'] from t";
    assert_eq!(landing.raw.query(DEAD_LETTERS, letters).await?, ["Total,,,1 1"]);
    let (_, again) = landing.ingest(&adlake, &[])?;
    assert_eq!((&again["records_read"], &again["preamble_lines"]), (&json!(0), &json!(0)), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_known_header_is_set_aside_until_the_configuration_knows_it() -> Result<()> {
    let landing = Landing::new().await?;
    // Read by position, the rows would look good: the columns after the fourth would become an id,
    // a creative and an order.
    let rows: String = (0..20).map(|n| format!("2026-03-01 10:00:{n:02},u{n},k,purchase,a,b,c,d,1.5\n")).collect();
    landing.write("conversions.csv", format!("zeit,nutzer,kampagne,typ,quelle,medium,begriff,inhalt,preis\n{rows}"))?;
    landing.write("clicks-good.csv", format!("{HEADER}\n2026-03-01 10:00:00,u,k,click\n"))?;
    let adlake = landing.adlake();
    for _ in 0..2 {
        let (output, report) = landing.ingest(&adlake, &[])?;
        assert_eq!((output.status.code(), set_aside(&report)), (Some(1), vec!["conversions.csv".to_owned()]));
        ensure!(output.stderr.contains("set aside"), "{}", output.stderr);
        assert_eq!((landing.raw.count(INTERACTIONS).await?, landing.raw.count(DEAD_LETTERS).await?), (1, 0));
    }
    let listed = "select status, records, reason like '%header%' from t where path like '%conversions.csv'";
    assert_eq!(landing.raw.query("raw/files", listed).await?, vec!["set_aside 0 true"; 2]);

    let names = "[sources.interactions.fields]\ntimestamp = [\"zeit\"]\nuser_id = [\"nutzer\"]\n\
                 campaign_id = [\"kampagne\"]\nconversion_type = [\"typ\"]\nvalue = [\"preis\"]\n";
    let mended = configured(adlake, names);
    let (output, report) = landing.ingest(&mended, &[])?;
    ensure!(output.status.success(), "{}", output.stderr);
    assert_eq!((&report["rows"], &report["set_aside"]), (&json!({ INTERACTIONS: 20 }), &json!({})));
    let sql = "select count(*), count(order_id), count(distinct user_id), max(value) from t where source['topic'] like \
        '%conversions.csv'";
    assert_eq!(landing.raw.query(INTERACTIONS, sql).await?, ["20 0 20 1.500000000000"]);
    let (output, again) = landing.ingest(&mended, &[])?;
    assert_eq!((output.status.code(), &again["records_read"]), (Some(0), &json!(0)), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_read_by_the_header_of_their_file_once_the_delimiter_is_mended() -> Result<()> {
    let landing = Landing::new().await?;
    let text = "conversion_type;user_id;timestamp;campaign_id;value\nclick;u1;2026-03-01 \
        10:00:00;k1;\npurchase;u2;2026-03-01 10:00:01;k2;7.5\n";
    landing.write("clicks-told.csv", text)?;
    let csv = |keys: &str| format!("[sources.interactions.csv]\n{keys}\n");
    // With a wrong delimiter the file is set aside ...
    let adlake = landing.adlake();
    let (output, report) = landing.ingest(&adlake, &[])?;
    assert_eq!((output.status.code(), set_aside(&report)), (Some(1), vec!["clicks-told.csv".to_owned()]));
    ensure!(output.stdout.contains("with csv.delimiter = ';' one of them is"), "{}", output.stdout);
    // ... and if the configuration states that it has a header, or has none, every row becomes a
    // dead letter.
    let adlake = configured(adlake, &csv("header = true"));
    landing.ingest(&adlake, &[])?;
    fs::rename(landing.folder.join("clicks-told.csv"), landing.folder.join("clicks-not-told.csv"))?;
    let adlake = configured(adlake, &csv("header = false"));
    landing.ingest(&adlake, &[])?;
    assert_eq!((landing.raw.count(INTERACTIONS).await?, landing.raw.count(DEAD_LETTERS).await?), (0, 5));

    let mended = configured(adlake, &csv("delimiter = \";\""));
    let replayed: Value = serde_json::from_str(&mended.ok(["deadletters", "replay", "--format", "json"]))?;
    assert_eq!((&replayed["replayed"], &replayed["rejected"]), (&json!(4), &json!({ "header": 1 })), "{replayed}");
    let sql = "select user_id, campaign_id, conversion_type, value, order_id from t order by source['topic'], 1";
    let expected = ["u1 k1 click  ", "u2 k2 purchase 7.500000000000 "];
    assert_eq!(landing.raw.query(INTERACTIONS, sql).await?, [expected, expected].concat());
    Ok(())
}

/// A container of three bid requests.
fn bids() -> Result<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "Bid", "fields": [{"name": "auction_id", "type": "string"},
            {"name": "user_id", "type": "string"}, {"name": "timestamp", "type": "long"}]}"#,
    )?;
    let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), apache_avro::Codec::Snappy)?;
    for n in 0..3i64 {
        let mut record = apache_avro::types::Record::new(&schema).context("the schema is no record's")?;
        record.put("auction_id", format!("a{n}"));
        record.put("user_id", "u");
        record.put("timestamp", 1_772_000_000 + n);
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// Files each of which would end a run by itself, with a part of the message about each.
fn unusable(landing: &Landing) -> Result<Vec<(&'static str, &'static str)>> {
    let good = bids()?;
    landing.write("bids-a-text.avro", "no container at all")?;
    landing.write("bids-b-cut.avro", &good[..40])?;
    landing.write("bids-c-codec.avro", replaced(&good, b"snappy", b"snippy"))?;
    let schema = apache_avro::Schema::parse_str("\"string\"")?;
    let mut writer = apache_avro::Writer::new(&schema, Vec::new())?;
    writer.append_value("text")?;
    landing.write("bids-d-no-record.avro", writer.into_inner()?)?;
    Ok(vec![
        ("bids-a-text.avro", "not an Avro object container"),
        ("bids-b-cut.avro", "header is damaged or cut off"),
        ("bids-c-codec.avro", "snippy"),
        ("bids-d-no-record.avro", "schema"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_file_stops_no_other() -> Result<()> {
    let landing = Landing::new().await?;
    let mut expected = unusable(&landing)?;
    landing.write("bids-good.avro", bids()?)?;
    landing.write("clicks-good.csv", format!("{HEADER}\n2026-03-01 10:00:00,u,k,click\n"))?;
    let locked = landing.folder.join("bids-e-locked.avro");
    fs::write(&locked, bids()?)?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000))?;
    // A link to nowhere is one of them.
    std::os::unix::fs::symlink("nowhere", landing.folder.join("bids-f-nowhere.avro"))?;
    // The superuser can read it all the same.
    let is_locked = fs::File::open(&locked).is_err();
    if is_locked {
        expected.push(("bids-e-locked.avro", "ermission denied"));
    }
    let listed = "select count(*) from t where status = 'set_aside' and reason <> ''";
    let known = expected.len() as i64;
    expected.push(("bids-f-nowhere.avro", "No such file"));
    let adlake = landing.adlake();
    let (output, report) = landing.ingest(&adlake, &[])?;
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert_eq!(set_aside(&report), expected.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    for (name, said) in &expected {
        let path = landing.folder.join(name).display().to_string();
        let reason = report["set_aside"][&path].as_str().unwrap_or_default();
        ensure!(reason.contains(said), "{name}: {reason}");
        ensure!(output.stderr.contains(name), "{name} is not in the log: {}", output.stderr);
    }
    let good = if is_locked { 3 } else { 6 };
    assert_eq!((landing.raw.count(BIDS).await?, landing.raw.count(INTERACTIONS).await?), (good, 1));
    assert_eq!(landing.raw.number("raw/files", listed).await?, known);

    // Once they are written correctly, they are ingested.
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o644))?;
    fs::remove_file(landing.folder.join("bids-f-nowhere.avro"))?;
    for (name, _) in &expected {
        landing.write(name, bids()?)?;
    }
    let (output, report) = landing.ingest(&adlake, &[])?;
    ensure!(output.status.success(), "{}", output.stderr);
    // The good file, four that were damaged, the locked one, and the one that was a link to
    // nowhere.
    assert_eq!((landing.raw.count(BIDS).await?, &report["set_aside"]), (21, &json!({})));
    Ok(())
}

async fn arrived(raw: &Raw, table: &str, rows: i64) -> Result<()> {
    let what = format!("{rows} rows in {table}");
    wait::until_async(DEADLINE, &what, async || Ok(raw.count(table).await? == rows)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_outlives_unusable_files_and_takes_them_when_they_are_mended() -> Result<()> {
    let landing = Landing::new().await?;
    unusable(&landing)?;
    landing.write("bids-good.avro", bids()?)?;
    let watchful = "[files]\nsettle = \"300ms\"\npoll_interval = \"50ms\"\n[ingest]\nflush_interval = \"50ms\"\n";
    let adlake = configured(landing.adlake(), watchful);
    let mut process = adlake.spawn(["ingest", "files", &landing.path(), "--watch", "--format", "json"]);
    arrived(&landing.raw, BIDS, 3).await.with_context(|| process.logs())?;
    landing.write("bids-a-text.avro", bids()?)?;
    landing.write("clicks.csv", format!("{HEADER}\n2026-03-01 10:00:00,u,k,click\n"))?;
    arrived(&landing.raw, BIDS, 6).await.with_context(|| process.logs())?;
    arrived(&landing.raw, INTERACTIONS, 1).await.with_context(|| process.logs())?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let report: Value = serde_json::from_str(&process.stdout()?)?;
    let left = ["bids-b-cut.avro", "bids-c-codec.avro", "bids-d-no-record.avro"];
    assert_eq!((status.code(), set_aside(&report)), (Some(1), left.map(str::to_owned).to_vec()), "{report}");
    Ok(())
}

fn click(n: usize) -> String {
    format!(
        "{{\"timestamp\":\"2026-03-01 10:00:00\",\"user_id\":\"u{n}\",\
         \"campaign_id\":\"k\",\"conversion_type\":\"click\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_read_as_the_wrong_kind_comes_in_as_the_right_one() -> Result<()> {
    let landing = Landing::new().await?;
    landing.write("events.ndjson", [click(0), click(1), "{\"bad\": 1}\n".to_owned(), click(2)].concat())?;
    let adlake = landing.adlake();
    // The format alone makes it a file of impressions.
    let (_, wrong) = landing.ingest(&adlake, &[])?;
    assert_eq!((&wrong["rows"], &wrong["rejected"]), (&json!({}), &json!({ "missing_field": 4 })), "{wrong}");
    let (_, right) = landing.ingest(&adlake, &["--kind", "interactions"])?;
    assert_eq!(right["rows"], json!({ INTERACTIONS: 3 }), "{right}");
    assert_eq!(right["rejected"], json!({ "missing_field": 1 }), "{right}");
    let letters = "select kind, source['offset'] from t order by 1, 2";
    let expected = ["impressions 0", "impressions 1", "impressions 2", "impressions 3", "interactions 2"];
    assert_eq!(landing.raw.query(DEAD_LETTERS, letters).await?, expected);
    // Each kind keeps its own positions in the file.
    for more in [&["--kind", "interactions"][..], &["--kind", "impressions"], &["--kind", "interactions"], &[]] {
        let (_, again) = landing.ingest(&adlake, more)?;
        assert_eq!((&again["rows"], &again["rejected"]), (&json!({}), &json!({})), "{more:?}: {again}");
    }
    // The file grows, and each kind continues from its own position.
    landing.write("events.ndjson", [click(0), click(1), "{\"bad\": 1}\n".to_owned(), click(2), click(3)].concat())?;
    let (_, grown) = landing.ingest(&adlake, &["--kind", "interactions"])?;
    assert_eq!((&grown["rows"], &grown["rejected"]), (&json!({ INTERACTIONS: 1 }), &json!({})), "{grown}");
    // The letters of each kind are replayed separately.
    let mended = configured(
        adlake,
        "[sources.interactions.defaults]\ntimestamp = \"file_time\"\nuser_id = \"u\"\ncampaign_id = \
         \"k\"\nconversion_type = \"click\"\n",
    );
    let replay = |kind: &str| -> Result<Value> {
        Ok(serde_json::from_str(&mended.ok(["deadletters", "replay", "--kind", kind, "--format", "json"]))?)
    };
    let (clicks, impressions) = (replay("interactions")?, replay("impressions")?);
    assert_eq!((&clicks["letters"], &clicks["replayed"]), (&json!(1), &json!(1)), "{clicks}");
    assert_eq!((&impressions["letters"], &impressions["replayed"]), (&json!(4), &json!(0)), "{impressions}");
    assert_eq!((landing.raw.count(INTERACTIONS).await?, landing.raw.count(IMPRESSIONS).await?), (5, 0));
    Ok(())
}

#[test]
fn a_path_that_is_named_and_not_there_is_still_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let adlake = Adlake::in_dir(folder.path()).config(LAKE);
    let output = adlake.run(["ingest", "files", "nothing.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("nothing.csv"), "{}", output.stderr);
}
