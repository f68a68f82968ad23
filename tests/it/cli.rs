//! The command line as users see it. An error is one clear line with the right exit code. Answers
//! are on stdout, in every format. The same seed generates the same traffic, and the traffic is
//! what its truth says.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use adlake_tests::adlake::{Adlake, Output};
use arrow::ipc::reader::StreamReader;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;

/// The program in a folder of its own.
fn adlake() -> (TempDir, Adlake) {
    let folder = tempdir().unwrap();
    let adlake = Adlake::in_dir(folder.path()).deadline(Duration::from_secs(120));
    (folder, adlake)
}

/// Checks a refusal: this exit code, nothing on stdout, and one line of error that contains these
/// parts.
fn check(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", output.stderr);
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is not in: {}", errors[0]);
    }
}

/// A lake with a thousand records.
fn small_lake() -> (TempDir, Adlake) {
    let (folder, adlake) = adlake();
    let adlake = adlake.config("[lake]\nuri = \"lake\"\n");
    adlake.ok(["generate", "--to-files", "generated", "--events", "1000", "--seed", "3", "--quiet"]);
    adlake.ok(["ref", "load", "creatives", "generated/creatives.csv", "--quiet"]);
    adlake.ok(["ref", "load", "campaigns", "generated/campaigns.csv", "--quiet"]);
    adlake.ok(["ingest", "files", "generated/events", "--quiet"]);
    (folder, adlake)
}

#[test]
fn a_wrong_command_line_is_the_users_to_mend() {
    let (_folder, adlake) = adlake();
    for line in [
        vec!["frobnicate"],
        vec!["query"],
        vec!["query", "SELECT 1", "--format", "xml"],
        vec!["generate"],
        vec!["generate", "--to-files", "x", "--to-kafka", "y"],
        vec!["ref", "load", "users", "x.csv"],
        vec!["completions", "tcsh"],
    ] {
        assert_eq!(adlake.run(&line).status.code(), Some(USAGE), "{line:?}");
    }
    for (line, parts) in [
        (vec!["query", " ; "], vec!["statement is empty"]),
        (vec!["query", "--file", "nowhere.sql"], vec!["nowhere.sql"]),
        (vec!["generate", "--to-files", "x", "--late", "7"], vec!["--late"]),
        (vec!["generate", "--to-files", "x", "--start", "soon"], vec!["--start", "soon"]),
        (vec!["ref", "load", "creatives", "nowhere.csv"], vec!["nowhere.csv"]),
        (vec!["--config", "nowhere.toml", "config", "check"], vec!["nowhere.toml"]),
    ] {
        check(&adlake.run(line), USAGE, &parts);
    }
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    for (text, parts) in [
        ("[lake]\nurl = \"x\"\n", vec!["adlake.toml:2", "lake.url", "did you mean lake.uri"]),
        ("[lak]\nuri = \"x\"\n", vec!["adlake.toml:1", "lak", "lake"]),
        ("\n[ingest]\nflush_rows = \"many\"\n", vec!["adlake.toml:3", "ingest.flush_rows"]),
        ("[ingest]\nflush_rows = 0\n", vec!["ingest.flush_rows", "greater than zero"]),
        ("[report]\ntime_zone = \"Mars/Base\"\n", vec!["adlake.toml:2", "report.time_zone"]),
        ("[sources.impressions.fields]\nno_such_field = [\"x\"]\n", vec!["no_such_field"]),
        (
            "[sources.interactions]\ntime_formats = [\"%H:%M\"]\n",
            vec!["sources.interactions.time_formats", "%H:%M", "date"],
        ),
        (
            "[sources.impressions]\ntime_formats = [\"%F %T %Z\"]\n",
            vec!["sources.impressions.time_formats", "%Z", "%z"],
        ),
        ("[ingest]\nevent_time_min = \"soon\"\n", vec!["ingest.event_time_min", "soon", "2000-01-01"]),
        (
            "[sources.bid_requests.avro]\nregistry = \"ftp://x\"\n",
            vec!["sources.bid_requests.avro.registry", "http://"],
        ),
        ("lake = 7\n", vec!["adlake.toml:1", "lake"]),
        ("[lake\n", vec!["adlake.toml:1"]),
    ] {
        let (_folder, adlake) = adlake();
        check(&adlake.config(text).run(["config", "check"]), USAGE, &parts);
    }
    let (_folder, adlake) = adlake();
    let adlake = adlake.env("ADLAKE_INGEST__FLUSH_ROW", "7");
    check(&adlake.run(["config", "check"]), USAGE, &["ADLAKE_INGEST__FLUSH_ROW", "ADLAKE_INGEST__FLUSH_ROWS"]);
}

