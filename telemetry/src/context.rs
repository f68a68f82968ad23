//! Which span of which trace, and its text as the W3C defines it (`traceparent`).

use std::cell::RefCell;
use std::fmt;

/// The length of the text of version 00.
const TEXT_LENGTH: usize = 55;

/// A span, by the ids of its trace and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The id of the trace. Never 0.
    pub trace_id: u128,
    /// The id of the span. Never 0.
    pub span_id: u64,
    /// Whether the trace is exported.
    pub is_sampled: bool,
}

impl SpanContext {
    /// Reads a `traceparent`. `None`: it is none. Versions after 00 may have more parts, which are
    /// passed over.
    pub fn parse(text: &str) -> Option<SpanContext> {
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let (known, rest) = text.split_at_checked(TEXT_LENGTH)?;
        let mut parts = known.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = [version.len(), trace.len(), span.len(), flags.len()];
        let is_text = lengths == [2, 32, 16, 2] && [version, trace, span, flags].into_iter().all(hex);
        let is_end = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if !is_text || !is_end || version == "ff" || parts.next().is_some() {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(SpanContext { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }

    /// The id of the trace as text.
    pub fn trace_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The id of the span as text.
    pub fn span_text(&self) -> String {
        format!("{:016x}", self.span_id)
    }
}

/// The `traceparent`.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

thread_local! {
    /// The spans that this thread works on, with the ids by which `tracing` knows them.
    static ENTERED: RefCell<Vec<(u64, SpanContext)>> = const { RefCell::new(Vec::new()) };
}

/// The span that this thread works on. `None` outside spans, and where traces are off.
pub fn current() -> Option<SpanContext> {
    ENTERED.try_with(|entered| entered.borrow().last().map(|(_, context)| *context)).ok().flatten()
}

pub(crate) fn enter(id: u64, context: SpanContext) {
    // A thread that ends has no spans any more.
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().push((id, context)));
}

pub(crate) fn exit(id: u64) {
    let _ = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        if let Some(place) = entered.iter().rposition(|(other, _)| *other == id) {
            entered.remove(place);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = SpanContext::parse(text).unwrap();
        assert_eq!((context.span_id, context.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.trace_text(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.to_string(), text);
        let unsampled = SpanContext::parse(&text.replace("-01", "-00")).unwrap();
        assert!(!unsampled.is_sampled && unsampled.to_string().ends_with("-00"));
        let later = SpanContext::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-ever");
        assert_eq!(later, Some(context));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(SpanContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_innermost_span_is_the_current_one() {
        let context = |span_id| SpanContext { trace_id: 1, span_id, is_sampled: true };
        assert_eq!(current(), None);
        enter(1, context(1));
        enter(2, context(2));
        exit(1);
        assert_eq!(current(), Some(context(2)));
        exit(2);
        exit(2);
        assert_eq!(current(), None);
    }
}
