//! Connections: they are accepted up to a limit, and end when their client does nothing.
//!
//! A client that connects and sends nothing, or that does not read its answer, holds one place of
//! `serve.connections_max` for a bounded time, and a bounded amount of memory.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::tls::Tls;
use super::unread;
use crate::settings::ServeSettings;

/// How long to wait after the system could not give a connection, because it has no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most bytes of the head of a request, and of what one connection has read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What a connection may take.
#[derive(Debug, Clone)]
pub struct Limits {
    connections_max: usize,
    idle_timeout: Duration,
    stall_timeout: Duration,
    /// How long connections may go on when the server stops.
    drain: Duration,
}

impl Limits {
    /// Those of the settings.
    pub fn new(settings: &ServeSettings) -> Limits {
        Limits {
            connections_max: settings.connections_max,
            idle_timeout: settings.idle_timeout,
            stall_timeout: settings.stall_timeout,
            drain: settings.timeout,
        }
    }
}

/// Serves connections until it is cancelled, and those that are left then to the end of their
/// requests.
pub async fn listen(
    listener: TcpListener,
    routes: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        // What has ended is let go of.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = async {
                // The semaphore is never closed.
                let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, peer)| (stream, peer, place))
            } => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let (routes, tls, limits, cancel) = (routes.clone(), tls.clone(), limits.clone(), cancel.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, peer, routes, tls, &limits, cancel).await {
                        tracing::debug!(%peer, error, "a connection has ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::warn!("connections were closed before their requests were answered");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    cancel: CancellationToken,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    match tls {
        Some(tls) => {
            let stream = tls.accept(stream).await?;
            requests(stream, peer, routes, limits, cancel).await
        }
        None => requests(stream, peer, routes, limits, cancel).await,
    }
}

/// Answers the requests of one connection.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    routes: Router,
    limits: &Limits,
    cancel: CancellationToken,
) -> Result<(), String> {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (mut request, rest) = unread::lend(request);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = routes.clone().oneshot(request);
        async move {
            let mut response = answer.await?;
            if let Some(rest) = rest
                && !rest.read_out().await
            {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Watched { inner: stream, limit: limits.stall_timeout, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    done.map_err(|error| error.to_string())
}

/// A stream that fails if the other end does not take what is written for too long.
struct Watched<S> {
    inner: S,
    limit: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Passes on what a write has done, and fails one that has waited too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.watch(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch(context, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_write_fails_when_nobody_reads_and_not_before() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = Watched { inner: near, limit: Duration::from_millis(300), stalled: None };
        // The other end reads a little now and then: that is slow, but it is not stalled.
        let reader = tokio::spawn(async move {
            let mut taken = [0; 4];
            for _ in 0..6 {
                sleep(Duration::from_millis(100)).await;
                far.read_exact(&mut taken).await.unwrap();
            }
            far
        });
        stream.write_all(&[1; 40]).await.unwrap();
        let _far = reader.await.unwrap();
        let error = stream.write_all(&[1; 40]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
