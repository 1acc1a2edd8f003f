//! TLS on a listener: its certificate is shown and exchanged, nothing is answered in the clear, and who
//! stops in mid-handshake holds nobody up.

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use riskfleet::lifecycle::{Bounded, Peer, Tls, serve};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    tls: Tls,
    folder: PathBuf,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Writes a new certificate for `localhost`, and gives it as PEM.
fn certificate(folder: &std::path::Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    made.cert.pem()
}

async fn served() -> (Served, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = std::env::temp_dir().join(format!("riskfleet-tls-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let pem = certificate(&folder);
    let tls = Tls::read(&folder.join("cert.pem"), &folder.join("key.pem")).expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (listener.local_addr().expect("bound"), CancellationToken::new());
    let shows_peer = |ConnectInfo(Peer(peer)): ConnectInfo<Peer>| async move { peer.ip().to_string() };
    let router = Router::new().route("/", get(shows_peer));
    let listener = Bounded::new(listener).with_tls(tls.clone());
    tokio::spawn(serve(listener, router, stop.clone(), Duration::from_secs(5)));
    (Served { address, tls, folder, stop }, pem)
}

impl Served {
    /// Asks over TLS, trusting this certificate alone, on a connection of its own.
    async fn ask(&self, trusted: &str) -> Result<String, reqwest::Error> {
        let certificate = reqwest::Certificate::from_pem(trusted.as_bytes())?;
        let client = reqwest::Client::builder()
            .tls_certs_only([certificate])
            .resolve("localhost", self.address)
            .timeout(Duration::from_secs(5))
            .build()?;
        client.get(format!("https://localhost:{}/", self.address.port())).send().await?.text().await
    }
}

#[tokio::test]
async fn the_certificate_is_shown_and_the_callers_address_is_still_seen() {
    let (served, pem) = served().await;
    assert_eq!(served.ask(&pem).await.expect("answered"), "127.0.0.1");
}

#[tokio::test]
async fn nothing_is_answered_in_the_clear() {
    let (served, _) = served().await;
    let mut plain = TcpStream::connect(served.address).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("writes");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut answer)).await;
    // An alert, or the end of the connection: no HTTP.
    assert!(read.is_ok(), "the connection is ended");
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn who_stops_in_mid_handshake_holds_nobody_up() {
    let (served, pem) = served().await;
    let mut stuck = Vec::new();
    for _ in 0..32 {
        let mut one = TcpStream::connect(served.address).await.expect("connects");
        // The first bytes of a handshake record, and then nothing.
        one.write_all(&[22, 3, 1, 0, 200, 1]).await.expect("writes");
        stuck.push(one);
    }
    assert_eq!(served.ask(&pem).await.expect("answered meanwhile"), "127.0.0.1");
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_broken_one_is_not() {
    let (served, old) = served().await;
    let new = certificate(&served.folder);
    served.tls.renew().expect("a good one");
    assert_eq!(served.ask(&new).await.expect("answered"), "127.0.0.1");
    assert!(served.ask(&old).await.is_err(), "the one before is no longer shown");
    std::fs::write(served.folder.join("cert.pem"), "no certificate").expect("written");
    let refused = served.tls.renew().expect_err("a broken one");
    assert!(refused.starts_with("read tls_cert_file"), "{refused}");
    assert_eq!(served.ask(&new).await.expect("the good one stays"), "127.0.0.1");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    std::fs::write(served.folder.join("cert.pem"), other.cert.pem()).expect("written");
    let refused = served.tls.renew().expect_err("another one's key");
    assert!(refused.contains("with tls_key_file"), "{refused}");
}
