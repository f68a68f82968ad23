//! The export: a bounded queue, and a thread that sends what is in it.
//!
//! Nothing waits for the collector but this thread, and a command that ends, for at most
//! `telemetry.flush_timeout`. What a collector does not take after a few tries is dropped and
//! counted. That is logged when it begins, at most once in [`WARNING_INTERVAL`], and when it ends.

use std::sync::mpsc as blocking;
use std::time::Duration;

use prost::Message;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use url::Url;

use crate::counts;
use crate::layer::TraceLayer;
use crate::message::{self, ExportTraceServiceResponse};
use crate::record::Record;
use crate::settings::{Destination, TelemetrySettings};

/// The most tries of one request.
const TRIES_MAX: u32 = 4;
/// The pause after the first try. It doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also if the collector asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often at most it is logged that spans are dropped.
const WARNING_INTERVAL: Duration = Duration::from_secs(600);
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Why spans are dropped at the end.
const NO_ANSWER: &str = "there was no answer within telemetry.flush_timeout";
/// How much longer than the export itself its end is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// The thread that exports.
#[derive(Debug)]
pub struct Telemetry {
    closing: Option<oneshot::Sender<Instant>>,
    closed: blocking::Receiver<()>,
    flush_timeout: Duration,
}

impl Telemetry {
    /// Starts the thread. `None`: traces are off. `service` names the process if nothing else does.
    ///
    /// # Errors
    ///
    /// Names the key or the variable that is wrong.
    pub fn start(settings: &TelemetrySettings, service: &str) -> Result<Option<(TraceLayer, Telemetry)>, String> {
        let Some(destination) = settings.destination(service, |name| std::env::var(name).ok())? else {
            return Ok(None);
        };
        let (ended, records) = mpsc::channel(settings.queue_spans_max);
        let (closing, close) = oneshot::channel();
        let (done, closed) = blocking::channel();
        let exporter = Exporter {
            sender: Sender::new(destination, settings)?,
            records,
            close,
            batch_spans_max: settings.batch_spans_max,
            interval: settings.export_interval,
        };
        let failed = |error: std::io::Error| format!("telemetry: the thread that exports cannot be started: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let run = move || {
            runtime.block_on(exporter.run());
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            // The other end may have stopped waiting.
            let _ = done.send(());
        };
        std::thread::Builder::new().name("telemetry".into()).spawn(run).map_err(failed)?;
        let telemetry = Telemetry { closing: Some(closing), closed, flush_timeout: settings.flush_timeout };
        Ok(Some((TraceLayer::new(settings.sample_ratio, ended), telemetry)))
    }

    /// Exports what is left, for at most `telemetry.flush_timeout`.
    pub fn close(mut self) {
        if let Some(closing) = self.closing.take() {
            // It fails only if the thread is gone.
            let _ = closing.send(Instant::now() + self.flush_timeout);
        }
        let _ = self.closed.recv_timeout(self.flush_timeout + GRACE);
    }
}

struct Exporter {
    sender: Sender,
    records: mpsc::Receiver<Record>,
    close: oneshot::Receiver<Instant>,
    batch_spans_max: usize,
    interval: Duration,
}

impl Exporter {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let mut due = Instant::now();
        let until = loop {
            let room = self.batch_spans_max - batch.len();
            let was_empty = batch.is_empty();
            let is_due = tokio::select! {
                biased;
                until = &mut self.close => break until,
                () = sleep_until(due), if !was_empty => true,
                taken = self.records.recv_many(&mut batch, room) => {
                    if taken == 0 {
                        // The subscriber is gone.
                        break Ok(Instant::now());
                    }
                    if was_empty {
                        due = Instant::now() + self.interval;
                    }
                    batch.len() == self.batch_spans_max
                }
            };
            if !is_due {
                continue;
            }
            let spans = batch.len() as u64;
            let closed = {
                let mut sending = std::pin::pin!(self.sender.send(std::mem::take(&mut batch), TRIES_MAX));
                tokio::select! {
                    biased;
                    () = &mut sending => None,
                    until = &mut self.close => {
                        // Without the other end, nobody waits.
                        let until = until.unwrap_or_else(|_| Instant::now());
                        Some((until, timeout_at(until, sending).await.is_ok()))
                    }
                }
            };
            if let Some((until, is_sent)) = closed {
                if !is_sent {
                    self.sender.drop_spans(spans, NO_ANSWER);
                }
                break Ok(until);
            }
        };
        self.flush(batch, until.unwrap_or_else(|_| Instant::now())).await;
    }

    /// Exports what is left until a moment, each batch with one try.
    async fn flush(mut self, mut batch: Vec<Record>, until: Instant) {
        self.records.close();
        loop {
            while batch.len() < self.batch_spans_max
                && let Ok(record) = self.records.try_recv()
            {
                batch.push(record);
            }
            if batch.is_empty() {
                return;
            }
            let left = batch.len() + self.records.len();
            if timeout_at(until, self.sender.send(std::mem::take(&mut batch), 1)).await.is_err() {
                self.sender.drop_spans(left as u64, NO_ANSWER);
                return;
            }
        }
    }
}

/// Why a request failed.
struct Failure {
    detail: String,
    /// `None`: another try would fail as well.
    pause: Option<Duration>,
}

