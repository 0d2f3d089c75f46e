//! Connections of the status page: bounded in number and in time.
//!
//! The daemon shares its file descriptors between the pages, the registries and the state. A client that opens
//! connections and sends nothing must not exhaust them, because without a free descriptor nothing can be journaled. So
//! a connection without traffic for [`Bounds::idle_timeout`] is closed, none lives longer than
//! [`Bounds::max_lifetime`], and no more than [`Bounds::max_connections`] are open at once; others wait in the
//! listener's backlog.

use crate::domain::chain;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// The pause after a failed `accept`, such as one without a free file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most connections at once. Debian's default limit of open files for a service is 1,024.
    max_connections: usize,
    /// The longest time without reads or writes, which also bounds the wait for a request.
    idle_timeout: Duration,
    /// The longest life of a connection, whatever its traffic.
    max_lifetime: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_connections: 128, idle_timeout: Duration::from_secs(20), max_lifetime: Duration::from_mins(10) }
    }
}

/// A listener with bounded connections.
#[derive(Debug)]
pub(super) struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    bounds: Bounds,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(bounds.max_connections)), bounds }
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (BoundedStream::new(stream, permit, self.bounds), peer),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the status page cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that closes by itself.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    idle_timer: Pin<Box<Sleep>>,
    lifetime_timer: Pin<Box<Sleep>>,
    bounds: Bounds,
    _permit: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    fn new(stream: TcpStream, permit: Option<OwnedSemaphorePermit>, bounds: Bounds) -> Self {
        let idle = Box::pin(tokio::time::sleep(bounds.idle_timeout));
        let life = Box::pin(tokio::time::sleep(bounds.max_lifetime));
        Self { stream, idle_timer: idle, lifetime_timer: life, bounds, _permit: permit }
    }

    /// Closes the connection at the end of its life, or after too long without traffic.
    fn enforce_timeouts<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.lifetime_timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if moved.is_ready() {
            self.idle_timer.as_mut().reset(Instant::now() + self.bounds.idle_timeout);
            return moved;
        }
        match self.idle_timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.enforce_timeouts(moved, context)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.enforce_timeouts(moved, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.enforce_timeouts(moved, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    async fn pages(bounds: Bounds, body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(move || async move { body.repeat(1 << 20) }));
        tokio::spawn(axum::serve(BoundedListener::new(listener, bounds), router).into_future());
        address
    }

    /// Silent connections and incomplete requests occupy their slots only for a bounded time.
    #[tokio::test]
    async fn silent_connections_do_not_keep_others_out() {
        let idle = Duration::from_millis(100);
        let address =
            pages(Bounds { max_connections: 4, idle_timeout: idle, max_lifetime: Duration::from_mins(1) }, "x").await;
        let mut silent = Vec::new();
        for number in 0..12 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET / HT").await.unwrap();
            }
            silent.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with('x'));
    }

    /// A client that sends a request and hardly reads the response is disconnected as well.
    #[tokio::test]
    async fn a_client_that_does_not_read_is_let_go() {
        let bounds = Bounds {
            max_connections: 1,
            idle_timeout: Duration::from_mins(1),
            max_lifetime: Duration::from_millis(200),
        };
        let address = pages(bounds, "0123456789abcdef0123456789abcdef").await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(REQUEST).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let mut first = [0];
        second.read_exact(&mut first).await.unwrap();
        assert_eq!(first, *b"H");
    }
}
