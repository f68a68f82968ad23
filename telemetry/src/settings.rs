//! The `[telemetry]` section, and what the environment says where the section is silent.

use std::time::Duration;

use adlake_domain::secret::{Secret, SecretUrl};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

/// The path of traces below the address of a collector.
const TRACES_PATH: &str = "v1/traces";

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The address of the collector, without `/v1/traces`. Empty: that of the environment.
    pub otlp_endpoint: SecretUrl,
    /// Headers of each request: `name=value`, separated by commas.
    pub otlp_headers: Option<Secret>,
    /// The longest time for one request.
    #[serde(with = "humantime_serde")]
    pub otlp_timeout: Duration,
    /// The share of traces that is exported, from 0 to 1.
    pub sample_ratio: f64,
    /// The name of the service. Empty: that of the environment, or that of the command.
    pub service_name: String,
    /// How many spans may wait for their export.
    pub queue_spans_max: usize,
    /// The most spans of one request.
    pub batch_spans_max: usize,
    /// How long a span waits at most for others before they are exported together.
    #[serde(with = "humantime_serde")]
    pub export_interval: Duration,
    /// How long a command that ends waits for the export of what is left.
    #[serde(with = "humantime_serde")]
    pub flush_timeout: Duration,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        TelemetrySettings {
            otlp_endpoint: SecretUrl::default(),
            otlp_headers: None,
            otlp_timeout: Duration::from_secs(10),
            sample_ratio: 1.0,
            service_name: String::new(),
            queue_spans_max: 2048,
            batch_spans_max: 512,
            export_interval: Duration::from_secs(5),
            flush_timeout: Duration::from_secs(2),
        }
    }
}

/// Where traces go, and as whose.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub url: Url,
    pub headers: HeaderMap,
    /// The attributes of the process.
    pub resource: Vec<(String, String)>,
}

impl TelemetrySettings {
    /// Checks what is set, whether traces are exported or not.
    ///
    /// # Errors
    ///
    /// Names the key or the variable that is wrong. No value is shown.
    pub fn check(&self) -> Result<(), String> {
        self.destination("adlake", |name| std::env::var(name).ok()).map(|_| ())
    }

    /// Where traces go. `None`: they are off. `service` is the name of the service if nothing else
    /// names it, `variable` reads the environment.
    pub(crate) fn destination(
        &self,
        service: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Destination>, String> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err("telemetry.sample_ratio: must be from 0 to 1".to_owned());
        }
        let least = [("queue_spans_max", self.queue_spans_max), ("batch_spans_max", self.batch_spans_max)];
        if let Some((key, _)) = least.into_iter().find(|(_, value)| *value == 0) {
            return Err(format!("telemetry.{key}: must be at least 1"));
        }
        if self.otlp_timeout.is_zero() {
            return Err("telemetry.otlp_timeout: must be more than 0s".to_owned());
        }
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_off = |name: &str, off: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(off));
        let configured = self.otlp_endpoint.expose().trim();
        let endpoint = match configured.is_empty() {
            false => Some(("telemetry.otlp_endpoint", configured.to_owned(), false)),
            true if is_off("OTEL_SDK_DISABLED", "true") || is_off("OTEL_TRACES_EXPORTER", "none") => None,
            true => variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                .map(|value| ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value, true))
                .or_else(|| {
                    variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|value| ("OTEL_EXPORTER_OTLP_ENDPOINT", value, false))
                }),
        };
        let headers = match &self.otlp_headers {
            Some(headers) => headers_of("telemetry.otlp_headers", headers.expose())?,
            None => ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]
                .into_iter()
                .find_map(|name| Some((name, variable(name)?)))
                .map_or(Ok(HeaderMap::new()), |(name, value)| headers_of(name, &value))?,
        };
        let Some((key, endpoint, is_whole)) = endpoint else { return Ok(None) };
        let url = url_of(key, &endpoint, is_whole)?;
        let mut resource = Vec::new();
        let named = Some(self.service_name.clone()).filter(|name| !name.is_empty());
        let attributes = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let attributes = attributes.ok_or("OTEL_RESOURCE_ATTRIBUTES: must be name=value, separated by commas")?;
        let among = |name: &str| attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let name = named.or_else(|| variable("OTEL_SERVICE_NAME")).or_else(|| among("service.name"));
        resource.push(("service.name".to_owned(), name.unwrap_or_else(|| service.to_owned())));
        let own = [
            ("service.namespace", "adlake".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", format!("{:032x}", rand::random::<u128>())),
            ("process.pid", std::process::id().to_string()),
            ("telemetry.sdk.name", "adlake".to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        for (name, value) in own {
            let value = among(name).unwrap_or(value);
            resource.push((name.to_owned(), value));
        }
        let known: Vec<String> = resource.iter().map(|(name, _)| name.clone()).collect();
        resource.extend(attributes.into_iter().filter(|(name, _)| !known.contains(name)));
        Ok(Some(Destination { url, headers, resource }))
    }
}

/// The address of traces. `is_whole`: it is not that of the collector, but of the traces.
fn url_of(key: &str, text: &str, is_whole: bool) -> Result<Url, String> {
    let wrong = || format!("{key}: it is no address, like http://localhost:4318 (the value is not shown)");
    let mut url = Url::parse(text.trim()).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !is_whole && !path.ends_with(TRACES_PATH) {
        url.set_path(&format!("{path}/{TRACES_PATH}"));
    }
    Ok(url)
}

fn headers_of(key: &str, text: &str) -> Result<HeaderMap, String> {
    let wrong = || format!("{key}: must be name=value, separated by commas (the value is not shown: it is a secret)");
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text).ok_or_else(wrong)? {
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Reads `name=value`, separated by commas. Values may be percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), decoded(value.trim())))
        })
        .collect()
}

