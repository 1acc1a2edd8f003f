//! Owns the open loop: when each request is due, sending it then, and counting what came of it.
//!
//! Latency counts from the moment at which a request was due, not from the moment at which it could
//! be sent: a generator that waits for a slow answer must not hide the requests behind it
//! ("coordinated omission", Gil Tene, 2015).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use reqwest::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::{Options, events};

/// What came of a load.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Events that were due.
    pub(crate) due: u64,
    /// Events not sent, because too many requests were under way.
    pub(crate) not_sent: u64,
    /// Events answered as accepted.
    pub(crate) accepted: u64,
    /// Events that the ingest had no room for (503, 429).
    pub(crate) refused: u64,
    /// Events answered otherwise, or not at all.
    pub(crate) failed: u64,
    /// From the first request due to the last answer.
    pub(crate) seconds: f64,
    /// Microseconds from due to answered, of accepted requests.
    pub(crate) latency_us: Histogram<u64>,
    /// The first failure, as an example.
    pub(crate) example: Option<String>,
}

/// What one request came to.
enum Answer {
    Accepted,
    Refused,
    Failed(String),
}

/// Everything that the requests share.
struct Run {
    http: reqwest::Client,
    urls: Vec<String>,
    key: String,
    batch: u64,
    tenants: u64,
    sent: Mutex<Sent>,
}

/// Sends the load and waits for every answer.
pub(crate) async fn send(urls: Vec<String>, options: &Options) -> anyhow::Result<Sent> {
    let in_flight = usize::try_from(options.in_flight)?;
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(in_flight)
        .tcp_nodelay(true)
        .build()?;
    let sent = Sent {
        due: 0,
        not_sent: 0,
        accepted: 0,
        refused: 0,
        failed: 0,
        seconds: 0.0,
        latency_us: Histogram::new_with_bounds(1, 120_000_000, 3)?,
        example: None,
    };
    let key = uuid::Uuid::new_v4().simple().to_string();
    let run = Run { http, urls, key, batch: options.batch, tenants: options.tenants, sent: Mutex::new(sent) };
    let run = Arc::new(run);
    let room = Arc::new(Semaphore::new(in_flight));
    let began = Instant::now();
    let requests = (options.rate * options.seconds).div_ceil(options.batch);
    let interval = Duration::from_secs_f64(options.batch as f64 / options.rate as f64);
    for n in 0..requests {
        let due = began + interval.mul_f64(n as f64);
        tokio::time::sleep_until(due).await;
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => {
                let run = Arc::clone(&run);
                tokio::spawn(async move {
                    let answer = run.request(n).await;
                    run.count(answer, due);
                    drop(permit);
                });
            }
            Err(_) => run.edit(|sent| sent.not_sent += run.batch),
        }
    }
    // Every permit back: every answer is in; each has a timeout.
    let _all = room.acquire_many(u32::try_from(in_flight)?).await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut sent = run.sent.lock().map_or_else(|e| e.into_inner().clone(), |sent| sent.clone());
    (sent.due, sent.seconds) = (requests * options.batch, seconds);
    Ok(sent)
}

impl Run {
    async fn request(&self, n: u64) -> Answer {
        let (first, tenant) = (n * self.batch, events::tenant(n, self.tenants));
        let url = &self.urls[usize::try_from(n).unwrap_or(0) % self.urls.len()];
        let request = self.http.post(url).header("content-type", "application/json").header("x-tenant-id", tenant);
        let request = if self.batch == 1 {
            request.header("x-idempotency-key", format!("{}-{n}", self.key)).body(events::single(first))
        } else {
            request.body(events::batch(&self.key, first, self.batch))
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Failed(format!("{error:?}")),
        };
        let status = answer.status();
        // Read to its end, or the connection cannot be used again.
        let body = answer.text().await;
        match (status, body) {
            (StatusCode::ACCEPTED, Ok(_)) => Answer::Accepted,
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _) => Answer::Refused,
            (status, Ok(body)) => Answer::Failed(format!("{status}: {}", body.chars().take(300).collect::<String>())),
            (status, Err(error)) => Answer::Failed(format!("{status}: {error:?}")),
        }
    }

    fn edit(&self, change: impl FnOnce(&mut Sent)) {
        if let Ok(mut sent) = self.sent.lock() {
            change(&mut sent);
        }
    }

    fn count(&self, answer: Answer, due: Instant) {
        let latency = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.edit(|sent| match answer {
            Answer::Accepted => {
                sent.accepted += self.batch;
                sent.latency_us.saturating_record(latency);
            }
            Answer::Refused => sent.refused += self.batch,
            Answer::Failed(error) => {
                sent.failed += self.batch;
                sent.example.get_or_insert(error);
            }
        });
    }
}
