//! Tests: the programs under attack. Whatever is forged, injected, twisted, trickled or changed
//! behind their back, they refuse it, they find it, and they go on.

mod audit;
mod injection;
mod packs;
mod pages;
mod paths;
mod rates;
mod tokens;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::fleet::http;
use crate::harness::process::{Process, Program};

/// The secret of the callers' tokens.
const SECRET: &str = "the secret of the programs under attack";

/// A whole fleet in one process, with its own port and folder.
struct Target {
    // Dropped, and so killed, before its folder goes.
    process: Process,
    dir: PathBuf,
}

impl Target {
    /// Whoever calls must show a token under [`SECRET`].
    async fn closed(own: &[(&str, &str)]) -> Self {
        let none = [("RISKFLEET_CALLER_REQUESTS_PER_S", "0"), ("RISKFLEET_REFUSED_REQUESTS_PER_S", "0")];
        let settings = [("RISKFLEET_AUTH", "on"), ("RISKFLEET_JWT_SECRET", SECRET), none[0], none[1]];
        Self::with(&[&settings[..], own].concat()).await
    }

    /// Whoever calls from this machine may do everything.
    async fn open() -> Self {
        Self::with(&[("RISKFLEET_AUTH", "off")]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let settings: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let dir = std::env::temp_dir().join(format!("riskfleet-attack-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&dir).expect("make a temporary folder");
        let process = Process::up(&dir.join("data"), &settings, &dir);
        let mut target = Self { process, dir };
        target.process.ready().await;
        target
    }

    fn addr(&self) -> SocketAddr {
        self.process.addr
    }

    fn url(&self, path: &str) -> String {
        self.process.url(path)
    }

    /// Its OpenAPI document.
    async fn document(&self) -> Value {
        let answer = http().get(self.url("/openapi.json")).send().await.expect("ask for the document");
        answer.json().await.expect("the document is JSON")
    }

    /// Sends one event as an administrator of `tenant` and gives its id.
    async fn send(&self, tenant: &str, key: &str) -> String {
        let request = http().post(self.url("/v1/risk")).header("authorization", bearer(tenant, EVERY_ROLE));
        let answer = request.header("x-idempotency-key", key).json(&json!({"version": "1"})).send().await;
        let body: Value = answer.expect("an answer").json().await.expect("JSON");
        body["event_id"].as_str().unwrap_or_else(|| panic!("no event: {body}")).to_owned()
    }

    /// What it has written so far.
    fn log(&self) -> String {
        let text = std::fs::read(self.dir.join("up.log")).expect("read the log");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Still there, and its audit whole.
    async fn assert_whole(&mut self) {
        assert!(self.process.runs(), "it went on");
        let ready = http().get(self.url("/health/ready")).send().await.expect("an answer");
        assert!(ready.status().is_success(), "{}", ready.status());
        let data = self.dir.join("data");
        let args = ["audit", "verify", "--json", "--data", data.to_str().expect("a readable path")];
        let verified = Program::Operator.command(&BTreeMap::new()).args(args).output().expect("run a program");
        let report: Value = serde_json::from_slice(&verified.stdout).expect("a report");
        assert_eq!((&report["ok"], &report["bad"]), (&json!(true), &json!([])), "{report}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.process.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

const EVERY_ROLE: &[&str] = &["ADMIN", "ANALYST", "APPROVER", "VIEWER", "OPERATOR"];

fn now() -> i64 {
    SystemClock::new().now().timestamp()
}

fn claims(tenant: &str, roles: &[&str]) -> Value {
    json!({"sub": "ann", "tenant_id": tenant, "roles": roles, "exp": now() + 3600})
}

fn signed(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).expect("a token")
}

/// The header of somebody who may do that much.
fn bearer(tenant: &str, roles: &[&str]) -> String {
    format!("Bearer {}", signed(&claims(tenant, roles), Algorithm::HS256, SECRET.as_bytes()))
}

/// Writes bytes to a new connection and gives what comes back until it is closed, or until nothing
/// more comes for a while.
async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    // Whoever refuses early may close before everything is written.
    let _ = stream.write_all(bytes).await;
    heard(&mut stream, Duration::from_millis(700)).await
}

/// What comes until the other side closes, or until `patience` passes without anything.
async fn heard(stream: &mut TcpStream, patience: Duration) -> String {
    let (mut answer, mut part) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(Ok(1..)) = tokio::time::timeout(patience, stream.read(&mut part))
        .await
        .map(|read| read.inspect(|n| answer.extend_from_slice(&part[..*n])))
    {}
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of the first answer in a text; none when there is none.
fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
