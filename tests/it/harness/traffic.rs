//! Owns the events that fleet tests send. Every event carries its tenant a second time, as a canary
//! in its metadata, so that one that strays to another tenant is seen in the store.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::fleet::http;
use super::process::Process;

/// One event; `n` makes it different from the others of its tenant.
pub(crate) fn event(tenant: &str, key: &str, n: usize) -> Value {
    let mut event = json!({
        "kind": "risk", "version": "1", "tenant_id": tenant, "idempotency_key": key,
        "subject": format!("account-{}", n % 97), "amount": n % 10_000, "currency": "EUR",
        "metadata": {"canary": tenant, "n": n},
    });
    match n % 13 {
        3 => event["event_type"] = json!("high_risk"),
        5 => event["event_type"] = json!("low_risk"),
        7 => event["metadata"]["category"] = json!("sensitive"),
        9 => event["kind"] = json!("compliance"),
        11 => {
            event["kind"] = json!("compliance");
            event["regulatory_flags"] = json!(["AML"]);
        }
        _ => {}
    }
    event
}

/// A batch of one tenant: keys `{prefix}-{n}`.
pub(crate) fn batch(tenant: &str, prefix: &str, numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers.map(|n| event(tenant, &format!("{prefix}-{n}"), n)).collect()
}

/// Sends a batch once. `None` when no answer came or the ingest had no room: whether it was stored
/// is then unknown, and it may be sent again.
pub(crate) async fn post(ingest: &str, tenant: &str, events: &[Value]) -> Option<Vec<Value>> {
    let request = http().post(format!("{ingest}/v1/events")).header("x-tenant-id", tenant).json(events);
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    match status {
        StatusCode::ACCEPTED => Some(body["items"].as_array().expect("items").clone()),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => None,
        other => panic!("a good batch was answered with {other}: {body}"),
    }
}

/// Sends a batch until it is taken, by whichever of the ingests answers, for at most a minute.
/// Gives the ids.
pub(crate) async fn deliver(ingests: &[String], tenant: &str, events: &[Value]) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(60);
    for ingest in ingests.iter().cycle() {
        if let Some(items) = post(ingest, tenant, events).await {
            let ids: Vec<String> = items.iter().filter_map(|i| i["event_id"].as_str().map(Into::into)).collect();
            assert_eq!(ids.len(), events.len(), "an item an event: {items:?}");
            return ids;
        }
        assert!(Instant::now() < until, "no ingest took a batch within a minute");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("there is at least one ingest")
}

/// The base URL of an ingest.
pub(crate) fn base(ingest: &Process) -> String {
    format!("http://{}", ingest.addr)
}