#[test]
fn settings_are_checked_before_the_metrics_server_starts() {
    // The port is in use, so a server that was started would be the error.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_folder, adlake) = adlake();
    let adlake = adlake.config(&format!("[ingest]\nflush_rows = 0\nmetrics_listen = \"{address}\"\n"));
    for line in [vec!["ingest", "kafka"], vec!["ingest", "files", "nowhere"]] {
        check(&adlake.run(line), USAGE, &["ingest.flush_rows", "greater than zero"]);
    }
}

#[test]
fn the_configuration_that_init_writes_is_the_default_and_shows_where_values_come_from() {
    let (folder, adlake) = adlake();
    let before: Vec<Value> = serde_json::from_str(&adlake.ok(["config", "show", "--format", "json"])).unwrap();
    assert!(before.iter().all(|line| line["source"] == "default"), "{before:?}");
    adlake.ok(["config", "init"]);
    check(&adlake.run(["config", "init"]), USAGE, &["adlake.toml", "--force"]);
    adlake.ok(["config", "init", "--force"]);
    assert!(adlake.ok(["config", "check"]).contains("adlake.toml: ok"));
    let after: Vec<Value> = serde_json::from_str(&adlake.ok(["config", "show", "--format", "json"])).unwrap();
    let values =
        |lines: &[Value]| lines.iter().map(|line| (line["key"].clone(), line["value"].clone())).collect::<Vec<_>>();
    assert_eq!(values(&before), values(&after));

    let text = fs::read_to_string(folder.path().join("adlake.toml")).unwrap();
    let line = text.lines().position(|line| line.starts_with("uri = ")).unwrap() + 1;
    let adlake = adlake.env("ADLAKE_KAFKA__PROPERTIES__SASL_PASSWORD", "hush").env("ADLAKE_KAFKA__GROUP", "g");
    let shown = adlake.ok(["--lake", "elsewhere", "config", "show", "--format", "json"]);
    assert!(!shown.contains("hush"), "{shown}");
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let of = |key: &str| shown.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key}")).clone();
    assert_eq!((&of("lake.uri")["value"], &of("lake.uri")["source"]), (&"elsewhere".into(), &"--lake".into()));
    assert_eq!(of("kafka.group")["source"], "ADLAKE_KAFKA__GROUP");
    assert_eq!(of("kafka.properties.\"sasl.password\"")["value"], "[secret]");
    let without_flag: Vec<Value> = serde_json::from_str(&adlake.ok(["config", "show", "--format", "json"])).unwrap();
    let uri = without_flag.iter().find(|line| line["key"] == "lake.uri").unwrap();
    assert_eq!(uri["source"], format!("adlake.toml:{line}"));
}

#[test]
fn a_uri_that_cannot_be_a_lake_is_refused() {
    let (folder, adlake) = adlake();
    fs::write(folder.path().join("a-file"), "x").unwrap();
    for (uri, part) in
        [("gopher://x/y", "gopher"), ("s3:///prefix", "bucket"), ("", "empty"), ("a-file", "not a folder")]
    {
        for line in [vec!["status"], vec!["query", "SELECT 1"], vec!["config", "check"], vec!["batch", "run"]] {
            check(&adlake.run([vec!["--lake", uri], line].concat()), USAGE, &["lake URI", part]);
        }
    }
}

#[test]
fn a_place_without_a_lake_says_so_and_stays_as_it_is() {
    let (folder, adlake) = adlake();
    for line in [vec!["status"], vec!["query", "SELECT * FROM campaign_kpis"]] {
        check(
            &adlake.run([vec!["--lake", "nothing"], line].concat()),
            FAILURE,
            &["no lake at", "nothing", "adlake ingest"],
        );
    }
    assert!(!folder.path().join("nothing").exists());
}

