//! Bodies of requests that were answered before they were read to the end.
//!
//! Such a request is a refused one. HTTP/1 has nothing that separates the rest of its body from the
//! next request, so either the rest is read or the connection ends. Small rests are read. Otherwise
//! the answer says that the connection ends: a client that was not told would send its next request
//! into it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The most bytes of a body that are read though nobody wants them.
const REST_BYTES_MAX: usize = 4 << 20;
/// How long to wait for them.
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// A body that is given back when its reader lets go of it.
struct Lent<B: Body> {
    inner: Option<B>,
    back: Arc<Mutex<Option<B>>>,
}

impl<B: Body> Drop for Lent<B> {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.take();
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// What is left of the body of a request.
pub struct Rest<B> {
    back: Arc<Mutex<Option<B>>>,
    /// The client waits to be asked for the body, and a request that is refused does not ask.
    is_awaited: bool,
}

/// The request for those who answer it, and what will be left of its body.
pub fn lend(request: hyper::Request<Incoming>) -> (Request, Option<Rest<Incoming>>) {
    if request.body().is_end_stream() {
        return (request.map(axum::body::Body::new), None);
    }
    let back = Arc::new(Mutex::new(None));
    let rest = Rest { back: back.clone(), is_awaited: !request.headers().contains_key(header::EXPECT) };
    (request.map(|inner| axum::body::Body::new(Lent { inner: Some(inner), back })), Some(rest))
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what is left, if it is not too much. False if the connection has to end.
    pub async fn read_out(self) -> bool {
        let body = self.back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = body else { return false };
        if body.is_end_stream() {
            return true;
        }
        if !self.is_awaited {
            return false;
        }
        let read = async {
            let mut bytes = 0;
            while bytes <= REST_BYTES_MAX {
                match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
            false
        };
        tokio::time::timeout(REST_TIME_MAX, read).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of a length, then an end, or none.
    struct Frames {
        left: usize,
        length: usize,
        ends: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
            match self.left {
                0 if self.ends => Poll::Ready(None),
                0 => Poll::Pending,
                _ => {
                    self.left -= 1;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; self.length])))))
                }
            }
        }
    }

    async fn is_read(left: usize, length: usize, ends: bool, is_awaited: bool) -> bool {
        let back = Arc::new(Mutex::new(None));
        drop(Lent { inner: Some(Frames { left, length, ends }), back: back.clone() });
        Rest { back, is_awaited }.read_out().await
    }

    #[tokio::test]
    async fn rests_are_read_if_they_are_small_and_come_in_time() {
        assert!(is_read(0, 0, true, true).await);
        assert!(is_read(4, 1 << 20, true, true).await);
        assert!(!is_read(6, 1 << 20, true, true).await);
        assert!(!is_read(1, 10, false, true).await, "it never ends");
        assert!(!is_read(1, 10, true, false).await, "the client waits to be asked");
    }
}
