//! Owns the serving of HTTP until the process is asked to end, and not much longer: the bounds of a
//! request's head, how long one may take, and how many one connection carries. Never looks at what
//! is asked.
//!
//! # Decisions
//! hyper's HTTP/1 connection and not `axum::serve`, which has none of these bounds. What it refuses
//! by itself (a head that is no HTTP, too many or too long headers) has a status and no body: there
//! is no request yet that could be answered with a problem.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::listener::{Bounded, Peer};

/// Headers of one request; more are 431.
const HEADERS_MAX: usize = 100;

/// Bytes of one request's line and headers; more are 431.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Bytes that a connection holds of what was not read yet; a head that never ends is 431 there.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// From the end of a request, or the start of the connection, to the end of the next one's headers.
/// Whoever sends a byte now and then holds a connection no longer than whoever sends none
/// (slowloris).
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Requests on one connection. The last one's answer closes it, so that callers spread anew over
/// the processes of a fleet that has grown.
const REQUESTS_MAX: u32 = 10_000;

/// The bounds of one connection.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    head_deadline: Duration,
    requests_max: u32,
}

const BOUNDS: Bounds = Bounds { head_deadline: HEAD_DEADLINE, requests_max: REQUESTS_MAX };

/// Serves until `stop`; then takes no new connection, and gives requests in flight `grace` to be
/// answered.
///
/// # Errors
/// When the listener is none.
pub async fn serve(
    listener: impl Into<Bounded>,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    serve_within(BOUNDS, listener.into(), router, stop, grace).await
}

async fn serve_within(
    bounds: Bounds,
    mut listener: Bounded,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    // Makes the routes once, and not for each request again.
    let router: Router = router.with_state(());
    // Bounded by the listener: a connection gives its place back when it is dropped.
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = stop.run_until_cancelled(listener.accept()).await {
        connections.spawn(converse(bounds, stream, Peer(peer), router.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(http.addr = %address, grace_s = grace.as_secs(), "stopped with requests unanswered");
    }
    Ok(())
}

/// Answers what comes by one connection, until either side closes it or `stop` does, which lets the
/// request in flight end.
async fn converse<C>(bounds: Bounds, connection: C, peer: Peer, router: Router, stop: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let taken = Arc::new(AtomicU32::new(0));
    let answered = service_fn(move |request| {
        let last = taken.fetch_add(1, Ordering::Relaxed) + 1 >= bounds.requests_max;
        answer(router.clone(), request, peer, last)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head_deadline)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let mut served = pin!(http.serve_connection(TokioIo::new(connection), answered));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has ended early");
    }
}

async fn answer(router: Router, request: Request<Incoming>, peer: Peer, last: bool) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.oneshot(request).await?;
    if last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const QUICK: Bounds = Bounds { head_deadline: Duration::from_millis(200), requests_max: 3 };

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    async fn serving(
        bounds: Bounds,
        router: Router,
        grace: Duration,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move {
            serve_within(bounds, listener.into(), router, token, grace).await.expect("serves");
        });
        (address, stop, task)
    }

    async fn started(router: Router, grace: Duration) -> (TcpStream, CancellationToken, tokio::task::JoinHandle<()>) {
        let (address, stop, task) = serving(BOUNDS, router, grace).await;
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(ASK).await.expect("writes");
        (stream, stop, task)
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    /// What comes back until the other side closes, within two seconds.
    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        // A connection that was cut with something unread ends in a reset.
        let _ = read.expect("closed in time");
        String::from_utf8(answer).expect("UTF-8")
    }

    #[tokio::test]
    async fn a_request_in_flight_is_answered_after_the_stop() {
        let slow = get(|| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            "done"
        });
        let (mut stream, stop, task) = started(Router::new().route("/", slow), Duration::from_secs(5)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads to the end");
        assert!(answer.ends_with("done"), "{answer}");
        task.await.expect("ends");
    }

    #[tokio::test]
    async fn a_request_that_hangs_does_not_hold_the_end_up() {
        let hangs = get(|| async {
            std::future::pending::<()>().await;
        });
        let (_stream, stop, task) = started(Router::new().route("/", hangs), Duration::from_millis(100)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(2), task).await.expect("in time").expect("ends");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_the_end_up() {
        let (address, stop, task) = serving(BOUNDS, hello(), Duration::from_secs(30)).await;
        let idle = TcpStream::connect(address).await.expect("connects");
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(2), task).await.expect("in time").expect("ends");
        assert_eq!(rest(idle).await, "");
    }

    #[tokio::test]
    async fn headers_that_trickle_end_the_connection_and_others_are_answered_meanwhile() {
        let (address, _stop, _task) = serving(QUICK, hello(), Duration::ZERO).await;
        let mut slow = TcpStream::connect(address).await.expect("connects");
        slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.expect("writes");
        let mut quick = TcpStream::connect(address).await.expect("connects");
        quick.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("writes");
        assert!(rest(quick).await.ends_with("hello"));
        let mut cut = false;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            // Each of these would begin a silence anew.
            cut = cut || slow.write_all(b"x: y\r\n").await.is_err();
        }
        assert!(cut || rest(slow).await.is_empty(), "the headers came too slowly");
    }

    #[tokio::test]
    async fn a_connection_that_is_kept_and_not_used_ends() {
        let (address, _stop, _task) = serving(QUICK, hello(), Duration::ZERO).await;
        let mut kept = TcpStream::connect(address).await.expect("connects");
        kept.write_all(ASK).await.expect("writes");
        let answer = rest(kept).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_carries_so_many_requests() {
        let (address, _stop, _task) = serving(QUICK, hello(), Duration::ZERO).await;
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&ASK.repeat(5)).await.expect("writes");
        let answers = rest(stream).await;
        assert_eq!(answers.matches("hello").count(), 3, "{answers}");
        assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    }

    #[tokio::test]
    async fn too_many_and_too_long_headers_are_431() {
        let (address, _stop, _task) = serving(BOUNDS, hello(), Duration::ZERO).await;
        let many: String = (0..=HEADERS_MAX).map(|n| format!("x-{n}: y\r\n")).collect();
        let long = format!("x: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
        let endless = format!("x: {}", "y".repeat(2 * BUFFER_BYTES_MAX));
        for head in [format!("{many}\r\n"), format!("{long}\r\n"), endless] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(format!("GET / HTTP/1.1\r\n{head}").as_bytes()).await.expect("writes");
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }
}
