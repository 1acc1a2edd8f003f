//! Which requests are traced, and what their spans say: asked of the router itself, with the spans taken
//! before they are sent.

use super::{Api, LIMITS, SECRET, closed, open, state};
use crate::api::fakes::{FakeIntake, FakeStore};
use axum::http::StatusCode;
use riskfleet::api::{Authenticator, whole_router};
use riskfleet::domain::TraceContext;
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::telemetry::Traces;
use riskfleet::telemetry::traces::{Recorded, Rules, Systems};
use serde_json::json;
use std::sync::Arc;

const ASKED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const DECLINED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn traced(auth: Authenticator, percent: u32) -> (Api, Recorded) {
    let rules = Rules { percent, events_per_s: 1_000, systems: Systems::SERVERS };
    let (traces, recorded) = Traces::by(rules, Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let (intake, store) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
    let mut state = state(store.clone(), auth, LIMITS, Vec::new());
    state.traces = traces;
    (Api { router: whole_router(state, intake.clone()), intake, store }, recorded)
}

fn seen(api: &Api) -> Vec<Option<TraceContext>> {
    api.intake.seen.lock().expect("held").drain(..).map(|candidate| candidate.traceparent).collect()
}

#[tokio::test]
async fn a_request_goes_on_with_the_trace_of_its_producer() {
    let (api, mut recorded) = traced(open(), 0);
    let sent = api.send("k", &[("traceparent", ASKED), ("x-correlation-id", "c-7")]).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let asked = TraceContext::parse(ASKED).expect("legal");
    let spans = recorded.taken();
    let [span] = &spans[..] else { panic!("one span: {spans:?}") };
    assert_eq!((span.name(), span.parent()), ("POST /v1/risk", Some(asked.span)));
    assert_eq!(seen(&api), [Some(span.context())], "the event hangs on the request");
    assert!(span.context().trace == asked.trace && span.context().span != asked.span);
    let said = format!("{span:?}");
    assert!(said.contains("c-7") && said.contains("acme") && said.contains("202"), "{said}");
}

#[tokio::test]
async fn who_declines_or_says_nothing_is_not_traced_and_neither_is_a_probe() {
    let (api, mut recorded) = traced(open(), 0);
    for (key, header) in [("a", ("traceparent", DECLINED)), ("b", ("traceparent", "garbage")), ("c", ("x-none", ""))] {
        assert_eq!(api.send(key, &[header]).await.status, StatusCode::ACCEPTED);
    }
    api.get("/health/live", &[("traceparent", ASKED)]).await;
    api.get("/metrics", &[("traceparent", ASKED)]).await;
    assert!(recorded.taken().is_empty());
    assert_eq!(seen(&api), [None; 3]);
}

#[tokio::test]
async fn a_stranger_begins_no_trace() {
    let (api, mut recorded) = traced(closed(), 100);
    assert!(SECRET.len() >= 32);
    assert_eq!(api.send("k", &[("traceparent", ASKED)]).await.status, StatusCode::UNAUTHORIZED);
    let wrong = [("traceparent", ASKED), ("authorization", "Bearer nonsense")];
    assert_eq!(api.send("k", &wrong).await.status, StatusCode::UNAUTHORIZED);
    assert!(recorded.taken().is_empty() && seen(&api).is_empty());
}

#[tokio::test]
async fn of_a_batch_sixteen_events_are_traced() {
    let (api, mut recorded) = traced(open(), 100);
    let event = |n: usize| json!({"kind": "risk", "version": "1", "idempotency_key": n.to_string()});
    let batch: Vec<_> = (0..40).map(event).collect();
    let sent = api.post("/v1/events", &[], serde_json::to_string(&batch).expect("JSON")).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let seen = seen(&api);
    assert_eq!((seen.len(), seen.iter().flatten().count()), (40, 16));
    assert!(seen[..16].iter().all(Option::is_some), "the first ones");
    assert_eq!(recorded.taken().len(), 1, "one request");
}

#[tokio::test]
async fn what_goes_wrong_on_this_side_is_an_error_and_what_the_caller_does_is_none() {
    let (api, mut recorded) = traced(open(), 100);
    let refused = api.post("/v1/risk", &[("x-idempotency-key", "k")], "{").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(!format!("{:?}", recorded.taken()).contains("server_error"));
}
