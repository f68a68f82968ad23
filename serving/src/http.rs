//! The HTTP API: requests in, answers out. `docs/api.md` describes it for those who call it.
//!
//! Each request has a [`Principal`](crate::access::Principal): [`identify`] finds it, or refuses.
//! Handlers make a
//! [`Request`](crate::question::Request) of what was sent, and [`ask`] answers it.

mod alarms;
mod ask;
mod assets;
mod audit;
mod cursor;
mod dashboard;
mod events;
mod format;
mod host;
mod identify;
mod listen;
mod lists;
mod metrics;
mod name;
mod openapi;
mod problem;
mod quality;
mod runbooks;
mod session;
mod shortcuts;
mod tls;
mod trace;
mod unread;

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adlake_domain::settings::{Display, Meaning};
use adlake_lake::{Lake, LakeError};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::alarms::SharedAlarms;
use self::ask::Cache;
use self::audit::Audit;
use self::cursor::Cursors;
use self::listen::{Limits, listen};
use self::metrics::Metrics;
use self::problem::Problem;
use self::tls::Tls;
use crate::access::Rates;
use crate::access::entrance::Entrance;
use crate::alarms::rule::Rule;
use crate::alarms::run::Evaluator;
use crate::alarms::settings::AlarmSettings;
use crate::metrics::Catalogues;
use crate::settings::ServeSettings;
use crate::state::follow::{Follower, Live};
use crate::state::names::Names;
use crate::state::{Builder, SnapshotId, State};

/// How long a request waits for a snapshot that its client has seen elsewhere.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// How long the evaluator of alarms may take to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a server serves.
#[derive(Debug, Clone)]
pub struct Served {
    /// The lake.
    pub lake: Lake,
    /// The `[serve]` section.
    pub settings: ServeSettings,
    /// The meaning until a batch run is published.
    pub meaning: Meaning,
    /// What is shown.
    pub display: Display,
    /// The currency of all money.
    pub currency: String,
    /// The `[alarms]` section, and the rules.
    pub alarms: (AlarmSettings, Arc<Vec<Rule>>),
}

/// What the handlers share.
#[derive(Debug)]
struct Server {
    settings: ServeSettings,
    currency: String,
    names: Arc<Names>,
    catalogues: Catalogues,
    entrance: Entrance,
    audit: Audit,
    cursors: Cursors,
    live: watch::Receiver<Live>,
    /// The newest states, for the next pages of answers.
    kept: Mutex<VecDeque<Arc<State>>>,
    cache: Mutex<Cache>,
    lake_queries: Semaphore,
    subscribers: Arc<Semaphore>,
    rates: Mutex<Rates>,
    metrics: Metrics,
    alarms: SharedAlarms,
    quality: quality::Results,
    stopped: CancellationToken,
}

/// Refuses what must not be served: without keys, only this machine may ask.
pub fn check(settings: &ServeSettings, address: SocketAddr) -> Result<(), LakeError> {
    settings.check()?;
    Tls::open(&settings.tls)?;
    Entrance::open(settings.ways())?;
    if settings.is_open() && !address.ip().is_loopback() {
        let detail = format!(
            "serve.listen: {address} can be reached from other machines, and there are no keys: set serve.keys_file \
             (`adlake keys create` makes keys), or listen on 127.0.0.1"
        );
        return Err(LakeError::Configuration(detail));
    }
    Ok(())
}

/// Serves until it is cancelled. Requests that are being answered then are answered to their end,
/// streams of events are closed.
pub async fn serve(listener: TcpListener, served: Served, cancel: CancellationToken) -> std::io::Result<()> {
    let names = Arc::new(Names::default());
    let (live, following) = watch::channel(Live::default());
    let follower = Follower {
        builder: Builder {
            lake: served.lake.clone(),
            names: names.clone(),
            base_bytes_max: served.settings.state_bytes_max,
        },
        session: served.settings.session.clone(),
        meaning: served.meaning.clone(),
        display: served.display.clone(),
        interval: served.settings.refresh_interval,
    };
    let (alarms, board) = SharedAlarms::new(&served);
    let evaluator = Evaluator {
        lake: served.lake.clone(),
        settings: served.alarms.0,
        rules: served.alarms.1,
        session: served.settings.session.clone(),
        names: names.clone(),
        catalogues: Catalogues::new(&served.display),
        live: following.clone(),
        board,
        sinks: alarms.sinks.clone(),
    };
    let settings = served.settings;
    let tls = Tls::open(&settings.tls).map_err(std::io::Error::other)?.map(Arc::new);
    let entrance = Entrance::open(settings.ways()).map_err(std::io::Error::other)?;
    let audit = Audit::open(&settings.audit_file).map_err(|error| {
        let detail = format!("serve.audit_file: cannot write {}: {error}", settings.audit_file.display());
        std::io::Error::new(error.kind(), detail)
    })?;
    let limits = Limits::new(&settings);
    let follows = follow(follower, live, evaluator, cancel.clone())?;
    let server = Arc::new(Server {
        catalogues: Catalogues::new(&served.display),
        cursors: Cursors::new(settings.cursor_secret.as_ref().map(|secret| secret.expose())),
        lake_queries: Semaphore::new(settings.lake_queries_max),
        subscribers: Arc::new(Semaphore::new(settings.subscribers_max)),
        cache: Mutex::new(Cache::new(settings.cache_bytes_max)),
        rates: Mutex::new(Rates::per_second(settings.requests_per_second)),
        kept: Mutex::default(),
        metrics: Metrics::default(),
        quality: quality::Results::default(),
        alarms,
        currency: served.currency,
        entrance,
        audit,
        stopped: cancel.clone(),
        live: following,
        settings,
        names,
    });
    let certificates = async {
        match &tls {
            Some(tls) => tls.follow(cancel.clone()).await,
            None => cancel.cancelled().await,
        }
    };
    let connections = listen(listener, routes(server.clone()), tls.clone(), limits, cancel.clone());
    tokio::join!(connections, certificates, server.entrance.follow(cancel.clone()));
    // The thread ends with its runtime. A panic in it was logged where it happened.
    let _ = tokio::task::spawn_blocking(move || follows.join()).await;
    Ok(())
}

