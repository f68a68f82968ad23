//! A store that counts its failures. Every request of a lake goes through it, so that a failed
//! request is known by its type, at the place where it failed.
//!
//! The libraries above turn such an error into a text, or draw a wrong conclusion from it ("there
//! is no such version"). Therefore the error of an operation in which a request failed is not
//! trusted: see [`super::Lake::watch`]. Requests and answers pass through here unchanged.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::error::Cause;

/// Counts the requests that have failed in ways that may pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Arc<AtomicU64>);

impl Failures {
    /// The count as of now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn note<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && matches!(Cause::of(error), Cause::Outage)
        {
            self.fail();
        }
        result
    }

    pub(crate) fn fail(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A store whose failures are counted.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    failures: Failures,
}

impl Watched {
    pub fn new(inner: Arc<dyn ObjectStore>, failures: Failures) -> Watched {
        Watched { inner, failures }
    }

    fn stream<T: Send + 'static>(&self, stream: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let failures = self.failures.clone();
        stream.map(move |item| failures.note(item)).boxed()
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.failures.note(self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.failures.note(self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(WatchedUpload { inner, failures: self.failures.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.failures.note(self.inner.get_opts(location, options).await)?;
        got.payload = match got.payload {
            GetResultPayload::Stream(stream) => GetResultPayload::Stream(self.stream(stream)),
            file => file,
        };
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.failures.note(self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.stream(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.failures.note(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.failures.note(self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.failures.note(self.inner.rename_opts(from, to, options).await)
    }
}

/// A multipart upload whose failures are counted.
#[derive(Debug)]
struct WatchedUpload {
    inner: Box<dyn MultipartUpload>,
    failures: Failures,
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, failures) = (self.inner.put_part(data), self.failures.clone());
        Box::pin(async move { failures.note(part.await) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.failures.note(self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.failures.note(self.inner.abort().await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    /// A store whose listings break off after the first object, like an answer that is cut.
    #[derive(Debug, Default)]
    struct BreaksOff {
        inner: InMemory,
        broken: AtomicBool,
    }

    impl fmt::Display for BreaksOff {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("breaks off")
        }
    }

    #[async_trait]
    impl ObjectStore for BreaksOff {
        async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
            self.inner.put_opts(location, payload, opts).await
        }

        async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(at, opts).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.inner.get_opts(location, options).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            if !self.broken.load(Ordering::Relaxed) {
                return self.inner.list(prefix);
            }
            let cut = object_store::Error::Generic { store: "S3", source: "end of file".into() };
            self.inner.list(prefix).take(1).chain(futures::stream::iter([Err(cut)])).boxed()
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    #[tokio::test]
    async fn a_listing_that_breaks_off_is_a_failure_and_a_missing_object_is_none() {
        let failures = Failures::default();
        let inner = Arc::new(BreaksOff::default());
        let store = Watched::new(inner.clone(), failures.clone());
        for name in ["a", "b"] {
            store.put(&Path::from(name), PutPayload::from_static(b"x")).await.unwrap();
        }
        assert!(matches!(store.get(&Path::from("c")).await, Err(object_store::Error::NotFound { .. })));
        assert_eq!((store.list(None).count().await, failures.count()), (2, 0));
        inner.broken.store(true, Ordering::Relaxed);
        let listed: Vec<_> = store.list(None).collect().await;
        assert!(listed.len() == 2 && listed[1].is_err());
        assert_eq!(failures.count(), 1);
    }
}
