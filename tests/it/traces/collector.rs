//! A collector of traces: takes OTLP over HTTP, decodes it, and keeps the spans. The messages are
//! those of `opentelemetry-proto` 1.x, written down here anew, so that a mistake in the program's
//! own is noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adlake_tests::wait;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use prost::{Message, Oneof};
use serde_json::Value;
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
struct TracesRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Attributes>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Sent>,
}

#[derive(Clone, PartialEq, Message)]
struct Sent {
    #[prost(bytes, tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes, tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Pair>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Linked>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Linked {
    #[prost(bytes, tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Float(f64),
}

/// A span that has arrived.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    /// 1 internal, 2 server, 3 client, 5 consumer.
    pub kind: i32,
    pub trace: String,
    pub id: String,
    /// Empty: it is the root.
    pub parent: String,
    pub nanos: u64,
    pub attributes: BTreeMap<String, Value>,
    /// The traces and the spans that it is linked to.
    pub links: Vec<(String, String)>,
    pub failure: Option<String>,
}

/// What has arrived.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    resources: Vec<BTreeMap<String, Value>>,
    headers: Vec<HeaderMap>,
    /// Requests that are no export of traces.
    wrong: Vec<String>,
}

/// A collector.
#[derive(Debug, Clone)]
pub struct Collector {
    pub address: String,
    received: Arc<Mutex<Received>>,
    /// Whether it takes requests and never answers.
    hangs: bool,
}

impl Collector {
    pub async fn start() -> Result<Collector> {
        Collector::listen(false).await
    }

    /// One that takes requests and never answers.
    pub async fn hanging() -> Result<Collector> {
        Collector::listen(true).await
    }

    async fn listen(hangs: bool) -> Result<Collector> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let collector = Collector { address, received: Arc::default(), hangs };
        let routes = Router::new().fallback(take).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(collector)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// The headers of all requests, and the attributes of the processes.
    pub fn requests(&self) -> (Vec<HeaderMap>, Vec<BTreeMap<String, Value>>) {
        let received = self.received.lock().unwrap();
        assert_eq!(received.wrong, Vec::<String>::new());
        (received.headers.clone(), received.resources.clone())
    }

    /// Waits for a span.
    pub async fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Result<Span> {
        let found = wait::value_async(DEADLINE, what, async || Ok(self.spans().into_iter().find(&is_it)));
        found.await.with_context(|| {
            self.spans()
                .iter()
                .map(|span| format!("{} {} {:?}\n", span.service, span.name, span.links))
                .collect::<String>()
        })
    }

    /// The spans directly below one.
    pub fn children(&self, parent: &Span) -> Vec<Span> {
        let is_child = |span: &Span| span.trace == parent.trace && span.parent == parent.id;
        self.spans().into_iter().filter(is_child).collect()
    }
}

async fn take(State(collector): State<Collector>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if collector.hangs {
        collector.received.lock().unwrap().headers.push(headers);
        return std::future::pending().await;
    }
    let mut received = collector.received.lock().unwrap();
    let is_traces = uri.path() == "/v1/traces" && headers["content-type"] == "application/x-protobuf";
    match TracesRequest::decode(body) {
        Ok(request) if is_traces => {
            received.headers.push(headers);
            for of in request.resource_spans {
                let resource = map(of.resource.unwrap_or_default().attributes);
                let service = resource["service.name"].as_str().unwrap_or_default().to_owned();
                let sent = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(sent.map(|sent| span(&service, sent)));
                received.resources.push(resource);
            }
            StatusCode::OK.into_response()
        }
        decoded => {
            received.wrong.push(format!("{uri} {headers:?} {:?}", decoded.err()));
            StatusCode::BAD_REQUEST.into_response()
        }
    }
}

fn span(service: &str, sent: Sent) -> Span {
    assert_eq!((sent.trace_id.len(), sent.span_id.len()), (16, 8), "{sent:?}");
    assert!(sent.start_time_unix_nano > 1_700_000_000_000_000_000, "{sent:?}");
    Span {
        service: service.to_owned(),
        name: sent.name,
        kind: sent.kind,
        trace: hex(&sent.trace_id),
        id: hex(&sent.span_id),
        parent: hex(&sent.parent_span_id),
        nanos: sent.end_time_unix_nano - sent.start_time_unix_nano,
        attributes: map(sent.attributes),
        links: sent.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        failure: sent.status.filter(|status| status.code == 2).map(|status| status.message),
    }
}

fn map(pairs: Vec<Pair>) -> BTreeMap<String, Value> {
    let value = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Any::Text(text)) => Value::from(text),
        Some(Any::Bool(bool)) => Value::from(bool),
        Some(Any::Integer(integer)) => Value::from(integer),
        Some(Any::Float(float)) => Value::from(float),
        None => Value::Null,
    };
    pairs.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
