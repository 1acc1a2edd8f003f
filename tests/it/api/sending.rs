//! Sending events: what is accepted, how it is answered, what reaches the intake.

use super::{Answer, Api, LIMITS, pointers, problem_type};
use axum::http::StatusCode;
use riskfleet::api::Limits;
use riskfleet::domain::event::Kind;
use riskfleet::ports::intake::IntakeError;
use serde_json::{Value, json};
use std::time::Duration;

fn items(answer: &Answer) -> &Vec<Value> {
    answer.json["items"].as_array().unwrap_or_else(|| panic!("no items: {}", answer.text))
}

#[tokio::test]
async fn one_event_is_accepted_with_what_was_sent() {
    let api = Api::open();
    let event = r#"{"kind":"risk","event_type":"payment","version":"1.0","amount":1250,"metadata":{"b":1,"a":[null]}}"#;
    let sent = api.post("/v1/events", &[("x-idempotency-key", "k1"), ("x-correlation-id", "corr-1")], event).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let id = sent.json["event_id"].as_str().expect("an id").to_owned();
    let want = json!({
        "event_id": id, "tenant_id": "acme", "status": "received", "created_at": "2026-11-21T10:00:00.000Z",
        "metadata": {"a": [null], "b": 1}, "version": "1.0", "correlation_id": "corr-1",
    });
    assert_eq!(sent.json, want);
    assert_eq!(sent.header("x-correlation-id"), Some("corr-1"));
    assert_eq!(sent.header("location"), Some(format!("/v1/events/{id}").as_str()));
    assert_eq!(sent.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn the_same_again_is_the_same_answer_and_another_payload_a_conflict() {
    let api = Api::open();
    let first = api.send("k1", &[("x-correlation-id", "first")]).await;
    let again = api.send("k1", &[("x-correlation-id", "second")]).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, Some("true")));
    assert_eq!(again.json, first.json);
    assert_eq!(again.header("x-correlation-id"), Some("second"));
    let other = api.post("/v1/risk", &[("idempotency-key", "k1")], r#"{"version":"2"}"#).await;
    assert_eq!(other.problem(), (409, "idempotency-conflict".into()));
    assert_eq!(other.json["event_id"], first.json["event_id"]);
    let elsewhere = api.call(
        "POST",
        "/v1/risk",
        &[("content-type", "application/json"), ("x-tenant-id", "other"), ("x-idempotency-key", "k1")],
        r#"{"version":"2"}"#,
    );
    assert_eq!(elsewhere.await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn routes_imply_their_kind() {
    let api = Api::open();
    let flags = r#"{"version":"1","regulatory_flags":["AML"]}"#;
    let sent = api.post("/v1/compliance", &[("x-idempotency-key", "c")], flags).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let refused = api.post("/v1/risk", &[("x-idempotency-key", "d")], flags).await;
    assert_eq!(pointers(&refused.json), ["/regulatory_flags"]);
    let refused = api.post("/v1/risk", &[("x-idempotency-key", "e")], r#"{"version":"1","kind":"compliance"}"#).await;
    assert_eq!(pointers(&refused.json), ["/kind"]);
    assert_eq!(
        api.intake.seen.lock().expect("held").iter().map(|c| c.body.kind).collect::<Vec<_>>(),
        [Kind::Compliance]
    );
}

#[tokio::test]
async fn what_reaches_the_intake_carries_the_headers() {
    let api = Api::open();
    api.send("k", &[("x-correlation-id", "c"), ("prefer", "return=minimal")]).await;
    let seen = api.intake.seen.lock().expect("held").remove(0);
    assert_eq!((seen.key.as_str(), seen.correlation_id.as_str()), ("k", "c"));
    assert_eq!((seen.traceparent, seen.wait), (None, false));
}

#[tokio::test]
async fn waiting_gives_the_decision_when_it_comes_in_time() {
    let api = Api::open();
    let late = api.send("late", &[("prefer", "wait=1")]).await;
    assert_eq!((late.status, late.header("preference-applied")), (StatusCode::ACCEPTED, None));
    let decision = super::reading::shown_decision();
    *api.intake.decision.lock().expect("held") = Some(decision.clone());
    let timely = api.send("timely", &[("prefer", "wait=2")]).await;
    assert_eq!((timely.status, timely.header("preference-applied")), (StatusCode::OK, Some("wait=2")));
    assert_eq!((&timely.json["decision"], &timely.json["status"]), (&decision, &json!("escalated")));
    assert_eq!(timely.header("idempotency-replayed"), None);
    let again = api.send("timely", &[("prefer", "wait=2")]).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, Some("true")));
    assert_eq!(again.json["decision"], decision);
    assert!(api.intake.seen.lock().expect("held").iter().all(|c| c.wait));
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_and_the_good_ones_are_taken() {
    let api = Api::open();
    let batch = json!([
        {"kind": "risk", "version": "1", "idempotency_key": "a", "correlation_id": "mine"},
        {"kind": "risk", "version": "1", "idempotency_key": "b", "risk_score": 101, "colour": "red"},
        {"kind": "risk", "version": "1"},
        "no event",
        {"kind": "risk", "version": "1", "idempotency_key": "a", "correlation_id": "other"},
        {"kind": "risk", "version": "2", "idempotency_key": "a"},
        {"kind": "risk", "version": "1", "idempotency_key": "c", "tenant_id": "other"},
        {"kind": "compliance", "version": "1", "idempotency_key": "d"},
    ]);
    let sent = api.post("/v1/events", &[("x-correlation-id", "batch")], batch.to_string()).await;
    assert_eq!(sent.status, StatusCode::MULTI_STATUS, "{}", sent.text);
    let items = items(&sent);
    assert_eq!(items.len(), 8);
    assert_eq!((&items[0]["status"], &items[0]["correlation_id"]), (&json!("received"), &json!("mine")));
    assert_eq!((problem_type(&items[1]), &items[1]["index"]), ("validation".into(), &json!(1)));
    assert_eq!(pointers(&items[1]), ["/risk_score", "/colour"]);
    assert_eq!((problem_type(&items[2]), &items[2]["status"]), ("idempotency-key-missing".into(), &json!(400)));
    assert_eq!(problem_type(&items[3]), "validation");
    assert_eq!((&items[4]["event_id"], &items[4]["idempotency_replayed"]), (&items[0]["event_id"], &json!(true)));
    assert_eq!((problem_type(&items[5]), &items[5]["status"]), ("idempotency-conflict".into(), &json!(409)));
    assert_eq!((problem_type(&items[6]), &items[6]["status"]), ("tenant-mismatch".into(), &json!(403)));
    assert_eq!((&items[7]["status"], &items[7]["correlation_id"]), (&json!("received"), &json!("batch")));
    let all_good = json!([{"kind": "risk", "version": "1", "idempotency_key": "z"}]);
    assert_eq!(api.post("/v1/events", &[], all_good.to_string()).await.status, StatusCode::ACCEPTED);
    let none = api.post("/v1/events", &[], "[]").await;
    assert_eq!((none.status, none.json), (StatusCode::ACCEPTED, json!({"items": []})));
}

#[tokio::test]
async fn lines_are_a_batch_and_a_cut_line_costs_only_itself() {
    let api = Api::open();
    let lines = "{\"kind\":\"risk\",\"version\":\"1\",\"idempotency_key\":\"a\"}\r\n\n{\"kind\":\"risk\",\"version\":\"1\"}\n{\"kind\":\"ri";
    let headers = [("content-type", "application/x-ndjson"), ("x-tenant-id", "acme")];
    let sent = api.call("POST", "/v1/events", &headers, lines).await;
    assert_eq!(sent.status, StatusCode::MULTI_STATUS, "{}", sent.text);
    let got = items(&sent);
    assert_eq!((got.len(), problem_type(&got[2])), (3, "broken-json".into()));
    let again = api.call("POST", "/v1/events", &headers, lines).await;
    let same = items(&again);
    assert_eq!((&same[0]["event_id"], &same[1]["event_id"]), (&got[0]["event_id"], &got[1]["event_id"]));
    assert_eq!(api.intake.seen.lock().expect("held").len(), 2, "the line without a key has one all the same");
}

#[tokio::test]
async fn cloud_events_are_taken_by_source_and_id() {
    let api = Api::open();
    let event = json!({"specversion": "1.0", "id": "7", "source": "/shop", "type": "payment",
        "time": "2026-11-21T09:00:00Z", "data": {"kind": "risk", "version": "1"}});
    let headers = [("content-type", "application/cloudevents+json; charset=utf-8"), ("x-tenant-id", "acme")];
    let sent = api.call("POST", "/v1/events", &headers, event.to_string()).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let again = api.call("POST", "/v1/risk", &headers, event.to_string()).await;
    assert_eq!((again.status, &again.json["event_id"]), (StatusCode::OK, &sent.json["event_id"]));
    let seen = api.intake.seen.lock().expect("held").remove(0);
    assert_eq!((seen.key.as_str(), seen.body.event_type.as_str()), ("/shop 7", "payment"));
    let batch = json!([event, {"specversion": "1.0", "id": "8", "source": "/shop", "type": "x", "data": 5}]);
    let headers = [("content-type", "application/cloudevents-batch+json"), ("x-tenant-id", "acme")];
    let sent = api.call("POST", "/v1/events", &headers, batch.to_string()).await;
    assert_eq!(sent.status, StatusCode::MULTI_STATUS, "{}", sent.text);
    assert_eq!(items(&sent)[0]["idempotency_replayed"], true);
    assert_eq!(pointers(&items(&sent)[1]), ["/data"]);
}

#[tokio::test]
async fn what_passes_is_503_with_the_time_to_come_again() {
    let api = Api::open();
    let cases = [
        (IntakeError::Full(Duration::from_millis(300)), "1"),
        (IntakeError::Backlog { unpublished: 9, retry_after: Duration::from_secs(5) }, "5"),
        (IntakeError::StoreAway { retry_after: Duration::from_millis(2500) }, "3"),
        (IntakeError::Stopping, "1"),
    ];
    for (error, seconds) in cases {
        *api.intake.refusal.lock().expect("held") = Some(error);
        let refused = api.send("k", &[]).await;
        assert_eq!(refused.problem(), (503, "unavailable".into()));
        assert_eq!(refused.header("retry-after"), Some(seconds));
        let event = r#"[{"kind":"risk","version":"1","idempotency_key":"a"},5]"#;
        assert_eq!(api.post("/v1/events", &[], event).await.problem(), (503, "unavailable".into()));
    }
}

#[tokio::test]
async fn who_sends_too_much_is_429_with_the_time_to_come_again() {
    let api = Api::open();
    let tenant = riskfleet::domain::TenantId::parse("acme").expect("legal");
    let wait = |ms| Duration::from_millis(ms);
    let cases = [
        (IntakeError::TenantFull { tenant: tenant.clone(), retry_after: wait(1) }, "tenant-queue-full", "1"),
        (IntakeError::RateLimited { tenant, retry_after: wait(2_001) }, "rate-limited", "3"),
    ];
    for (error, kind, seconds) in cases {
        *api.intake.refusal.lock().expect("held") = Some(error);
        let event = r#"[{"kind":"risk","version":"1","idempotency_key":"a"}]"#;
        for refused in [api.send("k", &[]).await, api.post("/v1/events", &[], event).await] {
            assert_eq!(refused.problem(), (429, kind.into()));
            assert_eq!(refused.header("retry-after"), Some(seconds));
            let body: serde_json::Value = serde_json::from_str(&refused.text).expect("JSON");
            assert!(body["detail"].as_str().expect("a detail").contains("tenant acme"), "{body}");
        }
    }
}

#[tokio::test]
async fn time_and_numbers_of_requests_are_bounded() {
    let api = Api::limited(Limits { requests_max: 1, request_timeout: Duration::from_millis(300), ..LIMITS });
    *api.intake.delay.lock().expect("held") = Duration::from_secs(60);
    let (slow, other) = tokio::join!(api.send("slow", &[]), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (api.send("other", &[]).await, api.get("/health/live", &[]).await)
    });
    assert_eq!(slow.problem(), (503, "timeout".into()));
    assert_eq!(other.0.problem(), (503, "unavailable".into()));
    assert_eq!(other.1.status, StatusCode::OK, "health is asked also when all are busy");
}

#[tokio::test]
async fn a_panic_is_an_answer_too() {
    let api = Api::open();
    *api.intake.broken.lock().expect("held") = true;
    let answer = api.send("k", &[("x-correlation-id", "c")]).await;
    assert_eq!(answer.problem(), (500, "internal".into()));
    assert_eq!(answer.header("x-correlation-id"), Some("c"));
    assert!(!answer.text.contains("on purpose"));
}
