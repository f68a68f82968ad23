//! Watches prefixes of S3 without listing everything every time.
//!
//! S3 lists keys in order, starting after any given key. New objects mostly sort after all others
//! (`.../2026/11/21/...`), or after the others of their folder. So each poll asks for what comes
//! after the last key of all, and after the last key of each folder that recently got new objects.
//! Any other new key is found by a sweep through the whole prefix, some pages at each poll, once
//! around in `files.sweep_interval`. A prefix of up to a thousand objects is one page, and is seen
//! whole every time.
//!
//! Objects are written whole, so what is listed can be read. A reader goes on where its connection
//! broke, and fails if the object has been replaced meanwhile.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use adlake_lake::storage::{S3Options, has_user};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::passed_over::{PassedOver, by_convention};
use super::place::{At, Found};
use super::{SourceContext, place};
use crate::clock::now_micros;
use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::report::PassedOverReason;
use crate::settings::FilesSettings;

/// How many of the folders that last got new objects are asked for more.
const FOLDERS_ASKED: usize = 4;
/// Objects written within the last hour count as new.
const RECENT_MICROS: i64 = 3_600_000_000;
/// Objects up to this size are fetched ahead, ...
const SMALL_BYTES: u64 = 256 << 10;
/// ... this many at a time.
const FETCHED_AT_ONCE: usize = 16;
/// How often reading an object is retried without progress.
const ATTEMPTS_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);

/// A bucket, and how it is reached.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    runtime: Handle,
    metrics: Metrics,
}

/// Objects under a prefix.
#[derive(Debug)]
pub struct Prefix {
    s3: Arc<S3>,
    /// The key of an object, or what all keys of a folder begin with.
    prefix: String,
    /// The prefix is the key of one object.
    is_object: bool,
    /// The last key of all.
    last: String,
    /// The folders that last got new objects, and the last key of each.
    folders: VecDeque<(String, String)>,
    /// The key that the sweep has reached.
    swept_to: String,
    /// The number of pages in the whole prefix, as far as it is known.
    pages: usize,
    pages_swept: usize,
    /// The share of the whole prefix that each poll sweeps.
    share: f64,
    passed_over: PassedOver,
}

struct Page {
    found: Vec<Found>,
    passed_over: Vec<(String, PassedOverReason)>,
    /// The last key listed, whether wanted or not. `None`: nothing follows.
    next: Option<String>,
    last: Option<String>,
}

