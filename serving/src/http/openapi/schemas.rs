//! The schemas of the description: questions, answers, problems.

use adlake_domain::credit::Model;
use serde_json::{Map, Value, json};

use crate::alarms::track::AlarmState;
use crate::metrics::Catalogues;
use crate::question::Dimension;
use crate::state::FOLLOWED;

/// All schemas by name. `rows_max`: the most rows of an answer.
pub fn schemas(catalogues: &Catalogues, rows_max: usize) -> Value {
    let mut all = Map::new();
    for part in [questions(catalogues, rows_max), answers(), lists(), alarms()] {
        all.extend(part.as_object().cloned().unwrap_or_default());
    }
    Value::Object(all)
}

/// What is sent.
fn questions(catalogues: &Catalogues, rows_max: usize) -> Value {
    let metrics: Vec<&str> = catalogues.of(None).all().iter().map(|metric| metric.name.as_str()).collect();
    let dimensions = Dimension::ALL.map(Dimension::name);
    let filters = "[\"and\", ...], [\"in\", \"country\", [\"DE\"]], [\">\", \"spend\", \"10\"]";
    let end =
        json!({"type": ["string", "null"], "description": "A day, an RFC 3339 time on a full hour, or null: open."});
    json!({
        "Snapshot": {
            "type": "string",
            "pattern": format!("^{}$", ["[0-9]{1,18}"; 1 + FOLLOWED.len()].join("-")),
            "examples": ["0-0-0-0-0-0-0"],
        },
        "Grain": {"enum": ["hour", "day", "week", "month"]},
        "Compare": {"enum": ["previous_period", "same_weekdays", "previous_year"]},
        "Model": {"enum": Model::ALL.map(Model::name)},
        "Question": {
            "type": "object",
            "additionalProperties": false,
            "required": ["metrics"],
            "properties": {
                "metrics": {"type": "array", "minItems": 1, "uniqueItems": true, "items": {"enum": metrics}},
                "dimensions": {"type": "array", "uniqueItems": true, "items": {"enum": dimensions}},
                "filters": {"type": ["array", "null"], "description": filters},
                "time": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "range": {"oneOf": [
                            {"type": "null"},
                            {"type": "array", "prefixItems": [end.clone(), end], "minItems": 2, "maxItems": 2},
                        ]},
                        "grain": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Grain"}]},
                        "zone": {"type": ["string", "null"]},
                        "fill": {"type": "boolean"},
                    },
                },
                "compare": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Compare"}]},
                "model": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Model"}]},
                "order": {"type": "array", "items": {"type": "string"}},
                "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": rows_max},
                "totals": {"type": "boolean"},
                "cursor": {"type": ["string", "null"]},
            },
        },
        "Silence": {
            "type": "object",
            "required": ["rule", "for"],
            "additionalProperties": false,
            "properties": {
                "rule": {"type": "string", "description": "The name of a rule, or * for all."},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "for": {"type": "string", "description": "How long, like 2h."},
                "why": {"type": "string", "maxLength": 1000},
            },
        },
    })
}

