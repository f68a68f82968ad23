//! Data quality: the last result of each expectation, for people and as metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use adlake_domain::{catalogue, time};
use axum::Extension;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Server;
use super::ask::seen;
use super::problem::Problem;
use crate::access::{Principal, Role};
use crate::state::State;
use crate::state::follow::now;

const LAST: &str = "SELECT expectation, kind, \"table\", \"column\", severity, status, observed, expected, \
                    checked_rows, violating_rows, note, owner, description, run, decision, decided_by, checked_at \
                    FROM (SELECT *, row_number() OVER (PARTITION BY expectation ORDER BY checked_at DESC, check_id) \
                    AS place FROM quality) WHERE place = 1 ORDER BY expectation";

/// The last results, as of a version of `batch/quality`.
#[derive(Debug, Default)]
pub struct Results(Mutex<Option<(u64, Arc<Vec<Value>>)>>);

/// `GET /v1/quality`: the last result of each expectation.
pub async fn quality(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // The results tell of all campaigns.
    if principal.role == Role::Advertiser {
        return Err(Problem::forbidden());
    }
    let state = server.state_from(seen(&headers)?.as_ref()).await?;
    let rows = server.quality_of(&state).await?;
    let body = json!({"expectations": *rows, "meta": server.meta(&state, None)});
    Ok(server.list(&state, &["quality"], body, &headers))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    expectation: String,
    severity: String,
}

/// Adds the metrics of the last results.
pub fn register(results: &[Value], registry: &mut Registry) {
    let (met, violating) = (Family::<Labels, Gauge>::default(), Family::<Labels, Gauge>::default());
    let age = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for row in results {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let labels = Labels { expectation: text("expectation"), severity: text("severity") };
        met.get_or_create(&labels).set(i64::from(row["status"] == "pass"));
        if let Some(rows) = row["violating_rows"].as_i64() {
            violating.get_or_create(&labels).set(rows);
        }
        if let Ok(at) = time::parse_time(&text("checked_at"), chrono_tz::UTC) {
            age.get_or_create(&labels).set((now() - at).max(0) as f64 / 1e6);
        }
    }
    registry.register("quality_met", "1 if the last check of an expectation found it met, else 0", met);
    registry.register("quality_violating_rows", "Rows, values or groups that violate an expectation", violating);
    registry.register("quality_checked_age_seconds", "Time since an expectation was checked", age);
}

impl Server {
    /// The last result of each expectation, as of a state.
    pub async fn quality_of(&self, state: &State) -> Result<Arc<Vec<Value>>, Problem> {
        let Some(&version) = state.snapshot.newest.get(catalogue::QUALITY) else { return Ok(Arc::default()) };
        let known = self.quality.0.lock().await.clone();
        if let Some((_, rows)) = known.filter(|(known, _)| *known == version) {
            return Ok(rows);
        }
        // The lock is not held meanwhile: nobody waits for another's question to the lake.
        let rows = Arc::new(self.rows(state, LAST).await?);
        *self.quality.0.lock().await = Some((version, rows.clone()));
        Ok(rows)
    }
}