impl S3 {
    fn connect(bucket: &str, context: &SourceContext) -> Result<S3, SpeedError> {
        let Some(runtime) = context.runtime.clone() else { return Err(SpeedError::Ended("the runtime")) };
        let options = S3Options::new(&context.store_options);
        let options = options.map_err(|detail| SpeedError::settings("lake.options", detail))?;
        let loaded = runtime.block_on(options.sdk_config());
        let mut config = aws_sdk_s3::config::Builder::from(&loaded).force_path_style(options.is_path_style(&loaded));
        // A profile may have another endpoint for S3 alone (`services`). The lake does not read it.
        config.set_endpoint_url(loaded.endpoint_url().map(str::to_owned));
        let client = Client::from_conf(config.build());
        Ok(S3 { client, bucket: bucket.to_owned(), runtime, metrics: context.metrics.clone() })
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn failed(&self, key: &str, what: &str, error: impl Display) -> SpeedError {
        let message = format!("{what}: {error}");
        SpeedError::File { path: self.uri(key).into(), message, source: None }
    }

    /// One page of keys after a given key.
    fn page(self: &Arc<Self>, prefix: &str, after: &str) -> Result<Page, SpeedError> {
        self.metrics.listed();
        let mut request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        if !after.is_empty() {
            request = request.start_after(after);
        }
        let listed = self.runtime.block_on(request.send());
        let listed = listed.map_err(|error| self.failed(prefix, "cannot be listed", DisplayErrorContext(error)))?;
        let last = listed.contents().last().and_then(|object| object.key()).map(str::to_owned);
        let next = listed.is_truncated().unwrap_or(false).then(|| last.clone()).flatten();
        let mut passed_over = Vec::new();
        let found = listed.contents().iter().filter_map(|object| {
            let key = object.key()?;
            let bytes = u64::try_from(object.size()?).ok()?;
            let below = key.strip_prefix(prefix).unwrap_or(key);
            // A key that ends with a slash stands for a folder. An empty object holds no record.
            if bytes == 0 {
                return None;
            }
            if let Some(reason) = below.split('/').find_map(by_convention) {
                passed_over.push((self.uri(key), reason));
                return None;
            }
            let modified = object.last_modified().and_then(|time| i64::try_from(time.as_nanos() / 1000).ok());
            let tag = object.e_tag().unwrap_or_default().to_owned();
            let at = At::Object(self.clone(), key.to_owned());
            Some(Found { name: self.uri(key), at, bytes, modified, tag, whole: None })
        });
        Ok(Page { found: found.collect(), passed_over, next, last })
    }

    /// The bytes of an object from a given byte on.
    fn get(&self, key: &str, tag: &str, from: u64) -> io::Result<ByteStream> {
        let mut request = self.client.get_object().bucket(&self.bucket).key(key);
        if !tag.is_empty() {
            request = request.if_match(tag);
        }
        if from > 0 {
            request = request.range(format!("bytes={from}-"));
        }
        match self.runtime.block_on(request.send()) {
            Ok(object) => Ok(object.body),
            Err(error) => {
                let status = error.raw_response().map(|response| response.status().as_u16());
                let kind = match status {
                    Some(404) => io::ErrorKind::NotFound,
                    Some(401 | 403) => io::ErrorKind::PermissionDenied,
                    // Another object has taken its place.
                    Some(412) => io::ErrorKind::StaleNetworkFileHandle,
                    _ => io::ErrorKind::Other,
                };
                Err(io::Error::new(kind, Broken(DisplayErrorContext(error).to_string())))
            }
        }
    }

    /// Fetches small objects. An object that cannot be fetched is opened later, and the error is
    /// reported then.
    pub fn fetch_small(&self, files: &mut [Found]) {
        let small = files.iter_mut().filter(|file| file.bytes <= SMALL_BYTES);
        let fetches = small.filter_map(|file| {
            let At::Object(s3, key) = &file.at else { return None };
            let (s3, key, tag) = (s3.clone(), key.clone(), file.tag.clone());
            Some(async move {
                let got = s3.client.get_object().bucket(&s3.bucket).key(key).if_match(tag).send().await;
                if let Ok(object) = got
                    && let Ok(body) = object.body.collect().await
                {
                    file.whole = Some(body.into_bytes());
                }
            })
        });
        let fetches: Vec<_> = fetches.collect();
        self.runtime.block_on(futures::stream::iter(fetches).buffer_unordered(FETCHED_AT_ONCE).collect::<Vec<()>>());
    }
}

impl Prefix {
    /// Opens `s3://bucket`, `s3://bucket/prefix` or `s3://bucket/key`.
    pub fn open(
        uri: &str,
        settings: &FilesSettings,
        context: &SourceContext,
        passed_over: PassedOver,
    ) -> Result<Prefix, SpeedError> {
        if has_user(uri) {
            let message = "holds a user or a password: remove them, and give keys in lake.options or in the AWS_* \
                           variables of the environment";
            return Err(SpeedError::settings("a URI of files", message));
        }
        let wrong = |message: &str| SpeedError::File { path: uri.into(), message: message.to_owned(), source: None };
        let (_, place) = uri.split_once("://").ok_or_else(|| wrong("is not an URI"))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(wrong("names no bucket: s3://bucket/prefix"));
        }
        if prefix.contains(['*', '?']) {
            return Err(wrong("patterns are for paths; of a bucket give a prefix"));
        }
        let s3 = Arc::new(S3::connect(bucket, context)?);
        let polls = settings.sweep_interval.as_secs_f64() / place::poll_interval(settings).as_secs_f64();
        Ok(Prefix {
            s3,
            prefix: prefix.to_owned(),
            is_object: false,
            last: String::new(),
            folders: VecDeque::new(),
            swept_to: String::new(),
            pages: 0,
            pages_swept: 0,
            share: 1.0 / polls.max(1.0),
            passed_over,
        })
    }

