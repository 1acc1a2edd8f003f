//! Owns a TCP proxy that fails on command, to stand between one program and one of its servers.
//!
//! # Decisions
//! What must be resumed (a half-open line, a slow one) holds bytes back without reading them, as a
//! network that loses packets does: TCP sends them again. What throws bytes away can't go on, so
//! its connections are reset when the fault is healed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::wire::Frontend;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Hands them on.
    Pass,
    /// Takes what the client sends and throws it away; what the server sends still arrives.
    Swallow,
    /// Closes every connection and every new one at once.
    Cut,
    /// Resets every connection and every new one at once.
    Reset,
    /// Accepts, and throws away what both sides send.
    BlackHole,
    /// Hands on nothing this way, and closes nothing; with `None` neither way.
    HalfOpen(Option<Way>),
    /// Every chunk comes so much later.
    Latency(Duration),
    /// So many bytes a second each way.
    Throttle(u32),
    /// Every so-manieth commit of a Postgres client reaches the server, and its answer never
    /// arrives: the connection is reset instead.
    CutAfterCommit(u32),
}

/// A proxy. Dropping it closes it.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    seen: Arc<Seen>,
    listener: tokio::task::JoinHandle<()>,
}

/// What a proxy has seen.
#[derive(Default)]
struct Seen {
    commits: AtomicU32,
    /// Those whose answer was cut off.
    cut: AtomicU32,
    /// Where its connections come from, as the server sees it.
    ports: Mutex<Vec<u16>>,
}

impl Proxy {
    /// A proxy before `target` (`host:port`) that passes everything.
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the proxy");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let seen = Arc::<Seen>::default();
        let (shared, counts) = (Arc::clone(&mode), Arc::clone(&seen));
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = Line { mode: shared.subscribe(), seen: Arc::clone(&counts) };
                tokio::spawn(line.serve(client, target.clone()));
            }
        });
        Self { addr, mode, seen, listener }
    }

    /// From now on, also on connections that stand.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The ports from which its connections have come to the server, ended ones included.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.seen.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many commits were cut off from their answer.
    pub(crate) fn cut_commits(&self) -> u32 {
        self.seen.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.listener.abort();
    }
}

/// How a connection ends.
enum End {
    /// As its ends have closed it.
    Closed,
    /// With a reset.
    Reset,
}

/// What one connection is served by.
#[derive(Clone)]
struct Line {
    mode: watch::Receiver<Mode>,
    seen: Arc<Seen>,
}

impl Line {
    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    async fn serve(mut self, client: TcpStream, target: String) {
        match self.mode() {
            Mode::Cut => return,
            Mode::Reset => return reset(&client),
            Mode::BlackHole => {
                // Accepted, and that was all; with the fault its connections end.
                let _ = self.mode.wait_for(|mode| *mode != Mode::BlackHole).await;
                return reset(&client);
            }
            _ => {}
        }
        let Ok(server) = TcpStream::connect(&target).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        if let Ok(own) = server.local_addr() {
            self.seen.ports.lock().unwrap_or_else(PoisonError::into_inner).push(own.port());
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (mut up, mut down, mut cut) = (self.clone(), self.clone(), self.mode.clone());
        let (mut back, mut forth) = (Half::new(from_server, to_client), Half::new(from_client, to_server));
        let end = tokio::select! {
            end = up.copy(&mut forth, Way::ToServer) => end,
            end = down.copy(&mut back, Way::ToClient) => end,
            _ = cut.wait_for(|mode| matches!(mode, Mode::Cut | Mode::Reset)) => match self.mode() {
                Mode::Reset => End::Reset,
                _ => End::Closed,
            },
        };
        if matches!(end, End::Reset) {
            reset(back.to.as_ref());
            reset(forth.to.as_ref());
        }
    }

    /// Copies one way until a side ends.
    async fn copy(&mut self, half: &mut Half, way: Way) -> End {
        let mut frontend = Frontend::default();
        let mut lost = false;
        loop {
            if lost && !matches!(self.mode(), Mode::Swallow | Mode::BlackHole) {
                // What was thrown away is missing: this connection can't go on.
                return End::Reset;
            }
            if holds_back(self.mode(), way) {
                if self.mode.changed().await.is_err() {
                    return End::Closed;
                }
                continue;
            }
            let n = tokio::select! {
                n = half.from.read(&mut half.buffer) => match n {
                    Ok(n @ 1..) => n,
                    _ => return End::Closed,
                },
                changed = self.mode.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return End::Closed,
                },
            };
            let commits = way == Way::ToServer && frontend.commits(&half.buffer[..n]);
            match self.pass(half, n, way, &mut lost).await {
                Ok(()) if commits && self.cuts_this_commit() => {
                    // Long enough for the server to commit, and the answer is not read.
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    return End::Reset;
                }
                Ok(()) => {}
                Err(()) => return End::Closed,
            }
        }
    }

