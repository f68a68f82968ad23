//! Asks both servers the same, and compares what they answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::lakes::Lakes;
use crate::serve::{DEADLINE, Server};

/// Both servers, asked with one key.
pub struct Both<'a> {
    pub lakes: &'a Lakes,
    key: &'a str,
    compared: AtomicUsize,
}

/// A stream of events of the first server.
pub struct Stream {
    response: Response,
    text: String,
}

impl<'a> Both<'a> {
    pub fn new(lakes: &'a Lakes, key: &'a str) -> Both<'a> {
        Both { lakes, key, compared: AtomicUsize::new(0) }
    }

    /// How many answers were compared.
    pub fn compared(&self) -> usize {
        self.compared.load(Ordering::Relaxed)
    }

    /// The answer of the first server.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(Server::json(self.lakes.servers[0].get(path, Some(self.key)).await?).await?.1)
    }

    /// The answers of both, which need not be the same.
    pub async fn answers(&self, path: &str) -> Result<Vec<Value>> {
        let mut answers = Vec::new();
        for server in &self.lakes.servers {
            let (status, answer) = Server::json(server.get(path, Some(self.key)).await?).await?;
            ensure!(status == 200, "{path}: {status} {answer}");
            answers.push(answer);
        }
        Ok(answers)
    }

    /// The answer of both to a GET. They must be the same.
    pub async fn same(&self, path: &str) -> Result<(u16, Value)> {
        self.send("GET", path, &[], None).await
    }

    /// The answer of both to a question. They must be the same.
    pub async fn asked(&self, question: &Value) -> Result<(u16, Value)> {
        let answer = self.send("POST", "/v1/query", &[("content-type", "application/json")], Some(question)).await?;
        ensure!([200, 422].contains(&answer.0), "{question}: {answer:?}");
        Ok(answer)
    }

    /// The answer of both to a request, without what names the moment. They must be the same.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut answers = Vec::new();
        for server in &self.lakes.servers {
            let mut request = server.client.request(Method::from_bytes(method.as_bytes())?, server.url(path));
            request = headers
                .iter()
                .fold(request.bearer_auth(self.key), |request, (name, value)| request.header(*name, *value));
            if let Some(body) = body {
                request = request.body(body.to_string());
            }
            let response = request.send().await?;
            let status = response.status().as_u16();
            let text = response.text().await?;
            // What was asked for may be in what is told about it. Nothing else of theirs may be.
            let rest = text.replace("there is no metric \\\"zebra\\\"", "").replace("no column \\\"zebra\\\"", "");
            let is_public = ["/", "/docs", "/openapi.json"].contains(&path);
            ensure!(is_public || !rest.contains("zebra"), "{method} {path}: {text}");
            let mut answer = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
            forget_moment(&mut answer);
            answers.push((status, answer));
        }
        self.compared.fetch_add(1, Ordering::Relaxed);
        let body = body.map(Value::to_string).unwrap_or_default();
        ensure!(answers[0] == answers[1], "{method} {path} {body}: {:?} is not {:?}", answers[0], answers[1]);
        ensure!(answers[0].0 < 500, "{method} {path} {body}: {:?}", answers[0]);
        Ok(answers.swap_remove(0))
    }

    /// The bytes of both answers in a form.
    pub async fn bytes(&self, question: &Value, accept: &str) -> Result<[Vec<u8>; 2]> {
        let mut bodies = [Vec::new(), Vec::new()];
        for (body, server) in bodies.iter_mut().zip(&self.lakes.servers) {
            let response = server.post(question, Some(self.key), &[("accept", accept)]).await?;
            ensure!(response.status().is_success(), "{accept}: {}", response.status());
            *body = response.bytes().await?.to_vec();
        }
        Ok(bodies)
    }

    /// The next pages of both.
    pub async fn pages(&self, question: &Value, cursors: &[Value; 2]) -> Result<[Value; 2]> {
        let mut pages = [Value::Null, Value::Null];
        for ((page, server), cursor) in pages.iter_mut().zip(&self.lakes.servers).zip(cursors) {
            let mut question = question.clone();
            question["cursor"] = cursor.clone();
            let (status, answer) = Server::json(server.post(&question, Some(self.key), &[]).await?).await?;
            ensure!(status == 200, "{question}: {status} {answer}");
            *page = answer;
        }
        Ok(pages)
    }

    /// The events of the first server.
    pub async fn live(&self, question: &Value) -> Result<Stream> {
        let server = &self.lakes.servers[0];
        let url = reqwest::Url::parse_with_params(&server.url("/v1/live"), [("query", question.to_string())])?;
        let response = server.client.get(url).bearer_auth(self.key).send().await?;
        ensure!(response.status().is_success(), "{}", response.status());
        Ok(Stream { response, text: String::new() })
    }
}

impl Stream {
    /// The data of the next event.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str);
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return Ok(data?);
                }
                continue;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk()).await??.context("the stream ended")?;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

/// Takes away what is different from lake to lake whoever asks: when they were filled.
fn forget_moment(answer: &mut Value) {
    let Value::Object(members) = answer else { return };
    members.remove("request_id");
    if let Some(meta) = members.get_mut("meta").and_then(Value::as_object_mut) {
        for name in ["as_of", "provisional_from", "manifest", "snapshot", "versions"] {
            meta.remove(name);
        }
        // It names the snapshot.
        if meta.get("next_cursor").is_some_and(|cursor| !cursor.is_null()) {
            meta.insert("next_cursor".into(), json!("there is one"));
        }
    }
}
