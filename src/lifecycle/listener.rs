//! Owns the bounds of connections: how many are open, how long one may say nothing, and how long its
//! TLS handshake may take. Never looks at what is said.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;

/// Connections open at once. Further ones wait in the operating system's backlog.
const CONNECTIONS_MAX: usize = 8192;

/// How long a connection may be silent, in and out: longer than the longest wait for a decision.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A TCP listener with bounds, with TLS where it has a certificate.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    tls: Option<Tls>,
    free: Arc<Semaphore>,
    silence_max: Duration,
}

impl Bounded {
    /// Bounds a listener.
    pub fn new(listener: TcpListener) -> Self {
        Self::with(listener, CONNECTIONS_MAX, SILENCE_MAX)
    }

    /// Shows this certificate to whoever connects, and takes nothing in the clear.
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    fn with(listener: TcpListener, connections_max: usize, silence_max: Duration) -> Self {
        Self { listener, tls: None, free: Arc::new(Semaphore::new(connections_max)), silence_max }
    }
}

impl From<TcpListener> for Bounded {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener)
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        // Retries what fails, with a pause when the process is out of file handles.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(e) = stream.set_nodelay(true) {
            tracing::debug!(error = %e, "failed to set TCP_NODELAY");
        }
        // The handshake is made where the connection is served: nobody else waits for it.
        let (stream, first) = match &self.tls {
            None => (Stream::Plain(stream), self.silence_max),
            Some(tls) => (Stream::Handshake(Box::new(tls.acceptor().accept(stream))), HANDSHAKE_MAX),
        };
        let silence = Box::pin(sleep(first.min(self.silence_max)));
        (Connection { stream, silence, silence_max: self.silence_max, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The other end of a connection, as a request's `ConnectInfo` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection that ends when it is silent for too long.
pub struct Connection {
    stream: Stream,
    silence: Pin<Box<Sleep>>,
    silence_max: Duration,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    /// Not a byte of it counts as heard before it is done.
    Handshake(Box<Accept<TcpStream>>),
    Secured(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Passes on what happened; a wait runs against the silence, anything else ends the silence.
    fn heard<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.silence.as_mut().reset(Instant::now() + self.silence_max);
            return polled;
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Finishes the handshake, where there is one.
    fn secured(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream::Handshake(accept) = &mut self.stream else { return Poll::Ready(Ok(())) };
        let polled = Pin::new(&mut **accept).poll(cx);
        let polled = polled.map_ok(|stream| self.stream = Stream::Secured(Box::new(stream)));
        self.heard(cx, polled)
    }
}

impl Stream {
    /// The stream that carries what is said; none before the handshake is done.
    fn open(&mut self) -> Option<Pin<&mut dyn Carrier>> {
        match self {
            Self::Plain(stream) => Some(Pin::new(stream)),
            Self::Secured(stream) => Some(Pin::new(&mut **stream)),
            Self::Handshake(_) => None,
        }
    }
}

trait Carrier: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

fn unfinished() -> io::Error {
    io::Error::other("the TLS handshake is not done")
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.secured(cx))?;
        let polled = self.stream.open().ok_or_else(unfinished)?.poll_read(cx, buf);
        self.heard(cx, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.secured(cx))?;
        let polled = self.stream.open().ok_or_else(unfinished)?.poll_write(cx, buf);
        self.heard(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.secured(cx))?;
        let polled = self.stream.open().ok_or_else(unfinished)?.poll_write_vectored(cx, bufs);
        self.heard(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Secured(stream) => stream.is_write_vectored(),
            Stream::Handshake(_) => true,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.open() {
            // What TLS holds back must leave; TCP has nothing to flush: this says nothing about the
            // other side, and so ends no silence.
            Some(stream) => stream.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.open() {
            Some(stream) => stream.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn bounded(connections_max: usize, silence_max: Duration) -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (Bounded::with(listener, connections_max, silence_max), address)
    }

    #[tokio::test]
    async fn a_silent_connection_ends() {
        let (mut listener, address) = bounded(8, Duration::from_millis(50)).await;
        let _client = TcpStream::connect(address).await.expect("connects");
        let (mut connection, _) = listener.accept().await;
        let read = connection.read(&mut [0; 8]).await.expect_err("times out");
        assert_eq!(read.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_over_the_bound_waits_for_another_to_close() {
        let (mut listener, address) = bounded(1, Duration::from_secs(5)).await;
        let _clients = (TcpStream::connect(address).await, TcpStream::connect(address).await);
        let (first, _) = listener.accept().await;
        let second = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(second.is_err(), "the second has to wait");
        drop(first);
        tokio::time::timeout(Duration::from_secs(2), listener.accept()).await.expect("the second is let in");
    }
}
