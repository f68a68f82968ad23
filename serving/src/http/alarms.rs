//! Alarms: what is wrong now, and what people do about it. And their metrics.

mod history;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use adlake_lake::Lake;
use adlake_lake::session::SessionSettings;
use axum::Extension;
use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

pub use self::history::{HOURS_MAX, past, series};
use super::name::Name;
use super::problem::Problem;
use super::{Served, Server, runbooks};
use crate::access::{Principal, Role, Scope};
use crate::alarms::board::{Board, SinkStates};
use crate::alarms::engine::Alarm;
use crate::alarms::history::History;
use crate::alarms::journal::{Journal, acknowledgement, silence as silence_row};
use crate::alarms::rule::Rule;
use crate::alarms::track::AlarmState;
use crate::answer::{AnswerError, time_text};
use crate::question::Dimension;
use crate::state::State;
use crate::state::follow::now;

/// The longest silence.
const SILENCE_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The longest text of a reason.
const WHY_MAX: usize = 1_000;

/// What the handlers know of alarms.
#[derive(Debug)]
pub struct SharedAlarms {
    board: watch::Receiver<Arc<Board>>,
    /// The states of the sinks.
    pub sinks: SinkStates,
    lake: Lake,
    session: SessionSettings,
    is_enabled: bool,
    rules: Arc<Vec<Rule>>,
    history: History,
    /// How far back the history is shown, in microseconds.
    history_length: i64,
}

impl SharedAlarms {
    /// Those of a server, and where the evaluator shows them.
    pub fn new(served: &Served) -> (SharedAlarms, watch::Sender<Arc<Board>>) {
        let (sender, board) = watch::channel(Arc::new(Board::default()));
        let (settings, rules) = &served.alarms;
        let shared = SharedAlarms {
            board,
            sinks: SinkStates::default(),
            lake: served.lake.clone(),
            session: served.settings.session.clone(),
            is_enabled: settings.enabled,
            rules: rules.clone(),
            history: History::new(served.lake.clone(), served.settings.session.clone()),
            history_length: i64::try_from(settings.history.as_micros()).unwrap_or(i64::MAX),
        };
        (shared, sender)
    }

    /// Adds the metrics of alarms.
    pub fn register(&self, registry: &mut Registry) {
        if !self.is_enabled {
            return;
        }
        let board = self.board.borrow().clone();
        let firing = Family::<RuleLabels, Gauge>::default();
        for rule in self.rules.iter() {
            let of = |alarm: &&Alarm| alarm.rule == rule.name && alarm.state.is_alarm() && alarm.is_told;
            let count = board.alarms.iter().filter(of).count();
            let labels = RuleLabels { rule: rule.name.clone(), severity: rule.severity.name().to_owned() };
            firing.get_or_create(&labels).set(count as i64);
        }
        registry.register("alarms_firing", "Groups of a rule that people were told of", firing);
        let pending = board.alarms.iter().filter(|alarm| alarm.state == AlarmState::Pending).count();
        let age = match board.evaluated_at {
            0 => None,
            at => Some((now() - at).max(0) as f64 / 1e6),
        };
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        };
        gauge("alarms_pending", "Groups that are wrong, but not for long enough", pending as f64);
        gauge("alarms_leader", "1 on the server that evaluates the rules", f64::from(u8::from(board.is_leader)));
        gauge("alarms_evaluation_seconds", "How long the last evaluation took", board.took.as_secs_f64());
        if let Some(age) = age.filter(|_| board.is_leader) {
            gauge("alarms_evaluated_age_seconds", "Time since the rules were evaluated", age);
        }
        let (failing, sent) =
            (Family::<SinkLabels, Gauge<f64, AtomicU64>>::default(), Family::<SinkLabels, Gauge>::default());
        let failed = Family::<SinkLabels, Gauge>::default();
        for (sink, state) in self.sinks.all() {
            let seconds = state.failing_since.map_or(0.0, |since| (now() - since).max(0) as f64 / 1e6);
            let labels = SinkLabels { sink };
            failing.get_or_create(&labels).set(seconds);
            sent.get_or_create(&labels).set(state.sent as i64);
            failed.get_or_create(&labels).set(state.failed as i64);
        }
        registry.register("alarms_sink_failing_seconds", "Since when a sink fails; 0 while it does not", failing);
        registry.register("alarms_sink_sent", "How often a sink was told something", sent);
        registry.register("alarms_sink_failures", "How often a sink could not be told", failed);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
    severity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

/// `GET /v1/alarms`.
pub async fn list(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
) -> Result<Response, Problem> {
    let board = server.alarms.board.borrow().clone();
    let state = server.state()?;
    let is_seen = |alarm: &&Alarm| may_see(&state, &principal.scope, &alarm.group);
    let alarms: Vec<&Alarm> = board.alarms.iter().filter(is_seen).collect();
    let is_all = principal.scope == Scope::All;
    let sinks = (principal.role == Role::Admin).then(|| server.alarms.sinks.all());
    let body = json!({
        "alarms": alarms,
        "silences": is_all.then_some(&*board.silences),
        "sinks": sinks,
        "evaluated_at": (board.evaluated_at > 0).then(|| time_text(board.evaluated_at)),
        "is_enabled": server.alarms.is_enabled,
        "is_leader": board.is_leader,
        "runbooks": runbooks::paths(),
        "may_act": principal.role != Role::Advertiser,
        "problem": if principal.role == Role::Admin { board.problem.clone() } else { None },
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "private, no-cache")];
    Ok((headers, body.to_string()).into_response())
}

/// Whether somebody may see a group: all groups, or those of their campaigns and advertisers.
fn may_see(state: &State, scope: &Scope, group: &BTreeMap<String, String>) -> bool {
    let Scope::Some { advertisers, .. } = scope else { return true };
    match (group.get(Dimension::Campaign.name()), group.get(Dimension::Advertiser.name())) {
        (Some(campaign), _) => scope.includes(campaign, state.advertiser(campaign)),
        (None, Some(advertiser)) => advertisers.contains(advertiser),
        // What is not by campaign is about all of them.
        (None, None) => false,
    }
}

/// The body of `POST /v1/alarms/silences`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceRequest {
    rule: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(rename = "for", with = "humantime_serde")]
    time: Duration,
    #[serde(default)]
    why: String,
}

