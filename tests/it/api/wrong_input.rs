//! Wrong input: each has its clear answer, and nothing of it reaches the intake.

use super::{Api, pointers};
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::stream;

#[tokio::test]
async fn every_wrong_event_is_refused_with_its_reason() {
    let api = Api::open();
    let deep = |n: usize| format!(r#"{{"version":"1","metadata":{{"x":{}{}}}}}"#, "[".repeat(n), "]".repeat(n));
    let cases: Vec<(String, u16, &str, &[&str])> = vec![
        ("{\"version\":".into(), 400, "broken-json", &[]),
        ("".into(), 400, "broken-json", &[]),
        ("\u{feff}{}".into(), 400, "broken-json", &[]),
        ("{\"version\":\"1\"} {}".into(), 400, "broken-json", &[]),
        ("{\"version\":\"1\",\"version\":\"2\"}".into(), 400, "broken-json", &[]),
        (r#"{"version":"1","risk_score":NaN}"#.into(), 400, "broken-json", &[]),
        (r#"{"version":"1","risk_score":1e999}"#.into(), 400, "broken-json", &[]),
        (deep(10_000), 400, "broken-json", &[]),
        (deep(63), 400, "broken-json", &[]),
        ("[".repeat(10_000), 400, "broken-json", &[]),
        ("5".into(), 422, "validation", &[""]),
        ("null".into(), 422, "validation", &[""]),
        ("{}".into(), 422, "validation", &["/version"]),
        (r#"{"version":1}"#.into(), 422, "validation", &["/version"]),
        (r#"{"version":"1","colour":"red"}"#.into(), 422, "validation", &["/colour"]),
        (r#"{"version":"1","risk_score":"NaN"}"#.into(), 422, "validation", &["/risk_score"]),
        (r#"{"version":"1","risk_score":100.5,"amount":1.5}"#.into(), 422, "validation", &["/amount", "/risk_score"]),
        (r#"{"version":"1","metadata":[1]}"#.into(), 422, "validation", &["/metadata"]),
        (r#"{"version":"1","metadata":{"a":["\u0000"]}}"#.into(), 422, "validation", &["/metadata/a/0"]),
        (r#"{"version":"1","subject":"a\u0000b"}"#.into(), 422, "validation", &["/subject"]),
        (r#"{"version":"1","idempotency_key":"k"}"#.into(), 422, "validation", &["/idempotency_key"]),
        (format!(r#"{{"version":"1","tenant_id":"{}"}}"#, "x".repeat(129)), 422, "validation", &["/tenant_id"]),
        (r#"{"version":"1","tenant_id":"other"}"#.into(), 403, "tenant-mismatch", &[]),
    ];
    for (body, status, kind, fields) in cases {
        let head: String = body.chars().take(80).collect();
        let refused = api.post("/v1/risk", &[("x-idempotency-key", "k")], body).await;
        assert_eq!(refused.problem(), (status, kind.into()), "{head}: {}", refused.text);
        if !fields.is_empty() {
            assert_eq!(pointers(&refused.json), fields, "{head}");
        }
    }
    assert!(api.intake.seen.lock().expect("held").is_empty());
    assert_eq!(api.post("/v1/risk", &[("x-idempotency-key", "k")], deep(62)).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn broken_text_of_any_kind_is_a_refusal() {
    let api = Api::open();
    for body in [&b"\xff\xfe{}"[..], b"{\"version\":\"\xff\"}", b"\0\0\0", b"{\"version\":\"\\ud800\"}"] {
        let refused = api.post("/v1/risk", &[("x-idempotency-key", "k")], body).await;
        assert_eq!(refused.problem(), (400, "broken-json".into()), "{body:?}");
    }
    for body in ["[", "[1,", "[{\"a\":]"] {
        assert_eq!(api.post("/v1/events", &[], body).await.problem(), (400, "broken-json".into()), "{body}");
    }
    let deep = "[".repeat(10_000);
    assert_eq!(api.post("/v1/events", &[], deep).await.problem(), (400, "broken-json".into()));
}

/// Headers of a request.
type Headers<'a> = Vec<(&'a str, &'a str)>;

#[tokio::test]
async fn headers_that_are_missing_or_wrong_are_named() {
    let api = Api::open();
    let (json, tenant, key) =
        (("content-type", "application/json"), ("x-tenant-id", "acme"), ("x-idempotency-key", "k"));
    let long = "x".repeat(256);
    let cases: Vec<(Headers, u16, &str)> = vec![
        (vec![tenant, key], 415, "unsupported-media-type"),
        (vec![("content-type", "text/plain"), tenant, key], 415, "unsupported-media-type"),
        (vec![("content-type", "application/x-www-form-urlencoded"), tenant, key], 415, "unsupported-media-type"),
        (vec![("content-type", "application/json; charset=utf-16"), tenant, key], 415, "unsupported-media-type"),
        (vec![json, ("content-encoding", "gzip"), tenant, key], 415, "unsupported-media-type"),
        (vec![("content-type", "application/x-ndjson"), tenant, key], 415, "unsupported-media-type"),
        (vec![json, tenant], 400, "idempotency-key-missing"),
        (vec![json, tenant, ("x-idempotency-key", "")], 400, "bad-header"),
        (vec![json, tenant, ("x-idempotency-key", &long)], 400, "bad-header"),
        (vec![json, tenant, key, ("idempotency-key", "other")], 400, "bad-header"),
        (vec![json, key], 400, "tenant-missing"),
        (vec![json, key, ("x-tenant-id", "a b")], 400, "bad-header"),
        (vec![json, key, ("x-tenant-id", &long)], 400, "bad-header"),
        (vec![json, tenant, key, ("x-correlation-id", &long)], 400, "bad-header"),
    ];
    for (headers, status, kind) in cases {
        let refused = api.call("POST", "/v1/risk", &headers, r#"{"version":"1"}"#).await;
        assert_eq!(refused.problem(), (status, kind.into()), "{headers:?}: {}", refused.text);
    }
    let agreeing = api.send("k", &[("idempotency-key", "k")]).await;
    assert_eq!(agreeing.status, StatusCode::ACCEPTED);
    let from_body = r#"{"version":"1","tenant_id":"acme"}"#;
    let taken = api.call("POST", "/v1/risk", &[json, ("x-idempotency-key", "l")], from_body).await;
    assert_eq!((taken.status, &taken.json["tenant_id"]), (StatusCode::ACCEPTED, &"acme".into()));
}

#[tokio::test]
async fn too_much_is_413_and_its_sender_hears_so() {
    let api = Api::open();
    let key = ("x-idempotency-key", "k");
    let ten_megabytes = "x".repeat(10 << 20);
    let large = format!(r#"{{"version":"1","metadata":{{"x":"{ten_megabytes}"}}}}"#);
    assert_eq!(api.post("/v1/risk", &[key], large.clone()).await.problem(), (413, "too-large".into()));
    let chunks: Vec<_> =
        large.into_bytes().chunks(65_536).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
    let chunked = Body::from_stream(stream::iter(chunks));
    assert_eq!(api.post("/v1/risk", &[key], chunked).await.problem(), (413, "too-large".into()));
    let endless =
        Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65_536]))));
    assert_eq!(api.post("/v1/risk", &[key], endless).await.problem(), (413, "too-large".into()));
    let event = format!(r#"{{"kind":"risk","version":"1","metadata":{{"x":"{}"}}}}"#, "x".repeat(300_000));
    assert_eq!(api.post("/v1/events", &[key], event.clone()).await.problem(), (413, "too-large".into()));
    let batch = format!(r#"[{event},{{"kind":"risk","version":"1","idempotency_key":"a"}}]"#);
    let sent = api.post("/v1/events", &[], batch).await;
    assert_eq!((sent.status, &sent.json["items"][0]["status"]), (StatusCode::MULTI_STATUS, &413.into()));
    assert_eq!(sent.json["items"][1]["status"], "received");
    let many = format!("[{}0]", "0,".repeat(10_000));
    assert_eq!(api.post("/v1/events", &[], many).await.problem(), (413, "too-large".into()));
    let broken = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]));
    assert_eq!(api.post("/v1/risk", &[key], broken).await.problem(), (400, "bad-body".into()));
}

#[tokio::test]
async fn a_batch_of_nothing_good_is_207_and_hands_nothing_in() {
    let api = Api::open();
    let sent = api.post("/v1/events", &[], r#"[1,"x",null,{"kind":"loan"}]"#).await;
    assert_eq!(sent.status, StatusCode::MULTI_STATUS);
    let items = sent.json["items"].as_array().expect("items");
    assert!(items.iter().all(|item| item["status"] == 422), "{}", sent.text);
    assert_eq!(pointers(&items[3]), ["/kind", "/version"]);
    assert!(api.intake.seen.lock().expect("held").is_empty());
}

#[tokio::test]
async fn no_route_and_no_method_are_problems_too() {
    let api = Api::open();
    assert_eq!(api.get("/v2/events", &[]).await.problem(), (404, "not-found".into()));
    assert_eq!(api.get("/", &[]).await.problem(), (404, "not-found".into()));
    let refused = api.call("DELETE", "/v1/risk", &[], "").await;
    assert_eq!(refused.problem(), (405, "method-not-allowed".into()));
    assert_eq!(refused.header("allow"), Some("POST"));
    assert_eq!(api.call("BREW", "/metrics", &[], "").await.problem(), (405, "method-not-allowed".into()));
}
