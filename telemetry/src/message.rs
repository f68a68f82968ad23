//! The messages of OTLP 1.x, as far as traces need them
//! (`opentelemetry/proto/collector/trace/v1/trace_service.proto` and what it includes).

use prost::{Message, Oneof};

use crate::context::SpanContext;
use crate::record::{self, Record};

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`.
const KNOWS_REMOTE: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`.
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTracePartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(uint32, tag = "14")]
    pub dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Float(f64),
}

/// The request that exports these spans of one process.
pub fn request(resource: &[(String, String)], records: Vec<Record>) -> ExportTraceServiceRequest {
    let text = |(key, value): &(String, String)| key_value(key, record::Value::Text(value.clone()));
    let scope = InstrumentationScope { name: "adlake".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: records.into_iter().map(span).collect() };
    let resource = Resource { attributes: resource.iter().map(text).collect() };
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans] };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(record: Record) -> Span {
    let kind = match record.kind {
        record::Kind::Internal => 1,
        record::Kind::Server => 2,
        record::Kind::Client => 3,
        record::Kind::Consumer => 5,
    };
    let remote = if record.is_parent_remote { IS_REMOTE } else { 0 };
    Span {
        trace_id: record.context.trace_id.to_be_bytes().to_vec(),
        span_id: record.context.span_id.to_be_bytes().to_vec(),
        parent_span_id: record.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: record.name,
        kind,
        start_time_unix_nano: record.from,
        end_time_unix_nano: record.to,
        attributes: record.attributes.into_iter().map(|(name, value)| key_value(name, value)).collect(),
        links: record.links.into_iter().map(link).collect(),
        dropped_links_count: record.links_dropped,
        status: record.failure.map(|message| Status { message, code: STATUS_ERROR }),
        flags: flags(&record.context) | KNOWS_REMOTE | remote,
    }
}

fn link(to: SpanContext) -> Link {
    let (trace_id, span_id) = (to.trace_id.to_be_bytes().to_vec(), to.span_id.to_be_bytes().to_vec());
    // Links are read from logs of tables and from other tasks: whether the other process is this
    // one is not known.
    Link { trace_id, span_id, flags: flags(&to) }
}

fn flags(context: &SpanContext) -> u32 {
    u32::from(context.is_sampled)
}

fn key_value(key: &str, value: record::Value) -> KeyValue {
    let value = match value {
        record::Value::Text(text) => Any::Text(text),
        record::Value::Bool(bool) => Any::Bool(bool),
        record::Value::Integer(integer) => Any::Integer(integer),
        record::Value::Float(float) => Any::Float(float),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
