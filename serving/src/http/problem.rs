//! Errors as `application/problem+json` (RFC 9457).

use adlake_lake::error::chain;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::answer::AnswerError;
use crate::question::Invalid;

/// Why a request is not answered.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    pointer: Option<String>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem without a place in the request.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), pointer: None, retry_after: None }
    }

    /// The server cannot answer now; the client may try again after so many seconds.
    pub fn later(code: &'static str, detail: impl Into<String>, seconds: u32) -> Problem {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Problem { retry_after: Some(seconds), ..problem }
    }

    /// Too many requests. There may be the next after so many seconds.
    pub fn too_many(detail: &str, seconds: u32) -> Problem {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        Problem { retry_after: Some(seconds), ..problem }
    }

    /// There is no such thing, or the key may not see it: both are told in the same words.
    pub fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing")
    }

    /// The key does not have the role.
    pub fn forbidden() -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "role_not_sufficient", "this key's role may not see this")
    }
}

impl Problem {
    /// The body. `request_id`: the number of the request, which the audit log has too.
    pub fn text(&self, request_id: &str) -> String {
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("code".into(), self.code.into());
        body.insert("detail".into(), self.detail.as_str().into());
        if let Some(pointer) = &self.pointer {
            body.insert("pointer".into(), pointer.as_str().into());
        }
        body.insert("request_id".into(), request_id.into());
        Value::Object(body).to_string()
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, invalid.code, invalid.detail);
        Problem { pointer: Some(invalid.pointer), ..problem }
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Invalid(invalid) => invalid.into(),
            AnswerError::Lake(error) => {
                // What the store says may name buckets and paths, which are nobody else's business.
                tracing::warn!(error = chain(&error), "an answer failed");
                if error.is_retryable() {
                    return Problem::later("not_ready", "the lake does not answer", 5);
                }
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer failed; the log says why")
            }
        }
    }
}

/// Writes the body of a response that is a problem.
pub fn write(response: &mut Response, request_id: &str) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.text(request_id).into();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
}

impl IntoResponse for Problem {
    /// Everything but the body, which [`write()`] adds when the number of the request is known.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}