/// Follows the lake and evaluates the alarms on threads of their own, so that answers do not wait
/// for this work.
fn follow(
    follower: Follower,
    live: watch::Sender<Live>,
    evaluator: Evaluator,
    cancel: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("follow").enable_all().build()?;
    std::thread::Builder::new().name("follower".into()).spawn(move || {
        let evaluates = evaluator.settings.enabled.then(|| runtime.spawn(evaluator.run(cancel.clone())));
        runtime.block_on(async {
            follower.run(live, cancel).await;
            // It gives its lease back, so that another server need not wait for that.
            if let Some(evaluates) = evaluates {
                let _ = tokio::time::timeout(STOP_MAX, evaluates).await;
            }
        });
        runtime.shutdown_background();
    })
}

fn routes(server: Arc<Server>) -> Router {
    let asked = Router::new()
        .route("/v1/query", post(ask::query))
        .route("/v1/live", get(events::live))
        .route("/v1/metrics", get(lists::metrics))
        .route("/v1/whoami", get(session::whoami))
        .route("/v1/campaigns", get(lists::campaigns))
        .route("/v1/campaigns/{id}", get(shortcuts::campaign))
        .route("/v1/campaigns/{id}/timeseries", get(shortcuts::timeseries))
        .route("/v1/campaigns/{id}/funnel", get(shortcuts::funnel))
        .route("/v1/campaigns/{id}/geography", get(shortcuts::geography))
        .route("/v1/campaigns/{id}/attribution", get(shortcuts::attribution))
        .route("/v1/campaigns/{id}/time_to_conversion", get(shortcuts::time_to_conversion))
        .route("/v1/campaigns/{id}/invalid_traffic", get(shortcuts::invalid_traffic))
        .route("/v1/freshness", get(lists::freshness))
        .route("/v1/dead_letters", get(lists::dead_letters))
        .route("/v1/alarms", get(alarms::list))
        .route("/v1/alarms/history", get(alarms::past))
        .route("/v1/alarms/{id}/series", get(alarms::series))
        .route("/v1/alarms/silences", post(alarms::silence))
        .route("/v1/alarms/{id}/ack", post(alarms::acknowledge))
        .route("/v1/quality", get(quality::quality))
        .route("/metrics", get(metrics::show))
        .route_layer(from_fn_with_state(server.clone(), identify::identify));
    let open = Router::new()
        .route("/", get(assets::page))
        .route("/{file}", get(assets::file))
        .route("/runbooks/{file}", get(runbooks::show))
        .route("/v1/session", get(session::methods).post(session::create).delete(session::delete))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page))
        .route("/docs.css", get(openapi::style));
    asked
        .merge(open)
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address has no such method")
        })
        .layer(DefaultBodyLimit::max(server.settings.body_bytes_max))
        .layer(from_fn_with_state(server.clone(), host::check))
        .layer(from_fn(headers))
        .layer(from_fn_with_state(server.clone(), audit::log))
        .layer(from_fn_with_state(server.clone(), metrics::count))
        .layer(from_fn(trace::request))
        .with_state(server)
}

/// Headers of every answer.
async fn headers(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn ready(Shared(server): Shared<Arc<Server>>) -> Response {
    match server.state() {
        Ok(_) => "ready\n".into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl Server {
    /// The newest state.
    fn state(&self) -> Result<Arc<State>, Problem> {
        let live = self.live.borrow();
        match (&live.state, &live.problem) {
            (Some(state), _) => Ok(state.clone()),
            (None, Some(_)) => Err(Problem::later("not_ready", "the lake cannot be read", 5)),
            (None, None) => Err(Problem::later("not_ready", "the first snapshot is being made", 1)),
        }
    }

    /// A state that is not older than a snapshot, if it comes in time.
    async fn state_from(&self, wanted: Option<&SnapshotId>) -> Result<Arc<State>, Problem> {
        let Some(wanted) = wanted else { return self.state() };
        let mut live = self.live.clone();
        let reached = |live: &Live| live.state.as_ref().is_some_and(|state| state.id.has_reached(wanted));
        let limit = CATCH_UP_MAX.min(self.settings.timeout);
        match self.until(tokio::time::timeout(limit, live.wait_for(reached))).await {
            Some(Ok(Ok(live))) => live.state.clone().ok_or_else(Problem::not_found),
            _ => {
                let detail = "this server has not seen the snapshot that X-Adlake-Snapshot names yet";
                Err(Problem::later("snapshot_not_reached", detail, 1))
            }
        }
    }

    /// What a future returns, unless the server stops first.
    async fn until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = future => Some(done),
            () = self.stopped.cancelled() => None,
        }
    }

    /// Keeps a state for next pages, and lets go of the oldest.
    fn keep(&self, state: &Arc<State>) {
        let Ok(mut kept) = self.kept.lock() else { return };
        if kept.iter().any(|other| Arc::ptr_eq(other, state)) {
            return;
        }
        kept.push_back(state.clone());
        while kept.len() > self.settings.snapshots_kept {
            kept.pop_front();
        }
    }

    /// A kept state.
    fn kept(&self, id: &SnapshotId) -> Option<Arc<State>> {
        let kept = self.kept.lock().ok()?;
        kept.iter().find(|state| state.id == *id).cloned()
    }
}
