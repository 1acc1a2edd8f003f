//! Injection: every string that any endpoint of the OpenAPI document takes, with every text that
//! somewhere means more than itself. Nothing of it is run, nothing of it breaks anything, and what
//! is accepted comes back as it was sent.

mod slots;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, StreamExt};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::{EVERY_ROLE, Target, bearer, raw, status};
use crate::harness::fleet::http;
use slots::{Place, Slot, slots};

/// What a line of the log would begin with if a caller could begin one.
const FORGED_LINE: &str = "2026-01-01T00:00:00.000000Z  INFO forged";

fn payloads() -> Vec<String> {
    let long = "A".repeat(5_000);
    let texts = [
        "'; DROP TABLE events; --",
        "' OR '1'='1' --",
        "1); DELETE FROM audit; SELECT (1",
        "$1; SELECT pg_sleep(10)--",
        "\\'; ATTACH DATABASE '/tmp/x' AS x; --",
        "a\r\nX-Injected: yes\r\n\r\n<html>",
        "a\n2026-01-01T00:00:00.000000Z  INFO forged: a line",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "../../../../etc/passwd",
        "..\\..\\windows\\win.ini",
        "a\0b",
        "%s%s%s%n%x",
        "${jndi:ldap://127.0.0.1:1/a}{{7*7}}#{7*7}",
        "<script>alert(1)</script>\"'><img src=x>",
        "$(touch /tmp/owned)`id`|id;id",
        "__proto__",
        "\u{202e}\u{2028}\u{feff}\u{fffe}é日本🦀",
        "=cmd|' /C calc'!A0",
        " ",
        "",
        long.as_str(),
    ];
    texts.map(str::to_owned).to_vec()
}

