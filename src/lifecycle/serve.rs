//! Owns the serving of HTTP until the process is asked to end, and not much longer.

use axum::Router;
use std::future::IntoFuture;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listener::Bounded;

/// Serves until `stop`; then takes no new connection, and gives requests in flight `grace` to be
/// answered.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Duration) -> io::Result<()> {
    let serving = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = overdue => {
            tracing::warn!(grace_s = grace.as_secs(), "stopped with requests unanswered");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn started(router: Router, grace: Duration) -> (TcpStream, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { serve(listener, router, token, grace).await.expect("serves") });
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("writes");
        (stream, stop, task)
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
}
