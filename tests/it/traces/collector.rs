//! Owns a collector: takes OTLP over HTTP on a port of its own, reads the protobuf by OpenTelemetry's own
//! types, and answers as it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use prost::Message;
use tokio::net::TcpListener;

/// How a collector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Status(u16),
    Never,
}

/// A span as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) kind: i32,
    pub(super) began: u64,
    pub(super) ended: u64,
    /// The class of its failure, where it has failed.
    pub(super) error: Option<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

/// What has come.
#[derive(Debug, Default)]
struct Came {
    requests: usize,
    headers: HeaderMap,
    raw: Vec<u8>,
    spans: Vec<Seen>,
}

#[derive(Clone)]
struct Shared {
    came: Arc<Mutex<Came>>,
    /// In this order; the last one stays.
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// A collector that listens.
pub(super) struct Collector {
    pub(super) addr: SocketAddr,
    shared: Shared,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let answer = {
        let mut answers = shared.answers.lock().expect("held");
        if answers.len() > 1 { answers.remove(0) } else { answers[0] }
    };
    {
        let mut came = shared.came.lock().expect("held");
        came.requests += 1;
        if answer == Answer::Status(200) {
            let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
            came.spans.extend(read(request));
        }
        came.raw.extend_from_slice(&body);
        came.headers = headers;
    }
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status"),
        Answer::Never => std::future::pending().await,
    }
}

impl Collector {
    pub(super) async fn start(answers: &[Answer]) -> Self {
        let shared = Shared { came: Arc::default(), answers: Arc::new(Mutex::new(answers.to_vec())) };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let router = Router::new().route("/v1/traces", post(take)).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { addr, shared, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.came.lock().expect("held").requests
    }

    pub(super) fn headers(&self) -> HeaderMap {
        self.shared.came.lock().expect("held").headers.clone()
    }

    /// Every byte that was sent, whatever was answered.
    pub(super) fn raw(&self) -> Vec<u8> {
        self.shared.came.lock().expect("held").raw.clone()
    }

    pub(super) fn spans(&self) -> Vec<Seen> {
        self.shared.came.lock().expect("held").spans.clone()
    }

    /// The spans of a trace, once there are so many, by their beginning.
    pub(super) async fn trace(&self, trace: &str, spans: usize) -> Vec<Seen> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let mut seen = self.spans();
            seen.retain(|span| span.trace == trace);
            if seen.len() >= spans || Instant::now() > until {
                seen.sort_by_key(|span| (span.began, span.ended));
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Wire| match value {
        Wire::StringValue(text) => text,
        Wire::IntValue(number) => number.to_string(),
        Wire::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |kv: KeyValue| (kv.key, text(kv.value.and_then(|v| v.value).expect("a value")));
    attributes.into_iter().map(pair).collect()
}

fn read(request: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut spans = Vec::new();
    for of_process in request.resource_spans {
        let resource = texts(of_process.resource.expect("a resource").attributes);
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(resource["service.instance.id"].len() == 36 && !resource["service.namespace"].is_empty());
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Seen {
                service: resource["service.name"].clone(),
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                kind: span.kind,
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                error: span.status.filter(|status| status.code == 2).map(|status| status.message),
                attributes: texts(span.attributes),
            });
        }
    }
    spans
}
