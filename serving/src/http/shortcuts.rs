//! Questions that are asked often, as addresses.

use std::sync::Arc;

use adlake_domain::credit::Model;
use adlake_domain::kpi::FUNNEL;
use axum::Extension;
use axum::extract::{Query, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Server;
use super::ask::seen;
use super::lists::malformed;
use super::name::Name;
use super::problem::Problem;
use crate::access::{Principal, Scope};
use crate::answer::{
    Answer, AnswerError, Asked, InvalidEvents, Value as Cell, conversions_by_delay, decimal_text, invalid_events,
};
use crate::question::{Compare, Grain, Invalid, Request, TimeRequest};
use crate::state::State;

/// In place of a campaign: all that the key may see.
const ALL: &str = "all";

/// The parameters that these addresses share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    from: Option<String>,
    to: Option<String>,
    zone: Option<String>,
    compare: Option<Compare>,
    grain: Option<Grain>,
    metrics: Option<String>,
}

type Parsed = Result<Query<Parameters>, axum::extract::rejection::QueryRejection>;
type Asking = (Shared<Arc<Server>>, Extension<Arc<Principal>>);

/// What is asked of a campaign.
struct Shortcut {
    server: Arc<Server>,
    principal: Arc<Principal>,
    campaign: Option<String>,
    parameters: Parameters,
}

impl Parameters {
    /// Whichever of these is given, and not among those that an address takes.
    fn surplus(&self, taken: &[&str]) -> Option<&'static str> {
        let given =
            [("compare", self.compare.is_some()), ("grain", self.grain.is_some()), ("metrics", self.metrics.is_some())];
        given.into_iter().find(|(name, is_given)| *is_given && !taken.contains(name)).map(|(name, _)| name)
    }
}

impl Shortcut {
    /// `taken`: the parameters that the address takes, beside those of the range.
    fn new(
        (Shared(server), Extension(principal)): Asking,
        id: String,
        parsed: Parsed,
        taken: &[&str],
    ) -> Result<Shortcut, Problem> {
        let Query(parameters) = parsed.map_err(malformed)?;
        if let Some(name) = parameters.surplus(taken) {
            return Err(malformed(format_args!("this address has no parameter {name}; POST /v1/query has")));
        }
        Ok(Shortcut { server, principal, campaign: (id != ALL).then_some(id), parameters })
    }

    /// The state, if the campaign is one that the key may see.
    async fn state(&self, headers: &HeaderMap) -> Result<Arc<State>, Problem> {
        let state = self.server.state_from(seen(headers)?.as_ref()).await?;
        match &self.campaign {
            Some(id) if !state.knows_campaign(&self.server.names, id) => Err(Problem::not_found()),
            Some(id) if !self.principal.scope.includes(id, state.advertiser(id)) => Err(Problem::not_found()),
            _ => Ok(state),
        }
    }

    /// The question for some metrics.
    fn request(&self, metrics: &[&str]) -> Request {
        let Parameters { from, to, zone, compare, .. } = self.parameters.clone();
        let range = (from.is_some() || to.is_some()).then_some((from, to));
        let time = TimeRequest { range, zone, grain: None, fill: false };
        let filters = self.campaign.as_ref().map(|id| json!(["=", "campaign_id", id]));
        Request {
            metrics: metrics.iter().map(|name| name.to_string()).collect(),
            filters,
            time,
            compare,
            ..Request::default()
        }
    }

    async fn answer(&self, state: &State, request: &Request) -> Result<Answer, Problem> {
        let question = request.read(self.server.rules(state))?;
        self.server.answer(&self.principal, state, &question, 0).await
    }
}

/// `GET /v1/campaigns/{id}`: all metrics that its range allows.
pub async fn campaign(asking: Asking, Name(id): Name, parsed: Parsed, headers: HeaderMap) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &["compare"])?;
    let state = shortcut.state(&headers).await?;
    let all: Vec<&str> = shortcut.server.catalogues.of(None).all().iter().map(|metric| metric.name.as_str()).collect();
    let mut request = shortcut.request(&all);
    if request.read(shortcut.server.rules(&state)).is_err_and(|error| error.code == "reach_not_available") {
        request.metrics.retain(|name| name != "reach" && name != "frequency");
    }
    request.totals = true;
    shortcut.server.reply(&shortcut.principal, &request, &headers).await
}

