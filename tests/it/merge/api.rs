//! The HTTP API over the same histories. What it answers, at the snapshot that the lake is at, is
//! what the oracle answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adlake_domain::settings::{Display, Meaning};
use adlake_lake::Lake;
use adlake_lake::session::SessionSettings;
use adlake_lake::snapshot::Snapshot;
use adlake_serving::ServeSettings;
use adlake_serving::alarms::settings::AlarmSettings;
use adlake_serving::http::{Served, serve};
use adlake_serving::state::SnapshotId;
use adlake_tests::oracle::compare::{Answer, difference};
use adlake_tests::oracle::value::{Row, Value};
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(60);
const DIMENSIONS: [&str; 7] =
    ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region", "conversion_type"];

/// A server over a lake, in this process. Dropping it stops it.
pub struct Api {
    address: SocketAddr,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Api {
    /// Starts a server. Without `memory` its sums by day and its sketches do not fit, so that
    /// answers come from the lake.
    pub async fn start(
        lake: &Lake,
        meaning: &Meaning,
        display: &Display,
        session: &SessionSettings,
        memory: bool,
    ) -> Result<Api> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let defaults = ServeSettings::default();
        let settings = ServeSettings {
            refresh_interval: Duration::from_millis(20),
            state_bytes_max: if memory { defaults.state_bytes_max } else { 0 },
            rows_max: 1_000_000,
            session: session.clone(),
            ..defaults
        };
        let served = Served {
            lake: lake.clone(),
            settings,
            meaning: meaning.clone(),
            display: display.clone(),
            currency: "USD".into(),
            alarms: (AlarmSettings { enabled: false, ..AlarmSettings::default() }, Arc::default()),
        };
        let cancel = CancellationToken::new();
        tokio::spawn(serve(listener, served, cancel.clone()));
        Ok(Api { address, client: reqwest::Client::new(), _stop: cancel.drop_guard() })
    }

    /// The response to a question, from a snapshot that is not older than one. A server that is not
    /// so far is asked again.
    async fn post(&self, question: &serde_json::Value, snapshot: &SnapshotId, accept: &str) -> Result<Vec<u8>> {
        let url = format!("http://{}/v1/query", self.address);
        let ask = async || {
            let request = self.client.post(&url).header("content-type", "application/json").header("accept", accept);
            let request = request.header("x-adlake-snapshot", snapshot.to_string()).body(question.to_string());
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?.to_vec();
            if status == 503 {
                return Ok(None);
            }
            ensure!(status.is_success(), "{question}: {status}: {}", String::from_utf8_lossy(&body));
            let from = headers.get("x-adlake-snapshot").context("no snapshot")?.to_str()?;
            ensure!(from == snapshot.to_string(), "{question}: answered from {from}, not from {snapshot}");
            Ok(Some(body))
        };
        wait::value_async(DEADLINE, format!("an answer from {snapshot}"), ask).await
    }

    /// The rows that answer a question.
    async fn rows(&self, question: &serde_json::Value, snapshot: &SnapshotId) -> Result<Answer> {
        let body = self.post(question, snapshot, "application/vnd.apache.arrow.stream").await?;
        let reader = StreamReader::try_new(body.as_slice(), None)?;
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>()?;
        Answer::of_batches(&schema, &batches)
    }
}

/// The snapshot that a lake is at.
pub async fn snapshot(lake: &Lake, meaning: &Meaning, session: &SessionSettings) -> Result<SnapshotId> {
    Ok(SnapshotId::of(&Snapshot::take(lake, &session.context()?, meaning).await?))
}

/// A view, as a question: its grain, which is also the name of the column, and its dimensions.
type View = (&'static str, Option<&'static str>, &'static [&'static str]);

const VIEWS: [View; 5] = [
    ("campaign_hourly", Some("hour"), &DIMENSIONS),
    ("campaign_daily", Some("day"), &["campaign_id"]),
    ("campaign_kpis", None, &["campaign_id"]),
    ("geo_daily", Some("day"), &["campaign_id", "country", "region"]),
    ("site_daily", Some("day"), &["campaign_id", "website"]),
];

