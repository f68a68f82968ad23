//! Sinks: where alarms are told.
//!
//! Each sink has a task of its own, so that one that is down does not hold up the others. What it
//! has not been told yet follows from the stored transitions and from its stored position, so
//! nothing is kept in memory that a crash could lose. A try that fails is repeated after a pause
//! that doubles. While it fails, the sink is a group of the rule `sink_down`.
//!
//! The position advances after the sink has taken a notice. A server that is killed in between
//! sends it once more with the same key, by which the receiver knows it.

pub mod webhook;
pub mod alertmanager;
pub mod cloudwatch;

use std::sync::Arc;
use std::time::Duration;

use adlake_lake::LakeError;
use adlake_telemetry::SpanContext;
use rand::Rng;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use self::alertmanager::Alertmanager;
use self::cloudwatch::Cloudwatch;
use self::webhook::Webhook;
use super::board::{Board, SinkStates};
use super::engine::{Alarm, Row};
use super::journal::{Committed, Journal};
use super::rule::Rule;
use super::settings::AlarmSettings;
use crate::state::follow::now;

/// The pause after the first failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The longest time for one request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a sink was not told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// What a sink is told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Transitions that it was not told yet, in their order.
    pub notices: &'a [Row],
    /// What is not OK now.
    pub alarms: &'a [Alarm],
    /// The rules.
    pub rules: &'a [Rule],
    /// The settings.
    pub settings: &'a AlarmSettings,
}

/// A sink.
#[derive(Debug)]
pub enum Sink {
    /// Posts each notice.
    Webhook(Webhook),
    /// Posts what fires, again and again.
    Alertmanager(Alertmanager),
    /// Publishes metrics.
    Cloudwatch(Cloudwatch),
}

/// The sinks of the settings.
pub fn sinks(settings: &AlarmSettings) -> Result<Vec<Sink>, LakeError> {
    let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(|error| LakeError::Configuration(format!("alarms: {error}")))?;
    let mut sinks = Vec::new();
    for url in &settings.webhook.urls {
        sinks.push(Sink::Webhook(Webhook::new(client.clone(), url, settings)?));
    }
    for url in &settings.alertmanager.urls {
        sinks.push(Sink::Alertmanager(Alertmanager::new(client.clone(), url)?));
    }
    if settings.cloudwatch.enabled {
        sinks.push(Sink::Cloudwatch(Cloudwatch::new(&settings.cloudwatch)));
    }
    Ok(sinks)
}

/// The name of a sink at an address: the same as long as the address is.
fn name_of(kind: &str, url: &str) -> String {
    format!("{kind}-{:08x}", xxhash_rust::xxh3::xxh3_64(url.as_bytes()) as u32)
}

/// An address that can be requested.
fn parsed(url: &str, key: &str) -> Result<reqwest::Url, LakeError> {
    reqwest::Url::parse(url).map_err(|error| LakeError::Configuration(format!("{key}: it is no address: {error}")))
}

/// Sends a request, with the `traceparent` of the current span.
async fn sent(mut request: reqwest::RequestBuilder) -> Result<reqwest::Response, SinkError> {
    if let Some(context) = adlake_telemetry::current() {
        request = request.header("traceparent", context.to_string());
    }
    let span = tracing::Span::current();
    span.record("http.request.method", "POST");
    let response = request.send().await.map_err(failed)?;
    span.record("http.response.status_code", response.status().as_u16());
    Ok(response)
}

/// Why a request failed, without the address, which may hold a secret.
fn failed(error: reqwest::Error) -> SinkError {
    SinkError(adlake_lake::error::chain(&error.without_url()))
}