/// `POST /v1/alarms/silences`.
pub async fn silence(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    request: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Problem> {
    refuse_advertisers(&principal)?;
    let Json(members) = request.map_err(malformed)?;
    let request: SilenceRequest = serde_json::from_value(Value::Object(members))
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed_body", error.to_string()))?;
    let is_known = request.rule == "*" || server.alarms.rules.iter().any(|rule| rule.name == request.rule);
    if !is_known {
        return Err(invalid("/rule", format!("there is no rule {:?}", request.rule)));
    }
    if request.time.is_zero() || request.time > SILENCE_MAX {
        return Err(invalid("/for", "a silence lasts between 1s and 90 days".to_owned()));
    }
    if request.why.chars().count() > WHY_MAX {
        return Err(invalid("/why", format!("at most {WHY_MAX} characters")));
    }
    let row = silence_row(&request.rule, &request.labels, now(), request.time, &principal.name, &request.why);
    add(&server, &row).await?;
    let body = json!({"id": row.id, "until": row.until.map(time_text)});
    Ok((StatusCode::OK, Json(body)).into_response())
}

/// `POST /v1/alarms/{id}/ack`.
pub async fn acknowledge(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    Name(id): Name,
) -> Result<Response, Problem> {
    refuse_advertisers(&principal)?;
    let board = server.alarms.board.borrow().clone();
    let alarm = board.alarms.iter().find(|alarm| alarm.id == id && !id.is_empty()).ok_or_else(Problem::not_found)?;
    let row = acknowledgement(alarm, now(), &principal.name);
    add(&server, &row).await?;
    Ok((StatusCode::OK, Json(json!({"id": id, "acked_by": principal.name}))).into_response())
}

async fn add(server: &Server, row: &crate::alarms::engine::Row) -> Result<(), Problem> {
    let shared = &server.alarms;
    let added = async { Journal::open(&shared.lake, &shared.session).await?.add(row).await };
    added.await.map_err(|error| AnswerError::Lake(error).into())
}

fn refuse_advertisers(principal: &Principal) -> Result<(), Problem> {
    if principal.role == Role::Advertiser { Err(Problem::forbidden()) } else { Ok(()) }
}

fn malformed(rejection: JsonRejection) -> Problem {
    Problem::new(rejection.status(), "malformed_body", rejection.body_text())
}

fn invalid(pointer: &str, detail: String) -> Problem {
    crate::question::Invalid::new("bad_silence", pointer, detail).into()
}
