//! What is known of alarms at a moment, for those who ask and for the sinks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::engine::{Alarm, Row, Silence};

/// Everything that is shown of alarms.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// When the rules were last evaluated, in microseconds. 0: not yet.
    pub evaluated_at: i64,
    /// How long that took.
    pub took: std::time::Duration,
    /// Whether this server evaluates the rules.
    pub is_leader: bool,
    /// The names of the rules and their severities.
    pub rules: Vec<(String, &'static str)>,
    /// What is not OK.
    pub alarms: Arc<Vec<Alarm>>,
    /// What is silenced.
    pub silences: Arc<Vec<Silence>>,
    /// The transitions that are told, in their order: those that a sink may still have to send.
    pub notices: Arc<Vec<Row>>,
    /// The number of the newest transition.
    pub sequence: i64,
    /// The span of the evaluation that made the newest of them, if traces are exported.
    pub trace: Option<adlake_telemetry::SpanContext>,
    /// Why the rules could not be evaluated.
    pub problem: Option<String>,
}

/// How a sink is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SinkState {
    /// Since when it fails, in microseconds.
    pub failing_since: Option<i64>,
    /// Why.
    pub problem: Option<String>,
    /// How often it was told something.
    pub sent: u64,
    /// How often that failed.
    pub failed: u64,
    /// The number of the last transition that it was told.
    pub position: i64,
}

/// The states of all sinks, by their names.
#[derive(Debug, Clone, Default)]
pub struct SinkStates(Arc<Mutex<BTreeMap<String, SinkState>>>);

impl SinkStates {
    /// Changes the state of a sink.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut SinkState)) {
        if let Ok(mut states) = self.0.lock() {
            change(states.entry(name.to_owned()).or_default());
        }
    }

    /// The states.
    pub fn all(&self) -> BTreeMap<String, SinkState> {
        self.0.lock().map(|states| states.clone()).unwrap_or_default()
    }
}
