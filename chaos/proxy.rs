//! Owns a TCP proxy that fails on command, to stand between a program and its broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Hands them on.
    Pass,
    /// Takes what the client sends and throws it away; what the server sends still arrives.
    Swallow,
    /// Closes every connection and every new one at once.
    Cut,
}

/// A proxy. Dropping it closes it.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `target` (`host:port`) that passes everything.
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the proxy");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let shared = Arc::clone(&mode);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), shared.subscribe()));
            }
        });
        Self { addr, mode, listener }
    }

    /// From now on, also on connections that stand.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.listener.abort();
    }
}

async fn serve(client: TcpStream, target: String, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(&target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        () = copy(from_client, to_server, Some(mode)) => {}
        () = copy(from_server, to_client, None) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Copies until one side ends; while `mode` says so, what is read is thrown away.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mode: Option<watch::Receiver<Mode>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let swallow = mode.as_ref().is_some_and(|mode| *mode.borrow() == Mode::Swallow);
        if !swallow && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
