//! What was wrong before, and the series of what is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::super::Server;
use super::super::lists::malformed;
use super::super::name::Name;
use super::super::problem::Problem;
use super::may_see;
use crate::access::Principal;
use crate::alarms::engine::{Alarm, Engine, Row, labels};
use crate::alarms::history::{Trouble, troubles};
use crate::alarms::samples::{Point, Sampler};
use crate::answer::{AnswerError, time_text};
use crate::question::{Invalid, Range};
use crate::state::follow::now;

/// The hours of a series, unless it is asked for others, and the most.
const HOURS: u32 = 48;
pub const HOURS_MAX: u32 = 14 * 24;

/// The parameters of `/v1/alarms/history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    from: Option<String>,
    to: Option<String>,
    rule: Option<String>,
    /// The id of an alarm: only those of its rule and group.
    like: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/alarms/history`: what was wrong in a range, the newest first.
pub async fn past(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(malformed)?;
    let limit = wanted.limit.unwrap_or(server.settings.rows_max);
    if !(1..=server.settings.rows_max).contains(&limit) {
        let detail = format!("the limit is between 1 and {}", server.settings.rows_max);
        return Err(Invalid::new("bad_limit", "/limit", detail).into());
    }
    let state = server.state()?;
    let zone = state.report_zone();
    let range = Range::read(Some(&(wanted.from, wanted.to)), zone, zone)?;
    let since = now().saturating_sub(server.alarms.history_length);
    let rows = rows(&server, since).await?;
    let mut found = troubles(&rows, (range.from.unwrap_or(since), range.to.unwrap_or(i64::MAX)));
    let is_seen = |one: &Trouble| may_see(&state, &principal.scope, &one.group);
    if let Some(id) = &wanted.like {
        // Its group may have been wrong before the range, or only now.
        let all = troubles(&rows, (i64::MIN, i64::MAX));
        let like = all.iter().find(|one| one.id == *id && is_seen(one)).ok_or_else(Problem::not_found)?;
        found.retain(|one| one.rule == like.rule && one.group == like.group);
    }
    found.retain(|one| is_seen(one) && wanted.rule.as_ref().is_none_or(|rule| one.rule == *rule));
    let is_truncated = found.len() > limit;
    found.truncate(limit);
    let body = json!({"alarms": found, "since": time_text(since), "truncated": is_truncated});
    Ok(answered(body))
}

/// The parameters of `/v1/alarms/{id}/series`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    hours: Option<u32>,
}

/// `GET /v1/alarms/{id}/series`: the values of an alarm that is not over, hour by hour, and what
/// was expected.
pub async fn series(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    Name(id): Name,
    length: Result<Query<Length>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(length) = length.map_err(malformed)?;
    let hours = length.hours.unwrap_or(HOURS);
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(Invalid::new("bad_limit", "/hours", format!("give 1 to {HOURS_MAX} hours")).into());
    }
    let state = server.state()?;
    let board = server.alarms.board.borrow().clone();
    let is_it = |alarm: &&Alarm| !id.is_empty() && alarm.id == id && may_see(&state, &principal.scope, &alarm.group);
    let alarm = board.alarms.iter().find(is_it).ok_or_else(Problem::not_found)?;
    let rules = &server.alarms.rules;
    let rule = rules.iter().find(|rule| rule.name == alarm.rule).ok_or_else(Problem::not_found)?;
    let since = now().saturating_sub(server.alarms.history_length);
    let own: Vec<Row> = rows(&server, since)
        .await?
        .iter()
        .filter(|row| row.rule == rule.name && labels(&row.group) == alarm.group)
        .cloned()
        .collect();
    let group = own.first().map(|row| row.group.clone()).unwrap_or_default();
    let incidents = Engine::restored(vec![rule.clone()].into(), own).incidents(0, &group, now());
    let (names, catalogues) = (&server.names, &server.catalogues);
    let known_at = server.live.borrow().known_at(&state, now());
    let sampler = Sampler { state: &state, names, catalogues, now: known_at, has_running: true };
    let work = server.in_turn(sampler.series(rule, &alarm.group, &incidents, hours));
    let points = server.in_time(work).await?.map_err(Problem::from)?;
    let shown = |point: Point| {
        let Point { at, judgement } = point;
        json!({
            "at": time_text(at),
            "value": judgement.value,
            "expected_low": judgement.low,
            "expected_high": judgement.high,
        })
    };
    let points: Option<Vec<_>> = points.map(|points| points.into_iter().map(shown).collect());
    let body = json!({"id": id, "metric": alarm.metric, "window_hours": rule.window_hours, "points": points});
    Ok(answered(body))
}

async fn rows(server: &Server, since: i64) -> Result<Arc<Vec<Row>>, Problem> {
    let read = server.alarms.history.rows(since);
    server.in_time(read).await?.map_err(|error| AnswerError::Lake(error).into())
}

fn answered(body: serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "private, no-cache")];
    (headers, body.to_string()).into_response()
}
