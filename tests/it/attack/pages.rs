//! A page of another origin and a rebound host name against a fleet that runs open on this machine:
//! the browser's own words give them away.

use super::{Target, raw, status};
use crate::harness::fleet::http;

async fn post(target: &Target, head: &str, body: &str) -> String {
    let length = body.len();
    let text = format!(
        "POST /v1/risk HTTP/1.1\r\nConnection: close\r\nX-Tenant-ID: acme\r\nX-Idempotency-Key: page\r\n\
         Content-Length: {length}\r\n{head}\r\n{body}"
    );
    raw(target.addr(), text.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_and_no_rebound_name_gets_in() {
    let mut target = Target::open().await;
    let own = target.addr();
    let host = format!("Host: {own}\r\n");
    let json = "Content-Type: application/json\r\n";
    let event = r#"{"version":"1"}"#;
    let foreign = [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{}\r\n", own.port()),
        "Host: localhost.evil.example\r\n".into(),
        "Host: 127.0.0.1.evil.example\r\n".into(),
        "Host: 127.0.0.1.nip.io\r\n".into(),
        format!("Host: localhost:{}@evil.example\r\n", own.port()),
        "Host: evil.example#localhost\r\n".into(),
        "Host: 0.0.0.0\r\n".into(),
        "Host: 2130706433\r\n".into(),
        "Host: \r\n".into(),
        String::new(),
        format!("{host}Host: evil.example\r\n"),
        format!("{host}Origin: https://evil.example\r\n"),
        format!("{host}Origin: null\r\n"),
        format!("{host}Origin: http://{own}.evil.example\r\n"),
        format!("{host}Origin: http://localhost:1\r\n"),
        format!("{host}Origin: http://{own}\r\nOrigin: http://evil.example\r\n"),
        format!("{host}Sec-Fetch-Site: cross-site\r\n"),
        format!("{host}Sec-Fetch-Site: same-site\r\n"),
    ];
    for head in foreign {
        let answer = post(&target, &format!("{head}{json}"), event).await;
        assert!(matches!(status(&answer), Some(400 | 403)), "{head}\n{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
        let read = format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{head}\r\n");
        let answer = raw(target.addr(), read.as_bytes()).await;
        assert!(matches!(status(&answer), Some(400 | 403)), "{head}\n{answer}");
    }
    // What a form can send without asking first (a "simple" request of the Fetch standard).
    for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let answer = post(&target, &format!("{host}Content-Type: {media}\r\n"), event).await;
        assert_eq!(status(&answer), Some(415), "{media}: {answer}");
    }
    let stored = http().get(target.url("/metrics")).send().await.expect("metrics").text().await.expect("a text");
    let accepted = stored.lines().filter(|l| l.starts_with("riskfleet_events_accepted_total"));
    assert!(accepted.clone().all(|l| l.ends_with(" 0")), "nothing was taken: {:?}", accepted.collect::<Vec<_>>());

    for same in ["", "Sec-Fetch-Site: same-origin\r\n", &format!("Origin: http://{own}\r\n")] {
        let answer = post(&target, &format!("{host}{json}{same}"), event).await;
        assert!(matches!(status(&answer), Some(200 | 202)), "{same}: {answer}");
    }
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_elses_page_may_ask_show_or_embed_what_we_answer() {
    let target = Target::closed(&[]).await;
    for path in ["/v1/risk", "/v1/events", "/health", "/openapi.json"] {
        let request = http().request(reqwest::Method::OPTIONS, target.url(path));
        let request = request.header("origin", "https://evil.example").header("access-control-request-method", "POST");
        let answer = request.header("access-control-request-headers", "authorization").send().await.expect("an answer");
        assert_eq!(answer.status(), 405, "{path}");
        assert!(answer.headers().contains_key("allow"), "{path}");
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
    }
    for path in ["/health", "/v1/tenant/context", "/nowhere", "/metrics", "/openapi.json"] {
        let answer = http().get(target.url(path)).send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        assert_eq!(header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert!(header("permissions-policy").contains("camera=()"), "{path}");
        for told in ["server", "x-powered-by", "strict-transport-security"] {
            assert!(!answer.headers().contains_key(told), "{path} has {told}");
        }
    }
    let page = http().get(target.url("/docs/")).send().await.expect("an answer");
    let policy = page.headers()["content-security-policy"].to_str().expect("a text").to_owned();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let behind = Target::closed(&[("RISKFLEET_BEHIND_PROXY", "true")]).await;
    let answer = http().get(behind.url("/health")).send().await.expect("an answer");
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=63072000; includeSubDomains");
}
