//! The description of the API: OpenAPI 3.1 for programs, and a page for people.
//!
//! Names of metrics and dimensions are listed from the catalogue, so that the description cannot be
//! older than the program. A test holds that it has every address that is served.

mod alarms;
mod page;
mod schemas;

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Map, Value, json};

use self::page::html;
use self::schemas::schemas;
use super::Server;
use crate::metrics::Catalogues;

/// `GET /openapi.json`.
pub async fn document(Shared(server): Shared<Arc<Server>>) -> axum::Json<Value> {
    axum::Json(describe(&server.catalogues, server.settings.rows_max))
}

/// `GET /docs`.
pub async fn page(Shared(server): Shared<Arc<Server>>) -> Response {
    let text = html(&describe(&server.catalogues, server.settings.rows_max));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'self'; frame-ancestors 'none'");
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(text)).into_response()
}

/// `GET /docs.css`.
pub async fn style() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("openapi.css"))
}

/// What a server without keys answers to a page of another site.
const FOREIGN: (&str, &str) = ("403", "A server without keys is not called by this name, or not by its own page.");

/// What can go wrong everywhere, by status.
const PROBLEMS: [(&str, &str); 5] = [
    ("401", "A key is needed, or it is not known."),
    ("403", "The role of the key is not sufficient, or a session or a server without keys is used by another site."),
    ("429", "This key asks too often."),
    ("500", "The answer failed; the server's log says why."),
    ("503", "Not now: the first snapshot is being made, the lake does not answer, or there was no answer in time."),
];

fn problem(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": description, "content": {"application/problem+json": {"schema": schema}}})
}

/// The responses of an operation: its answer, its own problems, and those of all.
fn responses(answer: Value, own: &[(&str, &str)], is_open: bool) -> Value {
    let mut all = Map::new();
    all.insert("200".into(), answer);
    for (status, description) in own {
        let value = match *status {
            "304" => json!({"description": description}),
            _ => problem(description),
        };
        all.insert((*status).into(), value);
    }
    for (status, description) in if is_open { &[FOREIGN][..] } else { &PROBLEMS[..] } {
        all.entry(*status).or_insert_with(|| problem(description));
    }
    Value::Object(all)
}

fn body(schema: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    json!({"description": "The answer.", "content": {"application/json": {"schema": schema}}})
}

/// An answer in all its forms.
fn table() -> Value {
    json!({
        "description": "The answer.",
        "headers": {
            "ETag": {"schema": {"type": "string"}},
            "X-Adlake-Snapshot": {"schema": {"$ref": "#/components/schemas/Snapshot"}},
        },
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "contentEncoding": "binary"}},
        },
    })
}

fn operation(summary: &str, parameters: &[Value], responses: Value) -> Value {
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses}})
}

fn parameter(name: &str, place: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "schema": schema, "description": description})
}

const ASKED: [(&str, &str); 7] = [
    ("304", "The answer is the one that If-None-Match names."),
    ("400", "The question cannot be read."),
    ("404", "There is no such campaign, or the key may not see it."),
    ("406", "None of the accepted forms is known."),
    ("410", "The server has let go of the cursor's snapshot."),
    ("413", "The question has too many bytes."),
    ("422", "The question cannot be answered; `pointer` names the member."),
];