/// The text with its `%XX` resolved. A text that is not so encoded stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<Option<Destination>, String> {
        let settings: TelemetrySettings = toml::from_str(text).unwrap();
        settings.destination("adlake-x", |name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn attribute(destination: &Destination, name: &str) -> Option<String> {
        destination.resource.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_configuration_goes_over_the_environment() {
        let check = |text: &str, variables: &[(&str, &str)], url: Option<&str>| {
            let found = resolved(text, variables).unwrap().map(|found| found.url.to_string());
            assert_eq!(found.as_deref(), url, "{text} {variables:?}");
        };
        let (general, traces) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        check("", &[], None);
        check("", &[(general, " ")], None);
        check("", &[(general, "http://c:4318")], Some("http://c:4318/v1/traces"));
        check("", &[(general, "http://c:4318/x/")], Some("http://c:4318/x/v1/traces"));
        check("", &[(general, "http://c:4318"), (traces, "http://t:1/own")], Some("http://t:1/own"));
        check("", &[(general, "http://c:4318"), ("OTEL_SDK_DISABLED", "true")], None);
        check("", &[(general, "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")], None);
        let own = "otlp_endpoint = \"https://h/v1/traces\"";
        check(own, &[(general, "http://c:4318"), ("OTEL_SDK_DISABLED", "true")], Some("https://h/v1/traces"));
    }

    #[test]
    fn the_process_is_named() {
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let name = |text: &str, variables: &[(&str, &str)]| {
            let mut all = vec![on];
            all.extend(variables);
            attribute(&resolved(text, &all).unwrap().unwrap(), "service.name").unwrap()
        };
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=c,deployment.environment.name=a%20b");
        assert_eq!(name("", &[]), "adlake-x");
        assert_eq!(name("", &[attributes]), "c");
        assert_eq!(name("", &[attributes, ("OTEL_SERVICE_NAME", "b")]), "b");
        assert_eq!(name("service_name = \"a\"", &[attributes, ("OTEL_SERVICE_NAME", "b")]), "a");
        let found = resolved("", &[on, attributes]).unwrap().unwrap();
        assert_eq!(attribute(&found, "deployment.environment.name").as_deref(), Some("a b"));
        assert_eq!(found.resource.iter().filter(|(name, _)| name == "service.name").count(), 1);
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let environment = ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hush%3D, b = c");
        let found = resolved("", &[on, environment]).unwrap().unwrap();
        assert_eq!((&found.headers["x-key"], &found.headers["b"]), (&"hush=".parse().unwrap(), &"c".parse().unwrap()));
        assert!(!format!("{found:?}").contains("hush"), "{found:?}");
        let found = resolved("otlp_headers = \"x-key=own\"", &[on, environment]).unwrap().unwrap();
        assert_eq!(found.headers.len(), 1);
        assert_eq!(found.headers["x-key"], "own");
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        let check = |text: &str, variables: &[(&str, &str)], part: &str| {
            let error = resolved(text, variables).unwrap_err();
            assert!(error.starts_with(part) && !error.contains("hush"), "{error}");
        };
        check("otlp_endpoint = \"hush\"", &[], "telemetry.otlp_endpoint: ");
        check("otlp_endpoint = \"ftp://hush\"", &[], "telemetry.otlp_endpoint: ");
        check("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "hush:4317")], "OTEL_EXPORTER_OTLP_ENDPOINT: ");
        check("otlp_headers = \"hush\"", &[], "telemetry.otlp_headers: ");
        check("otlp_headers = \"a b=hush\"", &[], "telemetry.otlp_headers: ");
        check("sample_ratio = 1.5", &[], "telemetry.sample_ratio: ");
        check("sample_ratio = nan", &[], "telemetry.sample_ratio: ");
        check("queue_spans_max = 0", &[], "telemetry.queue_spans_max: ");
        check("otlp_timeout = \"0s\"", &[], "telemetry.otlp_timeout: ");
    }
}