/// Asks for these views, and compares the answers with those of the oracle.
pub async fn check(
    api: &Api,
    expected: &BTreeMap<&'static str, Vec<Row>>,
    snapshot: &SnapshotId,
    views: &[&str],
) -> Result<()> {
    for (view, grain, dimensions) in VIEWS {
        if !views.contains(&view) {
            continue;
        }
        let rows: Vec<Row> = expected[view].iter().map(without_sketch).collect();
        let keys: BTreeSet<&str> = dimensions.iter().copied().chain(grain).collect();
        let named = |row: &Row| row.keys().filter(|name| !keys.contains(name.as_str())).cloned().collect();
        let metrics: Vec<String> = rows.first().map_or_else(|| vec!["impressions".to_owned()], named);
        let mut question = json!({"metrics": metrics, "dimensions": dimensions, "limit": 1_000_000});
        if let Some(grain) = grain {
            question["time"] = json!({"grain": grain});
        } else {
            question["filters"] = json!(["!=", "campaign_id", null]);
        }
        let mut answer = api.rows(&question, snapshot).await?;
        if let Some(name) = grain {
            rename(&mut answer, name);
        }
        let difference = difference(view, &rows, &answer);
        ensure!(difference.is_none(), "the API: {question}: {}", difference.unwrap_or_default());
    }
    check_filtered(api, &expected["campaign_hourly"], snapshot).await
}

fn without_sketch(row: &Row) -> Row {
    row.iter().filter(|(name, _)| *name != "reach_sketch").map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Gives the column `time` the name that it has in a view.
fn rename(answer: &mut Answer, name: &str) {
    answer.columns.remove("time");
    answer.columns.insert(name.to_owned());
    for row in &mut answer.rows {
        if let Some(time) = row.remove("time") {
            row.insert(name.to_owned(), time);
        }
    }
}

/// Sums of one country, or of all others, by device: those of the oracle's rows that are left.
async fn check_filtered(api: &Api, hourly: &[Row], snapshot: &SnapshotId) -> Result<()> {
    let Some(Value::Text(country)) = hourly.iter().map(|row| &row["country"]).find(|value| **value != Value::Null)
    else {
        return Ok(());
    };
    let is_of = |row: &&Row| row["country"] == Value::Text(country.clone());
    let sums = ["impressions", "clicks", "conversions", "bid_requests"];
    for (operator, wanted) in [("=", true), ("!=", false)] {
        let mut expected: BTreeMap<String, Row> = BTreeMap::new();
        let mut totals = vec![0_i128; sums.len()];
        for row in hourly.iter().filter(|row| is_of(row) == wanted) {
            let device = &row["device_type"];
            let group = expected.entry(device.to_string()).or_insert_with(|| {
                let zeros = sums.iter().map(|name| (name.to_string(), Value::Int(0)));
                zeros.chain([("device_type".to_owned(), device.clone())]).collect()
            });
            for (name, total) in sums.iter().zip(&mut totals) {
                if let (Some(Value::Int(sum)), Value::Int(more)) = (group.get_mut(*name), &row[*name]) {
                    *sum += more;
                    *total += more;
                }
            }
        }
        let question = json!({"metrics": sums, "dimensions": ["device_type"], "totals": true,
                              "filters": [operator, "country", country]});
        let answer = api.rows(&question, snapshot).await?;
        let expected: Vec<Row> = expected.into_values().collect();
        let difference = difference("by device", &expected, &answer);
        ensure!(difference.is_none(), "the API: {question}: {}", difference.unwrap_or_default());
        let body = api.post(&question, snapshot, "application/json").await?;
        let body: serde_json::Value = serde_json::from_slice(&body)?;
        let found: Vec<Option<i64>> =
            sums.iter().enumerate().map(|(place, _)| body["totals"][place + 1].as_i64()).collect();
        let totals: Vec<Option<i64>> = totals.into_iter().map(|total| i64::try_from(total).ok()).collect();
        ensure!(found == totals, "the API: {question}: totals {found:?}, not {totals:?}");
    }
    Ok(())
}