fn describe(catalogues: &Catalogues, rows_max: usize) -> Value {
    let seen = parameter(
        "X-Adlake-Snapshot",
        "header",
        json!({"$ref": "#/components/schemas/Snapshot"}),
        "A snapshot that the client has seen. The answer is not older.",
    );
    let day = json!({"type": "string", "minLength": 1, "examples": ["2026-03-01"]});
    let id = parameter(
        "id",
        "path",
        json!({"type": "string", "minLength": 1, "examples": ["all"]}),
        "A campaign, or `all`.",
    );
    let ranged = [
        id,
        parameter("from", "query", day.clone(), "The first day or instant."),
        parameter("to", "query", day, "The first day or instant after the range."),
        parameter("zone", "query", json!({"type": "string"}), "The zone of days and buckets."),
        seen.clone(),
    ];
    let compare =
        parameter("compare", "query", json!({"$ref": "#/components/schemas/Compare"}), "The period to compare with.");
    let compared = [&ranged[..], &[compare]].concat();
    let series = [
        &compared[..],
        &[
            parameter("grain", "query", json!({"$ref": "#/components/schemas/Grain"}), "The length of a bucket."),
            parameter("metrics", "query", json!({"type": "string"}), "Names of metrics, with commas between."),
        ],
    ]
    .concat();
    let campaign = |summary: &str, answer: Value, parameters: &[Value]| {
        operation(summary, parameters, responses(answer, &ASKED, false))
    };
    let list = |summary: &str, schema: &str, parameters: &[Value], own: &[(&str, &str)]| {
        operation(summary, parameters, responses(body(schema), own, false))
    };
    let by_delay = "Conversions by the time since the last touch.";
    let slow = ("408", "The question took too long to come.");
    let unsupported = ("415", "A question is sent as application/json.");
    let impossible = ("422", "The limit is not possible.");
    let openmetrics = json!({"application/openmetrics-text": {"schema": {"type": "string"}}});
    let silences = json!({
        "summary": "Tells nobody of some alarms for a time. For admins and analysts.",
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Silence"}}},
        },
        "responses": responses(
            body("Silenced"),
            &[
                ("400", "The body is no JSON."),
                ("413", "The body has too many bytes."),
                unsupported,
                ("422", "There is no such rule or time."),
            ],
            false,
        ),
    });
    let query = json!({"post": {
        "summary": "Answers a question.",
        "parameters": [seen.clone()],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
        },
        "responses": responses(table(), &[&ASKED[..], &[slow, unsupported]].concat(), false),
    }});
    let event = json!({"$ref": "#/components/schemas/Event"});
    let live = json!({"get": {
        "summary": "The answer to a question, again whenever it changes, as server-sent events.",
        "parameters": [
            {
                "name": "query", "in": "query", "required": true, "description": "A question, as JSON.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
            },
            parameter("Last-Event-ID", "header", json!({"type": "string"}), "The last event that the client has."),
        ],
        "responses": responses(
            json!({"description": "Events.", "content": {"text/event-stream": {"schema": event}}}),
            &[("400", "The question cannot be read."), ("422", "The question cannot be answered.")],
            false,
        ),
    }});
    let text = |summary: &str, kind: &str| {
        let answer = json!({"description": "It.", "content": {kind: {"schema": {"type": "string"}}}});
        json!({"get": {"summary": summary, "security": [], "responses": responses(answer, &[], true)}})
    };
    let limited = json!({"type": "integer", "minimum": 1, "maximum": rows_max});
    let searched = vec![
        parameter("search", "query", json!({"type": "string"}), "A part of an id or a name."),
        parameter("limit", "query", limited, "The most campaigns."),
        seen.clone(),
    ];
    let seen = std::slice::from_ref(&seen);
    let known = ("304", "The answer is the one that If-None-Match names.");
    let malformed = ("400", "A parameter cannot be read.");
    let mut ready = text("Whether questions are answered.", "text/plain");
    ready["get"]["responses"]["503"] = problem("Not yet.");
    let mut asset = text("A file of the dashboard.", "*/*");
    let name = json!({"type": "string", "minLength": 1});
    asset["get"]["parameters"] = json!([parameter("file", "path", name, "A name that the page holds.")]);
    asset["get"]["responses"]["404"] = problem("There is no such file.");
    let mut runbook = asset.clone();
    runbook["get"]["summary"] = "What to do about an alarm.".into();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "adlake",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Exact answers about campaigns, always fresh.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {"session": []}],
        "paths": {
            "/v1/query": query,
            "/v1/live": live,
            "/v1/metrics": list("The catalogue of metrics.", "Catalogue", &[], &[known]),
            "/v1/session": session(),
            "/v1/whoami": list("Who asks.", "Principal", &[], &[]),
            "/v1/campaigns": list("The campaigns.", "Campaigns", &searched, &[known, malformed, impossible]),
            "/v1/campaigns/{id}": campaign("A campaign with all its metrics.", table(), &compared),
            "/v1/campaigns/{id}/timeseries": campaign("Metrics over time.", table(), &series),
            "/v1/campaigns/{id}/geography": campaign("By country and region.", table(), &compared),
            "/v1/campaigns/{id}/funnel": campaign("The stages of the funnel.", body("Funnel"), &ranged),
            "/v1/campaigns/{id}/attribution": campaign("By attribution model.", body("Attribution"), &ranged),
            "/v1/campaigns/{id}/time_to_conversion": campaign(by_delay, body("Delays"), &ranged),
            "/v1/campaigns/{id}/invalid_traffic": campaign("Invalid by reason.", body("InvalidTraffic"), &ranged),
            "/v1/freshness": list("How far each table has come.", "Freshness", seen, &[malformed]),
            "/v1/dead_letters": list("Rejected records by reason.", "DeadLetters", seen, &[known, malformed]),
            "/v1/quality": list("The last result of each expectation.", "Quality", seen, &[known, malformed]),
            "/v1/alarms": {"get": {
                "summary": "What is wrong now, among what the key may see.",
                "responses": responses(body("Alarms"), &[], false),
            }},
            "/v1/alarms/history": alarms::history(rows_max),
            "/v1/alarms/{id}/series": alarms::series(),
            "/v1/alarms/silences": {"post": silences},
            "/v1/alarms/{id}/ack": {"post": {
                "summary": "Says that you look after an alarm. For admins and analysts.",
                "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"},
                                "description": "The id of the alarm."}],
                "responses": responses(body("Acknowledged"), &[("404", "There is no such alarm.")], false),
            }},
            "/metrics": {"get": {
                "summary": "The metrics of the server, for Prometheus.",
                "responses": responses(json!({"description": "It.", "content": openmetrics}), &[], false),
            }},
            "/": text("The dashboard.", "text/html"),
            "/{file}": asset,
            "/runbooks/{file}": runbook,
            "/healthz": text("Whether the process runs.", "text/plain"),
            "/readyz": ready,
            "/openapi.json": {"get": {
                "summary": "This description.", "security": [], "responses": responses(body("Description"), &[], true),
            }},
            "/docs": text("This description, for people.", "text/html"),
            "/docs.css": text("The style of the page.", "text/css"),
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "adlake_session"},
            },
            "schemas": schemas(catalogues, rows_max),
        },
    })
}

