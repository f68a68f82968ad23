//! Traces: from what ingest commits over the batch run to the answer of the server; and a collector
//! that is down, or not wanted.

pub mod collector;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::{readers, setup, wait};
use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::collector::{Collector, Span};
use crate::ingest_kafka::impressions;
use crate::serve::{Server, config, ingest};

const DEADLINE: Duration = Duration::from_secs(60);
const SECRET: &str = "hush-4711";
/// A caller's trace and span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn telemetry(endpoint: &str, more: &str) -> String {
    format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\nexport_interval = \"50ms\"\n{more}\n")
}

fn site(telemetry: &str) -> Result<(TempDir, Adlake)> {
    let folder = tempfile::tempdir()?;
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), telemetry));
    Ok((folder, adlake))
}

/// The `commitInfo` of an entry of a log.
fn commit_info(folder: &Path, table: &str, version: u64) -> Result<Value> {
    let entry = folder.join("lake").join(table).join(format!("_delta_log/{version:020}.json"));
    let text = fs::read_to_string(entry)?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.iter().find_map(|line| line.get("commitInfo")).context("no commitInfo")?.clone())
}

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// The root span of a commit of ingest at a version of a table.
async fn batch(collector: &Collector, table: &str, version: u64) -> Result<Span> {
    let name = format!("ingest {table}");
    let is_it = |span: &Span| span.name == name && span.attributes["adlake.table.version"] == version;
    collector.span(&format!("{name} {version}"), is_it).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_ingest_to_the_answer() -> Result<()> {
    let collector = Collector::start().await?;
    let headers = format!("otlp_headers = \"x-api-key={SECRET}\"");
    let (folder, adlake) = site(&telemetry(&collector.address, &headers))?;

    // Ingest: a span for each commit, with its steps.
    ingest(&adlake, folder.path(), "a", 1, 6_000);
    let first = batch(&collector, "raw/impressions", 1).await?;
    assert_eq!((first.service.as_str(), first.kind, first.parent.as_str()), ("adlake-ingest", 5, ""));
    let children = collector.children(&first);
    assert_eq!(names(&children), BTreeSet::from(["commit", "encode", "write files"]));
    assert!(children.iter().all(|child| child.nanos <= first.nanos), "{children:?}");
    let written = |table: &str| {
        let is_it = |span: &&Span| span.name == "write files" && span.attributes["adlake.table"] == table;
        children.iter().find(is_it).and_then(|span| span.attributes["adlake.bytes"].as_i64())
    };
    assert!(written("raw/impressions") > Some(10_000), "{children:?}");
    let stored = readers::assert_agree(&folder.path().join("lake/raw/impressions"), &[]);
    assert_eq!(first.attributes["adlake.rows"].to_string(), stored[readers::COUNT]);
    assert!(first.attributes["adlake.positions"].as_str().unwrap().contains("impressions-00000"), "{first:?}");

    // The commit in the log names its span.
    let info = commit_info(folder.path(), "raw/impressions", 1)?;
    let traceparent = info["adlakeTraceparent"].as_str().context("no traceparent")?;
    let commit = children.iter().find(|child| traceparent.contains(&child.id)).context("not its span")?;
    assert_eq!((traceparent, commit.name.as_str()), (&*format!("00-{}-{}-01", first.trace, commit.id), "commit"));

    // The batch run is linked to the commits that it covers.
    let output = adlake.run(["batch", "run", "--log-format", "json"]);
    assert!(output.status.success(), "{}", output.stderr);
    let run = collector.span("batch run", |span| span.name == "batch run").await?;
    assert_eq!((run.service.as_str(), run.parent.as_str(), &run.failure), ("adlake-batch", "", &None));
    assert_eq!((&run.attributes["adlake.plan"], &run.attributes["adlake.run"]), (&json!("full"), &json!(1)));
    assert!(run.links.contains(&(first.trace.clone(), commit.id.clone())), "{run:?}");
    let phases = collector.children(&run);
    let expected = ["write batch/impressions", "write batch/attributions", "write batch/campaign_hourly", "publish"];
    assert!(expected.iter().all(|name| names(&phases).contains(name)), "{:?}", names(&phases));
    // The lines of the log name the span in which they were written.
    let lines: Vec<Value> = output.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = lines.iter().find(|line| line["message"] == "the batch table was written").context("no line")?;
    assert_eq!(line["trace.id"], run.trace.as_str());
    assert!(phases.iter().any(|phase| line["span.id"] == phase.id.as_str()), "{line}");
    let nothing = adlake.run(["batch", "run", "--log-format", "json"]);
    assert!(nothing.status.success());
    collector.span("a run without news", |span| span.attributes.get("adlake.plan") == Some(&json!("nothing"))).await?;

    // A commit that the server has seen is linked to from the state that it made of it.
    let server = Server::start(adlake).await?;
    ingest(&server.adlake, folder.path(), "b", 2, 3_000);
    let second = batch(&collector, "raw/impressions", 2).await?;
    let is_state =
        |span: &Span| span.name == "make state" && span.links.iter().any(|(trace, _)| *trace == second.trace);
    let state = collector.span("a state of the second commit", is_state).await?;
    assert_eq!((state.service.as_str(), state.parent.as_str()), ("adlake-serve", ""));
    assert!(["merge", "take snapshot"].iter().all(|name| names(&collector.children(&state)).contains(name)));

    // A question within a caller's trace. Its answer is linked to a state.
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let question = json!({"metrics": ["clicks"], "dimensions": ["campaign_id", "website", "country", "device_type"]});
    let answered = Server::json(server.post(&question, None, &[("traceparent", &traceparent)]).await?).await?;
    assert_eq!((answered.0, &answered.1["meta"]["source"]), (200, &json!("lake")), "{}", answered.1["meta"]);
    let request = collector.span("the request", |span| span.trace == TRACE && span.kind == 2).await?;
    assert_eq!((request.name.as_str(), request.parent.as_str()), ("POST /v1/query", SPAN));
    let told = ["http.request.method", "http.route", "url.path", "http.response.status_code", "adlake.snapshot"];
    let told = told.map(|name| request.attributes[name].clone());
    let snapshot = answered.1["meta"]["snapshot"].clone();
    assert_eq!(told, [json!("POST"), json!("/v1/query"), json!("/v1/query"), json!(200), snapshot.clone()]);
    assert_eq!(names(&collector.children(&request)), BTreeSet::from(["query lake"]));
    let is_linked =
        |span: &Span| span.name == "make state" && request.links.contains(&(span.trace.clone(), span.id.clone()));
    let made = collector.span("the state of the answer", is_linked).await?;
    assert_eq!(made.attributes["adlake.snapshot"], snapshot);

    // Who calls without being sampled is not, and probes never are.
    let unsampled = format!("00-{}-{SPAN}-00", TRACE.replace('4', "5"));
    assert!(server.post(&question, None, &[("traceparent", &unsampled)]).await?.status().is_success());
    assert!(server.get("/healthz", None).await?.status().is_success());
    let missing = server.get("/v1/campaigns/none/funnel", None).await?;
    assert_eq!(missing.status(), 404);
    let refused =
        collector.span("a refusal", |span| span.attributes.get("http.response.status_code") == Some(&json!(404)));
    let refused = refused.await?;
    assert_eq!((refused.name.as_str(), &refused.failure), ("GET /v1/campaigns/{id}/funnel", &None));

    // The histogram of requests leads to the trace.
    let metrics = server.get("/metrics", None).await?.text().await?;
    let exemplar = format!("# {{trace_id=\"{TRACE}\"}}");
    let is_bucket =
        |line: &&str| line.starts_with("adlake_serve_request_duration_seconds_bucket") && line.contains("/v1/query");
    assert!(metrics.lines().filter(is_bucket).any(|line| line.contains(&exemplar)), "{metrics}");
    assert!(metrics.contains("adlake_serve_spans_total{outcome=\"dropped\"} 0\n"), "{metrics}");

    let mut process = server.process;
    process.sigterm()?;
    assert!(process.wait_exit(DEADLINE)?.success(), "{}", process.logs());
    let spans = collector.spans();
    let is_silent = |span: &&Span| span.trace == TRACE.replace('4', "5") || span.name.contains("healthz");
    assert_eq!(spans.iter().filter(is_silent).count(), 0);
    assert!(spans.iter().all(|span| span.failure.is_none()), "{spans:?}");
    let (headers, resources) = collector.requests();
    assert!(!headers.is_empty() && headers.iter().all(|headers| headers["x-api-key"] == SECRET));
    assert!(resources.iter().all(|resource| resource["service.namespace"] == "adlake"));
    let shown = server.adlake.ok(["config", "show"]);
    assert!(shown.contains("telemetry.otlp_headers = \"[secret]\"") && !shown.contains(SECRET), "{shown}");
    Ok(())
}

/// The lines of the log that tell of the export.
fn told(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains("traces are")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_hangs_changes_nothing() -> Result<()> {
    let report = |folder: &TempDir, adlake: &Adlake| -> Result<(Value, String, Duration)> {
        adlake.ok(["generate", "--to-files", "a", "--seed", "1", "--events", "4000", "--quiet"]);
        let began = Instant::now();
        let output = adlake.run(["ingest", "files", "a/events", "--format", "json"]);
        assert!(output.status.success(), "{}", output.stderr);
        let mut report: Value = serde_json::from_str(&output.stdout)?;
        report.as_object_mut().context("no object")?.retain(|name, _| name == "rows" || name == "reasons");
        ensure!(folder.path().join("lake/raw/impressions").is_dir());
        Ok((report, output.stderr, began.elapsed()))
    };
    let (folder, adlake) = site("")?;
    let (expected, log, alone) = report(&folder, &adlake)?;
    ensure!(told(&log).is_empty() && expected["rows"]["raw/impressions"].as_u64() > Some(100), "{expected} {log}");

    let hanging = Collector::hanging().await?;
    let closed = format!("http://127.0.0.1:{}", setup::free_port()?);
    for address in [&closed, &hanging.address] {
        let (folder, adlake) = site(&telemetry(address, "otlp_timeout = \"10m\"\nflush_timeout = \"500ms\""))?;
        let (found, log, took) = report(&folder, &adlake)?;
        assert_eq!(found, expected, "{address}");
        assert_eq!(told(&log).len(), 1, "{address}: {log}");
        // It would be ten minutes. The machine may be busy with other things.
        assert!(took < alone * 5 + Duration::from_secs(10), "{address}: {took:?}, without it {alone:?}");
        // An error stays what it is.
        let refused = adlake.run(["ingest", "files", "no-such-folder"]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    }
    assert!(!hanging.requests().0.is_empty(), "it was never asked");

    // A server goes on answering, counts what it drops, and stops when it is told to.
    let few = "otlp_timeout = \"10m\"\nflush_timeout = \"500ms\"\nqueue_spans_max = 5\nbatch_spans_max = 5";
    let (folder, adlake) = site(&telemetry(&hanging.address, few))?;
    ingest(&adlake, folder.path(), "a", 1, 2_000);
    let mut server = Server::start(adlake).await?;
    let dropped = wait::value_async(DEADLINE, "dropped spans", async || {
        for _ in 0..20 {
            ensure!(server.get("/v1/campaigns", None).await?.status().is_success());
        }
        let metrics = server.get("/metrics", None).await?.text().await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("adlake_serve_spans_total{outcome=\"dropped\"} "));
        Ok(line.context("no such metric")?.parse::<u64>()?.checked_sub(1))
    });
    dropped.await?;
    server.process.sigterm()?;
    assert!(server.process.wait_exit(DEADLINE)?.success(), "{}", server.process.logs());
    assert_eq!(told(&server.process.stderr()?).len(), 1, "{}", server.process.logs());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_off_unless_they_are_wanted() -> Result<()> {
    let collector = Collector::start().await?;
    let run = |adlake: &Adlake, name: &str, seed: &str| {
        adlake.ok(["generate", "--to-files", name, "--seed", seed, "--events", "300", "--quiet"]);
        adlake.ok(["ingest", "files", &format!("{name}/events"), "--quiet"]);
        adlake.ok(["batch", "run", "--format", "json", "--quiet"]);
    };
    // Off, and none of them sampled.
    let (folder, adlake) = site("")?;
    run(&adlake, "a", "1");
    let info = commit_info(folder.path(), "raw/impressions", 1)?;
    assert_eq!(info.get("adlakeTraceparent"), None, "{info}");
    let (folder, adlake) = site(&telemetry(&collector.address, "sample_ratio = 0.0"))?;
    run(&adlake, "a", "1");
    assert_eq!(commit_info(folder.path(), "raw/impressions", 1)?.get("adlakeTraceparent"), None);
    assert_eq!(collector.requests().0.len(), 0);

    // By the standard variables. The configuration goes over them.
    let (_folder, adlake) = site("")?;
    let adlake = adlake
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=of%20env")
        .env("OTEL_SERVICE_NAME", "loader")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=9");
    run(&adlake, "a", "1");
    collector.span("a span", |span| span.service == "loader" && span.name == "ingest raw/impressions").await?;
    let (headers, resources) = collector.requests();
    assert!(headers.iter().all(|headers| headers["x-api-key"] == "of env"));
    assert_eq!(resources[0]["deployment.environment.name"], "test");
    assert_eq!(resources[0]["service.version"], "9");
    let before = collector.spans().len();
    let adlake = adlake.env("OTEL_SDK_DISABLED", "true");
    run(&adlake, "b", "2");
    assert_eq!(collector.spans().len(), before);

    // What is wrong is told before anything is done, without the value.
    for (settings, part) in [
        ("otlp_endpoint = \"localhost\"", "telemetry.otlp_endpoint: "),
        ("otlp_headers = \"hush\"", "telemetry.otlp_headers: "),
        ("sample_ratio = 2.0", "telemetry.sample_ratio: "),
    ] {
        let (folder, adlake) = site(&format!("[telemetry]\n{settings}\n"))?;
        for command in [["batch", "run"], ["config", "check"]] {
            let output = adlake.run(command);
            assert_eq!(output.status.code(), Some(2), "{settings}: {}", output.stderr);
            assert!(output.stderr.contains(part) && !output.stderr.contains("hush"), "{}", output.stderr);
        }
        assert!(!folder.path().join("lake").exists(), "{settings}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_has_exemplars_and_an_error_is_the_status_of_its_span() -> Result<()> {
    let collector = Collector::start().await?;
    let port = setup::free_port()?;
    let more = format!("[ingest]\nmetrics_listen = \"127.0.0.1:{port}\"\nflush_interval = \"100ms\"\n");
    let (folder, adlake) = site(&(telemetry(&collector.address, "service_name = \"own\"") + &more))?;
    adlake.ok(["generate", "--to-files", "a", "--seed", "1", "--events", "2000", "--quiet"]);
    let mut watcher = adlake.spawn(["ingest", "files", "a/events", "--watch"]);
    let batch = batch(&collector, "raw/impressions", 1).await?;
    assert_eq!(batch.service, "own");
    let client = Client::new();
    let exemplar = format!("# {{trace_id=\"{}\"}}", batch.trace);
    let is_bucket =
        |line: &&str| line.starts_with("adlake_ingest_commit_seconds_bucket") && line.contains("raw/impressions");
    let seen = wait::until_async(DEADLINE, "the exemplar", async || {
        let metrics = client.get(format!("http://127.0.0.1:{port}/metrics")).send().await?.text().await?;
        Ok(metrics.lines().filter(is_bucket).any(|line| line.contains(&exemplar)))
    });
    seen.await.with_context(|| watcher.logs())?;
    watcher.sigterm()?;
    assert!(watcher.wait_exit(DEADLINE)?.success(), "{}", watcher.logs());

    // A batch run over a data file that is damaged.
    let data = folder.path().join("lake/raw/impressions");
    let files = fs::read_dir(&data)?.filter_map(|entry| Some(entry.ok()?.path()));
    let days = files.filter(|path| path.is_dir() && !path.ends_with("_delta_log")).collect::<Vec<_>>();
    for file in days.iter().map(fs::read_dir).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        fs::write(file?.path(), "no Parquet")?;
    }
    let failed = adlake.run(["batch", "run"]);
    assert_eq!(failed.status.code(), Some(1), "{}", failed.stderr);
    let run = collector.span("a failed run", |span| span.name == "batch run" && span.failure.is_some()).await?;
    let failed_below = collector.children(&run).into_iter().filter(|span| span.failure.is_some());
    assert!(failed_below.count() > 0, "{run:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_from_kafka_names_its_topic_and_positions() -> Result<()> {
    let (collector, broker) = (Collector::start().await?, Broker::shared());
    let (topic, group) = (unique("traced"), unique("group"));
    broker.create_topic(&topic, 1)?;
    broker.produce(&topic, Some(0), impressions(0, 1_000))?;
    let kafka = format!("[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\n", broker.bootstrap());
    let topics = ["impressions", "interactions", "bid_requests"].map(|kind| {
        let topic = if kind == "impressions" { topic.as_str() } else { "" };
        format!("[sources.{kind}]\ntopic = \"{topic}\"\n")
    });
    let (_folder, adlake) = site(&(telemetry(&collector.address, "") + &kafka + &topics.concat()))?;
    adlake.ok(["ingest", "kafka", "--until-end", "--quiet"]);
    let rows = |span: &Span| span.attributes.get("adlake.rows").and_then(Value::as_i64);
    let is_batch = |span: &Span| span.name == "ingest raw/impressions" && rows(span) > Some(0);
    let batch = collector.span("a batch", is_batch).await?;
    let names = ["messaging.system", "messaging.destination.name", "messaging.destination.partition.id"];
    let values = names.map(|name| batch.attributes[name].clone());
    assert_eq!(values, [json!("kafka"), json!(topic), json!("0")]);
    // Together the batches are all records, whatever they are cut into.
    let batches = collector.spans().into_iter().filter(|span| span.name == "ingest raw/impressions");
    let sums = batches.fold((0, 0), |(rows, dead), span| {
        let number = |name: &str| span.attributes.get(name).and_then(Value::as_i64).unwrap_or_default();
        (rows + number("adlake.rows"), dead + number("adlake.dead_letters"))
    });
    assert_eq!(sums, (990, 10));
    let positions = batch.attributes["adlake.positions"].as_str().context("no positions")?;
    assert!(positions.starts_with(&format!("{topic}/0 ")), "{positions}");
    Ok(())
}
