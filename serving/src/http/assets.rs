//! The dashboard's files, which are part of the program.
//!
//! They are built from `serving/dashboard/` and committed. Names hold a hash of the content, so
//! that browsers may keep them for good; only the page itself is asked for again.

use std::io::Write;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use hashbrown::HashMap;

use super::dashboard::FILES;
use super::name::Name;
use super::problem::Problem;

/// What the page may load: its own files and answers, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' \
                      data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// A file, and its compressed form.
#[derive(Debug)]
struct Asset {
    content_type: &'static str,
    plain: Bytes,
    gzip: Bytes,
}

/// The files by name.
static ASSETS: LazyLock<HashMap<&str, Asset>> = LazyLock::new(|| {
    let assets = FILES.iter().map(|(file, content_type, content)| {
        // Writing into memory cannot fail.
        let gzip = compressed(content).map_or_else(|_| Bytes::from_static(content), Bytes::from);
        (*file, Asset { content_type, plain: Bytes::from_static(content), gzip })
    });
    assets.collect()
});

fn compressed(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

/// `GET /`.
pub async fn page(headers: HeaderMap) -> Response {
    respond("index.html", &headers, "no-cache")
}

/// `GET /{file}`: a file that the page names.
pub async fn file(Name(file): Name, headers: HeaderMap) -> Response {
    respond(&file, &headers, "public, max-age=31536000, immutable")
}

fn respond(file: &str, headers: &HeaderMap, caching: &'static str) -> Response {
    let Some(asset) = ASSETS.get(file) else { return Problem::not_found().into_response() };
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_gzip = accepted.split(',').any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"));
    let mut response = if is_gzip { asset.gzip.clone() } else { asset.plain.clone() }.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if is_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_served() {
        assert_eq!(ASSETS.len(), FILES.len());
        let page = std::str::from_utf8(&ASSETS["index.html"].plain).unwrap();
        let named: Vec<&str> = ["href=\"", "src=\""]
            .iter()
            .flat_map(|attribute| page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()))
            .collect();
        assert!(named.len() >= 3, "{page}");
        for name in named {
            assert!(ASSETS.contains_key(name.trim_start_matches('/')), "{name} is not a file");
        }
        assert!(!page.contains("style=") && !page.contains("<script>"), "the policy forbids it");
    }
}
