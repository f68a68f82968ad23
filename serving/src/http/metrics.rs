//! The metrics of the server itself, for Prometheus.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Extension;
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::problem::Problem;
use super::{Server, quality};
use crate::access::{Principal, Role};
use crate::state::follow::now;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    route: String,
}

/// The trace of an observation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trace {
    trace_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// How long the metrics wait for the results of expectations.
const QUALITY_WITHIN: Duration = Duration::from_secs(2);

/// The bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is counted while requests are answered.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<Route, Counter>,
    durations: Family<Path, HistogramWithExemplars<Trace>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || HistogramWithExemplars::new(BOUNDS.into_iter());
        Metrics { requests: Family::default(), durations: Family::new_with_constructor(durations) }
    }
}

/// Counts a request and its time.
pub async fn count(Shared(server): Shared<Arc<Server>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let trace = adlake_telemetry::current().filter(|context| context.is_sampled);
    let (trace, at) = (trace.map(|context| Trace { trace_id: context.trace_text() }), SystemTime::now());
    let durations = server.metrics.durations.get_or_create(&Path { route: route.clone() });
    durations.observe(began.elapsed().as_secs_f64(), trace, Some(at));
    drop(durations);
    server.metrics.requests.get_or_create(&Route { route, status }).inc();
    response
}

/// `GET /metrics`.
pub async fn show(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
) -> Result<Response, Problem> {
    if principal.role != Role::Admin {
        return Err(Problem::forbidden());
    }
    let mut text = String::new();
    let failed = |_| {
        let detail = "the metrics could not be written";
        Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    };
    // A lake that does not answer takes nothing of the other metrics, and does not delay them long.
    let results = async {
        let state = server.state()?;
        server.quality_of(&state).await
    };
    let results = tokio::time::timeout(QUALITY_WITHIN, results).await;
    let results = results.ok().and_then(Result::ok).unwrap_or_default();
    let mut registry = server.registry();
    quality::register(&results, &mut registry);
    encode(&mut text, &registry).map_err(failed)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

impl Server {
    /// Everything that is measured, as it is now.
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("adlake_serve");
        registry.register("requests", "Requests by route and status", self.metrics.requests.clone());
        let durations = self.metrics.durations.clone();
        registry.register_with_unit("request_duration", "Time until the answer begins", Unit::Seconds, durations);
        let counts = adlake_telemetry::counts();
        let spans = Family::<Outcome, Counter>::default();
        for (outcome, count) in [("exported", counts.exported), ("dropped", counts.dropped)] {
            spans.get_or_create(&Outcome { outcome }).inc_by(count);
        }
        registry.register("spans", "Spans of traces by what became of them", spans);
        let live = self.live.borrow();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        };
        let seconds_since = |at: i64| if at == 0 { f64::NAN } else { (now() - at) as f64 / 1e6 };
        gauge("confirmed_age_seconds", "Time since the lake held nothing newer", seconds_since(live.confirmed_at));
        gauge("stale", "1 while the lake cannot be read", f64::from(u8::from(live.problem.is_some())));
        gauge("snapshot_seconds", "How long the newest snapshot took to make", live.took.as_secs_f64());
        gauge("snapshots", "Snapshots that were made", live.states as f64);
        let places = self.settings.subscribers_max.saturating_sub(self.subscribers.available_permits());
        gauge("subscribers", "Clients that events are sent to", places as f64);
        gauge("audit_lines_lost", "Lines of the audit log that could not be written", self.audit.lost() as f64);
        gauge("names_bytes", "Memory of the values of dimensions", self.names.bytes() as f64);
        if let Some(state) = &live.state {
            let (changes, base) = state.bytes();
            gauge("published_bytes", "Memory of the published sums and sketches", base as f64);
            gauge("published_rows", "Rows of the published sums in memory", state.base().rows() as f64);
            gauge("change_bytes", "Memory of the sums that came since", changes as f64);
            gauge("change_rows", "Rows of the sums that came since", state.change_rows() as f64);
        }
        self.alarms.register(&mut registry);
        registry
    }
}
