//! Owns the way of spans to the collector: gathers them, sends them (OTLP/HTTP, protobuf), tries again a
//! few times, and gives up. A collector that is away, slow or broken costs the spans that do not fit,
//! and nothing else.

use bytes::Bytes;
use metrics::{counter, gauge};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;
use super::span::{self, Span};
use super::{QUEUE_MAX, Recorded};
use crate::config::SettingsError;
use crate::telemetry::names::{self, trace_drop};

/// Spans of one request.
const BATCH_MAX: usize = 512;

/// How long spans are gathered.
const LINGER: Duration = Duration::from_secs(1);

/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Before the second try, and before the third and last.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// As much of an answer is read: it holds a number and a few words.
const ANSWER_MAX: usize = 64 * 1024;

/// What sends the spans of this process.
pub struct Exporting(Option<Running>);

struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Exporting {
    /// There is nothing to send.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    pub(super) fn start(endpoint: Endpoint, resource: Resource, recorded: Recorded) -> Result<Self, SettingsError> {
        let client = Client::builder()
            .user_agent(concat!("riskfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(WITHIN)
            .timeout(WITHIN)
            // A redirect would carry the headers to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|e| SettingsError::new(format!("RISKFLEET_OTLP_ENDPOINT can't be used: {e}")))?;
        tracing::info!(collector = endpoint.url.host_str(), "traces are exported");
        let stop = CancellationToken::new();
        let exporter = Exporter { client, endpoint, resource, recorded, stop: stop.clone(), well: true };
        Ok(Self(Some(Running { task: tokio::spawn(exporter.run()), stop })))
    }

    /// Sends what is recorded, for at most so long. To be called when nothing is recorded any more.
    pub async fn finish(self, within: Duration) {
        let Some(Running { mut task, stop }) = self.0 else { return };
        stop.cancel();
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            tracing::info!("ended with spans unsent: the collector does not take them");
        }
    }
}

struct Exporter {
    client: Client,
    endpoint: Endpoint,
    resource: Resource,
    recorded: Recorded,
    stop: CancellationToken,
    /// The last request went through.
    well: bool,
}

/// Why spans did not get through; completes "failed to …".
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("reach the collector: {0}")]
    Away(reqwest::Error),
    #[error("have spans taken: the collector answers {0}")]
    Answered(StatusCode),
}

impl ExportError {
    /// Whether the same request may get through later (OTLP/HTTP, "Retryable Response Codes").
    fn passes(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Answered(status) => matches!(status.as_u16(), 429 | 502..=504),
        }
    }
}

impl Exporter {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.gather(&mut batch).await {
            let spans = std::mem::take(&mut batch);
            gauge!(names::TRACE_QUEUE_SPANS).set((QUEUE_MAX - self.recorded.tracing.queue.capacity()) as f64);
            self.recorded.tracing.follow_wall_clock();
            self.deliver(spans).await;
        }
    }

    /// Waits for a span, then a little for others. False when stopped and nothing is left.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        let (queue, stop) = (&mut self.recorded.queue, &self.stop);
        if stop.run_until_cancelled(queue.recv_many(batch, BATCH_MAX)).await.is_some() {
            let linger = tokio::time::sleep(LINGER);
            tokio::pin!(linger);
            while batch.len() < BATCH_MAX {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = &mut linger => break,
                    _ = queue.recv_many(batch, BATCH_MAX - batch.len()) => {}
                }
            }
        }
        while batch.len() < BATCH_MAX
            && let Ok(span) = queue.try_recv()
        {
            batch.push(span);
        }
        !batch.is_empty()
    }

    async fn deliver(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = Bytes::from(span::request(&self.resource, spans).encode_to_vec());
        let mut waits = WAITS.into_iter();
        let rejected = loop {
            match self.send(body.clone()).await {
                Ok(rejected) => break rejected.min(count),
                Err(e) => {
                    self.told(&e);
                    // Nobody waits at the end: what comes next is the process's own end.
                    let wait = if e.passes() { waits.next() } else { None };
                    let waited = match wait {
                        Some(wait) => self.stop.run_until_cancelled(tokio::time::sleep(wait)).await,
                        None => None,
                    };
                    if waited.is_none() {
                        counter!(names::TRACE_SPANS_DROPPED, "reason" => trace_drop::FAILED).increment(count);
                        return;
                    }
                }
            }
        };
        self.well = true;
        counter!(names::TRACE_SPANS_EXPORTED).increment(count - rejected);
        counter!(names::TRACE_SPANS_DROPPED, "reason" => trace_drop::REJECTED).increment(rejected);
    }

    /// Counts a failure, and tells the first of several.
    fn told(&mut self, e: &ExportError) {
        counter!(names::TRACE_EXPORT_FAILURES).increment(1);
        if std::mem::take(&mut self.well) {
            tracing::warn!(error = %e, "failed to export spans; trying again, and dropping what does not fit");
        } else {
            tracing::debug!(error = %e, "failed to export spans");
        }
    }

    /// Gives how many spans the collector refuses for what they say.
    async fn send(&self, body: Bytes) -> Result<u64, ExportError> {
        let request = self.client.post(self.endpoint.url.clone()).headers(self.endpoint.headers.clone());
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")).body(body);
        // Without its address, which may hold a password.
        let answer = request.send().await.map_err(|e| ExportError::Away(e.without_url()))?;
        if !answer.status().is_success() {
            return Err(ExportError::Answered(answer.status()));
        }
        Ok(rejected(answer).await)
    }
}

/// What a collector says beside its good status, if that is not too much to be read.
async fn rejected(mut answer: Response) -> u64 {
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if text.len() + chunk.len() > ANSWER_MAX {
            return 0;
        }
        text.extend_from_slice(&chunk);
    }
    rejected_of(&text)
}

/// What can't be read refuses nothing: the status says that the spans were taken.
fn rejected_of(text: &[u8]) -> u64 {
    let read = ExportTraceServiceResponse::decode(text).ok().and_then(|answer| answer.partial_success);
    read.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    #[test]
    fn what_a_collector_refuses_of_a_request_is_counted() {
        let answer = |rejected_spans| {
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: "why".into() });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        assert_eq!([answer(5), answer(0), answer(-1)].map(|text| rejected_of(&text)), [5, 0, 0]);
        assert_eq!((rejected_of(b""), rejected_of(b"<html>")), (0, 0));
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        let passes = |status: u16| ExportError::Answered(StatusCode::from_u16(status).expect("a status")).passes();
        assert!([429, 502, 503, 504].into_iter().all(passes));
        assert!(![301, 400, 401, 404, 413, 500, 501].into_iter().any(passes));
    }
}