    async fn pass(&mut self, half: &mut Half, n: usize, way: Way, lost: &mut bool) -> Result<(), ()> {
        match self.mode() {
            Mode::Swallow if way == Way::ToServer => *lost = true,
            Mode::BlackHole => *lost = true,
            Mode::Latency(delay) => {
                tokio::time::sleep(delay).await;
                half.write(n).await?;
            }
            Mode::Throttle(per_second) => {
                half.write(n).await?;
                tokio::time::sleep(Duration::from_secs_f64(n as f64 / f64::from(per_second.max(1)))).await;
            }
            mode if holds_back(mode, way) => {
                // Read just before the fault: handed on after it.
                let _ = self.mode.wait_for(|mode| !holds_back(*mode, way)).await;
                half.write(n).await?;
            }
            _ => half.write(n).await?,
        }
        Ok(())
    }

    fn cuts_this_commit(&self) -> bool {
        let Mode::CutAfterCommit(every) = self.mode() else { return false };
        let cuts = (self.seen.commits.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every.max(1));
        self.seen.cut.fetch_add(u32::from(cuts), Ordering::Relaxed);
        cuts
    }
}

fn holds_back(mode: Mode, way: Way) -> bool {
    match mode {
        Mode::HalfOpen(only) => only.is_none_or(|only| only == way),
        Mode::CutAfterCommit(_)
        | Mode::Pass
        | Mode::Swallow
        | Mode::Cut
        | Mode::Reset
        | Mode::BlackHole
        | Mode::Latency(_)
        | Mode::Throttle(_) => false,
    }
}

/// With no time to linger, a close sends RST.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One way of a connection.
struct Half {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    buffer: Vec<u8>,
}

impl Half {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf) -> Self {
        Self { from, to, buffer: vec![0; 64 * 1024] }
    }

    async fn write(&mut self, n: usize) -> Result<(), ()> {
        self.to.write_all(&self.buffer[..n]).await.map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that gives back what it gets.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn say(stream: &mut TcpStream, patience: Duration) -> Option<[u8; 2]> {
        let mut answer = [0; 2];
        stream.write_all(b"hi").await.ok()?;
        tokio::time::timeout(patience, stream.read_exact(&mut answer)).await.ok()?.ok()?;
        Some(answer)
    }

    const SHORT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_half_open_line_goes_on_where_it_stood() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr).await.expect("connect");
        assert_eq!(say(&mut stream, SHORT).await, Some(*b"hi"));
        for mode in [Mode::HalfOpen(None), Mode::HalfOpen(Some(Way::ToServer)), Mode::HalfOpen(Some(Way::ToClient))] {
            proxy.set(mode);
            assert_eq!(say(&mut stream, SHORT).await, None, "{mode:?}");
            proxy.set(Mode::Pass);
            let mut answer = [0; 2];
            tokio::time::timeout(SHORT * 5, stream.read_exact(&mut answer)).await.expect("in time").expect("whole");
            assert_eq!(&answer, b"hi", "{mode:?}");
        }
    }

    #[tokio::test]
    async fn a_black_hole_answers_nothing_and_is_reset_when_healed() {
        let proxy = Proxy::start(echo().await).await;
        let mut old = TcpStream::connect(proxy.addr).await.expect("connect");
        assert_eq!(say(&mut old, SHORT).await, Some(*b"hi"));
        proxy.set(Mode::BlackHole);
        let mut new = TcpStream::connect(proxy.addr).await.expect("a black hole accepts");
        assert_eq!((say(&mut old, SHORT).await, say(&mut new, SHORT).await), (None, None));
        proxy.set(Mode::Pass);
        for stream in [&mut old, &mut new] {
            let ended = tokio::time::timeout(SHORT * 5, stream.read(&mut [0; 2])).await.expect("in time");
            assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn a_reset_is_seen_at_once_and_latency_is_waited_for() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr).await.expect("connect");
        proxy.set(Mode::Latency(SHORT));
        let began = Instant::now();
        assert_eq!(say(&mut stream, SHORT * 10).await, Some(*b"hi"));
        assert!(began.elapsed() >= SHORT * 2, "{:?}", began.elapsed());
        proxy.set(Mode::Reset);
        let ended = tokio::time::timeout(SHORT * 5, stream.read(&mut [0; 2])).await.expect("in time");
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
}