/// `GET /v1/campaigns/{id}/timeseries`.
pub async fn timeseries(
    asking: Asking,
    Name(id): Name,
    parsed: Parsed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &["compare", "grain", "metrics"])?;
    shortcut.state(&headers).await?;
    let metrics = shortcut.parameters.metrics.clone().unwrap_or_else(|| "impressions,clicks,conversions,spend".into());
    let metrics: Vec<&str> = metrics.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut request = shortcut.request(&metrics);
    request.time.grain = Some(shortcut.parameters.grain.unwrap_or(Grain::Day));
    request.time.fill = true;
    request.limit = Some(shortcut.server.settings.rows_max);
    shortcut.server.reply(&shortcut.principal, &request, &headers).await
}

/// `GET /v1/campaigns/{id}/geography`.
pub async fn geography(
    asking: Asking,
    Name(id): Name,
    parsed: Parsed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &["compare"])?;
    shortcut.state(&headers).await?;
    let metrics = ["impressions", "clicks", "conversions", "spend", "revenue", "ctr", "cvr", "roas"];
    let mut request = shortcut.request(&metrics);
    request.dimensions = vec!["country".into(), "region".into()];
    request.order = vec!["-impressions".into()];
    request.limit = Some(shortcut.server.settings.rows_max);
    request.totals = true;
    shortcut.server.reply(&shortcut.principal, &request, &headers).await
}

/// `GET /v1/campaigns/{id}/funnel`.
pub async fn funnel(asking: Asking, Name(id): Name, parsed: Parsed, headers: HeaderMap) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &[])?;
    let state = shortcut.state(&headers).await?;
    let request = shortcut.request(&FUNNEL.map(|(_, sum)| sum));
    let answer = shortcut.answer(&state, &request).await?;
    let counts = counts(&answer, 0);
    let rate = |place: usize| {
        let before = *counts.get(place.checked_sub(1)?)?;
        (before != 0).then(|| counts[place] as f64 / before as f64)
    };
    let stages: Vec<Value> = FUNNEL
        .iter()
        .enumerate()
        .filter(|(place, _)| *place < counts.len())
        .map(|(place, (stage, _))| json!({"stage": stage, "events": counts[place] as i64, "rate": rate(place)}))
        .collect();
    shortcut.reply(&state, "funnel", json!({"stages": stages}), &headers)
}

/// The whole numbers of the first row from a column on. Without rows they are zero.
fn counts(answer: &Answer, from: usize) -> Vec<i128> {
    let row = answer.rows.first();
    let value = |place: usize| match row.and_then(|row| row.get(place)) {
        Some(Cell::Integer(number)) => *number,
        _ => 0,
    };
    (from..answer.columns.len()).map(value).collect()
}

/// `GET /v1/campaigns/{id}/attribution`: a row for each model.
pub async fn attribution(
    asking: Asking,
    Name(id): Name,
    parsed: Parsed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &[])?;
    let state = shortcut.state(&headers).await?;
    let columns = |what: &str| Model::ALL.map(|model| format!("attributed_{what}_{}", model.name()));
    let metrics: Vec<String> = columns("conversions").into_iter().chain(columns("revenue")).collect();
    let request = shortcut.request(&metrics.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = shortcut.answer(&state, &request).await?;
    let cell = |place: usize, scale: i8| match answer.rows.first() {
        Some(row) => row[place].clone(),
        None => Cell::Decimal(0, scale),
    };
    let rows: Vec<[Cell; 3]> = Model::ALL
        .iter()
        .enumerate()
        .map(|(place, model)| {
            let revenue = cell(place + Model::ALL.len(), adlake_domain::kpi::MICROS);
            [Cell::Text(model.name().into()), cell(place, adlake_domain::kpi::NANOS), revenue]
        })
        .collect();
    let body = json!({
        "columns": [
            {"name": "model", "role": "dimension", "type": "string"},
            {"name": "attributed_conversions", "role": "metric", "type": "decimal", "unit": "events"},
            {"name": "attributed_revenue", "role": "metric", "type": "decimal", "unit": "currency"},
        ],
        "rows": rows,
        "default_model": shortcut.server.catalogues.default_model(),
    });
    shortcut.reply(&state, "attribution", body, &headers)
}

