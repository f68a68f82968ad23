//! Turns the spans of `tracing` into records.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::context::{self, SpanContext};
use crate::counts;
use crate::record::{Kind, Record, Value, shortened};
use crate::{FAILURE, KIND, LINK, NAME, PARENT, TARGET};

/// Listens to the spans of [`TARGET`].
#[derive(Debug)]
pub struct TraceLayer {
    sample_ratio: f64,
    ended: mpsc::Sender<Record>,
}

/// What is kept of a span while it is open.
struct Open {
    context: SpanContext,
    /// `None`: it is not exported.
    record: Option<Box<Record>>,
    clock: Clock,
}

/// A moment by both clocks. The spans below a span tell the time by the same moment, so that none
/// seems to end after the one around it, whatever happens to the system's time meanwhile.
#[derive(Debug, Clone, Copy)]
struct Clock {
    nanos: u64,
    at: Instant,
}

impl Clock {
    fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { nanos: since_epoch.as_nanos() as u64, at: Instant::now() }
    }

    /// Nanoseconds since 1970.
    fn now(&self) -> u64 {
        self.nanos + self.at.elapsed().as_nanos() as u64
    }
}

impl TraceLayer {
    pub(crate) fn new(sample_ratio: f64, ended: mpsc::Sender<Record>) -> TraceLayer {
        TraceLayer { sample_ratio, ended }
    }

    /// Which spans it wants.
    pub fn filter() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
        let wants = |metadata: &Metadata<'_>| metadata.target() == TARGET && metadata.is_span();
        FilterFn::new(wants).with_max_level_hint(LevelFilter::INFO)
    }

    /// Whether a new trace is exported. Every process decides the same for the same id.
    fn samples(&self, trace_id: u128) -> bool {
        let part = (trace_id as u64 >> 11) as f64 / (1u64 << 53) as f64;
        part < self.sample_ratio
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let outer =
            span.parent().and_then(|parent| parent.extensions().get::<Open>().map(|open| (open.context, open.clock)));
        let clock = outer.map_or_else(Clock::start, |(_, clock)| clock);
        let parent = fields.parent.or(outer.map(|(context, _)| context));
        let mut random = rand::rng();
        let trace_id = parent.map_or_else(|| random.random_range(1..=u128::MAX), |parent| parent.trace_id);
        // The trace is exported as a whole or not at all: the parent decides.
        let is_sampled = parent.map_or_else(|| self.samples(trace_id), |parent| parent.is_sampled);
        let own = SpanContext { trace_id, span_id: random.random_range(1..=u64::MAX), is_sampled };
        let record = is_sampled.then(|| {
            let mut record = Box::new(Record {
                context: own,
                parent: parent.map(|parent| parent.span_id),
                is_parent_remote: fields.parent.is_some(),
                name: attributes.metadata().name().to_owned(),
                kind: Kind::default(),
                from: clock.now(),
                to: 0,
                attributes: Vec::new(),
                links: Vec::new(),
                links_dropped: 0,
                failure: None,
            });
            fields.write(&mut record);
            record
        });
        span.extensions_mut().insert(Open { context: own, record, clock });
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(record) = extensions.get_mut::<Open>().and_then(|open| open.record.as_mut()) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        fields.write(record);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions().get::<Open>() {
            context::enter(id.into_u64(), open.context);
        }
    }

    fn on_exit(&self, id: &Id, _context: Context<'_, S>) {
        context::exit(id.into_u64());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Open { record: Some(mut record), clock, .. }) = span.extensions_mut().remove::<Open>() else {
            return;
        };
        record.to = clock.now();
        if self.ended.try_send(*record).is_err() {
            counts::dropped(1);
        }
    }
}

/// The fields of a span.
#[derive(Default)]
struct Fields {
    parent: Option<SpanContext>,
    name: Option<String>,
    kind: Option<Kind>,
    links: Vec<SpanContext>,
    failure: Option<String>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn write(self, record: &mut Record) {
        record.name = self.name.unwrap_or_else(|| std::mem::take(&mut record.name));
        record.kind = self.kind.unwrap_or(record.kind);
        record.failure = self.failure.or(record.failure.take());
        self.links.into_iter().for_each(|to| record.link(to));
        self.others.into_iter().for_each(|(name, value)| record.set(name, value));
    }

