//! Answers that are no sums: the catalogue of metrics, the campaigns, freshness, dead letters.

use std::sync::Arc;

use adlake_domain::kpi::MICROS;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Server;
use super::ask::{Reply, etag, respond, seen};
use super::problem::Problem;
use super::trace;
use crate::access::{Principal, Role, Scope};
use crate::answer::{AnswerError, decimal_text, time_text};
use crate::state::State;

/// `GET /v1/metrics`.
pub async fn metrics(Shared(server): Shared<Arc<Server>>, headers: HeaderMap) -> Result<Response, Problem> {
    let state = server.state()?;
    let catalogue = server.catalogues.of(None);
    let dimensions = crate::question::Dimension::ALL.map(crate::question::Dimension::name);
    let body = json!({
        "metrics": catalogue.described(),
        "dimensions": dimensions,
        "default_model": server.catalogues.default_model(),
        "meta": server.meta(&state, None),
    });
    Ok(server.list(&state, &["metrics"], body, &headers))
}

/// The parameters of `/v1/campaigns`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    search: String,
    limit: Option<usize>,
}

/// `GET /v1/campaigns`.
pub async fn campaigns(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    search: Result<Query<Search>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(search) = search.map_err(malformed)?;
    let limit = search.limit.unwrap_or(server.settings.rows_max);
    if !(1..=server.settings.rows_max).contains(&limit) {
        let detail = format!("the limit is between 1 and {}", server.settings.rows_max);
        return Err(crate::question::Invalid::new("bad_limit", "/limit", detail).into());
    }
    let state = server.state_from(seen(&headers)?.as_ref()).await?;
    let wanted = search.search.to_lowercase();
    let mut rows = listed(&server, &state, &principal.scope);
    rows.retain(|row| {
        let has = |name: &str| row[name].as_str().is_some_and(|text| text.to_lowercase().contains(&wanted));
        wanted.is_empty() || ["campaign_id", "name", "advertiser_id", "advertiser_name"].into_iter().any(has)
    });
    let is_truncated = rows.len() > limit;
    rows.truncate(limit);
    let scope = serde_json::to_string(&principal.scope).unwrap_or_default();
    let mut meta = server.meta(&state, None);
    if let Value::Object(meta) = &mut meta {
        meta.insert("truncated".into(), is_truncated.into());
    }
    let texts = ["campaigns", &scope, &wanted, &limit.to_string()];
    Ok(server.list(&state, &texts, json!({"campaigns": rows, "meta": meta}), &headers))
}

/// The parameters could not be read.
pub fn malformed(error: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_query", error.to_string())
}

/// The campaigns that a scope includes: those of the reference data, and others that have events,
/// by id.
fn listed(server: &Server, state: &State, scope: &Scope) -> Vec<Value> {
    let mut rows: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
    for batch in &state.campaigns {
        for row in 0..batch.num_rows() {
            let campaign = campaign(batch, row);
            if let Some(id) = campaign["campaign_id"].as_str().map(String::from) {
                rows.insert(id, campaign);
            }
        }
    }
    for id in state.active_campaigns(&server.names) {
        let empty = || {
            json!({"campaign_id": id, "name": null, "advertiser_id": null, "advertiser_name": null,
                              "budget": null, "target_cpa": null, "target_roas": null, "start_date": null,
                              "end_date": null})
        };
        rows.entry(id.to_string()).or_insert_with(empty);
    }
    // The advertiser that decides is the one that the sums are made with.
    rows.retain(|id, _| scope.includes(id, state.advertiser(id)));
    rows.into_values().collect()
}

fn campaign(batch: &RecordBatch, row: usize) -> Value {
    let text = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
    };
    let money = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.filter(|column| column.is_valid(row)).map(|column| decimal_text(column.value(row).into(), MICROS))
    };
    let roas = batch.column_by_name("target_roas").and_then(|column| column.as_primitive_opt::<Float64Type>());
    let date = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Date32Type>());
        let day = column.filter(|column| column.is_valid(row)).map(|column| column.value(row))?;
        let date = chrono::NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(day.into()))?;
        Some(date.to_string())
    };
    json!({
        "campaign_id": text("campaign_id"),
        "name": text("name"),
        "advertiser_id": text("advertiser_id"),
        "advertiser_name": text("advertiser_name"),
        "budget": money("budget_micros"),
        "target_cpa": money("target_cpa_micros"),
        "target_roas": roas.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
        "start_date": date("start_date"),
        "end_date": date("end_date"),
    })
}

