//! Logs on stderr: text for people, or one JSON object a line with the field names of the Elastic
//! Common Schema.
//!
//! While a progress bar is drawn, log lines appear above it.

use std::fmt;
use std::io::{self, Write};

use adlake_telemetry::TraceLayer;
use clap::ValueEnum;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::progress::ProgressBars;

/// The version of the Elastic Common Schema whose field names are used.
const ECS_VERSION: &str = "8.11.0";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    #[default]
    Human,
    /// One JSON object a line, with the field names of the Elastic Common Schema
    Json,
}

/// Starts logging. `verbosity` is -1 for errors only, 0 for what matters, 1 for more of adlake, and
/// 2 for more of everything. `RUST_LOG` overrides it if it is set. `traces` collects the spans that
/// are exported, if any are.
pub fn start(format: LogFormat, verbosity: i8, progress: ProgressBars, traces: Option<TraceLayer>) {
    let directives = match verbosity {
        ..0 => "error",
        0 => "warn,adlake=info,adlake_lake=info,adlake_speed_layer=info,adlake_batch_layer=info,adlake_serving=info",
        1 => {
            "info,adlake=debug,adlake_lake=debug,adlake_speed_layer=debug,adlake_batch_layer=debug,adlake_serving=debug"
        }
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    // What is exported is not logged. Without traces nobody wants these spans: they cost nothing.
    let filter = match format!("{}=off", adlake_telemetry::TARGET).parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let traces = traces.map(|traces| traces.with_filter(TraceLayer::filter()));
    let layer = tracing_subscriber::fmt::layer().with_writer(Stderr { progress });
    let layer = match format {
        LogFormat::Human => {
            use std::io::IsTerminal;
            layer.with_ansi(io::stderr().is_terminal()).compact().with_filter(filter).boxed()
        }
        LogFormat::Json => layer.event_format(Ecs).with_filter(filter).boxed(),
    };
    // Only a second subscriber in one process could make this fail.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(traces).with(layer));
}

/// Writes whole lines to stderr, above the progress bars.
struct Stderr {
    progress: ProgressBars,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { progress: &self.progress, bytes: Vec::new() }
    }
}

struct Line<'a> {
    progress: &'a ProgressBars,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.progress.log(&self.bytes);
    }
}

/// One JSON object a line.
struct Ecs;

impl<S, N> FormatEvent<S, N> for Ecs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let mut line = Map::new();
        line.insert("@timestamp".into(), now.into());
        line.insert("log.level".into(), level(*metadata.level()).into());
        line.insert("message".into(), fields.message.into());
        line.insert("ecs.version".into(), ECS_VERSION.into());
        line.insert("log.logger".into(), metadata.target().into());
        line.insert("service.name".into(), "adlake".into());
        line.insert("service.version".into(), env!("CARGO_PKG_VERSION").into());
        line.insert("process.pid".into(), std::process::id().into());
        if let Some(span) = adlake_telemetry::current() {
            line.insert("trace.id".into(), span.trace_text().into());
            line.insert("span.id".into(), span.span_text().into());
        }
        if let Some(error) = fields.error {
            line.insert("error.message".into(), error.into());
        }
        if !fields.others.is_empty() {
            // ECS leaves names that begin with the program's name to the program.
            line.insert("adlake".into(), Value::Object(fields.others));
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    error: Option<String>,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("error", Value::String(text)) => self.error = Some(text),
            // Crates that use `log` add these fields; the target already says the same.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => _ = self.others.insert(name.to_owned(), value),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let error_text = error.to_string();
            if !text.contains(&error_text) {
                text = format!("{text}: {error_text}");
            }
            cause = error.source();
        }
        self.put(field, text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_have_ecs_names() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Ecs).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(table = "raw/x", rows = 7, error = "it \"broke\"", "commit failed");
        });
        let line: Value = serde_json::from_slice(&kept.0.lock().unwrap()).unwrap();
        assert_eq!(line["log.level"], "warn");
        assert_eq!(line["message"], "commit failed");
        assert_eq!(line["error.message"], "it \"broke\"");
        assert_eq!(line["adlake"]["rows"], 7);
        assert_eq!(line["adlake"]["table"], "raw/x");
        assert!(line["@timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["log.logger"].as_str().unwrap().contains("logging"), "{line}");
        assert_eq!(line["ecs.version"], ECS_VERSION);
    }
}
