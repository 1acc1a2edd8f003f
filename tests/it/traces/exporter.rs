//! The exporter against a collector: what it sends with its spans, what it sends again, what stops the
//! start.

use std::sync::Arc;
use std::time::Duration;

use riskfleet::config::{Settings, Sources, load};
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::telemetry::traces::{Exporting, Kind, Span};
use riskfleet::telemetry::{Role, Traces};

use super::collector::{Answer, Collector};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let environment = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    load(&Sources { environment, ..Sources::default() }).expect("legal settings")
}

fn start(pairs: &[(&str, &str)]) -> Result<(Traces, Exporting), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    Traces::start(&settings(pairs), Role::Console, clock, entropy).map_err(|e| e.to_string())
}

fn record(traces: &Traces, spans: usize) -> String {
    let root = traces.begin(None).expect("everything is traced");
    for n in 0..spans {
        let moment = traces.moment();
        traces.record(Span::new(format!("span {n}"), Kind::Internal, root.context, (moment, moment)));
    }
    root.context.trace.to_string()
}

async fn collected(answers: &[Answer], spans: usize) -> (Collector, usize) {
    let collector = Collector::start(answers).await;
    let (url, percent) = (collector.url(), ("RISKFLEET_TRACE_SAMPLE_PERCENT", "100"));
    let (traces, exporting) = start(&[("RISKFLEET_OTLP_ENDPOINT", &url), percent]).expect("starts");
    let trace = record(&traces, spans);
    let seen = collector.trace(&trace, spans).await.len();
    exporting.finish(Duration::from_secs(2)).await;
    (collector, seen)
}

#[tokio::test]
async fn spans_come_with_their_headers_and_in_bounded_requests() {
    let collector = Collector::start(&[Answer::Status(200)]).await;
    let (url, percent) = (format!("{}/", collector.url()), ("RISKFLEET_TRACE_SAMPLE_PERCENT", "100"));
    let headers = ("RISKFLEET_OTLP_HEADERS", "authorization=Bearer t0ken,x-scope=acme");
    let (traces, exporting) = start(&[("RISKFLEET_OTLP_ENDPOINT", &url), percent, headers]).expect("starts");
    let trace = record(&traces, 1_200);
    assert_eq!(collector.trace(&trace, 1_200).await.len(), 1_200);
    let sent = collector.headers();
    assert!(sent["content-type"] == "application/x-protobuf" && sent["x-scope"] == "acme", "{sent:?}");
    assert_eq!(sent["authorization"], "Bearer t0ken");
    assert_eq!(collector.requests(), 3, "512 spans in a request at most");
    exporting.finish(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_collector_that_has_no_room_is_asked_again() {
    let (collector, seen) = collected(&[Answer::Status(503), Answer::Status(429), Answer::Status(200)], 20).await;
    assert_eq!((seen, collector.requests()), (20, 3));
}

#[tokio::test]
async fn the_end_is_bounded_whatever_the_collector_does() {
    let collector = Collector::start(&[Answer::Never]).await;
    let (url, percent) = (collector.url(), ("RISKFLEET_TRACE_SAMPLE_PERCENT", "100"));
    let (traces, exporting) = start(&[("RISKFLEET_OTLP_ENDPOINT", &url), percent]).expect("starts");
    record(&traces, 2_000);
    let asked = std::time::Instant::now();
    exporting.finish(Duration::from_millis(300)).await;
    assert!(asked.elapsed() < Duration::from_millis(1_500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_wrong_endpoint_stops_the_start_and_none_is_off() {
    let off = start(&[]).expect("starts");
    assert!(!off.0.on());
    off.1.finish(Duration::ZERO).await;
    let wrong = start(&[("RISKFLEET_OTLP_ENDPOINT", "http://user:hunter2@c:99999")]).err().expect("refused");
    assert!(wrong.starts_with("RISKFLEET_OTLP_ENDPOINT must be a URL") && !wrong.contains("hunter2"), "{wrong}");
    let headers = [("RISKFLEET_OTLP_ENDPOINT", "http://c:1"), ("RISKFLEET_OTLP_HEADERS", "hunter2")];
    let wrong = start(&headers).err().expect("refused");
    assert!(wrong.starts_with("RISKFLEET_OTLP_HEADERS must be") && !wrong.contains("hunter2"), "{wrong}");
}
