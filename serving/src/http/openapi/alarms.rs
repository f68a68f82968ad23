//! The addresses that tell of alarms.

use serde_json::{Value, json};

use super::{body, parameter, responses};
use crate::http::alarms::HOURS_MAX;

const OWN: [(&str, &str); 3] = [
    ("400", "A parameter cannot be read."),
    ("404", "There is no such alarm."),
    ("422", "A parameter is not possible."),
];

fn described(summary: &str, parameters: &[Value], answer: &str) -> Value {
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses(body(answer), &OWN, false)}})
}

/// `/v1/alarms/history`.
pub fn history(rows_max: usize) -> Value {
    let instant = json!({"type": "string", "minLength": 1, "examples": ["2026-03-01"]});
    let text = json!({"type": "string"});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": rows_max});
    let parameters = [
        parameter("from", "query", instant.clone(), "The first day or instant."),
        parameter("to", "query", instant, "The first day or instant after the range."),
        parameter("rule", "query", text.clone(), "Only alarms of this rule."),
        parameter("like", "query", text, "The id of an alarm: only those of its rule and group."),
        parameter("limit", "query", limit, "The most alarms."),
    ];
    described("What was wrong in a range, the newest first.", &parameters, "AlarmHistory")
}

/// `/v1/alarms/{id}/series`.
pub fn series() -> Value {
    let hours = json!({"type": "integer", "minimum": 1, "maximum": HOURS_MAX});
    let id = json!({"type": "string", "minLength": 1});
    let parameters = [
        parameter("id", "path", id, "An alarm that is not over."),
        parameter("hours", "query", hours, "How many hours."),
    ];
    described("The values of an alarm, hour by hour, and what was expected.", &parameters, "AlarmSeries")
}
