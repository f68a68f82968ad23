//! Tables that change: other writers change them during ingest, the configuration does, or a newer
//! adlake does. A change that fits does not stop ingest. A change that does not fit stops only its
//! table.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::process::Process;
use adlake_tests::readers::{self, COUNT};
use adlake_tests::setup;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::raw::Raw;

const IMPRESSIONS: &str = "raw/impressions";
const INTERACTIONS: &str = "raw/interactions";
const DEAD_LETTERS: &str = "raw/dead_letters";
const DEADLINE: Duration = Duration::from_secs(60);

/// Changes a table with Python's deltalake. In the script, `dt` is the table and `path` its place.
fn from_outside(raw: &Raw, table: &str, script: &str) -> Result<()> {
    let prelude = "import sys, pyarrow as pa\nfrom deltalake import DeltaTable, Field, write_deltalake\n\
        from deltalake.schema import PrimitiveType\npath = sys.argv[1]\ndt = DeltaTable(path)\n";
    let mut command = Command::new(setup::python()?);
    command.args(["-I", "-c"]).arg(format!("{prelude}{script}"));
    command.arg(raw.path().join("lake").join(table)).stdin(Stdio::null());
    let mut process = Process::start("outside", command, raw.path())?;
    let status = process.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{script}: {status}\n{}", process.logs());
    Ok(())
}

/// A script that rewrites the whole table. `columns` is a dictionary of its columns, which `change`
/// may modify.
fn rewritten(change: &str) -> String {
    format!(
        "rows = dt.to_pyarrow_table()\ncolumns = dict(zip(rows.column_names, rows.columns))\n{change}\n\
         write_deltalake(path, pa.table(columns), mode='overwrite', schema_mode='overwrite', \
         partition_by=['event_date'])\n"
    )
}

fn impression(n: usize, more: &str) -> String {
    format!(
        concat!(
            r#"{{"ad_creative_id":"c{}","user_id":"u{n}","#,
            r#""timestamp":"2026-03-{:02} 10:00:00","website":"example.com"{more}}}"#
        ),
        n % 10,
        1 + n % 3,
        n = n,
        more = more
    )
}

fn interaction(n: usize) -> String {
    format!("2026-03-01 11:00:00,u{n},k1,click")
}

