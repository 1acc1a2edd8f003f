//! The wire: slow, oversized, smuggled and broken requests over real sockets, at the whole program.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{EVERY_ROLE, Target, bearer, heard, raw, status};
use crate::harness::fleet::http;

/// Longer than any deadline of a request that trickles, and a good deal.
const PATIENCE: Duration = Duration::from_secs(25);

/// How many answers stand in a text.
fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_a_request_is_never_a_second_one() {
    let mut target = Target::closed(&[]).await;
    let head =
        format!("POST /v1/risk HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n", bearer("acme", EVERY_ROLE));
    let inner = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = format!("0\r\n\r\n{inner}");
    let length = chunked.len();
    // Two readers that disagree about where this request ends would see another one behind it.
    let refused = [
        format!("Content-Length: 5\r\nContent-Length: {length}\r\n\r\n{chunked}"),
        format!("Content-Length: 0, {length}\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("Content-Length: -1\r\n\r\n{inner}"),
        format!("Content-Length: 0x0\r\n\r\n{inner}"),
        format!("Content-Length: 99999999999999999999999\r\n\r\n{inner}"),
        format!("Content-Length : 0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: identity\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n{chunked}"),
        format!("Transfer-Encoding:\u{b}chunked\r\n\r\n{chunked}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("X: a\rTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("X\0: y\r\n\r\n{inner}"),
        format!("X: \0\r\n\r\n{inner}"),
    ];
    for tail in refused {
        let answer = raw(target.addr(), format!("{head}{tail}").as_bytes()).await;
        assert_eq!((status(&answer), answers(&answer)), (Some(400), 1), "{tail:?}\n{answer}");
    }
    // The chunks count, the length does not, and the connection ends (RFC 9112, section 6.1).
    for both in [
        format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{chunked}"),
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nx".into(),
        "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n".into(),
        format!("Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}xx\r\n{chunked}"),
    ] {
        let answer = raw(target.addr(), format!("{head}{both}").as_bytes()).await;
        assert!(answers(&answer) <= 1 && !answer.contains("# TYPE"), "{both:?}\n{answer}");
        assert!(matches!(status(&answer), None | Some(400 | 415)), "{both:?}\n{answer}");
    }
    let old = format!("POST /v1/risk HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}");
    let answer = raw(target.addr(), old.as_bytes()).await;
    assert!(answers(&answer) <= 1 && !answer.contains("# TYPE"), "{answer}");
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_refused_and_closed() {
    let mut target = Target::closed(&[]).await;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let endless = format!("GET /health HTTP/1.1\r\nx: {}", "y".repeat(200_000));
    let cases: [(&[u8], &[u16]); 9] = [
        (hello, &[400]),
        (b"GET / HTTP/9.9\r\n\r\n", &[400]),
        (b"\0\0\0\0\0\0\0\0\r\n\r\n", &[400]),
        (b"GET\r\n\r\n", &[400]),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", &[400, 404, 405]),
        (b"TRACE /v1/risk HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\nConnection: close\r\n\r\n", &[405]),
        (many.as_bytes(), &[431]),
        (long.as_bytes(), &[431]),
        (endless.as_bytes(), &[431]),
    ];
    let preface = raw(target.addr(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(preface, "", "HTTP/2 is not spoken: closed without a word");
    for (bytes, wanted) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let answer = raw(target.addr(), bytes).await;
        assert!(status(&answer).is_some_and(|s| wanted.contains(&s)), "{shown:?}: {answer}");
        assert!(!answer.contains("secret"), "nothing is echoed: {answer}");
    }
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_its_bound_is_413_announced_or_not() {
    let mut target = Target::closed(&[]).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Idempotency-Key: k\r\n\
         Content-Type: application/json\r\nAuthorization: {}\r\n",
        bearer("acme", EVERY_ROLE)
    );
    let nine = "x".repeat(9 << 20);
    let announced = format!("{head}Content-Length: {}\r\n\r\n{nine}", nine.len());
    let answer = raw(target.addr(), announced.as_bytes()).await;
    assert_eq!(status(&answer), Some(413), "{answer}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{nine}\r\n0\r\n\r\n", nine.len());
    let answer = raw(target.addr(), chunked.as_bytes()).await;
    assert_eq!(status(&answer), Some(413), "{answer}");

    // One that never ends is cut, in memory's time: the program must not keep what it is sent.
    let mut endless = TcpStream::connect(target.addr()).await.expect("connects");
    endless.write_all(format!("{head}Content-Length: 1000000000000\r\n\r\n").as_bytes()).await.expect("writes");
    let (part, mut written) = (vec![b'x'; 1 << 20], 0);
    while written < 64 && endless.write_all(&part).await.is_ok() {
        written += 1;
    }
    assert!(written < 64, "64 MB were taken");
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers_and_bodies_are_cut_and_others_are_served_meanwhile() {
    let mut target = Target::closed(&[]).await;
    let token = bearer("acme", EVERY_ROLE);
    let head = format!(
        "POST /v1/risk HTTP/1.1\r\nHost: localhost\r\nX-Idempotency-Key: slow\r\nContent-Type: application/json\r\n\
         Authorization: {token}\r\nContent-Length: 1000\r\n\r\n"
    );
    let starts = ["GET /health HTTP/1.1\r\nHost: localhost\r\n".to_owned(), head.clone(), String::new()];
    let trickles = [b"x: y\r\n".as_slice(), b" ", b""];
    let addr = target.addr();
    let attackers: Vec<_> = (0..150)
        .map(|n| {
            let (start, trickle) = (starts[n % 3].clone(), trickles[n % 3]);
            tokio::spawn(async move {
                let began = Instant::now();
                let mut stream = TcpStream::connect(addr).await.expect("connects");
                stream.write_all(start.as_bytes()).await.expect("writes");
                loop {
                    // A write to a connection that was closed fails at the second try.
                    let sent = stream.write_all(trickle).await;
                    let answer = heard(&mut stream, Duration::from_millis(500)).await;
                    if sent.is_err() || !answer.is_empty() || stream.write_all(trickle).await.is_err() {
                        return (n % 3, began.elapsed(), answer);
                    }
                    if trickle.is_empty() && closed(&stream) {
                        return (n % 3, began.elapsed(), answer);
                    }
                    assert!(began.elapsed() < PATIENCE, "attacker {n} still holds its connection");
                }
            })
        })
        .collect();
    for n in 0..20 {
        let began = Instant::now();
        let request = http().post(target.url("/v1/risk")).header("authorization", &token);
        let request =
            request.header("x-idempotency-key", format!("quick-{n}")).json(&serde_json::json!({"version": "1"}));
        assert!(request.send().await.expect("an answer").status().is_success());
        assert!(began.elapsed() < Duration::from_secs(3), "others do not wait for the slow");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for attacker in attackers {
        let (kind, took, answer) = attacker.await.expect("ends");
        assert!(took > Duration::from_secs(5), "{kind}: who is only slow is not cut at once: {took:?}");
        if kind == 1 {
            assert_eq!(status(&answer), Some(408), "{answer}");
        }
    }
    target.assert_whole().await;
}

/// Whether the other side has closed: there is an end to be read, and nothing before it.
fn closed(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Ok(0) | Err(_)) && !would_wait(stream)
}

fn would_wait(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}