/// The bounds of the buckets of [`time_to_conversion`], in seconds.
const BOUNDS: [i64; 12] = [60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800];

/// `GET /v1/campaigns/{id}/time_to_conversion`: the conversions of which a touchpoint of the
/// campaign is the last, by the time since.
pub async fn time_to_conversion(
    asking: Asking,
    Name(id): Name,
    parsed: Parsed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &[])?;
    let state = shortcut.state(&headers).await?;
    let question = shortcut.request(&["conversions"]).read(shortcut.server.rules(&state))?;
    let (server, campaign) = (&shortcut.server, shortcut.campaign.as_deref());
    let work = conversions_by_delay(shortcut.asked(&state), campaign, question.range.bounds(), &BOUNDS);
    let counts = server.in_time(server.in_turn(work)).await?.map_err(AnswerError::from)?;
    let buckets: Vec<Value> = counts
        .iter()
        .enumerate()
        .map(|(place, count)| {
            let from = place.checked_sub(1).map_or(0, |before| BOUNDS[before]);
            json!({"from_seconds": from, "to_seconds": BOUNDS.get(place), "conversions": count})
        })
        .collect();
    shortcut.reply(&state, "time_to_conversion", json!({"buckets": buckets}), &headers)
}

/// `GET /v1/campaigns/{id}/invalid_traffic`: events that are left out, by kind and reason.
pub async fn invalid_traffic(
    asking: Asking,
    Name(id): Name,
    parsed: Parsed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shortcut = Shortcut::new(asking, id, parsed, &[])?;
    let state = shortcut.state(&headers).await?;
    let question = shortcut.request(&["clicks"]).read(shortcut.server.rules(&state))?;
    if !question.range.has_whole_days(state.report_zone()) {
        let detail = "invalid traffic is counted by days of the report zone: give days";
        return Err(Invalid::new("bad_range", "/time/range", detail).into());
    }
    let (server, campaign) = (&shortcut.server, shortcut.campaign.as_deref());
    let work = invalid_events(shortcut.asked(&state), campaign, question.range.bounds());
    let found = server.in_time(server.in_turn(work)).await?.map_err(AnswerError::from)?;
    let rows: Vec<Value> = found
        .into_iter()
        .map(|InvalidEvents { kind, reason, events, cost }| {
            let cost = decimal_text(cost, adlake_domain::kpi::MICROS);
            json!({"kind": kind, "reason": reason, "events": events, "cost": cost})
        })
        .collect();
    shortcut.reply(&state, "invalid_traffic", json!({"reasons": rows}), &headers)
}

impl Shortcut {
    fn asked<'a>(&'a self, state: &'a State) -> Asked<'a> {
        let (server, scope) = (&self.server, &self.principal.scope);
        let (names, catalogues, bytes_max) = (&server.names, &server.catalogues, server.settings.answer_bytes_max);
        Asked { state, names, catalogues, scope, bytes_max }
    }

    fn reply(&self, state: &State, what: &str, mut body: Value, headers: &HeaderMap) -> Result<Response, Problem> {
        if let Value::Object(body) = &mut body {
            body.insert("meta".into(), self.server.meta(state, self.parameters.zone.as_deref()));
        }
        let scope: &Scope = &self.principal.scope;
        let scope = serde_json::to_string(scope).unwrap_or_default();
        let parameters = format!("{:?}", self.parameters);
        let texts = [what, &scope, self.campaign.as_deref().unwrap_or(ALL), &parameters];
        Ok(self.server.list(state, &texts, body, headers))
    }
}