/// Where an event's own text is shown again under a name of its own.
fn is_shown(field: &str) -> bool {
    !matches!(field, "tenant_id" | "idempotency_key" | "correlation_id" | "source" | "id" | "specversion" | "kind")
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(map) => map.iter().any(|(name, value)| name == text || holds(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

struct Attack<'a> {
    target: &'a Target,
    token: String,
    canary: String,
    sent: AtomicUsize,
    stored: AtomicUsize,
}

impl Attack<'_> {
    /// Sends one text in one place; `None` where HTTP itself can't carry it there.
    async fn strike(&self, slot: &Slot, payload: &str) -> Option<()> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let (url, body) = slot.aim(payload, &self.canary, number);
        let method: Method = slot.method.to_ascii_uppercase().parse().expect("a method");
        let mut request = http().request(method, self.target.url(&url)).header("authorization", &self.token);
        if slot.place != Place::Header("X-Idempotency-Key".into()) {
            request = request.header("x-idempotency-key", format!("strike-{number}"));
        }
        if let Place::Header(name) = &slot.place {
            request = request.header(name.as_str(), HeaderValue::from_bytes(payload.as_bytes()).ok()?);
        }
        if let (Some(body), Some(media)) = (body, &slot.media) {
            request = request.header("content-type", media).body(body);
        }
        let answer = request.send().await.unwrap_or_else(|e| panic!("{slot}: no answer to {payload:?}: {e}"));
        self.judge(slot, payload, answer).await;
        Some(())
    }

    async fn judge(&self, slot: &Slot, payload: &str, answer: reqwest::Response) {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("an answer in UTF-8");
        let told = format!("{slot} {payload:?}: {status} {text}");
        assert!(status < 500, "{told}");
        assert!(!headers.contains_key("x-injected"), "{told}");
        let media = headers["content-type"].to_str().expect("a text");
        let json: Value = match media {
            "application/json" => serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {told}")),
            "application/problem+json" => serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {told}")),
            _ => Value::Null,
        };
        if status >= 400 {
            assert_eq!(media, "application/problem+json", "{told}");
            let said = json["detail"].as_str().unwrap_or_default();
            for inner in ["sqlx", "SQLITE", "syntax error", "panicked", "src/", "root:x:0"] {
                assert!(!said.contains(inner), "{inner} is told: {told}");
            }
        }
        let event = json["event_id"].as_str().or_else(|| json["items"][0]["event_id"].as_str());
        if let (200 | 202, Some(event), Place::Body(field)) = (status, event, &slot.place)
            && is_shown(field)
            && slot.sends_events()
        {
            let shown = http().get(self.target.url(&format!("/v1/events/{event}")));
            let shown = shown.header("authorization", &self.token).send().await.expect("an answer");
            let shown: Value = shown.json().await.expect("JSON");
            assert!(holds(&shown, payload), "{told}\nis shown as {shown}");
            self.stored.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_string_of_every_endpoint_is_only_a_string() {
    let mut target = Target::closed(&[("RISKFLEET_TENANT_RATE_MAX", "0")]).await;
    let canary = target.send("acme", "canary").await;
    let document = target.document().await;
    let slots = slots(&document);
    let token = bearer("acme", EVERY_ROLE);
    let attack = Attack { target: &target, token, canary: canary.clone(), sent: 0.into(), stored: 0.into() };
    let payloads = payloads();
    let strikes = slots.iter().flat_map(|slot| payloads.iter().map(move |payload| (slot, payload)));
    let struck: Vec<Option<()>> =
        stream::iter(strikes).map(|(slot, payload)| attack.strike(slot, payload)).buffer_unordered(16).collect().await;
    let (struck, stored) = (struck.iter().flatten().count(), attack.stored.load(Ordering::Relaxed));
    eprintln!("injection: {} places, {struck} requests, {stored} texts stored and shown as sent", slots.len());
    assert!(slots.len() > 60 && struck > 1_000 && stored > 100, "{} {struck} {stored}", slots.len());
    for endpoint in document["paths"].as_object().expect("paths").keys().filter(|path| path.contains('{')) {
        assert!(slots.iter().any(|slot| slot.path == *endpoint), "{endpoint} was attacked");
    }
    let kept = http().get(target.url(&format!("/v1/events/{canary}"))).header("authorization", &attack.token);
    let kept: Value = kept.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&kept["event_id"], &kept["tenant_id"]), (&json!(canary), &json!("acme")), "the canary lives");
    for line in target.log().lines() {
        assert!(!line.starts_with(FORGED_LINE), "a caller wrote a line of the log: {line}");
        assert!(!line.contains('\u{1b}'), "a caller steers the terminal: {line:?}");
    }
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_json_is_refused_by_every_endpoint_that_reads_json() {
    let mut target = Target::closed(&[]).await;
    let canary = target.send("acme", "canary").await;
    let document = target.document().await;
    let doubled = r#"{"version":"1","version":"2","reason":"a","reason":"b"}"#;
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let bodies: Vec<Vec<u8>> = vec![
        "[".repeat(100_000).into(),
        deep.into(),
        doubled.into(),
        r#"{"version":1e999,"reason":1e999}"#.into(),
        format!("{{\"version\":{0},\"reason\":{0}}}", "9".repeat(100_000)).into(),
        b"{\"version\":\"\xff\xfe\",\"reason\":\"\xff\xfe\"}".to_vec(),
        br#"{"version":"\ud800","reason":"\ud800"}"#.to_vec(),
        "\u{feff}{\"version\":\"1\",\"reason\":\"x\"}".into(),
        "{\"version\":\"1\",\"reason\":\"x\"}}".into(),
        "{\"version\":'1',\"reason\":'x'}".into(),
        "{\"version\":NaN,\"reason\":NaN}".into(),
        "{\"version\":\"1\" /* x */,\"reason\":\"x\"}".into(),
        b"\0".to_vec(),
        b"{\"version\":\"a\nb\",\"reason\":\"a\nb\"}".to_vec(),
    ];
    let mut endpoints = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if operation.pointer("/requestBody/content/application~1json").is_none() {
                continue;
            }
            endpoints += 1;
            for body in &bodies {
                let head = format!(
                    "{} {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nX-Idempotency-Key: b\r\n\
                     Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    method.to_ascii_uppercase(),
                    slots::filled(path, &canary),
                    bearer("acme", EVERY_ROLE),
                    body.len()
                );
                let answer = raw(target.addr(), &[head.as_bytes(), body].concat()).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(50)]).into_owned();
                assert!(matches!(status(&answer), Some(400 | 413 | 422)), "{method} {path} {shown}: {answer}");
            }
        }
    }
    assert!(endpoints >= 6, "{endpoints}");
    target.assert_whole().await;
}
