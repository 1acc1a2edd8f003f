//! The whole way of an event, as its trace shows it: one trace from the producer's `traceparent` through
//! ingest, broker, worker, stages, commit and outcome, and not a word of what the event says.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::collector::{Answer, Collector, Seen};
use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::namespace;
use crate::harness::process::{Process, Program};

/// In this order of their beginnings, with their kinds (`SpanKind` of OTLP).
const WAY: [(&str, i32); 12] = [
    ("POST /v1/events", 2),
    ("accept", 1),
    ("publish", 4),
    ("deliver", 5),
    ("retrieval", 1),
    ("policy_validation", 1),
    ("risk_scoring", 1),
    ("guardrails", 1),
    ("decision", 1),
    ("evaluation", 1),
    ("commit", 3),
    ("outcome", 4),
];

/// What two readings of one machine's clock, in two processes, may differ by.
const CLOCKS_NS: u64 = 20_000_000;

const SUBJECT: &str = "canary-subject-5e1f";
const SECRETS: [&str; 4] = [SUBJECT, "canary-metadata-77aa", "canary-key-90c2", "424242"];

fn trace(n: u8) -> String {
    format!("{n:02x}").repeat(16)
}

fn traceparent(n: u8, sampled: bool) -> String {
    format!("00-{}-b7ad6b7169203331-{:02x}", trace(n), u8::from(sampled))
}

/// Sends an event full of things that must stay inside.
async fn send(ingest: &Process, tenant: &str, key: &str, traceparent: Option<String>) -> String {
    let event = json!({
        "kind": "risk", "version": "1", "tenant_id": tenant, "subject": SUBJECT, "amount": 424_242,
        "currency": "EUR", "metadata": {"note": "canary-metadata-77aa"},
    });
    let mut request = http().post(ingest.url("/v1/events")).header("x-tenant-id", tenant);
    request =
        request.header("x-idempotency-key", format!("canary-key-90c2-{key}")).header("x-correlation-id", "corr-1");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let answer = request.json(&event).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let accepted: serde_json::Value = answer.json().await.expect("JSON");
    accepted["event_id"].as_str().expect("an id").to_owned()
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

/// Everything that the trace of one decided event must be.
fn assert_whole(spans: &[Seen], event: &str, services: (&str, &str)) {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(spans.len(), WAY.len(), "{names:?}");
    for (name, kind) in WAY {
        let span = named(spans, name);
        assert_eq!((span.kind, &span.error), (kind, &None), "{span:#?}");
        assert!(span.began > 1_600_000_000_000_000_000 && span.began <= span.ended, "{span:#?}");
        let of_ingest = ["POST /v1/events", "accept", "publish"].contains(&name);
        assert_eq!(span.service, if of_ingest { services.0 } else { services.1 }, "{name}");
        if name != "POST /v1/events" {
            assert_eq!(span.attributes["riskfleet.event.id"], event, "{name}");
        }
    }
    assert_parents(spans);
    assert_times(spans);
    let (http, decision) = (named(spans, "POST /v1/events"), named(spans, "decision"));
    assert_eq!(http.attributes["http.response.status_code"], "202");
    assert_eq!(
        (&*http.attributes["riskfleet.tenant.id"], &*http.attributes["riskfleet.correlation.id"]),
        ("acme", "corr-1")
    );
    assert_eq!(decision.attributes["riskfleet.outcome"], "APPROVED");
    assert_eq!(named(spans, "commit").attributes["riskfleet.verdict"], "written");
}

fn assert_parents(spans: &[Seen]) {
    let stages = ["retrieval", "policy_validation", "risk_scoring", "guardrails", "decision", "evaluation", "commit"];
    let below_deliver = stages.map(|name| (name, "deliver"));
    let others = [("accept", "POST /v1/events"), ("publish", "accept"), ("deliver", "publish"), ("outcome", "commit")];
    for (child, parent) in others.into_iter().chain(below_deliver) {
        assert_eq!(named(spans, child).parent, named(spans, parent).id, "{child} hangs on {parent}");
    }
    assert_eq!(named(spans, "POST /v1/events").parent, "b7ad6b7169203331", "the producer's span");
}

fn assert_times(spans: &[Seen]) {
    let (http, accept) = (named(spans, "POST /v1/events"), named(spans, "accept"));
    assert!(http.began <= accept.began && accept.ended <= http.ended, "{spans:#?}");
    let apart = [("accept", "publish"), ("deliver", "retrieval"), ("evaluation", "commit"), ("commit", "outcome")];
    for (first, second) in apart {
        assert!(named(spans, first).ended <= named(spans, second).began, "{first} before {second}: {spans:#?}");
    }
    assert!(named(spans, "publish").began <= named(spans, "deliver").began + CLOCKS_NS, "{spans:#?}");
    let stages = &WAY[4..10];
    for pair in stages.windows(2) {
        assert_eq!(named(spans, pair[0].0).ended, named(spans, pair[1].0).began, "{pair:?}");
    }
}

fn assert_silent(collector: &Collector) {
    let raw = collector.raw();
    assert!(!raw.is_empty());
    for secret in SECRETS {
        let found = raw.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} has left the fleet");
    }
}