impl Sink {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Sink::Webhook(webhook) => webhook.name(),
            Sink::Alertmanager(alertmanager) => alertmanager.name(),
            Sink::Cloudwatch(_) => "cloudwatch",
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Sink::Webhook(_) => "webhook",
            Sink::Alertmanager(_) => "alertmanager",
            Sink::Cloudwatch(_) => "cloudwatch",
        }
    }

    /// Whether it is told again what it knows.
    fn is_repeated(&self) -> bool {
        !matches!(self, Sink::Webhook(_))
    }

    /// Tells it. Returns how many of the notices it has taken.
    async fn tell(&mut self, told: Told<'_>, cause: Option<SpanContext>) -> Result<usize, SinkError> {
        let span = adlake_telemetry::span!(
            "tell sink",
            otel.name = format_args!("tell {}", self.kind()),
            otel.kind = "client",
            adlake.sink = self.name(),
            adlake.notices = told.notices.len() as u64,
            http.request.method = Empty,
            http.response.status_code = Empty,
        );
        if let Some(cause) = cause.filter(|_| !told.notices.is_empty()) {
            adlake_telemetry::link(&span, &cause);
        }
        let done = self.send(told).instrument(span.clone()).await;
        if let Err(error) = &done {
            adlake_telemetry::fail(&span, error);
        }
        done
    }

    async fn send(&mut self, told: Told<'_>) -> Result<usize, SinkError> {
        match self {
            Sink::Webhook(webhook) => webhook.tell(told).await,
            Sink::Alertmanager(alertmanager) => alertmanager.tell(told).await,
            Sink::Cloudwatch(cloudwatch) => cloudwatch.tell(told).await,
        }
    }
}

/// The task of one sink.
#[derive(Debug)]
pub struct SinkTask {
    /// The sink.
    pub sink: Sink,
    /// The number of the last transition that it was told.
    pub position: i64,
    /// The rules.
    pub rules: Arc<Vec<Rule>>,
    /// The settings.
    pub settings: AlarmSettings,
    /// Where its position is stored.
    pub journal: Arc<Mutex<Journal>>,
    /// Where its state is shown.
    pub states: SinkStates,
    /// What is to be told.
    pub board: watch::Receiver<Arc<Board>>,
}

impl SinkTask {
    /// Tells the sink until it is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let name = self.sink.name().to_owned();
        let (mut failures, mut stored) = (0_u32, self.position);
        let mut next_repeat = Instant::now();
        loop {
            let board = self.board.borrow_and_update().clone();
            let is_untold = |row: &&Row| row.sequence.is_some_and(|sequence| sequence > self.position);
            let notices: Vec<Row> = board.notices.iter().filter(is_untold).cloned().collect();
            let is_due = self.sink.is_repeated() && Instant::now() >= next_repeat && board.evaluated_at > 0;
            let mut pause = None;
            if !notices.is_empty() || is_due {
                let told =
                    Told { notices: &notices, alarms: &board.alarms, rules: &self.rules, settings: &self.settings };
                let done = tokio::select! {
                    done = self.sink.tell(told, board.trace) => done,
                    () = cancel.cancelled() => return,
                };
                match done {
                    Ok(taken) => {
                        (failures, next_repeat) = (0, Instant::now() + self.settings.resend_interval);
                        let last = notices.get(..taken).and_then(<[Row]>::last).and_then(|row| row.sequence);
                        self.position = last.unwrap_or(self.position);
                        pause = (taken < notices.len()).then_some(Duration::ZERO);
                        self.states.change(&name, |state| {
                            (state.failing_since, state.problem) = (None, None);
                            state.sent += 1;
                        });
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(sink = name, %error, failures, "a sink was not told; it is tried again");
                        self.states.change(&name, |state| {
                            state.failing_since = state.failing_since.or(Some(now()));
                            state.problem = Some(error.to_string());
                            state.failed += 1;
                        });
                        pause = Some(self.pause(failures));
                    }
                }
            }
            if self.position > stored {
                let from = Some(stored);
                match self.journal.lock().await.advance(&name, from, self.position).await {
                    Ok(Committed::In) => stored = self.position,
                    Ok(Committed::Superseded) => {
                        tracing::info!(sink = name, "another server tells this sink of alarms");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(sink = name, %error, "the position of a sink was not stored; it is tried again");
                        pause = Some(RETRY_PAUSE);
                    }
                }
                self.states.change(&name, |state| state.position = stored);
            }
            let until_repeat = next_repeat.saturating_duration_since(Instant::now()).max(Duration::from_millis(50));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = async { match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if self.sink.is_repeated() => tokio::time::sleep(until_repeat).await,
                    None => std::future::pending().await,
                } } => {}
                // What is new does not shorten the pause after a failure.
                changed = self.board.changed(), if pause.is_none() => if changed.is_err() { return },
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = RETRY_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(20) - 1));
        doubled.min(self.settings.retry_pause_max).mul_f64(rand::rng().random_range(0.5..1.0))
    }
}
