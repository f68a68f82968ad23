//! Server-sent events: the answer to a question, and again whenever it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::unfold;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Server;
use super::ask::read;
use super::audit::RequestId;
use super::format::Format;
use super::problem::Problem;
use crate::access::Principal;
use crate::question::Request;
use crate::state::SnapshotId;
use crate::state::follow::Live;

/// How often a client without news hears that the server is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The parameters of `/v1/live`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    query: String,
}

/// What a client is sent.
struct Subscription {
    server: Arc<Server>,
    principal: Arc<Principal>,
    request: Request,
    request_id: String,
    live: watch::Receiver<Live>,
    /// The snapshot that the client has.
    sent: Option<SnapshotId>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/live`.
pub async fn live(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed_query", "the parameter \"query\" is needed"))?;
    let request = read(parameters.query.as_bytes())?;
    if request.cursor.is_some() {
        let detail = "an event has the first page only";
        return Err(crate::question::Invalid::new("bad_cursor", "/cursor", detail).into());
    }
    let place = server.subscribers.clone().try_acquire_owned().map_err(|_| {
        Problem::later("overloaded", "as many clients are sent events as serve.subscribers_max allows", 10)
    })?;
    // A question that cannot be answered is refused before the stream begins.
    request.read(server.rules(&*server.state()?))?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(SnapshotId::parse);
    let live = server.live.clone();
    let subscription =
        Subscription { server, principal, request, request_id, live, sent: last, is_over: false, _place: place };
    let events = unfold(subscription, async |mut subscription| {
        let event = subscription.next().await?;
        Some((Ok::<_, Infallible>(event), subscription))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Authorization, Accept"));
    Ok(response)
}

impl Subscription {
    /// The next event: the answer from a newer snapshot than the client has. A client that reads
    /// slowly gets the newest one then, and not all between.
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let newer = |live: &Live| {
            let state = live.state.as_ref();
            state.is_some_and(|state| self.sent.as_ref().is_none_or(|sent| !sent.has_reached(&state.id)))
        };
        let mut live = self.live.clone();
        self.server.until(live.wait_for(newer)).await?.ok()?;
        match self.server.reply_in(&self.principal, &self.request, Format::Json, None).await {
            Ok(reply) => {
                self.sent = Some(reply.snapshot.clone());
                let body = String::from_utf8_lossy(&reply.body);
                Some(Event::default().event("answer").id(reply.snapshot.to_string()).data(body))
            }
            Err(problem) => {
                self.is_over = true;
                Some(Event::default().event("problem").data(problem.text(&self.request_id)))
            }
        }
    }
}
