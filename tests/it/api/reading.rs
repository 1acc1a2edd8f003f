//! Reading back: events, decisions, timelines, health and metrics.

use super::{Api, LIMITS};
use axum::http::StatusCode;
use riskfleet::api::{Authenticator, Probe, ops_router};
use riskfleet::domain::cost::Charge;
use riskfleet::domain::{
    CorrelationId, Epoch, Event, EventId, FailureClass, Outcome, PartitionId, Snapshot, WorkerId, parse, time,
};
use riskfleet::pipeline::state::Stage;
use riskfleet::pipeline::{Policy, run};
use riskfleet::ports::StoreError;
use riskfleet::ports::store::{Approval, Disposition, End, EventRecord, OutboxKind, StoredEvent};
use riskfleet::telemetry::{Prometheus, Role, metrics::STAGES};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const BORN_MS: u64 = 1_795_255_200_000;

fn received(n: u8, event: &str) -> EventRecord {
    let body = parse::event(event.as_bytes(), parse::Given::default()).expect("valid").body;
    let event = StoredEvent {
        id: EventId::mint(BORN_MS, [n; 10]),
        tenant: body.tenant_id.clone(),
        partition: PartitionId(3),
        correlation_id: CorrelationId::parse("corr").expect("legal"),
        body: body.canonical().into(),
    };
    EventRecord {
        event,
        end: None,
        approval: None,
        unpublished: vec![OutboxKind::Accept],
        retry: None,
        past: Vec::new(),
    }
}

fn end(disposition: Disposition) -> Option<End> {
    let worker = WorkerId("00000000-0000-4000-8000-000000000001".parse().expect("a UUID"));
    Some(End { disposition, at: time::from_millis(BORN_MS + 40), worker, epoch: Epoch(5) })
}

fn decided(n: u8, event: &str) -> EventRecord {
    let mut record = received(n, event);
    let body = parse::event(event.as_bytes(), parse::Given::default()).expect("valid").body;
    let event = Event { id: record.event.id, correlation_id: record.event.correlation_id.clone(), body };
    let now = time::from_millis(BORN_MS + 30);
    let decision = run(&event, &Snapshot::default(), &Policy::baseline(), now, &|| Duration::ZERO).decision;
    let timings = (1..=6).collect();
    let outcome = decision.outcome;
    record.end = end(Disposition::Decided {
        outcome,
        decision: decision.canonical().into(),
        timings,
        charge: Charge::default(),
    });
    record.unpublished.clear();
    record
}

/// An escalated decision as shown.
pub(super) fn shown_decision() -> Value {
    match decided(1, HIGH).end.expect("decided").disposition {
        Disposition::Decided { decision, timings, .. } => {
            riskfleet::domain::Decision::from_canonical(&decision).expect("canonical").view(None, &timings)
        }
        Disposition::Dead { .. } => unreachable!("decided above"),
    }
}

const PLAIN: &str = r#"{"kind":"risk","version":"1.0","tenant_id":"acme","amount":5}"#;
const HIGH: &str = r#"{"kind":"risk","version":"1.0","tenant_id":"acme","event_type":"high_risk"}"#;

#[tokio::test]
async fn an_event_is_read_back_with_where_it_stands() {
    let api = Api::open();
    let id = api.store.put(received(1, PLAIN));
    let read = api.get(&format!("/v1/events/{id}"), &[]).await;
    let want = json!({
        "event_id": id.to_string(), "tenant_id": "acme", "status": "received",
        "created_at": "2026-11-21T10:00:00.000Z", "metadata": {}, "version": "1.0", "correlation_id": "corr",
        "kind": "risk", "event_type": "standard", "amount": 5,
    });
    assert_eq!((read.status, read.json), (StatusCode::OK, want));
    let mut dead = received(2, PLAIN);
    dead.end = end(Disposition::Dead { class: FailureClass::InfraError, error: "why".into(), attempts: 3 });
    let id = api.store.put(dead);
    let read = api.get(&format!("/v1/events/{id}"), &[]).await;
    assert_eq!(read.json["failure"], json!({"class": "INFRA_ERROR", "error": "why", "attempts": 3}));
    assert_eq!(read.json["status"], "failed");
    let decision = api.get(&format!("/v1/events/{id}/decision"), &[]).await;
    assert_eq!(decision.problem(), (404, "not-decided".into()));
}

