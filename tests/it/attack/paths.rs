//! Path tricks: no spelling of a path reaches what its plain spelling does not.

use super::{EVERY_ROLE, Target, bearer, raw, status};

/// Spellings that a reader of paths may take for another one.
const TRICKS: &[&str] = &[
    "/v1/../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/..%2fmetrics",
    "/v1/./events/../../metrics",
    "//metrics",
    "///metrics",
    "/metrics/",
    "/metrics/.",
    "/metrics%00",
    "/metrics%20",
    "/metrics;a=b",
    "/metrics.json",
    "/%6detrics/../metrics",
    "/METRICS",
    "/V1/tenant/context",
    "/v1//tenant/context",
    "/v1/tenant//context",
    "/v1/tenant/context/",
    "/v1/tenant/context/..",
    "/v1/tenant/context%2f",
    "/v1\\tenant\\context",
    "/v1/tenant%2fcontext",
    "/v1/events/%00",
    "/v1/events/.",
    "/v1/events/..",
    "/v1/events/%2e%2e",
    "/v1/events/..%2f..%2fmetrics",
    "/v1/events/%c0%ae%c0%ae%2fmetrics",
    "/v1/events/%ff",
    "/v1/events/%u002e",
    "/v1/events/%",
    "/v1/events/%zz",
    "/v1/events/'%20OR%20'1'='1",
    "/docs/../../../../etc/passwd",
    "/docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/docs/..%2f..%2f..%2fetc%2fpasswd",
    "/docs//etc/passwd",
    "/docs/index.html%00.js",
    "/file:///etc/passwd",
    "/.git/config",
    "/.env",
    "/master.key",
    "/data/master.key",
    "*",
    "metrics",
    "",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_is_another_path() {
    let mut target = Target::closed(&[]).await;
    let event = target.send("acme", "k").await;
    let token = bearer("acme", EVERY_ROLE);
    let mut tricks: Vec<String> = TRICKS.iter().map(|trick| (*trick).to_owned()).collect();
    for end in ["%00", "/", ".", "%2e", "%20", "/..", ";x", "%0d%0aX-Injected:%20yes", "%0a"] {
        tricks.push(format!("/v1/events/{event}{end}"));
    }
    tricks.push(format!("/v1/events/{{{event}}}"));
    tricks.push(format!("/v1/events/urn:uuid:{event}"));
    tricks.push(format!("/v1/events/{}", "A".repeat(8_000)));
    tricks.push(format!("/{}", "../".repeat(2_000)));
    for trick in &tricks {
        let head = format!("Host: localhost\r\nAuthorization: {token}\r\nConnection: close\r\n");
        let answer = raw(target.addr(), format!("GET {trick} HTTP/1.1\r\n{head}\r\n").as_bytes()).await;
        let shown: String = trick.chars().take(60).collect();
        assert!(matches!(status(&answer), Some(400 | 404)), "{shown}: {answer}");
        let lower = answer.to_ascii_lowercase();
        for leak in ["root:x:0", "# type riskfleet", "\r\nx-injected", "[core]", "\"tenant_id\""] {
            assert!(!lower.contains(leak), "{shown} gave {leak}: {answer}");
        }
    }
    let overlong = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "a".repeat(9_000));
    assert_eq!(status(&raw(target.addr(), overlong.as_bytes()).await), Some(414));
    let overlong =
        format!("GET /health?{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "a".repeat(9_000));
    assert_eq!(status(&raw(target.addr(), overlong.as_bytes()).await), Some(414));
    target.assert_whole().await;
}
