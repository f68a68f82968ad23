//! Traces: what the layers do, as spans, and how these reach an OpenTelemetry collector.
//!
//! The layers make spans with [`span!`]. Without a collector nobody listens to these spans, so a
//! span costs one comparison. With a collector, [`TraceLayer`] turns each span into a record when
//! it ends, and puts it into a bounded queue. A thread of its own sends the queue's records in
//! batches, by OTLP over HTTP ([`Telemetry`]). Work never waits for it: a record that finds the
//! queue full is dropped and counted.
//!
//! What is built here, and not taken from the OpenTelemetry SDK: the SDK changes the features of
//! crates below DataFusion, and an exporter for one signal over one protocol is small.

pub mod context;
pub mod settings;
mod layer;
mod record;
mod message;
mod counts;
mod export;

pub use context::{SpanContext, current};
pub use counts::{Counts, counts};
pub use export::Telemetry;
pub use layer::TraceLayer;
pub use settings::TelemetrySettings;

#[doc(hidden)]
pub use tracing;

use std::fmt::Display;

use tracing::Span;

/// The target of all spans that are exported. No other span has it.
pub const TARGET: &str = "otel";
/// The field with the `traceparent` of the span that a span belongs to, in another process.
pub const PARENT: &str = "trace.parent";
/// The field with the `traceparent` of a span that a span follows from. It may be recorded often.
pub const LINK: &str = "trace.link";
/// The field with the kind of a span: `server`, `client`, `consumer`. Others are internal.
pub const KIND: &str = "otel.kind";
/// The field with the name that is exported, if it is not that of the span.
pub const NAME: &str = "otel.name";
/// The field with what went wrong. A span that has it has the status "error".
pub const FAILURE: &str = "otel.status_description";

/// Makes a span that is exported: `span!("name", field.one = 1, field.two = Empty)`.
#[macro_export]
macro_rules! span {
    ($name:literal $(, $($fields:tt)*)?) => {
        $crate::tracing::info_span!(
            target: "otel",
            $name,
            otel.status_description = $crate::tracing::field::Empty,
            trace.link = $crate::tracing::field::Empty,
            $($($fields)*)?
        )
    };
}

/// Says that the work of a span has failed.
pub fn fail(span: &Span, error: &dyn Display) {
    span.record(FAILURE, tracing::field::display(error));
}

/// Says that the work of a span follows from that of another, which may be of another process.
pub fn link(span: &Span, to: &SpanContext) {
    span.record(LINK, tracing::field::display(to));
}

/// Whether what is done now is part of a trace that is exported.
pub fn is_sampled() -> bool {
    current().is_some_and(|context| context.is_sampled)
}