#[tokio::test]
async fn a_decision_is_shown_with_timings_and_the_persons_verdict() {
    let api = Api::open();
    let mut record = decided(1, HIGH);
    let id = api.store.put(record.clone());
    let path = format!("/v1/events/{id}/decision");
    let read = api.get(&path, &[]).await;
    assert_eq!((read.status, &read.json["outcome"]), (StatusCode::OK, &json!("REQUIRE_APPROVAL")));
    assert_eq!((&read.json["final_outcome"], &read.json["trail"][1]["micros"]), (&Value::Null, &json!(2)));
    assert_eq!(api.get(&format!("/v1/events/{id}"), &[]).await.json["status"], "escalated");
    record.approval = Some(Approval {
        verdict: Some(Outcome::Rejected),
        decided_at: Some(time::from_millis(BORN_MS + 90)),
        decided_by: Some("bob".into()),
        reason: Some("no".into()),
        ..Approval::opened(time::from_millis(BORN_MS + 40))
    });
    api.store.put(record);
    let read = api.get(&path, &[]).await;
    assert_eq!((&read.json["final_outcome"], &read.json["outcome"]), (&json!("REJECTED"), &json!("REQUIRE_APPROVAL")));
    let timeline = api.get(&format!("/v1/events/{id}/timeline"), &[]).await;
    assert_eq!(timeline.json["status"], "rejected");
    let steps = timeline.json["steps"].as_array().expect("steps");
    let names: Vec<&str> = steps.iter().map(|s| s["step"].as_str().expect("a name")).collect();
    let want = [
        "accepted",
        "published",
        "validated",
        "processed",
        "decided",
        "outcome_published",
        "approval_opened",
        "approval_decided",
        "verdict_published",
    ];
    assert_eq!(names, want);
    assert_eq!((&steps[7]["by"], &steps[7]["detail"]["reason"]), (&json!("bob"), &json!("no")));
    assert_eq!(steps[4]["detail"], json!({"outcome": "REQUIRE_APPROVAL", "reasons": ["SCORE_THRESHOLD"], "epoch": 5}));
    assert_eq!(steps[4]["by"], "worker:00000000-0000-4000-8000-000000000001");
    assert_eq!(steps[3]["detail"]["stages"][2], json!({"stage": "risk_scoring", "result": "85", "micros": 3}));
}

#[tokio::test]
async fn a_waiting_event_has_a_short_timeline() {
    let api = Api::open();
    let id = api.store.put(received(1, PLAIN));
    let timeline = api.get(&format!("/v1/events/{id}/timeline"), &[]).await;
    let steps: Vec<&Value> = timeline.json["steps"].as_array().expect("steps").iter().map(|s| &s["step"]).collect();
    assert_eq!(steps, ["accepted", "waits_for_broker"]);
    assert_eq!(timeline.json["steps"][0]["at"], "2026-11-21T10:00:00.000Z");
    assert_eq!(api.get(&format!("/v1/events/{id}/decision"), &[]).await.problem(), (404, "not-decided".into()));
}