fn report(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Waits until a table has this many rows.
async fn arrived(raw: &Raw, table: &str, rows: i64, process: &Process) -> Result<()> {
    let what = format!("{rows} rows in {table}");
    let came = wait::until_async(DEADLINE, &what, async || Ok(raw.count(table).await? >= rows));
    came.await.with_context(|| process.logs())
}

/// Two topics of a broker, and the adlake that reads them.
struct Topics {
    broker: &'static Broker,
    impressions: String,
    interactions: String,
    sent: usize,
}

impl Topics {
    fn new() -> Result<Topics> {
        let broker = Broker::shared();
        let topics = Topics { broker, impressions: unique("changed"), interactions: unique("unchanged"), sent: 0 };
        broker.create_topic(&topics.impressions, 2)?;
        broker.create_topic(&topics.interactions, 2)?;
        Ok(topics)
    }

    fn adlake(&self, folder: &Path) -> Adlake {
        Adlake::in_dir(folder).config(&format!(
            "[lake]\nuri = \"lake\"\n[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\n[ingest]\nflush_interval = \"50ms\"\n\
             [sources.impressions]\ntopic = \"{}\"\n[sources.interactions]\ntopic = \
             \"{}\"\n[sources.bid_requests]\ntopic = \"\"\n",
            self.broker.bootstrap(),
            self.impressions,
            self.impressions,
            self.interactions
        ))
    }

    /// Sends a hundred more records to each topic. Returns how many each of them has now.
    fn send(&mut self) -> Result<i64> {
        let numbers = self.sent..self.sent + 100;
        self.broker.produce(&self.impressions, None, numbers.clone().map(|n| impression(n, "")))?;
        self.broker.produce(&self.interactions, None, numbers.map(interaction))?;
        self.sent += 100;
        Ok(self.sent as i64)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_by_others_is_taken_without_a_restart() -> Result<()> {
    let (raw, mut topics) = (Raw::new().await?, Topics::new()?);
    let adlake = topics.adlake(raw.path());
    let mut process = adlake.spawn(["ingest", "kafka"]);
    let count = topics.send()?;
    arrived(&raw, IMPRESSIONS, count, &process).await?;
    from_outside(
        &raw,
        IMPRESSIONS,
        "dt.alter.add_columns([Field('tier', PrimitiveType('string')), Field('score', PrimitiveType('long'))])",
    )?;
    from_outside(&raw, DEAD_LETTERS, "dt.alter.add_columns([Field('ticket', PrimitiveType('string'))])")?;
    for _ in 0..2 {
        let count = topics.send()?;
        arrived(&raw, IMPRESSIONS, count, &process).await?;
        arrived(&raw, INTERACTIONS, count, &process).await?;
    }
    topics.broker.produce(&topics.impressions, None, ["{\"cut\": "])?;
    arrived(&raw, DEAD_LETTERS, 1, &process).await?;
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    ensure!(status.success(), "{status}\n{}", process.logs());

    assert_eq!(
        raw.query(IMPRESSIONS, "select count(*), count(tier), count(score), count(width) from t").await?,
        ["300 0 0 0"]
    );
    let seen = readers::assert_agree(&raw.path().join("lake").join(IMPRESSIONS), &["score", "source.offset"]);
    assert_eq!((seen[COUNT].as_str(), seen["score"].as_str()), ("300", "0"));
    assert_eq!(adlake.query_json("SELECT count(*) AS n FROM impressions")[0]["n"], 300);
    // A column that others have added stays when letters are marked.
    from_outside(&raw, DEAD_LETTERS, "dt.update(new_values={'ticket': 'ADS-1'})")?;
    adlake.ok(["deadletters", "replay"]);
    assert_eq!(raw.query(DEAD_LETTERS, "select ticket, replay_outcome from t").await?, ["ADS-1 invalid_json"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_not_fit_stops_its_table_alone() -> Result<()> {
    let (raw, mut topics) = (Raw::new().await?, Topics::new()?);
    let adlake = topics.adlake(raw.path());
    let mut process = adlake.spawn(["ingest", "kafka"]);
    let count = topics.send()?;
    arrived(&raw, IMPRESSIONS, count, &process).await?;
    arrived(&raw, INTERACTIONS, count, &process).await?;
    from_outside(&raw, IMPRESSIONS, &rewritten("columns['width'] = columns['width'].cast(pa.string())"))?;
    let version = raw.lake.newest_version(IMPRESSIONS).await?.context("there is no table")?;
    let more = topics.send()?;
    arrived(&raw, INTERACTIONS, more, &process).await?;
    let more = topics.send()?;
    arrived(&raw, INTERACTIONS, more, &process).await?;
    assert_eq!(raw.count(IMPRESSIONS).await?, count, "nothing is written to the table that is stopped");
    process.sigterm()?;
    let status = process.wait_exit(DEADLINE)?;
    let stderr = process.stderr()?;
    assert_eq!(status.code(), Some(1), "{stderr}");
    let version = format!("version {version}");
    for part in ["raw/impressions", "column width", "string", "integer", &version, "the others go on"] {
        ensure!(stderr.contains(part), "{part} is not in: {stderr}");
    }

    // A new start detects it at once, and ends after the work on the other table is done.
    let more = topics.send()?;
    let output = adlake.run(["ingest", "kafka", "--until-end"]);
    ensure!(output.status.code() == Some(1) && output.stderr.contains("column width"), "{}", output.stderr);
    assert_eq!((raw.count(IMPRESSIONS).await?, raw.count(INTERACTIONS).await?), (count, more));

    // Once the table is fixed, nothing is lost.
    from_outside(&raw, IMPRESSIONS, &rewritten("columns['width'] = columns['width'].cast(pa.int32())"))?;
    adlake.ok(["ingest", "kafka", "--until-end"]);
    let of = "select count(*), count(distinct user_id) from t";
    assert_eq!(raw.query(IMPRESSIONS, of).await?, [format!("{more} {more}")]);
    assert_eq!(raw.query(INTERACTIONS, of).await?, [format!("{more} {more}")]);
    println!("schema change: a table stopped and mended, {more} records in each of two topics: lost 0, doubled 0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_changes_that_do_not_fit_are_named() -> Result<()> {
    let raw = Raw::new().await?;
    fs::write(raw.path().join("impressions.ndjson"), impression(0, ""))?;
    fs::write(raw.path().join("clicks.csv"), interaction(0))?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let ingest = |file: &str| adlake.run(["ingest", "files", &raw.path().join(file).display().to_string()]);
    ensure!(ingest("impressions.ndjson").status.success() && ingest("clicks.csv").status.success());
    from_outside(&raw, IMPRESSIONS, "dt.alter.add_constraint({'known': 'user_id is not null'})")?;
    let not_null = "columns['must'] = pa.array(['x'] * len(rows))\n\
        fields = [pa.field(name, column.type, nullable=name != 'must') for name, column in columns.items()]\n\
        rows = pa.table(list(columns.values()), schema=pa.schema(fields))\n\
        write_deltalake(path, rows, mode='overwrite', schema_mode='overwrite', \
        partition_by=['event_date'])\nsys.exit(0)";
    from_outside(&raw, INTERACTIONS, &rewritten(not_null))?;
    fs::write(raw.path().join("impressions-more.ndjson"), impression(1, ""))?;
    fs::write(raw.path().join("clicks-more.csv"), interaction(1))?;
    for (file, parts) in [
        ("impressions-more.ndjson", ["raw/impressions", "known", "IS NOT NULL"]),
        ("clicks-more.csv", ["raw/interactions", "column must", "NULL"]),
    ] {
        let output = ingest(file);
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        for part in parts {
            ensure!(output.stderr.contains(part), "{part} is not in: {}", output.stderr);
        }
    }
    assert_eq!((raw.count(IMPRESSIONS).await?, raw.count(INTERACTIONS).await?), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_adds_columns() -> Result<()> {
    let raw = Raw::new().await?;
    let plain = "[lake]\nuri = \"lake\"\n";
    let more =
        |n: usize| impression(n, &format!(r#","tier":"gold","points":"{n}","site_info":{{"rank":0.5,"tags":["a"]}}"#));
    let write = |name: &str, lines: Vec<String>| fs::write(raw.path().join(name), lines.join("\n") + "\n");
    let files = |name: &str| raw.path().join(name).display().to_string();
    write("impressions-before.ndjson", (0..3).map(more).collect())?;
    let adlake = Adlake::in_dir(raw.path()).config(plain);
    adlake.ok(["ingest", "files", &files("impressions-before.ndjson")]);
    adlake.ok(["batch", "run", "--full", "--quiet"]);

    // A copy of an earlier event, new events, one without the new fields, one that does not fit.
    let mut lines: Vec<String> = (2..5).map(more).collect();
    lines.push(impression(5, ""));
    lines.push(impression(6, r#","points":"many""#));
    write("impressions-after.ndjson", lines)?;
    let configured = adlake.config(&format!(
        "{plain}[sources.impressions.columns]\ntier = \"string\"\npoints = \"long\"\nrank = \"double\"\ntags = \
         \"string\"\nseen = \"timestamp\"\n\
         [sources.impressions.fields]\nrank = [\"nothing\", \"site_info.rank\"]\ntags = [\"site_info.tags\"]\nseen = \
         [\"timestamp\"]\n"
    ));
    configured.ok(["ingest", "files", &files("impressions-after.ndjson")]);
    let rows = "select user_id, coalesce(tier, '-'), coalesce(points, -1), coalesce(rank, -1), coalesce(tags, '-'), \
        seen is not null from t \
                order by ingested_at, user_id";
    assert_eq!(
        raw.query(IMPRESSIONS, rows).await?,
        [
            "u0 - -1 -1.0 - false",
            "u1 - -1 -1.0 - false",
            "u2 - -1 -1.0 - false",
            "u2 gold 2 0.5 [\"a\"] true",
            "u3 gold 3 0.5 [\"a\"] true",
            "u4 gold 4 0.5 [\"a\"] true",
            "u5 - -1 -1.0 - true",
        ]
    );
    // New columns take nothing away, so copies are still copies.
    let copies =
        "select count(*), count(distinct content_hash), count(distinct attributes) from t where user_id = 'u2'";
    assert_eq!(raw.query(IMPRESSIONS, copies).await?, ["2 1 1"]);
    assert_eq!(raw.query(DEAD_LETTERS, "select reason from t where detail like 'points: %many%'").await?, ["bad_type"]);
    for moment in ["over the old run", "after a new one"] {
        assert_eq!(configured.query_json("SELECT count(*) AS n FROM impressions")[0]["n"], 6, "{moment}");
        configured.ok(["batch", "run", "--full", "--quiet"]);
    }
    let seen = readers::assert_agree(&raw.path().join("lake").join(IMPRESSIONS), &["points"]);
    assert_eq!((seen[COUNT].as_str(), seen["points"].as_str()), ("7", "9"));

    // Without the configuration the columns stay, and are NULL.
    write("impressions-later.ndjson", vec![more(7)])?;
    let adlake = configured.config(plain);
    adlake.ok(["ingest", "files", &files("impressions-later.ndjson")]);
    assert_eq!(raw.query(IMPRESSIONS, "select count(*), count(tier) from t").await?, ["8 3"]);
    // If one column has another type, the table stops. Once the type is fixed, the letter is
    // replayed.
    let wrong = adlake.config(&format!("{plain}[sources.impressions.columns]\npoints = \"string\"\n"));
    let output = wrong.run(["deadletters", "replay"]);
    for part in ["raw/impressions", "column points", "long", "string"] {
        ensure!(!output.status.success() && output.stderr.contains(part), "{part} is not in: {}", output.stderr);
    }
    let unknown = wrong.config(&format!("{plain}[sources.impressions.columns]\nuser_id = \"text\"\n"));
    let output = unknown.run(["config", "check"]);
    ensure!(
        output.status.code() == Some(2) && output.stderr.contains("sources.impressions.columns.user_id"),
        "{}",
        output.stderr
    );
    let adlake = unknown.config(plain);
    let replayed = report(&adlake.ok(["deadletters", "replay", "--format", "json"]))?;
    assert_eq!(replayed["replayed"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_older_adlake_are_given_what_they_lack() -> Result<()> {
    let raw = Raw::new().await?;
    let write = |name: &str, lines: [String; 2]| fs::write(raw.path().join(name), lines.join("\n") + "\n");
    let files = |name: &str| raw.path().join(name).display().to_string();
    write("impressions-1.ndjson", [impression(0, r#","city":"Bonn""#), "{]".to_owned()])?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    adlake.ok(["ingest", "files", &files("impressions-1.ndjson")]);
    from_outside(&raw, IMPRESSIONS, &rewritten("del columns['consent'], columns['city']"))?;
    let old = "del columns['format'], columns['replay_id'], columns['replay_outcome'], columns['replay_detail'], \
        columns['replayed_at']";
    from_outside(&raw, DEAD_LETTERS, &rewritten(old).replace("event_date", "ingest_date"))?;
    // These readers come before any writer.
    assert_eq!(adlake.query_json("SELECT count(*) AS n FROM impressions WHERE city IS NULL")[0]["n"], 1);
    assert_eq!(adlake.query_json("SELECT count(*) AS n FROM dead_letters WHERE replay_outcome IS NULL")[0]["n"], 1);
    ensure!(adlake.ok(["deadletters", "list"]).contains("invalid_json"));
    adlake.ok(["batch", "run", "--full", "--quiet"]);

    write("impressions-2.ndjson", [impression(1, r#","city":"Kiel""#), "}".to_owned()])?;
    adlake.ok(["ingest", "files", &files("impressions-2.ndjson")]);
    let rows = "select user_id, coalesce(city, '-') from t order by 1";
    assert_eq!(raw.query(IMPRESSIONS, rows).await?, ["u0 -", "u1 Kiel"]);
    let replayed = report(&adlake.ok(["deadletters", "replay", "--format", "json"]))?;
    assert_eq!(replayed["letters"], 2);
    // The older letter is from a file, and does not contain the file's format.
    let letters = "select replay_outcome from t order by 1";
    assert_eq!(raw.query(DEAD_LETTERS, letters).await?, ["invalid_json", "unknown_format"]);
    assert_eq!(adlake.query_json("SELECT count(*) AS n FROM impressions")[0]["n"], 2);
    readers::assert_agree(&raw.path().join("lake").join(IMPRESSIONS), &["source.offset"]);
    readers::assert_agree(&raw.path().join("lake").join(DEAD_LETTERS), &["source.offset"]);
    Ok(())
}