    /// The URI as the user gave it, with a slash after a folder.
    pub fn uri(&self) -> String {
        self.s3.uri(&self.prefix)
    }

    /// The bucket.
    pub fn s3(&self) -> &Arc<S3> {
        &self.s3
    }

    /// Whether this object is the one that the user named. Then it is read whatever its name.
    pub fn is_named(&self, file: &Found) -> bool {
        self.is_object && file.name == self.s3.uri(&self.prefix)
    }

    /// All objects that are there.
    pub fn all(&mut self) -> Result<Vec<Found>, SpeedError> {
        if !self.prefix.is_empty() && !self.prefix.ends_with('/') {
            let page = self.s3.page(&self.prefix, "")?;
            self.is_object = page.found.iter().any(|file| file.name == self.s3.uri(&self.prefix));
            if !self.is_object {
                self.prefix.push('/');
            }
        }
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.s3.page(&self.prefix, &after)?;
            self.pages += 1;
            self.note(&page);
            found.append(&mut page.found);
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        if self.is_object {
            found.retain(|file| file.name == self.s3.uri(&self.prefix));
        }
        Ok(found)
    }

    /// Adds the objects that may be new.
    pub fn poll(&mut self, found: &mut Vec<Found>) -> Result<(), SpeedError> {
        if self.is_object {
            self.pages = 0;
            found.append(&mut self.all()?);
            return Ok(());
        }
        // A single page is the whole prefix, and is swept below.
        if self.pages > 1 {
            let prefix = self.prefix.clone();
            self.after(&prefix, self.last.clone(), found)?;
            for (folder, last) in self.folders.clone() {
                // The folder of the last key of all has just been asked.
                if !self.last.starts_with(&folder) {
                    self.after(&folder, last, found)?;
                }
            }
        }
        for _ in 0..((self.pages as f64 * self.share).ceil() as usize).max(1) {
            let page = self.s3.page(&self.prefix, &self.swept_to)?;
            self.pages_swept += 1;
            self.note(&page);
            found.extend(page.found);
            match page.next {
                Some(next) => self.swept_to = next,
                None => {
                    self.swept_to.clear();
                    self.pages = std::mem::take(&mut self.pages_swept);
                    break;
                }
            }
        }
        Ok(())
    }

