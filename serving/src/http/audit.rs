//! The audit log: who asked what, one JSON object a line.
//!
//! It goes to the file of `serve.audit_file`. A request waits for its line to be taken, so that
//! nothing is answered that is not in the log; only a file that cannot be written loses lines, and
//! then the server's own log and `adlake_serve_audit_lines_lost` say so.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Server;
use super::problem;
use crate::answer::time_text;
use crate::state::follow::now;

/// How many lines may wait for the file.
const WAITING_MAX: usize = 10_000;
/// How often it is looked whether the file was moved away.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// The most bytes of a question that are logged.
const QUESTION_BYTES_MAX: usize = 16 << 10;
/// The header with the number of a request, which its line has too.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The number of a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// A line.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The name of the principal. Empty: nobody that is known.
    who: String,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
}

impl Entry {
    /// A line about something that is no question.
    pub fn new(event: &'static str, who: String, from: SocketAddr, status: StatusCode) -> Entry {
        Entry {
            time: time_text(now()),
            event,
            request_id: None,
            who,
            from: from.ip().to_string(),
            method: None,
            path: None,
            parameters: None,
            question: None,
            status: status.as_u16(),
            milliseconds: None,
        }
    }
}

/// What is learnt about a request while it is answered.
#[derive(Debug, Clone, Default)]
pub struct Slip(Arc<Mutex<Learnt>>);

#[derive(Debug, Default)]
struct Learnt {
    who: String,
    question: Option<String>,
}

impl Slip {
    /// Notes who asks.
    pub fn note_who(&self, name: &str) {
        if let Ok(mut learnt) = self.0.lock() {
            learnt.who = name.to_owned();
        }
    }

    /// Notes the body of a question.
    pub fn note_question(&self, body: &[u8]) {
        if let Ok(mut learnt) = self.0.lock() {
            let kept = &body[..body.len().min(QUESTION_BYTES_MAX)];
            learnt.question = Some(String::from_utf8_lossy(kept).into_owned());
        }
    }
}

/// The log.
#[derive(Debug, Default)]
pub struct Audit {
    lines: Option<mpsc::Sender<Entry>>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Opens the file, to write at its end. An empty path: there is no log.
    pub fn open(path: &Path) -> std::io::Result<Audit> {
        if path.as_os_str().is_empty() {
            return Ok(Audit::default());
        }
        let file = append(path)?;
        let (lines, waiting) = mpsc::channel(WAITING_MAX);
        let audit = Audit { lines: Some(lines), lost: Arc::default() };
        let (path, lost) = (path.to_owned(), audit.lost.clone());
        std::thread::Builder::new().name("audit".into()).spawn(move || write(file, &path, waiting, &lost))?;
        Ok(audit)
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether questions are logged.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line. It waits while too many others wait for the file.
    pub async fn note(&self, entry: Entry) {
        if let Some(lines) = &self.lines
            && lines.send(entry).await.is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes lines until nobody sends more.
fn write(mut file: File, path: &Path, mut waiting: mpsc::Receiver<Entry>, lost: &AtomicU64) {
    let mut looked = Instant::now();
    let mut is_failing = false;
    let mut entries = Vec::new();
    loop {
        // What waits is written at once.
        if waiting.blocking_recv_many(&mut entries, WAITING_MAX) == 0 {
            return;
        }
        if is_failing || looked.elapsed() > REOPEN_INTERVAL {
            looked = Instant::now();
            // Who rotates logs moves the file away: then a new one is begun.
            if !is_same(&file, path)
                && let Ok(opened) = append(path)
            {
                file = opened;
            }
        }
        let mut text = String::new();
        for entry in &entries {
            // A line of texts and numbers can always be written as JSON.
            text.push_str(&serde_json::to_string(entry).unwrap_or_default());
            text.push('\n');
        }
        match file.write_all(text.as_bytes()) {
            Ok(()) => is_failing = false,
            Err(error) => {
                lost.fetch_add(entries.len() as u64, Ordering::Relaxed);
                if !is_failing {
                    tracing::error!(%error, file = %path.display(), "the audit log cannot be written");
                }
                is_failing = true;
            }
        }
        entries.clear();
    }
}

/// Whether a path still leads to an open file.
fn is_same(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }
    #[cfg(not(unix))]
    true
}

/// Gives each request a number, and adds its line when its answer begins.
pub async fn log(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let id = format!("{:016x}", rand::random::<u64>());
    let slip = Slip::default();
    request.extensions_mut().insert(slip.clone());
    request.extensions_mut().insert(RequestId(id.clone()));
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    let line = server.audit.is_on().then(|| {
        let parameters = request.uri().query().map(|text| text.chars().take(QUESTION_BYTES_MAX).collect());
        (request.method().to_string(), parameters)
    });
    let mut response = next.run(request).await;
    problem::write(&mut response, &id);
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(request_id = id, path, "a request has failed");
    }
    if let Some((method, parameters)) = line {
        let learnt = slip.0.lock().map(|mut learnt| std::mem::take(&mut *learnt)).unwrap_or_default();
        let entry = Entry {
            time: time_text(now()),
            event: "request",
            request_id: Some(id.clone()),
            who: learnt.who,
            from: from.map(|peer| peer.ip().to_string()).unwrap_or_default(),
            method: Some(method),
            path: Some(path),
            parameters,
            question: learnt.question,
            status: response.status().as_u16(),
            milliseconds: Some(began.elapsed().as_millis() as u64),
        };
        server.audit.note(entry).await;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
