//! From a request to the bytes of an answer.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hashbrown::HashMap;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::Server;
use super::audit::Slip;
use super::format::{self, Format};
use super::problem::Problem;
use super::trace;
use crate::access::Principal;
use crate::answer::{self, Answer, Asked, Source, time_text};
use crate::question::{Question, Request, Rules};
use crate::state::{SnapshotId, State, versions};

/// The header with the snapshot of an answer, and with the one that a client has seen.
pub const SNAPSHOT: HeaderName = HeaderName::from_static("x-adlake-snapshot");

/// `POST /v1/query`.
pub async fn query(
    Shared(server): Shared<Arc<Server>>,
    Extension(principal): Extension<Arc<Principal>>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let slip = request.extensions().get::<Slip>().cloned();
    let body = tokio::time::timeout(server.settings.timeout, Bytes::from_request(request, &())).await;
    let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the question took too long to come");
    let body = body.map_err(slow)?.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("a question has at most {} bytes", server.settings.body_bytes_max);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "malformed_body", "the body could not be read"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "a question is sent as application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    if let Some(slip) = slip {
        slip.note_question(&body);
    }
    let request = read(&body)?;
    server.reply(&principal, &request, &headers).await
}

/// Reads a question as JSON.
pub fn read(json: &[u8]) -> Result<Request, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed_query", detail);
    let request = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
    // Serde would take a list of the members as well.
    match json.trim_ascii_start().first() {
        Some(b'{') => Ok(request),
        _ => Err(malformed("a question is an object".to_owned())),
    }
}

/// An answer as it is sent.
#[derive(Debug)]
pub struct Reply {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What depends on the scope, the question and the snapshot.
    pub etag: String,
    /// The media type.
    pub media_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// Replies that are given again as long as the snapshot is the newest.
#[derive(Debug)]
pub struct Cache {
    snapshot: Option<SnapshotId>,
    replies: HashMap<String, Arc<Reply>>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache of at most so many bytes.
    pub fn new(bytes_max: usize) -> Cache {
        Cache { snapshot: None, replies: HashMap::new(), bytes: 0, bytes_max }
    }

    fn get(&self, etag: &str) -> Option<Arc<Reply>> {
        self.replies.get(etag).cloned()
    }

    fn insert(&mut self, reply: Arc<Reply>) {
        let size = reply.body.len() + 2 * reply.etag.len() + size_of::<Reply>();
        if self.snapshot.as_ref() != Some(&reply.snapshot) || self.bytes + size > self.bytes_max {
            self.replies.clear();
            self.bytes = 0;
            self.snapshot = Some(reply.snapshot.clone());
        }
        if size <= self.bytes_max && self.replies.insert(reply.etag.clone(), reply).is_none() {
            self.bytes += size;
        }
    }
}

impl Server {
    /// The response to a question.
    pub async fn reply(
        &self,
        principal: &Principal,
        request: &Request,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::of(accept).ok_or_else(|| {
            let detail = "answers are application/json, text/csv or application/vnd.apache.arrow.stream";
            Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
        })?;
        let seen = seen(headers)?;
        let reply = self.reply_in(principal, request, format, seen.as_ref()).await?;
        Ok(respond(&reply, headers))
    }

    /// The reply to a question in a form. `seen`: a snapshot that it must not be older than.
    pub async fn reply_in(
        &self,
        principal: &Principal,
        request: &Request,
        format: Format,
        seen: Option<&SnapshotId>,
    ) -> Result<Arc<Reply>, Problem> {
        let scope = serde_json::to_string(&principal.scope).unwrap_or_default();
        let (state, offset) = self.state_of(request, &scope, seen).await?;
        trace::answered_from(&state);
        let etag = etag(&[&scope, &serde_json::to_string(request).unwrap_or_default(), format.media_type()], &state.id);
        if let Some(reply) = self.cache.lock().ok().and_then(|cache| cache.get(&etag)) {
            return Ok(reply);
        }
        let question = request.read(self.rules(&state))?;
        let answer = self.answer(principal, &state, &question, offset).await?;
        let body = self.body(&answer, request, &state, &scope, format)?;
        let reply = Reply { snapshot: state.id.clone(), etag, media_type: format.media_type(), body };
        let reply = Arc::new(reply);
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(reply.clone());
        }
        Ok(reply)
    }