    fn after(&mut self, prefix: &str, after: String, found: &mut Vec<Found>) -> Result<(), SpeedError> {
        let mut after = after;
        loop {
            let page = self.s3.page(prefix, &after)?;
            self.note(&page);
            found.extend(page.found);
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// Remembers the last keys, and which objects are not read.
    fn note(&mut self, page: &Page) {
        if !self.is_object {
            page.passed_over.iter().for_each(|(name, reason)| self.passed_over.note(name, *reason));
        }
        if let Some(last) = page.last.as_ref().filter(|last| **last > self.last) {
            self.last.clone_from(last);
        }
        for file in &page.found {
            let At::Object(_, key) = &file.at else { continue };
            if file.modified.is_none_or(|modified| now_micros() - modified > RECENT_MICROS) {
                continue;
            }
            let folder = &key[..key.rfind('/').map_or(0, |at| at + 1)];
            match self.folders.iter_mut().find(|(known, _)| known == folder) {
                Some((_, last)) if *last < *key => last.clone_from(key),
                Some(_) => {}
                None => {
                    self.folders.push_front((folder.to_owned(), key.clone()));
                    self.folders.truncate(FOLDERS_ASKED);
                }
            }
        }
    }
}

/// Reading ended because of the store, not because of the data.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// Reads an object like a file.
#[derive(Debug)]
pub struct ObjectReader {
    s3: Arc<S3>,
    key: String,
    tag: String,
    size: u64,
    at: u64,
    body: Option<ByteStream>,
    chunk: Bytes,
    attempts: u32,
}

impl ObjectReader {
    /// Reads from the beginning. `tag` and `size` are those that were listed.
    pub fn new(s3: Arc<S3>, key: &str, tag: &str, size: u64) -> ObjectReader {
        let (key, tag) = (key.to_owned(), tag.to_owned());
        ObjectReader { s3, key, tag, size, at: 0, body: None, chunk: Bytes::new(), attempts: 0 }
    }

    fn next_chunk(&mut self) -> io::Result<Bytes> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.s3.get(&self.key, &self.tag, self.at)?,
        };
        match self.s3.runtime.block_on(body.next()) {
            Some(Ok(chunk)) => {
                self.body = Some(body);
                Ok(chunk)
            }
            Some(Err(error)) => Err(io::Error::other(Broken(error.to_string()))),
            None => Err(io::Error::other(Broken("the object ends before its end".to_owned()))),
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use io::ErrorKind::{NotFound, PermissionDenied, StaleNetworkFileHandle};
        while self.chunk.is_empty() && self.at < self.size {
            match self.next_chunk() {
                Ok(chunk) => {
                    self.at += chunk.len() as u64;
                    self.chunk = chunk;
                    self.attempts = 0;
                }
                Err(error) if matches!(error.kind(), NotFound | PermissionDenied | StaleNetworkFileHandle) => {
                    return Err(error);
                }
                Err(error) if self.attempts >= ATTEMPTS_MAX => return Err(error),
                Err(error) => {
                    tracing::debug!(uri = self.s3.uri(&self.key), at = self.at, %error, "reading is resumed");
                    self.attempts += 1;
                    std::thread::sleep(PAUSE * (1 << self.attempts.min(6)));
                }
            }
        }
        let length = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn open(uri: &str, options: &[(&str, &str)], runtime: &tokio::runtime::Runtime) -> Result<Prefix, SpeedError> {
        let store_options = options.iter().copied().collect();
        let runtime = Some(runtime.handle().clone());
        let context = SourceContext { store_options, runtime, ..SourceContext::default() };
        let passed_over = PassedOver::new(context.metrics.clone());
        Prefix::open(uri, &FilesSettings::default(), &context, passed_over)
    }

    #[test]
    fn a_user_in_a_uri_and_an_unknown_option_are_refused() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for uri in ["s3://ada:hush@bucket/x", "s3://ada:hu/sh@bucket/x"] {
            let error = open(uri, &[], &runtime).unwrap_err().to_string();
            assert!(error.contains("user or a password") && !error.contains("hu"), "{error}");
        }
        let error = open("s3://bucket/x", &[("aws_regoin", "hush")], &runtime).unwrap_err().to_string();
        assert!(error.starts_with("lake.options: aws_regoin is not") && !error.contains("hush"), "{error}");
    }

    /// Answers one request with an empty listing, and returns the head of the request.
    fn empty_bucket() -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let body = "<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            String::from_utf8(head).unwrap()
        });
        (endpoint, answer)
    }

    #[test]
    fn files_are_looked_for_at_the_endpoint_of_s3_and_with_the_credentials_of_the_lake() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let signed = [("access_key_id", "the-key"), ("secret_access_key", "hush")];
        let unsigned = [("skip_signature", "1"), ("aws_region", "eu-west-1")];
        for (options, is_signed) in [(signed, true), (unsigned, false)] {
            let (endpoint, answer) = empty_bucket();
            let endpoints = [("endpoint_url_s3", endpoint.as_str()), ("endpoint_url", "http://127.0.0.1:1")];
            let options = [&options[..], &endpoints[..]].concat();
            assert!(open("s3://the-bucket/x/", &options, &runtime).unwrap().all().unwrap().is_empty());
            let head = answer.join().unwrap();
            assert!(head.starts_with("GET /the-bucket") && !head.contains("hush"), "{head}");
            assert_eq!(head.contains("Credential=the-key/"), is_signed, "{head}");
        }
    }
}