#[test]
fn a_statement_that_is_wrong_is_refused_with_what_is_wrong() {
    let (_folder, adlake) = small_lake();
    for (sql, part) in [
        ("SELEC 1", "SELEC"),
        ("SELECT * FROM no_such_view", "campaign_kpis"),
        ("SELECT no_such_column FROM campaign_kpis", "no_such_column"),
        ("DROP VIEW campaign_kpis", "DDL"),
        ("CREATE TABLE x AS SELECT 1", "DDL"),
        ("COPY (SELECT 1) TO 'x.csv'", "COPY"),
        ("SELECT 1; SELECT 2", ""),
    ] {
        check(&adlake.run(["query", sql]), FAILURE, &[part]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let (folder, adlake) = adlake();
    fs::write(folder.path().join("in-the-way"), "x").unwrap();
    adlake.ok(["generate", "--to-files", "generated", "--events", "100", "--quiet"]);
    for line in [
        vec!["ingest", "files", "generated/events"],
        vec!["ref", "load", "creatives", "generated/creatives.csv"],
        vec!["batch", "run"],
    ] {
        check(&adlake.run([vec!["--lake", "in-the-way/lake"], line].concat()), FAILURE, &["in-the-way"]);
    }
    check(
        &adlake.run(["generate", "--to-files", "in-the-way/generated", "--events", "10"]),
        FAILURE,
        &["in-the-way/generated"],
    );
}

/// A store that answers every request with 403.
fn forbidding_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut request = [0; 16 << 10];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
                    let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n", body.len());
                    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_store_that_forbids_is_told_from_one_that_is_out() {
    let (_folder, adlake) = adlake();
    adlake.ok(["generate", "--to-files", "generated", "--events", "100", "--quiet"]);
    let adlake = adlake.envs([
        ("AWS_ENDPOINT_URL", forbidding_store()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "nobody".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hush".to_owned()),
    ]);
    for line in
        [vec!["status"], vec!["query", "SELECT 1"], vec!["ingest", "files", "generated/events"], vec!["batch", "run"]]
    {
        let output = adlake.run([vec!["--lake", "s3://bucket/lake"], line].concat());
        check(&output, FAILURE, &["refused"]);
        assert!(!output.stderr.contains("hush"), "{}", output.stderr);
    }
}

#[test]
fn reference_data_that_does_not_fit_is_named_with_its_line() {
    let (folder, adlake) = adlake();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("rates.csv", "date,currency,rate\n2025-01-01,EUR,1.1\n2025-01-02,EUR,lots\n");
    check(&adlake.run(["ref", "load", "fx_rates", "rates.csv"]), FAILURE, &["rates.csv:3", "rate", "lots"]);
    write("creatives.ndjson", "{\"id\": \"cr1\", \"campaign_id\": \"c1\"}\n{\"campaign_id\": \"c1\"}\n");
    check(
        &adlake.run(["ref", "load", "creatives", "creatives.ndjson"]),
        FAILURE,
        &["creatives.ndjson:2", "ad_creative_id"],
    );

    write("below.csv", "day,currency,rate\n2026-03-01,USD,1\n2026-03-01,EUR,-1\n");
    check(&adlake.run(["ref", "load", "fx_rates", "below.csv"]), FAILURE, &["below.csv:3", "rate", "above 0"]);
    write("twice.csv", "day,currency,rate\n2026-03-01,EUR,1.1\n2026-03-01,eur,1.2\n");
    check(
        &adlake.run(["ref", "load", "fx_rates", "twice.csv"]),
        FAILURE,
        &["twice.csv:3", "twice.csv:2", "2026-03-01", "EUR"],
    );
    write("more.csv", "day,currency,rate,note\n2026-03-01,EUR,1.1,x\n2026-03-01,EUR,1.10,y\n");
    let more = adlake.run(["ref", "load", "fx_rates", "more.csv", "--format", "json"]);
    let report: Value = serde_json::from_str(&more.stdout).unwrap();
    assert_eq!((&report["rows"], &report["repeated_rows"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(report["unknown_columns"], serde_json::json!(["note"]));
    assert!(more.stderr.contains("note") && more.stderr.contains("currency"), "{}", more.stderr);

    write("a.csv", "creative_id,campaign_id\ncr1,c1\ncr2,c1\n");
    write("b.json", "[{\"id\": \"cr2\", \"campaign_id\": \"c2\"}, {\"id\": \"cr3\", \"campaign_id\": \"c3\"}]");
    let load = |line: &[&str]| -> Value {
        let line = [&["ref", "load", "creatives", "--format", "json"], line].concat();
        serde_json::from_str(&adlake.ok(line)).unwrap()
    };
    assert_eq!(load(&["a.csv"])["total"], 2);
    let upserted = load(&["b.json", "--upsert"]);
    assert_eq!((&upserted["rows"], &upserted["total"]), (&2.into(), &3.into()));
    assert_eq!(load(&["a.csv", "--replace"])["total"], 2);
}

#[test]
fn answers_are_the_same_in_every_format() {
    let (_folder, adlake) = small_lake();
    let sql = "SELECT reason, count(*) AS n FROM dead_letters GROUP BY reason \
               UNION ALL SELECT NULL, 0 ORDER BY reason NULLS LAST";
    let rows = adlake.query_json(sql);
    assert!(rows.len() > 1, "{rows:?}");
    assert_eq!((&rows[rows.len() - 1]["reason"], &rows[rows.len() - 1]["n"]), (&Value::Null, &0.into()));
    let csv = adlake.ok(["query", sql, "--format", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len(), lines[rows.len()]), ("reason,n", rows.len() + 1, ",0"));
    let table = adlake.ok(["query", sql]);
    assert!(table.ends_with(&format!("({} rows)\n", rows.len())) && table.contains("NULL"), "{table}");
    assert_eq!(adlake.ok(["query", "SELECT 1 AS x WHERE false", "--format", "json"]), "[]\n");
    let time =
        adlake.query_json("SELECT arrow_cast('2025-01-01T00:00:00.25', 'Timestamp(Microsecond, Some(\"UTC\"))') AS t");
    assert_eq!(time[0]["t"], "2025-01-01T00:00:00.25Z");
}

#[test]
fn arrow_answers_are_a_stream() {
    let (folder, adlake) = small_lake();
    // The harness keeps stdout in a file, so the bytes are unchanged.
    let mut process = adlake.spawn(["query", "SELECT count(*) AS n FROM dead_letters", "--format", "arrow"]);
    assert!(process.wait_exit(Duration::from_secs(120)).unwrap().success(), "{}", process.logs());
    let stream = newest_stdout(folder.path());
    let batches: Vec<_> = StreamReader::try_new(&stream[..], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    assert_eq!(batches[0].schema().field(0).name(), "n");
}

fn newest_stdout(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix("adlake-")?.strip_suffix(".stdout")?.to_owned();
        name.parse::<u32>().ok()
    };
    let newest = files.filter_map(|path| Some((number(&path)?, path))).max().unwrap().1;
    fs::read(newest).unwrap()
}

#[test]
fn status_tells_versions_rows_and_the_published_run() {
    let (_folder, adlake) = small_lake();
    let status = || -> Value { serde_json::from_str(&adlake.ok(["status", "--format", "json"])).unwrap() };
    let before = status();
    assert_eq!(before["batch_run"], Value::Null);
    let table = |status: &Value, name: &str| {
        status["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap().clone()
    };
    let truth: Value =
        serde_json::from_str(&fs::read_to_string(_folder.path().join("generated/truth.json")).unwrap()).unwrap();
    assert_eq!(table(&before, "raw/impressions")["rows"], truth["impressions"]["valid"]);
    adlake.ok(["batch", "run", "--quiet"]);
    let after = status();
    assert_eq!(after["batch_run"]["run"], 1);
    assert_eq!(table(&after, "batch/impressions")["rows"], truth["impressions"]["events"]);
    assert!(adlake.ok(["status"]).contains("batch run 1 published"));
}

#[test]
fn logs_are_ecs_json_where_that_is_asked_for() {
    let (_folder, adlake) = small_lake();
    let output = adlake.run(["--log-format", "json", "batch", "run"]);
    assert!(output.status.success(), "{}", output.stderr);
    let lines: Vec<Value> = output.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!lines.is_empty());
    let failed = adlake.run(["--log-format", "json", "query", "SELEC 1"]);
    let error: Value = serde_json::from_str(failed.stderr.trim()).expect(&failed.stderr);
    assert!(error["error.message"].as_str().unwrap().contains("SELEC"), "{error}");
    for line in lines.iter().chain([&error]) {
        for name in ["@timestamp", "log.level", "message", "ecs.version", "log.logger"] {
            assert!(line[name].is_string(), "{name} is missing in {line}");
        }
    }
}

/// The files that a run has generated, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn generated_traffic_is_the_same_for_the_same_seed() {
    let (folder, adlake) = adlake();
    let line = ["--events", "20000", "--records-per-file", "3000", "--currencies", "EUR", "--quiet"];
    for (name, more) in
        [("a", vec!["--seed", "9"]), ("b", vec!["--seed", "9", "--rate", "40000"]), ("c", vec!["--seed", "10"])]
    {
        adlake.ok([vec!["generate", "--to-files", name], line.to_vec(), more].concat());
    }
    let of = |name: &str| files(&folder.path().join(name));
    let (a, b, c) = (of("a"), of("b"), of("c"));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
    assert_ne!(a["events/impressions-00000.ndjson"], c["events/impressions-00000.ndjson"]);

    let truth: Value = serde_json::from_slice(&a["truth.json"]).unwrap();
    assert_eq!(truth["records"], 20_000);
    let lines = |prefix: &str| -> Vec<usize> {
        let of_kind = a.iter().filter(|(name, _)| name.starts_with(prefix));
        of_kind.map(|(_, bytes)| bytes.iter().filter(|&&byte| byte == b'\n').count()).collect()
    };
    let impressions = lines("events/impressions");
    assert!(impressions.len() > 1 && impressions[0] == 3_000, "{impressions:?}");
    assert_eq!(truth["impressions"]["records"], impressions.iter().sum::<usize>());
    let interactions = lines("events/interactions");
    assert_eq!(truth["interactions"]["records"], interactions.iter().sum::<usize>() - interactions.len());
    check(
        &adlake.run(["generate", "--to-files", "a", "--events", "10"]),
        FAILURE,
        &["impressions-00000.ndjson", "already"],
    );
}

#[test]
fn generated_files_are_ingested_as_the_truth_says() {
    for compression in ["none", "gzip", "zstd"] {
        let (folder, adlake) = adlake();
        let adlake = adlake.config("[lake]\nuri = \"lake\"\n");
        let line =
            ["generate", "--to-files", "g", "--events", "5000", "--malformed", "0.05", "--quiet", "--compression"];
        adlake.ok([line.to_vec(), vec![compression]].concat());
        let report: Value =
            serde_json::from_str(&adlake.ok(["ingest", "files", "g/events", "--format", "json", "--quiet"])).unwrap();
        let truth = fs::read_to_string(folder.path().join("g/truth.json")).unwrap();
        let truth: Value = serde_json::from_str(&truth).unwrap();
        let mut rejected = BTreeMap::<String, u64>::new();
        for kind in ["impressions", "interactions", "bid_requests"] {
            assert_eq!(report["rows"][format!("raw/{kind}")], truth[kind]["valid"], "{compression}: {kind}");
            for (reason, count) in truth[kind]["rejected"].as_object().unwrap() {
                *rejected.entry(reason.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        assert_eq!(report["rejected"], serde_json::to_value(rejected).unwrap(), "{compression}");
    }
}

#[test]
fn there_are_completions_for_every_shell() {
    let (_folder, adlake) = adlake();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = adlake.ok(["completions", shell]);
        for word in ["generate", "ingest", "--lake"] {
            assert!(text.contains(word.trim_start_matches("--")), "{shell}: {word}");
        }
    }
}

#[test]
fn the_demo_ends_by_itself_and_answers_what_was_sent() {
    let (folder, adlake) = adlake();
    let text = adlake.ok(["demo", "--dir", "d", "--for", "8s", "--batch-every", "3s", "--rate", "500", "--plain"]);
    assert!(text.contains("The lake answers exactly what was sent"), "{text}");
    assert!(text.contains("campaign_kpis"), "{text}");
    assert!(folder.path().join("d/lake").is_dir());
    let text = adlake.ok(["demo", "--dir", "e", "--for", "4s", "--history", "0", "--rate", "500", "--plain"]);
    assert!(text.contains("The lake answers exactly what was sent"), "{text}");
    let adlake = adlake.config("[lake]\nuri = \"d/lake\"\n");
    let counted = adlake.query_json("SELECT sum(impressions) AS n FROM campaign_kpis");
    assert!(counted[0]["n"].as_i64().unwrap() > 500, "{counted:?}");
}