/// An object with these members, all of which it always has.
fn record(members: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// An object with some more members, which it may lack.
fn with_more(mut record: Value, more: &[(&str, Value)]) -> Value {
    for (name, schema) in more {
        record["properties"][*name] = schema.clone();
    }
    record
}

fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn named(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn or_null(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn whole() -> Value {
    json!({"type": "integer"})
}

fn yes_or_no() -> Value {
    json!({"type": "boolean"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn time_or_null() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

/// Answers to questions, and problems.
fn answers() -> Value {
    let (row, row_or_null) = (named("Row"), json!({"oneOf": [named("Row"), {"type": "null"}]}));
    let range = json!({"type": "array", "items": time(), "minItems": 2, "maxItems": 2});
    let answer =
        record(&[("columns", list_of(named("Column"))), ("rows", list_of(row.clone())), ("meta", named("Meta"))]);
    let column = record(&[
        ("name", text()),
        ("role", json!({"enum": ["time", "dimension", "metric"]})),
        ("type", json!({"enum": ["time", "string", "integer", "decimal", "number"]})),
    ]);
    let meta = record(&[
        ("snapshot", named("Snapshot")),
        ("as_of", time()),
        ("manifest", json!({"oneOf": [{"type": "null"}, record(&[("run", whole()), ("published_at", time())])]})),
        ("versions", json!({"type": "object", "additionalProperties": {"type": "integer"}})),
        ("provisional_from", time()),
        ("zone", text()),
        ("report_zone", text()),
        ("currency", text()),
        ("warnings", list_of(text())),
    ]);
    let problem = record(&[
        ("type", text()),
        ("title", text()),
        ("status", whole()),
        ("code", text()),
        ("detail", text()),
        ("request_id", json!({"type": "string", "description": "The number of the request, as in X-Request-Id."})),
    ]);
    json!({
        "Row": {
            "type": "array",
            "items": {"type": ["string", "number", "null"]},
            "description": "A value for each column.",
        },
        "Answer": with_more(answer, &[("totals", row.clone()), ("compare", named("Comparison"))]),
        "Event": {
            "type": "object",
            "description": "An `answer`, whose data is an answer as JSON, or a `problem`, which is the last event.",
            "required": ["event", "data"],
            "properties": {
                "event": {"enum": ["answer", "problem"]},
                "id": {"$ref": "#/components/schemas/Snapshot"},
                "data": text(),
            },
        },
        "Description": record(&[("openapi", text()), ("info", record(&[])), ("paths", record(&[]))]),
        "Comparison": record(&[
            ("range", range.clone()),
            ("to_date", range),
            ("rows", list_of(row_or_null.clone())),
            ("current", list_of(row_or_null.clone())),
            ("totals", row_or_null.clone()),
            ("current_totals", row_or_null),
        ]),
        "Column": with_more(column, &[("unit", text())]),
        "Meta": with_more(meta, &[
            ("truncated", yes_or_no()),
            ("next_cursor", or_null("string")),
            ("rows_in_all", whole()),
            ("model", named("Model")),
            ("source", json!({"enum": ["memory", "lake"]})),
        ]),
        "Problem": with_more(problem, &[(
            "pointer",
            json!({"type": "string", "description": "The member that is wrong, as a JSON pointer."}),
        )]),
    })
}

/// Answers that are no sums.
fn lists() -> Value {
    let with_meta = |members: &[(&str, Value)]| record(&[members, &[("meta", named("Meta"))]].concat());
    let metric = record(&[
        ("name", text()),
        ("type", json!({"enum": ["integer", "decimal", "number"]})),
        ("unit", text()),
        ("formula", text()),
        ("inputs", list_of(text())),
        ("is_additive", yes_or_no()),
        ("description", text()),
    ]);
    let campaign = record(&[
        ("campaign_id", text()),
        ("name", or_null("string")),
        ("advertiser_id", or_null("string")),
        ("advertiser_name", or_null("string")),
        ("budget", or_null("string")),
        ("target_cpa", or_null("string")),
        ("target_roas", or_null("number")),
        ("start_date", json!({"type": ["string", "null"], "format": "date"})),
        ("end_date", json!({"type": ["string", "null"], "format": "date"})),
    ]);
    let bucket = record(&[("from_seconds", whole()), ("to_seconds", or_null("integer")), ("conversions", whole())]);
    let stage = record(&[("stage", text()), ("events", whole()), ("rate", or_null("number"))]);
    let table = record(&[
        ("table", text()),
        ("published_at", time_or_null()),
        ("newest_event_time", time_or_null()),
        ("newest_ingested_at", time_or_null()),
    ]);
    let counts = [("version", whole()), ("published_version", or_null("integer")), ("rows", or_null("integer"))];
    let server = record(&[
        ("snapshot", named("Snapshot")),
        ("as_of", time()),
        ("confirmed_at", time()),
        ("is_stale", yes_or_no()),
        ("stale_since", time_or_null()),
        ("problem", or_null("string")),
    ]);
    let reason = record(&[("table", text()), ("reason", text()), ("records", whole()), ("newest_ingested_at", time())]);
    let expectation = record(&[
        ("expectation", text()),
        ("kind", text()),
        ("table", or_null("string")),
        ("column", or_null("string")),
        ("severity", text()),
        ("status", text()),
        ("observed", or_null("number")),
        ("expected", or_null("string")),
        ("checked_rows", or_null("integer")),
        ("violating_rows", or_null("integer")),
        ("note", or_null("string")),
        ("owner", or_null("string")),
        ("description", or_null("string")),
        ("run", or_null("integer")),
        ("decision", or_null("string")),
        ("decided_by", or_null("string")),
        ("checked_at", time()),
    ]);
    let invalid = record(&[("kind", text()), ("reason", text()), ("events", whole()), ("cost", text())]);
    let texts_or_null = json!({"type": ["array", "null"], "items": {"type": "string"}});
    let scope = record(&[("all", yes_or_no()), ("campaigns", texts_or_null.clone()), ("advertisers", texts_or_null)]);
    let role = json!({"enum": ["admin", "analyst", "advertiser"]});
    json!({
        "Catalogue": with_meta(&[
            ("metrics", list_of(metric)), ("dimensions", list_of(text())), ("default_model", named("Model")),
        ]),
        "Campaigns": with_meta(&[("campaigns", list_of(campaign))]),
        "Funnel": with_meta(&[("stages", list_of(stage))]),
        "Attribution": with_meta(&[
            ("columns", list_of(named("Column"))), ("rows", list_of(named("Row"))), ("default_model", named("Model")),
        ]),
        "InvalidTraffic": with_meta(&[("reasons", list_of(invalid))]),
        "Delays": with_meta(&[("buckets", list_of(bucket))]),
        "Freshness": with_meta(&[("tables", list_of(with_more(table, &counts))), ("server", server)]),
        "DeadLetters": with_meta(&[("reasons", list_of(reason))]),
        "Quality": with_meta(&[("expectations", list_of(expectation))]),
        "Principal": record(&[("name", text()), ("role", role), ("scope", scope), ("has_session", yes_or_no())]),
        "SignIn": record(&[
            ("is_needed", yes_or_no()), ("methods", list_of(json!({"enum": ["password", "key"]}))),
        ]),
    })
}

/// Alarms, and what is answered about them.
fn alarms() -> Value {
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let alarm = record(&[
        ("id", text()),
        ("rule", text()),
        ("description", text()),
        ("metric", text()),
        ("group", labels.clone()),
        ("state", json!({"enum": AlarmState::ALL.map(AlarmState::name)})),
        ("since", time()),
        ("value", or_null("number")),
        ("expected_low", or_null("number")),
        ("expected_high", or_null("number")),
        ("why", text()),
        ("cause", or_null("string")),
        ("severity", json!({"enum": ["info", "warning", "critical"]})),
        ("owner", text()),
        ("runbook", text()),
        ("is_told", yes_or_no()),
        ("acked_by", or_null("string")),
        ("silenced_until", time_or_null()),
    ]);
    let silence = record(&[
        ("id", text()),
        ("rule", text()),
        ("labels", labels.clone()),
        ("until", time()),
        ("by", text()),
        ("why", text()),
    ]);
    let change = record(&[
        ("at", time()),
        ("state", text()),
        ("value", or_null("number")),
        ("expected_low", or_null("number")),
        ("expected_high", or_null("number")),
        ("why", text()),
        ("by", or_null("string")),
    ]);
    let trouble = record(&[
        ("id", text()),
        ("rule", text()),
        ("group", labels.clone()),
        ("state", text()),
        ("severity", text()),
        ("from", time()),
        ("to", time_or_null()),
        ("is_told", yes_or_no()),
        ("cause", or_null("string")),
        ("acked_by", or_null("string")),
        ("changes", list_of(change)),
    ]);
    let point = record(&[
        ("at", time()),
        ("value", or_null("number")),
        ("expected_low", or_null("number")),
        ("expected_high", or_null("number")),
    ]);
    json!({
        "Alarms": record(&[
            ("alarms", list_of(alarm)),
            ("silences", json!({"type": ["array", "null"], "items": silence})),
            ("sinks", or_null("object")),
            ("evaluated_at", time_or_null()),
            ("is_enabled", yes_or_no()),
            ("is_leader", yes_or_no()),
            ("runbooks", list_of(text())),
            ("may_act", yes_or_no()),
            ("problem", or_null("string")),
        ]),
        "AlarmHistory": record(&[("alarms", list_of(trouble)), ("since", time()), ("truncated", yes_or_no())]),
        "AlarmSeries": record(&[
            ("id", text()),
            ("metric", text()),
            ("window_hours", whole()),
            ("points", json!({"type": ["array", "null"], "items": point})),
        ]),
        "Silenced": record(&[("id", text()), ("until", time_or_null())]),
        "Acknowledged": record(&[("id", text()), ("acked_by", text())]),
    })
}
