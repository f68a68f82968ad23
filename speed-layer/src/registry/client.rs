//! The part of Confluent's REST API for schema registries that readers need. [`judge`] decides
//! which responses are answers and which are outages.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use adlake_domain::event::EventKind;
use adlake_lake::error::chain;
use reqwest::{Certificate, Identity, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::error::SpeedError;
use crate::settings::AvroSettings;

/// The greatest length of an answer in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The greatest number of schemas that one schema may refer to, directly and indirectly.
const REFERENCES_MAX: usize = 256;
/// The error codes for an unknown schema, subject or version.
const NO_SUCH: [u32; 3] = [40401, 40402, 40403];

/// The registry did not answer the question. The request has to be retried.
#[derive(Debug, thiserror::Error)]
#[error("{registry}: {what}")]
pub struct Outage {
    registry: String,
    what: String,
}

/// The registry's answer about a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The schema's text, and the texts of all schemas that it refers to.
    Schema {
        text: String,
        references: Vec<String>,
    },
    /// It is not Avro, or refers to a schema that does not exist.
    Unusable(String),
    Nothing,
}

/// The HTTP client of one registry.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    user: Option<(String, Option<String>)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str())
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error_code: u32,
}

impl Client {
    /// Takes the address, the user and the certificates from the settings. Errors name the
    /// configuration key.
    pub fn new(kind: EventKind, url: &str, settings: &AvroSettings) -> Result<Client, SpeedError> {
        let key = |name: &str| format!("sources.{kind}.avro.{name}");
        let refused = |name: &str, what: &dyn fmt::Display| SpeedError::settings(key(name), what.to_string());
        let mut base = Url::parse(url).map_err(|error| refused("registry", &error))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(refused("registry", &"must begin with http:// or https://"));
        }
        let password = settings.registry_password.as_ref().map(|password| password.expose().to_owned());
        let mut user = settings.registry_user.clone().map(|user| (user, password));
        // User, password, query and fragment are removed from the address, so that messages may
        // show it.
        base.set_query(None);
        base.set_fragment(None);
        if !base.username().is_empty() || base.password().is_some() {
            let password = base.password().map(str::to_owned);
            user.get_or_insert((base.username().to_owned(), password));
            let cleared = base.set_username("").and_then(|()| base.set_password(None));
            cleared.map_err(|()| refused("registry", &"is not an address"))?;
        }
        let timeout = settings.registry_timeout();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("adlake/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)));
        if let Some(path) = &settings.registry_ca_file {
            let pem = read(path, || key("registry_ca_file"))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| refused("registry_ca_file", &error))?;
            if certificates.is_empty() {
                return Err(refused("registry_ca_file", &format!("{} holds no certificate", path.display())));
            }
            http = certificates.into_iter().fold(http, |http, certificate| http.add_root_certificate(certificate));
        }
        if let Some(path) = &settings.registry_client_certificate_file {
            let name = "registry_client_certificate_file";
            let pem = read(path, || key(name))?;
            http = http.identity(Identity::from_pem(&pem).map_err(|error| refused(name, &error))?);
        }
        let http = http.build().map_err(|error| refused("registry", &chain(&error)))?;
        Ok(Client { http, base, user })
    }

    /// The schema with an id, and everything that it refers to.
    pub async fn schema(&self, id: u32) -> Result<Found, Outage> {
        let Some(answer) = self.get(&["schemas", "ids", &id.to_string()], None).await? else {
            return Ok(Found::Nothing);
        };
        if let Some(other) = answer.schema_type.filter(|name| !name.eq_ignore_ascii_case("AVRO")) {
            return Ok(Found::Unusable(format!("is written in {other}, not in Avro")));
        }
        let mut open = answer.references.unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut references = Vec::new();
        while let Some(Reference { subject, version }) = open.pop() {
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Ok(Found::Unusable(format!("refers to more than {REFERENCES_MAX} schemas")));
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            // Records written with a deleted schema still have to be read.
            let Some(answer) = self.get(&path, Some("deleted=true")).await? else {
                return Ok(Found::Unusable(format!("refers to version {version} of {subject}, which is not there")));
            };
            open.extend(answer.references.unwrap_or_default());
            references.push(answer.schema);
        }
        Ok(Found::Schema { text: answer.schema, references })
    }

    /// Sends a request. `None` means that the registry does not have it.
    async fn get(&self, path: &[&str], query: Option<&str>) -> Result<Option<Answer>, Outage> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(query);
        let mut request =
            self.http.get(url.clone()).header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, password.as_ref());
        }
        let outage = |what: String| Outage { registry: url.to_string(), what };
        let mut response = request.send().await.map_err(|error| outage(chain(&error.without_url())))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| outage(chain(&error.without_url())))? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(outage(format!("answers with more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        judge(status, &body).map_err(outage)
    }
}

/// Decides what a response means: found, not there, or (an error) not an answer.
///
/// A 404 counts only if the registry says what it does not know. A wrong address or a proxy must
/// not turn records into dead letters.
fn judge(status: StatusCode, body: &[u8]) -> Result<Option<Answer>, String> {
    match status {
        StatusCode::OK => match serde_json::from_slice(body) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => Err(format!("answers with something that is not a schema: {error}")),
        },
        StatusCode::NOT_FOUND => match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) if NO_SUCH.contains(&refusal.error_code) => Ok(None),
            _ => Err("answers 404, but not as a schema registry does: check the path of its address".to_owned()),
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(format!("answers {status}: check registry_user and registry_password"))
        }
        status => Err(format!("answers {status}")),
    }
}

fn read(path: &Path, key: impl Fn() -> String) -> Result<Vec<u8>, SpeedError> {
    fs::read(path).map_err(|error| SpeedError::settings(key(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_outages() {
        let check = |status: u16, body: &str, expected: Result<bool, ()>| {
            let found = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(found.map(|answer| answer.is_some()).map_err(|_| ()), expected, "{status} {body}");
        };
        check(200, r#"{"schema": "\"int\""}"#, Ok(true));
        check(200, r#"{"schema": "\"int\"", "references": null, "id": 3}"#, Ok(true));
        check(200, "<html>log in</html>", Err(()));
        check(404, r#"{"error_code": 40403, "message": "Schema not found"}"#, Ok(false));
        check(404, r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#, Err(()));
        check(404, "not found", Err(()));
        for status in [401, 403, 408, 429, 500, 502, 503, 504] {
            check(status, r#"{"error_code": 40403}"#, Err(()));
        }
    }
}