/// From now on the store refuses every decision of a tenant.
async fn refuse(fleet: &Fleet, tenant: &str) {
    let ns = &fleet.ns;
    let statements = format!(
        "CREATE FUNCTION {ns}.refuse_some() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '22021'; END $$;
         CREATE TRIGGER refuse_some BEFORE INSERT ON {ns}.decisions FOR EACH ROW
             WHEN (new.tenant_id = '{tenant}') EXECUTE FUNCTION {ns}.refuse_some()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&fleet.pool).await.expect("make the store refuse");
}

async fn send_by_queue(fleet: &Fleet, traceparent: &str) {
    let connection = fleet.broker().await;
    let channel = connection.create_channel().await.expect("open a channel");
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    let properties = BasicProperties::default().with_message_id("queued".into()).with_headers(headers);
    let (inbox, options) = (format!("{}.inbox", fleet.ns), BasicPublishOptions::default());
    let body = br#"{"kind":"risk","version":"1","tenant_id":"acme"}"#;
    let sent = channel.basic_publish(inbox.as_str().into(), inbox.as_str().into(), options, body, properties).await;
    sent.expect("publish to the inbox");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_is_one_trace_through_every_process() {
    let _alone = alone().await;
    let (fleet, collector) = (Fleet::new().await, Collector::start(&[Answer::Status(200)]).await);
    let mut settings = fleet.settings();
    settings.insert("RISKFLEET_OTLP_ENDPOINT".into(), collector.url());
    settings.insert("RISKFLEET_TRACE_SAMPLE_PERCENT".into(), "0".into());
    let mut ingest = Process::start("ingest", Program::Ingest, &["serve"], &settings, &fleet.dir);
    let mut worker = Process::start("worker", Program::Worker, &[], &settings, &fleet.dir);
    ingest.ready().await;
    worker.ready().await;
    fleet.until_owned(&worker).await;

    send(&ingest, "acme", "silent", None).await;
    send(&ingest, "acme", "declined", Some(traceparent(1, false))).await;
    let event = send(&ingest, "acme", "traced", Some(traceparent(2, true))).await;
    fleet.settled(3, Duration::from_secs(30)).await;
    let spans = collector.trace(&trace(2), WAY.len()).await;
    assert_whole(&spans, &event, ("riskfleet-ingest", "riskfleet-worker"));

    let again = send(&ingest, "acme", "traced", Some(traceparent(3, true))).await;
    let spans = collector.trace(&trace(3), 2).await;
    assert_eq!((again, named(&spans, "accept").attributes["riskfleet.verdict"].as_str()), (event, "replayed"));

    send_by_queue(&fleet, &traceparent(4, true)).await;
    let spans = collector.trace(&trace(4), WAY.len()).await;
    assert_eq!((named(&spans, "inbox").kind, spans.len()), (5, WAY.len()), "{spans:#?}");
    assert_eq!(named(&spans, "accept").parent, named(&spans, "inbox").id);
    assert_eq!(named(&spans, "inbox").parent, "b7ad6b7169203331");

    refuse(&fleet, "refused").await;
    send(&ingest, "refused", "r", Some(traceparent(5, true))).await;
    let spans = collector.trace(&trace(5), 11).await;
    let postponed = named(&spans, "postpone");
    assert_eq!((postponed.error.as_deref(), &*postponed.attributes["riskfleet.attempts"]), (Some("INFRA_ERROR"), "1"));
    assert_eq!(postponed.parent, named(&spans, "deliver").id);

    let log = std::fs::read_to_string(fleet.dir.join("ingest.log")).expect("a log");
    assert!(log.contains(&format!("trace.id={}", trace(2))), "the request's line names its trace");
    let known = [2, 3, 4, 5].map(trace);
    let strays: Vec<Seen> = collector.spans().into_iter().filter(|span| !known.contains(&span.trace)).collect();
    assert!(strays.is_empty(), "{strays:#?}");
    assert_silent(&collector);
    assert!(worker.metrics().await.sum("riskfleet_trace_spans_exported_total") >= 18.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_in_one_process_traces_as_well() {
    let folder = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let collector = Collector::start(&[Answer::Status(200)]).await;
    let settings = BTreeMap::from([("RISKFLEET_OTLP_ENDPOINT".to_owned(), collector.url())]);
    let mut up = Process::up(&folder.join("data"), &settings, &folder);
    up.ready().await;
    let event = send(&up, "acme", "up", Some(traceparent(6, true))).await;
    let spans = collector.trace(&trace(6), WAY.len()).await;
    assert_whole(&spans, &event, ("riskfleet", "riskfleet"));
    assert_eq!(named(&spans, "commit").attributes["db.system.name"], "sqlite");
    assert_silent(&collector);
    // What was recorded just before the end is sent at the end.
    send(&up, "acme", "last", Some(traceparent(7, true))).await;
    up.signal("TERM");
    assert!(up.exit(Duration::from_secs(20)).await.success(), "{}", up.log_tail());
    let spans = collector.trace(&trace(7), WAY.len()).await;
    assert_eq!(spans.len(), WAY.len(), "{spans:#?}");
    let _ = std::fs::remove_dir_all(&folder);
}