/// `GET /v1/freshness`.
pub async fn freshness(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let state = server.state_from(seen(&headers)?.as_ref()).await?;
    let sql = "SELECT \"table\", version, published_version, published_at, raw_rows AS rows, newest_event_time, \
               newest_ingested_at FROM freshness";
    let mut tables = server.rows(&state, sql).await?;
    if principal.role == Role::Advertiser {
        // How many events there are is everybody's business together.
        for row in tables.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|name, _| {
                ["table", "published_at", "newest_event_time", "newest_ingested_at"].contains(&name.as_str())
            });
        }
    }
    let (confirmed_at, problem) = {
        let live = server.live.borrow();
        (live.confirmed_at, live.problem.clone())
    };
    let is_admin = principal.role == Role::Admin;
    let shown = |detail: &str| if is_admin { detail.to_owned() } else { "the lake cannot be read".to_owned() };
    let told = json!({
        "snapshot": state.id.to_string(),
        "as_of": time_text(state.as_of),
        "confirmed_at": time_text(confirmed_at),
        "is_stale": problem.is_some(),
        "stale_since": problem.as_ref().map(|(since, _)| time_text(*since)),
        "problem": problem.as_ref().map(|(_, detail)| shown(detail)),
    });
    let body = json!({"tables": tables, "server": told, "meta": server.meta(&state, None)});
    // It is different at every moment, so it is not kept.
    let mut response = server.list(&state, &["freshness"], body, &HeaderMap::new());
    response.headers_mut().remove(axum::http::header::ETAG);
    Ok(response)
}

/// `GET /v1/dead_letters`.
pub async fn dead_letters(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if principal.role != Role::Admin {
        return Err(Problem::forbidden());
    }
    let state = server.state_from(seen(&headers)?.as_ref()).await?;
    let sql = "SELECT kind AS \"table\", reason, count(*) AS records, max(ingested_at) AS newest_ingested_at \
               FROM dead_letters GROUP BY kind, reason ORDER BY records DESC, 1, 2";
    let rows = server.rows(&state, sql).await?;
    let body = json!({"reasons": rows, "meta": server.meta(&state, None)});
    Ok(server.list(&state, &["dead_letters"], body, &headers))
}

impl Server {
    /// The response with a list.
    pub fn list(&self, state: &State, texts: &[&str], body: Value, headers: &HeaderMap) -> Response {
        trace::answered_from(state);
        let reply = Reply {
            snapshot: state.id.clone(),
            etag: etag(texts, &state.id),
            media_type: "application/json",
            body: Bytes::from(body.to_string()),
        };
        respond(&reply, headers)
    }

    /// The rows of a statement over the views of a state, as JSON.
    pub async fn rows(&self, state: &State, sql: &str) -> Result<Vec<Value>, Problem> {
        let work = self.in_turn(async {
            let context = self.settings.session.context().map_err(AnswerError::from)?;
            state.views.register(&context).map_err(AnswerError::from)?;
            let frame = context.sql(sql).await.map_err(lake)?;
            let batches: Vec<RecordBatch> =
                frame.execute_stream().await.map_err(lake)?.try_collect().await.map_err(lake)?;
            Ok::<_, Problem>(
                batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| object(batch, row))).collect(),
            )
        });
        self.in_time(work).await?
    }
}

fn lake(error: datafusion::error::DataFusionError) -> Problem {
    AnswerError::Lake(error.into()).into()
}

/// A row as an object: numbers, texts and times.
fn object(batch: &RecordBatch, row: usize) -> Value {
    let cells = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = if column.is_null(row) {
            Value::Null
        } else if let Some(texts) = column.as_string_opt::<i32>() {
            texts.value(row).into()
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            numbers.value(row).into()
        } else if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
            numbers.value(row).into()
        } else if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
            time_text(times.value(row)).into()
        } else {
            Value::Null
        };
        (field.name().clone(), value)
    });
    Value::Object(cells.collect::<Map<_, _>>())
}