#[tokio::test]
async fn another_tenants_event_is_answered_like_none() {
    let api = Api::open();
    let id = api.store.put(decided(1, PLAIN));
    for rest in ["", "/decision", "/timeline"] {
        let foreign = api.get(&format!("/v1/events/{id}{rest}"), &[("x-tenant-id", "other")]).await;
        let none = api.get(&format!("/v1/events/{}{rest}", EventId::mint(1, [9; 10])), &[]).await;
        let nonsense = api.get(&format!("/v1/events/nonsense{rest}"), &[]).await;
        assert_eq!(foreign.problem(), (404, "not-found".into()));
        assert_eq!((foreign.text.as_str(), foreign.text.as_str()), (none.text.as_str(), nonsense.text.as_str()));
        assert_eq!(api.get(&format!("/v1/events/{id}{rest}"), &[("x-tenant-id", "acme")]).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_a_broken_one_500_without_its_words() {
    let api = Api::open();
    let path = format!("/v1/events/{}", EventId::mint(1, [9; 10]));
    *api.store.failure.lock().expect("held") = Some(StoreError::Away("postgres://user:hunter2@db".into()));
    let away = api.get(&path, &[]).await;
    assert_eq!((away.problem(), away.header("retry-after")), ((503, "unavailable".into()), Some("2")));
    *api.store.failure.lock().expect("held") = Some(StoreError::Fault("column hunter2".into()));
    let broken = api.get(&path, &[]).await;
    assert_eq!(broken.problem(), (500, "internal".into()));
    assert!(!away.text.contains("hunter2") && !broken.text.contains("hunter2"));
}

#[tokio::test]
async fn a_wait_whose_word_was_lost_finds_the_decision_in_the_store() {
    let api = Api::open();
    let first = api.send("k", &[]).await;
    let id: EventId = first.json["event_id"].as_str().expect("an id").parse().expect("a UUID");
    let mut record = decided(1, HIGH);
    record.event.id = id;
    api.store.put(record);
    let again = api.send("k", &[("prefer", "wait=1")]).await;
    assert_eq!((again.status, &again.json["status"]), (StatusCode::OK, &json!("escalated")));
    assert_eq!(again.json["decision"]["outcome"], "REQUIRE_APPROVAL");
}

#[tokio::test]
async fn health_shows_what_answers() {
    let probe = |name, required, answer: Result<(), &'static str>| {
        Probe::new(name, required, Duration::from_secs(1), move || async move { answer.map_err(String::from) })
    };
    let auth = || Authenticator::open(([127, 0, 0, 1], 1).into()).expect("loopback");
    let half = Api::with(auth(), LIMITS, vec![probe("database", true, Ok(())), probe("leases", false, Err("away"))]);
    let health = half.get("/health", &[]).await;
    assert_eq!((health.status, &health.json["status"]), (StatusCode::OK, &json!("degraded")));
    assert_eq!(
        (&health.json["checks"][1]["name"], &health.json["checks"][1]["error"]),
        (&json!("leases"), &json!("away"))
    );
    let ready = half.get("/health/ready", &[]).await;
    assert_eq!((&ready.json["status"], ready.json["checks"].as_array().map(Vec::len)), (&json!("ok"), Some(1)));
    let down = Api::with(auth(), LIMITS, vec![probe("database", true, Err("away"))]);
    assert_eq!(down.get("/health/ready", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(down.get("/health", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(down.get("/health/live", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_requests_by_route_never_by_path() {
    let api = Api::open();
    let id = EventId::mint(1, [9; 10]);
    api.get(&format!("/v1/events/{id}"), &[]).await;
    api.get("/some/path/nobody/has", &[]).await;
    api.post("/v1/risk", &[("x-idempotency-key", "k")], "{").await;
    let metrics = api.get("/metrics", &[]).await;
    assert!(metrics.header("content-type").is_some_and(|t| t.starts_with("text/plain; version=0.0.4")));
    let text = &metrics.text;
    assert!(
        text.contains(r#"riskfleet_http_requests_total{method="GET",route="/v1/events/{id}",status="404"}"#),
        "{text}"
    );
    assert!(text.contains(r#"riskfleet_http_requests_total{method="GET",route="unmatched",status="404"}"#), "{text}");
    let refused = text.lines().find(|l| l.starts_with(r#"riskfleet_events_refused_total{reason="broken"}"#));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{refused:?}");
    assert!(!text.contains("nobody") && !text.contains(&id.to_string()));
}

#[tokio::test]
async fn a_worker_shows_health_and_metrics_and_nothing_else() {
    let prometheus = Prometheus::install(Role::Worker).expect("installed already");
    let router = ops_router(Vec::new(), prometheus);
    for (path, status) in [("/health/ready", 200), ("/metrics", 200), ("/v1/events", 404), ("/openapi.json", 404)] {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("routers do not fail");
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
}

#[test]
fn the_stages_that_metrics_know_are_the_pipelines() {
    assert_eq!(STAGES, Stage::ALL.map(Stage::as_str));
}