    /// What questions are checked against.
    pub fn rules(&self, state: &State) -> Rules<'_> {
        Rules { catalogues: &self.catalogues, report_zone: state.report_zone(), rows_max: self.settings.rows_max }
    }

    /// The state that a question is answered from, and the row where the answer begins.
    async fn state_of(
        &self,
        request: &Request,
        scope: &str,
        seen: Option<&SnapshotId>,
    ) -> Result<(Arc<State>, usize), Problem> {
        let Some(text) = &request.cursor else { return Ok((self.state_from(seen).await?, 0)) };
        let Some((snapshot, offset)) = self.cursors.read(text, request, scope) else {
            let detail = "this is no cursor of this question";
            return Err(crate::question::Invalid::new("bad_cursor", "/cursor", detail).into());
        };
        let state = match self.state()? {
            newest if newest.id == snapshot => Some(newest),
            _ => self.kept(&snapshot),
        };
        let expired = || {
            let detail = "the server has let go of the snapshot of this cursor: ask for the first page again";
            Problem::new(StatusCode::GONE, "cursor_expired", detail)
        };
        Ok((state.ok_or_else(expired)?, offset))
    }

    /// Answers a question in time. What is read from the lake waits for its turn.
    pub async fn answer(
        &self,
        principal: &Principal,
        state: &State,
        question: &Question,
        offset: usize,
    ) -> Result<Answer, Problem> {
        let asked = Asked {
            state,
            names: &self.names,
            catalogues: &self.catalogues,
            scope: &principal.scope,
            bytes_max: self.settings.answer_bytes_max,
        };
        let work = async {
            let work = answer::answer(asked, question, offset);
            match answer::is_in_memory(asked, question) {
                true => work.await,
                false => self.in_turn(work).await,
            }
        };
        self.in_time(work).await?.map_err(Problem::from)
    }

    /// What a future returns, if it does so in time.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Problem> {
        match self.until(tokio::time::timeout(self.settings.timeout, work)).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) => {
                let detail = format!("there was no answer within {:?}", self.settings.timeout);
                Err(Problem::later("timeout", detail, 5))
            }
            None => Err(Problem::later("not_ready", "the server is stopping", 5)),
        }
    }

    fn body(
        &self,
        answer: &Answer,
        request: &Request,
        state: &Arc<State>,
        scope: &str,
        format: Format,
    ) -> Result<Bytes, Problem> {
        let failed = |detail: String| {
            tracing::warn!(detail, "an answer could not be written");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer could not be written")
        };
        let cursor = answer.next_offset.map(|offset| {
            self.keep(state);
            self.cursors.write(&state.id, offset, request, scope)
        });
        Ok(match format {
            Format::Csv => format::csv(answer).into(),
            Format::Arrow => format::arrow(answer).map_err(|error| failed(error.to_string()))?.into(),
            Format::Json => {
                let mut meta = self.meta(state, request.time.zone.as_deref());
                if let Value::Object(meta) = &mut meta {
                    meta.insert("truncated".into(), cursor.is_some().into());
                    meta.insert("next_cursor".into(), cursor.into());
                    meta.insert("rows_in_all".into(), answer.rows_in_all.into());
                    meta.insert("source".into(), json!(answer.source));
                    let model = request.model.unwrap_or(self.catalogues.default_model());
                    meta.insert("model".into(), json!(model));
                    if answer.source == Source::Lake {
                        let warning = "answered from the tables of the lake, which takes longer";
                        meta.insert("warnings".into(), json!([warning]));
                    }
                }
                format::json(answer, meta).map_err(|error| failed(error.to_string()))?.into()
            }
        })
    }

    /// What is told with every answer.
    pub fn meta(&self, state: &State, zone: Option<&str>) -> Value {
        let manifest = state
            .snapshot
            .manifest
            .as_ref()
            .map(|manifest| json!({"run": manifest.run, "published_at": time_text(manifest.published_at)}));
        let settle = i64::try_from(self.settings.settle_time.as_micros()).unwrap_or(i64::MAX);
        json!({
            "snapshot": state.id.to_string(),
            "as_of": time_text(state.as_of),
            "manifest": manifest,
            "versions": versions(&state.snapshot),
            "provisional_from": time_text(state.provisional_from(settle)),
            "zone": zone.unwrap_or(state.report_zone().name()),
            "report_zone": state.report_zone().name(),
            "currency": self.currency,
            "warnings": [],
        })
    }
}

/// The snapshot that a client has seen.
pub fn seen(headers: &HeaderMap) -> Result<Option<SnapshotId>, Problem> {
    let Some(value) = headers.get(SNAPSHOT) else { return Ok(None) };
    let id = value.to_str().ok().and_then(SnapshotId::parse);
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "malformed_query", "X-Adlake-Snapshot is no snapshot");
    id.map(Some).ok_or_else(wrong)
}

/// The ETag of what depends on these texts and a snapshot.
pub fn etag(texts: &[&str], snapshot: &SnapshotId) -> String {
    let mut all = snapshot.to_string();
    for text in texts {
        all.push_str(&format!("\n{}\n{text}", text.len()));
    }
    format!("\"{:032x}\"", xxh3_128(all.as_bytes()))
}

/// The response with a reply, or without its body if the client has it already.
pub fn respond(reply: &Reply, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let is_known =
        known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == reply.etag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => reply.body.clone().into_response(),
    };
    let headers = response.headers_mut();
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    headers.insert(header::ETAG, text(&reply.etag));
    headers.insert(SNAPSHOT, text(&reply.snapshot.to_string()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept"));
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.media_type));
    }
    response
}