struct Sender {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    resource: Vec<(String, String)>,
    warned: Option<Instant>,
    /// Spans that were dropped since the collector has last taken some.
    dropped: u64,
}

impl Sender {
    fn new(destination: Destination, settings: &TelemetrySettings) -> Result<Sender, String> {
        let Destination { url, headers, resource } = destination;
        let client = reqwest::Client::builder()
            .timeout(settings.otlp_timeout)
            // The headers are meant for the collector alone.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("adlake/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("telemetry: {error}"))?;
        Ok(Sender { client, url, headers, resource, warned: None, dropped: 0 })
    }

    /// Exports spans, or drops them after some tries.
    async fn send(&mut self, records: Vec<Record>, tries_max: u32) {
        let count = records.len() as u64;
        let body = message::request(&self.resource, records).encode_to_vec();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    counts::exported(count - rejected.min(count));
                    match rejected {
                        0 => self.recovered(),
                        rejected => self.drop_spans(rejected, "the collector has rejected them"),
                    }
                    return;
                }
                Err(Failure { pause: Some(asked), .. }) if tries < tries_max => {
                    sleep(asked.max(PAUSE * 2_u32.pow(tries - 1)).min(PAUSE_MAX)).await;
                }
                Err(Failure { detail, .. }) => return self.drop_spans(count, &detail),
            }
        }
    }

    /// One try. Returns how many spans the collector has rejected.
    async fn post(&self, body: Vec<u8>) -> Result<u64, Failure> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let unreachable = |error: reqwest::Error| {
            // The address may hold a secret.
            Failure { detail: with_causes(&error.without_url()), pause: Some(Duration::ZERO) }
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            let mut answer = Vec::new();
            while let Ok(Some(part)) = response.chunk().await
                && answer.len() < ANSWER_BYTES_MAX
            {
                answer.extend_from_slice(&part);
            }
            let partial = ExportTraceServiceResponse::decode(&*answer).ok().and_then(|answer| answer.partial_success);
            return Ok(partial.map_or(0, |partial| partial.rejected_spans.max(0) as u64));
        }
        let is_passing = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let pause = is_passing.then(|| asked.map_or(Duration::ZERO, Duration::from_secs));
        Err(Failure { detail: format!("the collector answers {status}"), pause })
    }

    fn drop_spans(&mut self, count: u64, why: &str) {
        counts::dropped(count);
        self.dropped += count;
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                error = why,
                spans = self.dropped,
                "traces are not exported: spans are dropped; see telemetry.otlp_endpoint"
            );
        }
    }

    fn recovered(&mut self) {
        if self.dropped > 0 {
            tracing::info!(dropped = self.dropped, "traces are exported again");
            self.dropped = 0;
        }
    }
}

/// An error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::context::SpanContext;
    use crate::record::Kind;

    fn records(count: u64) -> Vec<Record> {
        let record = |span_id| Record {
            context: SpanContext { trace_id: 1, span_id, is_sampled: true },
            parent: None,
            is_parent_remote: false,
            name: "x".to_owned(),
            kind: Kind::Internal,
            from: 1,
            to: 2,
            attributes: Vec::new(),
            links: Vec::new(),
            links_dropped: 0,
            failure: None,
        };
        (1..=count).map(record).collect()
    }

    /// A collector that gives these answers, one after the other, and counts the requests.
    async fn answers(answers: Vec<String>) -> (Sender, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = TelemetrySettings {
            otlp_endpoint: format!("http://{}", listener.local_addr().unwrap()).into(),
            ..TelemetrySettings::default()
        };
        let destination = settings.destination("x", |_| None).unwrap().unwrap();
        let requests = tokio::spawn(async move {
            let mut requests = 0;
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                let is_whole = |request: &[u8]| {
                    let text = String::from_utf8_lossy(request);
                    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    let head = request.windows(4).position(|four| four == b"\r\n\r\n");
                    head.zip(length).is_some_and(|(head, length): (usize, usize)| request.len() == head + 4 + length)
                };
                while !is_whole(&request) {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                requests += 1;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (Sender::new(destination, &settings).unwrap(), requests)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_the_rest_is_dropped() {
        let busy = answer("503 Service Unavailable", "retry-after: 0\r\n", "");
        let (mut sender, requests) = answers(vec![busy.clone(), answer("200 OK", "", "")]).await;
        let before = counts::counts();
        sender.send(records(3), TRIES_MAX).await;
        assert_eq!((requests.await.unwrap(), sender.dropped), (2, 0));
        assert!(counts::counts().exported >= before.exported + 3);

        // At the end there is one try.
        let (mut sender, requests) = answers(vec![busy]).await;
        sender.send(records(3), 1).await;
        assert_eq!((requests.await.unwrap(), sender.dropped), (1, 3));

        let (mut sender, requests) = answers(vec![answer("400 Bad Request", "", "")]).await;
        sender.send(records(2), TRIES_MAX).await;
        assert_eq!((requests.await.unwrap(), sender.dropped), (1, 2));

        let rejected = "\u{a}\u{2}\u{8}\u{2}"; // partial_success { rejected_spans: 2 }
        let (mut sender, requests) = answers(vec![answer("200 OK", "", rejected)]).await;
        sender.send(records(5), TRIES_MAX).await;
        assert_eq!((requests.await.unwrap(), sender.dropped), (1, 2));
    }
}