/// Signing in and out.
fn session() -> Value {
    let text = json!({"type": "string", "maxLength": 1000});
    let credentials = json!({"oneOf": [
        {"type": "object", "additionalProperties": false, "required": ["key"], "properties": {"key": text.clone()}},
        {
            "type": "object", "additionalProperties": false, "required": ["name", "password"],
            "properties": {"name": text.clone(), "password": text},
        },
    ]});
    let foreign = ("403", "The request does not come from the server's own page, or names another server.");
    let refused = [
        ("400", "What was sent is no way to sign in."),
        ("401", "The key or the password is not known."),
        foreign,
        ("404", "Nobody needs to sign in."),
        ("408", "What was sent took too long to come."),
        ("415", "One signs in with application/json."),
        ("429", "Too many attempts have failed."),
        ("503", "Too many passwords are being checked."),
    ];
    let mut gone = responses(Value::Null, &[foreign], true);
    if let Some(gone) = gone.as_object_mut() {
        gone.remove("200");
        gone.insert("204".into(), json!({"description": "Signed out."}));
    }
    json!({
        "get": {"summary": "How to sign in.", "security": [], "responses": responses(body("SignIn"), &[], true)},
        "post": {
            "summary": "Signs in: the answer sets a cookie.",
            "security": [],
            "requestBody": {"required": true, "content": {"application/json": {"schema": credentials}}},
            "responses": responses(body("Principal"), &refused, true),
        },
        "delete": {"summary": "Signs out.", "security": [], "responses": gone},
    })
}

#[cfg(test)]
mod tests {
    use adlake_domain::settings::Display;

    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = describe(&Catalogues::new(&Display::default()), 10);
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_address_is_described() {
        let document = describe(&Catalogues::new(&Display::default()), 10);
        let source = include_str!("../http.rs");
        let served: Vec<&str> = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(served.len() > 10);
        for path in &served {
            assert!(document["paths"].get(path).is_some(), "{path} is not described");
        }
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(served.contains(&path.as_str()), "{path} is not served");
        }
        assert!(html(&document).contains("time_to_conversion"));
    }
}