    fn put_text(&mut self, name: &'static str, text: &str) {
        match name {
            PARENT => self.parent = SpanContext::parse(text),
            LINK => self.links.extend(SpanContext::parse(text)),
            NAME => self.name = Some(shortened(text)),
            KIND => self.kind = Some(Kind::parse(text)),
            FAILURE => self.failure = Some(shortened(text)),
            name => self.others.push((name, Value::Text(shortened(text)))),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.push((field.name(), Value::Float(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), Value::Integer(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), Value::Integer(value.try_into().unwrap_or(i64::MAX))));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), Value::Bool(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::field::Empty;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::{current, fail, link, span};

    fn traced(ratio: f64, queue: usize, work: impl FnOnce()) -> Vec<Record> {
        let (ended, mut records) = mpsc::channel(queue);
        let layer = TraceLayer::new(ratio, ended).with_filter(TraceLayer::filter());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let mut all = Vec::new();
        while let Ok(record) = records.try_recv() {
            all.push(record);
        }
        all
    }

    #[test]
    fn spans_become_records_with_parents_links_and_status() {
        let far = SpanContext { trace_id: 7, span_id: 8, is_sampled: true };
        let records = traced(1.0, 8, || {
            let outer = span!("outer", otel.kind = "server", rows = 5_u64, bytes = Empty, a.text = "x");
            outer.in_scope(|| {
                // What others do in between is not exported, and breaks no chain.
                let _other = tracing::info_span!("other").entered();
                let inner = span!("inner", otel.name = "inner 7");
                link(&inner, &far);
                inner.in_scope(|| fail(&tracing::Span::current(), &"it broke"));
                assert!(current().unwrap().is_sampled);
            });
            outer.record("bytes", 9_i64);
            assert_eq!(current(), None);
        });
        let [inner, outer] = &records[..] else { panic!("{records:?}") };
        assert_eq!((inner.name.as_str(), outer.name.as_str()), ("inner 7", "outer"));
        assert_eq!((inner.parent, outer.parent), (Some(outer.context.span_id), None));
        assert_eq!(inner.context.trace_id, outer.context.trace_id);
        assert_eq!((inner.failure.as_deref(), outer.failure.as_deref()), (Some("it broke"), None));
        assert_eq!((inner.links.as_slice(), outer.kind), ([far].as_slice(), Kind::Server));
        let expected = [("rows", Value::Integer(5)), ("a.text", Value::Text("x".into())), ("bytes", Value::Integer(9))];
        assert_eq!(outer.attributes, expected);
        assert!(outer.from <= inner.from && inner.to <= outer.to && inner.from <= inner.to, "{records:?}");
    }

    #[test]
    fn the_parent_decides_what_is_exported() {
        let of = |ratio: f64, parent: &'static str| {
            traced(ratio, 8, || drop(span!("x", trace.parent = parent).in_scope(|| span!("y"))))
        };
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let records = of(0.0, sampled);
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|record| record.context.trace_text() == "4bf92f3577b34da6a3ce929d0e0e4736"));
        assert!(records.iter().any(|record| record.is_parent_remote && record.parent == Some(0x00f0_67aa_0ba9_02b7)));
        assert!(of(1.0, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").is_empty());
        assert_eq!((of(1.0, "nonsense").len(), of(0.0, "nonsense").len()), (2, 0));
        let half = traced(0.5, 2000, || (0..1000).for_each(|_| drop(span!("x"))));
        assert!((400..600).contains(&half.len()), "{}", half.len());
    }

    #[test]
    fn what_finds_the_queue_full_is_dropped() {
        let before = counts::counts().dropped;
        let records = traced(1.0, 3, || (0..10).for_each(|_| drop(span!("x"))));
        assert_eq!(records.len(), 3);
        assert!(counts::counts().dropped >= before + 7);
    }
}
